//! The policy in training: token log-probs of a batch, and the gradients that follow from dL/dlogp of every token.
//!
//! Owns the contract between a recipe and the decoder. A recipe builds a [`Batch`], asks [`Policy::score_train`] for the
//! log-probs of the tokens it wants, computes its loss and `g_t = dL/dlogp_t` for each of them, and hands `g` to
//! [`Policy::backward`], which adds dL/dθ to the policy's [`Gradients`]. Refuses to know any loss.
//!
//! Two paths keep the contract: the fast one, [`super::fast`] on the CPU and [`super::gpu`] on other devices, and this file's,
//! the reference, which is written from candle's differentiable operations and is what the others are held to.
//!
//! **Memory of the reference path.** The forward keeps only each layer's input, cut from the graph; the backward makes each layer again and chains
//! the gradients, so that one layer's graph is alive at a time. Logits exist for scored positions only, a chunk of
//! them at a time. Where memory runs out within a layer, fewer rows go through it at one time.

mod head;
mod room;

use super::cpu::{self, Fast, Sums};
use super::cuda::{self, Gpu};
use super::decoder::{Decoder, Pass, Span};
use crate::model::error::Error;
use candle_core::{Tensor, Var};
pub(crate) use head::padded;
pub(crate) use room::{Room, joined};
use std::collections::HashMap;

/// One sequence: prompt and completion in one, without padding.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Row {
    /// The tokens.
    pub ids: Vec<u32>,
    /// Indices into `ids` of the tokens whose log-probs given everything before them are wanted; each at least 1, ascending.
    pub scored: Vec<usize>,
    /// Indices into `ids` of the positions at which the scalar head is read.
    pub valued: Vec<usize>,
    /// First tokens of the documents packed into this row, ascending from 0; empty or one: a single document. No token sees
    /// another document, and positions begin anew with each.
    pub starts: Vec<usize>,
}

impl Row {
    /// One document whose tokens at `scored` are wanted.
    #[must_use]
    pub fn new(ids: Vec<u32>, scored: Vec<usize>) -> Self {
        Self { ids, scored, ..Self::default() }
    }
}

/// Sequences that go through the decoder together. Padding is the policy's business.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// The sequences. A row of several documents must be alone.
    pub rows: Vec<Row>,
    /// Divides the logits; 1 leaves them as they are.
    pub temperature: f64,
    /// Numbers of consecutive rows among which a common beginning may be computed once, for all rows in order; empty: among
    /// all. A row's numbers are the same to the last digits either way, and to the bit where its family is.
    pub families: Vec<usize>,
}

impl Batch {
    /// Sequences under the model's own distribution.
    #[must_use]
    pub fn new(rows: Vec<Row>) -> Self {
        Self { rows, temperature: 1.0, families: Vec::new() }
    }

    /// Tokens of the longest row, once it is known that every row can be scored by a model of `vocab` tokens.
    ///
    /// # Errors
    /// When there is no token, or a row names a token or position that does not exist.
    pub(crate) fn check(&self, vocab: usize) -> Result<usize, Error> {
        let longest = self.rows.iter().map(|r| r.ids.len()).max().unwrap_or(0);
        if longest == 0 {
            return Err(Error::Asked("a batch without tokens cannot be scored".into()));
        }
        if self.rows.len() > 1 && self.rows.iter().any(|r| r.starts.len() > 1) {
            return Err(Error::Asked("a row of several documents must be alone in its batch".into()));
        }
        for row in &self.rows {
            if let Some(id) = row.ids.iter().find(|id| **id as usize >= vocab) {
                return Err(Error::Asked(format!(
                    "the tokenizer made token {id}, but the model knows {vocab}; they do not belong together"
                )));
            }
            if let Some(at) = row.scored.iter().find(|at| **at == 0 || **at >= row.ids.len()) {
                return Err(Error::Asked(format!("token {at} of a row of {} cannot be scored", row.ids.len())));
            }
            if let Some(at) = row.valued.iter().find(|at| **at >= row.ids.len()) {
                return Err(Error::Asked(format!("position {at} of a row of {} has no value", row.ids.len())));
            }
        }
        Ok(longest)
    }
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
    /// log Σ p² over the vocabulary: the expected log-prob's scale in WPO's weights.
    pub collision: Vec<f64>,
    /// The scalar head's output at each position of [`Row::valued`].
    pub value: Vec<f64>,
}

