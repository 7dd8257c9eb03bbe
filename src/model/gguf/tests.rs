//! A hand-written GGUF file: its values, its RoPE order, and damaged copies.

use super::vocabulary::pre_tokenizer;
use super::write::{MetaValue, TensorPlan, WrittenType};
use super::*;
use crate::model::config::RopeScaling;
use crate::model::{LanguageModel, Tune};
use candle_core::Device;

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn put(out: &mut Vec<u8>, key: &str, value: &Value) {
    put_text(out, key);
    let (kind, bytes) = match value {
        Value::String(s) => (8u32, {
            let mut b = Vec::new();
            put_text(&mut b, s);
            b
        }),
        Value::Array(items) => (9, {
            let mut b = 8u32.to_le_bytes().to_vec();
            b.extend((items.len() as u64).to_le_bytes());
            for item in items {
                put_text(&mut b, item.as_str().unwrap());
            }
            b
        }),
        Value::Number(n) if n.is_u64() => (4, (n.as_u64().unwrap() as u32).to_le_bytes().to_vec()),
        other => (6, (other.as_f64().unwrap() as f32).to_le_bytes().to_vec()),
    };
    out.extend(kind.to_le_bytes());
    out.extend(bytes);
}

/// A one-layer Llama of hidden width 32; tensor `n` counts up from `n·1000` in f32, the embedding is Q8_0.
fn file(pre: &str) -> Vec<u8> {
    file_with(pre, &[])
}

