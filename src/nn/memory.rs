//! The memory formula: what a pass keeps of every token, and what a training run takes at its peak.
//!
//! Owns the counts of numbers for each backend, from a model's `LayerSpec` and dimensions. The CPU's backend decides by the same
//! counts which layers it keeps, and the launch form shows them. Refuses to ask a device: see `device` for what is free.

use crate::model::config::Config;
use crate::model::layer::{LinearSpec, QkNorm};
use crate::model::tune::{LINEARS, Tune};

/// Bytes of a number in the compute type, f32.
pub(crate) const BYTES: u64 = 4;
/// Program, tokenizer, libraries and the allocator's slack.
const PROGRAM: u64 = 24 << 20;
/// Positions whose logits exist at one time.
const CHUNK: u64 = 256;
/// Arrays of the size of these logits.
const LOGITS: u64 = 6;
/// Tokens of the vocabulary whose logits exist at one time on the CPU.
pub(crate) const VOCAB_BLOCK: usize = 1024;
/// Logits that exist at one time on an accelerator.
const DEVICE_LOGITS: usize = 1 << 26;

/// Scored tokens whose logits exist at one time on an accelerator, of a vocabulary so large.
pub(crate) fn logits_chunk(vocab: usize) -> usize {
    (DEVICE_LOGITS / vocab.max(1)).clamp(64, 2048)
}

/// Numbers that the CPU's backend keeps of a token in a layer beside its input; `low` is the sum of the adapters' ranks.
/// Rotated queries, keys and values, attention's output and its log-sums, the stream after attention, both halves of the
/// feed-forward; what a norm on queries and keys reads, and what a norm after a block reads.
pub(crate) fn kept_on_cpu(c: &Config, low: usize) -> usize {
    let (q, kv) = (c.q_width(), c.kv_width());
    let raw = if c.layer.qk_norm == QkNorm::No { 0 } else { q + kv };
    2 * q + 2 * kv + raw + c.heads + c.hidden + after(c) + 2 * c.ff + low
}

/// Bytes of the same on an accelerator, where activations have `narrow` bytes a number and the residual stream and log-sums f32.
fn kept_on_cuda(c: &Config, low: usize, narrow: u64) -> u64 {
    let (q, kv) = (c.q_width(), c.kv_width());
    let raw = if c.layer.qk_norm == QkNorm::No { 0 } else { q + 2 * kv };
    narrow * (2 * q + 2 * kv + raw + after(c) + 2 * c.ff + low) as u64 + BYTES * (c.hidden + c.heads) as u64
}

/// Numbers that norms after attention and after the feed-forward read of a token.
fn after(c: &Config) -> usize {
    if c.layer.norms.after() { 2 * c.hidden } else { 0 }
}

/// The sum of the adapters' ranks in a layer.
fn low(tune: &Tune) -> usize {
    if let Tune::Lora(l) = tune { l.r * l.targets.len() } else { 0 }
}

/// What goes through the decoder together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PassSize {
    /// Sequences.
    pub(crate) rows: u64,
    /// Tokens of the longest.
    pub(crate) length: u64,
    /// Positions whose logits are wanted.
    pub(crate) scored: u64,
    /// Tokens without padding; on the fast path what an example's sequences have in common only once.
    pub(crate) tokens: u64,
}

/// Numbers that `tune` trains.
pub(crate) fn trainable(c: &Config, tune: &Tune) -> u64 {
    let Tune::Lora(lora) = tune else {
        return if *tune == Tune::Full { c.parameters() } else { 0 };
    };
    // A is (r, in), B is (out, r), DoRA's lengths are (out).
    let adapter = |spec: LinearSpec| lora.r * (spec.width + spec.out) + if lora.dora { spec.out } else { 0 };
    let adapted = |spec: &LinearSpec| lora.targets.iter().any(|target| target == LINEARS[spec.index]);
    (c.layers * c.linears().into_iter().filter(adapted).map(adapter).sum::<usize>()) as u64
}

