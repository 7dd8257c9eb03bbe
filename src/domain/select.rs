//! Selection: which pairs of answers are worth a label.
//!
//! Owns the strategies, a row each, and the probability with which each chose a pair. Everything is a function of the pool, the
//! options and the seed: the same call chooses the same pairs, and a pool that has grown keeps the order of what it had.
//! Refuses to estimate from what it chose: see [`Strategy::represents`].

use super::hash::{hash64, mix64};
use std::collections::{BTreeMap, HashMap, HashSet};

mod allocate;
mod strategies;
mod words;

pub use allocate::{Allocation, StratumSize, allocate};
pub use strategies::STRATEGIES;

/// An answer that may enter a pair.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Its completion's id.
    pub id: String,
    /// Its prompt, by position in the pool.
    pub prompt: usize,
    /// The model that wrote it.
    pub model: String,
    /// What the chosen source says that it is worth.
    pub score: Option<f64>,
    /// Its length in characters.
    pub chars: usize,
}

/// What a strategy may know of a prompt.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PromptFacts {
    /// Its id.
    pub id: String,
    /// Its text.
    pub text: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// The file it came from.
    pub source: String,
    /// Its length in words.
    pub words: usize,
    /// Turns of its conversation.
    pub turns: usize,
}

/// Two answers to one prompt that nobody has paired yet, by position in the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CandidatePair {
    /// The first answer.
    pub a: usize,
    /// The second.
    pub b: usize,
}

/// What can be chosen from.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Pool {
    /// The prompts.
    pub prompts: Vec<PromptFacts>,
    /// The answers to them.
    pub answers: Vec<Candidate>,
    /// The pairs that may be formed, in the order in which they arose.
    pub pairs: Vec<CandidatePair>,
    /// Of a stratum, how often the first answer was preferred and how often either was, where pairs were judged before.
    pub judged: HashMap<String, (f64, f64)>,
}

/// What a strategy was asked for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SelectOptions {
    /// Pairs to choose; all that the strategy has where none is given.
    pub limit: Option<usize>,
    /// What strata are made of.
    pub by: Vec<StratumKey>,
    /// How the limit is divided among strata.
    pub allocation: Allocation,
    /// How hard negatives are found.
    pub against: Against,
    /// Decides every random order.
    pub seed: u64,
}

/// What a hard negative is.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Against {
    /// The best answer against the second best.
    #[default]
    RunnerUp,
    /// The best answer against the one in the middle.
    Middle,
    /// Two answers whose scores differ by no less than the first and no more than the second number.
    Band(f64, f64),
}

/// A pair that was chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Chosen {
    /// The pair.
    pub pair: CandidatePair,
    /// The strategy that chose it; under `mix` its part.
    pub strategy: &'static str,
    /// The probability with which it was chosen.
    pub p_select: f64,
}

/// A way to choose pairs.
pub struct Strategy {
    /// Its name on the command line and in the log.
    pub name: &'static str,
    /// One line of help.
    pub help: &'static str,
    /// Whether it compares scores.
    pub scores: bool,
    /// Whether a mean over its pairs, weighted by 1/`p_select`, estimates the mean over the pool.
    pub represents: bool,
    /// Chooses.
    pub(super) choose: fn(&Pool, &SelectOptions) -> Result<Vec<Chosen>, SelectError>,
}

impl Strategy {
    /// The strategy of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        STRATEGIES.iter().find(|s| s.name == name)
    }

    /// Chooses pairs from the pool, no pair twice.
    ///
    /// # Errors
    /// When scores are missing or a quota cannot be met.
    pub fn choose(&self, pool: &Pool, options: &SelectOptions) -> Result<Vec<Chosen>, SelectError> {
        if self.scores && !pool.answers.iter().any(|a| a.score.is_some()) {
            return Err(SelectError::NoScores(self.name));
        }
        (self.choose)(pool, options)
    }
}

/// Why nothing was chosen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// The strategy compares scores and there are none.
    #[error("the strategy {0} needs scores: name a source with --score (a reward run, length, logprob …)")]
    NoScores(&'static str),
    /// A quota asks for more than there is.
    #[error("the quota of {quota} for {stratum} is larger than the stratum: it has {has} pairs")]
    QuotaTooLarge {
        /// The stratum.
        stratum: String,
        /// What was asked for.
        quota: usize,
        /// What there is.
        has: usize,
    },
    /// A quota names no stratum.
    #[error("there is no stratum {given}; there are: {known}")]
    NoStratum {
        /// What was named.
        given: String,
        /// What there is.
        known: String,
    },
    /// Strata without a key.
    #[error("the strategy {0} needs --by: one or more of {1}")]
    NoKey(&'static str, String),
}

/// What a stratum is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StratumKey {
    /// The prompt's tags.
    Tag,
    /// The file that the prompt came from.
    Source,
    /// The prompt's length: up to 50, 200, or more words.
    PromptLength,
    /// Turns of the prompt's conversation.
    Turns,
    /// The two models.
    Models,
    /// How much longer one answer is than the other, in thirds of the pool.
    LengthGap,
    /// How far the scores are apart, in quarters of the pool.
    ScoreGap,
}

