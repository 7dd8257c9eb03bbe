//! GGUF files that are written, read back: log-probs, tokens, types, metadata, and the Modelfile.

use super::*;
use crate::domain::PromptBody;
use crate::model::merge::gguf_adapter::to_gguf_adapter;
use crate::model::merge::tests::{adapter, batch, lora, perturbed, tiny};
use crate::nn::{Batch, Policy};
use serde_json::{Value, json};
use std::path::PathBuf;

/// A checkpoint of a perturbed policy on `base`, and its policy.
fn checkpoint(dir: &Path, base: &ModelRef, tune: &Tune) -> (PathBuf, Policy) {
    let ckpt = dir.join("ckpt");
    std::fs::create_dir(&ckpt).unwrap();
    let policy = perturbed(base, tune, 0.2);
    Trained::write(&ckpt, tune, policy.trainables()).unwrap();
    (ckpt, policy)
}

fn written(base: &ModelRef, ckpt: &Path, out: &Path, kind: &str) -> (PathBuf, Vec<String>) {
    let mut events: Vec<RunEvent> = Vec::new();
    to_gguf(base, ckpt, out, kind, &mut events).unwrap();
    let notes = events.into_iter().filter_map(|event| match event {
        RunEvent::Found(finding) => Some(finding.text),
        _ => None,
    });
    (out.join(format!("model-{}.gguf", kind.to_uppercase())), notes.collect())
}

fn scores(path: &Path, batch: &Batch) -> Vec<f64> {
    let model = LanguageModel::open(path).unwrap();
    let policy = Policy::new(model.decoder(&Device::Cpu, &Tune::None).unwrap()).unwrap();
    policy.score(batch, true).unwrap().rows[0].logp.clone()
}

fn gap(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn a_merged_file_gives_the_log_probs_of_base_and_adapter() {
    for tune in [lora(), adapter(true, true), Tune::Full] {
        let dir = tempfile::tempdir().unwrap();
        let (ckpt, policy) = checkpoint(dir.path(), &tiny(), &tune);
        let here = policy.score(&batch(), true).unwrap().rows[0].logp.clone();
        for (kind, most) in [("f32", 1e-4), ("f16", 0.02), ("q8_0", 0.2)] {
            let (file, notes) = written(&tiny(), &ckpt, &dir.path().join(kind), kind);
            let gap = gap(&here, &scores(&file, &batch()));
            assert!(gap < most && notes.is_empty(), "{kind}: {gap} {notes:?}");
        }
        // With four bits no number is off by more than a step, an eighth of its block's largest.
        let (file, _) = written(&tiny(), &ckpt, &dir.path().join("q4_0"), "q4_0");
        let [four, exact] = [file, dir.path().join("f32/model-F32.gguf")].map(|path| Gguf::open(&path).unwrap());
        let config = exact.config().unwrap();
        for (name, _) in config.tensors() {
            let most = |tensor: Tensor| tensor.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
            let [four, exact] = [&four, &exact].map(|gguf| gguf.load(&name, &config).unwrap());
            assert!(most((&four - &exact).unwrap()) <= most(exact) / 7.9, "{name}");
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 5, "nothing else is left");
    }
}

#[test]
fn a_file_reads_texts_and_conversations_as_the_folder_does() {
    let dir = tempfile::tempdir().unwrap();
    let (ckpt, _) = checkpoint(dir.path(), &tiny(), &lora());
    let (file, _) = written(&tiny(), &ckpt, &dir.path().join("out"), "q8_0");
    let [folder, file] = [Path::new(&tiny().path), &file].map(|path| LanguageModel::open(path).unwrap());
    let rows = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizer/ids.json")).unwrap();
    let rows: Vec<Value> = serde_json::from_slice(&rows).unwrap();
    assert!(rows.len() >= 200);
    for text in rows.iter().map(|row| row["text"].as_str().unwrap()) {
        let ids = |model: &LanguageModel| model.tokenizer.encode(text, true).unwrap();
        assert_eq!(ids(&folder), ids(&file), "{text:?}");
    }
    let body = PromptBody::user("What is the sea?");
    assert_eq!(folder.encode_prompt(&body).unwrap(), file.encode_prompt(&body).unwrap());
    assert_eq!(folder.tokenizer.stops(), file.tokenizer.stops());
    let same = Config { eos: folder.config.eos.clone(), rms_eps: folder.config.rms_eps, ..file.config.clone() };
    assert_eq!(folder.config, Config { pad: folder.config.pad, bos: folder.config.bos, ..same });
}

#[test]
fn vectors_stay_f32_and_a_tied_head_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let (ckpt, _) = checkpoint(dir.path(), &tiny(), &lora());
    let (file, _) = written(&tiny(), &ckpt, &dir.path().join("out"), "q4_0");
    let gguf = Gguf::open(&file).unwrap();
    let config = gguf.config().unwrap();
    let kind = |name: &str| gguf.stored_type(name, &config);
    assert!(config.tied && !gguf.has("lm_head.weight", &config));
    assert_eq!(kind("model.norm.weight"), Some("F32"));
    assert_eq!(kind("model.layers.0.input_layernorm.weight"), Some("F32"));
    assert_eq!(kind("model.layers.0.self_attn.q_proj.weight"), Some("Q4_0"));
    // The embedding is the output matrix too: finer than the rest.
    let finer = if config.hidden.is_multiple_of(256) { "Q6_K" } else { "Q8_0" };
    assert_eq!(kind("model.embed_tokens.weight"), Some(finer));
}

