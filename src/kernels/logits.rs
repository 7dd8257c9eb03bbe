//! Online softmax: a row of logits read block by block, so that the whole row is never stored.
//!
//! Owns the running sums of a softmax over blocks of the vocabulary: they are relative to the largest logit so
//! far, and rescaled when a larger one comes (Milakov & Gimelshein 2018). Refuses to know where the
//! logits come from.

use crate::lanes::{exp, simd};

/// Statistics of a row of logits and its target token.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LogitStats {
    /// Log-prob of the target.
    pub logp: f64,
    /// Entropy in nats.
    pub entropy: f64,
    /// Mean of the logits.
    pub mean: f64,
    /// log Σ p².
    pub collision: f64,
    /// Whether the target is the argmax (the first of equals); false if a logit is NaN.
    pub top1: bool,
    /// log Σ e^z.
    pub log_sum: f64,
}

/// A row's running sums, relative to the largest logit so far, `max`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OnlineSoftmax {
    target: usize,
    /// The target's logit, once read.
    target_logit: f32,
    /// The largest logit before the target.
    max_before: f32,
    max: f32,
    /// Σ e^(z − max).
    sum: f64,
    /// Σ e^(z − max)·(z − max).
    weighted: f64,
    /// Σ e^2(z − max).
    square: f64,
    /// Σ z.
    total: f64,
    /// Logits read.
    read: usize,
}

impl OnlineSoftmax {
    /// No block read yet, for a row with this target.
    #[must_use]
    pub fn new(target: usize) -> Self {
        let none = f32::NEG_INFINITY;
        Self {
            target,
            target_logit: none,
            max_before: none,
            max: none,
            sum: 0.0,
            weighted: 0.0,
            square: 0.0,
            total: 0.0,
            read: 0,
        }
    }

    /// Raises the maximum to `top`; returns the factor by which all earlier sums must be multiplied.
    fn raise_max(&mut self, top: f32) -> f32 {
        if top <= self.max {
            return 1.0;
        }
        if self.read == 0 {
            self.max = top;
            return 0.0;
        }
        let by = f64::from(self.max) - f64::from(top);
        let factor = by.exp();
        self.weighted = factor * (self.weighted + by * self.sum);
        self.sum *= factor;
        self.square *= factor * factor;
        self.max = top;
        factor as f32
    }

    /// 1 / Σ e^(z − max): normalises what [`accumulate`] leaves in a block to probabilities.
    #[must_use]
    pub fn inverse_sum(&self) -> f32 {
        (1.0 / self.sum) as f32
    }

    /// The statistics, once every block has been read.
    #[must_use]
    pub fn stats(&self) -> LogitStats {
        let log_sum = self.sum.ln();
        LogitStats {
            logp: f64::from(self.target_logit - self.max) - log_sum,
            entropy: log_sum - self.weighted / self.sum,
            mean: self.total / self.read as f64,
            collision: self.square.ln() - 2.0 * log_sum,
            top1: self.target_logit == self.max && self.max_before < self.max && !self.sum.is_nan(),
            log_sum: f64::from(self.max) + log_sum,
        }
    }
}

/// Running sums of KL(q ‖ p) between two rows of logits read in blocks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OnlineKl {
    /// The largest logit of q.
    max: f32,
    /// Σ e^(q − max).
    sum: f64,
    /// Σ e^(q − max)·(q − p).
    cross: f64,
}

impl Default for OnlineKl {
    fn default() -> Self {
        Self { max: f32::NEG_INFINITY, sum: 0.0, cross: 0.0 }
    }
}

impl OnlineKl {
    /// KL(q ‖ p) in nats once every block has been read, given the statistics of p's row.
    #[must_use]
    pub fn from(&self, p: &LogitStats) -> f64 {
        self.cross / self.sum - (f64::from(self.max) + self.sum.ln()) + p.log_sum
    }
}

