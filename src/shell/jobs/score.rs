//! Scoring in the background of the workbench: one at a time, with progress, ended by a key or when the session is closed.
//!
//! Owns the thread. Records go to the writer in small batches, so that an end at any time keeps what was scored.

use super::super::error::{Error, Result};
use super::super::job_context::JobContext;
use super::super::reply::Replies;
use super::super::scoring::{self, ScoreSink};
use super::super::supervisor::Deadline;
use super::context::{ForLog, ToWriter, run_in_background};
use crate::app::{Msg, ScoreProgress, ScoreRequest};
use crate::protocol::SessionRecord;
use crate::storage::Home;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The longest time for all of it.
const LIMIT: Duration = Duration::from_hours(24 * 30);
/// Time between two batches of records, and between two messages of progress.
const PAUSE: Duration = Duration::from_millis(250);
/// The most records that are not handed over yet.
const BATCH: usize = 256;

/// Scoring that may be under way.
#[derive(Debug, Default)]
pub(super) struct ScoringJob {
    busy: Arc<AtomicBool>,
    /// Counts the ends that were asked for.
    ended: Arc<AtomicU64>,
}

impl ScoringJob {
    /// Ends what is under way.
    pub(super) fn stop(&self) {
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    /// Starts scoring in its own thread; refuses while another is under way.
    pub(super) fn start(
        &self,
        home: &Home,
        context: JobContext,
        request: ScoreRequest,
        replies: &Replies,
        to_writer: &Arc<ToWriter>,
    ) {
        let opening = context.opening;
        if self.busy.swap(true, Ordering::Relaxed) {
            let why = "scoring is under way: wait for its end, or stop it".to_owned();
            replies.of(opening, Msg::Note(why));
            return;
        }
        let (busy, ended) = (Arc::clone(&self.busy), Arc::clone(&self.ended));
        let began = ended.load(Ordering::Relaxed);
        let (home, answers, to_writer) = (home.clone(), replies.clone(), Arc::clone(to_writer));
        let progress = ScoreProgress { by: request.with.clone(), what: "answers".into(), done: 0, total: 0 };
        run_in_background(replies, "scoring", move || {
            let is_over = move || ended.load(Ordering::Relaxed) != began;
            let deadline = Deadline::new(LIMIT, is_over.clone());
            answers.of(opening, Msg::ScoreProgressed(progress.clone()));
            let (batch, sent, is_over) = (Vec::new(), Instant::now(), Box::new(is_over));
            let mut sink = Batches { opening, answers, to_writer, batch, sent, progress, is_over };
            let done = score(&home, &context, &request, &deadline, &mut sink);
            busy.store(false, Ordering::Relaxed);
            let (n, what) = (sink.progress.done, sink.progress.what.clone());
            let said = done.map(|said| said.join("; ")).map_err(|error| match error {
                Error::Superseded => format!("scoring was stopped after {n} {what}: what was scored is kept"),
                error => error.to_string(),
            });
            sink.flush(Some(Msg::ScoreEnded(said)));
        });
    }
}

fn score(
    home: &Home,
    context: &JobContext,
    request: &ScoreRequest,
    deadline: &Deadline,
    sink: &mut Batches,
) -> Result<Vec<String>> {
    let (session, ..) = context.dir.snapshot(context.upto)?;
    scoring::run(home, &context.dir, &session, request, Some(deadline), sink)
}

/// Hands records to the writer and progress to the screen.
struct Batches {
    opening: u64,
    answers: Replies,
    to_writer: Arc<ToWriter>,
    batch: Vec<SessionRecord>,
    sent: Instant,
    progress: ScoreProgress,
    is_over: Box<dyn Fn() -> bool>,
}

impl Batches {
    fn flush(&mut self, said: Option<Msg>) {
        self.sent = Instant::now();
        (self.to_writer)(ForLog::Records(self.opening, std::mem::take(&mut self.batch), said));
    }
}

impl ScoreSink for Batches {
    fn begin(&mut self, what: &str, total: usize, by: &str) {
        self.progress = ScoreProgress { by: by.to_owned(), what: what.to_owned(), done: 0, total };
        self.answers.of(self.opening, Msg::ScoreProgressed(self.progress.clone()));
    }

    fn advance(&mut self) {
        self.progress.done += 1;
    }

    fn record(&mut self, record: SessionRecord, _: Value) -> Result<()> {
        self.batch.push(record);
        if (self.is_over)() {
            return Err(Error::Superseded);
        }
        if self.batch.len() >= BATCH || self.sent.elapsed() >= PAUSE {
            self.flush(Some(Msg::ScoreProgressed(self.progress.clone())));
        }
        Ok(())
    }

    fn note(&mut self, text: &str) {
        self.answers.of(self.opening, Msg::Note(text.to_owned()));
    }
}
