//! A folder whose files are not quite those of its config.json: what `transformers` reads is read, what it leaves is said, and the
//! rest is one sentence with the tensor.

use super::*;

fn case(name: &str) -> Case {
    cases().into_iter().find(|case| case.name == name).unwrap()
}

/// The folder of a case with its tensors changed.
fn folder(case: &Case, config: &Value, change: impl Fn(&mut HashMap<String, Tensor>)) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    case.save(home.path(), config, str::to_owned);
    let file = home.path().join("model.safetensors");
    let mut tensors = candle_core::safetensors::load(&file, &Device::Cpu).unwrap();
    change(&mut tensors);
    candle_core::safetensors::save(&tensors, &file).unwrap();
    home
}

fn refusal(home: &Path) -> String {
    let model = match LanguageModel::open(home) {
        Ok(model) => model,
        Err(e) => return e.to_string(),
    };
    model.decoder(&Device::Cpu, &Tune::None).err().unwrap().to_string()
}

fn assert_equal(home: &Path, case: &Case) -> Vec<String> {
    let model = LanguageModel::open(home).unwrap();
    let policy = Policy::new(model.decoder(&Device::Cpu, &Tune::None).unwrap()).unwrap();
    let want: Vec<Vec<f64>> = numbers(&case.facts["logps"]);
    for (row, want) in policy.score(&case.batch(), false).unwrap().rows.iter().zip(&want) {
        for (got, want) in row.logp.iter().zip(want) {
            assert!((got - want).abs() < 1e-4 * (1.0 + want.abs()), "{}: {got} and not {want}", case.name);
        }
    }
    model.notes
}

fn zeros(shape: &[usize]) -> Tensor {
    Tensor::ones(shape, DType::F32, &Device::Cpu).unwrap()
}

#[test]
fn a_tensor_that_the_class_does_not_have_is_said_and_changes_nothing() {
    for (name, extra, shape) in [
        ("llama_yarn", "model.layers.1.self_attn.q_proj.bias", [16]),
        ("qwen3", "model.layers.0.self_attn.o_proj.bias", [16]),
        ("gpt_neox", "gpt_neox.layers.0.attention.extra.bias", [16]),
        ("qwen3_moe", "model.layers.4.mlp.gate.weight", [16]),
    ] {
        let case = case(name);
        let plain = folder(&case, &case.facts["older"], |_| ());
        let said = |note: &&String| note.contains("tensor is not read");
        assert_eq!(assert_equal(plain.path(), &case).iter().find(said), None, "{name}");
        let home = folder(&case, &case.facts["older"], |tensors| drop(tensors.insert(extra.into(), zeros(&shape))));
        let notes = assert_equal(home.path(), &case);
        let note = notes.iter().find(said).unwrap();
        assert!(note.starts_with("1 tensor") && note.contains(extra), "{name}: {note}");
    }
}

#[test]
fn tables_that_old_files_hold_are_not_worth_a_word() {
    for (name, extra) in [
        ("gpt_neox", "gpt_neox.layers.0.attention.masked_bias"),
        ("llama_yarn", "model.layers.0.self_attn.rotary_emb.inv_freq"),
        ("gpt2", "transformer.h.0.attn.bias"),
    ] {
        let case = case(name);
        let home = folder(&case, &case.facts["older"], |tensors| drop(tensors.insert(extra.into(), zeros(&[4]))));
        let notes = assert_equal(home.path(), &case);
        assert!(!notes.iter().any(|note| note.contains("not read, as")), "{name}: {notes:?}");
    }
}

