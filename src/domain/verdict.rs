//! A rater's decision on a pair. A verdict is a fact in the log: another record undoes it, nothing changes it.

use super::common_text::CommonText;
use super::ids::{PairId, Rater};
use super::partial::PartialView;
use super::winner_hash::WinnerHash;
use serde::{Deserialize, Serialize};

/// One of a pair's two completions, in the pair's own order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The pair's `a`.
    A,
    /// The pair's `b`.
    B,
}

impl Side {
    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// How much better the preferred completion is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strength {
    /// Slightly better.
    Slight,
    /// Better.
    Better,
    /// Much better.
    Much,
}

impl Strength {
    /// The strength as a margin in 0..=1: 1/3, 2/3, 1.
    #[must_use]
    pub fn margin(self) -> f64 {
        match self {
            Self::Slight => 1.0 / 3.0,
            Self::Better => 2.0 / 3.0,
            Self::Much => 1.0,
        }
    }
}

/// The decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// One is better.
    Prefer(Side, Strength),
    /// Neither is better.
    Tie,
    /// Neither is acceptable.
    BothBad,
    /// Not decided now: the pair comes back later.
    Skip,
}

/// How much of the two texts was on screen before the decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seen {
    /// Both to their end.
    Full,
    /// At least one was not scrolled to its end.
    Partial,
    /// Not shown by this program: imported from a file.
    Unknown,
}

/// How the two texts were shown, where that was not as one pair.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Showing {
    /// The ranking of all answers to a prompt that this verdict is part of: its verdicts are undone together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranking: Option<CommonText>,
    /// What there was of the answers, where the verdict was given before both had ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partial: Option<Box<PartialView>>,
}

/// What a rater was asked about a pair, where it was not plainly which answer is better.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Asked {
    /// The criterion to judge by; none for the verdict overall.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub criterion: Option<CommonText>,
    /// 0 for a verdict that counts; 1 where the pair came again to measure the rater's self-consistency.
    #[serde(default, skip_serializing_if = "is_first")]
    pub pass: u32,
    /// Whether the pair was asked again because its label and a model's scores disagree. Such a verdict replaces the
    /// rater's earlier one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub review: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_first(pass: &u32) -> bool {
    *pass == 0
}

impl Asked {
    /// The question for a criterion; none for the verdict overall.
    #[must_use]
    pub fn by(criterion: Option<&str>) -> Self {
        Self { criterion: criterion.map(CommonText::from), ..Self::default() }
    }
}

/// A rater's decision on a pair. Its identity is the sequence number of its record in the session's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The pair judged.
    pub pair: PairId,
    /// Who judged.
    pub rater: Rater,
    /// The decision, in the pair's own order (un-blinded).
    pub choice: Choice,
    /// Which completion was shown on the left (or first).
    pub left: Side,
    /// How much was read.
    pub seen: Seen,
    /// Milliseconds from first sight to decision; 0 where it is not known: imported and model verdicts.
    pub ms: u64,
    /// Stable hash of the preferred text, so that replay can prove that the stored verdict is the one given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub winner_hash: Option<WinnerHash>,
    /// What the rater was asked.
    #[serde(flatten)]
    pub asked: Asked,
    /// How the texts were shown.
    #[serde(flatten)]
    pub showing: Showing,
}

impl Verdict {
    /// Whether it was given before both answers had ended.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.showing.partial.as_ref().is_some_and(|view| view.is_partial())
    }

    /// Whether it is a vote by this criterion. A repeat measures the rater and is no vote; skipping a review leaves the
    /// earlier verdict.
    #[must_use]
    pub fn votes_on(&self, criterion: Option<&str>) -> bool {
        let Asked { criterion: by, pass, review } = &self.asked;
        by.as_deref() == criterion && *pass == 0 && !(*review && self.choice == Choice::Skip)
    }
}