/// dL/d of what was said about one row.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RowGradient {
    /// By the log-prob of each scored token.
    pub logp: Vec<f64>,
    /// By the entropy at each scored token; empty: by none.
    pub entropy: Vec<f64>,
    /// By the scalar head's output at each valued position; empty: by none.
    pub value: Vec<f64>,
}

impl From<Vec<f64>> for RowGradient {
    fn from(logp: Vec<f64>) -> Self {
        Self { logp, ..Self::default() }
    }
}

/// What the model says about a batch, row by row.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TokenScores {
    /// One entry a row.
    pub rows: Vec<RowScores>,
}

/// What [`Policy::backward`] needs of the forward.
pub struct Tape(Taped);

/// By the path that made it.
enum Taped {
    Reference(Kept),
    Fast(Box<cpu::Tape>),
    Gpu(Box<cuda::Tape>),
}

/// The path taken.
enum Path {
    Reference,
    Fast(Fast, Sums),
    Gpu(Box<Gpu>),
}

/// What the reference path keeps: each layer's input and which tokens were scored.
struct Kept {
    ids: Tensor,
    /// Inputs of layers 0..L, then the last layer's output; each (B, T, H).
    hidden: Vec<Tensor>,
    scored: Scored,
    dropout: Option<u64>,
}

/// The scored tokens and valued positions of a batch, flat.
struct Scored {
    /// Index into (B·T) of the position that predicts each token.
    from: Vec<u32>,
    /// The token.
    target: Vec<u32>,
    /// How many belong to each row.
    counts: Vec<usize>,
    /// Index into (B·T) of each valued position.
    valued: Vec<u32>,
    /// How many belong to each row.
    value_counts: Vec<usize>,
    /// First tokens of the documents, where one row holds several.
    starts: Vec<usize>,
    /// 1 / temperature.
    cold: f64,
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
        self.add_all(&[(i, more)])
    }

    /// Adds all of them, or none where there is no memory for it.
    fn add_all(&mut self, more: &[(usize, &Tensor)]) -> Result<(), Error> {
        let sum = |&(i, more): &(usize, &Tensor)| {
            // Cut from the graph it came with, so that the sum holds nothing else alive.
            Ok(match &self.sums[i] {
                None => more.detach(),
                Some(s) => (s + more.detach())?,
            })
        };
        let sums = more.iter().map(sum).collect::<Result<Vec<Tensor>, Error>>()?;
        for ((i, _), sum) in more.iter().zip(sums) {
            self.sums[*i] = Some(sum);
        }
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
    room: Room,
    path: Path,
}

impl Policy {
    /// Takes a decoder into training, on the fast path where there is one for its device and type.
    ///
    /// # Errors
    /// When a device has no memory for it.
    pub fn new(decoder: Decoder) -> Result<Self, Error> {
        if !decoder.device().is_cpu() {
            return Self::gpu(decoder);
        }
        let path = Fast::new(&decoder).map(|fast| Path::Fast(fast, Sums::new(&decoder)));
        Ok(Self { path: path.unwrap_or(Path::Reference), ..Self::reference(decoder) })
    }

    /// Takes a decoder into training on the path of accelerators, wherever it computes.
    pub(crate) fn gpu(mut decoder: Decoder) -> Result<Self, Error> {
        let gpu = Gpu::new(&mut decoder)?;
        Ok(Self { path: Path::Gpu(Box::new(gpu)), ..Self::reference(decoder) })
    }

    /// Takes a decoder into training on the reference path.
    #[must_use]
    pub fn reference(decoder: Decoder) -> Self {
        let index = decoder.trainables().iter().enumerate().map(|(i, (_, v))| (v.as_tensor().id(), i)).collect();
        let gradients = Gradients { sums: vec![None; decoder.trainables().len()] };
        Self { decoder, gradients, index, pass: 0, room: Room::default(), path: Path::Reference }
    }

