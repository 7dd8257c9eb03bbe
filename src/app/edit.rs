//! A small text buffer: one line or several, a cursor, the usual keys. No clipboard, no undo.
//!
//! Multi-line text keeps its tabs and direction marks; it is sanitised only for display. A single line takes no control
//! characters. `ratatui-textarea` does not fit: it is a terminal widget, which this room may not import, and it moves
//! and deletes by `char`, which would split an accent or a joined emoji.

use super::key::{Code, Key};
use super::wrap::presentable;
use unicode_segmentation::{GraphemeCursor, UnicodeSegmentation};

/// Text being typed and the cursor in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EditBuffer {
    text: String,
    cursor: usize,
    multiline: bool,
    /// The text before the first edit.
    original: String,
}

impl EditBuffer {
    /// A single line, with the cursor at its end.
    #[must_use]
    pub fn line(text: impl Into<String>) -> Self {
        let text: String = text.into();
        Self { cursor: text.len(), original: text.clone(), text, multiline: false }
    }

    /// Text of several lines, with the cursor at its end.
    #[must_use]
    pub fn multiline(text: impl Into<String>) -> Self {
        Self { multiline: true, ..Self::line(text) }
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The cursor as a byte offset at a character boundary.
    #[must_use]
    pub fn cursor(&self) -> usize {
        self.cursor
    }

    /// Whether it accepts line breaks.
    #[must_use]
    pub fn is_multiline(&self) -> bool {
        self.multiline
    }

    /// Whether the text differs from the original.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        self.text != self.original
    }

    /// The sanitised text and the cursor in it.
    #[must_use]
    pub fn shown(&self) -> (String, usize) {
        let (before, after) = self.text.split_at(self.cursor);
        let before = presentable(before);
        let cursor = before.len();
        (before + &presentable(after), cursor)
    }

    /// Inserts text at the cursor. Multi-line text only normalises line ends to `\n`; a single line turns line breaks
    /// into spaces and drops control characters.
    pub fn insert(&mut self, text: &str) {
        let clean = if self.multiline {
            text.replace("\r\n", "\n").replace('\r', "\n")
        } else {
            crate::domain::sanitise(text).trim_end_matches('\n').replace('\n', " ")
        };
        self.text.insert_str(self.cursor, &clean);
        self.cursor += clean.len();
    }

    /// Handles a key that moves or edits; false when the key means nothing here.
    pub fn press(&mut self, key: Key) -> bool {
        if let Some(c) = key.typed() {
            self.insert(c.encode_utf8(&mut [0; 4]));
            return true;
        }
        match (key.code, key.ctrl) {
            (Code::Enter, false) if self.multiline => self.insert("\n"),
            (Code::Tab, false) if self.multiline => self.insert("\t"),
            (Code::Backspace, false) | (Code::Char('h'), true) => {
                let from = self.previous_boundary();
                self.delete(from, self.cursor);
            }
            (Code::Delete, false) | (Code::Char('d'), true) => self.delete(self.cursor, self.next_boundary()),
            (Code::Char('w'), true) => {
                let from = self.previous_word();
                self.delete(from, self.cursor);
            }
            (Code::Char('u'), true) => {
                let from = self.line_start();
                self.delete(from, self.cursor);
            }
            (Code::Left, false) => self.cursor = self.previous_boundary(),
            (Code::Right, false) => self.cursor = self.next_boundary(),
            (Code::Left, true) => self.cursor = self.previous_word(),
            (Code::Home, false) | (Code::Char('a'), true) => self.cursor = self.line_start(),
            (Code::End, false) | (Code::Char('e'), true) => self.cursor = self.line_end(),
            (Code::Up, false) if self.multiline => self.vertical(false),
            (Code::Down, false) if self.multiline => self.vertical(true),
            _ => return false,
        }
        true
    }

    fn delete(&mut self, from: usize, to: usize) {
        self.text.replace_range(from..to, "");
        self.cursor = from;
    }

    fn previous_boundary(&self) -> usize {
        let mut at = GraphemeCursor::new(self.cursor, self.text.len(), true);
        at.prev_boundary(&self.text, 0).ok().flatten().unwrap_or(0)
    }

    fn next_boundary(&self) -> usize {
        let mut at = GraphemeCursor::new(self.cursor, self.text.len(), true);
        at.next_boundary(&self.text, 0).ok().flatten().unwrap_or(self.text.len())
    }

    fn previous_word(&self) -> usize {
        self.text[..self.cursor]
            .split_word_bound_indices()
            .rev()
            .find(|(_, word)| !word.trim().is_empty())
            .map_or(0, |(at, _)| at)
    }

    fn line_start(&self) -> usize {
        self.text[..self.cursor].rfind('\n').map_or(0, |at| at + 1)
    }

    fn line_end(&self) -> usize {
        self.text[self.cursor..].find('\n').map_or(self.text.len(), |at| self.cursor + at)
    }

    fn vertical(&mut self, down: bool) {
        let (start, end) = (self.line_start(), self.line_end());
        let column = self.text[start..self.cursor].graphemes(true).count();
        let line = if down {
            if end == self.text.len() {
                self.cursor = end;
                return;
            }
            let rest = &self.text[end + 1..];
            (end + 1, rest.find('\n').map_or(self.text.len(), |at| end + 1 + at))
        } else {
            if start == 0 {
                self.cursor = 0;
                return;
            }
            (self.text[..start - 1].rfind('\n').map_or(0, |at| at + 1), start - 1)
        };
        let text = &self.text[line.0..line.1];
        self.cursor = line.0 + text.grapheme_indices(true).nth(column).map_or(text.len(), |(at, _)| at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_moves_and_deletes_by_grapheme() {
        let mut buffer = EditBuffer::line("a👩‍👩‍👧‍👦e\u{301}");
        assert!(buffer.press(Key::plain(Code::Left)) && buffer.press(Key::plain(Code::Backspace)));
        assert_eq!((buffer.text(), buffer.cursor()), ("ae\u{301}", 1));
        assert!(buffer.press(Key::plain(Code::Delete)));
        assert_eq!(buffer.text(), "a");
    }
}
