//! The fast path on the CPU: forward and backward of the decoder written by hand over slices of f32, behind the contract of
//! [`Policy`](super::policy::Policy).
//!
//! Owns the same mathematics as the reference path, which stays its oracle: tests hold both equal, log-probs to 1e-5 and every
//! gradient to 1e-4. Refuses other devices and types than f32 on the CPU, and knows no loss.
//!
//! **What makes it fast.** No gradient of a frozen weight is computed. Rows are laid one after another without padding, and a
//! prompt that rows share goes through the decoder once. The head keeps `u = W[y] − Σ p_v W_v` of each scored token, so that
//! the way back needs no logits. Attention makes its weights again block by block. Activations live in buffers that go round.
//!
//! **Memory.** Each layer keeps its input; the rest of what its way back needs is kept as long as [`Fast::room`] allows, and
//! made again where not. The numbers are the same either way.

mod head;
mod layer;
mod linear;
pub(crate) mod plan;
mod sums;

use super::decoder::Decoder;
use super::policy::{Batch, RowGradient, TokenScores};
use crate::model::error::Error;
use candle_core::{DType, Storage, Tensor};
pub(crate) use head::BLOCK;
use layer::Saved;
use plan::Plan;
pub(crate) use plan::{drops, places};
use std::ops::Deref;
pub(crate) use sums::Sums;
use sysinfo::{MemoryRefreshKind, RefreshKind, System};
use tiebreak_kernels::arena::{self, Arena, Buffer};

/// What lasts from pass to pass.
pub(crate) struct Fast {
    arena: Arena,
    /// Bytes of activations that may be kept beside the layers' inputs.
    room: usize,
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
    last: Buffer,
}

impl Tape {
    /// How many scored tokens and valued positions each row has.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (usize, usize)> {
        self.plan.counts()
    }
}

impl Fast {
    /// The fast path for `decoder`; none where it has none: on other devices, and in other types than f32.
    pub(crate) fn new(decoder: &Decoder) -> Option<Self> {
        let here = decoder.device().is_cpu() && decoder.dtype() == DType::F32;
        here.then(|| {
            // What loading has left behind is not there for buffers.
            arena::trim();
            Self { arena: Arena::default(), room: room() }
        })
    }

    /// Lets go of memory that waits for the next pass.
    pub(crate) fn rest(&self) {
        self.arena.clear();
        arena::trim();
    }

    /// Keeps at most `bytes` of activations beside the layers' inputs.
    #[cfg(test)]
    pub(super) fn set_room(&mut self, bytes: usize) {
        self.room = bytes;
    }

    /// Scores without gradients or dropout; `adapter` false is the base model.
    pub(crate) fn score(&self, decoder: &Decoder, batch: &Batch, adapter: bool) -> Result<TokenScores, Error> {
        within(|| {
            let plan = Plan::new(decoder, batch, true)?;
            let last = self.through(decoder, &plan, Way { adapter, dropout: None })?;
            let (scores, _) = head::forward(self, decoder, &plan, &last, false)?;
            Ok(scores)
        })
    }

    /// The normed final states from which the scored tokens are predicted, (n, H), and these tokens.
    pub(crate) fn states(&self, decoder: &Decoder, batch: &Batch, adapter: bool) -> Result<(Tensor, Vec<u32>), Error> {
        within(|| {
            let plan = Plan::new(decoder, batch, true)?;
            let last = self.through(decoder, &plan, Way { adapter, dropout: None })?;
            let states = head::states(self, decoder, &last, &plan.from)?;
            let shape = (plan.from.len(), decoder.config().hidden);
            Ok((Tensor::from_vec(states.to_vec(), shape, decoder.device())?, plan.target))
        })
    }

    /// KL(base ‖ policy) and the policy's log-prob of `targets` from final states, the base's under `head` (V, H).
    pub(crate) fn divergence(
        &self,
        decoder: &Decoder,
        base: &Tensor,
        head: &Tensor,
        now: &Tensor,
        targets: &[u32],
    ) -> Result<(Vec<f64>, Vec<f64>), Error> {
        within(|| {
            let (base, head, now) = (values(base)?, values(head)?, values(now)?);
            head::divergence(self, decoder, (&base, &head), &now, targets)
        })
    }

    fn through(&self, decoder: &Decoder, plan: &Plan, way: Way) -> Result<Buffer, Error> {
        let mut x = self.embed(decoder, plan)?;
        for layer in decoder.layers() {
            x = layer::forward(self, decoder, layer, plan, way, &x, None)?;
        }
        Ok(x)
    }

