//! A card whose answers are still being written: it grows with them, can be judged before they end, and becomes the card of
//! the finished pair without losing its place.
//!
//! ```text
//! ─ 1 ───────────────────── … writing, 43 tok · all read ─
//!    Tides are caused by the Moon's gravity, which
//! ─ 2 ───────────────────────────────── 38 tok · all read ─
//!    The Moon pulls on the water.
//! ```
//!
//! Owns what of the two answers is there, and what a verdict on them says of it. Refuses to scroll by itself: text that moves
//! while it is read cannot be read.

use super::card::{Card, unread};
use super::parts::{PairParts, Writing};
use super::reading::ShownText;
use crate::app::open::OpenSession;
use crate::app::wrap::presentable;
use crate::domain::{PartialView, ShownPart, Side, hash64, thoughts};

impl Card {
    /// What there is of the answers, in the pair's order; none of a finished pair.
    #[must_use]
    pub fn partial_view(&self) -> Option<PartialView> {
        let writing = self.writing.as_ref()?;
        let view = PartialView {
            a: ShownPart::of(&writing.raw[0], writing.ended[0]),
            b: ShownPart::of(&writing.raw[1], writing.ended[1]),
        };
        Some(if self.left == Side::A { view } else { view.swapped() })
    }

    /// Takes what has been written since. False if the pair is gone.
    pub fn follow_growth(&mut self, open: &OpenSession) -> bool {
        if self.writing.is_none() {
            return true;
        }
        let Some(parts) = PairParts::of(open, &self.pair) else { return false };
        let parts = parts.shown_from(self.left);
        self.writing = Writing::of(&parts);
        self.name = open.pair_name(&self.pair);
        self.tokens = parts.tokens;
        self.cut = parts.cut;
        for i in 0..2 {
            self.hashes[i] = hash64(parts.text[i].as_bytes());
            let text = presentable(parts.text[i]);
            if text != self.text[i] {
                self.grow(i, text);
            }
        }
        true
    }

    /// Gives an answer its longer text. What was read stays read if the text goes on from there.
    fn grow(&mut self, i: usize, text: String) {
        if !text.starts_with(&self.text[i]) {
            self.read_to[i] = 0;
            self.scroll[i] = 0;
            self.thought_read[i].clear();
        }
        self.thoughts[i] = thoughts(&text);
        let known = self.thought_read[i].len().min(self.thoughts[i].len());
        self.thought_read[i].truncate(known);
        let new = self.thoughts[i][known..].iter().map(unread);
        self.thought_read[i].extend(new);
        self.shown[i] = ShownText::of(&text, &self.thoughts[i], self.view);
        self.text[i] = text;
        if self.layout.width > 0 {
            self.lines[i] = self.shown[i].lines(usize::from(self.layout.width));
        }
        self.diff = None;
    }
}
