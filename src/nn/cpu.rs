//! The CPU backend: hand-written forward and backward of the decoder over slices of f32.
//!
//! Computes the same mathematics as the reference, its oracle: tests compare both, log-probs to 1e-5 and every
//! gradient to 1e-4. Refuses devices and types other than f32 on the CPU, and knows no loss.
//!
//! **What makes it fast.** No gradient of a frozen weight is computed. Rows are packed without padding, and a
//! prompt that rows share goes through the decoder once. The forward saves `u = W[y] − Σ p_v W_v` of each scored token, so that
//! the backward needs no logits. Attention recomputes its weights block by block. Activation buffers are reused.
//!
//! **Memory.** Every layer's input is saved; its other activations are saved while the budget allows, and recomputed otherwise
//! (gradient checkpointing). The results are equal to the bit either way.

mod context;
mod embed;
mod experts;
mod gradients;
mod layer;
mod linear;
mod logprobs;
mod norm;
mod shared;
mod values;

use super::backend::{Backend, Tape};
use super::contract::{Batch, Gradients, RowGradient, TokenScores};
use super::decoder::Decoder;
use super::device::activation_budget;
use super::layout::BatchLayout;
use super::pass::Mode;
use crate::model::error::Error;
use candle_core::Tensor;
use context::Context;
use embed::embed;
use gradients::CpuGradients;
use layer::CpuSavedLayer;
use logprobs::CpuSavedLogprobs;
use shared::{SharedGradients, SharedInputs};
use tiebreak_kernels::arena::{self, Arena, Buffer};
use tiebreak_kernels::leaf;
pub(crate) use values::values;

/// The state that lasts from pass to pass.
pub(crate) struct CpuBackend {
    arena: Arena,
    grads: CpuGradients,
    /// Bytes of activations that may be saved besides the layers' inputs.
    budget: usize,
}

/// What a forward pass saves for its backward.
struct SavedForward {
    layout: BatchLayout,
    mode: Mode,
    layers: Vec<CpuSavedLayer>,
    shared: SharedInputs,
    logprobs: CpuSavedLogprobs,
    /// The last layer's output, (tokens, H).
    last: Buffer,
}

impl CpuBackend {
    /// For `decoder`, which computes in f32 on the CPU.
    pub(super) fn new(decoder: &Decoder) -> Self {
        // Returns memory freed after loading, so that buffers can have it.
        arena::trim();
        Self { arena: Arena::default(), grads: CpuGradients::new(decoder), budget: activation_budget(decoder.device()) }
    }

    fn context<'a>(&'a self, decoder: &'a Decoder, layout: &'a BatchLayout, mode: Mode) -> Context<'a> {
        Context { arena: &self.arena, decoder, layout, mode }
    }

    fn forward_train(&self, decoder: &Decoder, batch: &Batch, number: u64) -> Result<(TokenScores, Tape), Error> {
        let mode = Mode { adapter: true, dropout: Some(number).filter(|_| decoder.has_dropout()) };
        // Dropout masks are drawn per row, so rows share no prefix.
        let layout = BatchLayout::new(decoder, batch, mode.dropout.is_none())?;
        let context = self.context(decoder, &layout, mode);
        let mut x = embed(&context)?;
        let mut layers = Vec::with_capacity(decoder.depth());
        let mut shared = SharedInputs::new(&context, &x)?;
        for i in 0..decoder.depth() {
            let kept = self.arena.lent() + layer::bytes(decoder, i, layout.tokens()) <= self.budget;
            let mut activations = None;
            let made = layer::forward(&context, i, &x, &shared, kept.then_some(&mut activations))?;
            shared.keep(i, made.keys);
            layers.push(CpuSavedLayer { x, activations });
            x = made.y;
        }
        let (scores, logprobs) = logprobs::forward(&context, &x, true)?;
        let counts = layout.counts().collect();
        Ok((scores, Tape::new(counts, SavedForward { layout, mode, layers, shared, logprobs, last: x })))
    }

    fn backward_all(&mut self, decoder: &Decoder, kept: SavedForward, g: &[RowGradient]) -> Result<(), Error> {
        let SavedForward { layout, mode, layers, shared, logprobs, last } = kept;
        let Self { arena, grads, .. } = self;
        let context = Context { arena, decoder, layout: &layout, mode };
        let mut upstream = logprobs::backward(&context, &last, logprobs, g, grads)?;
        drop(last);
        let mut dshared = SharedGradients::new(&context);
        for (i, saved) in layers.into_iter().enumerate().rev() {
            layer::backward(&context, i, saved, &shared, (&mut upstream, &mut dshared), grads)?;
        }
        dshared.backward(&context, &mut upstream, grads)?;
        let (hidden, scale) = (decoder.config().hidden, decoder.config().embedding_scale as f32);
        if let Some(sum) = decoder.embedding().trained().and_then(|var| grads.of(var)) {
            for (id, row) in layout.ids.iter().zip(upstream.chunks_exact(hidden)) {
                let at = *id as usize * hidden;
                sum[at..at + hidden].iter_mut().zip(row).for_each(|(s, x)| *s += scale * x);
            }
        }
        if let Some(sum) = decoder.positions().and_then(|table| table.trained()).and_then(|var| grads.of(var)) {
            for (position, row) in layout.positions.iter().zip(upstream.chunks_exact(hidden)) {
                leaf::add(&mut sum[position * hidden..(position + 1) * hidden], row);
            }
        }
        Ok(())
    }
}