impl StratumKey {
    /// Every key with its name.
    pub const ALL: [(&'static str, Self); 7] = [
        ("tag", Self::Tag),
        ("source", Self::Source),
        ("prompt_length", Self::PromptLength),
        ("turns", Self::Turns),
        ("models", Self::Models),
        ("length_gap", Self::LengthGap),
        ("score_gap", Self::ScoreGap),
    ];

    /// The key of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(n, _)| *n == name).map(|(_, key)| *key)
    }
}

impl Pool {
    /// How much better the pair's `a` is scored than its `b`; none where one has no finite score.
    #[must_use]
    pub fn gap(&self, pair: CandidatePair) -> Option<f64> {
        let gap = self.answers[pair.a].score? - self.answers[pair.b].score?;
        gap.is_finite().then_some(gap)
    }

    /// A number that orders pairs at random: it depends on the seed and the two answers alone.
    fn draw(&self, pair: CandidatePair, seed: u64) -> u64 {
        let (a, b) = (&self.answers[pair.a].id, &self.answers[pair.b].id);
        mix64(seed ^ hash64(format!("{a}\n{b}").as_bytes()))
    }

    /// Pairs in random order.
    fn shuffled(&self, pairs: &[CandidatePair], seed: u64) -> Vec<CandidatePair> {
        let mut out = pairs.to_vec();
        out.sort_by_key(|pair| (self.draw(*pair, seed), *pair));
        out
    }

    /// The pairs by the name of their stratum. Pairs without scores are a stratum of their own under [`StratumKey::ScoreGap`].
    #[must_use]
    pub fn strata(&self, keys: &[StratumKey]) -> BTreeMap<String, Vec<CandidatePair>> {
        let thirds = cuts(self.pairs.iter().map(|p| self.length_gap(*p)).collect(), 3);
        let quarters = cuts(self.pairs.iter().filter_map(|p| self.gap(*p).map(f64::abs)).collect(), 4);
        let mut out: BTreeMap<String, Vec<CandidatePair>> = BTreeMap::new();
        for pair in &self.pairs {
            let parts: Vec<String> = keys.iter().map(|key| self.part(*pair, *key, &thirds, &quarters)).collect();
            out.entry(parts.join(" · ")).or_default().push(*pair);
        }
        out
    }

    fn length_gap(&self, pair: CandidatePair) -> f64 {
        self.answers[pair.a].chars.abs_diff(self.answers[pair.b].chars) as f64
    }

    fn part(&self, pair: CandidatePair, key: StratumKey, thirds: &[f64], quarters: &[f64]) -> String {
        let prompt = &self.prompts[self.answers[pair.a].prompt];
        match key {
            StratumKey::Tag if prompt.tags.is_empty() => "no tag".into(),
            StratumKey::Tag => prompt.tags.join("+"),
            StratumKey::Source => prompt.source.clone(),
            StratumKey::PromptLength => match prompt.words {
                0..=50 => "short prompt".into(),
                51..=200 => "medium prompt".into(),
                _ => "long prompt".into(),
            },
            StratumKey::Turns => format!("{} turns", prompt.turns),
            StratumKey::Models => {
                let (a, b) = (&self.answers[pair.a].model, &self.answers[pair.b].model);
                format!("{} vs {}", a.min(b), a.max(b))
            }
            StratumKey::LengthGap => {
                let names = ["similar length", "other length", "very other length"];
                names[bin(self.length_gap(pair), thirds)].into()
            }
            StratumKey::ScoreGap => match self.gap(pair) {
                Some(gap) => format!("score gap quarter {}", bin(gap.abs(), quarters) + 1),
                None => "no scores".into(),
            },
        }
    }
}

/// The values that cut `values` into `parts` parts of about the same size.
fn cuts(mut values: Vec<f64>, parts: usize) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    (1..parts).filter_map(|i| values.get((i * values.len()).div_ceil(parts).saturating_sub(1)).copied()).collect()
}

fn bin(value: f64, cuts: &[f64]) -> usize {
    cuts.iter().filter(|cut| value > **cut).count()
}
