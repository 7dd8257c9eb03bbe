//! What a launch fixes of a run's inputs: the exact checkpoints of other runs, so that they may go on meanwhile.
//!
//! Refuses to read a model: its files are recorded by the run's first worker.

use super::error::{Error, Result};
use crate::protocol::{CheckpointInput, Inputs, RunSpec};
use crate::storage::{RunDir, SessionDir, digest_of};

/// The specification with the checkpoints recorded that the run begins with. Their bytes are verified here.
///
/// # Errors
/// When a run that is named has no usable checkpoint.
pub fn fix(dir: &SessionDir, spec: RunSpec) -> Result<RunSpec> {
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
        checkpoints.push(CheckpointInput { role, run: id.clone(), step: checkpoint.step, digest });
    }
    Ok(RunSpec { inputs: Inputs { checkpoints, ..spec.inputs.clone() }, ..spec })
}

/// What cannot be checked of a run whose result is used, as a sentence; none for a run with a record of its inputs.
#[must_use]
pub fn unchecked(run: &RunDir) -> Option<String> {
    matches!(run.recorded_inputs(), Ok(None)).then(|| {
        format!(
            "run {} was trained by a version that recorded none of its inputs: whether its model was changed since cannot be \
             checked",
            run.id()
        )
    })
}
