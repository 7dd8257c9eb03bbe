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
use super::per_layer;
use super::token_budget::{TokenBudget, concat_rows};
use crate::model::error::Error;
use candle_core::{Tensor, Var};
pub use forward::Cache;
pub(super) use forward::LayerInputs;
use forward::{KeptKeys, LayerKeys, LayerOutput, RopeAndMask};
use graph::Graph;
pub(super) use padded::PaddedBatch;

/// The state that lasts from pass to pass.
pub(crate) struct ReferenceBackend {
    graph: Graph,
    token_budget: TokenBudget,
}

/// What the forward saves: each layer's input, what several layers read, and which tokens were scored.
struct SavedForward {
    ids: Tensor,
    shared: SharedInputs,
    /// Inputs of layers 0..L, then the last layer's output; each (B, T, H).
    hidden: Vec<Tensor>,
    scored: PaddedBatch,
    dropout: Option<u64>,
}

/// What layers read besides the stream.
struct SharedInputs {
    /// The layers' second input, (B, T, layers, width).
    per_layer: Option<Tensor>,
    keys: KeptKeys,
}

impl SharedInputs {
    /// Layer `i`'s part of the second input.
    fn part(&self, i: usize) -> Result<Option<Tensor>, Error> {
        self.per_layer.as_ref().map(|all| per_layer::part(all, i)).transpose()
    }

    /// The keys and values that layer `i` shares.
    fn keys(&self, decoder: &Decoder, i: usize) -> Option<&LayerKeys> {
        self.keys.get(&decoder.layers()[i].shape.source()?)
    }
}

/// dL/d of what a layer read.
struct InputGradients {
    x: Tensor,
    per_layer: Option<Tensor>,
    keys: Option<LayerKeys>,
}

impl ReferenceBackend {
    /// For `decoder`, without gradients yet.
    pub(super) fn new(decoder: &Decoder) -> Self {
        Self { graph: Graph::new(decoder), token_budget: TokenBudget::default() }
    }

    /// Layer `i` without a gradient: (B, T, H) to (B, T, H). Keeps its keys and values where other layers read them.
    fn run_layer(
        &self,
        decoder: &Decoder,
        i: usize,
        (x, shared): (&Tensor, &mut SharedInputs),
        rope: &RopeAndMask,
        pass: &Pass,
    ) -> Result<Tensor, Error> {
        let ((b, t, _), (part, keys)) = (x.dims3()?, (shared.part(i)?, shared.keys(decoder, i)));
        let parts = self.token_budget.parts(
            &vec![t; b],
            || false,
            |first, count| {
                let rows = rope.rows(first, count)?;
                let part = part.as_ref().map(|part| cut(part, first, count)).transpose()?;
                let keys = keys.map(|keys| cut_keys(keys, first, count)).transpose()?;
                let inputs = LayerInputs { per_layer: part.as_ref(), keys: keys.as_ref() };
                decoder.layer(i, &cut(x, first, count)?, inputs, &rows, &Pass { skipped: first * t, ..*pass })
            },
        )?;
        let (all, made): (Vec<Tensor>, Vec<LayerKeys>) = parts.into_iter().map(|made| (made.y, made.keys)).unzip();
        if decoder.layers()[i].shape.kept {
            shared.keys.insert(i, concat_keys(made)?);
        }
        concat_rows(all)
    }

    /// Recomputes layer `i` with gradients from its input (B, T, H) and the gradients of its output and of its keys and values, as
    /// far as others read them; adds the trainables' gradients and returns those of what it read. That of the second input only
    /// where its parameters are trained.
    fn run_layer_backward(
        &mut self,
        decoder: &Decoder,
        i: usize,
        (input, shared): (&Tensor, &SharedInputs),
        (upstream, dkeys): (&Tensor, Option<&LayerKeys>),
        rope: &RopeAndMask,
        pass: &Pass,
    ) -> Result<InputGradients, Error> {
        let ((b, t, _), (part, keys)) = (input.dims3()?, (shared.part(i)?, shared.keys(decoder, i)));
        let wanted = decoder.per_layer().is_some_and(|inputs| inputs.table.trained().is_some());
        let Self { graph, token_budget } = self;
        let parts = token_budget.parts(
            &vec![t; b],
            || false,
            |first, count| {
                let x = Var::from_tensor(&cut(input, first, count)?)?;
                let cut_var = |all: &Tensor| Ok::<_, Error>(Var::from_tensor(&cut(all, first, count)?)?);
                let part = part.as_ref().map(cut_var).transpose()?;
                let keys = keys.map(|(k, v)| Ok::<_, Error>((cut_var(k)?, cut_var(v)?))).transpose()?;
                let read = keys.as_ref().map(|(k, v)| (k.as_tensor().clone(), v.as_tensor().clone()));
                let inputs = LayerInputs { per_layer: part.as_ref().map(Var::as_tensor), keys: read.as_ref() };
                let rows = rope.rows(first, count)?;
                let pass = Pass { skipped: first * t, ..*pass };
                let LayerOutput { y, keys: made } = decoder.layer(i, x.as_tensor(), inputs, &rows, &pass)?;
                let upstream = cut(upstream, first, count)?;
                let dkeys = dkeys.map(|dkeys| cut_keys(dkeys, first, count)).transpose()?;
                let mut outputs = vec![(&y, &upstream)];
                if let Some((dk, dv)) = &dkeys {
                    outputs.extend([(&made.0, dk), (&made.1, dv)]);
                }
                let mut vars = vec![&x];
                vars.extend(keys.iter().flat_map(|(k, v)| [k, v]));
                vars.extend(part.as_ref().filter(|_| wanted));
                let mut all = graph.chain_all(&outputs, &vars)?.into_iter();
                let mut next =
                    || all.next().ok_or_else(|| Error::Invalid("a gradient is missing; this is a bug".into()));
                Ok(InputGradients {
                    x: next()?,
                    keys: if keys.is_some() { Some((next()?, next()?)) } else { None },
                    per_layer: if wanted { Some(next()?) } else { None },
                })
            },
        )?;
        let (mut x, mut per_layer, mut keys) = (Vec::new(), Vec::new(), Vec::new());
        for part in parts {
            x.push(part.x);
            per_layer.extend(part.per_layer);
            keys.extend(part.keys);
        }
        Ok(InputGradients {
            x: concat_rows(x)?,
            per_layer: if per_layer.is_empty() { None } else { Some(concat_rows(per_layer)?) },
            keys: if keys.is_empty() { None } else { Some(concat_keys(keys)?) },
        })
    }

