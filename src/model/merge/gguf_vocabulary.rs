//! A tokenizer as the metadata of a GGUF file.
//!
//! Owns `tokenizer.ggml.*` and the proof that they are read as the model's own tokenizer: the metadata are read back, and the ids of
//! varied texts must be equal. Refuses a tokenizer for which no name of a pre-tokenizer gives equal ids.

use crate::domain::Message;
use crate::model::config::Config;
use crate::model::error::Error;
use crate::model::gguf::vocabulary::{WRITTEN, tokenizer};
use crate::model::gguf::write::{MetaValue, as_read};
use crate::model::language_model::LanguageModel;
use crate::model::tokenizer::Tokenizer;
use serde_json::Value;
use std::collections::HashMap;

/// The metadata of a tokenizer.
pub(super) struct Vocabulary {
    pub(super) meta: Vec<(String, MetaValue)>,
    pub(super) adds_bos: bool,
    /// What a person should know, a sentence each.
    pub(super) notes: Vec<String>,
}

/// Texts in which tokenizers differ: spaces and newlines in runs, digits, contractions, punctuation, code, scripts and symbols.
const TEXTS: [&str; 24] = [
    "Hello, world! The quick brown fox can't jump; it'll WALK. DON'T",
    " leading and trailing ",
    "a  b   c    d     e\n\n\nf\n \n  g\t\th\t i\r\nj\r\n\r\n",
    "1 12 123 1234 12345 3.14159 1,000,000 0xDEADBEEF v1.2.3-rc4 2026-11-23T22:13:04Z x2 2x",
    "\n  1. one\n  2. two\n\t3) three",
    "def f(x):\n    return x ** 2 + 10 != y[-1]  # comment\n\nclass A:\n\tpass\n",
    "fn main() {\n\tprintln!(\"{}\", 42);\n}",
    "<div class=\"a\">1 &amp; 2</div> {\"key\": [1, 2, 3], \"n\": null}",
    "https://example.org/a?b=c&d=e#f user@example.org C:\\Users\\x /usr/local/bin #hashtag",
    "naïve café résumé Größe Straße ÄÖÜ Łódź",
    "Привет, мир. Καλημέρα κόσμε. שלום עולם. مرحبا بالعالم",
    "こんにちは世界。你好,世界!안녕하세요 세계",
    "नमस्ते दुनिया สวัสดีชาวโลก தமிழ் 🇩🇪",
    "😀 🎉🎉 👩‍👩‍👧‍👦 👍🏽",
    "½ ¾ ² ³ Ⅷ ① ∑∫√∞ ٣٤٥ १२३",
    "\u{a0}nbsp\u{a0} \u{3000}wide\u{3000} \u{200b}zero\u{200d}",
    "...!!!??? ----==== $100 €50 £20 ''quotes'' \"double\" `code`",
    "aaaaaaaaaaaaaaaaaaaaaaaa supercalifragilisticexpialidocious ALLCAPS MiXeD camelCaseWord snake_case_word",
    "''' '' ' '' ''' 's 'S 're 'RE 've 'll it's IT'S they’re",
    "\u{1}\u{7f}\u{feff}",
    "x=1;y=22;z=333;w=4444 10% 5°C 1st 2nd",
    "                    twenty spaces",
    "\n\n\n\n\n\nsix newlines      \n      six spaces\n",
    "e",
];