#[test]
fn what_the_file_cannot_say_is_refused_or_noted() {
    let yarn = json!({"rope_type": "yarn", "rope_theta": 10000.0, "factor": 2.0, "original_max_position_embeddings": 64, "beta_fast": 8.0});
    let long = json!({"rope_type": "longrope", "short_factor": vec![1.0; 4], "long_factor": vec![2.0; 4], "factor": 2.0, "rope_theta": 10000.0,
        "original_max_position_embeddings": 64});
    for (name, scaling) in [("yarn", yarn), ("longrope", long)] {
        let dir = tempfile::tempdir().unwrap();
        let base = changed(dir.path(), &[("rope_parameters", scaling)]);
        let (ckpt, _) = checkpoint(dir.path(), &base, &lora());
        let out = dir.path().join("out");
        let said = to_gguf(&base, &ckpt, &out, "f32", &mut Vec::<RunEvent>::new()).unwrap_err().to_string();
        assert!(said.contains(name) && said.contains("--format hf") && !out.exists(), "{said}");
    }
    let dir = tempfile::tempdir().unwrap();
    let base = changed(dir.path(), &[("model_type", json!("mistral")), ("sliding_window", json!(16))]);
    let (ckpt, _) = checkpoint(dir.path(), &base, &lora());
    let (_, notes) = written(&base, &ckpt, &dir.path().join("out"), "f32");
    assert!(notes.iter().any(|note| note.contains("last 16 tokens")), "{notes:?}");
}

#[test]
fn a_model_that_was_a_file_keeps_its_metadata() {
    let dir = tempfile::tempdir().unwrap();
    let (ckpt, _) = checkpoint(dir.path(), &tiny(), &lora());
    let (first, _) = written(&tiny(), &ckpt, &dir.path().join("first"), "f32");
    let base = ModelRef { name: "first".into(), path: first.display().to_string() };
    let (second, _) = written(&base, &ckpt, &dir.path().join("second"), "f16");
    let raw = |path: &Path| -> Vec<(String, Vec<u8>)> {
        let gguf = Gguf::open(path).unwrap();
        let own = |key: &str| key.starts_with("general.file") || key.starts_with("general.quant");
        gguf.raw_meta().filter(|(key, _)| !own(key)).map(|(key, bytes)| (key.to_owned(), bytes.to_vec())).collect()
    };
    assert!(raw(&first).len() > 15);
    assert_eq!(raw(&first), raw(&second));
    let message = to_gguf(&base, &ckpt, &dir.path().join("second"), "f16", &mut Vec::<RunEvent>::new()).unwrap_err();
    assert!(message.to_string().contains("not an empty folder"), "{message}");
}

