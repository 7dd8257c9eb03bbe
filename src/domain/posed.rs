//! Pairs that an evaluation puts up for blind judging by people.
//!
//! Owns the record and the words by which a text gives its model away. Refuses to mix these pairs with those that train: the
//! session holds them apart.

use super::contest::{Contestant, ItemKey};
use super::identity::identity_words;
use super::ids::RunId;
use super::text::{Completion, Pair, Prompt, PromptBody};
use super::verdict::{Choice, Side};
use serde::{Deserialize, Serialize};

/// The strategy of pairs that an evaluation made. They are held out of training, agreement and exports.
pub const EVALUATION: &str = "evaluation";

/// The kind of judge that is a person.
pub const HUMAN: &str = "human";

/// A pair for blind judging.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PosedPair {
    /// The item whose answers it compares.
    #[serde(flatten)]
    pub key: ItemKey,
    /// The prompt's hash, by which intervals are clustered.
    pub cluster: String,
    /// The evaluation.
    pub run: RunId,
    /// The pair.
    pub pair: Pair,
    /// Who wrote the pair's first answer.
    pub first: Contestant,
    /// The prompt.
    pub prompt: Prompt,
    /// The pair's answers in its order, without thoughts. Sanitise before showing.
    pub answers: [Completion; 2],
}

impl PosedPair {
    /// The probability that a is better, by a choice; none for a pair that was put off. Both bad is a tie.
    #[must_use]
    pub fn score(&self, choice: Choice) -> Option<f64> {
        match choice {
            Choice::Prefer(side, _) => {
                let first_won = side == Side::A;
                Some(f64::from(u8::from(first_won == (self.first == Contestant::A))))
            }
            Choice::Tie | Choice::BothBad => Some(0.5),
            Choice::Skip => None,
        }
    }

    /// The characters of both contestants' answers.
    #[must_use]
    pub fn chars(&self) -> [usize; 2] {
        let [first, second] = [0, 1].map(|i| self.answers[i].text.chars().count());
        if self.first == Contestant::A { [first, second] } else { [second, first] }
    }
}

/// How far one person has judged an evaluation's pairs.
#[derive(Debug, Clone, PartialEq)]
pub struct BlindSet {
    /// The evaluation.
    pub run: RunId,
    /// Its pairs.
    pub pairs: usize,
    /// Those that the person judged; a pair that was put off is not.
    pub judged: usize,
    /// Who was compared, and how often each won; none until the person has judged all.
    pub revealed: Option<Revealed>,
}

/// What a judged set of blind pairs says.
#[derive(Debug, Clone, PartialEq)]
pub struct Revealed {
    /// The names of a and b.
    pub names: [String; 2],
    /// How often a and b were preferred.
    pub wins: [usize; 2],
    /// Ties, both bad among them.
    pub ties: usize,
}

/// Sentences by which an answer tells who made it, in lower case.
const MAKERS: &[&str] = &[
    "ai developed by",
    "ai assistant developed by",
    "ai model developed by",
    "language model developed by",
    "language model trained by",
    "i was developed by",
    "i was created by",
    "i was trained by",
];

/// The words in an answer that may tell which model wrote it, and that the prompt does not use itself.
#[must_use]
pub fn giveaways(prompt: &PromptBody, answer: &str) -> Vec<&'static str> {
    let prompt = match prompt {
        PromptBody::Text(text) => text.clone(),
        PromptBody::Chat(turns) => turns.iter().map(|turn| turn.content.as_str()).collect::<Vec<_>>().join("\n"),
    };
    let lower = |text: &str| text.to_lowercase().replace('\u{2019}', "'");
    let (asked, said) = (lower(&prompt), lower(answer));
    let makers = MAKERS.iter().copied().filter(|words| said.contains(words) && !asked.contains(words));
    let named = identity_words(&prompt);
    makers.chain(identity_words(answer).into_iter().filter(|word| !named.contains(word))).collect()
}

#[cfg(test)]
mod tests;
