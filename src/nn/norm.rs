//! RMSNorm with its parameter, composed of candle's operations.

use super::frozen;
use super::inference;
use super::linear::Weight;
use super::pass::Pass;
use crate::model::error::Error;
use crate::model::weights::trained_dtype;
use candle_core::{D, DType, Tensor};

/// A norm's parameter, what is added to it, and its epsilon.
pub(crate) struct Norm {
    pub(crate) weight: Weight,
    /// 1 in Gemma, else 0.
    pub(super) offset: f64,
    pub(crate) eps: f64,
}

impl Norm {
    /// The factor after normalisation, (H), detached: weight + offset. Without an offset it is the weight itself; with one it is
    /// never in 16 bits.
    pub(crate) fn gamma(&self) -> Result<Tensor, Error> {
        let stored = self.weight.stored();
        if self.offset == 0.0 {
            return Ok(stored.clone());
        }
        Ok((stored.detach().to_dtype(trained_dtype(stored.dtype()))? + self.offset)?)
    }

    /// RMSNorm over the last dimension (Zhang and Sennrich 2019): `x / √(mean x² + eps) ⊙ gamma`.
    pub(super) fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor, Error> {
        if !pass.grad && x.dtype() != DType::F64 {
            return inference::rms_norm(x, &self.gamma()?.detach().to_dtype(x.dtype())?, self.eps);
        }
        // Squares and their mean need more than 16 bits.
        let wide = x.to_dtype(trained_dtype(x.dtype()))?;
        let inverse = (wide.sqr()?.mean_keepdim(D::Minus1)? + self.eps)?.sqrt()?.recip()?;
        let unit = wide.broadcast_mul(&inverse)?;
        let weight = self.weight.cast(pass.grad, wide.dtype())?;
        let gamma = if self.offset == 0.0 { weight } else { (weight + self.offset)? };
        let y = match &self.weight {
            Weight::Frozen(_) => unit.apply_op1(frozen::Times { constant: gamma })?,
            Weight::Trained(_) => unit.broadcast_mul(&gamma)?,
        };
        Ok(y.to_dtype(x.dtype())?)
    }
}
