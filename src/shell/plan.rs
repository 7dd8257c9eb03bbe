//! What a launch is made of: the session's rows frozen as data, the resolved hyper-parameters, the model's place.
//!
//! The launch screen and the commands `train` and `sample` both come through here, so that both make the same runs.

use super::error::{Error, Result};
use super::models;
use crate::domain::{Params, Prompt, RunId, Sampler, method, methods, nearest};
use crate::protocol::{DataSnapshot, ModelRef, RunSpec, SampleSpec, Task, TrainSpec};
use crate::storage::{Home, SessionDir, sha256};
use serde::Serialize;
use std::time::{SystemTime, UNIX_EPOCH};

/// A training run as it is asked for.
#[derive(Debug, Clone)]
pub struct TrainOrder {
    /// A name of the method table.
    pub method: String,
    /// Every hyper-parameter, resolved.
    pub params: Params,
    /// The run's name; none takes the method and the next number.
    pub name: Option<String>,
    /// A run of the session whose adapter it starts from.
    pub init: Option<RunId>,
    /// What computes.
    pub device: String,
}

/// A sampling run as it is asked for.
#[derive(Debug, Clone)]
pub struct SampleOrder {
    /// Models by name; none takes the session's.
    pub models: Vec<String>,
    /// A training run whose adapter is put on the model.
    pub adapter: Option<RunId>,
    /// Candidates a prompt.
    pub per_prompt: usize,
    /// How tokens are drawn.
    pub sampler: Sampler,
    /// Replace the sampler's seed by 42 for the first sampling run, 43 for the second …, so that a second run does not
    /// draw the first one's texts again.
    pub count_seed: bool,
    /// What computes.
    pub device: String,
}

/// The resolved hyper-parameters of a method from `key=value` words.
///
/// # Errors
/// When the method or a key is unknown (the nearest is named) or a value does not fit.
pub fn params(name: &str, set: &[String]) -> Result<Params> {
    let Some(found) = method(name) else {
        let near = nearest(name, methods().iter().map(|m| m.name)).unwrap_or_default();
        return Err(Error::Usage(format!("`{name}` is not a method; did you mean `{near}`?")));
    };
    let rows = found.rows();
    let mut params = Params::defaults(&rows);
    for pair in set {
        params.set_pair(&rows, name, pair).map_err(|e| Error::Usage(e.to_string()))?;
    }
    Ok(params)
}

/// The specification and the data of a training run on the session's verdicts.
///
/// # Errors
/// When there is nothing to train on, the model cannot be found, or the session cannot be read.
pub fn train(home: &Home, dir: &SessionDir, order: TrainOrder) -> Result<(RunSpec, Vec<u8>)> {
    let (session, _) = dir.state()?;
    let (rows, left) = session.rows();
    if rows.is_empty() {
        let why = if left.total() > 0 {
            format!("all {} judged pairs are ties, both bad, equal or empty", left.total())
        } else {
            "no pair has been judged".into()
        };
        return Err(Error::failed(format!(
            "session {0} has nothing to train on: {why}; label some with `tiebreak label {0}`",
            dir.name()
        )));
    }
    if let Some(init) = &order.init {
        adapter(dir, init)?;
    }
    let id = match order.name {
        Some(name) => RunId(name),
        None => dir.next_run_id(&order.method)?,
    };
    let model = models::find(home, &dir.meta()?.model)?;
    let (data, bytes) = freeze(dir, &rows)?;
    let task = Task::Train(TrainSpec { init: order.init, ..TrainSpec::new(&order.method, model, order.params, data) });
    Ok((spec(id, task, order.device), bytes))
}

/// The specification and the data of a sampling run over the session's prompts.
///
/// # Errors
/// When there is no prompt, a model cannot be found, or the session cannot be read.
pub fn sample(home: &Home, dir: &SessionDir, order: SampleOrder) -> Result<(RunSpec, Vec<u8>)> {
    let (session, _) = dir.state()?;
    let prompts: &[Prompt] = session.prompts();
    if prompts.is_empty() {
        return Err(Error::failed(format!(
            "session {0} has no prompts: add some with `tiebreak import {0} FILE`",
            dir.name()
        )));
    }
    if let Some(run) = &order.adapter {
        adapter(dir, run)?;
    }
    let names = if order.models.is_empty() { vec![dir.meta()?.model] } else { order.models };
    let models: Vec<ModelRef> = names.iter().map(|name| models::find(home, name)).collect::<Result<_>>()?;
    let mut sampler = order.sampler;
    if order.count_seed {
        let earlier = dir.runs()?.iter().filter(|r| r.spec().is_ok_and(|s| s.kind() == "sample")).count();
        sampler.seed = Sampler::default().seed + earlier as u64;
    }
    let (data, bytes) = freeze(dir, prompts)?;
    let task = Task::Sample(SampleSpec { models, adapter: order.adapter, per_prompt: order.per_prompt, sampler, data });
    Ok((spec(dir.next_run_id("sample")?, task, order.device), bytes))
}

/// Milliseconds since 1970.
#[must_use]
pub fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

/// Checks that a run has an adapter to start from.
fn adapter(dir: &SessionDir, id: &RunId) -> Result<()> {
    let run = dir.run(id)?;
    if matches!(run.spec()?.task, Task::Sample(_)) {
        return Err(Error::failed(format!("run {id} sampled answers and trained nothing: name a training run")));
    }
    if run.checkpoints()?.is_empty() {
        return Err(Error::failed(format!(
            "run {id} has no checkpoint yet: write one with `tiebreak checkpoint {}/{id}` or let it finish",
            dir.name()
        )));
    }
    Ok(())
}

fn spec(id: RunId, task: Task, device: String) -> RunSpec {
    RunSpec { id, task, device, created_ms: wall_ms(), app: env!("CARGO_PKG_VERSION").into() }
}

/// Rows as the bytes of `data.jsonl`, and the note of them in the specification.
fn freeze<T: Serialize>(dir: &SessionDir, rows: &[T]) -> Result<(DataSnapshot, Vec<u8>)> {
    let mut bytes = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut bytes, row)
            .map_err(|e| Error::failed(format!("a row does not write as JSON: {e}")))?;
        bytes.push(b'\n');
    }
    let mut tail = dir.tail();
    tail.poll()?;
    Ok((
        DataSnapshot {
            file: "data.jsonl".into(),
            sha256: sha256(&bytes),
            rows: rows.len(),
            session_seq: tail.last_seq(),
        },
        bytes,
    ))
}
