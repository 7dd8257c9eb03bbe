//! A fresh model loads and works like any other.

use super::*;
use crate::domain::{Message, PromptBody};
use crate::model::{LanguageModel, Tune};

/// Discards events.
struct Quiet;

impl Sink for Quiet {
    fn emit(&mut self, _: RunEvent) -> Result<(), Error> {
        Ok(())
    }
}

fn made(spec: &FreshSpec) -> (tempfile::TempDir, LanguageModel) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m");
    make(spec, &path, &mut Quiet).unwrap();
    let model = LanguageModel::open(&path).unwrap();
    (dir, model)
}

#[test]
fn it_loads_with_the_stated_size() {
    let (dir, model) = made(&FreshSpec::default());
    let parameters = model.config.parameters();
    assert!((1_000_000..3_000_000).contains(&parameters), "{parameters}");
    assert_eq!((model.config.vocab, model.tokenizer.size()), (1024, 1024));
    assert_eq!((model.tokenizer.stops(), model.tokenizer.pad()), (&[2u32][..], 0));
    let decoder = model.decoder(&Device::Cpu, &Tune::Full).unwrap();
    let numbers: usize = decoder.trainables().iter().map(|(_, v)| v.elem_count()).sum();
    assert_eq!(numbers as u64, parameters);
    let size = |name: &str| std::fs::metadata(dir.path().join("m").join(name)).unwrap().len();
    assert!(size("model.safetensors") + size("tokenizer.json") < 6_000_000);
}

#[test]
fn any_text_round_trips_and_the_generators_words_are_few_tokens() {
    let (_dir, model) =
        made(&FreshSpec { layers: 1, hidden: 16, heads: 2, kv_heads: 1, ff: 16, ..FreshSpec::default() });
    for text in ["", "  two  blanks\n\tand a tab ", "Grüße, 世界 🦊 é", "C:\\ 3.14 <b>", "fn main() { }"] {
        let ids = model.tokenizer.encode(text, false).unwrap();
        assert_eq!(model.tokenizer.decode(&ids).unwrap(), text);
    }
    let (mut words, mut tokens) = (0, 0);
    for e in (0..500).map(|n| exchange(9, n)) {
        let ids = model.tokenizer.encode(&e.answer, false).unwrap();
        assert_eq!(model.tokenizer.decode(&ids).unwrap(), e.answer);
        assert!((3..=56).contains(&ids.len()), "{}: {}", ids.len(), e.answer);
        words += e.answer.split_whitespace().count();
        tokens += ids.len();
    }
    let per_word = tokens as f64 / f64::from(u32::try_from(words).unwrap());
    assert!(per_word < 1.5, "{per_word}");
    let prompt = model.encode_prompt(&PromptBody::user("Hello. How are you?")).unwrap();
    assert_eq!(prompt.iter().filter(|id| **id < 3).copied().collect::<Vec<_>>(), [1, 2, 1]);
    let chat = [Message::new("user", "Hello.")];
    let text = model.render(&chat, true).unwrap();
    assert_eq!(text, "<|im_start|>user\nHello.<|im_end|>\n<|im_start|>assistant\n");
}

#[test]
fn weights_depend_on_the_seed_and_the_tokenizer_does_not() {
    let spec = FreshSpec { layers: 2, hidden: 16, heads: 2, kv_heads: 1, ff: 24, ..FreshSpec::default() };
    let bytes = |spec: &FreshSpec, name: &str| {
        let (dir, _) = made(spec);
        std::fs::read(dir.path().join("m").join(name)).unwrap()
    };
    let other = FreshSpec { seed: 43, ..spec.clone() };
    assert_eq!(bytes(&spec, "model.safetensors"), bytes(&spec, "model.safetensors"));
    assert_ne!(bytes(&spec, "model.safetensors"), bytes(&other, "model.safetensors"));
    assert_eq!(bytes(&spec, "tokenizer.json"), bytes(&other, "tokenizer.json"));
}

#[test]
fn weights_have_the_right_standard_deviation() {
    let numbers = normals(&mut stream(1, 2), 100_001, 0.02);
    let n = numbers.len() as f64;
    let mean = numbers.iter().map(|x| f64::from(*x)).sum::<f64>() / n;
    let deviation = (numbers.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / n).sqrt();
    assert!(numbers.len() == 100_001 && mean.abs() < 3e-4 && (deviation - 0.02).abs() < 3e-4, "{mean} {deviation}");
}

#[test]
fn an_invalid_shape_is_refused_and_leaves_no_files() {
    let dir = tempfile::tempdir().unwrap();
    for spec in [FreshSpec { hidden: 30, ..FreshSpec::default() }, FreshSpec { kv_heads: 3, ..FreshSpec::default() }] {
        let said = make(&spec, &dir.path().join("m"), &mut Quiet).unwrap_err().to_string();
        assert!(said.contains("heads"), "{said}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
