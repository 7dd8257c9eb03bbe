//! Agreement between raters: percent agreement, Cohen's, Fleiss' and Krippendorff's coefficients, and intervals for them.
//!
//! Owns the formulas. Labels are small whole numbers; the level says how far apart two labels are. A coefficient is none where
//! it is undefined: no item has two labels, or all labels are the same. Refuses to know what a label means.
//!
//! Sources: Cohen 1960 and 1968 (weighted); Fleiss 1971; Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability".

use super::stats::{quantile, resample};
use std::collections::BTreeMap;

/// How far apart two labels are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Equal or not.
    Nominal,
    /// By how many labels lie between them.
    Ordinal,
    /// By their squared difference.
    Interval,
    /// By their squared difference relative to their sum.
    Ratio,
}

/// The labels of one item, at most one from each rater.
pub type ItemLabels = Vec<i64>;

/// The share of agreeing pairs of labels within items, over all pairs of labels; none where no item has two.
#[must_use]
pub fn percent_agreement(items: &[ItemLabels]) -> Option<f64> {
    let (mut agree, mut all) = (0usize, 0usize);
    for labels in items {
        for (i, a) in labels.iter().enumerate() {
            agree += labels[i + 1..].iter().filter(|b| *b == a).count();
            all += labels.len() - i - 1;
        }
    }
    (all > 0).then(|| agree as f64 / all as f64)
}

/// The pairwise agreement of one item's labels: Σ n_k(n_k − 1) / n(n − 1). None below two labels.
#[must_use]
pub fn item_agreement(labels: &[i64]) -> Option<f64> {
    let n = labels.len();
    let agree: usize = counts(labels).values().map(|k| k * (k - 1)).sum();
    (n >= 2).then(|| agree as f64 / (n * (n - 1)) as f64)
}

/// Cohen's κ of two raters' labels of the same items.
#[must_use]
pub fn cohen_kappa(pairs: &[(i64, i64)]) -> Option<f64> {
    weighted_kappa(pairs, |a, b| f64::from(a == b))
}

/// Cohen's κ with quadratic weights 1 − (a − b)²/(max − min)².
#[must_use]
pub fn quadratic_kappa(pairs: &[(i64, i64)]) -> Option<f64> {
    let all = || pairs.iter().flat_map(|(a, b)| [*a, *b]);
    let span = (all().max()? - all().min()?) as f64;
    weighted_kappa(pairs, |a, b| if span == 0.0 { 1.0 } else { 1.0 - ((a - b) as f64 / span).powi(2) })
}

fn weighted_kappa(pairs: &[(i64, i64)], weight: impl Fn(i64, i64) -> f64) -> Option<f64> {
    let n = pairs.len() as f64;
    let observed: f64 = pairs.iter().map(|(a, b)| weight(*a, *b)).sum::<f64>() / n;
    let first = counts(&pairs.iter().map(|p| p.0).collect::<Vec<_>>());
    let second = counts(&pairs.iter().map(|p| p.1).collect::<Vec<_>>());
    let mut expected = 0.0;
    for (a, in_first) in &first {
        for (b, in_second) in &second {
            expected += weight(*a, *b) * (in_first * in_second) as f64 / (n * n);
        }
    }
    (n > 0.0 && expected < 1.0).then(|| (observed - expected) / (1.0 - expected))
}

/// Fleiss' κ. Items with another number of labels than most items have are left out; the count of those used is given beside it.
#[must_use]
pub fn fleiss_kappa(items: &[ItemLabels]) -> (Option<f64>, usize) {
    let mut sizes: BTreeMap<usize, usize> = BTreeMap::new();
    for labels in items.iter().filter(|l| l.len() >= 2) {
        *sizes.entry(labels.len()).or_default() += 1;
    }
    let Some((&n, &used)) = sizes.iter().max_by_key(|(_, items)| **items) else { return (None, 0) };
    let mut share: BTreeMap<i64, f64> = BTreeMap::new();
    let mut mean = 0.0;
    for labels in items.iter().filter(|l| l.len() == n) {
        mean += item_agreement(labels).unwrap_or(0.0) / used as f64;
        for label in labels {
            *share.entry(*label).or_default() += 1.0 / (used * n) as f64;
        }
    }
    let expected: f64 = share.values().map(|p| p * p).sum();
    let kappa = (share.len() > 1).then(|| (mean - expected) / (1.0 - expected));
    (kappa, used)
}

