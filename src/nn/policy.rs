//! The policy in training: token log-probs of a batch, and gradients from dL/dlogp of every token.
//!
//! Owns a decoder, the [`Backend`] that computes it, and the count of training passes. A recipe builds a [`Batch`], asks
//! [`Policy::score_train`] for the log-probs of its scored tokens, computes its loss and `g_t = dL/dlogp_t` for each of them,
//! and passes `g` to [`Policy::backward`], which adds dL/dθ to the policy's [`Gradients`]. Refuses to know any loss.

use super::backend::Backend;
pub use super::backend::Tape;
pub use super::contract::{Batch, Gradients, Row, RowGradient, RowScores, TokenScores};
use super::cpu::CpuBackend;
use super::cuda::CudaBackend;
use super::decoder::Decoder;
use super::reference::ReferenceBackend;
use crate::model::error::Error;
use candle_core::{DType, Tensor, Var};

/// A decoder with its gradients.
pub struct Policy {
    decoder: Decoder,
    backend: Box<dyn Backend>,
    /// Number of the next training pass, for dropout.
    pass: u64,
}

impl Policy {
    /// Trains a decoder on the fastest backend for its device and type.
    ///
    /// # Errors
    /// When the device runs out of memory.
    pub fn new(decoder: Decoder) -> Result<Self, Error> {
        match (decoder.device().is_cpu(), decoder.dtype()) {
            (true, DType::F32) => {
                let backend = CpuBackend::new(&decoder);
                Ok(Self::with(decoder, Box::new(backend)))
            }
            (true, _) => Ok(Self::reference(decoder)),
            (false, _) => Self::gpu(decoder),
        }
    }

    /// Trains a decoder on the accelerator backend, whatever its device; one that it does not compute on the reference.
    pub(crate) fn gpu(mut decoder: Decoder) -> Result<Self, Error> {
        if decoder.config().needs_reference() {
            return Ok(Self::reference(decoder));
        }
        let backend = CudaBackend::new(&mut decoder)?;
        Ok(Self::with(decoder, Box::new(backend)))
    }

    /// Trains a decoder on the reference backend.
    #[must_use]
    pub fn reference(decoder: Decoder) -> Self {
        let backend = ReferenceBackend::new(&decoder);
        Self::with(decoder, Box::new(backend))
    }

    fn with(decoder: Decoder, backend: Box<dyn Backend>) -> Self {
        Self { decoder, backend, pass: 0 }
    }

    /// The backend's name: `fast` or `reference`.
    #[must_use]
    pub fn path(&self) -> &'static str {
        self.backend.name()
    }

    /// Whether rows are packed without padding, so that none changes another's results. Not with dropout, whose masks are drawn
    /// for the padded batch.
    #[must_use]
    pub fn packs(&self) -> bool {
        self.backend.is_packed() && !self.decoder.has_dropout()
    }

    /// Frees buffers cached for the next pass, because something else needs the memory now.
    pub fn release_memory(&self) {
        self.backend.release();
    }

    /// Most tokens that go through a layer at once since memory ran out; none if it never did.
    #[must_use]
    pub fn token_limit(&self) -> Option<usize> {
        self.backend.token_limit()
    }

    /// The decoder.
    #[must_use]
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// The trained parameters by name, in a fixed order; set them with [`Var::set`].
    #[must_use]
    pub fn trainables(&self) -> &[(String, Var)] {
        self.decoder.trainables()
    }

    /// Training passes made so far; saved with a checkpoint, so that resumed dropout continues the same stream.
    #[must_use]
    pub fn passes(&self) -> u64 {
        self.pass
    }

    /// Continues after `passes` training passes.
    pub fn set_passes(&mut self, passes: u64) {
        self.pass = passes;
    }

    /// Returns the gradients accumulated since the last call and resets them.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn take_gradients(&mut self) -> Result<Gradients, Error> {
        self.backend.take_gradients(&self.decoder)
    }

    /// Scores without gradients or dropout. `adapter` false scores the reference: the base model.
    ///
    /// # Errors
    /// When the batch is empty or malformed, or a tensor operation fails.
    pub fn score(&self, batch: &Batch, adapter: bool) -> Result<TokenScores, Error> {
        self.backend.score(&self.decoder, batch, adapter)
    }

    /// The hidden states after the final norm that predict the scored tokens of `batch`, (n, H), and these tokens.
    ///
    /// # Errors
    /// As [`Policy::score`].
    pub(crate) fn states(&self, batch: &Batch, adapter: bool) -> Result<(Tensor, Vec<u32>), Error> {
        self.backend.states(&self.decoder, batch, adapter)
    }

    /// KL(base ‖ policy) in nats and the policy's log-prob of `targets`, per position, from hidden states after the final norm
    /// (n, H): `base` with its own `head` (V, H), and the policy's `now`.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub(crate) fn divergence(
        &self,
        base: &Tensor,
        head: &Tensor,
        now: &Tensor,
        targets: &[u32],
    ) -> Result<(Vec<f64>, Vec<f64>), Error> {
        self.backend.divergence(&self.decoder, base, head, now, targets)
    }

    /// Scores with the adapter on and saves activations for [`Policy::backward`].
    ///
    /// # Errors
    /// As [`Policy::score`].
    pub fn score_train(&mut self, batch: &Batch) -> Result<(TokenScores, Tape), Error> {
        let number = self.pass;
        self.pass += 1;
        self.backend.score_train(&self.decoder, batch, number)
    }

    /// Adds dL/dθ to the gradients, given `g`: dL/d of each row's [`TokenScores`].
    ///
    /// # Errors
    /// When the shape of `g` is not the batch's, or a tensor operation fails.
    pub fn backward(&mut self, tape: Tape, g: &[RowGradient]) -> Result<(), Error> {
        if !tape.fits(g) {
            return Err(Error::Invalid("the gradients do not have the shape of the scored tokens".into()));
        }
        self.backend.backward(&self.decoder, tape, g)
    }

    /// The backend, for tests that limit its memory.
    #[cfg(test)]
    pub(super) fn backend(&mut self) -> &mut dyn Backend {
        &mut *self.backend
    }
}

#[cfg(test)]
mod tests;
