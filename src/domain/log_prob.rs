//! The log-probability of a text, where it is known: in eight bytes, since a long session holds one for each answer.
//!
//! Refuses to tell a log-prob that is no number from an unknown one: neither says anything.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// A sum of log-probs in nats, where it is known.
#[derive(Clone, Copy)]
pub struct LogProb(f64);

impl LogProb {
    /// Not known.
    pub const UNKNOWN: Self = Self(f64::NAN);

    /// The number, where it is known.
    #[must_use]
    pub fn known(self) -> Option<f64> {
        Some(self.0).filter(|sum| !sum.is_nan())
    }

    /// Whether it is not known.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.0.is_nan()
    }
}

impl Default for LogProb {
    fn default() -> Self {
        Self::UNKNOWN
    }
}

impl From<f64> for LogProb {
    fn from(sum: f64) -> Self {
        Self(sum)
    }
}

impl fmt::Debug for LogProb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.known(), f)
    }
}

impl PartialEq for LogProb {
    fn eq(&self, other: &Self) -> bool {
        self.known() == other.known()
    }
}

impl Serialize for LogProb {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.known().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for LogProb {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::<f64>::deserialize(deserializer)?.map_or(Self::UNKNOWN, Self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_log_prob_is_null_and_equals_itself() {
        for sum in [LogProb::from(-40.25), LogProb::from(0.0), LogProb::UNKNOWN] {
            let json = serde_json::to_string(&sum).unwrap();
            assert_eq!((serde_json::from_str::<LogProb>(&json).unwrap(), json == "null"), (sum, sum.is_unknown()));
        }
        assert!(LogProb::from(f64::NAN) == LogProb::UNKNOWN && LogProb::from(0.0) != LogProb::UNKNOWN);
        assert_eq!((LogProb::from(-1.5).known(), LogProb::default().known()), (Some(-1.5), None));
    }
}
