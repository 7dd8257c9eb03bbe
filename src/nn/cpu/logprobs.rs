//! Token log-probs on the CPU, in blocks of the vocabulary, and the scalar head; forward and backward.
//!
//! Logits are computed for all scored tokens and one block of the vocabulary at a time, with an online softmax per token. So
//! logits exist for one block only and the head's weight is read once. With p the softmax of the logits
//! `z = inv_temp · W·h`, `dlogp/dh = inv_temp · (W[y] − Σ_v p_v W_v)`: the forward saves this `u` instead
//! of the logits, and the backward is `g · u`. If the head is trained, the logits have a soft cap or the entropy has a gradient,
//! the logits are recomputed.

use super::context::Context;
use super::gradients::CpuGradients;
use super::norm::{norm, norm_back};
use super::values::values;
use crate::model::error::Error;
use crate::nn::contract::{RowGradient, RowScores, TokenScores, padded};
use crate::nn::decoder::Decoder;
use crate::nn::logit_curve::{bend_slice, cap_slice};
use crate::nn::memory::VOCAB_BLOCK;
use rayon::prelude::*;
use tiebreak_kernels::arena::{Arena, Buffer};
use tiebreak_kernels::logits::{LogitStats, OnlineKl, OnlineSoftmax, accumulate, accumulate_kl, logits_backward};
use tiebreak_kernels::product::{View, WriteMode, product};

/// What the forward saves of the scored tokens.
pub(super) struct CpuSavedLogprobs {
    /// `u` of each, (n, H), unless the head is trained or the logits have a soft cap.
    u: Option<Buffer>,
    stats: Vec<LogitStats>,
}

/// The hidden states after the final norm at positions `at`, (n, H).
pub(super) fn states(context: &Context<'_>, last: &[f32], at: &[usize]) -> Result<Buffer, Error> {
    let hidden = context.decoder.config().hidden;
    let mut x = context.arena.take(at.len() * hidden);
    for (to, at) in x.chunks_exact_mut(hidden).zip(at) {
        to.copy_from_slice(&last[at * hidden..(at + 1) * hidden]);
    }
    norm(context, context.decoder.last_norm(), &x)
}

/// KL(base ‖ policy) and the policy's log-prob of each target, from hidden states after the final norm (n, H): `base` with its
/// own head `weight` (V, H), and the policy's `now`.
pub(super) fn divergence(
    arena: &Arena,
    decoder: &Decoder,
    (base, weight): (&[f32], &[f32]),
    now: &[f32],
    targets: &[u32],
) -> Result<(Vec<f64>, Vec<f64>), Error> {
    let (hidden, vocab, n) = (decoder.config().hidden, decoder.config().vocab, targets.len());
    let own = values(decoder.head_weight().stored())?;
    let mut rows: Vec<(OnlineKl, OnlineSoftmax)> =
        targets.iter().map(|y| (OnlineKl::default(), OnlineSoftmax::new(*y as usize))).collect();
    let (mut q, mut p) = (arena.take(VOCAB_BLOCK.min(vocab) * n), arena.take(VOCAB_BLOCK.min(vocab) * n));
    for first in (0..vocab).step_by(VOCAB_BLOCK) {
        let width = VOCAB_BLOCK.min(vocab - first);
        let here = first * hidden..(first + width) * hidden;
        let size = (n, width, hidden);
        let (q, p) = (&mut q[..n * width], &mut p[..n * width]);
        let before = View::columns(&weight[here.clone()], hidden);
        product(q, width, WriteMode::Overwrite, View::rows(base, hidden), before, size, 1.0);
        product(p, width, WriteMode::Overwrite, View::rows(now, hidden), View::columns(&own[here], hidden), size, 1.0);
        bend_slice(decoder.logits(), q);
        bend_slice(decoder.logits(), p);
        let both = q.par_chunks(width).zip(p.par_chunks_mut(width));
        both.zip(&mut rows).for_each(|((q, p), (kl, softmax))| {
            accumulate_kl(kl, q, p);
            accumulate(softmax, p, 1.0);
        });
    }
    Ok(rows.iter().map(|(kl, softmax)| (kl.from(&softmax.stats()), softmax.stats().logp)).unzip())
}

