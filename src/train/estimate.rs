//! What a training run would take, before it is launched: steps, rows left out, trained numbers, peak memory.
//!
//! Owns the memory formula. Tokenises every row as the run will, so that the counts are the run's own; reads no weights and
//! computes nothing on a device. Refuses to guess seconds: nothing like it has been measured yet.

use super::data::{Example, Rows, tokenise};
use super::recipe::{Apart, prepare};
use super::trainer::{Batches, Grouping, train_spec, tune};
use crate::domain::EngineKind;
use crate::model::config::Config;
use crate::model::error::Error;
use crate::model::language_model::LanguageModel;
use crate::model::tune::Tune;
use crate::nn::cpu::places;
use crate::nn::device::{device, free, weights_dtype};
use crate::nn::policy::Row;
use crate::protocol::{Estimate, RunSpec};
use std::path::Path;

/// Bytes of a number in the compute type, f32.
const BYTES: u64 = 4;
/// Program, tokenizer, libraries and the allocator's slack.
const PROGRAM: u64 = 24 << 20;
/// Positions whose logits exist at one time.
const CHUNK: u64 = 256;
/// Arrays of the size of these logits.
const LOGITS: u64 = 6;
/// Rows whose batches are laid out to find the largest; more make no larger ones worth waiting for.
const LOOKED_AT: usize = 100_000;
/// The same of prompts, each of which has several answers.
const ANSWERED: usize = 10_000;

/// What goes through the decoder together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Group {
    /// Sequences.
    rows: u64,
    /// Tokens of the longest.
    length: u64,
    /// Positions whose logits are wanted.
    scored: u64,
    /// Tokens without padding; on the fast path what an example's sequences have in common only once.
    tokens: u64,
}

/// Measures `rows` for the run that `spec` asks for.
///
/// # Errors
/// When the model cannot be opened, a row cannot be tokenised, or there is no such device.
pub fn estimate(spec: &RunSpec, rows: &Rows) -> Result<Estimate, Error> {
    let train = train_spec(spec)?;
    let prepared = prepare(&train.method, &train.params)?;
    let (recipe, params) = (&prepared.recipe, &prepared.shared);
    let model = LanguageModel::open(Path::new(&train.model.path))?;
    let made = tokenise(&model, rows, &prepared.making(), |_| Ok(()))?;
    let batches = match &prepared.rollout {
        Some(rollout) => Batches::rounds(made.train.len(), params, rollout)?,
        None => Batches::of(&made.train, params)?,
    };
    let tune = tune(params);
    let trainable = trainable(&model.config, &tune);
    let longest = made.longest();
    let device = device(&spec.device)?;
    let (cpu, narrow) = (device.is_cpu(), weights_dtype(&device).size_in_bytes() as u64);
    let packs = cpu && params.engine != EngineKind::Reference && params.lora_dropout == 0.0;
    let micro: Vec<Vec<Group>> = if let Some(rollout) = &prepared.rollout {
        // The answers are not there yet: all as long as they may become.
        let answered = |i: usize| {
            let prompt = made.train[i].rows.first().map_or(0, |r| r.ids.len());
            let ids = vec![0; prompt + rollout.max_completion_length];
            let row = Row { scored: (prompt.max(1)..ids.len()).collect(), ids, ..Row::default() };
            Example { rows: vec![row], aside: Vec::new(), ..made.train[i].clone() }
        };
        let all = batches.answers_ahead(ANSWERED, params, rollout)?.into_iter().map(|micro| {
            let examples: Vec<Example> = micro.into_iter().map(answered).collect();
            groups(&examples.iter().collect::<Vec<_>>(), Grouping::of(false, packs), cpu, packs)
        });
        all.collect()
    } else {
        let groups = |rows: Vec<usize>| {
            let examples: Vec<&Example> = rows.iter().map(|i| &made.train[*i]).collect();
            groups(&examples, Grouping::of(recipe.needs_reference(), packs), cpu, packs)
        };
        let all = batches.ahead(LOOKED_AT).into_iter().map(groups);
        // What goes back before the next comes is never kept together.
        let apart = recipe.apart() != Apart::No;
        all.flat_map(|all| if apart { all.into_iter().map(|g| vec![g]).collect() } else { vec![all] }).collect()
    };
    let room = free(&device).map_or_else(crate::nn::cpu::room, |bytes| bytes / 2) as u64;
    let of = |groups: &Vec<Group>| match (params.engine, cpu) {
        (EngineKind::Reference, _) => (work(&model.config, &tune, groups), 0),
        (_, true) => work_fast(&model.config, &tune, groups, room),
        (_, false) => work_gpu(&model.config, &tune, groups, narrow, room),
    };
    let works: Vec<(u64, u64)> = micro.iter().map(of).collect();
    let work = works.iter().map(|w| w.0).max().unwrap_or(0);
    let kept_layers = works.iter().map(|w| w.1).min().unwrap_or(0);
    // Answers are written from a packed copy of the weights, while no step is at work.
    let halves = tune != Tune::Full && Path::new(&train.model.path).extension().is_none_or(|e| e != "gguf");
    let packed = if cpu { model.config.parameters() * if halves { BYTES / 2 } else { BYTES } } else { 0 };
    let work = work.max(packed);
    // What scores answers is a model of its own, and so is the reference of a policy without adapters.
    let scored = prepared.rollout.as_ref().is_some_and(|rollout| !rollout.reward_model.is_empty());
    let others = u64::from(scored) + u64::from(prepared.rollout.is_some() && tune == Tune::Full);
    let decided: Vec<bool> = made
        .train
        .iter()
        .chain(&made.eval)
        .filter(|e| e.rows.len() == 2 && e.answer(0).len() != e.answer(1).len())
        .map(|e| e.answer(0).len() > e.answer(1).len())
        .collect();
    Ok(Estimate {
        steps: batches.total,
        train_rows: made.train.len(),
        eval_rows: made.eval.len(),
        tokens: made.train.iter().map(|p| Example::tokens(p) as u64).sum(),
        longest,
        trainable,
        memory_bytes: memory(&model.config, &tune, trainable, work, others, narrow),
        weights_bytes: (1 + others) * weights(&model.config, &tune, narrow),
        trained_bytes: trained(&tune, trainable) * BYTES,
        layers: model.config.layers as u64,
        kept_layers,
        seconds: None,
        longer_wins: decided.iter().filter(|won| **won).count() as f64 / decided.len().max(1) as f64,
        dropped: made.dropped,
    })
}

