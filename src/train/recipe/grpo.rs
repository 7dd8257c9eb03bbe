//! GRPO (Shao et al. 2024) with the reductions of DAPO and Dr. GRPO and GSPO's sequence ratio.
//!
//! Formulas: `grpo` and `advantage` in [`crate::train::loss`]. Differs from TRL 1.16: old log-probs always come from the
//! training forward pass, and `kl` and `entropy` are weighted by tokens.

use super::contract::{BatchLoss, Recipe, Registered, RolloutNeeds, SampledAnswer, ScoredExample, UpdateWindow, read};
use crate::domain::{
    ANSWERS_BATCH, ANSWERS_BEST, ANSWERS_EVAL, ANSWERS_RATE, CHECKS_WEIGHT_DEPENDENCY, Condition, Dependency, EPSILON,
    EPSILON_HIGH, Hyperparameters, Method, Needs, ParamKind, RolloutParams, choices, hyperparameters, nothing,
    reward_formula, row,
};
use crate::model::error::Error;
use crate::nn::policy::RowGradient;
use crate::train::loss::{Grpo, GrpoRow, RatioLevel, Reduction, RewardScale, Tally, group_advantages, reward_metrics};

/// The registry's row.
pub(super) const GRPO: Registered = Registered {
    method: METHOD,
    new: |params| Ok(Box::new(GrpoRecipe::new(&read(params)?, &read::<RolloutParams>(params)?))),
};

/// The method table's row.
const METHOD: Method = Method {
    name: "grpo",
    title: "Group-relative policy optimisation",
    help: "online RL with advantages relative to a prompt's other answers; no value head",
    needs: Needs::Prompts,
    reference: true,
    probes: true,
    mixes: true,
    without: &["group_by_length", "max_tokens_per_batch"],
    own: GrpoParams::rows,
    defaults: &[ANSWERS_RATE, ("num_generations", "8", "4 – 16"), ANSWERS_BATCH, ANSWERS_EVAL, ANSWERS_BEST],
    dependencies: || {
        let beta = Dependency {
            keys: &["use_bias_correction_kl"],
            condition: Condition::Positive,
            on: "beta",
            remedy: "raise beta".into(),
        };
        vec![CHECKS_WEIGHT_DEPENDENCY, beta]
    },
    refuse: nothing,
    objective: |params| {
        let rewards = RolloutParams::described(params, reward_formula);
        format!("{},  {rewards}", GrpoParams::described(params, objective))
    },
};

choices! {
    /// How token losses are aggregated.
    enum GrpoLoss {
        /// Divided by the update's tokens.
        Dapo = "dapo",
        /// Mean per answer, then over answers.
        Grpo = "grpo",
        /// Divided by the micro-batch's tokens.
        Bnpo = "bnpo",
        /// Divided by `max_completion_length`.
        DrGrpo = "dr_grpo",
    }
}

hyperparameters! {
    /// Hyper-parameters of GRPO.
    struct GrpoParams {
        beta: f64 = row(
            ParamKind::Float(0.0, 100.0),
            "0",
            "0 – 0.1",
            "KL coefficient; 0 loads no reference model",
            true,
        );
        loss_type: GrpoLoss = row(
            ParamKind::Choice(GrpoLoss::WORDS),
            "dapo",
            "",
            "how token losses are aggregated",
            false,
        );
        scale_rewards: RewardScale = row(
            ParamKind::Choice(RewardScale::WORDS),
            "group",
            "",
            "standard deviation that scales the advantages",
            false,
        );
        epsilon: f64 = EPSILON;
        epsilon_high: f64 = EPSILON_HIGH;
        importance_sampling_level: RatioLevel = row(
            ParamKind::Choice(RatioLevel::WORDS),
            "token",
            "",
            "importance ratio per token or per answer (GSPO)",
            false,
        );
        use_bias_correction_kl: bool = row(ParamKind::Bool, "true", "", "correct the KL estimate by the importance ratio", false);
        mask_truncated_completions: bool = row(
            ParamKind::Bool,
            "false",
            "",
            "exclude truncated answers from the loss",
            false,
        );
    }
}

