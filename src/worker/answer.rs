//! Short queries: JSON lines on stdout, then exit. Owns the queries' output. Refuses to outlive the parent, unlike runs.

use super::error::Error;
use super::gpu;
use super::inputs::newest;
use super::inputs::{self, check_models, dated};
use super::out::say;
use super::task::run_rows;
use crate::domain::RunId;
use crate::model::Sink;
use crate::model::merge::gguf::to_gguf;
use crate::model::merge::gguf_adapter::to_gguf_adapter;
use crate::model::merge::{ExportPart, Precision, to_hf, to_peft};
use crate::protocol::{FreshSpec, RunEvent, Task};
use crate::storage::{self, RunDir};
use crate::train::{ScalarHead, fresh};
use crate::{model, train};
use std::path::{Path, PathBuf};

/// Maximum rows whose masks are shown.
const MAX_MASKED: usize = 5;

/// `worker models [ROOT…]`: one [`crate::protocol::ModelCard`] per model.
pub(crate) fn models(roots: &[PathBuf]) -> Result<(), Error> {
    model::discover::discover(roots).iter().try_for_each(say)
}

/// `worker model PATH`: the [`crate::protocol::ModelCard`] of a loadable model; otherwise the reason as an error.
pub(crate) fn model(path: &Path) -> Result<(), Error> {
    say(&model::discover::check(path)?)
}

/// `worker gpus`: one [`crate::protocol::GpuCard`] per GPU of the driver.
pub(super) fn gpus() -> Result<(), Error> {
    gpu::cards().iter().try_for_each(say)
}

/// `worker estimate RUN_DIR`: the [`crate::protocol::Estimate`] of a training run. The argument is a folder with `spec.json` and
/// the data, or that `spec.json`; it need not be in a session.
pub(crate) fn estimate(path: &Path) -> Result<(), Error> {
    let dir = if path.is_file() { path.parent().unwrap_or(path) } else { path };
    let run = RunDir::open(dir)?;
    let spec = dated(&run, run.resolved_spec()?)?;
    let Task::Train(train) = &spec.task else { return Err(Error::NotTraining(spec.id.into_string())) };
    say(&train::estimate(&spec, &run_rows(&run, train)?.rows)?)
}

/// `worker masks RUN_DIR`: the [`crate::protocol::Masks`] of a training run's first rows, from a folder as for `estimate`.
pub(crate) fn masks(path: &Path) -> Result<(), Error> {
    let run = RunDir::open(path)?;
    let spec = dated(&run, run.resolved_spec()?)?;
    let Task::Train(train) = &spec.task else { return Err(Error::NotTraining(spec.id.into_string())) };
    say(&train::masks(&spec, &run_rows(&run, train)?, MAX_MASKED)?)
}

/// `worker verify RUN_DIR`: silent if the run's recorded inputs are unchanged; otherwise fails with the differences.
pub(super) fn verify(path: &Path) -> Result<(), Error> {
    inputs::verify(&RunDir::open(path)?, &mut NullSink)
}

/// `worker verify-models RUN_DIR`: as `verify`, of the models alone.
pub(super) fn verify_models(path: &Path) -> Result<(), Error> {
    check_models(&RunDir::open(path)?, &mut NullSink)
}

/// `worker merge RUN_DIR ID OUT FORMAT PART [TYPE]`: exports the run's newest checkpoint, or its best one with `ID@best`. `hf` merges
/// base and adapter exactly (f32), `hf-base` rounds to the base model's dtype, `peft` writes the adapter alone, `gguf` a merged
/// file for llama.cpp and `gguf-adapter` the adapter for it, with numbers of the TYPE. PART is `result`, or `critic` for the value
/// head of an online run in place of its policy. Reports progress as [`RunEvent`]s.
pub(crate) fn merge(
    path: &Path,
    id: &RunId,
    out: &Path,
    format: &str,
    part: &str,
    written: Option<&str>,
) -> Result<(), Error> {
    let run = RunDir::open(path)?;
    let spec = run.resolved_spec()?;
    let Task::Train(train) = &spec.task else { return Err(Error::NotTraining(spec.id.into_string())) };
    let head = train::scalar_head(&train.method, &train.params)?;
    let part = export_part(head, part == "critic").map_err(|why| Error::Failed(format!("run {} {why}", spec.id)))?;
    if part == ExportPart::Scorer && format.starts_with("gguf") {
        let why = "no GGUF file has a place for a score head: export it with --format hf, hf-base or peft";
        return Err(Error::Failed(format!("run {} is exported with its score head, and {why}", spec.id)));
    }
    let trained = newest(&run, id)?.path;
    check_models(&run, &mut StdoutSink)?;
    let sink = &mut StdoutSink;
    match format {
        "hf-base" => to_hf(&train.model, &trained, out, part, Precision::AsBase, sink)?,
        "hf" => to_hf(&train.model, &trained, out, part, Precision::Exact, sink)?,
        "peft" => to_peft(&train.model, &trained, out, part, sink)?,
        "gguf" => to_gguf(&train.model, &trained, out, written.unwrap_or("f16"), sink)?,
        "gguf-adapter" => to_gguf_adapter(&train.model, &trained, out, written.unwrap_or("f32"), sink)?,
        other => {
            let known = "hf, hf-base, peft, gguf or gguf-adapter".into();
            return Err(storage::Error::Format { given: other.into(), known }.into());
        }
    }
    Ok(())
}

/// What of a checkpoint with this head is exported.
fn export_part(head: ScalarHead, critic: bool) -> Result<ExportPart, &'static str> {
    match (head, critic) {
        (ScalarHead::Absent, true) => Err("trained no critic: leave --critic out, or name a run of the method ppo"),
        (ScalarHead::Reward, true) => {
            Err("is a reward model, which is exported with its score head: leave --critic out")
        }
        (ScalarHead::Reward, false) | (ScalarHead::Value, true) => Ok(ExportPart::Scorer),
        (ScalarHead::Absent | ScalarHead::Value, false) => Ok(ExportPart::Policy),
    }
}

/// `worker make OUT SPEC`: writes a model with random weights; SPEC is a [`FreshSpec`] as JSON. Reports progress as [`RunEvent`]s.
pub(crate) fn make(out: &Path, spec: &str) -> Result<(), Error> {
    let spec: FreshSpec = serde_json::from_str(spec).map_err(|e| Error::Failed(format!("invalid model spec: {e}")))?;
    Ok(fresh::make(&spec, out, &mut StdoutSink)?)
}

/// Writes events as JSON lines to stdout.
struct StdoutSink;

impl Sink for StdoutSink {
    fn emit(&mut self, event: RunEvent) -> Result<(), model::Error> {
        say(&event).map_err(|e| model::Error::Sink(e.to_string()))
    }
}

/// Discards events.
struct NullSink;

impl Sink for NullSink {
    fn emit(&mut self, _: RunEvent) -> Result<(), model::Error> {
        Ok(())
    }
}