/// A copy of the tiny Llama with other fields in config.json.
fn changed(dir: &Path, fields: &[(&str, Value)]) -> ModelRef {
    let to = dir.join("base");
    std::fs::create_dir(&to).unwrap();
    for entry in std::fs::read_dir(tiny().path).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
    let mut config: Value = serde_json::from_slice(&std::fs::read(to.join("config.json")).unwrap()).unwrap();
    for (key, value) in fields {
        config[*key] = value.clone();
    }
    std::fs::write(to.join("config.json"), config.to_string()).unwrap();
    ModelRef { name: "changed".into(), path: to.display().to_string() }
}

#[test]
fn rope_scaling_is_kept_through_files_and_files_of_files() {
    let llama3 = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32, "rope_theta": 10000.0});
    let linear = json!({"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0});
    for rope in [llama3, linear] {
        let dir = tempfile::tempdir().unwrap();
        let base = changed(dir.path(), &[("rope_parameters", rope)]);
        let (ckpt, policy) = checkpoint(dir.path(), &base, &lora());
        let here = policy.score(&batch(), true).unwrap().rows[0].logp.clone();
        let (first, _) = written(&base, &ckpt, &dir.path().join("first"), "f32");
        assert!(gap(&here, &scores(&first, &batch())) < 1e-4);
        // An adapter of zeros changes nothing, so what is written from the file computes what the file does.
        let zero = dir.path().join("zero");
        std::fs::create_dir(&zero).unwrap();
        let file = ModelRef { name: "first".into(), path: first.display().to_string() };
        Trained::write(&zero, &lora(), perturbed(&file, &lora(), 0.0).trainables()).unwrap();
        let (second, _) = written(&file, &zero, &dir.path().join("second"), "f32");
        assert!(gap(&here, &scores(&second, &batch())) < 1e-4);
    }
}

#[test]
fn an_adapter_adds_to_the_base_file_what_the_merged_file_holds() {
    for rslora in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let tune = adapter(rslora, false);
        let (ckpt, _) = checkpoint(dir.path(), &tiny(), &tune);
        let (merged, _) = written(&tiny(), &ckpt, &dir.path().join("merged"), "f32");
        to_gguf_adapter(&tiny(), &ckpt, &dir.path().join("lora"), "f32", &mut Vec::<RunEvent>::new()).unwrap();
        let zero = dir.path().join("zero");
        std::fs::create_dir(&zero).unwrap();
        Trained::write(&zero, &lora(), perturbed(&tiny(), &lora(), 0.0).trainables()).unwrap();
        let (base, _) = written(&tiny(), &zero, &dir.path().join("base"), "f32");
        let [lora, base, merged] =
            [dir.path().join("lora/adapter-F32.gguf"), base, merged].map(|path| Gguf::open(&path).unwrap());
        let meta: std::collections::HashMap<&str, &[u8]> = lora.raw_meta().collect();
        // A type of 4 bytes, then the number.
        let alpha = f32::from_le_bytes(meta["adapter.lora.alpha"][4..].try_into().unwrap());
        let tensors = lora.others(&Config { layers: 0, ..base.config().unwrap() });
        let floats = |bytes: &[u8]| -> Vec<f32> {
            bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect()
        };
        let find = |name: &str| {
            let (_, shape, kind, bytes) = tensors.iter().find(|(found, ..)| found == name).unwrap();
            assert_eq!(*kind, 0);
            Tensor::from_vec(floats(bytes), shape.as_slice(), &Device::Cpu).unwrap()
        };
        let none = Config { layers: 0, tied: true, ..base.config().unwrap() };
        let weights = |gguf: &Gguf, name: &str| {
            let all = gguf.others(&none);
            let (_, shape, _, bytes) = all.iter().find(|(found, ..)| found == name).unwrap();
            Tensor::from_vec(floats(bytes), shape.as_slice(), &Device::Cpu).unwrap()
        };
        for part in ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"] {
            let name = format!("blk.0.{part}.weight");
            let (a, b) = (find(&format!("{name}.lora_a")), find(&format!("{name}.lora_b")));
            let rank = a.dim(0).unwrap();
            // As llama.cpp applies it: alpha divided by the rank.
            let update = (b.matmul(&a).unwrap() * (f64::from(alpha) / rank as f64)).unwrap();
            let sum = (weights(&base, &name) + &update).unwrap();
            let off = (sum - weights(&merged, &name)).unwrap().abs().unwrap().max_all().unwrap();
            assert!(off.to_scalar::<f32>().unwrap() < 1e-5, "{part}");
            assert!(update.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap() > 1e-3, "{part}");
        }
    }
}

