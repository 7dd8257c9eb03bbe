//! RMSNorm and LayerNorm with their parameters, composed of candle's operations.
//!
//! LayerNorm is RMSNorm of the input minus its mean, plus a bias: every backend computes it so.

use super::frozen;
use super::inference;
use super::linear::Weight;
use super::pass::Pass;
use crate::model::error::Error;
use crate::model::weights::trained_dtype;
use candle_core::{D, DType, Device, Tensor};

/// A norm's parameters, what is added to the weight, and its epsilon.
pub(crate) struct Norm {
    pub(crate) weight: Weight,
    /// 1 in Gemma, else 0.
    pub(super) offset: f64,
    pub(crate) eps: f64,
    /// Whether it subtracts the mean first, as LayerNorm does.
    pub(crate) centred: bool,
    /// LayerNorm's bias, (H), where it has one.
    pub(crate) bias: Option<Weight>,
}

impl Norm {
    /// RMSNorm over `width` numbers without a weight.
    pub(super) fn without_weight(width: usize, eps: f64, dtype: DType, device: &Device) -> Result<Self, Error> {
        let weight = Weight::Frozen(Tensor::ones(width, dtype, device)?);
        Ok(Self { weight, offset: 0.0, eps, centred: false, bias: None })
    }

    /// The factor after normalisation, (H), detached: weight + offset. Without an offset it is the weight itself; with one it is
    /// never in 16 bits.
    pub(crate) fn gamma(&self) -> Result<Tensor, Error> {
        let stored = self.weight.stored();
        if self.offset == 0.0 {
            return Ok(stored.clone());
        }
        Ok((stored.detach().to_dtype(trained_dtype(stored.dtype()))? + self.offset)?)
    }

    /// Over the last dimension: `x / √(mean x² + eps) ⊙ gamma`, in LayerNorm of x minus its mean, plus the bias.
    pub(super) fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor, Error> {
        if !pass.grad && x.dtype() != DType::F64 {
            if !self.centred {
                return inference::rms_norm(x, &self.gamma()?.detach().to_dtype(x.dtype())?, self.eps);
            }
            let centred = centred(&x.to_dtype(trained_dtype(x.dtype()))?)?;
            let mut y = inference::rms_norm(&centred, &self.gamma()?.detach().to_dtype(centred.dtype())?, self.eps)?;
            if let Some(bias) = &self.bias {
                y = y.broadcast_add(&bias.cast(false, y.dtype())?)?;
            }
            return Ok(y.to_dtype(x.dtype())?);
        }
        // Squares and their mean need more than 16 bits.
        let mut wide = x.to_dtype(trained_dtype(x.dtype()))?;
        if self.centred {
            wide = centred(&wide)?;
        }
        let inverse = (wide.sqr()?.mean_keepdim(D::Minus1)? + self.eps)?.sqrt()?.recip()?;
        let unit = wide.broadcast_mul(&inverse)?;
        let weight = self.weight.cast(pass.grad, wide.dtype())?;
        let gamma = if self.offset == 0.0 { weight } else { (weight + self.offset)? };
        let y = match &self.weight {
            Weight::Frozen(_) => unit.apply_op1(frozen::Times { constant: gamma })?,
            Weight::Trained(_) => unit.broadcast_mul(&gamma)?,
        };
        let y = match &self.bias {
            None => y,
            Some(Weight::Frozen(b)) => y.apply_op1(frozen::Plus { constant: b.to_dtype(y.dtype())? })?,
            Some(trained) => y.broadcast_add(&trained.cast(pass.grad, y.dtype())?)?,
        };
        Ok(y.to_dtype(x.dtype())?)
    }
}

/// x minus its mean over the last dimension.
pub(crate) fn centred(x: &Tensor) -> Result<Tensor, Error> {
    Ok(x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?)
}
