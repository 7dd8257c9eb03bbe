//! The training rows of a session, from verdicts, corrections and imported files.
//!
//! Owns the rules. Refuses to resolve conflicts between raters: such pairs are left out and counted.

use super::super::conversation::PairTurns;
use super::super::ids::{CompletionId, PairId, PromptId, Rater};
use super::super::method::{Method, Needs};
use super::super::param::{ParamKind, Params};
use super::super::rubric::{RowChoice, Rubric};
use super::super::text::{Completion, Finish, Pair, PairRow, Prompt, PromptBody, RatedRow, SftBody, SftRow, TextSet};
use super::super::verdict::{Choice, Side, Verdict};
use super::super::votes::{Aggregate, Aggregation, Outcome};
use super::{Correction, FilterView, Judged, Session, later};
use std::collections::{HashMap, HashSet};

/// Pairs that a rater must have judged twice before a slip rate is estimated.
const MIN_JUDGED_TWICE: usize = 10;

/// Judged pairs that yield no training row, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LeftOut {
    /// Ties.
    pub ties: usize,
    /// Both bad.
    pub both_bad: usize,
    /// Conflicting votes.
    pub unresolved: usize,
    /// Both texts are equal up to white space.
    pub equal: usize,
    /// A text is empty.
    pub empty: usize,
    /// Judged by some criteria of a mix only.
    pub incomplete: usize,
    /// Judged pairs that do not match the filter. They are not part of the total.
    pub filtered: usize,
}

impl LeftOut {
    /// The total.
    #[must_use]
    pub fn total(&self) -> usize {
        self.ties + self.both_bad + self.unresolved + self.equal + self.empty + self.incomplete
    }
}

/// How much of each kind of training data a session has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Supply {
    /// Verdicts that count.
    pub verdicts: usize,
    /// How many of them were given before both answers had ended.
    pub partial: usize,
    /// Preference pairs made from them and from corrections: [`Session::rows`].
    pub pairs: usize,
    /// How many of them are corrections over their originals.
    pub corrected_pairs: usize,
    /// Judged pairs that yield none.
    pub left: LeftOut,
    /// Examples for supervised fine-tuning: [`Session::sft_rows`].
    pub examples: usize,
    /// How many of them are corrections.
    pub corrections: usize,
    /// Good answers: [`Session::rated_rows`].
    pub good: usize,
    /// Bad answers.
    pub bad: usize,
    /// Prompts.
    pub prompts: usize,
    /// Examples that can be mixed in, whatever the filter: [`Session::sft_rows`].
    pub mixed: usize,
    /// Texts to measure forgetting on: [`Session::probe_rows`].
    pub probe: usize,
}

impl Supply {
    /// Rows of the kind that a method needs.
    #[must_use]
    pub fn rows(&self, needs: Needs) -> usize {
        match needs {
            Needs::Pairs => self.pairs,
            Needs::Examples => self.examples,
            Needs::Ratings => self.good + self.bad,
            Needs::Prompts => self.prompts,
        }
    }

    /// The first required input that a run of `method` with these hyper-parameters would lack; none when it can start.
    #[must_use]
    pub fn lacks(&self, method: &Method, params: &Params) -> Option<Lack> {
        let enabled = |key: &str| params.f64(key) > 0.0;
        if self.rows(method.needs) == 0 {
            Some(Lack::Rows(method.needs))
        } else if enabled("mix_ratio") && self.mixed == 0 {
            Some(Lack::Mix)
        } else if enabled("probe_steps") && self.probe == 0 {
            Some(Lack::Probe)
        } else {
            unscored(method, params).then_some(Lack::Scorer)
        }
    }
}

/// A required input of a training run that is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// What the method learns from.
    Rows(Needs),
    /// Examples for supervised fine-tuning, which `mix_ratio` mixes in.
    Mix,
    /// Texts on which `probe_steps` measures forgetting.
    Probe,
    /// A reward model or checks: nothing scores the answers.
    Scorer,
}

