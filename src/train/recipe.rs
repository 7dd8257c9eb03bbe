//! Recipes: one file a method, from a scored batch to its loss, its gradient and its metrics, with its row in the method table.
//!
//! Owns the registry, and a run's method with its hyper-parameters read. To add a method, add its file and its row here.

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
    BatchLoss, HealthHints, LossAtReference, Recipe, RolloutNeeds, ScoredExample, Separable, UpdateWindow, read,
};
pub(super) use sft::sft_loss;

use super::data::TokeniseOptions;
use crate::domain::{Method, MixParams, Needs, Params, ProbeParams, RolloutParams, TrainerParams};
use crate::model::error::Error;
use contract::Registered;

/// The registry, in the order in which the form shows the methods.
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

/// The method table: the registry's rows, which everything that knows no recipe reads.
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

/// A run's method with everything that its hyper-parameters say.
pub(crate) struct PreparedMethod {
    /// The method.
    pub recipe: Box<dyn Recipe>,
    /// What every method reads.
    pub shared: TrainerParams,
    /// How the policy answers, where the method learns from its answers.
    pub rollout: Option<RolloutParams>,
    /// What is mixed in; a `mix_ratio` of 0 where the method mixes nothing.
    pub mix: MixParams,
    /// What is measured of general text; `probe_steps` of 0 where nothing is.
    pub probe: ProbeParams,
}

impl PreparedMethod {
    /// How rows become examples: as the recipe says, or, for methods that answer them, as prompts.
    pub(crate) fn tokenise_options(&self) -> TokeniseOptions {
        let Some(rollout) = &self.rollout else { return self.recipe.tokenise_options(&self.shared) };
        let room = self.shared.max_length.saturating_sub(rollout.max_completion_length);
        TokeniseOptions { eval_fraction: self.shared.eval_fraction, ..TokeniseOptions::new(room) }
    }
}

/// The recipe of a method with its hyper-parameters.
///
/// # Errors
/// When there is none of that name, a value does not read, or options contradict each other.
pub(crate) fn prepare(method: &str, params: &Params) -> Result<PreparedMethod, Error> {
    let Some(found) = REGISTRY.iter().find(|registered| registered.method.name == method) else {
        return Err(Error::Asked(format!("there is no recipe for the method `{method}`")));
    };
    if let Some(sentence) = found.method.contradiction(params) {
        return Err(Error::Asked(sentence));
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
