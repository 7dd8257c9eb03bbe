//! The open session's pairs that are being written: which are asked of the rater, and what they are called.
//!
//! Refuses them where finished pairs alone are meant: under a filter, and in orders by what was said of pairs.

use super::growing::GrowingPair;
use super::open::OpenSession;
use super::wrap::presentable;
use crate::domain::{Choice, Pair, PairId, QueueOrder};

impl OpenSession {
    /// The pair of that id if it is being written and not finished.
    #[must_use]
    pub fn growing_pair(&self, id: &PairId) -> Option<GrowingPair<'_>> {
        if self.session.pair(id).is_some() {
            return None;
        }
        self.growing.get(id).filter(|growing| self.session.prompt(&growing.pair.prompt).is_some())
    }

    /// The growing pairs that this rater has not answered. A filter looks at finished pairs alone, and so do orders by
    /// what was said of pairs.
    fn open_growing(&self) -> impl Iterator<Item = &Pair> {
        let asked = self.filter().is_none()
            && !matches!(self.order, QueueOrder::Disputed | QueueOrder::Contested)
            && self.loaded;
        self.growing.pairs().filter(move |pair| {
            asked
                && self.growing_pair(&pair.id).is_some()
                && self.session.verdict_by(&pair.id, &self.rater, self.rubric.criterion()).is_none()
        })
    }

    /// The growing pair to show when the queue is empty.
    #[must_use]
    pub fn next_growing(&self) -> Option<&PairId> {
        self.open_growing().map(|pair| &pair.id).next()
    }

    /// How many growing pairs this rater has answered, and how many are left.
    #[must_use]
    pub fn growing_counts(&self) -> (usize, usize) {
        let all = self.growing.pairs().filter(|pair| self.growing_pair(&pair.id).is_some());
        let judged = all.filter(|pair| {
            let given = self.session.verdict_by(&pair.id, &self.rater, self.rubric.criterion());
            given.is_some_and(|(_, v)| v.choice != Choice::Skip)
        });
        (judged.count(), self.open_growing().count())
    }

    /// What a pair is called, finished or growing.
    #[must_use]
    pub fn pair_name(&self, id: &PairId) -> String {
        let pair = self.session.pair(id).or_else(|| self.growing.pairs().find(|pair| pair.id == *id));
        pair.map_or_else(|| presentable(id.as_str()), |pair| self.names.name(&self.session, pair))
    }
}
