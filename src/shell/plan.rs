//! Plans a launch: the session's rows frozen as data, the resolved hyper-parameters, the model.
//!
//! The launch screen and the commands `train` and `sample` both use it, so that both make the same runs.

#[cfg(test)]
mod tests;

use super::error::{Error, Result};
use super::run_name::counted_seed;
use super::{adapters, models, servers, suites};
use crate::domain::{
    Filter, JsonFields, KNOWN_VARIABLES, Lack, LeftOut, Method, Needs, ParamKind, Params, Prompt, RowChoice, Rubric,
    RunId, Sampler, Session, counted, is_held_out, method, methods, nearest, template_variables, variable_value,
};
use crate::protocol::{
    DataSnapshot, Inputs, Integrity, ModelRef, RunSpec, SampleSpec, ServerOptions, ServerRef, SuiteSpec, Task,
    TrainSpec,
};
use crate::storage::{DataFile, Home, RunDir, SessionDir, local_time, sha256};
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// The request for a training run.
#[derive(Debug, Clone)]
pub struct TrainOrder {
    /// A name of the method table.
    pub method: String,
    /// Every hyper-parameter, resolved.
    pub params: Params,
    /// Which rows it trains on.
    pub choice: RowChoice,
    /// The run's name; none for the method and the next number.
    pub name: Option<String>,
    /// A run of the session whose adapter is the starting point.
    pub init: Option<RunId>,
    /// A peft folder whose adapter is the starting point.
    pub adapter: Option<PathBuf>,
    /// What computes.
    pub device: String,
    /// Whether to train on what can be read of damaged logs.
    pub allow_damaged: bool,
    /// The folder of the suites' files; none for the data folder's own.
    pub suites: Option<PathBuf>,
    /// The last record of the session's log that counts; none takes all.
    pub upto: Option<u64>,
}

/// The request for a sampling run.
#[derive(Debug, Clone)]
pub struct SampleOrder {
    /// Models by name, or by address and name where a server runs them; empty for the session's.
    pub models: Vec<String>,
    /// How servers are asked.
    pub servers: ServerOptions,
    /// Training runs whose adapters write answers, each on the model it was trained on. One alone is the only generator;
    /// beside models it takes its turn.
    pub adapters: Vec<RunId>,
    /// Candidates per prompt.
    pub per_prompt: usize,
    /// How to sample tokens.
    pub sampler: Sampler,
    /// Use seed 42 for the first sampling run, 43 for the second and so on, so that a second run does not repeat the
    /// first one's texts.
    pub count_seed: bool,
    /// What computes.
    pub device: String,
    /// The last record of the session's log that counts; none takes all.
    pub upto: Option<u64>,
}

/// The hyper-parameter with the variables of the chat template.
pub const TEMPLATE_KEY: &str = "chat_template_kwargs";

/// The resolved hyper-parameters of a method from `key=value` arguments.
///
/// # Errors
/// When the method or a key is unknown (a similar one is suggested) or a value is invalid.
pub fn params(name: &str, set: &[String]) -> Result<Params> {
    let rows = named(name)?.rows();
    let mut params = Params::defaults(&rows);
    let mut variables = JsonFields::new();
    for pair in set {
        // A template's variable by its own name.
        match pair.split_once('=').map(|(key, value)| (key.trim(), value)) {
            Some((key, value)) if KNOWN_VARIABLES.contains(&key) && !rows.iter().any(|row| row.key == key) => {
                variables.insert(key.into(), variable_value(value));
            }
            _ => params.set_pair(&rows, name, pair).map_err(|e| Error::Usage(e.to_string()))?,
        }
    }
    if !variables.is_empty() {
        let mut all = template_variables(params.text(TEMPLATE_KEY)).map_err(Error::Usage)?;
        all.extend(variables);
        let text = serde_json::Value::Object(all).to_string();
        params.set(&rows, name, TEMPLATE_KEY, &text).map_err(|e| Error::Usage(e.to_string()))?;
    }
    Ok(params)
}

/// The method of that name.
///
/// # Errors
/// When there is none; a similar one is suggested.
fn named(name: &str) -> Result<&'static Method> {
    method(name).ok_or_else(|| {
        let names: Vec<&str> = methods().iter().map(|m| m.name).collect();
        Error::Usage(match nearest(name, names.iter().copied()) {
            Some(near) => format!("`{name}` is not a method; did you mean `{near}`?"),
            None => format!("`{name}` is not a method; the methods are {}", names.join(", ")),
        })
    })
}

