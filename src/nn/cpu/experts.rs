//! The experts of a layer, forward and backward: the router's softmax over all experts, the tokens of each expert gathered, computed
//! and added to their sums by the router's factors.
//!
//! Nothing is saved: the backward recomputes the experts from the feed-forward's input.
//!
//! **Invariant.** A token's log-probs do not depend on the tokens beside it, to the bit: an expert's few rows are filled up with zeros,
//! since gemm sums in another order where a product is small.

use super::context::Context;
use super::gradients::CpuGradients;
use super::linear::{self, Columns};
use super::values::values;
use crate::model::error::Error;
use crate::model::feed_forward::{Experts, Mlp};
use crate::model::layer::ExpertSpec;
use crate::nn::linear::{Linear, Weight};
use crate::nn::routing::largest;
use tiebreak_kernels::arena::Buffer;
use tiebreak_kernels::gate;
use tiebreak_kernels::leaf;
use tiebreak_kernels::product::WriteMode;

/// Elements of a product up to which gemm has other algorithms.
const SMALLEST: usize = 16 * 16;

/// Which experts the tokens go through.
struct Routes {
    /// The router's softmax, (tokens, experts).
    probabilities: Vec<f32>,
    /// Of each expert its tokens with their factors, in order.
    tokens: Vec<Vec<(usize, f32)>>,
    /// What each token's factors were divided by.
    sums: Vec<f32>,
}

/// A feed-forward's activations: `[gate | up]` (n, 2·width), the product's input (n, width) and the output (n, H).
struct MlpActivations {
    gate_up: Buffer,
    inner: Buffer,
    out: Buffer,
}

/// (tokens, H) to (tokens, H).
pub(super) fn forward(
    context: &Context<'_>,
    experts: &Experts<Linear>,
    spec: &ExpertSpec,
    h: &[f32],
) -> Result<Buffer, Error> {
    let hidden = context.decoder.config().hidden;
    let routes = Routes::of(context, &experts.router, spec, h)?;
    let mut sum = context.arena.zeros(h.len());
    for (mlp, tokens) in experts.each.iter().zip(&routes.tokens).filter(|(_, tokens)| !tokens.is_empty()) {
        let made = run(context, mlp, &gathered(context, mlp, h, tokens)?)?;
        for ((token, factor), row) in tokens.iter().zip(made.out.chunks_exact(hidden)) {
            leaf::scale_add(&mut sum[token * hidden..(token + 1) * hidden], *factor, row);
        }
    }
    if let Some((mlp, gate)) = &experts.shared {
        let copy = filled(context, h, least_rows(mlp)?);
        let (factors, made) = (shared_factors(context, gate, h)?, run(context, mlp, copy.as_deref().unwrap_or(h))?);
        for ((sum, row), factor) in sum.chunks_exact_mut(hidden).zip(made.out.chunks_exact(hidden)).zip(&factors[..]) {
            leaf::scale_add(sum, *factor, row);
        }
    }
    Ok(sum)
}

