//! The memory formula: the activations that a pass saves per token, and the peak memory of a training run.
//!
//! Owns the element counts for each backend, from a model's `LayerSpec` and dimensions. The CPU backend uses the same
//! counts to decide which layers' activations it saves, and the launch form shows them. Refuses to query a device: see `device`.

use crate::model::config::Config;
use crate::model::layer::{LinearSpec, QkNorm};
use crate::model::tune::Tune;

/// Bytes per element of the compute type, f32.
pub(crate) const BYTES: u64 = 4;
/// Program, tokenizer, libraries and the allocator's slack.
const PROGRAM: u64 = 24 << 20;
/// Positions whose logits exist at once.
const CHUNK: u64 = 256;
/// Arrays of the size of these logits that exist at once.
const LOGITS: u64 = 6;
/// Vocabulary entries whose logits exist at once on the CPU.
pub(crate) const VOCAB_BLOCK: usize = 1024;
/// Logits that exist at once on an accelerator.
const DEVICE_LOGITS: usize = 1 << 26;

/// Scored tokens whose logits exist at once on an accelerator, for a vocabulary of this size.
pub(crate) fn logits_chunk(vocab: usize) -> usize {
    (DEVICE_LOGITS / vocab.max(1)).clamp(64, 2048)
}

/// Elements that the CPU backend saves per token of layer `i` besides the layer's input; `low` is the sum of the adapters' ranks.
/// Queries and keys after RoPE, values, attention's output and log-sum-exp, the residual stream after attention, gate and up;
/// the inputs of norms on queries, keys and values and of norms after a block; of the second input the stream before it, gate, part
/// and the norm's input.
pub(crate) fn kept_on_cpu(c: &Config, i: usize, low: usize) -> usize {
    let shape = c.shape_of(i);
    let (q, kv) = (shape.q_width(), if shape.source().is_none() { shape.kv_width() } else { 0 });
    let raw = if c.layer.qk_norm == QkNorm::No { 0 } else { q + kv };
    let raw = raw + if c.layer.value_norm { kv } else { 0 };
    let per_layer = c.layer.per_layer.map_or(0, |spec| 2 * c.hidden + 2 * spec.width);
    let ff = if c.experts_of(i).is_some() { 0 } else { shape.ff };
    2 * q + 2 * kv + raw + c.heads + c.hidden + after(c) + 2 * ff + per_layer + low
}

/// Bytes of the same on an accelerator, with `narrow` bytes per activation, but f32 for the residual stream and log-sum-exp.
fn kept_on_cuda(c: &Config, low: usize, narrow: u64) -> u64 {
    let (q, kv) = (c.q_width(), c.kv_width());
    let raw = if c.layer.qk_norm == QkNorm::No { 0 } else { q + 2 * kv };
    narrow * (2 * q + 2 * kv + raw + after(c) + 2 * c.ff + low) as u64 + BYTES * (c.hidden + c.heads) as u64
}

/// Elements per token that norms after attention and after the feed-forward read.
fn after(c: &Config) -> usize {
    if c.layer.norms.after() { 2 * c.hidden } else { 0 }
}

/// Elements per token of the layers' second input, and of its gradient where its parameters are trained.
fn second_input(c: &Config, tune: &Tune) -> u64 {
    let all = c.layer.per_layer.map_or(0, |spec| c.layers.saturating_mul(spec.width) as u64);
    if *tune == Tune::Full { 2 * all } else { all }
}

/// The sum of the adapters' ranks in layer `i`.
fn low(c: &Config, i: usize, tune: &Tune) -> usize {
    let Tune::Lora(lora) = tune else { return 0 };
    lora.largest_rank() * c.linears_of(i).iter().filter(|spec| lora.adapts(spec)).count()
}

/// The size of one group of sequences that go through the decoder together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PassSize {
    /// Sequences.
    pub(crate) rows: u64,
    /// Tokens of the longest.
    pub(crate) length: u64,
    /// Scored positions.
    pub(crate) scored: u64,
    /// Tokens without padding; on the fast path, with shared prefixes counted once.
    pub(crate) tokens: u64,
}

/// Trainable parameters of `tune`.
pub(crate) fn trainable(c: &Config, tune: &Tune) -> u64 {
    let Tune::Lora(lora) = tune else {
        return if *tune == Tune::Full { c.parameters() } else { 0 };
    };
    // A is (r, in), B is (out, r), DoRA's magnitudes are (out).
    let adapter = |layer: usize, spec: LinearSpec| {
        let found = lora.adapter_of(&c.layer_name(layer, spec.name), &spec);
        found.map_or(0, |(r, _)| r * (spec.width + spec.out) + if lora.dora { spec.out } else { 0 })
    };
    let layer = |layer: usize| c.linears_of(layer).into_iter().map(|spec| adapter(layer, spec)).sum::<usize>();
    (0..c.layers).map(layer).sum::<usize>() as u64
}

