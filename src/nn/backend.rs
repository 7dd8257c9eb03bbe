//! The trait that computes a decoder in training: the only interface between losses and devices.
//!
//! Owns [`Backend`] and the [`Tape`] that carries a forward pass to its backward. The backends are `reference/` (candle's graph,
//! the oracle), `cpu/` and `cuda/` (hand-written forward and backward); [`Policy`](super::policy::Policy) chooses. Refuses to know
//! any of them.

use super::contract::{Batch, Gradients, RowGradient, TokenScores};
use super::decoder::Decoder;
use crate::model::error::Error;
use candle_core::Tensor;
use std::any::Any;

/// The activations that a forward pass saves for its backward. Only the backend that made them can read them.
pub struct Tape {
    /// Scored tokens and valued positions of each row.
    counts: Vec<(usize, usize)>,
    saved: Box<dyn Any + Send>,
}

impl Tape {
    /// `counts` holds the scored tokens and valued positions of each row.
    pub(super) fn new(counts: Vec<(usize, usize)>, saved: impl Any + Send) -> Self {
        Self { counts, saved: Box::new(saved) }
    }

    /// Whether `g` has one derivative for each output of the forward pass.
    pub(super) fn fits(&self, g: &[RowGradient]) -> bool {
        let fits = |(row, (n, v)): (&RowGradient, &(usize, usize))| {
            let may_be = |x: &[f64], n: usize| x.is_empty() || x.len() == n;
            row.logp.len() == *n && may_be(&row.entropy, *n) && may_be(&row.value, *v)
        };
        g.len() == self.counts.len() && g.iter().zip(&self.counts).all(fits)
    }

    /// The activations that the backend saved.
    ///
    /// # Errors
    /// When another backend made the tape.
    pub(super) fn into_saved<T: Any>(self) -> Result<T, Error> {
        let saved = self.saved.downcast::<T>();
        saved
            .map(|saved| *saved)
            .map_err(|_| Error::Invalid("a tape can only be used by the backend that made it".into()))
    }
}

/// Token log-probs of a batch, and gradients from their derivatives.
///
/// Every backend computes the same mathematics; tests compare each with the reference. Gradients accumulate until they are taken.
pub(crate) trait Backend: Send {
    /// Its name in logs and cache keys: `reference` or `fast`.
    fn name(&self) -> &'static str;

    /// Whether it packs rows without padding, so that no row changes another's results.
    fn is_packed(&self) -> bool;

    /// Log-probs without gradients or dropout; `adapter` false is the base model.
    fn score(&self, decoder: &Decoder, batch: &Batch, adapter: bool) -> Result<TokenScores, Error>;

    /// The hidden states after the final norm that predict the scored tokens, (n, H), and these tokens.
    fn states(&self, decoder: &Decoder, batch: &Batch, adapter: bool) -> Result<(Tensor, Vec<u32>), Error>;

    /// KL(base ‖ policy) in nats and the policy's log-prob of `targets`, per position, from hidden states after the final norm
    /// (n, H): `base` with its own `head` (V, H), and the policy's `now`.
    fn divergence(
        &self,
        decoder: &Decoder,
        base: &Tensor,
        head: &Tensor,
        now: &Tensor,
        targets: &[u32],
    ) -> Result<(Vec<f64>, Vec<f64>), Error>;

    /// Log-probs with the adapter on and the dropout masks of training pass `number`, and the tape for the backward pass.
    fn score_train(&self, decoder: &Decoder, batch: &Batch, number: u64) -> Result<(TokenScores, Tape), Error>;

    /// Adds dL/dθ to the gradients. `g` is dL/d of the forward pass's outputs and must fit the tape.
    fn backward(&mut self, decoder: &Decoder, tape: Tape, g: &[RowGradient]) -> Result<(), Error>;

    /// The gradients accumulated since the last call.
    fn take_gradients(&mut self, decoder: &Decoder) -> Result<Gradients, Error>;

    /// Frees buffers cached for the next pass.
    fn release(&self) {}

    /// Most tokens that go through a layer at once since memory ran out; none if it never did.
    fn token_limit(&self) -> Option<usize> {
        None
    }

    /// Saves at most `_bytes` of activations besides the layers' inputs.
    #[cfg(test)]
    fn limit_activations(&mut self, _bytes: usize) {}

    /// Simulates running out of memory above `_tokens` tokens.
    #[cfg(test)]
    fn limit_tokens(&mut self, _tokens: usize) {}
}
