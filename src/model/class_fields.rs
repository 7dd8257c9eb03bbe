//! Which fields of config.json a family's class reads.
//!
//! Owns the choice: a field that the class does not read changes nothing here either, as in `transformers`, and is said. Refuses by name
//! the fields that every class obeys and that are not implemented.

use super::error::Error;
use super::family_spec::Family;
use super::fields::Fields;
use serde_json::{Map, Value};

/// What every class reads.
const READ_BY_ALL: &[&str] = &[
    "model_type",
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
    "tie_word_embeddings",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "quantization_config",
    "is_causal",
    "per_layer_config",
];

/// What every class with RoPE reads besides its own fields of it. Of the share of a head most obey only that it is 1.
const ROPE: &[&str] = &["rope_parameters", "original_max_position_embeddings", SHARE];
const SHARE: &str = "partial_rotary_factor";

/// Fields from which no class computes anything in evaluation: the files' own affairs, training's, generation's.
const NOT_COMPUTED: &[&str] = &[
    "add_bos_token",
    "add_eos_token",
    "architectures",
    "attention_dropout",
    "attn_implementation",
    "attn_pdrop",
    "auto_map",
    "bad_words_ids",
    "base_model_tp_plan",
    "begin_suppress_tokens",
    "cache_implementation",
    "chunk_size_feed_forward",
    "classifier_dropout",
    "cls_token_id",
    "cross_attention_hidden_size",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dtype",
    "early_stopping",
    "embd_pdrop",
    "embedding_dropout",
    "encoder_no_repeat_ngram_size",
    "experts_per_token",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "gradient_checkpointing",
    "hidden_dropout",
    "id2label",
    "initial_context_length",
    "initializer_range",
    "is_composition",
    "is_decoder",
    "is_encoder_decoder",
    "is_llama_config",
    "keys_to_ignore_at_inference",
    "label2id",
    "length_penalty",
    "max_length",
    "max_new_tokens",
    "min_length",
    "model_max_length",
    "model_name",
    "n_ctx",
    "name_or_path",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_labels",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "output_scores",
    "prefix",
    "pretraining_tp",
    "problem_type",
    "pruned_heads",
    "remove_invalid_values",
    "reorder_and_upcast_attn",
    "repetition_penalty",
    "resid_pdrop",
    "residual_dropout",
    "return_dict",
    "return_dict_in_generate",
    "router_aux_loss_coef",
    "sep_token_id",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "text_config",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "typical_p",
    "unsloth_fixed",
    "unsloth_version",
    "use_bfloat16",
    "use_cache",
];

/// Fields named at most in the sentence.
const SHOWN: usize = 8;
/// Characters of a value at most.
const SHOWN_VALUE: usize = 40;

fn is_read(key: &str, family: &Family) -> bool {
    let d = &family.defaults;
    let named = [d.theta_key, d.eps_key, d.activation_key];
    let with_rope = (family.layer)().rope != super::layer::LayerPattern::None;
    READ_BY_ALL.contains(&key)
        || family.reads.contains(&key)
        || named.contains(&key)
        || d.aliases.iter().any(|(_, own)| *own == key)
        || (with_rope && (ROPE.contains(&key) || (key == "rope_scaling" && !d.theta_key.is_empty())))
}

/// The fields that the class reads.
pub(super) fn of_class(map: &Map<String, Value>, family: &Family) -> Map<String, Value> {
    map.iter().filter(|(key, _)| is_read(key, family)).map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Says which fields of config.json the class does not read, but for those that say nothing and those of no computation.
pub(super) fn unread(map: &Map<String, Value>, family: &Family) -> Option<String> {
    let says_nothing = |value: &Value| match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    };
    // Names with a dot or an underscore in front are other programs' own.
    let own =
        |key: &str| key.starts_with('_') || key.contains('.') || key.contains("token_id") || key.contains("summary_");
    let read = |key: &str| is_read(key, family) && (key != SHARE || family.reads.contains(&SHARE));
    let beside = map.iter().filter(|(key, value)| {
        !read(key) && !NOT_COMPUTED.contains(&key.as_str()) && !own(key) && !says_nothing(value)
    });
    let ropes = ["rope_parameters", "rope_scaling"].iter().filter_map(|key| map.get(*key)?.as_object());
    let ropes = ropes.filter(|_| !family.defaults.rotates_a_share && family.defaults.local_theta.is_none());
    let shares = ropes.flat_map(|rope| rope.iter().filter(|(key, _)| *key == SHARE));
    let mut unread: Vec<String> = beside
        .chain(shares)
        .filter(|(key, value)| *key != SHARE || value.as_f64() != Some(1.0))
        .map(|(key, value)| {
            let text = value.to_string();
            let cut: String = text.chars().take(SHOWN_VALUE).collect();
            let more = if cut.len() < text.len() { "…" } else { "" };
            format!("{key}={cut}{more}")
        })
        .collect();
    if unread.is_empty() {
        return None;
    }
    let more = unread.len().saturating_sub(SHOWN);
    unread.truncate(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Some(format!(
        "config.json has fields that the class `{}` does not read, so they change nothing, as in `transformers`: {}{more}.",
        family.class,
        unread.join(", ")
    ))
}

/// Refuses the fields that every class of transformers 5 obeys.
pub(super) fn refuse_for_all(f: &Fields<'_>, family: &Family) -> Result<(), Error> {
    if f.get("is_causal").and_then(Value::as_bool) == Some(false) {
        return Err(f.refuse("`is_causal=false`", "only causal attention is implemented"));
    }
    // Gemma 4 has its own reading.
    let each = f.get("per_layer_config").filter(|_| !family.reads.contains(&"per_layer_config"));
    for (layer, fields) in each.and_then(Value::as_object).into_iter().flatten() {
        let other = fields.as_object().and_then(|fields| fields.iter().find(|(key, value)| f.get(key) != Some(value)));
        if let Some((key, value)) = other {
            let what = format!("`per_layer_config` of layer {layer} with `{key}={value}`");
            return Err(f.refuse(what, "the layers of this family are alike"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::family;
    use crate::model::family_spec::Defaults;

    #[test]
    fn every_name_stands_in_one_list() {
        for family in family::FAMILIES {
            let Defaults { theta_key, eps_key, activation_key, .. } = family.defaults;
            for key in family.reads {
                let elsewhere = READ_BY_ALL.contains(key) && *key != "per_layer_config";
                assert!(!elsewhere && ![theta_key, eps_key, activation_key].contains(key), "{}: {key}", family.name());
            }
        }
        assert!(READ_BY_ALL.iter().all(|key| !NOT_COMPUTED.contains(key)));
        assert!(NOT_COMPUTED.is_sorted());
    }
}
