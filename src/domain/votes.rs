//! Votes: from several raters' choices on a pair to one outcome, and whether more labels are needed.
//!
//! Owns the aggregations by name and the rule of disagreement. A draw is never settled by order: it is unresolved. Refuses to
//! know who a rater is: a person, a reward run and a judge model count alike.

use super::agreement::item_agreement;
use super::bradley_terry::{Win, bradley_terry};
use super::dawid_skene::{RaterLabel, dawid_skene};
use super::ids::{CompletionId, PairId, PromptId, Rater};
use super::verdict::{Choice, Side, Strength};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The decision on a pair that all counting verdicts make together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Outcome {
    /// Nobody has judged it.
    Open,
    /// One side is preferred; the mean strength as a margin in 0..=1.
    Prefer(Side, f64),
    /// Neither is better.
    Tie,
    /// Neither is acceptable.
    BothBad,
    /// The votes contradict each other; never resolved by order.
    Unresolved,
}

/// How votes become an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aggregation {
    /// The label with most votes.
    #[default]
    Majority,
    /// The sign of the mean strength.
    MeanStrength,
    /// The most probable label under each rater's error rates, estimated from all pairs.
    DawidSkene,
    /// The sign of the difference in strength, estimated from all pairs of a prompt.
    BradleyTerry,
}

impl Aggregation {
    /// Every aggregation with its name.
    pub const ALL: [(&'static str, Self); 4] = [
        ("majority", Self::Majority),
        ("mean_strength", Self::MeanStrength),
        ("dawid_skene", Self::DawidSkene),
        ("bradley_terry", Self::BradleyTerry),
    ];

    /// The aggregation of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(n, _)| *n == name).map(|(_, how)| *how)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, how)| *how == self).map_or("", |(name, _)| name)
    }
}

/// An outcome and how sure it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Aggregate {
    /// The outcome.
    pub outcome: Outcome,
    /// The probability that it is right, in 0..=1: the share of the votes for it, or what the model of the votes says.
    pub agreement: f64,
}

/// A pair with its votes.
#[derive(Debug, Clone, PartialEq)]
pub struct VotedPair<'a> {
    /// Its prompt.
    pub prompt: &'a PromptId,
    /// Its first completion.
    pub a: &'a CompletionId,
    /// Its second completion.
    pub b: &'a CompletionId,
    /// Who voted what; a rater's latest choice.
    pub votes: Vec<(&'a Rater, Choice)>,
}

/// How many labels a pair needs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LabelRule {
    /// Labels that every pair gets.
    pub labels_per_item: usize,
    /// Labels after which a pair without agreement is disputed.
    pub max_labels: usize,
    /// The least agreement between the pairs of votes.
    pub threshold: f64,
}

impl Default for LabelRule {
    fn default() -> Self {
        Self { labels_per_item: 1, max_labels: 3, threshold: 0.6 }
    }
}

/// How a session collects labels.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct CollectionSettings {
    /// How many labels a pair needs.
    #[serde(flatten)]
    pub rule: LabelRule,
    /// How they become an outcome.
    pub aggregation: Aggregation,
}

/// A person's decision on a pair whose raters disagree: it settles the outcome, whatever the votes are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adjudication {
    /// The pair.
    pub pair: PairId,
    /// Who decided.
    pub rater: Rater,
    /// The decision, in the pair's own order.
    pub choice: Choice,
    /// The criterion that it settles; none for the outcome overall.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub criterion: Option<String>,
}

/// How a share of a rater's pairs comes back, to measure the rater's self-consistency.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Repeats {
    /// The share of judged pairs that come back, in 0..=1; 0 turns repeats off.
    pub share: f64,
    /// The fewest other verdicts of the rater before a pair comes back.
    pub distance: usize,
    /// The least time before a pair comes back, in milliseconds.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub after_ms: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Repeats {
    /// Other verdicts between a pair and its repeat, where nothing else is set.
    pub const DISTANCE: usize = 20;
}

/// Where a pair stands by a [`LabelRule`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemState {
    /// So many labels are missing.
    Missing(usize),
    /// The votes agree.
    Done,
    /// The votes disagree: one more label is asked for.
    OneMore,
    /// The votes disagree and there are no more labels to come: a person adjudicates.
    Disputed,
}

