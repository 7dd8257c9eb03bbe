//! The training rows of a session, from verdicts, corrections and imported files.
//!
//! Owns the rules. Refuses to resolve conflicts between raters: such pairs are left out and counted.

use super::super::ids::{CompletionId, PairId, PromptId, Rater};
use super::super::method::{Method, Needs};
use super::super::param::{ParamKind, Params};
use super::super::text::{Completion, Pair, PairRow, PromptBody, RatedRow, SftBody, SftRow, TextSet};
use super::super::verdict::{Choice, Side, Verdict};
use super::super::votes::{Aggregate, Aggregation, Outcome};
use super::{CORRECTION, Correction, Session};
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
}

impl LeftOut {
    /// The total.
    #[must_use]
    pub fn total(&self) -> usize {
        self.ties + self.both_bad + self.unresolved + self.equal + self.empty
    }
}

/// How much of each kind of training data a session has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Supply {
    /// Verdicts that count.
    pub verdicts: usize,
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
        } else if enabled("mix_ratio") && self.examples == 0 {
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
    /// The training rows from verdicts, in the pairs' order, then those from corrections, and what was left out.
    #[must_use]
    pub fn rows(&self) -> (Vec<PairRow>, LeftOut) {
        let mut rows = Vec::new();
        let mut left_out = LeftOut::default();
        let raters: HashSet<&Rater> = self.verdicts.values().map(|judged| &judged.verdict.rater).collect();
        let slip_rates: HashMap<&Rater, f64> =
            raters.into_iter().filter_map(|r| Some((r, self.slip_rate(r)?))).collect();
        let outcomes = self.outcomes();
        for pair in &self.pairs {
            let (side, margin) = match outcomes[&pair.id].outcome {
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
                pair: pair.id.clone(),
                prompt_id: prompt.id.clone(),
                prompt: prompt.body.clone(),
                chosen: chosen.text.clone(),
                rejected: rejected.text.clone(),
                margin: Some(margin),
                agreed: self
                    .soft_label(pair, side, outcomes[&pair.id])
                    .or_else(|| self.reliability(&pair.id, &slip_rates)),
                strategy: None,
                rater: None,
            });
        }
        self.add_correction_rows(&mut rows, &mut left_out);
        (rows, left_out)
    }

    /// The probability that `side` is the better one, as the session's aggregation says; none where it is certain.
    fn soft_label(&self, pair: &Pair, side: Side, found: Aggregate) -> Option<f64> {
        let by_model = matches!(
            self.settings().unwrap_or_default().aggregation,
            Aggregation::DawidSkene | Aggregation::BradleyTerry
        );
        match self.adjudication_of(&pair.id) {
            Some(_) => None,
            None if by_model => Some(found.agreement).filter(|p| *p < 1.0),
            None => self.agreed(&pair.id, side),
        }
    }

    /// `winner`'s share of the votes for either side; none when no vote is for the other side.
    fn agreed(&self, pair: &PairId, winner: Side) -> Option<f64> {
        let (mut with, mut against) = (0usize, 0usize);
        for (_, verdict) in self.counting(pair) {
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
    fn reliability(&self, pair: &PairId, slip_rates: &HashMap<&Rater, f64>) -> Option<f64> {
        let preferences = |(_, verdict): &(u64, &Verdict)| matches!(verdict.choice, Choice::Prefer(..));
        let votes: Vec<_> = self.counting(pair).into_iter().filter(preferences).collect();
        let [(_, verdict)] = votes.as_slice() else { return None };
        slip_rates.get(&verdict.rater).filter(|e| **e > 0.0).map(|e| 1.0 - e)
    }

    /// A rater's slip rate e in 0..=0.5, estimated from the pairs that the rater judged twice. The two judgements
    /// differ where exactly one of them is a slip, in a share d = 2e(1 − e) of pairs, so that e = (1 − √(1 − 2d))/2.
    /// None before ten pairs were judged twice.
    #[must_use]
    pub fn slip_rate(&self, rater: &Rater) -> Option<f64> {
        let (mut twice, mut differing) = (0usize, 0usize);
        for seqs in self.verdicts_of_pair.values() {
            let mut sides = seqs.iter().filter_map(|seq| {
                let judged = self.verdicts.get(seq).filter(|j| !j.undone && j.verdict.rater == *rater)?;
                if let Choice::Prefer(side, _) = judged.verdict.choice { Some(side) } else { None }
            });
            if let (Some(first), Some(second)) = (sides.next(), sides.next()) {
                twice += 1;
                differing += usize::from(first != second);
            }
        }
        let d = (differing as f64 / twice.max(1) as f64).min(0.5);
        (twice >= MIN_JUDGED_TWICE).then(|| (1.0 - (1.0 - 2.0 * d).sqrt()) / 2.0)
    }

    /// The examples for supervised fine-tuning: imported ones in order of arrival, then corrections. A rater's latest
    /// correction of an answer counts; an empty one withdraws the earlier ones.
    #[must_use]
    pub fn sft_rows(&self) -> Vec<SftRow> {
        let mut rows = self.text_rows(TextSet::Sft);
        rows.extend(self.corrected().filter_map(|correction| {
            let prompt = self.prompt(&self.completion(&correction.completion)?.prompt)?;
            Some(SftRow {
                id: correction.pair.clone(),
                prompt_id: prompt.id.clone(),
                body: SftBody::Completion { prompt: prompt.body.clone(), completion: correction.text.clone() },
            })
        }));
        rows
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
        let (known, outcomes) = (self.known_prompts(), self.outcomes());
        let imported = self.ratings.iter().map(|row| {
            let mut row = row.clone();
            adopt_prompt_id(&mut row.prompt_id, &row.prompt, &known);
            row
        });
        let judged = self.pairs.iter().flat_map(|pair| self.rated_sides(pair, outcomes[&pair.id].outcome)).filter_map(
            |(pair, completion, good)| {
                let prompt = self.prompt(&pair.prompt)?;
                Some(RatedRow {
                    id: pair.id.clone(),
                    prompt_id: prompt.id.clone(),
                    prompt: prompt.body.clone(),
                    completion: completion.text.clone(),
                    good,
                })
            },
        );
        imported.chain(judged).collect()
    }

    /// How much there is of each kind of training data.
    #[must_use]
    pub fn supply(&self) -> Supply {
        let (rows, left) = self.rows();
        let outcomes = self.outcomes();
        let of = |set| self.texts.iter().filter(|(s, _)| *s == set).count();
        let has_prompt = |c: &&Correction| {
            self.completion(&c.completion).is_some_and(|completion| self.prompt(&completion.prompt).is_some())
        };
        let corrections = self.corrected().filter(has_prompt).count();
        let judged = self.pairs.iter().filter(|pair| self.prompt(&pair.prompt).is_some());
        let judged: Vec<bool> =
            judged.flat_map(|pair| self.rated_sides(pair, outcomes[&pair.id].outcome)).map(|(.., good)| good).collect();
        let imported = self.ratings.iter().map(|row| row.good);
        let good = imported.chain(judged.iter().copied()).filter(|good| *good).count();
        Supply {
            verdicts: self.verdicts.values().filter(|judged| !judged.undone).count(),
            pairs: rows.len(),
            corrected_pairs: rows.iter().filter(|row| row.strategy.as_deref() == Some(CORRECTION)).count(),
            left,
            examples: of(TextSet::Sft) + corrections,
            corrections,
            good,
            bad: self.ratings.len() + judged.len() - good,
            prompts: self.prompts.len(),
            probe: of(TextSet::Probe),
        }
    }

    /// The latest correction of each answer by each rater, in the order in which they were written, without empty ones.
    pub(super) fn corrected(&self) -> impl Iterator<Item = &Correction> {
        let mut seen: HashSet<(&CompletionId, &Rater)> = HashSet::new();
        let mut latest: Vec<&Correction> =
            self.corrections().into_iter().rev().filter(|c| seen.insert((&c.completion, &c.rater))).collect();
        latest.reverse();
        latest.into_iter().filter(|c| !is_empty(&c.text))
    }

    fn text_rows(&self, set: TextSet) -> Vec<SftRow> {
        let known = self.known_prompts();
        let rows = self.texts.iter().filter(|(s, _)| *s == set).map(|(_, row)| row);
        rows.cloned()
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
