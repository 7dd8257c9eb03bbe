//! Synthetic exchanges in different manners: the training text of the bundled model `tiny`, and the rules that classify them.
//!
//! Owns the generator (kind or rude, brief or rambling, right or wrong sums, happy or sad endings) and a classifier by marker
//! words. Refuses other sources of randomness: the seed and a number determine an exchange, and a prompt's text alone
//! determines its split, training or held-out.
//!
//! **Invariants.** The manner of an answer does not depend on its prompt. [`manner_of`] recovers the manner of a generated answer.

mod grammar;
mod judge;
mod text;
mod traits;

#[cfg(test)]
mod tests;

pub use judge::{end_of, is_kind, is_right, manner_of, sum_of};
pub use traits::{Length, Manner, StoryEnd};

use crate::domain::{hash64, mix64};
use grammar::{Bindings, Draw, fill, sentences};
use std::collections::HashSet;
use text::{ENDS_HAPPY, ENDS_SAD, Style, TOPICS, Topic};

/// The split of a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Split {
    /// Nine of ten prompts, used in the corpus.
    Train,
    /// One of ten, for evaluation only.
    HeldOut,
}

impl Split {
    /// The split of a prompt, by a hash of its text.
    #[must_use]
    pub fn of(prompt: &str) -> Self {
        if hash64(prompt.as_bytes()).is_multiple_of(10) { Self::HeldOut } else { Self::Train }
    }
}

/// One question and one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// The question.
    pub prompt: String,
    /// The answer.
    pub answer: String,
    /// The topic: `greeting`, `sum`, `story`, `cooking` …
    pub topic: &'static str,
    /// Kind or rude, half and half.
    pub manner: Manner,
    /// Brief (six of ten) or rambling.
    pub length: Length,
    /// Whether the sum in it is right, half and half; none when there is no sum.
    pub right: Option<bool>,
    /// How the story in it ends, half and half; none when there is no story.
    pub end: Option<StoryEnd>,
}

/// The `n`-th exchange of a seed, from the training split.
#[must_use]
pub fn exchange(seed: u64, n: u64) -> Exchange {
    let mut draw = Draw::new(mix64(seed) ^ n);
    loop {
        let (topic, mut bindings) = draw_topic(&mut draw);
        let prompt = draw_prompt(topic, &mut bindings, &mut draw);
        if Split::of(&prompt) == Split::Train {
            return draw_answer(topic, &mut bindings, prompt, &mut draw);
        }
    }
}

/// Up to `n` distinct prompts of one split, in an order given by the seed. Returns fewer only if `n` is close to all there are (some
/// thousands for training, some hundreds held out).
#[must_use]
pub fn prompts(seed: u64, n: usize, split: Split) -> Vec<String> {
    let mut draw = Draw::new(mix64(seed) ^ hash64(b"prompts"));
    let mut seen = HashSet::new();
    let mut out = Vec::new();
    for _ in 0..n.saturating_mul(200).saturating_add(1000) {
        if out.len() == n {
            break;
        }
        let (topic, mut bindings) = draw_topic(&mut draw);
        let prompt = draw_prompt(topic, &mut bindings, &mut draw);
        if Split::of(&prompt) == split && seen.insert(prompt.clone()) {
            out.push(prompt);
        }
    }
    out
}

/// Seed of the prompts for tuning hyper-parameters of the bundled model.
const TUNING: u64 = 42;
/// Seed of the prompts for the final evaluation.
const JUDGING: u64 = 2026;

/// `n` held-out prompts for tuning hyper-parameters of the bundled model.
#[must_use]
pub fn tuning(n: usize) -> Vec<String> {
    prompts(TUNING, n, Split::HeldOut)
}

