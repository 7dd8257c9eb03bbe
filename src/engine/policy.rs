//! The policy in training: token log-probs of a batch, and the gradients that follow from dL/dlogp of every token.
//!
//! Owns the contract between a recipe and the decoder. A recipe builds a [`Batch`], asks [`Policy::score_train`] for the
//! log-probs of the tokens it wants, computes its loss and `g_t = dL/dlogp_t` for each of them, and hands `g` to
//! [`Policy::backward`], which adds dL/dθ to the policy's [`Gradients`]. Refuses to know any loss.
//!
//! **Memory.** The forward keeps only each layer's input, cut from the graph; the backward makes each layer again and chains
//! the gradients, so that one layer's graph is alive at a time. Logits exist for scored positions only, in chunks of
//! [`CHUNK`] positions.

use super::decoder::{Decoder, Pass};
use super::error::Error;
use super::inference;
use candle_core::{D, DType, Tensor, Var};
use std::collections::HashMap;

/// Scored positions whose logits exist at one time.
const CHUNK: usize = 256;

/// One sequence: prompt and completion in one, without padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The tokens.
    pub ids: Vec<u32>,
    /// Indices into `ids` of the tokens whose log-probs given everything before them are wanted; each at least 1, ascending.
    pub scored: Vec<usize>,
}

/// Sequences that go through the decoder together. Padding is the policy's business.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    /// The sequences.
    pub rows: Vec<Row>,
}

/// What the model says about a row's scored tokens, in the order of [`Row::scored`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RowScores {
    /// Log-prob of the token, in nats.
    pub logp: Vec<f64>,
    /// Entropy of the model's distribution at the position, in nats.
    pub entropy: Vec<f64>,
    /// Whether the token is the likeliest one (the first of equals).
    pub top1: Vec<bool>,
    /// Mean of the logits over the vocabulary.
    pub mean_logit: Vec<f64>,
}

/// What the model says about a batch, row by row.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TokenScores {
    /// One entry a row.
    pub rows: Vec<RowScores>,
}

/// What [`Policy::backward`] needs of the forward: each layer's input and which tokens were scored.
pub struct Tape {
    ids: Tensor,
    /// Inputs of layers 0..L, then the last layer's output; each (B, T, H).
    hidden: Vec<Tensor>,
    scored: Scored,
    dropout: Option<u64>,
}

/// The scored tokens of a batch, flat.
struct Scored {
    /// Index into (B·T) of the position that predicts each token.
    from: Vec<u32>,
    /// The token.
    target: Vec<u32>,
    /// How many belong to each row.
    counts: Vec<usize>,
}

/// Sums of dL/dθ, in the order of [`Decoder::trainables`]; none until something was added.
#[derive(Debug, Default, Clone)]
pub struct Gradients {
    sums: Vec<Option<Tensor>>,
}

impl Gradients {
    /// Gradients made elsewhere, in the order of the trainables.
    #[must_use]
    pub fn of(sums: Vec<Option<Tensor>>) -> Self {
        Self { sums }
    }

    /// The gradient of trainable `i`, of its shape and type.
    #[must_use]
    pub fn get(&self, i: usize) -> Option<&Tensor> {
        self.sums.get(i).and_then(Option::as_ref)
    }

    /// Every trainable's gradient in order.
    pub fn iter(&self) -> impl Iterator<Item = Option<&Tensor>> {
        self.sums.iter().map(Option::as_ref)
    }

    fn add(&mut self, i: usize, more: &Tensor) -> Result<(), Error> {
        let sum = &mut self.sums[i];
        // Copied from the graph it came with, so that the sum holds nothing else alive.
        *sum = Some(match sum.take() {
            None => more.detach(),
            Some(s) => (s + more.detach())?,
        });
        Ok(())
    }
}

/// A decoder with its gradients.
pub struct Policy {
    decoder: Decoder,
    gradients: Gradients,
    index: HashMap<candle_core::TensorId, usize>,
    /// Number of the next training pass, for dropout.
    pass: u64,
}

