//! Borrows the f32 slice of a CPU tensor without a copy.

use crate::model::error::Error;
use candle_core::{Storage, Tensor};
use std::ops::Deref;

/// The borrowed slice of a tensor.
pub(crate) struct Values<G> {
    storage: G,
    first: usize,
    len: usize,
}

impl<G: Deref<Target = Storage>> Deref for Values<G> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(s) => s.as_slice::<f32>().map_or(&[], |all| &all[self.first..self.first + self.len]),
            _ => &[],
        }
    }
}

/// The slice of a contiguous f32 tensor on the CPU.
pub(crate) fn values(tensor: &Tensor) -> Result<Values<impl Deref<Target = Storage> + '_>, Error> {
    let (storage, layout) = tensor.storage_and_layout();
    let Some((first, end)) = layout.contiguous_offsets() else {
        return Err(Error::Invalid("a weight is not contiguous; this is a bug".into()));
    };
    Ok(Values { storage, first, len: end - first })
}
