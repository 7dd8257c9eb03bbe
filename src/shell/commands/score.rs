//! `score`: scores a session's answers with a trained run, or judges its pairs with a run or a judge model, and records scores
//! and verdicts in the session's log.

use super::super::cli::ScoreArgs;
use super::super::error::Result;
use super::super::journal::Journal;
use super::super::supervisor::{ask, restore_models};
use super::super::{inputs, out, plan};
use super::context::CommandContext;
use super::vote;
use crate::domain::{CompletionId, RunId, counted};
use crate::protocol::{Scoring, SessionRecord};
use crate::storage::SessionDir;
use serde_json::json;
use std::collections::HashMap;

/// Asks a worker to score every answer that the run has not scored yet. An interruption keeps earlier scores.
pub fn run(context: &CommandContext, args: &ScoreArgs) -> Result<()> {
    let dir = SessionDir::find(&context.home, &args.session)?;
    if let Some(judge) = args.with.strip_prefix("judge:") {
        return vote::by_judge(context, &dir, judge, args);
    }
    let id = RunId::new(&args.with);
    let run = plan::scoring_run(&dir, &id)?;
    if let Some(text) = inputs::unchecked(&run) {
        out::note(&text);
    }
    restore_models(&run)?;
    // The lock comes first: scoring takes a while and must not be wasted.
    let mut journal = Journal::require(&dir)?;
    let (session, found) = dir.state()?;
    out::warn_of_damage(&found);
    let answers = session.completions();
    let mut scores: HashMap<CompletionId, f64> =
        answers.iter().filter_map(|c| Some((c.id.clone(), session.score_by(&id, &c.id)?))).collect();
    let known = scores.len();
    let bar = out::bar((answers.len() - known) as u64, "answers");
    bar.set_message(format!("{}/{id}", dir.name()));
    let (mut scored, mut unfit) = (0, 0);
    let done =
        ask(&["score".as_ref(), run.path().as_os_str(), id.as_str().as_ref()], |Scoring { completion, score }| {
            bar.inc(1);
            let Some(score) = score else {
                unfit += 1;
                return Ok(());
            };
            scored += 1;
            scores.insert(completion.clone(), score.0);
            if context.json {
                out::json(&json!({ "completion": completion, "run": id, "score": score }))?;
            }
            journal.append(&SessionRecord::Scored { completion, run: id.clone(), score })?;
            Ok(())
        });
    bar.finish_and_clear();
    let done = match done {
        Ok(()) if args.vote => vote::by_scores(context, &session, &mut journal, &id, &scores, args.tie_band),
        done => done,
    };
    journal.close()?;
    done?;
    if context.json {
        return Ok(());
    }
    let before = if known > 0 { format!(", {known} already scored") } else { String::new() };
    let unfit =
        if unfit > 0 { format!(", {unfit} left out: empty, or longer than the context") } else { String::new() };
    out::line(&format!(
        "{} scored by {id}{before}{unfit}; `tiebreak label {} --order uncertain` shows its least certain pairs first",
        counted(scored, "answer"),
        dir.name()
    ))
}
