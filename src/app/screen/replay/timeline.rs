//! A saved session as one sequence of entries, and the state at any point of it.
//!
//! Owns the merge of the session's log with its runs' logs, the marks and seeking. Refuses clocks: the timeline has its
//! own time, in which no gap is longer than [`IDLE_CAP_MS`].
//!
//! **Invariant:** `seek(n)` gives the state that folding the first `n` entries gives.
//!
//! The states at many places are kept. Each shares with the state at the end what the logs only add to, see
//! [`Session::rewound`], so that they take little room.

use super::entry::{ScorerNames, TimelineEntry};
use crate::domain::{RunId, RunState, Session};
use crate::protocol::{Envelope, RunEvent, RunSpec, SessionRecord};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

/// The longest gap between entries, in milliseconds of the timeline.
pub const IDLE_CAP_MS: u64 = 2_000;
/// The least number of entries between two snapshots.
const SNAPSHOT_EVERY: usize = 1_000;
/// The most snapshots.
const MAX_SNAPSHOTS: usize = 64;

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
    pub runs: Vec<Arc<RunState>>,
}

/// A saved session, folded up to a cursor.
#[derive(Debug, Clone, PartialEq)]
pub struct Timeline {
    entries: Vec<TimelineEntry>,
    scorers: ScorerNames,
    /// Time of each entry in milliseconds from the first, idle time cut.
    times: Vec<u64>,
    runs: Vec<(RunId, Option<RunSpec>)>,
    marks: Vec<(usize, Mark)>,
    /// The entries of runs' logs, and those that give, undo or redo a verdict.
    of_runs: Vec<u32>,
    of_verdicts: Vec<u32>,
    /// The smoothing of the runs' series: a view setting, set in a state when it is shown.
    smoothing: f64,
    snapshots: Vec<Moment>,
    snapshot_every: usize,
    cursor: usize,
    state: Moment,
}

impl Timeline {
    /// Merges the logs by wall clock; each log keeps its order even if its clock jumped.
    #[must_use]
    pub fn merge(session: Vec<Envelope<SessionRecord>>, runs: Vec<(RunId, Vec<Envelope<RunEvent>>)>) -> Self {
        Self::merge_parts(vec![session], runs)
    }

    /// As [`Timeline::merge`], of a session's log in parts, each of which is given up once it is merged.
    #[must_use]
    pub fn merge_parts(
        session: Vec<Vec<Envelope<SessionRecord>>>,
        runs: Vec<(RunId, Vec<Envelope<RunEvent>>)>,
    ) -> Self {
        let launches = session.iter().flatten().filter_map(|envelope| match envelope.known() {
            Some(SessionRecord::Launched(spec)) => Some((&spec.id, spec)),
            _ => None,
        });
        let mut specs: HashMap<&RunId, &RunSpec> = HashMap::new();
        for (id, spec) in launches {
            specs.entry(id).or_insert(spec);
        }
        let mut named: Vec<(RunId, Option<RunSpec>)> = Vec::with_capacity(runs.len());
        named.extend(runs.iter().map(|(id, _)| (id.clone(), specs.get(id).map(|spec| (*spec).clone()))));
        let len = session.iter().map(Vec::len).chain(runs.iter().map(|(_, events)| events.len())).sum();
        let mut entries: Vec<TimelineEntry> = Vec::with_capacity(len);
        let mut scorers = ScorerNames::default();
        let mut own = session.into_iter().flatten().peekable();
        let mut others: Vec<_> = runs.into_iter().map(|(_, events)| events.into_iter().peekable()).collect();
        // The next entry of each run's log by its time; of two at one time the session's comes first, then the first run's.
        let mut waiting: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::with_capacity(others.len());
        waiting.extend(others.iter_mut().enumerate().filter_map(|(run, log)| Some(Reverse((log.peek()?.w, run)))));
        loop {
            let own_wall = own.peek().map(|next| next.w);
            match (own_wall, waiting.peek()) {
                (Some(at), Some(Reverse((other, _)))) if at > *other => {}
                (Some(_), _) => {
                    entries.extend(own.next().map(|next| TimelineEntry::of_session(next, &mut scorers)));
                    continue;
                }
                (None, None) => break,
                (None, Some(_)) => {}
            }
            let Some(Reverse((_, run))) = waiting.pop() else { break };
            entries.extend(others[run].next().map(|next| TimelineEntry::of_run(run, next)));
            waiting.extend(others[run].peek().map(|next| Reverse((next.w, run))));
        }
        let mut times = Vec::with_capacity(entries.len());
        let (mut time, mut wall) = (0_u64, entries.first().map_or(0, TimelineEntry::wall));
        for entry in &entries {
            time += entry.wall().saturating_sub(wall).min(IDLE_CAP_MS);
            wall = entry.wall();
            times.push(time);
        }
        let marks = entries.iter().enumerate().filter_map(|(i, e)| Some((i, mark_of(e)?))).collect();
        let places = |is: fn(&TimelineEntry) -> bool| {
            entries.iter().enumerate().filter(|(_, entry)| is(entry)).map(|(at, _)| at as u32).collect()
        };
        let of_runs = places(|entry| entry.of_a_run().is_some());
        let of_verdicts = places(|entry| verdict_of(entry).is_some());
        let state = Moment { session: Session::default(), runs: vec![Arc::default(); named.len()] };
        let snapshot_every = SNAPSHOT_EVERY.max(entries.len().div_ceil(MAX_SNAPSHOTS));
        let mut line = Self {
            entries,
            scorers,
            times,
            runs: named,
            marks,
            of_runs,
            of_verdicts,
            smoothing: 0.0,
            snapshots: Vec::new(),
            snapshot_every,
            cursor: 0,
            state,
        };
        line.take_snapshots();
        line
    }