/// Backward: writes dL/dh into `dh`, and adds gradients of trained parameters to `grads`; `upstream` is dL/d of the result.
pub(super) fn backward(
    context: &Context<'_>,
    experts: &Experts<Linear>,
    spec: &ExpertSpec,
    (h, upstream): (&[f32], &[f32]),
    dh: &mut [f32],
    grads: &mut CpuGradients,
) -> Result<(), Error> {
    let hidden = context.decoder.config().hidden;
    let routes = Routes::of(context, &experts.router, spec, h)?;
    dh.fill(0.0);
    // dL/d of the factors, (tokens, experts).
    let mut dfactors = vec![0.0; routes.probabilities.len()];
    for (expert, (mlp, tokens)) in experts.each.iter().zip(&routes.tokens).enumerate() {
        touch(mlp, grads);
        if tokens.is_empty() {
            continue;
        }
        let x = gathered(context, mlp, h, tokens)?;
        let made = run(context, mlp, &x)?;
        let mut dout = context.arena.zeros(x.len());
        let rows = dout.chunks_exact_mut(hidden).zip(made.out.chunks_exact(hidden));
        for ((token, factor), (dout, out)) in tokens.iter().zip(rows) {
            let upstream = &upstream[token * hidden..(token + 1) * hidden];
            dfactors[token * spec.count + expert] = dot(upstream, out);
            dout.iter_mut().zip(upstream).for_each(|(d, u)| *d = factor * u);
        }
        let mut dx = context.arena.take(x.len());
        run_back(context, mlp, (&x, &made), &dout, (&mut dx, WriteMode::Overwrite), grads)?;
        for ((token, _), row) in tokens.iter().zip(dx.chunks_exact(hidden)) {
            leaf::add(&mut dh[token * hidden..(token + 1) * hidden], row);
        }
    }
    if let Some((mlp, gate)) = &experts.shared {
        let copy = filled(context, h, least_rows(mlp)?);
        let x = copy.as_deref().unwrap_or(h);
        let (factors, made) = (shared_factors(context, gate, h)?, run(context, mlp, x)?);
        let (mut dout, mut dz) = (context.arena.zeros(x.len()), context.arena.take(factors.len()));
        let rows = dout.chunks_exact_mut(hidden).zip(made.out.chunks_exact(hidden)).zip(upstream.chunks_exact(hidden));
        for ((((dout, out), upstream), factor), dz) in rows.zip(&factors[..]).zip(&mut dz[..]) {
            *dz = dot(upstream, out) * factor * (1.0 - factor);
            dout.iter_mut().zip(upstream).for_each(|(d, u)| *d = factor * u);
        }
        let mut dx = context.arena.take(x.len());
        run_back(context, mlp, (x, &made), &dout, (&mut dx, WriteMode::Overwrite), grads)?;
        leaf::add(dh, &dx[..h.len()]);
        linear::backward(context, gate, (h, None), (&dz, Columns::all(1)), (&mut *dh, WriteMode::Add), grads)?;
    }
    let dlogits = routes.logits_back(&dfactors, spec);
    let all = Columns::all(spec.count);
    linear::backward(context, &experts.router, (h, None), (&dlogits, all), (dh, WriteMode::Add), grads)
}

impl Routes {
    fn of(context: &Context<'_>, router: &Linear, spec: &ExpertSpec, h: &[f32]) -> Result<Self, Error> {
        let hidden = context.decoder.config().hidden;
        let n = h.len() / hidden;
        let copy = filled(context, h, rows_for(spec.count));
        let h = copy.as_deref().unwrap_or(h);
        let mut probabilities = vec![0.0; h.len() / hidden * spec.count];
        let all = Columns::all(spec.count);
        linear::forward(context, router, h, &mut probabilities, all, WriteMode::Overwrite)?;
        probabilities.truncate(n * spec.count);
        let (mut tokens, mut sums) = (vec![Vec::new(); spec.count], Vec::with_capacity(n));
        for (token, row) in probabilities.chunks_exact_mut(spec.count).enumerate() {
            let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let mut sum = 0.0;
            for p in row.iter_mut() {
                *p = (*p - top).exp();
                sum += *p;
            }
            for p in row.iter_mut() {
                *p /= sum;
            }
            let chosen = largest(row, spec.chosen);
            let over = if spec.normalised { chosen.iter().map(|expert| row[*expert]).sum() } else { 1.0 };
            for expert in chosen {
                tokens[expert].push((token, row[expert] / over));
            }
            sums.push(over);
        }
        Ok(Self { probabilities, tokens, sums })
    }

    /// dL/d of the router's logits from dL/d of the factors, which is 0 where an expert was not chosen.
    fn logits_back(&self, dfactors: &[f32], spec: &ExpertSpec) -> Vec<f32> {
        let mut dp = dfactors.to_vec();
        if spec.normalised {
            // A factor is p / Σp over the chosen ones.
            let mut means = vec![0.0; self.sums.len()];
            for (expert, tokens) in self.tokens.iter().enumerate() {
                for (token, factor) in tokens {
                    means[*token] += factor * dfactors[token * spec.count + expert];
                }
            }
            for (expert, tokens) in self.tokens.iter().enumerate() {
                for (token, _) in tokens {
                    let d = &mut dp[token * spec.count + expert];
                    *d = (*d - means[*token]) / self.sums[*token];
                }
            }
        }
        for (dp, p) in dp.chunks_exact_mut(spec.count).zip(self.probabilities.chunks_exact(spec.count)) {
            let mean = dot(dp, p);
            dp.iter_mut().zip(p).for_each(|(d, p)| *d = p * (*d - mean));
        }
        dp
    }
}

