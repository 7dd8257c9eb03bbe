//! The accelerator backend: hand-written forward and backward of the decoder over candle tensors.
//!
//! Computes the same mathematics as the reference, its oracle: tests compare both on the CPU, in f32 to 1e-5
//! and every gradient to 1e-4, and in bf16 within that type's precision. Refuses candle's graph: no tensor here is tracked.
//!
//! **Types.** Matrix products use the type of the frozen weights, with f32 accumulators; the residual stream, log-probs, adapters
//! and gradients are f32. **Speed.** As on the CPU: no gradient of a frozen weight, rows without padding, shared prefixes
//! once, the head for scored tokens only. Modules that read the same input are one product, and a pass reads back one small
//! tensor. The leaf operations are a table ([`leaf::LeafOps`]): composed of candle's operations, or own kernels.
//!
//! **Memory.** Every layer's input is saved; its other activations are saved while the budget allows, and recomputed otherwise
//! (gradient checkpointing). If memory runs out, saved activations are dropped first; then fewer rows go through a layer at once.

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
mod norm;

use super::backend::{Backend, Tape};
use super::contract::{Batch, Gradients, RowGradient, TokenScores};
use super::decoder::Decoder;
use super::device::activation_budget;
use super::divergence::divergence;
use super::pass::Mode;
use super::token_budget::{TokenBudget, concat_rows};
use crate::model::error::Error;
use candle_core::{DType, Device, Tensor};
use gradients::{CudaGradients, Slot};
#[cfg(feature = "cuda")]
pub(crate) use kernels::{adamw, keep_memory, squares};
use layer::{CountedActivations, CudaActivations, CudaSavedLayer, LayerModules};
use layout::DeviceLayout;
use leaf::LeafOps;
use logprobs::CudaSavedLogprobs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The state that lasts from pass to pass.
pub(crate) struct CudaBackend {
    ops: LeafOps,
    grads: CudaGradients,
    token_budget: TokenBudget,
    /// Bytes of activations that may be saved besides the layers' inputs.
    budget: AtomicUsize,
    /// Bytes of them that are saved now.
    kept: Arc<AtomicUsize>,
}

/// What a forward pass saves for its backward.
struct SavedForward {
    layout: DeviceLayout,
    mode: Mode,
    layers: Vec<CudaSavedLayer>,
    logprobs: CudaSavedLogprobs,
    /// The last layer's output, (tokens, H).
    last: Tensor,
}

/// The fastest leaf operations for a device.
fn ops(device: &Device) -> LeafOps {
    #[cfg(feature = "cuda")]
    if device.is_cuda() {
        return kernels::LEAVES;
    }
    let _ = device;
    composed::COMPOSED
}

impl CudaBackend {
    /// For `decoder`, on any device.
    ///
    /// # Errors
    /// When memory runs out.
    pub(super) fn new(decoder: &mut Decoder) -> Result<Self, Error> {
        decoder.fuse_weights()?;
        #[cfg(feature = "cuda")]
        keep_memory(decoder.device())?;
        let budget = AtomicUsize::new(activation_budget(decoder.device()));
        let (ops, grads) = (ops(decoder.device()), CudaGradients::new(decoder));
        Ok(Self { ops, grads, token_budget: TokenBudget::default(), budget, kept: Arc::default() })
    }

    /// The last layer's output, (tokens, H).
    fn run_layers(&self, decoder: &Decoder, layout: &DeviceLayout, mode: Mode) -> Result<Tensor, Error> {
        let mut x = embed(decoder, layout)?;
        for i in 0..decoder.depth() {
            x = concat_rows(self.token_budget.parts(
                &layout.pieces,
                || false,
                |first, count| {
                    let part = layout.part(first, count)?;
                    let modules = LayerModules::new(&self.ops, decoder, i, mode)?;
                    Ok(layer::forward(&self.ops, decoder, &modules, &part, mode, &part.cut(&x)?)?.0)
                },
            )?)?;
        }
        Ok(x)
    }

    fn forward_train(&self, decoder: &Decoder, batch: &Batch, number: u64) -> Result<(TokenScores, Tape), Error> {
        let mode = Mode { adapter: true, dropout: Some(number).filter(|_| decoder.has_dropout()) };
        let layout = DeviceLayout::new(decoder, batch, mode.dropout.is_none())?;
        let mut x = embed(decoder, &layout)?;
        let mut layers: Vec<CudaSavedLayer> = Vec::with_capacity(decoder.depth());
        for i in 0..decoder.depth() {
            let modules = LayerModules::new(&self.ops, decoder, i, mode)?;
            let mut activations = None;
            let parts = self.token_budget.parts(
                &layout.pieces,
                || drop_activations(&self.budget, &mut layers),
                |first, count| {
                    let part = layout.part(first, count)?;
                    let (y, made) = layer::forward(&self.ops, decoder, &modules, &part, mode, &part.cut(&x)?)?;
                    activations = if part.whole { self.keep(made) } else { None };
                    Ok(y)
                },
            )?;
            let y = concat_rows(parts)?;
            layers.push(CudaSavedLayer { x, activations, modules: modules.kept() });
            x = y;
        }
        let (scores, logprobs) = logprobs::forward(&self.ops, decoder, &layout, &x, true)?;
        let counts = layout.counts().collect();
        Ok((scores, Tape::new(counts, SavedForward { layout, mode, layers, logprobs, last: x })))
    }