/// Numbers that `tune` trains.
#[must_use]
pub fn trainable(c: &Config, tune: &Tune) -> u64 {
    let Tune::Lora(lora) = tune else {
        return if *tune == Tune::Full { c.parameters() } else { 0 };
    };
    let (q, kv) = (c.heads * c.head_dim, c.kv_heads * c.head_dim);
    let sides = |name: &str| match name {
        "q_proj" => (c.hidden, q),
        "o_proj" => (q, c.hidden),
        "k_proj" | "v_proj" => (c.hidden, kv),
        "down_proj" => (c.ff, c.hidden),
        _ => (c.hidden, c.ff),
    };
    // A is (r, in), B is (out, r), DoRA's lengths are (out).
    let adapter = |(width, out): (usize, usize)| lora.r * (width + out) + if lora.dora { out } else { 0 };
    (c.layers * lora.targets.iter().map(|t| adapter(sides(t))).sum::<usize>()) as u64
}

/// A micro-batch as it goes through the decoder; `shared`: with what an example's sequences have in common only once.
fn groups(examples: &[&Example], grouping: Grouping, cpu: bool, shared: bool) -> Vec<Group> {
    let mut out = Vec::new();
    let mut left = examples;
    while !left.is_empty() {
        let (group, rest) = left.split_at(grouping.first(left, cpu).clamp(1, left.len()));
        left = rest;
        out.push(Group {
            rows: group.iter().map(|e| e.rows.len() as u64).sum(),
            length: group.iter().map(|e| e.longest() as u64).max().unwrap_or(0),
            scored: group.iter().map(|e| e.scored() as u64).sum(),
            tokens: group.iter().map(|e| if shared { places(&e.rows) } else { e.tokens() } as u64).sum(),
        });
    }
    out
}

/// Bytes at work on a micro-batch: the inputs of every layer for all of it, and for one group at a time the larger of a layer's
/// graph and the head's chunk. The counts of arrays in a layer's graph are those of the decoder's forward with its gradients:
/// 10 of the attention's T×T, 9 of the feed-forward width, 30 of the hidden width; DoRA adds two behind each linear module.
fn work(c: &Config, tune: &Tune, groups: &[Group]) -> u64 {
    let (hidden, ff, heads) = (c.hidden as u64, c.ff as u64, c.heads as u64);
    let (wide, narrow) = if matches!(tune, Tune::Lora(l) if l.dora) { (13, 40) } else { (9, 30) };
    let kept: u64 = groups.iter().map(|g| g.rows * g.length * hidden * (c.layers as u64 + 1)).sum();
    let at_once = |g: &Group| {
        let n = g.rows * g.length;
        let layer = 10 * heads * n * g.length + wide * n * ff + narrow * n * hidden;
        layer.max(LOGITS * g.scored.min(CHUNK) * c.vocab as u64)
    };
    (kept + groups.iter().map(at_once).max().unwrap_or(0)) * BYTES
}

