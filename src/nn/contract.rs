//! The types that losses and backends exchange: a batch of token rows, its scores, and derivatives.
//!
//! A recipe builds a [`Batch`], gets [`TokenScores`] for it, computes its loss and returns
//! dL/d of every score as one [`RowGradient`] per row; the backend adds dL/dθ to its [`Gradients`]. Refuses batches that
//! name tokens or positions that do not exist.

use crate::model::error::Error;
use candle_core::Tensor;

/// One sequence: prompt and completion in one, without padding.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Row {
    /// The tokens.
    pub ids: Vec<u32>,
    /// Indices into `ids` of the tokens to score, given everything before them; each at least 1, ascending.
    pub scored: Vec<usize>,
    /// Indices into `ids` of the positions at which the scalar head is read.
    pub valued: Vec<usize>,
    /// Start of each document packed into this row, ascending from 0; empty or one: a single document. No token attends to
    /// another document, and positions restart with each.
    pub starts: Vec<usize>,
}

impl Row {
    /// One document whose tokens at `scored` are scored.
    #[must_use]
    pub fn new(ids: Vec<u32>, scored: Vec<usize>) -> Self {
        Self { ids, scored, ..Self::default() }
    }
}

/// Sequences that go through the decoder together. The backend handles padding.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// The sequences. A row of several documents must be alone in its batch.
    pub rows: Vec<Row>,
    /// Divides the logits; 1 leaves them as they are.
    pub temperature: f64,
    /// Sizes of consecutive groups of rows that may share a prefix, which is then computed once; empty: one group of all rows.
    /// Grouping changes a row's results only by rounding; with the same group they are equal to the bit.
    pub families: Vec<usize>,
}

impl Batch {
    /// Sequences at temperature 1.
    #[must_use]
    pub fn new(rows: Vec<Row>) -> Self {
        Self { rows, temperature: 1.0, families: Vec::new() }
    }

    /// Checks that a model of `vocab` tokens can score every row; returns the length of the longest.
    ///
    /// # Errors
    /// When there is no token, or a row names a token or position that does not exist.
    pub(crate) fn check(&self, vocab: usize) -> Result<usize, Error> {
        let longest = self.rows.iter().map(|r| r.ids.len()).max().unwrap_or(0);
        if longest == 0 {
            return Err(Error::Invalid("a batch without tokens cannot be scored".into()));
        }
        if self.rows.len() > 1 && self.rows.iter().any(|r| r.starts.len() > 1) {
            return Err(Error::Invalid("a row of several documents must be alone in its batch".into()));
        }
        for row in &self.rows {
            if let Some(id) = row.ids.iter().find(|id| **id as usize >= vocab) {
                return Err(Error::Invalid(format!(
                    "the tokenizer made token {id}, but the model knows {vocab}; they do not belong together"
                )));
            }
            if let Some(at) = row.scored.iter().find(|at| **at == 0 || **at >= row.ids.len()) {
                return Err(Error::Invalid(format!("token {at} of a row of {} cannot be scored", row.ids.len())));
            }
            if let Some(at) = row.valued.iter().find(|at| **at >= row.ids.len()) {
                return Err(Error::Invalid(format!("position {at} of a row of {} has no value", row.ids.len())));
            }
        }
        Ok(longest)
    }
}

/// The scores of a row's tokens, in the order of [`Row::scored`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RowScores {
    /// Log-prob of the token, in nats.
    pub logp: Vec<f64>,
    /// Entropy of the model's distribution at the position, in nats.
    pub entropy: Vec<f64>,
    /// Whether the token is the argmax (the first of equals).
    pub top1: Vec<bool>,
    /// Mean of the logits over the vocabulary.
    pub mean_logit: Vec<f64>,
    /// log Σ p² over the vocabulary, which normalises WPO's weights.
    pub collision: Vec<f64>,
    /// The scalar head's output at each position of [`Row::valued`].
    pub value: Vec<f64>,
}

/// dL/d of one row's scores.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RowGradient {
    /// With respect to the log-prob of each scored token.
    pub logp: Vec<f64>,
    /// With respect to the entropy at each scored token; empty: all 0.
    pub entropy: Vec<f64>,
    /// With respect to the scalar head's output at each valued position; empty: all 0.
    pub value: Vec<f64>,
}

impl From<Vec<f64>> for RowGradient {
    fn from(logp: Vec<f64>) -> Self {
        Self { logp, ..Self::default() }
    }
}

/// The scores of a batch, row by row.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TokenScores {
    /// One entry per row.
    pub rows: Vec<RowScores>,
}

/// Accumulated dL/dθ, in the order of [`Decoder::trainables`](super::decoder::Decoder::trainables); none until the first is added.
#[derive(Debug, Default, Clone)]
pub struct Gradients {
    sums: Vec<Option<Tensor>>,
}

impl Gradients {
    /// From gradients in the order of the trainables.
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

    /// No gradients yet, for `n` trainables.
    pub(super) fn none(n: usize) -> Self {
        Self { sums: vec![None; n] }
    }

    /// Adds all of them, or none if memory runs out.
    pub(super) fn add_all(&mut self, more: &[(usize, &Tensor)]) -> Result<(), Error> {
        let sum = |&(i, more): &(usize, &Tensor)| {
            // Detached, so that the sum keeps no graph alive.
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

/// One number per scored token; zeros for rows that have none.
pub(crate) fn padded(g: &[RowGradient], counts: &[usize], of: impl Fn(&RowGradient) -> &Vec<f64>) -> Vec<f64> {
    let mut out = Vec::with_capacity(counts.iter().sum());
    for (row, n) in g.iter().zip(counts) {
        let end = out.len() + n;
        out.extend_from_slice(of(row));
        out.resize(end, 0.0);
    }
    out
}
