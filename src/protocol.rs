//! The formats that processes and files exchange: run specifications, commands, events, session records, the line
//! codec.
//!
//! Owns names, versions and the codec. Refuses to do any I/O itself.
//!
//! **Invariant:** a record of an unknown kind is kept and shown as opaque, never dropped and never an error.

mod answer;
mod bench;
mod command;
mod evaluation;
mod event;
mod fold;
mod fresh;
mod growing;
mod inputs;
mod integrity;
mod line;
mod log_fold;
mod record;
mod server;
mod source;
mod spec;
mod tagged;
mod unfinished;

pub use crate::domain::{DroppedRows, Plan};
pub use answer::{AdapterCard, Estimate, GpuCard, MaskPiece, MaskedRow, Masks, ModelCard, ModelDescription, Scoring};
pub use bench::{
    BenchAnswer, BenchSpec, Flops, PairChoice, ProductFigures, RowsFigures, SampleBench, SampleFigures, SampleRun,
    StepFigures, TrainBench, TrainFigures,
};
pub use command::RunCommand;
pub use evaluation::{EvalSide, EvalSpec, GateSet, JudgeSpec, SuiteSpec, TRAINED_PROMPTS};
pub use event::RunEvent;
pub use fold::{apply_record, apply_run, apply_run_event};
pub use fresh::FreshSpec;
pub use growing::{Growing, GrowingAnswer};
pub use inputs::{CheckpointInput, CheckpointRole, Difference, FileDigest, Inputs, ModelInput, Rendering};
pub use integrity::{Damage, DamagedPlace, Integrity};
pub use line::{Envelope, LineError, MAX_LINE, MAX_SEQ, decode, encode, parse_verified, records_within, verify};
pub use log_fold::{LogFold, NumberSet};
pub use record::{Header, SessionMeta, SessionRecord};
pub use server::{JudgeModel, Judgement, ServerAnswer, ServerInput, ServerLog, ServerOptions, ServerRef};
pub use source::{AdapterRef, DataSnapshot, ModelRef};
pub use spec::{RunSpec, SampleSpec, Task, TrainSpec};
pub use unfinished::UnfinishedDownload;

/// Schema version of the records' data; readers accept every older one.
pub const SCHEMA_VERSION: u32 = 1;

/// Whether serde can skip a field that older versions do not know.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}
