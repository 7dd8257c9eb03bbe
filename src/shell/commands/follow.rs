//! Follows a run to its end with a progress bar on standard error, or one JSON object per step on standard output.
//!
//! An interrupt ends the following, never the run.

use super::super::error::{Error, Result};
use super::super::{out, supervisor};
use super::context::CommandContext;
use crate::domain::{Finding, LOST_WORKER, RunState, RunStatus, Severity, counted, one_line};
use crate::protocol::{Envelope, RunEvent, apply_run};
use crate::storage::{RunDir, SessionDir};
use indicatif::ProgressBar;
use serde_json::json;
use signal_hook::consts::SIGINT;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Time between two polls of the log.
const POLL: Duration = Duration::from_millis(100);

/// Follows a run until it ends.
pub fn run(context: &CommandContext, dir: &SessionDir, run: &RunDir) -> Result<()> {
    let name = format!("{}/{}", dir.name(), run.id());
    let interrupted = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGINT, Arc::clone(&interrupted))
        .map_err(|e| Error::Io { doing: "watch for interruptions".into(), source: e })?;
    let mut follower = Follower { context, name: name.clone(), bar: out::bar(0, "steps"), state: RunState::default() };
    follower.bar.set_message(name.clone());
    let mut tail = run.tail();
    let mut explained = false;
    loop {
        // The lock before the log: a worker that ends in between has logged its end and does not count as lost.
        let alive = run.is_alive();
        let batch = tail.poll()?;
        let quiet = batch.is_empty();
        for envelope in &batch {
            follower.apply(envelope)?;
        }
        let status = follower.state.status(Some(alive));
        let ended = match status {
            RunStatus::Starting => !alive && quiet,
            _ => !status.is_live(),
        };
        if ended {
            if !explained && matches!(status, RunStatus::Lost | RunStatus::Starting) {
                explained = true;
                if supervisor::explain_loss(run) {
                    continue;
                }
            }
            follower.bar.finish_and_clear();
            return follower.end(&status);
        }
        if interrupted.load(Ordering::Relaxed) {
            follower.bar.finish_and_clear();
            return Err(Error::failed(format!(
                "stopped following; the run continues: follow it with `tiebreak watch {name}`"
            )));
        }
        if quiet {
            std::thread::sleep(POLL);
        }
    }
}

/// A finding as one line.
fn found(finding: &Finding) -> String {
    let mark = match finding.severity {
        Severity::Note => "note",
        Severity::Warn => "warning",
        Severity::Stop => "stopped",
    };
    format!("{mark} at step {}: {}", finding.step, finding.sentence())
}

struct Follower<'a> {
    context: &'a CommandContext,
    name: String,
    bar: ProgressBar,
    state: RunState,
}

impl Follower<'_> {
    fn apply(&mut self, envelope: &Envelope<RunEvent>) -> Result<()> {
        let known = self.state.findings.len();
        apply_run(&mut self.state, envelope);
        // Some are derived from metrics and have no event of their own.
        for finding in self.state.findings.get(known..).unwrap_or_default() {
            self.say(&found(finding));
        }
        let Some(event) = envelope.known() else { return Ok(()) };
        match event {
            RunEvent::Planned(plan) => {
                self.bar.set_length(plan.total_steps);
                if !plan.objective.is_empty() {
                    self.say(&format!("objective: {}", plan.objective));
                }
                for row in &plan.dropped {
                    self.say(&format!("{} left out: {}", counted(row.count, "row"), row.reason));
                }
            }
            RunEvent::Progressed { stage, done, total } => {
                self.bar.set_message(one_line(&format!("{} · {stage} {done}/{total}", self.name)));
            }
            RunEvent::Stepped { step, epoch, metrics } => {
                let loss = metrics.get("loss").map_or_else(String::new, |l| format!(" · loss {l:.4}"));
                self.bar.set_message(format!("{}{loss}", self.name));
                self.bar.set_position(*step);
                if self.context.json {
                    out::json(&json!({ "step": step, "epoch": epoch, "metrics": metrics }))?;
                }
            }
            RunEvent::Completed(completion) => {
                self.bar.set_message(self.name.clone());
                self.bar.set_position(self.state.step);
                if self.context.json {
                    out::json(completion)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn say(&self, text: &str) {
        self.bar.suspend(|| out::note(text));
    }

    fn end(&self, status: &RunStatus) -> Result<()> {
        let (name, step) = (&self.name, &self.state.step);
        match status {
            RunStatus::Failed(error) => Err(Error::failed(format!("run {name} failed at step {step}: {error}"))),
            RunStatus::Lost | RunStatus::Starting => Err(Error::failed(format!(
                "run {name} was lost at step {step}: {LOST_WORKER}; `tiebreak resume {name}` resumes it from its last checkpoint"
            ))),
            status => {
                let what = if self.state.recent.is_empty() { "step" } else { "completion" };
                out::note(&format!("run {name} {} after {}", status.word(), counted(*step, what)));
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line_that_ends_in_no_blank() {
        let of = |text: &str, remedy: &str| {
            let (rule, text, remedy) = ("r".into(), text.into(), remedy.into());
            found(&Finding { rule, step: 3, severity: Severity::Note, text, remedy, pair: None })
        };
        assert_eq!(
            of("Two rows are long.", "Raise max_length."),
            "note at step 3: Two rows are long. Raise max_length."
        );
        assert_eq!(of("Nothing was left out.", ""), "note at step 3: Nothing was left out.");
    }
}
