//! The size of a step over the run: linear, cosine or constant after a warm-up, as Hugging Face's trainer has them.
//!
//! Owns the multiplier of the learning rate. Refuses to count steps itself: the rate is a pure function of the step.

use super::error::Error;
use crate::domain::Params;

/// How the rate falls after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decay {
    /// To 0 at the last step, in a straight line.
    Linear,
    /// To 0 at the last step, along half a cosine.
    Cosine,
    /// Not at all.
    Constant,
}

/// The learning rate of every step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// Shape after the warm-up.
    pub decay: Decay,
    /// Rate at the end of the warm-up.
    pub peak: f64,
    /// Steps of rising rate.
    pub warmup: u64,
    /// Steps in all.
    pub total: u64,
}

impl Schedule {
    /// The schedule that `params` ask for in a run of `total` steps. `warmup_steps` below 1 is a share of all steps.
    ///
    /// # Errors
    /// When the scheduler's name is unknown.
    pub fn new(params: &Params, total: u64) -> Result<Self, Error> {
        let decay = match params.text("lr_scheduler_type") {
            "linear" => Decay::Linear,
            "cosine" => Decay::Cosine,
            "constant" => Decay::Constant,
            other => {
                return Err(Error::Asked(format!("lr_scheduler_type={other} is none of linear, cosine, constant")));
            }
        };
        let asked = params.f64("warmup_steps");
        let warmup = if asked >= 1.0 { asked as u64 } else { (asked * total as f64).ceil() as u64 };
        Ok(Self { decay, peak: params.f64("learning_rate"), warmup, total })
    }

    /// The rate of the update that follows `done` updates. With a warm-up the first update's rate is 0.
    #[must_use]
    pub fn rate(&self, done: u64) -> f64 {
        if done < self.warmup {
            return self.peak * done as f64 / self.warmup as f64;
        }
        let rest = self.total.saturating_sub(self.warmup).max(1) as f64;
        let gone = (done - self.warmup) as f64 / rest;
        self.peak
            * match self.decay {
                Decay::Constant => 1.0,
                Decay::Linear => (1.0 - gone).max(0.0),
                Decay::Cosine => (0.5 * (1.0 + (std::f64::consts::PI * gone).cos())).max(0.0),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_share_of_the_steps_is_rounded_up() {
        let mut params = Params::default();
        for (k, v) in [("lr_scheduler_type", "linear"), ("learning_rate", "0.1"), ("warmup_steps", "0.1")] {
            params.0.insert(k.into(), v.into());
        }
        assert_eq!(Schedule::new(&params, 25).unwrap().warmup, 3);
        params.0.insert("warmup_steps".into(), "4".into());
        assert_eq!(Schedule::new(&params, 25).unwrap().warmup, 4);
    }
}
