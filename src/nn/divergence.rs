//! KL between two models from their final hidden states, with candle's operations on any device.
//!
//! Owns [`divergence`], which a policy measures of itself in training, and [`compare`], which an evaluation measures of any two
//! models with one vocabulary. Refuses gradients.

use super::decoder::Decoder;
use super::logit_curve::bent;
use crate::model::error::Error;
use crate::model::layer::LogitCurve;
use crate::model::weights::trained_dtype;
use candle_core::{D, DType, Tensor};
use rayon::prelude::*;
use tiebreak_kernels::softmax::{first_largest, paired_sums};

/// Scored positions whose logits exist at once.
pub(super) const CHUNK: usize = 256;

/// KL(base ‖ policy) in nats and the policy's log-prob of `targets`, per position, from hidden states after the final
/// norm (n, H): `base` with its own `head` (V, H), and the policy's `now`.
pub(super) fn divergence(
    decoder: &Decoder,
    base: &Tensor,
    head: &Tensor,
    now: &Tensor,
    targets: &[u32],
) -> Result<(Vec<f64>, Vec<f64>), Error> {
    let (mut kl, mut logp) = (Vec::new(), Vec::new());
    let (weight, curve) = (decoder.head()?, decoder.logits());
    for start in (0..targets.len()).step_by(CHUNK) {
        let n = CHUNK.min(targets.len() - start);
        let log_q = log_softmax(&bent(curve, &wide(&base.narrow(0, start, n)?.matmul(&head.t()?)?)?)?)?;
        let log_p = log_softmax(&bent(curve, &wide(&now.narrow(0, start, n)?.matmul(&weight.t()?)?)?)?)?;
        kl.extend(read(&(log_q.exp()? * (&log_q - &log_p)?)?.sum(D::Minus1)?)?);
        let index = Tensor::new(&targets[start..start + n], now.device())?.reshape((n, 1))?;
        logp.extend(read(&log_p.gather(&index, 1)?)?);
    }
    Ok((kl, logp))
}

/// Converted to a type precise enough for sums over the vocabulary: f32 instead of 16 bits.
pub(crate) fn wide(x: &Tensor) -> Result<Tensor, Error> {
    Ok(x.to_dtype(trained_dtype(x.dtype()))?)
}

/// Log-probs over the vocabulary.
pub(super) fn log_softmax(logits: &Tensor) -> Result<Tensor, Error> {
    let shifted = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?)?;
    Ok(shifted.broadcast_sub(&shifted.exp()?.sum_keepdim(D::Minus1)?.log()?)?)
}

/// A tensor's values on the CPU.
pub(super) fn read(t: &Tensor) -> Result<Vec<f64>, Error> {
    Ok(t.flatten_all()?.to_dtype(DType::F64)?.to_vec1()?)
}

/// Positions whose logits of two models exist at once in [`compare`].
const COMPARED: usize = 64;

/// Two models' predictions of one token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TokenComparison {
    /// Log-prob of the token under each, in nats.
    pub(crate) logp: [f64; 2],
    /// KL(second ‖ first) in nats.
    pub(crate) kl: f64,
    /// KL(first ‖ second) in nats.
    pub(crate) reverse_kl: f64,
    /// Whether both have the same argmax (the first of equals).
    pub(crate) same_top: bool,
}

