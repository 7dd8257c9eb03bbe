//! GPT-OSS beyond what every family shows: MXFP4 folders against `transformers` (`make_mxfp4.py`), and the form in which merged
//! folders hold its experts.

use super::*;
use crate::model::discover::check;
use crate::model::not_finite;

fn facts() -> Value {
    read("mxfp4.json")
}

fn held() -> HashMap<String, Tensor> {
    candle_core::safetensors::load(fixtures().join("families/mxfp4.safetensors"), &Device::Cpu).unwrap()
}

/// The folder's own tensors.
fn own() -> HashMap<String, Tensor> {
    held().into_iter().filter(|(name, _)| !name.starts_with("dequantised.") && !name.starts_with("edges.")).collect()
}

/// A folder of these tensors.
fn folder(dir: &Path, config: &Value, tensors: &HashMap<String, Tensor>) {
    std::fs::create_dir_all(dir).unwrap();
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(fixtures().join("tiny-llama").join(file), dir.join(file)).unwrap();
    }
    candle_core::safetensors::save(tensors, dir.join("model.safetensors")).unwrap();
}

fn batch(rows: &Value) -> Batch {
    let rows: Vec<Vec<u32>> = numbers(rows);
    let row = |ids: Vec<u32>| {
        let scored = (1..ids.len()).collect();
        Row::new(ids, scored)
    };
    Batch::new(rows.into_iter().map(row).collect())
}

fn assert_near(policy: &Policy, facts: &Value) {
    let want: Vec<Vec<f64>> = numbers(&facts["logps"]);
    let scores = policy.score(&batch(&facts["rows"]), true).unwrap();
    for (got, want) in scores.rows.iter().flat_map(|row| &row.logp).zip(want.iter().flatten()) {
        assert!((got - want).abs() < 1e-4 * (1.0 + want.abs()), "{got} and not {want}");
    }
}

/// Every value of every expert, from a folder and from memory.
#[test]
fn mxfp4_is_dequantised_as_transformers_does() {
    let (facts, held) = (facts(), held());
    let home = tempfile::tempdir().unwrap();
    folder(home.path(), &facts["config"], &own());
    let model = LanguageModel::open(home.path()).unwrap();
    let mut seen = 0;
    let memory = Weights::memory(own(), Path::new("toy"), &Device::Cpu, DType::F32);
    for mut weights in [model.weights(&Device::Cpu, DType::F32).unwrap(), memory] {
        for (name, shape) in model.config.tensors().filter(|(name, _)| name.contains(".experts.")) {
            let (layer, rest) = name.split_once(".experts.").unwrap();
            let (expert, module) = rest.split_once('.').unwrap();
            let all =
                |module: &str| held[&format!("dequantised.{layer}.experts.{module}")].get(expert.parse().unwrap());
            let pairs = |half: usize| {
                let all = all("gate_up_proj").unwrap();
                let (rows, width) = all.dims2().unwrap();
                all.reshape((rows, width / 2, 2)).unwrap().narrow(2, half, 1).unwrap().squeeze(2).unwrap()
            };
            let want = match module {
                "gate_proj.weight" => pairs(0),
                "up_proj.weight" => pairs(1),
                "down_proj.weight" => all("down_proj").unwrap(),
                _ => continue,
            };
            let got = weights.take(&name, &shape).unwrap();
            assert_eq!(flat(&got), flat(&want.t().unwrap().contiguous().unwrap()), "{name}");
            seen += 1;
        }
        weights.finish().unwrap();
    }
    assert_eq!(seen, 2 * 2 * 4 * 3);
    for tune in [Tune::None, adapter(), Tune::Full] {
        let decoder = || model.decoder(&Device::Cpu, &tune).unwrap();
        assert_near(&Policy::new(decoder()).unwrap(), &facts);
        assert_near(&Policy::reference(decoder()), &facts);
    }
    let packed = PackedDecoder::open(&model).unwrap();
    // All values are exact in bf16, which the packed decoder stores.
    assert!((packed.bytes() as u64) < model.config.parameters() * 5 / 2, "{} bytes", packed.bytes());
}

