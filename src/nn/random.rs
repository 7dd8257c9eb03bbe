//! Random numbers by `(seed, stream)`: the same numbers in the same order on every machine, resumable at any point.
//!
//! Owns the mapping from a seed and a stream to a generator. Refuses clocks and global generators.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// The generator of a stream. Equal arguments give equal numbers; different streams are independent.
#[must_use]
pub fn stream(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    rng
}

/// A draw from the uniform distribution on [0, 1), with 53 random bits.
pub fn uniform(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// A draw from the standard normal distribution (Box and Muller 1958); uses two uniform draws.
pub fn normal(rng: &mut ChaCha8Rng) -> f64 {
    // 1 − u is in (0, 1], whose logarithm is finite.
    let radius = (-2.0 * (1.0 - uniform(rng)).ln()).sqrt();
    radius * (std::f64::consts::TAU * uniform(rng)).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_repeats_and_differs_from_its_neighbour() {
        let draw = |s, n| (0..4).map(|_| 0).scan(stream(s, n), |r, _: i32| Some(uniform(r))).collect::<Vec<_>>();
        assert_eq!(draw(7, 1), draw(7, 1));
        assert_ne!(draw(7, 1), draw(7, 2));
        assert_ne!(draw(7, 1), draw(8, 1));
        assert!(draw(7, 1).iter().all(|x| (0.0..1.0).contains(x)));
    }

    #[test]
    fn normal_numbers_have_mean_0_and_variance_1() {
        let mut rng = stream(3, 3);
        let x: Vec<f64> = (0..20_000).map(|_| normal(&mut rng)).collect();
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        let variance = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / x.len() as f64;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
        assert!(x.iter().any(|v| *v > 3.0) && x.iter().any(|v| *v < -3.0));
    }
}
