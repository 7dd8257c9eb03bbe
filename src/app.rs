//! The pure state machine of the workbench: `update(&mut Model, Msg) -> Vec<Effect>`.
//!
//! Owns the screens' state, what each key does, and the requests to the shell. Refuses files, clocks, processes and
//! terminals: time arrives as [`Msg::Tick`], results arrive as messages, requests leave as [`Effect`]s.
//!
//! Each screen is one file in `app/screen/` that implements [`Screen`]: its state, its keys and what they do.
//! `app/screen.rs` lists the screens; `app/update.rs` routes messages to the active one.
//!
//! **Invariants.** The same messages give the same model. A verdict appears at once; it is marked "saved" when the
//! shell confirms the write. Every visible change increments [`Shared::version`].

mod anywhere;
pub mod bindings;
mod blind;
mod contract;
pub mod curves;
mod diff;
mod edit;
mod effect;
mod evaluation;
pub mod find;
mod flow;
mod form;
mod goal;
mod growing;
mod key;
pub mod keymap;
mod loop_request;
mod markup;
pub mod masks;
mod model;
mod msg;
mod names;
mod open;
mod outbox;
pub mod pace;
mod palette;
mod popup;
mod requests;
mod run_control;
pub mod screen;
mod serving;
mod shared;
mod travel;
mod unfinished;
mod update;
mod words;
mod wrap;

/// What `ui` draws of an evaluation's specification.
pub use crate::protocol::{EvalSpec, JudgeSpec};
pub use anywhere::GlobalAction;
pub use contract::{AnyScreen, Screen};
pub use diff::WordDiff;
pub use edit::EditBuffer;
pub use effect::{Effect, TrainRequest};
pub use evaluation::{EvalEstimate, EvalRequest, SuiteFiles};
pub use form::{Field, FieldValue, Form, FormKey};
pub use goal::{Go, Goal, Next, Show};
pub use growing::{GrowingPair, GrowingPairs};
pub use key::{Code, Key};
pub use loop_request::LoopRequest;
pub use markup::{Markup, TextStyle};
pub use model::{Model, action_tables, all_keys};
pub use msg::{LiveRun, Msg, Opened, SessionCard, Unmade};
pub use names::PairNames;
pub use open::{OpenSession, READ_ONLY_DISK, RunView};
pub use outbox::{Outbox, SaveState, SeqMap};
pub use palette::{CommandLine, Palette, PaletteEntry, Pick};
pub use popup::{Confirm, Help, InputPurpose, OnYes, Popup, PopupAction, PopupAnswer, TextInput, find_rows};
pub use requests::{PairPreview, PairRequest, SampleRequest, ScoreProgress, ScoreRequest, StratumCount};
pub(crate) use screen::screens;
pub use screen::{ActiveScreen, ROUTES, Route};
pub use shared::{ImportFormat, Notice, Shared, Theme, Tone};
pub use travel::{begin, follow};
pub use update::update;
pub use words::{eval_spec, model_summary, run_facts, short_model_name, spec_facts};
pub use wrap::{cells, clip, presentable, wrap};
