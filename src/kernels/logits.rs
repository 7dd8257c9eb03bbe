//! A row of logits read block by block, so that the whole row never has to exist.
//!
//! Owns the running sums of a softmax over a vocabulary that comes in blocks: each block is read against the largest logit so
//! far, and what was summed before is scaled where a larger one comes (Milakov & Gimelshein 2018). Refuses to know where the
//! logits come from.

use crate::lanes::{exp, wide};

/// What is known of a row of logits.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Told {
    /// Log-prob of the target.
    pub logp: f64,
    /// Entropy in nats.
    pub entropy: f64,
    /// Mean of the logits.
    pub mean: f64,
    /// log Σ p².
    pub collision: f64,
    /// Whether the target is the first of the largest; false where a logit is NaN.
    pub top1: bool,
    /// log Σ e^z.
    pub log_sum: f64,
}

/// A row's sums so far, the logits z relative to the largest one, `top`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Telling {
    target: usize,
    /// The logit of the target, once it has come.
    at: f32,
    /// The largest before the target.
    before: f32,
    top: f32,
    /// Σ e^(z − top).
    sum: f64,
    /// Σ e^(z − top)·(z − top).
    bent: f64,
    /// Σ e^2(z − top).
    square: f64,
    /// Σ z.
    total: f64,
    /// Logits read.
    read: usize,
}

impl Telling {
    /// Before the first block of a row with this target.
    #[must_use]
    pub fn new(target: usize) -> Self {
        let none = f32::NEG_INFINITY;
        Self { target, at: none, before: none, top: none, sum: 0.0, bent: 0.0, square: 0.0, total: 0.0, read: 0 }
    }

    /// Makes `top` the largest logit so far; gives by what everything summed before is to be multiplied.
    fn rise(&mut self, top: f32) -> f32 {
        if top <= self.top {
            return 1.0;
        }
        if self.read == 0 {
            self.top = top;
            return 0.0;
        }
        let by = f64::from(self.top) - f64::from(top);
        let factor = by.exp();
        self.bent = factor * (self.bent + by * self.sum);
        self.sum *= factor;
        self.square *= factor * factor;
        self.top = top;
        factor as f32
    }

    /// 1 / Σ e^(z − top): what makes probabilities of the numbers that [`tell`] leaves.
    #[must_use]
    pub fn inverse(&self) -> f32 {
        (1.0 / self.sum) as f32
    }

    /// What is known once every block has been read.
    #[must_use]
    pub fn told(&self) -> Told {
        let log_sum = self.sum.ln();
        Told {
            logp: f64::from(self.at - self.top) - log_sum,
            entropy: log_sum - self.bent / self.sum,
            mean: self.total / self.read as f64,
            collision: self.square.ln() - 2.0 * log_sum,
            top1: self.at == self.top && self.before < self.top && !self.sum.is_nan(),
            log_sum: f64::from(self.top) + log_sum,
        }
    }
}

/// How far one row of logits is from another's distribution, while both come in blocks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Diverging {
    /// The largest of the row that is departed from.
    top: f32,
    /// Σ e^(q − top).
    sum: f64,
    /// Σ e^(q − top)·(q − p).
    cross: f64,
}

impl Default for Diverging {
    fn default() -> Self {
        Self { top: f32::NEG_INFINITY, sum: 0.0, cross: 0.0 }
    }
}

impl Diverging {
    /// KL(q ‖ p) in nats once every block has been read, given what was told of p's row.
    #[must_use]
    pub fn from(&self, p: &Told) -> f64 {
        self.cross / self.sum - (f64::from(self.top) + self.sum.ln()) + p.log_sum
    }
}

