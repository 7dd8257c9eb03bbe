//! The matrix product alone, in the model's shapes: an upper bound of a step's speed.
//!
//! Owns the FLOP count of a step, and the time of its matrix products alone. Refuses to count norms, RoPE and activations.

use crate::domain::{median, quantile};
use crate::model::config::Config;
use crate::model::error::Error;
use crate::model::tune::Tune;
use crate::protocol::{Flops, ProductFigures};
use crate::train::data::Example;
use candle_core::{DType, Device, Tensor};
use std::time::Instant;
use tiebreak_kernels::product::{View, WriteMode, product};

/// Rows of the products: the tokens of a few pairs.
const ROWS: usize = 512;
/// Minimum seconds per product.
const SECONDS: f64 = 0.5;
/// Minimum repetitions after a warm-up.
const LEAST: usize = 3;

/// FLOPs of one training step on these examples, without prefix sharing: forward and backward of every linear module, with a
/// weight gradient if trained; the head's logits and their backward over the scored tokens; attention's products forward and
/// twice as many backward, halved by the causal mask. Norms, RoPE, activations and adapter products are not counted.
pub(super) fn flops(c: &Config, tune: &Tune, examples: &[&Example]) -> Flops {
    let passes = passes(tune);
    let linear = weights_per_token(c);
    let rows = || examples.iter().flat_map(|e| &e.rows);
    let tokens: usize = rows().map(|r| r.ids.len()).sum();
    let scored: usize = examples.iter().map(|e| e.scored()).sum();
    let squares: f64 = rows().map(|r| (r.ids.len() as f64).powi(2)).sum();
    Flops {
        linear: passes * 2.0 * linear as f64 * tokens as f64,
        head: passes * 2.0 * (c.hidden * c.vocab) as f64 * scored as f64,
        attention: 3.0 * 2.0 * (0..c.layers).map(|i| c.shape_of(i).q_width()).sum::<usize>() as f64 * squares,
    }
}

/// Products per weight: forward, input gradient, and weight gradient if trained.
fn passes(tune: &Tune) -> f64 {
    if *tune == Tune::Full { 3.0 } else { 2.0 }
}

/// The weights that each token is multiplied with in the linear modules of all layers.
fn weights_per_token(c: &Config) -> usize {
    (0..c.layers).flat_map(|i| c.modules_of_token(i)).map(|(spec, times)| times * spec.width * spec.out).sum()
}

/// The measured products of a model.
pub(super) struct ProductLimit {
    /// One entry per product and direction.
    pub(super) figures: Vec<ProductFigures>,
    /// Seconds per token in the modules of all layers, and per scored token in the head.
    linear: f64,
    head: f64,
    passes: f64,
}

impl ProductLimit {
    /// Measures every product of the linear modules and the head in `dtype`, about a second each for both directions.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub(super) fn measure(c: &Config, tune: &Tune, device: &Device, dtype: DType) -> Result<Self, Error> {
        let mut figures: Vec<ProductFigures> = Vec::new();
        let mut known: Vec<((usize, usize), f64)> = Vec::new();
        let mut seconds = |name: &str, inner: usize, out: usize| -> Result<f64, Error> {
            if let Some((_, seconds)) = known.iter().find(|(shape, _)| *shape == (inner, out)) {
                return Ok(*seconds);
            }
            let (forward, backward) = if device.is_cpu() && dtype == DType::F32 {
                measure_on_cpu(inner, out)?
            } else {
                let weight = noise(out, inner, device, dtype)?;
                let x = noise(ROWS, inner, device, dtype)?;
                let dy = noise(ROWS, out, device, dtype)?;
                let forward = repeat(device, || x.matmul(&weight.t()?).map(drop).map_err(Error::from))?;
                (forward, repeat(device, || dy.matmul(&weight).map(drop).map_err(Error::from))?)
            };
            let ops = 2.0 * (ROWS * inner * out) as f64;
            for (word, times, shape) in
                [("", &forward, (ROWS, inner, out)), (" backward", &backward, (ROWS, out, inner))]
            {
                figures.push(ProductFigures {
                    name: format!("{name}{word}"),
                    shape,
                    gflops: ops / median(times) / 1e9,
                    best: ops / quantile(times, 0.0) / 1e9,
                });
            }
            // The weight gradient has the same size as the input gradient.
            let back = passes(tune) - 1.0;
            let a_row = (median(&forward) + back * median(&backward)) / ROWS as f64;
            known.push(((inner, out), a_row));
            Ok(a_row)
        };
        let mut linear = 0.0;
        for (spec, times) in (0..c.layers).flat_map(|i| c.modules_of_token(i)) {
            linear += seconds(spec.target(), spec.width, spec.out)? * times as f64;
        }
        let head = seconds("head", c.hidden, c.vocab)?;
        Ok(Self { figures, linear, head, passes: passes(tune) })
    }

    /// Seconds of a step's matrix products at this speed, without attention.
    pub(super) fn seconds(&self, c: &Config, flops: &Flops) -> f64 {
        let per_token = weights_per_token(c);
        let tokens = flops.linear / (self.passes * 2.0 * per_token as f64);
        let scored = flops.head / (self.passes * 2.0 * (c.hidden * c.vocab) as f64);
        tokens * self.linear + scored * self.head
    }
}

