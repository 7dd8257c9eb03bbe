//! How many of each stratum: a limit divided exactly.
//!
//! Owns the quotas. Proportional: by size, largest remainders first (Hamilton). Equal: as many of each, what a small stratum
//! cannot give goes to the others. Neyman 1934: by size times the standard deviation, which is least where all agree.

use super::SelectError;

/// How a limit is divided among strata.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Allocation {
    /// By size.
    #[default]
    Proportional,
    /// The same number of each.
    Equal,
    /// By size times standard deviation.
    Neyman,
    /// As many of each named stratum; none of the others.
    Fixed(Vec<(String, usize)>),
}

/// A stratum as it is divided by.
#[derive(Debug, Clone, PartialEq)]
pub struct StratumSize {
    /// Its name.
    pub name: String,
    /// Pairs in it.
    pub size: usize,
    /// How often the first of two answers was preferred, and how often either was, among its judged pairs.
    pub judged: (f64, f64),
}

impl StratumSize {
    /// The standard deviation of one label, from the labels so far and one half-and-half pseudo-label.
    fn deviation(&self) -> f64 {
        let p = (self.judged.0 + 0.5) / (self.judged.1 + 1.0);
        (p * (1.0 - p)).sqrt()
    }
}

/// How many of each stratum make `limit` together; fewer where there are not as many. Never more of one than it has.
///
/// # Errors
/// When a fixed quota is larger than its stratum, or names none.
pub fn allocate(strata: &[StratumSize], limit: usize, how: &Allocation) -> Result<Vec<usize>, SelectError> {
    if let Allocation::Fixed(quotas) = how {
        return fixed(strata, quotas);
    }
    let weight = |s: &StratumSize| match how {
        Allocation::Equal => 1.0,
        Allocation::Neyman => s.size as f64 * s.deviation(),
        _ => s.size as f64,
    };
    let mut out = vec![0; strata.len()];
    let all: usize = strata.iter().map(|s| s.size).sum();
    let mut left = limit.min(all);
    // What a full stratum cannot take is divided among the others again.
    while left > 0 {
        let open: Vec<usize> = (0..strata.len()).filter(|i| out[*i] < strata[*i].size).collect();
        let weights: Vec<f64> = open.iter().map(|i| weight(&strata[*i])).collect();
        let shares = largest_remainder(&weights, left);
        for (i, share) in open.into_iter().zip(shares) {
            let taken = share.min(strata[i].size - out[i]);
            out[i] += taken;
            left -= taken;
        }
    }
    Ok(out)
}

fn fixed(strata: &[StratumSize], quotas: &[(String, usize)]) -> Result<Vec<usize>, SelectError> {
    let mut out = vec![0; strata.len()];
    for (name, quota) in quotas {
        let Some(i) = strata.iter().position(|s| s.name == *name) else {
            let known: Vec<&str> = strata.iter().map(|s| s.name.as_str()).collect();
            return Err(SelectError::NoStratum { given: name.clone(), known: known.join(", ") });
        };
        out[i] += quota;
        if out[i] > strata[i].size {
            return Err(SelectError::QuotaTooLarge { stratum: name.clone(), quota: out[i], has: strata[i].size });
        }
    }
    Ok(out)
}

/// `total` in whole numbers proportional to `weights`: their floors, and one more for the largest remainders.
fn largest_remainder(weights: &[f64], total: usize) -> Vec<usize> {
    let sum: f64 = weights.iter().sum();
    let ideal: Vec<f64> = weights.iter().map(|w| if sum > 0.0 { w / sum * total as f64 } else { 0.0 }).collect();
    let mut out: Vec<usize> = ideal.iter().map(|x| x.floor() as usize).collect();
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by(|i, j| (ideal[*j] - ideal[*j].floor()).total_cmp(&(ideal[*i] - ideal[*i].floor())));
    let missing = total.saturating_sub(out.iter().sum());
    for i in order.into_iter().cycle().take(missing) {
        out[i] += 1;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strata(sizes: &[usize]) -> Vec<StratumSize> {
        let one = |(i, size): (usize, &usize)| StratumSize { name: format!("s{i}"), size: *size, judged: (0.0, 0.0) };
        sizes.iter().enumerate().map(one).collect()
    }

    #[test]
    fn quotas_are_exact() {
        let by = |sizes: &[usize], limit, how| allocate(&strata(sizes), limit, &how).unwrap();
        assert_eq!(by(&[50, 30, 20], 10, Allocation::Proportional), [5, 3, 2]);
        // 3.33 of each: the remainders are alike, the first gets one more.
        assert_eq!(by(&[10, 10, 10], 10, Allocation::Proportional), [4, 3, 3]);
        assert_eq!(by(&[700, 200, 100], 7, Allocation::Proportional), [5, 1, 1]);
        assert_eq!(by(&[100, 2, 100], 12, Allocation::Equal), [5, 2, 5]);
        assert_eq!(by(&[3, 2], 10, Allocation::Equal), [3, 2], "no more than there is");
        assert_eq!(by(&[], 10, Allocation::Equal), Vec::<usize>::new());
        for limit in 0..200 {
            let sizes = [37, 5, 90, 1, 67];
            for how in [Allocation::Proportional, Allocation::Equal, Allocation::Neyman] {
                let out = by(&sizes, limit, how);
                assert_eq!(out.iter().sum::<usize>(), limit);
                assert!(out.iter().zip(sizes).all(|(n, size)| *n <= size));
            }
        }
    }

    #[test]
    fn neyman_takes_more_where_labels_disagree() {
        let mut two = strata(&[1000, 1000]);
        // All prefer the first in one, half do in the other: deviations √(99.5·0.5)/100 and ½.
        two[0].judged = (99.0, 99.0);
        two[1].judged = (49.5, 99.0);
        let out = allocate(&two, 100, &Allocation::Neyman).unwrap();
        let first = (0.995f64 * 0.005).sqrt();
        assert_eq!(out[0], (100.0 * first / (first + 0.5)).round() as usize);
        assert_eq!(out.iter().sum::<usize>(), 100);
    }

    #[test]
    fn a_quota_that_cannot_be_met_is_named() {
        let quota = |name: &str, n| allocate(&strata(&[3]), 0, &Allocation::Fixed(vec![(name.into(), n)]));
        assert_eq!(quota("s0", 3).unwrap(), [3]);
        let text = quota("s0", 4).unwrap_err().to_string();
        assert_eq!(text, "the quota of 4 for s0 is larger than the stratum: it has 3 pairs");
        assert_eq!(quota("code", 1).unwrap_err().to_string(), "there is no stratum code; there are: s0");
    }
}
