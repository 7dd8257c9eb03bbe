//! `score`: scores a session's answers with a trained run, or judges its pairs with a run or a judge model, and records scores
//! and verdicts in the session's log.

use super::super::cli::ScoreArgs;
use super::super::error::Result;
use super::super::journal::Journal;
use super::super::scoring::{self, ScoreSink};
use super::super::{out, plan};
use super::context::CommandContext;
use crate::app::ScoreRequest;
use crate::domain::RunId;
use crate::protocol::SessionRecord;
use crate::storage::SessionDir;
use indicatif::ProgressBar;
use serde_json::Value;

/// Scores or judges what the run or judge has not yet. An interruption keeps what was done.
pub fn run(context: &CommandContext, args: &ScoreArgs) -> Result<()> {
    let request = ScoreRequest {
        with: args.with.clone(),
        vote: args.vote,
        tie_band: args.tie_band,
        servers: args.server.options(),
    };
    scoring::check(&request)?;
    let dir = SessionDir::find(&context.home, &args.session)?;
    if !request.with.starts_with("judge:") {
        plan::scoring_run(&dir, &RunId::new(&request.with))?;
    }
    // The lock comes first: scoring takes a while and must not be wasted.
    let journal = Journal::require_for(&dir, "score")?;
    let (session, found) = dir.state()?;
    out::warn_of_damage(&found);
    let mut sink = Terminal { json: context.json, session: dir.name(), journal, bar: ProgressBar::hidden() };
    let done = scoring::run(&context.home, &dir, &session, &request, None, &mut sink);
    sink.bar.finish_and_clear();
    sink.journal.close()?;
    let said = done?;
    if context.json {
        return Ok(());
    }
    said.iter().try_for_each(|text| out::line(text))
}

/// Writes records to the log, objects to standard output, and progress to the terminal.
struct Terminal {
    json: bool,
    session: String,
    journal: Journal,
    bar: ProgressBar,
}

impl ScoreSink for Terminal {
    fn begin(&mut self, what: &str, total: usize, by: &str) {
        self.bar = out::bar(total as u64, what);
        self.bar.set_message(format!("{}/{by}", self.session));
    }

    fn advance(&mut self) {
        self.bar.inc(1);
    }

    fn record(&mut self, record: SessionRecord, object: Value) -> Result<()> {
        // What a judge is made of is for the log; the objects are scores and verdicts.
        if self.json && !matches!(record, SessionRecord::JudgeRecorded { .. }) {
            out::json(&object)?;
        }
        self.journal.append(&record)?;
        Ok(())
    }

    fn note(&mut self, text: &str) {
        out::note(text);
    }
}
