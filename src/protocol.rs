//! What processes and files say to each other: run specifications, commands, events, session records and their lines.
//!
//! Owns the wire: names, versions, the line codec. Refuses to read or write anything itself.
//!
//! **Invariant:** a record of an unknown kind is kept and shown as opaque, never dropped and never an error.

mod answer;
mod bench;
mod command;
mod event;
mod fold;
mod fresh;
mod inputs;
mod line;
mod record;
mod spec;

pub use crate::domain::{DroppedRows, Plan};
pub use answer::{Estimate, GpuCard, MaskPiece, MaskedRow, Masks, ModelCard, Scoring};
pub use bench::{
    BenchAnswer, BenchSpec, Flops, PairChoice, ProductFigures, RowsFigures, SampleBench, SampleFigures, SampleRun,
    StepFigures, TrainBench, TrainFigures,
};
pub use command::RunCommand;
pub use event::RunEvent;
pub use fold::{apply_record, apply_run, apply_run_event};
pub use fresh::FreshSpec;
pub use inputs::{CheckpointInput, CheckpointRole, Difference, FileDigest, Inputs, ModelInput};
pub use line::{Envelope, LineError, MAX_LINE, decode, encode};
pub use record::{Header, SessionMeta, SessionRecord};
pub use spec::{DataSnapshot, ModelRef, RunSpec, SampleSpec, Task, TrainSpec};

/// Version of the records' data; readers take every older one.
pub const SCHEMA_VERSION: u32 = 1;
