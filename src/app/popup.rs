//! Popups over a screen, stacked with the topmost last. Owns each popup's keys and state; `update` and the screens act
//! on its answer.

use super::edit::EditBuffer;
use super::effect::Effect;
use super::find::{Find, FoundPair};
use super::key::{Code, Key};
use super::keymap::{Section, Table, c, k, on};
use super::masks::{MaskSheet, text_area};
use super::palette::{Palette, Pick};
use crate::domain::{CompletionId, PairId, PromptId};

/// A popup.
#[derive(Debug, Clone)]
pub enum Popup {
    /// The keys of the screen below.
    Help(Help),
    /// A searchable list.
    Palette(Palette),
    /// A search for pairs.
    Find(Box<Find>),
    /// A text to type.
    Input(TextInput),
    /// A yes-or-no question.
    Confirm(Confirm),
    /// The masks of a run's first rows.
    Masks(MaskSheet),
    /// A text to read: title and body.
    Message {
        /// Its heading.
        title: String,
        /// Its text.
        body: String,
    },
}

/// The actions of popups' keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PopupAction {
    /// One up.
    Up,
    /// One down.
    Down,
    /// A page up.
    PageUp,
    /// A page down.
    PageDown,
    /// Accept it.
    Accept,
    /// Cancel it.
    Cancel,
    /// Withdraw the correction.
    Withdraw,
    /// Complete the word.
    Complete,
}

use PopupAction as A;

#[rustfmt::skip]
const HELP: Section<A> = Section { title: "help", rows: &[
    on(k(Code::Esc), A::Cancel, "close", "close"),
    on(c('?'), A::Cancel, "", "close"),
    on(c('q'), A::Cancel, "", "close"),
    on(c('j'), A::Down, "scroll", "scroll down"),
    on(c('k'), A::Up, "scroll", "scroll up"),
    on(k(Code::Down), A::Down, "", "scroll down"),
    on(k(Code::Up), A::Up, "", "scroll up"),
] };
#[rustfmt::skip]
const PALETTE: Section<A> = Section { title: "palette, lists", rows: &[
    on(k(Code::Enter), A::Accept, "choose", "choose what is selected"),
    on(k(Code::Up), A::Up, "select", "previous"),
    on(k(Code::Down), A::Down, "select", "next"),
    on(k(Code::Esc), A::Cancel, "close", "close"),
] };
#[rustfmt::skip]
const FIND: Section<A> = Section { title: "find", rows: &[
    on(k(Code::Enter), A::Accept, "go to it", "go to the pair, scrolled to the match"),
    on(k(Code::Up), A::Up, "select", "previous"),
    on(k(Code::Down), A::Down, "select", "next"),
    on(k(Code::PageUp), A::PageUp, "page", "a page up"),
    on(k(Code::PageDown), A::PageDown, "page", "a page down"),
    on(k(Code::Esc), A::Cancel, "close", "close"),
] };
#[rustfmt::skip]
const INPUT: Section<A> = Section { title: "typing", rows: &[
    on(k(Code::Enter), A::Accept, "save", "save what was typed; in a text, a new line"),
    on(Key::ctrl('s'), A::Accept, "save", "save a text of several lines"),
    on(k(Code::Tab), A::Complete, "complete", "complete a tag"),
    on(Key::ctrl('x'), A::Withdraw, "withdraw", "withdraw the correction of this answer"),
    on(k(Code::Esc), A::Cancel, "cancel", "close without saving; asks before a text is discarded"),
] };
#[rustfmt::skip]
const CONFIRM: Section<A> = Section { title: "question", rows: &[
    on(c('y'), A::Accept, "yes", "yes"),
    on(c('n'), A::Cancel, "no", "no"),
    on(k(Code::Esc), A::Cancel, "", "no"),
] };
#[rustfmt::skip]
const MASKS: Section<A> = Section { title: "masks", rows: &[
    on(k(Code::Esc), A::Cancel, "close", "close"),
    on(c('m'), A::Cancel, "", "close"),
    on(c('q'), A::Cancel, "", "close"),
    on(k(Code::Down), A::Down, "scroll", "scroll down"),
    on(k(Code::Up), A::Up, "scroll", "scroll up"),
    on(c('j'), A::Down, "", "scroll down"),
    on(c('k'), A::Up, "", "scroll up"),
    on(k(Code::PageDown), A::PageDown, "page", "a page down"),
    on(k(Code::PageUp), A::PageUp, "page", "a page up"),
] };
#[rustfmt::skip]
const MESSAGE: Section<A> = Section { title: "message", rows: &[
    on(k(Code::Enter), A::Cancel, "close", "close"),
    on(k(Code::Esc), A::Cancel, "", "close"),
    on(c('q'), A::Cancel, "", "close"),
] };