/// Bytes at work on a micro-batch: the inputs of every layer for all of it, and for one group at a time the larger of a layer's
/// graph and the head's chunk. The counts of arrays in a layer's graph are those of the decoder's forward with its gradients:
/// 10 of the attention's T×T, 9 of the feed-forward width, 30 of the hidden width; DoRA adds two behind each linear module.
pub(crate) fn work_reference(c: &Config, tune: &Tune, groups: &[PassSize]) -> u64 {
    let (hidden, ff, heads) = (c.hidden as u64, c.ff as u64, c.heads as u64);
    let (wide, narrow) = if matches!(tune, Tune::Lora(l) if l.dora) { (13, 40) } else { (9, 30) };
    let kept: u64 = groups.iter().map(|g| g.rows * g.length * hidden * (c.layers as u64 + 1)).sum();
    let at_once = |g: &PassSize| {
        let n = g.rows * g.length;
        let layer = 10 * heads * n * g.length + wide * n * ff + narrow * n * hidden;
        layer.max(LOGITS * g.scored.min(CHUNK) * c.vocab as u64)
    };
    (kept + groups.iter().map(at_once).max().unwrap_or(0)) * BYTES
}

/// As [`work_reference`] on the fast path, where as much as there is `room` for is kept of every layer: of a token its input and what
/// follows from it up to the feed-forward's halves, and of a scored token the state that its log-prob pulls at. Also of how many
/// layers all is kept.
pub(crate) fn work_cpu(c: &Config, tune: &Tune, groups: &[PassSize], room: u64) -> (u64, u64) {
    let (hidden, ff, q) = (c.hidden as u64, c.ff as u64, c.q_width() as u64);
    let rest = kept_on_cpu(c, low(tune)) as u64;
    let inputs = |g: &PassSize| g.tokens * hidden * (c.layers as u64 + 1) + g.scored * hidden;
    let rest = groups.iter().map(|g| g.tokens * rest).sum::<u64>();
    let layers = kept_layers(c, rest * BYTES, room);
    let kept = groups.iter().map(inputs).sum::<u64>() + rest * layers;
    let at_once = |g: &PassSize| {
        let layer = g.tokens * (4 * ff + 4 * q + 3 * hidden);
        layer.max(g.scored * (VOCAB_BLOCK as u64).min(c.vocab as u64))
    };
    ((kept + groups.iter().map(at_once).max().unwrap_or(0)) * BYTES, layers)
}

/// Of how many layers all is kept when that takes `bytes` a layer.
fn kept_layers(c: &Config, bytes: u64, room: u64) -> u64 {
    (c.layers as u64).min(room.checked_div(bytes).unwrap_or(u64::MAX))
}

