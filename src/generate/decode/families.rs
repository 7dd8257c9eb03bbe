//! Every family and variant against `transformers`, on the tiny random models of tests/fixtures/families (`make.py` makes them):
//! both generations of config.json, log-probs and gradients of all weights and of an adapter on every path, greedy tokens of the
//! packed decoder, and merging.

use super::*;
use crate::domain::Sampler;
use crate::model::layer::LayerPattern;
use crate::model::merge::{self, Precision};
use crate::model::weights::Weights;
use crate::model::{LanguageModel, LoraSpec, Trained, Tune};
use crate::nn::memory::trainable;
use crate::nn::random::stream;
use crate::nn::toy::flat;
use crate::nn::{Batch, Decoder, Policy, Row, RowGradient};
use crate::protocol::{ModelRef, RunEvent};
use candle_core::{DType, Device, Tensor};
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

mod files;
mod gpt_oss;
mod random_models;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn facts() -> Value {
    read("cases.json")
}

fn read(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(fixtures().join("families").join(name)).unwrap()).unwrap()
}

/// A model of the fixture, with what `transformers` computes.
#[derive(Clone)]
struct Case {
    name: String,
    facts: Value,
    config: Config,
    tensors: HashMap<String, Tensor>,
}

fn cases() -> Vec<Case> {
    let all = facts()["cases"].as_object().unwrap().clone();
    let of = |(name, facts): (String, Value)| {
        let config = parsed(&facts["config"]);
        let path = fixtures().join(format!("families/{name}.safetensors"));
        let tensors = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
        Case { name, facts, config, tensors }
    };
    all.into_iter().map(of).collect()
}

fn parsed(config: &Value) -> Config {
    Config::parse(&config.to_string(), Path::new("config.json")).unwrap()
}

/// The same with its layers' patterns as lists, as which the classes write them.
fn listed(config: &Value) -> Config {
    let mut config = parsed(config);
    let experts = config.layer.experts.as_mut().map(|experts| &mut experts.layers);
    for pattern in [&mut config.layer.windows, &mut config.layer.rope].into_iter().chain(experts) {
        *pattern = LayerPattern::Listed((0..config.layers).map(|i| pattern.has(i)).collect());
    }
    config
}

fn numbers<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

impl Case {
    /// Tensors whose names begin so, by the rest of the name.
    fn under(&self, prefix: &str) -> HashMap<String, Tensor> {
        let named = |(name, t): (&String, &Tensor)| Some((name.strip_prefix(prefix)?.to_owned(), t.clone()));
        self.tensors.iter().filter_map(named).collect()
    }

    /// The gradients below that prefix, of weights as they are here: (out, in).
    fn gradients(&self, prefix: &str) -> HashMap<String, Tensor> {
        let mut all = self.under(prefix);
        let transposed =
            |name: &str| ["c_attn.weight", "c_proj.weight", "c_fc.weight"].iter().any(|end| name.ends_with(end));
        for (name, t) in &mut all {
            if self.config.family.names.transposed && transposed(name) {
                *t = t.t().unwrap();
            }
        }
        all
    }

    fn weights(&self) -> HashMap<String, Tensor> {
        let mut all = self.tensors.clone();
        all.retain(|name, _| !name.contains("gradient.") && !name.starts_with("adapter."));
        all
    }

    fn decoder(&self, tune: &Tune) -> Decoder {
        let mut weights = Weights::memory(self.weights(), Path::new("toy"), &Device::Cpu, DType::F32);
        let decoder = Decoder::new(&self.config, &mut weights, tune).unwrap();
        if *tune == adapter() {
            let values = self.under("adapter.");
            assert_eq!(values.len(), decoder.trainables().len(), "{}", self.name);
            for (name, var) in decoder.trainables() {
                var.set(&values[name]).unwrap();
            }
        }
        decoder
    }

