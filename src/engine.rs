//! candle lives here and only here: models, tokenizers, templates, sampling, log-probs, losses, the optimizer, recipes.
//!
//! Owns every tensor. Speaks to the outside only through a [`Sink`] of run events and through its results. Refuses the
//! terminal, tokio and the layout of session folders.
//!
//! **Invariants.** A gradient path uses only operations whose backward is tested. Frozen weights get no gradient. Random
//! numbers come from `(seed, stream, counter)`, never from candle or a clock, so a resumed run is the same run.

pub mod bench;
mod config;
mod decode;
mod decoder;
mod device;
mod error;
mod estimate;
mod fast;
mod fingerprint;
pub mod fresh;
mod frozen;
mod gguf;
mod gpu;
mod inference;
mod judge;
mod language_model;
mod loss;
mod masks;
pub mod merge;
pub mod models;
mod optim;
mod place;
mod policy;
mod random;
mod recipe;
mod reference;
mod rows;
mod sampler;
mod sampling;
mod schedule;
mod sink;
mod template;
mod tokenizer;
#[cfg(test)]
mod toy;
mod trained;
mod trainer;
mod tune;
mod weights;

pub use config::{Config, Family, RopeScaling};
pub use decode::{Asked, Decode, Queue};
pub use decoder::{Cache, Decoder, Pass};
pub use device::{describe, device};
pub use error::Error;
pub use estimate::{estimate, trainable};
pub use fingerprint::{Fingerprints, identity};
pub use gguf::Gguf;
pub use judge::Judge;
pub use language_model::LanguageModel;
pub use loss::{
    AdaptiveKl, Calibration, Cpo, CpoForm, CpoPair, Divergence, Dpo, DpoForm, DpoPair, Grpo, GrpoRow, KlEstimator, Kto,
    KtoForm, KtoRow, Level, Nll, Orpo, OrpoPair, PairGradient, PairLoss, Ppo, PpoLoss, PpoRow, Reduction, Reward,
    RewardLoss, RewardPair, Rloo, RlooRow, Rollout, RowLoss, Scale, Sft, SftForm, Tally, calibrate, fit_temperature,
    gae, group_advantages, leave_one_out, reward_metrics, rollout_metrics, token_rewards, whiten,
};
pub use masks::masks;
pub use optim::{AdamW, Update};
pub use policy::{Batch, Gradients, Policy, Row, RowGradient, RowScores, Tape, TokenScores};
pub use random::{normal, stream, uniform};
pub use recipe::Answer;
pub use reference::{CacheUse, Reference, ReferenceCache};
pub use rows::{Encode, Example, Making, Rows, Tokenised, is_eval, order, tokenise};
pub use sampler::{Drawn, draw};
pub use sampling::{Generated, Sampling, generate, generate_all};
pub use schedule::{Decay, Schedule};
pub use sink::Sink;
pub use template::Template;
pub use tokenizer::{SpecialTokens, Tokenizer};
pub use trained::{TRAINED_FILE, Trained};
pub use trainer::{Places, RunRows, StepOutcome, Trainer, tune_of};
pub use tune::{LINEARS, LoraSpec, Tune};
pub use weights::Weights;

/// What the engine's functions give back.
pub type Result<T> = std::result::Result<T, Error>;
