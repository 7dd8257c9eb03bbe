//! Norms by the leaf operations: LayerNorm is RMSNorm of the input minus its mean, plus a bias.

use super::leaf::LeafOps;
use crate::model::error::Error;
use crate::nn::norm::{Norm, centred};
use candle_core::{DType, Tensor};

/// Gradients of a norm's input, weight and bias; the latter two if they are trained.
pub(super) struct NormGradients {
    pub(super) dx: Tensor,
    pub(super) dgamma: Option<Tensor>,
    pub(super) dbias: Option<Tensor>,
}

/// The norm of x (…, H), in another type.
pub(super) fn forward(ops: &LeafOps, norm: &Norm, x: &Tensor, to: DType) -> Result<Tensor, Error> {
    if !norm.centred {
        return (ops.norm)(x, &norm.gamma()?, norm.eps, to);
    }
    let mut y = (ops.norm)(&centred(&x.to_dtype(DType::F32)?)?, &norm.gamma()?, norm.eps, DType::F32)?;
    if let Some(bias) = &norm.bias {
        y = y.broadcast_add(&bias.cast(false, DType::F32)?)?;
    }
    Ok(y.to_dtype(to)?)
}

/// Its backward from dL/dy; dL/dx in f32, added to a given tensor if any.
pub(super) fn backward(
    ops: &LeafOps,
    norm: &Norm,
    x: &Tensor,
    dy: &Tensor,
    on: Option<&Tensor>,
) -> Result<NormGradients, Error> {
    let trained = norm.weight.trained().is_some();
    if !norm.centred {
        let (dx, dgamma) = (ops.norm_back)(x, &norm.gamma()?, norm.eps, dy, on, trained)?;
        return Ok(NormGradients { dx, dgamma, dbias: None });
    }
    let dy = dy.to_dtype(DType::F32)?;
    let x = centred(&x.to_dtype(DType::F32)?)?;
    let (dx, dgamma) = (ops.norm_back)(&x, &norm.gamma()?, norm.eps, &dy, None, trained)?;
    let mut dx = centred(&dx)?;
    if let Some(on) = on {
        dx = (dx + on)?;
    }
    let width = x.dim(candle_core::D::Minus1)?;
    let dbias = norm.bias.as_ref().and_then(|b| b.trained()).map(|_| dy.reshape(((), width))?.sum(0)).transpose()?;
    Ok(NormGradients { dx, dgamma, dbias })
}