fn objective(p: &GrpoParams) -> String {
    let kl = match p.beta {
        beta if beta > 0.0 && p.use_bias_correction_kl => format!(" + {beta}·ρ·KL₃(π_ref)"),
        beta if beta > 0.0 => format!(" + {beta}·KL₃(π_ref)"),
        _ => String::new(),
    };
    let by = match p.scale_rewards {
        RewardScale::None => "",
        RewardScale::Batch => " / std of the batch",
        RewardScale::Group => " / std of the group",
    };
    let ratio = if p.importance_sampling_level == RatioLevel::Sequence { ", ρ per answer" } else { "" };
    format!(
        "−min(ρA, clip(ρ, 1−{}, 1+{})A){kl} ({}),  A = (R − mean of the group){by}{ratio}",
        p.epsilon, p.epsilon_high, p.loss_type
    )
}

/// The recipe.
struct GrpoRecipe {
    grpo: Grpo,
    scale: RewardScale,
    mask_truncated: bool,
}

impl GrpoRecipe {
    fn new(p: &GrpoParams, rollout: &RolloutParams) -> Self {
        let reduction = match p.loss_type {
            GrpoLoss::Grpo => Reduction::Grpo,
            GrpoLoss::Bnpo => Reduction::Bnpo,
            GrpoLoss::DrGrpo => Reduction::DrGrpo { max_completion_length: rollout.max_completion_length as f64 },
            GrpoLoss::Dapo => Reduction::Dapo { window_tokens: 0.0 },
        };
        Self {
            grpo: Grpo {
                epsilon_low: p.epsilon,
                epsilon_high: p.epsilon_high,
                beta: p.beta,
                use_bias_correction_kl: p.use_bias_correction_kl,
                level: p.importance_sampling_level,
                reduction,
            },
            scale: p.scale_rewards,
            mask_truncated: p.mask_truncated_completions,
        }
    }

    fn learned(&self, answer: &SampledAnswer) -> bool {
        answer.ended || !self.mask_truncated
    }
}

impl Recipe for GrpoRecipe {
    fn rollout(&self) -> Option<RolloutNeeds> {
        Some(RolloutNeeds { reference: self.grpo.beta > 0.0, values: false })
    }

    fn compute_advantages(&mut self, answers: &mut [SampledAnswer], group: usize, tally: &mut Tally) {
        let rewards: Vec<f64> = answers.iter().map(|a| a.reward).collect();
        for (answer, advantage) in answers.iter_mut().zip(group_advantages(&rewards, group, self.scale)) {
            answer.advantages = vec![advantage];
        }
        reward_metrics(&rewards, group, tally);
    }

    fn loss(&self, batch: &[ScoredExample<'_>], window: &UpdateWindow, tally: &mut Tally) -> Result<BatchLoss, Error> {
        let batch = batch.iter().map(ScoredExample::sampled_answer).collect::<Result<Vec<_>, Error>>()?;
        let rows: Vec<GrpoRow<'_>> = batch
            .iter()
            .map(|(answer, scores)| {
                let n = if self.learned(answer) { scores.logp.len() } else { 0 };
                GrpoRow {
                    new: &scores.logp[..n],
                    old: &answer.old[..n],
                    reference: &answer.reference[..n.min(answer.reference.len())],
                    advantage: answer.advantages.first().copied().unwrap_or(0.0),
                }
            })
            .collect();
        let (reduction, share) = match self.grpo.reduction {
            // Micro-batches of one window are summed, not averaged.
            Reduction::Dapo { .. } => (Reduction::Dapo { window_tokens: window.tokens }, 1.0),
            other => (other, window.share),
        };
        let out = Grpo { reduction, ..self.grpo }.loss(&rows, tally);
        for (answer, scores) in &batch {
            if self.learned(answer) {
                scores.entropy.iter().for_each(|x| tally.add("entropy", *x, 1.0));
            }
        }
        let g = out.g.into_iter().zip(&batch).map(|(g, (_, scores))| {
            let mut logp: Vec<f64> = g.into_iter().map(|x| x * share).collect();
            logp.resize(scores.logp.len(), 0.0);
            RowGradient::from(logp)
        });
        Ok(BatchLoss { loss: out.loss * share, g: g.collect() })
    }
}