/// The scores of every scored token and valued position; with `train` also what the backward needs.
pub(super) fn forward(
    context: &Context<'_>,
    last: &[f32],
    train: bool,
) -> Result<(TokenScores, CpuSavedLogprobs), Error> {
    let Context { decoder, layout, arena, .. } = *context;
    let (hidden, vocab) = (decoder.config().hidden, decoder.config().vocab);
    let head = values(decoder.head_weight().stored())?;
    let state = states(context, last, &layout.from)?;
    let n = layout.from.len();
    let curve = decoder.logits();
    let kept = train && decoder.trained_head().is_none() && curve.cap.is_none();
    let mut u = kept.then(|| arena.take(n * hidden));
    let mut stats: Vec<OnlineSoftmax> = layout.target.iter().map(|y| OnlineSoftmax::new(*y as usize)).collect();
    let mut logits = arena.take(VOCAB_BLOCK.min(vocab) * n);
    let inv_temp = layout.inv_temp as f32;
    for first in (0..vocab).step_by(VOCAB_BLOCK) {
        let width = VOCAB_BLOCK.min(vocab - first);
        let weight = &head[first * hidden..(first + width) * hidden];
        let z = &mut logits[..n * width];
        product(
            z,
            width,
            WriteMode::Overwrite,
            View::rows(&state, hidden),
            View::columns(weight, hidden),
            (n, width, hidden),
            1.0,
        );
        if curve.cap.is_some() {
            z.par_chunks_mut(width).for_each(|z| cap_slice(curve, z));
        }
        let rows = z.par_chunks_mut(width).zip(&mut stats);
        match &mut u {
            None => rows.for_each(|(z, stats)| {
                accumulate(stats, z, inv_temp);
            }),
            Some(u) => {
                rows.zip(u.par_chunks_mut(hidden)).for_each(|((z, stats), u)| {
                    let factor = accumulate(stats, z, inv_temp);
                    if first > 0 && factor != 1.0 {
                        for u in u.iter_mut() {
                            *u *= factor;
                        }
                    }
                });
                let write = if first == 0 { WriteMode::Overwrite } else { WriteMode::Add };
                product(u, hidden, write, View::rows(z, width), View::rows(weight, hidden), (n, hidden, width), 1.0);
            }
        }
    }
    if let Some(u) = &mut u {
        for ((u, stats), y) in u.chunks_exact_mut(hidden).zip(&stats).zip(&layout.target) {
            let w = &head[*y as usize * hidden..(*y as usize + 1) * hidden];
            let inverse = stats.inverse_sum();
            u.iter_mut().zip(w).for_each(|(u, w)| *u = inv_temp * (w - *u * inverse));
        }
    }
    let stats: Vec<LogitStats> = stats.iter().map(OnlineSoftmax::stats).collect();
    drop(logits);
    let mut value = Vec::new();
    if !layout.valued.is_empty() {
        let Some(score) = decoder.score() else {
            return Err(Error::Invalid("the model has no scalar head, so it has no values".into()));
        };
        let score = values(score.as_tensor())?;
        let state = states(context, last, &layout.valued)?;
        let dot = |row: &[f32]| row.iter().zip(score.iter()).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        value.extend(state.chunks_exact(hidden).map(dot));
    }
    let mut rows = Vec::new();
    let (mut each, mut value) = (stats.iter(), value.into_iter());
    for (scored, valued) in layout.counts() {
        let mut row = RowScores::default();
        for t in each.by_ref().take(scored) {
            row.logp.push(t.logp);
            row.entropy.push(t.entropy);
            row.top1.push(t.top1);
            row.mean_logit.push(t.mean);
            row.collision.push(t.collision);
        }
        row.value.extend(value.by_ref().take(valued));
        rows.push(row);
    }
    Ok((TokenScores { rows }, CpuSavedLogprobs { u, stats }))
}

