//! The special tokens beside a tokenizer.json, read as `transformers` reads them.
//!
//! Owns tokenizer_config.json, special_tokens_map.json and added_tokens.json: the names that templates use, and tokens that stand in
//! none of tokenizer.json's lists. Refuses a token whose number belongs to another.

use super::error::Error;
use super::fields::json;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;
use tokenizers::AddedToken;

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
    /// Others that the files name: `sep_token`, `cls_token`, `image_token` and the like.
    pub others: BTreeMap<String, String>,
}

/// What stands beside a folder's tokenizer.json.
#[derive(Debug, Default)]
pub(super) struct TokenFiles {
    /// By name.
    pub(super) special: SpecialTokens,
    /// Tokens with their numbers, in their order.
    numbered: BTreeMap<u64, AddedToken>,
    /// Tokens without numbers, in the order in which `transformers` adds them.
    named: Vec<AddedToken>,
    /// Whether spaces follow the newer rule for Llama's tokenizer: `▁` before the first word alone, not after special tokens.
    pub(super) newer_llama: bool,
    /// Whether the starting and the end token are put around a text, where the files say so.
    pub(super) adds: [Option<bool>; 2],
    /// Whether a space is put before a text, where the files say so.
    pub(super) space_prefix: Option<bool>,
    /// The same for GPT-2's kind of tokenizer, whose class puts it there whatever tokenizer.json says.
    pub(super) byte_prefix: Option<bool>,
    /// Whether the files name nothing.
    pub(super) is_silent: bool,
}

/// The order in which `transformers` adds special tokens that are in no vocabulary.
const NAMES: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

impl TokenFiles {
    /// Names for a tokenizer that lacks no token.
    pub(super) fn naming(special: SpecialTokens) -> Self {
        Self { special, ..Self::default() }
    }

    /// Reads the files of a folder; those that are missing name nothing.
    ///
    /// # Errors
    /// When one is not valid JSON, or asks for what is not implemented.
    pub(super) fn read(dir: &Path) -> Result<Self, Error> {
        let object = |name: &str| -> Result<Map<String, Value>, Error> {
            let value = json(&dir.join(name))?;
            Ok(value.and_then(|value| value.as_object().cloned()).unwrap_or_default())
        };
        let (config, map) = (object("tokenizer_config.json")?, object("special_tokens_map.json")?);
        // What the configuration says counts, null too; the map fills in what it leaves out.
        let value = |name: &str| if config.contains_key(name) { config.get(name) } else { map.get(name) };
        let text = |name: &str| value(name).and_then(text_of);
        let mut out = Self {
            special: SpecialTokens {
                bos: text("bos_token"),
                eos: text("eos_token"),
                pad: text("pad_token"),
                unk: text("unk_token"),
                others: BTreeMap::new(),
            },
            ..Self::default()
        };
        let keys = config.keys().chain(map.keys()).filter(|key| key.ends_with("_token"));
        for key in keys.filter(|key| !["bos_token", "eos_token", "pad_token", "unk_token"].contains(&key.as_str())) {
            out.special.others.extend(text(key).map(|text| (key.clone(), text)));
        }
        for (content, id) in object("added_tokens.json")? {
            out.numbered.extend(id.as_u64().map(|id| (id, AddedToken::from(content, false).normalized(false))));
        }
        for (id, token) in config.get("added_tokens_decoder").and_then(Value::as_object).into_iter().flatten() {
            out.numbered.extend(id.parse().ok().zip(token_of(token, false)));
        }
        out.named.extend(NAMES.iter().filter_map(|name| token_of(value(name)?, true)));
        for list in ["additional_special_tokens", "extra_special_tokens"] {
            let tokens = value(list).map(|value| match value {
                Value::Array(tokens) => tokens.iter().collect(),
                Value::Object(by_name) => by_name.values().collect(),
                _ => Vec::new(),
            });
            out.named.extend(tokens.into_iter().flatten().filter_map(|token| token_of(token, true)));
        }
        let flag = |name: &str| config.get(name).and_then(Value::as_bool);
        if flag("split_special_tokens") == Some(true) {
            return Err(Error::file(
                &dir.join("tokenizer_config.json"),
                "`split_special_tokens=true` is not implemented: it would read a chat template's own tokens as letters; \
                 remove it",
            ));
        }
        out.adds = [flag("add_bos_token"), flag("add_eos_token")];
        out.space_prefix = flag("add_prefix_space");
        out.is_silent = config.is_empty() && map.is_empty();
        let class = config.get("tokenizer_class").and_then(Value::as_str).unwrap_or("");
        out.byte_prefix = out.space_prefix.filter(|_| class.starts_with("GPT2Tokenizer"));
        out.newer_llama = class.starts_with("LlamaTokenizer") && config.get("legacy") == Some(&Value::Bool(false));
        Ok(out)
    }