/// Whether a method that scores its own answers has neither a reward model nor checks.
fn unscored(method: &Method, params: &Params) -> bool {
    let rows = method.rows();
    let mut scorers = rows.iter().filter(|row| row.kind == ParamKind::Checks || row.key == "reward_model").peekable();
    scorers.peek().is_some() && scorers.all(|row| params.text(row.key).is_empty())
}

impl Session {
    /// The training rows from verdicts overall, in the pairs' order, then those from corrections, and what was left out.
    #[must_use]
    pub fn rows(&self) -> (Vec<PairRow>, LeftOut) {
        self.rows_of(&RowChoice::default())
    }

    /// The training rows that are meant, in the pairs' order, and what was left out.
    #[must_use]
    pub fn rows_of(&self, choice: &RowChoice) -> (Vec<PairRow>, LeftOut) {
        let mut rows = Vec::new();
        let mut left_out = LeftOut::default();
        let criterion = choice.rubric.single();
        let raters: HashSet<&Rater> = self.verdicts.iter().map(|(_, judged)| &judged.verdict.rater).collect();
        let slip_rates: HashMap<&Rater, f64> = match criterion {
            Some(c) => raters.into_iter().filter_map(|r| Some((r, self.slip_rate_by(r, c)?))).collect(),
            None => HashMap::new(),
        };
        let view = choice.filter.as_ref().map(|filter| self.view(filter));
        let decisions = self.decisions(&choice.rubric);
        for pair in &self.pairs {
            let decision = decisions[&pair.id];
            if decision != Decision::Aggregated(OPEN) && view.as_ref().is_some_and(|view| !view.pair(pair)) {
                left_out.filtered += 1;
                continue;
            }
            let Decision::Aggregated(found) = decision else {
                left_out.incomplete += 1;
                continue;
            };
            let (side, margin) = match found.outcome {
                Outcome::Open => continue,
                Outcome::Tie => {
                    left_out.ties += 1;
                    continue;
                }
                Outcome::BothBad => {
                    left_out.both_bad += 1;
                    continue;
                }
                Outcome::Unresolved => {
                    left_out.unresolved += 1;
                    continue;
                }
                Outcome::Prefer(side, margin) => (side, margin),
            };
            let (Some((a, b)), Some(prompt)) = (self.sides(pair), self.prompt(&pair.prompt)) else { continue };
            if is_empty(&a.text) || is_empty(&b.text) {
                left_out.empty += 1;
                continue;
            }
            if same_words(&a.text, &b.text) {
                left_out.equal += 1;
                continue;
            }
            let (chosen, rejected) = match side {
                Side::A => (a, b),
                Side::B => (b, a),
            };
            rows.push(PairRow {
                turns: PairTurns::of_replies(chosen.into(), rejected.into()),
                pair: pair.id.clone(),
                prompt_id: prompt.id.clone(),
                prompt: prompt.body.clone(),
                chosen: chosen.text.to_string(),
                rejected: rejected.text.to_string(),
                margin: Some(
                    Some(margin)
                        .filter(|_| criterion != Some(None))
                        .or_else(|| self.stated_margin(&pair.id, side))
                        .unwrap_or(margin),
                ),
                // A mix knows margins alone: shares of votes on different questions have no mean.
                agreed: criterion.and_then(|by| {
                    self.soft_label(pair, side, found, by).or_else(|| self.reliability(&pair.id, &slip_rates, by))
                }),
                strategy: None,
                rater: None,
            });
        }
        // A correction says which text is better overall, not by a criterion.
        if criterion == Some(None) {
            let is_meant =
                |pair: &PairId| self.pair(pair).is_some_and(|pair| view.as_ref().is_none_or(|v| v.pair(pair)));
            self.add_correction_rows(&mut rows, &mut left_out, is_meant);
        }
        (rows, left_out)
    }

    /// The probability that `side` is the better one, as the session's aggregation says; none where it is certain.
    fn soft_label(&self, pair: &Pair, side: Side, found: Aggregate, by: Option<&str>) -> Option<f64> {
        let by_model = matches!(
            self.settings().unwrap_or_default().aggregation,
            Aggregation::DawidSkene | Aggregation::BradleyTerry
        );
        match self.adjudication_on(&pair.id, by) {
            Some(_) => None,
            None if by_model => Some(found.agreement).filter(|p| *p < 1.0),
            None => self.agreed(&pair.id, side, by),
        }
    }