#[test]
fn a_missing_or_unfit_tensor_is_named() {
    let case = case("llama_yarn");
    let name = "model.layers.2.mlp.up_proj.weight";
    let config = &case.facts["config"];
    let said = refusal(folder(&case, config, |tensors| drop(tensors.remove(name))).path());
    assert!(said.contains(&format!("the tensor {name} is missing; the download may be incomplete")), "{said}");
    let said = refusal(folder(&case, config, |tensors| drop(tensors.insert(name.into(), zeros(&[3, 16])))).path());
    assert!(said.contains(name) && said.contains("[3, 16]") && said.contains("[24, 16]"), "{said}");
    let mut biased = config.clone();
    biased["attention_bias"] = true.into();
    let said = refusal(folder(&case, &biased, |_| ()).path());
    assert!(said.contains("q_proj.bias") && said.contains("biases that the weights do not have"), "{said}");
    let mut larger = config.clone();
    larger["vocab_size"] = 305.into();
    let said = refusal(folder(&case, &larger, |_| ()).path());
    assert!(said.contains("model.embed_tokens.weight") && said.contains("[304, 16]"), "{said}");
    let said = refusal(folder(&case, config, |tensors| drop(tensors.remove("lm_head.weight"))).path());
    assert!(said.contains("no output head"), "{said}");
}

/// As the classes without a head save their folders: without the model's name before each tensor.
#[test]
fn names_without_the_models_prefix_are_read() {
    for (name, prefix) in
        [("gemma", "model."), ("qwen2_window", "model."), ("gpt_neox", "gpt_neox."), ("mixtral", "model.")]
    {
        let case = case(name);
        let home = folder(&case, &case.facts["config"], |tensors| {
            let renamed = tensors.drain().map(|(name, t)| (name.trim_start_matches(prefix).to_owned(), t));
            *tensors = renamed.collect();
        });
        assert_equal(home.path(), &case);
    }
}