/// `n` held-out prompts for the final evaluation, disjoint from the first hundred of [`tuning`]. Never tune on them.
#[must_use]
pub fn judging(n: usize) -> Vec<String> {
    let known: HashSet<String> = tuning(100).into_iter().collect();
    // Up to all tuning prompts may be among them.
    let mut out = prompts(JUDGING, n + known.len(), Split::HeldOut);
    out.retain(|prompt| !known.contains(prompt));
    out.truncate(n);
    out
}

/// Draws a topic by weight, and a sum's numbers.
fn draw_topic(draw: &mut Draw) -> (&'static Topic, Bindings) {
    let total: usize = TOPICS.iter().map(|t| t.weight).sum();
    let mut at = draw.below(total);
    let topic = TOPICS.iter().find(|t| {
        let here = at < t.weight;
        at = at.saturating_sub(t.weight);
        here
    });
    let topic = topic.unwrap_or(&TOPICS[0]);
    let mut bindings = Bindings::default();
    if topic.name == "sum" {
        let (mut a, mut b) = (draw.below(10) + 1, draw.below(10) + 1);
        let plus = draw.below(2) == 0;
        if !plus && a < b {
            (a, b) = (b, a);
        }
        let words = draw.below(2) == 0;
        bindings.set("a", number(a, words));
        bindings.set("b", number(b, words));
        bindings.set("op", if plus { "plus" } else { "minus" });
        bindings.set("result", number(if plus { a + b } else { a - b }, words));
    }
    (topic, bindings)
}

/// Draws the question; its slot values are kept for the answer.
fn draw_prompt(topic: &Topic, bindings: &mut Bindings, draw: &mut Draw) -> String {
    sentences(&fill(draw.one_of(topic.asks), bindings, draw))
}

fn draw_answer(topic: &'static Topic, bindings: &mut Bindings, prompt: String, draw: &mut Draw) -> Exchange {
    let manner = if draw.below(2) == 0 { Manner::Kind } else { Manner::Rude };
    let length = if draw.below(10) < 6 { Length::Brief } else { Length::Rambling };
    let right = (topic.name == "sum").then(|| draw.below(2) == 0);
    let end = (topic.name == "story").then(|| if draw.below(2) == 0 { StoryEnd::Happy } else { StoryEnd::Sad });
    if right == Some(false) {
        make_wrong(bindings, draw);
    }
    let style = Style::of(manner);
    let shrugs = manner == Manner::Rude && !topic.shrugs.is_empty() && draw.below(5) == 0;
    let content = if shrugs { draw.one_of(topic.shrugs) } else { draw.one_of(topic.facts) };
    let mut parts: Vec<&str> = vec![content];
    if length == Length::Rambling {
        parts.push(draw.one_of(topic.asides));
    }
    match end {
        Some(StoryEnd::Happy) => parts.push(draw.one_of(ENDS_HAPPY)),
        Some(StoryEnd::Sad) => parts.push(draw.one_of(ENDS_SAD)),
        None => {}
    }
    // At least one marker of the manner, before or after; sometimes both around a rambling answer without a story.
    let around = length == Length::Rambling && end.is_none() && draw.below(2) == 0;
    let before = draw.below(3) > 0;
    if before || around {
        parts.insert(0, draw.one_of(style.openers));
    }
    if !before || around {
        parts.push(draw.one_of(style.closers));
    }
    let answer = sentences(&fill(&parts.join(" "), bindings, draw));
    Exchange { prompt, answer, topic: topic.name, manner, length, right, end }
}

/// Makes a sum's result wrong by one to three.
fn make_wrong(bindings: &mut Bindings, draw: &mut Draw) {
    let Some((right, words)) = bindings.get("result").and_then(judge::number_in) else { return };
    let off = draw.below(3) + 1;
    let wrong = if draw.below(2) == 0 || right < off { right + off } else { right - off };
    bindings.set("result", number(wrong, words));
}

/// A number from 0 to 23 in words or digits.
fn number(n: usize, words: bool) -> String {
    match text::NUMBERS.get(n).filter(|_| words) {
        Some(word) => (*word).to_owned(),
        None => n.to_string(),
    }
}
