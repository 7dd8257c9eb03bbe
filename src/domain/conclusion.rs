//! What a comparison lets one say, in words. Owns the words; refuses numbers.

use super::evaluation::{BETTER_NEEDS, CannotTell, ComparisonVerdict};
use super::suite::Better;
use serde::Serialize;

/// A conclusion in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Conclusion {
    /// `better`, `worse`, `higher`, `lower` or `cannot tell`.
    pub word: &'static str,
    /// Why it cannot tell, and what would.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// A verdict in words; `noun` is what more are needed of.
pub(super) fn conclude(verdict: &ComparisonVerdict, better: Better, noun: &str) -> Conclusion {
    let word = match (verdict, better) {
        (ComparisonVerdict::Better, Better::Higher) | (ComparisonVerdict::Worse, Better::Lower) => "better",
        (ComparisonVerdict::Worse, Better::Higher) | (ComparisonVerdict::Better, Better::Lower) => "worse",
        (ComparisonVerdict::Better, Better::Neither) => "higher",
        (ComparisonVerdict::Worse, Better::Neither) => "lower",
        (ComparisonVerdict::CannotTell(_), _) => "cannot tell",
    };
    let detail = match verdict {
        ComparisonVerdict::CannotTell(CannotTell::Needs(n)) => Some(format!("about {n} {noun}s would tell")),
        ComparisonVerdict::CannotTell(CannotTell::NoDifference) => Some("no difference was seen".into()),
        ComparisonVerdict::CannotTell(CannotTell::RoundsToHalf) => Some("the rate rounds to 50 %".into()),
        ComparisonVerdict::CannotTell(CannotTell::TooFewPrompts) => Some(format!("fewer than {BETTER_NEEDS} {noun}s")),
        ComparisonVerdict::CannotTell(CannotTell::NoInterval) => Some("there is no interval".into()),
        _ => None,
    };
    Conclusion { word, detail }
}
