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
use crate::model::merge::{Precision, to_hf, to_peft};
use crate::protocol::{FreshSpec, RunEvent, Task};
use crate::storage::{self, RunDir};
use crate::train::fresh;
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

/// `worker merge RUN_DIR ID OUT FORMAT [TYPE]`: exports the run's newest checkpoint, or its best one with `ID@best`. `hf` merges base and
/// adapter exactly (f32), `hf-base` rounds to the base model's dtype, `peft` writes the adapter alone, `gguf` a merged
/// file for llama.cpp and `gguf-adapter` the adapter for it, with numbers of the TYPE. Reports progress as [`RunEvent`]s.
pub(crate) fn merge(path: &Path, id: &RunId, out: &Path, format: &str, written: Option<&str>) -> Result<(), Error> {
    let run = RunDir::open(path)?;
    let spec = run.resolved_spec()?;
    let Task::Train(train) = &spec.task else { return Err(Error::NotTraining(spec.id.into_string())) };
    let trained = newest(&run, id)?.path;
    check_models(&run, &mut StdoutSink)?;
    match format {
        "hf-base" => to_hf(&train.model, &trained, out, Precision::AsBase, &mut StdoutSink)?,
        "hf" => to_hf(&train.model, &trained, out, Precision::Exact, &mut StdoutSink)?,
        "peft" => {
            if train.method == "reward" {
                let why = "is a reward model, and peft loads no score head with an adapter of a language model: score with \
                           `tiebreak score`, or export with --format hf what its layers learned";
                return Err(Error::Failed(format!("run {} {why}", spec.id)));
            }
            to_peft(&train.model, &trained, out)?;
            StdoutSink.emit(RunEvent::Progressed { stage: "written".into(), done: 1, total: 1 })?;
        }
        "gguf" => to_gguf(&train.model, &trained, out, written.unwrap_or("f16"), &mut StdoutSink)?,
        "gguf-adapter" => to_gguf_adapter(&train.model, &trained, out, written.unwrap_or("f32"), &mut StdoutSink)?,
        other => {
            let known = "hf, hf-base, peft, gguf or gguf-adapter".into();
            return Err(storage::Error::Format { given: other.into(), known }.into());
        }
    }
    Ok(())
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
