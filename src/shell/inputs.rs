//! The inputs that a launch records: the exact checkpoints of parent runs, which may train on meanwhile.
//!
//! Refuses to read a model: the run's first worker records its files.

use super::error::{Error, Result};
use crate::domain::RunId;
use crate::protocol::{CheckpointInput, CheckpointRole, Inputs, RunSpec};
use crate::storage::{RunDir, SessionDir, digest_of};

/// Adds the checkpoints that the run starts from to its specification. Verifies their bytes.
///
/// # Errors
/// When a parent run has no usable checkpoint.
pub fn record_checkpoints(dir: &SessionDir, spec: RunSpec) -> Result<RunSpec> {
    let mut checkpoints = Vec::new();
    for (role, id) in spec.parents() {
        let (own, best) = id.parts();
        let parent = dir.run(&own)?;
        let found = if best { parent.best_checkpoint() } else { parent.latest_checkpoint()? };
        let Some(checkpoint) = found.checkpoint else {
            let why = found.passed_over.first().map_or_else(String::new, |why| format!(" ({why})"));
            return Err(Error::failed(format!(
                "run {id} has no usable checkpoint{why}: let it train to a checkpoint, or name another run"
            )));
        };
        let digest = digest_of(&checkpoint.path)?;
        checkpoints.push(CheckpointInput {
            role,
            run: id.clone(),
            step: checkpoint.step,
            digest,
            damaged: found.damaged,
        });
    }
    Ok(RunSpec { inputs: Inputs { checkpoints, ..spec.inputs.clone() }, ..spec })
}

/// A warning about a run whose newest checkpoint is damaged, so that an older one is used.
///
/// # Errors
/// When its folder cannot be read.
pub fn older_checkpoint(run: &RunDir, id: &RunId) -> Result<Option<String>> {
    if id.parts().1 {
        return Ok(None);
    }
    let found = run.latest_checkpoint()?;
    let Some(checkpoint) = found.checkpoint else { return Ok(None) };
    // Only its words are needed.
    let (role, step) = (CheckpointRole::Init, checkpoint.step);
    let input = CheckpointInput { role, run: id.clone(), step, digest: String::new(), damaged: found.damaged };
    Ok(input.passed_over().map(|finding| finding.sentence()))
}

/// A warning about a run without recorded inputs, whose model cannot be checked.
#[must_use]
pub fn unchecked(run: &RunDir) -> Option<String> {
    matches!(run.recorded_inputs(), Ok(None)).then(|| {
        format!(
            "run {} was trained by a version that recorded no inputs: whether its model was changed since cannot be checked",
            run.id()
        )
    })
}