    /// `winner`'s share of the votes for either side; none when no vote is for the other side.
    fn agreed(&self, pair: &PairId, winner: Side, by: Option<&str>) -> Option<f64> {
        let (mut with, mut against) = (0usize, 0usize);
        for (_, verdict) in self.deciding_on(pair, by) {
            match verdict.choice {
                Choice::Prefer(side, _) if side == winner => with += 1,
                Choice::Prefer(..) => against += 1,
                Choice::Tie | Choice::BothBad | Choice::Skip => {}
            }
        }
        (against > 0).then(|| with as f64 / (with + against) as f64)
    }

    /// The estimated probability that the only rater of a pair did not slip; none with several raters, without an
    /// estimate, or for a slip rate of 0.
    fn reliability(&self, pair: &PairId, slip_rates: &HashMap<&Rater, f64>, by: Option<&str>) -> Option<f64> {
        let preferences = |(_, verdict): &(u64, &Verdict)| matches!(verdict.choice, Choice::Prefer(..));
        let votes: Vec<_> = self.deciding_on(pair, by).into_iter().filter(preferences).collect();
        let [(_, verdict)] = votes.as_slice() else { return None };
        slip_rates.get(&verdict.rater).filter(|e| **e > 0.0).map(|e| 1.0 - e)
    }

    /// A rater's slip rate e in 0..=0.5, estimated from the pairs that the rater judged twice overall. The two judgements
    /// differ where exactly one of them is a slip, in a share d = 2e(1 − e) of pairs, so that e = (1 − √(1 − 2d))/2.
    /// None before ten pairs were judged twice.
    #[must_use]
    pub fn slip_rate(&self, rater: &Rater) -> Option<f64> {
        self.slip_rate_by(rater, None)
    }

    /// As [`Session::slip_rate`], by a criterion.
    #[must_use]
    pub fn slip_rate_by(&self, rater: &Rater, criterion: Option<&str>) -> Option<f64> {
        let (mut twice, mut differing) = (0usize, 0usize);
        for pair in self.verdicts.pairs(1).filter(|pair| !self.is_held_out(pair)) {
            let prefers = |v: &Verdict| matches!(v.choice, Choice::Prefer(..));
            let Some((first, second)) = self.judged_twice(pair, rater, criterion, prefers) else { continue };
            if let (Choice::Prefer(x, _), Choice::Prefer(y, _)) = (first.choice, second.choice) {
                twice += 1;
                differing += usize::from(x != y);
            }
        }
        let d = (differing as f64 / twice.max(1) as f64).min(0.5);
        (twice >= MIN_JUDGED_TWICE).then(|| (1.0 - (1.0 - 2.0 * d).sqrt()) / 2.0)
    }

    /// A rater's two judgements of a pair by a criterion, among those that `are` of use: the one that counts and its
    /// repeat or, where the pair was not asked again unmarked, the first two.
    pub(super) fn judged_twice(
        &self,
        pair: &PairId,
        rater: &Rater,
        criterion: Option<&str>,
        are: impl Fn(&Verdict) -> bool,
    ) -> Option<(&Verdict, &Verdict)> {
        let by = |v: &Verdict| v.rater == *rater && v.asked.criterion.as_deref() == criterion && are(v);
        let mut all: Vec<Judged<'_>> = self.verdicts_on(pair).filter(|j| !j.undone && by(j.verdict)).collect();
        all.retain(|j| !self.differs(j.verdict));
        all.sort_by(later);
        let given = || all.iter().map(|j| j.verdict);
        let repeat = given().find(|v| v.asked.pass > 0);
        let mut votes = given().filter(|v| v.votes_on(criterion) && !v.asked.review);
        match repeat {
            Some(repeat) => Some((votes.next_back()?, repeat)),
            None => Some((votes.next()?, votes.next()?)),
        }
    }

