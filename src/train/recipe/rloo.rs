//! RLOO (Ahmadian et al. 2024, "Back to Basics: Revisiting REINFORCE Style Optimization for Learning from Human Feedback").
//!
//! Formulas: `rloo` and `advantage` in [`crate::train::loss`]. Differs from TRL 1.16 in the same points as GRPO.

use super::contract::{BatchLoss, Recipe, Registered, RolloutNeeds, SampledAnswer, ScoredExample, UpdateWindow, read};
use crate::domain::{
    ANSWERS_BATCH, ANSWERS_BEST, ANSWERS_EVAL, ANSWERS_RATE, CHECKS_WEIGHT_DEPENDENCY, EPSILON, EPSILON_HIGH,
    Hyperparameters, Method, Needs, ParamKind, RolloutParams, hyperparameters, nothing, reward_formula, row,
};
use crate::model::error::Error;
use crate::nn::policy::RowGradient;
use crate::train::loss::{Rloo, RlooRow, Tally, leave_one_out, reward_metrics};

/// Added to the standard deviation before division, as in TRL.
const STD_FLOOR: f64 = 1e-4;

/// The registry's row.
pub(super) const RLOO: Registered =
    Registered { method: METHOD, new: |params| Ok(Box::new(RlooRecipe::new(&read(params)?))) };

/// The method table's row.
const METHOD: Method = Method {
    name: "rloo",
    title: "REINFORCE leave-one-out",
    help: "REINFORCE with the mean of a prompt's other answers as baseline; no value head",
    needs: Needs::Prompts,
    reference: true,
    probes: true,
    mixes: true,
    without: &["group_by_length", "max_tokens_per_batch"],
    own: RlooParams::rows,
    defaults: &[ANSWERS_RATE, ANSWERS_BATCH, ANSWERS_EVAL, ANSWERS_BEST],
    dependencies: || vec![CHECKS_WEIGHT_DEPENDENCY],
    refuse: nothing,
    objective: |params| {
        let rewards = RolloutParams::described(params, reward_formula);
        format!("{},  {rewards}", RlooParams::described(params, objective))
    },
};

hyperparameters! {
    /// Hyper-parameters of RLOO.
    struct RlooParams {
        beta: f64 = row(
            ParamKind::Float(0.0, 100.0),
            "0.05",
            "0.01 – 0.1",
            "coefficient of the KL penalty in the reward",
            true,
        );
        epsilon: f64 = EPSILON;
        epsilon_high: f64 = EPSILON_HIGH;
        normalize_advantages: bool = row(
            ParamKind::Bool,
            "false",
            "",
            "normalise the advantages to mean 0 and variance 1",
            false,
        );
    }
}

fn objective(p: &RlooParams) -> String {
    let price = match p.beta {
        beta if beta > 0.0 => format!(" − {beta}·Σ(log π − log π_ref)"),
        _ => String::new(),
    };
    let scaled = if p.normalize_advantages { ", normalised to mean 0 and variance 1" } else { "" };
    format!(
        "−min(ρA, clip(ρ, 1−{}, 1+{})A),  A = R′ − mean R′ of the group's others{scaled},  R′ = R{price}",
        p.epsilon, p.epsilon_high
    )
}

/// The recipe.
struct RlooRecipe {
    rloo: Rloo,
    normalize: bool,
}

impl RlooRecipe {
    fn new(p: &RlooParams) -> Self {
        Self {
            rloo: Rloo { beta: p.beta, epsilon_low: p.epsilon, epsilon_high: p.epsilon_high },
            normalize: p.normalize_advantages,
        }
    }
}

impl Recipe for RlooRecipe {
    fn rollout(&self) -> Option<RolloutNeeds> {
        Some(RolloutNeeds { reference: self.rloo.beta > 0.0, values: false })
    }

    fn compute_advantages(&mut self, answers: &mut [SampledAnswer], group: usize, tally: &mut Tally) {
        let rewards: Vec<f64> = answers.iter().map(|a| a.reward).collect();
        reward_metrics(&rewards, group, tally);
        let paid: Vec<f64> =
            answers.iter().map(|a| self.rloo.penalised(a.reward, &a.old, &a.reference, tally)).collect();
        let mut advantages = leave_one_out(&paid, group);
        if self.normalize && advantages.len() > 1 {
            let n = advantages.len() as f64;
            let mean = advantages.iter().sum::<f64>() / n;
            let std = (advantages.iter().map(|a| (a - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
            for a in &mut advantages {
                *a = (*a - mean) / (std + STD_FLOOR);
            }
        }
        for (answer, advantage) in answers.iter_mut().zip(advantages) {
            answer.advantages = vec![advantage];
        }
    }

    fn loss(&self, batch: &[ScoredExample<'_>], window: &UpdateWindow, tally: &mut Tally) -> Result<BatchLoss, Error> {
        let batch = batch.iter().map(ScoredExample::sampled_answer).collect::<Result<Vec<_>, Error>>()?;
        let rows: Vec<RlooRow<'_>> = batch
            .iter()
            .map(|(answer, scores)| RlooRow {
                new: &scores.logp,
                old: &answer.old,
                advantage: answer.advantages.first().copied().unwrap_or(0.0),
            })
            .collect();
        let out = self.rloo.loss(&rows, tally);
        for (_, scores) in &batch {
            scores.entropy.iter().for_each(|x| tally.add("entropy", *x, 1.0));
        }
        let share = window.share;
        let g = out.g.into_iter().map(|g| RowGradient::from(g.into_iter().map(|x| x * share).collect::<Vec<f64>>()));
        Ok(BatchLoss { loss: out.loss * share, g: g.collect() })
    }
}