/// Krippendorff's α = 1 − observed/expected disagreement. Items with fewer than two labels say nothing.
#[must_use]
pub fn krippendorff_alpha(items: &[ItemLabels], scale: Scale) -> Option<f64> {
    let mut values: Vec<i64> = items.iter().filter(|l| l.len() >= 2).flatten().copied().collect();
    values.sort_unstable();
    values.dedup();
    let k = values.len();
    let at = |label: &i64| values.binary_search(label).unwrap_or(0);
    let mut coincidences = vec![0.0; k * k];
    for labels in items.iter().filter(|l| l.len() >= 2) {
        let weight = 1.0 / (labels.len() - 1) as f64;
        for (i, a) in labels.iter().enumerate() {
            for (j, b) in labels.iter().enumerate() {
                if i != j {
                    coincidences[at(a) * k + at(b)] += weight;
                }
            }
        }
    }
    let totals: Vec<f64> = (0..k).map(|c| coincidences[c * k..(c + 1) * k].iter().sum()).collect();
    let n: f64 = totals.iter().sum();
    let distance = |c: usize, d: usize| {
        let (low, high) = (c.min(d), c.max(d));
        let gap = (values[c] - values[d]) as f64;
        match scale {
            Scale::Nominal => f64::from(c != d),
            Scale::Ordinal => {
                let between: f64 = totals[low..=high].iter().sum();
                (between - f64::midpoint(totals[low], totals[high])).powi(2)
            }
            Scale::Interval => gap * gap,
            Scale::Ratio if c == d => 0.0,
            Scale::Ratio => (gap / (values[c] + values[d]) as f64).powi(2),
        }
    };
    let (mut observed, mut expected) = (0.0, 0.0);
    for c in 0..k {
        for d in (0..k).filter(|d| *d != c) {
            observed += coincidences[c * k + d] * distance(c, d);
            expected += totals[c] * totals[d] * distance(c, d) / (n - 1.0);
        }
    }
    (k > 1 && expected > 0.0).then(|| 1.0 - observed / expected)
}

/// The 95 % percentile interval of a statistic over items drawn with replacement `draws` times. Draws in which it is undefined
/// are left out; none where it is undefined in more than half of them.
#[must_use]
pub fn bootstrap<T: Clone>(
    items: &[T],
    draws: usize,
    seed: u64,
    statistic: impl Fn(&[T]) -> Option<f64>,
) -> Option<(f64, f64)> {
    let found = resample(items, draws, seed, statistic);
    (found.len() * 2 > draws).then(|| (quantile(&found, 0.025), quantile(&found, 0.975)))
}