/// The specification of a training run and its frozen data: the method's rows, and rows to mix in or probe if the
/// hyper-parameters ask for them.
///
/// # Errors
/// When there is nothing to train on, a run or the model is unusable, or the session cannot be read.
pub fn train(home: &Home, dir: &SessionDir, mut order: TrainOrder) -> Result<(RunSpec, Vec<DataFile>)> {
    let method = named(&order.method)?;
    if let Some(why) = method.contradiction(&order.params) {
        return Err(Error::Usage(why));
    }
    let (session, found, seq) = dir.snapshot(order.upto)?;
    if !order.allow_damaged {
        check_whole(&dir.name(), &found, "train")?;
    }
    order.choice.rubric.check(session.criteria()).map_err(Error::failed)?;
    let supply = session.supply_of(&order.choice);
    if let Some(lack) = supply.lacks(method, &order.params) {
        if let (Lack::Rows(needs), Some(filter)) = (lack, &order.choice.filter) {
            let all = session.supply_of(&RowChoice { filter: None, ..order.choice.clone() });
            if all.rows(needs) > 0 {
                return Err(Error::failed(unmatched(&dir.name(), filter, &supply.left, all.rows(needs))));
            }
        }
        return Err(Error::failed(lacking(
            &dir.name(),
            lack,
            method,
            &order.params,
            &supply.left,
            &order.choice.rubric,
        )));
    }
    let mut model = None;
    if let Some(init) = &order.init {
        let trained = trained(dir, init)?;
        trained.check_adapter(&order.params)?;
        trained.check_policy(&order.method)?;
        // The session's model name may stand for another model by now.
        model = Some(trained.model);
    }
    let reward = match order.params.text("reward_model") {
        "" => None,
        name => Some(trained(dir, &RunId::new(name))?.check_reward()?),
    };
    let id = match &order.name {
        Some(name) => RunId::new(name.clone()),
        None => dir.next_run_id(&order.method)?,
    };
    let model = match model {
        Some(model) => model,
        None => models::find(home, &dir.meta()?.model)?,
    };
    let adapter = match &order.adapter {
        Some(folder) => {
            let (adapter, params) = adapters::settle(folder, &model, method, &order.params)?;
            order.params = params;
            Some(adapter)
        }
        None => None,
    };
    let mut frozen = Frozen { seq, files: Vec::new() };
    let data = frozen.rows_for(method.needs, &session, &order.choice)?;
    let is_set = |key: &str| order.params.f64(key) > 0.0;
    let mix = if is_set("mix_ratio") { Some(frozen.add("mix.jsonl", &session.sft_rows())?) } else { None };
    let probe = if is_set("probe_steps") { Some(frozen.add("probe.jsonl", &session.probe_rows())?) } else { None };
    let suites = frozen.suites(home, &session, &order)?;
    let variables = template_variables(order.params.text(TEMPLATE_KEY)).map_err(Error::Usage)?;
    let spec_of = TrainSpec::new(&order.method, model, order.params, data);
    let RowChoice { filter, rubric } = order.choice;
    let filter = filter.map(|filter| filter.to_string());
    let rubric = (rubric != Rubric::default()).then(|| rubric.to_string());
    let task =
        Task::Train(TrainSpec { init: order.init, adapter, mix, probe, suites, filter, rubric, reward, ..spec_of });
    let mut spec = new_spec(id, task, order.device);
    spec.inputs.chat_template_kwargs = variables;
    Ok((spec, frozen.files))
}

/// Refuses damaged logs.
///
/// # Errors
/// When they are damaged; the error names the first damage and how to continue anyway.
pub fn check_whole(session: &str, found: &Integrity, verb: &str) -> Result<()> {
    if found.is_intact() {
        return Ok(());
    }
    Err(Error::failed(format!(
        "session {session} has {}: look at `tiebreak replay {session} --check`, then {verb} on what can be read with \
         --allow-damaged",
        found.sentence()
    )))
}

/// A filter that leaves no row, as one sentence.
fn unmatched(session: &str, filter: &Filter, left: &LeftOut, all: usize) -> String {
    let give_none = match left.total() {
        0 => String::new(),
        n => format!(
            "; {} that match give no row (ties, both bad, unresolved, equal or empty, or lacking a criterion)",
            counted(n, "pair")
        ),
    };
    format!(
        "none of the {} of session {session} matches the filter `{filter}`{give_none}: loosen it, or leave it out",
        counted(all, "row")
    )
}