    /// Name of the path taken: `fast` or `reference`.
    #[must_use]
    pub fn path(&self) -> &'static str {
        match &self.path {
            Path::Reference => "reference",
            Path::Fast(..) | Path::Gpu(_) => "fast",
        }
    }

    /// Whether rows are laid without padding, so that none changes another's numbers: on the fast path, but where dropout draws
    /// its masks for the padded batch.
    #[must_use]
    pub fn packs(&self) -> bool {
        !matches!(self.path, Path::Reference) && !cpu::drops(&self.decoder)
    }

    /// Bytes of activations that the fast path may keep beside the layers' inputs.
    #[cfg(test)]
    pub(super) fn set_room(&mut self, bytes: usize) {
        match &mut self.path {
            Path::Reference => {}
            Path::Fast(fast, _) => fast.set_room(bytes),
            Path::Gpu(gpu) => gpu.set_room(bytes),
        }
    }

    /// Lets go of memory that waits for the next pass: something else needs it now.
    pub fn rest(&self) {
        if let Path::Fast(fast, _) = &self.path {
            fast.rest();
        }
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
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn take_gradients(&mut self) -> Result<Gradients, Error> {
        match &mut self.path {
            Path::Reference => {}
            Path::Fast(_, sums) => return sums.take(&self.decoder),
            Path::Gpu(gpu) => return gpu.take(&self.decoder),
        }
        let fresh = Gradients { sums: vec![None; self.decoder.trainables().len()] };
        Ok(std::mem::replace(&mut self.gradients, fresh))
    }

    /// Scores without gradients or dropout. `adapter` false is the reference: the base model.
    ///
    /// # Errors
    /// When the batch is empty or malformed, or a tensor operation fails.
    pub fn score(&self, batch: &Batch, adapter: bool) -> Result<TokenScores, Error> {
        match &self.path {
            Path::Reference => {}
            Path::Fast(fast, _) => return fast.score(&self.decoder, batch, adapter),
            Path::Gpu(gpu) => return gpu.score(&self.decoder, batch, adapter, &self.room).map_err(Error::with_remedy),
        }
        let pass = Pass::plain(adapter);
        let (ids, scored) = self.pack(batch)?;
        let x = self.last_layer(&ids, &scored, &pass)?;
        self.scores(&x, &scored, &pass)
    }

    /// The final states from which the scored tokens of `batch` are predicted, (n, H), and which tokens they are.
    ///
    /// # Errors
    /// As [`Policy::score`].
    pub(crate) fn states(&self, batch: &Batch, adapter: bool) -> Result<(Tensor, Vec<u32>), Error> {
        match &self.path {
            Path::Reference => {}
            Path::Fast(fast, _) => return fast.states(&self.decoder, batch, adapter),
            Path::Gpu(gpu) => return gpu.states(&self.decoder, batch, adapter, &self.room).map_err(Error::with_remedy),
        }
        let pass = Pass::plain(adapter);
        let (ids, scored) = self.pack(batch)?;
        let x = self.last_layer(&ids, &scored, &pass)?;
        let (b, t, h) = x.dims3()?;
        let from = Tensor::new(scored.from.as_slice(), x.device())?;
        let states = self.decoder.norm(&x.reshape((b * t, h))?.index_select(&from, 0)?, &pass)?;
        Ok((states, scored.target))
    }

    fn last_layer(&self, ids: &Tensor, scored: &Scored, pass: &Pass) -> Result<Tensor, Error> {
        let span = self.span(scored, ids.dim(1)?)?;
        let mut x = self.decoder.embed(ids, false)?;
        for i in 0..self.decoder.depth() {
            x = self.through(i, &x, &span, pass)?;
        }
        Ok(x)
    }

    fn span(&self, scored: &Scored, len: usize) -> Result<Span, Error> {
        if scored.starts.len() > 1 { self.decoder.packed_span(&scored.starts, len) } else { self.decoder.span(0, len) }
    }

    /// Scores with the adapter on and keeps what [`Policy::backward`] needs.
    ///
    /// # Errors
    /// As [`Policy::score`].
    pub fn score_train(&mut self, batch: &Batch) -> Result<(TokenScores, Tape), Error> {
        let number = self.pass;
        self.pass += 1;
        match &self.path {
            Path::Reference => {}
            Path::Fast(fast, _) => {
                let (scores, tape) = fast.score_train(&self.decoder, batch, number)?;
                return Ok((scores, Tape(Taped::Fast(Box::new(tape)))));
            }
            Path::Gpu(gpu) => {
                let done = gpu.score_train(&self.decoder, batch, number, &self.room);
                let (scores, tape) = done.map_err(Error::with_remedy)?;
                return Ok((scores, Tape(Taped::Gpu(Box::new(tape)))));
            }
        }
        let dropout = Some(number);
        let pass = Pass { dropout, ..Pass::plain(true) };
        let (ids, scored) = self.pack(batch)?;
        let span = self.span(&scored, ids.dim(1)?)?;
        let mut hidden = vec![self.decoder.embed(&ids, false)?];
        for i in 0..self.decoder.depth() {
            hidden.push(self.through(i, &hidden[i], &span, &pass)?);
        }
        let scores = self.scores(&hidden[self.decoder.depth()], &scored, &pass)?;
        Ok((scores, Tape(Taped::Reference(Kept { ids, hidden, scored, dropout }))))
    }

    /// Adds dL/dθ to the gradients, given `g`, dL/d of what was said about each row, as in [`TokenScores`].
    ///
    /// # Errors
    /// When `g` has not the batch's shape, or a tensor operation fails.
    pub fn backward(&mut self, tape: Tape, g: &[RowGradient]) -> Result<(), Error> {
        let counts: Vec<(usize, usize)> = match &tape.0 {
            Taped::Fast(tape) => tape.counts().collect(),
            Taped::Gpu(tape) => tape.counts().collect(),
            Taped::Reference(k) => k.scored.counts.iter().copied().zip(k.scored.value_counts.iter().copied()).collect(),
        };
        let fits = |(row, (n, v)): (&RowGradient, &(usize, usize))| {
            let may_be = |x: &[f64], n: usize| x.is_empty() || x.len() == n;
            row.logp.len() == *n && may_be(&row.entropy, *n) && may_be(&row.value, *v)
        };
        if g.len() != counts.len() || !g.iter().zip(&counts).all(fits) {
            return Err(Error::Asked("the gradients have not the shape of the scored tokens".into()));
        }
        let Kept { ids, mut hidden, scored, dropout } = match (tape.0, &mut self.path) {
            (Taped::Fast(tape), Path::Fast(fast, sums)) => return fast.backward(&self.decoder, *tape, g, sums),
            (Taped::Gpu(tape), Path::Gpu(gpu)) => {
                return gpu.backward(&self.decoder, *tape, g, &self.room).map_err(Error::with_remedy);
            }
            (Taped::Reference(kept), Path::Reference) => kept,
            _ => return Err(Error::Asked("a tape goes back on the path that made it".into())),
        };
        let pass = Pass { grad: true, dropout, ..Pass::plain(true) };
        let (b, t) = ids.dims2()?;
        let span = self.span(&scored, t)?;
        let Some(last) = hidden.pop() else { return Err(Error::Asked("the tape is empty".into())) };
        let mut upstream = self.head_backward(&last, &scored, g, &pass)?.reshape((b, t, ()))?;
        drop(last);
        for i in (0..self.decoder.depth()).rev() {
            let Some(input) = hidden.pop() else { return Err(Error::Asked("the tape is too short".into())) };
            upstream = self.back_through(i, &input, &upstream, &span, &pass)?;
        }
        if self.decoder.trained_embedding().is_some() {
            let y = self.decoder.embed(&ids, true)?;
            let nowhere = Var::zeros(1, upstream.dtype(), upstream.device())?;
            let grads = seeded(&y, &upstream)?.backward()?;
            self.collect(grads, &nowhere)?;
        }
        Ok(())
    }

    fn collect(&mut self, mut grads: candle_core::backprop::GradStore, x: &Var) -> Result<Option<Tensor>, Error> {
        let dx = grads.remove(x.as_tensor());
        let trained = grads.get_ids().filter_map(|id| Some((*self.index.get(id)?, grads.get_id(*id)?)));
        let trained: Vec<(usize, &Tensor)> = trained.collect();
        self.gradients.add_all(&trained)?;
        Ok(dx)
    }

    /// Pads the rows on the right to (B, T) and flattens the scored positions.
    fn pack(&self, batch: &Batch) -> Result<(Tensor, Scored), Error> {
        let longest = batch.check(self.decoder.config().vocab)?;
        let mut ids = Vec::with_capacity(batch.rows.len() * longest);
        let mut scored = Scored {
            from: Vec::new(),
            target: Vec::new(),
            counts: Vec::new(),
            valued: Vec::new(),
            value_counts: Vec::new(),
            starts: Vec::new(),
            cold: 1.0 / batch.temperature,
        };
        if let Some(packed) = batch.rows.iter().find(|r| r.starts.len() > 1) {
            scored.starts.clone_from(&packed.starts);
        }
        for (r, row) in batch.rows.iter().enumerate() {
            for &at in &row.scored {
                scored.from.push((r * longest + at - 1) as u32);
                scored.target.push(row.ids[at]);
            }
            scored.valued.extend(row.valued.iter().map(|at| (r * longest + at) as u32));
            scored.counts.push(row.scored.len());
            scored.value_counts.push(row.valued.len());
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

#[cfg(test)]
mod tests;
