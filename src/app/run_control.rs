//! Pausing, stopping and resuming a run: what a key does for each status, and what it says.

use super::effect::Effect;
use super::open::{OpenSession, RunView};
use super::popup::{Confirm, OnYes, Popup};
use super::shared::Shared;
use crate::domain::{RunId, RunStatus};
use crate::protocol::RunCommand;

/// What to do with a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunControl {
    /// Pause it, or resume it.
    Pause,
    /// Write a checkpoint.
    Checkpoint,
    /// Stop it.
    Stop,
    /// Resume it where it is lost or stopped.
    Resume,
}

/// Does it, asks first, or says why not.
pub fn control(shared: &mut Shared, run: Option<&RunId>, action: RunControl) -> Vec<Effect> {
    let open = shared.open.as_ref();
    match command(open.and_then(|open| Some((open, open.run(run?)?))), action) {
        Ok((notice, effect)) => {
            shared.say(notice);
            vec![effect]
        }
        Err(Blocked::Reason(why)) => {
            shared.warn(why);
            Vec::new()
        }
        Err(Blocked::Confirm(confirm)) => {
            shared.popups.push(Popup::Confirm(confirm));
            Vec::new()
        }
    }
}

/// The effect of an action, and the notice for it.
fn command(of: Option<(&OpenSession, &RunView)>, action: RunControl) -> Result<(String, Effect), Blocked> {
    let refuse = |why: String| Err(Blocked::Reason(why));
    let Some((open, run)) = of else { return refuse("no run yet".into()) };
    if let Some(holder) = &open.read_only {
        return refuse(super::open::read_only_sentence(holder));
    }
    let (id, status) = (run.id.clone(), run.status());
    let command = |command: RunCommand, notice: String| Ok((notice, Effect::Command { run: id.clone(), command }));
    match (action, &status) {
        (RunControl::Pause, RunStatus::Paused) => command(RunCommand::Resume, format!("{id} resumes")),
        (RunControl::Pause, RunStatus::Running) => command(RunCommand::Pause, format!("pausing {id} after this step")),
        (RunControl::Checkpoint, RunStatus::Running | RunStatus::Paused) => {
            command(RunCommand::Checkpoint, format!("writing a checkpoint of {id} after this step"))
        }
        (RunControl::Stop, status) if status.is_live() => {
            let how = if run.is_evaluation() {
                "What is measured stays; `R` goes on from there."
            } else {
                "It writes a checkpoint first; `R` resumes it from there."
            };
            Err(Blocked::Confirm(Confirm {
                question: format!("Stop {id}? {how}"),
                on_yes: OnYes::Effects(vec![Effect::Command { run: id, command: RunCommand::Stop }]),
            }))
        }
        (RunControl::Resume, RunStatus::Paused) => command(RunCommand::Resume, format!("{id} resumes")),
        (RunControl::Resume, RunStatus::Lost | RunStatus::Stopped | RunStatus::Failed(_)) => {
            Ok((format!("resuming {id}"), Effect::ResumeRun { run: id }))
        }
        (_, RunStatus::Suspended) => refuse(format!(
            "the process of {id} is stopped by a signal: `fg` in its shell, or `kill -CONT` on it, lets it go on"
        )),
        (RunControl::Resume, status) => refuse(format!("{id} is {}: nothing to resume", status.word())),
        (_, status) => refuse(format!("{id} is {}: the run is not active", status.word())),
    }
}

/// Why an action has no immediate effect.
enum Blocked {
    /// It is not possible; the sentence says why.
    Reason(String),
    /// It needs a confirmation.
    Confirm(Confirm),
}