/// Compares two models on each of `targets`, from their hidden states after the final norm (n, H), their heads (V, H), and
/// what happens to their logits.
/// Sums over the vocabulary are in f64; equal models give exactly 0.
///
/// # Errors
/// When a tensor operation fails, or logits are not finite.
pub(crate) fn compare(
    states: [&Tensor; 2],
    heads: [&Tensor; 2],
    curves: [LogitCurve; 2],
    targets: &[u32],
) -> Result<Vec<TokenComparison>, Error> {
    let heads = [wide(heads[0])?.t()?, wide(heads[1])?.t()?];
    let mut out = Vec::with_capacity(targets.len());
    for start in (0..targets.len()).step_by(COMPARED) {
        let n = COMPARED.min(targets.len() - start);
        let logits = |side: usize| -> Result<Vec<f64>, Error> {
            let state = wide(&states[side].narrow(0, start, n)?)?;
            read(&bent(curves[side], &state.matmul(&heads[side])?)?)
        };
        let (one, two) = (logits(0)?, logits(1)?);
        let width = one.len() / n;
        if two.len() != one.len() {
            return Err(Error::Invalid(format!(
                "two models with {width} and {} tokens have no KL: their vocabularies differ",
                two.len() / n
            )));
        }
        let rows = one.par_chunks(width).zip(two.par_chunks(width)).zip(&targets[start..start + n]);
        out.extend(rows.map(|((one, two), target)| compare_token(one, two, *target as usize)).collect::<Vec<_>>());
    }
    let finite = |c: &TokenComparison| [c.kl, c.reverse_kl, c.logp[0], c.logp[1]].iter().all(|x| x.is_finite());
    if !out.iter().all(finite) {
        return Err(Error::NotFinite("The logits of one of both models are infinite or NaN.".into()));
    }
    Ok(out)
}

/// Of two rows of logits: with `d = z₁ − z₂`, KL(first ‖ second) = Σ p₁ d − (lse₁ − lse₂).
fn compare_token(one: &[f64], two: &[f64], target: usize) -> TokenComparison {
    let ((top_one, max_one), (top_two, max_two)) = (first_largest(one), first_largest(two));
    let [sum_one, sum_two, moved_one, moved_two] = paired_sums(one, two, [max_one, max_two]);
    let (lse_one, lse_two) = (max_one + sum_one.ln(), max_two + sum_two.ln());
    let of = |z: &[f64], lse: f64| z.get(target).map_or(f64::NAN, |z| z - lse);
    TokenComparison {
        logp: [of(one, lse_one), of(two, lse_two)],
        kl: moved_two / sum_two - (lse_two - lse_one),
        reverse_kl: moved_one / sum_one - (lse_one - lse_two),
        same_top: top_one == top_two,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn two_models_are_compared_over_the_whole_vocabulary() {
        let tensor = |rows: Vec<f64>, shape: (usize, usize)| Tensor::from_vec(rows, shape, &Device::Cpu).unwrap();
        // With states of one dimension that are 1, a head is its logits.
        let state = tensor(vec![1.0; 100], (100, 1));
        let head = |p: [f64; 3]| tensor(p.map(f64::ln).to_vec(), (3, 1));
        let (p, q) = ([0.5, 0.3, 0.2], [0.2, 0.3, 0.5]);
        let targets: Vec<u32> = (0..100).map(|i| i % 3).collect();
        let found = compare([&state, &state], [&head(p), &head(q)], [LogitCurve::NONE; 2], &targets).unwrap();
        assert_eq!(found.len(), 100);
        let kl = |p: [f64; 3], q: [f64; 3]| p.iter().zip(q).map(|(p, q)| p * (p / q).ln()).sum::<f64>();
        for (at, token) in found.iter().enumerate() {
            assert!((token.kl - kl(q, p)).abs() < 1e-12 && (token.reverse_kl - kl(p, q)).abs() < 1e-12);
            assert!((token.logp[0] - p[at % 3].ln()).abs() < 1e-12 && (token.logp[1] - q[at % 3].ln()).abs() < 1e-12);
            assert!(!token.same_top);
        }
        let same = compare([&state, &state], [&head(p), &head(p)], [LogitCurve::NONE; 2], &targets).unwrap();
        assert!(same.iter().all(|t| t.kl == 0.0 && t.reverse_kl == 0.0 && t.same_top && t.logp[0] == t.logp[1]));
        let wider = tensor(vec![0.0; 4], (4, 1));
        let refused =
            compare([&state, &state], [&head(p), &wider], [LogitCurve::NONE; 2], &targets).unwrap_err().to_string();
        assert!(refused.contains("vocabularies differ"), "{refused}");
        let broken = tensor(vec![f64::NAN, 0.0, 0.0], (3, 1));
        assert!(compare([&state, &state], [&head(p), &broken], [LogitCurve::NONE; 2], &targets).is_err());
    }
}
