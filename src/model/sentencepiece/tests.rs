//! tokenizer.model files against the libraries that made them (tests/fixtures/sentencepiece/make.py), and damaged ones.

use super::*;
use crate::model::language_model::LanguageModel;
use std::path::{Path, PathBuf};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn rows(name: &str) -> Vec<Value> {
    serde_json::from_slice(&std::fs::read(fixtures().join(name)).unwrap()).unwrap()
}

fn ids(row: &Value) -> Vec<u32> {
    serde_json::from_value(row["ids"].clone()).unwrap()
}

/// The tiny Llama's folder with another tokenizer.
fn folder(tokenizer: &str, from: &Path, config: &Value) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let tiny = fixtures().join("tiny-llama");
    std::fs::copy(tiny.join("model.safetensors"), dir.path().join("model.safetensors")).unwrap();
    let mut spec: Value = serde_json::from_slice(&std::fs::read(tiny.join("config.json")).unwrap()).unwrap();
    spec["vocab_size"] = 1000.into();
    std::fs::write(dir.path().join("config.json"), spec.to_string()).unwrap();
    std::fs::copy(from, dir.path().join(tokenizer)).unwrap();
    std::fs::write(dir.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    dir
}

fn opened(name: &str, config: &Value) -> LanguageModel {
    let from = fixtures().join("sentencepiece").join(format!("{name}.model"));
    LanguageModel::open(folder("tokenizer.model", &from, config).path()).unwrap()
}

/// Compares ids and texts; those that differ are listed.
fn compare(name: &str, model: &LanguageModel) {
    let (texts, made) = (rows("tokenizer/ids.json"), rows(&format!("sentencepiece/{name}.ids.json")));
    assert!(texts.len() >= 200 && texts.len() == made.len());
    let unknown = model.tokenizer.encode("\u{10fffd}", false).unwrap().last().copied();
    let mut differing = Vec::new();
    for (text, made) in texts.iter().zip(&made) {
        let text = text["text"].as_str().unwrap();
        let (own, theirs) = (model.tokenizer.encode(text, false).unwrap(), ids(made));
        if own != theirs {
            differing.push(format!("{text:?}: {own:?}, {theirs:?}"));
        // sentencepiece shows ⁇ for what it does not know, other programs nothing.
        } else if !theirs.iter().any(|id| Some(*id) == unknown)
            && model.tokenizer.decode(&own).unwrap() != made["text"].as_str().unwrap()
        {
            differing.push(format!("{text:?} is decoded as {:?}", model.tokenizer.decode(&own).unwrap()));
        }
    }
    assert!(differing.is_empty(), "{name}, {} of {}:\n{}", differing.len(), texts.len(), differing.join("\n"));
}

#[test]
fn two_hundred_texts_have_the_ids_and_the_texts_of_sentencepiece() {
    for name in ["bpe", "bpe-no-prefix", "unigram", "unigram-nfkc"] {
        compare(name, &opened(name, &json!({})));
    }
}

#[test]
fn two_hundred_texts_have_the_ids_of_a_wordpiece_tokenizer() {
    let from = fixtures().join("sentencepiece/wordpiece.json");
    let dir = folder("tokenizer.json", &from, &json!({"eos_token": "[SEP]", "pad_token": "[PAD]"}));
    compare("wordpiece", &LanguageModel::open(dir.path()).unwrap());
}

#[test]
fn a_llama_folder_of_the_newer_kind_has_the_ids_of_transformers() {
    let model = opened("bpe", &json!({"tokenizer_class": "LlamaTokenizer", "legacy": false, "eos_token": "</s>"}));
    let rows = rows("sentencepiece/bpe-newer.ids.json");
    assert!(rows.len() > 200);
    for row in &rows {
        let text = row["source"].as_str().unwrap();
        assert_eq!(model.tokenizer.encode(text, false).unwrap(), ids(row), "{text:?}");
    }
}

#[test]
fn special_tokens_are_those_of_the_files_or_of_the_model() {
    let silent = opened("bpe", &json!({}));
    assert_eq!(silent.tokenizer.special.bos.as_deref(), Some("<s>"));
    assert_eq!(silent.tokenizer.special.eos.as_deref(), Some("</s>"));
    assert_eq!(silent.tokenizer.encode("a", true).unwrap()[0], 1);
    let named =
        opened("bpe", &json!({"bos_token": null, "eos_token": "</s>", "add_bos_token": false, "add_eos_token": true}));
    assert_eq!(named.tokenizer.special.bos, None);
    let around = named.tokenizer.encode("a", true).unwrap();
    assert_eq!((around[0] == 1, around.last()), (false, Some(&2)));
    let bare = opened("bpe", &json!({"add_prefix_space": false, "eos_token": "</s>"}));
    assert_ne!(bare.tokenizer.encode("a", false).unwrap(), silent.tokenizer.encode("a", false).unwrap());
}

