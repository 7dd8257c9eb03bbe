//! PPO with a value head on the policy (Schulman et al. 2017; Ziegler et al. 2019; Huang et al. 2024, "The N+ Implementation
//! Details of RLHF with PPO").
//!
//! Formulas: [`crate::train::loss`]'s `ppo` and `advantage`. Differs from TRL 1.12: policy and value share the network and
//! differ in their heads, the score lies on the answer's last token, old log-probs come from the forward pass that trains, so
//! that ratios begin at 1, and only real tokens enter a mean.

use super::contract::{Answer, AnyRecipe, Loss, OnlineRecipe, RecipeRow, Shape, UpdateWindow};
use crate::domain::Params;
use crate::nn::policy::{RowGradient, RowScores};
use crate::train::loss::{
    AdaptiveKl, KlEstimator, Ppo, PpoRow, Rollout, Tally, gae, rollout_metrics, token_rewards, whiten,
};
use serde_json::{Value, json};

/// Its row in the registry.
pub(super) const RECIPE: RecipeRow =
    RecipeRow { name: "ppo", open: |params| Ok(AnyRecipe::online(PpoRecipe::new(params))) };

/// The recipe.
struct PpoRecipe {
    ppo: Ppo,
    kl: AdaptiveKl,
    gamma: f64,
    lambda: f64,
    entropy: f64,
    whiten_rewards: bool,
}

impl PpoRecipe {
    fn new(params: &Params) -> Self {
        Self {
            ppo: Ppo {
                cliprange: params.f64("cliprange"),
                cliprange_value: params.f64("cliprange_value"),
                vf_coef: params.f64("vf_coef"),
            },
            kl: AdaptiveKl {
                coef: params.f64("kl_coef"),
                target: params.f64("kl_target"),
                horizon: params.f64("kl_horizon"),
            },
            gamma: params.f64("gamma"),
            lambda: params.f64("lam"),
            entropy: params.f64("entropy_coef"),
            whiten_rewards: params.bool("whiten_rewards"),
        }
    }
}

impl OnlineRecipe for PpoRecipe {
    fn shape(&self) -> Shape {
        Shape { reference: true, values: true }
    }

    fn judge(&mut self, answers: &mut [Answer], _group: usize, tally: &mut Tally) {
        let coef = self.kl.coef;
        let mut rewards: Vec<Vec<f64>> =
            answers.iter().map(|a| token_rewards(&a.old, &a.reference, a.reward, coef, KlEstimator::K1)).collect();
        if self.whiten_rewards {
            whiten(&mut rewards, false);
        }
        let mut advantages = Vec::with_capacity(answers.len());
        for (answer, rewards) in answers.iter_mut().zip(&rewards) {
            let (own, returns) = gae(rewards, &answer.values, self.gamma, self.lambda);
            advantages.push(own);
            answer.returns = returns;
        }
        whiten(&mut advantages, true);
        for (answer, own) in answers.iter_mut().zip(advantages) {
            answer.advantages = own;
        }
        let rollouts: Vec<Rollout<'_>> =
            answers.iter().map(|a| Rollout { old: &a.old, reference: &a.reference, score: a.reward }).collect();
        let kl = rollout_metrics(&rollouts, coef, KlEstimator::K1, tally);
        for answer in answers.iter() {
            for (old, reference) in answer.old.iter().zip(&answer.reference) {
                tally.add("objective/kl_k3", KlEstimator::K3.at(*old, *reference), 1.0);
            }
        }
        tally.add("val/num_eos_tokens", answers.iter().filter(|a| a.ended).count() as f64, 1.0);
        tally.add("kl_coef", coef, 1.0);
        if self.kl.target > 0.0 {
            self.kl.update(kl, answers.len());
        }
    }

    fn loss(&self, batch: &[(&Answer, &RowScores)], window: &UpdateWindow, tally: &mut Tally) -> Loss {
        let rows: Vec<PpoRow<'_>> = batch
            .iter()
            .map(|(answer, scores)| PpoRow {
                new: &scores.logp,
                old: &answer.old,
                advantages: &answer.advantages,
                values: &scores.value,
                old_values: &answer.values,
                returns: &answer.returns,
            })
            .collect();
        let out = self.ppo.loss(&rows, tally);
        // The loss is a mean over the micro-batch's tokens; its part of the update's mean goes by its tokens.
        let tokens: usize = rows.iter().map(|r| r.new.len()).sum();
        let share = tokens as f64 / window.tokens.max(1.0);
        let entropy: f64 = batch.iter().flat_map(|(_, s)| &s.entropy).sum();
        for x in batch.iter().flat_map(|(_, s)| &s.entropy) {
            tally.add("policy/entropy_avg", *x, 1.0);
        }
        let per_token = self.entropy / window.tokens.max(1.0);
        let scaled = |x: Vec<f64>| x.into_iter().map(|g| g * share).collect::<Vec<f64>>();
        let g = out.policy.into_iter().zip(out.value).map(|(logp, value)| RowGradient {
            entropy: if self.entropy > 0.0 { vec![-per_token; logp.len()] } else { Vec::new() },
            logp: scaled(logp),
            value: scaled(value),
        });
        Loss { loss: out.loss * share - per_token * entropy, g: g.collect() }
    }

    fn state(&self) -> Value {
        json!({ "kl_coef": self.kl.coef })
    }

    fn restore(&mut self, state: &Value) {
        if let Some(coef) = state.get("kl_coef").and_then(Value::as_f64) {
            self.kl.coef = coef;
        }
    }
}