/// dL/d(the last layer's output), (tokens, H); adds the gradients of both heads and the final norm to `grads`.
pub(super) fn backward(
    context: &Context<'_>,
    last: &[f32],
    CpuSavedLogprobs { u, stats }: CpuSavedLogprobs,
    g: &[RowGradient],
    grads: &mut CpuGradients,
) -> Result<Buffer, Error> {
    let Context { decoder, layout, arena, .. } = *context;
    let hidden = decoder.config().hidden;
    let counts: Vec<(usize, usize)> = layout.counts().collect();
    let scored: Vec<usize> = counts.iter().map(|c| c.0).collect();
    let valued: Vec<usize> = counts.iter().map(|c| c.1).collect();
    let logp: Vec<f64> = g.iter().flat_map(|row| row.logp.iter().copied()).collect();
    let entropy = padded(g, &scored, |row| &row.entropy);
    let value = padded(g, &valued, |row| &row.value);
    // dL/d(state after the final norm) of every token, summed where a shared position is scored for several rows.
    let mut dstate = arena.zeros(layout.tokens() * hidden);
    match u.filter(|_| entropy.iter().all(|e| *e == 0.0)) {
        Some(u) => {
            for ((at, g), u) in layout.from.iter().zip(&logp).zip(u.chunks_exact(hidden)) {
                let to = &mut dstate[at * hidden..(at + 1) * hidden];
                to.iter_mut().zip(u).for_each(|(d, u)| *d += *g as f32 * u);
            }
        }
        None => backward_through_logits(context, last, (&stats, &logp, &entropy), &mut dstate, grads)?,
    }
    if let Some(score) = decoder.score().filter(|_| value.iter().any(|x| *x != 0.0)) {
        let weight = values(score.as_tensor())?;
        for (at, g) in layout.valued.iter().zip(&value) {
            let to = &mut dstate[at * hidden..(at + 1) * hidden];
            to.iter_mut().zip(weight.iter()).for_each(|(d, w)| *d += *g as f32 * w);
        }
        let state = states(context, last, &layout.valued)?;
        if let Some(sum) = grads.of(score) {
            for (state, g) in state.chunks_exact(hidden).zip(&value) {
                sum.iter_mut().zip(state).for_each(|(s, x)| *s += *g as f32 * x);
            }
        }
    }
    let mut dx = arena.zeros(dstate.len());
    norm_back(decoder.last_norm(), last, &dstate, &mut dx, grads)?;
    Ok(dx)
}

/// The derivative of `cap·tanh(scale·z/cap)` where its value is `capped`.
fn slope_at(capped: f32, cap: f64, scale: f64) -> f32 {
    let share = capped / cap as f32;
    scale as f32 * (1.0 - share * share)
}

/// dL/d(states after the final norm) from dL/dlogits, which a trained head needs too.
fn backward_through_logits(
    context: &Context<'_>,
    last: &[f32],
    (stats, logp, entropy): (&[LogitStats], &[f64], &[f64]),
    dstate: &mut [f32],
    grads: &mut CpuGradients,
) -> Result<(), Error> {
    let Context { decoder, layout, arena, .. } = *context;
    let (hidden, vocab) = (decoder.config().hidden, decoder.config().vocab);
    let head = values(decoder.head_weight().stored())?;
    // Tokens whose gradients are all 0 are skipped.
    let wanted: Vec<usize> = (0..layout.from.len()).filter(|i| logp[*i] != 0.0 || entropy[*i] != 0.0).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let from: Vec<usize> = wanted.iter().map(|i| layout.from[*i]).collect();
    let state = states(context, last, &from)?;
    let n = wanted.len();
    let mut logits = arena.take(VOCAB_BLOCK.min(vocab) * n);
    let mut part = arena.zeros(n * hidden);
    let inv_temp = layout.inv_temp as f32;
    let states = View::rows(&state, hidden);
    for first in (0..vocab).step_by(VOCAB_BLOCK) {
        let width = VOCAB_BLOCK.min(vocab - first);
        let here = first * hidden..(first + width) * hidden;
        let weight = &head[here.clone()];
        let z = &mut logits[..n * width];
        product(z, width, WriteMode::Overwrite, states, View::columns(weight, hidden), (n, width, hidden), 1.0);
        let curve = decoder.logits();
        z.par_chunks_mut(width).zip(&wanted).for_each(|(z, i)| {
            let (g, e) = (logp[*i] as f32, entropy[*i] as f32);
            cap_slice(curve, z);
            let slopes: Option<Vec<f32>> =
                curve.cap.map(|cap| z.iter().map(|z| slope_at(*z, cap, curve.scale)).collect());
            logits_backward(z, first, layout.target[*i] as usize, &stats[*i], inv_temp, g, e);
            for (z, slope) in z.iter_mut().zip(slopes.iter().flatten()) {
                *z *= slope;
            }
        });
        product(
            &mut part,
            hidden,
            WriteMode::Add,
            View::rows(z, width),
            View::rows(weight, hidden),
            (n, hidden, width),
            1.0,
        );
        if let Some(sum) = decoder.trained_head().and_then(|var| grads.of(var)) {
            let back = View::rows(z, width).transposed();
            product(&mut sum[here], hidden, WriteMode::Add, back, states, (width, hidden, n), 1.0);
        }
    }
    for (at, d) in from.iter().zip(part.chunks_exact(hidden)) {
        dstate[at * hidden..(at + 1) * hidden].iter_mut().zip(d).for_each(|(s, d)| *s += d);
    }
    Ok(())
}
