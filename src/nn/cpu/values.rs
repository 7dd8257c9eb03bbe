//! A tensor's numbers where they lie in the processor's memory.

use crate::model::error::Error;
use candle_core::{Storage, Tensor};
use std::ops::Deref;

/// A tensor's numbers where they lie.
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

/// The numbers of an f32 tensor in the processor's memory, where they lie.
pub(crate) fn values(tensor: &Tensor) -> Result<Values<impl Deref<Target = Storage> + '_>, Error> {
    let (storage, layout) = tensor.storage_and_layout();
    let Some((first, end)) = layout.contiguous_offsets() else {
        return Err(Error::Asked("a weight does not lie in one piece; this is an error of the program".into()));
    };
    Ok(Values { storage, first, len: end - first })
}