    /// The examples for supervised fine-tuning: imported ones in order of arrival, then corrections. A rater's latest
    /// correction of an answer counts; an empty one withdraws the earlier ones.
    #[must_use]
    pub fn sft_rows(&self) -> Vec<SftRow> {
        self.sft_rows_of(&RowChoice::default())
    }

    /// The examples that match the filter. A correction matches if the pair does in which it was written.
    #[must_use]
    pub fn sft_rows_of(&self, choice: &RowChoice) -> Vec<SftRow> {
        let view = choice.filter.as_ref().map(|filter| self.view(filter));
        let mut rows = self.text_rows(TextSet::Sft);
        rows.retain(|row| view.as_ref().is_none_or(|view| view.text_row(row)));
        rows.extend(self.corrected().filter_map(|correction| {
            let prompt = self.prompt(&self.completion(&correction.completion)?.prompt)?;
            let pair = self.pair(&correction.pair);
            let matches = view.as_ref().is_none_or(|view| pair.is_some_and(|pair| view.pair(pair)));
            matches.then(|| SftRow {
                id: correction.pair.clone(),
                prompt_id: prompt.id.clone(),
                body: SftBody::Completion { prompt: prompt.body.clone(), completion: correction.text.clone() },
            })
        }));
        rows
    }

    /// The prompts that match the filter, in order of arrival.
    #[must_use]
    pub fn prompts_of(&self, choice: &RowChoice) -> Vec<Prompt> {
        match &choice.filter {
            None => self.prompts.iter().map(|p| (**p).clone()).collect(),
            Some(filter) => self.view(filter).prompts().into_iter().cloned().collect(),
        }
    }

    /// The imported texts on which forgetting is measured, in order of arrival.
    #[must_use]
    pub fn probe_rows(&self) -> Vec<SftRow> {
        self.text_rows(TextSet::Probe)
    }

    /// Answers with a thumb up or down: imported ones in order of arrival, then those of the judged pairs. A preference
    /// yields a good and a bad answer; both bad yields two bad ones. Ties, skips, conflicting votes, a preference
    /// between equal texts and empty answers yield none.
    #[must_use]
    pub fn rated_rows(&self) -> Vec<RatedRow> {
        self.rated_rows_of(&RowChoice::default())
    }

    /// The rated answers that are meant.
    #[must_use]
    pub fn rated_rows_of(&self, choice: &RowChoice) -> Vec<RatedRow> {
        let (known, decisions) = (self.known_prompts(), self.decisions(&choice.rubric));
        let view = choice.filter.as_ref().map(|filter| self.view(filter));
        let imported = self.ratings.iter().map(|row| {
            let mut row = RatedRow::clone(row);
            adopt_prompt_id(&mut row.prompt_id, &row.prompt, &known);
            row
        });
        let imported = imported.filter(|row| view.as_ref().is_none_or(|view| view.rating(row)));
        let pairs = self.pairs.iter().filter(|pair| view.as_ref().is_none_or(|view| view.pair(pair)));
        let judged = pairs.flat_map(|pair| self.rated_sides(pair, decisions[&pair.id].outcome())).filter_map(
            |(pair, completion, good)| {
                let prompt = self.prompt(&pair.prompt)?;
                Some(RatedRow {
                    turns: completion.turns.to_vec(),
                    cut: completion.finish == Finish::Length,
                    id: pair.id.clone(),
                    prompt_id: prompt.id.clone(),
                    prompt: prompt.body.clone(),
                    completion: completion.text.to_string(),
                    good,
                })
            },
        );
        imported.chain(judged).collect()
    }

    /// How much there is of each kind of training data.
    #[must_use]
    pub fn supply(&self) -> Supply {
        self.supply_of(&RowChoice::default())
    }

