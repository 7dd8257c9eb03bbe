//! The leaf operations, composed of candle's operations, on any device.

use super::attention;
use super::leaf::{AdapterPart, DeviceLogitStats, HeadShape, LeafOps, LogitGradInput};
use crate::model::error::Error;
use crate::model::layer::Activation;
use candle_core::{D, DType, Tensor};

/// Every leaf operation, composed of candle's operations.
pub(super) const COMPOSED: LeafOps = LeafOps {
    norm,
    norm_back,
    rotate,
    attend: attention::forward,
    attend_back: attention::backward,
    gated,
    gated_back,
    add_f32,
    logit_stats,
    logits_backward,
    product_f32,
    add_product,
    stack_adapters,
};

fn f32(x: &Tensor) -> Result<Tensor, Error> {
    Ok(x.to_dtype(DType::F32)?)
}

fn norm(x: &Tensor, gamma: &Tensor, eps: f64, to: DType) -> Result<Tensor, Error> {
    let x = f32(x)?;
    let inverse = (x.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?.recip()?;
    Ok(x.broadcast_mul(&inverse)?.broadcast_mul(&f32(&gamma.detach())?)?.to_dtype(to)?)
}

/// With `u = x/r`, `r = √(mean x² + eps)`: `dx = (g − u·mean(g ⊙ u))/r` for `g = dy ⊙ gamma`, and `dgamma = Σ dy ⊙ u`.
fn norm_back(
    x: &Tensor,
    gamma: &Tensor,
    eps: f64,
    dy: &Tensor,
    on: Option<&Tensor>,
    trained: bool,
) -> Result<(Tensor, Option<Tensor>), Error> {
    let (x, dy) = (f32(x)?, f32(dy)?);
    let inverse = (x.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?.recip()?;
    let unit = x.broadcast_mul(&inverse)?;
    let g = dy.broadcast_mul(&f32(&gamma.detach())?)?;
    let along = (&g * &unit)?.mean_keepdim(D::Minus1)?;
    let dx = (g - unit.broadcast_mul(&along)?)?.broadcast_mul(&inverse)?;
    let dx = match on {
        None => dx,
        Some(on) => (dx + on)?,
    };
    let dgamma = if trained { Some((dy * unit)?.reshape(((), x.dim(D::Minus1)?))?.sum(0)?) } else { None };
    Ok((dx, dgamma))
}

pub(super) fn rotate(qkv: &Tensor, cos: &Tensor, sin: &Tensor, shape: HeadShape, back: bool) -> Result<Tensor, Error> {
    let (n, half) = cos.dims2()?;
    let turned = shape.queries() + shape.keys();
    let x = f32(&qkv.narrow(1, 0, turned)?)?.reshape((n, shape.heads + shape.kv_heads, shape.width))?;
    let (first, second) = (x.narrow(2, 0, half)?, x.narrow(2, half, half)?);
    let (cos, sin) = (cos.unsqueeze(1)?, sin.unsqueeze(1)?);
    let sin = if back { sin.neg()? } else { sin };
    let left = (first.broadcast_mul(&cos)? - second.broadcast_mul(&sin)?)?;
    let right = (second.broadcast_mul(&cos)? + first.broadcast_mul(&sin)?)?;
    // The rest of a head that is rotated in part.
    let rest = x.narrow(2, 2 * half, shape.width - 2 * half)?;
    let y = if rest.elem_count() > 0 { Tensor::cat(&[left, right, rest], 2)? } else { Tensor::cat(&[left, right], 2)? };
    let y = y.reshape((n, turned))?.to_dtype(qkv.dtype())?;
    Ok(Tensor::cat(&[y, qkv.narrow(1, turned, shape.keys())?], 1)?)
}

/// Both halves of (n, 2·w) in f32.
fn halves(x: &Tensor) -> Result<(Tensor, Tensor), Error> {
    let width = x.dim(1)? / 2;
    Ok((f32(&x.narrow(1, 0, width)?)?, f32(&x.narrow(1, width, width)?)?))
}

fn gated(gate_up: &Tensor, activation: Activation) -> Result<Tensor, Error> {
    let (gate, up) = halves(gate_up)?;
    let value = if activation == Activation::Silu { gate.silu()? } else { curve(&gate, activation)?.0 };
    Ok((value * up)?.to_dtype(gate_up.dtype())?)
}

/// `dup = d ⊙ act(gate)`, `dgate = d ⊙ up ⊙ act'(gate)`.
fn gated_back(gate_up: &Tensor, d: &Tensor, activation: Activation) -> Result<Tensor, Error> {
    let (gate, up) = halves(gate_up)?;
    let d = f32(d)?;
    let (value, slope) = curve(&gate, activation)?;
    let dgate = ((&d * up)? * slope)?;
    let dup = (d * value)?;
    Ok(Tensor::cat(&[dgate, dup], 1)?.to_dtype(gate_up.dtype())?)
}

/// The activation of x in f32, and its derivative.
fn curve(x: &Tensor, activation: Activation) -> Result<(Tensor, Tensor), Error> {
    Ok(match activation {
        Activation::Silu => {
            let s = (x.neg()?.exp()? + 1.0)?.recip()?;
            let silu = (x * &s)?;
            // s·(1 + x·(1 − s)) = s + silu − silu·s.
            let slope = ((&s + &silu)? - (&silu * &s)?)?;
            (silu, slope)
        }
        Activation::Gelu => {
            let normal = ((x * std::f64::consts::FRAC_1_SQRT_2)?.erf()? + 1.0)?.affine(0.5, 0.0)?;
            let density = ((x.sqr()? * -0.5)?.exp()? * (1.0 / std::f64::consts::TAU.sqrt()))?;
            ((x * &normal)?, (normal + (x * density)?)?)
        }
        Activation::GeluTanh => {
            // ½·(1 + tanh u) is σ(2u).
            let root = 2.0 * (2.0 / std::f64::consts::PI).sqrt();
            let square = x.sqr()?;
            let twice = ((x * root)? * square.affine(0.044_715, 1.0)?)?;
            let s = (twice.neg()?.exp()? + 1.0)?.recip()?;
            let value = (x * &s)?;
            let inner = square.affine(3.0 * 0.044_715 * root, root)?;
            let slope = (&s + ((&value * inner)? * (1.0 - &s)?)?)?;
            (value, slope)
        }
        Activation::Relu => (x.relu()?, f32(&x.gt(0f32)?)?),
        Activation::ReluSquared => {
            let value = x.relu()?;
            (value.sqr()?, (value * 2.0)?)
        }
        // Experts alone have it, and these are computed by the reference.
        Activation::Clamped(_) => {
            return Err(Error::Invalid("this backend computes no clamped SwiGLU; this is a bug".into()));
        }
    })
}

/// The logits minus their maximum, their exponentials and the sum of these.
fn shifted_exp(logits: &Tensor, inv_temp: f64) -> Result<(Tensor, Tensor, Tensor), Error> {
    let z = if inv_temp == 1.0 { logits.clone() } else { (logits * inv_temp)? };
    let shifted = z.broadcast_sub(&z.max_keepdim(D::Minus1)?)?;
    let e = shifted.exp()?;
    let sum = row_sum(&e)?;
    Ok((shifted, e, sum))
}

fn logit_stats(logits: &Tensor, target: &Tensor, inv_temp: f64, to: DType) -> Result<DeviceLogitStats, Error> {
    let n = target.elem_count();
    let (shifted, e, sum) = shifted_exp(logits, inv_temp)?;
    let log_sum = sum.log()?;
    let logp = (shifted.gather(&target.reshape((n, 1))?, 1)? - &log_sum)?;
    // H = log Σe − Σ e·z / Σe, both with the maximum subtracted.
    let entropy = (&log_sum - (row_sum(&(&e * &shifted)?)? / &sum)?)?;
    // NaN where the log-prob is NaN, which has no argmax.
    let top1 = logits.argmax(D::Minus1)?.eq(target)?.to_dtype(DType::F32)?.reshape((n, 1))?;
    let top1 = (top1 + (&logp * 0.0)?)?;
    let mean = (logits.mean_keepdim(D::Minus1)? * inv_temp)?;
    let collision = (row_sum(&e.sqr()?)?.log()? - (log_sum * 2.0)?)?;
    let stats = Tensor::cat(&[logp, entropy, top1, mean, collision], 1)?;
    Ok(DeviceLogitStats { stats, p: e.broadcast_div(&sum)?.to_dtype(to)? })
}

/// `inv_temp·(g·(onehot − p) − e·p ⊙ (log p + H))`.
fn logits_backward(logits: &Tensor, input: &LogitGradInput<'_>, to: DType) -> Result<Tensor, Error> {
    let n = input.target.elem_count();
    let (shifted, e, sum) = shifted_exp(logits, input.inv_temp)?;
    let p = e.broadcast_div(&sum)?;
    let mut d = p.broadcast_mul(&input.logp.neg()?)?;
    d = d.scatter_add(&input.target.reshape((n, 1))?, &input.logp.contiguous()?, 1)?;
    if let Some(entropy) = input.entropy {
        let log_p = shifted.broadcast_sub(&sum.log()?)?;
        let h = row_sum(&(&p * &log_p)?)?;
        d = (d - (p * log_p.broadcast_sub(&h)?)?.broadcast_mul(entropy)?)?;
    }
    Ok((d * input.inv_temp)?.to_dtype(to)?)
}

/// A tensor's sum over its last dimension, which stays as 1.
fn row_sum(x: &Tensor) -> Result<Tensor, Error> {
    Ok(x.sum_keepdim(D::Minus1)?)
}

fn add_f32(x: &Tensor, y: &Tensor) -> Result<Tensor, Error> {
    Ok((f32(x)? + f32(y)?)?)
}

fn product_f32(a: &Tensor, b: &Tensor) -> Result<Tensor, Error> {
    f32(&a.matmul(b)?)
}

fn add_product(y: Tensor, a: &Tensor, b: &Tensor) -> Result<Tensor, Error> {
    Ok((y + a.matmul(b)?)?)
}

/// Concatenates along the rows.
pub(super) fn stack(parts: &[Tensor]) -> Result<Tensor, Error> {
    if let [one] = parts { Ok(one.clone()) } else { Ok(Tensor::cat(parts, 0)?) }
}

fn stack_adapters(parts: &[AdapterPart<'_>], to: DType) -> Result<(Tensor, Tensor), Error> {
    let rank = |part: &AdapterPart<'_>| part.adapter.map_or(Ok(0), |(a, ..)| a.dim(0));
    let total: usize = parts.iter().map(rank).sum::<candle_core::Result<usize>>()?;
    let (mut a, mut b, mut first) = (Vec::new(), Vec::new(), 0);
    for part in parts {
        let Some((own_a, own_b, scale)) = part.adapter else {
            b.push(Tensor::zeros((part.rows, total), to, part.device)?);
            continue;
        };
        let r = rank(part)?;
        a.push(own_a.to_dtype(to)?);
        b.push((own_b * scale)?.to_dtype(to)?.pad_with_zeros(1, first, total - first - r)?);
        first += r;
    }
    Ok((stack(&a)?, stack(&b)?))
}
