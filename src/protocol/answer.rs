//! What a short-lived worker answers to a question: one JSON object a line on its standard output.

use crate::domain::{CompletionId, DroppedRows, Num, PairId};
use serde::{Deserialize, Serialize};

/// A model found on this machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelCard {
    /// The shortest name it can be called by.
    pub name: String,
    /// The folder or `.gguf` file.
    pub path: String,
    /// `safetensors`, `gguf`, or `embedded` for the one that the binary carries.
    pub format: String,
    /// `llama`, `qwen2`, `qwen3`; empty when unknown.
    pub family: String,
    /// Numbers in its weights; 0 when unknown.
    pub parameters: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// Longest context in tokens; 0 when unknown.
    pub context: usize,
    /// Whether it has a chat template.
    pub chat: bool,
    /// Why it cannot be used, as one sentence; none when it can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A GPU of this machine as its driver describes it; what it does not say is absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuCard {
    /// Its number.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// Memory in all.
    pub memory_bytes: Option<u64>,
    /// Memory in use by all processes.
    pub memory_used_bytes: Option<u64>,
    /// Share of the time in which it computed something, in percent.
    pub utilisation: Option<u32>,
    /// °C.
    pub temperature: Option<u32>,
    /// The driver's version.
    pub driver: String,
    /// The newest CUDA version that the driver runs.
    pub cuda: String,
}

/// What a training run would take, before it is launched.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Estimate {
    /// Optimizer steps.
    pub steps: u64,
    /// Rows trained on.
    pub train_rows: usize,
    /// Rows kept for evaluation.
    pub eval_rows: usize,
    /// Rows left out.
    pub dropped: Vec<DroppedRows>,
    /// Tokens in the longest row.
    pub longest: usize,
    /// Tokens in all training rows.
    pub tokens: u64,
    /// Numbers that are trained.
    pub trainable: u64,
    /// Peak memory expected, in bytes.
    pub memory_bytes: u64,
    /// Of these the weights of all models.
    #[serde(default)]
    pub weights_bytes: u64,
    /// Of these what is trained with its gradients and moments, beside the weights.
    #[serde(default)]
    pub trained_bytes: u64,
    /// The model's layers.
    #[serde(default)]
    pub layers: u64,
    /// Layers whose activations stay in memory until the backward pass; those of the others are recomputed.
    #[serde(default)]
    pub kept_layers: u64,
    /// Seconds expected for the whole run; none before anything like it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// Share of the pairs won by the longer answer, in 0..=1.
    pub longer_wins: f64,
}

/// What a reward run says of one completion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scoring {
    /// The completion.
    pub completion: CompletionId,
    /// Its score, as in [`super::SessionRecord::Scored`].
    pub score: Num,
}

/// What a run would read of its rows and what it would learn of it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Masks {
    /// The first sequences that are trained on, those of mixed rows among them where steps take both, then some rows that
    /// are left out.
    pub rows: Vec<MaskedRow>,
    /// Rows in all, mixed ones apart.
    pub all: usize,
    /// Rows that there are to mix in; 0 where nothing is mixed in.
    #[serde(default)]
    pub mixed: usize,
}

/// A sequence as the model reads it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MaskedRow {
    /// The row it came from.
    pub id: PairId,
    /// `chosen` or `rejected`, `good` or `bad`; empty where a row is one sequence without a judgement.
    pub part: String,
    /// Whether it is mixed in against forgetting.
    #[serde(default)]
    pub mixed: bool,
    /// Tokens.
    pub tokens: usize,
    /// How many of them are learned.
    pub learned: usize,
    /// The text, special tokens too.
    pub pieces: Vec<MaskPiece>,
    /// Why the row is left out; none where it is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<String>,
}

impl MaskedRow {
    /// A row that is left out, and why.
    #[must_use]
    pub fn left_out(id: PairId, why: &str) -> Self {
        Self {
            id,
            part: String::new(),
            mixed: false,
            tokens: 0,
            learned: 0,
            pieces: Vec::new(),
            left_out: Some(why.into()),
        }
    }

    /// How many texts share the sequence; 1 where nothing was packed.
    #[must_use]
    pub fn texts(&self) -> usize {
        1 + self.pieces.iter().filter(|piece| piece.begins).count()
    }
}

/// A stretch of a sequence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaskPiece {
    /// Its text. Sanitise before showing.
    pub text: String,
    /// Whether its tokens are learned, or only read.
    pub learned: bool,
    /// Whether another text begins here that was packed behind the one before and does not see it.
    #[serde(default)]
    pub begins: bool,
}