#[test]
fn what_has_no_faithful_file_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let mut events: Vec<RunEvent> = Vec::new();
    let mut refused = |tune: &Tune, kind: &str, adapter: bool| {
        let dir = tempfile::tempdir().unwrap();
        let (ckpt, _) = checkpoint(dir.path(), &tiny(), tune);
        let out = dir.path().join("out");
        let done = if adapter {
            to_gguf_adapter(&tiny(), &ckpt, &out, kind, &mut events)
        } else {
            to_gguf(&tiny(), &ckpt, &out, kind, &mut events)
        };
        assert!(!out.exists());
        done.unwrap_err().to_string()
    };
    assert!(refused(&Tune::Full, "f32", true).contains("--format gguf"));
    assert!(refused(&adapter(false, true), "f32", true).contains("DoRA"));
    assert!(refused(&lora(), "q8_0", true).contains("not quantised"));
    assert!(refused(&lora(), "q5_0", false).contains("expected one of f16, f32, q8_0, q4_0"));
    // Numbers beyond f16.
    let (ckpt, policy) = checkpoint(dir.path(), &tiny(), &Tune::Full);
    let (_, var) = &policy.trainables()[0];
    var.set(&(var.as_tensor() * 1e9).unwrap()).unwrap();
    Trained::write(&ckpt, &Tune::Full, policy.trainables()).unwrap();
    let out = dir.path().join("large");
    let message = to_gguf(&tiny(), &ckpt, &out, "f16", &mut events).unwrap_err().to_string();
    assert!(message.contains("--type f32") && !out.exists(), "{message}");
    let base = changed(dir.path(), &[("max_position_embeddings", Value::Null)]);
    let message = to_gguf(&base, &ckpt, &out, "f32", &mut events).unwrap_err().to_string();
    assert!(message.contains("max_position_embeddings"), "{message}");
    // A tokenizer that splits in no known way.
    let base = Path::new(&base.path);
    let mut spec: Value = serde_json::from_slice(&std::fs::read(base.join("tokenizer.json")).unwrap()).unwrap();
    spec["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"String": "e"}, "behavior": "Isolated", "invert": false}, spec["pre_tokenizer"]]});
    std::fs::write(base.join("tokenizer.json"), spec.to_string()).unwrap();
    let base = ModelRef { name: "b".into(), path: base.display().to_string() };
    let message = to_gguf(&base, &ckpt, &out, "f32", &mut events).unwrap_err().to_string();
    assert!(
        message.contains("is nearest, with other ids in") && message.contains("convert_hf_to_gguf.py"),
        "{message}"
    );
}

