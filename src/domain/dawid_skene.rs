//! Dawid–Skene: the true labels of items and the error rates of their raters, from the raters' labels alone.
//!
//! Dawid & Skene 1979, "Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm". Owns the estimate.
//! Refuses to know what a label means: labels are 0..K, raters 0..R.

/// A label: which rater gave which label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RaterLabel {
    /// The rater, from 0.
    pub rater: usize,
    /// The label, from 0.
    pub label: usize,
}

/// What the labels were estimated to be.
#[derive(Debug, Clone, PartialEq)]
pub struct DawidSkene {
    /// Of each item, the probability of each label; the prior where the item has no labels.
    pub posterior: Vec<Vec<f64>>,
    /// How frequent each label is.
    pub prior: Vec<f64>,
    /// Of each rater, by true label, the probability of each label given.
    pub confusion: Vec<Vec<Vec<f64>>>,
    /// The log-likelihood of the labels.
    pub log_likelihood: f64,
    /// Iterations until it no longer changed.
    pub iterations: usize,
}

/// Iterations after which the estimate is taken as it is.
const MOST: usize = 1000;

/// Estimates true labels and error rates by EM, starting from the shares of the votes. `smoothing` is added to every count of
/// a rater's labels, so that a rater with few labels is not taken to be infallible.
#[must_use]
pub fn dawid_skene(items: &[Vec<RaterLabel>], labels: usize, raters: usize, smoothing: f64) -> DawidSkene {
    let share = |votes: &Vec<RaterLabel>| {
        let n = votes.len() as f64;
        let of = |k: usize| votes.iter().filter(|v| v.label == k).count() as f64;
        (0..labels).map(|k| if n > 0.0 { of(k) / n } else { 1.0 / labels as f64 }).collect()
    };
    let posterior = items.iter().map(share).collect();
    let mut now = DawidSkene {
        posterior,
        prior: Vec::new(),
        confusion: Vec::new(),
        log_likelihood: f64::NEG_INFINITY,
        iterations: 0,
    };
    while now.iterations < MOST {
        now.iterations += 1;
        now.maximise(items, labels, raters, smoothing);
        let before = now.log_likelihood;
        now.log_likelihood = now.expect(items);
        if (now.log_likelihood - before).abs() < 1e-9 * now.log_likelihood.abs() {
            break;
        }
    }
    now
}

impl DawidSkene {
    /// Prior and error rates from the probabilities of the labels. Items without labels say nothing about the prior.
    fn maximise(&mut self, items: &[Vec<RaterLabel>], labels: usize, raters: usize, smoothing: f64) {
        let mut prior = vec![0.0; labels];
        let mut counts = vec![vec![vec![smoothing; labels]; labels]; raters];
        let mut n = 0.0f64;
        for (votes, t) in items.iter().zip(&self.posterior).filter(|(votes, _)| !votes.is_empty()) {
            n += 1.0;
            for k in 0..labels {
                prior[k] += t[k];
                for vote in votes {
                    counts[vote.rater][k][vote.label] += t[k];
                }
            }
        }
        self.prior = prior.into_iter().map(|p| p / n.max(1.0)).collect();
        for row in counts.iter_mut().flatten() {
            let sum: f64 = row.iter().sum();
            // A rater who never met a true label is taken to guess there.
            let even = 1.0 / labels as f64;
            for c in row.iter_mut() {
                *c = if sum > 0.0 { *c / sum } else { even };
            }
        }
        self.confusion = counts;
    }

    /// The probabilities of the labels from prior and error rates; gives the log-likelihood.
    fn expect(&mut self, items: &[Vec<RaterLabel>]) -> f64 {
        let mut total = 0.0;
        for (votes, t) in items.iter().zip(&mut self.posterior) {
            let mut logs: Vec<f64> = self.prior.iter().map(|p| p.ln()).collect();
            for vote in votes {
                let rater = &self.confusion[vote.rater];
                logs.iter_mut().enumerate().for_each(|(k, log)| *log += rater[k][vote.label].ln());
            }
            let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = logs.iter().map(|log| (log - most).exp()).sum();
            if !votes.is_empty() {
                total += most + sum.ln();
            }
            *t = logs.iter().map(|log| (log - most).exp() / sum).collect();
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(got: &[f64], want: &[f64], by: f64) {
        assert_eq!(got.len(), want.len());
        assert!(got.iter().zip(want).all(|(g, w)| (g - w).abs() < by), "{got:?} is not {want:?}");
    }

    fn votes(digits: &str) -> Vec<RaterLabel> {
        let label = |(rater, c): (usize, char)| RaterLabel { rater, label: c.to_digit(10).unwrap() as usize };
        digits.chars().enumerate().map(label).collect()
    }

    #[test]
    fn three_raters_of_six_items() {
        let items: Vec<_> = ["000", "110", "001", "111", "011", "100"].map(votes).into();
        let found = dawid_skene(&items, 2, 3, 0.1);
        let ones: Vec<f64> = found.posterior.iter().map(|t| t[1]).collect();
        near(&ones, &[0.03812, 0.8849, 0.1151, 0.96188, 0.8849, 0.1151], 1e-5);
        near(&found.prior, &[0.5, 0.5], 1e-6);
        near(&found.confusion[0].concat(), &[0.6443, 0.3557, 0.3557, 0.6443], 1e-4);
        near(&found.confusion[1].concat(), &[0.8849, 0.1151, 0.1151, 0.8849], 1e-4);
        near(&found.confusion[2].concat(), &found.confusion[0].concat(), 1e-4);
        assert!((found.log_likelihood + 11.977_066).abs() < 1e-6, "{}", found.log_likelihood);
    }

    #[test]
    fn an_item_without_labels_gets_the_prior_and_changes_nothing() {
        let mut items: Vec<_> = ["000", "110", "001", "111", "011", "100"].map(votes).into();
        let alone = dawid_skene(&items, 2, 3, 0.1);
        items.push(Vec::new());
        let with = dawid_skene(&items, 2, 3, 0.1);
        assert_eq!(with.log_likelihood, alone.log_likelihood);
        near(&with.posterior[6], &[0.5, 0.5], 1e-9);
        assert!(dawid_skene(&[], 2, 0, 0.1).posterior.is_empty());
    }

    #[test]
    fn many_raters_do_not_underflow() {
        let items = vec![votes(&"1".repeat(500)), votes(&"0".repeat(500))];
        let found = dawid_skene(&items, 2, 500, 0.0);
        near(&found.posterior[0], &[0.0, 1.0], 1e-9);
        assert!(found.log_likelihood.is_finite());
    }
}
