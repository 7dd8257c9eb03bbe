//! A rater's queue, built in slices: one pass over a long session takes longer than a key may wait.
//!
//! Owns the pass over the pairs: which match the filter, and where each stands. Refuses to follow changes: what happens to a pair
//! that it has passed is for the caller to look up, see [`Session::move_in_queue`].

use super::super::super::filter::Filter;
use super::super::super::ids::{PairId, Rater};
use super::super::super::rubric::RubricPass;
use super::super::Session;
use super::super::find::{Contradictions, FilterView};
use super::QueueOrder;
use super::pair_set::PairSet;
use super::place::{Place, QueuePart};
use std::sync::Arc;

/// What a rater wants to label.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueRequest {
    /// The rater.
    pub rater: Rater,
    /// The order.
    pub order: QueueOrder,
    /// What is asked of each pair.
    pub rubric: RubricPass,
    /// The pairs that are meant; none for all.
    pub filter: Option<Filter>,
}

/// A queue and what was counted on the way.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BuiltQueue {
    /// The pairs to label, in order.
    pub queue: Vec<PairId>,
    /// The pairs that match the filter, labelled ones too; empty without a filter.
    pub matching: PairSet,
    /// The verdicts that the rater has given in this pass: see [`Session::judged_by`].
    pub done: usize,
    /// Pairs of the queue with a score gap, where the order sorts by it.
    pub scored: usize,
}

/// A queue that is being built.
#[derive(Debug, Clone)]
pub struct QueueBuild {
    request: QueueRequest,
    /// Pairs looked at.
    next: usize,
    places: [Vec<Place>; 3],
    matching: PairSet,
    done: usize,
    scored: usize,
    /// What a filter has to know of all pairs, once it was computed.
    contradictions: Option<Arc<Contradictions>>,
}

impl QueueBuild {
    /// Before the first pair.
    #[must_use]
    pub fn new(request: QueueRequest) -> Self {
        let (places, matching) = (Default::default(), PairSet::default());
        Self { request, next: 0, places, matching, done: 0, scored: 0, contradictions: None }
    }

    /// What it is built for.
    #[must_use]
    pub fn request(&self) -> &QueueRequest {
        &self.request
    }

    /// How much of a session it has looked at, in 0..=1.
    #[must_use]
    pub fn progress(&self, session: &Session) -> f64 {
        self.next as f64 / session.pairs.len().max(1) as f64
    }

    /// Looks at so many more pairs of the session. True when there are no more.
    pub fn advance(&mut self, session: &Session, pairs: usize) -> bool {
        if self.next == session.pairs.len() {
            return true;
        }
        let QueueRequest { rater, order, rubric, filter } = &self.request;
        // Disputes, contested labels and evaluations have queues of their own.
        let whole = matches!(order, QueueOrder::Disputed | QueueOrder::Contested);
        if whole && filter.is_none() {
            (self.next, self.done) = (session.pairs.len(), session.judged_by(rater, rubric, |_| true));
            return true;
        }
        let places = !whole && !filter.as_ref().is_some_and(Filter::names_evaluation);
        let view = filter.as_ref().map(|filter| match &self.contradictions {
            Some(known) => session.view_with(filter, Arc::clone(known)),
            None => session.view(filter),
        });
        self.contradictions = view.as_ref().map(FilterView::contradictions);
        let questions = session.questions(rubric);
        let settled = session.settled_by(&questions);
        let end = session.pairs.len().min(self.next + pairs);
        if self.next == 0 && places {
            // Room for all of them at once: growing would move them, and leave the holes behind.
            self.places[1].reserve_exact(session.pairs.len());
        }
        for (at, pair) in session.pairs.as_slice()[self.next..end].iter().enumerate() {
            if let Some(view) = &view {
                if !view.pair(pair) {
                    continue;
                }
                self.matching.insert_place(self.next + at);
            }
            self.done += session.judged_on(&pair.id, rater, rubric);
            if places && let Some(place) = session.place(self.next + at, pair, rater, *order, &questions, &settled) {
                let part = match place.part {
                    QueuePart::Begun => 0,
                    QueuePart::Fresh => 1,
                    QueuePart::Skipped => 2,
                };
                if matches!(order, QueueOrder::Uncertain | QueueOrder::BestWorst) {
                    self.scored += usize::from(session.score_gap(pair).is_some());
                }
                self.places[part].push(place);
            }
        }
        self.next = end;
        end == session.pairs.len()
    }

