//! The two ends of the decoder: token log-probs in chunks of logits, and the scalar head.
//!
//! Owns what is computed from the last layer's output and the way back from it. Refuses logits of positions nobody asked for.

use super::{Path, Policy, RowGradient, RowScores, Scored, TokenScores};
use crate::model::error::Error;
use crate::model::weights::trained_dtype;
use crate::nn::decoder::Pass;
use crate::nn::inference;
use candle_core::{D, DType, Tensor, Var};

/// Scored positions whose logits exist at one time.
const CHUNK: usize = 256;

impl Policy {
    /// dL/d(last hidden states), (B·T, H); adds the heads' and the final norm's parts.
    ///
    /// With p = softmax of the logits z, dlogp/dz = onehot − p, so the gradient of the normed state is
    /// `g·(W[target] − p·W)`, and the head's is Σ g·(onehot − p)ᵀ·state. The entropy's is dH/dz = −p⊙(log p + H).
    pub(super) fn head_backward(
        &mut self,
        last: &Tensor,
        s: &Scored,
        g: &[RowGradient],
        pass: &Pass,
    ) -> Result<Tensor, Error> {
        let (b, t, h) = last.dims3()?;
        let flat = last.reshape((b * t, h))?;
        let weight = self.decoder.head()?;
        let (device, dtype) = (last.device().clone(), last.dtype());
        let column = |x: &[f64]| -> Result<Tensor, Error> {
            Ok(Tensor::new(x, &device)?.to_dtype(trained_dtype(dtype))?.reshape((x.len(), 1))?)
        };
        let logp: Vec<f64> = g.iter().flat_map(|row| row.logp.iter().map(|x| x * s.cold)).collect();
        let entropy: Vec<f64> = padded(g, &s.counts, |row| &row.entropy).iter().map(|x| x * s.cold).collect();
        let value = padded(g, &s.value_counts, |row| &row.value);
        let mut total = Tensor::zeros((b * t, h), dtype, &device)?;
        let trained = self.decoder.trained_head().and_then(|v| self.index.get(&v.as_tensor().id())).copied();
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
            let state = self.decoder.norm(x.as_tensor(), pass)?;
            let logits = tempered(wide(&state.detach().matmul(&weight.t()?)?)?, s.cold)?;
            let p = inference::softmax(&logits)?;
            let bent = if entropy[start..end].iter().any(|e| *e != 0.0) {
                let log_p = log_softmax(&logits)?;
                let h = (&p * &log_p)?.sum_keepdim(D::Minus1)?.neg()?;
                Some(p.mul(&log_p.broadcast_add(&h)?)?.broadcast_mul(&column(&entropy[start..end])?.neg()?)?)
            } else {
                None
            };
            let through = |dlogits: &Tensor| wide(&dlogits.to_dtype(dtype)?.matmul(&weight)?);
            let mut du = (wide(&weight.index_select(&target, 0)?)? - through(&p)?)?.broadcast_mul(&g)?;
            if let Some(bent) = &bent {
                du = (du + through(bent)?)?;
            }
            if let Some(head) = trained {
                let ones = g.contiguous()?;
                let mut dlogits = p.broadcast_mul(&g.neg()?)?.scatter_add(&target.reshape((n, 1))?, &ones, 1)?;
                if let Some(bent) = bent {
                    dlogits = (dlogits + bent)?;
                }
                let dw = dlogits.to_dtype(dtype)?.t()?.matmul(&state.detach())?;
                self.gradients.add(head, &wide(&dw)?)?;
            }
            let dx = self.chain(&state, &du.to_dtype(dtype)?, &x)?;
            total = total.index_add(&from, &dx, 0)?;
        }
        if let Some(score) = self.decoder.score().filter(|_| value.iter().any(|x| *x != 0.0)).cloned() {
            let at = Tensor::new(s.valued.as_slice(), &device)?;
            let g = column(&value)?;
            let x = Var::from_tensor(&flat.index_select(&at, 0)?)?;
            let state = self.decoder.norm(x.as_tensor(), pass)?;
            if let Some(i) = self.index.get(&score.as_tensor().id()).copied() {
                self.gradients.add(i, &g.t()?.matmul(&wide(&state.detach())?)?)?;
            }
            let dx = self.chain(&state, &g.matmul(&score.as_detached_tensor())?.to_dtype(dtype)?, &x)?;
            total = total.index_add(&at, &dx, 0)?;
        }
        Ok(total)
    }

    /// Log-prob, entropy, top-1 and mean logit of every scored token, and the scalar head at every valued position.
    pub(super) fn scores(&self, last: &Tensor, s: &Scored, pass: &Pass) -> Result<TokenScores, Error> {
        let (b, t, h) = last.dims3()?;
        let flat = last.reshape((b * t, h))?;
        let weight = self.decoder.head()?.t()?;
        let mut all = RowScores::default();
        for start in (0..s.from.len()).step_by(CHUNK) {
            let end = (start + CHUNK).min(s.from.len());
            let from = Tensor::new(&s.from[start..end], last.device())?;
            let state = self.decoder.norm(&flat.index_select(&from, 0)?, pass)?;
            let logits = tempered(wide(&state.matmul(&weight)?)?, s.cold)?;
            measure(&logits, &s.target[start..end], &mut all)?;
        }
        if !s.valued.is_empty() {
            let Some(score) = self.decoder.score() else {
                return Err(Error::Asked("values were asked of a model without a scalar head".into()));
            };
            let at = Tensor::new(s.valued.as_slice(), last.device())?;
            let state = self.decoder.norm(&flat.index_select(&at, 0)?, pass)?;
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

    /// KL(base ‖ policy) in nats and the policy's log-prob of `targets`, position by position, from final states (n, H):
    /// the base model's under its `head` (V, H), and the policy's now.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub(crate) fn divergence(
        &self,
        base: &Tensor,
        head: &Tensor,
        now: &Tensor,
        targets: &[u32],
    ) -> Result<(Vec<f64>, Vec<f64>), Error> {
        if let Path::Fast(fast, _) = &self.path {
            return fast.divergence(&self.decoder, base, head, now, targets);
        }
        let (mut kl, mut logp) = (Vec::new(), Vec::new());
        let weight = self.decoder.head()?;
        for start in (0..targets.len()).step_by(CHUNK) {
            let n = CHUNK.min(targets.len() - start);
            let log_q = log_softmax(&wide(&base.narrow(0, start, n)?.matmul(&head.t()?)?)?)?;
            let log_p = log_softmax(&wide(&now.narrow(0, start, n)?.matmul(&weight.t()?)?)?)?;
            kl.extend(read(&(log_q.exp()? * (&log_q - &log_p)?)?.sum(D::Minus1)?)?);
            let index = Tensor::new(&targets[start..start + n], now.device())?.reshape((n, 1))?;
            logp.extend(read(&log_p.gather(&index, 1)?)?);
        }
        Ok((kl, logp))
    }
}