    /// Scores with the adapter on and training pass `number`'s dropout, and keeps what [`Fast::backward`] needs.
    pub(super) fn score_train(
        &self,
        decoder: &Decoder,
        batch: &Batch,
        number: u64,
    ) -> Result<(TokenScores, Tape), Error> {
        within(|| self.score_train_here(decoder, batch, number))
    }

    fn score_train_here(&self, decoder: &Decoder, batch: &Batch, number: u64) -> Result<(TokenScores, Tape), Error> {
        let way = Way { adapter: true, dropout: Some(number).filter(|_| drops(decoder)) };
        let plan = Plan::new(decoder, batch, way.dropout.is_none())?;
        let mut x = self.embed(decoder, &plan)?;
        let mut layers = Vec::with_capacity(decoder.depth());
        let one = layer::bytes(decoder, plan.tokens());
        for layer in decoder.layers() {
            let kept = self.arena.lent() + one <= self.room;
            let mut rest = None;
            let y = layer::forward(self, decoder, layer, &plan, way, &x, kept.then_some(&mut rest))?;
            layers.push(Saved { x, rest });
            x = y;
        }
        let (scores, head) = head::forward(self, decoder, &plan, &x, true)?;
        Ok((scores, Tape { plan, way, layers, head, last: x }))
    }

    /// Adds dL/dθ to `sums`, given dL/d of what was said about each row.
    pub(super) fn backward(
        &self,
        decoder: &Decoder,
        tape: Tape,
        g: &[RowGradient],
        sums: &mut Sums,
    ) -> Result<(), Error> {
        within(|| self.backward_here(decoder, tape, g, sums))
    }

    fn backward_here(&self, decoder: &Decoder, tape: Tape, g: &[RowGradient], sums: &mut Sums) -> Result<(), Error> {
        let Tape { plan, way, layers, head, last } = tape;
        let mut upstream = head::backward(self, decoder, &plan, &last, head, g, sums)?;
        drop(last);
        for (layer, saved) in decoder.layers().iter().zip(layers).rev() {
            layer::backward(self, decoder, layer, &plan, way, saved, &mut upstream, sums)?;
        }
        let hidden = decoder.config().hidden;
        if let Some(sum) = decoder.embedding().trained().and_then(|var| sums.of(var)) {
            for (id, row) in plan.ids.iter().zip(upstream.chunks_exact(hidden)) {
                let at = *id as usize * hidden;
                sum[at..at + hidden].iter_mut().zip(row).for_each(|(s, x)| *s += x);
            }
        }
        Ok(())
    }

    /// The tokens' vectors, (tokens, H).
    fn embed(&self, decoder: &Decoder, plan: &Plan) -> Result<Buffer, Error> {
        let hidden = decoder.config().hidden;
        let table = values(decoder.embedding().stored())?;
        let mut x = self.arena.take(plan.tokens() * hidden);
        for (id, row) in plan.ids.iter().zip(x.chunks_exact_mut(hidden)) {
            row.copy_from_slice(&table[*id as usize * hidden..(*id as usize + 1) * hidden]);
        }
        Ok(x)
    }
}

/// Runs `f` on a thread of rayon's pool: from there a loop is shared out without waking the pool, which between the thousands of
/// loops of a step takes longer than some of them.
fn within<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    rayon::scope(|_| f())
}

/// A third of the memory that is free when a run begins: the rest is for weights still to be read, moments and the logits.
pub(crate) fn room() -> usize {
    let asked = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    let free = System::new_with_specifics(asked).map_or(0, |system| system.available_memory());
    if free == 0 { 1 << 30 } else { free as usize / 3 }
}

/// A tensor's numbers where they lie.
pub(crate) struct Values<G> {
    storage: G,
    first: usize,
    len: usize,
}

impl<G: Deref<Target = Storage>> Deref for Values<G> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(s) => s.as_slice::<f32>().map_or(&[], |all| &all[self.first..self.first + self.len]),
            _ => &[],
        }
    }
}

/// The numbers of an f32 tensor in the processor's memory, where they lie.
pub(crate) fn values(tensor: &Tensor) -> Result<Values<impl Deref<Target = Storage> + '_>, Error> {
    let (storage, layout) = tensor.storage_and_layout();
    let Some((first, end)) = layout.contiguous_offsets() else {
        return Err(Error::Asked("a weight does not lie in one piece; this is an error of the program".into()));
    };
    Ok(Values { storage, first, len: end - first })
}

#[cfg(test)]
mod tests;
