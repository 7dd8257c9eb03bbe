//! RLOO (Ahmadian et al. 2024, "Back to Basics: Revisiting REINFORCE Style Optimization for Learning from Human Feedback").
//!
//! Formulas: [`crate::train::loss`]'s `rloo` and `advantage`. Differs from TRL 1.16 as GRPO here does.

use super::contract::{Answer, AnyRecipe, Loss, OnlineRecipe, RecipeRow, Shape, UpdateWindow};
use crate::domain::Params;
use crate::nn::policy::{RowGradient, RowScores};
use crate::train::loss::{Rloo, RlooRow, Tally, leave_one_out, reward_metrics};

/// What is added to the standard deviation before it divides, as in TRL.
const STD_FLOOR: f64 = 1e-4;

/// Its row in the registry.
pub(super) const RECIPE: RecipeRow =
    RecipeRow { name: "rloo", open: |params| Ok(AnyRecipe::online(RlooRecipe::new(params))) };

/// The recipe.
struct RlooRecipe {
    rloo: Rloo,
    normalize: bool,
}

impl RlooRecipe {
    fn new(params: &Params) -> Self {
        Self {
            rloo: Rloo {
                beta: params.f64("beta"),
                epsilon_low: params.f64("epsilon"),
                epsilon_high: params.f64("epsilon_high"),
            },
            normalize: params.bool("normalize_advantages"),
        }
    }
}

impl OnlineRecipe for RlooRecipe {
    fn shape(&self) -> Shape {
        Shape { reference: self.rloo.beta > 0.0, values: false }
    }

    fn judge(&mut self, answers: &mut [Answer], group: usize, tally: &mut Tally) {
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

    fn loss(&self, batch: &[(&Answer, &RowScores)], window: &UpdateWindow, tally: &mut Tally) -> Loss {
        let rows: Vec<RlooRow<'_>> = batch
            .iter()
            .map(|(answer, scores)| RlooRow {
                new: &scores.logp,
                old: &answer.old,
                advantage: answer.advantages.first().copied().unwrap_or(0.0),
            })
            .collect();
        let out = self.rloo.loss(&rows, tally);
        for (_, scores) in batch {
            scores.entropy.iter().for_each(|x| tally.add("entropy", *x, 1.0));
        }
        let share = 1.0 / window.micro as f64;
        let g = out.g.into_iter().map(|g| RowGradient::from(g.into_iter().map(|x| x * share).collect::<Vec<f64>>()));
        Loss { loss: out.loss * share, g: g.collect() }
    }
}