/// As [`work`] on the fast path, where as much as there is `room` for is kept of every layer: of a token its input and what
/// follows from it up to the feed-forward's halves, and of a scored token the state that its log-prob pulls at. Also of how many
/// layers all is kept.
fn work_fast(c: &Config, tune: &Tune, groups: &[Group], room: u64) -> (u64, u64) {
    let (hidden, ff) = (c.hidden as u64, c.ff as u64);
    let (q, kv) = ((c.heads * c.head_dim) as u64, (c.kv_heads * c.head_dim) as u64);
    let low = match tune {
        Tune::Lora(l) => (l.r * l.targets.len()) as u64,
        _ => 0,
    };
    let raw = if c.qk_norm { q + kv } else { 0 };
    let layer = hidden + 2 * q + 2 * kv + raw + c.heads as u64 + hidden + 2 * ff + low;
    let inputs = |g: &Group| g.tokens * hidden * (c.layers as u64 + 1) + g.scored * hidden;
    let rest = groups.iter().map(|g| g.tokens * (layer - hidden)).sum::<u64>();
    let layers = kept_layers(c, rest * BYTES, room);
    let kept = groups.iter().map(inputs).sum::<u64>() + rest * layers;
    let at_once = |g: &Group| {
        let layer = g.tokens * (4 * ff + 4 * q + 3 * hidden);
        layer.max(g.scored * (crate::nn::cpu::BLOCK as u64).min(c.vocab as u64))
    };
    ((kept + groups.iter().map(at_once).max().unwrap_or(0)) * BYTES, layers)
}

/// Of how many layers all is kept when that takes `bytes` a layer.
fn kept_layers(c: &Config, bytes: u64, room: u64) -> u64 {
    (c.layers as u64).min(room.checked_div(bytes).unwrap_or(u64::MAX))
}

/// As [`work_fast`] on another device, where what is kept beside the residual stream has `narrow` bytes a number, at most `room`
/// in all, and the logits of a chunk are there in f32 beside their softmax.
fn work_gpu(c: &Config, tune: &Tune, groups: &[Group], narrow: u64, room: u64) -> (u64, u64) {
    let (hidden, ff, layers) = (c.hidden as u64, c.ff as u64, c.layers as u64);
    let (q, kv) = ((c.heads * c.head_dim) as u64, (c.kv_heads * c.head_dim) as u64);
    let low = match tune {
        Tune::Lora(l) => (l.r * l.targets.len()) as u64,
        _ => 0,
    };
    let raw = if c.qk_norm { q + 2 * kv } else { 0 };
    let rest = narrow * (2 * q + 2 * kv + raw + 2 * ff + low) + BYTES * (hidden + c.heads as u64);
    let inputs: u64 = groups.iter().map(|g| BYTES * hidden * (g.tokens * (layers + 1) + g.scored)).sum();
    let rest = groups.iter().map(|g| g.tokens * rest).sum::<u64>();
    let whole = kept_layers(c, rest, room);
    let kept = inputs + rest * whole;
    let chunk = crate::nn::cuda::chunk(c.vocab) as u64;
    let at_once = |g: &Group| {
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
fn memory(c: &Config, tune: &Tune, trainable: u64, work: u64, others: u64, narrow: u64) -> u64 {
    let weights = weights(c, tune, narrow);
    let loading = weights + c.parameters() * 2;
    // Outside the processor's memory a few tensors of the size of the largest, the embedding, live beside it while it is updated.
    let update = if *tune == Tune::Full && narrow < BYTES { 6 * (c.vocab * c.hidden) as u64 } else { 0 };
    let step = weights + (trained(tune, trainable) + update) * BYTES + work;
    PROGRAM + others * weights + loading.max(step)
}

/// Bytes of the weights; what is trained is f32 beside whatever the rest is.
fn weights(c: &Config, tune: &Tune, narrow: u64) -> u64 {
    c.parameters() * if *tune == Tune::Full { BYTES } else { narrow }
}

/// Numbers beside the weights for what is trained: gradients and two moments, and an adapter itself.
fn trained(tune: &Tune, trainable: u64) -> u64 {
    trainable * if *tune == Tune::Full { 3 } else { 4 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

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
            let pairs = [Group { rows: 2, length, scored: 2 * length, tokens: 2 * length }; 4];
            let bytes = memory(&c, &tune, trainable(&c, &tune), work(&c, &tune, &pairs), 0, BYTES);
            let off = bytes as f64 / f64::from(1 << 20) / measured - 1.0;
            assert!(off.abs() < 0.2, "{length} tokens: {off}");
        }
    }

    #[test]
    fn memory_grows_with_what_goes_together() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-llama");
        let c = LanguageModel::open(&dir).unwrap().config;
        let of = |groups: &[Group]| work(&c, &Tune::None, groups);
        let group = |rows, length| Group { rows, length, scored: 1, tokens: rows * length };
        assert!(of(&[group(64, 512)]) > of(&[group(32, 512); 2]));
        assert!(of(&[group(32, 512); 2]) > of(&[group(32, 512)]) && of(&[group(32, 512)]) > of(&[group(32, 256)]));
    }
}
