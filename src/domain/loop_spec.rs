//! A loop of rounds: sample, pair, judge, train, evaluate, again from the model that came out.
//!
//! Owns what was asked for, frozen at launch, and the names that follow from it: of each round's runs and pairs. Where a loop
//! stands is not here: it is derived from those names (`loop_progress`). Refuses to know a session.

use super::hash::{hash64, mix64};
use super::ids::{PairId, PromptId, Rater, RunId, is_name};
use super::param::Params;
use super::text::Sampler;
use serde::{Deserialize, Serialize};

/// The share of a session's prompts that a loop never samples, by default: its rounds are evaluated on them.
pub const LOOP_HELD_OUT: f64 = 0.2;
/// The judge that asks people.
pub const PEOPLE: &str = "human";
/// The longest name of a loop, so that the names of its runs are names.
const LONGEST_NAME: usize = 40;

/// The rows that a round trains on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoopRows {
    /// The round's own: answers of the model that goes on training. Usual in iterative DPO.
    #[default]
    Round,
    /// Those of all rounds so far.
    All,
}

impl LoopRows {
    /// Every choice with its name and what it is.
    pub const ALL: [(&'static str, Self, &'static str); 2] = [
        ("round", Self::Round, "the pairs of the round, answers of the model that goes on training"),
        ("all", Self::All, "the pairs of all rounds so far"),
    ];

    /// The choice of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, ..)| *known == name).map(|(_, rows, _)| *rows)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, rows, _)| *rows == self).map_or("", |(name, ..)| name)
    }
}

/// A loop as it was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoopSpec {
    /// Its name: `loop-1`.
    pub name: String,
    /// The most rounds.
    pub rounds: u32,
    /// The run that the first round starts from; none for the session's model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<RunId>,
    /// Who judges: `check:LIST`, `reward:RUN`, `implicit:RUN`, `llm:MODEL` or `human`.
    pub judge: String,
    /// The judge's name as a rater; none for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rater: Option<Rater>,
    /// The largest difference of a tie; none for the judge's usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tie_band: Option<f64>,
    /// How a round's pairs are chosen.
    pub strategy: String,
    /// Where the strategy's scores come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<String>,
    /// The most pairs of a round; none for all that the strategy has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// The training method.
    pub method: String,
    /// Its hyper-parameters, resolved.
    pub params: Params,
    /// What a round trains on.
    #[serde(default)]
    pub rows: LoopRows,
    /// Suites that are measured beside the win rate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suites: Vec<String>,
    /// Who compares a round with the one before, as a judge of `eval`.
    pub eval_judge: String,
    /// The most held-out prompts of an evaluation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval_limit: Option<usize>,
    /// The folder of the suites' files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// The share of the prompts that is held out.
    pub held_out: f64,
    /// How many prompts the session had at launch; later ones are not part of the loop.
    pub prompts: usize,
    /// Prompts of a round. No prompt comes in two rounds.
    pub prompts_per_round: usize,
    /// Answers to each.
    pub per_prompt: usize,
    /// How answers are drawn; the seed counts up from round to round.
    pub sampler: Sampler,
    /// Whether it goes on where a round is not better.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all_rounds: bool,
    /// What computes.
    pub device: String,
}

impl LoopSpec {
    /// Why a loop cannot have this name; none if it can.
    #[must_use]
    pub fn name_problem(name: &str) -> Option<String> {
        let fits = is_name(name) && !name.contains('.') && name.len() <= LONGEST_NAME;
        (!fits).then(|| {
            format!(
                "`{name}` cannot name a loop: give up to {LONGEST_NAME} letters, digits, - and _, beginning with a letter or digit"
            )
        })
    }

    /// The sampling run of a round, counted from 1.
    #[must_use]
    pub fn sampling(&self, round: u32) -> RunId {
        RunId::new(format!("{}-r{round}-sample", self.name))
    }

    /// The training run of a round.
    #[must_use]
    pub fn training(&self, round: u32) -> RunId {
        RunId::new(format!("{}-r{round}-train", self.name))
    }

    /// The evaluation of a round.
    #[must_use]
    pub fn evaluation(&self, round: u32) -> RunId {
        RunId::new(format!("{}-r{round}-eval", self.name))
    }

    /// The run whose result a round starts from; none for the session's model.
    #[must_use]
    pub fn before(&self, round: u32) -> Option<RunId> {
        if round <= 1 { self.init.clone() } else { Some(self.training(round - 1)) }
    }

    /// The identity of a round's pair number `n`.
    #[must_use]
    pub fn pair_id(&self, round: u32, prompt: &PromptId, n: usize) -> PairId {
        PairId::new(format!("{prompt}:{}-r{round}.{n}", self.name))
    }

    /// The round that a pair was chosen in; none for a pair of something else.
    #[must_use]
    pub fn round_of(&self, pair: &PairId) -> Option<u32> {
        let own = pair.as_str().rsplit_once(':')?.1.strip_prefix(&self.name)?.strip_prefix("-r")?;
        own.split_once('.')?.0.parse().ok()
    }

    /// The filter of the rows that a round trains on.
    #[must_use]
    pub fn filter(&self, round: u32) -> String {
        let first = if self.rows == LoopRows::All { 1 } else { round };
        let runs: Vec<String> = (first..=round).map(|round| self.sampling(round).into_string()).collect();
        format!("model:{}", runs.join(","))
    }

    /// The seed of a round.
    #[must_use]
    pub fn seed(&self, round: u32) -> u64 {
        self.sampler.seed.wrapping_add(u64::from(round.saturating_sub(1)))
    }

    /// Orders the prompts of the rounds at random.
    #[must_use]
    pub fn draw(&self, prompt: &PromptId) -> u64 {
        mix64(self.sampler.seed ^ hash64(prompt.as_str().as_bytes()))
    }

    /// Whether people judge.
    #[must_use]
    pub fn asks_people(&self) -> bool {
        self.judge == PEOPLE
    }

    /// Whether both ask for the same, whatever they are called and however many prompts came later.
    #[must_use]
    pub fn asks_the_same(&self, other: &Self) -> bool {
        let named = Self { name: other.name.clone(), prompts: other.prompts, ..self.clone() };
        named == *other
    }
}