wide! {
    /// Reads the next block of two rows of logits.
    ///
    /// # Panics
    /// When the blocks have other lengths.
    pub fn diverge(diverging: &mut Diverging, q: &[f32], p: &[f32]) {
        assert_eq!(q.len(), p.len(), "blocks of other lengths");
        let most = crate::lanes::max(q);
        if most > diverging.top {
            let factor = if diverging.sum > 0.0 { (f64::from(diverging.top) - f64::from(most)).exp() } else { 0.0 };
            diverging.sum *= factor;
            diverging.cross *= factor;
            diverging.top = most;
        }
        let top = diverging.top;
        for (q, p) in q.chunks(1024).zip(p.chunks(1024)) {
            diverging.sum += f64::from(crate::lanes::sum2(q, p, |q, _| exp(q - top)));
            diverging.cross += f64::from(crate::lanes::sum2(q, p, |q, p| exp(q - top) * (q - p)));
        }
    }

    /// Reads the next block of a row's logits, the logits times `cold` first; leaves e^(z − top) in their place. Gives by what
    /// everything made of the blocks before is to be multiplied, since `top` may have risen: 0 for the first block.
    pub fn tell(telling: &mut Telling, z: &mut [f32], cold: f32) -> f32 {
        if cold != 1.0 {
            for x in z.iter_mut() {
                *x *= cold;
            }
        }
        let most = crate::lanes::max(z);
        let (first, target) = (telling.read, telling.target);
        if target >= first + z.len() {
            telling.before = telling.before.max(most);
        } else if target >= first {
            telling.at = z[target - first];
            telling.before = telling.before.max(crate::lanes::max(&z[..target - first]));
        }
        let factor = telling.rise(most);
        let top = telling.top;
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
            telling.sum += add(s);
            telling.bent += add(b);
            telling.square += add(q);
            telling.total += add(t);
        }
        telling.read += z.len();
        factor
    }

    /// From a block of logits that begins at `first` to dL/dlogits, `cold · (g·(onehot − p) − e·p ⊙ (log p + H))`, given what
    /// was told of the whole row, its target, dL/dlogp of it and dL/dH.
    pub fn tell_back(z: &mut [f32], first: usize, target: usize, told: &Told, cold: f32, g: f32, e: f32) {
        let (log_sum, entropy) = (told.log_sum as f32, told.entropy as f32);
        for x in z.iter_mut() {
            let log_p = *x * cold - log_sum;
            let p = exp(log_p);
            *x = -cold * p * (g + e * (log_p + entropy));
        }
        if target >= first && target < first + z.len() {
            z[target - first] += cold * g;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_logits_is_told_as_defined() {
        for (n, cold, block) in [(7, 1.0, 7), (7, 1.0, 2), (1037, 0.7, 1037), (1037, 0.7, 100), (1037, 1.0, 1024)] {
            let z: Vec<f32> = (0..n).map(|i| ((i as f32 + 0.3) * 12.9898).sin() * 6.5).collect();
            let wide: Vec<f64> = z.iter().map(|z| f64::from(z * cold)).collect();
            let sum: f64 = wide.iter().map(|z| z.exp()).sum();
            let prob: Vec<f64> = wide.iter().map(|z| z.exp() / sum).collect();
            let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-5 * (1.0 + b.abs()), "{a} {b}");
            let read = |target: usize| {
                let (mut telling, mut kept, mut all) = (Telling::new(target), 0.0, Vec::new());
                for part in z.chunks(block) {
                    let mut part = part.to_vec();
                    let factor = tell(&mut telling, &mut part, cold);
                    // Something linear made of the blocks, as a product with them is.
                    kept = kept * f64::from(factor) + part.iter().map(|e| f64::from(*e)).sum::<f64>();
                    all = part;
                }
                near(kept * f64::from(telling.inverse()), 1.0);
                let last = prob.chunks(block).next_back().unwrap();
                all.iter().zip(last).for_each(|(e, p)| near(f64::from(e * telling.inverse()), *p));
                telling.told()
            };
            let told = read(3);
            near(told.logp, prob[3].ln());
            near(told.entropy, -prob.iter().map(|p| p * p.ln()).sum::<f64>());
            near(told.mean, wide.iter().sum::<f64>() / n as f64);
            near(told.collision, prob.iter().map(|p| p * p).sum::<f64>().ln());
            near(told.log_sum, sum.ln());
            let top = wide.iter().enumerate().fold(0, |m, (i, z)| if *z > wide[m] { i } else { m });
            assert_eq!(told.top1, top == 3);
            assert!(read(top).top1);
            let mut back = z.clone();
            for (i, part) in back.chunks_mut(block).enumerate() {
                tell_back(part, i * block, 3, &told, cold, 0.8, -0.3);
            }
            for (i, (got, p)) in back.iter().zip(&prob).enumerate() {
                let one = if i == 3 { 1.0 } else { 0.0 };
                let want = f64::from(cold) * (0.8 * (one - p) + 0.3 * p * (p.ln() + told.entropy));
                assert!((f64::from(*got) - want).abs() < 1e-5, "{got} {want}");
            }
        }
    }

    #[test]
    fn the_divergence_is_its_definition() {
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
                let (mut diverging, mut telling) = (Diverging::default(), Telling::new(5));
                for (q, p) in q.chunks(block).zip(p.chunks(block)) {
                    diverge(&mut diverging, q, p);
                    tell(&mut telling, &mut p.to_vec(), 1.0);
                }
                near(diverging.from(&telling.told()), want);
            }
        }
    }

    #[test]
    fn of_equal_logits_the_first_is_the_likeliest() {
        for block in [1, 2, 4] {
            let told = |target| {
                let mut telling = Telling::new(target);
                for part in [1.0f32, 2.0, 2.0, -1.0].chunks(block) {
                    tell(&mut telling, &mut part.to_vec(), 1.0);
                }
                telling.told().top1
            };
            assert_eq!([0, 1, 2, 3].map(told), [false, true, false, false]);
        }
    }
}
