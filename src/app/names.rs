//! What a pair is called on the screen: `p31`, or `p31·2` for the second pair of a prompt that has several.
//!
//! Owns the index from pairs to their numbers within a prompt. Refuses to walk the session once a frame: it follows
//! the pairs as they arrive.

use super::wrap::{clip, presentable};
use crate::domain::{IdMap, Pair, PairId, PromptId, Session};

/// The longest shown id of a prompt, in cells; a file's ids can be of any length.
const ID_CELLS: usize = 24;

/// The numbers of pairs within their prompts.
#[derive(Debug, Clone, Default)]
pub struct PairNames {
    seen: usize,
    number: IdMap<PairId, usize>,
    of_prompt: IdMap<PromptId, usize>,
}

impl PairNames {
    /// Numbers the pairs that arrived since the last call.
    pub fn follow(&mut self, session: &Session) {
        for pair in session.pairs().iter().skip(self.seen) {
            let count = self.of_prompt.entry(pair.prompt.clone()).or_default();
            *count += 1;
            self.number.insert(pair.id.clone(), *count);
        }
        self.seen = session.pairs().len();
    }

    /// The name of a pair.
    #[must_use]
    pub fn name(&self, pair: &Pair) -> String {
        let prompt = clip(&presentable(pair.prompt.as_str()), ID_CELLS);
        match (self.number.get(&pair.id), self.of_prompt.get(&pair.prompt)) {
            (Some(number), Some(2..)) => format!("{prompt}·{number}"),
            _ => prompt,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::CompletionId;

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
            session.pairs().iter().map(|pair| names.name(pair)).collect::<Vec<_>>()
        };
        assert_eq!(add(&mut session, "x", "p1"), ["p1"]);
        assert_eq!(add(&mut session, "y", "p2"), ["p1", "p2"]);
        assert_eq!(add(&mut session, "z", "p1"), ["p1·1", "p2", "p1·2"]);
    }
}
