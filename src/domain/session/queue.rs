//! What a rater is asked next: verdicts that count, the orders of the queue, repeats, and labels that scores contradict.

use super::super::hash::{hash64, mix64};
use super::super::ids::{PairId, Rater};
use super::super::rubric::RubricPass;
use super::super::text::Pair;
use super::super::verdict::{Asked, Choice, Side, Verdict};
use super::super::votes::{CollectionSettings, ItemState, Outcome, Repeats};
use super::summary::RANKINGS;
use super::{Judged, Session, later};
use place::{Place, QueuePart};
use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

mod build;
mod pair_set;
mod place;
#[cfg(test)]
mod tests;

pub use build::{BuiltQueue, QueueBuild, QueueRequest};
pub use pair_set::PairSet;

/// The order in which a rater sees the pairs still to judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum QueueOrder {
    /// In order of arrival.
    #[default]
    Arrival,
    /// At random, each rater in another order.
    Random,
    /// Smallest score difference first: there a verdict is most informative.
    Uncertain,
    /// Largest score difference first.
    BestWorst,
    /// The judged pairs whose label and scores disagree, largest difference first: the rater judges them again.
    Contested,
    /// The disputed pairs alone, lowest agreement first: a decision on one adjudicates it.
    Disputed,
}

impl QueueOrder {
    /// Every order with its name and what it is.
    pub const ALL: [(&'static str, Self, &'static str); 6] = [
        ("arrival", Self::Arrival, "as they arrived"),
        ("random", Self::Random, "at random, each rater in another order"),
        ("uncertain", Self::Uncertain, "smallest score gaps first"),
        ("best_worst", Self::BestWorst, "largest score gaps first"),
        ("contested", Self::Contested, "judged pairs whose label and scores disagree, to judge them again"),
        ("disputes", Self::Disputed, "disputed pairs alone, to settle them"),
    ];

    /// The order of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(n, ..)| *n == name).map(|(_, order, _)| *order)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, order, _)| *order == self).map_or("", |(name, ..)| name)
    }
}

/// A label that a model's scores contradict.
#[derive(Debug, Clone, PartialEq)]
pub struct Contested {
    /// The pair.
    pub pair: PairId,
    /// How much better the scores say that the answer not preferred is.
    pub gap: f64,
}

/// Where a pair stands for a rater and a question.
#[derive(Clone, Copy)]
enum Need {
    /// It needs this rater's verdict.
    Ask,
    /// The rater put it off, in this record.
    Skipped(u64),
    /// The rater judged it.
    Answered,
    /// It needs no verdict of this rater.
    Closed,
}

impl Session {
    /// The counting verdicts on a pair overall: the latest of each rater.
    #[must_use]
    pub fn counting(&self, pair: &PairId) -> Vec<(u64, &Verdict)> {
        self.counting_on(pair, None)
    }