/// What a run lacks and the remedy, as one sentence.
fn lacking(session: &str, lack: Lack, method: &Method, params: &Params, left: &LeftOut, rubric: &Rubric) -> String {
    match lack {
        Lack::Rows(Needs::Pairs) => {
            let by = rubric.single().flatten().map_or_else(String::new, |name| format!(" --rubric {name}"));
            let why = match left.total() {
                0 if *rubric != Rubric::default() => format!("no pair has been judged by {rubric}"),
                0 => "no pair has been judged".into(),
                n if left.incomplete > 0 => {
                    format!(
                        "all {n} judged pairs are ties, both bad, unresolved, equal, empty, or lack one of the criteria"
                    )
                }
                n => format!("all {n} judged pairs are ties, both bad, unresolved, equal or empty"),
            };
            format!("session {session} has nothing to train on: {why}; label some with `tiebreak label {session}{by}`")
        }
        Lack::Rows(Needs::Examples) => format!(
            "session {session} has no SFT texts: import some with `tiebreak import {session} FILE --as sft`, or correct answers \
             while labelling (`tiebreak label {session}`, key e)"
        ),
        Lack::Rows(Needs::Ratings) => format!(
            "session {session} has no rated answers: label pairs with `tiebreak label {session}`, or import ratings with \
             `tiebreak import {session} FILE --as ratings`"
        ),
        Lack::Rows(Needs::Prompts) => {
            format!("session {session} has no prompts: add some with `tiebreak import {session} FILE`")
        }
        Lack::Mix => format!(
            "mix_ratio={} needs SFT texts, and session {session} has none: import some with `tiebreak import {session} FILE \
             --as sft`, or set mix_ratio=0",
            params.text("mix_ratio")
        ),
        Lack::Probe => format!(
            "probe_steps={} needs probe texts, and session {session} has none: import some with `tiebreak import {session} FILE \
             --as probe`, or set probe_steps=0",
            params.text("probe_steps")
        ),
        Lack::Scorer => {
            let rows = method.rows();
            let checks = rows.iter().find(|row| row.kind == ParamKind::Checks).map(|row| row.key);
            let model = rows.iter().any(|row| row.key == "reward_model").then_some("--set reward_model=RUN");
            let checks = checks.map(|key| format!("--set \"{key}=contains=please;max_words=40\""));
            let ways: Vec<&str> = model.into_iter().chain(checks.as_deref()).collect();
            format!("nothing scores the answers of {}: give {}", method.name, ways.join(" or "))
        }
    }
}

/// The specification and data of a sampling run over the session's prompts.
///
/// # Errors
/// When there is no prompt, a model cannot be found, or the session cannot be read.
pub fn sample(home: &Home, dir: &SessionDir, order: SampleOrder) -> Result<(RunSpec, Vec<DataFile>)> {
    sample_on(home, dir, order, None)
}

/// A sampling run as a round of a loop wants it.
#[derive(Debug)]
pub struct RoundSampling<'a> {
    /// Its name.
    pub id: RunId,
    /// The prompts that it asks.
    pub prompts: &'a [Arc<Prompt>],
}

/// As [`sample`]; a round of a loop asks its own prompts, and chooses the pairs afterwards.
///
/// # Errors
/// As [`sample`].
pub fn sample_on(
    home: &Home,
    dir: &SessionDir,
    order: SampleOrder,
    round: Option<RoundSampling<'_>>,
) -> Result<(RunSpec, Vec<DataFile>)> {
    let (session, _, seq) = dir.snapshot(order.upto)?;
    let prompts = round.as_ref().map_or_else(|| session.prompts(), |round| round.prompts);
    if prompts.is_empty() {
        return Err(Error::failed(format!(
            "session {0} has no prompts: add some with `tiebreak import {0} FILE`",
            dir.name()
        )));
    }
    let (addresses, names): (Vec<&String>, Vec<&String>) =
        order.models.iter().partition(|name| ServerRef::is_address(name));
    let servers = servers::find(&addresses, &order.servers)?;
    servers::remember_keys(home, &servers)?;
    let mut models: Vec<ModelRef> = names.into_iter().map(|name| models::find(home, name)).collect::<Result<_>>()?;
    let mut adapters = vec![None; models.len()];
    for run in &order.adapters {
        let trained = trained(dir, run)?;
        trained.check_policy("sample")?;
        if adapters.contains(&Some(run.clone())) {
            return Err(Error::Usage(format!("the adapter of {run} is named twice: leave one out")));
        }
        // An adapter is applied to the model it was trained on.
        models.push(trained.model);
        adapters.push(Some(run.clone()));
    }
    if models.is_empty() && servers.is_empty() {
        models.push(models::find(home, &dir.meta()?.model)?);
        adapters.push(None);
    }
    let generators = models.len() + servers.len();
    if generators > order.per_prompt {
        return Err(Error::Usage(format!(
            "{generators} models take turns, but a prompt gets {}: give --per-prompt {generators} or more",
            counted(order.per_prompt, "answer")
        )));
    }
    // One adapter alone is written as earlier versions read it.
    let adapter = match adapters.as_slice() {
        [Some(run)] if servers.is_empty() => Some(run.clone()),
        _ => None,
    };
    if adapter.is_some() || adapters.iter().all(Option::is_none) {
        adapters.clear();
    }
    let mut sampler = order.sampler;
    if order.count_seed {
        sampler.seed = counted_seed(dir)?;
    }
    let mut frozen = Frozen { seq, files: Vec::new() };
    let data = frozen.add("data.jsonl", prompts)?;
    let per_prompt = order.per_prompt;
    let unpaired = round.is_some();
    let task = Task::Sample(SampleSpec { models, servers, adapter, adapters, per_prompt, sampler, data, unpaired });
    let id = round.map_or_else(|| dir.next_run_id("sample"), |round| Ok(round.id))?;
    Ok((new_spec(id, task, order.device), frozen.files))
}

