//! A saved session as one sequence of entries, and the state at any point of it.
//!
//! Owns the merge of the session's log with its runs' logs, the marks and seeking. Refuses clocks: the timeline has its
//! own time, in which no gap is longer than [`IDLE_CAP_MS`].
//!
//! **Invariant:** `seek(n)` gives the state that folding the first `n` entries gives.

use crate::domain::{RunId, RunState, Session};
use crate::protocol::{Envelope, RunEvent, RunSpec, SessionRecord, apply_record, apply_run, apply_run_event};

/// The longest gap between entries, in milliseconds of the timeline.
pub const IDLE_CAP_MS: u64 = 2_000;
/// The least number of entries between two snapshots.
const SNAPSHOT_EVERY: usize = 1_000;
/// The most snapshots: each holds the texts of the whole session up to it.
const MAX_SNAPSHOTS: usize = 16;

/// One entry.
#[derive(Debug, Clone, PartialEq)]
pub enum TimelineEntry {
    /// From the session's log.
    Session(Envelope<SessionRecord>),
    /// From a run's log; the number is the run's index in [`Timeline::runs`].
    Run(usize, Envelope<RunEvent>),
}

impl TimelineEntry {
    /// Wall clock in milliseconds since 1970.
    #[must_use]
    pub fn wall(&self) -> u64 {
        match self {
            Self::Session(e) => e.w,
            Self::Run(_, e) => e.w,
        }
    }
}

/// A kind of mark on the timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// A verdict.
    Label,
    /// A run was launched.
    Launch,
    /// A checkpoint was written.
    Checkpoint,
    /// A finding about a run.
    Finding,
}

/// The state at a point of the timeline.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Moment {
    /// The session as it was.
    pub session: Session,
    /// The runs as they were; a run that has not started has its default state.
    pub runs: Vec<RunState>,
}

/// A saved session, folded up to a cursor.
#[derive(Debug, Clone, PartialEq)]
pub struct Timeline {
    entries: Vec<TimelineEntry>,
    /// Time of each entry in milliseconds from the first, idle time cut.
    times: Vec<u64>,
    runs: Vec<(RunId, Option<RunSpec>)>,
    marks: Vec<(usize, Mark)>,
    snapshots: Vec<Moment>,
    snapshot_every: usize,
    cursor: usize,
    state: Moment,
}

impl Timeline {
    /// Merges the logs by wall clock; each log keeps its order even if its clock jumped.
    #[must_use]
    pub fn merge(session: Vec<Envelope<SessionRecord>>, runs: Vec<(RunId, Vec<Envelope<RunEvent>>)>) -> Self {
        let specs: Vec<Option<RunSpec>> = runs
            .iter()
            .map(|(id, _)| {
                session.iter().find_map(|e| match e.known() {
                    Some(SessionRecord::Launched(spec)) if spec.id == *id => Some((**spec).clone()),
                    _ => None,
                })
            })
            .collect();
        let ids: Vec<RunId> = runs.iter().map(|(id, _)| id.clone()).collect();
        let mut queues: Vec<std::vec::IntoIter<TimelineEntry>> = Vec::new();
        queues.push(session.into_iter().map(TimelineEntry::Session).collect::<Vec<_>>().into_iter());
        for (place, (_, events)) in runs.into_iter().enumerate() {
            queues.push(events.into_iter().map(|e| TimelineEntry::Run(place, e)).collect::<Vec<_>>().into_iter());
        }
        let mut entries: Vec<TimelineEntry> = Vec::new();
        loop {
            let next = (0..queues.len()).filter_map(|q| queues[q].as_slice().first().map(|e| (e.wall(), q))).min();
            let Some(entry) = next.and_then(|(_, q)| queues[q].next()) else { break };
            entries.push(entry);
        }
        let mut times = Vec::with_capacity(entries.len());
        let (mut time, mut wall) = (0_u64, entries.first().map_or(0, TimelineEntry::wall));
        for entry in &entries {
            time += entry.wall().saturating_sub(wall).min(IDLE_CAP_MS);
            wall = entry.wall();
            times.push(time);
        }
        let marks = entries.iter().enumerate().filter_map(|(i, e)| Some((i, mark_of(e)?))).collect();
        let state = Moment { session: Session::default(), runs: vec![RunState::default(); ids.len()] };
        let runs = ids.into_iter().zip(specs).collect();
        let snapshot_every = SNAPSHOT_EVERY.max(entries.len().div_ceil(MAX_SNAPSHOTS));
        Self { entries, times, runs, marks, snapshots: vec![state.clone()], snapshot_every, cursor: 0, state }
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The number of entries folded into [`Timeline::state`].
    #[must_use]
    pub fn cursor(&self) -> usize {
        self.cursor
    }

    /// The state at the cursor.
    #[must_use]
    pub fn state(&self) -> &Moment {
        &self.state
    }

    /// The entry folded last.
    #[must_use]
    pub fn current(&self) -> Option<&TimelineEntry> {
        self.entries.get(self.cursor.checked_sub(1)?)
    }

    /// Entries in order.
    #[must_use]
    pub fn entries(&self) -> &[TimelineEntry] {
        &self.entries
    }

    /// The runs, each with its specification if the session's log has it.
    #[must_use]
    pub fn runs(&self) -> &[(RunId, Option<RunSpec>)] {
        &self.runs
    }

    /// Marks with the index of their entry, in order.
    #[must_use]
    pub fn marks(&self) -> &[(usize, Mark)] {
        &self.marks
    }

    /// Time of an entry in milliseconds from the first, idle time cut.
    #[must_use]
    pub fn time_of(&self, entry: usize) -> u64 {
        self.times.get(entry).or(self.times.last()).copied().unwrap_or(0)
    }

    /// Length in milliseconds, idle time cut.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.times.last().copied().unwrap_or(0)
    }

