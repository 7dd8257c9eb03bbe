//! GRPO (Shao et al. 2024) with the reductions of DAPO and Dr. GRPO and GSPO's sequence ratio.
//!
//! Formulas: [`crate::train::loss`]'s `grpo` and `advantage`. Differs from TRL 1.16: old log-probs come from the forward pass
//! that trains, whether one update is made of a round or several, and `kl` and `entropy` are weighted by tokens.

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
    help: "several answers to each prompt; those above their group's mean are made likelier; no value head",
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
    /// How token losses are added up.
    enum GrpoLoss {
        /// By the update's tokens.
        Dapo = "dapo",
        /// By answers.
        Grpo = "grpo",
        /// By the micro-batch's tokens.
        Bnpo = "bnpo",
        /// By the longest answer allowed.
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
            "weight of the KL to the reference; 0 needs none",
            true,
        );
        loss_type: GrpoLoss = row(
            ParamKind::Choice(GrpoLoss::WORDS),
            "dapo",
            "",
            "how token losses are added up: by tokens, by answers, by the longest answer",
            false,
        );
        scale_rewards: RewardScale = row(
            ParamKind::Choice(RewardScale::WORDS),
            "group",
            "",
            "standard deviation that advantages are divided by",
            false,
        );
        epsilon: f64 = EPSILON;
        epsilon_high: f64 = EPSILON_HIGH;
        importance_sampling_level: RatioLevel = row(
            ParamKind::Choice(RatioLevel::WORDS),
            "token",
            "",
            "ratio of each token, or of the whole answer (GSPO)",
            false,
        );
        use_bias_correction_kl: bool = row(ParamKind::Bool, "true", "", "multiply the KL by the ratio", false);
        mask_truncated_completions: bool = row(
            ParamKind::Bool,
            "false",
            "",
            "answers that did not end teach nothing",
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
        RewardScale::Group => " / std of its group",
    };
    let ratio = if p.importance_sampling_level == RatioLevel::Sequence { ", ρ of the whole answer" } else { "" };
    format!(
        "−min(ρA, clip(ρ, 1−{}, 1+{})A){kl} ({}),  A = (R − mean of its group){by}{ratio}",
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
            // Micro-batches of one window are added, not averaged.
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
