//! Text to tokens and back, with the model's special tokens.
//!
//! Owns tokenizer.json (or the tokenizer.model of SentencePiece, where there is no other) and the special ids from
//! tokenizer_config.json, generation_config.json and config.json. Refuses a model without a tokenizer: guessing one gives wrong ids
//! without an error.

use super::config::Config;
use super::error::Error;
use super::fields::{ids, json};
use super::sentencepiece::{FollowingDecoder, SentencePiece, SpacePrefix};
use super::special_tokens::{SpecialTokens, TokenFiles, with_byte_prefix, with_newer_spaces};
use super::thought_form::ThoughtForm;
use super::tokenizer_growth::Growth;
use crate::foreign;
use crate::foreign::contained;
use serde_json::Value;
use std::collections::HashSet;
use std::path::Path;
use tokenizers::Decoder as _;

/// The model of a tokenizer.json with byte fallback in which texts share a number.
fn shared_numbers(spec: &[u8]) -> Option<Value> {
    const BYTES: &[u8] = b"byte_fallback";
    // Others are not parsed a second time.
    memchr::memmem::find(spec, BYTES)?;
    let mut spec: Value = serde_json::from_slice(spec).ok()?;
    let model = spec.get_mut("model")?.take();
    let vocab = model.get("vocab")?.as_object()?;
    let numbers: HashSet<u64> = vocab.values().filter_map(Value::as_u64).collect();
    (model["byte_fallback"] == true && numbers.len() < vocab.len()).then_some(model)
}

/// Numbers of tokens lie below this: the library goes through all of them to write a tokenizer, also those without a token.
const NUMBERS: u32 = 1 << 24;
fn read(path: &Path) -> Result<Vec<u8>, Error> {
    foreign::read(path, foreign::DOCUMENT).map_err(|e| Error::read(path, &e))
}

/// What a person runs in a model's folder whose tokenizer is not read.
const CONVERT: &str =
    "python -c \"from transformers import AutoTokenizer as T; T.from_pretrained('.').save_pretrained('.')\"";

/// The tokenizer.json of a folder that has another kind of tokenizer; `files` then names the tokens that only it names.
fn converted(dir: &Path, files: &mut TokenFiles) -> Result<Vec<u8>, Error> {
    let path = dir.join("tokenizer.model");
    if !path.exists() {
        let other =
            ["vocab.json", "vocab.txt", "spiece.model", "tekken.json"].into_iter().find(|f| dir.join(f).is_file());
        return Err(Error::file(
            dir,
            match other {
                Some(f) => format!("has {f} but no tokenizer.json; run there: {CONVERT}"),
                None => "has no tokenizer.json; copy it from where the weights came from".to_owned(),
            },
        ));
    }
    let bytes = read(&path)?;
    let mut model = SentencePiece::parse(&bytes)
        .map_err(|why| Error::file(&path, format!("{why}; run in the model's folder: {CONVERT}")))?;
    if files.space_prefix == Some(false) {
        model.prefix = SpacePrefix::Never;
    } else if files.newer_llama && model.prefix == SpacePrefix::EveryPart {
        model.prefix = SpacePrefix::First;
    }
    if files.is_silent {
        let text = |id: Option<u32>| model.text(id);
        files.special = SpecialTokens {
            bos: text(model.bos),
            eos: text(model.eos),
            pad: text(model.pad),
            unk: text(model.unknown()),
            ..SpecialTokens::default()
        };
    }
    // A Llama tokenizer puts the starting token before a text unless its files say otherwise.
    let [start, end] = files.adds;
    let spec =
        model.tokenizer_json(model.bos.filter(|_| start.unwrap_or(true)), model.eos.filter(|_| end.unwrap_or(false)));
    Ok(spec.to_string().into_bytes())
}

