//! Recipes: one file per method, from a scored batch to its loss, gradient and metrics, with its row in the method table.
//!
//! Owns the registry and the parsing of a run's hyper-parameters. To add a method, add its file and its line here.

mod contract;
mod cpo;
mod dpo;
mod grpo;
mod kto;
mod orpo;
mod ppo;
mod reward;
mod rloo;
mod sft;
mod simpo;

#[cfg(test)]
mod tests;

pub use contract::SampledAnswer;
pub(crate) use contract::{
    BatchLoss, LossAtReference, Recipe, RolloutNeeds, ScoredExample, Separable, UpdateWindow, read,
};
pub(super) use sft::sft_loss;

use super::data::TokeniseOptions;
use crate::domain::{Method, MixParams, Needs, Params, ProbeParams, RolloutParams, TrainerParams};
use crate::model::error::Error;
use contract::Registered;

/// The registry, in the order of the launch form.
const REGISTRY: &[Registered] = &[
    dpo::DPO,
    orpo::ORPO,
    sft::SFT,
    reward::REWARD,
    ppo::PPO,
    grpo::GRPO,
    rloo::RLOO,
    cpo::CPO,
    simpo::SIMPO,
    kto::KTO,
];

/// The method table: the registry's rows, for rooms that do not know recipes.
pub(crate) const METHODS: &[Method] = &rows::<{ REGISTRY.len() }>();

const fn rows<const N: usize>() -> [Method; N] {
    let mut out = [REGISTRY[0].method; N];
    let mut i = 0;
    while i < N {
        out[i] = REGISTRY[i].method;
        i += 1;
    }
    out
}

/// A run's method with its parsed hyper-parameters.
pub(crate) struct PreparedMethod {
    /// The method.
    pub recipe: Box<dyn Recipe>,
    /// The shared hyper-parameters.
    pub shared: TrainerParams,
    /// Sampling and rewards, for online methods.
    pub rollout: Option<RolloutParams>,
    /// Mixed SFT rows; `mix_ratio` is 0 where the method mixes nothing.
    pub mix: MixParams,
    /// The forgetting probe; `probe_steps` is 0 where the method has none.
    pub probe: ProbeParams,
}

impl PreparedMethod {
    /// How rows are tokenised: as the recipe says, or as prompts for online methods.
    pub(crate) fn tokenise_options(&self, split_by_text: bool) -> TokeniseOptions {
        TokeniseOptions { split_by_text, ..self.options() }
    }

    fn options(&self) -> TokeniseOptions {
        let Some(rollout) = &self.rollout else { return self.recipe.tokenise_options(&self.shared) };
        let room = self.shared.max_length.saturating_sub(rollout.max_completion_length);
        TokeniseOptions { eval_fraction: self.shared.eval_fraction, ..TokeniseOptions::new(room) }
    }
}

/// The scalar head that a method trains beside the layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScalarHead {
    /// None: its checkpoints are language models.
    Absent,
    /// It scores answers: the result is a reward model.
    Reward,
    /// It estimates values beside a policy.
    Value,
}

/// The scalar head of a run's checkpoints.
///
/// # Errors
/// As [`prepare`].
pub(crate) fn scalar_head(method: &str, params: &Params) -> Result<ScalarHead, Error> {
    let recipe = prepare(method, params)?.recipe;
    Ok(match recipe.rollout() {
        Some(needs) if needs.values => ScalarHead::Value,
        _ if recipe.initial_score_head(1, 0).is_some() => ScalarHead::Reward,
        _ => ScalarHead::Absent,
    })
}

/// Builds a method's recipe from its hyper-parameters.
///
/// # Errors
/// When the method is unknown, a value is invalid, or options contradict each other.
pub(crate) fn prepare(method: &str, params: &Params) -> Result<PreparedMethod, Error> {
    let Some(found) = REGISTRY.iter().find(|registered| registered.method.name == method) else {
        return Err(Error::Invalid(format!("there is no recipe for the method `{method}`")));
    };
    if let Some(sentence) = found.method.contradiction(params) {
        return Err(Error::Invalid(sentence));
    }
    let answers = found.method.needs == Needs::Prompts;
    Ok(PreparedMethod {
        recipe: (found.new)(params)?,
        shared: read(params)?,
        rollout: if answers { Some(read(params)?) } else { None },
        mix: read(params)?,
        probe: read(params)?,
    })
}
