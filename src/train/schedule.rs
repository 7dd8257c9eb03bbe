//! Learning-rate schedules with warm-up: linear, cosine, inverse square root, warmup-stable-decay, constant.
//!
//! Owns the learning rate of every step, as in Hugging Face's trainer. Refuses to count steps: the rate is a pure function of
//! the step.

use crate::domain::{SchedulerKind, TrainerParams};

/// The decay after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decay {
    /// Linear to 0 at the last step.
    Linear,
    /// Half a cosine to 0 at the last step.
    Cosine,
    /// No decay.
    Constant,
    /// 1/√step (Vaswani et al. 2017), scaled so that the peak is at the end of the warm-up. Without a warm-up the first step
    /// has the peak, and the rate is halved after 30,000 steps.
    InverseSqrt,
    /// Constant, then linear to 0 over this many last steps (warmup-stable-decay, Hu et al. 2024), capped by the steps after
    /// the warm-up.
    Stable(u64),
}

/// Timescale of `inverse_sqrt` without a warm-up, as in Hugging Face's trainer.
const TIMESCALE: f64 = 10_000.0;

/// The learning rate of every step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// Decay after the warm-up.
    pub decay: Decay,
    /// Rate at the end of the warm-up.
    pub peak: f64,
    /// Warm-up steps.
    pub warmup: u64,
    /// Steps in all.
    pub total: u64,
}

impl Schedule {
    /// The schedule of a run of `total` steps. `warmup_steps` below 1 and `lr_decay_share` are shares of all steps, rounded up.
    #[must_use]
    pub fn new(params: &TrainerParams, total: u64) -> Self {
        let decay = match params.lr_scheduler_type {
            SchedulerKind::Linear => Decay::Linear,
            SchedulerKind::Cosine => Decay::Cosine,
            SchedulerKind::Constant => Decay::Constant,
            SchedulerKind::InverseSqrt => Decay::InverseSqrt,
            SchedulerKind::WarmupStableDecay => Decay::Stable((params.lr_decay_share * total as f64).ceil() as u64),
        };
        let steps = params.warmup_steps;
        let warmup = if steps >= 1.0 { steps as u64 } else { (steps * total as f64).ceil() as u64 };
        Self { decay, peak: params.learning_rate, warmup, total }
    }

    /// The rate of the update that follows `done` updates. With a warm-up the first update's rate is 0.
    #[must_use]
    pub fn rate(&self, done: u64) -> f64 {
        if done < self.warmup {
            return self.peak * done as f64 / self.warmup as f64;
        }
        let decay_steps = self.total.saturating_sub(self.warmup).max(1) as f64;
        let after = (done - self.warmup) as f64;
        let progress = after / decay_steps;
        self.peak
            * match self.decay {
                Decay::Constant => 1.0,
                Decay::Linear => (1.0 - progress).max(0.0),
                Decay::Cosine => (0.5 * (1.0 + (std::f64::consts::PI * progress).cos())).max(0.0),
                Decay::InverseSqrt => {
                    let scale = if self.warmup == 0 { TIMESCALE } else { self.warmup as f64 };
                    (scale / (after + scale)).sqrt()
                }
                Decay::Stable(decay) => {
                    let length = (decay as f64).min(decay_steps);
                    ((decay_steps - after) / length.max(1.0)).clamp(0.0, 1.0)
                }
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Hyperparameters, Params};

    fn at(decay: Decay, warmup: u64) -> Vec<f64> {
        let s = Schedule { decay, peak: 2.0, warmup, total: 10 };
        (0..=10).map(|k| s.rate(k)).collect()
    }

    #[test]
    fn warm_up_starts_at_zero_and_the_line_ends_there() {
        let line = at(Decay::Linear, 2);
        assert_eq!(line[..3], [0.0, 1.0, 2.0]);
        assert!((line[6] - 1.0).abs() < 1e-12 && line[10] == 0.0);
        assert_eq!(at(Decay::Linear, 0)[0], 2.0);
    }

    #[test]
    fn cosine_and_constant() {
        let cosine = at(Decay::Cosine, 0);
        assert!((cosine[0] - 2.0).abs() < 1e-12 && (cosine[5] - 1.0).abs() < 1e-12 && cosine[10].abs() < 1e-12);
        assert_eq!(at(Decay::Constant, 4), [0.0, 0.5, 1.0, 1.5, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0]);
    }

    #[test]
    fn the_inverse_root_peaks_at_the_end_of_the_warm_up() {
        let root = at(Decay::InverseSqrt, 2);
        assert_eq!(root[..3], [0.0, 1.0, 2.0]);
        // √(2/8)·2 six steps after the warm-up of two.
        assert!((root[8] - 1.0).abs() < 1e-12);
        let bare = Schedule { decay: Decay::InverseSqrt, peak: 2.0, warmup: 0, total: 10 };
        assert_eq!((bare.rate(0), bare.rate(30_000)), (2.0, 1.0));
    }

    #[test]
    fn stable_then_a_line_to_zero() {
        let rates = at(Decay::Stable(4), 2);
        assert_eq!(rates, [0.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 1.5, 1.0, 0.5, 0.0]);
        // A decay longer than what the warm-up leaves begins at its end.
        assert_eq!(at(Decay::Stable(9), 6), at(Decay::Linear, 6));
        assert_eq!(at(Decay::Stable(0), 0)[9..], [2.0, 0.0]);
    }

    fn params(settings: &[(&str, &str)]) -> TrainerParams {
        TrainerParams::read(&Params(settings.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect())).unwrap()
    }

    #[test]
    fn a_decay_share_is_for_the_schedule_that_has_one() {
        let stable = ("lr_scheduler_type", "warmup_stable_decay");
        let tenth = ("lr_decay_share", "0.1");
        assert_eq!(Schedule::new(&params(&[stable, tenth]), 25).decay, Decay::Stable(3));
        assert_eq!(Schedule::new(&params(&[stable]), 25).decay, Decay::Stable(5));
        assert_eq!(Schedule::new(&params(&[tenth]), 25).decay, Decay::Linear);
    }

    #[test]
    fn a_share_of_the_steps_is_rounded_up() {
        assert_eq!(Schedule::new(&params(&[("warmup_steps", "0.1")]), 25).warmup, 3);
        assert_eq!(Schedule::new(&params(&[("warmup_steps", "4")]), 25).warmup, 4);
    }
}
