//! tiebreak: a terminal workbench for preference alignment.
//!
//! A researcher samples candidate answers from local models, labels pairs at the keyboard, trains in a detached
//! background process, watches the run live, and replays any saved session.
//!
//! # Map
//! `A ← B`: B imports A; a room also imports everything to the left of what it imports.
//! ```text
//! domain ← protocol ← { storage, model }      model ← nn ← generate ← train ← evaluate ← worker   (nn, generate use kernels)
//! domain ← protocol ← app ← ui                shell on top of app, ui, storage
//! domain ← demo                               train and shell use demo
//! foreign                                     used by storage, model and what imports them
//! ```
//! * [`domain`]: the nouns and rules. Pure.
//! * [`demo`]: the texts from which the embedded model learned. Pure.
//! * [`foreign`]: files that a stranger may have made, opened with bounds.
//! * [`protocol`]: the messages between processes and the records in files.
//! * [`storage`]: session folders on disk: logs, repair, locks, checkpoints, import and export.
//! * [`model`]: model files: configuration, weights, tokenizer, template, merging.
//! * [`nn`]: the forward and backward pass: log-probs of a batch, gradients, the optimizer.
//! * [`generate`]: sampling text: sampler, packed decoder, sampling runs.
//! * [`train`]: batches, losses, recipes, the trainer.
//! * [`evaluate`]: suites and judges: is a model better than another?
//! * [`worker`]: the child process that samples, trains and evaluates.
//! * [`app`]: the pure state machine of the workbench.
//! * [`ui`]: pure drawing of the workbench's state.
//! * [`shell`]: all side effects: terminal, events, headless commands.
//!
//! **Invariants.** The UI process never loads weights. Every number on a chart came from a log on disk. The same log is
//! the live view, the re-attach, the replay and the test fixture. Labels are never rewritten: undo is a record. Nothing a
//! model wrote reaches the terminal unsanitised. A gradient path uses only operations whose backward is tested.

pub mod app;
pub mod demo;
pub mod domain;
pub mod evaluate;
pub mod foreign;
pub mod generate;
pub mod model;
pub mod nn;
pub mod protocol;
pub mod shell;
pub mod storage;
pub mod train;
pub mod ui;
pub mod worker;

/// Which methods there are. `domain` says what a method's row is and `train` declares each beside its mathematics; neither
/// may import the other, so the table is handed over here, in the one place that knows every room.
pub(crate) const METHODS: &[domain::Method] = train::METHODS;

/// Which suites there are, handed over as [`METHODS`] is.
pub(crate) fn suite_rows() -> Vec<&'static domain::SuiteRow> {
    evaluate::suites().iter().map(|suite| &suite.row).collect()
}

/// Which judges there are, handed over as [`METHODS`] is.
pub(crate) fn judge_rows() -> Vec<&'static domain::JudgeRow> {
    evaluate::judge_kinds().iter().map(|kind| &kind.row).collect()
}