    /// The number of entries at or before a time.
    #[must_use]
    pub fn count_at(&self, ms: u64) -> usize {
        self.times.partition_point(|t| *t <= ms)
    }

    /// Moves the cursor so that the first `n` entries are folded, or all if there are fewer.
    pub fn seek(&mut self, n: usize) {
        let n = n.min(self.entries.len());
        if n < self.cursor {
            self.restore(n / self.snapshot_every);
        } else {
            // A jump past an existing snapshot starts from it.
            let nearest = (n / self.snapshot_every).min(self.snapshots.len() - 1);
            if nearest * self.snapshot_every > self.cursor {
                self.restore(nearest);
            }
        }
        while self.cursor < n {
            self.step();
        }
    }

    fn restore(&mut self, snapshot: usize) {
        let nearest = snapshot.min(self.snapshots.len() - 1);
        self.state = self.snapshots[nearest].clone();
        self.cursor = nearest * self.snapshot_every;
    }

    fn step(&mut self) {
        match &self.entries[self.cursor] {
            TimelineEntry::Session(e) => {
                if let Some(record) = e.known() {
                    apply_record(&mut self.state.session, e.n, e.w, record);
                }
            }
            TimelineEntry::Run(place, e) => {
                if let Some(event) = e.known() {
                    apply_run_event(&mut self.state.session, event);
                }
                apply_run(&mut self.state.runs[*place], e);
            }
        }
        self.cursor += 1;
        if self.cursor == self.snapshots.len() * self.snapshot_every {
            self.snapshots.push(self.state.clone());
        }
    }

    /// Sets the smoothing of every run's series, in the state and in all snapshots. A view setting.
    pub fn set_smoothing(&mut self, beta: f64) {
        let moments = self.snapshots.iter_mut().chain(std::iter::once(&mut self.state));
        for run in moments.flat_map(|m| &mut m.runs) {
            run.set_smoothing(beta);
        }
    }

    /// The cursor just after the next mark, if there is one.
    #[must_use]
    pub fn next_mark(&self) -> Option<usize> {
        self.marks.iter().find(|(i, _)| *i >= self.cursor).map(|(i, _)| i + 1)
    }

    /// The cursor just after the previous mark, if there is one.
    #[must_use]
    pub fn previous_mark(&self) -> Option<usize> {
        self.marks.iter().rev().find(|(i, _)| i + 1 < self.cursor).map(|(i, _)| i + 1)
    }
}

fn mark_of(entry: &TimelineEntry) -> Option<Mark> {
    match entry {
        TimelineEntry::Session(e) => match e.known()?.act() {
            SessionRecord::Judged(_) => Some(Mark::Label),
            SessionRecord::Launched(_) => Some(Mark::Launch),
            _ => None,
        },
        TimelineEntry::Run(_, e) => match e.known()? {
            RunEvent::Checkpointed { .. } => Some(Mark::Checkpoint),
            RunEvent::Found(_) => Some(Mark::Finding),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests;
