//! What `bench` can be asked.

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum BenchAction {
    /// Training: real tokens a second, peak memory, and the share of the matrix product's limit.
    Train(BenchTrainArgs),
    /// Sampling: tokens a second for one answer, and for several answers of one prompt.
    Sample(BenchSampleArgs),
    /// The screens: from a key to the changed screen, in a terminal of their own.
    Ui(BenchUiArgs),
}

/// `bench train`.
#[derive(Debug, Args)]
pub struct BenchTrainArgs {
    /// The model: a name of `tiebreak models`, a folder or a .gguf file.
    #[arg(long, value_name = "MODEL")]
    pub model: String,
    /// A file of judged pairs, one JSON object a line.
    #[arg(long, value_name = "PAIRS")]
    pub data: PathBuf,
    /// A method that learns from pairs.
    #[arg(long, default_value = "dpo")]
    pub method: String,
    /// Steps that count, behind one of warm-up (default: 3; 1 for --tokens and --pairs).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub steps: Option<u32>,
    /// Pairs of a step.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub batch: u32,
    /// The fewest tokens of a pair's longer side; shorter pairs are passed over.
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub min: usize,
    /// The most tokens of a pair's longer side; longer pairs are passed over.
    #[arg(long, value_name = "N", default_value_t = 320)]
    pub max: usize,
    /// Sets a hyper-parameter (default: LoRA of rank 16 on all linear modules, alpha 32, learning_rate 1e-4, constant).
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Times everything is done, each time by a new process.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub runs: u32,
    /// Instead: a table over pairs of so many tokens, cut out of the file's texts.
    #[arg(long, value_name = "N,N…", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(32..=1_000_000))]
    pub tokens: Vec<u32>,
    /// Instead: a table over so many pairs a step, each of 256 tokens.
    #[arg(long, value_name = "N,N…", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub pairs: Vec<u32>,
    /// Write what is trained, as it is before the first step, to DIR/model.safetensors: another trainer can start from it.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["tokens", "pairs"])]
    pub start_to: Option<PathBuf>,
    /// Leave out the measurement of the matrix product alone.
    #[arg(long)]
    pub no_product: bool,
    /// What computes: auto, cpu, cuda:0, metal.
    #[arg(long, default_value = "auto")]
    pub device: String,
}

/// `bench sample`.
#[derive(Debug, Args)]
pub struct BenchSampleArgs {
    /// The model: a name of `tiebreak models`, a folder or a .gguf file.
    #[arg(long, value_name = "MODEL")]
    pub model: String,
    /// Answers of the prompt that are decoded together.
    #[arg(long, value_name = "N,N…", value_delimiter = ',', default_value = "1,8", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub rows: Vec<u32>,
    /// Tokens of every answer; none ends before.
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    pub tokens: u32,
    /// Repetitions behind one of warm-up.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub runs: u32,
    /// What is asked.
    #[arg(
        long,
        default_value = "Explain to a curious child why the sky is blue during the day and red in the evening, and give an example."
    )]
    pub prompt: String,
    /// What computes: auto, cpu, cuda:0, metal.
    #[arg(long, default_value = "auto")]
    pub device: String,
}

/// `bench ui`.
#[derive(Debug, Args)]
pub struct BenchUiArgs {
    /// Keys pressed.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    pub keys: u32,
    /// Columns and rows of the terminal.
    #[arg(long, value_name = "WxH", default_value = "120x40", value_parser = super::values::size)]
    pub size: (u16, u16),
    /// Meanwhile a training run uses every core.
    #[arg(long)]
    pub under_load: bool,
    /// The model that the run trains (default: the one that this program carries).
    #[arg(long, value_name = "MODEL", requires = "under_load")]
    pub model: Option<String>,
}
