//! PPO with a value head on the policy (Schulman et al. 2017; Ziegler et al. 2019; Huang et al. 2024, "The N+ Implementation
//! Details of RLHF with PPO").
//!
//! Formulas: `ppo` and `advantage` in [`crate::train::loss`]. Differs from TRL 1.12: policy and value function share the
//! network and have separate heads, the score is on the answer's last token, old log-probs come from the training forward
//! pass, so ratios start at 1, and means exclude padding.

use super::contract::{
    BatchLoss, HealthHints, Recipe, Registered, RolloutNeeds, SampledAnswer, ScoredExample, UpdateWindow, read,
};
use crate::domain::{
    ANSWERS_BATCH, ANSWERS_BEST, ANSWERS_EVAL, ANSWERS_RATE, CHECKS_WEIGHT_DEPENDENCY, Condition, Dependency,
    Hyperparameters, Method, Needs, ParamKind, RolloutParams, hyperparameters, nothing, reward_formula, row,
};
use crate::model::error::Error;
use crate::nn::policy::RowGradient;
use crate::train::loss::{
    AdaptiveKl, KlEstimator, Ppo, PpoRow, Rollout, Tally, gae, rollout_metrics, token_rewards, whiten,
};
use serde_json::{Value, json};

/// The registry's row.
pub(super) const PPO: Registered =
    Registered { method: METHOD, new: |params| Ok(Box::new(PpoRecipe::new(&read(params)?))) };

/// The method table's row.
const METHOD: Method = Method {
    name: "ppo",
    title: "Proximal policy optimisation",
    help: "online RL with a value head and a KL penalty to the reference model",
    needs: Needs::Prompts,
    reference: true,
    probes: true,
    mixes: true,
    without: &["group_by_length", "max_tokens_per_batch"],
    own: PpoParams::rows,
    defaults: &[ANSWERS_RATE, ("num_iterations", "4", "1 – 4"), ANSWERS_BATCH, ANSWERS_EVAL, ANSWERS_BEST],
    dependencies: || {
        let positive = |keys, on, remedy: &'static str| Dependency {
            keys,
            condition: Condition::Positive,
            on,
            remedy: remedy.into(),
        };
        vec![
            CHECKS_WEIGHT_DEPENDENCY,
            positive(&["kl_horizon"], "kl_target", "set kl_target"),
            positive(&["cliprange_value"], "vf_coef", "raise vf_coef"),
        ]
    },
    refuse: nothing,
    objective: |params| {
        let rewards = RolloutParams::described(params, reward_formula);
        format!("{},  {rewards}", PpoParams::described(params, objective))
    },
};

hyperparameters! {
    /// Hyper-parameters of PPO.
    struct PpoParams {
        kl_coef: f64 = row(
            ParamKind::Float(0.0, 100.0),
            "0.05",
            "0.01 – 0.2",
            "coefficient of the KL penalty in the reward",
            true,
        );
        kl_target: f64 = row(
            ParamKind::Float(0.0, 10_000.0),
            "0",
            "3 – 10",
            "target KL per answer in nats for an adaptive kl_coef; 0: fixed",
            false,
        );
        kl_horizon: f64 = row(
            ParamKind::Float(1.0, 1e9),
            "10000",
            "",
            "horizon of the adaptive kl_coef, in answers",
            false,
        );
        cliprange: f64 = row(
            ParamKind::Float(0.0, 10.0),
            "0.2",
            "0.1 – 0.3",
            "clip range of the probability ratio",
            false,
        );
        cliprange_value: f64 = row(
            ParamKind::Float(0.0, 1000.0),
            "0.2",
            "0.1 – 0.5",
            "clip range of the value function",
            false,
        );
        vf_coef: f64 = row(ParamKind::Float(0.0, 100.0), "0.1", "0.05 – 1", "weight of the value loss", false);
        entropy_coef: f64 = row(ParamKind::Float(0.0, 10.0), "0", "0 – 0.01", "weight of the entropy bonus", false);
        gamma: f64 = row(ParamKind::Float(0.0, 1.0), "1", "", "discount factor per token", false);
        lam: f64 = row(ParamKind::Float(0.0, 1.0), "0.95", "0.9 – 1", "lambda of GAE", false);
        whiten_rewards: bool = row(ParamKind::Bool, "false", "", "whiten the token rewards (variance 1)", false);
    }
}

fn objective(p: &PpoParams) -> String {
    let price = match p.kl_target {
        t if t > 0.0 => format!("β (adaptive, KL → {t})"),
        _ => p.kl_coef.to_string(),
    };
    let entropy = match p.entropy_coef {
        c if c > 0.0 => format!(" − {c}·H"),
        _ => String::new(),
    };
    format!(
        "−min(ρA, clip(ρ, 1±{})A) + {}·0.5·max((V − G)², (clip(V, V_old±{}) − G)²){entropy},  A = GAE(γ {}, λ {}) of \
         r_t = −{price}·(log π − log π_ref) + R at the last token",
        p.cliprange, p.vf_coef, p.cliprange_value, p.gamma, p.lam
    )
}

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
    fn new(p: &PpoParams) -> Self {
        Self {
            ppo: Ppo { cliprange: p.cliprange, cliprange_value: p.cliprange_value, vf_coef: p.vf_coef },
            kl: AdaptiveKl { coef: p.kl_coef, target: p.kl_target, horizon: p.kl_horizon },
            gamma: p.gamma,
            lambda: p.lam,
            entropy: p.entropy_coef,
            whiten_rewards: p.whiten_rewards,
        }
    }
}

impl Recipe for PpoRecipe {
    fn rollout(&self) -> Option<RolloutNeeds> {
        Some(RolloutNeeds { reference: true, values: true })
    }

    fn health(&self) -> HealthHints {
        let kl_target = Some(self.kl.target).filter(|target| *target > 0.0);
        HealthHints { kl_target, kl_key: "kl_coef", entropy_key: "entropy_coef", ..HealthHints::default() }
    }

    fn compute_advantages(&mut self, answers: &mut [SampledAnswer], _group: usize, tally: &mut Tally) {
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

    fn loss(&self, batch: &[ScoredExample<'_>], window: &UpdateWindow, tally: &mut Tally) -> Result<BatchLoss, Error> {
        let batch = batch.iter().map(ScoredExample::sampled_answer).collect::<Result<Vec<_>, Error>>()?;
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
        // The loss is a mean over the micro-batch's tokens, so its share of the update is by tokens.
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
        Ok(BatchLoss { loss: out.loss * share - per_token * entropy, g: g.collect() })
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
