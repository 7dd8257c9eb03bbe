//! The options of `eval`.

use super::server::ServerArgs;
use super::template::TemplateArgs;
use super::values;
use crate::domain::{judges, suites};
use clap::Args;
use std::path::PathBuf;

/// `eval`.
#[derive(Debug, Args)]
pub struct EvalArgs {
    /// The session.
    pub session: String,
    /// The model in question: a training run of this session (RUN@best takes its best checkpoint), a model, or URL#NAME for one
    /// behind a server.
    #[arg(long, value_name = "RUN|MODEL|URL#NAME", required_unless_present_any = ["show", "contest", "ratings"])]
    pub a: Option<String>,
    /// Print the report of an earlier evaluation, and launch nothing.
    #[arg(long, value_name = "RUN", conflicts_with = "a")]
    pub show: Option<String>,
    /// Three models or more against each other, the one to measure by first: an evaluation for every two, then Bradley–Terry
    /// ratings. Finished evaluations with the same settings count and are not repeated.
    #[arg(long, value_name = "A,B,C", value_delimiter = ',', conflicts_with_all = ["a", "b", "show", "detach"])]
    pub contest: Vec<String>,
    /// Print the ratings that follow from the session's evaluations, and launch nothing.
    #[arg(long, conflicts_with_all = ["a", "b", "show", "contest", "detach"])]
    pub ratings: bool,
    /// What it is compared with (default: the model that RUN was trained on).
    #[arg(long, value_name = "RUN|MODEL|URL#NAME")]
    pub b: Option<String>,
    /// A suite, or a file of your own; may be repeated (default: winrate).
    #[arg(long = "suite", value_name = "NAME|FILE", long_help = suite_help())]
    pub suites: Vec<String>,
    /// A judge that compares the answers; may be repeated.
    #[arg(long = "judge", value_name = "NAME[:OPERAND]", long_help = judge_help())]
    pub judges: Vec<String>,
    /// A file of prompts in place of the session's.
    #[arg(long, value_name = "FILE")]
    pub prompts: Option<PathBuf>,
    /// The folder of the suites' files, or one such file (default: `suites` of config.toml, else the folder `suites` in the
    /// data folder).
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// The most items of each suite, chosen by a fixed shuffle.
    #[arg(long, value_name = "N", value_parser = values::at_most(1_000_000))]
    pub limit: Option<u64>,
    /// How often each prompt is answered, with another seed each time; needs a temperature above 0.
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub seeds: u32,
    /// Sampling temperature; 0 is greedy decoding.
    #[arg(long, value_name = "T", default_value_t = 0.0, allow_negative_numbers = true, value_parser = values::temperature)]
    pub temperature: f64,
    /// Top-p (nucleus) sampling; 1 keeps every token.
    #[arg(long, value_name = "P", default_value_t = 1.0, allow_negative_numbers = true, value_parser = values::share)]
    pub top_p: f64,
    /// Maximum number of tokens of an answer (default: the suite's).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_new_tokens: Option<u32>,
    /// Seed of the random numbers.
    #[arg(long, value_name = "S", default_value_t = 42)]
    pub seed: u64,
    /// How servers are asked.
    #[command(flatten)]
    pub server: ServerArgs,
    /// Variables of the chat template.
    #[command(flatten)]
    pub template: TemplateArgs,
    /// Device: auto, cpu, cuda:0, metal.
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// Return at once; the run continues in the background.
    #[arg(long)]
    pub detach: bool,
}

fn suite_help() -> String {
    let rows = suites();
    let lines: Vec<String> = rows.iter().map(|row| format!("  {:<12} {}", row.name, row.help)).collect();
    format!("A suite, or a file of your own; may be repeated (default: winrate):\n{}", lines.join("\n"))
}

fn judge_help() -> String {
    let rows = judges();
    let lines: Vec<String> = rows.iter().map(|row| format!("  {:<12} {}", row.name, row.help)).collect();
    format!("A judge that compares the answers; may be repeated:\n{}", lines.join("\n"))
}
