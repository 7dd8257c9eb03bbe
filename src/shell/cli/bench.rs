//! Arguments of `bench`.

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum BenchAction {
    /// Training: real tokens/s, peak memory, and speed relative to matrix products alone.
    Train(BenchTrainArgs),
    /// Sampling: tokens/s for one answer, and for several answers of one prompt.
    Sample(BenchSampleArgs),
    /// The screens: latency from a key to the changed screen, in a pseudo-terminal.
    Ui(BenchUiArgs),
}

/// `bench train`.
#[derive(Debug, Args)]
pub struct BenchTrainArgs {
    /// The model: a name of `tiebreak models`, a folder or a .gguf file.
    #[arg(long, value_name = "MODEL")]
    pub model: String,
    /// A JSONL file of labelled pairs.
    #[arg(long, value_name = "PAIRS")]
    pub data: PathBuf,
    /// A method that learns from pairs.
    #[arg(long, default_value = "dpo")]
    pub method: String,
    /// Measured steps, after one of warm-up (default: 3; 1 for --tokens and --pairs).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub steps: Option<u32>,
    /// Pairs per step.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub batch: u32,
    /// Minimum tokens of a pair's longer side; shorter pairs are skipped.
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub min: usize,
    /// Maximum tokens of a pair's longer side; longer pairs are skipped.
    #[arg(long, value_name = "N", default_value_t = 320)]
    pub max: usize,
    /// Sets a hyper-parameter (default: LoRA of rank 16 on all linear modules, alpha 32, learning_rate 1e-4, constant).
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Repetitions, each in a new process.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub runs: u32,
    /// Measure a table over these pair lengths in tokens, cut from the file's texts.
    #[arg(long, value_name = "N,N…", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(32..=1_000_000))]
    pub tokens: Vec<u32>,
    /// Measure a table over these numbers of pairs per step, each of 256 tokens.
    #[arg(long, value_name = "N,N…", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub pairs: Vec<u32>,
    /// Write the initial trainable parameters to DIR/model.safetensors, so that another trainer can start from them.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["tokens", "pairs"])]
    pub start_to: Option<PathBuf>,
    /// Do not measure the matrix products alone.
    #[arg(long)]
    pub no_product: bool,
    /// Device: auto, cpu, cuda:0, metal.
    #[arg(long, default_value = "auto")]
    pub device: String,
}

/// `bench sample`.
#[derive(Debug, Args)]
pub struct BenchSampleArgs {
    /// The model: a name of `tiebreak models`, a folder or a .gguf file.
    #[arg(long, value_name = "MODEL")]
    pub model: String,
    /// Answers of the prompt in one batch.
    #[arg(long, value_name = "N,N…", value_delimiter = ',', default_value = "1,8", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub rows: Vec<u32>,
    /// Tokens of every answer; EOS is ignored.
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    pub tokens: u32,
    /// Repetitions, after one of warm-up.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub runs: u32,
    /// The prompt.
    #[arg(
        long,
        default_value = "Explain to a curious child why the sky is blue during the day and red in the evening, and give an example."
    )]
    pub prompt: String,
    /// Device: auto, cpu, cuda:0, metal.
    #[arg(long, default_value = "auto")]
    pub device: String,
}

/// `bench ui`.
#[derive(Debug, Args)]
pub struct BenchUiArgs {
    /// Number of key presses.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    pub keys: u32,
    /// Columns and rows of the terminal.
    #[arg(long, value_name = "WxH", default_value = "120x40", value_parser = super::values::size)]
    pub size: (u16, u16),
    /// Run a training run on every core meanwhile.
    #[arg(long)]
    pub under_load: bool,
    /// The model that the run trains (default: the embedded one).
    #[arg(long, value_name = "MODEL", requires = "under_load")]
    pub model: Option<String>,
}
