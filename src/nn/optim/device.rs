//! An update of AdamW on a device, composed of candle's operations.

use crate::model::error::Error;
use candle_core::{DType, Tensor, Var};
use tiebreak_kernels::adam::Adam;

/// The update of one parameter that is not f32 on the CPU.
pub(crate) struct DeviceUpdate<'a> {
    /// The trainable.
    pub(crate) var: &'a Var,
    /// Its gradient, contiguous f32.
    pub(crate) gradient: Tensor,
    /// Its first moment.
    pub(crate) m: &'a mut Tensor,
    /// Its second moment.
    pub(crate) v: &'a mut Tensor,
    /// The coefficients of the update.
    pub(crate) by: Adam,
}

impl DeviceUpdate<'_> {
    /// Applies the update with candle's operations.
    pub(super) fn step(&mut self) -> Result<(), Error> {
        let Self { var, gradient, m, v, by } = self;
        let g = (&*gradient * by.scale)?;
        **m = ((&**m * by.beta1)? + (&g * (1.0 - by.beta1))?)?;
        **v = ((&**v * by.beta2)? + (g.sqr()? * (1.0 - by.beta2))?)?;
        let step = (&**m / ((&**v / by.bias2)?.sqrt()? + by.eps)?)?;
        let old = var.as_tensor().to_dtype(DType::F32)?;
        let kept = if by.keep == 1.0 { old } else { (old * by.keep)? };
        Ok(var.set(&(kept - (step * by.rate)?)?.to_dtype(var.dtype())?)?)
    }
}
