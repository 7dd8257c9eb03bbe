//! Examples: rows in tokens with their masks, and what was left out.
//!
//! Owns the lengths that fit, the count of what does not, and the split into training and evaluation. Refuses texts.

use crate::domain::{DroppedRows, Finding, PairId, PromptId, TrainerParams, hash64};
use crate::nn::policy::Row;

/// How rows become examples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokeniseOptions {
    /// Longer examples are left out.
    pub max_length: usize,
    /// Share of prompts kept for evaluation.
    pub eval_fraction: f64,
    /// Pairs: the chosen side's prompt is scored too.
    pub score_prompt: bool,
    /// Pairs: no token is scored, the scalar head is read at each answer's last token instead.
    pub read_value: bool,
    /// Conversations: only the assistant's turns are learned.
    pub assistant_only: bool,
    /// Prompt and completion: only the completion is learned.
    pub completion_only: bool,
    /// Texts to imitate: several short ones share a row of at most `max_length` tokens, those kept for evaluation do not.
    pub packing: bool,
    /// Ratings: every answer is also scored on its neighbour's prompt, in blocks of so many rows; 0: it is not.
    pub mismatch_block: usize,
}

impl TokeniseOptions {
    /// What every method asks for of rows that exist before the run.
    #[must_use]
    pub fn from_params(shared: &TrainerParams) -> Self {
        Self { eval_fraction: shared.eval_fraction, ..Self::new(shared.max_length) }
    }

    /// Pairs or anything else of at most `max_length` tokens, answers scored, nothing kept for evaluation.
    #[must_use]
    pub fn new(max_length: usize) -> Self {
        Self {
            max_length,
            eval_fraction: 0.0,
            score_prompt: false,
            read_value: false,
            assistant_only: false,
            completion_only: true,
            packing: false,
            mismatch_block: 0,
        }
    }
}

/// A unit of training in tokens: the sequences whose loss needs each other.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// The row it came from, so that findings can name it.
    pub id: PairId,
    /// The prompt's id.
    pub prompt_id: PromptId,
    /// Index of the row it came from.
    pub row: usize,
    /// Tokens of the prompt, at the beginning of every sequence of `rows`; 0 where there is no one prompt.
    pub prompt: usize,
    /// The sequences trained on: chosen and rejected, or one alone.
    pub rows: Vec<Row>,
    /// Sequences scored beside them without a gradient.
    pub kl_rows: Vec<Row>,
    /// Strength of the preference in 0..=1, where known.
    pub margin: Option<f64>,
    /// Share of the votes behind the preference, where raters differed.
    pub agreed: Option<f64>,
    /// Whether the answer is a good one (ratings; true elsewhere).
    pub desirable: bool,
}

impl Example {
    /// Tokens of the longest sequence.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.rows.iter().chain(&self.kl_rows).map(|r| r.ids.len()).max().unwrap_or(0)
    }

    /// Tokens of all sequences trained on, a shared prompt counted with each, as a trainer without prefix sharing computes
    /// them.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.rows.iter().map(|r| r.ids.len()).sum()
    }

    /// Tokens whose log-probs are trained on.
    #[must_use]
    pub fn scored(&self) -> usize {
        self.rows.iter().map(|r| r.scored.len()).sum()
    }

    /// How many of the first sequence's scored tokens are the prompt's.
    #[must_use]
    pub fn skip(&self) -> usize {
        self.rows.first().map_or(0, |r| r.scored.iter().take_while(|at| **at < self.prompt).count())
    }

    /// Tokens of the answer in sequence `side`.
    #[must_use]
    pub fn answer(&self, side: usize) -> &[u32] {
        self.rows.get(side).map_or(&[], |r| &r.ids[self.prompt.min(r.ids.len())..])
    }
}

/// Rows in tokens, split, and what was left out.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tokenised {
    /// Examples to train on, in the file's order.
    pub train: Vec<Example>,
    /// Examples kept for evaluation, in the file's order.
    pub eval: Vec<Example>,
    /// Rows left out, by reason.
    pub dropped: Vec<DroppedRows>,
    /// What the user should know about the rows.
    pub findings: Vec<Finding>,
}

impl Tokenised {
    /// Tokens of the longest example, 0 without any.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.train.iter().chain(&self.eval).map(Example::longest).max().unwrap_or(0)
    }

    pub(super) fn drop(&mut self, reason: &str) {
        match self.dropped.iter_mut().find(|d| d.reason == reason) {
            Some(d) => d.count += 1,
            None => self.dropped.push(DroppedRows { reason: reason.into(), count: 1 }),
        }
    }

    /// Takes an example, unless it is too long.
    pub(super) fn push(&mut self, example: Example, options: &TokeniseOptions, context: usize) {
        if example.longest() > options.max_length {
            self.drop("longer than max_length");
        } else if example.longest() > context {
            self.drop("longer than the model's context");
        } else if is_eval(&example.prompt_id, options.eval_fraction) {
            self.eval.push(example);
        } else {
            self.train.push(example);
        }
    }
}

/// Whether a prompt's rows are kept for evaluation: the same for every run with the same `fraction`.
#[must_use]
pub fn is_eval(prompt: &PromptId, fraction: f64) -> bool {
    // 53 bits of the hash as a number in 0..1.
    ((hash64(prompt.as_str().as_bytes()) >> 11) as f64 / (1u64 << 53) as f64) < fraction
}

/// Length of the common prefix.
pub(crate) fn common_prefix(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}
