//! candle's fused operations, for passes through which no gradient flows.
//!
//! Owns the only calls of them. They have no backward and raise no error where one is asked for, so everything that may be
//! trained through uses composed operations instead; a test holds the rest of the engine to that.

use crate::model::error::Error;
use candle_core::Tensor;

/// RMSNorm over the last dimension of x, (…, H), with gamma (H).
pub(crate) fn rms_norm(x: &Tensor, gamma: &Tensor, eps: f64) -> Result<Tensor, Error> {
    Ok(candle_nn::ops::rms_norm(&x.contiguous()?, gamma, eps as f32)?)
}

/// Rotary positions of x (B, heads, T, hd) by tables (T, hd/2), in the half-split order.
pub(crate) fn rope(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor, Error> {
    Ok(candle_nn::rotary_emb::rope(x, cos, sin)?)
}

/// Softmax over the last dimension.
pub(crate) fn softmax(x: &Tensor) -> Result<Tensor, Error> {
    Ok(candle_nn::ops::softmax_last_dim(x)?)
}