    /// The counting verdicts on a pair by a criterion, none for overall: the latest of each rater. Repeats do not count, and no
    /// verdict that was given on another text than the answer ended with.
    #[must_use]
    pub fn counting_on(&self, pair: &PairId, criterion: Option<&str>) -> Vec<(u64, &Verdict)> {
        let counts = |(_, judged): &(u64, Judged<'_>)| !judged.undone && judged.verdict.votes_on(criterion);
        let mut all: Vec<(u64, Judged<'_>)> = self.verdicts.latest_on(pair).filter(counts).collect();
        all.reverse();
        // Given on a text that the answer did not end with.
        all.retain(|(_, judged)| !self.differs(judged.verdict));
        all.sort_by(|x, y| later(&y.1, &x.1));
        let mut seen: HashSet<&Rater> = HashSet::new();
        all.retain(|(_, judged)| seen.insert(&judged.verdict.rater));
        all.into_iter().map(|(seq, judged)| (seq, judged.verdict)).collect()
    }

    /// The counting verdicts that decide a pair by a criterion, none for overall: those of people and files, or, where there
    /// are none, those of models. A model's vote never contradicts a person's.
    #[must_use]
    pub fn deciding_on(&self, pair: &PairId, criterion: Option<&str>) -> Vec<(u64, &Verdict)> {
        let mut votes = self.counting_on(pair, criterion);
        if votes.iter().any(|(_, v)| !v.rater.is_model()) {
            votes.retain(|(_, v)| !v.rater.is_model());
        }
        votes
    }

    /// A rater's latest verdict on a pair overall, if one counts.
    #[must_use]
    pub fn verdict_of(&self, pair: &PairId, rater: &Rater) -> Option<(u64, &Verdict)> {
        self.verdict_by(pair, rater, None)
    }

    /// A rater's latest verdict on a pair by a criterion, none for overall, if one counts.
    #[must_use]
    pub fn verdict_by(&self, pair: &PairId, rater: &Rater, criterion: Option<&str>) -> Option<(u64, &Verdict)> {
        self.counting_on(pair, criterion).into_iter().find(|(_, v)| v.rater == *rater)
    }

    /// What a rater is asked about a pair that the queue shows.
    #[must_use]
    pub fn asks(&self, pair: &PairId, rater: &Rater, order: QueueOrder, rubric: &RubricPass) -> Asked {
        if self.is_held_out(pair) {
            return Asked::by(None);
        }
        match order {
            QueueOrder::Disputed => return Asked::by(rubric.criterion()),
            QueueOrder::Contested => return Asked { review: true, ..Asked::by(rubric.criterion()) },
            QueueOrder::Arrival | QueueOrder::Random | QueueOrder::Uncertain | QueueOrder::BestWorst => {}
        }
        let Some(found) = self.pair(pair) else { return Asked::by(rubric.criterion()) };
        let questions = self.questions(rubric);
        let needs = || questions.iter().map(|q| (*q, self.need(found, rater, *q, &self.adjudicated_pairs(*q))));
        let open = needs().find(|(_, need)| matches!(need, Need::Ask));
        let put_off = || needs().find(|(_, need)| matches!(need, Need::Skipped(_)));
        // A pair that is put off as a whole is asked from the start.
        let begun = needs().any(|(_, need)| matches!(need, Need::Answered));
        match if begun { open.or_else(put_off) } else { put_off().or(open) } {
            Some((question, _)) => Asked::by(question),
            // Everything is judged: it is here to be judged once more.
            None => Asked { pass: 1, ..Asked::by(rubric.criterion()) },
        }
    }

    /// How many of these pairs a rater has judged by every question of a pass, and how many repeats of them.
    #[must_use]
    pub fn judged_by(&self, rater: &Rater, rubric: &RubricPass, among: impl Fn(&PairId) -> bool) -> usize {
        let judged = self.verdicts.pairs(1).filter(|id| self.pairs.contains(id) && among(id));
        judged.map(|id| self.judged_on(id, rater, rubric)).sum()
    }

    /// How many verdicts on one pair [`Session::judged_by`] counts: one when every question is answered, and its repeats.
    #[must_use]
    pub fn judged_on(&self, pair: &PairId, rater: &Rater, rubric: &RubricPass) -> usize {
        if !self.verdicts.is_judged(pair) {
            return 0;
        }
        let answered = |question: Option<&str>| {
            self.verdict_by(pair, rater, question).is_some_and(|(_, v)| v.choice != Choice::Skip)
        };
        let again = |v: &Verdict| {
            let asked = &v.asked;
            asked.pass > 0 && asked.criterion.as_deref() == rubric.criterion() && v.choice != Choice::Skip
        };
        let given = self.verdicts_on(pair).filter(|j| !j.undone && j.verdict.rater == *rater).map(|j| j.verdict);
        usize::from(self.questions(rubric).into_iter().all(answered)) + given.filter(|v| again(v)).count()
    }

    /// The questions of a pass in their order: criteria, none for overall.
    #[must_use]
    pub fn questions<'a>(&'a self, rubric: &'a RubricPass) -> Vec<Option<&'a str>> {
        match rubric {
            RubricPass::Overall => vec![None],
            RubricPass::One(name) => vec![Some(name)],
            RubricPass::All => {
                std::iter::once(None).chain(self.criteria.iter().map(|c| Some(c.name.as_str()))).collect()
            }
        }
    }

    fn need(&self, pair: &Pair, rater: &Rater, criterion: Option<&str>, settled: &HashSet<&PairId>) -> Need {
        let mut votes =
            if self.verdicts.is_judged(&pair.id) { self.counting_on(&pair.id, criterion) } else { Vec::new() };
        // A model's label is not one of those that people are asked for.
        votes.retain(|(_, v)| !v.rater.is_model() || v.rater == *rater);
        if votes.iter().any(|(_, v)| v.rater.is_import()) {
            return Need::Closed;
        }
        match votes.iter().find(|(_, v)| v.rater == *rater) {
            // A pair that a ranking made goes with its verdicts: undone, nobody is asked.
            None if votes.is_empty() && RANKINGS.contains(&pair.strategy.as_str()) => Need::Closed,
            None => {
                let choices: Vec<Choice> = votes.iter().map(|(_, v)| v.choice).collect();
                let enough = |settings: CollectionSettings| {
                    matches!(settings.rule.state(&choices), ItemState::Done | ItemState::Disputed)
                };
                if settled.contains(&pair.id) || self.settings.is_some_and(enough) { Need::Closed } else { Need::Ask }
            }
            Some((seq, v)) if v.choice == Choice::Skip => Need::Skipped(*seq),
            Some(_) => Need::Answered,
        }
    }

    /// What a new pair is sorted by: a score gap, then a random number.
    fn rank(&self, pair: &Pair, rater: &Rater, order: QueueOrder) -> (f64, u64) {
        match order {
            QueueOrder::Arrival | QueueOrder::Disputed | QueueOrder::Contested => (0.0, 0),
            QueueOrder::Random => (0.0, draw(&pair.id, rater, "order")),
            QueueOrder::Uncertain => (self.score_gap(pair).unwrap_or(f64::INFINITY), 0),
            QueueOrder::BestWorst => (self.score_gap(pair).map_or(f64::INFINITY, |gap| -gap), 0),
        }
    }

    /// The pairs whose label a model's scores contradict, largest gap first. Ties, pairs without both scores of one run,
    /// and what a person adjudicated are not contested.
    #[must_use]
    pub fn contested(&self, criterion: Option<&str>) -> Vec<Contested> {
        let (outcomes, settled) = (self.outcomes_of_judged(criterion), self.adjudicated_pairs(criterion));
        let mut out: Vec<Contested> = self
            .judged_pairs(1)
            .filter(|pair| !settled.contains(&pair.id))
            .filter_map(|pair| {
                let Outcome::Prefer(side, _) = outcomes.get(&pair.id)?.outcome else { return None };
                let (a, b) = (self.score_of(&pair.a)?, self.score_of(&pair.b)?);
                let ahead = if side == Side::A { b.value - a.value } else { a.value - b.value };
                let contradicts = a.run == b.run && ahead.is_finite() && ahead > 0.0;
                contradicts.then(|| Contested { pair: pair.id.clone(), gap: ahead })
            })
            .collect();
        // Stable: equal gaps stay in order of arrival.
        out.sort_by(|x, y| y.gap.total_cmp(&x.gap));
        out
    }

    /// The contested pairs that a rater has not judged again; those that were put off come last.
    fn reviews(&self, rater: &Rater, criterion: Option<&str>) -> Vec<PairId> {
        let (mut fresh, mut put_off) = (Vec::new(), Vec::new());
        for Contested { pair, .. } in self.contested(criterion) {
            let is_again = |judged: &Judged<'_>| {
                let Verdict { rater: by, asked, .. } = judged.verdict;
                !judged.undone && by == rater && asked.review && asked.criterion.as_deref() == criterion
            };
            let last = self.verdicts_on(&pair).rfind(is_again).map(|judged| judged.verdict.choice);
            match last {
                None => fresh.push(pair),
                Some(Choice::Skip) => put_off.push(pair),
                Some(_) => {}
            }
        }
        fresh.extend(put_off);
        fresh
    }

    /// The judged pairs that come back to this rater now.
    fn due_repeats(&self, rater: &Rater, criterion: Option<&str>) -> DueRepeats {
        let Some(Repeats { share, distance, after_ms }) = self.repeats.filter(|r| r.share > 0.0) else {
            return DueRepeats::default();
        };
        // Of each pair: the last verdict's place, the choice that counts, whether a repeat was answered, the last verdict's time.
        let mut given: HashMap<&PairId, (usize, Option<Choice>, bool, u64)> = HashMap::new();
        let now = self.clock.now();
        let (mut total, mut since) = (0, 0);
        let by = |v: &Verdict| v.rater == *rater && v.asked.criterion.as_deref() == criterion;
        let verdicts = self.verdicts.iter().map(|(_, judged)| judged);
        let mut all: Vec<Judged<'_>> = verdicts.filter(|j| !j.undone && by(j.verdict)).collect();
        all.sort_by(later);
        for judged in all {
            let verdict = judged.verdict;
            let entry = given.entry(&verdict.pair).or_insert((0, None, false, 0));
            entry.0 = total;
            entry.3 = judged.at;
            if verdict.votes_on(criterion) {
                entry.1 = Some(verdict.choice);
            }
            entry.2 |= verdict.asked.pass > 0 && verdict.choice != Choice::Skip;
            since = if verdict.asked.pass > 0 { 0 } else { since + 1 };
            total += 1;
        }
        let limit = share.min(1.0) * u64::MAX as f64;
        let mut due: Vec<(usize, PairId)> = given
            .into_iter()
            .filter(|(pair, (last, choice, repeated, at))| {
                choice.is_some_and(|c| c != Choice::Skip)
                    && !repeated
                    && total - 1 - last >= distance
                    && now.saturating_sub(*at) >= after_ms
                    && draw(pair, rater, "repeat") as f64 <= limit
                    && !self.is_held_out(pair)
                    && self.pair(pair).is_some_and(|p| self.sides(p).is_some())
            })
            .map(|(pair, (last, ..))| (last, pair.clone()))
            .collect();
        due.sort();
        DueRepeats {
            pairs: due.into_iter().map(|(_, pair)| pair).collect(),
            every: (1.0 / share).round() as usize,
            since,
        }
    }
}

impl Session {
    /// The pairs that an adjudication settled, for each question.
    fn settled_by(&self, questions: &[Option<&str>]) -> Vec<HashSet<&PairId>> {
        questions.iter().map(|question| self.adjudicated_pairs(*question)).collect()
    }

