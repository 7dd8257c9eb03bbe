//! Token log-probs in chunks of logits, and the scalar head; forward and backward.
//!
//! Owns everything after the last layer's output. Computes no logits of positions that are not scored.

use super::graph::Graph;
use super::padded::PaddedBatch;
use crate::model::error::Error;
use crate::model::weights::trained_dtype;
use crate::nn::contract::{RowGradient, RowScores, TokenScores, padded};
use crate::nn::decoder::Decoder;
use crate::nn::divergence::{CHUNK, log_softmax, read, wide};
use crate::nn::inference;
use crate::nn::logit_curve::{capped, slope};
use crate::nn::pass::Pass;
use candle_core::{D, DType, Tensor, Var};

/// dL/d(last layer's output), (B·T, H); adds the gradients of both heads and the final norm.
///
/// With p = softmax of the logits z, dlogp/dz = onehot − p, so the gradient of the state after the final norm is
/// `g·(W[target] − p·W)`, and the head's is Σ g·(onehot − p)ᵀ·state. The entropy's is dH/dz = −p⊙(log p + H). With a cap on the
/// logits, dlogp/dz is multiplied by the cap's slope first.
pub(super) fn backward(
    decoder: &Decoder,
    graph: &mut Graph,
    last: &Tensor,
    s: &PaddedBatch,
    g: &[RowGradient],
    pass: &Pass,
) -> Result<Tensor, Error> {
    let (b, t, h) = last.dims3()?;
    let flat = last.reshape((b * t, h))?;
    let weight = decoder.head()?;
    let (device, dtype) = (last.device().clone(), last.dtype());
    let column = |x: &[f64]| -> Result<Tensor, Error> {
        Ok(Tensor::new(x, &device)?.to_dtype(trained_dtype(dtype))?.reshape((x.len(), 1))?)
    };
    let logp: Vec<f64> = g.iter().flat_map(|row| row.logp.iter().map(|x| x * s.inv_temp)).collect();
    let entropy: Vec<f64> = padded(g, &s.counts, |row| &row.entropy).iter().map(|x| x * s.inv_temp).collect();
    let value = padded(g, &s.value_counts, |row| &row.value);
    let mut total = Tensor::zeros((b * t, h), dtype, &device)?;
    let trained = decoder.trained_head().filter(|var| graph.trains(var));
    for start in (0..s.from.len()).step_by(CHUNK) {
        let end = (start + CHUNK).min(s.from.len());
        if logp[start..end].iter().chain(&entropy[start..end]).all(|x| *x == 0.0) {
            continue;
        }
        let n = end - start;
        let from = Tensor::new(&s.from[start..end], &device)?;
        let target = Tensor::new(&s.target[start..end], &device)?;
        let g = column(&logp[start..end])?;
        let x = Var::from_tensor(&flat.index_select(&from, 0)?)?;
        let state = decoder.norm(x.as_tensor(), pass)?;
        let capped = capped(decoder.logits(), &wide(&state.detach().matmul(&weight.t()?)?)?)?;
        let slope = slope(decoder.logits(), &capped)?;
        let logits = tempered(capped, s.inv_temp)?;
        let p = inference::softmax(&logits)?;
        let bent = if entropy[start..end].iter().any(|e| *e != 0.0) {
            let log_p = log_softmax(&logits)?;
            let h = (&p * &log_p)?.sum_keepdim(D::Minus1)?.neg()?;
            Some(p.mul(&log_p.broadcast_add(&h)?)?.broadcast_mul(&column(&entropy[start..end])?.neg()?)?)
        } else {
            None
        };
        let through = |dlogits: &Tensor| wide(&dlogits.to_dtype(dtype)?.matmul(&weight)?);
        let dlogits = || -> Result<Tensor, Error> {
            let ones = g.contiguous()?;
            let mut dlogits = p.broadcast_mul(&g.neg()?)?.scatter_add(&target.reshape((n, 1))?, &ones, 1)?;
            if let Some(bent) = &bent {
                dlogits = (dlogits + bent)?;
            }
            Ok(match &slope {
                Some(slope) => (dlogits * slope)?,
                None => dlogits,
            })
        };
        let du = if slope.is_some() {
            through(&dlogits()?)?
        } else {
            let du = (wide(&weight.index_select(&target, 0)?)? - through(&p)?)?.broadcast_mul(&g)?;
            match &bent {
                Some(bent) => (du + through(bent)?)?,
                None => du,
            }
        };
        if let Some(head) = trained {
            let dlogits = dlogits()?;
            let dw = dlogits.to_dtype(dtype)?.t()?.matmul(&state.detach())?;
            graph.add(head, &wide(&dw)?)?;
        }
        let dx = graph.chain(&state, &du.to_dtype(dtype)?, &x)?;
        total = total.index_add(&from, &dx, 0)?;
    }
    if let Some(score) = decoder.score().filter(|_| value.iter().any(|x| *x != 0.0)) {
        let at = Tensor::new(s.valued.as_slice(), &device)?;
        let g = column(&value)?;
        let x = Var::from_tensor(&flat.index_select(&at, 0)?)?;
        let state = decoder.norm(x.as_tensor(), pass)?;
        if graph.trains(score) {
            graph.add(score, &g.t()?.matmul(&wide(&state.detach())?)?)?;
        }
        let dx = graph.chain(&state, &g.matmul(&score.as_detached_tensor())?.to_dtype(dtype)?, &x)?;
        total = total.index_add(&at, &dx, 0)?;
    }
    Ok(total)
}

