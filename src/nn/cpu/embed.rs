//! What the first layer reads: the embeddings of tokens, and of learned positions.

use super::context::Context;
use super::values::values;
use crate::model::error::Error;
use tiebreak_kernels::arena::Buffer;
use tiebreak_kernels::leaf;

/// The token embeddings with those of positions, (tokens, H).
pub(super) fn embed(context: &Context<'_>) -> Result<Buffer, Error> {
    let hidden = context.decoder.config().hidden;
    let table = values(context.decoder.embedding().stored())?;
    let mut x = context.arena.take(context.layout.tokens() * hidden);
    for (id, row) in context.layout.ids.iter().zip(x.chunks_exact_mut(hidden)) {
        row.copy_from_slice(&table[*id as usize * hidden..(*id as usize + 1) * hidden]);
    }
    let scale = context.decoder.config().embedding_scale as f32;
    if scale != 1.0 {
        x.iter_mut().for_each(|x| *x *= scale);
    }
    if let Some(table) = context.decoder.positions() {
        let table = values(table.stored())?;
        for (position, row) in context.layout.positions.iter().zip(x.chunks_exact_mut(hidden)) {
            leaf::add(row, &table[position * hidden..(position + 1) * hidden]);
        }
    }
    Ok(x)
}
