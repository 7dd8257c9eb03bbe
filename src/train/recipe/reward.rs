//! Reward model: −log σ(r_c − r_r − margin) (Bradley and Terry 1952; Ouyang et al. 2022), r the scalar head on the last token.
//!
//! `center_rewards_coefficient` adds its multiple of mean (r_c + r_r)² (Eisenstein et al. 2023). `use_margin` takes the
//! strength of the verdict as the margin, `soft_labels` the share of the votes as the label. Differs from TRL 1.16: the score
//! is read at the answer's true last token, never looked for by the padding's id; what was learned is calibrated on the
//! held-out pairs, and the calibration is part of the checkpoint, together with the way rows are rendered.

use super::contract::{AnyRecipe, Apart, Loss, Recipe, RecipeRow, Seen, Window};
use crate::domain::{Metrics, Params};
use crate::model::error::Error;
use crate::nn::policy::{RowGradient, RowScores};
use crate::nn::random::{normal, stream};
use crate::train::data::Making;
use crate::train::loss::{Calibration, Reward, RewardPair, Tally, calibrate};
use serde_json::Value;

/// Its row in the registry.
pub(super) const RECIPE: RecipeRow =
    RecipeRow { name: "reward", open: |params| Ok(AnyRecipe::offline(RewardRecipe::new(params))) };

/// The recipe.
struct RewardRecipe {
    reward: Reward,
    margin: bool,
    soft: bool,
    calibration: Option<Calibration>,
}

impl RewardRecipe {
    fn new(params: &Params) -> Self {
        Self {
            reward: Reward { center_rewards_coefficient: params.f64("center_rewards_coefficient") },
            margin: params.bool("use_margin"),
            soft: params.bool("soft_labels"),
            calibration: None,
        }
    }
}

/// The scores of a pair, chosen first.
fn scores(pair: &[RowScores]) -> Option<(f64, f64)> {
    match pair {
        [chosen, rejected] => Some((*chosen.value.last()?, *rejected.value.last()?)),
        _ => None,
    }
}

impl Recipe for RewardRecipe {
    fn making(&self, params: &Params) -> Making {
        Making { valued: true, eval_fraction: params.f64("eval_fraction"), ..Making::plain(params.usize("max_length")) }
    }

    fn score_head(&self, hidden: usize, params: &Params) -> Option<Vec<f64>> {
        // N(0, 0.02) as Hugging Face starts a classifier's head.
        let mut rng = stream(params.i64("seed") as u64, 1 << 39);
        Some((0..hidden).map(|_| 0.02 * normal(&mut rng)).collect())
    }

    fn apart(&self) -> Apart {
        Apart::Mean
    }

    fn loss(&self, batch: &[Seen<'_>], window: &Window, tally: &mut Tally) -> Result<Loss, Error> {
        let mut pairs = Vec::with_capacity(batch.len());
        for pair in batch {
            let Some((chosen, rejected)) = scores(pair.scores) else {
                return Err(Error::Asked(format!("pair {} was not scored on both sides", pair.example.id)));
            };
            let margin = pair.example.margin.filter(|_| self.margin).unwrap_or(0.0);
            let epsilon = pair.example.agreed.filter(|_| self.soft).map_or(0.0, |agreed| 1.0 - agreed);
            pairs.push(RewardPair { chosen, rejected, margin, epsilon });
        }
        let out = self.reward.loss(&pairs, tally);
        let share = window.share;
        let value = |g: f64| RowGradient { value: vec![g * share], ..RowGradient::default() };
        Ok(Loss { loss: out.loss * share, g: out.g.into_iter().flat_map(|(c, r)| [value(c), value(r)]).collect() })
    }

    fn evaluated(&mut self, all: &[Vec<RowScores>], metrics: &mut Metrics) {
        let pairs: Vec<(f64, f64)> = all.iter().filter_map(|p| scores(p)).collect();
        let Some(found) = calibrate(&pairs) else { return };
        for (name, value) in [
            ("eval_accuracy_low", found.accuracy_low),
            ("eval_accuracy_high", found.accuracy_high),
            ("eval_ece", found.ece),
            ("eval_ece_raw", found.ece_raw),
            ("eval_temperature", found.temperature),
        ] {
            metrics.set(name, value);
        }
        self.calibration = Some(found);
    }

    fn notes(&self) -> Value {
        serde_json::to_value(self.calibration).unwrap_or_default()
    }

    fn recall(&mut self, notes: &Value) {
        self.calibration = serde_json::from_value(notes.clone()).unwrap_or_default();
    }
}
