//! Several labels on a pair: the session's rule and aggregation, outcomes of all pairs, disputes and adjudications.

use super::super::agreement::item_agreement;
use super::super::canonical::canonical_json;
use super::super::ids::{PairId, Rater};
use super::super::verdict::Choice;
use super::super::votes::{
    Adjudication, Aggregate, Aggregation, CollectionSettings, ItemState, Outcome, VotedPair, adjudicated, aggregate,
    nominal,
};
use super::Session;
use std::collections::{HashMap, HashSet};

#[cfg(test)]
pub(super) mod tests;

/// An adjudication, and whether it still counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Adjudicated {
    pub(super) adjudication: Adjudication,
    pub(super) undone: bool,
    pub(super) at: u64,
    pub(super) toggled: u64,
}

/// A pair whose raters disagree.
#[derive(Debug, Clone, PartialEq)]
pub struct Dispute {
    /// The pair.
    pub pair: PairId,
    /// How many of the pairs of votes agree, in 0..=1.
    pub agreement: f64,
    /// The votes.
    pub votes: usize,
}

/// By time; of two at one time the same one is later in every copy of the session.
fn latest(x: &Adjudicated, y: &Adjudicated) -> std::cmp::Ordering {
    x.at.cmp(&y.at).then_with(|| canonical_json(&x.adjudication).cmp(&canonical_json(&y.adjudication)))
}

impl Session {
    /// Sets how labels are collected from here on.
    pub fn configure(&mut self, settings: CollectionSettings) {
        self.settings = Some(settings);
    }

    /// How labels are collected; none where it was never set: then every rater judges every pair once.
    #[must_use]
    pub fn settings(&self) -> Option<CollectionSettings> {
        self.settings
    }

    /// Adds an adjudication under its record's sequence number. The rater's redo stack is cleared.
    pub fn adjudicate(&mut self, seq: u64, adjudication: Adjudication) {
        self.push_done(&adjudication.rater, seq);
        let at = self.clock.stamp();
        self.adjudications.insert(seq, Adjudicated { adjudication, undone: false, at, toggled: 0 });
    }

    /// The latest counting adjudication of a pair overall, with its number.
    #[must_use]
    pub fn adjudication_of(&self, pair: &PairId) -> Option<(u64, &Adjudication)> {
        self.adjudication_on(pair, None)
    }

    /// The latest counting adjudication of a pair by a criterion, none for overall, with its number.
    #[must_use]
    pub fn adjudication_on(&self, pair: &PairId, criterion: Option<&str>) -> Option<(u64, &Adjudication)> {
        let by = |a: &Adjudicated| !a.undone && a.adjudication.criterion.as_deref() == criterion;
        let counting = self.adjudications.iter().filter(|(_, a)| by(a) && a.adjudication.pair == *pair);
        counting.max_by(|x, y| latest(x.1, y.1)).map(|(seq, a)| (*seq, &a.adjudication))
    }

    /// The pairs that an adjudication settled by a criterion, none for overall.
    pub(super) fn adjudicated_pairs(&self, criterion: Option<&str>) -> HashSet<&PairId> {
        let by = |a: &&Adjudicated| !a.undone && a.adjudication.criterion.as_deref() == criterion;
        self.adjudications.values().filter(by).map(|a| &a.adjudication.pair).collect()
    }

    /// The adjudication that a record of that number made, undone or not.
    #[must_use]
    pub fn adjudication_at(&self, seq: u64) -> Option<&Adjudication> {
        self.adjudications.get(&seq).map(|a| &a.adjudication)
    }

