//! Reward model: −log σ(r_c − r_r − margin) (Bradley and Terry 1952; Ouyang et al. 2022), r the scalar head on the last token.
//!
//! `center_rewards_coefficient` weights an added mean (r_c + r_r)² (Eisenstein et al. 2023). `use_margin` takes the verdict's
//! strength as the margin, `soft_labels` the share of votes as the label. Differs from TRL 1.16: the score is read at the
//! answer's real last token, not searched by the padding id; scores are calibrated on the held-out pairs, and the checkpoint
//! holds the calibration and the rendering (tokenizer, template, EOS).

use super::contract::{BatchLoss, HealthHints, Recipe, Registered, ScoredExample, Separable, UpdateWindow, read};
use crate::domain::{Hyperparameters, Method, Metrics, Needs, ParamKind, TrainerParams, hyperparameters, nothing, row};
use crate::model::error::Error;
use crate::nn::policy::{RowGradient, RowScores};
use crate::nn::random::{normal, stream};
use crate::train::data::TokeniseOptions;
use crate::train::loss::{Calibration, Reward, RewardPair, Tally, calibrate};
use serde_json::Value;

/// The registry's row.
pub(super) const REWARD: Registered =
    Registered { method: METHOD, new: |params| Ok(Box::new(RewardRecipe::new(&read(params)?))) };

/// The method table's row.
const METHOD: Method = Method {
    name: "reward",
    title: "Reward model",
    help: "train a scalar score that ranks chosen above rejected, for PPO, GRPO and RLOO",
    needs: Needs::Pairs,
    reference: false,
    probes: false,
    mixes: false,
    without: &["sample_steps"],
    own: RewardParams::rows,
    defaults: &[("learning_rate", "1e-4", "LoRA 5e-5 – 5e-4, full 5e-6 – 2e-5"), ("eval_fraction", "0.2", "0.1 – 0.3")],
    dependencies: Vec::new,
    refuse: nothing,
    objective: |p| RewardParams::described(p, objective),
};

hyperparameters! {
    /// Hyper-parameters of the reward model.
    struct RewardParams {
        use_margin: bool = row(
            ParamKind::Bool,
            "false",
            "",
            "use the verdict's strength (0 to 1) as the margin",
            true,
        );
        soft_labels: bool = row(
            ParamKind::Bool,
            "false",
            "",
            "label smoothing per pair: its share of contrary votes, or its only rater's inconsistency on repeats",
            false,
        );
        center_rewards_coefficient: f64 = row(
            ParamKind::Float(0.0, 100.0),
            "0.01",
            "0 – 0.1",
            "weight of the term that centres scores at 0",
            true,
        );
    }
}

fn objective(p: &RewardParams) -> String {
    let margin = if p.use_margin { " − margin" } else { "" };
    let center = match p.center_rewards_coefficient {
        c if c > 0.0 => format!(" + {c}·(r(c) + r(r))²"),
        _ => String::new(),
    };
    let soft = if p.soft_labels { ", ε per pair from contrary votes or its rater's inconsistency" } else { "" };
    format!("−log σ(r(c) − r(r){margin}){center}{soft},  r = w·h at the answer's last token")
}

/// The recipe.
struct RewardRecipe {
    reward: Reward,
    margin: bool,
    soft: bool,
    calibration: Option<Calibration>,
}

impl RewardRecipe {
    fn new(p: &RewardParams) -> Self {
        Self {
            reward: Reward { center_rewards_coefficient: p.center_rewards_coefficient },
            margin: p.use_margin,
            soft: p.soft_labels,
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
    fn tokenise_options(&self, shared: &TrainerParams) -> TokeniseOptions {
        TokeniseOptions { read_value: true, ..TokeniseOptions::from_params(shared) }
    }

    fn health(&self) -> HealthHints {
        HealthHints { sigmoid: true, ..HealthHints::default() }
    }

    fn initial_score_head(&self, hidden: usize, seed: u64) -> Option<Vec<f64>> {
        // N(0, 0.02²), as Hugging Face initialises a classifier head.
        let mut rng = stream(seed, 1 << 39);
        Some((0..hidden).map(|_| 0.02 * normal(&mut rng)).collect())
    }

    fn separable(&self) -> Separable {
        Separable::Mean
    }

    fn loss(&self, batch: &[ScoredExample<'_>], window: &UpdateWindow, tally: &mut Tally) -> Result<BatchLoss, Error> {
        let mut pairs = Vec::with_capacity(batch.len());
        for pair in batch {
            let Some((chosen, rejected)) = scores(pair.scores) else {
                return Err(Error::Invalid(format!("pair {} was not scored on both sides", pair.example.id)));
            };
            let margin = pair.example.margin.filter(|_| self.margin).unwrap_or(0.0);
            let epsilon = pair.example.agreed.filter(|_| self.soft).map_or(0.0, |agreed| 1.0 - agreed);
            pairs.push(RewardPair { chosen, rejected, margin, epsilon });
        }
        let out = self.reward.loss(&pairs, tally);
        let share = window.share;
        let value = |g: f64| RowGradient { value: vec![g * share], ..RowGradient::default() };
        Ok(BatchLoss { loss: out.loss * share, g: out.g.into_iter().flat_map(|(c, r)| [value(c), value(r)]).collect() })
    }

    fn finish_evaluation(&mut self, all: &[Vec<RowScores>], metrics: &mut Metrics) {
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

    fn restore_notes(&mut self, notes: &Value) {
        self.calibration = serde_json::from_value(notes.clone()).unwrap_or_default();
    }
}