    /// The embeddings, with what layers read besides the stream.
    fn inputs(
        decoder: &Decoder,
        ids: &Tensor,
        scored: &PaddedBatch,
        pass: &Pass,
    ) -> Result<(Tensor, SharedInputs), Error> {
        let x = decoder.embed(ids, (0, &scored.starts), false)?;
        let per_layer = decoder.per_layer_inputs(ids, &x, pass)?;
        Ok((x, SharedInputs { per_layer, keys: KeptKeys::new() }))
    }

    fn run_layers(&self, decoder: &Decoder, ids: &Tensor, scored: &PaddedBatch, pass: &Pass) -> Result<Tensor, Error> {
        let rope = scored.rope_and_mask(decoder, ids.dim(1)?)?;
        let (mut x, mut shared) = Self::inputs(decoder, ids, scored, pass)?;
        for i in 0..decoder.depth() {
            x = self.run_layer(decoder, i, (&x, &mut shared), &rope, pass)?;
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
        let (x, mut shared) = Self::inputs(decoder, &ids, &scored, &pass)?;
        let mut hidden = vec![x];
        for i in 0..decoder.depth() {
            hidden.push(self.run_layer(decoder, i, (&hidden[i], &mut shared), &rope, &pass)?);
        }
        let scores = logprobs::forward(decoder, &hidden[decoder.depth()], &scored, &pass)?;
        let counts = scored.counts.iter().copied().zip(scored.value_counts.iter().copied()).collect();
        Ok((scores, Tape::new(counts, SavedForward { ids, shared, hidden, scored, dropout })))
    }

    fn backward(&mut self, decoder: &Decoder, tape: Tape, g: &[RowGradient]) -> Result<(), Error> {
        let SavedForward { ids, shared, mut hidden, scored, dropout } = tape.into_saved()?;
        let pass = Pass { grad: true, dropout, ..Pass::plain(true) };
        let (b, t) = ids.dims2()?;
        let rope = scored.rope_and_mask(decoder, t)?;
        let Some(last) = hidden.pop() else { return Err(Error::Invalid("the tape is empty".into())) };
        let upstream = logprobs::backward(decoder, &mut self.graph, &last, &scored, g, &pass)?;
        let mut upstream = upstream.reshape((b, t, ()))?;
        drop(last);
        let (mut dkeys, mut parts) = (KeptKeys::new(), Vec::new());
        for i in (0..decoder.depth()).rev() {
            let Some(input) = hidden.pop() else { return Err(Error::Invalid("the tape is too short".into())) };
            let own = dkeys.remove(&i);
            let through = (&upstream, own.as_ref());
            let made = self.run_layer_backward(decoder, i, (&input, &shared), through, &rope, &pass)?;
            upstream = made.x;
            parts.extend(made.per_layer);
            if let (Some(source), Some((dk, dv))) = (decoder.layers()[i].shape.source(), made.keys) {
                let sum = match dkeys.remove(&source) {
                    Some((k, v)) => ((k + dk)?, (v + dv)?),
                    None => (dk, dv),
                };
                dkeys.insert(source, sum);
            }
        }
        if decoder.trained_embedding().is_some() {
            let x = decoder.embed(&ids, (0, &scored.starts), true)?;
            match decoder.per_layer_inputs(&ids, &x, &pass)? {
                None => self.graph.seed(&[(&x, &upstream)])?,
                Some(all) => {
                    parts.reverse();
                    self.graph.seed(&[(&x, &upstream), (&all, &Tensor::stack(&parts, 2)?)])?;
                }
            }
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

fn cut_keys((k, v): &LayerKeys, first: usize, count: usize) -> Result<LayerKeys, Error> {
    Ok((cut(k, first, count)?, cut(v, first, count)?))
}

fn concat_keys(parts: Vec<LayerKeys>) -> Result<LayerKeys, Error> {
    let (k, v): (Vec<Tensor>, Vec<Tensor>) = parts.into_iter().unzip();
    Ok((concat_rows(k)?, concat_rows(v)?))
}

/// Rows `first..first + count` of (B, …).
fn cut(x: &Tensor, first: usize, count: usize) -> Result<Tensor, Error> {
    if x.dim(0)? == count { Ok(x.clone()) } else { Ok(x.narrow(0, first, count)?.contiguous()?) }
}
