//! The verdicts of a session by their records' numbers and by their pairs, and which are undone.
//!
//! Owns their order: by number. Copies share the verdicts, as in `arrivals`; what is undone is each copy's own. Refuses the rules
//! of what counts.

use super::super::canonical::canonical_json;
use super::super::ids::{PairId, Rater};
use super::super::part_list::PartList;
use super::super::verdict::Verdict;
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;
use std::sync::Arc;

/// A verdict and whether it still counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judged<'a> {
    /// The verdict.
    pub verdict: &'a Verdict,
    /// Undone and not redone.
    pub undone: bool,
    /// When it was given, on the session's [clock](super::clock).
    pub(super) at: u64,
    /// When it was last undone or redone; 0 if never.
    pub(super) toggled: u64,
}

/// Which of two verdicts is the later one. Of two at one time it is the same one in every copy of the session.
pub(super) fn later(x: &Judged<'_>, y: &Judged<'_>) -> Ordering {
    x.at.cmp(&y.at).then_with(|| canonical_json(x.verdict).cmp(&canonical_json(y.verdict)))
}

/// No row.
const NONE: u32 = u32::MAX;

#[derive(Debug, Clone)]
struct Row {
    seq: u64,
    at: u64,
    verdict: Verdict,
}

/// The rows that copies share, in order of their numbers.
#[derive(Debug, Clone, Default)]
struct Rows {
    list: PartList<Row>,
    /// The row of the pair's verdict before a row, where there is one.
    before: HashMap<u32, u32, RandomState>,
    /// The last row of each pair.
    last: HashTable<u32>,
    hashes: RandomState,
}

impl Rows {
    fn of(rows: impl Iterator<Item = Row>) -> Self {
        let mut out = Self::default();
        rows.for_each(|row| out.add(row));
        out
    }

    fn last_of(&self, pair: &PairId) -> u32 {
        let of = |row: &u32| self.list.get(*row as usize).is_some_and(|row| row.verdict.pair == *pair);
        self.last.find(self.hashes.hash_one(pair), of).copied().unwrap_or(NONE)
    }

    /// Adds the row with the highest number.
    fn add(&mut self, row: Row) {
        let (at, before) = (self.list.len() as u32, self.last_of(&row.verdict.pair));
        if before != NONE {
            self.before.insert(at, before);
        }
        let Self { list, last, hashes, .. } = self;
        let hash = hashes.hash_one(&row.verdict.pair);
        list.push(row);
        match last.find_mut(hash, |row| *row == before && before != NONE) {
            Some(row) => *row = at,
            None => {
                last.insert_unique(hash, at, |row| {
                    list.get(*row as usize).map_or(0, |row| hashes.hash_one(&row.verdict.pair))
                });
            }
        }
    }
}

/// That a verdict was undone, or redone, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Toggle {
    undone: bool,
    at: u64,
}

/// The verdicts of a session.
#[derive(Debug, Clone, Default)]
pub(super) struct VerdictBook {
    rows: Arc<Rows>,
    /// How many of the rows are here. What follows is what comes next in a copy that is ahead.
    len: usize,
    /// By the verdicts' numbers.
    toggles: BTreeMap<u64, Toggle>,
}

impl VerdictBook {
    fn rows(&self) -> impl DoubleEndedIterator<Item = &Row> {
        self.rows.list.range(0..self.len)
    }

    fn row(&self, at: usize) -> Option<&Row> {
        self.rows.list.get(at).filter(|_| at < self.len)
    }

    /// The place of that number, or the one at which it would be.
    fn find(&self, seq: u64) -> Result<usize, usize> {
        if self.len.checked_sub(1).and_then(|last| self.row(last)).is_some_and(|last| last.seq < seq) {
            return Err(self.len);
        }
        let place = self.rows.list.partition_point(|row| row.seq < seq).min(self.len);
        if self.row(place).is_some_and(|row| row.seq == seq) { Ok(place) } else { Err(place) }
    }

