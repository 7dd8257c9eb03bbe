//! The feed-forward of a layer of the packed decoder: one for every token, or experts of which the router chooses some.
//!
//! **Invariant.** A token's experts are added in the order of their numbers, so that its result does not depend on other tokens.

use super::linear::{PackedLinear, apart, linear};
use crate::model::config::Config;
use crate::model::feed_forward::{Experts, FeedForward, Mlp};
use crate::model::layer::ExpertSpec;
use crate::nn::routing::largest;
use tiebreak_kernels::gate;
use tiebreak_kernels::leaf;

/// (n, H) to (n, H).
pub(super) fn feed_forward(c: &Config, layer: &FeedForward<PackedLinear>, x: &[f32]) -> Vec<f32> {
    match (layer, &c.layer.experts) {
        (FeedForward::Experts(experts), Some(spec)) => routed(c, experts, spec, x),
        (FeedForward::Experts(Experts { each, .. }), None) => each.iter().flat_map(|mlp| run(c, mlp, x)).collect(),
        (FeedForward::Dense(mlp), _) => run(c, mlp, x),
    }
}

fn run(c: &Config, mlp: &Mlp<PackedLinear>, x: &[f32]) -> Vec<f32> {
    let modules: Vec<&PackedLinear> = mlp.gate_up.iter().collect();
    let outputs = linear(&modules, x);
    let ff = mlp.down.weight.width();
    let both = if c.layer.gated { apart(outputs, &[ff, ff]) } else { outputs };
    let mut inner = vec![0.0; both[0].len()];
    // Without a gate the activation multiplies 1.
    let ones = if c.layer.gated { Vec::new() } else { vec![1.0; inner.len()] };
    gate::gated_split(c.layer.activation, &both[0], both.get(1).unwrap_or(&ones), &mut inner);
    linear(&[&mlp.down], &inner).concat()
}

fn routed(c: &Config, experts: &Experts<PackedLinear>, spec: &ExpertSpec, x: &[f32]) -> Vec<f32> {
    let mut tokens = vec![Vec::new(); spec.count];
    let logits = linear(&[&experts.router], x).concat();
    for (token, logits) in logits.chunks_exact(spec.count).enumerate() {
        for (expert, factor) in factors(logits, spec) {
            tokens[expert].push((token, factor));
        }
    }
    let mut sum = vec![0.0; x.len()];
    let at = |token: usize| token * c.hidden..(token + 1) * c.hidden;
    for (mlp, tokens) in experts.each.iter().zip(tokens).filter(|(_, tokens)| !tokens.is_empty()) {
        let inputs: Vec<f32> = tokens.iter().flat_map(|(token, _)| &x[at(*token)]).copied().collect();
        let results = run(c, mlp, &inputs);
        for ((token, factor), result) in tokens.into_iter().zip(results.chunks_exact(c.hidden)) {
            leaf::scale_add(&mut sum[at(token)], factor, result);
        }
    }
    if let Some((mlp, gate)) = &experts.shared {
        let factors = linear(&[gate], x).concat();
        for ((sum, result), z) in sum.chunks_exact_mut(c.hidden).zip(run(c, mlp, x).chunks_exact(c.hidden)).zip(factors)
        {
            leaf::scale_add(sum, 1.0 / (1.0 + (-z).exp()), result);
        }
    }
    sum
}

/// The chosen experts of a token in ascending order, with the factor on each.
fn factors(logits: &[f32], spec: &ExpertSpec) -> Vec<(usize, f32)> {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut all: Vec<f32> = logits.iter().map(|z| (z - top).exp()).collect();
    let sum: f32 = all.iter().sum();
    for p in &mut all {
        *p /= sum;
    }
    let chosen = largest(&all, spec.chosen);
    let over = if spec.normalised { chosen.iter().map(|expert| all[*expert]).sum() } else { 1.0 };
    chosen.into_iter().map(|expert| (expert, all[expert] / over)).collect()
}
