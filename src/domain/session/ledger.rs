//! Scores that runs give to things with ids: to answers, and by a file to its pairs.
//!
//! Owns their order: a later score of the same run replaces an earlier one, and the latest of all is the one that counts.
//! Copies share the list, as in `arrivals`.

use super::super::ids::RunId;
use super::super::part_list::PartList;
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

/// A run's score of a completion.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score<'a> {
    /// The run.
    pub run: &'a RunId,
    /// A reward run's in standard deviations from the mean of its calibration answers; of another run the implicit reward.
    pub value: f64,
}

/// No row.
const NONE: u32 = u32::MAX;

#[derive(Debug, Clone)]
struct Row<K> {
    of: K,
    value: f64,
}

#[derive(Debug, Clone)]
struct ScoringRun {
    id: RunId,
    /// Its first row.
    first: u32,
    /// How many things it scored.
    scored: usize,
}

/// The rows that copies share.
#[derive(Debug, Clone)]
struct Rows<K> {
    list: PartList<Row<K>>,
    /// Rows from which on another run gave the scores, and which of the runs.
    spans: Vec<(u32, u32)>,
    /// The row of the same thing before a row, where there is one.
    before: HashMap<u32, u32, RandomState>,
    /// The last row of each thing.
    last: HashTable<u32>,
    hashes: RandomState,
    runs: Vec<ScoringRun>,
}

impl<K> Default for Rows<K> {
    fn default() -> Self {
        Self {
            list: PartList::default(),
            spans: Vec::new(),
            before: HashMap::default(),
            last: HashTable::new(),
            hashes: RandomState::default(),
            runs: Vec::new(),
        }
    }
}

impl<K: Clone + Eq + Hash> Rows<K> {
    fn last_of(&self, of: &K) -> u32 {
        let is = |row: &u32| self.list.get(*row as usize).is_some_and(|row| row.of == *of);
        self.last.find(self.hashes.hash_one(of), is).copied().unwrap_or(NONE)
    }

    /// Which of the runs gave a row.
    fn run_of(&self, row: u32) -> u32 {
        let after = self.spans.partition_point(|(first, _)| *first <= row);
        after.checked_sub(1).map_or(0, |at| self.spans[at].1)
    }

    /// A row and those of the same thing before it, latest first.
    fn back_from(&self, row: u32) -> impl Iterator<Item = (u32, &Row<K>)> {
        // None has the number of no row.
        let at = |at: u32| Some((at, self.list.get(at as usize)?));
        std::iter::successors(at(row), move |(found, _)| at(*self.before.get(found)?))
    }

    fn add(&mut self, of: K, run: &RunId, value: f64) {
        let at = self.list.len() as u32;
        let last_run = self.spans.last().map(|(_, run)| *run);
        let run_at = match last_run {
            Some(last) if self.runs[last as usize].id == *run => last,
            _ => self.runs.iter().position(|known| known.id == *run).unwrap_or_else(|| {
                self.runs.push(ScoringRun { id: run.clone(), first: at, scored: 0 });
                self.runs.len() - 1
            }) as u32,
        };
        if last_run != Some(run_at) {
            self.spans.push((at, run_at));
        }
        let before = self.last_of(&of);
        if !self.back_from(before).any(|(row, _)| self.run_of(row) == run_at) {
            self.runs[run_at as usize].scored += 1;
        }
        if before != NONE {
            self.before.insert(at, before);
        }
        let Self { list, last, hashes, .. } = self;
        let hash = hashes.hash_one(&of);
        list.push(Row { of, value });
        match last.find_mut(hash, |row| *row == before && before != NONE) {
            Some(row) => *row = at,
            None => {
                last.insert_unique(hash, at, |row| list.get(*row as usize).map_or(0, |row| hashes.hash_one(&row.of)));
            }
        }
    }
}

/// The scores of things.
#[derive(Debug, Clone)]
pub(super) struct Ledger<K> {
    rows: Arc<Rows<K>>,
    /// How many of the rows are here. What follows is what comes next in a copy that is ahead.
    len: usize,
}

impl<K> Default for Ledger<K> {
    fn default() -> Self {
        Self { rows: Arc::default(), len: 0 }
    }
}

impl<K: Clone + Eq + Hash> Ledger<K> {
    /// Adds a score.
    pub(super) fn add(&mut self, of: K, run: &RunId, value: f64) {
        let ahead = self
            .row(self.len as u32)
            .is_some_and(|(next, score)| next.of == of && score.run == run && score.value.to_bits() == value.to_bits());
        if !ahead {
            if self.rows.list.len() > self.len {
                let mut own = Rows::default();
                for (row, score) in self.in_arrival() {
                    own.add(row.of.clone(), score.run, score.value);
                }
                self.rows = Arc::new(own);
            }
            Arc::make_mut(&mut self.rows).add(of, run, value);
        }
        self.len += 1;
    }

    /// A row and its score, also one that is ahead.
    fn row(&self, at: u32) -> Option<(&Row<K>, Score<'_>)> {
        let row = self.rows.list.get(at as usize)?;
        let run = &self.rows.runs[self.rows.run_of(at) as usize].id;
        Some((row, Score { run, value: row.value }))
    }

