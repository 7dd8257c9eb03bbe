//! A small untrained model: random weights, a tokenizer trained on the demo generator's text, a chat template.
//!
//! Owns the files of its Hugging Face folder. Refuses invalid shapes and non-empty folders. The same specification gives the
//! same folder.

use crate::demo::exchange;
use crate::model::config::Config;
use crate::model::error::Error;
use crate::model::layer::LinearSpec;
use crate::model::sink::Sink;
use crate::model::staged_folder::StagedFolder;
use crate::model::trained::write_tensors;
use crate::nn::random::{stream, uniform};
use crate::protocol::{FreshSpec, RunEvent};
use candle_core::{DType, Device, Tensor};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, NormalizerWrapper, TokenizerBuilder};

/// End of text and padding; id 0.
const END_OF_TEXT: &str = "<|endoftext|>";
/// Start of a turn; id 1.
const TURN: &str = "<|im_start|>";
/// End of a turn and of every answer; id 2.
const END_OF_TURN: &str = "<|im_end|>";
/// ChatML as in SmolLM2 and Qwen, without a default system prompt.
const TEMPLATE: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + \
                        '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' \
                        }}{% endif %}";
/// Training exchanges of the tokenizer, and their seed. Fixed, so that all models from here share a tokenizer.
const TEXTS: u64 = 8000;
const TEXT_SEED: u64 = 0;
/// Standard deviation of the weights.
const DEVIATION: f64 = 0.02;

/// Writes the folder of an untrained model to `out`: config.json, generation_config.json, tokenizer.json,
/// tokenizer_config.json and model.safetensors (f16, which [`crate::model::merge::Precision::AsBase`] keeps).
///
/// Weights are N(0, 0.02²); projections into the residual stream are divided by √(2·layers) (Radford et al. 2019, Language
/// Models are Unsupervised Multitask Learners, §2.3). Norms are 1; the head is tied to the embedding.
///
/// # Errors
/// When the shape is invalid, or `out` is not empty or cannot be written.
pub fn make(spec: &FreshSpec, out: &Path, sink: &mut dyn Sink) -> Result<(), Error> {
    let total = 3;
    if spec.heads == 0 || !spec.hidden.is_multiple_of(2 * spec.heads) {
        return Err(Error::Invalid(format!(
            "--hidden {} does not fit --heads {}: --hidden must be a multiple of 2 × --heads",
            spec.hidden, spec.heads
        )));
    }
    let place = StagedFolder::new(out)?;
    sink.emit(RunEvent::Progressed { stage: "training the tokenizer".into(), done: 0, total })?;
    let (tokenizer, vocab) = tokenizer(spec.vocab)?;
    let config = config(spec, vocab);
    let shape = Config::parse(&config.to_string(), &out.join("config.json"))?;
    place.json("config.json", &config)?;
    place.json("generation_config.json", &json!({"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 0}))?;
    place.json(
        "tokenizer_config.json",
        &json!({
            "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": END_OF_TEXT, "eos_token": END_OF_TURN,
            "pad_token": END_OF_TEXT, "model_max_length": spec.context, "clean_up_tokenization_spaces": false,
            "chat_template": TEMPLATE,
        }),
    )?;
    let path = place.file("tokenizer.json");
    std::fs::write(&path, tokenizer).map_err(|e| Error::write(&path, &e))?;
    sink.emit(RunEvent::Progressed { stage: "initialising weights".into(), done: 1, total })?;
    let tensors = weights(&shape, spec.seed)?;
    sink.emit(RunEvent::Progressed { stage: "writing".into(), done: 2, total })?;
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    write_tensors(&place.file("model.safetensors"), &tensors, metadata)?;
    place.finish()?;
    sink.emit(RunEvent::Progressed { stage: "written".into(), done: total, total })
}

fn config(spec: &FreshSpec, vocab: usize) -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": spec.hidden,
        "num_hidden_layers": spec.layers, "num_attention_heads": spec.heads, "num_key_value_heads": spec.kv_heads,
        "head_dim": spec.hidden / spec.heads, "intermediate_size": spec.ff, "vocab_size": vocab, "hidden_act": "silu",
        "rope_theta": 10000.0, "rms_norm_eps": 1e-5, "tie_word_embeddings": true, "attention_bias": false,
        "mlp_bias": false, "initializer_range": DEVIATION, "max_position_embeddings": spec.context,
        "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 0, "torch_dtype": "float16",
    })
}

