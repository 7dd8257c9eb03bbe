//! What a screen or a command asks for: a sampling run, pairs, scores. Both hand the same request to the same code.

use crate::domain::{Filter, JsonFields, RunId, Sampler};
use crate::protocol::ServerOptions;

/// A sampling run to launch in a session.
#[derive(Debug, Clone, PartialEq)]
pub struct SampleRequest {
    /// Models by name or path, or `URL#NAME` behind a server; without any and without adapters the session's.
    pub models: Vec<String>,
    /// Training runs whose adapters write answers.
    pub adapters: Vec<RunId>,
    /// How servers are asked.
    pub servers: ServerOptions,
    /// Candidates per prompt.
    pub per_prompt: usize,
    /// The sampling parameters.
    pub sampler: Sampler,
    /// Whether the seed counts up from run to run instead of being the sampler's.
    pub count_seed: bool,
    /// Variables of the chat template.
    pub variables: JsonFields,
}

/// Pairs to choose among a session's answers, in the words of the command line.
#[derive(Debug, Clone, PartialEq)]
pub struct PairRequest {
    /// The strategy's name.
    pub strategy: String,
    /// Names of [`crate::domain::StratumKey`]s.
    pub by: Vec<String>,
    /// `proportional`, `equal`, `neyman`, or STRATUM=N for each stratum.
    pub quota: Vec<String>,
    /// `length`, `logprob`, `checks:LIST`, `judge:NAME` or a run; none for no scores.
    pub score: Option<String>,
    /// `runner_up`, `middle`, or a band such as `0.5..2`.
    pub against: String,
    /// The answers that may be chosen; none for all.
    pub filter: Option<Filter>,
    /// The most pairs; none for all.
    pub limit: Option<usize>,
    /// Whether answers of different sampling runs are paired too.
    pub across: bool,
    /// Decides what is random.
    pub seed: u64,
}

/// How many pairs a request chooses.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PairPreview {
    /// Pairs chosen.
    pub chosen: usize,
    /// Pairs to choose from.
    pub of: usize,
    /// Chosen by each part of a mixed strategy.
    pub parts: Vec<(String, usize)>,
    /// Strata with the pairs chosen from each and the pairs in it; empty where the request names none.
    pub strata: Vec<StratumCount>,
    /// What could not be chosen and why, in words; empty if nothing.
    pub left_out: String,
}

/// A stratum of a [`PairPreview`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StratumCount {
    /// Its name.
    pub name: String,
    /// Pairs chosen from it.
    pub chosen: usize,
    /// Pairs in it.
    pub size: usize,
}

/// Answers to score, or pairs to judge, by a run or a judge model.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreRequest {
    /// A run of the session, or `judge:MODEL`, or `judge:URL#NAME`.
    pub with: String,
    /// Whether pairs are judged too.
    pub vote: bool,
    /// The largest difference of a tie; none for the default.
    pub tie_band: Option<f64>,
    /// How servers are asked.
    pub servers: ServerOptions,
}

/// How far scoring is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScoreProgress {
    /// The run or the judge.
    pub by: String,
    /// `answers` or `pairs`.
    pub what: String,
    /// Done so far.
    pub done: usize,
    /// All of them; 0 while that is not known.
    pub total: usize,
}
