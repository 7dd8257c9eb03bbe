//! Pairs of evaluations: held out of everything that trains.
//!
//! This is the one place that keeps them apart. Their prompts, answers and pairs are not among the session's, so that no
//! queue, training row, export, selection or agreement meets them; only who asks for one by its id, or for an evaluation,
//! finds it. Verdicts on them are ordinary records: [`Session::is_held_out`] tells them from those that train.

use super::super::contest::Contestant;
use super::super::filter::Filter;
use super::super::ids::{PairId, Rater, RunId};
use super::super::posed::{BlindSet, EVALUATION, PosedPair, Revealed};
use super::super::text::Pair;
use super::super::verdict::Choice;
use super::Session;
use std::sync::Arc;

impl Session {
    /// Adds a pair of an evaluation with its prompt and answers; an earlier one with the same id stays.
    pub fn pose(&mut self, posed: PosedPair) {
        let PosedPair { pair, prompt, answers, .. } = &posed;
        if pair.strategy != EVALUATION || self.held_out.posed.contains_key(&pair.id) {
            return;
        }
        let held_out = Arc::make_mut(&mut self.held_out);
        held_out.prompts.entry(prompt.id.clone()).or_insert_with(|| prompt.clone());
        for answer in answers {
            held_out.completions.entry(answer.id.clone()).or_insert_with(|| answer.clone());
        }
        held_out.add(Arc::new(pair.clone()));
        held_out.posed.insert(pair.id.clone(), posed);
    }

    /// Whether a pair belongs to an evaluation: no verdict on it trains.
    #[must_use]
    pub fn is_held_out(&self, pair: &PairId) -> bool {
        self.held_out.at.contains_key(pair)
    }

    /// The pairs of evaluations, in order of arrival.
    #[must_use]
    pub fn held_out_pairs(&self) -> &[Arc<Pair>] {
        &self.held_out.pairs
    }

    /// The pairs that a filter may match: those of evaluations only where it names one.
    pub fn pairs_for(&self, filter: Option<&Filter>) -> impl Iterator<Item = &Arc<Pair>> {
        let blind = filter.is_some_and(Filter::names_evaluation);
        self.pairs.iter().chain(if blind { self.held_out.pairs.as_slice() } else { &[] })
    }

    /// The evaluation of a pair.
    #[must_use]
    pub fn evaluation_of(&self, pair: &PairId) -> Option<&RunId> {
        self.held_out.posed.get(pair).map(|posed| &posed.run)
    }

    /// The pairs of evaluations that a rater still has to judge, in order of arrival, then those that were put off.
    #[must_use]
    pub fn blind_queue(&self, rater: &Rater) -> Vec<PairId> {
        let (mut fresh, mut put_off) = (Vec::new(), Vec::new());
        for pair in &self.held_out.pairs {
            match self.verdict_of(&pair.id, rater).map(|(seq, v)| (seq, v.choice)) {
                None => fresh.push(pair.id.clone()),
                Some((seq, Choice::Skip)) => put_off.push((seq, pair.id.clone())),
                Some(_) => {}
            }
        }
        put_off.sort();
        fresh.extend(put_off.into_iter().map(|(_, pair)| pair));
        fresh
    }

    /// How far a rater has judged each evaluation's pairs. Names appear once all of them are judged.
    #[must_use]
    pub fn blind_sets(&self, rater: &Rater) -> Vec<BlindSet> {
        let mut runs: Vec<&RunId> = Vec::new();
        for pair in &self.held_out.pairs {
            if let Some(run) = self.evaluation_of(&pair.id).filter(|run| !runs.contains(run)) {
                runs.push(run);
            }
        }
        runs.into_iter().map(|run| self.blind_set(run, rater)).collect()
    }

    fn blind_set(&self, run: &RunId, rater: &Rater) -> BlindSet {
        let own = self.held_out.pairs.iter().filter_map(|pair| self.held_out.posed.get(&pair.id));
        let own: Vec<&PosedPair> = own.filter(|posed| posed.run == *run).collect();
        let scores: Vec<f64> =
            own.iter().filter_map(|posed| posed.score(self.verdict_of(&posed.pair.id, rater)?.1.choice)).collect();
        let count = |score: f64| scores.iter().filter(|s| **s == score).count();
        let name = |side: Contestant| {
            let model = |posed: &&PosedPair| posed.answers[usize::from(posed.first != side)].model.to_string();
            own.first().map(model).unwrap_or_default()
        };
        let revealed = (scores.len() == own.len() && !own.is_empty()).then(|| Revealed {
            names: Contestant::BOTH.map(name),
            wins: [count(1.0), count(0.0)],
            ties: count(0.5),
        });
        BlindSet { run: run.clone(), pairs: own.len(), judged: scores.len(), revealed }
    }
}