/// Bytes of activations for a micro-batch: every layer's input for all groups, and for one group at a time the larger of a layer's
/// graph and the head's chunk. A layer's graph with its gradients holds these arrays:
/// 10 of the attention's T×T, 9 of the feed-forward width, 30 of the hidden width; DoRA adds two after each linear module.
pub(crate) fn work_reference(c: &Config, tune: &Tune, groups: &[PassSize]) -> u64 {
    let (hidden, ff, heads) = (c.hidden as u64, c.token_ff() as u64, c.heads as u64);
    let (wide, narrow) = if matches!(tune, Tune::Lora(l) if l.dora) { (13, 40) } else { (9, 30) };
    let second = second_input(c, tune);
    let kept: u64 = groups.iter().map(|g| g.rows * g.length * (hidden * (c.layers as u64 + 1) + second)).sum();
    let at_once = |g: &PassSize| {
        let n = g.rows * g.length;
        let layer = 10 * heads * n * g.length + wide * n * ff + narrow * n * hidden;
        layer.max(LOGITS * g.scored.min(CHUNK) * c.vocab as u64)
    };
    (kept + groups.iter().map(at_once).max().unwrap_or(0)) * BYTES
}

/// As [`work_reference`] on the CPU's fast path: every layer's input, other activations of as many layers as fit in `room` bytes,
/// and one state per scored token. Also returns the number of layers whose activations are all saved.
pub(crate) fn work_cpu(c: &Config, tune: &Tune, groups: &[PassSize], room: u64) -> (u64, u64) {
    let (hidden, ff, q) = (c.hidden as u64, c.token_ff() as u64, c.q_width() as u64);
    // Of a layer on average; a damaged file may name any number of layers.
    let seen = c.layers.clamp(1, 4096);
    let all: u64 = (0..seen).map(|i| kept_on_cpu(c, i, low(c, i, tune)) as u64).sum();
    let rest = all.div_ceil(seen as u64);
    let second = second_input(c, tune);
    let inputs = |g: &PassSize| g.tokens * (hidden * (c.layers as u64 + 1) + second) + g.scored * hidden;
    let rest = groups.iter().map(|g| g.tokens * rest).sum::<u64>();
    let layers = kept_layers(c, rest * BYTES, room);
    let kept = groups.iter().map(inputs).sum::<u64>() + rest * layers;
    let at_once = |g: &PassSize| {
        let layer = g.tokens * (4 * ff + 4 * q + 3 * hidden);
        layer.max(g.scored * (VOCAB_BLOCK as u64).min(c.vocab as u64))
    };
    ((kept + groups.iter().map(at_once).max().unwrap_or(0)) * BYTES, layers)
}

/// How many layers' activations fit in `room` at `bytes` per layer.
fn kept_layers(c: &Config, bytes: u64, room: u64) -> u64 {
    (c.layers as u64).min(room.checked_div(bytes).unwrap_or(u64::MAX))
}

/// As [`work_cpu`] on another device: saved activations other than the residual stream have `narrow` bytes per element and take
/// at most `room` bytes, and a chunk's logits exist in f32 together with their softmax.
pub(crate) fn work_cuda(c: &Config, tune: &Tune, groups: &[PassSize], narrow: u64, room: u64) -> (u64, u64) {
    let (hidden, ff, layers, q) = (c.hidden as u64, c.ff as u64, c.layers as u64, c.q_width() as u64);
    let rest = kept_on_cuda(c, low(c, 0, tune), narrow);
    let inputs: u64 = groups.iter().map(|g| BYTES * hidden * (g.tokens * (layers + 1) + g.scored)).sum();
    let rest = groups.iter().map(|g| g.tokens * rest).sum::<u64>();
    let whole = kept_layers(c, rest, room);
    let kept = inputs + rest * whole;
    let chunk = logits_chunk(c.vocab) as u64;
    let at_once = |g: &PassSize| {
        let layer = g.tokens * (narrow * (6 * ff + 6 * q) + BYTES * 4 * hidden);
        layer.max(g.scored.min(chunk) * c.vocab as u64 * (BYTES + narrow))
    };
    (kept + groups.iter().map(at_once).max().unwrap_or(0), whole)
}

