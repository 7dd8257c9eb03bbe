//! KL between the base model and the policy from their final hidden states, with candle's operations on any device.

use super::decoder::Decoder;
use crate::model::error::Error;
use crate::model::weights::trained_dtype;
use candle_core::{D, DType, Tensor};

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
    let weight = decoder.head()?;
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

/// Converted to a type precise enough for sums over the vocabulary: f32 instead of 16 bits.
pub(super) fn wide(x: &Tensor) -> Result<Tensor, Error> {
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
