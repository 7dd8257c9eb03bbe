//! An entry of a replay's timeline, in little room: a long session has hundreds of thousands.
//!
//! Owns what is kept of each record: all of it. Refuses to fold by itself: it gives the record to the one fold that there is.

use crate::domain::{Completion, CompletionId, Num, Pair, Prompt, RunId, RunState, Session, Verdict};
use crate::protocol::{Envelope, RunEvent, SessionRecord, apply_record, apply_run, apply_run_event};
use std::sync::Arc;

/// One entry.
#[derive(Debug, Clone, PartialEq)]
pub struct TimelineEntry(Kept);

#[derive(Debug, Clone, PartialEq)]
enum Kept {
    /// A record of the session's log of a kind that is in it as often as prompts are; its number and wall time.
    Frequent(u64, u64, FrequentRecord),
    /// Another one.
    Session(Box<Envelope<SessionRecord>>),
    /// Of a run's log; the number is the run's place.
    Run(u32, Box<Envelope<RunEvent>>),
}

#[derive(Debug, Clone, PartialEq)]
enum FrequentRecord {
    Prompted(Arc<Prompt>),
    Completed(Arc<Completion>),
    Paired(Arc<Pair>),
    Judged(Arc<Verdict>),
    /// The run is named by its place among the names.
    Scored {
        completion: CompletionId,
        run: u32,
        score: f64,
    },
}

/// The names of runs that scored answers: entries hold places among them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct ScorerNames(Vec<RunId>);

impl ScorerNames {
    fn place(&mut self, run: &RunId) -> u32 {
        // Scores of one run follow one another.
        let known = self.0.iter().rposition(|known| known == run);
        known.unwrap_or_else(|| {
            self.0.push(run.clone());
            self.0.len() - 1
        }) as u32
    }
}

impl TimelineEntry {
    /// A record of the session's log.
    pub(super) fn of_session(envelope: Envelope<SessionRecord>, scorers: &mut ScorerNames) -> Self {
        let Envelope { n, m, w, data } = envelope;
        let frequent = match data {
            Ok(SessionRecord::Prompted(prompt)) => FrequentRecord::Prompted(prompt),
            Ok(SessionRecord::Completed(completion)) => FrequentRecord::Completed(completion),
            Ok(SessionRecord::Paired(pair)) => FrequentRecord::Paired(pair),
            Ok(SessionRecord::Judged(verdict)) => FrequentRecord::Judged(verdict),
            Ok(SessionRecord::Scored { completion, run, score: Num(score) }) => {
                FrequentRecord::Scored { completion, run: scorers.place(&run), score }
            }
            data => return Self(Kept::Session(Box::new(Envelope { n, m, w, data }))),
        };
        Self(Kept::Frequent(n, w, frequent))
    }

    /// An event of the log of the run at that place.
    pub(super) fn of_run(run: usize, envelope: Envelope<RunEvent>) -> Self {
        Self(Kept::Run(run as u32, Box::new(envelope)))
    }

    /// Wall clock in milliseconds since 1970.
    #[must_use]
    pub fn wall(&self) -> u64 {
        match &self.0 {
            Kept::Frequent(_, w, _) => *w,
            Kept::Session(e) => e.w,
            Kept::Run(_, e) => e.w,
        }
    }

    /// Its run's place and the event, where it is of a run's log.
    #[must_use]
    pub fn of_a_run(&self) -> Option<(usize, &Envelope<RunEvent>)> {
        match &self.0 {
            Kept::Run(run, envelope) => Some((*run as usize, envelope)),
            Kept::Frequent(..) | Kept::Session(_) => None,
        }
    }

    /// Its number in the session's log, where it is of that.
    #[must_use]
    pub fn session_number(&self) -> Option<u64> {
        match &self.0 {
            Kept::Frequent(n, ..) => Some(*n),
            Kept::Session(e) => Some(e.n),
            Kept::Run(..) => None,
        }
    }

    /// The record of the session's log; of the frequent kinds only a verdict, since nothing asks for the others.
    fn record(&self) -> Option<&SessionRecord> {
        match &self.0 {
            Kept::Session(e) => e.known(),
            Kept::Frequent(..) | Kept::Run(..) => None,
        }
    }

    /// What a person did, as it is here or as it was taken from another copy.
    pub(super) fn act(&self) -> Option<&SessionRecord> {
        self.record().map(SessionRecord::act)
    }

    /// Whether it gives a verdict.
    pub(super) fn gives_verdict(&self) -> bool {
        let frequent = matches!(&self.0, Kept::Frequent(_, _, FrequentRecord::Judged(_)));
        frequent || matches!(self.act(), Some(SessionRecord::Judged(_)))
    }

    /// The unread record, and which log it is in, where its kind is unknown to this version.
    #[must_use]
    pub fn unknown(&self) -> Option<(&serde_json::Value, &'static str)> {
        match &self.0 {
            Kept::Frequent(..) => None,
            Kept::Session(e) => Some((e.data.as_ref().err()?, "the session's log")),
            Kept::Run(_, e) => Some((e.data.as_ref().err()?, "a run's log")),
        }
    }

    /// Folds what it adds to its session.
    pub(super) fn fold(&self, session: &mut Session, scorers: &ScorerNames) {
        let (n, w, frequent) = match &self.0 {
            Kept::Session(e) => {
                if let Some(record) = e.known() {
                    apply_record(session, e.n, e.w, record);
                }
                return;
            }
            Kept::Run(_, e) => {
                if let Some(event) = e.known() {
                    apply_run_event(session, event);
                }
                return;
            }
            Kept::Frequent(n, w, frequent) => (*n, *w, frequent),
        };
        let record = match frequent {
            FrequentRecord::Prompted(prompt) => SessionRecord::Prompted(Arc::clone(prompt)),
            FrequentRecord::Completed(completion) => SessionRecord::Completed(Arc::clone(completion)),
            FrequentRecord::Paired(pair) => SessionRecord::Paired(Arc::clone(pair)),
            FrequentRecord::Judged(verdict) => SessionRecord::Judged(Arc::clone(verdict)),
            FrequentRecord::Scored { completion, run, score } => {
                let Some(run) = scorers.0.get(*run as usize) else { return };
                SessionRecord::Scored { completion: completion.clone(), run: run.clone(), score: Num(*score) }
            }
        };
        apply_record(session, n, w, &record);
    }

    /// Folds what it says of its run.
    pub(super) fn fold_run(&self, runs: &mut [Arc<RunState>]) {
        if let Kept::Run(run, envelope) = &self.0
            && let Some(state) = runs.get_mut(*run as usize)
        {
            apply_run(Arc::make_mut(state), envelope);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_takes_little_room() {
        assert!(size_of::<TimelineEntry>() <= 56, "{}", size_of::<TimelineEntry>());
    }
}
