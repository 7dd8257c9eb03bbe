//! What a rater's verdicts add up to at the end of a queue.
//!
//! Owns the counts, and the win rate of one model over another with its interval. Refuses a win rate over pairs that were chosen
//! by score: it would say what the choice looked for.

use super::super::ids::Rater;
use super::super::select::Strategy;
use super::super::stats::wilson;
use super::super::text::Pair;
use super::super::verdict::{Choice, Side, Strength};
use super::{Judged, Session};
use std::collections::BTreeMap;

/// The normal quantile of a 95 % interval.
const Z95: f64 = 1.959_964;

/// The strategies of pairs that a ranking of a prompt's answers made.
pub const RANKINGS: [&str; 2] = [BEST_OF, RANK];
/// The strategy of a pair that a best-of-K decision made.
pub const BEST_OF: &str = "best_of";
/// The strategy of a pair that a ranking made.
pub const RANK: &str = "rank";

/// A rater's counting verdicts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct VerdictSummary {
    /// Preferences: slight, better, much.
    pub preferences: [usize; 3],
    /// Ties.
    pub ties: usize,
    /// Both bad.
    pub both_bad: usize,
    /// Skips.
    pub skipped: usize,
    /// Of all these, those given before both answers had ended.
    pub partial: usize,
    /// Each two different models, in order of their names; the base model comes second.
    pub models: Vec<ModelContest>,
}

/// The verdicts between two models.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelContest {
    /// The model whose rate is given.
    pub first: String,
    /// The other.
    pub second: String,
    /// Verdicts for each.
    pub wins: [usize; 2],
    /// Ties.
    pub ties: usize,
    /// Both bad.
    pub both_bad: usize,
    /// How often the first won.
    pub rate: WinRate,
}

/// A win rate, or why there is none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum WinRate {
    /// The first's share of the decided pairs, weighted by 1/`p_select`, with its 95 % Wilson interval.
    Share {
        /// The share in 0..=1.
        share: f64,
        /// The interval's ends.
        interval: (f64, f64),
        /// Pairs that it is computed from.
        n: usize,
    },
    /// So many pairs were chosen by score.
    ChosenByScore(usize),
    /// No random pair was decided.
    Undecided,
}

/// How a pair may be used.
#[derive(PartialEq)]
enum Use {
    /// It stands for its pool.
    Random,
    /// A person ranked all answers of a prompt of their own choice.
    Ranked,
    /// A strategy chose it by score.
    Chosen,
}

fn use_of(pair: &Pair) -> Use {
    match Strategy::named(&pair.strategy) {
        Some(strategy) if strategy.represents => Use::Random,
        None if pair.strategy == "import" => Use::Random,
        None if RANKINGS.contains(&pair.strategy.as_str()) => Use::Ranked,
        _ => Use::Chosen,
    }
}

#[derive(Default)]
struct Tally {
    wins: [usize; 2],
    ties: usize,
    both_bad: usize,
    chosen: usize,
    /// Over random decided pairs: how many, sum of weights, of squared weights, and of weights won.
    random: (usize, f64, f64, f64),
}

impl Tally {
    fn rate(&self) -> WinRate {
        let (n, all, squares, won) = self.random;
        match (self.chosen, n) {
            (0, 0) => WinRate::Undecided,
            (0, _) => {
                let share = won / all;
                // Kish's effective sample size: the number of pairs where all weights are equal.
                let effective = all * all / squares;
                WinRate::Share { share, interval: wilson(share * effective, effective, Z95), n }
            }
            (chosen, _) => WinRate::ChosenByScore(chosen),
        }
    }
}

impl Session {
    /// The verdicts that were given in one ranking with that record's verdict, and are as it is: those that count, or
    /// those that are undone. Empty for a verdict on its own.
    #[must_use]
    pub fn ranking_of(&self, seq: u64, counting: bool) -> Vec<u64> {
        let key = |judged: &Judged<'_>| Some((judged.verdict.rater.clone(), judged.verdict.showing.ranking.clone()?));
        let Some(wanted) = self.verdicts.get(seq).as_ref().and_then(key) else { return Vec::new() };
        let same = self.verdicts.iter().filter(|(_, j)| j.undone != counting && key(j).as_ref() == Some(&wanted));
        same.map(|(seq, _)| seq).collect()
    }