    /// How much there is of each kind of training data that is meant.
    #[must_use]
    pub fn supply_of(&self, choice: &RowChoice) -> Supply {
        let (rows, left) = self.rows_of(choice);
        let view = choice.filter.as_ref().map(|filter| self.view(filter));
        let matching = view.as_ref().map(FilterView::pairs);
        let corrections = self.corrected().filter(|c| self.has_prompt(c));
        let corrections = match &matching {
            Some(pairs) => corrections.filter(|c| pairs.contains(&c.pair)).count(),
            None => corrections.count(),
        };
        let mixed = self.texts_in(TextSet::Sft) + self.corrected().filter(|c| self.has_prompt(c)).count();
        let examples = if view.is_some() { self.sft_rows_of(choice).len() } else { mixed };
        let (good, bad) = self.ratings_of(choice, matching.as_ref());
        let counts = |v: &Verdict| {
            choice.rubric.has(v.asked.criterion.as_deref())
                && !self.is_held_out(&v.pair)
                && matching.as_ref().is_none_or(|pairs| pairs.contains(&v.pair))
        };
        Supply {
            verdicts: self.verdicts.iter().filter(|(_, judged)| !judged.undone && counts(judged.verdict)).count(),
            partial: self
                .verdicts
                .iter()
                .map(|(_, judged)| judged)
                .filter(|j| !j.undone && j.verdict.is_partial() && counts(j.verdict) && !self.differs(j.verdict))
                .count(),
            pairs: rows.len(),
            corrected_pairs: rows.iter().filter(|row| row.is_correction()).count(),
            left,
            corrections,
            examples,
            good,
            bad,
            prompts: view.map_or(self.prompts.len(), |view| view.prompts().len()),
            mixed,
            probe: self.texts_in(TextSet::Probe),
        }
    }

    /// How many good and bad answers are meant.
    fn ratings_of(&self, choice: &RowChoice, matching: Option<&HashSet<PairId>>) -> (usize, usize) {
        if matching.is_some() {
            let rows = self.rated_rows_of(choice);
            let good = rows.iter().filter(|row| row.good).count();
            return (good, rows.len() - good);
        }
        // Without a filter no text has to be copied.
        let decisions = self.decisions(&choice.rubric);
        let judged = self.pairs.iter().filter(|pair| self.prompt(&pair.prompt).is_some());
        let judged =
            judged.flat_map(|pair| self.rated_sides(pair, decisions[&pair.id].outcome())).map(|(.., good)| good);
        let all: Vec<bool> = self.ratings.iter().map(|row| row.good).chain(judged).collect();
        let good = all.iter().filter(|good| **good).count();
        (good, all.len() - good)
    }

    fn texts_in(&self, set: TextSet) -> usize {
        self.texts.iter().filter(|(s, _)| *s == set).count()
    }

    fn has_prompt(&self, c: &Correction) -> bool {
        self.completion(&c.completion).is_some_and(|completion| self.prompt(&completion.prompt).is_some())
    }

    /// What was decided on every pair by a rubric.
    fn decisions(&self, rubric: &Rubric) -> HashMap<&PairId, Decision> {
        if let Some(criterion) = rubric.single() {
            return self.outcomes_on(criterion).into_iter().map(|(id, a)| (id, Decision::Aggregated(a))).collect();
        }
        let parts: Vec<_> = rubric.parts().map(|(criterion, w)| (self.outcomes_on(criterion), w)).collect();
        let of = |id| parts.iter().map(|(outcomes, w)| (outcomes[id].outcome, *w)).collect::<Vec<_>>();
        self.pairs.iter().map(|pair| (&pair.id, mixed(&of(&pair.id)))).collect()
    }

    /// The latest correction of each answer by each rater, in the order in which they were written, without empty ones and
    /// without those of an evaluation's answers.
    pub(super) fn corrected(&self) -> impl Iterator<Item = &Correction> {
        let mut seen: HashSet<(&CompletionId, &Rater)> = HashSet::new();
        let mut latest: Vec<&Correction> =
            self.corrections().into_iter().rev().filter(|c| seen.insert((&c.completion, &c.rater))).collect();
        latest.reverse();
        latest.into_iter().filter(|c| !is_empty(&c.text) && !self.is_held_out(&c.pair))
    }

    fn text_rows(&self, set: TextSet) -> Vec<SftRow> {
        let known = self.known_prompts();
        let rows = self.texts.iter().filter(|(s, _)| *s == set).map(|(_, row)| row);
        rows.map(|row| SftRow::clone(row))
            .map(|mut row| {
                adopt_prompt_id(&mut row.prompt_id, &row.body.prompt(), &known);
                row
            })
            .collect()
    }