/// One number a scored token; zeros where a row has none.
pub(crate) fn padded(g: &[RowGradient], counts: &[usize], of: impl Fn(&RowGradient) -> &Vec<f64>) -> Vec<f64> {
    let mut out = Vec::with_capacity(counts.iter().sum());
    for (row, n) in g.iter().zip(counts) {
        let end = out.len() + n;
        out.extend_from_slice(of(row));
        out.resize(end, 0.0);
    }
    out
}

/// In a type in which sums over the vocabulary can be made: f32 instead of 16 bits.
fn wide(x: &Tensor) -> Result<Tensor, Error> {
    Ok(x.to_dtype(trained_dtype(x.dtype()))?)
}

fn tempered(logits: Tensor, cold: f64) -> Result<Tensor, Error> {
    Ok(if cold == 1.0 { logits } else { logits.affine(cold, 0.0)? })
}

fn log_softmax(logits: &Tensor) -> Result<Tensor, Error> {
    let shifted = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?)?;
    Ok(shifted.broadcast_sub(&shifted.exp()?.sum_keepdim(D::Minus1)?.log()?)?)
}

fn read(t: &Tensor) -> Result<Vec<f64>, Error> {
    Ok(t.flatten_all()?.to_dtype(DType::F64)?.to_vec1()?)
}

/// Adds what `logits` (n, V) say about `targets` to `out`.
fn measure(logits: &Tensor, targets: &[u32], out: &mut RowScores) -> Result<(), Error> {
    let n = targets.len();
    let index = Tensor::new(targets, logits.device())?.reshape((n, 1))?;
    let top = logits.max_keepdim(D::Minus1)?;
    let shifted = logits.broadcast_sub(&top)?;
    let e = shifted.exp()?;
    let sum = e.sum_keepdim(D::Minus1)?;
    let log_sum = sum.log()?;
    let logp = (shifted.gather(&index, 1)? - &log_sum)?;
    // H = log Σe − Σ e·z / Σe, both with the maximum taken off.
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
