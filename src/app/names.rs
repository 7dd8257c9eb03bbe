//! What a pair is called on the screen: `p31`, or `p31·2` for the second pair of a prompt that has several.
//!
//! Owns the index from pairs to their numbers within a prompt. Refuses to walk the session once a frame: it follows
//! the pairs as they arrive.

use super::wrap::{clip, presentable};
use crate::domain::{Pair, PromptId, Session};
use std::collections::HashMap;

/// The longest shown id of a prompt, in cells; a file's ids can be of any length.
const ID_CELLS: usize = 24;

/// The numbers of pairs within their prompts.
#[derive(Debug, Clone, Default)]
pub struct PairNames {
    /// By the pairs' places in the session.
    number: Vec<u32>,
    /// How many pairs there are, by the prompts' places …
    of_prompt: Vec<u32>,
    /// … and of prompts that had not arrived when their pairs did.
    of_missing: HashMap<PromptId, u32>,
}

impl PairNames {
    /// Numbers the pairs that arrived since the last call.
    pub fn follow(&mut self, session: &Session) {
        self.of_prompt.resize(session.prompts().len(), 0);
        for pair in session.pairs().iter().skip(self.number.len()) {
            let before = self.pairs_of(session, &pair.prompt);
            match session.prompt_place(&pair.prompt) {
                Some(place) => self.of_prompt[place] += 1,
                None => *self.of_missing.entry(pair.prompt.clone()).or_default() += 1,
            }
            self.number.push(before + 1);
        }
    }

    fn pairs_of(&self, session: &Session, prompt: &PromptId) -> u32 {
        let here = session.prompt_place(prompt).and_then(|place| self.of_prompt.get(place)).copied().unwrap_or(0);
        // Most often there are none.
        here + if self.of_missing.is_empty() { 0 } else { self.of_missing.get(prompt).copied().unwrap_or(0) }
    }

    /// The name of a pair.
    #[must_use]
    pub fn name(&self, session: &Session, pair: &Pair) -> String {
        let prompt = clip(&presentable(pair.prompt.as_str()), ID_CELLS);
        let number = session.pair_place(&pair.id).and_then(|place| self.number.get(place));
        match (number, self.pairs_of(session, &pair.prompt)) {
            (Some(number), 2..) => format!("{prompt}·{number}"),
            _ => prompt,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{CompletionId, PairId};

    #[test]
    fn pairs_of_one_prompt_are_numbered_and_a_single_pair_is_not() {
        let mut session = Session::default();
        let mut names = PairNames::default();
        let mut add = |session: &mut Session, id: &str, prompt: &str| {
            let (a, b) = (CompletionId::new(format!("{id}a")), CompletionId::new(format!("{id}b")));
            let pair = Pair {
                id: PairId::new(id),
                prompt: PromptId::new(prompt),
                a,
                b,
                strategy: "random".into(),
                p_select: 1.0,
            };
            session.add_pair(pair);
            names.follow(session);
            session.pairs().iter().map(|pair| names.name(session, pair)).collect::<Vec<_>>()
        };
        assert_eq!(add(&mut session, "x", "p1"), ["p1"]);
        assert_eq!(add(&mut session, "y", "p2"), ["p1", "p2"]);
        assert_eq!(add(&mut session, "z", "p1"), ["p1·1", "p2", "p1·2"]);
    }
}