/// Every popup's keys, in the README's order.
pub const SECTIONS: &[&Section<PopupAction>] = &[&HELP, &PALETTE, &FIND, &INPUT, &CONFIRM, &MASKS, &MESSAGE];

/// What a key did to a popup.
#[derive(Debug)]
pub enum Pressed {
    /// It stays open.
    Stay(Popup),
    /// It stays open: the key means nothing in it.
    Ignored(Popup),
    /// It closes.
    Closed,
    /// It would close and lose the typed text: ask first.
    Discard(TextInput),
    /// It closes with an answer.
    Answered(PopupAnswer),
    /// The search closes with its selected row, if there is one.
    Find(Box<Find>),
}

/// The answer a popup closed with.
#[derive(Debug, Clone)]
pub enum PopupAnswer {
    /// An entry of a list.
    Picked(Pick),
    /// A pair that was found.
    Found(FoundPair),
    /// A typed text.
    Typed(TextInput),
    /// A request to withdraw the open correction.
    Withdrawn(TextInput),
    /// Yes.
    Yes(OnYes),
}

impl Popup {
    /// Its keys.
    #[must_use]
    pub fn section(&self) -> &'static Section<PopupAction> {
        match self {
            Self::Help(_) => &HELP,
            Self::Palette(_) => &PALETTE,
            Self::Find(_) => &FIND,
            Self::Input(_) => &INPUT,
            Self::Confirm(_) => &CONFIRM,
            Self::Masks(_) => &MASKS,
            Self::Message { .. } => &MESSAGE,
        }
    }

    /// The footer's keys and words.
    #[must_use]
    pub fn footer(&self) -> Vec<(Key, &'static str)> {
        let multiline = match self {
            Self::Input(input) => Some(input.buffer.is_multiline()),
            _ => None,
        };
        let completes = matches!(self, Self::Input(input) if matches!(input.purpose, InputPurpose::Tags { .. }));
        // Ctrl-s accepts a text of several lines, enter a single line.
        let holds = |action: PopupAction, key: Key| {
            multiline.is_none_or(|multiline| match action {
                A::Accept => key.ctrl == multiline,
                A::Withdraw => multiline,
                A::Complete => completes,
                _ => true,
            })
        };
        let rows = self.section().rows.iter().filter(|row| !row.footer.is_empty() && holds(row.action, row.key));
        rows.map(|row| (row.key, row.footer)).collect()
    }

    /// Handles a key on a screen of this size.
    pub fn press(mut self, key: Key, size: (u16, u16)) -> Pressed {
        let action = self.section().lookup(key);
        let takes_text = matches!(self, Self::Palette(_) | Self::Find(_) | Self::Input(_));
        if action.is_none() && !takes_text {
            return Pressed::Ignored(self);
        }
        if action == Some(A::Cancel) {
            // One key must not discard a text that the user wrote.
            return match self {
                Self::Input(input) if input.has_unsaved_text() => Pressed::Discard(input),
                _ => Pressed::Closed,
            };
        }
        match &mut self {
            Self::Help(help) => match action {
                Some(A::Down) => help.scroll += 1,
                Some(A::Up) => help.scroll = help.scroll.saturating_sub(1),
                _ => {}
            },
            Self::Masks(sheet) => {
                let page = text_area(size).1.saturating_sub(1) as isize;
                match action {
                    Some(A::Down) => sheet.scroll_by(1, size),
                    Some(A::Up) => sheet.scroll_by(-1, size),
                    Some(A::PageDown) => sheet.scroll_by(page, size),
                    Some(A::PageUp) => sheet.scroll_by(-page, size),
                    _ => {}
                }
            }
            Self::Palette(palette) => match action {
                Some(A::Accept) => {
                    if let Some(pick) = palette.chosen() {
                        return Pressed::Answered(PopupAnswer::Picked(pick));
                    }
                }
                Some(A::Up) => palette.up(),
                Some(A::Down) => palette.down(),
                _ => palette.press(key),
            },
            Self::Find(find) => {
                let page = find_rows(size).saturating_sub(1).max(1) as isize;
                match action {
                    Some(A::Accept) => {
                        return match self {
                            Self::Find(find) => Pressed::Find(find),
                            other => Pressed::Stay(other),
                        };
                    }
                    Some(A::Up) => find.select(-1),
                    Some(A::Down) => find.select(1),
                    Some(A::PageUp) => find.select(-page),
                    Some(A::PageDown) => find.select(page),
                    _ => find.press(key),
                }
            }
            Self::Input(input) => {
                let newline = input.buffer.is_multiline() && key.code == Code::Enter;
                if action == Some(A::Accept) && !newline {
                    return match self {
                        Self::Input(input) => Pressed::Answered(PopupAnswer::Typed(input)),
                        other => Pressed::Stay(other),
                    };
                }
                if action == Some(A::Withdraw) && matches!(input.purpose, InputPurpose::Correct { .. }) {
                    return match self {
                        Self::Input(input) => Pressed::Answered(PopupAnswer::Withdrawn(input)),
                        other => Pressed::Stay(other),
                    };
                }
                if let (Some(A::Complete), InputPurpose::Tags { known, .. }) = (action, &input.purpose) {
                    complete(&mut input.buffer, known);
                    input.error = None;
                } else if input.buffer.press(key) {
                    input.error = None;
                }
            }
            Self::Confirm(confirm) => {
                if action == Some(A::Accept) {
                    return Pressed::Answered(PopupAnswer::Yes(confirm.on_yes.clone()));
                }
            }
            Self::Message { .. } => {}
        }
        Pressed::Stay(self)
    }

    /// Inserts pasted text; false if the popup has no text field.
    pub fn paste(&mut self, text: &str) -> bool {
        match self {
            Self::Input(input) => input.buffer.insert(text),
            Self::Palette(palette) => palette.insert(text),
            Self::Find(find) => find.insert(text),
            Self::Help(_) | Self::Confirm(_) | Self::Masks(_) | Self::Message { .. } => return false,
        }
        true
    }
}

