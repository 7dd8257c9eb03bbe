//! The activations, composed of candle's operations.

use crate::model::error::Error;
use crate::model::layer::Activation;
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
    })
}
