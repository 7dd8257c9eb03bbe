//! Scores answers with a policy trained on preferences: its implicit reward.
//!
//! Rafailov et al. 2023: r(x, y) = β·(log π(y|x) − log π_ref(y|x)), up to a constant of the prompt. The reference is the run's own:
//! the checkpoint it started from, or the base model. A method without a reference has the reward that it trains on: β·log π(y|x),
//! summed over the answer's tokens, or their mean for ORPO and SimPO. Refuses a method without β, and β = 0.

use super::data::common_prefix;
use super::data::{Encode, answer_mask};
use super::recipe::prepare;
use crate::domain::{PromptBody, ReplyRef, method};
use crate::model::error::Error;
use crate::model::language_model::LanguageModel;
use crate::model::trained::Trained;
use crate::model::tune::Tune;
use crate::nn::policy::{Batch, Policy, Row};
use crate::protocol::{Rendering, TrainSpec};
use candle_core::Device;
use std::path::Path;

/// What log π is compared with.
enum Baseline {
    /// Nothing.
    None,
    /// The policy without its adapter.
    WithoutAdapter,
    /// Another checkpoint, or the base model of a fully trained one.
    Other(Box<Policy>),
}

/// A trained policy as a scorer.
pub struct ImplicitScorer {
    model: LanguageModel,
    policy: Policy,
    baseline: Baseline,
    beta: f64,
    /// Mean instead of summed log-probs.
    mean: bool,
}

impl ImplicitScorer {
    /// Loads the policy in the folder `checkpoint` of a run with this specification; `init` is the checkpoint it started from.
    /// Texts are rendered as [`LanguageModel::rendering`] says.
    ///
    /// # Errors
    /// When a file cannot be read, or the run's method has no implicit reward.
    pub fn open(
        spec: &TrainSpec,
        checkpoint: &Path,
        init: Option<&Path>,
        rendering: &Rendering,
        device: &Device,
    ) -> Result<Self, Error> {
        let beta = spec.params.f64("beta");
        let referenced = method(&spec.method).map(|m| m.reference);
        let (true, Some(referenced)) = (beta > 0.0, referenced) else {
            return Err(Error::Invalid(format!(
                "a {} run has no implicit reward, which needs a beta above 0: name a run of reward, dpo, orpo, cpo, simpo or kto",
                spec.method
            )));
        };
        let mean = !referenced && prepare(&spec.method, &spec.params)?.recipe.health().mean_logps;
        let model = LanguageModel::open(Path::new(&spec.model.path))?.rendering(rendering)?;
        let trained = Trained::read(checkpoint)?;
        let loaded = |trained: &Trained| -> Result<Policy, Error> {
            let decoder = model.decoder(device, &trained.tune)?;
            trained.put_on(decoder.trainables())?;
            Policy::new(decoder)
        };
        let policy = loaded(&trained)?;
        let baseline = match init {
            _ if !referenced => Baseline::None,
            Some(dir) => Baseline::Other(Box::new(loaded(&Trained::read(dir)?)?)),
            None if trained.tune == Tune::Full => {
                Baseline::Other(Box::new(Policy::new(model.decoder(device, &Tune::None)?)?))
            }
            None => Baseline::WithoutAdapter,
        };
        Ok(Self { model, policy, baseline, beta, mean })
    }