/// Completes the last word of a line from the known ones, as far as they agree.
fn complete(buffer: &mut EditBuffer, known: &[String]) {
    let text = buffer.text().to_owned();
    let start = text.rfind(char::is_whitespace).map_or(0, |at| at + 1);
    let word = &text[start..];
    let mut fits = known.iter().filter(|tag| tag.starts_with(word) && !word.is_empty());
    let Some(first) = fits.next() else { return };
    let common = fits.fold(first.as_str(), |common, tag| {
        let same = common.char_indices().zip(tag.chars()).take_while(|((_, a), b)| a == b);
        let end = same.last().map_or(0, |((at, c), _)| at + c.len_utf8());
        &common[..end]
    });
    *buffer = EditBuffer::line(format!("{}{common}", &text[..start]));
}

/// The rows of matches that a search shows on a screen of this size: frame, header, status line, footer, the sheet's
/// frame, the query and a blank row take the others.
#[must_use]
pub fn find_rows(size: (u16, u16)) -> usize {
    usize::from(size.1.saturating_sub(7))
}

/// The help.
#[derive(Debug, Clone, Default)]
pub struct Help {
    /// The key tables it shows.
    pub tables: Vec<Table>,
    /// Rows scrolled off its top.
    pub scroll: usize,
}

/// What a typed text is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InputPurpose {
    /// The name of a new session.
    NewName,
    /// The path of a new session's model.
    NewModel {
        /// The session's name.
        name: String,
    },
    /// The file of a new session's prompts; empty for none.
    NewPrompts {
        /// The session's name.
        name: String,
        /// The session's model.
        model: String,
    },
    /// A file to import.
    Import,
    /// A note on a pair.
    Note {
        /// The pair.
        pair: PairId,
    },
    /// The filter of the queue.
    Filter,
    /// A criterion to judge by.
    Criterion,
    /// The tags of a prompt.
    Tags {
        /// The prompt.
        prompt: PromptId,
        /// The session's tags, to complete from.
        known: Vec<String>,
    },
    /// A correction of a completion.
    Correct {
        /// The pair it was seen in.
        pair: PairId,
        /// The completion.
        completion: CompletionId,
    },
}

impl InputPurpose {
    /// Whether only the screen below asks for it, so that the answer goes to that screen.
    #[must_use]
    pub fn is_from_screen(&self) -> bool {
        match self {
            Self::Note { .. } | Self::Filter | Self::Criterion | Self::Tags { .. } | Self::Correct { .. } => true,
            Self::NewName | Self::NewModel { .. } | Self::NewPrompts { .. } | Self::Import => false,
        }
    }
}

/// A text to type.
#[derive(Debug, Clone)]
pub struct TextInput {
    /// Its heading.
    pub title: String,
    /// A hint on what to type.
    pub hint: String,
    /// The typed text.
    pub buffer: EditBuffer,
    /// What it is for.
    pub purpose: InputPurpose,
    /// Why it was not accepted, if it was not.
    pub error: Option<String>,
}

impl TextInput {
    /// Whether closing it would lose a text that the user wrote.
    #[must_use]
    pub fn has_unsaved_text(&self) -> bool {
        matches!(self.purpose, InputPurpose::Note { .. } | InputPurpose::Correct { .. }) && self.buffer.is_changed()
    }
}

/// A yes-or-no question.
#[derive(Debug, Clone)]
pub struct Confirm {
    /// The question.
    pub question: String,
    /// What happens on yes.
    pub on_yes: OnYes,
}

/// What happens on yes.
#[derive(Debug, Clone, PartialEq)]
pub enum OnYes {
    /// These effects.
    Effects(Vec<Effect>),
    /// Quit although records are not saved.
    Quit,
    /// Close the popup below and discard its text.
    Discard,
}
