//! Short questions: one JSON object a line on standard output, then the end. These workers die with whoever asked.

use super::error::Error;
use super::gpu;
use super::inputs::newest;
use super::inputs::{self, check_models, dated};
use super::out::say;
use super::task::run_rows;
use crate::domain::{Num, RunId};
use crate::model::Sink;
use crate::model::merge::{Precision, to_hf, to_peft};
use crate::protocol::{FreshSpec, RunEvent, Scoring, Task};
use crate::storage::{self, RunDir, SessionDir};
use crate::train::{RewardScorer, fresh};
use crate::{model, nn, train};
use std::path::{Path, PathBuf};

/// Rows whose masks are shown.
const MAX_MASKED: usize = 5;

/// `worker models [ROOT…]`: a [`crate::protocol::ModelCard`] for every model found.
pub(crate) fn models(roots: &[PathBuf]) -> Result<(), Error> {
    model::discover::discover(roots).iter().try_for_each(say)
}

/// `worker model PATH`: the [`crate::protocol::ModelCard`] of a model that could be loaded; else it fails with the reason.
pub(crate) fn model(path: &Path) -> Result<(), Error> {
    say(&model::discover::check(path)?)
}

/// `worker gpus`: a [`crate::protocol::GpuCard`] for every GPU that the driver knows; nothing where there is none.
pub(super) fn gpus() -> Result<(), Error> {
    gpu::cards().iter().try_for_each(say)
}

/// `worker estimate RUN_DIR`: the [`crate::protocol::Estimate`] of a training run. The folder holds `spec.json` (which may be
/// given itself) and the data; it need not be a session's.
pub(crate) fn estimate(path: &Path) -> Result<(), Error> {
    let dir = if path.is_file() { path.parent().unwrap_or(path) } else { path };
    let run = RunDir::open(dir)?;
    let spec = dated(&run, run.placed_spec()?)?;
    let Task::Train(train) = &spec.task else { return Err(Error::NotTraining(spec.id.0)) };
    say(&train::estimate(&spec, &run_rows(&run, train)?.rows)?)
}

/// `worker masks RUN_DIR`: the [`crate::protocol::Masks`] of a training run's first rows, from a folder as for `estimate`.
pub(crate) fn masks(path: &Path) -> Result<(), Error> {
    let run = RunDir::open(path)?;
    let spec = dated(&run, run.placed_spec()?)?;
    let Task::Train(train) = &spec.task else { return Err(Error::NotTraining(spec.id.0)) };
    say(&train::masks(&spec, &run_rows(&run, train)?, MAX_MASKED)?)
}

/// `worker verify RUN_DIR`: says nothing when the run's recorded inputs are what they were; else it fails with what differs.
pub(super) fn verify(path: &Path) -> Result<(), Error> {
    inputs::verify(&RunDir::open(path)?, &mut NullSink)
}

/// `worker score RUN_DIR ID`: a [`Scoring`] for every completion of the run's session that this reward run has not scored
/// yet. ID is the run's, or its best checkpoint's (`reward-1@best`).
pub(crate) fn score(path: &Path, id: &RunId) -> Result<(), Error> {
    let run = RunDir::open(path)?;
    let spec = run.placed_spec()?;
    check_models(&run, &mut NullSink)?;
    let (model, date) = inputs::scorer(&run)?;
    let checkpoint = newest(&run, id)?;
    let scorer = RewardScorer::open(&model, &checkpoint.path, &nn::device(&spec.device)?)?.dated(Some(&date))?;
    let (session, _) = SessionDir::open(run.session_path())?.state()?;
    for completion in session.completions() {
        let known = session.score_of(&completion.id).is_some_and(|score| score.run == *id);
        let Some(prompt) = session.prompt(&completion.prompt).filter(|_| !known) else { continue };
        let score = Num(scorer.standardise(scorer.score(&prompt.body, &completion.text)?));
        say(&Scoring { completion: completion.id.clone(), score })?;
    }
    Ok(())
}

/// `worker merge RUN_DIR ID OUT FORMAT`: the run's newest checkpoint, or its best one where ID says so, as a folder for other
/// programs. `hf` computes exactly what
/// base and adapter compute together (f32), `hf-base` rounds to the base model's number type, `peft` writes the adapter
/// alone. Progress comes as [`RunEvent`]s.
pub(crate) fn merge(path: &Path, id: &RunId, out: &Path, format: &str) -> Result<(), Error> {
    let run = RunDir::open(path)?;
    let spec = run.placed_spec()?;
    let Task::Train(train) = &spec.task else { return Err(Error::NotTraining(spec.id.0)) };
    let trained = newest(&run, id)?.path;
    check_models(&run, &mut StdoutSink)?;
    match format {
        "hf-base" => to_hf(&train.model, &trained, out, Precision::AsBase, &mut StdoutSink)?,
        "hf" => to_hf(&train.model, &trained, out, Precision::Exact, &mut StdoutSink)?,
        "peft" => {
            to_peft(&train.model, &trained, out)?;
            StdoutSink.emit(RunEvent::Progressed { stage: "written".into(), done: 1, total: 1 })?;
        }
        other => {
            return Err(storage::Error::Format { given: other.into(), known: "hf, hf-base or peft".into() }.into());
        }
    }
    Ok(())
}

/// `worker make OUT SPEC`: a model's folder with random weights; SPEC is a [`FreshSpec`] as JSON. Progress comes as
/// [`RunEvent`]s.
pub(crate) fn make(out: &Path, spec: &str) -> Result<(), Error> {
    let spec: FreshSpec = serde_json::from_str(spec).map_err(|e| Error::Failed(format!("invalid model spec: {e}")))?;
    Ok(fresh::make(&spec, out, &mut StdoutSink)?)
}

/// Events as lines on standard output.
struct StdoutSink;

impl Sink for StdoutSink {
    fn emit(&mut self, event: RunEvent) -> Result<(), model::Error> {
        say(&event).map_err(|e| model::Error::Sink(e.to_string()))
    }
}

/// Takes events that nobody asked for.
struct NullSink;

impl Sink for NullSink {
    fn emit(&mut self, _: RunEvent) -> Result<(), model::Error> {
        Ok(())
    }
}
