//! Answers of a short-lived worker: one JSON object per line on its standard output.

use crate::domain::{CompletionId, DroppedRows, Num, PairId};
use serde::{Deserialize, Serialize};

/// A model found on this machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelCard {
    /// The shortest name that identifies it.
    pub name: String,
    /// The folder or `.gguf` file.
    pub path: String,
    /// `safetensors`, `gguf`, or `embedded` for the one inside the binary.
    pub format: String,
    /// `llama`, `qwen2`, `qwen3`; empty when unknown.
    pub family: String,
    /// Number of parameters; 0 when unknown.
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

/// An adapter made elsewhere, which fits a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdapterCard {
    /// Rank.
    pub r: usize,
    /// Numerator of the scale.
    pub alpha: f64,
    /// Rank-stabilised scale.
    pub rslora: bool,
    /// Weight-decomposed.
    pub dora: bool,
    /// The kinds of modules that it adapts.
    pub targets: Vec<String>,
    /// Whether its modules differ in rank or alpha, or not all of a kind are adapted.
    pub patterned: bool,
    /// The base model that it names; empty if it names none.
    pub base: String,
}

/// A model as a person reads about it before training on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelDescription {
    /// Its card.
    pub card: ModelCard,
    /// Its dimensions and types, as name and value.
    pub facts: Vec<(String, String)>,
    /// Texts of the tokens that end an answer. Sanitise before showing.
    pub ends: Vec<String>,
    /// How its files are read where they contradict each other, a sentence each.
    pub notes: Vec<String>,
    /// What the chat template makes of small conversations, with the loss mask.
    pub conversations: Vec<MaskedRow>,
}

/// A GPU of this machine as its driver reports it; values that it does not report are absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuCard {
    /// Its device index.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// Total memory.
    pub memory_bytes: Option<u64>,
    /// Memory in use by all processes.
    pub memory_used_bytes: Option<u64>,
    /// Utilisation in percent.
    pub utilisation: Option<u32>,
    /// Temperature in °C.
    pub temperature: Option<u32>,
    /// The driver's version.
    pub driver: String,
    /// The newest CUDA version that the driver supports.
    pub cuda: String,
}

/// The cost of a training run, estimated before launch.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Estimate {
    /// Optimizer steps.
    pub steps: u64,
    /// Training rows.
    pub train_rows: usize,
    /// Evaluation rows.
    pub eval_rows: usize,
    /// Dropped rows.
    pub dropped: Vec<DroppedRows>,
    /// Tokens in the longest row.
    pub longest: usize,
    /// Tokens in all training rows.
    pub tokens: u64,
    /// Trainable parameters.
    pub trainable: u64,
    /// Expected peak memory in bytes.
    pub memory_bytes: u64,
    /// Of these bytes, the weights of all models.
    #[serde(default)]
    pub weights_bytes: u64,
    /// Of these bytes, trainable parameters outside the weights, gradients and optimizer moments.
    #[serde(default)]
    pub trained_bytes: u64,
    /// The model's layers.
    #[serde(default)]
    pub layers: u64,
    /// Layers whose activations stay in memory until the backward pass; the others recompute theirs.
    #[serde(default)]
    pub kept_layers: u64,
    /// Expected seconds for the whole run; none before a similar run was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// Share of the pairs won by the longer answer, in 0..=1.
    pub longer_wins: f64,
}

/// A run's score of one completion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scoring {
    /// The completion.
    pub completion: CompletionId,
    /// Its score, as in [`super::SessionRecord::Scored`]; none where the answer does not fit the model's context.
    pub score: Option<Num>,
}

/// The tokens that a run reads of its rows, and those in its loss.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Masks {
    /// The first training sequences, including mixed-in rows if steps take both, then some dropped rows.
    pub rows: Vec<MaskedRow>,
    /// Total rows without mixed-in ones.
    pub all: usize,
    /// Rows available to mix in; 0 without mixing.
    #[serde(default)]
    pub mixed: usize,
}

/// A sequence as the model reads it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MaskedRow {
    /// The row it came from.
    pub id: PairId,
    /// `chosen` or `rejected`, `good` or `bad`; empty for a row of one unrated sequence.
    pub part: String,
    /// Whether it is mixed in against forgetting.
    #[serde(default)]
    pub mixed: bool,
    /// Tokens.
    pub tokens: usize,
    /// How many of them are in the loss.
    pub learned: usize,
    /// The text, including special tokens.
    pub pieces: Vec<MaskPiece>,
    /// Why the row is dropped; none if it is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<String>,
    /// What the row holds that the model does not read, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub said: Vec<String>,
}

impl MaskedRow {
    /// A dropped row and the reason.
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
            said: Vec::new(),
        }
    }

    /// How many texts are packed into the sequence; 1 without packing.
    #[must_use]
    pub fn texts(&self) -> usize {
        1 + self.pieces.iter().filter(|piece| piece.begins).count()
    }
}

/// A span of a sequence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaskPiece {
    /// Its text. Sanitise before showing.
    pub text: String,
    /// Whether its tokens are in the loss.
    pub learned: bool,
    /// Whether a packed text begins here; it does not attend to the one before.
    #[serde(default)]
    pub begins: bool,
}
