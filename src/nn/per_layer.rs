//! The layers' second input: for every token and layer a part of its own, from the token and from its embedding (Gemma 3n,
//! Gemma 4).
//!
//! Owns its parameters and the composition of candle's operations; the other backends read the parameters. Refuses to know the
//! layers that read it.

use super::linear::{Linear, Weight};
use super::norm::Norm;
use super::pass::Pass;
use crate::model::error::Error;
use candle_core::Tensor;

/// The factor on the sum of both terms: 1/√2.
pub(crate) const HALF: f64 = std::f64::consts::FRAC_1_SQRT_2;

/// The parameters.
pub(crate) struct PerLayerInputs {
    /// Width of a layer's part.
    pub(crate) width: usize,
    /// (rows, layers · width).
    pub(crate) table: Weight,
    /// (layers · width, H), without an adapter.
    pub(crate) projection: Linear,
    /// Over each part, (width).
    pub(crate) norm: Norm,
}

impl PerLayerInputs {
    /// The factor on the table's rows: √width.
    pub(crate) fn table_scale(&self) -> f64 {
        (self.width as f64).sqrt()
    }

    /// The factor on the projection of embeddings of width `hidden`: 1/√H.
    pub(crate) fn projection_scale(hidden: usize) -> f64 {
        1.0 / (hidden as f64).sqrt()
    }

    /// From token ids (B, T) and their embeddings (B, T, H), scaled as the first layer reads them, the input (B, T, layers, width).
    pub(super) fn forward(&self, ids: &Tensor, embedded: &Tensor, pass: &Pass) -> Result<Tensor, Error> {
        let (b, t, hidden) = embedded.dims3()?;
        let parts = |x: Tensor| x.reshape((b, t, (), self.width));
        let rows = self.table.tensor(pass.grad).index_select(&ids.flatten_all()?, 0)?.to_dtype(embedded.dtype())?;
        let own = parts(rows.affine(self.table_scale(), 0.0)?)?;
        let seen = self.projection.forward(embedded, pass, None)?.affine(Self::projection_scale(hidden), 0.0)?;
        Ok((self.norm.forward(&parts(seen)?, pass)? + own)?.affine(HALF, 0.0)?)
    }
}

/// Layer `i`'s part of (B, T, layers, width): (B, T, width).
pub(super) fn part(all: &Tensor, i: usize) -> Result<Tensor, Error> {
    Ok(all.narrow(2, i, 1)?.squeeze(2)?.contiguous()?)
}
