//! Where one pair stands in a rater's queue, so that a verdict moves one pair and the queue need not be computed again.

use super::super::super::ids::{PairId, Rater};
use super::super::super::rubric::RubricPass;
use super::super::super::text::Pair;
use super::super::Session;
use super::{Need, QueueOrder};
use std::cmp::Ordering;
use std::collections::HashSet;

/// The part of the queue that a pair is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// Judged by some of the questions.
    Begun,
    /// New to the rater.
    Fresh,
    /// Put off.
    Skipped,
}

/// What a queue is sorted by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) part: Part,
    /// A score gap, smallest first; 0 where the order has none.
    gap: f64,
    /// A random number, or the record in which the pair was put off.
    number: u64,
    /// Its place among the session's pairs.
    at: usize,
}

impl Place {
    pub(super) fn cmp(&self, other: &Self) -> Ordering {
        let gap = || self.gap.total_cmp(&other.gap);
        let rest = || (self.number, self.at).cmp(&(other.number, other.at));
        self.part.cmp(&other.part).then_with(gap).then_with(rest)
    }
}

impl Session {
    /// The pairs that an adjudication settled, for each question.
    pub(super) fn settled_by(&self, questions: &[Option<&str>]) -> Vec<HashSet<&PairId>> {
        questions.iter().map(|question| self.adjudicated_pairs(*question)).collect()
    }

    /// Where a pair stands in a rater's queue; none if it is not in it. `at` is its place among the session's pairs.
    pub(super) fn place(
        &self,
        at: usize,
        pair: &Pair,
        rater: &Rater,
        order: QueueOrder,
        questions: &[Option<&str>],
        settled: &[HashSet<&PairId>],
    ) -> Option<Place> {
        self.sides(pair)?;
        let (mut ask, mut answered, mut put_off) = (false, false, None);
        for (question, settled) in questions.iter().zip(settled) {
            match self.need(pair, rater, *question, settled) {
                Need::Ask => ask = true,
                Need::Answered => answered = true,
                Need::Skipped(seq) => put_off = put_off.max(Some(seq)),
                Need::Closed => {}
            }
        }
        let place = |part, number| Some(Place { part, gap: 0.0, number, at });
        match put_off {
            // A pair that is put off overall is put off as a whole.
            Some(seq) if !answered => place(Part::Skipped, seq),
            _ if answered && ask => place(Part::Begun, 0),
            Some(seq) => place(Part::Skipped, seq),
            None if ask => {
                let (gap, number) = self.rank(pair, rater, order);
                Some(Place { part: Part::Fresh, gap, number, at })
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
        let Some(at) = self.pair_at.get(pair).copied() else { return false };
        let questions = self.questions(rubric);
        let settled = self.settled_by(&questions);
        let place = |at: usize| self.place(at, &self.pairs[at], rater, order, &questions, &settled);
        // The shown pair is the first one.
        if let Some(old) = queue.iter().position(|id| id == pair) {
            queue.remove(old);
        }
        if let Some(new) = place(at).filter(|_| belongs) {
            let before = |id: &PairId| {
                let known = self.pair_at.get(id).and_then(|at| place(*at));
                known.is_some_and(|known| known.cmp(&new) == Ordering::Less)
            };
            let index = queue.partition_point(before);
            queue.insert(index, pair.clone());
        }
        true
    }
}
