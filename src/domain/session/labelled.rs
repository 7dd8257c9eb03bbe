//! A session's pairs, each with everything that was said of it: for exports that keep it.
//!
//! Owns gathering it. Refuses to decide what becomes a training row: see [`Session::rows`].

use super::super::ids::{PairId, Rater, RunId};
use super::super::rubric::RowChoice;
use super::super::text::{Completion, Pair, Prompt};
use super::super::verdict::{Side, Verdict};
use super::super::votes::{Adjudication, Aggregate};
use super::collect::Adjudicated;
use super::{Correction, Session};
use std::collections::{BTreeSet, HashMap, HashSet};

/// A vote that was not undone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairVote<'a> {
    /// The vote.
    pub verdict: &'a Verdict,
    /// Whether it is the rater's latest on its question: only that one counts, and no repeat does.
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
    /// Every vote by the criteria that are meant, oldest first, earlier ones of a rater too.
    pub votes: Vec<PairVote<'a>>,
    /// Each rater's note, in order of their names.
    pub notes: Vec<(&'a Rater, &'a str)>,
    /// Each rater's latest correction of its answers: the answer that was corrected, who, and the better text.
    pub corrections: Vec<(Side, &'a Rater, &'a str)>,
    /// Who settled it, the latest by each criterion.
    pub adjudications: Vec<&'a Adjudication>,
    /// What it comes to. Of a mix of criteria: overall, with the lowest agreement of its parts.
    pub found: Aggregate,
}

impl Session {
    /// Every pair that is meant and whose prompt and answers are known, in order of arrival, and how many the filter left out.
    /// With `every_criterion` the votes by all of them are there, and not those of the rubric alone.
    #[must_use]
    pub fn labelled<'a>(&'a self, choice: &RowChoice, every_criterion: bool) -> (Vec<LabelledPair<'a>>, usize) {
        let outcomes = self.outcomes_on(choice.rubric.single().flatten());
        let parts: Vec<HashMap<&PairId, Aggregate>> = match choice.rubric.single() {
            Some(_) => Vec::new(),
            None => choice.rubric.parts().map(|(criterion, _)| self.outcomes_on(criterion)).collect(),
        };
        let found = |id: &PairId| {
            let agreements = parts.iter().map(|part| part[id].agreement);
            Aggregate { agreement: agreements.fold(outcomes[id].agreement, f64::min), ..outcomes[id] }
        };
        let mut notes: HashMap<&PairId, Vec<(&Rater, &str)>> = HashMap::new();
        for ((pair, rater), text) in &self.notes {
            notes.entry(pair).or_default().push((rater, text));
        }
        let mut corrections: HashMap<&PairId, Vec<&Correction>> = HashMap::new();
        for correction in self.corrected() {
            corrections.entry(&correction.pair).or_default().push(correction);
        }
        let meant = |criterion: Option<&str>| every_criterion || choice.rubric.has(criterion);
        let mut settled: HashMap<&PairId, BTreeSet<Option<&str>>> = HashMap::new();
        for Adjudicated { adjudication, .. } in self.adjudications.values().filter(|a| !a.undone) {
            let by = adjudication.criterion.as_deref();
            if meant(by) {
                settled.entry(&adjudication.pair).or_default().insert(by);
            }
        }
        let runs: HashSet<&str> = self.runs.iter().map(RunId::as_str).collect();
        let adapter = |c: &'a Completion| c.model.rsplit_once('+').map(|(_, run)| run).filter(|run| runs.contains(run));
        let view = choice.filter.as_ref().map(|filter| self.view(filter));
        let (mut out, mut filtered) = (Vec::new(), 0);
        for pair in &self.pairs {
            let (Some((a, b)), Some(prompt)) = (self.sides(pair), self.prompt(&pair.prompt)) else { continue };
            if view.as_ref().is_some_and(|view| !view.pair(pair)) {
                filtered += 1;
                continue;
            }
            let given = self.verdicts.latest_on(&pair.id).filter(|(_, judged)| !judged.undone);
            let given = given.map(|(seq, judged)| (seq, judged.verdict));
            let mut given: Vec<(u64, &Verdict)> = given.filter(|(_, v)| meant(v.asked.criterion.as_deref())).collect();
            given.reverse();
            let questions: BTreeSet<Option<&str>> = given.iter().map(|(_, v)| v.asked.criterion.as_deref()).collect();
            let latest: HashSet<u64> =
                questions.into_iter().flat_map(|by| self.counting_on(&pair.id, by)).map(|(seq, _)| seq).collect();
            let settled = settled.remove(&pair.id).unwrap_or_default();
            out.push(LabelledPair {
                pair,
                prompt,
                a,
                b,
                adapters: (adapter(a), adapter(b)),
                votes: given
                    .into_iter()
                    .map(|(seq, verdict)| PairVote { verdict, latest: latest.contains(&seq) })
                    .collect(),
                notes: notes.remove(&pair.id).unwrap_or_default(),
                corrections: corrections
                    .remove(&pair.id)
                    .into_iter()
                    .flatten()
                    .map(|c| (if c.completion == pair.a { Side::A } else { Side::B }, &c.rater, c.text.as_str()))
                    .collect(),
                adjudications: settled
                    .into_iter()
                    .filter_map(|by| self.adjudication_on(&pair.id, by).map(|(_, adjudication)| adjudication))
                    .collect(),
                found: found(&pair.id),
            });
        }
        (out, filtered)
    }
}
