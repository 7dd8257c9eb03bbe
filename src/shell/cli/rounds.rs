//! The options of `loop`.

use super::values;
use crate::domain::{LOOP_HELD_OUT, LoopRows};
use clap::Args;
use std::path::PathBuf;

/// `loop`.
#[derive(Debug, Args)]
pub struct LoopArgs {
    /// The session.
    pub session: String,
    /// The most rounds.
    #[arg(long, value_name = "N", required_unless_present_any = ["resume", "show"], value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: Option<u32>,
    /// Who judges the pairs: check:LIST (the answer that meets more checks is better), reward:RUN, implicit:RUN (a dpo, orpo …
    /// run), llm:MODEL or llm:URL#NAME, or human: then the loop waits for labels and goes on when it is run again.
    #[arg(long, value_name = "NAME[:OPERAND]", required_unless_present_any = ["resume", "show"])]
    pub judge: Option<String>,
    /// Go on with this loop where it broke off, was stopped, or waited for labels.
    #[arg(long, value_name = "LOOP", conflicts_with_all = ["rounds", "judge", "show"])]
    pub resume: Option<String>,
    /// Print where this loop stands, and do nothing; all: each of the session's.
    #[arg(long, value_name = "LOOP", conflicts_with_all = ["rounds", "judge"])]
    pub show: Option<String>,
    /// The loop's name (default: loop- and a number).
    #[arg(long)]
    pub name: Option<String>,
    /// A training run of this session to start from; RUN@best takes its best checkpoint (default: the session's model).
    #[arg(long, value_name = "RUN")]
    pub init: Option<String>,
    /// Prompts that a round samples; no prompt comes in two rounds (default: as many as there are).
    #[arg(long, value_name = "K")]
    pub prompts_per_round: Option<usize>,
    /// Answers per prompt.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(2..=64))]
    pub per_prompt: u16,
    /// Sampling temperature.
    #[arg(long, value_name = "T", default_value_t = 0.8, allow_negative_numbers = true, value_parser = values::temperature)]
    pub temperature: f64,
    /// Top-p (nucleus) sampling; 1 keeps every token.
    #[arg(long, value_name = "P", default_value_t = 0.95, allow_negative_numbers = true, value_parser = values::share)]
    pub top_p: f64,
    /// Maximum number of tokens of an answer.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_new_tokens: u32,
    /// Seed of the prompts' order, the answers and the pairs; the next round's is one higher.
    #[arg(long, value_name = "S", default_value_t = 42)]
    pub seed: u64,
    /// How a round's pairs are chosen among its own answers (`tiebreak pair --help`).
    #[arg(long, value_name = "NAME", default_value = "random", value_parser = values::strategy())]
    pub strategy: String,
    /// Where scores for the strategy come from (default: the judge, if it gives scores): a run, logprob, length, or checks:LIST.
    #[arg(long, value_name = "SOURCE")]
    pub score: Option<String>,
    /// The most pairs of a round (default: all that the strategy has).
    #[arg(long, value_name = "N", value_parser = values::at_most(10_000_000))]
    pub limit: Option<u64>,
    /// The largest difference of a tie: for a run in standard deviations of its scores, for a model as distance from an even
    /// probability.
    #[arg(long, value_name = "X", allow_negative_numbers = true, value_parser = values::tie_band)]
    pub tie_band: Option<f64>,
    /// The training method: one that learns from judged pairs.
    #[arg(long, value_name = "NAME", default_value = "dpo")]
    pub method: String,
    /// Sets a hyper-parameter of the method.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// What a round trains on: its own pairs, as is usual in iterative DPO, or those of all rounds so far.
    #[arg(long, value_name = "WHICH", default_value = "round", value_parser = LoopRows::ALL.iter().map(|(name, ..)| *name).collect::<Vec<_>>())]
    pub rows: String,
    /// The share of the prompts that no round samples; rounds are compared on them.
    #[arg(long, value_name = "SHARE", default_value_t = LOOP_HELD_OUT, value_parser = values::share)]
    pub held_out: f64,
    /// Who compares a round with the one before, as a judge of `eval` (default: the judge).
    #[arg(long, value_name = "NAME[:OPERAND]")]
    pub eval_judge: Option<String>,
    /// A suite beside the win rate; may be repeated.
    #[arg(long = "suite", value_name = "NAME|FILE")]
    pub suites: Vec<String>,
    /// The most held-out prompts of an evaluation.
    #[arg(long, value_name = "N", value_parser = values::at_most(1_000_000))]
    pub eval_limit: Option<u64>,
    /// The folder of the suites' files.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Do every round, even after one that is not better than the one before.
    #[arg(long)]
    pub all_rounds: bool,
    /// The environment variable that holds the key of a judge's server.
    #[arg(long = "key-env", value_name = "NAME")]
    pub key_envs: Vec<String>,
    /// Device: auto, cpu, cuda:0, metal.
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// Print the plan, and do nothing.
    #[arg(long, conflicts_with_all = ["resume", "show"])]
    pub dry_run: bool,
    /// Return at once; the loop goes on in the background.
    #[arg(long, conflicts_with_all = ["dry_run", "show"])]
    pub detach: bool,
    /// Leave the terminal and wait for people's labels: what --detach starts.
    #[arg(long, hide = true, requires = "resume", conflicts_with = "detach")]
    pub background: bool,
}