/// As [`file`], with more metadata.
fn file_with(pre: &str, more: &[(&str, Value)]) -> Vec<u8> {
    let tokens: Vec<Value> = (0..300u32).map(|i| format!("<t{i}>").into()).collect();
    let mut meta = vec![
        ("general.architecture", "llama".into()),
        ("llama.block_count", 1.into()),
        ("llama.embedding_length", 32.into()),
        ("llama.feed_forward_length", 32.into()),
        ("llama.attention.head_count", 4.into()),
        ("llama.attention.head_count_kv", 2.into()),
        ("llama.attention.layer_norm_rms_epsilon", 1e-5.into()),
        ("tokenizer.ggml.model", "gpt2".into()),
        ("tokenizer.ggml.pre", pre.into()),
        ("tokenizer.ggml.tokens", tokens.into()),
        ("tokenizer.ggml.merges", Vec::<Value>::new().into()),
        ("tokenizer.ggml.eos_token_id", 2.into()),
    ];
    meta.extend(more.iter().cloned());
    let tensors: [(&str, &[u64]); 11] = [
        ("token_embd.weight", &[32, 300]),
        ("output_norm.weight", &[32]),
        ("blk.0.attn_norm.weight", &[32]),
        ("blk.0.ffn_norm.weight", &[32]),
        ("blk.0.attn_q.weight", &[32, 32]),
        ("blk.0.attn_k.weight", &[32, 16]),
        ("blk.0.attn_v.weight", &[32, 16]),
        ("blk.0.attn_output.weight", &[32, 32]),
        ("blk.0.ffn_gate.weight", &[32, 32]),
        ("blk.0.ffn_up.weight", &[32, 32]),
        ("blk.0.ffn_down.weight", &[32, 32]),
    ];
    let mut out = b"GGUF".to_vec();
    out.extend(3u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((meta.len() as u64).to_le_bytes());
    for (key, value) in &meta {
        put(&mut out, key, value);
    }
    let mut data: Vec<u8> = Vec::new();
    for (n, (name, shape)) in tensors.iter().enumerate() {
        put_text(&mut out, name);
        out.extend((shape.len() as u32).to_le_bytes());
        for d in *shape {
            out.extend(d.to_le_bytes());
        }
        let count: u64 = shape.iter().product();
        out.extend(if n == 0 { 8u32 } else { 0 }.to_le_bytes());
        out.extend((data.len() as u64).to_le_bytes());
        if n == 0 {
            for _ in 0..count / 32 {
                data.extend(half::f16::from_f32(0.5).to_le_bytes());
                data.extend((0..32).map(|i| i as u8));
            }
        } else {
            for i in 0..count {
                data.extend(((n as u64 * 1000 + i) as f32).to_le_bytes());
            }
        }
        data.resize(data.len().div_ceil(32) * 32, 0);
    }
    out.resize(out.len().div_ceil(32) * 32, 0);
    out.extend(data);
    out
}

fn opened(bytes: &[u8]) -> (tempfile::TempDir, Result<Gguf, Error>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    std::fs::write(&path, bytes).unwrap();
    let gguf = Gguf::open(&path);
    (dir, gguf)
}

#[test]
fn tensors_have_hugging_face_order_and_quantised_ones_are_dequantised() {
    let (_dir, gguf) = opened(&file("smollm"));
    let gguf = gguf.unwrap();
    let config = gguf.config().unwrap();
    assert_eq!((config.vocab, config.head_dim, config.kv_heads, config.tied), (300, 8, 2, true));
    let rows = |name: &str| -> Vec<f32> {
        let t = gguf.load(name, &config).unwrap();
        t.narrow(1, 0, 1).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    };
    // The file's rows of a head are 0 0' 1 1' 2 2' 3 3'; Hugging Face has 0 1 2 3 0' 1' 2' 3'.
    let q: Vec<f32> = [0, 2, 4, 6, 1, 3, 5, 7, 8, 10].iter().map(|r| 4000.0 + 32.0 * *r as f32).collect();
    assert_eq!(rows("model.layers.0.self_attn.q_proj.weight")[..10], q);
    assert_eq!(rows("model.layers.0.self_attn.v_proj.weight")[..3], [6000.0, 6032.0, 6064.0]);
    let embed = gguf.load("model.embed_tokens.weight", &config).unwrap();
    assert_eq!(embed.to_vec2::<f32>().unwrap()[299][..4], [0.0, 0.5, 1.0, 1.5]);
}

#[test]
fn a_norm_offset_is_subtracted_from_the_files_norms() {
    let (_dir, gguf) = opened(&file("smollm"));
    let gguf = gguf.unwrap();
    let mut config = gguf.config().unwrap();
    let read =
        |config: &Config, name: &str| gguf.load(name, config).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    for name in ["model.norm.weight", "model.layers.0.input_layernorm.weight", "model.layers.0.self_attn.v_proj.weight"]
    {
        config.layer.norm_offset = 0.0;
        let plain = read(&config, name);
        config.layer.norm_offset = 1.0;
        let off = if name.contains("norm") { 1.0 } else { 0.0 };
        assert!(plain.iter().zip(read(&config, name)).all(|(a, b)| a - off == b), "{name}");
    }
}

#[test]
fn a_whole_file_loads_and_an_unknown_pre_tokenizer_is_named() {
    let (dir, _) = opened(&file("smollm"));
    let model = LanguageModel::open(&dir.path().join("m.gguf")).unwrap();
    assert_eq!(model.tokenizer.stops(), [2]);
    assert!(model.decoder(&Device::Cpu, &Tune::None).is_ok());
    let (dir, _) = opened(&file("jais-9"));
    let message = LanguageModel::open(&dir.path().join("m.gguf")).err().unwrap().to_string();
    assert!(message.contains("`jais-9`"), "{message}");
}

#[test]
fn a_stretching_factor_without_a_type_is_linear() {
    let scaling = |more: &[(&str, Value)]| {
        let (_dir, gguf) = opened(&file_with("smollm", more));
        gguf.unwrap().config().map(|config| config.rope_scaling)
    };
    let kind = |name: &str| ("llama.rope.scaling.type", Value::from(name));
    assert_eq!(scaling(&[("llama.rope.scaling.factor", 4.5.into())]).unwrap(), RopeScaling::Linear(4.5));
    assert_eq!(scaling(&[("llama.rope.scale_linear", 2.5.into())]).unwrap(), RopeScaling::Linear(2.5));
    assert_eq!(scaling(&[("llama.rope.scaling.factor", 1.0.into())]).unwrap(), RopeScaling::None);
    assert_eq!(scaling(&[kind("none"), ("llama.rope.scaling.factor", 4.5.into())]).unwrap(), RopeScaling::None);
    let refused = scaling(&[kind("yarn"), ("llama.rope.scaling.factor", 4.5.into())]).unwrap_err().to_string();
    assert!(refused.contains("yarn"), "{refused}");
}

#[test]
fn yarn_is_read_as_llama_cpp_computes_it_and_refused_where_it_would_not() {
    let scaling = |more: &[(&str, Value)]| {
        let yarn = ("llama.rope.scaling.type", Value::from("yarn"));
        let all = [&[yarn, ("llama.context_length", 64.into())], more].concat();
        let (_dir, gguf) = opened(&file_with("smollm", &all));
        gguf.unwrap().config().map(|config| config.rope_scaling)
    };
    let factor = ("llama.rope.scaling.factor", Value::from(4.0));
    let read = |original: f64, own: f64| {
        let attention = own * (0.1 * 4f64.ln() + 1.0);
        RopeScaling::Yarn { factor: 4.0, fast: 32.0, slow: 1.0, original, truncate: true, attention }
    };
    assert_eq!(scaling(std::slice::from_ref(&factor)).unwrap(), read(64.0, 1.0));
    let more = [factor.clone(), ("llama.rope.scaling.original_context_length", 16.into())];
    assert_eq!(scaling(&more).unwrap(), read(16.0, 1.0));
    assert_eq!(scaling(&[factor.clone(), ("llama.rope.scaling.attn_factor", 0.5.into())]).unwrap(), read(64.0, 0.5));
    let beta = |x: f64| ("llama.rope.scaling.yarn_beta_fast", Value::from(x));
    assert_eq!(scaling(&[factor.clone(), beta(32.0)]).unwrap(), read(64.0, 1.0));
    let refused = scaling(&[factor, beta(8.0)]).unwrap_err().to_string();
    assert!(refused.contains("`llama.rope.scaling.yarn_beta_fast` 8") && refused.contains("32"), "{refused}");
    let refused = scaling(&[("llama.rope.scaling.factor", 0.5.into())]).unwrap_err().to_string();
    assert!(refused.contains("`llama.rope.scaling.factor` is 0.5"), "{refused}");
}

#[test]
fn an_expert_is_a_part_of_the_tensor_of_all() {
    let number = |key: &str, n: u32| (format!("llama.{key}"), MetaValue::U32(n));
    let meta = [
        ("general.architecture".to_owned(), MetaValue::Text("llama".into())),
        number("block_count", 1),
        number("embedding_length", 32),
        number("feed_forward_length", 64),
        number("attention.head_count", 4),
        number("expert_count", 3),
        number("expert_used_count", 2),
    ];
    let of = |shape: &[usize]| Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap();
    let tensors = [
        ("token_embd.weight", of(&[8, 32]), WrittenType::F32),
        ("blk.0.ffn_gate_exps.weight", of(&[3, 64, 32]), WrittenType::Q8_0),
        ("blk.0.ffn_down_exps.weight", of(&[3, 32, 64]), WrittenType::F16),
    ];
    let plans: Vec<_> = tensors.iter().map(|(name, t, kind)| TensorPlan::new(*name, t.dims(), *kind)).collect();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    write::write(&path, &meta, &plans, |i| tensors[i].2.encode(tensors[i].0, &tensors[i].1)).unwrap();
    let gguf = Gguf::open(&path).unwrap();
    let config = gguf.config().unwrap();
    let spec = config.layer.experts.clone().unwrap();
    assert_eq!((config.family.name(), spec.count, spec.chosen, spec.width), ("mixtral", 3, 2, 64));
    let values = |t: Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    for expert in 0..3 {
        let name = |module: &str| format!("model.layers.0.block_sparse_moe.experts.{expert}.{module}.weight");
        assert_eq!(gguf.shape(&name("w1"), &config), Some(vec![64, 32]));
        for (module, all, most) in [("w1", &tensors[1].1, 0.02), ("w2", &tensors[2].1, 2e-3)] {
            let read = values(gguf.load(&name(module), &config).unwrap());
            let want = values(all.get(expert).unwrap());
            assert!(read.len() == want.len() && read.iter().zip(&want).all(|(a, b)| (a - b).abs() < most), "{expert}");
        }
        // The packed matrix has the same numbers.
        let packed = gguf.packed(&name("w1"), &config).unwrap().unwrap();
        let mut row = vec![0.0; 32];
        packed.row(63, &mut row);
        assert_eq!(row, values(gguf.load(&name("w1"), &config).unwrap())[63 * 32..]);
        assert!(gguf.packed(&name("w2"), &config).unwrap().is_none());
    }
    let beyond = "model.layers.0.block_sparse_moe.experts.3.w1.weight";
    assert!(!gguf.has(beyond, &config) && gguf.load(beyond, &config).is_err());
    assert!(gguf.others(&config).is_empty());
}

#[test]
fn experts_that_a_file_cannot_have_are_refused_by_name() {
    let said = |more: &[(&str, Value)]| {
        let (_dir, gguf) = opened(&file_with("smollm", more));
        gguf.unwrap().config().unwrap_err().to_string()
    };
    let count = ("llama.expert_count", Value::from(4));
    assert!(said(std::slice::from_ref(&count)).contains("`llama.expert_used_count` is missing"));
    let message = said(&[count, ("llama.expert_used_count", 5.into())]);
    assert!(message.contains("`llama.expert_used_count` is 5 of 4 experts"), "{message}");
    let sizes =
        ["gemma.block_count", "gemma.embedding_length", "gemma.feed_forward_length", "gemma.attention.head_count"];
    let mut more: Vec<(&str, Value)> =
        sizes.iter().map(|key| (*key, if key.contains("head") { 4 } else { 32 }.into())).collect();
    more.extend([("general.architecture", "gemma".into()), ("gemma.expert_count", 8.into())]);
    let message = said(&more);
    assert!(message.contains("a mixture of 8 experts of the architecture `gemma`"), "{message}");
}

#[test]
fn a_part_of_a_split_model_says_which_part_it_is() {
    let part = [("split.no", 1.into()), ("split.count", 3.into())];
    let (dir, _) = opened(&file_with("smollm", &part));
    let message = LanguageModel::open(&dir.path().join("m.gguf")).err().unwrap().to_string();
    assert!(message.contains("part 2 of 3") && message.contains("--merge"), "{message}");
    let (_dir, whole) = opened(&file_with("smollm", &[("split.count", 1.into())]));
    assert!(whole.unwrap().config().is_ok());
}

#[test]
fn pre_tokenizers_have_the_names_that_llama_cpp_knows() {
    for (names, skips_merges) in [
        (["llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral", "lfm2"].as_slice(), true),
        (&["qwen2", "deepseek-r1-qwen"], false),
        (&["gpt-2", "olmo", "mpt"], false),
    ] {
        let all: Vec<(Value, bool)> = names.iter().map(|name| pre_tokenizer(name).unwrap()).collect();
        assert!(all.iter().all(|found| *found == all[0] && found.1 == skips_merges), "{names:?}");
    }
    let (llama, smaug) = (pre_tokenizer("llama-bpe").unwrap(), pre_tokenizer("smaug-bpe").unwrap());
    assert!(llama.0 == smaug.0 && llama.1 != smaug.1);
}

/// As Python's `regex` splits by the pattern of the published tokenizer.json.
#[test]
fn gpt_4o_splits_words_at_the_case_of_letters_of_every_script() {
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, PreTokenizerWrapper};
    let (pre, _) = pre_tokenizer("gpt-4o").unwrap();
    let split: PreTokenizerWrapper = serde_json::from_value(pre["pretokenizers"][0].clone()).unwrap();
    let mut text = PreTokenizedString::from("HelloWorld's DON'T 12345 приветМир  =//\n  x");
    split.pre_tokenize(&mut text).unwrap();
    let parts = text.get_splits(OffsetReferential::Original, OffsetType::Byte);
    let parts: Vec<&str> = parts.into_iter().map(|(part, ..)| part).collect();
    let want = ["Hello", "World's", " DON'T", " ", "123", "45", " привет", "Мир", " ", " =//\n", " ", " x"];
    assert_eq!(parts, want);
}

#[test]
fn truncated_and_corrupted_files_never_panic() {
    let whole = file("gpt-2");
    let last = b"blk.0.ffn_down.weight";
    let header = whole.windows(last.len()).rposition(|w| w == last).unwrap() + 64;
    for cut in (0..whole.len()).step_by(613).chain([3, 4, 8, 12, 16, 23, 24, 25]) {
        let (_dir, gguf) = opened(&whole[..cut]);
        assert!(gguf.is_err(), "cut at {cut}");
    }
    // Long runs of ones make every count and length absurd in turn.
    for at in (4..header).step_by(7) {
        let mut bytes = whole.clone();
        let end = (at + 8).min(bytes.len());
        bytes[at..end].fill(0xff);
        let (_dir, gguf) = opened(&bytes);
        let Ok(gguf) = gguf else { continue };
        let Ok(config) = gguf.config() else { continue };
        let _ = gguf.tokenizer(&config);
        let _ = gguf.load("model.layers.0.self_attn.q_proj.weight", &config);
    }
}
