//! Gradients from candle's autograd, accumulated for each trainable.

use crate::model::error::Error;
use crate::nn::contract::Gradients;
use crate::nn::decoder::Decoder;
use crate::nn::frozen;
use crate::nn::linear::{Linear, Weight};
use candle_core::backprop::GradStore;
use candle_core::{Tensor, TensorId, Var};
use std::collections::HashMap;

/// dL/dθ so far, and the index of each trainable by its tensor id.
pub(super) struct Graph {
    gradients: Gradients,
    index: HashMap<TensorId, usize>,
}

impl Graph {
    /// No gradients yet, for the trainables of `decoder`.
    pub(super) fn new(decoder: &Decoder) -> Self {
        let index = decoder.trainables().iter().enumerate().map(|(i, (_, v))| (v.as_tensor().id(), i)).collect();
        Self { gradients: Gradients::none(decoder.trainables().len()), index }
    }

    /// Returns the gradients and resets them.
    pub(super) fn take(&mut self) -> Gradients {
        let fresh = Gradients::none(self.index.len());
        std::mem::replace(&mut self.gradients, fresh)
    }

    /// Gives an expert's modules that no token went through a gradient of 0, if others of the layer have one: the optimizer's moments
    /// decay in all, as where the experts of a layer are one parameter.
    pub(super) fn fill<'a>(&mut self, modules: impl Iterator<Item = &'a Linear>) -> Result<(), Error> {
        let trained = |module: &'a Linear| [Some(&module.weight), module.bias.as_ref()];
        let vars: Vec<&Var> = modules.flat_map(trained).flatten().filter_map(Weight::trained).collect();
        let number = |var: &'a Var| self.index.get(&var.as_tensor().id()).map(|i| (*i, var));
        let all: Vec<(usize, &Var)> = vars.into_iter().filter_map(number).collect();
        let (some, none): (Vec<_>, Vec<_>) = all.into_iter().partition(|(i, _)| self.gradients.get(*i).is_some());
        for (i, var) in none.into_iter().filter(|_| !some.is_empty()) {
            self.gradients.add_all(&[(i, &var.as_detached_tensor().zeros_like()?)])?;
        }
        Ok(())
    }

    /// Whether `var` is among the trainables.
    pub(super) fn trains(&self, var: &Var) -> bool {
        self.index.contains_key(&var.as_tensor().id())
    }

    /// Adds to the gradient of `var`, if it is trained.
    pub(super) fn add(&mut self, var: &Var, more: &Tensor) -> Result<(), Error> {
        match self.index.get(&var.as_tensor().id()) {
            Some(i) => self.gradients.add_all(&[(*i, more)]),
            None => Ok(()),
        }
    }

    /// Runs backward from `y` with the gradient `upstream` and adds the trainables' gradients.
    pub(super) fn seed(&mut self, y: &Tensor, upstream: &Tensor) -> Result<(), Error> {
        let grads = seeded(y, upstream)?.backward()?;
        self.collect(&grads)
    }

    /// As [`Graph::seed`], and returns the gradient of `x`.
    pub(super) fn chain(&mut self, y: &Tensor, upstream: &Tensor, x: &Var) -> Result<Tensor, Error> {
        let mut grads = seeded(y, upstream)?.backward()?;
        let dx = grads.remove(x.as_tensor());
        self.collect(&grads)?;
        dx.ok_or_else(|| Error::Invalid("no gradient reached a layer's input".into()))
    }

    fn collect(&mut self, grads: &GradStore) -> Result<(), Error> {
        let trained = grads.get_ids().filter_map(|id| Some((*self.index.get(id)?, grads.get_id(*id)?)));
        let trained: Vec<(usize, &Tensor)> = trained.collect();
        self.gradients.add_all(&trained)
    }
}

/// `Σ y ⊙ upstream`, whose gradient with respect to y is `upstream`.
fn seeded(y: &Tensor, upstream: &Tensor) -> Result<Tensor, Error> {
    let constant = upstream.detach();
    Ok(y.contiguous()?.apply_op1(frozen::Times { constant })?.sum_all()?)
}
