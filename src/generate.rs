//! Drawing text from a model: one token, one answer, the candidates of a whole sampling run.
//!
//! Owns the sampler (temperature, top-k, top-p, min-p), the packed decoder that only decodes, the queue that keeps its rows
//! filled, and sampling runs: candidates made unique and paired. Refuses gradients and losses.
//!
//! **Invariant.** A candidate is a function of (model, prompt, settings, seed); its company in a batch changes only the last
//! digits of its log-probs.

pub(crate) mod decode;
pub(crate) mod generated;
pub(crate) mod sampler;
pub(crate) mod sampling;

pub use decode::{PackedDecoder, PromptRequest, Queue};
pub use sampler::{Drawn, draw};
pub use sampling::{Generated, Sampling, generate, generate_all};