    /// The ids of the session's prompts by their content.
    fn known_prompts(&self) -> HashMap<&PromptBody, &PromptId> {
        self.prompts.iter().map(|p| (&p.body, &p.id)).collect()
    }

    /// A judged pair's good (true) and bad answers.
    fn rated_sides<'a>(&'a self, pair: &'a Pair, outcome: Outcome) -> Vec<(&'a Pair, &'a Completion, bool)> {
        let Some((a, b)) = self.sides(pair) else { return Vec::new() };
        let sides = match outcome {
            Outcome::Prefer(..) if same_words(&a.text, &b.text) => Vec::new(),
            Outcome::Prefer(Side::A, _) => vec![(a, true), (b, false)],
            Outcome::Prefer(Side::B, _) => vec![(b, true), (a, false)],
            Outcome::BothBad if a.text == b.text => vec![(a, false)],
            Outcome::BothBad => vec![(a, false), (b, false)],
            Outcome::Open | Outcome::Tie | Outcome::Unresolved => Vec::new(),
        };
        sides.into_iter().filter(|(c, _)| !is_empty(&c.text)).map(|(c, good)| (pair, c, good)).collect()
    }
}

/// What was decided on a pair by a rubric.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Decision {
    /// The outcome by one criterion, or the mix of several.
    Aggregated(Aggregate),
    /// Some criteria of a mix have no verdict.
    Incomplete,
}

impl Decision {
    fn outcome(self) -> Outcome {
        match self {
            Self::Aggregated(found) => found.outcome,
            Self::Incomplete => Outcome::Open,
        }
    }
}

const OPEN: Aggregate = Aggregate { outcome: Outcome::Open, agreement: 0.0 };

/// A sum of strengths nearer to 0 than this is a tie.
const DRAW: f64 = 1e-9;

/// The mix of outcomes by several criteria: the sign of the weighted mean of their signed strengths decides (a preference
/// counts as its margin, for the first answer above 0 and for the second below; ties and both bad as 0), its size is the
/// margin. Both bad by every criterion stays so. With one criterion unresolved the pair is, with one open it is incomplete.
fn mixed(parts: &[(Outcome, f64)]) -> Decision {
    let all = |outcome: Outcome| parts.iter().all(|(o, _)| *o == outcome);
    let any = |outcome: Outcome| parts.iter().any(|(o, _)| *o == outcome);
    let sum: f64 = parts
        .iter()
        .map(|(outcome, w)| match outcome {
            Outcome::Prefer(Side::A, margin) => w * margin,
            Outcome::Prefer(Side::B, margin) => -w * margin,
            Outcome::Tie | Outcome::BothBad | Outcome::Open | Outcome::Unresolved => 0.0,
        })
        .sum();
    let outcome = match sum {
        _ if all(Outcome::Open) => return Decision::Aggregated(OPEN),
        _ if any(Outcome::Open) => return Decision::Incomplete,
        _ if any(Outcome::Unresolved) => Outcome::Unresolved,
        _ if all(Outcome::BothBad) => Outcome::BothBad,
        sum if sum > DRAW => Outcome::Prefer(Side::A, sum),
        sum if sum < -DRAW => Outcome::Prefer(Side::B, -sum),
        _ => Outcome::Tie,
    };
    Decision::Aggregated(Aggregate { outcome, agreement: 1.0 })
}

/// Gives a row the id of the session's equal prompt, so that every kind of data is split into training and evaluation
/// alike, whichever was imported first.
fn adopt_prompt_id(id: &mut PromptId, prompt: &PromptBody, known: &HashMap<&PromptBody, &PromptId>) {
    if let Some(known_id) = known.get(prompt) {
        *id = (*known_id).clone();
    }
}

pub(super) fn is_empty(text: &str) -> bool {
    text.trim().is_empty()
}

pub(super) fn same_words(a: &str, b: &str) -> bool {
    a.split_whitespace().eq(b.split_whitespace())
}
