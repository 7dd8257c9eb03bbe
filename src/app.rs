//! The pure state machine of the workbench: `update(&mut Model, Msg) -> Vec<Effect>`.
//!
//! Owns what the screens know, what every key does and what the shell is asked to do. Refuses files, clocks, processes and
//! terminals: time arrives as [`Msg::Tick`], results arrive as messages, wishes leave as [`Effect`]s.
//!
//! **Invariants.** The same messages give the same model. A verdict is on the screen at once and "saved" only when the
//! shell acknowledged its record. Whatever is visible changes only together with [`Model::version`].

mod act;
mod diff;
mod edit;
mod effect;
mod flow;
mod form;
pub mod home;
mod key;
pub mod keymap;
pub mod label;
pub mod launch;
pub mod masks;
mod model;
mod msg;
mod open;
mod outbox;
mod palette;
mod popup;
pub mod replay;
mod screen;
pub mod watch;
mod wrap;

pub use act::{travel, update};
pub use diff::WordDiff;
pub use edit::EditBuffer;
pub use effect::{Effect, SampleAsk, TrainAsk};
pub use flow::{arrive, begin, go, input, model_line, writable};
pub use form::{Field, Form, FormFor};
pub use key::{Code, Key};
pub use keymap::{Action, Binding, Context};
pub use model::{Goal, Model, Notice, Theme, Tone};
pub use msg::{Msg, Opened, Running, SessionCard};
pub use open::{Open, RunView};
pub use outbox::{Numbers, Outbox, Saved};
pub use palette::{Entry, Palette, Pick};
pub use popup::{Ask, Confirm, Help, Input, Popup, Then};
pub use screen::Screen;
pub use wrap::{cells, clip, presentable, wrap};