    /// Adds to a tokenizer what it lacks.
    ///
    /// # Errors
    /// When a token's number belongs to another token; the sentence names both.
    pub(super) fn complete(&self, tokenizer: &mut tokenizers::Tokenizer) -> Result<(), String> {
        let is_known = |tokenizer: &tokenizers::Tokenizer, token: &AddedToken| {
            tokenizer.get_added_tokens_decoder().values().any(|known| known.content == token.content)
        };
        for (id, token) in &self.numbered {
            if is_known(tokenizer, token) {
                continue;
            }
            add(tokenizer, token)?;
            let found = tokenizer.token_to_id(&token.content);
            if found.map(u64::from) != Some(*id) {
                let owner = u32::try_from(*id).ok().and_then(|id| tokenizer.id_to_token(id));
                let why = owner.map_or_else(
                    || "the numbers before it belong to no token".to_owned(),
                    |owner| format!("tokenizer.json gives that number to `{owner}`"),
                );
                return Err(format!(
                    "the token `{}` has the number {id} in tokenizer_config.json, but {why}: take both files from one version of the model",
                    token.content
                ));
            }
        }
        for token in self.named.iter().filter(|token| !token.content.is_empty()) {
            if !is_known(tokenizer, token) {
                add(tokenizer, token)?;
            }
        }
        Ok(())
    }
}

fn add(tokenizer: &mut tokenizers::Tokenizer, token: &AddedToken) -> Result<(), String> {
    let added = if token.special {
        tokenizer.add_special_tokens([token.clone()])
    } else {
        tokenizer.add_tokens([token.clone()])
    };
    added.map(drop).map_err(|e| format!("the token `{}` cannot be added: {e}", token.content))
}

/// A special token's text, which is a string or an object with `content`.
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        other => other.get("content").and_then(Value::as_str).map(str::to_owned),
    }
}

/// A token as the tokenizers library takes it. `special` holds where the file says nothing.
fn token_of(value: &Value, special: bool) -> Option<AddedToken> {
    let flag = |name: &str, default: bool| value.get(name).and_then(Value::as_bool).unwrap_or(default);
    let special = flag("special", special);
    let token = AddedToken::from(text_of(value)?, special)
        .single_word(flag("single_word", false))
        .lstrip(flag("lstrip", false))
        .rstrip(flag("rstrip", false))
        .normalized(flag("normalized", !special));
    Some(token)
}

/// The bytes of a tokenizer.json of bytes alone (GPT-2) with another rule for a space before a text. None where it has that rule, or
/// is built in another way.
pub(super) fn with_byte_prefix(bytes: &[u8], prefix: bool) -> Option<Vec<u8>> {
    let mut spec: Value = serde_json::from_slice(bytes).ok()?;
    let first = spec.get_mut("pre_tokenizer")?;
    if first.get("type")? != "ByteLevel" || first.get("add_prefix_space")?.as_bool()? == prefix {
        return None;
    }
    first["add_prefix_space"] = prefix.into();
    serde_json::to_vec(&spec).ok()
}

/// The bytes of a Llama tokenizer.json with `▁` before the first word alone, as `transformers` 5 rebuilds it for `legacy: false`. None
/// where the tokenizer is built in another way.
pub(super) fn with_newer_spaces(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut spec: Value = serde_json::from_slice(bytes).ok()?;
    let normalizers = spec.get("normalizer")?.get("normalizers")?.as_array()?;
    let kinds: Vec<&str> = normalizers.iter().filter_map(|part| part.get("type")?.as_str()).collect();
    if kinds != ["Prepend", "Replace"] || !spec.get("pre_tokenizer")?.is_null() {
        return None;
    }
    spec["normalizer"] = Value::Null;
    spec["pre_tokenizer"] =
        serde_json::json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": false});
    serde_json::to_vec(&spec).ok()
}