/// The kinds of tokens (`enum llama_token_type`).
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// The metadata of a model's tokenizer.
///
/// # Errors
/// When its kind has no GGUF form, or none that gives the same ids.
pub(super) fn of(model: &LanguageModel) -> Result<Vocabulary, Error> {
    let own = &model.tokenizer;
    let spec: Value =
        serde_json::from_str(&own.to_json()?).map_err(|e| refused(model, &format!("cannot be read: {e}")))?;
    let kind = spec["model"]["type"].as_str().unwrap_or("unknown");
    let byte_level = spec.get("decoder").is_some_and(|decoder| holds(decoder, "ByteLevel"));
    let is_spm = kind == "BPE" && spec["model"]["byte_fallback"] == true;
    if !(is_spm || kind == "BPE" && byte_level) {
        return Err(refused(model, &format!("is {kind}, where BPE over bytes or with byte fallback is written")));
    }
    let (texts, kinds) = tokens(model, &spec, is_spm);
    let name = if is_spm { "llama" } else { "gpt2" };
    let mut meta = vec![("tokenizer.ggml.model".to_owned(), MetaValue::Text(name.into()))];
    if is_spm {
        meta.push(("tokenizer.ggml.scores".into(), MetaValue::Floats(scores(&texts, &kinds, &spec))));
        let first = own.encode("a", false)?.first().and_then(|id| own.token(*id));
        let prefix = first.is_some_and(|token| token.starts_with('▁'));
        meta.push(("tokenizer.ggml.add_space_prefix".into(), MetaValue::Bool(prefix)));
    } else {
        meta.push(("tokenizer.ggml.merges".into(), MetaValue::Texts(merges(&spec))));
    }
    meta.push(("tokenizer.ggml.tokens".into(), MetaValue::Texts(texts)));
    meta.push(("tokenizer.ggml.token_type".into(), MetaValue::Ints(kinds)));
    let (whole, bare) = (own.encode("a", true)?, own.encode("a", false)?);
    let around: Vec<u32> = whole.iter().copied().filter(|id| !bare.contains(id)).collect();
    let adds_bos = around.first().is_some_and(|id| whole.first() == Some(id));
    let adds_eos = around.last().is_some_and(|id| whole.last() == Some(id));
    meta.extend(special(model, &around, adds_bos));
    meta.push(("tokenizer.ggml.add_bos_token".into(), MetaValue::Bool(adds_bos)));
    meta.push(("tokenizer.ggml.add_eos_token".into(), MetaValue::Bool(adds_eos)));
    if let Some(template) = &model.template {
        meta.push(("tokenizer.chat_template".into(), MetaValue::Text(template.source().to_owned())));
        if let Some(source) = template.tool_use() {
            meta.push(("tokenizer.chat_templates".into(), MetaValue::Texts(vec!["tool_use".into()])));
            meta.push(("tokenizer.chat_template.tool_use".into(), MetaValue::Text(source.to_owned())));
        }
    }
    let names: &[&str] = if is_spm { &["default"] } else { &WRITTEN };
    let pre = pre_tokenizer(model, &meta, names)?;
    meta.insert(1, ("tokenizer.ggml.pre".into(), MetaValue::Text(pre.into())));
    let mut notes = Vec::new();
    if !is_spm && !spec["normalizer"].is_null() {
        notes.push(
            "The tokenizer normalises texts (Unicode composition), which llama.cpp does not: texts with decomposed letters get other ids there."
                .to_owned(),
        );
    }
    let differing = differing_with_special(model, &meta)?;
    if differing > 0 {
        notes.push(format!(
            "llama.cpp reads {differing} of 3 texts with special tokens in them otherwise than the model's tokenizer, which treats spaces around these tokens in its own way."
        ));
    }
    Ok(Vocabulary { meta, adds_bos, notes })
}

fn refused(model: &LanguageModel, why: &str) -> Error {
    let known = "merge with --format hf and convert the folder with llama.cpp's convert_hf_to_gguf.py";
    Error::unsupported(&model.path, format!("writing its tokenizer as GGUF (it {why})"), known)
}

/// Whether a part of a tokenizer.json is of that type, or a sequence with one.
fn holds(part: &Value, kind: &str) -> bool {
    let parts = ["decoders", "pretokenizers", "normalizers"].iter().filter_map(|list| part.get(list)?.as_array());
    part.get("type").and_then(Value::as_str) == Some(kind) || parts.flatten().any(|part| holds(part, kind))
}

/// The texts of tokens and their kinds, one for each row of the embedding.
fn tokens(model: &LanguageModel, spec: &Value, is_spm: bool) -> (Vec<String>, Vec<i32>) {
    let rows = model.config.vocab;
    let mut texts: Vec<String> = (0..rows).map(|id| format!("[PAD{id}]")).collect();
    let mut kinds = vec![UNUSED; rows];
    for (text, id) in spec["model"]["vocab"].as_object().into_iter().flatten() {
        if let Some(id) = id.as_u64().filter(|id| *id < rows as u64) {
            let kind = if is_spm && is_byte(text) { BYTE } else { NORMAL };
            // A letter that has its byte's number is no token of its own.
            if kinds[id as usize] == BYTE {
                continue;
            }
            (texts[id as usize], kinds[id as usize]) = (text.clone(), kind);
        }
    }
    for token in spec["added_tokens"].as_array().into_iter().flatten() {
        let (id, text) = (token["id"].as_u64(), token["content"].as_str());
        if let (Some(id), Some(text)) = (id.filter(|id| *id < rows as u64), text) {
            let kind = match token["special"] == true {
                true if is_spm && spec["model"]["unk_token"] == text => UNKNOWN,
                true => CONTROL,
                false => USER_DEFINED,
            };
            (texts[id as usize], kinds[id as usize]) = (text.to_owned(), kind);
        }
    }
    (texts, kinds)
}

