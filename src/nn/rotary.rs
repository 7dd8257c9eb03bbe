//! RoPE (Su et al. 2021): the frequencies with the configuration's scaling, and the angles of positions.

use crate::model::config::{Config, RopeScaling};

/// The RoPE frequencies, (head_dim/2), in f32 as the models' authors compute them, scaled as the configuration says.
pub(crate) fn frequencies(c: &Config) -> Vec<f32> {
    let of = |i: usize| 1.0 / (c.rope_theta as f32).powf((2 * i) as f32 / c.head_dim as f32);
    let scaled = |(i, f): (usize, f32)| match &c.rope_scaling {
        RopeScaling::None => f,
        RopeScaling::Divided(by) => f / by.get(i).copied().unwrap_or(1.0),
        &RopeScaling::Linear(factor) => f / factor as f32,
        &RopeScaling::Llama3 { factor, low, high, original } => {
            let wave = std::f64::consts::TAU / f64::from(f);
            if wave < original / high {
                f
            } else if wave > original / low {
                f / factor as f32
            } else {
                let smooth = (original / wave - low) / (high - low);
                ((1.0 - smooth) * f64::from(f) / factor + smooth * f64::from(f)) as f32
            }
        }
    };
    (0..c.head_dim / 2).map(of).enumerate().map(scaled).collect()
}

/// RoPE angles, (T, head_dim/2), of these positions.
pub(crate) fn angles(frequencies: &[f32], positions: impl Iterator<Item = usize>) -> Vec<f64> {
    // The product is rounded to f32 as the models' authors do; at long positions that is visible.
    positions.flat_map(|p| frequencies.iter().map(move |f| f64::from(p as f32 * f))).collect()
}
