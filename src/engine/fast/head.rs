//! The two ends of the decoder on the fast path: token log-probs in chunks of logits, and the scalar head.
//!
//! With p the softmax of the logits `z = cold · W·h`, `dlogp/dh = cold · (W[y] − Σ_v p_v W_v)`: this `u` is made where the
//! logits are at hand and kept instead of them, and the way back is `g · u`. Where the head is trained or the entropy has a
//! gradient the logits are made again.

use super::layer::norm_back;
use super::plan::Plan;
use super::pool::Buffer;
use super::{Fast, Sums, values};
use crate::engine::decoder::Decoder;
use crate::engine::error::Error;
use crate::engine::policy::{RowGradient, RowScores, TokenScores, padded};
use rayon::prelude::*;
use tiebreak_kernels::leaf::{self, Told};
use tiebreak_kernels::product::{Onto, View, product};

/// Scored tokens whose logits exist at one time.
pub(in crate::engine) const CHUNK: usize = 128;

/// `u` of each scored token, (n, H), unless the head is trained.
pub(super) struct Tape(Option<Buffer>);

/// The normed states at these places, (n, H).
pub(super) fn states(fast: &Fast, decoder: &Decoder, last: &[f32], at: &[usize]) -> Result<Buffer, Error> {
    let hidden = decoder.config().hidden;
    let mut x = fast.pool.take(at.len() * hidden);
    for (to, at) in x.chunks_exact_mut(hidden).zip(at) {
        to.copy_from_slice(&last[at * hidden..(at + 1) * hidden]);
    }
    let norm = decoder.last_norm();
    let mut y = fast.pool.take(x.len());
    leaf::rms_norm(&x, &values(norm.gamma.stored())?, norm.eps as f32, &mut y);
    Ok(y)
}

/// What is said about every scored token and valued position; with `train` also what the way back needs.
pub(super) fn forward(
    fast: &Fast,
    decoder: &Decoder,
    plan: &Plan,
    last: &[f32],
    train: bool,
) -> Result<(TokenScores, Tape), Error> {
    let (hidden, vocab) = (decoder.config().hidden, decoder.config().vocab);
    let head = values(decoder.head_weight().stored())?;
    let state = states(fast, decoder, last, &plan.from)?;
    let n = plan.from.len();
    let kept = train && decoder.trained_head().is_none();
    let mut u = kept.then(|| fast.pool.take(n * hidden));
    let mut told: Vec<Told> = Vec::with_capacity(n);
    let mut logits = fast.pool.take(CHUNK.min(n) * vocab);
    let cold = plan.cold as f32;
    for first in (0..n).step_by(CHUNK) {
        let rows = CHUNK.min(n - first);
        let z = &mut logits[..rows * vocab];
        let size = (rows, vocab, hidden);
        let here = View::rows(&state[first * hidden..], hidden);
        product(z, vocab, Onto::Fresh, here, View::columns(&head, hidden), size, 1.0);
        let targets = &plan.target[first..first + rows];
        let part = z.par_chunks_mut(vocab).zip(targets).map(|(z, y)| leaf::tell(z, *y as usize, cold));
        told.extend(part.collect::<Vec<Told>>());
        if let Some(u) = &mut u {
            let u = &mut u[first * hidden..(first + rows) * hidden];
            let size = (rows, hidden, vocab);
            product(u, hidden, Onto::Fresh, View::rows(z, vocab), View::rows(&head, hidden), size, -cold);
            for (u, y) in u.chunks_exact_mut(hidden).zip(targets) {
                let w = &head[*y as usize * hidden..(*y as usize + 1) * hidden];
                u.iter_mut().zip(w).for_each(|(u, w)| *u += cold * w);
            }
        }
    }
    drop(logits);
    let mut value = Vec::new();
    if !plan.valued.is_empty() {
        let Some(score) = decoder.score() else {
            return Err(Error::Asked("values were asked of a model without a scalar head".into()));
        };
        let score = values(score.as_tensor())?;
        let state = states(fast, decoder, last, &plan.valued)?;
        let dot = |row: &[f32]| row.iter().zip(score.iter()).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        value.extend(state.chunks_exact(hidden).map(dot));
    }
    let mut rows = Vec::new();
    let (mut told, mut value) = (told.into_iter(), value.into_iter());
    for (scored, valued) in plan.counts() {
        let mut row = RowScores::default();
        for t in told.by_ref().take(scored) {
            row.logp.push(t.logp);
            row.entropy.push(t.entropy);
            row.top1.push(t.top1);
            row.mean_logit.push(t.mean);
            row.collision.push(t.collision);
        }
        row.value.extend(value.by_ref().take(valued));
        rows.push(row);
    }
    Ok((TokenScores { rows }, Tape(u)))
}