simd! {
    /// Reads the next block of two rows of logits.
    ///
    /// # Panics
    /// When the blocks have other lengths.
    pub fn accumulate_kl(kl: &mut OnlineKl, q: &[f32], p: &[f32]) {
        assert_eq!(q.len(), p.len(), "blocks of other lengths");
        let most = crate::lanes::max(q);
        if most > kl.max {
            let factor = if kl.sum > 0.0 { (f64::from(kl.max) - f64::from(most)).exp() } else { 0.0 };
            kl.sum *= factor;
            kl.cross *= factor;
            kl.max = most;
        }
        let top = kl.max;
        for (q, p) in q.chunks(1024).zip(p.chunks(1024)) {
            kl.sum += f64::from(crate::lanes::sum2(q, p, |q, _| exp(q - top)));
            kl.cross += f64::from(crate::lanes::sum2(q, p, |q, p| exp(q - top) * (q - p)));
        }
    }

    /// Reads the next block of a row's logits, scaled by `inv_temp`, and replaces them by e^(z − max). Returns the factor by which
    /// results from earlier blocks must be multiplied, since `max` may have risen: 0 for the first block.
    pub fn accumulate(softmax: &mut OnlineSoftmax, z: &mut [f32], inv_temp: f32) -> f32 {
        if inv_temp != 1.0 {
            for x in z.iter_mut() {
                *x *= inv_temp;
            }
        }
        let most = crate::lanes::max(z);
        let (first, target) = (softmax.read, softmax.target);
        if target >= first + z.len() {
            softmax.max_before = softmax.max_before.max(most);
        } else if target >= first {
            softmax.target_logit = z[target - first];
            softmax.max_before = softmax.max_before.max(crate::lanes::max(&z[..target - first]));
        }
        let factor = softmax.raise_max(most);
        let top = softmax.max;
        // Four sums in one pass, each in blocks whose sums are f64: the vocabulary is long.
        for block in z.chunks_mut(1024) {
            let (mut s, mut b, mut q, mut t) = ([0f32; 16], [0f32; 16], [0f32; 16], [0f32; 16]);
            let mut parts = block.chunks_exact_mut(16);
            for part in parts.by_ref() {
                for k in 0..16 {
                    let shifted = part[k] - top;
                    let e = exp(shifted);
                    t[k] += part[k];
                    s[k] += e;
                    b[k] = e.mul_add(shifted, b[k]);
                    q[k] = e.mul_add(e, q[k]);
                    part[k] = e;
                }
            }
            for x in parts.into_remainder() {
                let shifted = *x - top;
                let e = exp(shifted);
                t[0] += *x;
                s[0] += e;
                b[0] += e * shifted;
                q[0] += e * e;
                *x = e;
            }
            let add = |x: [f32; 16]| x.iter().map(|x| f64::from(*x)).sum::<f64>();
            softmax.sum += add(s);
            softmax.weighted += add(b);
            softmax.square += add(q);
            softmax.total += add(t);
        }
        softmax.read += z.len();
        factor
    }

    /// Replaces a block of logits that begins at `first` by dL/dlogits, `inv_temp · (g·(onehot − p) − e·p ⊙ (log p + H))`, from
    /// the row's statistics, its target, `g` = dL/dlogp and `e` = dL/dH.
    pub fn logits_backward(z: &mut [f32], first: usize, target: usize, stats: &LogitStats, inv_temp: f32, g: f32, e: f32) {
        let (log_sum, entropy) = (stats.log_sum as f32, stats.entropy as f32);
        for x in z.iter_mut() {
            let log_p = *x * inv_temp - log_sum;
            let p = exp(log_p);
            *x = -inv_temp * p * (g + e * (log_p + entropy));
        }
        if target >= first && target < first + z.len() {
            z[target - first] += inv_temp * g;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_equal_their_definition() {
        for (n, inv_temp, block) in [(7, 1.0, 7), (7, 1.0, 2), (1037, 0.7, 1037), (1037, 0.7, 100), (1037, 1.0, 1024)] {
            let z: Vec<f32> = (0..n).map(|i| ((i as f32 + 0.3) * 12.9898).sin() * 6.5).collect();
            let wide: Vec<f64> = z.iter().map(|z| f64::from(z * inv_temp)).collect();
            let sum: f64 = wide.iter().map(|z| z.exp()).sum();
            let prob: Vec<f64> = wide.iter().map(|z| z.exp() / sum).collect();
            let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-5 * (1.0 + b.abs()), "{a} {b}");
            let read = |target: usize| {
                let (mut softmax, mut kept, mut all) = (OnlineSoftmax::new(target), 0.0, Vec::new());
                for part in z.chunks(block) {
                    let mut part = part.to_vec();
                    let factor = accumulate(&mut softmax, &mut part, inv_temp);
                    // Something linear made of the blocks, as a product with them is.
                    kept = kept * f64::from(factor) + part.iter().map(|e| f64::from(*e)).sum::<f64>();
                    all = part;
                }
                near(kept * f64::from(softmax.inverse_sum()), 1.0);
                let last = prob.chunks(block).next_back().unwrap();
                all.iter().zip(last).for_each(|(e, p)| near(f64::from(e * softmax.inverse_sum()), *p));
                softmax.stats()
            };
            let stats = read(3);
            near(stats.logp, prob[3].ln());
            near(stats.entropy, -prob.iter().map(|p| p * p.ln()).sum::<f64>());
            near(stats.mean, wide.iter().sum::<f64>() / n as f64);
            near(stats.collision, prob.iter().map(|p| p * p).sum::<f64>().ln());
            near(stats.log_sum, sum.ln());
            let top = wide.iter().enumerate().fold(0, |m, (i, z)| if *z > wide[m] { i } else { m });
            assert_eq!(stats.top1, top == 3);
            assert!(read(top).top1);
            let mut back = z.clone();
            for (i, part) in back.chunks_mut(block).enumerate() {
                logits_backward(part, i * block, 3, &stats, inv_temp, 0.8, -0.3);
            }
            for (i, (got, p)) in back.iter().zip(&prob).enumerate() {
                let one = if i == 3 { 1.0 } else { 0.0 };
                let want = f64::from(inv_temp) * (0.8 * (one - p) + 0.3 * p * (p.ln() + stats.entropy));
                assert!((f64::from(*got) - want).abs() < 1e-5, "{got} {want}");
            }
        }
    }

    #[test]
    fn kl_equals_its_definition() {
        let q: Vec<f32> = (0..2500).map(|i| (i as f32 * 12.9898).sin() * 4.0).collect();
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-6 * (1.0 + b.abs()), "{a} {b}");
        for by in [0.0, 0.01, 3.0] {
            let p: Vec<f32> = q.iter().enumerate().map(|(i, q)| q + by * (i as f32 * 0.7).cos()).collect();
            let log = |z: &[f32]| -> Vec<f64> {
                let sum: f64 = z.iter().map(|z| f64::from(*z).exp()).sum();
                z.iter().map(|z| f64::from(*z) - sum.ln()).collect()
            };
            let want: f64 = log(&q).iter().zip(log(&p)).map(|(q, p)| q.exp() * (q - p)).sum();
            for block in [100, 1024, 2500] {
                let (mut kl, mut softmax) = (OnlineKl::default(), OnlineSoftmax::new(5));
                for (q, p) in q.chunks(block).zip(p.chunks(block)) {
                    accumulate_kl(&mut kl, q, p);
                    accumulate(&mut softmax, &mut p.to_vec(), 1.0);
                }
                near(kl.from(&softmax.stats()), want);
            }
        }
    }

    #[test]
    fn the_first_of_equal_logits_is_the_argmax() {
        for block in [1, 2, 4] {
            let stats = |target| {
                let mut softmax = OnlineSoftmax::new(target);
                for part in [1.0f32, 2.0, 2.0, -1.0].chunks(block) {
                    accumulate(&mut softmax, &mut part.to_vec(), 1.0);
                }
                softmax.stats().top1
            };
            assert_eq!([0, 1, 2, 3].map(stats), [false, true, false, false]);
        }
    }
}
