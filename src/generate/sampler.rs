//! Drawing a token from logits: temperature, then top-k, then top-p, then min-p, in the order of `transformers`.
//!
//! Owns the sampling policy and the log-prob under it. Never sorts the whole vocabulary: only the tokens above
//! a threshold. Refuses global randomness: one uniform draw per token, from the candidate's own stream. Refuses logits
//! that are not finite.

use crate::domain::Sampler;
use crate::model::error::Error;
use crate::nn::random::uniform;
use rand_chacha::ChaCha8Rng;
use tiebreak_kernels::softmax::{exp_weights, max_or_nan};

/// A drawn token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drawn {
    /// The token.
    pub token: u32,
    /// Its log-prob in nats under the sampling policy: after temperature and truncation. 0 for a greedy draw.
    pub logp: f64,
}

/// Draws the next token. Temperature 0 takes the largest logit, the first of equals, and uses no random number.
///
/// # Errors
/// When a logit is NaN or the largest one is infinite.
pub fn draw(logits: &[f32], sampler: &Sampler, rng: &mut ChaCha8Rng) -> Result<Drawn, Error> {
    let (best, top) = argmax(logits);
    if !top.is_finite() {
        return Err(Error::NotFinite(format!(
            "The model's logits are not finite ({top}): no token can be drawn from them. Its weights are damaged or were \
             trained too far."
        )));
    }
    if sampler.temperature <= 0.0 {
        return Ok(Drawn { token: best, logp: 0.0 });
    }
    // Weights relative to the most likely token, whose weight is 1.
    let mut weights = vec![0f64; logits.len()];
    let mass = exp_weights(logits, top, 1.0 / sampler.temperature, &mut weights);
    let limited = sampler.top_k > 0 && sampler.top_k < weights.len();
    if !limited && sampler.top_p >= 1.0 {
        // Lighter tokens are dropped; the most likely one always stays.
        let least = sampler.min_p.min(1.0);
        let kept = weights.iter().copied().zip(0..).filter(|(w, _)| *w >= least);
        let mass = if least > 0.0 { kept.clone().map(|(w, _)| w).sum() } else { mass };
        return Ok(pick(kept, mass, best, rng));
    }
    let mut kept = if limited { heaviest(&weights, |kept, _| kept.len() >= sampler.top_k) } else { Vec::new() };
    kept.truncate(sampler.top_k);
    if sampler.top_p < 1.0 {
        let mass = if limited { kept.iter().map(|(w, _)| w).sum() } else { mass };
        let target = sampler.top_p * mass;
        if !limited {
            kept = heaviest(&weights, |_, sum| sum >= target);
        }
        nucleus(&mut kept, target);
    }
    if sampler.min_p > 0.0 {
        kept.retain(|(w, i)| *w >= sampler.min_p || *i == best);
    }
    let mass: f64 = kept.iter().map(|(w, _)| w).sum();
    Ok(pick(kept.into_iter(), mass, best, rng))
}

/// Draws one of `kept`, whose weights sum to `mass`.
fn pick(kept: impl Iterator<Item = (f64, u32)>, mass: f64, best: u32, rng: &mut ChaCha8Rng) -> Drawn {
    let mut left = uniform(rng) * mass;
    let mut chosen = None;
    for (w, i) in kept {
        // Rounding may leave a remainder after the last token; then the last one with any weight is drawn.
        if w > 0.0 {
            chosen = Some((w, i));
        }
        left -= w;
        if left < 0.0 {
            break;
        }
    }
    let (w, token) = chosen.unwrap_or((mass, best));
    Drawn { token, logp: (w / mass).ln() }
}

/// The heaviest tokens in order: enough that `enough` holds for them and their sum, or all. Weights fall off fast:
/// tokens below a threshold are rarely needed, and never sorted.
fn heaviest(weights: &[f64], enough: impl Fn(&[(f64, u32)], f64) -> bool) -> Vec<(f64, u32)> {
    let mut bound = 1.0 / 64.0;
    loop {
        let mut kept: Vec<(f64, u32)> = Vec::new();
        for (w, i) in weights.iter().zip(0..) {
            if *w >= bound {
                kept.push((*w, i));
            }
        }
        let sum = kept.iter().map(|(w, _)| w).sum();
        if bound == 0.0 || enough(&kept, sum) {
            kept.sort_unstable_by(order);
            return kept;
        }
        bound = if bound > 1e-9 { bound / 16.0 } else { 0.0 };
    }
}

/// Truncates to the shortest prefix whose weights reach `target`; at least one.
fn nucleus(kept: &mut Vec<(f64, u32)>, target: f64) {
    let mut sum = 0.0;
    let reached = kept.iter().position(|(w, _)| {
        sum += w;
        sum >= target
    });
    if let Some(at) = reached {
        kept.truncate(at + 1);
    }
}

