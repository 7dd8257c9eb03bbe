//! Computing a model: from a batch of token rows to log-probs, and from their derivatives to gradients.
//!
//! Owns the decoder and its adapters, the contract between losses and computation ([`Batch`], [`RowScores`],
//! [`RowGradient`]), its three backends ([`Policy`] chooses: `reference`, the oracle written from candle's differentiable
//! operations; `cpu` and `cuda`, forward and backward by hand), the optimizer, random numbers and devices. Refuses losses,
//! methods and sessions.
//!
//! **Invariants.** A gradient path uses only operations whose backward is tested. Frozen weights get no gradient. Random
//! numbers come from `(seed, stream, counter)`, never from candle or a clock, so a resumed run is the same run.

pub(crate) mod cpu;
pub(crate) mod cuda;
pub(crate) mod decoder;
pub(crate) mod device;
pub(crate) mod frozen;
pub(crate) mod inference;
mod load;
pub(crate) mod optim;
pub(crate) mod policy;
pub(crate) mod random;
#[cfg(test)]
pub(crate) mod toy;

pub use decoder::{Cache, Decoder, Pass};
pub use device::{describe, device};
pub use optim::{AdamW, Update};
pub use policy::{Batch, Gradients, Policy, Row, RowGradient, RowScores, Tape, TokenScores};
pub use random::{normal, stream, uniform};