fn run(context: &Context<'_>, mlp: &Mlp<Linear>, x: &[f32]) -> Result<MlpActivations, Error> {
    let c = context.decoder.config();
    let n = x.len() / c.hidden;
    let width = mlp.down.weight.stored().dim(1)?;
    let mut gate_up = context.arena.take(n * 2 * width);
    for (i, module) in mlp.gate_up.iter().enumerate() {
        let at = Columns { stride: 2 * width, first: i * width };
        linear::forward(context, module, x, &mut gate_up, at, WriteMode::Overwrite)?;
    }
    let mut inner = context.arena.take(n * width);
    gate::gated(c.layer.activation, &gate_up, width, &mut inner);
    let mut out = context.arena.take(x.len());
    linear::forward(context, &mlp.down, &inner, &mut out, Columns::all(c.hidden), WriteMode::Overwrite)?;
    Ok(MlpActivations { gate_up, inner, out })
}

fn run_back(
    context: &Context<'_>,
    mlp: &Mlp<Linear>,
    (x, made): (&[f32], &MlpActivations),
    dout: &[f32],
    (dx, write): (&mut [f32], WriteMode),
    grads: &mut CpuGradients,
) -> Result<(), Error> {
    let c = context.decoder.config();
    let width = mlp.down.weight.stored().dim(1)?;
    let mut dinner = context.arena.take(made.inner.len());
    let to = (&mut dinner[..], WriteMode::Overwrite);
    linear::backward(context, &mlp.down, (&made.inner, None), (dout, Columns::all(c.hidden)), to, grads)?;
    let mut dboth = context.arena.take(made.gate_up.len());
    gate::gated_back(c.layer.activation, &made.gate_up, width, &dinner, &mut dboth);
    for (i, module) in mlp.gate_up.iter().enumerate() {
        let at = Columns { stride: 2 * width, first: i * width };
        let write = if i == 0 { write } else { WriteMode::Add };
        linear::backward(context, module, (x, None), (&dboth, at), (&mut *dx, write), grads)?;
    }
    Ok(())
}

/// The sigmoid of the shared expert's gate, one number for each token.
fn shared_factors(context: &Context<'_>, gate: &Linear, h: &[f32]) -> Result<Buffer, Error> {
    let hidden = context.decoder.config().hidden;
    let weight = values(gate.weight.stored())?;
    let mut factors = context.arena.take(h.len() / hidden);
    for (factor, row) in factors.iter_mut().zip(h.chunks_exact(hidden)) {
        *factor = 1.0 / (1.0 + (-dot(row, &weight)).exp());
    }
    Ok(factors)
}

/// Rows from which a product with so many outputs is not among the smallest.
fn rows_for(out: usize) -> usize {
    (SMALLEST / out.max(1) + 1).max(2)
}

fn least_rows(mlp: &Mlp<Linear>) -> Result<usize, Error> {
    let (out, width) = mlp.down.weight.stored().dims2()?;
    Ok(rows_for(out.min(width)))
}

/// The rows with zeros behind them, if there are fewer than `least`.
fn filled(context: &Context<'_>, h: &[f32], least: usize) -> Option<Buffer> {
    let all = least * context.decoder.config().hidden;
    (h.len() < all).then(|| {
        let mut x = context.arena.zeros(all);
        x[..h.len()].copy_from_slice(h);
        x
    })
}

/// The inputs of these tokens, with zeros behind them where they are few.
fn gathered(context: &Context<'_>, mlp: &Mlp<Linear>, h: &[f32], tokens: &[(usize, f32)]) -> Result<Buffer, Error> {
    let hidden = context.decoder.config().hidden;
    let mut x = context.arena.zeros(tokens.len().max(least_rows(mlp)?) * hidden);
    for ((token, _), row) in tokens.iter().zip(x.chunks_exact_mut(hidden)) {
        row.copy_from_slice(&h[token * hidden..(token + 1) * hidden]);
    }
    Ok(x)
}

/// Gives an expert's trained parameters a gradient, 0 at first: also where no token goes through it, since the optimizer's moments
/// decay in all, as where the experts of a layer are one parameter.
fn touch(mlp: &Mlp<Linear>, grads: &mut CpuGradients) {
    let modules = mlp.gate_up.iter().chain([&mlp.down]);
    for var in modules.flat_map(|m| [Some(&m.weight), m.bias.as_ref()]).flatten().filter_map(Weight::trained) {
        let _ = grads.of(var);
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