impl Policy {
    /// Takes a decoder into training.
    #[must_use]
    pub fn new(decoder: Decoder) -> Self {
        let index = decoder.trainables().iter().enumerate().map(|(i, (_, v))| (v.as_tensor().id(), i)).collect();
        let gradients = Gradients { sums: vec![None; decoder.trainables().len()] };
        Self { decoder, gradients, index, pass: 0 }
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

    /// Training passes made so far; saved with a checkpoint, so that dropout goes on where it was.
    #[must_use]
    pub fn passes(&self) -> u64 {
        self.pass
    }

    /// Goes on after `passes` training passes.
    pub fn set_passes(&mut self, passes: u64) {
        self.pass = passes;
    }

    /// Gives the gradients summed since the last call and starts again from none.
    pub fn take_gradients(&mut self) -> Gradients {
        let fresh = Gradients { sums: vec![None; self.decoder.trainables().len()] };
        std::mem::replace(&mut self.gradients, fresh)
    }

    /// Scores without gradients or dropout. `adapter` false is the reference: the base model.
    ///
    /// # Errors
    /// When the batch is empty or malformed, or a tensor operation fails.
    pub fn score(&self, batch: &Batch, adapter: bool) -> Result<TokenScores, Error> {
        let pass = Pass::plain(adapter);
        let (ids, scored) = self.pack(batch)?;
        let span = self.decoder.span(0, ids.dim(1)?)?;
        let mut x = self.decoder.embed(&ids, false)?;
        for i in 0..self.decoder.depth() {
            x = self.decoder.layer(i, &x, &span, &pass)?;
        }
        self.scores(&x, &scored, &pass)
    }

    /// Scores with the adapter on and keeps what [`Policy::backward`] needs.
    ///
    /// # Errors
    /// As [`Policy::score`].
    pub fn score_train(&mut self, batch: &Batch) -> Result<(TokenScores, Tape), Error> {
        let dropout = Some(self.pass);
        self.pass += 1;
        let pass = Pass { grad: false, adapter: true, dropout };
        let (ids, scored) = self.pack(batch)?;
        let span = self.decoder.span(0, ids.dim(1)?)?;
        let mut hidden = vec![self.decoder.embed(&ids, false)?];
        for i in 0..self.decoder.depth() {
            hidden.push(self.decoder.layer(i, &hidden[i], &span, &pass)?);
        }
        let scores = self.scores(&hidden[self.decoder.depth()], &scored, &pass)?;
        Ok((scores, Tape { ids, hidden, scored, dropout }))
    }

    /// Adds dL/dθ to the gradients, given `g` = dL/dlogp of every scored token, row by row as in [`TokenScores`].
    ///
    /// # Errors
    /// When `g` has not the batch's shape, or a tensor operation fails.
    pub fn backward(&mut self, tape: Tape, g: &[Vec<f64>]) -> Result<(), Error> {
        if g.len() != tape.scored.counts.len() || g.iter().zip(&tape.scored.counts).any(|(row, n)| row.len() != *n) {
            return Err(Error::Asked("the gradients have not the shape of the scored tokens".into()));
        }
        let g: Vec<f64> = g.iter().flatten().copied().collect();
        let Tape { ids, mut hidden, scored, dropout } = tape;
        let pass = Pass { grad: true, adapter: true, dropout };
        let (b, t) = ids.dims2()?;
        let span = self.decoder.span(0, t)?;
        let Some(last) = hidden.pop() else { return Err(Error::Asked("the tape is empty".into())) };
        let mut upstream = self.head_backward(&last, &scored, &g, &pass)?.reshape((b, t, ()))?;
        drop(last);
        for i in (0..self.decoder.depth()).rev() {
            let Some(input) = hidden.pop() else { return Err(Error::Asked("the tape is too short".into())) };
            let x = Var::from_tensor(&input)?;
            let y = self.decoder.layer(i, x.as_tensor(), &span, &pass)?;
            upstream = self.chain(&y, &upstream, &x)?;
        }
        if self.decoder.trained_embedding().is_some() {
            let y = self.decoder.embed(&ids, true)?;
            let nowhere = Var::zeros(1, upstream.dtype(), upstream.device())?;
            let grads = seeded(&y, &upstream)?.backward()?;
            self.collect(grads, &nowhere)?;
        }
        Ok(())
    }

    /// Runs backward from `y` with the gradient `upstream`, adds the trainables' parts, and gives the gradient of `x`.
    fn chain(&mut self, y: &Tensor, upstream: &Tensor, x: &Var) -> Result<Tensor, Error> {
        let grads = seeded(y, upstream)?.backward()?;
        self.collect(grads, x)?.ok_or_else(|| Error::Asked("no gradient reached a layer's input".into()))
    }

    fn collect(&mut self, mut grads: candle_core::backprop::GradStore, x: &Var) -> Result<Option<Tensor>, Error> {
        let dx = grads.remove(x.as_tensor());
        let ids: Vec<_> = grads.get_ids().copied().collect();
        for id in ids {
            if let (Some(i), Some(grad)) = (self.index.get(&id), grads.get_id(id)) {
                self.gradients.add(*i, grad)?;
            }
        }
        Ok(dx)
    }

    /// dL/d(last hidden states), (B·T, H); adds the head's and the final norm's parts.
    ///
    /// With p = softmax of the logits, dlogp/dlogits = onehot − p, so the gradient of the normed state is
    /// `g·(W[target] − p·W)`, and the head's is Σ g·(onehot − p)ᵀ·state.
    fn head_backward(&mut self, last: &Tensor, s: &Scored, g: &[f64], pass: &Pass) -> Result<Tensor, Error> {
        let (b, t, h) = last.dims3()?;
        let flat = last.reshape((b * t, h))?;
        let weight = self.decoder.head();
        let (device, dtype) = (last.device().clone(), last.dtype());
        let mut total = Tensor::zeros((b * t, h), dtype, &device)?;
        for start in (0..s.from.len()).step_by(CHUNK) {
            let end = (start + CHUNK).min(s.from.len());
            let n = end - start;
            let from = Tensor::new(&s.from[start..end], &device)?;
            let target = Tensor::new(&s.target[start..end], &device)?;
            let g = Tensor::new(&g[start..end], &device)?.to_dtype(dtype)?.reshape((n, 1))?;
            let x = Var::from_tensor(&flat.index_select(&from, 0)?)?;
            let state = self.decoder.norm(x.as_tensor(), pass)?;
            let p = inference::softmax(&state.detach().matmul(&weight.t()?)?)?;
            let du = (weight.index_select(&target, 0)? - p.matmul(&weight)?)?.broadcast_mul(&g)?;
            if let Some(head) = self.decoder.trained_head().and_then(|v| self.index.get(&v.as_tensor().id())) {
                let ones = g.contiguous()?;
                let dlogits = p.broadcast_mul(&g.neg()?)?.scatter_add(&target.reshape((n, 1))?, &ones, 1)?;
                let dw = dlogits.t()?.matmul(&state.detach())?;
                self.gradients.add(*head, &dw)?;
            }
            let dx = self.chain(&state, &du, &x)?;
            total = total.index_add(&from, &dx, 0)?;
        }
        Ok(total)
    }

    /// Log-prob, entropy, top-1 and mean logit of every scored token.
    fn scores(&self, last: &Tensor, s: &Scored, pass: &Pass) -> Result<TokenScores, Error> {
        let (b, t, h) = last.dims3()?;
        let flat = last.reshape((b * t, h))?;
        let weight = self.decoder.head().t()?;
        let mut all = RowScores::default();
        for start in (0..s.from.len()).step_by(CHUNK) {
            let end = (start + CHUNK).min(s.from.len());
            let from = Tensor::new(&s.from[start..end], last.device())?;
            let state = self.decoder.norm(&flat.index_select(&from, 0)?, pass)?;
            let logits = state.matmul(&weight)?;
            measure(&logits, &s.target[start..end], &mut all)?;
        }
        let mut rows = Vec::with_capacity(s.counts.len());
        let mut at = 0;
        for n in &s.counts {
            let span = at..at + n;
            rows.push(RowScores {
                logp: all.logp[span.clone()].to_vec(),
                entropy: all.entropy[span.clone()].to_vec(),
                top1: all.top1[span.clone()].to_vec(),
                mean_logit: all.mean_logit[span].to_vec(),
            });
            at += n;
        }
        Ok(TokenScores { rows })
    }

    /// Pads the rows on the right to (B, T) and flattens the scored positions.
    fn pack(&self, batch: &Batch) -> Result<(Tensor, Scored), Error> {
        let longest = batch.rows.iter().map(|r| r.ids.len()).max().unwrap_or(0);
        if longest == 0 {
            return Err(Error::Asked("a batch without tokens cannot be scored".into()));
        }
        let mut ids = Vec::with_capacity(batch.rows.len() * longest);
        let mut scored = Scored { from: Vec::new(), target: Vec::new(), counts: Vec::new() };
        let vocab = self.decoder.config().vocab;
        for (r, row) in batch.rows.iter().enumerate() {
            if let Some(id) = row.ids.iter().find(|id| **id as usize >= vocab) {
                return Err(Error::Asked(format!(
                    "the tokenizer made token {id}, but the model knows {vocab}; they do not belong together"
                )));
            }
            for &at in &row.scored {
                if at == 0 || at >= row.ids.len() {
                    return Err(Error::Asked(format!("token {at} of a row of {} cannot be scored", row.ids.len())));
                }
                scored.from.push((r * longest + at - 1) as u32);
                scored.target.push(row.ids[at]);
            }
            scored.counts.push(row.scored.len());
            ids.extend_from_slice(&row.ids);
            // What the padding says does not matter: no real token sees it.
            ids.resize((r + 1) * longest, 0);
        }
        let ids = Tensor::from_vec(ids, (batch.rows.len(), longest), self.decoder.device())?;
        Ok((ids, scored))
    }
}

/// `Σ y ⊙ upstream`, whose gradient in y is `upstream`.
fn seeded(y: &Tensor, upstream: &Tensor) -> Result<Tensor, Error> {
    let constant = upstream.detach();
    Ok(y.contiguous()?.apply_op1(super::frozen::Times { constant })?.sum_all()?)
}

/// Adds what `logits` (n, V) say about `targets` to `out`.
fn measure(logits: &Tensor, targets: &[u32], out: &mut RowScores) -> Result<(), Error> {
    let n = targets.len();
    let index = Tensor::new(targets, logits.device())?.reshape((n, 1))?;
    let top = logits.max_keepdim(D::Minus1)?;
    let shifted = logits.broadcast_sub(&top)?;
    let e = shifted.exp()?;
    let sum = e.sum_keepdim(D::Minus1)?;
    let log_sum = sum.log()?;
    let logp = (shifted.gather(&index, 1)? - &log_sum)?;
    // H = log Σe − Σ e·z / Σe, both with the maximum taken off.
    let entropy = (&log_sum - ((&e * &shifted)?.sum_keepdim(D::Minus1)? / &sum)?)?;
    let mean = logits.mean(D::Minus1)?;
    let first = logits.argmax(D::Minus1)?.to_dtype(DType::U32)?.to_vec1::<u32>()?;
    let read = |t: &Tensor| -> Result<Vec<f64>, Error> { Ok(t.flatten_all()?.to_dtype(DType::F64)?.to_vec1()?) };
    out.logp.extend(read(&logp)?);
    out.entropy.extend(read(&entropy)?);
    out.mean_logit.extend(read(&mean)?);
    out.top1.extend(first.iter().zip(targets).map(|(a, b)| a == b));
    Ok(())
}

#[cfg(test)]
mod tests;