    fn judged<'a>(&self, row: &'a Row) -> (u64, Judged<'a>) {
        let toggle = if self.toggles.is_empty() { None } else { self.toggles.get(&row.seq) };
        let (undone, toggled) = toggle.map_or((false, 0), |toggle| (toggle.undone, toggle.at));
        (row.seq, Judged { verdict: &row.verdict, undone, at: row.at, toggled })
    }

    /// Adds a verdict that was given at that time.
    pub(super) fn add(&mut self, seq: u64, at: u64, verdict: Verdict) {
        let row = Row { seq, at, verdict };
        let ahead = self.rows.list.get(self.len);
        let ahead = ahead.is_some_and(|next| (next.seq, next.at) == (seq, at) && next.verdict == row.verdict);
        if ahead {
            self.len += 1;
            return;
        }
        match self.find(seq) {
            Err(place) if place == self.len => self.own().add(row),
            Err(place) => self.rebuild(|rows| rows.insert(place, row)),
            Ok(place) => self.rebuild(|rows| rows[place] = row),
        }
        self.len = self.rows.list.len();
    }

    /// Rows of this book's own that end where it does.
    fn own(&mut self) -> &mut Rows {
        if self.rows.list.len() > self.len {
            self.rows = Arc::new(Rows::of(self.rows().cloned()));
        }
        Arc::make_mut(&mut self.rows)
    }

    fn rebuild(&mut self, change: impl FnOnce(&mut Vec<Row>)) {
        let mut rows: Vec<Row> = self.rows().cloned().collect();
        change(&mut rows);
        self.len = rows.len();
        self.rows = Arc::new(Rows::of(rows.into_iter()));
    }

    /// The verdict of that number.
    pub(super) fn get(&self, seq: u64) -> Option<Judged<'_>> {
        self.find(seq).ok().and_then(|at| self.row(at)).map(|row| self.judged(row).1)
    }

    /// All verdicts with their numbers, in their order.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, Judged<'_>)> {
        self.rows().map(|row| self.judged(row))
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn undone(&self) -> usize {
        self.toggles.values().filter(|toggle| toggle.undone).count()
    }

    /// The rows of a pair, latest first.
    fn back(&self, row: u32) -> impl Iterator<Item = &Row> {
        // None has the number of no row.
        let here = |at: u32| Some((at, self.rows.list.get(at as usize)?));
        let all = std::iter::successors(here(row), move |(at, _)| here(*self.rows.before.get(at)?));
        all.skip_while(|(at, _)| *at as usize >= self.len).map(|(_, row)| row)
    }

    /// The verdicts on a pair with their numbers, latest first.
    pub(super) fn latest_on(&self, pair: &PairId) -> impl Iterator<Item = (u64, Judged<'_>)> {
        self.back(self.rows.last_of(pair)).map(|row| self.judged(row))
    }

    /// Whether a pair has a verdict, undone ones too.
    pub(super) fn is_judged(&self, pair: &PairId) -> bool {
        self.len > 0 && self.back(self.rows.last_of(pair)).next().is_some()
    }

    /// The pairs that have at least so many verdicts, undone ones too; each once, in the order of that verdict.
    pub(super) fn pairs(&self, least: usize) -> impl Iterator<Item = &PairId> {
        let before =
            move |at: usize| self.rows.before.get(&(at as u32)).map_or(0, |at| self.back(*at).take(least).count());
        let nth = move |(at, _): &(usize, &Row)| before(*at) + 1 == least;
        self.rows().enumerate().filter(nth).map(|(_, row)| &row.verdict.pair)
    }

    /// Undoes or redoes a verdict at that time.
    pub(super) fn toggle(&mut self, seq: u64, undone: bool, at: u64) {
        if self.find(seq).is_ok() {
            self.toggles.insert(seq, Toggle { undone, at });
        }
    }

    /// Gives a verdict another number; returns whose it is. None where there is none of the old number.
    pub(super) fn renumber(&mut self, old: u64, new: u64) -> Option<Rater> {
        let place = self.find(old).ok()?;
        let Row { at, verdict, .. } = self.row(place)?.clone();
        let rater = verdict.rater.clone();
        let stays = self.find(new) == Err(place) || self.find(new) == Err(place + 1);
        if stays {
            self.own().list.get_mut(place)?.seq = new;
        } else {
            self.rebuild(|rows| drop(rows.remove(place)));
            self.add(new, at, verdict);
        }
        if let Some(toggle) = self.toggles.remove(&old) {
            self.toggles.insert(new, toggle);
        }
        Some(rater)
    }

    /// Nothing yet, but ready for the same verdicts to be given again.
    pub(super) fn rewound(&self) -> Self {
        Self { rows: Arc::clone(&self.rows), len: 0, toggles: BTreeMap::new() }
    }
}