/// As [`work_cpu`] on another device, where what is kept beside the residual stream has `narrow` bytes a number, at most `room`
/// in all, and the logits of a chunk are there in f32 beside their softmax.
pub(crate) fn work_cuda(c: &Config, tune: &Tune, groups: &[PassSize], narrow: u64, room: u64) -> (u64, u64) {
    let (hidden, ff, layers, q) = (c.hidden as u64, c.ff as u64, c.layers as u64, c.q_width() as u64);
    let rest = kept_on_cuda(c, low(tune), narrow);
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
/// a step (the weights, what is trained with its gradient and two moments, and `work` or the update), beside `others` models
/// of the same size.
///
/// Held against the peak resident sizes (VmHWM) of SmolLM2-135M (f32 from bf16) on the CPU of Linux. Fast path, rank 16 on all
/// linear modules, MiB foretold and used: DPO on four pairs of 256, 512, 1,024 and 2,048 tokens 1,213 and 1,228, 1,256 and 1,272,
/// 1,278 and 1,292, 1,966 and 1,978; 128 pairs of 256 tokens a step 1,214 and 1,238. Rows of at most 640 tokens: SFT of all weights
/// 2,758 and 2,747; PPO on answers of at most 32 tokens 3,902 and 3,726, GRPO 4,665 and 4,338. Of `tiny`: DPO with adapters 66 and
/// 61, of all weights 77 and 76. Reference path, LoRA: rows of 140, 320 and 1,024 tokens 1,008 and 938, 1,107 and 1,095, 2,165 and
/// 2,242. On a GPU it has not been measured; frozen weights have `narrow` bytes a number there.
pub(crate) fn memory(c: &Config, tune: &Tune, trainable: u64, work: u64, others: u64, narrow: u64) -> u64 {
    let weights = weights(c, tune, narrow);
    let loading = weights + c.parameters() * 2;
    // Outside the processor's memory a few tensors of the size of the largest, the embedding, live beside it while it is updated.
    let update = if *tune == Tune::Full && narrow < BYTES { 6 * (c.vocab * c.hidden) as u64 } else { 0 };
    let step = weights + (trained(tune, trainable) + update) * BYTES + work;
    PROGRAM + others * weights + loading.max(step)
}

/// Bytes of the weights; what is trained is f32 beside whatever the rest is.
pub(crate) fn weights(c: &Config, tune: &Tune, narrow: u64) -> u64 {
    c.parameters() * if *tune == Tune::Full { BYTES } else { narrow }
}

/// Numbers beside the weights for what is trained: gradients and two moments, and an adapter itself.
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
    fn the_trained_numbers_are_the_decoders() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-llama");
        let model = LanguageModel::open(&dir).unwrap();
        let lora = |targets: &[&str]| {
            let dora = targets.len() > 2;
            let targets = targets.iter().map(|t| (*t).to_owned()).collect();
            Tune::Lora(crate::model::LoraSpec { r: 4, alpha: 8.0, rslora: false, dora, dropout: 0.0, targets, seed: 1 })
        };
        for tune in [lora(&crate::model::LINEARS), lora(&["k_proj", "down_proj"]), Tune::Full, Tune::None] {
            let decoder = model.decoder(&Device::Cpu, &tune).unwrap();
            let real: usize = decoder.trainables().iter().map(|(_, v)| v.elem_count()).sum();
            assert_eq!(trainable(&model.config, &tune), real as u64, "{tune:?}");
        }
    }

    #[test]
    fn memory_is_within_a_fifth_of_what_was_measured() {
        let text = r#"{"model_type":"llama","hidden_size":576,"num_attention_heads":9,"num_key_value_heads":3,
            "num_hidden_layers":30,"intermediate_size":1536,"vocab_size":49152,"tie_word_embeddings":true}"#;
        let c = Config::parse(text, Path::new("smollm2")).unwrap();
        assert_eq!(c.parameters(), 134_515_008);
        let targets = crate::model::LINEARS.iter().map(|t| (*t).to_owned()).collect();
        let dora = false;
        let lora = crate::model::LoraSpec { r: 16, alpha: 32.0, rslora: false, dora, dropout: 0.0, targets, seed: 1 };
        let tune = Tune::Lora(lora);
        for (length, measured) in [(140, 938.0), (320, 1095.0), (1024, 2242.0)] {
            let pairs = [PassSize { rows: 2, length, scored: 2 * length, tokens: 2 * length }; 4];
            let bytes = memory(&c, &tune, trainable(&c, &tune), work_reference(&c, &tune, &pairs), 0, BYTES);
            let off = bytes as f64 / f64::from(1 << 20) / measured - 1.0;
            assert!(off.abs() < 0.2, "{length} tokens: {off}");
        }
    }

    #[test]
    fn memory_grows_with_what_goes_together() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-llama");
        let c = LanguageModel::open(&dir).unwrap().config;
        let of = |groups: &[PassSize]| work_reference(&c, &Tune::None, groups);
        let group = |rows, length| PassSize { rows, length, scored: 1, tokens: rows * length };
        assert!(of(&[group(64, 512)]) > of(&[group(32, 512); 2]));
        assert!(of(&[group(32, 512); 2]) > of(&[group(32, 512)]) && of(&[group(32, 512)]) > of(&[group(32, 256)]));
    }
}