#[test]
fn an_answer_keeps_the_space_between_it_and_its_prompt() {
    let text = "The quick brown fox  hello world, Größe 😀 x = 1";
    for (name, newer) in [("bpe", false), ("bpe", true), ("unigram", false), ("bpe-no-prefix", false)] {
        let model = opened(name, &json!({"tokenizer_class": "LlamaTokenizer", "legacy": !newer, "eos_token": "</s>"}));
        let all = model.tokenizer.encode(text, false).unwrap();
        for at in 1..all.len() {
            let prompt = model.tokenizer.decode(&all[..at]).unwrap();
            let answer = model.tokenizer.decode_after(Some(all[at - 1]), &all[at..]).unwrap();
            // A cut inside a character gives its bytes up.
            assert!(format!("{prompt}{answer}") == text || answer.contains('\u{fffd}'), "{name} {prompt:?} {answer:?}");
        }
        // Behind a special token the older kind puts a space that is not in the text.
        let after = model.tokenizer.encode("</s>hello", false).unwrap();
        assert_eq!(model.tokenizer.decode_after(Some(2), &after[1..]).unwrap(), "hello", "{name}");
        assert_eq!(model.tokenizer.decode(&all).unwrap(), text);
    }
}

#[test]
fn damaged_and_foreign_files_are_one_sentence() {
    let whole = std::fs::read(fixtures().join("sentencepiece/bpe.model")).unwrap();
    for cut in (0..whole.len()).step_by(97) {
        let _ = SentencePiece::parse(&whole[..cut]);
        let mut bytes = whole.clone();
        let end = (cut + 4).min(bytes.len());
        bytes[cut..end].fill(0xff);
        let _ = SentencePiece::parse(&bytes);
    }
    assert!(SentencePiece::parse(b"").unwrap_err().contains("no pieces"));
    let dir = tempfile::tempdir().unwrap();
    let ranks = dir.path().join("ranks");
    std::fs::write(&ranks, "IQ== 0\nIg== 1\n").unwrap();
    let message = LanguageModel::open(folder("tokenizer.model", &ranks, &json!({})).path()).err().unwrap().to_string();
    assert!(message.contains("is no SentencePiece model") && message.contains("save_pretrained"), "{message}");
    let message = LanguageModel::open(folder("vocab.txt", &ranks, &json!({})).path()).err().unwrap().to_string();
    assert!(message.contains("has vocab.txt but no tokenizer.json; run there: python -c"), "{message}");
    // A trainer_spec whose model type is 3: words.
    let piece = [0x0a, 0x03, 0x0a, 0x01, b'a'];
    let message = SentencePiece::parse(&[&piece[..], &[0x12, 0x02, 0x18, 0x03]].concat()).unwrap_err();
    assert!(message.contains("of words"), "{message}");
}

/// A vocabulary of bytes, `▁` and pieces whose letters are bytes only.
fn of_bytes(pieces: &[&str]) -> SentencePiece {
    let piece = |text: String, score: f32, kind| Piece { text, score, kind };
    let mut all = vec![piece("<unk>".into(), 0.0, PieceKind::Unknown)];
    all.extend((0..256).map(|byte| piece(format!("<0x{byte:02X}>"), 0.0, PieceKind::Byte)));
    let more = pieces.iter().enumerate();
    all.extend(more.map(|(i, text)| piece((*text).to_owned(), -(i as f32), PieceKind::Normal)));
    SentencePiece {
        pieces: all,
        is_unigram: false,
        prefix: SpacePrefix::EveryPart,
        drops_spaces: false,
        charsmap: Vec::new(),
        bos: None,
        eos: None,
        pad: None,
    }
}

#[test]
fn letters_that_are_bytes_only_are_merged_and_saved() {
    let made = of_bytes(&["▁", "▁a", "bc"]);
    made.check().unwrap();
    let from = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(from.path(), made.tokenizer_json(None, None).to_string()).unwrap();
    let config = json!({"eos_token": "<unk>"});
    let model = LanguageModel::open(folder("tokenizer.json", from.path(), &config).path()).unwrap();
    let byte = |byte: u8| u32::from(byte) + 1;
    let ids = model.tokenizer.encode("abc a b", false).unwrap();
    assert_eq!(ids, [258, 259, 258, 257, byte(b'b')]);
    assert_eq!(model.tokenizer.decode(&ids).unwrap(), "abc a b");
    let saved = model.tokenizer.to_json().unwrap();
    assert!(saved.contains("\"a\": 98") && saved.contains("\"<0x61>\": 98"));
    std::fs::write(from.path(), &saved).unwrap();
    let again = LanguageModel::open(folder("tokenizer.json", from.path(), &config).path()).unwrap();
    assert_eq!(again.tokenizer.encode("abc a b", false).unwrap(), ids);
    assert_eq!(again.tokenizer.to_json().unwrap(), saved);
    let why = of_bytes(&["▁", "▁ä", "ö"]).check().unwrap_err();
    assert!(why.contains("1 of its pieces"), "{why}");
}