impl PartialEq for VerdictBook {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::verdict::{Asked, Choice, Seen, Showing, Side};
    use super::*;

    fn verdict(pair: &str, ms: u64) -> Verdict {
        Verdict {
            pair: PairId::new(pair),
            rater: Rater::new(format!("rater-{ms}")),
            choice: Choice::Tie,
            left: Side::A,
            seen: Seen::Full,
            ms,
            winner_hash: None,
            asked: Asked::default(),
            showing: Showing::default(),
        }
    }

    fn numbers(book: &VerdictBook) -> Vec<(u64, u64)> {
        book.iter().map(|(seq, judged)| (seq, judged.verdict.ms)).collect()
    }

    fn on(book: &VerdictBook, pair: &str) -> Vec<u64> {
        book.latest_on(&PairId::new(pair)).map(|(seq, _)| seq).collect()
    }

    #[test]
    fn verdicts_are_in_the_order_of_their_numbers_whatever_the_order_in_which_they_come() {
        let mut book = VerdictBook::default();
        book.add(4, 40, verdict("x", 4));
        // Two that are not on disk yet, and one of another process that is.
        book.add(1_000, 50, verdict("x", 50));
        book.add(1_001, 60, verdict("y", 60));
        book.add(7, 45, verdict("x", 7));
        book.toggle(1_000, true, 70);
        assert_eq!(numbers(&book), [(4, 4), (7, 7), (1_000, 50), (1_001, 60)]);
        assert_eq!((on(&book, "x"), on(&book, "y"), on(&book, "z")), (vec![1_000, 7, 4], vec![1_001], vec![]));
        assert_eq!(book.renumber(1_000, 8), Some(Rater::new("rater-50")));
        assert_eq!(book.renumber(1_001, 5), Some(Rater::new("rater-60")));
        assert_eq!(book.renumber(1_001, 6), None);
        assert_eq!(numbers(&book), [(4, 4), (5, 60), (7, 7), (8, 50)]);
        assert_eq!((on(&book, "x"), on(&book, "y")), (vec![8, 7, 4], vec![5]));
        assert_eq!(book.get(8).map(|j| (j.undone, j.toggled, j.at)), Some((true, 70, 50)));
        assert_eq!((book.get(7).map(|j| j.undone), book.get(9)), (Some(false), None));
        let pairs = |least| book.pairs(least).map(PairId::as_str).collect::<Vec<_>>();
        assert_eq!((pairs(1), pairs(2), pairs(3), pairs(4)), (vec!["x", "y"], vec!["x"], vec!["x"], vec![]));
    }

    #[test]
    fn a_verdict_takes_little_room() {
        // A long session holds a hundred thousand.
        assert!(size_of::<Verdict>() <= 96 && size_of::<Row>() <= 112, "{} {}", size_of::<Verdict>(), size_of::<Row>());
    }

    #[test]
    fn a_copy_that_is_behind_shares_the_verdicts_and_undoes_its_own() {
        let mut all = VerdictBook::default();
        (1..=4).for_each(|n| all.add(n, n * 10, verdict(if n % 2 == 0 { "x" } else { "y" }, n)));
        all.toggle(2, true, 99);
        let mut again = all.rewound();
        assert!(!again.is_judged(&PairId::new("x")) && again.len() == 0);
        (1..=3).for_each(|n| again.add(n, n * 10, verdict(if n % 2 == 0 { "x" } else { "y" }, n)));
        assert!(Arc::ptr_eq(&again.rows, &all.rows));
        assert_eq!((on(&again, "x"), on(&again, "y"), again.get(4)), (vec![2], vec![3, 1], None));
        assert_eq!((again.get(2).map(|j| j.undone), all.get(2).map(|j| j.undone)), (Some(false), Some(true)));
        assert_eq!((again.pairs(2).count(), all.pairs(2).count()), (1, 2));
        // Another verdict than the copy that is ahead has.
        again.add(4, 41, verdict("x", 4));
        assert_eq!((numbers(&again), all.get(4).map(|j| j.at)), (numbers(&all), Some(40)));
        assert_eq!(again.get(4).map(|j| j.at), Some(41));
    }
}