impl LabelRule {
    /// Where a pair with these votes stands. Skips are no votes.
    #[must_use]
    pub fn state(&self, votes: &[Choice]) -> ItemState {
        let labels: Vec<i64> = votes.iter().filter_map(|c| label(*c)).map(|l| l as i64).collect();
        let n = labels.len();
        if n < self.labels_per_item {
            return ItemState::Missing(self.labels_per_item - n);
        }
        let agreed = item_agreement(&labels).is_none_or(|agreement| agreement >= self.threshold);
        if agreed && !conflict(votes) {
            ItemState::Done
        } else if n < self.max_labels {
            ItemState::OneMore
        } else {
            ItemState::Disputed
        }
    }
}

/// Whether both sides have a vote, and one of them is more than slight.
fn conflict(votes: &[Choice]) -> bool {
    let of = |side| {
        let strengths = votes.iter().filter_map(move |c| match c {
            Choice::Prefer(s, strength) if *s == side => Some(*strength),
            _ => None,
        });
        strengths.max_by(|x, y| x.margin().total_cmp(&y.margin()))
    };
    match (of(Side::A), of(Side::B)) {
        (Some(a), Some(b)) => a > Strength::Slight || b > Strength::Slight,
        _ => false,
    }
}

const TIE: usize = 0;
const A: usize = 1;
const B: usize = 2;
const BOTH_BAD: usize = 3;

/// A choice without its strength; none of a skip.
fn label(choice: Choice) -> Option<usize> {
    match choice {
        Choice::Tie => Some(TIE),
        Choice::Prefer(Side::A, _) => Some(A),
        Choice::Prefer(Side::B, _) => Some(B),
        Choice::BothBad => Some(BOTH_BAD),
        Choice::Skip => None,
    }
}

/// A choice as a number for coefficients of agreement: 0 tie, 1 and 2 the sides, 3 both bad; none of a skip.
#[must_use]
pub fn nominal(choice: Choice) -> Option<i64> {
    label(choice).map(|l| l as i64)
}

/// A choice on the scale from −3 (b much better) to 3 (a much better); a tie and both bad are 0; none of a skip.
#[must_use]
pub fn signed(choice: Choice) -> Option<i64> {
    match choice {
        Choice::Prefer(side, strength) => {
            let size = match strength {
                Strength::Slight => 1,
                Strength::Better => 2,
                Strength::Much => 3,
            };
            Some(if side == Side::A { size } else { -size })
        }
        Choice::Tie | Choice::BothBad => Some(0),
        Choice::Skip => None,
    }
}