/// A file as llama.cpp's converter writes it of that folder, and what becomes of it when it is merged.
#[test]
fn mxfp4_in_a_gguf_file_is_dequantised_and_merged_unquantised() {
    let facts = read("gguf.json")["gpt_oss_mxfp4"].clone();
    let file = fixtures().join("families/gpt_oss_mxfp4.gguf");
    let model = LanguageModel::open(&file).unwrap();
    assert_eq!(model.notes, [""; 0]);
    let types = model.stored_types().unwrap();
    assert_eq!(types("model.layers.0.mlp.experts.1.up_proj.weight").as_deref(), Some("MXFP4"));
    assert_eq!(not_finite(&model).unwrap(), None);
    let mut folder = Weights::memory(own(), Path::new("toy"), &Device::Cpu, DType::F32);
    let mut gguf = model.weights(&Device::Cpu, DType::F32).unwrap();
    for (name, shape) in model.config.tensors().filter(|(name, _)| name.contains(".experts.")) {
        assert_eq!(flat(&gguf.take(&name, &shape).unwrap()), flat(&folder.take(&name, &shape).unwrap()), "{name}");
    }
    let decoder = || model.decoder(&Device::Cpu, &adapter()).unwrap();
    assert_near(&Policy::new(decoder()).unwrap(), &facts);
    assert_near(&Policy::reference(decoder()), &facts);
    PackedDecoder::open(&model).unwrap();

    let home = tempfile::tempdir().unwrap();
    let [ckpt, out] = ["ckpt", "out"].map(|name| home.path().join(name));
    std::fs::create_dir(&ckpt).unwrap();
    Trained::write(&ckpt, &adapter(), decoder().trainables()).unwrap();
    let from = ModelRef { name: "base".into(), path: file.display().to_string() };
    merge::gguf::to_gguf(&from, &ckpt, &out, "f16", &mut Vec::<RunEvent>::new()).unwrap();
    let merged = LanguageModel::open(&out.join("model-F16.gguf")).unwrap();
    assert_eq!(merged.config, model.config);
    assert_near(&Policy::new(merged.decoder(&Device::Cpu, &Tune::None).unwrap()).unwrap(), &facts);
}

/// What is said of such a folder, and what becomes of it when it is merged.
#[test]
fn an_mxfp4_folder_is_said_to_be_one_and_merged_unquantised() {
    let facts = facts();
    let home = tempfile::tempdir().unwrap();
    let [base, ckpt, out] = ["base", "ckpt", "out"].map(|name| home.path().join(name));
    folder(&base, &facts["config"], &own());
    std::fs::create_dir(&ckpt).unwrap();
    let model = LanguageModel::open(&base).unwrap();
    assert!(
        model.notes.iter().any(|note| note.starts_with("4 tensors of experts are stored in MXFP4")),
        "{:?}",
        model.notes
    );
    assert_eq!(check(&base).unwrap().parameters, model.config.parameters());
    let types = model.stored_types().unwrap();
    assert_eq!(types("model.layers.0.mlp.experts.1.up_proj.weight").as_deref(), Some("MXFP4"));
    assert_eq!(types("model.layers.0.self_attn.q_proj.weight").as_deref(), Some("BF16"));
    assert_eq!(not_finite(&model).unwrap(), None);

    let decoder = model.decoder(&Device::Cpu, &adapter()).unwrap();
    Trained::write(&ckpt, &adapter(), decoder.trainables()).unwrap();
    let from = ModelRef { name: "base".into(), path: base.display().to_string() };
    let mut events: Vec<RunEvent> = Vec::new();
    merge::to_hf(&from, &ckpt, &out, merge::ExportPart::Policy, Precision::AsBase, &mut events).unwrap();
    let said = |event: &RunEvent| matches!(event, RunEvent::Found(finding) if finding.text.contains("unquantised, in bfloat16"));
    assert!(events.iter().any(said), "{events:?}");
    let config: Value = serde_json::from_str(&std::fs::read_to_string(out.join("config.json")).unwrap()).unwrap();
    assert!(config.get("quantization_config").is_none() && config["dtype"] == "bfloat16", "{config}");
    let merged = LanguageModel::open(&out).unwrap();
    assert!(!merged.notes.iter().any(|note| note.contains("MXFP4")), "{:?}", merged.notes);
    assert_eq!(merged.config, model.config);
    // A fresh adapter changes nothing, and every dequantised value is exact in bf16.
    let written = candle_core::safetensors::load(out.join("model.safetensors"), &Device::Cpu).unwrap();
    for (name, want) in held().iter().filter_map(|(name, t)| Some((name.strip_prefix("dequantised.")?, t))) {
        assert_eq!((written[name].dims(), flat(&written[name])), (want.dims(), flat(want)), "{name}");
    }
    assert_near(&Policy::new(merged.decoder(&Device::Cpu, &Tune::None).unwrap()).unwrap(), &facts);
}

