//! `score`: a reward run's scores of a session's answers, kept in the session's log.

use super::super::cli::ScoreArgs;
use super::super::error::Result;
use super::super::journal::Journal;
use super::super::supervisor::{ask, restore_models};
use super::super::{inputs, out, plan};
use super::Context;
use crate::domain::{RunId, counted};
use crate::protocol::{Scoring, SessionRecord};
use crate::storage::SessionDir;
use serde_json::json;

/// Lets a worker score every answer that the run has not scored yet. What was scored stays when it is interrupted.
pub fn run(context: &Context, args: &ScoreArgs) -> Result<()> {
    let dir = SessionDir::find(&context.home, &args.session)?;
    let id = RunId::new(&args.run);
    let run = plan::reward_run(&dir, &id)?;
    if let Some(text) = inputs::unchecked(&run) {
        out::note(&text);
    }
    restore_models(&run)?;
    // The right to write comes first: scoring takes a while, and must not be for nothing.
    let mut journal = Journal::require(&dir)?;
    let (session, _) = dir.state()?;
    let answers = session.completions();
    let known = answers.iter().filter(|c| session.score_of(&c.id).is_some_and(|s| s.run == id)).count();
    let bar = out::bar((answers.len() - known) as u64, "answers");
    bar.set_message(format!("{}/{id}", dir.name()));
    let mut scored = 0;
    let asked = ask(&["score".as_ref(), run.path().as_os_str(), id.as_str().as_ref()], |said: Scoring| {
        let Scoring { completion, score } = said;
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
    asked?;
    if context.json {
        return Ok(());
    }
    let before = if known > 0 { format!(", {known} had been before") } else { String::new() };
    out::line(&format!(
        "{} scored by {id}{before}; `tiebreak label {} --order uncertain` asks first about the pairs it is least sure of",
        counted(scored, "answer"),
        dir.name()
    ))
}