/// The largest logit's index, the first of equals, and its value, NaN if any logit is NaN.
fn argmax(logits: &[f32]) -> (u32, f32) {
    let top = max_or_nan(logits);
    (logits.iter().position(|z| *z == top).unwrap_or(0) as u32, top)
}

/// Heavier first; equal weights in the vocabulary's order, so that a draw does not depend on how the tokens were selected.
fn order(a: &(f64, u32), b: &(f64, u32)) -> std::cmp::Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::stream;

    fn sampler(temperature: f64, top_p: f64, top_k: usize, min_p: f64) -> Sampler {
        Sampler { temperature, top_p, top_k, min_p, ..Sampler::default() }
    }

    /// The policy by definition, sorting everything.
    fn slow(logits: &[f32], s: &Sampler) -> Vec<(u32, f64)> {
        let mut all: Vec<(u32, f64)> =
            logits.iter().enumerate().map(|(i, z)| (i as u32, (f64::from(*z) / s.temperature).exp())).collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        if s.top_k > 0 {
            all.truncate(s.top_k);
        }
        let total: f64 = all.iter().map(|x| x.1).sum();
        let mut before = 0.0;
        all.retain(|x| {
            let keep = before < s.top_p * total;
            before += x.1;
            keep
        });
        let top = all[0].1;
        all.retain(|x| x.1 >= s.min_p * top);
        let total: f64 = all.iter().map(|x| x.1).sum();
        all.iter().map(|(i, w)| (*i, w / total)).collect()
    }

    #[test]
    fn draws_follow_the_policy_and_know_their_log_prob() {
        let mut rng = stream(1, 0);
        let logits: Vec<f32> = (0..500).map(|_| (uniform(&mut rng) * 8.0) as f32).collect();
        for s in [
            sampler(1.0, 1.0, 0, 0.0),
            sampler(0.7, 0.9, 0, 0.0),
            sampler(1.3, 0.8, 40, 0.0),
            sampler(1.0, 0.95, 100, 0.3),
        ] {
            let expected = slow(&logits, &s);
            let mut counts = vec![0u32; logits.len()];
            let n = 6_000;
            for k in 0..n {
                let d = draw(&logits, &s, &mut stream(9, k)).unwrap();
                let p = expected.iter().find(|(i, _)| *i == d.token).expect("a token that was cut").1;
                assert!((d.logp - p.ln()).abs() < 1e-9);
                counts[d.token as usize] += 1;
            }
            for (i, p) in expected {
                let (seen, sd) = (f64::from(counts[i as usize]), (n as f64 * p * (1.0 - p)).sqrt());
                assert!((seen - n as f64 * p).abs() < 5.0 * sd + 3.0, "{s:?} token {i}: {seen} of {}", n as f64 * p);
            }
        }
    }

    #[test]
    fn greedy_takes_the_first_of_the_largest_and_a_stream_repeats() {
        let logits = [0.5, 2.0, 2.0, -1.0];
        let greedy = draw(&logits, &sampler(0.0, 1.0, 0, 0.0), &mut stream(1, 1)).unwrap();
        assert_eq!(greedy, Drawn { token: 1, logp: 0.0 });
        let s = sampler(1.0, 0.9, 0, 0.0);
        let twice = || {
            (0..9).map(|_| ()).scan(stream(3, 4), |r, ()| Some(draw(&logits, &s, r).unwrap().token)).collect::<Vec<_>>()
        };
        assert_eq!(twice(), twice());
        assert_eq!(draw(&logits, &sampler(1.0, 0.0001, 0, 0.0), &mut stream(1, 1)).unwrap().token, 1);
    }

    #[test]
    fn logits_that_are_not_finite_give_no_token() {
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY] {
            for at in [0, 20, 40] {
                let mut logits: Vec<f32> = (0..41).map(|i| (i as f32).sin()).collect();
                logits[at] = bad;
                for s in [sampler(0.0, 1.0, 0, 0.0), sampler(1.0, 1.0, 0, 0.1), sampler(0.7, 0.9, 5, 0.0)] {
                    let error = draw(&logits, &s, &mut stream(1, 1)).unwrap_err().to_string();
                    assert!(error.contains("logits are not finite"), "{error}");
                }
            }
        }
        assert!(draw(&[f32::NAN; 9], &sampler(1.0, 1.0, 0, 0.0), &mut stream(1, 1)).is_err());
        assert!(draw(&[f32::NEG_INFINITY, 0.0], &sampler(1.0, 1.0, 0, 0.0), &mut stream(1, 1)).is_ok());
    }
}