/// Seconds of one module's forward and backward product on the CPU, with the routine of training, into preallocated memory.
fn measure_on_cpu(inner: usize, out: usize) -> Result<(Vec<f64>, Vec<f64>), Error> {
    let (weight, x, dy) = (numbers(out * inner), numbers(ROWS * inner), numbers(ROWS * out));
    let mut y = vec![0f32; ROWS * out];
    let (rows, columns) = (View::rows(&weight, inner), View::columns(&weight, inner));
    let forward = repeat(&Device::Cpu, || {
        product(&mut y, out, WriteMode::Overwrite, View::rows(&x, inner), columns, (ROWS, out, inner), 1.0);
        Ok(())
    })?;
    let mut dx = vec![0f32; ROWS * inner];
    let backward = repeat(&Device::Cpu, || {
        product(&mut dx, inner, WriteMode::Overwrite, View::rows(&dy, out), rows, (ROWS, inner, out), 1.0);
        Ok(())
    })?;
    Ok((forward, backward))
}

/// Small pseudo-random numbers.
fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i as u32).wrapping_mul(2_654_435_761) >> 8) as f32 / 16_777_216.0 - 0.5).collect()
}

/// A matrix of them.
fn noise(rows: usize, columns: usize, device: &Device, dtype: DType) -> Result<Tensor, Error> {
    let values = numbers(rows * columns);
    Ok(Tensor::from_vec(values, (rows, columns), device)?.to_dtype(dtype)?)
}

/// Seconds of each repetition.
fn repeat(device: &Device, mut product: impl FnMut() -> Result<(), Error>) -> Result<Vec<f64>, Error> {
    product()?;
    device.synchronize()?;
    let mut times = Vec::new();
    while times.len() < LEAST || times.iter().sum::<f64>() < SECONDS {
        let began = Instant::now();
        product()?;
        device.synchronize()?;
        times.push(began.elapsed().as_secs_f64());
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{PairId, PromptId};
    use crate::model::LoraSpec;
    use crate::nn::policy::Row;
    use std::path::Path;

    fn smollm2() -> Config {
        let text = r#"{"model_type":"llama","hidden_size":576,"num_attention_heads":9,"num_key_value_heads":3,
            "num_hidden_layers":30,"intermediate_size":1536,"vocab_size":49152,"tie_word_embeddings":true}"#;
        Config::parse(text, Path::new("smollm2")).unwrap()
    }

    fn lora() -> Tune {
        Tune::Lora(LoraSpec::plain(16, 32.0))
    }

    /// A prompt of 256 tokens with answers of 256 and 192.
    fn pair() -> Example {
        let row = |answer: usize| Row::new(vec![0; 256 + answer], (256..256 + answer).collect());
        Example {
            id: PairId::new("p"),
            prompt_id: PromptId::new("p"),
            row: 0,
            prompt: 256,
            rows: vec![row(256), row(192)],
            kl_rows: Vec::new(),
            margin: None,
            agreed: None,
            desirable: true,
        }
    }

    #[test]
    fn a_pairs_operations_by_hand() {
        let pair = pair();
        let lora = flops(&smollm2(), &lora(), &[&pair]);
        // 2 passes × 2 × 106,168,320 weights × 960 tokens and 2 × 2 × 576·49,152 × 448 scored tokens.
        assert_eq!(lora.linear, 4.0 * 106_168_320.0 * 960.0);
        assert_eq!(lora.head, 4.0 * 28_311_552.0 * 448.0);
        assert_eq!(lora.attention, 6.0 * 30.0 * 576.0 * (512.0 * 512.0 + 448.0 * 448.0));
        assert_eq!(((lora.linear + lora.head) / 1e9).round(), 458.0);
        let full = flops(&smollm2(), &Tune::Full, &[&pair, &pair]);
        assert_eq!(full.linear, lora.linear * 3.0);
    }

    #[test]
    fn the_limit_weights_every_product_by_its_work() {
        let c = smollm2();
        let limit = ProductLimit { figures: Vec::new(), linear: 0.002, head: 0.001, passes: 2.0 };
        let seconds = limit.seconds(&c, &flops(&c, &lora(), &[&pair()]));
        assert!((seconds - (960.0 * 0.002 + 448.0 * 0.001)).abs() < 1e-9, "{seconds}");
    }
}
