//! What a training run would take, before it is launched: steps, rows left out, trained numbers, peak memory.
//!
//! Owns the memory formula. Tokenises every row as the run will, so that the counts are the run's own; reads no weights and
//! computes nothing on a device. Refuses to guess seconds: nothing like it has been measured yet.

use super::config::Config;
use super::error::Error;
use super::language_model::LanguageModel;
use super::recipe::{online, recipe};
use super::rows::{Example, Rows, tokenise};
use super::trainer::{Batches, making, train_spec, tune_of};
use super::tune::Tune;
use crate::protocol::{Estimate, RunSpec};
use std::path::Path;

/// Bytes of a number in the compute type, f32.
const BYTES: u64 = 4;
/// Program, tokenizer, libraries and the allocator's slack.
const PROGRAM: u64 = 150 << 20;
/// Positions whose logits exist at one time, and how many arrays of their size.
const HEAD: u64 = 256 * 6;

/// Measures `rows` for the run that `spec` asks for.
///
/// # Errors
/// When the model cannot be opened or a row cannot be tokenised.
pub fn estimate(spec: &RunSpec, rows: &Rows) -> Result<Estimate, Error> {
    let train = train_spec(spec)?;
    let params = &train.params;
    let model = LanguageModel::open(Path::new(&train.model.path))?;
    let answers = online(&train.method, params)?.is_some();
    let offline = if answers { None } else { Some(recipe(&train.method, params)?) };
    let made = tokenise(&model, rows, &making(offline.as_deref(), params), |_| Ok(()))?;
    let batches = match answers {
        true => Batches::rounds(made.train.len(), params)?,
        false => Batches::new(made.train.len(), params),
    };
    let tune = tune_of(params);
    let trainable = trainable(&model.config, &tune);
    let longest = made.longest();
    let batch = params.usize("per_device_train_batch_size").max(1).min(made.train.len().max(1));
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
        memory_bytes: memory(&model.config, &tune, trainable, batch as u64, longest as u64),
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
    // In plus out of a linear module: A is (r, in), B is (out, r).
    let sides = |name: &str| match name {
        "q_proj" | "o_proj" => c.hidden + q,
        "k_proj" | "v_proj" => c.hidden + kv,
        _ => c.hidden + c.ff,
    };
    (c.layers * lora.r * lora.targets.iter().map(|t| sides(t)).sum::<usize>()) as u64
}

/// Peak memory of a step in bytes: a micro-batch of `pairs` pairs whose longest row has `length` tokens.
///
/// Weights (and once more, half as wide, while their file is mapped), gradient and two moments of what is trained, the inputs
/// of every layer, and the larger of one layer's graph and the head's chunk. The counts of arrays in a layer's graph are
/// those of the decoder's forward with its gradients: 10 of the attention's T×T, 9 of the feed-forward width, 30 of the
/// hidden width.
fn memory(c: &Config, tune: &Tune, trainable: u64, pairs: u64, length: u64) -> u64 {
    let n = 2 * pairs * length;
    // One pair goes through a layer at a time on the CPU, which is where this formula was measured.
    let one = 2 * length;
    let (hidden, ff, heads) = (c.hidden as u64, c.ff as u64, c.heads as u64);
    let weights = c.parameters() * BYTES + c.parameters() * 2;
    let table = c.vocab as u64 * hidden;
    // While one tensor is updated a few of its size live beside it; the largest is the embedding.
    let update = if *tune == Tune::Full { 6 * table * BYTES } else { 0 };
    let trained = 3 * trainable * BYTES;
    let kept = (c.layers as u64 + 1) * n * hidden * BYTES;
    let layer = (10 * heads * one * length + 9 * one * ff + 30 * one * hidden) * BYTES;
    let head = HEAD * c.vocab as u64 * BYTES + update;
    PROGRAM + weights + trained + kept + layer.max(head)
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
            let targets = targets.iter().map(|t| (*t).to_owned()).collect();
            Tune::Lora(crate::engine::LoraSpec {
                r: 4,
                alpha: 8.0,
                rslora: false,
                dora: false,
                dropout: 0.0,
                targets,
                seed: 1,
            })
        };
        for tune in [lora(&crate::engine::LINEARS), lora(&["k_proj", "down_proj"]), Tune::Full, Tune::None] {
            let decoder = model.decoder(&Device::Cpu, &tune).unwrap();
            let real: usize = decoder.trainables().iter().map(|(_, v)| v.elem_count()).sum();
            assert_eq!(trainable(&model.config, &tune), real as u64, "{tune:?}");
        }
    }

    #[test]
    fn memory_grows_with_batch_and_length() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-llama");
        let c = LanguageModel::open(&dir).unwrap().config;
        let of = |pairs, length| memory(&c, &Tune::None, 0, pairs, length);
        assert!(of(64, 512) > of(32, 512) && of(32, 512) > of(32, 256));
    }
}
