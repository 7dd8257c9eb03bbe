//! What the loop screen or the command `loop` asks for: rounds of sampling, pairing, judging, training and evaluation, in the
//! words of the command line. Both hand it to the same code.

use crate::domain::{LoopRows, Sampler};

/// A loop to plan in a session.
#[derive(Debug, Clone, PartialEq)]
pub struct LoopRequest {
    /// Its name; none for the next number.
    pub name: Option<String>,
    /// The most rounds.
    pub rounds: u32,
    /// The run to start from; none for the session's model.
    pub init: Option<String>,
    /// Who judges: `check:LIST`, `reward:RUN`, `implicit:RUN`, `llm:MODEL` or `human`.
    pub judge: String,
    /// The largest difference of a tie; none for the judge's usual one.
    pub tie_band: Option<f64>,
    /// How pairs are chosen.
    pub strategy: String,
    /// Where the strategy's scores come from; none for the judge, where it gives scores.
    pub score: Option<String>,
    /// The most pairs of a round; none for all that the strategy has.
    pub limit: Option<usize>,
    /// The training method.
    pub method: String,
    /// Hyper-parameters as `key=value`.
    pub set: Vec<String>,
    /// What a round trains on.
    pub rows: LoopRows,
    /// Suites beside the win rate.
    pub suites: Vec<String>,
    /// Who compares the rounds; none for the judge.
    pub eval_judge: Option<String>,
    /// The most held-out prompts of an evaluation.
    pub eval_limit: Option<usize>,
    /// The folder of the suites' files.
    pub data: Option<String>,
    /// The share of the prompts that is held out.
    pub held_out: f64,
    /// Prompts of a round; none for as many as there are.
    pub prompts_per_round: Option<usize>,
    /// Answers to each.
    pub per_prompt: usize,
    /// How answers are drawn.
    pub sampler: Sampler,
    /// Whether it goes on where a round is not better.
    pub all_rounds: bool,
    /// Variables of servers' keys.
    pub key_envs: Vec<String>,
    /// What computes.
    pub device: String,
}
