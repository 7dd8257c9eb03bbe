//! Computing a model: from a batch of token rows to log-probs, and from the loss's derivative by each log-prob to the
//! parameters' gradients.
//!
//! Owns the decoder and its adapters, the types that losses and backends exchange (`contract`: [`Batch`], [`RowScores`],
//! [`RowGradient`]), `trait Backend` (`backend`) with its three implementations, the optimizer, random numbers, devices and the
//! memory formula. [`Policy`] chooses a backend: `reference`, slow and differentiated by candle's autograd, or
//! `cpu` and `cuda`, hand-written forward and backward passes. In each of them `logprobs` turns a batch into log-probs, `layer` runs a
//! decoder layer forward and backward, and `gradients` accumulates the gradients. Refuses losses, methods and sessions.
//!
//! **Invariants.** A gradient path uses only operations whose backward is tested. Frozen weights get no gradient. Random
//! numbers come from `(seed, stream, counter)`, never from candle or a clock, so a resumed run is the same run.

pub(crate) mod backend;
pub(crate) mod contract;
pub(crate) mod cpu;
pub(crate) mod cuda;
pub(crate) mod decoder;
pub(crate) mod device;
pub(crate) mod divergence;
pub(crate) mod frozen;
pub(crate) mod inference;
pub(crate) mod layout;
pub(crate) mod linear;
mod load;
pub(crate) mod logit_curve;
pub(crate) mod memory;
pub(crate) mod norm;
pub(crate) mod optim;
pub(crate) mod pass;
pub(crate) mod per_layer;
pub(crate) mod policy;
pub(crate) mod random;
pub(crate) mod reference;
pub(crate) mod rotary;
pub(crate) mod routing;
pub(crate) mod token_budget;
#[cfg(test)]
pub(crate) mod toy;

pub use decoder::Decoder;
pub(crate) use device::start_threads;
pub use device::{describe, device};
pub use optim::{AdamW, Update};
pub use pass::Pass;
pub use policy::{Batch, Gradients, Policy, Row, RowGradient, RowScores, Tape, TokenScores};
pub use random::{normal, stream, uniform};
pub use reference::Cache;
pub(crate) use tiebreak_kernels::memory::on_full as on_memory_full;