/// Log-prob, entropy, top-1 and mean logit of every scored token, and the scalar head at every valued position.
pub(super) fn forward(decoder: &Decoder, last: &Tensor, s: &PaddedBatch, pass: &Pass) -> Result<TokenScores, Error> {
    let (b, t, h) = last.dims3()?;
    let flat = last.reshape((b * t, h))?;
    let weight = decoder.head()?.t()?;
    let mut all = RowScores::default();
    for start in (0..s.from.len()).step_by(CHUNK) {
        let end = (start + CHUNK).min(s.from.len());
        let from = Tensor::new(&s.from[start..end], last.device())?;
        let state = decoder.norm(&flat.index_select(&from, 0)?, pass)?;
        let logits = tempered(capped(decoder.logits(), &wide(&state.matmul(&weight)?)?)?, s.inv_temp)?;
        measure(&logits, &s.target[start..end], &mut all)?;
    }
    if !s.valued.is_empty() {
        let Some(score) = decoder.score() else {
            return Err(Error::Invalid("the model has no scalar head, so it has no values".into()));
        };
        let at = Tensor::new(s.valued.as_slice(), last.device())?;
        let state = decoder.norm(&flat.index_select(&at, 0)?, pass)?;
        all.value = read(&wide(&state)?.matmul(&score.as_detached_tensor().t()?)?)?;
    }
    let mut rows = Vec::with_capacity(s.counts.len());
    let (mut at, mut value_at) = (0, 0);
    for (n, v) in s.counts.iter().zip(&s.value_counts) {
        let span = at..at + n;
        rows.push(RowScores {
            logp: all.logp[span.clone()].to_vec(),
            entropy: all.entropy[span.clone()].to_vec(),
            top1: all.top1[span.clone()].to_vec(),
            mean_logit: all.mean_logit[span.clone()].to_vec(),
            collision: all.collision[span].to_vec(),
            value: all.value[value_at..value_at + v].to_vec(),
        });
        at += n;
        value_at += v;
    }
    Ok(TokenScores { rows })
}

fn tempered(logits: Tensor, inv_temp: f64) -> Result<Tensor, Error> {
    Ok(if inv_temp == 1.0 { logits } else { logits.affine(inv_temp, 0.0)? })
}

/// Appends the scores of `targets` under `logits` (n, V) to `out`.
fn measure(logits: &Tensor, targets: &[u32], out: &mut RowScores) -> Result<(), Error> {
    let n = targets.len();
    let index = Tensor::new(targets, logits.device())?.reshape((n, 1))?;
    let top = logits.max_keepdim(D::Minus1)?;
    let shifted = logits.broadcast_sub(&top)?;
    let e = shifted.exp()?;
    let sum = e.sum_keepdim(D::Minus1)?;
    let log_sum = sum.log()?;
    let logp = (shifted.gather(&index, 1)? - &log_sum)?;
    // H = log Σe − Σ e·z / Σe, both with the maximum subtracted.
    let entropy = (&log_sum - ((&e * &shifted)?.sum_keepdim(D::Minus1)? / &sum)?)?;
    let mean = logits.mean(D::Minus1)?;
    let collision = (e.sqr()?.sum_keepdim(D::Minus1)?.log()? - (&log_sum * 2.0)?)?;
    let first = logits.argmax(D::Minus1)?.to_dtype(DType::U32)?.to_vec1::<u32>()?;
    out.logp.extend(read(&logp)?);
    out.entropy.extend(read(&entropy)?);
    out.mean_logit.extend(read(&mean)?);
    out.collision.extend(read(&collision)?);
    out.top1.extend(first.iter().zip(targets).map(|(a, b)| a == b));
    Ok(())
}