impl Backend for CpuBackend {
    fn name(&self) -> &'static str {
        "fast"
    }

    fn is_packed(&self) -> bool {
        true
    }

    fn score(&self, decoder: &Decoder, batch: &Batch, adapter: bool) -> Result<TokenScores, Error> {
        on_pool(|| {
            let layout = BatchLayout::new(decoder, batch, true)?;
            let context = self.context(decoder, &layout, Mode { adapter, dropout: None });
            Ok(logprobs::forward(&context, &run_layers(&context)?, false)?.0)
        })
    }

    fn states(&self, decoder: &Decoder, batch: &Batch, adapter: bool) -> Result<(Tensor, Vec<u32>), Error> {
        on_pool(|| {
            let layout = BatchLayout::new(decoder, batch, true)?;
            let context = self.context(decoder, &layout, Mode { adapter, dropout: None });
            let states = logprobs::states(&context, &run_layers(&context)?, &layout.from)?;
            let shape = (layout.from.len(), decoder.config().hidden);
            Ok((Tensor::from_vec(states.to_vec(), shape, decoder.device())?, layout.target))
        })
    }

    fn divergence(
        &self,
        decoder: &Decoder,
        base: &Tensor,
        head: &Tensor,
        now: &Tensor,
        targets: &[u32],
    ) -> Result<(Vec<f64>, Vec<f64>), Error> {
        on_pool(|| {
            let (base, head, now) = (values(base)?, values(head)?, values(now)?);
            logprobs::divergence(&self.arena, decoder, (&base, &head), &now, targets)
        })
    }

    fn score_train(&self, decoder: &Decoder, batch: &Batch, number: u64) -> Result<(TokenScores, Tape), Error> {
        on_pool(|| self.forward_train(decoder, batch, number))
    }

    fn backward(&mut self, decoder: &Decoder, tape: Tape, g: &[RowGradient]) -> Result<(), Error> {
        let kept = tape.into_saved()?;
        on_pool(|| self.backward_all(decoder, kept, g))
    }

    fn take_gradients(&mut self, decoder: &Decoder) -> Result<Gradients, Error> {
        self.grads.take(decoder)
    }

    fn release(&self) {
        self.arena.clear();
        arena::trim();
    }

    #[cfg(test)]
    fn limit_activations(&mut self, bytes: usize) {
        self.budget = bytes;
    }
}

/// The last layer's output, (tokens, H).
fn run_layers(context: &Context<'_>) -> Result<Buffer, Error> {
    let mut x = embed(context)?;
    let mut shared = SharedInputs::new(context, &x)?;
    for i in 0..context.decoder.depth() {
        let made = layer::forward(context, i, &x, &shared, None)?;
        shared.keep(i, made.keys);
        x = made.y;
    }
    Ok(x)
}

/// Runs `f` on a thread of rayon's pool. Parallel loops then start without waking the pool, which would take longer than some of
/// the thousands of loops in a step.
fn on_pool<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    rayon::scope(|_| f())
}

#[cfg(test)]
mod tests;
