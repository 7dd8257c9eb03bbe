//! A session's pairs, each with everything that was said of it: for exports that keep it.
//!
//! Owns gathering it. Refuses to decide what becomes a training row: see [`Session::rows`].

use super::super::ids::{PairId, Rater, RunId};
use super::super::text::{Completion, Pair, Prompt};
use super::super::verdict::Verdict;
use super::super::votes::{Adjudication, Aggregate};
use super::Session;
use std::collections::{HashMap, HashSet};

/// A vote that was not undone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairVote<'a> {
    /// The vote.
    pub verdict: &'a Verdict,
    /// Whether it is the rater's latest by its criterion: only that one counts.
    pub latest: bool,
}

/// A pair and what was said of it.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelledPair<'a> {
    /// The pair.
    pub pair: &'a Pair,
    /// Its prompt.
    pub prompt: &'a Prompt,
    /// The first answer.
    pub a: &'a Completion,
    /// The second answer.
    pub b: &'a Completion,
    /// The runs whose adapter wrote `a` and `b`, by the models' names.
    pub adapters: (Option<&'a str>, Option<&'a str>),
    /// Every vote, oldest first, earlier ones of a rater too.
    pub votes: Vec<PairVote<'a>>,
    /// Each rater's note, in order of their names.
    pub notes: Vec<(&'a Rater, &'a str)>,
    /// Who settled it, if anybody did.
    pub adjudication: Option<&'a Adjudication>,
    /// What it all comes to.
    pub found: Aggregate,
}

impl Session {
    /// Every pair whose prompt and answers are known, in order of arrival.
    #[must_use]
    pub fn labelled<'a>(&'a self) -> Vec<LabelledPair<'a>> {
        let outcomes = self.outcomes();
        let mut notes: HashMap<&PairId, Vec<(&Rater, &str)>> = HashMap::new();
        for ((pair, rater), text) in &self.notes {
            notes.entry(pair).or_default().push((rater, text));
        }
        let settled = self.adjudicated_pairs(None);
        let runs: HashSet<&str> = self.runs.iter().map(RunId::as_str).collect();
        let mut one = |pair: &'a Pair| {
            let (a, b) = self.sides(pair)?;
            let adapter =
                |c: &'a Completion| c.model.rsplit_once('+').map(|(_, run)| run).filter(|run| runs.contains(run));
            let criteria: HashSet<Option<&str>> =
                self.verdicts_on(&pair.id).map(|j| j.verdict.asked.criterion.as_deref()).collect();
            let counting = criteria.into_iter().flat_map(|criterion| self.counting_on(&pair.id, criterion));
            let latest: HashSet<u64> = counting.map(|(seq, _)| seq).collect();
            let seqs = self.verdicts_of_pair.get(&pair.id).into_iter().flatten();
            let votes = seqs.filter_map(|seq| {
                let judged = self.verdicts.get(seq).filter(|judged| !judged.undone)?;
                Some(PairVote { verdict: &judged.verdict, latest: latest.contains(seq) })
            });
            Some(LabelledPair {
                pair,
                prompt: self.prompt(&pair.prompt)?,
                a,
                b,
                adapters: (adapter(a), adapter(b)),
                votes: votes.collect(),
                notes: notes.remove(&pair.id).unwrap_or_default(),
                adjudication: settled
                    .contains(&pair.id)
                    .then(|| self.adjudication_of(&pair.id))
                    .flatten()
                    .map(|(_, a)| a),
                found: outcomes[&pair.id],
            })
        };
        self.pairs.iter().filter_map(&mut one).collect()
    }
}
