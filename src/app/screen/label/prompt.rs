//! The prompt on the card: its turns, its scrolling, and how much of the screen it takes.
//!
//! Of a conversation the last user turn is what the answers answer: the view is pinned to it until a key scrolls.

use crate::app::wrap::{presentable, wrap};
use crate::domain::PromptBody;
use std::ops::Range;

/// One turn of a shown prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownTurn {
    /// Its bytes in the shown text, the role included.
    pub range: Range<usize>,
    /// The bytes of its role and the mark after it; empty for a prompt of one user turn.
    pub role: Range<usize>,
}

/// The prompt on the card.
#[derive(Debug, Clone, Default)]
pub struct PromptView {
    /// The text as shown.
    pub text: String,
    /// Its turns.
    pub turns: Vec<ShownTurn>,
    /// Its lines in the text.
    pub lines: Vec<Range<usize>>,
    /// Lines scrolled off the top.
    pub scroll: usize,
    /// Whether it takes most of the screen.
    pub expanded: bool,
    /// The turn that the answers answer.
    last: usize,
    /// Rows it has on the screen.
    rows: usize,
    /// Whether a key scrolled it; until then it is pinned.
    scrolled: bool,
    width: usize,
}

impl PromptView {
    /// A prompt: a single user turn and plain text as they are, several turns led by their roles.
    #[must_use]
    pub fn of(body: &PromptBody) -> Self {
        let mut out = Self::default();
        match body {
            PromptBody::Text(text) => out.turn("", text),
            PromptBody::Chat(turns) => match &turns[..] {
                [one] if one.role == "user" => out.turn("", &one.content),
                turns => {
                    for turn in turns {
                        out.turn(&turn.role, &turn.readable());
                    }
                    let user = turns.iter().rposition(|turn| turn.role == "user");
                    out.last = user.unwrap_or(turns.len().saturating_sub(1));
                }
            },
        }
        out
    }

    fn turn(&mut self, role: &str, content: &str) {
        if !self.turns.is_empty() {
            self.text.push('\n');
        }
        let start = self.text.len();
        if !role.is_empty() {
            let role = presentable(role).split_whitespace().collect::<Vec<_>>().join(" ");
            self.text.push_str(&format!("{role} ▸ "));
        }
        let end = self.text.len();
        self.text.push_str(presentable(content).trim_end());
        self.turns.push(ShownTurn { range: start..self.text.len(), role: start..end });
    }

    /// Lays it out in a body of `height` rows and `width` columns; returns the rows it takes. `least` rows stay for the
    /// answers when it is expanded.
    pub fn lay_out(&mut self, width: usize, height: u16, least: u16) -> u16 {
        if self.width != width {
            let top = self.lines.get(self.scroll).map_or(0, |line| line.start);
            self.lines = wrap(&self.text, width);
            self.scroll = self.line_at(top);
            self.width = width;
        }
        let most = if self.expanded { height.saturating_sub(least).max(height / 4) } else { height / 4 };
        let rows = (self.lines.len().min(usize::from(u16::MAX)) as u16).min(most.max(1));
        self.rows = usize::from(rows);
        if !self.scrolled {
            self.scroll = self.line_at(self.turns.get(self.last).map_or(0, |turn| turn.range.start));
        }
        self.scroll = self.scroll.min(self.max_scroll());
        rows
    }

    fn line_at(&self, at: usize) -> usize {
        self.lines.iter().rposition(|line| line.start <= at).unwrap_or(0)
    }

    fn max_scroll(&self) -> usize {
        self.lines.len().saturating_sub(self.rows)
    }

    /// Scrolls by lines.
    pub fn scroll_by(&mut self, lines: isize) {
        self.scroll = self.scroll.saturating_add_signed(lines).min(self.max_scroll());
        self.scrolled = true;
    }

    /// Shows this byte of the text.
    pub fn reveal(&mut self, at: usize) {
        self.scroll = self.line_at(at).saturating_sub(self.rows / 2).min(self.max_scroll());
        self.scrolled = true;
    }