    /// The implicit reward of an answer; none where it does not fit the model's context or has no token of its own.
    ///
    /// # Errors
    /// When the template refuses the conversation, or a tensor operation fails.
    pub fn score<'a>(&self, prompt: &PromptBody, answer: impl Into<ReplyRef<'a>>) -> Result<Option<f64>, Error> {
        let answer = answer.into();
        let ids = self.model.replied(prompt, answer)?;
        let from = common_prefix(&self.model.prompt(prompt)?, &ids).max(1);
        let context = self.model.config.context;
        if from >= ids.len() || (context > 0 && ids.len() > context) {
            return Ok(None);
        }
        let scored = answer_mask(&self.model, prompt, answer, from, &ids)?;
        let tokens = scored.len();
        if tokens == 0 {
            return Ok(None);
        }
        let batch = Batch::new(vec![Row::new(ids, scored)]);
        let sum = |policy: &Policy, adapter: bool| -> Result<f64, Error> {
            Ok(policy.score(&batch, adapter)?.rows.first().map_or(f64::NAN, |row| row.logp.iter().sum()))
        };
        let own = sum(&self.policy, true)?;
        let difference = match &self.baseline {
            Baseline::None if self.mean => own / tokens as f64,
            Baseline::None => own,
            Baseline::WithoutAdapter => own - sum(&self.policy, false)?,
            Baseline::Other(other) => own - sum(other, true)?,
        };
        Ok(Some(self.beta * difference))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Params, RunId};
    use crate::protocol::{DataSnapshot, ModelRef};
    use candle_core::Tensor;

    fn spec(name: &str) -> TrainSpec {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-llama").display().to_string();
        let params = Params::defaults(&method(name).unwrap().rows());
        let data = DataSnapshot { file: "d".into(), sha256: String::new(), rows: 0, session_seq: 0 };
        TrainSpec {
            init: Some(RunId::new("x")),
            ..TrainSpec::new(name, ModelRef { name: "tiny".into(), path }, params, data)
        }
    }

    /// A full checkpoint whose final norm is scaled by `factor`.
    fn checkpoint(factor: f64) -> tempfile::TempDir {
        let model = LanguageModel::open(Path::new(&spec("dpo").model.path)).unwrap();
        let decoder = model.decoder(&Device::Cpu, &Tune::Full).unwrap();
        let (_, norm) = decoder.trainables().iter().find(|(name, _)| name == "model.norm.weight").unwrap();
        let scaled: Tensor = (norm.as_tensor() * factor).unwrap();
        norm.set(&scaled).unwrap();
        let dir = tempfile::tempdir().unwrap();
        Trained::write(dir.path(), &Tune::Full, decoder.trainables()).unwrap();
        dir
    }

    fn score(name: &str, checkpoint: &Path, init: Option<&Path>) -> f64 {
        let scorer = ImplicitScorer::open(&spec(name), checkpoint, init, &Rendering::default(), &Device::Cpu).unwrap();
        scorer.score(&PromptBody::user("Hello"), "Well.").unwrap().unwrap()
    }

    #[test]
    fn the_reward_is_relative_to_where_the_run_started() {
        let (same, other) = (checkpoint(1.0), checkpoint(1.5));
        // An untrained policy is its own reference.
        assert!(score("dpo", same.path(), None).abs() < 1e-6);
        let learned = score("dpo", other.path(), None);
        assert!(learned.abs() > 1e-3, "{learned}");
        // With the same checkpoint as start, nothing was learned since.
        assert!(score("dpo", other.path(), Some(other.path())).abs() < 1e-6);
        assert!((score("dpo", same.path(), Some(other.path())) + learned).abs() < 1e-4);
    }

    #[test]
    fn methods_without_a_reference_use_their_own_reward() {
        let dir = checkpoint(1.0);
        // β of cpo is 0.1 and of simpo 2, sum and mean over the same tokens.
        let (sum, mean) = (score("cpo", dir.path(), None) / 0.1, score("simpo", dir.path(), None) / 2.0);
        assert!(sum < mean && mean < 0.0, "{sum} {mean}");
        assert!((sum / mean).fract() < 1e-4 || (sum / mean).fract() > 1.0 - 1e-4, "{sum} is whole means of {mean}");
        let refused = ImplicitScorer::open(&spec("sft"), dir.path(), None, &Rendering::default(), &Device::Cpu);
        assert!(refused.is_err_and(|e| e.to_string().contains("no implicit reward")));
    }
}
