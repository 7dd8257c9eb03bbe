//! Exact tests on paired outcomes, and Holm's correction for several of them.

use super::Undefined;
use statrs::distribution::{Binomial, ChiSquared, ContinuousCDF, DiscreteCDF};

/// McNemar's test: two models pass or fail on the same prompts, and `b` prompts pass with the first only, `c` with the
/// second only.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct McNemar {
    /// The exact p-value.
    pub exact: f64,
    /// The statistic with continuity correction (|b − c| − 1)²/(b + c); 0 where b = c, as in R.
    pub chi2: f64,
    /// Its p-value with one degree of freedom.
    pub chi2_p: f64,
}

/// The exact two-sided sign test of `wins` against `losses`; ties do not enter. p = 2·P(X ≤ min) for X ~ Bin(n, ½), at
/// most 1.
///
/// # Errors
/// Nothing was decided.
pub fn sign_test(wins: usize, losses: usize) -> Result<f64, Undefined> {
    let n = wins + losses;
    if n == 0 {
        return Err(Undefined::Empty);
    }
    let binomial = Binomial::new(0.5, n as u64).map_err(|_| Undefined::Empty)?;
    Ok((2.0 * binomial.cdf(wins.min(losses) as u64)).min(1.0))
}

/// McNemar's test (McNemar 1947; Edwards 1948 for the correction).
///
/// # Errors
/// The two models never differ.
pub fn mcnemar(b: usize, c: usize) -> Result<McNemar, Undefined> {
    let exact = sign_test(b, c)?;
    let chi2 = (b.abs_diff(c).saturating_sub(1) as f64).powi(2) / (b + c) as f64;
    let chi2_p = ChiSquared::new(1.0).map_err(|_| Undefined::Empty)?.sf(chi2);
    Ok(McNemar { exact, chi2, chi2_p })
}

/// Holm's adjusted p-values (Holm 1979), in the given order: the k-th smallest of m is multiplied by m − k + 1, is never
/// below a smaller one's, and at most 1.
///
/// # Errors
/// A value outside 0..=1.
pub fn holm(p: &[f64]) -> Result<Vec<f64>, Undefined> {
    if let Some(row) = p.iter().position(|p| !(0.0..=1.0).contains(p)) {
        return Err(Undefined::Score { row: row + 1, value: p[row], expected: "a probability" });
    }
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|i, j| p[*i].total_cmp(&p[*j]));
    let mut adjusted = vec![0.0; p.len()];
    let mut least = 0.0f64;
    for (rank, at) in order.iter().enumerate() {
        least = least.max(p[*at] * (p.len() - rank) as f64).min(1.0);
        adjusted[*at] = least;
    }
    Ok(adjusted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(got: f64, want: f64) {
        assert!((got - want).abs() < 1e-6, "{got} is not {want}");
    }

    #[test]
    fn the_sign_test_of_the_reference() {
        near(sign_test(5, 15).unwrap(), 0.041_389);
        near(sign_test(10, 22).unwrap(), 0.050_102);
        near(sign_test(0, 6).unwrap(), 0.031_25);
        near(sign_test(22, 10).unwrap(), 0.050_102);
        assert_eq!(sign_test(7, 7), Ok(1.0));
        assert_eq!(sign_test(0, 0), Err(Undefined::Empty));
        // Many prompts: about 2·(1 − Φ((2·5200 − 10000 − 1)/100)).
        assert!((sign_test(5200, 4800).unwrap() - 6.6e-5).abs() < 1e-6);
    }

    #[test]
    fn mcnemar_of_the_reference() {
        let found = mcnemar(5, 15).unwrap();
        near(found.exact, 0.041_389);
        near(found.chi2, 4.05);
        near(found.chi2_p, 0.044_171);
        assert_eq!(mcnemar(15, 5), Ok(found));
        let even = mcnemar(4, 4).unwrap();
        assert_eq!((even.exact, even.chi2, even.chi2_p), (1.0, 0.0, 1.0));
        assert_eq!(mcnemar(0, 0), Err(Undefined::Empty));
    }

    #[test]
    fn holm_by_hand() {
        let found = holm(&[0.04, 0.01, 0.03]).unwrap();
        // 0.01·3, 0.03·2, then 0.04·1 raised to 0.06.
        [0.06, 0.03, 0.06].iter().zip(&found).for_each(|(want, got)| near(*got, *want));
        assert_eq!(holm(&[0.9, 0.8]), Ok(vec![1.0, 1.0]));
        assert_eq!(holm(&[]), Ok(vec![]));
        assert!(matches!(holm(&[0.1, f64::NAN]), Err(Undefined::Score { row: 2, .. })));
    }
}
