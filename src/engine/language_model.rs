//! A model on disk: configuration, tokenizer, chat template, and the way to its weights.
//!
//! Owns the meaning of a path: a Hugging Face folder or a `.gguf` file. Opening reads no weights. Refuses a chat prompt on a
//! model without a chat template.

use super::config::Config;
use super::decoder::Decoder;
use super::device::weights_dtype;
use super::error::Error;
use super::gguf::Gguf;
use super::template::Template;
use super::tokenizer::Tokenizer;
use super::tune::Tune;
use super::weights::Weights;
use crate::domain::{Fold64, Message, PromptBody};
use candle_core::{DType, Device};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A model that can be tokenised for, and loaded.
pub struct LanguageModel {
    /// The folder or file.
    pub path: PathBuf,
    /// What its decoder is made of.
    pub config: Config,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// Its chat template; none for a base model.
    pub template: Option<Template>,
}

/// How texts become tokens: what a score means only together with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// The chat template's source; none for plain texts alone. A conversation ends as the template ends it.
    pub template: Option<String>,
    /// What plain texts end in.
    pub end_of_text: Option<String>,
    /// Hash of the tokenizer.
    pub tokenizer: String,
}

impl LanguageModel {
    /// Opens a Hugging Face folder or a `.gguf` file without reading its weights.
    ///
    /// # Errors
    /// When something is missing, malformed or not supported; the sentence names it.
    pub fn open(path: &Path) -> Result<Self, Error> {
        if path.is_dir() {
            let config = Config::read(path)?;
            let tokenizer = Tokenizer::read(path, &config)?;
            let template = Template::read(path, &tokenizer.special)?;
            return Ok(Self { path: path.into(), config, tokenizer, template });
        }
        if !path.exists() {
            return Err(Error::file(path, "does not exist"));
        }
        let gguf = Gguf::open(path)?;
        let config = gguf.config()?;
        let tokenizer = gguf.tokenizer(&config)?;
        let model = path.display().to_string();
        let template = match gguf.template() {
            Some(source) => Some(Template::new(source, &model, &tokenizer.special)?),
            None => None,
        };
        Ok(Self { path: path.into(), config, tokenizer, template })
    }

    /// The model as a run reads it that was launched at that local date and time (`2026-11-28T22:55:28`): its chat template
    /// prints no other. None leaves it at the time at which it was opened.
    ///
    /// # Errors
    /// When that is no date.
    pub fn dated(mut self, date: Option<&str>) -> Result<Self, Error> {
        if let (Some(template), Some(text)) = (&mut self.template, date) {
            template.set_date(text.parse().map_err(|e| {
                Error::Asked(format!("the date `{text}` of the run is no date like 2026-11-28T22:55:28: {e}"))
            })?);
        }
        Ok(self)
    }

    /// Opens the weights; tensors become `dtype` on `device`.
    ///
    /// # Errors
    /// When the files are missing or malformed.
    pub fn weights(&self, device: &Device, dtype: DType) -> Result<Weights, Error> {
        if self.path.is_dir() {
            return Weights::open(&self.path, device, dtype);
        }
        Ok(Weights::gguf(Gguf::open(&self.path)?, &self.config, device, dtype))
    }

    /// Loads the decoder in the type in which the device computes.
    ///
    /// # Errors
    /// When a tensor is missing or has the wrong shape.
    pub fn decoder(&self, device: &Device, tune: &Tune) -> Result<Decoder, Error> {
        Decoder::new(&self.config, &mut self.weights(device, weights_dtype(device))?, tune)
    }

    /// The text of a conversation by the model's chat template.
    ///
    /// # Errors
    /// When there is no template, or it refuses the conversation.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, Error> {
        let Some(template) = &self.template else {
            return Err(Error::Template {
                model: self.path.display().to_string(),
                why: "there is none: this is a base model; use an instruct model, or prompts of plain text".into(),
            });
        };
        template.render(messages, add_generation_prompt)
    }

    /// The tokens of a prompt, ready for the model to continue: a conversation through the template with the head of the
    /// assistant's turn, plain text with whatever the tokenizer puts before a text.
    ///
    /// # Errors
    /// When the template or the tokenizer refuses it.
    pub fn encode_prompt(&self, body: &PromptBody) -> Result<Vec<u32>, Error> {
        match body {
            PromptBody::Chat(messages) => self.tokenizer.encode(&self.render(messages, true)?, false),
            PromptBody::Text(text) => self.tokenizer.encode(text, true),
        }
    }

    /// The way in which this model's texts become tokens.
    ///
    /// # Errors
    /// When the tokenizer does not write.
    pub fn reading(&self) -> Result<Reading, Error> {
        let mut tokenizer = Fold64::default();
        tokenizer.add(self.tokenizer.to_json()?.as_bytes());
        Ok(Reading {
            template: self.template.as_ref().map(|t| t.source().to_owned()),
            end_of_text: self.tokenizer.eos_text().map(str::to_owned),
            tokenizer: tokenizer.hex(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Encode;

    #[test]
    fn an_answer_follows_its_prompt_and_ends_in_the_end_token() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-llama");
        let model = LanguageModel::open(&dir).unwrap();
        let chat = PromptBody::user("Hello");
        let (prompt, whole) = (model.prompt(&chat).unwrap(), model.answered(&chat, "Well.").unwrap());
        assert!(whole.starts_with(&prompt));
        let text = model.tokenizer.decode(&whole[prompt.len()..]).unwrap();
        assert_eq!((text.as_str(), whole.iter().filter(|id| **id == 2).count()), ("Well.\n", 2));
        let plain = PromptBody::Text("Once".into());
        let whole = model.answered(&plain, " more").unwrap();
        assert_eq!(whole.last(), Some(&2));
        assert_eq!(whole, model.answered(&plain, " more<|im_end|>").unwrap());
    }

    #[test]
    fn whitespace_behind_the_end_of_a_turn_is_no_part_of_it() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-llama");
        let model = LanguageModel::open(&dir).unwrap();
        let separator = |text: &str| model.separator(&model.tokenizer.encode(text, false).unwrap());
        assert_eq!(separator("Well.<|im_end|>\n"), 1);
        assert_eq!(separator("Well.<|im_end|>"), 0);
        assert_eq!(separator("Well.<|im_end|>\nAnd"), 0, "what is no whitespace is no separator");
        assert_eq!(separator("Well.\n\n"), 0, "nothing ends this turn but its whitespace");
    }
}