/// A merged folder holds what `transformers` saves, tensor by tensor.
#[test]
fn a_merged_folder_has_the_tensors_of_the_class() {
    for case in cases().into_iter().filter(|case| case.config.family.name() == "gpt_oss") {
        let home = tempfile::tempdir().unwrap();
        let [base, ckpt, out] = ["base", "ckpt", "out"].map(|name| home.path().join(name));
        std::fs::create_dir(&base).unwrap();
        std::fs::create_dir(&ckpt).unwrap();
        case.save(&base, &case.facts["config"], str::to_owned);
        let from = ModelRef { name: "base".into(), path: base.display().to_string() };
        // All weights, as they are.
        Trained::write(&ckpt, &Tune::Full, case.decoder(&Tune::Full).trainables()).unwrap();
        merge::to_hf(&from, &ckpt, &out, merge::ExportPart::Policy, Precision::Exact, &mut Vec::<RunEvent>::new())
            .unwrap();
        let written = candle_core::safetensors::load(out.join("model.safetensors"), &Device::Cpu).unwrap();
        let want = case.weights();
        let names = |all: &HashMap<String, Tensor>| all.keys().cloned().collect::<BTreeSet<_>>();
        assert_eq!(names(&written), names(&want));
        for (name, tensor) in want {
            assert_eq!((written[&name].dims(), flat(&written[&name])), (tensor.dims(), flat(&tensor)), "{name}");
        }
    }
}

/// The same tensor with NaN as its last value.
pub(super) fn damaged(tensor: &Tensor) -> Tensor {
    let mut values: Vec<f32> = tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    *values.last_mut().unwrap() = f32::NAN;
    Tensor::from_vec(values, tensor.shape(), &Device::Cpu).unwrap().to_dtype(tensor.dtype()).unwrap()
}

#[test]
fn an_expert_that_is_not_finite_is_named() {
    let case = cases().into_iter().find(|case| case.name == "gpt_oss").unwrap();
    let home = tempfile::tempdir().unwrap();
    for name in
        ["mlp.experts.gate_up_proj", "mlp.experts.gate_up_proj_bias", "mlp.experts.down_proj", "self_attn.sinks"]
    {
        let name = format!("model.layers.2.{name}");
        let mut tensors = case.weights();
        tensors.insert(name.clone(), damaged(&tensors[&name]));
        folder(home.path(), &case.facts["config"], &tensors);
        let found = not_finite(&LanguageModel::open(home.path()).unwrap()).unwrap().unwrap();
        assert!(found.contains(&format!("the tensor {name} is not finite")), "{found}");
    }
}

