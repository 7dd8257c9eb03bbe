//! Scores answers with a trained reward model.
//!
//! Owns scoring exactly as in training: with the model's own template, read at the answer's last token. Refuses a checkpoint
//! without a scalar head, and a model whose tokenizer, template or EOS has changed since training.

use super::data::Encode;
use super::loss::Calibration;
use super::trainer::result_notes;
use crate::domain::{PromptBody, ReplyRef};
use crate::model::error::Error;
use crate::model::language_model::LanguageModel;
use crate::model::trained::SCORE;
use crate::model::trained::Trained;
use crate::nn::policy::{Batch, Policy, Row};
use crate::protocol::Rendering;
use candle_core::Device;
use std::path::Path;

/// A reward model.
pub struct RewardScorer {
    model: LanguageModel,
    policy: Policy,
    calibration: Option<Calibration>,
}

impl RewardScorer {
    /// Loads the reward model in the folder `checkpoint`, trained on the model at `path`.
    ///
    /// # Errors
    /// When the model or the checkpoint cannot be read, or the run trained no reward model.
    pub fn open(path: &Path, checkpoint: &Path, device: &Device) -> Result<Self, Error> {
        let model = LanguageModel::open(path)?;
        let trained = Trained::read(checkpoint)?;
        if !trained.tensors.contains_key(SCORE) {
            return Err(Error::file(
                checkpoint,
                "contains no reward model (no score.weight); use a run of the method reward",
            ));
        }
        let (notes, reading) = result_notes(checkpoint)?;
        if reading.is_some_and(|learned| model.reading().is_ok_and(|now| now != learned)) {
            return Err(Error::file(
                path,
                "has a different tokenizer, chat template or EOS token than when the reward model was trained; train the reward \
                 model again",
            ));
        }
        let mut decoder = model.decoder(device, &trained.tune)?;
        // A reward run does not train an untied LM head, so its checkpoint has none.
        decoder.add_score(vec![0.0; model.config.hidden], !trained.tensors.contains_key("lm_head.weight"))?;
        trained.put_on(decoder.trainables())?;
        let calibration = serde_json::from_value(notes).unwrap_or_default();
        Ok(Self { model, policy: Policy::new(decoder)?, calibration })
    }

    /// Renders as the reward run does; see [`LanguageModel::rendering`].
    ///
    /// # Errors
    /// When it is not a date.
    pub fn rendering(self, how: &Rendering) -> Result<Self, Error> {
        Ok(Self { model: self.model.rendering(how)?, ..self })
    }

    /// The calibration on held-out pairs, if measured.
    #[must_use]
    pub fn calibration(&self) -> Option<&Calibration> {
        self.calibration.as_ref()
    }

    /// Whether an answer with its prompt fits the model's context.
    ///
    /// # Errors
    /// When the template refuses the conversation.
    pub fn fits<'a>(&self, prompt: &PromptBody, answer: impl Into<ReplyRef<'a>>) -> Result<bool, Error> {
        let (ids, context) = (self.model.replied(prompt, answer.into())?, self.model.config.context);
        Ok(!ids.is_empty() && (context == 0 || ids.len() <= context))
    }

    /// The raw score of an answer.
    ///
    /// # Errors
    /// When the template refuses the conversation, or a tensor operation fails.
    pub fn score<'a>(&self, prompt: &PromptBody, answer: impl Into<ReplyRef<'a>>) -> Result<f64, Error> {
        let ids = self.model.replied(prompt, answer.into())?;
        if ids.is_empty() {
            return Err(Error::Invalid("an empty text has no score".into()));
        }
        let row = Row { valued: vec![ids.len() - 1], ids, ..Row::default() };
        let scores = self.policy.score(&Batch::new(vec![row]), true)?;
        Ok(scores.rows.first().and_then(|r| r.value.first()).copied().unwrap_or(f64::NAN))
    }

    /// The raw scores of several answers to a prompt, in one pass; none for an answer that is longer than the context with its
    /// prompt. An answer's score may differ from [`RewardScorer::score`] by rounding, because the prompt is computed once.
    ///
    /// # Errors
    /// As [`RewardScorer::score`].
    pub fn scores(&self, prompt: &PromptBody, answers: &[String]) -> Result<Vec<Option<f64>>, Error> {
        let context = self.model.config.context;
        let mut out = vec![None; answers.len()];
        let (mut rows, mut of) = (Vec::new(), Vec::new());
        for (at, answer) in answers.iter().enumerate() {
            let ids = self.model.answered(prompt, answer)?;
            if ids.is_empty() {
                return Err(Error::Invalid("an empty text has no score".into()));
            }
            if context == 0 || ids.len() <= context {
                rows.push(Row { valued: vec![ids.len() - 1], ids, ..Row::default() });
                of.push(at);
            }
        }
        if rows.is_empty() {
            return Ok(out);
        }
        let scores = self.policy.score(&Batch::new(rows), true)?;
        for (at, row) in of.into_iter().zip(&scores.rows) {
            out[at] = row.value.first().copied();
        }
        Ok(out)
    }

    /// Standardises a raw score by mean and standard deviation of the held-out answers; unchanged without a calibration.
    #[must_use]
    pub fn standardise(&self, raw: f64) -> f64 {
        match &self.calibration {
            Some(c) if c.std > 0.0 => (raw - c.mean) / c.std,
            _ => raw,
        }
    }
}
