//! candle's fused operations, for passes without gradients.
//!
//! Owns all calls of them. They have no backward and raise no error in one, so every gradient path
//! uses composed operations instead; a test checks that nothing else calls them.

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