/// The outcome of every pair, in order.
#[must_use]
pub fn aggregate(pairs: &[VotedPair<'_>], how: Aggregation) -> Vec<Aggregate> {
    let each = |of: fn(&[Choice]) -> Aggregate| {
        let choices = |pair: &VotedPair<'_>| pair.votes.iter().map(|(_, c)| *c).collect::<Vec<_>>();
        pairs.iter().map(|pair| of(&choices(pair))).collect()
    };
    match how {
        Aggregation::Majority => each(majority),
        Aggregation::MeanStrength => each(mean_strength),
        Aggregation::DawidSkene => by_error_rates(pairs),
        Aggregation::BradleyTerry => by_strength(pairs),
    }
}

/// Counts by label, and the sum of margins for each side.
fn count(votes: &[Choice]) -> ([usize; 4], [f64; 4]) {
    let (mut counts, mut margins) = ([0; 4], [0.0; 4]);
    for choice in votes {
        let Some(l) = label(*choice) else { continue };
        counts[l] += 1;
        if let Choice::Prefer(_, strength) = choice {
            margins[l] += strength.margin();
        }
    }
    (counts, margins)
}

/// A label as an outcome, with the mean margin of the votes for it.
fn outcome(label: usize, votes: &[Choice]) -> Outcome {
    let (counts, margins) = count(votes);
    let margin = margins[label] / (counts[label].max(1)) as f64;
    match label {
        TIE => Outcome::Tie,
        A => Outcome::Prefer(Side::A, margin),
        B => Outcome::Prefer(Side::B, margin),
        _ => Outcome::BothBad,
    }
}

/// What an adjudicator decided, as an aggregate; none of a skip.
#[must_use]
pub fn adjudicated(choice: Choice) -> Option<Aggregate> {
    Some(Aggregate { outcome: outcome(label(choice)?, &[choice]), agreement: 1.0 })
}

/// A plurality decides; a draw between the leaders is unresolved.
#[must_use]
pub fn majority(votes: &[Choice]) -> Aggregate {
    let (counts, _) = count(votes);
    let (n, most) = (counts.iter().sum::<usize>(), counts.into_iter().max().unwrap_or(0));
    let leaders: Vec<usize> = (0..4).filter(|l| counts[*l] == most).collect();
    let outcome = match leaders.as_slice() {
        _ if n == 0 => Outcome::Open,
        [one] => outcome(*one, votes),
        _ => Outcome::Unresolved,
    };
    Aggregate { outcome, agreement: most as f64 / n.max(1) as f64 }
}

/// The sign of the mean strength, unless most say that both are bad. A mean of 0 is a tie where nobody prefers a side.
fn mean_strength(votes: &[Choice]) -> Aggregate {
    let (counts, _) = count(votes);
    let by_count = majority(votes);
    let n = counts[TIE] + counts[A] + counts[B];
    if n == 0 || matches!(by_count.outcome, Outcome::BothBad) {
        return by_count;
    }
    let sum: i64 = votes.iter().filter(|c| **c != Choice::BothBad).filter_map(|c| signed(*c)).sum();
    let margin = sum.unsigned_abs() as f64 / (3 * n) as f64;
    let share = |k: usize| k as f64 / n as f64;
    let (outcome, agreement) = match sum {
        0 if counts[A] + counts[B] == 0 => (Outcome::Tie, 1.0),
        0 => (Outcome::Unresolved, share(counts[TIE])),
        1.. => (Outcome::Prefer(Side::A, margin), share(counts[A])),
        _ => (Outcome::Prefer(Side::B, margin), share(counts[B])),
    };
    Aggregate { outcome, agreement }
}

/// Added to every count of a rater's labels.
const SMOOTHING: f64 = 0.1;

fn by_error_rates(pairs: &[VotedPair<'_>]) -> Vec<Aggregate> {
    let mut raters: BTreeMap<&Rater, usize> = BTreeMap::new();
    let mut labels: BTreeMap<usize, usize> = BTreeMap::new();
    for (rater, choice) in pairs.iter().flat_map(|p| &p.votes) {
        if let Some(l) = label(*choice) {
            raters.entry(rater).or_default();
            labels.entry(l).or_default();
        }
    }
    raters.values_mut().enumerate().for_each(|(i, at)| *at = i);
    // Labels that nobody gave would only dilute the estimate.
    labels.values_mut().enumerate().for_each(|(i, at)| *at = i);
    let names: Vec<usize> = labels.keys().copied().collect();
    let vote = |(rater, choice): &(&Rater, Choice)| {
        Some(RaterLabel { rater: raters[*rater], label: *labels.get(&label(*choice)?)? })
    };
    let items: Vec<Vec<RaterLabel>> = pairs.iter().map(|p| p.votes.iter().filter_map(vote).collect()).collect();
    let found = dawid_skene(&items, names.len(), raters.len(), SMOOTHING);
    let decide = |((pair, item), posterior): ((&VotedPair<'_>, &Vec<RaterLabel>), &Vec<f64>)| {
        let choices: Vec<Choice> = pair.votes.iter().map(|(_, c)| *c).collect();
        if item.is_empty() {
            return Aggregate { outcome: Outcome::Open, agreement: 0.0 };
        }
        let mut order: Vec<usize> = (0..names.len()).collect();
        order.sort_by(|i, j| posterior[*j].total_cmp(&posterior[*i]));
        let best = posterior[order[0]];
        let draw = order.get(1).is_some_and(|second| best - posterior[*second] < DRAW);
        let outcome = if draw { Outcome::Unresolved } else { outcome(names[order[0]], &choices) };
        Aggregate { outcome, agreement: best }
    };
    pairs.iter().zip(&items).zip(&found.posterior).map(decide).collect()
}

/// Probabilities nearer than this are the same.
const DRAW: f64 = 1e-9;

/// Both bad is decided by majority: strengths know only better and worse.
fn by_strength(pairs: &[VotedPair<'_>]) -> Vec<Aggregate> {
    let mut of_prompt: BTreeMap<&PromptId, Vec<usize>> = BTreeMap::new();
    for (i, pair) in pairs.iter().enumerate() {
        of_prompt.entry(pair.prompt).or_default().push(i);
    }
    let mut out: Vec<Aggregate> = pairs.iter().map(|p| majority(&choices(p))).collect();
    for members in of_prompt.values() {
        let mut answers: BTreeMap<&CompletionId, usize> = BTreeMap::new();
        for i in members {
            let next = answers.len();
            answers.entry(pairs[*i].a).or_insert(next);
            let next = answers.len();
            answers.entry(pairs[*i].b).or_insert(next);
        }
        let ends = |i: usize| (answers[pairs[i].a], answers[pairs[i].b]);
        let mut wins = Vec::new();
        for i in members {
            let (a, b) = ends(*i);
            for choice in choices(&pairs[*i]) {
                let share = match choice {
                    Choice::Prefer(Side::A, _) => 1.0,
                    Choice::Prefer(Side::B, _) => 0.0,
                    Choice::Tie => 0.5,
                    Choice::BothBad | Choice::Skip => continue,
                };
                wins.push(Win { winner: a, loser: b, weight: share });
                wins.push(Win { winner: b, loser: a, weight: 1.0 - share });
            }
        }
        let found = bradley_terry(answers.len(), &wins);
        for i in members.iter().copied() {
            if matches!(out[i].outcome, Outcome::Open | Outcome::BothBad) {
                continue;
            }
            let (a, b) = ends(i);
            let p = found.beats(a, b);
            let (outcome, agreement) = match out[i].outcome {
                _ if p - 0.5 > DRAW => (outcome(A, &choices(&pairs[i])), p),
                _ if 0.5 - p > DRAW => (outcome(B, &choices(&pairs[i])), 1.0 - p),
                Outcome::Tie => (Outcome::Tie, 0.5),
                _ => (Outcome::Unresolved, 0.5),
            };
            out[i] = Aggregate { outcome, agreement };
        }
    }
    out
}

fn choices(pair: &VotedPair<'_>) -> Vec<Choice> {
    pair.votes.iter().map(|(_, c)| *c).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BETTER_A: Choice = Choice::Prefer(Side::A, Strength::Better);
    const SLIGHT_A: Choice = Choice::Prefer(Side::A, Strength::Slight);
    const MUCH_B: Choice = Choice::Prefer(Side::B, Strength::Much);
    const SLIGHT_B: Choice = Choice::Prefer(Side::B, Strength::Slight);

    #[test]
    fn the_rule_asks_for_labels_until_they_agree() {
        let rule = LabelRule { labels_per_item: 2, max_labels: 4, threshold: 0.6 };
        assert_eq!(rule.state(&[]), ItemState::Missing(2));
        assert_eq!(rule.state(&[BETTER_A, Choice::Skip]), ItemState::Missing(1), "a skip is no vote");
        assert_eq!(rule.state(&[BETTER_A, SLIGHT_A]), ItemState::Done, "strength is no disagreement");
        assert_eq!(rule.state(&[BETTER_A, SLIGHT_B]), ItemState::OneMore);
        // Two of three pairs of votes disagree: 1/3 agree.
        assert_eq!(rule.state(&[BETTER_A, BETTER_A, SLIGHT_B]), ItemState::OneMore);
        assert_eq!(rule.state(&[SLIGHT_A, SLIGHT_A, SLIGHT_A, Choice::Tie]), ItemState::Disputed, "3 of 6 agree");
        let loose = LabelRule { threshold: 0.3, ..rule };
        assert_eq!(loose.state(&[SLIGHT_A, SLIGHT_A, SLIGHT_B]), ItemState::Done, "a slight vote is no conflict");
        assert_eq!(loose.state(&[SLIGHT_A, SLIGHT_A, MUCH_B]), ItemState::OneMore, "a strong one is");
        assert_eq!(LabelRule::default().state(&[MUCH_B]), ItemState::Done);
        assert_eq!(LabelRule::default().state(&[MUCH_B, BETTER_A]), ItemState::OneMore);
    }

    #[test]
    fn a_plurality_decides_and_a_draw_does_not() {
        let of = |votes: &[Choice]| majority(votes).outcome;
        assert_eq!(of(&[]), Outcome::Open);
        assert_eq!(of(&[Choice::Skip]), Outcome::Open);
        assert_eq!(of(&[BETTER_A, MUCH_B]), Outcome::Unresolved);
        assert_eq!(of(&[BETTER_A, SLIGHT_A, MUCH_B]), Outcome::Prefer(Side::A, 0.5));
        assert_eq!(of(&[Choice::BothBad, Choice::BothBad, MUCH_B]), Outcome::BothBad);
        assert_eq!(majority(&[Choice::Tie, Choice::Tie, MUCH_B]).agreement, 2.0 / 3.0);
    }

    #[test]
    fn the_mean_strength_weighs_how_much_better() {
        let of = |votes: &[Choice]| mean_strength(votes).outcome;
        assert_eq!(of(&[SLIGHT_A, SLIGHT_A, MUCH_B]), Outcome::Prefer(Side::B, 1.0 / 9.0));
        assert_eq!(of(&[SLIGHT_A, SLIGHT_B]), Outcome::Unresolved);
        assert_eq!(of(&[Choice::Tie]), Outcome::Tie);
        assert_eq!(of(&[Choice::BothBad]), Outcome::BothBad);
        assert_eq!(of(&[Choice::Skip]), Outcome::Open);
    }

    fn voted<'a>(ids: &'a [CompletionId], prompt: &'a PromptId, votes: Vec<(&'a Rater, Choice)>) -> VotedPair<'a> {
        VotedPair { prompt, a: &ids[0], b: &ids[1], votes }
    }

    fn swapped(choice: Choice) -> Choice {
        match choice {
            Choice::Prefer(side, strength) => Choice::Prefer(side.other(), strength),
            other => other,
        }
    }

    #[test]
    fn swapping_the_sides_everywhere_swaps_every_outcome() {
        let ids: Vec<CompletionId> = (0..6).map(|i| CompletionId::new(format!("c{i}"))).collect();
        let raters: Vec<Rater> = ["ana", "ben", "cy"].map(Rater::new).into();
        let prompts = [PromptId::new("p1"), PromptId::new("p2")];
        let all = [BETTER_A, SLIGHT_A, MUCH_B, SLIGHT_B, Choice::Tie, Choice::BothBad, Choice::Skip];
        let choice = |i: usize, r: usize| all[(super::super::hash::mix64((i * 7 + r) as u64) % 7) as usize];
        let ends = [(0, 1), (1, 2), (0, 2), (3, 4), (4, 5), (3, 5)];
        let build = |swap: bool| -> Vec<VotedPair<'_>> {
            let one = |(i, (a, b)): (usize, &(usize, usize))| VotedPair {
                prompt: &prompts[i / 3],
                a: &ids[if swap { *b } else { *a }],
                b: &ids[if swap { *a } else { *b }],
                votes: (0..3).map(|r| (&raters[r], if swap { swapped(choice(i, r)) } else { choice(i, r) })).collect(),
            };
            ends.iter().enumerate().map(one).collect()
        };
        for (name, how) in Aggregation::ALL {
            let (plain, turned) = (aggregate(&build(false), how), aggregate(&build(true), how));
            for (x, y) in plain.iter().zip(&turned) {
                let turned = match y.outcome {
                    Outcome::Prefer(side, margin) => Outcome::Prefer(side.other(), margin),
                    other => other,
                };
                assert_eq!(x.outcome, turned, "{name}");
                assert!((x.agreement - y.agreement).abs() < 1e-6, "{name}");
            }
        }
    }

    #[test]
    fn error_rates_outvote_a_rater_who_is_always_wrong() {
        let ids = [CompletionId::new("x"), CompletionId::new("y")];
        let (prompt, ana, ben, cy) = (PromptId::new("p"), Rater::new("ana"), Rater::new("ben"), Rater::new("cy"));
        let vote = |truth: bool| if truth { BETTER_A } else { SLIGHT_B };
        let mut pairs: Vec<VotedPair<'_>> = (0..40)
            .map(|i| {
                let t = i % 2 == 0;
                voted(&ids, &prompt, vec![(&ana, vote(t)), (&ben, vote(t)), (&cy, vote(!t))])
            })
            .collect();
        // Only ana and cy: a draw by majority, but cy is known to be wrong.
        pairs.push(voted(&ids, &prompt, vec![(&ana, vote(true)), (&cy, vote(false))]));
        assert_eq!(aggregate(&pairs, Aggregation::Majority)[40].outcome, Outcome::Unresolved);
        let found = aggregate(&pairs, Aggregation::DawidSkene)[40];
        assert!(matches!(found.outcome, Outcome::Prefer(Side::A, _)) && found.agreement > 0.99, "{found:?}");
    }

    #[test]
    fn strengths_carry_over_the_pairs_of_a_prompt() {
        let ids: Vec<CompletionId> = ["x", "y", "z"].map(CompletionId::new).into();
        let (prompt, ana, ben) = (PromptId::new("p"), Rater::new("ana"), Rater::new("ben"));
        let pair = |a: usize, b: usize, votes| VotedPair { prompt: &prompt, a: &ids[a], b: &ids[b], votes };
        let draw = || vec![(&ana, SLIGHT_A), (&ben, SLIGHT_B)];
        // x beats y and y beats z, each twice; x against z is a draw by votes.
        let both = || vec![(&ana, BETTER_A), (&ben, BETTER_A)];
        let pairs = [pair(0, 1, both()), pair(1, 2, both()), pair(0, 2, draw())];
        let found = aggregate(&pairs, Aggregation::BradleyTerry)[2];
        assert!(matches!(found.outcome, Outcome::Prefer(Side::A, _)) && found.agreement > 0.6, "{found:?}");
    }
}