/// Peak memory of a run in bytes: the larger of loading (the weights, and their file of half the size while it is read) and of
/// a step (the weights, the trainables with gradients and two moments, and `work` or the update), plus `others` models
/// of the same size.
///
/// Compared with the peak resident size (VmHWM) of SmolLM2-135M (f32 from bf16) on Linux's CPU. Fast path, rank 16 on all
/// linear modules, MiB predicted and used: DPO on four pairs of 256, 512, 1,024 and 2,048 tokens 1,213 and 1,228, 1,256 and 1,272,
/// 1,278 and 1,292, 1,966 and 1,978; 128 pairs of 256 tokens a step 1,214 and 1,238. Rows of at most 640 tokens: SFT of all weights
/// 2,758 and 2,747; PPO on answers of at most 32 tokens 3,902 and 3,726, GRPO 4,665 and 4,338. Of `tiny`: DPO with adapters 66 and
/// 61, of all weights 77 and 76. Reference path, LoRA: rows of 140, 320 and 1,024 tokens 1,008 and 938, 1,107 and 1,095, 2,165 and
/// 2,242. Not measured on a GPU, where frozen weights have `narrow` bytes per element.
pub(crate) fn memory(c: &Config, tune: &Tune, trainable: u64, work: u64, others: u64, narrow: u64) -> u64 {
    let weights = weights(c, tune, narrow);
    let loading = weights + c.parameters() * 2;
    // On a device with its own memory, a few temporaries of the largest tensor's size, the embedding's, exist during its update.
    let update = if *tune == Tune::Full && narrow < BYTES { 6 * (c.vocab * c.hidden) as u64 } else { 0 };
    let step = weights + (trained(tune, trainable) + update) * BYTES + work;
    PROGRAM + others * weights + loading.max(step)
}

/// Bytes of the weights; trainables are f32 whatever the type of the rest.
pub(crate) fn weights(c: &Config, tune: &Tune, narrow: u64) -> u64 {
    c.parameters() * if *tune == Tune::Full { BYTES } else { narrow }
}

/// Elements for the trainables besides the weights: gradients and two moments, and an adapter's own parameters.
pub(crate) fn trained(tune: &Tune, trainable: u64) -> u64 {
    trainable * if *tune == Tune::Full { 3 } else { 4 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::LanguageModel;
    use candle_core::Device;
    use std::path::Path;

    #[test]
    fn trainable_parameters_are_counted_as_in_the_decoder() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-llama");
        let model = LanguageModel::open(&dir).unwrap();
        let lora = |targets: &[&str]| {
            let dora = targets.len() > 2;
            let targets = targets.iter().map(|t| (*t).to_owned()).collect();
            Tune::Lora(crate::model::LoraSpec { dora, targets, ..crate::model::LoraSpec::plain(4, 8.0) })
        };
        for tune in [lora(&crate::model::LINEARS), lora(&["k_proj", "down_proj"]), Tune::Full, Tune::None] {
            let decoder = model.decoder(&Device::Cpu, &tune).unwrap();
            let real: usize = decoder.trainables().iter().map(|(_, v)| v.elem_count()).sum();
            assert_eq!(trainable(&model.config, &tune), real as u64, "{tune:?}");
        }
    }

    #[test]
    fn predicted_memory_is_within_a_fifth_of_the_measured() {
        let text = r#"{"model_type":"llama","hidden_size":576,"num_attention_heads":9,"num_key_value_heads":3,
            "num_hidden_layers":30,"intermediate_size":1536,"vocab_size":49152,"tie_word_embeddings":true}"#;
        let c = Config::parse(text, Path::new("smollm2")).unwrap();
        assert_eq!(c.parameters(), 134_515_008);
        let lora = crate::model::LoraSpec::plain(16, 32.0);
        let tune = Tune::Lora(lora);
        for (length, measured) in [(140, 938.0), (320, 1095.0), (1024, 2242.0)] {
            let pairs = [PassSize { rows: 2, length, scored: 2 * length, tokens: 2 * length }; 4];
            let bytes = memory(&c, &tune, trainable(&c, &tune), work_reference(&c, &tune, &pairs), 0, BYTES);
            let off = bytes as f64 / f64::from(1 << 20) / measured - 1.0;
            assert!(off.abs() < 0.2, "{length} tokens: {off}");
        }
    }

    #[test]
    fn memory_grows_with_the_micro_batch() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-llama");
        let c = LanguageModel::open(&dir).unwrap().config;
        let of = |groups: &[PassSize]| work_reference(&c, &Tune::None, groups);
        let group = |rows, length| PassSize { rows, length, scored: 1, tokens: rows * length };
        assert!(of(&[group(64, 512)]) > of(&[group(32, 512); 2]));
        assert!(of(&[group(32, 512); 2]) > of(&[group(32, 512)]) && of(&[group(32, 512)]) > of(&[group(32, 256)]));
    }
}