#[test]
fn of_one_file_and_shards_the_file_is_read_and_that_is_said() {
    let case = case("llama_yarn");
    let home = folder(&case, &case.facts["config"], |_| ());
    let index = home.path().join("model.safetensors.index.json");
    std::fs::write(&index, r#"{"weight_map":{"a":"model-00001-of-00002.safetensors"}}"#).unwrap();
    let notes = assert_equal(home.path(), &case);
    assert!(notes.iter().any(|note| note.contains("the shards are not")), "{notes:?}");
    std::fs::remove_file(home.path().join("model.safetensors")).unwrap();
    let said = LanguageModel::open(home.path()).and_then(|model| model.decoder(&Device::Cpu, &Tune::None).map(drop));
    let said = said.unwrap_err().to_string();
    assert!(said.contains("the shard model-00001-of-00002.safetensors is missing"), "{said}");
}

/// A field that the class does not read changes nothing, and is said with its value.
#[test]
fn a_field_that_the_class_does_not_read_changes_nothing_and_is_said() {
    for (name, key, value) in [
        ("llama_yarn", "attn_logit_softcapping", Value::from(2.0)),
        ("llama_yarn", "layer_types", vec!["sliding_attention"; 4].into()),
        ("llama_yarn", "sliding_window", 8.into()),
        ("llama_yarn", "num_experts", 4.into()),
        ("olmo2", "partial_rotary_factor", 0.5.into()),
        ("mistral", "attention_bias", true.into()),
        ("qwen3", "mlp_bias", true.into()),
        ("gpt_neox", "num_key_value_heads", 2.into()),
        ("gemma4", "rope_theta", 77.0.into()),
        ("gemma3", "attn_logit_softcapping", 1.0.into()),
        ("qwen3_moe", "layer_types", vec!["sliding_attention"; 4].into()),
        ("granite", "mystery_multiplier", 3.0.into()),
        ("gpt_oss", "hidden_act", "relu".into()),
        ("gpt2", "head_dim", 8.into()),
    ] {
        let case = case(name);
        let mut config = case.facts["config"].clone();
        config[key] = value.clone();
        let home = folder(&case, &config, |_| ());
        let notes = assert_equal(home.path(), &case);
        let text = if value.is_array() { format!("{key}=[") } else { format!("{key}={value}") };
        assert!(notes.iter().any(|note| note.contains(&text)), "{name}: {notes:?}");
    }
}

/// Beyond the context a dynamic rope changes every frequency: rows end there, and so do answers.
#[test]
fn nothing_is_computed_beyond_the_context_of_a_dynamic_rope() {
    let case = case("llama_dynamic");
    let decoder = case.decoder(&Tune::None);
    let row = |len: usize| Batch::new(vec![Row::new(vec![5; len], vec![1])]);
    for policy in [Policy::reference(case.decoder(&Tune::None)), Policy::new(case.decoder(&Tune::None)).unwrap()] {
        policy.score(&row(64), true).unwrap();
        let said = policy.score(&row(65), true).err().unwrap().to_string();
        assert!(said.contains("`max_position_embeddings` (64)") && said.contains("`dynamic`"), "{said}");
    }
    let decode = PackedDecoder::of(&decoder, false).unwrap();
    let mut queue = Queue::new(1, &[]);
    let sampler = Sampler { temperature: 0.0, max_new_tokens: 9, ..Sampler::default() };
    queue.push(PromptRequest { number: 0, prompt: vec![5; 60], rngs: vec![stream(1, 0)], sampler });
    while queue.step(&decode).unwrap() > 0 {}
    assert_eq!(queue.take(0).unwrap()[0].ids.len(), 4);
}

/// What every class of transformers 5 obeys and is not implemented.
#[test]
fn a_field_that_every_class_obeys_is_refused_by_name_and_value() {
    let case = case("llama_yarn");
    let layers = serde_json::json!({"1": {"rms_norm_eps": 0.1}});
    for (key, value, said) in [
        ("is_causal", Value::from(false), "`is_causal=false`"),
        ("per_layer_config", layers, "`per_layer_config` of layer 1 with `rms_norm_eps=0.1`"),
    ] {
        let mut config = case.facts["config"].clone();
        config[key] = value;
        let message = Config::parse(&config.to_string(), Path::new("config.json")).unwrap_err().to_string();
        assert!(message.contains(said), "{message}");
    }
    let mut same = case.facts["config"].clone();
    same["is_causal"] = true.into();
    same["per_layer_config"] = serde_json::json!({"1": {"rms_norm_eps": same["rms_norm_eps"]}});
    assert_eq!(parsed(&same), case.config);
}

/// llama.cpp reads no Cohere 2 file without a window; one as wide as the context is written for a model that has none.
#[test]
fn a_cohere_2_file_without_a_window_is_refused_and_none_is_written() {
    let home = tempfile::tempdir().unwrap();
    let key = b"cohere2.attention.sliding_window";
    let mut bytes = std::fs::read(fixtures().join("families/cohere2.gguf")).unwrap();
    let at = bytes.windows(key.len()).position(|part| part == key).unwrap();
    bytes[at + key.len() - 1] = b'x';
    let file = home.path().join("without.gguf");
    std::fs::write(&file, bytes).unwrap();
    let said = LanguageModel::open(&file).err().unwrap().to_string();
    assert!(said.contains("`cohere2.attention.sliding_window` is missing"), "{said}");

    let case = case("cohere2");
    let mut config = case.facts["config"].clone();
    config["sliding_window"] = config["max_position_embeddings"].clone();
    let [base, ckpt, out] = ["base", "ckpt", "out"].map(|name| home.path().join(name));
    std::fs::create_dir(&base).unwrap();
    std::fs::create_dir(&ckpt).unwrap();
    case.save(&base, &config, str::to_owned);
    let decoder = Case { config: parsed(&config), ..case.clone() }.decoder(&adapter());
    Trained::write(&ckpt, &adapter(), decoder.trainables()).unwrap();
    let from = ModelRef { name: "base".into(), path: base.display().to_string() };
    merge::gguf::to_gguf(&from, &ckpt, &out, "f32", &mut Vec::<RunEvent>::new()).unwrap();
    let written = std::fs::read(out.join("model-F32.gguf")).unwrap();
    assert!(written.windows(key.len()).any(|part| part == key));
    let read = LanguageModel::open(&out.join("model-F32.gguf")).unwrap().config;
    let rope = |config: &Config| (0..config.layers).map(|i| config.layer.rope.has(i)).collect::<Vec<_>>();
    assert_eq!((read.window, rope(&read)), (None, rope(&case.config)));
}