fn counts(labels: &[i64]) -> BTreeMap<i64, usize> {
    let mut out = BTreeMap::new();
    for label in labels {
        *out.entry(*label).or_default() += 1;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(got: Option<f64>, want: f64) {
        let got = got.expect("defined");
        assert!((got - want).abs() < 1e-6, "{got} is not {want}");
    }

    #[test]
    fn cohen_of_a_two_by_two_table() {
        let cells = [((0, 0), 20), ((0, 1), 5), ((1, 0), 10), ((1, 1), 15)];
        let pairs: Vec<(i64, i64)> = cells.iter().flat_map(|(pair, n)| vec![*pair; *n]).collect();
        near(cohen_kappa(&pairs), 0.4);
        // With two labels the weights are those of equality.
        near(quadratic_kappa(&pairs), 0.4);
    }

    #[test]
    fn quadratic_weights_forgive_near_labels() {
        // Observed 1 − (0 + 0 + 1/4)/3 = 11/12; expected from margins {0,1,2} and {0,1,1}: 1 − (0+1/4+1/4+1/4+0+0+1+1/4+1/4)/9.
        let pairs = [(0, 0), (1, 1), (2, 1)];
        near(quadratic_kappa(&pairs), (11.0 / 12.0 - 0.75) / 0.25);
    }

    #[test]
    fn fleiss_of_the_classic_table() {
        let table = [
            [0, 0, 0, 0, 14],
            [0, 2, 6, 4, 2],
            [0, 0, 3, 5, 6],
            [0, 3, 9, 2, 0],
            [2, 2, 8, 1, 1],
            [7, 7, 0, 0, 0],
            [3, 2, 6, 3, 0],
            [2, 5, 3, 2, 2],
            [6, 5, 2, 1, 0],
            [0, 2, 2, 3, 7],
        ];
        let labels = |row: &[usize; 5]| (0..5).flat_map(|k| vec![k as i64; row[k]]).collect();
        let mut items: Vec<ItemLabels> = table.iter().map(labels).collect();
        let (kappa, used) = fleiss_kappa(&items);
        near(kappa, 0.209_931);
        assert_eq!(used, 10);
        items.push(vec![1, 2]);
        assert_eq!(fleiss_kappa(&items).1, 10, "an item with fewer labels is left out and counted");
    }

    /// Krippendorff's example: four raters, twelve units, gaps.
    fn reliability() -> Vec<ItemLabels> {
        let rows = ["123321412...", "1233224125.3", ".3332342251.", "12332441251."];
        let label = |row: &str, unit: usize| row.chars().nth(unit).and_then(|c| c.to_digit(10)).map(i64::from);
        (0..12).map(|unit| rows.iter().filter_map(|row| label(row, unit)).collect()).collect()
    }

    #[test]
    fn krippendorff_at_every_scale() {
        let items = reliability();
        near(krippendorff_alpha(&items, Scale::Nominal), 0.743_421);
        near(krippendorff_alpha(&items, Scale::Ordinal), 0.815_388);
        near(krippendorff_alpha(&items, Scale::Interval), 0.849_107);
        near(krippendorff_alpha(&items, Scale::Ratio), 0.797_403);
    }

    #[test]
    fn without_variation_or_overlap_nothing_is_defined() {
        let same = vec![vec![1, 1], vec![1, 1]];
        assert_eq!(krippendorff_alpha(&same, Scale::Nominal), None);
        assert_eq!(fleiss_kappa(&same).0, None);
        assert_eq!(cohen_kappa(&[(1, 1), (1, 1)]), None);
        assert_eq!(quadratic_kappa(&[(1, 1)]), None);
        assert_eq!(krippendorff_alpha(&[vec![1], vec![2]], Scale::Nominal), None);
        assert_eq!(percent_agreement(&[vec![1], vec![]]), None);
        assert_eq!(cohen_kappa(&[]), None);
        assert_eq!(percent_agreement(&same), Some(1.0));
    }

    #[test]
    fn one_items_agreement_by_hand() {
        near(item_agreement(&[1, 1, 0]), 1.0 / 3.0);
        near(item_agreement(&[1, 1]), 1.0);
        assert_eq!(item_agreement(&[1]), None);
    }

    #[test]
    fn the_bootstrap_is_the_same_for_the_same_seed_and_covers_the_value() {
        let items = reliability();
        let alpha = |s: &[ItemLabels]| krippendorff_alpha(s, Scale::Nominal);
        let (low, high) = bootstrap(&items, 1000, 7, alpha).unwrap();
        assert_eq!(bootstrap(&items, 1000, 7, alpha), Some((low, high)));
        assert!(low < 0.743_421 && 0.743_421 < high && low > 0.2 && high <= 1.0, "{low} {high}");
        assert_eq!(bootstrap(&[vec![1, 1]], 100, 7, alpha), None);
        // The mean of 0/1 items: the interval's half-width is about 1.96·√(p(1−p)/n).
        let coins: Vec<i64> = (0..400).map(|i| i % 2).collect();
        let mean = |s: &[i64]| Some(s.iter().sum::<i64>() as f64 / s.len() as f64);
        let (low, high) = bootstrap(&coins, 2000, 1, mean).unwrap();
        assert!(((high - low) / 2.0 - 0.049).abs() < 0.006, "{low} {high}");
    }
}
