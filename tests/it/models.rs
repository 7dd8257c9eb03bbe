//! Tokenizers, templates and weights against the Python libraries, on the tiny Llama and on SmolLM2 if it is
//! downloaded.

use serde_json::Value;
use std::path::PathBuf;
use tiebreak::domain::{Message, PromptBody, Sampler};
use tiebreak::generate::generate;
use tiebreak::model::{Config, LanguageModel, LoraSpec, SpecialTokens, Template, Tune};
use tiebreak::nn::{Batch, Policy, Row, RowGradient, stream};

fn fixture(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A path in SmolLM2's folder. Tests that need it are ignored; `.ci/run` downloads the model and runs them.
fn smollm2(below: &str) -> PathBuf {
    let root = std::env::var_os("TIEBREAK_MODELS")
        .map_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache/tiebreak-models"), PathBuf::from);
    let path = root.join("smollm2").join(below);
    assert!(path.exists(), "{} is missing: .ci/run downloads it", path.display());
    path
}

const GGUF: &str = "gguf/SmolLM2-135M-Instruct.Q4_1.gguf";

#[test]
#[ignore = "needs SmolLM2: .ci/run fetches it and runs this"]
fn smollm2_two_hundred_texts_have_the_ids_of_the_tokenizers_library_and_of_llama_cpp() {
    let (folder, gguf) = (smollm2("hf"), smollm2(GGUF));
    let folder = LanguageModel::open(&folder).unwrap();
    let gguf = LanguageModel::open(&gguf).unwrap();
    assert_eq!((folder.tokenizer.stops(), folder.tokenizer.pad()), (&[2u32][..], 2));
    assert_eq!((gguf.tokenizer.stops(), gguf.tokenizer.pad()), (&[2u32][..], 2));
    let rows: Vec<Value> = serde_json::from_str(&fixture("tokenizer/ids.json")).unwrap();
    assert!(rows.len() >= 200);
    for row in &rows {
        let text = row["text"].as_str().unwrap();
        // Two independent sources: the folder's tokenizer.json, and llama.cpp's own reading of the GGUF file.
        let [ids, llama] = ["ids", "llama"].map(|k| serde_json::from_value::<Vec<u32>>(row[k].clone()).unwrap());
        assert_eq!(ids, llama, "the sources differ: {text:?}");
        assert_eq!(folder.tokenizer.encode(text, false).unwrap(), ids, "folder: {text:?}");
        assert_eq!(gguf.tokenizer.encode(text, false).unwrap(), ids, "gguf: {text:?}");
    }
}

#[test]
fn templates_render_byte_for_byte_as_transformers_renders_them() {
    rendered(None, 200);
}

#[test]
#[ignore = "needs SmolLM2: .ci/run fetches it and runs this"]
fn smollm2_renders_byte_for_byte_as_transformers_renders_it() {
    rendered(Some(&LanguageModel::open(&smollm2("hf")).unwrap()), 1);
}

/// Compares the rows of the model's own template, or of the template fixtures if there is no model.
fn rendered(model: Option<&LanguageModel>, least: usize) {
    let all: Value = serde_json::from_str(&fixture("template/rendered.json")).unwrap();
    let chats: Vec<Vec<Message>> = serde_json::from_value(all["chats"].clone()).unwrap();
    let special = SpecialTokens { bos: Some("<s>".into()), eos: Some("</s>".into()), ..SpecialTokens::default() };
    let mut compared = 0;
    for row in all["rows"].as_array().unwrap() {
        let name = row["template"].as_str().unwrap();
        let chat = &chats[row["chat"].as_u64().unwrap() as usize];
        let add = row["add"].as_bool().unwrap();
        if (name == "smollm2") != model.is_some() {
            continue;
        }
        let ours = if let Some(model) = model {
            model.render(chat, add)
        } else {
            Template::new(&fixture(&format!("template/{name}.jinja")), name, &special).unwrap().render(chat, add)
        };
        if let Some(text) = row.get("text") {
            assert_eq!(ours.unwrap(), text.as_str().unwrap(), "{name}, {chat:?}, {add}");
        } else {
            let said = ours.unwrap_err().to_string();
            assert!(said.contains(row["error"].as_str().unwrap()), "{said}");
        }
        compared += 1;
    }
    assert!(compared >= least, "{compared}");
}

#[test]
#[ignore = "needs SmolLM2: .ci/run fetches it and runs this"]
fn smollm2_the_folder_and_the_gguf_render_the_same() {
    let (folder, gguf) = (smollm2("hf"), smollm2(GGUF));
    let chat = [Message::new("user", "Hello")];
    let [a, b] = [folder, gguf].map(|p| LanguageModel::open(&p).unwrap().render(&chat, true).unwrap());
    assert_eq!(a, b);
}

#[test]
#[ignore = "needs SmolLM2: .ci/run fetches it and runs this"]
fn smollm2_greedy_continuations_equal_transformers_token_for_token() {
    let path = smollm2("hf");
    let model = LanguageModel::open(&path).unwrap();
    let decoder = model.decoder(&candle_core::Device::Cpu, &Tune::None).unwrap();
    let rows: Vec<Value> = serde_json::from_str(&fixture("greedy/greedy.json")).unwrap();
    let sampler = Sampler { temperature: 0.0, max_new_tokens: 64, ..Sampler::default() };
    for (i, row) in rows.iter().enumerate() {
        let ids = |key: &str| -> Vec<u32> { serde_json::from_value(row[key].clone()).unwrap() };
        let prompt = model.encode_prompt(&PromptBody::user(row["prompt"].as_str().unwrap())).unwrap();
        assert_eq!(prompt, ids("prompt_ids"));
        // One row for the first prompt, several for the others: the batch must not matter.
        let mut rngs: Vec<_> = (0..=i as u64).map(|k| stream(1, k)).collect();
        let made = generate(&decoder, &prompt, model.tokenizer.stops(), &sampler, &mut rngs, true).unwrap();
        let mut expected = ids("ids");
        if expected.last().is_some_and(|id| model.tokenizer.stops().contains(id)) {
            expected.pop();
        }
        for row in made {
            assert_eq!(row.ids, expected, "prompt {i}");
        }
    }
}

/// `cargo test --release --test it models::measure_a_training_step -- --ignored --nocapture`: one LoRA step (forward
/// with scores and backward) on four pairs of at most 320 tokens, its time and the process's peak memory.
#[test]
#[ignore = "a measurement of minutes, not a check"]
fn measure_a_training_step_on_four_pairs_of_smollm2() {
    let path = smollm2("hf");
    let data = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data/oasst_pairs.jsonl");
    let Ok(data) = std::fs::read_to_string(&data) else { return };
    let model = LanguageModel::open(&path).unwrap();
    let tune = Tune::Lora(LoraSpec::plain(16, 32.0));
    let mut policy = Policy::new(model.decoder(&candle_core::Device::Cpu, &tune).unwrap()).unwrap();
    let text = |v: &Value| v.as_str().or_else(|| v[0]["content"].as_str()).unwrap_or_default().to_owned();
    let mut rows = Vec::new();
    for line in data.lines() {
        let pair: Value = serde_json::from_str(line).unwrap();
        let two = ["chosen", "rejected"].map(|side| {
            let prompt = model.encode_prompt(&PromptBody::user(text(&pair["prompt"]))).unwrap();
            let mut ids = prompt.clone();
            ids.extend(model.tokenizer.encode(&format!("{}<|im_end|>\n", text(&pair[side])), false).unwrap());
            Row::new(ids.clone(), (prompt.len()..ids.len()).collect())
        });
        if two.iter().all(|r| (128..=320).contains(&r.ids.len())) {
            rows.extend(two);
        }
        if rows.len() == 8 {
            break;
        }
    }
    let (tokens, scored) = rows.iter().fold((0, 0), |n, r| (n.0 + r.ids.len(), n.1 + r.scored.len()));
    let batch = Batch::new(rows);
    let memory = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        status.lines().find(|l| l.starts_with("VmHWM")).unwrap_or("").to_owned()
    };
    println!("{tokens} tokens, {scored} scored; {} after loading", memory());
    for _ in 0..2 {
        let at = std::time::Instant::now();
        let (scores, tape) = policy.score_train(&batch).unwrap();
        let forward = at.elapsed();
        let g: Vec<Vec<f64>> = scores.rows.iter().map(|r| vec![-1.0; r.logp.len()]).collect();
        policy.backward(tape, &g.iter().cloned().map(RowGradient::from).collect::<Vec<_>>()).unwrap();
        let all = at.elapsed();
        println!(
            "forward {forward:.1?}, step {all:.1?}, {:.0} tokens/s, {}",
            tokens as f64 / all.as_secs_f64(),
            memory()
        );
        assert!(policy.take_gradients().unwrap().iter().all(|g| g.is_some()));
    }
}

