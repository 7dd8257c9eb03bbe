//! RMSNorm with its parameter, composed of candle's operations.

use super::frozen;
use super::inference;
use super::linear::Weight;
use super::pass::Pass;
use crate::model::error::Error;
use crate::model::weights::trained_dtype;
use candle_core::{D, DType, Tensor};

/// A norm's parameter and its epsilon.
pub(crate) struct Norm {
    pub(crate) gamma: Weight,
    pub(crate) eps: f64,
}

impl Norm {
    /// RMSNorm over the last dimension (Zhang and Sennrich 2019): `x / √(mean x² + eps) ⊙ gamma`.
    pub(super) fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor, Error> {
        if !pass.grad && x.dtype() != DType::F64 {
            return inference::rms_norm(x, &self.gamma.cast(false, x.dtype())?, self.eps);
        }
        // Squares and their mean want more than 16 bits.
        let wide = x.to_dtype(trained_dtype(x.dtype()))?;
        let inverse = (wide.sqr()?.mean_keepdim(D::Minus1)? + self.eps)?.sqrt()?.recip()?;
        let unit = wide.broadcast_mul(&inverse)?;
        let gamma = self.gamma.cast(pass.grad, wide.dtype())?;
        let y = match &self.gamma {
            Weight::Frozen(_) => unit.apply_op1(frozen::Times { constant: gamma })?,
            Weight::Trained(_) => unit.broadcast_mul(&gamma)?,
        };
        Ok(y.to_dtype(x.dtype())?)
    }
}