    fn batch(&self) -> Batch {
        let rows: Vec<Vec<u32>> = numbers(&self.facts["rows"]);
        let row = |ids: Vec<u32>| {
            let scored = (1..ids.len()).collect();
            Row::new(ids, scored)
        };
        Batch::new(rows.into_iter().map(row).collect())
    }

    /// The folder that `transformers` would save, with the tiny tokenizer.
    fn save(&self, dir: &Path, config: &Value, rename: impl Fn(&str) -> String) {
        std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
        for file in ["tokenizer.json", "tokenizer_config.json"] {
            std::fs::copy(fixtures().join("tiny-llama").join(file), dir.join(file)).unwrap();
        }
        let tensors: HashMap<String, Tensor> = self.weights().into_iter().map(|(name, t)| (rename(&name), t)).collect();
        candle_core::safetensors::save(&tensors, dir.join("model.safetensors")).unwrap();
    }
}

fn adapter() -> Tune {
    Tune::Lora(LoraSpec::plain(2, 4.0))
}

/// Every path that computes in f32; on accelerators experts and layers of several kinds take the reference.
fn paths(decoder: impl Fn() -> Decoder) -> [(&'static str, Policy); 3] {
    let all = [
        ("reference", Policy::reference(decoder())),
        ("fast", Policy::new(decoder()).unwrap()),
        ("accelerator", Policy::gpu(decoder()).unwrap()),
    ];
    let reference = all[0].1.decoder().config().needs_reference();
    assert_eq!(
        all.each_ref().map(|(_, p)| p.path()),
        ["reference", "fast", if reference { "reference" } else { "fast" }]
    );
    all
}

#[test]
fn both_generations_of_config_and_the_classes_defaults_are_read_alike() {
    let facts = facts();
    for (name, case) in facts["cases"].as_object().unwrap() {
        assert_eq!(listed(&case["config"]), listed(&case["older"]), "{name}");
    }
    let defaults = facts["defaults"].as_object().unwrap();
    for (kind, pair) in defaults {
        assert_eq!(listed(&pair["given"]), listed(&pair["made"]), "{kind}");
    }
    let known: Vec<&str> = crate::model::family::FAMILIES.iter().map(|family| family.name()).collect();
    assert!(known.iter().all(|kind| defaults.contains_key(*kind)), "{known:?}");
}

#[test]
fn log_probs_and_gradients_equal_transformers() {
    for case in cases() {
        for (tune, logps, prefix) in [(Tune::Full, "logps", "gradient."), (adapter(), "adapted", "adapter_gradient.")] {
            let want: Vec<Vec<f64>> = numbers(&case.facts[logps]);
            let gradients = case.gradients(prefix);
            let count: usize = case.decoder(&tune).trainables().iter().map(|(_, var)| var.elem_count()).sum();
            assert_eq!(trainable(&case.config, &tune), count as u64, "{}", case.name);
            let mut k = 0.0;
            let g: Vec<RowGradient> = want
                .iter()
                .map(|row| {
                    let next = |_: &f64| {
                        k += 1.0;
                        (1.7_f64 * k).sin()
                    };
                    row.iter().map(next).collect::<Vec<_>>().into()
                })
                .collect();
            for (path, mut policy) in paths(|| case.decoder(&tune)) {
                let at = format!("{} {logps} {path}", case.name);
                let (scores, tape) = policy.score_train(&case.batch()).unwrap();
                for (row, want) in scores.rows.iter().zip(&want) {
                    for (got, want) in row.logp.iter().zip(want) {
                        assert!((got - want).abs() < 1e-4 * (1.0 + want.abs()), "{at}: {got} and not {want}");
                    }
                }
                policy.backward(tape, &g).unwrap();
                let made = policy.take_gradients().unwrap();
                let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
                let largest = gradients.values().map(|t| norm(&flat(t))).fold(0.0, f64::max);
                assert_eq!(gradients.len(), policy.trainables().len(), "{at}");
                for (i, (name, _)) in policy.trainables().iter().enumerate() {
                    let want = flat(gradients.get(name).unwrap_or_else(|| panic!("{at}: no gradient of {name}")));
                    let got = made.get(i).map_or(vec![0.0; want.len()], flat);
                    let off: Vec<f64> = want.iter().zip(&got).map(|(a, b)| a - b).collect();
                    let most = 1e-4 * norm(&want).max(1e-2 * largest);
                    assert!(norm(&off) <= most, "{at}: {name} is off by {} of {}", norm(&off), norm(&want));
                }
            }
        }
    }
}

#[test]
fn greedy_tokens_equal_transformers() {
    for case in cases() {
        let (prompt, want): (Vec<u32>, Vec<u32>) = (numbers(&case.facts["prompt"]), numbers(&case.facts["greedy"]));
        let packed = PackedDecoder::of(&case.decoder(&Tune::None), false).unwrap();
        let read = {
            let mut weights = Weights::memory(case.weights(), Path::new("toy"), &Device::Cpu, DType::F32);
            PackedDecoder::read(&case.config, &mut weights).unwrap()
        };
        for decode in [&packed, &read] {
            let mut queue = Queue::new(3, &[]);
            let sampler = Sampler { temperature: 0.0, max_new_tokens: want.len(), ..Sampler::default() };
            // Two candidates share the prompt; another prompt runs beside them.
            queue.push(PromptRequest {
                number: 0,
                prompt: prompt.clone(),
                rngs: vec![stream(1, 0), stream(1, 1)],
                sampler,
            });
            queue.push(PromptRequest { number: 1, prompt: prompt[3..].to_vec(), rngs: vec![stream(1, 2)], sampler });
            while queue.step(decode).unwrap() > 0 {}
            for made in queue.take(0).unwrap() {
                assert_eq!(made.ids, want, "{}", case.name);
            }
        }
    }
}

#[test]
fn a_merged_folder_is_the_base_with_its_adapter() {
    for case in cases() {
        let home = tempfile::tempdir().unwrap();
        let [base, ckpt, out] = ["base", "ckpt", "out"].map(|name| home.path().join(name));
        std::fs::create_dir(&base).unwrap();
        std::fs::create_dir(&ckpt).unwrap();
        case.save(&base, &case.facts["older"], str::to_owned);
        let model = LanguageModel::open(&base).unwrap();
        let decoder = case.decoder(&adapter());
        Trained::write(&ckpt, &adapter(), decoder.trainables()).unwrap();
        let from = ModelRef { name: "base".into(), path: base.display().to_string() };
        let mut events: Vec<RunEvent> = Vec::new();
        merge::to_hf(&from, &ckpt, &out, merge::ExportPart::Policy, Precision::Exact, &mut events).unwrap();
        let merged = LanguageModel::open(&out).unwrap();
        assert_eq!(merged.config, model.config);
        let merged = Policy::new(merged.decoder(&Device::Cpu, &Tune::None).unwrap()).unwrap();
        let want: Vec<Vec<f64>> = numbers(&case.facts["adapted"]);
        for (row, want) in merged.score(&case.batch(), true).unwrap().rows.iter().zip(&want) {
            for (got, want) in row.logp.iter().zip(want) {
                assert!((got - want).abs() < 2e-4 * (1.0 + want.abs()), "{}: {got} and not {want}", case.name);
            }
        }
    }
}

/// Files that llama.cpp's converter wrote (`make_gguf.py`) are computed as `transformers` computes their folders; what is exported
/// from the folder with an adapter describes the same model, and computes what the folder does. `TIEBREAK_FAMILY_FILES=DIR` keeps
/// what is exported for llama.cpp, the adapter also alone.
#[test]
fn gguf_files_of_every_architecture_equal_transformers() {
    let all: HashMap<String, Case> = cases().into_iter().map(|case| (case.name.clone(), case)).collect();
    let (files, mut architectures, mut kept) = (read("gguf.json"), BTreeSet::new(), serde_json::Map::new());
    let keep = std::env::var_os("TIEBREAK_FAMILY_FILES").map(PathBuf::from);
    for (name, facts) in files.as_object().unwrap() {
        // That with experts in MXFP4 has a test of its own.
        let Some(case) = all.get(name) else { continue };
        let near = |model: &LanguageModel, want: &[Vec<f64>]| {
            let policy = Policy::new(model.decoder(&Device::Cpu, &Tune::None).unwrap()).unwrap();
            let scores = policy.score(&case.batch(), true).unwrap();
            for (got, want) in scores.rows.iter().flat_map(|row| &row.logp).zip(want.iter().flatten()) {
                assert!((got - want).abs() < 2e-4 * (1.0 + want.abs()), "{name}: {got} and not {want}");
            }
        };
        let converted = LanguageModel::open(&fixtures().join(format!("families/{name}.gguf"))).unwrap();
        near(&converted, &numbers::<Vec<Vec<f64>>>(&facts["logps"]));
        architectures.insert(converted.config.family.gguf.architecture);

        let home = tempfile::tempdir().unwrap();
        let [base, ckpt, out] = ["base", "ckpt", "out"].map(|name| home.path().join(name));
        std::fs::create_dir(&base).unwrap();
        std::fs::create_dir(&ckpt).unwrap();
        case.save(&base, &facts["config"], str::to_owned);
        let decoder = Case { config: parsed(&facts["config"]), ..case.clone() }.decoder(&adapter());
        Trained::write(&ckpt, &adapter(), decoder.trainables()).unwrap();
        let scores = Policy::new(decoder).unwrap().score(&case.batch(), true).unwrap();
        let adapted: Vec<Vec<f64>> = scores.rows.into_iter().map(|row| row.logp).collect();
        let from = ModelRef { name: "base".into(), path: base.display().to_string() };
        let mut events: Vec<RunEvent> = Vec::new();
        merge::gguf::to_gguf(&from, &ckpt, &out, "f32", &mut events).unwrap();
        let file = out.join("model-F32.gguf");
        let exported = LanguageModel::open(&file).unwrap();
        near(&exported, &adapted);
        let ids = |config: &Config| Config { eos: Vec::new(), bos: None, pad: None, ..config.clone() };
        assert_eq!(ids(&exported.config), ids(&converted.config), "{name}");
        if let Some(keep) = &keep {
            std::fs::copy(&file, keep.join(format!("{name}.gguf"))).unwrap();
            let alone = home.path().join("alone");
            merge::gguf_adapter::to_gguf_adapter(&from, &ckpt, &alone, "f32", &mut events).unwrap();
            std::fs::copy(alone.join("adapter-F32.gguf"), keep.join(format!("{name}.adapter.gguf"))).unwrap();
            kept.insert(name.clone(), serde_json::json!({"logps": adapted}));
        }
    }
    if let Some(keep) = &keep {
        std::fs::write(keep.join("gguf.json"), Value::Object(kept).to_string()).unwrap();
    }
    let written = crate::model::family::FAMILIES.iter().map(|family| family.gguf.architecture);
    // SmolLM2 and Qwen2.5 have tests of their own.
    let rest = written.filter(|name| !["", "qwen2"].contains(name));
    assert_eq!(architectures, rest.collect::<BTreeSet<_>>());
}

/// What llama.cpp would compute otherwise is refused by name.
#[test]
fn what_a_gguf_file_of_the_family_cannot_say_is_refused() {
    for case in cases() {
        let said = match case.name.as_str() {
            "gemma2" | "gemma3" => "its factor on attention scores",
            "gemma2_uncapped" => "soft caps",
            "smollm3_listed" => "RoPE in these layers",
            "llama_yarn_untruncated" => "yarn with truncate=false",
            "qwen2_moe" | "qwen3_moe_mixed" => "experts in some of its layers",
            "olmoe" => "fewer key heads than query heads",
            "cohere" => "its biases",
            "gpt_oss" => "yarn with these numbers",
            "gpt_oss_plain" => "linear modules without a bias",
            "gemma4" => "the family gemma4_text",
            _ => continue,
        };
        let home = tempfile::tempdir().unwrap();
        let [base, ckpt, out] = ["base", "ckpt", "out"].map(|name| home.path().join(name));
        std::fs::create_dir(&base).unwrap();
        std::fs::create_dir(&ckpt).unwrap();
        let mut config = case.facts["config"].clone();
        if case.name == "gemma2_uncapped" {
            config["query_pre_attn_scalar"] = config["head_dim"].clone();
        }
        case.save(&base, &config, str::to_owned);
        Trained::write(&ckpt, &adapter(), case.decoder(&adapter()).trainables()).unwrap();
        let from = ModelRef { name: "base".into(), path: base.display().to_string() };
        let message = merge::gguf::to_gguf(&from, &ckpt, &out, "f32", &mut Vec::<RunEvent>::new()).unwrap_err();
        let message = message.to_string();
        assert!(message.contains(said) && message.contains("--format hf") && !out.exists(), "{message}");
    }
}

/// Gemma 3's whole model, as transformers 5 and 4 name the tensors of its text model, and Gemma 4's, whose files hold keys and values
/// that its last layers do not read.
#[test]
fn the_text_part_of_a_whole_model_is_read_and_the_rest_is_said() {
    for (name, kind) in [("gemma3", "gemma3"), ("gemma4_small", "gemma4")] {
        let case = cases().into_iter().find(|case| case.name == name).unwrap();
        whole_model_is_read(&case, kind);
    }
}

fn whole_model_is_read(case: &Case, kind: &str) {
    let mut text = case.facts["config"].clone();
    let whole = text.as_object_mut().unwrap();
    let (eos, bos) = (whole.remove("eos_token_id").unwrap(), whole.remove("bos_token_id").unwrap());
    let config = serde_json::json!({"model_type": kind, "architectures": ["ForConditionalGeneration"],
        "text_config": text, "vision_config": {"hidden_size": 4}, "eos_token_id": eos, "bos_token_id": bos});
    let part = |name: &str| match name.strip_prefix("model.") {
        Some(rest) => format!("model.language_model.{rest}"),
        None => name.to_owned(),
    };
    let inside = |name: &str| format!("language_model.{name}");
    for (rename, vision) in
        [(&part as &dyn Fn(&str) -> String, "model.vision_tower.patch"), (&inside, "vision_tower.patch")]
    {
        let home = tempfile::tempdir().unwrap();
        let [base, ckpt, out] = ["base", "ckpt", "out"].map(|name| home.path().join(name));
        std::fs::create_dir(&base).unwrap();
        std::fs::create_dir(&ckpt).unwrap();
        case.save(&base, &config, rename);
        let file = base.join("model.safetensors");
        let mut tensors = candle_core::safetensors::load(&file, &Device::Cpu).unwrap();
        tensors.insert(vision.to_owned(), Tensor::zeros((2, 2), DType::F32, &Device::Cpu).unwrap());
        let unread = case.config.unread_keys().into_iter().filter(|name| name.ends_with("proj.weight"));
        let unread: Vec<String> = unread.map(|name| rename(&name)).collect();
        for name in &unread {
            tensors.insert(name.clone(), Tensor::zeros((2, 2), DType::F32, &Device::Cpu).unwrap());
        }
        candle_core::safetensors::save(&tensors, &file).unwrap();
        let model = LanguageModel::open(&base).unwrap();
        assert!(model.notes.iter().any(|note| note.contains("1 tensors of its other parts")), "{:?}", model.notes);
        let said = format!("{} tensors of keys and values are not read", unread.len());
        assert_eq!(model.notes.iter().any(|note| note.contains(&said)), kind == "gemma4", "{:?}", model.notes);
        assert_eq!(model.config, Config { tied: model.config.tied, ..case.config.clone() });
        let policy = Policy::new(model.decoder(&Device::Cpu, &adapter()).unwrap()).unwrap();
        let want: Vec<Vec<f64>> = numbers(&case.facts["logps"]);
        let got = policy.score(&case.batch(), false).unwrap();
        assert!((got.rows[1].logp[30] - want[1][30]).abs() < 1e-4);
        Trained::write(&ckpt, &adapter(), policy.trainables()).unwrap();
        let from = ModelRef { name: "base".into(), path: base.display().to_string() };
        let mut events: Vec<RunEvent> = Vec::new();
        merge::to_hf(&from, &ckpt, &out.join("hf"), merge::ExportPart::Policy, Precision::Exact, &mut events).unwrap();
        let merged = LanguageModel::open(&out.join("hf")).unwrap();
        let unused = |note: &&String| note.contains("not read");
        assert_eq!((&merged.config, merged.notes.iter().find(unused)), (&model.config, None));
        merge::to_peft(&from, &ckpt, &out.join("peft"), merge::ExportPart::Policy, &mut Vec::<RunEvent>::new())
            .unwrap();
        let held = candle_core::safetensors::load(out.join("peft/adapter_model.safetensors"), &Device::Cpu).unwrap();
        assert!(held.contains_key("base_model.model.model.language_model.layers.0.self_attn.q_proj.lora_A.weight"));
        // It selects modules of the text model alone, and is read here as it was written.
        let made: Value =
            serde_json::from_slice(&std::fs::read(out.join("peft/adapter_config.json")).unwrap()).unwrap();
        let targets = regex::Regex::new(&format!("^(?:{})$", made["target_modules"].as_str().unwrap())).unwrap();
        assert!(targets.is_match("model.language_model.layers.0.self_attn.q_proj"));
        assert!(!targets.is_match("model.vision_tower.encoder.layers.0.self_attn.q_proj"));
        let read = crate::model::PeftAdapter::read(&out.join("peft"), &model.config).unwrap();
        assert_eq!(read.spec.modules.len(), 0);
    }
}

/// A folder as transformers 5 writes it with `save_original_format=False`: the experts of a layer in one tensor.
#[test]
fn experts_in_one_tensor_are_read_as_experts_one_by_one() {
    for case in cases().into_iter().filter(|case| ["mixtral", "qwen3_moe_mixed"].contains(&case.name.as_str())) {
        let home = tempfile::tempdir().unwrap();
        case.save(home.path(), &case.facts["config"], |name| name.replace("block_sparse_moe.gate", "mlp.gate"));
        let file = home.path().join("model.safetensors");
        let mut tensors = candle_core::safetensors::load(&file, &Device::Cpu).unwrap();
        let (sets, names) = (case.config.clone(), case.config.family.names.experts.each);
        for i in (0..sets.layers).filter(|i| sets.experts_of(*i).is_some()) {
            let mut taken = |which: usize| -> Vec<Tensor> {
                let name = |expert: usize| {
                    format!("model.layers.{i}.{}.weight", names[which].hf.replace("{}", &expert.to_string()))
                };
                (0..sets.layer.experts.as_ref().unwrap().count).map(|e| tensors.remove(&name(e)).unwrap()).collect()
            };
            let [gate, up, down] = [taken(0), taken(1), taken(2)];
            let both: Vec<Tensor> = gate.iter().zip(&up).map(|(g, u)| Tensor::cat(&[g, u], 0).unwrap()).collect();
            tensors.insert(format!("model.layers.{i}.mlp.experts.gate_up_proj"), Tensor::stack(&both, 0).unwrap());
            tensors.insert(format!("model.layers.{i}.mlp.experts.down_proj"), Tensor::stack(&down, 0).unwrap());
        }
        candle_core::safetensors::save(&tensors, &file).unwrap();
        let model = LanguageModel::open(home.path()).unwrap();
        assert!(model.notes.iter().any(|note| note.contains("experts")), "{:?}", model.notes);
        let memory = Weights::memory(tensors.clone(), Path::new("toy"), &Device::Cpu, DType::F32);
        for mut weights in [model.weights(&Device::Cpu, DType::F32).unwrap(), memory] {
            let decoder = Decoder::new(&model.config, &mut weights, &Tune::None).unwrap();
            let scores = Policy::new(decoder).unwrap().score(&case.batch(), false).unwrap();
            let want: Vec<Vec<f64>> = numbers(&case.facts["logps"]);
            for (got, want) in scores.rows.iter().flat_map(|row| &row.logp).zip(want.iter().flatten()) {
                assert!((got - want).abs() < 1e-4 * (1.0 + want.abs()), "{}: {got} and not {want}", case.name);
            }
        }
        let name = "model.layers.0.mlp.experts.gate_up_proj";
        let mut damaged = tensors.clone();
        damaged.insert(name.to_owned(), gpt_oss::damaged(&tensors[name]));
        candle_core::safetensors::save(&damaged, &file).unwrap();
        let found = crate::model::not_finite(&LanguageModel::open(home.path()).unwrap()).unwrap().unwrap();
        assert!(found.contains(&format!("the tensor {name} is not finite")), "{found}");
        let name = "model.layers.0.mlp.experts.down_proj";
        tensors.insert(name.to_owned(), tensors[name].narrow(0, 0, 1).unwrap());
        let mut short = Weights::memory(tensors, Path::new("toy"), &Device::Cpu, DType::F32);
        let refused = Decoder::new(&model.config, &mut short, &Tune::None).err().unwrap().to_string();
        assert!(refused.contains("layers.0") && refused.contains("experts.1."), "{refused}");
    }
}

/// On the fast path a row of a model with experts has the same log-probs alone, as the first of a batch, and cut.
#[test]
fn experts_do_not_mix_rows() {
    for case in cases().into_iter().filter(|case| case.config.layer.experts.is_some()) {
        let policy = Policy::new(case.decoder(&Tune::None)).unwrap();
        let batch = case.batch();
        let together = policy.score(&batch, false).unwrap();
        // The rows of attention's products must be many: the tiny model has but 8 columns of keys.
        let (row, together) = (&batch.rows[1], &together.rows[1].logp);
        let alone = policy.score(&Batch::new(vec![row.clone()]), false).unwrap();
        assert_eq!(&alone.rows[0].logp, together, "{}", case.name);
        let cut = Row::new(row.ids[..36].to_vec(), (1..36).collect());
        let cut = policy.score(&Batch::new(vec![cut]), false).unwrap();
        assert_eq!(cut.rows[0].logp, together[..35], "{}", case.name);
    }
}

/// As on a GPU, where frozen weights are bf16: the log-probs are near, and every adapter has a finite gradient.
#[test]
fn experts_are_computed_with_weights_of_16_bits() {
    for case in cases().into_iter().filter(|case| case.config.layer.experts.is_some()) {
        let mut weights = Weights::memory(case.weights(), Path::new("toy"), &Device::Cpu, DType::BF16);
        let decoder = Decoder::new(&case.config, &mut weights, &adapter()).unwrap();
        let mut policy = Policy::gpu(decoder).unwrap();
        assert_eq!(policy.path(), "reference");
        let (scores, tape) = policy.score_train(&case.batch()).unwrap();
        let want: Vec<Vec<f64>> = numbers(&case.facts["logps"]);
        let (mut off, mut count) = (0.0, 0.0);
        for (got, want) in scores.rows.iter().flat_map(|row| &row.logp).zip(want.iter().flatten()) {
            (off, count) = (off + (got - want).abs(), count + 1.0);
        }
        assert!(off / count < 0.3, "{}: off by {} on average", case.name, off / count);
        let g: Vec<RowGradient> = want.iter().map(|row| vec![1.0; row.len()].into()).collect();
        policy.backward(tape, &g).unwrap();
        let made = policy.take_gradients().unwrap();
        for (i, (name, _)) in policy.trainables().iter().enumerate() {
            let made = flat(made.get(i).unwrap_or_else(|| panic!("{}: no gradient of {name}", case.name)));
            assert!(made.iter().all(|x| x.is_finite()), "{}: {name}", case.name);
        }
    }
}

/// GPT-2 as its authors' folder holds it: without the head's class before the names, and with masks among the tensors.
#[test]
fn gpt_2_is_read_and_merged_without_its_heads_class_in_the_names() {
    let case = cases().into_iter().find(|case| case.name == "gpt2").unwrap();
    let home = tempfile::tempdir().unwrap();
    let [base, ckpt, out] = ["base", "ckpt", "out"].map(|name| home.path().join(name));
    std::fs::create_dir(&base).unwrap();
    std::fs::create_dir(&ckpt).unwrap();
    case.save(&base, &case.facts["older"], |name| name.trim_start_matches("transformer.").to_owned());
    let model = LanguageModel::open(&base).unwrap();
    assert!(model.notes.iter().any(|note| note.contains("resid_pdrop=0.1")), "{:?}", model.notes);
    let mut spec = LoraSpec::plain(2, 4.0);
    spec.targets = vec!["o_proj".into()];
    let decoder = model.decoder(&Device::Cpu, &Tune::Lora(spec)).unwrap();
    let adapted: Vec<&str> = decoder.trainables().iter().map(|(name, _)| name.as_str()).take(2).collect();
    assert_eq!(adapted, ["transformer.h.0.attn.c_proj.lora_A.weight", "transformer.h.0.attn.c_proj.lora_B.weight"]);
    let decoder = case.decoder(&adapter());
    Trained::write(&ckpt, &adapter(), decoder.trainables()).unwrap();
    let from = ModelRef { name: "base".into(), path: base.display().to_string() };
    let mut events: Vec<RunEvent> = Vec::new();
    merge::to_hf(&from, &ckpt, &out, merge::ExportPart::Policy, Precision::Exact, &mut events).unwrap();
    let held = candle_core::safetensors::load(out.join("model.safetensors"), &Device::Cpu).unwrap();
    assert_eq!(held["transformer.h.0.attn.c_attn.weight"].dims(), [16, 48]);
    let merged = Policy::new(LanguageModel::open(&out).unwrap().decoder(&Device::Cpu, &Tune::None).unwrap()).unwrap();
    let want: Vec<Vec<f64>> = numbers(&case.facts["adapted"]);
    for (row, want) in merged.score(&case.batch(), true).unwrap().rows.iter().zip(&want) {
        for (got, want) in row.logp.iter().zip(want) {
            assert!((got - want).abs() < 2e-4 * (1.0 + want.abs()), "{got} and not {want}");
        }
    }
    let long = Batch::new(vec![Row::new(vec![5; 65], vec![1])]);
    let refused = merged.score(&long, true).unwrap_err().to_string();
    assert!(refused.contains("64 positions"), "{refused}");
}

#[test]
fn a_target_that_the_model_does_not_have_is_named_with_those_that_it_has() {
    let all = cases();
    let of = |name: &str| all.iter().find(|case| case.name == name).unwrap();
    for (name, target, modules) in [
        ("phi3", "q_proj", "qkv_proj, o_proj, gate_up_proj, down_proj"),
        ("mixtral", "gate_proj", "q_proj, k_proj, v_proj, o_proj"),
        ("granite", "qkv_proj", "q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj"),
    ] {
        let Tune::Lora(mut spec) = adapter() else { panic!("an adapter") };
        spec.targets = vec!["o_proj".into(), target.into()];
        let mut weights = Weights::memory(of(name).weights(), Path::new("toy"), &Device::Cpu, DType::F32);
        let refused = Decoder::new(&of(name).config, &mut weights, &Tune::Lora(spec)).err().unwrap().to_string();
        assert!(refused.contains(&format!("`{target}`")) && refused.contains(modules), "{refused}");
    }
}
