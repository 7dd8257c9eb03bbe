//! The experts of a layer, written with candle operations whose backward is tested.
//!
//! Owns the router's softmax over all experts, the choice of each token's experts, and the sum of their results by their
//! probabilities. The choice has no gradient; the probabilities have.

use super::activation::gated;
use crate::model::error::Error;
use crate::model::feed_forward::{Experts, Mlp};
use crate::model::layer::{Activation, ExpertSpec};
use crate::model::weights::trained_dtype;
use crate::nn::frozen;
use crate::nn::inference;
use crate::nn::linear::Linear;
use crate::nn::pass::Pass;
use crate::nn::routing::largest;
use candle_core::{D, DType, Tensor};

/// The sum of the chosen experts' results, of inputs `x` (…, H).
pub(super) fn forward(
    experts: &Experts<Linear>,
    spec: &ExpertSpec,
    activation: Activation,
    x: &Tensor,
    pass: &Pass,
) -> Result<Tensor, Error> {
    let shape = x.shape().clone();
    let x = x.reshape(((), shape.dims().last().copied().unwrap_or(1)))?;
    let probabilities = softmax(&experts.router.forward(&x, pass, None)?, pass)?;
    let (mask, tokens) = chosen(&probabilities, spec)?;
    let kept = probabilities.apply_op1(frozen::Times { constant: mask })?;
    let kept = if spec.normalised { kept.broadcast_div(&kept.sum_keepdim(D::Minus1)?)? } else { kept };
    let (n, count) = kept.dims2()?;
    let kept = kept.reshape(n * count)?;
    let mut sum = x.zeros_like()?;
    for (expert, (mlp, tokens)) in experts.each.iter().zip(tokens).enumerate() {
        if tokens.is_empty() {
            continue;
        }
        let places: Vec<u32> = tokens.iter().map(|token| token * count as u32 + expert as u32).collect();
        let factors = kept.index_select(&Tensor::new(places, x.device())?, 0)?.to_dtype(x.dtype())?.unsqueeze(1)?;
        let tokens = Tensor::new(tokens, x.device())?;
        let result = run(mlp, activation, &x.index_select(&tokens, 0)?, pass)?.broadcast_mul(&factors)?;
        sum = sum.index_add(&tokens, &result, 0)?;
    }
    if let Some((mlp, gate)) = &experts.shared {
        // sigmoid(z) as 1 / (1 + e^−z).
        let factor = (gate.forward(&x, pass, None)?.neg()?.exp()? + 1.0)?.recip()?;
        sum = (sum + run(mlp, activation, &x, pass)?.broadcast_mul(&factor)?)?;
    }
    Ok(sum.reshape(shape)?)
}

/// A feed-forward with a gate, of (N, H).
fn run(mlp: &Mlp<Linear>, activation: Activation, x: &Tensor, pass: &Pass) -> Result<Tensor, Error> {
    let [gate, up] = &mlp.gate_up[..] else {
        return Err(Error::Invalid("an expert has no gate and up; this is a bug".into()));
    };
    let inner = gated(&gate.forward(x, pass, None)?, &up.forward(x, pass, None)?, activation)?;
    mlp.down.forward(&inner, pass, None)
}

/// Softmax over the experts, (N, experts), never in 16 bits.
fn softmax(logits: &Tensor, pass: &Pass) -> Result<Tensor, Error> {
    let logits = logits.to_dtype(trained_dtype(logits.dtype()))?;
    if !pass.grad {
        return inference::softmax(&logits);
    }
    let top = logits.detach().max_keepdim(D::Minus1)?.neg()?.broadcast_as(logits.shape())?;
    let e = logits.apply_op1(frozen::Plus { constant: top.contiguous()? })?.exp()?;
    Ok(e.broadcast_div(&e.sum_keepdim(D::Minus1)?)?)
}

/// 1 where a token goes through an expert, (N, experts), and the tokens of each expert.
fn chosen(probabilities: &Tensor, spec: &ExpertSpec) -> Result<(Tensor, Vec<Vec<u32>>), Error> {
    let rows: Vec<Vec<f64>> = probabilities.detach().to_dtype(DType::F64)?.to_vec2()?;
    let mut mask = vec![0.0; rows.len() * spec.count];
    let mut tokens = vec![Vec::new(); spec.count];
    for (token, row) in rows.iter().enumerate() {
        for expert in largest(row, spec.chosen) {
            mask[token * spec.count + expert] = 1.0;
            tokens[expert].push(token as u32);
        }
    }
    let mask = Tensor::from_vec(mask, probabilities.shape(), probabilities.device())?;
    Ok((mask.to_dtype(probabilities.dtype())?, tokens))
}
