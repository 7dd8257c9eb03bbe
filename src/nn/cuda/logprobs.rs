//! Token log-probs in chunks of logits, and the scalar head; forward and backward.
//!
//! With p the softmax of the logits `z = inv_temp · W·h`, `dlogp/dh = inv_temp · (W[y] − Σ_v p_v W_v)`: the forward
//! saves this `u` instead of the logits, and the backward is `g · u`. If the head is trained, the logits have a soft cap or the
//! entropy has a gradient, the logits are recomputed.

use super::gradients::{CudaGradients, Slot};
use super::layout::DeviceLayout;
use super::leaf::{LeafOps, LogitGradInput};
use super::norm;
use crate::model::error::Error;
use crate::nn::contract::{RowGradient, RowScores, TokenScores, padded};
use crate::nn::decoder::Decoder;
use crate::nn::logit_curve::{capped, slope};
use crate::nn::memory::logits_chunk;
use candle_core::{DType, Tensor};

/// `u` of each scored token, (n, H) in f32, unless the head is trained or the logits have a soft cap.
pub(super) struct CudaSavedLogprobs(Option<Tensor>);

/// The hidden states after the final norm at positions `at`, (n, H).
pub(super) fn states(ops: &LeafOps, decoder: &Decoder, last: &Tensor, at: &Tensor) -> Result<Tensor, Error> {
    norm::forward(ops, decoder.last_norm(), &last.index_select(at, 0)?, decoder.dtype())
}

/// The scores of every scored token and valued position; with `train` also what the backward needs. The pass's only
/// read-back from the device is here.
pub(super) fn forward(
    ops: &LeafOps,
    decoder: &Decoder,
    layout: &DeviceLayout,
    last: &Tensor,
    train: bool,
) -> Result<(TokenScores, CudaSavedLogprobs), Error> {
    let dtype = decoder.dtype();
    let n = layout.places.from.len();
    let kept = train && decoder.trained_head().is_none() && decoder.logits().cap.is_none();
    let (mut stats_parts, mut u) = (Vec::new(), Vec::new());
    if n > 0 {
        let head = decoder.head()?;
        let state = states(ops, decoder, last, &layout.from)?;
        let columns = head.t()?;
        let rows = logits_chunk(decoder.config().vocab);
        for first in (0..n).step_by(rows) {
            let rows = rows.min(n - first);
            let target = layout.target.narrow(0, first, rows)?;
            let logits = capped(decoder.logits(), &(ops.product_f32)(&state.narrow(0, first, rows)?, &columns)?)?;
            let stats = (ops.logit_stats)(&logits, &target, layout.places.inv_temp, dtype)?;
            drop(logits);
            if kept {
                let own = head.index_select(&target, 0)?.to_dtype(DType::F32)?;
                u.push(((own - (ops.product_f32)(&stats.p, &head)?)? * layout.places.inv_temp)?);
            }
            stats_parts.push(stats.stats.flatten_all()?);
        }
    }
    if !layout.places.valued.is_empty() {
        let Some(score) = decoder.score() else {
            return Err(Error::Invalid("the model has no scalar head, so it has no values".into()));
        };
        let state = states(ops, decoder, last, &layout.valued)?.to_dtype(DType::F32)?;
        let score = score.as_detached_tensor().to_dtype(DType::F32)?;
        stats_parts.push(state.matmul(&score.t()?)?.flatten_all()?);
    }
    let all: Vec<f32> = if stats_parts.is_empty() { Vec::new() } else { Tensor::cat(&stats_parts, 0)?.to_vec1()? };
    let (flat_stats, values) = all.split_at(n * 5);
    let mut token_stats = flat_stats.chunks_exact(5).map(|t| [t[0], t[1], t[2], t[3], t[4]].map(f64::from));
    let mut values = values.iter().copied().map(f64::from);
    let mut rows = Vec::new();
    for (scored, valued) in layout.counts() {
        let mut row = RowScores::default();
        for [logp, entropy, top1, mean, collision] in token_stats.by_ref().take(scored) {
            row.logp.push(logp);
            row.entropy.push(entropy);
            row.top1.push(top1 > 0.5);
            row.mean_logit.push(mean);
            row.collision.push(collision);
        }
        row.value.extend(values.by_ref().take(valued));
        rows.push(row);
    }
    let u = if u.is_empty() { None } else { Some(Tensor::cat(&u, 0)?) };
    Ok((TokenScores { rows }, CudaSavedLogprobs(u)))
}

