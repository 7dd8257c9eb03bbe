//! Drawing a token from logits: temperature, then top-k, then top-p, then min-p, in that order as `transformers` has it.
//!
//! Owns the sampling policy and the log-prob under it. Never sorts the whole vocabulary: a selection finds the likeliest part
//! and only that part is ordered. Refuses global randomness: one uniform number a token, from the candidate's own stream.

use super::random::uniform;
use crate::domain::Sampler;
use rand_chacha::ChaCha8Rng;

/// A drawn token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drawn {
    /// The token.
    pub token: u32,
    /// Its log-prob in nats under the sampling policy: after temperature and cuts. 0 for a greedy draw, which is certain.
    pub logp: f64,
}

/// Draws the next token. Temperature 0 takes the largest logit, the first of equals, and uses no random number.
pub fn draw(logits: &[f32], sampler: &Sampler, rng: &mut ChaCha8Rng) -> Drawn {
    let (best, top) = argmax(logits);
    if sampler.temperature <= 0.0 {
        return Drawn { token: best, logp: 0.0 };
    }
    // Weights relative to the likeliest token, whose weight is 1.
    let heat = 1.0 / sampler.temperature;
    let weight = |z: f32| ((f64::from(z) - f64::from(top)) * heat).exp();
    let mut kept: Vec<(f64, u32)> = logits.iter().enumerate().map(|(i, z)| (weight(*z), i as u32)).collect();
    if sampler.top_k > 0 && sampler.top_k < kept.len() {
        select(&mut kept, sampler.top_k);
        kept.truncate(sampler.top_k);
    }
    if sampler.top_p < 1.0 {
        nucleus(&mut kept, sampler.top_p);
    }
    if sampler.min_p > 0.0 {
        // The likeliest always stays.
        kept.retain(|(w, i)| *w >= sampler.min_p || *i == best);
    }
    let mass: f64 = kept.iter().map(|(w, _)| w).sum();
    let mut left = uniform(rng) * mass;
    // Rounding may leave a rest after the last one; then the last one with any weight is it.
    let mut chosen = kept.iter().rev().find(|(w, _)| *w > 0.0).copied().unwrap_or((1.0, best));
    for (w, i) in &kept {
        left -= w;
        if left < 0.0 {
            chosen = (*w, *i);
            break;
        }
    }
    Drawn { token: chosen.1, logp: (chosen.0 / mass).ln() }
}

/// The largest logit's index, the first of equals, and its value.
fn argmax(logits: &[f32]) -> (u32, f32) {
    let mut best = (0, f32::NEG_INFINITY);
    for (i, z) in logits.iter().enumerate() {
        if *z > best.1 {
            best = (i as u32, *z);
        }
    }
    best
}

/// Heavier first; equal weights in the vocabulary's order, so that a draw does not depend on the selection's way.
fn order(a: &(f64, u32), b: &(f64, u32)) -> std::cmp::Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

/// Brings the `n` heaviest to the front, in order.
fn select(kept: &mut [(f64, u32)], n: usize) {
    if n < kept.len() {
        kept.select_nth_unstable_by(n, order);
    }
    let n = n.min(kept.len());
    kept[..n].sort_unstable_by(order);
}

/// Keeps the smallest set of the heaviest whose share reaches `top_p`; at least one.
fn nucleus(kept: &mut Vec<(f64, u32)>, top_p: f64) {
    let target = top_p * kept.iter().map(|(w, _)| w).sum::<f64>();
    let mut n = 64.min(kept.len());
    loop {
        select(kept, n);
        let mut sum = 0.0;
        let reached = kept[..n].iter().position(|(w, _)| {
            sum += w;
            sum >= target
        });
        if let Some(at) = reached {
            return kept.truncate(at + 1);
        }
        if n == kept.len() {
            return;
        }
        n = (n * 4).min(kept.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::stream;

    fn sampler(temperature: f64, top_p: f64, top_k: usize, min_p: f64) -> Sampler {
        Sampler { temperature, top_p, top_k, min_p, ..Sampler::default() }
    }

    /// The policy by sorting everything, as the definition says.
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
                let d = draw(&logits, &s, &mut stream(9, k));
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
        assert_eq!(draw(&logits, &sampler(0.0, 1.0, 0, 0.0), &mut stream(1, 1)), Drawn { token: 1, logp: 0.0 });
        let s = sampler(1.0, 0.9, 0, 0.0);
        let twice =
            || (0..9).map(|_| ()).scan(stream(3, 4), |r, ()| Some(draw(&logits, &s, r).token)).collect::<Vec<_>>();
        assert_eq!(twice(), twice());
        assert_eq!(draw(&logits, &sampler(1.0, 0.0001, 0, 0.0), &mut stream(1, 1)).token, 1);
    }
}
