//! What corrections add to the training rows: the corrected text, preferred over the original.
//!
//! Owns these rows and their count. They come beside the SFT rows of the same corrections, and are not pairs to judge.

use super::super::conversation::PairTurns;
use super::super::ids::PairId;
use super::super::text::{CORRECTION, PairRow};
use super::Session;
use super::rows::{LeftOut, is_empty, same_words};
use std::collections::HashSet;

impl Session {
    /// Adds a preference row for each counting correction: the corrected text over the original. A text that two raters
    /// wrote counts once; one that changes white space alone, and one of an empty original, is left out and counted.
    /// `is_meant` says which pairs' corrections are asked for.
    pub(super) fn add_correction_rows(
        &self,
        rows: &mut Vec<PairRow>,
        left_out: &mut LeftOut,
        is_meant: impl Fn(&PairId) -> bool,
    ) {
        let mut seen = HashSet::new();
        for correction in self.corrected().filter(|c| is_meant(&c.pair)) {
            let Some(original) = self.completion(&correction.completion) else { continue };
            let Some(prompt) = self.prompt(&original.prompt) else { continue };
            if !seen.insert((&correction.completion, correction.text.as_str())) {
                continue;
            }
            if is_empty(&original.text) {
                left_out.empty += 1;
            } else if same_words(&original.text, &correction.text) {
                left_out.equal += 1;
            } else {
                rows.push(PairRow {
                    turns: PairTurns::of_replies(correction.text.as_str().into(), original.into()),
                    // Its own id: findings follow the margins of each row by it.
                    pair: PairId::new(format!("{}~{}", correction.completion, correction.rater)),
                    prompt_id: prompt.id.clone(),
                    prompt: prompt.body.clone(),
                    chosen: correction.text.clone(),
                    rejected: original.text.to_string(),
                    margin: None,
                    agreed: None,
                    strategy: Some(CORRECTION.into()),
                    rater: Some(correction.rater.clone()),
                });
            }
        }
    }
}
