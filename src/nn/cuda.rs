//! The fast path on accelerators: forward and backward of the decoder written by hand over candle tensors, behind the contract
//! of [`Policy`](super::policy::Policy).
//!
//! Owns the same mathematics as the reference path, which stays its oracle: tests hold both equal on the CPU, in f32 to 1e-5
//! and every gradient to 1e-4, and in bf16 as near as that type can be. Refuses candle's graph: no tensor here is tracked.
//!
//! **Types.** Products are made in the type of the frozen weights, with sums in f32; the residual stream, log-probs, adapters
//! and gradients are f32. **Speed.** As on the CPU: no gradient of a frozen weight, rows without padding, common beginnings
//! once, the head for scored tokens alone. What reads the same input is one product, and one small tensor is read back in a
//! pass. The innermost operations are a table ([`leaf::Leaves`]), composed of candle's or kernels of its own.
//!
//! **Memory.** Each layer keeps its input; the rest of what its way back needs is kept as long as [`Gpu::room`] allows, and
//! made again where not. Where memory runs out that rest is dropped first, and then fewer rows go through a layer at one time.

mod attention;
#[cfg(any(test, feature = "cuda"))]
mod blocks;
mod head;
#[cfg(feature = "cuda")]
mod kernels;
mod layer;
mod leaf;
mod linear;
mod plan;
mod sums;

use super::cpu;
use super::decoder::Decoder;
use super::policy::{Batch, Gradients, Room, RowGradient, TokenScores, joined};
use crate::model::error::Error;
use candle_core::{D, DType, Tensor};
pub(crate) use head::chunk;
#[cfg(feature = "cuda")]
pub(crate) use kernels::{adamw, keep_memory, squares};
use layer::Saved;
use leaf::Leaves;
use plan::Plan;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use sums::{Slot, Sums};

/// What lasts from pass to pass.
pub(crate) struct Gpu {
    leaves: Leaves,
    sums: Sums,
    /// Bytes of activations that may be kept beside the layers' inputs.
    room: AtomicUsize,
    /// Bytes of them that are kept now.
    kept: Arc<AtomicUsize>,
}

/// How a pass is made.
#[derive(Debug, Clone, Copy)]
struct Way {
    /// Whether adapters are on.
    adapter: bool,
    /// Number of the training pass whose dropout masks are drawn; none: no dropout.
    dropout: Option<u64>,
}

/// What the way back needs of a forward.
pub(super) struct Tape {
    plan: Plan,
    way: Way,
    layers: Vec<Saved>,
    head: head::Tape,
    /// The last layer's output, (tokens, H).
    last: Tensor,
}

impl Tape {
    /// How many scored tokens and valued positions each row has.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (usize, usize)> {
        self.plan.counts()
    }
}

impl Gpu {
    /// The fast path for `decoder`, wherever it computes.
    ///
    /// # Errors
    /// When the memory cannot be had.
    pub(crate) fn new(decoder: &mut Decoder) -> Result<Self, Error> {
        decoder.join()?;
        #[cfg(feature = "cuda")]
        keep_memory(decoder.device())?;
        let room = AtomicUsize::new(room(decoder.device()));
        let leaves = Leaves::of(decoder.device());
        Ok(Self { leaves, sums: Sums::new(decoder), room, kept: Arc::default() })
    }

    /// Keeps at most `bytes` of activations beside the layers' inputs.
    #[cfg(test)]
    pub(super) fn set_room(&self, bytes: usize) {
        self.room.store(bytes, Ordering::Relaxed);
    }

    /// Gives the sums of gradients and starts again from none.
    pub(crate) fn take(&mut self, decoder: &Decoder) -> Result<Gradients, Error> {
        self.sums.take(decoder)
    }

    /// Scores without gradients or dropout; `adapter` false is the base model.
    pub(crate) fn score(
        &self,
        decoder: &Decoder,
        batch: &Batch,
        adapter: bool,
        room: &Room,
    ) -> Result<TokenScores, Error> {
        let way = Way { adapter, dropout: None };
        let plan = Plan::new(decoder, batch, true)?;
        let last = self.through(decoder, &plan, way, room)?;
        Ok(head::forward(self, decoder, &plan, &last, false)?.0)
    }

    /// The normed final states from which the scored tokens are predicted, (n, H), and these tokens.
    pub(crate) fn states(
        &self,
        decoder: &Decoder,
        batch: &Batch,
        adapter: bool,
        room: &Room,
    ) -> Result<(Tensor, Vec<u32>), Error> {
        let plan = Plan::new(decoder, batch, true)?;
        let last = self.through(decoder, &plan, Way { adapter, dropout: None }, room)?;
        let states = head::states(self, decoder, &last, &plan.from)?;
        Ok((states, plan.lie.target))
    }

    fn through(&self, decoder: &Decoder, plan: &Plan, way: Way, room: &Room) -> Result<Tensor, Error> {
        let mut x = embed(decoder, plan)?;
        for i in 0..decoder.depth() {
            x = joined(room.parts(
                &plan.pieces,
                || false,
                |first, count| {
                    let part = plan.part(first, count)?;
                    let modules = layer::Modules::new(self, decoder, i, way)?;
                    Ok(layer::forward(self, decoder, &modules, &part, way, &part.cut(&x)?)?.0)
                },
            )?)?;
        }
        Ok(x)
    }

