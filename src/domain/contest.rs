//! Who is compared in an evaluation, and on what. Owns these names; refuses results.

use serde::{Deserialize, Serialize};

/// One of the two compared models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Contestant {
    /// The model in question.
    A,
    /// What it is compared with.
    B,
}

impl Contestant {
    /// Both, in order.
    pub const BOTH: [Self; 2] = [Self::A, Self::B];

    /// 0 or 1.
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::A => 0,
            Self::B => 1,
        }
    }

    /// `a` or `b`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }
}

/// An item of a suite, for one seed of sampling.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ItemKey {
    /// The suite.
    pub suite: String,
    /// The item's name within the suite.
    pub item: String,
    /// The seed's number from 0; always 0 without sampling.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub seed: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}
