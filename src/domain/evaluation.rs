//! Statistics of an evaluation: how good, how sure, and whether one model is better than another.
//!
//! Owns the figures of a comparison, with their intervals, and the reasons why a figure is undefined. Everything is a pure
//! function of scores and a seed: the same input gives the same bits. Refuses to know what was scored and who judged.
//!
//! **Invariants:** no figure is NaN: what cannot be computed is an [`Undefined`] that says why. Without a difference
//! between two models every difference is exactly 0, every win rate exactly 0.5, and the verdict is "cannot tell".

mod calibration;
mod comparison;
mod difference;
mod gate;
mod interval;
mod length;
mod ratings;
mod rewards;
mod seeds;
mod significance;
mod ties;
mod win_rate;

pub use calibration::{LogisticCalibration, logistic_calibration};
pub use comparison::{BETTER_NEEDS, CannotTell, ComparisonVerdict, prompts_to_tell, verdict_of};
pub use difference::{PairedDifference, paired_difference};
pub use gate::{GateFailure, JudgeFigures, MIN_ACCURACY, MIN_CONSISTENCY, judge_gate};
pub use interval::{ConfidenceInterval, DRAWS, IntervalMethod, PromptScore};
pub use length::{FEWEST_LENGTHS, LengthControlled, LengthFit, LengthRow, fit_length, length_controlled};
pub use ratings::{Game, RatedContender, Ratings, ratings};
pub(super) use rewards::calibration_error;
pub use rewards::{LengthTercile, RewardFigures, RewardedPair, length_thirds, reward_figures};
pub use seeds::{SeedsFigure, over_seeds};
pub use significance::{McNemar, holm, mcnemar, sign_test};
pub use ties::{PairCounts, TieKind, TieModel, davidson, rao_kupper};
pub use win_rate::{PairedWinRate, paired_win_rate};

/// Why a figure cannot be computed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Undefined {
    /// No scores.
    #[error("there is nothing to measure: no prompt has a score")]
    Empty,
    /// A score outside its range.
    #[error("score {value} of row {row} is not {expected}")]
    Score {
        /// Which row, from 1.
        row: usize,
        /// The score.
        value: f64,
        /// The range it must lie in, in words.
        expected: &'static str,
    },
    /// One prompt says nothing about others.
    #[error("one prompt gives no interval: compare on two or more prompts")]
    OnePrompt,
    /// Too few rows for this figure.
    #[error("it needs {need} rows or more and has {have}")]
    TooFew {
        /// Rows given.
        have: usize,
        /// Rows needed.
        need: usize,
    },
    /// Only ties: a test on decided pairs has nothing to count.
    #[error("all {0} comparisons are ties: nothing was decided")]
    OnlyTies(usize),
    /// No contender of one group ever met one of another group.
    #[error("contender {0} has no comparison, direct or through others, with contender 1")]
    NeverMet(usize),
    /// A number that names no contender.
    #[error("row {row} names contender {given}, but there are {contenders}")]
    NoContender {
        /// Which row, from 1.
        row: usize,
        /// The number given, from 1.
        given: usize,
        /// How many there are.
        contenders: usize,
    },
    /// A contender that plays itself.
    #[error("row {0} compares a contender with itself")]
    OneSelf(usize),
    /// The same prompts are needed on both sides.
    #[error("the two sides share no prompt")]
    NothingShared,
    /// One seed has no spread between seeds.
    #[error("one seed shows no spread between seeds: train two or more")]
    OneSeed,
    /// The statistic was undefined in most of the samples.
    #[error("the interval is undefined: the figure exists in fewer than half of the resampled sets")]
    RarelyDefined,
    /// Without variation a slope cannot be fitted.
    #[error("all reward differences are 0: there is nothing to calibrate")]
    NoVariation,
}
