//! The curve on the head's logits, `cap·tanh(scale·z/cap)` (Gemma Team 2024), and its derivative, for tensors and slices.

use crate::model::error::Error;
use crate::model::layer::LogitCurve;
use candle_core::Tensor;
use tiebreak_kernels::attention::soft_cap;

/// The capped logits; unchanged without a cap. The scale without a cap is part of 1/temperature: [`LogitCurve::factor`].
pub(crate) fn capped(curve: LogitCurve, z: &Tensor) -> Result<Tensor, Error> {
    match curve.cap {
        None => Ok(z.clone()),
        Some(cap) => Ok((z.affine(curve.scale / cap, 0.0)?.tanh()? * cap)?),
    }
}

/// The whole curve.
pub(crate) fn bent(curve: LogitCurve, z: &Tensor) -> Result<Tensor, Error> {
    let z = capped(curve, z)?;
    Ok(if curve.factor() == 1.0 { z } else { (z * curve.factor())? })
}

/// The derivative of [`capped`] from its values; none without a cap.
pub(crate) fn slope(curve: LogitCurve, capped: &Tensor) -> Result<Option<Tensor>, Error> {
    let Some(cap) = curve.cap else { return Ok(None) };
    Ok(Some(((capped / cap)?.sqr()?.affine(-1.0, 1.0)? * curve.scale)?))
}

/// As [`capped`], in place.
pub(crate) fn cap_slice(curve: LogitCurve, z: &mut [f32]) {
    let Some(cap) = curve.cap else { return };
    if curve.scale != 1.0 {
        for z in z.iter_mut() {
            *z *= curve.scale as f32;
        }
    }
    soft_cap(z, cap as f32);
}

/// As [`bent`], in place.
pub(crate) fn bend_slice(curve: LogitCurve, z: &mut [f32]) {
    cap_slice(curve, z);
    if curve.factor() != 1.0 {
        for z in z.iter_mut() {
            *z *= curve.factor() as f32;
        }
    }
}
