//! The backend of accelerators: forward and backward of the decoder written by hand over candle tensors.
//!
//! Owns the same mathematics as the reference, which stays its oracle: tests hold both equal on the CPU, in f32 to 1e-5
//! and every gradient to 1e-4, and in bf16 as near as that type can be. Refuses candle's graph: no tensor here is tracked.
//!
//! **Types.** Products are made in the type of the frozen weights, with sums in f32; the residual stream, log-probs, adapters
//! and gradients are f32. **Speed.** As on the CPU: no gradient of a frozen weight, rows without padding, common beginnings
//! once, the head for scored tokens alone. What reads the same input is one product, and one small tensor is read back in a
//! pass. The innermost operations are a table ([`leaf::Leaves`]), composed of candle's or kernels of its own.
//!
//! **Memory.** Each layer keeps its input; the rest of what its way back needs is kept as long as the budget allows, and
//! recomputed where not. Where memory runs out that rest is dropped first, and then fewer rows go through a layer at one time.

mod attention;
#[cfg(any(test, feature = "cuda"))]
mod blocks;
mod composed;
mod gradients;
#[cfg(feature = "cuda")]
mod kernels;
mod layer;
mod layout;
mod leaf;
mod linear;
mod logprobs;

use super::backend::{Backend, Tape};
use super::contract::{Batch, Gradients, RowGradient, TokenScores};
use super::decoder::Decoder;
use super::device::activation_budget;
use super::divergence::divergence;
use super::pass::Mode;
use super::room::{Room, joined};
use crate::model::error::Error;
use candle_core::{DType, Device, Tensor};
use gradients::{Slot, Sums};
#[cfg(feature = "cuda")]
pub(crate) use kernels::{adamw, keep_memory, squares};
use layer::Saved;
use layout::DeviceLayout;
use leaf::Leaves;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What lasts from pass to pass.
pub(crate) struct CudaBackend {
    leaves: Leaves,
    sums: Sums,
    room: Room,
    /// Bytes of activations that may be kept beside the layers' inputs.
    budget: AtomicUsize,
    /// Bytes of them that are kept now.
    kept: Arc<AtomicUsize>,
}

/// What the way back needs of a forward.
struct Kept {
    layout: DeviceLayout,
    mode: Mode,
    layers: Vec<Saved>,
    logprobs: logprobs::Kept,
    /// The last layer's output, (tokens, H).
    last: Tensor,
}

/// The fastest table there is on a device.
fn leaves(device: &Device) -> Leaves {
    #[cfg(feature = "cuda")]
    if device.is_cuda() {
        return kernels::LEAVES;
    }
    let _ = device;
    composed::COMPOSED
}

impl CudaBackend {
    /// For `decoder`, wherever it computes.
    ///
    /// # Errors
    /// When the memory cannot be had.
    pub(super) fn new(decoder: &mut Decoder) -> Result<Self, Error> {
        decoder.join()?;
        #[cfg(feature = "cuda")]
        keep_memory(decoder.device())?;
        let budget = AtomicUsize::new(activation_budget(decoder.device()));
        let (leaves, sums) = (leaves(decoder.device()), Sums::new(decoder));
        Ok(Self { leaves, sums, room: Room::default(), budget, kept: Arc::default() })
    }

    /// The last layer's output, (tokens, H).
    fn through(&self, decoder: &Decoder, layout: &DeviceLayout, mode: Mode) -> Result<Tensor, Error> {
        let mut x = embed(decoder, layout)?;
        for i in 0..decoder.depth() {
            x = joined(self.room.parts(
                &layout.pieces,
                || false,
                |first, count| {
                    let part = layout.part(first, count)?;
                    let modules = layer::Modules::new(&self.leaves, decoder, i, mode)?;
                    Ok(layer::forward(&self.leaves, decoder, &modules, &part, mode, &part.cut(&x)?)?.0)
                },
            )?)?;
        }
        Ok(x)
    }

    fn forward_train(&self, decoder: &Decoder, batch: &Batch, number: u64) -> Result<(TokenScores, Tape), Error> {
        let mode = Mode { adapter: true, dropout: Some(number).filter(|_| decoder.has_dropout()) };
        let layout = DeviceLayout::new(decoder, batch, mode.dropout.is_none())?;
        let mut x = embed(decoder, &layout)?;
        let mut layers: Vec<Saved> = Vec::with_capacity(decoder.depth());
        for i in 0..decoder.depth() {
            let modules = layer::Modules::new(&self.leaves, decoder, i, mode)?;
            let mut rest = None;
            let parts = self.room.parts(
                &layout.pieces,
                || relieve(&self.budget, &mut layers),
                |first, count| {
                    let part = layout.part(first, count)?;
                    let (y, made) = layer::forward(&self.leaves, decoder, &modules, &part, mode, &part.cut(&x)?)?;
                    rest = if part.whole { self.keep(made) } else { None };
                    Ok(y)
                },
            )?;
            let y = joined(parts)?;
            layers.push(Saved { x, rest, modules: modules.kept() });
            x = y;
        }
        let (scores, logprobs) = logprobs::forward(&self.leaves, decoder, &layout, &x, true)?;
        let counts = layout.counts().collect();
        Ok((scores, Tape::new(counts, Kept { layout, mode, layers, logprobs, last: x })))
    }

