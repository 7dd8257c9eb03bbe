//! The tokenizer that a GGUF file's metadata describe.
//!
//! Owns `tokenizer.ggml.*`: byte-level BPE (`gpt2`) with its pre-tokenizers by name, and SentencePiece BPE (`llama`) and Unigram
//! (`t5`). Refuses other models and unknown pre-tokenizers by name: guessing one gives wrong ids without an error.

use crate::model::config::Config;
use crate::model::error::Error;
use crate::model::sentencepiece::{Piece, PieceKind, SentencePiece, SpacePrefix};
use crate::model::special_tokens::SpecialTokens;
use crate::model::tokenizer::Tokenizer;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::path::Path;

/// Why there is no tokenizer.
pub(in crate::model) enum VocabularyError {
    /// The metadata are wrong: a clause about the file.
    Wrong(String),
    /// They name something that is not implemented.
    Unsupported(String, &'static str),
    /// The tokenizer cannot be made.
    Other(Error),
}

impl VocabularyError {
    /// The error of the file at `path`.
    pub(in crate::model) fn at(self, path: &Path) -> Error {
        match self {
            Self::Wrong(why) => Error::file(path, why),
            Self::Unsupported(what, known) => Error::unsupported(path, what, known),
            Self::Other(error) => error,
        }
    }
}

/// The pre-tokenizers of files that this program writes, most used first.
pub(in crate::model) const WRITTEN: [&str; 7] =
    ["smollm", "llama-bpe", "qwen2", "gpt-2", "smaug-bpe", "gpt-4o", "default"];

type Meta = HashMap<String, Value>;

/// Checks that the tokenizer is supported, without building it.
pub(in crate::model) fn check(meta: &Meta) -> Result<(), VocabularyError> {
    match model(meta) {
        "gpt2" => pre(meta).map(drop),
        "llama" | "t5" => Ok(()),
        other => {
            let known = "gpt2 (byte-level BPE), llama (SentencePiece) and t5 (Unigram) are; use the model's Hugging Face folder";
            Err(VocabularyError::Unsupported(format!("the tokenizer model `{other}`"), known))
        }
    }
}

/// The tokenizer; `name` names the model in its messages.
pub(in crate::model) fn tokenizer(meta: &Meta, name: &str, config: &Config) -> Result<Tokenizer, VocabularyError> {
    check(meta)?;
    let tokens = Tokens::of(meta)?;
    let text = |key: &str| id(meta, key).and_then(|id| tokens.texts.get(id as usize)).map(|text| (*text).to_owned());
    let special = SpecialTokens {
        bos: text("bos_token_id"),
        eos: text("eos_token_id"),
        pad: text("padding_token_id"),
        unk: text("unknown_token_id"),
        ..SpecialTokens::default()
    };
    let spec = if model(meta) == "gpt2" { byte_level(meta, &tokens)? } else { pieces(meta, &tokens)? };
    let stops = config.eos.iter().copied().chain(id(meta, "eot_token_id")).collect();
    Tokenizer::from_json(spec.to_string().as_bytes(), name, special, stops, config).map_err(VocabularyError::Other)
}

/// Whether the starting token is put before a text; llama.cpp's own defaults where the file is silent.
pub(in crate::model) fn adds_bos(meta: &Meta) -> bool {
    let default = match model(meta) {
        "gpt2" => pre(meta).is_ok_and(|(_, ignore_merges)| ignore_merges),
        other => other == "llama",
    };
    flag(meta, "add_bos_token", default)
}

fn value<'a>(meta: &'a Meta, key: &str) -> Option<&'a Value> {
    meta.get(&format!("tokenizer.ggml.{key}"))
}

fn id(meta: &Meta, key: &str) -> Option<u32> {
    value(meta, key).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok())
}

fn flag(meta: &Meta, key: &str, default: bool) -> bool {
    value(meta, key).and_then(Value::as_bool).unwrap_or(default)
}