/// Whether a piece stands for a byte: `<0x0A>`.
fn is_byte(text: &str) -> bool {
    let digits = text.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|digits| digits.len() == 2 && u8::from_str_radix(digits, 16).is_ok())
}

/// The scores that the merges stand for: a piece's is the better, the earlier it is merged.
fn scores(texts: &[String], kinds: &[i32], spec: &Value) -> Vec<f32> {
    let mut ranks: HashMap<String, usize> = HashMap::new();
    for (rank, merge) in merges(spec).iter().enumerate() {
        ranks.entry(merge.replacen(' ', "", 1)).or_insert(rank);
    }
    // Letters come behind every piece that is merged.
    let last = ranks.len();
    let score = |(text, kind): (&String, &i32)| match *kind {
        NORMAL => -(ranks.get(text).copied().unwrap_or(last) as f32),
        _ => 0.0,
    };
    texts.iter().zip(kinds).map(score).collect()
}

fn merges(spec: &Value) -> Vec<String> {
    let text = |merge: &Value| match merge {
        Value::Array(two) => two.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
        other => other.as_str().unwrap_or_default().to_owned(),
    };
    spec["model"]["merges"].as_array().into_iter().flatten().map(text).collect()
}

/// The ids of the special tokens.
fn special(model: &LanguageModel, around: &[u32], adds_bos: bool) -> Vec<(String, MetaValue)> {
    let own = &model.tokenizer;
    let id = |text: &Option<String>| text.as_ref().and_then(|text| own.id(text));
    let bos = if adds_bos { around.first().copied() } else { None };
    let eos = id(&own.special.eos).or(own.stops().first().copied());
    let turn = own.stops().iter().copied().find(|stop| Some(*stop) != eos);
    let ids = [
        ("bos", bos.or(id(&own.special.bos)).or(model.config.bos)),
        ("eos", eos),
        ("eot", turn),
        ("unknown", id(&own.special.unk)),
        ("padding", id(&own.special.pad).or(model.config.pad)),
    ];
    ids.into_iter()
        .filter_map(|(name, id)| Some((format!("tokenizer.ggml.{name}_token_id"), MetaValue::U32(id?))))
        .collect()
}

/// The name of the pre-tokenizer under which the metadata give the ids of the model's own tokenizer.
fn pre_tokenizer<'a>(model: &LanguageModel, meta: &[(String, MetaValue)], names: &[&'a str]) -> Result<&'a str, Error> {
    let mut read: HashMap<String, Value> = as_read(meta);
    let config = Config { eos: model.tokenizer.stops().to_vec(), ..model.config.clone() };
    let mut nearest = (usize::MAX, "");
    for name in names.iter().copied() {
        read.insert("tokenizer.ggml.pre".into(), name.into());
        let other = tokenizer(&read, name, &config).map_err(|e| e.at(&model.path))?;
        let differing = TEXTS.iter().filter(|text| !equal(&model.tokenizer, &other, text)).count();
        if differing == 0 {
            return Ok(name);
        }
        nearest = nearest.min((differing, name));
    }
    let (differing, name) = nearest;
    let why = format!(
        "splits texts as no pre-tokenizer that is known here; {name} is nearest, with other ids in {differing} of {} texts",
        TEXTS.len()
    );
    Err(refused(model, &why))
}

/// How many of three texts with special tokens have other ids by the metadata.
fn differing_with_special(model: &LanguageModel, meta: &[(String, MetaValue)]) -> Result<usize, Error> {
    let config = Config { eos: model.tokenizer.stops().to_vec(), ..model.config.clone() };
    let other = tokenizer(&as_read(meta), "its GGUF form", &config).map_err(|e| e.at(&model.path))?;
    let end = model.tokenizer.stops().first().and_then(|id| model.tokenizer.token(*id)).unwrap_or_default();
    let turn = |role: &str, text: &str| Message::new(role, text);
    let talk = [turn("user", "Why, then?"), turn("assistant", "Because of it."), turn("user", " 1\n\n2 ")];
    let talk = model.template.as_ref().and_then(|template| template.render(&talk, true).ok()).unwrap_or_default();
    let texts = [format!("a{end}b{end}"), format!("a {end} b\n{end}\n c"), talk];
    Ok(texts.iter().filter(|text| !equal(&model.tokenizer, &other, text)).count())
}

/// Whether two tokenizers give a text the same ids.
fn equal(own: &Tokenizer, other: &Tokenizer, text: &str) -> bool {
    let ids = |tokenizer: &Tokenizer, special: bool| tokenizer.encode(text, special).ok();
    ids(own, false) == ids(other, false) && ids(own, true) == ids(other, true)
}