    /// Keeps what a layer's way back needs, if there is room for it.
    fn keep(&self, rest: layer::Rest) -> Option<layer::Kept> {
        let bytes = rest.bytes();
        let before = self.kept.fetch_add(bytes, Ordering::Relaxed);
        let kept = layer::Kept { rest, bytes, all: self.kept.clone() };
        (before + bytes <= self.budget.load(Ordering::Relaxed)).then_some(kept)
    }

    fn backward_all(&mut self, decoder: &Decoder, kept: Kept, g: &[RowGradient]) -> Result<(), Error> {
        let Kept { layout, mode, mut layers, logprobs, last } = kept;
        let Self { leaves, sums, room, budget, .. } = self;
        let mut upstream = logprobs::backward(leaves, decoder, &layout, &last, logprobs, g, sums)?;
        drop(last);
        for i in (0..decoder.depth()).rev() {
            let Some(Saved { x, mut rest, modules }) = layers.pop() else {
                return Err(Error::Asked("the tape is too short; this is an error of the program".into()));
            };
            let modules = match modules {
                Some(modules) => modules,
                None => layer::Modules::new(leaves, decoder, i, mode)?,
            };
            let parts = room.parts(
                &layout.pieces,
                || relieve(budget, &mut layers),
                |first, count| {
                    let part = layout.part(first, count)?;
                    let rest = rest.take().filter(|_| part.whole);
                    let (x, upstream) = (part.cut(&x)?, part.cut(&upstream)?);
                    let (dx, more) =
                        layer::backward(leaves, decoder, &modules, &part, mode, (&x, rest.as_ref()), &upstream)?;
                    // All of a part's gradients or none: where memory ran out the part is recomputed.
                    sums.add_all(&more)?;
                    Ok(dx)
                },
            );
            upstream = joined(parts?)?;
        }
        if decoder.trained_embedding().is_some() {
            let (vocab, hidden) = (decoder.config().vocab, decoder.config().hidden);
            let zeros = Tensor::zeros((vocab, hidden), DType::F32, decoder.device())?.to_dtype(upstream.dtype())?;
            let sum = zeros.index_add(&layout.ids, &scaled(decoder, upstream)?, 0)?;
            sums.add_all(&[(Slot::Embedding, sum)])?;
        }
        Ok(())
    }
}

impl Backend for CudaBackend {
    fn name(&self) -> &'static str {
        "fast"
    }

    fn is_packed(&self) -> bool {
        true
    }

    fn score(&self, decoder: &Decoder, batch: &Batch, adapter: bool) -> Result<TokenScores, Error> {
        let mode = Mode { adapter, dropout: None };
        let score = || {
            let layout = DeviceLayout::new(decoder, batch, true)?;
            let last = self.through(decoder, &layout, mode)?;
            Ok(logprobs::forward(&self.leaves, decoder, &layout, &last, false)?.0)
        };
        score().map_err(Error::with_remedy)
    }

    fn states(&self, decoder: &Decoder, batch: &Batch, adapter: bool) -> Result<(Tensor, Vec<u32>), Error> {
        let states = || {
            let layout = DeviceLayout::new(decoder, batch, true)?;
            let last = self.through(decoder, &layout, Mode { adapter, dropout: None })?;
            let states = logprobs::states(&self.leaves, decoder, &last, &layout.from)?;
            Ok((states, layout.places.target))
        };
        states().map_err(Error::with_remedy)
    }

    fn divergence(
        &self,
        decoder: &Decoder,
        base: &Tensor,
        head: &Tensor,
        now: &Tensor,
        targets: &[u32],
    ) -> Result<(Vec<f64>, Vec<f64>), Error> {
        divergence(decoder, base, head, now, targets)
    }

    fn score_train(&self, decoder: &Decoder, batch: &Batch, number: u64) -> Result<(TokenScores, Tape), Error> {
        self.forward_train(decoder, batch, number).map_err(Error::with_remedy)
    }

    fn backward(&mut self, decoder: &Decoder, tape: Tape, g: &[RowGradient]) -> Result<(), Error> {
        self.backward_all(decoder, tape.kept()?, g).map_err(Error::with_remedy)
    }

    fn take_gradients(&mut self, decoder: &Decoder) -> Result<Gradients, Error> {
        self.sums.take(decoder)
    }

    fn narrowed(&self) -> Option<usize> {
        self.room.narrowed()
    }

    #[cfg(test)]
    fn limit_kept(&mut self, bytes: usize) {
        self.budget.store(bytes, Ordering::Relaxed);
    }

    #[cfg(test)]
    fn limit_tokens(&mut self, tokens: usize) {
        self.room.there_is = tokens;
    }
}

/// Frees what was kept beside the layers' inputs, and keeps no more from here on; false where nothing was.
fn relieve(budget: &AtomicUsize, layers: &mut [Saved]) -> bool {
    let some = layers.iter().any(|saved| saved.rest.is_some());
    for saved in layers.iter_mut() {
        saved.rest = None;
    }
    budget.store(0, Ordering::Relaxed);
    some
}

/// The tokens' vectors, (tokens, H), in f32.
fn embed(decoder: &Decoder, layout: &DeviceLayout) -> Result<Tensor, Error> {
    let rows = decoder.embedding().stored().detach().index_select(&layout.ids, 0)?;
    scaled(decoder, rows.to_dtype(DType::F32)?)
}

/// Times the scale of the embeddings.
fn scaled(decoder: &Decoder, x: Tensor) -> Result<Tensor, Error> {
    let scale = decoder.config().embedding_scale;
    Ok(if scale == 1.0 { x } else { (x * scale)? })
}

#[cfg(test)]
mod tests;
