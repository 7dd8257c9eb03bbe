//! An update of AdamW on a device, composed of candle's operations.

use crate::model::error::Error;
use candle_core::{DType, Tensor, Var};
use tiebreak_kernels::adam::Adam;

/// An update of what does not lie in the processor's memory as f32.
pub(crate) struct DeviceUpdate<'a> {
    /// What is trained.
    pub(crate) var: &'a Var,
    /// Its gradient in f32, in one piece.
    pub(crate) gradient: Tensor,
    /// Its moments.
    pub(crate) m: &'a mut Tensor,
    /// The second.
    pub(crate) v: &'a mut Tensor,
    /// The numbers of the update.
    pub(crate) by: Adam,
}

impl DeviceUpdate<'_> {
    /// Composed of candle's operations.
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
