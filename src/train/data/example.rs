//! Examples: tokenised rows with their masks, and the rows left out.
//!
//! Owns the length limits, the counts of rows left out, and the split into training and evaluation. Refuses texts.

use super::unfinished::UNFINISHED;
use crate::domain::{DroppedRows, Finding, PairId, PromptId, Severity, TrainerParams, hash64, is_held_out};
use crate::model::error::Error;
use crate::nn::policy::Row;

/// Why a row is left out that the model could read.
pub(super) const TOO_LONG: &str = "longer than max_length";
/// Why a row is left out that the model cannot read.
pub(super) const BEYOND_CONTEXT: &str = "longer than the model's context";

/// What to do where no row is left, by why rows were left out; `held_out`: whether some are kept for evaluation.
pub(crate) fn remedies(dropped: &[DroppedRows], held_out: bool) -> Vec<&'static str> {
    let of = |why: &str| dropped.iter().any(|row| row.reason == why);
    let all = [
        (true, "add rows"),
        (of(TOO_LONG), "raise max_length"),
        (of(BEYOND_CONTEXT), "shorten them or train a model with a longer context"),
        (held_out, "lower eval_fraction"),
    ];
    all.into_iter().filter(|(fits, _)| *fits).map(|(_, remedy)| remedy).collect()
}

/// How rows are tokenised.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokeniseOptions {
    /// Longer examples are left out.
    pub max_length: usize,
    /// Share of prompts held out for evaluation.
    pub eval_fraction: f64,
    /// Whether the prompts' texts decide which are held out; else their ids.
    pub split_by_text: bool,
    /// Pairs: score the chosen side's prompt too.
    pub score_prompt: bool,
    /// Pairs: read the scalar head at each answer's last token instead of scoring tokens.
    pub read_value: bool,
    /// Conversations: only assistant turns are in the mask.
    pub assistant_only: bool,
    /// Prompt and completion: only the completion is in the mask.
    pub completion_only: bool,
    /// SFT: pack short texts into rows of at most `max_length` tokens; evaluation rows are not packed.
    pub packing: bool,
    /// KTO: also score every answer after its neighbour's prompt, within blocks of this many rows; 0: do not.
    pub mismatch_block: usize,
}

impl TokeniseOptions {
    /// What decides whether a prompt's rows are held out: its text, or its id.
    pub(super) fn split_id(&self, id: &PromptId, of_text: impl FnOnce() -> PromptId) -> PromptId {
        if self.split_by_text { of_text() } else { id.clone() }
    }

    /// The defaults of every offline method.
    #[must_use]
    pub fn from_params(shared: &TrainerParams) -> Self {
        Self { eval_fraction: shared.eval_fraction, ..Self::new(shared.max_length) }
    }

    /// Rows of at most `max_length` tokens, answers scored, nothing held out.
    #[must_use]
    pub fn new(max_length: usize) -> Self {
        Self {
            max_length,
            eval_fraction: 0.0,
            split_by_text: true,
            score_prompt: false,
            read_value: false,
            assistant_only: false,
            completion_only: true,
            packing: false,
            mismatch_block: 0,
        }
    }
}

/// A tokenised unit of training: the sequences that share a loss.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// The row it came from, so that findings can name it.
    pub id: PairId,
    /// The prompt's id.
    pub prompt_id: PromptId,
    /// Index of the row it came from.
    pub row: usize,
    /// Length of the prompt that starts every sequence of `rows`; 0 without a common prompt.
    pub prompt: usize,
    /// The sequences trained on: chosen and rejected, or a single one.
    pub rows: Vec<Row>,
    /// Mismatched sequences for KTO's KL estimate, scored without gradient.
    pub kl_rows: Vec<Row>,
    /// Strength of the preference in 0..=1, if known.
    pub margin: Option<f64>,
    /// Share of votes for the preference, where raters disagreed.
    pub agreed: Option<f64>,
    /// KTO's label; true for other methods.
    pub desirable: bool,
}

