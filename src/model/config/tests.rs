//! Reading config.json.

use super::*;

const BASE: &str = r#""hidden_size":64,"num_attention_heads":4,"num_key_value_heads":2,"num_hidden_layers":2,
    "intermediate_size":96,"vocab_size":300"#;

fn parse(rest: &str) -> Result<Config, Error> {
    Config::parse(&format!("{{{BASE},{rest}}}"), Path::new("m/config.json"))
}

#[test]
fn both_spellings_of_rope_are_read() {
    let new = parse(r#""model_type":"llama","rope_parameters":{"rope_theta":5e5,"rope_type":"default"}"#).unwrap();
    let old = parse(r#""model_type":"llama","rope_theta":500000.0"#).unwrap();
    assert_eq!(new, old);
    let three = parse(
        r#""model_type":"llama","rope_theta":5e5,"rope_scaling":{"rope_type":"llama3","factor":32,
        "low_freq_factor":1,"high_freq_factor":4,"original_max_position_embeddings":8192}"#,
    )
    .unwrap();
    assert_eq!(three.rope_scaling, RopeScaling::Llama3 { factor: 32.0, low: 1.0, high: 4.0, original: 8192.0 });
}

#[test]
fn families_differ_in_bias_and_norm() {
    let two = parse(r#""model_type":"qwen2","use_sliding_window":false,"sliding_window":32768,"eos_token_id":[1,2]"#);
    let two = two.unwrap();
    assert!(two.layer.qkv_bias && !two.layer.o_bias && two.layer.qk_norm == QkNorm::No && two.eos == [1, 2]);
    let three = parse(r#""model_type":"qwen3","head_dim":32"#).unwrap();
    assert!(three.layer.qk_norm == QkNorm::Head && !three.layer.qkv_bias && three.head_dim == 32);
    let default = parse(r#""model_type":"qwen3""#).unwrap();
    assert_eq!((default.head_dim, default.kv_heads), (128, 2), "the class's default head_dim");
    let shared = parse(r#""model_type":"qwen3","head_dim":null"#).unwrap();
    assert_eq!(shared.head_dim, 16);
}

/// As `transformers` resolves a config.json that leaves a field out, or says null.
#[test]
fn a_missing_field_has_the_default_of_the_familys_class() {
    let sizes =
        r#""hidden_size":1024,"num_attention_heads":64,"num_hidden_layers":1,"intermediate_size":9,"vocab_size":9"#;
    let parse = |kind: &str, rest: &str| {
        let text = format!(r#"{{{sizes},"model_type":"{kind}"{rest}}}"#);
        Config::parse(&text, Path::new("c")).unwrap()
    };
    let window = r#","sliding_window":null"#;
    for (kind, rest, kv_heads, head_dim, context) in [
        ("llama", "", 64, 16, 2048),
        ("mistral", window, 8, 16, 131_072),
        ("qwen2", "", 32, 16, 32_768),
        ("qwen3", "", 32, 128, 32_768),
    ] {
        let c = parse(kind, rest);
        assert_eq!((c.kv_heads, c.head_dim, c.context), (kv_heads, head_dim, context), "{kind}");
        assert_eq!(
            (c.rope_theta, c.rms_eps, c.tied, &c.rope_scaling),
            (1e4, 1e-6, false, &RopeScaling::None),
            "{kind}"
        );
        let null = parse(kind, &format!(r#"{rest},"num_key_value_heads":null,"max_position_embeddings":null"#));
        assert_eq!((null.kv_heads, null.context), (64, 0), "{kind}");
    }
}

#[test]
fn every_family_names_each_of_its_tensors_once() {
    for family in family::FAMILIES {
        let config = parse(&format!(r#""model_type":"{}","num_key_value_heads":4"#, family.name())).unwrap();
        let all: Vec<String> = config.tensors().map(|(name, _)| name).collect();
        let distinct: std::collections::BTreeSet<&String> = all.iter().collect();
        assert_eq!(distinct.len(), all.len(), "{family:?}");
        for name in &all {
            assert!(config.named(name).is_some(), "{name}");
        }
    }
}

#[test]
fn a_window_belongs_to_the_layers_that_the_class_gives_it() {
    let of = |rest: &str| {
        let config = parse(rest).unwrap();
        (config.context, (0..config.layers).map(|i| config.window_of(i)).collect::<Vec<_>>())
    };
    let (both, none, second) = (|n| vec![Some(n); 2], vec![None; 2], |n| vec![None, Some(n)]);
    for (rest, context, windows) in [
        (r#""model_type":"mistral","sliding_window":1024"#, 131_072, both(1024)),
        (r#""model_type":"mistral""#, 131_072, both(4096)),
        (r#""model_type":"mistral","sliding_window":null,"max_position_embeddings":9"#, 9, none.clone()),
        (r#""model_type":"mistral","sliding_window":4096,"max_position_embeddings":4096"#, 4096, none.clone()),
        (r#""model_type":"mistral","sliding_window":7,"max_position_embeddings":null"#, 0, both(7)),
        (r#""model_type":"qwen2","sliding_window":64,"use_sliding_window":false"#, 32_768, none.clone()),
        (r#""model_type":"qwen2","sliding_window":64,"use_sliding_window":true"#, 32_768, none.clone()),
        (
            r#""model_type":"qwen2","sliding_window":64,"use_sliding_window":true,"max_window_layers":1"#,
            32_768,
            second(64),
        ),
        (
            r#""model_type":"qwen3","sliding_window":64,"use_sliding_window":true,
                "layer_types":["full_attention","sliding_attention"]"#,
            32_768,
            second(64),
        ),
        (
            r#""model_type":"qwen3","sliding_window":null,"use_sliding_window":true,"max_window_layers":0"#,
            32_768,
            none.clone(),
        ),
        (
            r#""model_type":"smollm3","sliding_window":null,"use_sliding_window":true,"no_rope_layer_interval":1"#,
            32_768,
            none.clone(),
        ),
        (
            r#""model_type":"smollm3","sliding_window":5,"layer_types":["attention","sliding_attention"]"#,
            32_768,
            second(5),
        ),
        (
            r#""model_type":"llama","sliding_window":5,"layer_types":["full_attention","sliding_attention"]"#,
            2048,
            none.clone(),
        ),
    ] {
        assert_eq!(of(rest), (context, windows), "{rest}");
    }
}

#[test]
fn the_older_rope_key_wins_over_the_newer() {
    let both = parse(
        r#""model_type":"llama","rope_parameters":{"rope_theta":5e5,"rope_type":"default"},"rope_scaling":{"type":"linear","factor":4}"#,
    );
    let both = both.unwrap();
    assert_eq!((both.rope_scaling, both.rope_theta), (RopeScaling::Linear(4.0), 1e4));
}

#[test]
fn unimplemented_features_are_refused_by_name() {
    for (rest, name) in [
        (r#""model_type":"gemma4""#, "gemma4"),
        (r#""model_type":"llama","rope_scaling":{"rope_type":"axial","factor":4}"#, "axial"),
        (
            r#""model_type":"llama","partial_rotary_factor":0.5,"rope_scaling":{"type":"linear","factor":2}"#,
            "partial_rotary_factor=0.5",
        ),
        (r#""model_type":"llama","hidden_act":"quick_gelu""#, "hidden_act=quick_gelu"),
        (r#""model_type":"llama","quantization_config":{"bits":4}"#, "quantization_config"),
        (r#""model_type":"qwen2","layer_types":["linear_attention"]"#, "linear_attention"),
    ] {
        let message = parse(rest).unwrap_err().to_string();
        assert!(message.contains(name) && message.contains("m/config.json"), "{message}");
    }
    let message = Config::parse("{\"model_type\":\"llama\"}", Path::new("c")).unwrap_err().to_string();
    assert!(message.contains("`hidden_size` is missing"), "{message}");
}

/// What a family's class has and is not implemented, or contradicts itself, is named with its place.
#[test]
fn a_familys_unread_and_contradictory_fields_are_refused_by_name() {
    let longrope = |short: &str, long: &str| {
        format!(
            r#""model_type":"phi3","rope_scaling":{{"type":"longrope","short_factor":{short},"long_factor":{long}}}"#
        )
    };
    let eight = "[1,1,1,1,1,1,1,1]";
    assert!(parse(&longrope(eight, eight)).is_ok());
    for (rest, name) in [
        (longrope("[1,2]", eight), "`short_factor` has 2 factors, but the model has 8"),
        (longrope(eight, "null"), "lacks `long_factor`"),
        (longrope(eight, "[1,1,1,1,1,1,1,-1]"), "lacks `long_factor`"),
        (r#""model_type":"llama","rope_scaling":{"rope_type":"yarn"}"#.into(), "`yarn` lacks a positive `factor`"),
        (
            r#""model_type":"llama","max_position_embeddings":null,"rope_scaling":{"type":"dynamic","factor":2}"#
                .into(),
            "`dynamic` without `max_position_embeddings`",
        ),
        (
            r#""model_type":"llama","rope_parameters":{"full_attention":{"rope_type":"default"}}"#.into(),
            "one rope for all layers",
        ),
        (r#""model_type":"gemma3_text","rope_parameters":{"rope_type":"default"}"#.into(), "`full_attention`"),
        (r#""model_type":"gemma3_text","use_bidirectional_attention":true"#.into(), "use_bidirectional_attention"),
        (r#""model_type":"gemma2","layer_types":["full_attention"]"#.into(), "`layer_types` names 1 layers"),
        (r#""model_type":"gemma2","sliding_window":null"#.into(), "`sliding_window` is null"),
        (
            r#""model_type":"qwen2","layer_types":["full_attention","sliding_attention"]"#.into(),
            "`use_sliding_window` is false",
        ),
        (r#""model_type":"phi3","rope_scaling":{"type":"linear","factor":2}"#.into(), "the rope scaling `linear`"),
        (r#""model_type":"llama","rope_scaling":"linear""#.into(), "`rope_scaling` is \"linear\", not an object"),
        (
            r#""model_type":"llama","rope_parameters":{"rope_type":"default","rope_theta":-1}"#.into(),
            "`rope_theta` is -1",
        ),
        (
            r#""model_type":"llama","rope_scaling":{"type":"yarn","factor":2,"attention_factor":0}"#.into(),
            "`attention_factor` is 0",
        ),
        (r#""model_type":"gpt_neox","head_dim":8"#.into(), "`head_dim=8`"),
        (r#""model_type":"phi3","partial_rotary_factor":1.5"#.into(), "partial_rotary_factor"),
        (r#""model_type":"smollm3","no_rope_layers":[1]"#.into(), "no_rope_layers"),
        (r#""model_type":"stablelm","use_parallel_residual":true"#.into(), "use_parallel_residual"),
        (r#""model_type":"stablelm","qk_layernorm":true"#.into(), "qk_layernorm"),
        (r#""model_type":"cohere","use_qk_norm":true"#.into(), "use_qk_norm"),
        (
            r#""model_type":"gpt_neox","num_key_value_heads":4,"rope_parameters":{"partial_rotary_factor":0.2}"#.into(),
            "`partial_rotary_factor=0.2` RoPE rotates 3 dimensions",
        ),
        (r#""model_type":"mixtral","output_router_logits":true"#.into(), "output_router_logits"),
        (r#""model_type":"mixtral","router_jitter_noise":0.1"#.into(), "router_jitter_noise=0.1"),
        (r#""model_type":"mixtral","num_experts_per_tok":9"#.into(), "is 9, but the model has 8 experts"),
        (r#""model_type":"qwen3_moe","num_experts":123456789"#.into(), "`num_experts=123456789`"),
        (r#""model_type":"qwen3_moe","mlp_only_layers":[-1]"#.into(), "`mlp_only_layers` is [-1]"),
        (r#""model_type":"qwen3_moe","decoder_sparse_step":0"#.into(), "`decoder_sparse_step` is 0"),
        (r#""model_type":"qwen2_moe","use_sliding_window":true"#.into(), "use_sliding_window"),
        (r#""model_type":"olmoe","clip_qkv":8"#.into(), "clip_qkv"),
        (r#""model_type":"gpt2","num_key_value_heads":4,"add_cross_attention":true"#.into(), "add_cross_attention"),
        (
            r#""model_type":"gpt2","num_key_value_heads":4,"scale_attn_by_inverse_layer_idx":true"#.into(),
            "scale_attn_by_inverse_layer_idx",
        ),
        (r#""model_type":"gemma4_text","enable_moe_block":true"#.into(), "enable_moe_block=true"),
        (r#""model_type":"gemma4_text","use_bidirectional_attention":"all""#.into(), "use_bidirectional_attention"),
        (r#""model_type":"gemma4_text","vocab_size_per_layer_input":9"#.into(), "`vocab_size_per_layer_input` is 9"),
        (r#""model_type":"gemma4_text","hidden_size_per_layer_input":-1"#.into(), "`hidden_size_per_layer_input` is -1"),
        (r#""model_type":"gemma4_text","global_head_dim":7"#.into(), "`global_head_dim` 7 is odd"),
        (r#""model_type":"gemma4_text","num_kv_shared_layers":2"#.into(), "`num_kv_shared_layers=2`"),
        (r#""model_type":"gemma4_text","num_kv_shared_layers":1"#.into(), "`num_kv_shared_layers=1`"),
        (r#""model_type":"gemma4_text","layer_types":["full_attention"]"#.into(), "`layer_types` names 1 layers"),
        (r#""model_type":"gemma4_text","per_layer_config":{"0":{"head_dim":8}}"#.into(), "`per_layer_config` of layer 0"),
        (r#""model_type":"gemma4_text","per_layer_config":{"1":{"window":8}}"#.into(), "`per_layer_config` of layer 1"),
        (r#""model_type":"gemma4_text","per_layer_config":{"last":{}}"#.into(), "`per_layer_config` of layer last"),
        (
            r#""model_type":"gemma4_text","attention_k_eq_v":true,"num_global_key_value_heads":3"#.into(),
            "cannot share 3 key heads",
        ),
        (
            r#""model_type":"gemma4_text","rope_parameters":{"full_attention":{"rope_type":"proportional","partial_rotary_factor":0}}"#
                .into(),
            "`partial_rotary_factor`",
        ),
        (r#""model_type":"gpt2","num_key_value_heads":4,"n_layer":"two""#.into(), "`n_layer` is \"two\""),
        (r#""model_type":"gpt2","num_key_value_heads":4,"n_positions":null"#.into(), "longest context"),
        (r#""model_type":"gpt2","num_key_value_heads":4,"n_positions":0"#.into(), "`n_positions` is 0"),
        (r#""model_type":"granite","logits_scaling":0"#.into(), "logits_scaling"),
    ] {
        let message = parse(&rest).unwrap_err().to_string();
        assert!(message.contains(name) && message.contains("m/config.json"), "{rest}: {message}");
    }
}

#[test]
fn the_text_part_of_a_whole_model_has_the_tokens_beside_it() {
    let text = format!(
        r#"{{"model_type":"gemma3","eos_token_id":[1,106],"text_config":{{{BASE},"model_type":"gemma3_text","eos_token_id":7}}}}"#
    );
    let whole = Config::parse(&text, Path::new("c")).unwrap();
    assert_eq!((whole.family.name(), whole.eos, whole.local_rope.unwrap().theta), ("gemma3_text", vec![1, 106], 1e4));
    let message =
        Config::parse(r#"{"model_type":"gemma3","vision_config":{}}"#, Path::new("c")).unwrap_err().to_string();
    assert!(message.contains("`gemma3`"), "{message}");
}

#[test]
fn the_layers_with_experts_are_those_that_the_class_gives_them() {
    let of = |rest: &str| {
        let config = parse(&format!(r#""model_type":"qwen3_moe","num_hidden_layers":6,{rest}"#)).unwrap();
        let layers = (0..6).filter(|i| config.experts_of(*i).is_some()).collect::<Vec<_>>();
        (layers, config.parameters())
    };
    let counted = |rest: &str| {
        let config = parse(&format!(r#""model_type":"qwen3_moe","num_hidden_layers":6,{rest}"#)).unwrap();
        config.tensors().map(|(_, shape)| shape.iter().product::<usize>() as u64).sum::<u64>()
    };
    for (rest, layers) in [
        (r#""num_experts":3,"num_experts_per_tok":1"#, vec![0, 1, 2, 3, 4, 5]),
        (r#""num_local_experts":3,"num_experts_per_tok":1,"mlp_only_layers":[]"#, vec![0, 1, 2, 3, 4, 5]),
        (r#""num_experts":3,"num_experts_per_tok":1,"decoder_sparse_step":2"#, vec![1, 3, 5]),
        (r#""num_experts":3,"num_experts_per_tok":1,"decoder_sparse_step":2,"mlp_only_layers":[3,0]"#, vec![1, 5]),
        (r#""num_experts":3,"num_experts_per_tok":1,"mlp_only_layers":[5]"#, vec![0, 1, 2, 3, 4]),
        (r#""num_experts":0"#, vec![]),
    ] {
        assert_eq!(of(rest), (layers, counted(rest)), "{rest}");
    }
}

/// Each class reads the number of experts under its own names.
#[test]
fn the_number_of_experts_has_the_names_that_the_class_reads() {
    let count = |kind: &str, key: &str| {
        let config = parse(&format!(r#""model_type":"{kind}","{key}":9"#)).unwrap();
        config.layer.experts.map(|experts| experts.count)
    };
    for (kind, other) in [("qwen2_moe", 60), ("qwen3_moe", 9), ("mixtral", 9), ("olmoe", 9), ("gpt_oss", 9)] {
        assert_eq!((count(kind, "num_experts"), count(kind, "num_local_experts")), (Some(9), Some(other)), "{kind}");
    }
    assert_eq!(count("llama", "num_experts"), None);
}
