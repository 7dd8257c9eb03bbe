//! The answers of a sampling run while they are written, as pairs that people can read along.
//!
//! Owns which pairs are shown: the next few in which both answers have begun, in the order in which they will be ready. Refuses
//! text that may still change: bytes that are not yet a character wait for the rest.

use super::generated::Generated;
use super::pairing::{candidate_id, foreseen};
use crate::domain::{Prompt, RunId};
use crate::model::tokenizer::Tokenizer;
use crate::protocol::{Growing, GrowingAnswer};
use std::collections::BTreeMap;

/// Most pairs shown: a person reads one after the other.
const MOST_PAIRS: usize = 8;
/// Most bytes shown of an answer; a longer one shows its beginning until it is finished.
const MOST_BYTES: usize = 256 << 10;

/// An answer so far: its text, its tokens, and whether it has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SoFar {
    pub(crate) text: String,
    pub(crate) tokens: usize,
    pub(crate) ended: bool,
}

impl SoFar {
    /// The text of the tokens that a model on this machine has drawn.
    pub(super) fn of(tokenizer: &Tokenizer, drawn: &[u32], ended: bool) -> Self {
        // A token that cannot be decoded now fails the run when the answer is finished.
        let text = tokenizer.decode(drawn).unwrap_or_default();
        Self { text: if ended { text } else { settled(&text).to_owned() }, tokens: drawn.len(), ended }
    }

    /// The text of a row that has stopped.
    pub(super) fn ended(tokenizer: &Tokenizer, generated: &Generated) -> Self {
        Self::of(tokenizer, &generated.ids, true)
    }
}

/// The text without a last character that is not complete.
fn settled(text: &str) -> &str {
    text.trim_end_matches(char::REPLACEMENT_CHARACTER)
}

/// A prompt's candidates so far, by their numbers.
pub(crate) type CandidateParts = BTreeMap<usize, SoFar>;

/// The pairs that can be shown of these prompts.
pub(super) fn growing<'a>(
    run: &RunId,
    prompts: impl Iterator<Item = (&'a Prompt, CandidateParts)>,
    per_prompt: usize,
    seed: u64,
) -> Growing {
    let mut out = Growing::default();
    for (prompt, mut parts) in prompts {
        for ((a, b), pair) in foreseen(run, prompt, per_prompt, seed) {
            if out.pairs.len() == MOST_PAIRS {
                return out;
            }
            let begun = |k: &usize| parts.get(k).is_some_and(|part| !part.text.trim().is_empty());
            if !(begun(&a) && begun(&b)) {
                continue;
            }
            for k in [a, b] {
                let Some(SoFar { mut text, tokens, mut ended }) = parts.remove(&k) else { continue };
                if text.len() > MOST_BYTES {
                    text.truncate(text.floor_char_boundary(MOST_BYTES));
                    ended = false;
                }
                out.answers.push(GrowingAnswer { completion: candidate_id(run, prompt, k), text, tokens, ended });
            }
            out.pairs.push(pair);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{PromptBody, PromptId};

    fn prompt(i: usize) -> Prompt {
        let body = PromptBody::Text("Why?".into());
        Prompt { id: PromptId::new(format!("p{i}")), body, source: "".into(), tags: [].into() }
    }

    fn part(text: &str) -> SoFar {
        SoFar { text: text.into(), tokens: 1, ended: false }
    }

    #[test]
    fn a_pair_is_shown_once_both_answers_have_begun_and_so_many_at_most() {
        let run = RunId::new("sample-1");
        let prompts: Vec<Prompt> = (0..20).map(prompt).collect();
        let with = |of: &dyn Fn(usize) -> CandidateParts| {
            growing(&run, prompts.iter().enumerate().map(|(i, p)| (p, of(i))), 2, 3)
        };
        let both = |_: usize| CandidateParts::from([(0, part("a")), (1, part("b"))]);
        let found = with(&both);
        assert_eq!((found.pairs.len(), found.answers.len()), (MOST_PAIRS, 2 * MOST_PAIRS));
        for (pair, two) in found.pairs.iter().zip(found.answers.chunks(2)) {
            assert_eq!((&pair.a, &pair.b), (&two[0].completion, &two[1].completion));
        }
        let one = |i: usize| if i == 7 { both(i) } else { CandidateParts::from([(0, part("a")), (1, part(" \n"))]) };
        let found = with(&one);
        assert_eq!(found.pairs.iter().map(|p| p.prompt.as_str().to_owned()).collect::<Vec<_>>(), ["p7"]);
        assert!(with(&|_| CandidateParts::new()).is_empty());
    }

    #[test]
    fn an_endless_answer_shows_its_beginning() {
        let long = "ä".repeat(MOST_BYTES);
        let parts = CandidateParts::from([(0, SoFar { ended: true, ..part(&long) }), (1, part("b"))]);
        let prompt = prompt(1);
        let found = growing(&RunId::new("s"), [(&prompt, parts)].into_iter(), 2, 3);
        let cut = found.answers.iter().find(|a| a.text.len() > 1).unwrap();
        assert!(cut.text.len() <= MOST_BYTES && !cut.ended && long.starts_with(&cut.text));
    }

    #[test]
    fn half_a_character_waits_for_its_rest() {
        assert_eq!(settled("ab\u{fffd}\u{fffd}"), "ab");
        assert_eq!(settled("a\u{fffd}b"), "a\u{fffd}b");
    }
}