#[test]
fn the_modelfile_has_the_template_in_go_and_the_stops() {
    let dir = tempfile::tempdir().unwrap();
    let (ckpt, _) = checkpoint(dir.path(), &tiny(), &lora());
    let text = |template: &str, name: &str| {
        let base = changed(dir.path(), &[]);
        std::fs::write(Path::new(&base.path).join("chat_template.jinja"), template).unwrap();
        let (file, notes) = written(&base, &ckpt, &dir.path().join(name), "f16");
        std::fs::remove_dir_all(&base.path).unwrap();
        (std::fs::read_to_string(file.with_file_name("Modelfile")).unwrap(), notes)
    };
    let chatml = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
                  {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    let (made, notes) = text(chatml, "plain");
    let turn = |word: &str, role: &str| {
        format!("{{{{ {word} eq .Role \"{role}\" }}}}<|im_start|>{role}\n{{{{ .Content }}}}<|im_end|>\n")
    };
    let turns = turn("if", "system") + &turn("else if", "user") + &turn("else if", "assistant");
    let template = format!("{{{{ range .Messages }}}}{turns}{{{{ end }}}}{{{{ end }}}}<|im_start|>assistant\n");
    assert_eq!(
        made,
        format!("FROM ./model-F16.gguf\nTEMPLATE \"\"\"{template}\"\"\"\nPARAMETER stop \"<|im_end|>\"\n")
    );
    assert_eq!(notes, [""; 0]);
    let own = "{% if messages[0].role != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}";
    let (made, _) = text(&format!("{own}{chatml}"), "own");
    let first =
        "{{ if ne (index .Messages 0).Role \"system\" }}<|im_start|>system\nBe kind.<|im_end|>\n{{ end }}{{ range";
    assert!(made.contains(&format!("TEMPLATE \"\"\"{first}")), "{made}");
    // A template that changes what was said has no equal.
    let (made, notes) = text(&chatml.replace("m.content", "m.content | upper"), "upper");
    assert!(!made.contains("TEMPLATE") && notes.len() == 1, "{made} {notes:?}");
}

#[test]
fn a_sentencepiece_vocabulary_is_read_back_with_the_same_ids() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let rows: Vec<Value> =
        serde_json::from_slice(&std::fs::read(fixtures.join("tokenizer/ids.json")).unwrap()).unwrap();
    for name in ["bpe", "bpe-no-prefix"] {
        let dir = tempfile::tempdir().unwrap();
        let base = changed(dir.path(), &[("vocab_size", 912.into())]);
        let folder = Path::new(&base.path);
        let weights = folder.join("model.safetensors");
        let mut tensors = candle_core::safetensors::load(&weights, &Device::Cpu).unwrap();
        let embedding = tensors.get_mut("model.embed_tokens.weight").unwrap();
        *embedding = Tensor::cat(&[&*embedding, &*embedding, &*embedding], 0).unwrap();
        candle_core::safetensors::save(&tensors, &weights).unwrap();
        std::fs::remove_file(folder.join("tokenizer.json")).unwrap();
        std::fs::write(folder.join("tokenizer_config.json"), "{}").unwrap();
        std::fs::copy(fixtures.join(format!("sentencepiece/{name}.model")), folder.join("tokenizer.model")).unwrap();
        let (ckpt, _) = checkpoint(dir.path(), &base, &lora());
        let (file, notes) = written(&base, &ckpt, &dir.path().join("out"), "f16");
        assert_eq!(notes, [""; 0], "{name}");
        let [folder, file] = [folder, &file].map(|path| LanguageModel::open(path).unwrap());
        for text in rows.iter().map(|row| row["text"].as_str().unwrap()) {
            let ids = |model: &LanguageModel| model.tokenizer.encode(text, true).unwrap();
            assert_eq!(ids(&folder), ids(&file), "{name} {text:?}");
            assert_eq!(folder.tokenizer.decode(&ids(&folder)).unwrap(), file.tokenizer.decode(&ids(&file)).unwrap());
        }
    }
}

#[test]
fn the_template_for_tools_goes_along_in_every_form() {
    let dir = tempfile::tempdir().unwrap();
    let (ckpt, _) = checkpoint(dir.path(), &tiny(), &lora());
    let base = changed(dir.path(), &[]);
    let folder = Path::new(&base.path);
    std::fs::create_dir(folder.join("additional_chat_templates")).unwrap();
    std::fs::write(folder.join("additional_chat_templates/tool_use.jinja"), "{{ tools }}").unwrap();
    std::fs::write(folder.join("chat_template.jinja"), "{{ messages[0].content }}").unwrap();
    let tools = |path: &Path| {
        let template = LanguageModel::open(path).unwrap().template.unwrap();
        assert_eq!(template.source(), "{{ messages[0].content }}");
        template.tool_use().map(str::to_owned)
    };
    let (file, _) = written(&base, &ckpt, &dir.path().join("gguf"), "f16");
    assert_eq!(tools(&file).as_deref(), Some("{{ tools }}"));
    let out = dir.path().join("hf");
    let (policy, exact) = (crate::model::merge::ExportPart::Policy, crate::model::merge::Precision::Exact);
    crate::model::merge::to_hf(&base, &ckpt, &out, policy, exact, &mut Vec::<RunEvent>::new()).unwrap();
    assert_eq!(tools(&out).as_deref(), Some("{{ tools }}"));
}