/// Milliseconds since 1970.
#[must_use]
pub fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

/// A training run with a checkpoint.
pub(super) struct TrainedRun {
    id: RunId,
    method: String,
    /// Its base model, with its path on this machine.
    pub(super) model: ModelRef,
    params: Params,
}

/// Hyper-parameters that must equal those of the parent run: with another scale, the same adapter is another model.
const ADAPTER_KEYS: &[&str] = &["tune", "lora_r", "lora_alpha", "use_rslora", "use_dora", "lora_target_modules"];

/// The training run of that id. It must have a checkpoint, or a best one if `id` says so.
pub(super) fn trained(dir: &SessionDir, id: &RunId) -> Result<TrainedRun> {
    let (own, best) = id.parts();
    let run: RunDir = dir.run(&own)?;
    let TrainSpec { method, model, params, .. } = match run.resolved_spec()?.task {
        Task::Train(train) => train,
        Task::Sample(_) => {
            return Err(Error::failed(format!("run {id} sampled answers and trained nothing: name a training run")));
        }
        Task::Eval(_) => {
            return Err(Error::failed(format!("run {id} compared models and trained nothing: name a training run")));
        }
    };
    if run.checkpoints()?.is_empty() {
        return Err(Error::failed(format!(
            "run {own} has no checkpoint yet: write one with `tiebreak checkpoint {}/{own}` or let it finish",
            dir.name()
        )));
    }
    if best && run.best_checkpoint().checkpoint.is_none() {
        return Err(Error::failed(format!(
            "run {own} has no best checkpoint, as it was not evaluated by metric_for_best_model: name {own} for its newest"
        )));
    }
    Ok(TrainedRun { id: id.clone(), method, model, params })
}

/// A run that scores answers, which must have a checkpoint: a reward run, or one of a method with an implicit reward.
///
/// # Errors
/// When there is no such run, or it scores nothing.
pub fn scoring_run(dir: &SessionDir, id: &RunId) -> Result<RunDir> {
    let id = trained(dir, id)?.check_scores()?;
    Ok(dir.run(&id.parts().0)?)
}

/// The training run of that id. It must have a checkpoint, or a best one if `id` says so.
///
/// # Errors
/// When there is no such run or checkpoint.
pub fn trained_run(dir: &SessionDir, id: &RunId) -> Result<RunDir> {
    let id = trained(dir, id)?.id;
    Ok(dir.run(&id.parts().0)?)
}

impl TrainedRun {
    /// Refuses another kind of adapter than the parent run's.
    pub(super) fn check_adapter(&self, params: &Params) -> Result<()> {
        let same = |key: &str| match (self.params.f64(key), params.f64(key)) {
            (a, b) if a.is_nan() || b.is_nan() => self.params.text(key) == params.text(key),
            (a, b) => a == b,
        };
        // Keys that the run does not have or use are ignored.
        let lora = self.params.text("tune") != "full";
        let applies = |key: &&&str| !self.params.text(key).is_empty() && (lora || **key == "tune");
        match ADAPTER_KEYS.iter().filter(applies).find(|key| !same(key)) {
            None => Ok(()),
            Some(key) => Err(Error::Usage(format!(
                "run {} was trained with {key}={}, and a run that starts from it needs the same; set it, or start from the model",
                self.id,
                self.params.text(key)
            ))),
        }
    }

    /// Refuses a reward run, whose adapter gives scores and not answers, except as the parent of another reward run.
    pub(super) fn check_policy(&self, user: &str) -> Result<()> {
        if self.method == "reward" && user != "reward" {
            let id = &self.id;
            return Err(Error::failed(format!("run {id} is a reward model and writes no answers: name another run")));
        }
        Ok(())
    }

