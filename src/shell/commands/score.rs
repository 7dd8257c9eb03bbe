//! `score`: scores a session's answers with a reward run and records the scores in the session's log.

use super::super::cli::ScoreArgs;
use super::super::error::Result;
use super::super::journal::Journal;
use super::super::supervisor::{ask, restore_models};
use super::super::{inputs, out, plan};
use super::context::CommandContext;
use crate::domain::{RunId, counted};
use crate::protocol::{Scoring, SessionRecord};
use crate::storage::SessionDir;
use serde_json::json;

/// Asks a worker to score every answer that the run has not scored yet. An interruption keeps earlier scores.
pub fn run(context: &CommandContext, args: &ScoreArgs) -> Result<()> {
    let dir = SessionDir::find(&context.home, &args.session)?;
    let id = RunId::new(&args.run);
    let run = plan::reward_run(&dir, &id)?;
    if let Some(text) = inputs::unchecked(&run) {
        out::note(&text);
    }
    restore_models(&run)?;
    // The lock comes first: scoring takes a while and must not be wasted.
    let mut journal = Journal::require(&dir)?;
    let (session, found) = dir.state()?;
    out::warn_of_damage(&found);
    let answers = session.completions();
    let known = answers.iter().filter(|c| session.score_of(&c.id).is_some_and(|s| s.run == id)).count();
    let bar = out::bar((answers.len() - known) as u64, "answers");
    bar.set_message(format!("{}/{id}", dir.name()));
    let mut scored = 0;
    let done =
        ask(&["score".as_ref(), run.path().as_os_str(), id.as_str().as_ref()], |Scoring { completion, score }| {
            bar.inc(1);
            scored += 1;
            if context.json {
                out::json(&json!({ "completion": completion, "run": id, "score": score }))?;
            }
            journal.append(&SessionRecord::Scored { completion, run: id.clone(), score })?;
            Ok(())
        });
    bar.finish_and_clear();
    journal.close()?;
    done?;
    if context.json {
        return Ok(());
    }
    let before = if known > 0 { format!(", {known} already scored") } else { String::new() };
    out::line(&format!(
        "{} scored by {id}{before}; `tiebreak label {} --order uncertain` shows its least certain pairs first",
        counted(scored, "answer"),
        dir.name()
    ))
}
