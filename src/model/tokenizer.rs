//! Text to tokens and back, with the model's special tokens.
//!
//! Owns tokenizer.json and the special ids from tokenizer_config.json, generation_config.json and config.json. Refuses a model
//! without a tokenizer: guessing one gives wrong ids without an error.

use super::config::Config;
use super::error::Error;
use super::fields::ids;
use serde_json::Value;
use std::path::Path;

/// A model's tokenizer.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    model: String,
    /// The texts of the special tokens that templates and plain completions use.
    pub(crate) special: SpecialTokens,
    stops: Vec<u32>,
    pad: u32,
}

/// The texts of special tokens, by their names in chat templates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    /// Starts a text.
    pub bos: Option<String>,
    /// Ends a text or a turn.
    pub eos: Option<String>,
    /// Pads a batch.
    pub pad: Option<String>,
    /// Replaces text outside the vocabulary.
    pub unk: Option<String>,
}

impl Tokenizer {
    /// Reads `DIR/tokenizer.json` and the special tokens beside it.
    ///
    /// # Errors
    /// When there is no tokenizer.json, or it cannot be used.
    pub fn read(dir: &Path, config: &Config) -> Result<Self, Error> {
        let path = dir.join("tokenizer.json");
        let bytes = std::fs::read(&path).map_err(|_| {
            let old = ["tokenizer.model", "vocab.json"].into_iter().find(|f| dir.join(f).is_file());
            Error::file(
                dir,
                match old {
                    Some(f) => {
                        format!("has {f} but no tokenizer.json; save the model's fast tokenizer into the folder")
                    }
                    None => "has no tokenizer.json; copy it from where the weights came from".to_owned(),
                },
            )
        })?;
        let special = match json(&dir.join("tokenizer_config.json"))? {
            Some(c) => SpecialTokens {
                bos: text_of(c.get("bos_token")),
                eos: text_of(c.get("eos_token")),
                pad: text_of(c.get("pad_token")),
                unk: text_of(c.get("unk_token")),
            },
            None => SpecialTokens::default(),
        };
        let generation = json(&dir.join("generation_config.json"))?;
        let mut stops = ids(generation.as_ref().and_then(|g| g.get("eos_token_id")));
        if stops.is_empty() {
            stops.clone_from(&config.eos);
        }
        Self::from_json(&bytes, &dir.display().to_string(), special, stops, config)
    }

    /// A tokenizer from the bytes of a tokenizer.json; `model` is for messages.
    ///
    /// # Errors
    /// When the bytes are not a tokenizer, or no end-of-text token is known.
    pub fn from_json(
        bytes: &[u8],
        model: &str,
        special: SpecialTokens,
        mut stops: Vec<u32>,
        config: &Config,
    ) -> Result<Self, Error> {
        let fail = |why: String| Error::Tokenizer { model: model.to_owned(), why };
        let mut inner = tokenizers::Tokenizer::from_bytes(bytes)
            .map_err(|e| fail(format!("tokenizer.json cannot be used: {e}")))?;
        // Saved truncation and padding settings would cut texts silently.
        inner.with_truncation(None).map_err(|e| fail(e.to_string()))?;
        inner.with_padding(None);
        let id = |text: &Option<String>| text.as_ref().and_then(|t| inner.token_to_id(t));
        let mut special = special;
        if special.eos.is_none() {
            special.eos = stops.first().and_then(|i| inner.id_to_token(*i));
        }
        if special.bos.is_none() {
            special.bos = config.bos.and_then(|i| inner.id_to_token(i));
        }
        if let Some(eos) = id(&special.eos).filter(|e| !stops.contains(e)) {
            stops.push(eos);
        }
        if stops.is_empty() {
            return Err(fail(
                "no end-of-text token is named in generation_config.json, config.json or \
                             tokenizer_config.json; without one no answer ever ends"
                    .to_owned(),
            ));
        }
        let pad = id(&special.pad).or(config.pad).unwrap_or(stops[0]);
        Ok(Self { inner, model: model.to_owned(), special, stops, pad })
    }

    /// The tokens of `text`. `add_special` adds the tokenizer's own special tokens (mostly a BOS);
    /// rendered chat templates already contain them.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, Error> {
        let encoding = self
            .inner
            .encode_fast(text, add_special)
            .map_err(|e| Error::Tokenizer { model: self.model.clone(), why: e.to_string() })?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of tokens without special ones. Invalid UTF-8 becomes U+FFFD.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String, Error> {
        self.inner.decode(ids, true).map_err(|e| Error::Tokenizer { model: self.model.clone(), why: e.to_string() })
    }

    /// The text of tokens, including special ones.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn decode_all(&self, ids: &[u32]) -> Result<String, Error> {
        self.inner.decode(ids, false).map_err(|e| Error::Tokenizer { model: self.model.clone(), why: e.to_string() })
    }

    /// The tokens that end a completion; never empty.
    #[must_use]
    pub fn stops(&self) -> &[u32] {
        &self.stops
    }

    /// The end-of-text token's text, which is appended to plain completions without it.
    #[must_use]
    pub fn eos_text(&self) -> Option<&str> {
        self.special.eos.as_deref()
    }

    /// The padding token; the end-of-text token when the model names none. Masks do not depend on it.
    #[must_use]
    pub fn pad(&self) -> u32 {
        self.pad
    }

    /// One token's entry in the vocabulary.
    #[must_use]
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Vocabulary size, including added tokens.
    #[must_use]
    pub fn size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The tokenizer as the text of a tokenizer.json.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn to_json(&self) -> Result<String, Error> {
        self.inner.to_string(true).map_err(|e| Error::Tokenizer { model: self.model.clone(), why: e.to_string() })
    }
}

/// Reads a JSON file; none if it cannot be read.
pub(crate) fn json(path: &Path) -> Result<Option<Value>, Error> {
    match std::fs::read_to_string(path) {
        Err(_) => Ok(None),
        Ok(text) => {
            serde_json::from_str(&text).map(Some).map_err(|e| Error::file(path, format!("is not valid JSON: {e}")))
        }
    }
}

/// A special token's text, which is a string or an object with `content`.
fn text_of(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(s) => Some(s.clone()),
        other => other.get("content").and_then(Value::as_str).map(str::to_owned),
    }
}
