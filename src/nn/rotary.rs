//! RoPE (Su et al. 2021): the frequencies with the configuration's scaling, and cosines and sines of positions.
//!
//! Owns the tables of a model: one for all layers, and one for the layers with a window where these have their own. Refuses to
//! read configurations.
//!
//! **A row's length.** LongRoPE has other frequencies for rows longer than the original context. A row's length here is its
//! own, not that of its batch, so that a row's results do not depend on the rows beside it.

use crate::model::config::{Config, RopeScaling, RopeSpec};

/// The RoPE tables of a model.
pub(crate) struct Rotary(Vec<Frequencies>);

/// The frequencies of some layers.
struct Frequencies {
    /// (rotary/2), in f32 as the models' authors compute them.
    all: Vec<f32>,
    /// Those of rows longer than this.
    long: Option<(usize, Vec<f32>)>,
    /// Factor on cosines and sines.
    attention: f64,
}

/// A token's position, and whether its row is long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowPosition {
    pub(crate) at: usize,
    pub(crate) long: bool,
}

impl Rotary {
    /// Those of `c`.
    pub(crate) fn new(c: &Config) -> Self {
        let own = RopeSpec { theta: c.rope_theta, scaling: c.rope_scaling.clone() };
        let each = std::iter::once(&own).chain(&c.local_rope).enumerate();
        Self(each.map(|(i, rope)| Frequencies::new(rope, c.rotary_of(i))).collect())
    }

    /// Tables.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Pairs of a head that table `i` rotates.
    pub(crate) fn half(&self, i: usize) -> usize {
        self.0.get(i).map_or(0, |one| one.all.len())
    }

    /// Whether a row of `len` tokens has the frequencies of long rows.
    pub(crate) fn is_long(&self, len: usize) -> bool {
        self.0.iter().any(|one| one.long.as_ref().is_some_and(|(original, _)| len > *original))
    }

    /// Cosines and sines of table `i`, (positions, rotary/2).
    pub(crate) fn table<T>(
        &self,
        i: usize,
        positions: impl Iterator<Item = RowPosition>,
        to: impl Fn(f64) -> T,
    ) -> (Vec<T>, Vec<T>) {
        let one = &self.0[i.min(self.0.len() - 1)];
        let angle = |position: RowPosition| {
            let frequencies = one.long.as_ref().filter(|_| position.long).map_or(&one.all, |(_, long)| long);
            // The product is rounded to f32 as the models' authors do; at long positions that is visible.
            frequencies.iter().map(move |f| f64::from(position.at as f32 * f))
        };
        positions.flat_map(angle).map(|a| (to(a.cos() * one.attention), to(a.sin() * one.attention))).unzip()
    }
}

impl Frequencies {
    fn new(rope: &RopeSpec, rotary: usize) -> Self {
        let of = |i: usize| 1.0 / (rope.theta as f32).powf((2 * i) as f32 / rotary as f32);
        let plain: Vec<f32> = (0..rotary / 2).map(of).collect();
        let each = |scaled: &dyn Fn(usize, f32) -> f32| plain.iter().enumerate().map(|(i, f)| scaled(i, *f)).collect();
        let divided = |by: &[f32]| each(&|i, f| f / by.get(i).copied().unwrap_or(1.0));
        let (all, long, attention) = match &rope.scaling {
            RopeScaling::None | RopeScaling::Dynamic(_) => (plain.clone(), None, 1.0),
            RopeScaling::Divided(by) => (divided(by), None, 1.0),
            &RopeScaling::Linear(factor) => (each(&|_, f| f / factor as f32), None, 1.0),
            &RopeScaling::Llama3 { factor, low, high, original } => {
                let scaled = |_, f: f32| {
                    let wave = std::f64::consts::TAU / f64::from(f);
                    if wave < original / high {
                        f
                    } else if wave > original / low {
                        f / factor as f32
                    } else {
                        let smooth = (original / wave - low) / (high - low);
                        ((1.0 - smooth) * f64::from(f) / factor + smooth * f64::from(f)) as f32
                    }
                };
                (each(&scaled), None, 1.0)
            }
            &RopeScaling::Yarn { factor, fast, slow, original, truncate, attention } => {
                // The dimension that makes so many rotations within the original context.
                let dim = |rotations: f64| {
                    rotary as f64 * (original / (rotations * std::f64::consts::TAU)).ln() / (2.0 * rope.theta.ln())
                };
                let (low, high) = if truncate { (dim(fast).floor(), dim(slow).ceil()) } else { (dim(fast), dim(slow)) };
                let (low, high) = (low.max(0.0), high.min(rotary as f64 - 1.0));
                let high = if low == high { high + 0.001 } else { high };
                let scaled = |i: usize, f: f32| {
                    let divided = ((i as f32 - low as f32) / (high - low) as f32).clamp(0.0, 1.0);
                    f / factor as f32 * divided + f * (1.0 - divided)
                };
                (each(&scaled), None, attention)
            }
            &RopeScaling::Proportional { share, factor } => {
                let pairs = (share * rotary as f64 / 2.0) as usize;
                (each(&|i, f| if i < pairs { f / factor as f32 } else { 0.0 }), None, 1.0)
            }
            RopeScaling::LongRope { short, long, original, attention } => {
                (divided(short), Some((*original, divided(long))), *attention)
            }
        };
        Self { all, long, attention }
    }
}