#[test]
fn damaged_blocks_are_named() {
    let facts = facts();
    let home = tempfile::tempdir().unwrap();
    let open = |tensors: &HashMap<String, Tensor>| {
        folder(home.path(), &facts["config"], tensors);
        LanguageModel::open(home.path()).unwrap()
    };
    let name = "model.layers.1.mlp.experts.down_proj";
    let [blocks, scales] = ["_blocks", "_scales"].map(|end| format!("{name}{end}"));
    let refused = |change: &dyn Fn(&mut HashMap<String, Tensor>)| {
        let mut tensors = own();
        change(&mut tensors);
        let model = open(&tensors);
        model.decoder(&Device::Cpu, &Tune::None).err().unwrap().to_string()
    };
    // The largest scale makes infinities.
    let mut tensors = own();
    let all = tensors[&scales].flatten_all().unwrap().to_vec1::<u8>().unwrap();
    let shape = tensors[&scales].shape().clone();
    let bad: Vec<u8> = all.iter().enumerate().map(|(i, scale)| if i == 3 { 255 } else { *scale }).collect();
    tensors.insert(scales.clone(), Tensor::from_vec(bad, shape, &Device::Cpu).unwrap());
    let found = not_finite(&open(&tensors)).unwrap().unwrap();
    assert!(found.contains(&blocks), "{found}");

    let said = refused(&|tensors| drop(tensors.remove(&scales)));
    assert!(said.contains("the first is model.layers.1.mlp.experts.0.down_proj.weight"), "{said}");
    let said = refused(&|tensors| drop(tensors.insert(scales.clone(), tensors[&scales].narrow(1, 0, 3).unwrap())));
    assert!(said.contains(&scales) && said.contains("[4, 3, 1]"), "{said}");
    let said = refused(&|tensors| {
        let wide = tensors[&scales].to_dtype(DType::F32).unwrap();
        tensors.insert(scales.clone(), wide);
    });
    assert!(said.contains(&scales) && said.contains("F32"), "{said}");
    let mut tensors = own();
    tensors.insert(scales.clone(), tensors[&scales].narrow(1, 0, 3).unwrap());
    open(&tensors);
    assert!(check(home.path()).unwrap_err().to_string().contains(&scales));
    let said = refused(&|tensors| drop(tensors.insert(blocks.clone(), tensors[&blocks].narrow(0, 0, 2).unwrap())));
    assert!(said.contains("layers.1"), "{said}");
}

/// The published config.json (shortened), which names fields of its authors' own beside those of the class.
#[test]
fn the_published_configurations_have_the_published_sizes() {
    let config = |layers: usize, experts: usize| {
        let kinds = ["sliding_attention", "full_attention"].iter().cycle().take(layers).collect::<Vec<_>>();
        let config = serde_json::json!({"architectures": ["GptOssForCausalLM"], "attention_bias": true, "experts_per_token": 4,
            "eos_token_id": 200_002, "head_dim": 64, "hidden_act": "silu", "hidden_size": 2880, "initial_context_length": 4096,
            "intermediate_size": 2880, "layer_types": kinds, "max_position_embeddings": 131_072, "model_type": "gpt_oss",
            "num_attention_heads": 64, "num_experts_per_tok": 4, "num_hidden_layers": layers, "num_key_value_heads": 8,
            "num_local_experts": experts, "output_router_logits": false, "quantization_config": {"quant_method": "mxfp4"},
            "rms_norm_eps": 1e-5, "rope_scaling": {"beta_fast": 32.0, "beta_slow": 1.0, "factor": 32.0,
            "original_max_position_embeddings": 4096, "rope_type": "yarn", "truncate": false}, "rope_theta": 150_000,
            "router_aux_loss_coef": 0.9, "sliding_window": 128, "swiglu_limit": 7.0, "vocab_size": 201_088});
        parsed(&config)
    };
    // As `transformers` counts them.
    assert_eq!(config(24, 32).parameters(), 20_914_757_184);
    assert_eq!(config(36, 128).parameters(), 116_829_156_672);
    assert_eq!((config(24, 32).window_of(0), config(24, 32).window_of(1)), (Some(128), None));
}

#[test]
fn what_the_class_does_not_compute_is_refused_by_name() {
    let refused = |key: &str, value: Value| {
        let mut config = facts()["config"].clone();
        config[key] = value;
        Config::parse(&config.to_string(), Path::new("config.json")).unwrap_err().to_string()
    };
    for (key, value, said) in [
        ("quantization_config", serde_json::json!({"quant_method": "fp8"}), "quant_method=fp8"),
        ("num_local_experts", 0.into(), "num_local_experts"),
        ("swiglu_limit", (-1.0).into(), "swiglu_limit"),
        ("output_router_logits", true.into(), "output_router_logits"),
    ] {
        let message = refused(key, value);
        assert!(message.contains(said), "{message}");
    }
    let other = serde_json::json!({"model_type": "mixtral", "quantization_config": {"quant_method": "mxfp4"},
        "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2, "vocab_size": 304, "num_local_experts": 4});
    let message = Config::parse(&other.to_string(), Path::new("config.json")).unwrap_err().to_string();
    assert!(message.contains("quantization_config"), "{message}");
}
