//! The reference backend: candle's differentiable operations and autograd, the oracle for the other backends.
//!
//! Owns the forward layer by layer and the backward through the same layers. Slow and obvious; it runs on every device and
//! in every type.
//!
//! **Memory.** Gradient checkpointing: the forward saves only each layer's detached input; the backward recomputes each layer,
//! so that one layer's graph is alive at a time. Logits exist for scored positions only, a chunk at a
//! time. If memory runs out within a layer, fewer rows go through it at once.

mod activation;
mod experts;
mod forward;
mod graph;
mod logprobs;
mod padded;

use super::backend::{Backend, Tape};
use super::contract::{Batch, Gradients, RowGradient, TokenScores};
use super::decoder::Decoder;
use super::divergence::divergence;
use super::pass::Pass;
use super::token_budget::{TokenBudget, concat_rows};
use crate::model::error::Error;
use candle_core::{Tensor, Var};
pub use forward::Cache;
use forward::RopeAndMask;
use graph::Graph;
pub(super) use padded::PaddedBatch;

/// The state that lasts from pass to pass.
pub(crate) struct ReferenceBackend {
    graph: Graph,
    token_budget: TokenBudget,
}

/// What the forward saves: each layer's input, and which tokens were scored.
struct SavedForward {
    ids: Tensor,
    /// Inputs of layers 0..L, then the last layer's output; each (B, T, H).
    hidden: Vec<Tensor>,
    scored: PaddedBatch,
    dropout: Option<u64>,
}

impl ReferenceBackend {
    /// For `decoder`, without gradients yet.
    pub(super) fn new(decoder: &Decoder) -> Self {
        Self { graph: Graph::new(decoder), token_budget: TokenBudget::default() }
    }

    /// Layer `i` without a gradient: (B, T, H) to (B, T, H).
    fn run_layer(
        &self,
        decoder: &Decoder,
        i: usize,
        x: &Tensor,
        rope: &RopeAndMask,
        pass: &Pass,
    ) -> Result<Tensor, Error> {
        let (b, t, _) = x.dims3()?;
        concat_rows(self.token_budget.parts(
            &vec![t; b],
            || false,
            |first, count| {
                let rope = rope.rows(first, count)?;
                decoder.layer(i, &cut(x, first, count)?, &rope, &Pass { skipped: first * t, ..*pass })
            },
        )?)
    }

    /// Recomputes layer `i` with gradients from its input (B, T, H) and the gradient of its output; adds the trainables'
    /// gradients and returns the gradient of the input.
    fn run_layer_backward(
        &mut self,
        decoder: &Decoder,
        i: usize,
        (input, upstream): (&Tensor, &Tensor),
        rope: &RopeAndMask,
        pass: &Pass,
    ) -> Result<Tensor, Error> {
        let (b, t, _) = input.dims3()?;
        let Self { graph, token_budget } = self;
        concat_rows(token_budget.parts(
            &vec![t; b],
            || false,
            |first, count| {
                let x = Var::from_tensor(&cut(input, first, count)?)?;
                let rope = rope.rows(first, count)?;
                let y = decoder.layer(i, x.as_tensor(), &rope, &Pass { skipped: first * t, ..*pass })?;
                graph.chain(&y, &cut(upstream, first, count)?, &x)
            },
        )?)
    }

    fn run_layers(&self, decoder: &Decoder, ids: &Tensor, scored: &PaddedBatch, pass: &Pass) -> Result<Tensor, Error> {
        let rope = scored.rope_and_mask(decoder, ids.dim(1)?)?;
        let mut x = decoder.embed(ids, (0, &scored.starts), false)?;
        for i in 0..decoder.depth() {
            x = self.run_layer(decoder, i, &x, &rope, pass)?;
        }
        Ok(x)
    }
}

impl Backend for ReferenceBackend {
    fn name(&self) -> &'static str {
        "reference"
    }

    fn is_packed(&self) -> bool {
        false
    }

    fn score(&self, decoder: &Decoder, batch: &Batch, adapter: bool) -> Result<TokenScores, Error> {
        let pass = Pass::plain(adapter);
        let (ids, scored) = PaddedBatch::pack(decoder, batch)?;
        let x = self.run_layers(decoder, &ids, &scored, &pass)?;
        logprobs::forward(decoder, &x, &scored, &pass)
    }

    fn states(&self, decoder: &Decoder, batch: &Batch, adapter: bool) -> Result<(Tensor, Vec<u32>), Error> {
        let pass = Pass::plain(adapter);
        let (ids, scored) = PaddedBatch::pack(decoder, batch)?;
        let x = self.run_layers(decoder, &ids, &scored, &pass)?;
        let (b, t, h) = x.dims3()?;
        let from = Tensor::new(scored.from.as_slice(), x.device())?;
        let states = decoder.norm(&x.reshape((b * t, h))?.index_select(&from, 0)?, &pass)?;
        Ok((states, scored.target))
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
        let dropout = Some(number);
        let pass = Pass { dropout, ..Pass::plain(true) };
        let (ids, scored) = PaddedBatch::pack(decoder, batch)?;
        let rope = scored.rope_and_mask(decoder, ids.dim(1)?)?;
        let mut hidden = vec![decoder.embed(&ids, (0, &scored.starts), false)?];
        for i in 0..decoder.depth() {
            hidden.push(self.run_layer(decoder, i, &hidden[i], &rope, &pass)?);
        }
        let scores = logprobs::forward(decoder, &hidden[decoder.depth()], &scored, &pass)?;
        let counts = scored.counts.iter().copied().zip(scored.value_counts.iter().copied()).collect();
        Ok((scores, Tape::new(counts, SavedForward { ids, hidden, scored, dropout })))
    }

    fn backward(&mut self, decoder: &Decoder, tape: Tape, g: &[RowGradient]) -> Result<(), Error> {
        let SavedForward { ids, mut hidden, scored, dropout } = tape.into_saved()?;
        let pass = Pass { grad: true, dropout, ..Pass::plain(true) };
        let (b, t) = ids.dims2()?;
        let rope = scored.rope_and_mask(decoder, t)?;
        let Some(last) = hidden.pop() else { return Err(Error::Invalid("the tape is empty".into())) };
        let upstream = logprobs::backward(decoder, &mut self.graph, &last, &scored, g, &pass)?;
        let mut upstream = upstream.reshape((b, t, ()))?;
        drop(last);
        for i in (0..decoder.depth()).rev() {
            let Some(input) = hidden.pop() else { return Err(Error::Invalid("the tape is too short".into())) };
            upstream = self.run_layer_backward(decoder, i, (&input, &upstream), &rope, &pass)?;
        }
        if decoder.trained_embedding().is_some() {
            self.graph.seed(&decoder.embed(&ids, (0, &scored.starts), true)?, &upstream)?;
        }
        Ok(())
    }

    fn take_gradients(&mut self, decoder: &Decoder) -> Result<Gradients, Error> {
        for layer in decoder.layers() {
            self.graph.fill(layer.mlp.routed())?;
        }
        Ok(self.graph.take())
    }

    fn token_limit(&self) -> Option<usize> {
        self.token_budget.token_limit()
    }

    #[cfg(test)]
    fn limit_tokens(&mut self, tokens: usize) {
        self.token_budget.test_limit = tokens;
    }
}

/// Rows `first..first + count` of (B, …).
fn cut(x: &Tensor, first: usize, count: usize) -> Result<Tensor, Error> {
    if x.dim(0)? == count { Ok(x.clone()) } else { Ok(x.narrow(0, first, count)?.contiguous()?) }
}