/// dL/d(the last layer's output), (tokens, H); adds the heads' and the final norm's parts to `sums`.
pub(super) fn backward(
    fast: &Fast,
    decoder: &Decoder,
    plan: &Plan,
    last: &[f32],
    Tape(u): Tape,
    g: &[RowGradient],
    sums: &mut Sums,
) -> Result<Buffer, Error> {
    let hidden = decoder.config().hidden;
    let counts: Vec<(usize, usize)> = plan.counts().collect();
    let scored: Vec<usize> = counts.iter().map(|c| c.0).collect();
    let valued: Vec<usize> = counts.iter().map(|c| c.1).collect();
    let logp: Vec<f64> = g.iter().flat_map(|row| row.logp.iter().copied()).collect();
    let entropy = padded(g, &scored, |row| &row.entropy);
    let value = padded(g, &valued, |row| &row.value);
    // dL/d(normed state) of every token, summed where a place is scored for several rows.
    let mut dstate = fast.pool.zeros(plan.tokens() * hidden);
    match u.filter(|_| entropy.iter().all(|e| *e == 0.0)) {
        Some(u) => {
            for ((at, g), u) in plan.from.iter().zip(&logp).zip(u.chunks_exact(hidden)) {
                let to = &mut dstate[at * hidden..(at + 1) * hidden];
                to.iter_mut().zip(u).for_each(|(d, u)| *d += *g as f32 * u);
            }
        }
        None => through_logits(fast, decoder, plan, last, (&logp, &entropy), &mut dstate, sums)?,
    }
    if let Some(score) = decoder.score().filter(|_| value.iter().any(|x| *x != 0.0)) {
        let weight = values(score.as_tensor())?;
        for (at, g) in plan.valued.iter().zip(&value) {
            let to = &mut dstate[at * hidden..(at + 1) * hidden];
            to.iter_mut().zip(weight.iter()).for_each(|(d, w)| *d += *g as f32 * w);
        }
        let state = states(fast, decoder, last, &plan.valued)?;
        if let Some(sum) = sums.of(score) {
            for (state, g) in state.chunks_exact(hidden).zip(&value) {
                sum.iter_mut().zip(state).for_each(|(s, x)| *s += *g as f32 * x);
            }
        }
    }
    let mut dx = fast.pool.zeros(dstate.len());
    norm_back(decoder.last_norm(), last, &dstate, &mut dx, sums)?;
    Ok(dx)
}

/// dL/d(normed states) by way of dL/dlogits, which a trained head needs too.
fn through_logits(
    fast: &Fast,
    decoder: &Decoder,
    plan: &Plan,
    last: &[f32],
    (logp, entropy): (&[f64], &[f64]),
    dstate: &mut [f32],
    sums: &mut Sums,
) -> Result<(), Error> {
    let (hidden, vocab) = (decoder.config().hidden, decoder.config().vocab);
    let head = values(decoder.head_weight().stored())?;
    let state = states(fast, decoder, last, &plan.from)?;
    let n = plan.from.len();
    let mut logits = fast.pool.take(CHUNK.min(n) * vocab);
    let mut part = fast.pool.take(CHUNK.min(n) * hidden);
    let cold = plan.cold as f32;
    for first in (0..n).step_by(CHUNK) {
        let rows = CHUNK.min(n - first);
        let here = first..first + rows;
        if logp[here.clone()].iter().chain(&entropy[here.clone()]).all(|x| *x == 0.0) {
            continue;
        }
        let z = &mut logits[..rows * vocab];
        let states = View::rows(&state[first * hidden..], hidden);
        product(z, vocab, Onto::Fresh, states, View::columns(&head, hidden), (rows, vocab, hidden), 1.0);
        let given = plan.target[here.clone()].iter().zip(&logp[here.clone()]).zip(&entropy[here.clone()]);
        let given: Vec<(usize, f32, f32)> = given.map(|((y, g), e)| (*y as usize, *g as f32, *e as f32)).collect();
        z.par_chunks_mut(vocab).zip(&given).for_each(|(z, (y, g, e))| leaf::tell_back(z, *y, cold, *g, *e));
        let part = &mut part[..rows * hidden];
        product(part, hidden, Onto::Fresh, View::rows(z, vocab), View::rows(&head, hidden), (rows, hidden, vocab), 1.0);
        for (at, d) in plan.from[here].iter().zip(part.chunks_exact(hidden)) {
            dstate[at * hidden..(at + 1) * hidden].iter_mut().zip(d).for_each(|(s, d)| *s += d);
        }
        if let Some(sum) = decoder.trained_head().and_then(|var| sums.of(var)) {
            let back = View::rows(z, vocab).transposed();
            product(sum, hidden, Onto::Sum, back, states, (vocab, hidden, rows), 1.0);
        }
    }
    Ok(())
}