#[test]
#[ignore = "needs SmolLM2: .ci/run fetches it and runs this"]
fn smollm2_the_gguf_holds_the_folders_weights() {
    let (folder, gguf) = (smollm2("hf"), smollm2(GGUF));
    let [folder, gguf] = [folder, gguf].map(|p| LanguageModel::open(&p).unwrap());
    assert_eq!(folder.config, Config { rms_eps: folder.config.rms_eps, ..gguf.config.clone() });
    let open = |m: &LanguageModel| m.weights(&candle_core::Device::Cpu, candle_core::DType::F32).unwrap();
    let (mut a, mut b) = (open(&folder), open(&gguf));
    for (name, shape) in [
        ("model.layers.3.self_attn.q_proj.weight", [576, 576]),
        ("model.layers.3.self_attn.k_proj.weight", [192, 576]),
        ("model.layers.29.mlp.down_proj.weight", [576, 1536]),
    ] {
        let (a, b) = (a.take(name, &shape).unwrap(), b.take(name, &shape).unwrap());
        // The folder's weights are the file's, rounded to bf16.
        let rounded = b.to_dtype(candle_core::DType::BF16).unwrap().to_dtype(candle_core::DType::F32).unwrap();
        let worst = (a - rounded).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(worst < 1e-6, "{name}: {worst}");
    }
}