    /// The queue, after the last pair.
    #[must_use]
    pub fn finish(mut self, session: &Session) -> BuiltQueue {
        while !self.advance(session, usize::MAX / 2) {}
        let Self { request: QueueRequest { rater, order, rubric, filter }, mut matching, done, scored, .. } = self;
        if let Some(filter) = filter.as_ref().filter(|filter| filter.names_evaluation()) {
            let view = session.view(filter);
            for pair in session.held_out_pairs().iter().filter(|pair| view.pair(pair)) {
                matching.insert(session, &pair.id);
            }
            let mut queue = session.blind_queue(&rater);
            queue.retain(|pair| matching.contains(session, pair));
            let done = matching.len() - queue.len();
            return BuiltQueue { queue, matching, done, scored: 0 };
        }
        // Repeats find their room among all new pairs, those that do not match too.
        let repeats = filter.is_some() && session.repeats.is_some_and(|r| r.share > 0.0);
        let queue = match order {
            _ if repeats => {
                let mut queue = session.queue_by(&rater, order, &rubric);
                queue.retain(|pair| matching.contains(session, pair));
                queue
            }
            QueueOrder::Disputed => {
                let disputes = session.disputes_on(rubric.criterion()).into_iter().map(|dispute| dispute.pair);
                disputes.filter(|pair| filter.is_none() || matching.contains(session, pair)).collect()
            }
            QueueOrder::Contested => {
                let mut queue = session.reviews(&rater, rubric.criterion());
                queue.retain(|pair| filter.is_none() || matching.contains(session, pair));
                queue
            }
            QueueOrder::Arrival | QueueOrder::Random | QueueOrder::Uncertain | QueueOrder::BestWorst => {
                let [begun, fresh, skipped] = self.places;
                let repeats = session.due_repeats(&rater, rubric.criterion());
                let fresh = repeats.among(sorted(session, fresh));
                // A copy of most of the queue is made only where something comes before it.
                let mut queue = sorted(session, begun);
                if queue.is_empty() {
                    queue = fresh;
                } else {
                    queue.extend(fresh);
                }
                queue.extend(sorted(session, skipped));
                queue
            }
        };
        BuiltQueue { queue, matching, done, scored }
    }
}

impl Session {
    /// The pairs a rater still has to judge, in order of arrival.
    #[must_use]
    pub fn queue(&self, rater: &Rater) -> Vec<PairId> {
        self.queue_in(rater, QueueOrder::Arrival)
    }

    /// The pairs a rater still has to judge overall: see [`Session::queue_by`].
    #[must_use]
    pub fn queue_in(&self, rater: &Rater, order: QueueOrder) -> Vec<PairId> {
        self.queue_by(rater, order, &RubricPass::Overall)
    }

    /// The pairs a rater still has to judge: new ones in `order` (those without scores after those with), repeats among
    /// them, then the skipped ones, longest ago first. Under [`RubricPass::All`] a pair that is judged by some of the
    /// criteria comes before all others. Pairs imported with their verdict are left out.
    #[must_use]
    pub fn queue_by(&self, rater: &Rater, order: QueueOrder, rubric: &RubricPass) -> Vec<PairId> {
        let request = QueueRequest { rater: rater.clone(), order, rubric: rubric.clone(), filter: None };
        QueueBuild::new(request).finish(self).queue
    }
}

/// Ids in the order of the places.
fn sorted(session: &Session, mut part: Vec<Place>) -> Vec<PairId> {
    // Places differ: each has its own number among the pairs.
    part.sort_unstable_by(Place::cmp);
    part.into_iter().map(|place| session.pairs[place.at as usize].id.clone()).collect()
}
