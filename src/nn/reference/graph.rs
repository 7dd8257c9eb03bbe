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

    /// Runs backward from tensors, each with its gradient, and adds the trainables' gradients.
    pub(super) fn seed(&mut self, outputs: &[(&Tensor, &Tensor)]) -> Result<(), Error> {
        let grads = seeded(outputs)?.backward()?;
        self.collect(&grads)
    }

    /// As [`Graph::seed`] from one tensor, and returns the gradient of `x`.
    pub(super) fn chain(&mut self, y: &Tensor, upstream: &Tensor, x: &Var) -> Result<Tensor, Error> {
        let mut all = self.chain_all(&[(y, upstream)], &[x])?;
        all.pop().ok_or_else(|| Error::Invalid("no gradient reached a layer's input".into()))
    }

    /// As [`Graph::seed`], and returns the gradient of each of `inputs`.
    pub(super) fn chain_all(&mut self, outputs: &[(&Tensor, &Tensor)], inputs: &[&Var]) -> Result<Vec<Tensor>, Error> {
        let mut grads = seeded(outputs)?.backward()?;
        let taken: Vec<Option<Tensor>> = inputs.iter().map(|x| grads.remove(x.as_tensor())).collect();
        self.collect(&grads)?;
        let none = || Error::Invalid("no gradient reached a layer's input".into());
        taken.into_iter().map(|dx| dx.ok_or_else(none)).collect()
    }

    fn collect(&mut self, grads: &GradStore) -> Result<(), Error> {
        let trained = grads.get_ids().filter_map(|id| Some((*self.index.get(id)?, grads.get_id(*id)?)));
        let trained: Vec<(usize, &Tensor)> = trained.collect();
        self.gradients.add_all(&trained)
    }
}

/// The sum of `Σ y ⊙ upstream`, whose gradient with respect to each y is its `upstream`.
fn seeded(outputs: &[(&Tensor, &Tensor)]) -> Result<Tensor, Error> {
    let one = |(y, upstream): &(&Tensor, &Tensor)| -> Result<Tensor, Error> {
        let constant = upstream.detach();
        Ok(y.contiguous()?.apply_op1(frozen::Times { constant })?.sum_all()?)
    };
    let mut sums = outputs.iter().map(one);
    let first = sums.next().ok_or_else(|| Error::Invalid("a backward pass from nothing; this is a bug".into()))??;
    sums.try_fold(first, |all, more| Ok((all + more?)?))
}