    /// Expands it, or makes it small again and pins it.
    pub fn toggle(&mut self) {
        self.expanded = !self.expanded;
        self.scrolled = false;
    }

    /// Whether a part of it is off the screen.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.lines.len() > self.rows
    }

    /// The number of the turn in view, of a conversation. The last line on the screen decides.
    #[must_use]
    pub fn turn_in_view(&self) -> Option<(usize, usize)> {
        let bottom = self.lines.get((self.scroll + self.rows).min(self.lines.len()).checked_sub(1)?)?;
        let at = self.turns.iter().rposition(|turn| turn.range.start <= bottom.start)?;
        (self.turns.len() > 1).then_some((at + 1, self.turns.len()))
    }

    /// Lines off the screen, above and below.
    #[must_use]
    pub fn hidden(&self) -> (usize, usize) {
        (self.scroll, self.lines.len().saturating_sub(self.scroll + self.rows))
    }

    /// Whether a byte belongs to the turn that the answers answer.
    #[must_use]
    pub fn is_question(&self, at: usize) -> bool {
        self.turns.get(self.last).is_none_or(|turn| turn.range.contains(&at) || turn.range.end == at)
    }

    /// The role in a line, if the line begins a turn.
    #[must_use]
    pub fn role_in(&self, line: &Range<usize>) -> Option<Range<usize>> {
        let turn = self.turns.iter().find(|turn| turn.range.start == line.start && !turn.role.is_empty())?;
        Some(turn.role.start..turn.role.end.min(line.end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Message;

    fn talk(contents: &[&str]) -> PromptView {
        let role = |i: usize| if i.is_multiple_of(2) { "user" } else { "assistant" };
        let turns = contents.iter().enumerate();
        let turns = turns.map(|(i, text)| Message::new(role(i), *text));
        PromptView::of(&PromptBody::Chat(turns.collect()))
    }

    #[test]
    fn a_conversation_is_pinned_to_its_last_user_turn() {
        let long = "a long line of the talk\n".repeat(30);
        let mut prompt = talk(&[&long, &long, "And the last question?"]);
        assert_eq!(prompt.lay_out(40, 20, 8), 5);
        assert_eq!((prompt.turn_in_view(), prompt.hidden()), (Some((3, 3)), (56, 0)));
        let mut ends_long = talk(&["short", "answer", &long]);
        ends_long.lay_out(40, 20, 8);
        assert_eq!((ends_long.hidden(), ends_long.turn_in_view()), ((2, 25), Some((3, 3))));
        assert!(ends_long.text[ends_long.lines[2].clone()].starts_with("user ▸ a long"));
    }

    #[test]
    fn keys_scroll_it_and_a_new_size_keeps_the_place() {
        let long = "word ".repeat(200);
        let mut prompt = talk(&[&long, "reply", "question"]);
        prompt.lay_out(40, 20, 8);
        prompt.scroll_by(-10_000);
        assert_eq!((prompt.hidden().0, prompt.turn_in_view()), (0, Some((1, 3))));
        prompt.scroll_by(7);
        let top = prompt.lines[prompt.scroll].start;
        prompt.lay_out(70, 20, 8);
        assert!(prompt.lines[prompt.scroll].start <= top && top < prompt.lines[prompt.scroll + 1].start);
        prompt.toggle();
        assert_eq!(prompt.lay_out(70, 40, 8), 17, "all of it");
        assert!(!prompt.is_cut());
    }

    #[test]
    fn one_user_turn_has_no_role_and_no_number() {
        let mut prompt = PromptView::of(&PromptBody::user("Why?"));
        prompt.lay_out(40, 20, 8);
        assert_eq!((prompt.text.as_str(), prompt.turn_in_view(), prompt.is_cut()), ("Why?", None, false));
        assert!(prompt.is_question(0) && prompt.role_in(&(0..4)).is_none());
    }
}