fn list<'a>(meta: &'a Meta, key: &str) -> Option<&'a Vec<Value>> {
    value(meta, key).and_then(Value::as_array)
}

fn model(meta: &Meta) -> &str {
    value(meta, "model").and_then(Value::as_str).unwrap_or("missing")
}

/// The tokens and their kinds.
struct Tokens<'a> {
    texts: Vec<&'a str>,
    kinds: Vec<PieceKind>,
}

impl<'a> Tokens<'a> {
    fn of(meta: &'a Meta) -> Result<Self, VocabularyError> {
        let wrong = |why: String| VocabularyError::Wrong(why);
        let tokens = list(meta, "tokens").ok_or_else(|| wrong("has no tokenizer.ggml.tokens".into()))?;
        let kinds = list(meta, "token_type");
        let mut out = Self { texts: Vec::new(), kinds: Vec::new() };
        for (id, token) in tokens.iter().enumerate() {
            out.texts.push(token.as_str().ok_or_else(|| wrong(format!("token {id} is not a text")))?);
            let kind = kinds.and_then(|k| k.get(id)).and_then(Value::as_u64).unwrap_or(1);
            out.kinds.push(PieceKind::of(kind));
        }
        Ok(out)
    }
}

/// The tokenizer.json of a byte-level BPE.
fn byte_level(meta: &Meta, tokens: &Tokens<'_>) -> Result<Value, VocabularyError> {
    let (pre_tokenizer, ignore_merges) = pre(meta)?;
    let merges = list(meta, "merges").ok_or_else(|| VocabularyError::Wrong("has no tokenizer.ggml.merges".into()))?;
    let mut vocab = Map::new();
    let mut added = Vec::new();
    for (id, (text, kind)) in tokens.texts.iter().zip(&tokens.kinds).enumerate() {
        vocab.insert((*text).to_owned(), id.into());
        if matches!(kind, PieceKind::Control | PieceKind::UserDefined) {
            added.push(json!({"id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": *kind == PieceKind::Control}));
        }
    }
    let named = |name: &str, on: bool| {
        let id = id(meta, name).filter(|_| on)?;
        Some((id, *tokens.texts.get(id as usize)?))
    };
    let start = named("bos_token_id", adds_bos(meta));
    let end = named("eos_token_id", flag(meta, "add_eos_token", false));
    Ok(json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": pre_tokenizer, "post_processor": around(start, end),
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
            "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false, "ignore_merges": ignore_merges,
            "vocab": vocab, "merges": merges},
    }))
}

