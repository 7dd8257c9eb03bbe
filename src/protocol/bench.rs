//! Benchmark requests to a worker process and its answers: measurements without a verdict.
//!
//! The request is JSON on the command line, the answer lines on standard output, as for other requests.

use super::source::ModelRef;
use crate::domain::{Metrics, Params};
use serde::{Deserialize, Serialize};

/// A benchmark request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BenchSpec {
    /// Measures training speed.
    Train(TrainBench),
    /// Measures sampling speed.
    Sample(SampleBench),
}

/// Which pairs to train on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PairChoice {
    /// The first pairs in file order whose longer side has `least..=most` tokens.
    Between {
        /// Minimum tokens.
        least: usize,
        /// Maximum tokens.
        most: usize,
    },
    /// Pairs of equal length cut from the file's texts; an eighth of each side is its prompt.
    Alike {
        /// Tokens of both sides of a pair.
        tokens: usize,
    },
}

/// A training benchmark: the real trainer on real pairs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainBench {
    /// The model.
    pub model: ModelRef,
    /// A method that trains on pairs.
    pub method: String,
    /// Every hyper-parameter, resolved; `max_steps` counts the warm-up too.
    pub params: Params,
    /// Device: `auto`, `cpu`, `cuda:0` …
    pub device: String,
    /// The file of pairs.
    pub data: String,
    /// Which pairs of the file.
    pub choice: PairChoice,
    /// Whether to also measure bare matrix products after the steps.
    pub product: bool,
    /// Folder for the trainable parameters before the first step, so that another trainer can start from them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_to: Option<String>,
}

/// A sampling benchmark.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SampleBench {
    /// The model.
    pub model: ModelRef,
    /// The device.
    pub device: String,
    /// The prompt.
    pub prompt: String,
    /// Batch sizes: candidates decoded in one batch; one measurement each.
    pub rows: Vec<usize>,
    /// Tokens sampled per candidate, even after the end-of-turn token.
    pub tokens: usize,
    /// Repetitions of each measurement, after a warm-up.
    pub runs: usize,
}

/// A line of a benchmark's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BenchAnswer {
    /// Progress so far.
    Progressed {
        /// The current stage.
        stage: String,
        /// Units done.
        done: u64,
        /// Total units.
        total: u64,
    },
    /// Training measurements.
    Trained(Box<TrainFigures>),
    /// Sampling measurements.
    Sampled(Box<SampleFigures>),
}

/// Floating-point operations of the model by part; a multiply-add counts as two.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Flops {
    /// The layers' linear modules.
    pub linear: f64,
    /// The language-model head over the scored tokens.
    pub head: f64,
    /// Attention scores and weighted sums, halved by the causal mask.
    pub attention: f64,
}

/// Measurements of one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepFigures {
    /// Its duration: batch, forward, backward, update.
    pub seconds: f64,
    /// Real tokens: both full sides of every pair, without padding.
    pub tokens: u64,
    /// Operations that the model needs if every side is computed in full.
    pub flops: Flops,
    /// Seconds that the matrix products alone would take at the measured peak rate; 0 if not measured.
    pub product_seconds: f64,
    /// The step's metrics under TRL's names.
    pub metrics: Metrics,
}

/// Measurements of one matrix product.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProductFigures {
    /// Its role in the model: `q_proj`, `down_proj`, `head`; `backward` multiplies by the weight instead of its
    /// transpose.
    pub name: String,
    /// (rows, inner, columns).
    pub shape: (usize, usize, usize),
    /// GFLOP/s, median of the repetitions.
    pub gflops: f64,
    /// GFLOP/s of the fastest repetition.
    pub best: f64,
}

/// Training measurements of one process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainFigures {
    /// The device, for people.
    pub device: String,
    /// Parameters of the model.
    pub parameters: u64,
    /// Trainable parameters.
    pub trainable: u64,
    /// Pairs trained on.
    pub pairs: usize,
    /// Tokens of the longest side.
    pub longest: usize,
    /// Seconds from the start to the first step, without the reference pass.
    pub load_seconds: f64,
    /// Seconds of the reference pass over all pairs; it runs once and is cached.
    pub reference_seconds: f64,
    /// Every step in order; the first is the warm-up.
    pub steps: Vec<StepFigures>,
    /// Peak resident memory of the process up to the last step, MiB; none if the system does not report it.
    pub peak_mib: Option<f64>,
    /// Peak GPU memory above what was in use before, MiB; none on other devices or without the driver.
    #[serde(default)]
    pub gpu_peak_mib: Option<f64>,
    /// Peak memory planned before the start, MiB.
    pub planned_mib: f64,
    /// Bare matrix products; empty unless requested.
    pub products: Vec<ProductFigures>,
}

/// One repetition of sampling.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SampleRun {
    /// Seconds until every candidate had its first token.
    pub prefill_seconds: f64,
    /// Seconds for all tokens after the first.
    pub decode_seconds: f64,
}

/// Sampling measurements at one batch size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RowsFigures {
    /// Candidates per batch.
    pub rows: usize,
    /// Tokens sampled after each candidate's first.
    pub tokens: usize,
    /// The repetitions.
    pub runs: Vec<SampleRun>,
}

/// Sampling measurements of one process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SampleFigures {
    /// The device, for people.
    pub device: String,
    /// Parameters of the model.
    pub parameters: u64,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Seconds to load the model.
    pub load_seconds: f64,
    /// One entry per requested batch size.
    pub rows: Vec<RowsFigures>,
    /// Peak resident memory of the process, MiB; none if the system does not report it.
    pub peak_mib: Option<f64>,
}