    /// A reward model, or a policy with a reward that its β scales.
    pub(super) fn check_scores(self) -> Result<RunId> {
        if self.method == "reward" || self.params.f64("beta") > 0.0 {
            return Ok(self.id);
        }
        Err(Error::failed(format!(
            "run {} is a {} run without a beta and scores no answers: name a reward, dpo, orpo, cpo, simpo or kto run",
            self.id, self.method
        )))
    }

    pub(super) fn check_reward(self) -> Result<RunId> {
        if self.method == "reward" {
            return Ok(self.id);
        }
        Err(Error::failed(format!(
            "run {} is a {} run and scores no answers: name a run of the method reward",
            self.id, self.method
        )))
    }
}

/// The specification of a run that is launched now.
pub(super) fn new_spec(id: RunId, task: Task, device: String) -> RunSpec {
    let inputs = Inputs { date: Some(local_time()), ..Inputs::default() };
    RunSpec { id, task, device, created_ms: wall_ms(), app: env!("CARGO_PKG_VERSION").into(), inputs }
}

/// The frozen data files of a run.
struct Frozen {
    /// The number of the last record in the snapshot.
    seq: u64,
    files: Vec<DataFile>,
}

impl Frozen {
    /// Freezes the method's rows as `data.jsonl`.
    fn rows_for(&mut self, needs: Needs, session: &Session, choice: &RowChoice) -> Result<DataSnapshot> {
        match needs {
            Needs::Pairs => self.add("data.jsonl", &session.rows_of(choice).0),
            Needs::Examples => self.add("data.jsonl", &session.sft_rows_of(choice)),
            Needs::Ratings => self.add("data.jsonl", &session.rated_rows_of(choice)),
            Needs::Prompts => self.add("data.jsonl", &session.prompts_of(choice)),
        }
    }

    /// Freezes the suites that are measured while it trains.
    fn suites(&mut self, home: &Home, session: &Session, order: &TrainOrder) -> Result<Vec<SuiteSpec>> {
        let names = order.params.text("eval_suites").to_owned();
        suites::check_best(order.params.text("metric_for_best_model"), &names)?;
        let mut out = Vec::new();
        for name in names.split(',').filter(|name| !name.is_empty()) {
            let (row, _) = suites::named(name)?;
            if row.max_new_tokens == 0 {
                return Err(Error::Usage(format!(
                    "the suite {name} measures no answers, and only answers are measured while training: take it out of \
                     eval_suites and run `tiebreak eval` afterwards"
                )));
            }
            let file = format!("suite-{name}.dat");
            let (data, from) = if row.takes_prompts() {
                let fraction = order.params.f64("eval_fraction");
                let held = |prompt: &&Arc<Prompt>| is_held_out(&prompt.body.derived_id(), fraction);
                let prompts: Vec<Arc<Prompt>> = session.prompts().iter().filter(held).cloned().collect();
                if prompts.is_empty() {
                    return Err(Error::Usage(format!(
                        "the suite {name} asks prompts that are held out, and eval_fraction={fraction} holds out none: raise it"
                    )));
                }
                (self.add(&file, &prompts)?, "held-out prompts".to_owned())
            } else {
                let path = suites::suite_file(home, row, order.suites.as_deref())?;
                let bytes = crate::storage::read_file(&path, crate::foreign::ROWS)?;
                let rows = memchr::memchr_iter(b'\n', &bytes).count();
                let data = DataSnapshot { file: file.clone(), sha256: sha256(&bytes), rows, session_seq: self.seq };
                self.files.push(DataFile { name: file, bytes });
                (data, path.display().to_string())
            };
            let sampler =
                Sampler { temperature: 0.0, top_p: 1.0, max_new_tokens: row.max_new_tokens, ..Sampler::default() };
            let limit = Some(order.params.f64("eval_limit") as usize);
            out.push(SuiteSpec { name: row.name.into(), data, file: from, sampler, limit });
        }
        Ok(out)
    }

    /// Freezes rows as a JSONL file and returns its entry in the specification.
    fn add<T: Serialize>(&mut self, name: &str, rows: &[T]) -> Result<DataSnapshot> {
        let mut bytes = Vec::new();
        for row in rows {
            serde_json::to_writer(&mut bytes, row).map_err(|e| Error::bug("write a row as JSON", e))?;
            bytes.push(b'\n');
        }
        let snapshot =
            DataSnapshot { file: name.into(), sha256: sha256(&bytes), rows: rows.len(), session_seq: self.seq };
        self.files.push(DataFile { name: name.into(), bytes });
        Ok(snapshot)
    }
}