    /// Saves a layer's activations, if the budget allows.
    fn keep(&self, activations: CudaActivations) -> Option<CountedActivations> {
        let bytes = activations.bytes();
        let before = self.kept.fetch_add(bytes, Ordering::Relaxed);
        let kept = CountedActivations { activations, bytes, all: self.kept.clone() };
        (before + bytes <= self.budget.load(Ordering::Relaxed)).then_some(kept)
    }

    fn backward_all(&mut self, decoder: &Decoder, kept: SavedForward, g: &[RowGradient]) -> Result<(), Error> {
        let SavedForward { layout, mode, mut layers, logprobs, last } = kept;
        let Self { ops, grads, token_budget, budget, .. } = self;
        let mut upstream = logprobs::backward(ops, decoder, &layout, &last, logprobs, g, grads)?;
        drop(last);
        for i in (0..decoder.depth()).rev() {
            let Some(CudaSavedLayer { x, mut activations, modules }) = layers.pop() else {
                return Err(Error::Invalid("the tape is too short; this is a bug".into()));
            };
            let modules = match modules {
                Some(modules) => modules,
                None => LayerModules::new(ops, decoder, i, mode)?,
            };
            let parts = token_budget.parts(
                &layout.pieces,
                || drop_activations(budget, &mut layers),
                |first, count| {
                    let part = layout.part(first, count)?;
                    let activations = activations.take().filter(|_| part.whole);
                    let (x, upstream) = (part.cut(&x)?, part.cut(&upstream)?);
                    let (dx, more) =
                        layer::backward(ops, decoder, &modules, &part, mode, (&x, activations.as_ref()), &upstream)?;
                    // All of a part's gradients or none: where memory ran out the part is recomputed.
                    grads.add_all(&more)?;
                    Ok(dx)
                },
            );
            upstream = concat_rows(parts?)?;
        }
        if decoder.trained_embedding().is_some() {
            let (vocab, hidden) = (decoder.config().vocab, decoder.config().hidden);
            let zeros =
                |rows: usize| Tensor::zeros((rows, hidden), DType::F32, decoder.device())?.to_dtype(upstream.dtype());
            if decoder.positions().is_some() {
                let sum = zeros(decoder.config().context)?.index_add(&layout.positions, &upstream, 0)?;
                grads.add_all(&[(Slot::Positions, sum)])?;
            }
            let zeros = zeros(vocab)?;
            let sum = zeros.index_add(&layout.ids, &scaled(decoder, upstream)?, 0)?;
            grads.add_all(&[(Slot::Embedding, sum)])?;
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
            let last = self.run_layers(decoder, &layout, mode)?;
            Ok(logprobs::forward(&self.ops, decoder, &layout, &last, false)?.0)
        };
        score().map_err(Error::with_remedy)
    }

    fn states(&self, decoder: &Decoder, batch: &Batch, adapter: bool) -> Result<(Tensor, Vec<u32>), Error> {
        let states = || {
            let layout = DeviceLayout::new(decoder, batch, true)?;
            let last = self.run_layers(decoder, &layout, Mode { adapter, dropout: None })?;
            let states = logprobs::states(&self.ops, decoder, &last, &layout.from)?;
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
        self.backward_all(decoder, tape.into_saved()?, g).map_err(Error::with_remedy)
    }

    fn take_gradients(&mut self, decoder: &Decoder) -> Result<Gradients, Error> {
        self.grads.take(decoder)
    }

    fn token_limit(&self) -> Option<usize> {
        self.token_budget.token_limit()
    }

    #[cfg(test)]
    fn limit_activations(&mut self, bytes: usize) {
        self.budget.store(bytes, Ordering::Relaxed);
    }

    #[cfg(test)]
    fn limit_tokens(&mut self, tokens: usize) {
        self.token_budget.test_limit = tokens;
    }
}

/// Drops all saved activations but the layers' inputs, and saves no more from here on; false if there were none.
fn drop_activations(budget: &AtomicUsize, layers: &mut [CudaSavedLayer]) -> bool {
    let some = layers.iter().any(|saved| saved.activations.is_some());
    for saved in layers.iter_mut() {
        saved.activations = None;
    }
    budget.store(0, Ordering::Relaxed);
    some
}

/// The token embeddings with those of positions, (tokens, H), in f32.
fn embed(decoder: &Decoder, layout: &DeviceLayout) -> Result<Tensor, Error> {
    let rows = decoder.embedding().stored().detach().index_select(&layout.ids, 0)?;
    let rows = scaled(decoder, rows.to_dtype(DType::F32)?)?;
    let Some(table) = decoder.positions() else { return Ok(rows) };
    Ok((rows + table.stored().detach().index_select(&layout.positions, 0)?.to_dtype(DType::F32)?)?)
}

/// Multiplies by the embedding scale.
fn scaled(decoder: &Decoder, x: Tensor) -> Result<Tensor, Error> {
    let scale = decoder.config().embedding_scale;
    Ok(if scale == 1.0 { x } else { (x * scale)? })
}

#[cfg(test)]
mod tests;