    /// The rows that are here, in order of arrival.
    fn in_arrival(&self) -> impl Iterator<Item = (&Row<K>, Score<'_>)> {
        (0..self.len as u32).filter_map(|at| self.row(at))
    }

    /// The rows of a thing, latest first.
    fn of(&self, of: &K) -> impl Iterator<Item = u32> {
        self.here(self.rows.last_of(of))
    }

    /// A row and those of its thing before it, of the rows that are here.
    fn here(&self, row: u32) -> impl Iterator<Item = u32> {
        self.rows.back_from(row).map(|(at, _)| at).skip_while(|at| *at as usize >= self.len)
    }

    /// The latest score of a thing.
    pub(super) fn latest(&self, of: &K) -> Option<Score<'_>> {
        let row = self.of(of).next()?;
        self.row(row).map(|(_, score)| score)
    }

    /// A run's latest score of a thing.
    pub(super) fn by(&self, run: &RunId, of: &K) -> Option<f64> {
        let run = self.rows.runs.iter().position(|known| known.id == *run)? as u32;
        let row = self.of(of).find(|row| self.rows.run_of(*row) == run)?;
        self.rows.list.get(row as usize).map(|row| row.value)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The latest score of each thing, in the order of the things. Only the rows' numbers are sorted: there may be hundreds of
    /// thousands.
    pub(super) fn in_order(&self) -> impl Iterator<Item = (&K, Score<'_>)>
    where
        K: Ord,
    {
        let mut latest = Vec::with_capacity(self.rows.last.len());
        latest.extend(self.rows.last.iter().filter_map(|row| self.here(*row).next()));
        let of = |row: &u32| self.rows.list.get(*row as usize).map(|row| &row.of);
        latest.sort_unstable_by(|x, y| of(x).cmp(&of(y)));
        latest.into_iter().filter_map(|row| self.row(row)).map(|(row, score)| (&row.of, score))
    }

    /// The runs that gave scores.
    pub(super) fn runs(&self) -> impl Iterator<Item = &RunId> {
        self.rows.runs.iter().filter(|run| (run.first as usize) < self.len).map(|run| &run.id)
    }

    /// How many things a run has scored.
    pub(super) fn scored_by(&self, run: &RunId) -> usize {
        let Some(at) = self.rows.runs.iter().position(|known| known.id == *run) else { return 0 };
        if self.len == self.rows.list.len() {
            return self.rows.runs[at].scored;
        }
        self.rows.last.iter().filter(|row| self.here(**row).any(|row| self.rows.run_of(row) as usize == at)).count()
    }

    /// Nothing yet, but ready for the same scores to come again.
    pub(super) fn rewound(&self) -> Self {
        Self { rows: Arc::clone(&self.rows), len: 0 }
    }
}

impl<K: Clone + Eq + Hash> PartialEq for Ledger<K> {
    fn eq(&self, other: &Self) -> bool {
        let mut both = self.in_arrival().zip(other.in_arrival());
        self.len == other.len && both.all(|((a, score), (b, other))| a.of == b.of && score == other)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::ids::CompletionId;
    use super::*;

    #[test]
    fn the_latest_score_counts_and_each_run_keeps_its_own() {
        let (x, y) = (CompletionId::new("x"), CompletionId::new("y"));
        let (one, two) = (RunId::new("reward-1"), RunId::new("reward-2"));
        let given = [(&x, &one, 0.5), (&y, &one, 1.5), (&x, &two, -1.0), (&x, &one, 0.75)];
        let mut all = Ledger::default();
        for (completion, run, value) in given {
            all.add(completion.clone(), run, value);
        }
        assert_eq!(all.latest(&x), Some(Score { run: &one, value: 0.75 }));
        assert_eq!((all.by(&two, &x), all.by(&two, &y), all.by(&one, &y)), (Some(-1.0), None, Some(1.5)));
        assert_eq!((all.scored_by(&one), all.scored_by(&two)), (2, 1));
        let in_order: Vec<_> =
            all.in_order().map(|(of, score)| (of.as_str(), score.run.as_str(), score.value)).collect();
        assert_eq!(in_order, [("x", "reward-1", 0.75), ("y", "reward-1", 1.5)]);
        assert_eq!(all.rows.spans, [(0, 0), (2, 1), (3, 0)]);
        // The same again, as a copy that is behind sees it.
        let mut again = all.rewound();
        assert!(again.is_empty() && again.latest(&x).is_none() && again.runs().next().is_none());
        for (completion, run, value) in given.into_iter().take(3) {
            again.add(completion.clone(), run, value);
        }
        assert!(Arc::ptr_eq(&again.rows, &all.rows));
        assert_eq!(again.latest(&x), Some(Score { run: &two, value: -1.0 }));
        assert_eq!((again.scored_by(&one), again.scored_by(&two), again.runs().count()), (2, 1, 2));
        // Another score than the copy that is ahead has.
        again.add(y.clone(), &two, 2.0);
        assert_eq!((again.latest(&y).map(|s| s.value), all.latest(&y).map(|s| s.value)), (Some(2.0), Some(1.5)));
        assert_eq!((again.scored_by(&two), all.scored_by(&two)), (2, 1));
        assert_ne!(again, all);
    }
}