/// A byte-level BPE of at most `size` entries (Sennrich et al. 2016, over bytes as in GPT-2), as tokenizer.json,
/// and its number of entries. Any text round-trips, since every byte is an entry.
fn tokenizer(size: usize) -> Result<(String, usize), Error> {
    let fail = |e: tokenizers::Error| Error::Tokenizer { model: "the new model".into(), why: e.to_string() };
    let mut tokenizer = TokenizerBuilder::new()
        .with_model(BPE::default())
        .with_normalizer(None::<NormalizerWrapper>)
        .with_pre_tokenizer(Some(ByteLevel::new(false, true, true)))
        .with_post_processor(None::<ByteLevel>)
        .with_decoder(Some(ByteLevel::new(false, true, true)))
        .build()
        .map_err(fail)?;
    let special = [END_OF_TEXT, TURN, END_OF_TURN].map(|text| AddedToken::from(text, true));
    let mut trainer = BpeTrainerBuilder::new()
        .show_progress(false)
        .vocab_size(size)
        .min_frequency(2)
        .special_tokens(special.to_vec())
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    // Turns as in the template, so that role names become tokens too.
    let texts = (0..TEXTS).flat_map(|n| {
        let e = exchange(TEXT_SEED, n);
        [format!("user\n{}\n", e.prompt), format!("assistant\n{}\n", e.answer)]
    });
    tokenizer.train(&mut trainer, texts).map_err(fail)?;
    let entries = tokenizer.get_vocab_size(true);
    Ok((tokenizer.to_string(true).map_err(fail)?, entries))
}

/// Every tensor by its Hugging Face name, in f16. Each has its own random stream, numbered in the model's order.
fn weights(c: &Config, seed: u64) -> Result<BTreeMap<String, Tensor>, Error> {
    let into_stream = DEVIATION / (2.0 * c.layers as f64).sqrt();
    let writes_residual = |spec: &&LinearSpec| matches!(spec.target(), "o_proj" | "down_proj");
    let linears = c.linears();
    let residual: Vec<_> = linears.iter().filter(writes_residual).map(|spec| spec.name).collect();
    let mut tensors = BTreeMap::new();
    for (k, (name, shape)) in c.tensors().enumerate() {
        let count = shape.iter().product();
        let deviation = match c.named(&name) {
            Some((_, part)) if residual.contains(&part) => into_stream,
            _ => DEVIATION,
        };
        let numbers =
            if c.is_norm(&name) { vec![1.0; count] } else { normals(&mut stream(seed, k as u64), count, deviation) };
        tensors.insert(name, Tensor::from_vec(numbers, shape, &Device::Cpu)?.to_dtype(DType::F16)?);
    }
    Ok(tensors)
}

/// Samples of N(0, deviation²) (Box and Muller 1958).
fn normals(rng: &mut ChaCha8Rng, count: usize, deviation: f64) -> Vec<f32> {
    let mut out = Vec::with_capacity(count + 1);
    while out.len() < count {
        // 1 − u is in (0, 1], so its logarithm is finite.
        let radius = deviation * (-2.0 * (1.0 - uniform(rng)).ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * uniform(rng)).sin_cos();
        out.extend([(radius * cos) as f32, (radius * sin) as f32]);
    }
    out.truncate(count);
    out
}

#[cfg(test)]
mod tests;
