//! The trait that computes a decoder in training: the one seam between losses and devices.
//!
//! Owns [`Backend`] and the [`Tape`] that leads from a forward to its backward. The backends are `reference/` (candle's graph,
//! the oracle), `cpu/` and `cuda/` (forward and backward by hand); [`Policy`](super::policy::Policy) chooses. Refuses to know
//! any of them.

use super::contract::{Batch, Gradients, RowGradient, TokenScores};
use super::decoder::Decoder;
use crate::model::error::Error;
use candle_core::Tensor;
use std::any::Any;

/// What the backward needs of a forward. Only the backend that made it can read it.
pub struct Tape {
    /// Scored tokens and valued positions of each row.
    counts: Vec<(usize, usize)>,
    saved: Box<dyn Any + Send>,
}

impl Tape {
    /// A tape over rows with so many scored tokens and valued positions each.
    pub(super) fn new(counts: Vec<(usize, usize)>, saved: impl Any + Send) -> Self {
        Self { counts, saved: Box::new(saved) }
    }

    /// Whether `g` has one derivative for each number that the forward gave.
    pub(super) fn fits(&self, g: &[RowGradient]) -> bool {
        let fits = |(row, (n, v)): (&RowGradient, &(usize, usize))| {
            let may_be = |x: &[f64], n: usize| x.is_empty() || x.len() == n;
            row.logp.len() == *n && may_be(&row.entropy, *n) && may_be(&row.value, *v)
        };
        g.len() == self.counts.len() && g.iter().zip(&self.counts).all(fits)
    }

    /// What the backend kept.
    ///
    /// # Errors
    /// When another backend made the tape.
    pub(super) fn into_saved<T: Any>(self) -> Result<T, Error> {
        let saved = self.saved.downcast::<T>();
        saved.map(|saved| *saved).map_err(|_| Error::Asked("a tape goes back on the backend that made it".into()))
    }
}

/// Token log-probs of a batch, and gradients from their derivatives.
///
/// Every backend computes the same mathematics; tests hold each to the reference. Gradients add up until they are taken.
pub(crate) trait Backend: Send {
    /// Its name in logs and cache keys: `reference` or `fast`.
    fn name(&self) -> &'static str;

    /// Whether it lays rows without padding, so that no row changes another's numbers.
    fn is_packed(&self) -> bool;

    /// Log-probs without gradients or dropout; `adapter` false is the base model.
    fn score(&self, decoder: &Decoder, batch: &Batch, adapter: bool) -> Result<TokenScores, Error>;

    /// The normed final states from which the scored tokens are predicted, (n, H), and these tokens.
    fn states(&self, decoder: &Decoder, batch: &Batch, adapter: bool) -> Result<(Tensor, Vec<u32>), Error>;

    /// KL(base ‖ policy) in nats and the policy's log-prob of `targets`, position by position, from final states (n, H): the
    /// base model's under its `head` (V, H), and the policy's now.
    fn divergence(
        &self,
        decoder: &Decoder,
        base: &Tensor,
        head: &Tensor,
        now: &Tensor,
        targets: &[u32],
    ) -> Result<(Vec<f64>, Vec<f64>), Error>;

    /// Log-probs with the adapter on and the dropout of training pass `number`, and what the backward needs.
    fn score_train(&self, decoder: &Decoder, batch: &Batch, number: u64) -> Result<(TokenScores, Tape), Error>;

    /// Adds dL/dθ to the gradients. `g` is dL/d of what the forward gave and fits the tape.
    fn backward(&mut self, decoder: &Decoder, tape: Tape, g: &[RowGradient]) -> Result<(), Error>;

    /// The gradients summed since the last call.
    fn take_gradients(&mut self, decoder: &Decoder) -> Result<Gradients, Error>;

    /// Frees memory that waits for the next pass.
    fn release(&self) {}

    /// Tokens that go through a layer at one time since memory ran out; none if it never did.
    fn token_limit(&self) -> Option<usize> {
        None
    }

    /// Keeps at most so many bytes of activations beside the layers' inputs.
    #[cfg(test)]
    fn limit_activations(&mut self, _bytes: usize) {}

    /// Runs out of memory above so many tokens.
    #[cfg(test)]
    fn limit_tokens(&mut self, _tokens: usize) {}
}
