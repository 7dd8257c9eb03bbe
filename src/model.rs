//! Models as files: reading them, and writing what training produces.
//!
//! Owns the families (`family/`: config fields, `LayerSpec`, tensor names), configurations, weights (safetensors and GGUF),
//! tokenizers, chat templates, model discovery, the trained parameters of a checkpoint, and merging adapters into weights. A
//! [`LanguageModel`] opens all of it by one path. Refuses forward passes, training, sampling, and session folders.
//!
//! **Invariant.** Unsupported features are refused by name when a model is opened, never at the first step.

mod attention_windows;
mod channels;
mod class_fields;
pub(crate) mod config;
pub mod discover;
pub(crate) mod error;
mod expert_fields;
pub mod family;
mod family_spec;
pub mod feed_forward;
pub mod fields;
pub(crate) mod fingerprint;
mod finite;
pub(crate) mod gguf;
pub mod gguf_fields;
pub(crate) mod language_model;
pub mod layer;
pub mod layer_kinds;
pub mod merge;
mod mxfp4;
mod peft;
mod python;
mod rope;
mod sentencepiece;
pub(crate) mod sink;
pub(crate) mod special_tokens;
mod stacked_experts;
pub(crate) mod staged_folder;
mod stored_names;
pub(crate) mod template;
mod template_guard;
mod template_names;
mod template_values;
mod thought_channel;
pub(crate) mod thought_form;
pub(crate) mod threads;
pub(crate) mod tokenizer;
mod tokenizer_growth;
pub(crate) mod trained;
pub(crate) mod tune;
pub(crate) mod weights;

pub use config::{Config, RopeScaling, RopeSpec};
pub use error::Error;
pub use family::Family;
pub use fingerprint::{Fingerprints, identity};
pub use finite::{not_finite, not_finite_trained};
pub use gguf::Gguf;
pub use language_model::LanguageModel;
pub use layer::{Activation, LayerParts, LayerSpec, NormPlacement, QkNorm};
pub use peft::{ADAPTER_FILES, PeftAdapter};
pub use sink::Sink;
pub use special_tokens::SpecialTokens;
pub use template::Template;
pub use tokenizer::Tokenizer;
pub use trained::{TRAINED_FILE, Trained};
pub use tune::{LINEARS, LoraSpec, ModuleRank, Tune};
pub use weights::Weights;

/// The result type of the rooms that compute.
pub type Result<T> = std::result::Result<T, Error>;

#[cfg(test)]
mod tests;
