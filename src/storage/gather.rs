//! Rated answers that stand in several records of a file, grouped by their prompts.
//!
//! Owns the grouping. Refuses to drop silently: a prompt that gives no ranking is counted.

use super::chat_json::{fits, fits_as_json, is_blank};
use super::given::GivenAnswer;
use super::schema::{Gathered, RankedAnswer, Ranking, Refusal};
use crate::domain::PromptBody;
use std::collections::HashMap;

/// Rated answers by their prompts, in the order of the prompts' first rows.
#[derive(Default)]
pub(super) struct RatedGroups {
    at: HashMap<PromptBody, usize>,
    groups: Vec<(PromptBody, Vec<String>, Vec<RankedAnswer>)>,
}

impl RatedGroups {
    /// Adds an answer. Returns the prompt's text and everything that was read.
    ///
    /// # Errors
    /// When a text is empty or too long.
    pub(super) fn add(
        &mut self,
        prompt: PromptBody,
        tags: Vec<String>,
        answer: GivenAnswer,
        score: f64,
    ) -> Result<(String, String), Refusal> {
        if is_blank(&prompt) || answer.is_blank() {
            return Err(Refusal::Empty);
        }
        fits_as_json("prompt", &prompt)?;
        fits("answer", &answer.text)?;
        let asked = prompt.headline().to_owned();
        let said = format!("{asked}\n{}", answer.text);
        let at = *self.at.entry(prompt.clone()).or_insert(self.groups.len());
        if at == self.groups.len() {
            self.groups.push((prompt, tags, Vec::new()));
        }
        if let Some((.., answers)) = self.groups.get_mut(at) {
            answers.push(RankedAnswer { answer, model: None, score: Some(score) });
        }
        Ok((asked, said))
    }

    /// A ranking of each prompt with two answers or more; `alone` names a prompt with one, in the singular.
    pub(super) fn rankings(self, rater: &str, alone: &'static str) -> Gathered {
        let (several, single): (Vec<_>, Vec<_>) = self.groups.into_iter().partition(|(.., answers)| answers.len() > 1);
        let ranking =
            |(prompt, tags, answers)| Ranking { prompt, tags, rater: rater.into(), answers, unread: Vec::new() };
        let left_out = if single.is_empty() { Vec::new() } else { vec![(alone, single.len())] };
        Gathered { rankings: several.into_iter().map(ranking).collect(), left_out }
    }
}
