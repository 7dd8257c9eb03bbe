//! What decoding gives: one row of tokens with its log-prob.

use crate::domain::Finish;

/// One decoded row.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// Its tokens, the ending one left out.
    pub ids: Vec<u32>,
    /// Sum of the log-probs under the sampling policy, the ending token's included.
    pub logp: f64,
    /// Why it ended.
    pub finish: Finish,
    /// The token that ended it, where one did.
    pub end: Option<u32>,
}