/// What is put around a text: a token before it, and one behind it.
fn around(start: Option<(u32, &str)>, end: Option<(u32, &str)>) -> Value {
    let special =
        |token: Option<(u32, &str)>| token.map(|(_, text)| json!({"SpecialToken": {"id": text, "type_id": 0}}));
    let single = [special(start), Some(json!({"Sequence": {"id": "A", "type_id": 0}})), special(end)];
    let single: Vec<Value> = single.into_iter().flatten().collect();
    if single.len() == 1 {
        return Value::Null;
    }
    let tokens: Map<String, Value> = [start, end]
        .into_iter()
        .flatten()
        .map(|(id, text)| (text.to_owned(), json!({"id": text, "ids": [id], "tokens": [text]})))
        .collect();
    json!({"type": "TemplateProcessing", "single": single,
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": tokens})
}

/// The tokenizer.json of SentencePiece pieces.
fn pieces(meta: &Meta, tokens: &Tokens<'_>) -> Result<Value, VocabularyError> {
    let scores = list(meta, "scores").ok_or_else(|| VocabularyError::Wrong("has no tokenizer.ggml.scores".into()))?;
    if scores.len() != tokens.texts.len() {
        let why = format!("has {} tokens, but {} scores", tokens.texts.len(), scores.len());
        return Err(VocabularyError::Wrong(why));
    }
    let is_unigram = model(meta) == "t5";
    let piece = |((text, kind), score): ((&&str, &PieceKind), &Value)| Piece {
        text: (*text).to_owned(),
        score: score.as_f64().unwrap_or(0.0) as f32,
        kind: *kind,
    };
    let charsmap = list(meta, "precompiled_charsmap")
        .map(|bytes| bytes.iter().filter_map(|byte| byte.as_i64().map(|byte| byte as u8)).collect::<Vec<u8>>());
    let vocabulary = SentencePiece {
        pieces: tokens.texts.iter().zip(&tokens.kinds).zip(scores).map(piece).collect(),
        is_unigram,
        prefix: if flag(meta, "add_space_prefix", true) { SpacePrefix::EveryPart } else { SpacePrefix::Never },
        drops_spaces: is_unigram && flag(meta, "remove_extra_whitespaces", false),
        charsmap: charsmap.unwrap_or_default(),
        bos: id(meta, "bos_token_id"),
        eos: id(meta, "eos_token_id"),
        pad: id(meta, "padding_token_id"),
    };
    vocabulary.check().map_err(|why| VocabularyError::Wrong(format!("{why}; use the model's Hugging Face folder")))?;
    let start = vocabulary.bos.filter(|_| adds_bos(meta));
    let end = vocabulary.eos.filter(|_| flag(meta, "add_eos_token", is_unigram));
    Ok(vocabulary.tokenizer_json(start, end))
}

/// The pre-tokenizer's definition, and whether whole words skip the merges.
fn pre(meta: &Meta) -> Result<(Value, bool), VocabularyError> {
    let pre = value(meta, "pre").and_then(Value::as_str).unwrap_or("default");
    let known = "smollm, llama-bpe (llama3, falcon3, pixtral, lfm2), smaug-bpe, qwen2 (deepseek-r1-qwen), gpt-2 (olmo, mpt), gpt-4o \
                 and default are";
    pre_tokenizer(pre).ok_or_else(|| VocabularyError::Unsupported(format!("the pre-tokenizer `{pre}`"), known))
}

/// The pre-tokenizer of a `tokenizer.ggml.pre`, and whether whole words in the vocabulary skip the merges.
pub(super) fn pre_tokenizer(pre: &str) -> Option<(Value, bool)> {
    const CASED: &str = concat!(
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|",
        r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    );
    const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)";
    let level =
        |regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": regex});
    let split = |pattern: &str| json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
    let sequence = |parts: Vec<Value>| json!({"type": "Sequence", "pretokenizers": parts});
    let words = |digits: &str| {
        let pattern = format!(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        );
        sequence(vec![split(&pattern), level(false)])
    };
    Some(match pre {
        // llama.cpp first splits off every digit, then applies GPT-2's pattern, as SmolLM2's published tokenizer.json does:
        // spaces before a digit then stay together.
        "smollm" => (sequence(vec![json!({"type": "Digits", "individual_digits": true}), level(true)]), false),
        // GPT-NeoX's files say `olmo` or `mpt`.
        "gpt-2" | "olmo" | "mpt" => (level(true), false),
        // The pattern of the models' own tokenizer.json; llama.cpp knows the case of ASCII letters alone.
        "gpt-4o" => (sequence(vec![split(CASED), level(false)]), false),
        // llama.cpp lets words of the vocabulary skip the merges for Llama 3 alone, and splits the others alike.
        "llama-bpe" | "llama3" | "llama-v3" | "falcon3" | "pixtral" | "lfm2" => (words(r"\p{N}{1,3}"), true),
        "smaug-bpe" => (words(r"\p{N}{1,3}"), false),
        "qwen2" | "deepseek-r1-qwen" => (words(r"\p{N}"), false),
        "default" => (
            sequence(vec![
                split(r"[\p{P}\$\+<=>\^~\|]+"),
                split(GPT2),
                split(r"\p{N}+"),
                split("[0-9][0-9][0-9]"),
                level(false),
            ]),
            false,
        ),
        _ => return None,
    })
}
