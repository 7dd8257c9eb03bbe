//! What a benchmark asks of a worker process, and what it answers: figures, no judgement.
//!
//! The question travels as JSON on the command line, the answer as lines on standard output, as for the other questions.

use super::spec::ModelRef;
use crate::domain::{Metrics, Params};
use serde::{Deserialize, Serialize};

/// A benchmark's question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BenchSpec {
    /// How fast does it train?
    Train(TrainBench),
    /// How fast does it sample?
    Sample(SampleBench),
}

/// Which pairs are trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PairChoice {
    /// The first pairs of the file, in its order, whose longer side has so many tokens, both bounds included.
    Between {
        /// The fewest.
        least: usize,
        /// The most.
        most: usize,
    },
    /// Pairs of equal length cut out of the file's texts: so many tokens in both sides together, an eighth of each its
    /// prompt.
    Alike {
        /// Tokens of a pair.
        tokens: usize,
    },
}

/// A training benchmark: the real trainer on real pairs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainBench {
    /// The model.
    pub model: ModelRef,
    /// A method of the table that learns from pairs.
    pub method: String,
    /// Every hyper-parameter, resolved; `max_steps` counts the warm-up too.
    pub params: Params,
    /// What computes: `auto`, `cpu`, `cuda:0` …
    pub device: String,
    /// The file of pairs.
    pub data: String,
    /// Which of them.
    pub choice: PairChoice,
    /// Whether the matrix product alone is measured behind the steps.
    pub product: bool,
    /// A folder for the trainables as they are before the first step, so that another trainer can start from the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_to: Option<String>,
}

/// A sampling benchmark.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SampleBench {
    /// The model.
    pub model: ModelRef,
    /// What computes.
    pub device: String,
    /// What is asked.
    pub prompt: String,
    /// Candidates of the prompt that are decoded together; one measurement each.
    pub rows: Vec<usize>,
    /// Tokens drawn for every candidate, whether or not the model would have ended before.
    pub tokens: usize,
    /// Times each is measured, after a warm-up.
    pub runs: usize,
}

/// A line of a benchmark's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BenchAnswer {
    /// How far it is.
    Progressed {
        /// What is being done.
        stage: String,
        /// Units done.
        done: u64,
        /// Units in all.
        total: u64,
    },
    /// The figures of training.
    Trained(Box<TrainFigures>),
    /// The figures of sampling.
    Sampled(Box<SampleFigures>),
}

/// Floating-point operations of the model itself, by where they fall: a multiplication and an addition are two.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Flops {
    /// The layers' linear modules.
    pub linear: f64,
    /// The language-model head over the scored tokens.
    pub head: f64,
    /// Attention's scores and sums, of which a causal mask leaves half.
    pub attention: f64,
}

/// A step as it was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepFigures {
    /// Its duration: batch, forward, backward, update.
    pub seconds: f64,
    /// Real tokens: both sides of every pair whole, no padding.
    pub tokens: u64,
    /// What the model's mathematics asks for, every side computed whole.
    pub flops: Flops,
    /// Seconds that the matrix products alone would take at the measured limit; 0 where that was not measured.
    pub product_seconds: f64,
    /// The step's metrics by TRL's names.
    pub metrics: Metrics,
}

/// A matrix product as it was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProductFigures {
    /// What it is in the model: `q_proj`, `down_proj`, `head`; `backward` multiplies by the weight instead of its transpose.
    pub name: String,
    /// (rows, inner, columns).
    pub shape: (usize, usize, usize),
    /// 10⁹ operations a second, median of the repetitions.
    pub gflops: f64,
    /// The same of the fastest repetition.
    pub best: f64,
}

/// What training came to, in the process that did it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainFigures {
    /// What computed, in words.
    pub device: String,
    /// Numbers in the model.
    pub parameters: u64,
    /// Numbers trained.
    pub trainable: u64,
    /// Pairs trained on.
    pub pairs: usize,
    /// Tokens of the longest side.
    pub longest: usize,
    /// Seconds from the start to the first step, without the reference pass.
    pub load_seconds: f64,
    /// Seconds of the reference pass over all pairs; it is made once and kept.
    pub reference_seconds: f64,
    /// Every step in order; the first is the warm-up.
    pub steps: Vec<StepFigures>,
    /// Peak resident memory of the process up to the last step, MiB; none where the system does not tell.
    pub peak_mib: Option<f64>,
    /// Peak memory of the GPU beyond what was in use before, MiB; none on another device or without its driver.
    #[serde(default)]
    pub gpu_peak_mib: Option<f64>,
    /// Peak memory that was foretold before the start, MiB.
    pub planned_mib: f64,
    /// The matrix product alone; empty where it was not asked for.
    pub products: Vec<ProductFigures>,
}

/// One repetition of sampling.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SampleRun {
    /// Seconds until every candidate had its first token.
    pub prefill_seconds: f64,
    /// Seconds of all tokens behind the first.
    pub decode_seconds: f64,
}

/// What sampling so many candidates came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RowsFigures {
    /// Candidates decoded together.
    pub rows: usize,
    /// Tokens drawn behind each candidate's first.
    pub tokens: usize,
    /// The repetitions.
    pub runs: Vec<SampleRun>,
}

/// What sampling came to, in the process that did it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SampleFigures {
    /// What computed, in words.
    pub device: String,
    /// Numbers in the model.
    pub parameters: u64,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Seconds to load the model.
    pub load_seconds: f64,
    /// By number of candidates, as asked.
    pub rows: Vec<RowsFigures>,
    /// Peak resident memory of the process, MiB; none where the system does not tell.
    pub peak_mib: Option<f64>,
}