    /// Where a pair stands in a rater's queue; none if it is not in it. `at` is its place among the session's pairs.
    fn place(
        &self,
        at: usize,
        pair: &Pair,
        rater: &Rater,
        order: QueueOrder,
        questions: &[Option<&str>],
        settled: &[HashSet<&PairId>],
    ) -> Option<Place> {
        if self.lacking.contains(at) {
            self.sides(pair)?;
        }
        let (mut ask, mut answered, mut put_off) = (false, false, None);
        for (question, settled) in questions.iter().zip(settled) {
            match self.need(pair, rater, *question, settled) {
                Need::Ask => ask = true,
                Need::Answered => answered = true,
                Need::Skipped(seq) => put_off = put_off.max(Some(seq)),
                Need::Closed => {}
            }
        }
        let place = |part, number| Some(Place { part, gap: 0.0, number, at: at as u32 });
        match put_off {
            // A pair that is put off overall is put off as a whole.
            Some(seq) if !answered => place(QueuePart::Skipped, seq),
            _ if answered && ask => place(QueuePart::Begun, 0),
            Some(seq) => place(QueuePart::Skipped, seq),
            None if ask => {
                let (gap, number) = self.rank(pair, rater, order);
                Some(Place { part: QueuePart::Fresh, gap, number, at: at as u32 })
            }
            None => None,
        }
    }