    /// Every pair with its counting votes overall, in order of arrival.
    #[must_use]
    pub fn voted(&self) -> Vec<VotedPair<'_>> {
        self.voted_on(None)
    }

    /// Every pair with its counting votes by a criterion, none for overall, in order of arrival.
    #[must_use]
    pub fn voted_on(&self, criterion: Option<&str>) -> Vec<VotedPair<'_>> {
        let one = |pair: &super::Pair| -> Vec<(&Rater, Choice)> {
            self.counting_on(&pair.id, criterion).into_iter().map(|(_, v)| (&v.rater, v.choice)).collect()
        };
        self.pairs.iter().map(|p| VotedPair { prompt: &p.prompt, a: &p.a, b: &p.b, votes: one(p) }).collect()
    }

    /// The outcome of every pair overall by the session's aggregation, adjudications first.
    #[must_use]
    pub fn outcomes(&self) -> HashMap<&PairId, Aggregate> {
        self.outcomes_on(None)
    }

    /// The outcome of every pair by a criterion, none for overall. Models' votes count beside people's only where the
    /// aggregation estimates how far each rater is to be trusted; otherwise they decide the pairs that nobody else judged.
    #[must_use]
    pub fn outcomes_on(&self, criterion: Option<&str>) -> HashMap<&PairId, Aggregate> {
        let how = self.settings.unwrap_or_default().aggregation;
        let mut out = self.aggregated(&self.pairs.iter().map(|pair| &**pair).collect::<Vec<_>>(), how, criterion);
        let by = |a: &&Adjudicated| !a.undone && a.adjudication.criterion.as_deref() == criterion;
        let mut decisions: Vec<&Adjudicated> = self.adjudications.values().filter(by).collect();
        decisions.sort_by(|x, y| latest(x, y));
        for Adjudicated { adjudication, .. } in decisions {
            if let (Some(found), Some(decided)) = (out.get_mut(&adjudication.pair), adjudicated(adjudication.choice)) {
                *found = decided;
            }
        }
        out
    }

    /// As [`Session::outcomes_on`] without adjudications, of the pairs that have a verdict: the others have no outcome.
    pub(super) fn outcomes_of_judged(&self, criterion: Option<&str>) -> HashMap<&PairId, Aggregate> {
        let how = self.settings.unwrap_or_default().aggregation;
        let pairs: Vec<&super::Pair> = match how {
            Aggregation::Majority | Aggregation::MeanStrength => self.judged_pairs(1).collect(),
            // What is learned of the raters is learned from all pairs.
            Aggregation::DawidSkene | Aggregation::BradleyTerry => self.pairs.iter().map(|pair| &**pair).collect(),
        };
        self.aggregated(&pairs, how, criterion)
    }

    fn aggregated<'a>(
        &'a self,
        pairs: &[&'a super::Pair],
        how: Aggregation,
        criterion: Option<&str>,
    ) -> HashMap<&'a PairId, Aggregate> {
        let votes = |pair: &super::Pair| -> Vec<(&'a Rater, Choice)> {
            let counting = match how {
                Aggregation::Majority | Aggregation::MeanStrength => self.deciding_on(&pair.id, criterion),
                Aggregation::DawidSkene | Aggregation::BradleyTerry => self.counting_on(&pair.id, criterion),
            };
            counting.into_iter().map(|(_, v)| (&v.rater, v.choice)).collect()
        };
        let voted: Vec<VotedPair<'_>> =
            pairs.iter().map(|p| VotedPair { prompt: &p.prompt, a: &p.a, b: &p.b, votes: votes(p) }).collect();
        pairs.iter().map(|p| &p.id).zip(aggregate(&voted, how)).collect()
    }

    /// A pair's outcome; [`Session::outcomes`] is faster for many.
    #[must_use]
    pub fn outcome(&self, pair: &PairId) -> Outcome {
        self.outcomes().get(pair).map_or(Outcome::Open, |found| found.outcome)
    }

    /// Where a pair stands by the session's rule; none without a rule.
    #[must_use]
    pub fn item_state(&self, pair: &PairId) -> Option<ItemState> {
        let settings = self.settings?;
        if self.adjudication_of(pair).is_some() {
            return Some(ItemState::Done);
        }
        let votes: Vec<Choice> = self.deciding_on(pair, None).into_iter().map(|(_, v)| v.choice).collect();
        Some(settings.rule.state(&votes))
    }

    /// The pairs with at least so many verdicts of any kind, in order of arrival.
    pub(super) fn judged_pairs(&self, least: usize) -> impl Iterator<Item = &super::Pair> {
        let mut places: Vec<usize> = self.verdicts.pairs(least).filter_map(|id| self.pairs.place(id)).collect();
        places.sort_unstable();
        places.into_iter().map(|at| &*self.pairs[at])
    }

    /// The pairs disputed overall: see [`Session::disputes_on`].
    #[must_use]
    pub fn disputes(&self) -> Vec<Dispute> {
        self.disputes_on(None)
    }

    /// The pairs disputed by a criterion, none for overall, lowest agreement first. Without a rule those with contradicting
    /// votes of two or more raters.
    #[must_use]
    pub fn disputes_on(&self, criterion: Option<&str>) -> Vec<Dispute> {
        let settled = self.adjudicated_pairs(criterion);
        // A dispute takes two verdicts: most pairs of a long session have none, and screens ask often.
        let mut out: Vec<Dispute> = self
            .judged_pairs(2)
            .filter(|pair| !settled.contains(&pair.id))
            .filter_map(|pair| {
                let choices: Vec<Choice> =
                    self.deciding_on(&pair.id, criterion).into_iter().map(|(_, v)| v.choice).collect();
                let labels: Vec<i64> = choices.iter().filter_map(|c| nominal(*c)).collect();
                let agreement = item_agreement(&labels)?;
                let disputed = match self.settings {
                    Some(settings) => settings.rule.state(&choices) == ItemState::Disputed,
                    None => agreement < 1.0,
                };
                disputed.then(|| Dispute { pair: pair.id.clone(), agreement, votes: labels.len() })
            })
            .collect();
        // Stable: equal agreement stays in order of arrival.
        out.sort_by(|x, y| x.agreement.total_cmp(&y.agreement));
        out
    }
}