    /// Scores with the adapter on and training pass `number`'s dropout, and keeps what [`Gpu::backward`] needs.
    pub(super) fn score_train(
        &self,
        decoder: &Decoder,
        batch: &Batch,
        number: u64,
        room: &Room,
    ) -> Result<(TokenScores, Tape), Error> {
        let way = Way { adapter: true, dropout: Some(number).filter(|_| cpu::drops(decoder)) };
        let plan = Plan::new(decoder, batch, way.dropout.is_none())?;
        let mut x = embed(decoder, &plan)?;
        let mut layers: Vec<Saved> = Vec::with_capacity(decoder.depth());
        for i in 0..decoder.depth() {
            let modules = layer::Modules::new(self, decoder, i, way)?;
            let mut rest = None;
            let parts = room.parts(
                &plan.pieces,
                || self.relieve(&mut layers),
                |first, count| {
                    let part = plan.part(first, count)?;
                    let (y, made) = layer::forward(self, decoder, &modules, &part, way, &part.cut(&x)?)?;
                    rest = if part.whole { self.keep(made) } else { None };
                    Ok(y)
                },
            )?;
            let y = joined(parts)?;
            layers.push(Saved { x, rest, modules: modules.kept() });
            x = y;
        }
        let (scores, head) = head::forward(self, decoder, &plan, &x, true)?;
        Ok((scores, Tape { plan, way, layers, head, last: x }))
    }

    /// Keeps what a layer's way back needs, if there is room for it.
    fn keep(&self, rest: layer::Rest) -> Option<layer::Kept> {
        let bytes = rest.bytes();
        let before = self.kept.fetch_add(bytes, Ordering::Relaxed);
        let kept = layer::Kept { rest, bytes, all: self.kept.clone() };
        (before + bytes <= self.room.load(Ordering::Relaxed)).then_some(kept)
    }

    /// Lets go of what was kept beside the layers' inputs, and keeps no more from here on; false where nothing was.
    fn relieve(&self, layers: &mut [Saved]) -> bool {
        let some = layers.iter().any(|saved| saved.rest.is_some());
        for saved in layers.iter_mut() {
            saved.rest = None;
        }
        self.room.store(0, Ordering::Relaxed);
        some
    }

    /// Adds dL/dθ to the sums, given dL/d of what was said about each row.
    pub(super) fn backward(
        &mut self,
        decoder: &Decoder,
        tape: Tape,
        g: &[RowGradient],
        room: &Room,
    ) -> Result<(), Error> {
        let Tape { plan, way, mut layers, head, last } = tape;
        let mut upstream = head::backward(self, decoder, &plan, &last, head, g)?;
        drop(last);
        for i in (0..decoder.depth()).rev() {
            let Some(Saved { x, mut rest, modules }) = layers.pop() else {
                return Err(Error::Asked("the tape is too short; this is an error of the program".into()));
            };
            let modules = match modules {
                Some(modules) => modules,
                None => layer::Modules::new(self, decoder, i, way)?,
            };
            let mut sums = std::mem::take(&mut self.sums);
            let parts = room.parts(
                &plan.pieces,
                || self.relieve(&mut layers),
                |first, count| {
                    let part = plan.part(first, count)?;
                    let rest = rest.take().filter(|_| part.whole);
                    let (x, upstream) = (part.cut(&x)?, part.cut(&upstream)?);
                    let (dx, more) =
                        layer::backward(self, decoder, &modules, &part, way, &x, rest.as_ref(), &upstream)?;
                    // All of a part's gradients or none: where memory ran out the part is made again.
                    sums.add_all(&more)?;
                    Ok(dx)
                },
            );
            self.sums = sums;
            upstream = joined(parts?)?;
        }
        if decoder.trained_embedding().is_some() {
            let (vocab, hidden) = (decoder.config().vocab, decoder.config().hidden);
            let zeros = Tensor::zeros((vocab, hidden), DType::F32, decoder.device())?.to_dtype(upstream.dtype())?;
            let sum = zeros.index_add(&plan.ids, &upstream, 0)?;
            self.sums.add_all(&[(Slot::Embedding, sum)])?;
        }
        Ok(())
    }
}

/// The tokens' vectors, (tokens, H), in f32.
fn embed(decoder: &Decoder, plan: &Plan) -> Result<Tensor, Error> {
    Ok(decoder.embedding().stored().detach().index_select(&plan.ids, 0)?.to_dtype(DType::F32)?)
}

/// Half of the memory that is free on the device when a run begins: the rest is for moments, gradients, logits and one layer
/// at work.
fn room(device: &candle_core::Device) -> usize {
    super::device::free(device).map_or_else(cpu::room, |bytes| bytes / 2)
}

/// A tensor's sum over its last dimension, which stays as 1.
fn row_sum(x: &Tensor) -> Result<Tensor, Error> {
    Ok(x.sum_keepdim(D::Minus1)?)
}

#[cfg(test)]
mod tests;
