//! The result of decoding: one row of tokens with its log-prob.

use crate::domain::Finish;

/// One decoded row.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// Its tokens, without the stop token.
    pub ids: Vec<u32>,
    /// Sum of the log-probs under the sampling policy, including the stop token's.
    pub logp: f64,
    /// Why it ended.
    pub finish: Finish,
    /// The stop token that ended it, if any.
    pub end: Option<u32>,
}
