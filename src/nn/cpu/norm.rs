//! RMSNorm and LayerNorm with their parameters, forward and backward. Refuses to know where a norm stands.

use super::context::Context;
use super::gradients::CpuGradients;
use super::values::values;
use crate::model::error::Error;
use crate::nn::norm::Norm;
use tiebreak_kernels::arena::Buffer;
use tiebreak_kernels::leaf;

/// Over rows as long as the norm's weight.
pub(super) fn norm(context: &Context<'_>, norm: &Norm, x: &[f32]) -> Result<Buffer, Error> {
    let mut y = context.arena.take(x.len());
    let (gamma, eps) = (norm.gamma()?, norm.eps as f32);
    let gamma = values(&gamma)?;
    if !norm.centred {
        leaf::rms_norm(x, &gamma, eps, &mut y);
        return Ok(y);
    }
    let mut centred = context.arena.take(x.len());
    centred.copy_from_slice(x);
    leaf::centre(&mut centred, gamma.len());
    leaf::rms_norm(&centred, &gamma, eps, &mut y);
    if let Some(bias) = &norm.bias {
        leaf::add_bias(&mut y, gamma.len(), 0, &values(bias.stored())?);
    }
    Ok(y)
}

/// Adds dL/dx of a norm to `dx`, and dL/d of its weight and bias to the gradients if they are trained.
pub(super) fn norm_back(
    norm: &Norm,
    x: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    grads: &mut CpuGradients,
) -> Result<(), Error> {
    let (gamma, eps) = (norm.gamma()?, norm.eps as f32);
    let gamma = values(&gamma)?;
    if let Some(sum) = norm.bias.as_ref().and_then(|b| b.trained()).and_then(|var| grads.of(var)) {
        for dy in dy.chunks_exact(gamma.len()) {
            leaf::add(sum, dy);
        }
    }
    let dgamma = norm.weight.trained().and_then(|var| grads.of(var));
    if !norm.centred {
        leaf::rms_norm_back(x, &gamma, eps, dy, dx, dgamma);
        return Ok(());
    }
    let (mut centred, mut back) = (x.to_vec(), vec![0.0; x.len()]);
    leaf::centre(&mut centred, gamma.len());
    leaf::rms_norm_back(&centred, &gamma, eps, dy, &mut back, dgamma);
    leaf::centre(&mut back, gamma.len());
    leaf::add(dx, &back);
    Ok(())
}
