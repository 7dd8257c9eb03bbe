//! Suites measured while a run trains. Owns when; refuses to know suites: the caller brings what measures them.

use crate::domain::{Finding, Metrics};
use crate::model::error::Error;
use crate::model::language_model::LanguageModel;
use crate::nn::policy::Policy;

/// Measures suites on the policy in training.
pub trait PeriodicSuites {
    /// The values now, by names such as `suite/ifeval/prompt_strict`, and what the user should know of them.
    ///
    /// # Errors
    /// When the policy cannot answer.
    fn measure(&mut self, model: &LanguageModel, policy: &Policy, step: u64) -> Result<(Metrics, Vec<Finding>), Error>;
}

/// How the names of suites' metrics begin.
pub const SUITE_PREFIX: &str = "suite/";
