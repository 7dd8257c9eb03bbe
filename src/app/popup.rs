//! What lies over a screen: one stack, topmost last.

use super::edit::EditBuffer;
use super::effect::Effect;
use super::form::Form;
use super::keymap::Context;
use super::masks::MaskSheet;
use super::palette::Palette;
use crate::domain::{CompletionId, PairId};

/// A popup.
#[derive(Debug, Clone)]
pub enum Popup {
    /// Every key that works on the screen below.
    Help(Help),
    /// A list to find something in.
    Palette(Palette),
    /// Something to type.
    Input(Input),
    /// A few values with defaults.
    Form(Form),
    /// A question with yes and no.
    Confirm(Confirm),
    /// What a run would read and learn.
    Masks(MaskSheet),
    /// A text to read: title and body.
    Message {
        /// What it is about.
        title: String,
        /// What it says.
        body: String,
    },
}

impl Popup {
    /// Its place in the keymap.
    #[must_use]
    pub fn context(&self) -> Context {
        match self {
            Self::Help(_) => Context::Help,
            Self::Palette(_) => Context::Palette,
            Self::Input(_) => Context::Input,
            Self::Form(_) => Context::Form,
            Self::Confirm(_) => Context::Confirm,
            Self::Masks(_) => Context::Masks,
            Self::Message { .. } => Context::Message,
        }
    }
}

/// The help.
#[derive(Debug, Clone, Default)]
pub struct Help {
    /// The contexts it explains.
    pub contexts: Vec<Context>,
    /// Rows scrolled off its top.
    pub scroll: usize,
}

/// What typed text is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// The name of a new session.
    NewName,
    /// The path of its model.
    NewModel {
        /// Its name.
        name: String,
    },
    /// The file of its prompts; empty for none.
    NewPrompts {
        /// Its name.
        name: String,
        /// Its model.
        model: String,
    },
    /// A file to import.
    Import,
    /// A note on a pair.
    Note {
        /// The pair.
        pair: PairId,
    },
    /// A better version of a completion.
    Correct {
        /// The pair it was seen in.
        pair: PairId,
        /// The completion.
        completion: CompletionId,
    },
}

/// Something to type.
#[derive(Debug, Clone)]
pub struct Input {
    /// What is asked.
    pub title: String,
    /// What to type, in a few words.
    pub hint: String,
    /// What is typed.
    pub buffer: EditBuffer,
    /// What it is for.
    pub ask: Ask,
    /// Why it was not taken.
    pub error: Option<String>,
}

impl Input {
    /// Whether closing it would lose a text that somebody wrote.
    #[must_use]
    pub fn is_worth_asking(&self) -> bool {
        matches!(self.ask, Ask::Note { .. } | Ask::Correct { .. }) && self.buffer.is_changed()
    }
}

/// A question with yes and no.
#[derive(Debug, Clone)]
pub struct Confirm {
    /// The question.
    pub question: String,
    /// What yes does.
    pub then: Then,
}

/// What follows a yes.
#[derive(Debug, Clone, PartialEq)]
pub enum Then {
    /// These effects.
    Effects(Vec<Effect>),
    /// Leave the program although something is not saved.
    Quit,
    /// Close the popup below without saving what was typed there.
    Discard,
}
