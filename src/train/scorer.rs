//! A trained reward model at work: answers in, scores out.
//!
//! Owns that an answer is scored as the reward model learned it: through its own template, to the answer's end, read at the
//! last token. Refuses a checkpoint without a scalar head, and a model that reads texts in another way than it did then.

use super::data::Encode;
use super::loss::Calibration;
use super::trainer::result_notes;
use crate::domain::PromptBody;
use crate::model::error::Error;
use crate::model::language_model::LanguageModel;
use crate::model::trained::SCORE;
use crate::model::trained::Trained;
use crate::nn::policy::{Batch, Policy, Row};
use candle_core::Device;
use std::path::Path;

/// A reward model.
pub struct RewardScorer {
    model: LanguageModel,
    policy: Policy,
    calibration: Option<Calibration>,
}

impl RewardScorer {
    /// Loads the reward model that a run left in the folder `checkpoint`, trained on the model at `path`.
    ///
    /// # Errors
    /// When the model or the checkpoint cannot be read, or the run trained no reward model.
    pub fn open(path: &Path, checkpoint: &Path, device: &Device) -> Result<Self, Error> {
        let model = LanguageModel::open(path)?;
        let trained = Trained::read(checkpoint)?;
        if !trained.tensors.contains_key(SCORE) {
            return Err(Error::file(
                checkpoint,
                "holds no reward model (no score.weight); name a run of method reward",
            ));
        }
        let (notes, reading) = result_notes(checkpoint)?;
        if reading.is_some_and(|learned| model.reading().is_ok_and(|now| now != learned)) {
            return Err(Error::file(
                path,
                "has another tokenizer, chat template or end of text than when the reward run learned to score its answers; \
                 train the reward model again",
            ));
        }
        let mut decoder = model.decoder(device, &trained.tune)?;
        // A head of its own is not trained by a reward run, and so not in its checkpoint.
        decoder.add_score(vec![0.0; model.config.hidden], !trained.tensors.contains_key("lm_head.weight"))?;
        trained.put_on(decoder.trainables())?;
        let calibration = serde_json::from_value(notes).unwrap_or_default();
        Ok(Self { model, policy: Policy::new(decoder)?, calibration })
    }

    /// The reward model reading by the date of its own run's launch; see [`LanguageModel::dated`].
    ///
    /// # Errors
    /// When that is no date.
    pub fn dated(self, date: Option<&str>) -> Result<Self, Error> {
        Ok(Self { model: self.model.dated(date)?, ..self })
    }

    /// What its scores mean, where it was measured on held-out pairs.
    #[must_use]
    pub fn calibration(&self) -> Option<&Calibration> {
        self.calibration.as_ref()
    }

    /// The score of an answer, raw.
    ///
    /// # Errors
    /// When the template refuses the conversation, or a tensor operation fails.
    pub fn score(&self, prompt: &PromptBody, answer: &str) -> Result<f64, Error> {
        let ids = self.model.answered(prompt, answer)?;
        if ids.is_empty() {
            return Err(Error::Asked("an empty text has no score".into()));
        }
        let row = Row { valued: vec![ids.len() - 1], ids, ..Row::default() };
        let scores = self.policy.score(&Batch::new(vec![row]), true)?;
        Ok(scores.rows.first().and_then(|r| r.value.first()).copied().unwrap_or(f64::NAN))
    }

    /// A raw score in standard deviations from the mean of the held-out answers; as it is where it was not calibrated.
    #[must_use]
    pub fn standardise(&self, raw: f64) -> f64 {
        match &self.calibration {
            Some(c) if c.std > 0.0 => (raw - c.mean) / c.std,
            _ => raw,
        }
    }
}