impl Example {
    /// Tokens of the longest sequence.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.rows.iter().chain(&self.kl_rows).map(|r| r.ids.len()).max().unwrap_or(0)
    }

    /// Tokens of all sequences trained on; a shared prompt counts for each, as without prefix sharing.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.rows.iter().map(|r| r.ids.len()).sum()
    }

    /// Tokens in the loss mask.
    #[must_use]
    pub fn scored(&self) -> usize {
        self.rows.iter().map(|r| r.scored.len()).sum()
    }

    /// Number of scored prompt tokens in the first sequence.
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

/// Tokenised rows, split, and the rows left out.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tokenised {
    /// Examples to train on, in the file's order.
    pub train: Vec<Example>,
    /// Examples kept for evaluation, in the file's order.
    pub eval: Vec<Example>,
    /// Rows left out, by reason.
    pub dropped: Vec<DroppedRows>,
    /// Findings about the rows.
    pub findings: Vec<Finding>,
    /// Answers that were cut at the limit of tokens.
    pub cut: usize,
}

impl Tokenised {
    /// Tokens of the longest example; 0 without examples.
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

    /// Leaves a row out whose answer says nothing. The first that ends inside a thought is named.
    pub(super) fn unsaid(&mut self, why: &str, id: &PairId) {
        self.drop(why);
        if why == UNFINISHED && !self.findings.iter().any(|finding| finding.rule == "thought_unfinished") {
            self.findings.push(Finding {
                rule: "thought_unfinished".into(),
                step: 0,
                severity: Severity::Warn,
                text: format!("The answer of {id} ends inside its thought, so it never began. Such rows are left out."),
                remedy: "Sample with more max_new_tokens, or without thoughts (enable_thinking=false).".into(),
                pair: Some(id.clone()),
            });
        }
    }

    /// Leaves a row out that the chat template refuses; any other error ends the run. `kind` names the row for people.
    pub(super) fn refused(&mut self, kind: &str, id: &PairId, error: &Error) -> Result<(), Error> {
        let why = match error {
            Error::Template { why, .. } => why,
            Error::Memory { what, bytes } => return Err(Error::Memory { what: what.clone(), bytes: *bytes }),
            other => return Err(Error::Invalid(format!("{kind} {id}: {other}"))),
        };
        self.drop(&format!("refused by the chat template: {why}"));
        if !self.findings.iter().any(|finding| finding.rule == "template_refused") {
            self.findings.push(Finding {
                rule: "template_refused".into(),
                step: 0,
                severity: Severity::Warn,
                text: format!("The chat template refuses {kind} {id}: {why}. Such rows are left out."),
                remedy: "Change the conversation's roles, or use a model whose template takes them.".into(),
                pair: Some(id.clone()),
            });
        }
        Ok(())
    }

    /// Moves one prompt's examples to training where every prompt was held out: the prompt that a growing fraction would hold out last.
    pub(super) fn train_on_something(&mut self) {
        let place = |example: &Example| hash64(example.prompt_id.as_str().as_bytes());
        let last = self.eval.iter().map(place).max();
        let (true, Some(last)) = (self.train.is_empty(), last) else { return };
        let all = self.eval.len();
        (self.train, self.eval) = std::mem::take(&mut self.eval).into_iter().partition(|e| place(e) == last);
        self.findings.push(Finding {
            rule: "all_rows_held_out".into(),
            step: 0,
            severity: Severity::Warn,
            text: if self.eval.is_empty() {
                format!("Nothing is held out: {}", of_one_prompt(all))
            } else {
                format!("The split held out all {all} rows; {} of one prompt train all the same.", self.train.len())
            },
            remedy: "Add rows of other prompts to measure on.".into(),
            pair: None,
        });
    }

    /// Adds an example unless it is too long.
    pub(super) fn push(&mut self, example: Example, options: &TokeniseOptions, context: usize) {
        // First what no setting changes: a larger max_length does not lengthen the context. 0 is an unknown context.
        if context > 0 && example.longest() > context {
            self.drop(BEYOND_CONTEXT);
        } else if example.longest() > options.max_length {
            self.drop(TOO_LONG);
        } else if is_held_out(&example.prompt_id, options.eval_fraction) {
            self.eval.push(example);
        } else {
            self.train.push(example);
        }
    }
}

fn of_one_prompt(rows: usize) -> String {
    if rows == 1 { "the only row trains.".into() } else { format!("all {rows} rows have one prompt, and train.") }
}

/// Length of the common prefix.
pub(crate) fn common_prefix(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}