/// A model's tokenizer.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    model: String,
    /// The texts of the special tokens that templates and plain completions use.
    pub(crate) special: SpecialTokens,
    /// The text that ends a plain completion.
    end: Option<String>,
    stops: Vec<u32>,
    pad: u32,
    /// For tokens that follow others, where the decoder drops a text's first space.
    following: Option<FollowingDecoder>,
    /// The model as it was read, where letters share a number with their byte: the library would write one of the two.
    shared: Option<Value>,
    /// How much longer its steps may make a text.
    growth: Growth,
    /// How answers hold thoughts, where control tokens say so.
    thoughts: Option<ThoughtForm>,
}

impl Tokenizer {
    /// Reads `DIR/tokenizer.json` and the special tokens beside it.
    ///
    /// # Errors
    /// When there is no tokenizer.json, or it cannot be used.
    pub fn read(dir: &Path, config: &Config) -> Result<Self, Error> {
        let mut files = TokenFiles::read(dir)?;
        let path = dir.join("tokenizer.json");
        let bytes = if path.exists() { Some(read(&path)?) } else { None };
        let bytes = match bytes {
            Some(bytes) if files.newer_llama => with_newer_spaces(&bytes).unwrap_or(bytes),
            Some(bytes) => files.byte_prefix.and_then(|on| with_byte_prefix(&bytes, on)).unwrap_or(bytes),
            None => converted(dir, &mut files)?,
        };
        let generation = json(&dir.join("generation_config.json"))?;
        let mut stops = ids(generation.as_ref().and_then(|g| g.get("eos_token_id")));
        if stops.is_empty() {
            stops.clone_from(&config.eos);
        }
        Self::complete(&bytes, &dir.display().to_string(), &files, stops, config)
    }

    /// A tokenizer from the bytes of a tokenizer.json; `model` is for messages.
    ///
    /// # Errors
    /// When the bytes are not a tokenizer, or no end-of-text token is known.
    pub fn from_json(
        bytes: &[u8],
        model: &str,
        special: SpecialTokens,
        stops: Vec<u32>,
        config: &Config,
    ) -> Result<Self, Error> {
        Self::complete(bytes, model, &TokenFiles::naming(special), stops, config)
    }

    fn complete(
        bytes: &[u8],
        model: &str,
        files: &TokenFiles,
        mut stops: Vec<u32>,
        config: &Config,
    ) -> Result<Self, Error> {
        let fail = |why: String| Error::Tokenizer { model: model.to_owned(), why };
        // The library panics where its decoder is no valid JSON.
        let mut inner = contained(|| tokenizers::Tokenizer::from_bytes(bytes))
            .ok_or_else(|| fail("tokenizer.json is damaged: download it again".to_owned()))?
            .map_err(|e| fail(format!("tokenizer.json cannot be used: {e}")))?;
        let highest = inner.get_vocab(true).into_iter().max_by_key(|(_, number)| *number);
        if let Some((token, number)) = highest.filter(|(_, number)| *number >= NUMBERS) {
            return Err(fail(format!(
                "tokenizer.json gives the token `{token}` the number {number}, above any vocabulary: download it again"
            )));
        }
        // Saved truncation and padding settings would cut texts silently.
        inner.with_truncation(None).map_err(|e| fail(e.to_string()))?;
        inner.with_padding(None);
        files.complete(&mut inner).map_err(&fail)?;
        let id = |text: &Option<String>| text.as_ref().and_then(|t| inner.token_to_id(t));
        let special = files.special.clone();
        // A number in config.json is no name for a template, but an answer ends with it all the same.
        let end = special.eos.clone().or_else(|| stops.first().and_then(|i| inner.id_to_token(*i)));
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
        let following = FollowingDecoder::of(&inner);
        let shared = shared_numbers(bytes);
        let growth = Growth::of(bytes);
        let thoughts = ThoughtForm::of(|text| inner.token_to_id(text));
        Ok(Self { inner, model: model.to_owned(), special, end, stops, pad, following, shared, growth, thoughts })
    }

