//! Generating text from a model: one token, one completion, the candidates of a whole sampling run.
//!
//! Owns the sampler (temperature, top-k, top-p, min-p), the packed decoder for inference, the queue for continuous
//! batching, sampling runs with deduplication and pairing, and candidates from servers. Refuses gradients and losses.
//!
//! **Invariant.** A candidate is a function of (model, prompt, settings, seed); the other rows of a batch change its log-probs
//! by rounding only.

pub(crate) mod decode;
mod ends;
pub(crate) mod generated;
mod growing;
pub mod judge;
mod pairing;
pub(crate) mod sampler;
pub(crate) mod sampling;
pub mod server;

pub use decode::{PackedDecoder, PromptRequest, Queue};
pub use judge::Judge;
pub use sampler::{Drawn, draw};
pub use sampling::{Generated, Sampling, generate, generate_all};
