//! A batch padded on the right, with flat indices of its scored tokens and valued positions.

use super::forward::RopeAndMask;
use crate::model::error::Error;
use crate::nn::contract::Batch;
use crate::nn::decoder::Decoder;
use candle_core::Tensor;

/// The scored tokens and valued positions of a batch, flat.
pub(in crate::nn) struct PaddedBatch {
    /// Index into (B·T) of the position that predicts each token.
    pub(in crate::nn) from: Vec<u32>,
    /// The token.
    pub(in crate::nn) target: Vec<u32>,
    /// Count per row.
    pub(in crate::nn) counts: Vec<usize>,
    /// Index into (B·T) of each valued position.
    pub(in crate::nn) valued: Vec<u32>,
    /// Count per row.
    pub(in crate::nn) value_counts: Vec<usize>,
    /// Starts of the documents, if one row holds several.
    pub(super) starts: Vec<usize>,
    /// Tokens of each row.
    lengths: Vec<usize>,
    /// The logits' factor / temperature.
    pub(in crate::nn) inv_temp: f64,
}

impl PaddedBatch {
    /// Pads the rows on the right to (B, T) and flattens the scored positions.
    pub(in crate::nn) fn pack(decoder: &Decoder, batch: &Batch) -> Result<(Tensor, Self), Error> {
        let longest = batch.check(decoder.config().vocab)?;
        let mut ids = Vec::with_capacity(batch.rows.len() * longest);
        let mut scored = Self {
            from: Vec::new(),
            target: Vec::new(),
            counts: Vec::new(),
            valued: Vec::new(),
            value_counts: Vec::new(),
            starts: Vec::new(),
            lengths: batch.rows.iter().map(|row| row.ids.len()).collect(),
            inv_temp: decoder.logits().factor() / batch.temperature,
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
            // The padding token does not matter: no real token attends to it.
            ids.resize((r + 1) * longest, 0);
        }
        let ids = Tensor::from_vec(ids, (batch.rows.len(), longest), decoder.device())?;
        Ok((ids, scored))
    }

    /// RoPE tables and mask of the batch's `len` positions.
    pub(in crate::nn) fn rope_and_mask(&self, decoder: &Decoder, len: usize) -> Result<RopeAndMask, Error> {
        if self.starts.len() > 1 {
            decoder.packed_rope_and_mask(&self.starts, len)
        } else {
            decoder.rope_and_mask(&self.lengths, len)
        }
    }
}