    /// The tokens of `text`. `add_special` adds the tokenizer's own special tokens (mostly a BOS);
    /// rendered chat templates already contain them.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, Error> {
        self.growth.check_reading(text.len()).map_err(|why| self.fail(why))?;
        let encoding = self.library(|inner| inner.encode_fast(text, add_special))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of tokens without special ones, with thoughts in a channel as `<think>…</think>`. Invalid UTF-8 becomes U+FFFD.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String, Error> {
        match self.thoughts.filter(|form| form.occurs_in(ids)) {
            Some(form) => form.text(ids, |part| self.plain(part)),
            None => self.plain(ids),
        }
    }

    fn plain(&self, ids: &[u32]) -> Result<String, Error> {
        self.check_writing(ids)?;
        self.library(|inner| inner.decode(ids, true))
    }

    fn fail(&self, why: impl std::fmt::Display) -> Error {
        Error::Tokenizer { model: self.model.clone(), why: why.to_string() }
    }

    /// What the library makes of a text or of tokens. Some of its steps panic where a tokenizer.json is hostile.
    fn library<T>(&self, work: impl FnOnce(&tokenizers::Tokenizer) -> tokenizers::Result<T>) -> Result<T, Error> {
        match contained(|| work(&self.inner)) {
            Some(done) => done.map_err(|e| self.fail(e)),
            None => Err(self.fail("the library of tokenizers fails on one of its steps")),
        }
    }

    fn check_writing(&self, ids: &[u32]) -> Result<(), Error> {
        if !self.growth.writes_longer() {
            return Ok(());
        }
        let bytes = ids.iter().filter_map(|id| self.inner.id_to_token(*id)).map(|token| token.len()).sum();
        self.growth.check_writing(bytes).map_err(|why| self.fail(why))
    }

    /// The text of tokens that follow others, of which `before` is the last: its first space belongs to it, which [`Tokenizer::decode`]
    /// drops for SentencePiece vocabularies.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn decode_after(&self, before: Option<u32>, ids: &[u32]) -> Result<String, Error> {
        let special = |id: u32| self.inner.get_added_tokens_decoder().contains_key(&id);
        let following = self.following.as_ref().zip(before);
        let Some((following, _)) = following.filter(|(f, before)| !(f.every_part && special(*before))) else {
            return self.decode(ids);
        };
        let tokens = ids.iter().filter(|id| !self.is_special(**id)).filter_map(|id| self.inner.id_to_token(*id));
        self.check_writing(ids)?;
        let tokens = tokens.collect();
        self.library(|_| following.decoder.decode(tokens))
    }

    /// Whether the text of tokens depends on what they follow.
    pub(super) fn drops_first_space(&self) -> bool {
        self.following.is_some()
    }

    /// The text of tokens, including special ones.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn decode_all(&self, ids: &[u32]) -> Result<String, Error> {
        self.check_writing(ids)?;
        self.library(|inner| inner.decode(ids, false))
    }

    /// The tokens that end a completion; never empty.
    #[must_use]
    pub fn stops(&self) -> &[u32] {
        &self.stops
    }

    /// The end-of-text token's text, which is appended to plain completions without it.
    #[must_use]
    pub fn eos_text(&self) -> Option<&str> {
        self.end.as_deref()
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

    /// The number of a token.
    pub(super) fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Makes a token end completions too.
    pub(super) fn add_stop(&mut self, id: u32) {
        if !self.stops.contains(&id) {
            self.stops.push(id);
        }
    }

    /// Whether a token was added to the vocabulary and is kept out of texts: a control token.
    pub(super) fn is_special(&self, id: u32) -> bool {
        self.inner.get_added_tokens_decoder().get(&id).is_some_and(|token| token.special)
    }

    /// Vocabulary size without added tokens.
    #[must_use]
    pub fn base_size(&self) -> usize {
        self.inner.get_vocab_size(false)
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
        let fail = |why: String| Error::Tokenizer { model: self.model.clone(), why };
        let text = self.inner.to_string(true).map_err(|e| fail(e.to_string()))?;
        let Some(model) = &self.shared else { return Ok(text) };
        let mut spec: Value = serde_json::from_str(&text).map_err(|e| fail(e.to_string()))?;
        spec["model"] = model.clone();
        serde_json::to_string_pretty(&spec).map_err(|e| fail(e.to_string()))
    }
}
