//! The table of judges: one file each in `judge/`, and nothing else to touch.
//!
//! The build script declares every file of the folder as a module and lists its `JUDGE` here. Owns the contract of a judge.
//! Refuses statistics and the choice of what is judged.

use crate::domain::{Finding, GatePair, JudgeRow, PromptBody};
use crate::model::error::Error;
use crate::protocol::{JudgeSpec, Rendering, TrainSpec};
use candle_core::Device;
use std::path::PathBuf;

// Declares the modules, and `JUDGES: &[&JudgeKind]`.
include!(concat!(env!("OUT_DIR"), "/judge.rs"));

/// Two answers to one prompt, without thoughts.
#[derive(Debug, Clone, Copy)]
pub struct Bout<'a> {
    /// The prompt.
    pub prompt: &'a PromptBody,
    /// The answer of a.
    pub a: &'a str,
    /// The answer of b.
    pub b: &'a str,
}

/// What a judge says of two answers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Ruling {
    /// The probability that a is better, 0.5 for a tie; none where the judge has no opinion.
    pub p: Option<f64>,
    /// For a judge asked in both orders: the probability that a is better when a comes first.
    pub a_first: Option<f64>,
    /// The probability that a is better when b comes first.
    pub b_first: Option<f64>,
    /// For a judge that scores answers: the score of a less that of b, before calibration.
    pub difference: Option<f64>,
    /// Why there is no opinion.
    pub problem: Option<String>,
}

impl Ruling {
    /// A judge's clear opinion.
    #[must_use]
    pub fn sure(p: f64) -> Self {
        Self { p: Some(p), ..Self::default() }
    }
}

/// A judge that is ready.
pub trait Referee {
    /// Compares two answers.
    ///
    /// # Errors
    /// When no answers can be compared; what concerns these two alone is in the ruling.
    fn rule(&mut self, bout: &Bout) -> Result<Ruling, Error>;

    /// Calibrates its probabilities to rows of (difference, label), where there are `fewest` or more. Returns what its
    /// probabilities are, in words, and a remedy; none where there is nothing to say.
    fn calibrate(&mut self, rows: &[(f64, f64)], fewest: usize) -> Option<(String, &'static str)> {
        let _ = (rows, fewest);
        None
    }
}

/// A run that judges, as files.
#[derive(Debug, Clone)]
pub struct JudgingRun {
    /// Its specification, with the model's path on this machine.
    pub spec: TrainSpec,
    /// Its checkpoint's folder.
    pub checkpoint: PathBuf,
    /// The checkpoint that it started from.
    pub init: Option<PathBuf>,
    /// What its template renders besides conversations.
    pub rendering: Rendering,
}

/// What judges are made of.
#[derive(Debug, Clone, Default)]
pub struct JudgeInputs {
    /// The reward run.
    pub reward: Option<JudgingRun>,
    /// The run with an implicit reward.
    pub implicit: Option<JudgingRun>,
    /// What is to be said of the judges before anything runs.
    pub warnings: Vec<Finding>,
}

/// Pairs on which a judge is measured.
#[derive(Debug, Clone, PartialEq)]
pub struct GateSetInput {
    /// The set's name.
    pub set: String,
    /// The pairs.
    pub pairs: Vec<GatePair>,
}

/// A kind of judge.
pub struct JudgeKind {
    /// Its row.
    pub row: JudgeRow,
    /// Says before anything runs why it cannot judge; none where only opening it tells.
    pub check: Option<CheckJudge>,
    /// Prepares it; none for a judge that is a person.
    pub open: Option<OpenJudge>,
}

/// Checks a judge without loading weights.
pub type CheckJudge = fn(&JudgeSpec) -> Result<(), Error>;

/// Prepares a judge.
pub type OpenJudge = fn(&JudgeSpec, &JudgeInputs, &Device) -> Result<Box<dyn Referee>, Error>;

/// The judges, sorted by name.
#[must_use]
pub fn judge_kinds() -> &'static [&'static JudgeKind] {
    JUDGES
}

/// The kind of that name.
///
/// # Errors
/// When there is none.
pub(super) fn kind_named(name: &str) -> Result<&'static JudgeKind, Error> {
    JUDGES
        .iter()
        .find(|kind| kind.row.name == name)
        .copied()
        .ok_or_else(|| Error::Invalid(format!("`{name}` is not a judge of this version: evaluate again")))
}
