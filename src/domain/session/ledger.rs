//! Scores that runs give to things with ids: to answers, and by a file to its pairs.
//!
//! Owns their order: a later score of the same run replaces an earlier one, and the latest of all is the one that counts.
//! Copies share the list, as in `arrivals`.

use super::super::ids::RunId;
use super::super::part_list::PartList;
use foldhash::fast::RandomState;
use hashbrown::HashTable;
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
    /// Which of the runs.
    run: u32,
    /// The row before this one of the same thing.
    before: u32,
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
    /// The last row of each thing.
    last: HashTable<u32>,
    hashes: RandomState,
    runs: Vec<ScoringRun>,
}

impl<K> Default for Rows<K> {
    fn default() -> Self {
        Self { list: PartList::default(), last: HashTable::new(), hashes: RandomState::default(), runs: Vec::new() }
    }
}

impl<K: Clone + Eq + Hash> Rows<K> {
    fn last_of(&self, of: &K) -> u32 {
        let is = |row: &u32| self.list.get(*row as usize).is_some_and(|row| row.of == *of);
        self.last.find(self.hashes.hash_one(of), is).copied().unwrap_or(NONE)
    }

    /// A row and those of the same thing before it, latest first.
    fn back_from(&self, row: u32) -> impl Iterator<Item = (u32, &Row<K>)> {
        // None has the number of no row.
        let at = |at: u32| Some((at, self.list.get(at as usize)?));
        std::iter::successors(at(row), move |(_, found)| at(found.before))
    }

    fn add(&mut self, of: K, run: &RunId, value: f64) {
        let at = self.list.len() as u32;
        let is_last = |row: &Row<K>| self.runs[row.run as usize].id == *run;
        let run_at = match self.list.last() {
            Some(row) if is_last(row) => row.run,
            _ => self.runs.iter().position(|known| known.id == *run).unwrap_or_else(|| {
                self.runs.push(ScoringRun { id: run.clone(), first: at, scored: 0 });
                self.runs.len() - 1
            }) as u32,
        };
        let before = self.last_of(&of);
        if !self.back_from(before).any(|(_, row)| row.run == run_at) {
            self.runs[run_at as usize].scored += 1;
        }
        let Self { list, last, hashes, .. } = self;
        let hash = hashes.hash_one(&of);
        list.push(Row { of, value, run: run_at, before });
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
        let ahead = self.rows.list.get(self.len).is_some_and(|next| {
            next.of == of && self.rows.runs[next.run as usize].id == *run && next.value.to_bits() == value.to_bits()
        });
        if !ahead {
            if self.rows.list.len() > self.len {
                let mut own = Rows::default();
                for row in self.rows.list.range(0..self.len) {
                    own.add(row.of.clone(), &self.rows.runs[row.run as usize].id, row.value);
                }
                self.rows = Arc::new(own);
            }
            Arc::make_mut(&mut self.rows).add(of, run, value);
        }
        self.len += 1;
    }

    /// The rows of a thing, latest first.
    fn of(&self, of: &K) -> impl Iterator<Item = &Row<K>> {
        self.here(self.rows.last_of(of))
    }

    /// A row and those of its thing before it, of the rows that are here.
    fn here(&self, row: u32) -> impl Iterator<Item = &Row<K>> {
        self.rows.back_from(row).skip_while(|(at, _)| *at as usize >= self.len).map(|(_, row)| row)
    }

    fn score(&self, row: &Row<K>) -> Score<'_> {
        Score { run: &self.rows.runs[row.run as usize].id, value: row.value }
    }

    /// The latest score of a thing.
    pub(super) fn latest(&self, of: &K) -> Option<Score<'_>> {
        self.of(of).next().map(|row| self.score(row))
    }

    /// A run's latest score of a thing.
    pub(super) fn by(&self, run: &RunId, of: &K) -> Option<f64> {
        let run = self.rows.runs.iter().position(|known| known.id == *run)? as u32;
        self.of(of).find(|row| row.run == run).map(|row| row.value)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The latest score of each thing, in any order.
    pub(super) fn all(&self) -> impl Iterator<Item = (&K, Score<'_>)> {
        let latest = self.rows.last.iter().filter_map(|row| self.here(*row).next());
        latest.map(|row| (&row.of, self.score(row)))
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
        self.rows.last.iter().filter(|row| self.here(**row).any(|row| row.run as usize == at)).count()
    }

    /// Nothing yet, but ready for the same scores to come again.
    pub(super) fn rewound(&self) -> Self {
        Self { rows: Arc::clone(&self.rows), len: 0 }
    }
}

impl<K: Clone + Eq + Hash> PartialEq for Ledger<K> {
    fn eq(&self, other: &Self) -> bool {
        let same = |(a, b): (&Row<K>, &Row<K>)| (&a.of, self.score(a)) == (&b.of, other.score(b));
        let (own, others) = (self.rows.list.range(0..self.len), other.rows.list.range(0..other.len));
        self.len == other.len && own.zip(others).all(same)
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
        assert_eq!((all.scored_by(&one), all.scored_by(&two), all.all().count()), (2, 1, 2));
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