    /// Folds everything, and then again from the beginning with what that held, for the snapshots.
    fn take_snapshots(&mut self) {
        // What the runs' logs add to the session is all that is needed of them.
        let mut whole = Session::default();
        self.entries.iter().for_each(|entry| entry.fold(&mut whole, &self.scorers));
        let start = Moment { session: whole.rewound(), runs: self.state.runs.clone() };
        drop(whole);
        self.state = start.clone();
        self.snapshots.push(start);
        self.seek(self.entries.len());
        self.restore(0);
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
        self.smooth();
    }

    fn step(&mut self) {
        let entry = &self.entries[self.cursor];
        entry.fold(&mut self.state.session, &self.scorers);
        entry.fold_run(&mut self.state.runs);
        self.cursor += 1;
        if self.cursor == self.snapshots.len() * self.snapshot_every {
            self.snapshots.push(self.state.clone());
        }
    }

    /// Sets the smoothing of every run's series. A view setting.
    pub fn set_smoothing(&mut self, beta: f64) {
        self.smoothing = beta;
        self.smooth();
    }

    fn smooth(&mut self) {
        for run in &mut self.state.runs {
            if run.smoothing() != self.smoothing {
                Arc::make_mut(run).set_smoothing(self.smoothing);
            }
        }
    }

    /// The last entry of a run's log up to the cursor: which run, and the entry.
    #[must_use]
    pub fn last_of_a_run(&self) -> Option<(usize, &Envelope<RunEvent>)> {
        self.entries[last_before(&self.of_runs, self.cursor)?].of_a_run()
    }

    /// The number of the verdict that the last entry up to the cursor that did so gave, undid or redid.
    #[must_use]
    pub fn last_verdict(&self) -> Option<u64> {
        verdict_of(&self.entries[last_before(&self.of_verdicts, self.cursor)?])
    }

    /// The cursor just after the next mark, if there is one.
    #[must_use]
    pub fn next_mark(&self) -> Option<usize> {
        let next = self.marks.partition_point(|(i, _)| *i < self.cursor);
        self.marks.get(next).map(|(i, _)| i + 1)
    }

    /// The cursor just after the previous mark, if there is one.
    #[must_use]
    pub fn previous_mark(&self) -> Option<usize> {
        let before = self.marks.partition_point(|(i, _)| i + 1 < self.cursor);
        self.marks[..before].last().map(|(i, _)| i + 1)
    }

    /// The entry of the last mark of a kind before the cursor.
    #[must_use]
    pub fn last_mark(&self, kind: Mark) -> Option<usize> {
        let before = self.marks.partition_point(|(i, _)| *i < self.cursor);
        self.marks[..before].iter().rev().find(|(_, mark)| *mark == kind).map(|(i, _)| *i)
    }
}

/// The last of these places before a cursor.
fn last_before(places: &[u32], cursor: usize) -> Option<usize> {
    let before = places.partition_point(|at| (*at as usize) < cursor);
    places[..before].last().map(|at| *at as usize)
}

/// The number of the verdict that an entry gives, undoes or redoes.
fn verdict_of(entry: &TimelineEntry) -> Option<u64> {
    match entry.act() {
        _ if entry.gives_verdict() => entry.session_number(),
        Some(SessionRecord::Undone { of } | SessionRecord::Redone { of }) => Some(*of),
        _ => None,
    }
}

fn mark_of(entry: &TimelineEntry) -> Option<Mark> {
    if entry.gives_verdict() {
        return Some(Mark::Label);
    }
    match entry.of_a_run().map(|(_, envelope)| envelope.known()) {
        Some(Some(RunEvent::Checkpointed { .. })) => Some(Mark::Checkpoint),
        Some(Some(RunEvent::Found(_))) => Some(Mark::Finding),
        Some(_) => None,
        None => matches!(entry.act(), Some(SessionRecord::Launched(_))).then_some(Mark::Launch),
    }
}

#[cfg(test)]
mod tests;