/// dL/d(the last layer's output), (tokens, H); adds the gradients of both heads and the final norm to `grads`.
pub(super) fn backward(
    ops: &LeafOps,
    decoder: &Decoder,
    layout: &DeviceLayout,
    last: &Tensor,
    CudaSavedLogprobs(u): CudaSavedLogprobs,
    g: &[RowGradient],
    grads: &mut CudaGradients,
) -> Result<Tensor, Error> {
    let device = decoder.device();
    let column = |x: &[f64]| -> Result<Tensor, Error> {
        let x: Vec<f32> = x.iter().map(|x| *x as f32).collect();
        let n = x.len();
        Ok(Tensor::from_vec(x, (n, 1), device)?)
    };
    let (scored, valued): (Vec<usize>, Vec<usize>) = layout.counts().unzip();
    let logp: Vec<f64> = g.iter().flat_map(|row| row.logp.iter().copied()).collect();
    let entropy = padded(g, &scored, |row| &row.entropy);
    let value = padded(g, &valued, |row| &row.value);
    // dL/d(state after the final norm) of every token, summed where a shared position is scored for several rows.
    let mut dstate = Tensor::zeros((layout.places.tokens(), decoder.config().hidden), DType::F32, device)?;
    match u.filter(|_| entropy.iter().all(|e| *e == 0.0)) {
        Some(u) => dstate = dstate.index_add(&layout.from, &u.broadcast_mul(&column(&logp)?)?, 0)?,
        None if logp.iter().chain(&entropy).all(|x| *x == 0.0) => {}
        None => dstate = backward_through_logits(ops, decoder, layout, last, (&logp, &entropy), dstate, grads)?,
    }
    if let Some(score) = decoder.score().filter(|_| value.iter().any(|x| *x != 0.0)) {
        let g = column(&value)?;
        let weight = score.as_detached_tensor().to_dtype(DType::F32)?;
        dstate = dstate.index_add(&layout.valued, &g.matmul(&weight)?, 0)?;
        let state = states(ops, decoder, last, &layout.valued)?.to_dtype(DType::F32)?;
        grads.add_all(&[(Slot::Score, g.t()?.matmul(&state)?)])?;
    }
    let back = norm::backward(ops, decoder.last_norm(), last, &dstate, None)?;
    for (slot, gradient) in [(Slot::LastNorm, back.dgamma), (Slot::LastNormBias, back.dbias)] {
        if let Some(gradient) = gradient {
            grads.add_all(&[(slot, gradient)])?;
        }
    }
    Ok(back.dx)
}

/// dL/d(states after the final norm) from dL/dlogits, which a trained head needs too.
fn backward_through_logits(
    ops: &LeafOps,
    decoder: &Decoder,
    layout: &DeviceLayout,
    last: &Tensor,
    (logp, entropy): (&[f64], &[f64]),
    mut dstate: Tensor,
    grads: &mut CudaGradients,
) -> Result<Tensor, Error> {
    let (dtype, device) = (decoder.dtype(), decoder.device());
    let head = decoder.head()?;
    let columns = head.t()?;
    let state = states(ops, decoder, last, &layout.from)?;
    let (n, rows) = (logp.len(), logits_chunk(decoder.config().vocab));
    let column = |x: &[f64]| -> Result<Tensor, Error> {
        let x: Vec<f32> = x.iter().map(|x| *x as f32).collect();
        Ok(Tensor::from_vec(x, (n, 1), device)?)
    };
    let (all_logp, all_entropy) = (column(logp)?, column(entropy)?);
    for first in (0..n).step_by(rows) {
        let rows = rows.min(n - first);
        let here = first..first + rows;
        if logp[here.clone()].iter().chain(&entropy[here.clone()]).all(|x| *x == 0.0) {
            continue;
        }
        let state = state.narrow(0, first, rows)?;
        let (g, e) = (all_logp.narrow(0, first, rows)?, all_entropy.narrow(0, first, rows)?);
        let input = LogitGradInput {
            target: &layout.target.narrow(0, first, rows)?,
            logp: &g,
            entropy: Some(&e).filter(|_| entropy[here].iter().any(|e| *e != 0.0)),
            inv_temp: layout.places.inv_temp,
        };
        let logits = capped(decoder.logits(), &(ops.product_f32)(&state, &columns)?)?;
        let mut dlogits = (ops.logits_backward)(&logits, &input, dtype)?;
        if let Some(slope) = slope(decoder.logits(), &logits)? {
            dlogits = (dlogits * slope.to_dtype(dtype)?)?;
        }
        dstate = dstate.index_add(&layout.from.narrow(0, first, rows)?, &(ops.product_f32)(&dlogits, &head)?, 0)?;
        if decoder.trained_head().is_some() {
            let slot = if decoder.config().tied { Slot::Embedding } else { Slot::Head };
            grads.add_all(&[(slot, (ops.product_f32)(&dlogits.t()?, &state)?)])?;
        }
    }
    Ok(dstate)
}
