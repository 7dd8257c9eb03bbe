//! Accumulates the CPU backend's gradients, one slice for each trainable.

use crate::model::error::Error;
use crate::nn::contract::Gradients;
use crate::nn::decoder::Decoder;
use candle_core::{Tensor, TensorId, Var};
use std::collections::HashMap;

/// dL/dθ so far, in the order of [`Decoder::trainables`]; none until the first is added.
pub(super) struct CpuGradients {
    index: HashMap<TensorId, usize>,
    all: Vec<Option<Vec<f32>>>,
}

impl CpuGradients {
    /// No gradients yet, for the trainables of `decoder`.
    pub(super) fn new(decoder: &Decoder) -> Self {
        let vars = decoder.trainables().iter().enumerate();
        Self {
            index: vars.map(|(i, (_, v))| (v.as_tensor().id(), i)).collect(),
            all: vec![None; decoder.trainables().len()],
        }
    }

    /// The gradient of a trained parameter, zero at first; none if it is not among the trainables.
    pub(super) fn of(&mut self, var: &Var) -> Option<&mut [f32]> {
        let i = *self.index.get(&var.as_tensor().id())?;
        Some(self.all[i].get_or_insert_with(|| vec![0.0; var.elem_count()]))
    }

    /// Returns the gradients and resets them.
    pub(super) fn take(&mut self, decoder: &Decoder) -> Result<Gradients, Error> {
        let tensor = |(sum, (_, var)): (&mut Option<Vec<f32>>, &(String, Var))| {
            sum.take().map(|s| Tensor::from_vec(s, var.shape(), var.device())).transpose()
        };
        let all = self.all.iter_mut().zip(decoder.trainables()).map(tensor).collect::<Result<_, _>>()?;
        Ok(Gradients::of(all))
    }
}
