//! GRPO (Shao et al. 2024) with the reductions of DAPO and Dr. GRPO and GSPO's sequence ratio.
//!
//! Formulas: [`crate::train::loss`]'s `grpo` and `advantage`. Differs from TRL 1.16: old log-probs come from the forward pass
//! that trains, whether one update is made of a round or several, and `kl` and `entropy` are weighted by tokens.

use super::contract::{Answer, AnyRecipe, Loss, OnlineRecipe, RecipeRow, Shape, UpdateWindow};
use crate::domain::Params;
use crate::nn::policy::{RowGradient, RowScores};
use crate::train::loss::{Grpo, GrpoRow, Level, Reduction, Scale, Tally, group_advantages, reward_metrics};

/// Its row in the registry.
pub(super) const RECIPE: RecipeRow =
    RecipeRow { name: "grpo", open: |params| Ok(AnyRecipe::online(GrpoRecipe::new(params))) };

/// The recipe.
struct GrpoRecipe {
    grpo: Grpo,
    scale: Scale,
    mask_truncated: bool,
}

impl GrpoRecipe {
    fn new(params: &Params) -> Self {
        let reduction = match params.text("loss_type") {
            "grpo" => Reduction::Grpo,
            "bnpo" => Reduction::Bnpo,
            "dr_grpo" => Reduction::DrGrpo { max_completion_length: params.f64("max_completion_length") },
            _ => Reduction::Dapo { window_tokens: 0.0 },
        };
        let scale = match params.text("scale_rewards") {
            "batch" => Scale::Batch,
            "none" => Scale::None,
            _ => Scale::Group,
        };
        let level = if params.text("importance_sampling_level") == "sequence" { Level::Sequence } else { Level::Token };
        Self {
            grpo: Grpo {
                epsilon_low: params.f64("epsilon"),
                epsilon_high: params.f64("epsilon_high"),
                beta: params.f64("beta"),
                use_bias_correction_kl: params.bool("use_bias_correction_kl"),
                level,
                reduction,
            },
            scale,
            mask_truncated: params.bool("mask_truncated_completions"),
        }
    }

    fn learned(&self, answer: &Answer) -> bool {
        answer.ended || !self.mask_truncated
    }
}

impl OnlineRecipe for GrpoRecipe {
    fn shape(&self) -> Shape {
        Shape { reference: self.grpo.beta > 0.0, values: false }
    }

    fn judge(&mut self, answers: &mut [Answer], group: usize, tally: &mut Tally) {
        let rewards: Vec<f64> = answers.iter().map(|a| a.reward).collect();
        for (answer, advantage) in answers.iter_mut().zip(group_advantages(&rewards, group, self.scale)) {
            answer.advantages = vec![advantage];
        }
        reward_metrics(&rewards, group, tally);
    }

    fn loss(&self, batch: &[(&Answer, &RowScores)], window: &UpdateWindow, tally: &mut Tally) -> Loss {
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
            other => (other, 1.0 / window.micro as f64),
        };
        let out = Grpo { reduction, ..self.grpo }.loss(&rows, tally);
        for (answer, scores) in batch {
            if self.learned(answer) {
                scores.entropy.iter().for_each(|x| tally.add("entropy", *x, 1.0));
            }
        }
        let g = out.g.into_iter().zip(batch).map(|(g, (_, scores))| {
            let mut logp: Vec<f64> = g.into_iter().map(|x| x * share).collect();
            logp.resize(scores.logp.len(), 0.0);
            RowGradient::from(logp)
        });
        Loss { loss: out.loss * share, g: g.collect() }
    }
}