    /// A rater's counting verdicts in numbers. `base` is the model that comes second.
    #[must_use]
    pub fn verdict_summary(&self, rater: &Rater, base: &str) -> VerdictSummary {
        let mut out = VerdictSummary::default();
        let mut tallies: BTreeMap<(String, String), Tally> = BTreeMap::new();
        for pair in &self.pairs {
            let Some((_, verdict)) = self.verdict_of(&pair.id, rater) else { continue };
            out.partial += usize::from(verdict.is_partial());
            match verdict.choice {
                Choice::Prefer(_, Strength::Slight) => out.preferences[0] += 1,
                Choice::Prefer(_, Strength::Better) => out.preferences[1] += 1,
                Choice::Prefer(_, Strength::Much) => out.preferences[2] += 1,
                Choice::Tie => out.ties += 1,
                Choice::BothBad => out.both_bad += 1,
                Choice::Skip => out.skipped += 1,
            }
            let Some((a, b)) = self.sides(pair) else { continue };
            if a.model == b.model {
                continue;
            }
            let a_first = if a.model == base || b.model == base { b.model == base } else { a.model < b.model };
            let (first, second) = if a_first { (a, b) } else { (b, a) };
            let tally = tallies.entry((first.model.to_string(), second.model.to_string())).or_default();
            match verdict.choice {
                Choice::Prefer(side, _) => {
                    let first_won = (side == Side::A) == a_first;
                    tally.wins[usize::from(!first_won)] += 1;
                    match use_of(pair) {
                        Use::Random => {
                            let weight = 1.0 / pair.p_select.clamp(f64::MIN_POSITIVE, 1.0);
                            let (n, all, squares, won) = tally.random;
                            let won = won + if first_won { weight } else { 0.0 };
                            tally.random = (n + 1, all + weight, squares + weight * weight, won);
                        }
                        Use::Ranked => {}
                        Use::Chosen => tally.chosen += 1,
                    }
                }
                Choice::Tie => tally.ties += 1,
                Choice::BothBad => tally.both_bad += 1,
                Choice::Skip => {}
            }
        }
        out.models = tallies
            .into_iter()
            .map(|((first, second), tally)| ModelContest {
                first,
                second,
                rate: tally.rate(),
                wins: tally.wins,
                ties: tally.ties,
                both_bad: tally.both_bad,
            })
            .collect();
        out
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::ids::{CompletionId, PairId, PromptId};
    use super::super::super::log_prob::LogProb;
    use super::super::super::text::{Completion, Finish};
    use super::super::super::verdict::{Asked, Seen, Showing, Verdict};
    use super::*;

    /// A session of pairs of `merged` (a) against `base` (b), each with a choice, a strategy and a probability.
    fn judged(rows: &[(Choice, &str, f64)]) -> Session {
        let mut session = Session::default();
        let ana = Rater::new("ana");
        for (i, (choice, strategy, p_select)) in rows.iter().enumerate() {
            let prompt = PromptId::new(format!("p{i}"));
            let [a, b] = ["merged", "base"].map(|model| {
                let completion = Completion {
                    turns: [].into(),
                    id: CompletionId::new(format!("{model}{i}")),
                    prompt: prompt.clone(),
                    model: model.into(),
                    text: "text".into(),
                    tokens: 1,
                    finish: Finish::Eos,
                    sampler: None,
                    logprob: LogProb::UNKNOWN,
                };
                session.add_completion(completion.clone());
                completion.id
            });
            let id = PairId::new(format!("q{i}"));
            let pair = Pair { id: id.clone(), prompt, a, b, strategy: (*strategy).into(), p_select: *p_select };
            session.add_pair(pair);
            let verdict = Verdict {
                pair: id,
                rater: ana.clone(),
                choice: *choice,
                left: Side::A,
                seen: Seen::Full,
                ms: 1,
                winner_hash: None,
                asked: Asked::default(),
                showing: Showing::default(),
            };
            session.judge(i as u64 + 1, verdict);
        }
        session
    }

    const A: Choice = Choice::Prefer(Side::A, Strength::Better);
    const B: Choice = Choice::Prefer(Side::B, Strength::Much);

    fn summary(rows: &[(Choice, &str, f64)]) -> VerdictSummary {
        judged(rows).verdict_summary(&Rater::new("ana"), "base")
    }

    #[test]
    fn counts_and_the_rate_of_the_usability_sketch() {
        let mut rows = vec![(A, "random", 1.0); 4];
        rows.extend([(B, "random", 1.0); 6]);
        rows.extend([(Choice::Tie, "random", 1.0), (Choice::BothBad, "random", 1.0)]);
        let found = summary(&rows);
        assert_eq!((found.preferences, found.ties, found.both_bad), ([0, 4, 6], 1, 1));
        let [contest] = found.models.as_slice() else { panic!("one contest") };
        assert_eq!((contest.first.as_str(), contest.second.as_str(), contest.wins), ("merged", "base", [4, 6]));
        let WinRate::Share { share, interval, n } = contest.rate else { panic!("{:?}", contest.rate) };
        assert_eq!((share, n), (0.4, 10));
        assert!((interval.0 - 0.168_18).abs() < 1e-4 && (interval.1 - 0.687_33).abs() < 1e-4, "{interval:?}");
    }

    #[test]
    fn no_rate_over_pairs_chosen_by_score_and_none_over_rankings() {
        let found = summary(&[(A, "random", 1.0), (B, "close", 0.2), (A, "hard_negatives", 1.0)]);
        assert_eq!(found.models[0].rate, WinRate::ChosenByScore(2));
        let found = summary(&[(A, "rank", 1.0), (A, "best_of", 1.0)]);
        assert_eq!((found.models[0].wins, found.models[0].rate), ([2, 0], WinRate::Undecided));
    }

    #[test]
    fn the_rate_weighs_by_the_probability_of_selection() {
        // One pair of a stratum sampled at 1/3 stands for three.
        let found = summary(&[(A, "stratified", 1.0 / 3.0), (B, "stratified", 1.0)]);
        let WinRate::Share { share, n, .. } = found.models[0].rate else { panic!("{found:?}") };
        assert!((share - 0.75).abs() < 1e-12 && n == 2);
    }
}
