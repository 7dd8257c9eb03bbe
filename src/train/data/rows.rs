//! The rows of a run, by the kind that its method needs.
//!
//! Owns their number and their prompts. Refuses tokens.

use super::single;
use crate::domain::{PairRow, Prompt, PromptBody, RatedRow, SftRow};

/// A run's rows, of the kind that its method needs.
#[derive(Debug, Clone, PartialEq)]
pub enum Rows {
    /// Preference pairs.
    Pairs(Vec<PairRow>),
    /// Texts for supervised fine-tuning.
    Examples(Vec<SftRow>),
    /// Answers labelled desirable or undesirable.
    Ratings(Vec<RatedRow>),
    /// Prompts that the policy answers.
    Prompts(Vec<Prompt>),
}

impl Rows {
    /// The number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Pairs(r) => r.len(),
            Self::Examples(r) => r.len(),
            Self::Ratings(r) => r.len(),
            Self::Prompts(r) => r.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The prompt of row `i`, for sampling; none where the row has no separate prompt.
    #[must_use]
    pub fn prompt(&self, i: usize) -> Option<PromptBody> {
        match self {
            Self::Pairs(r) => r.get(i).map(|r| r.prompt.clone()),
            Self::Examples(r) => r.get(i).and_then(single::prompt_of),
            Self::Ratings(r) => r.get(i).map(|r| r.prompt.clone()),
            Self::Prompts(r) => r.get(i).map(|r| r.body.clone()),
        }
    }
}
