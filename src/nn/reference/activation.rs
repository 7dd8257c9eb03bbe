//! The activations, composed of candle's operations.
//!
//! A clamp is `x ⊙ m + c` with constants m (1 within the limits) and c (the limit beyond them): its derivative is m, and NaN stays.

use crate::model::error::Error;
use crate::model::layer::Activation;
use crate::nn::frozen;
use candle_core::Tensor;

/// The function on the feed-forward's gate.
pub(super) fn activated(x: &Tensor, activation: Activation) -> Result<Tensor, Error> {
    Ok(match activation {
        Activation::Silu => x.silu()?,
        Activation::Gelu => (x * ((x * std::f64::consts::FRAC_1_SQRT_2)?.erf()? + 1.0)?)?.affine(0.5, 0.0)?,
        Activation::GeluTanh => {
            let inner = ((x + (x.sqr()? * x)?.affine(0.044_715, 0.0)?)? * (2.0 / std::f64::consts::PI).sqrt())?;
            (x * (inner.tanh()? + 1.0)?)?.affine(0.5, 0.0)?
        }
        Activation::Relu => x.relu()?,
        Activation::ReluSquared => x.relu()?.sqr()?,
        Activation::Clamped(with) => {
            let g = clamped(x, f64::NEG_INFINITY, with.limit.into())?;
            // σ(z) as 1 / (1 + e^−z).
            let sigmoid = (g.affine(-f64::from(with.alpha), 0.0)?.exp()? + 1.0)?.recip()?;
            (g * sigmoid)?
        }
    })
}

/// `act(gate) ⊙ up`.
pub(super) fn gated(gate: &Tensor, up: &Tensor, activation: Activation) -> Result<Tensor, Error> {
    let gate = activated(gate, activation)?;
    match activation {
        Activation::Clamped(with) => Ok((gate * (clamped(up, -f64::from(with.limit), with.limit.into())? + 1.0)?)?),
        _ => Ok((gate * up)?),
    }
}

fn clamped(x: &Tensor, least: f64, most: f64) -> Result<Tensor, Error> {
    let fixed = x.detach();
    let (below, above) = (fixed.lt(least)?.to_dtype(x.dtype())?, fixed.gt(most)?.to_dtype(x.dtype())?);
    let within = (&below + &above)?.affine(-1.0, 1.0)?;
    let mut beyond = above.affine(most, 0.0)?;
    if least.is_finite() {
        beyond = (beyond + below.affine(least, 0.0)?)?;
    }
    Ok(x.apply_op1(frozen::Times { constant: within })?.apply_op1(frozen::Plus { constant: beyond })?)
}
