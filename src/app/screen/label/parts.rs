//! What a card is made of: the parts of a pair, finished or being written.
//!
//! Refuses to know panes beyond their order: the card lays them out.

use crate::app::open::OpenSession;
use crate::domain::{CompletionId, Finish, Pair, PairId, Side};

/// What a card is made of, the answers in the pair's order.
pub(super) struct PairParts<'a> {
    pub(super) pair: &'a Pair,
    pub(super) text: [&'a str; 2],
    pub(super) tokens: [usize; 2],
    /// Whether an answer ended at the limit of tokens.
    pub(super) cut: [bool; 2],
    /// Which answers have ended, while the pair is being written.
    pub(super) writing: Option<[bool; 2]>,
}

impl<'a> PairParts<'a> {
    /// The parts of a pair, finished or being written; none if one is missing.
    pub(super) fn of(open: &'a OpenSession, id: &PairId) -> Option<Self> {
        if let Some(pair) = open.session.pair(id) {
            let (a, b) = open.session.sides(pair)?;
            return Some(Self {
                pair,
                text: [&a.text, &b.text],
                tokens: [a.tokens as usize, b.tokens as usize],
                cut: [a.finish == Finish::Length, b.finish == Finish::Length],
                writing: None,
            });
        }
        let growing = open.growing_pair(id)?;
        let (pair, text, tokens) = (growing.pair, growing.text, growing.tokens);
        Some(Self { pair, text, tokens, cut: [false; 2], writing: Some(growing.ended) })
    }

    /// The parts in the order of the panes.
    pub(super) fn shown_from(mut self, left: Side) -> Self {
        if left == Side::B {
            self.text.reverse();
            self.tokens.reverse();
            self.cut.reverse();
            if let Some(ended) = &mut self.writing {
                ended.reverse();
            }
        }
        self
    }

    /// The completions in the order of the panes.
    pub(super) fn completions(&self, left: Side) -> [CompletionId; 2] {
        let (a, b) = (self.pair.a.clone(), self.pair.b.clone());
        if left == Side::A { [a, b] } else { [b, a] }
    }
}

/// What there is of answers that are being written, first and second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writing {
    /// Whether each has ended.
    pub ended: [bool; 2],
    /// Their texts as the model wrote them.
    pub raw: [String; 2],
}

impl Writing {
    pub(super) fn of(parts: &PairParts<'_>) -> Option<Self> {
        parts.writing.map(|ended| Self { ended, raw: parts.text.map(str::to_owned) })
    }
}