    /// Moves one pair to its place in a queue of [`Session::queue_by`], after a record on it alone. False, and the queue is
    /// unchanged, where the order depends on other pairs too: then the queue must be computed again.
    #[must_use]
    pub fn move_in_queue(
        &self,
        queue: &mut Vec<PairId>,
        pair: &PairId,
        rater: &Rater,
        order: QueueOrder,
        rubric: &RubricPass,
        belongs: bool,
    ) -> bool {
        let whole = matches!(order, QueueOrder::Disputed | QueueOrder::Contested);
        if whole || self.repeats.is_some_and(|r| r.share > 0.0) {
            return false;
        }
        let Some(at) = self.pairs.place(pair) else { return false };
        let questions = self.questions(rubric);
        let settled = self.settled_by(&questions);
        let place = |at: usize| self.place(at, &self.pairs[at], rater, order, &questions, &settled);
        // The shown pair is the first one.
        if let Some(old) = queue.iter().position(|id| id == pair) {
            queue.remove(old);
        }
        if let Some(new) = place(at).filter(|_| belongs) {
            let before = |id: &PairId| {
                let known = self.pairs.place(id).and_then(place);
                known.is_some_and(|known| known.cmp(&new) == Ordering::Less)
            };
            let index = queue.partition_point(before);
            queue.insert(index, pair.clone());
        }
        true
    }
}

/// Repeats that are due, longest ago first.
#[derive(Debug, Default)]
struct DueRepeats {
    pairs: Vec<PairId>,
    /// New pairs between two repeats, so that they do not come in a row.
    every: usize,
    /// Verdicts since the last repeat.
    since: usize,
}

impl DueRepeats {
    /// Puts the repeats among new pairs; those that find no room come after them.
    fn among(self, fresh: Vec<PairId>) -> Vec<PairId> {
        if self.pairs.is_empty() {
            return fresh;
        }
        let mut out = Vec::with_capacity(fresh.len() + self.pairs.len());
        let (mut repeats, mut since) = (self.pairs.into_iter(), self.since);
        for pair in fresh {
            if since >= self.every {
                out.extend(repeats.next());
                since = 0;
            }
            out.push(pair);
            since += 1;
        }
        out.extend(repeats);
        out
    }
}

/// A random number of a pair and a rater, for one purpose.
fn draw(pair: &PairId, rater: &Rater, what: &str) -> u64 {
    mix64(hash64(format!("{what}\u{0}{pair}\u{0}{rater}").as_bytes()))
}
