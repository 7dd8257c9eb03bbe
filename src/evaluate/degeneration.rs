//! Signs that a model has degenerated: empty and cut answers, repeated 4-grams, length, few distinct 2-grams.
//!
//! Tokens may be a model's ids or words; a share is of n-grams. Distinct-n is that of Li et al. 2016, over all answers.

use crate::domain::Finish;
use std::collections::HashSet;
use std::hash::Hash;

/// An answer whose share of repeated 4-grams lies above this is repetitive.
pub const REPEATED: f64 = 0.3;

/// The figures of a set of answers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Degeneration {
    /// Answers.
    pub answers: usize,
    /// Answers without a character that is not white space.
    pub empty: usize,
    /// Answers that reached the limit of tokens instead of ending.
    pub cut: usize,
    /// Answers above [`REPEATED`].
    pub repetitive: usize,
    /// The mean share of repeated 4-grams.
    pub repeated: f64,
    /// Mean tokens.
    pub tokens: f64,
    /// Distinct 2-grams of all answers by all 2-grams; none without a 2-gram.
    pub distinct: Option<f64>,
}

/// The share of n-grams that occurred before in the same answer: 1 − distinct/all; 0 without an n-gram.
#[must_use]
pub fn repeated_share<T: Eq + Hash>(tokens: &[T], n: usize) -> f64 {
    if n == 0 || tokens.len() < n {
        return 0.0;
    }
    let distinct: HashSet<&[T]> = tokens.windows(n).collect();
    1.0 - distinct.len() as f64 / (tokens.len() + 1 - n) as f64
}

/// The share of distinct n-grams among all of several answers; none without an n-gram.
#[must_use]
pub fn distinct_share<T: Eq + Hash>(answers: &[&[T]], n: usize) -> Option<f64> {
    let grams = || answers.iter().filter(|_| n > 0).flat_map(|tokens| tokens.windows(n.max(1)));
    let distinct: HashSet<&[T]> = grams().collect();
    let all = grams().count();
    (all > 0).then(|| distinct.len() as f64 / all as f64)
}

/// The figures of answers, each with its text, its tokens and why it ended; none without answers.
#[must_use]
pub fn degeneration<T: Eq + Hash>(answers: &[(&str, &[T], Finish)]) -> Option<Degeneration> {
    if answers.is_empty() {
        return None;
    }
    let n = answers.len() as f64;
    let repeated: Vec<f64> = answers.iter().map(|(_, tokens, _)| repeated_share(tokens, 4)).collect();
    let tokens: Vec<&[T]> = answers.iter().map(|(_, tokens, _)| *tokens).collect();
    Some(Degeneration {
        answers: answers.len(),
        empty: answers.iter().filter(|(text, ..)| text.trim().is_empty()).count(),
        cut: answers.iter().filter(|(.., finish)| *finish == Finish::Length).count(),
        repetitive: repeated.iter().filter(|share| **share > REPEATED).count(),
        repeated: repeated.iter().sum::<f64>() / n,
        tokens: tokens.iter().map(|tokens| tokens.len() as f64).sum::<f64>() / n,
        distinct: distinct_share(&tokens, 2),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_by_hand() {
        // 4-grams of a b a b a b a: abab, baba, abab, baba.
        assert_eq!(repeated_share(&[1, 2, 1, 2, 1, 2, 1], 4), 0.5);
        assert_eq!(repeated_share(&[1, 2, 3, 4, 5], 4), 0.0);
        assert_eq!(repeated_share(&[1, 1, 1], 4), 0.0);
        assert_eq!(distinct_share(&[&[1, 2, 3][..], &[1, 2]], 2), Some(2.0 / 3.0));
        assert_eq!(distinct_share(&[&[1][..], &[]], 2), None);
        assert_eq!(distinct_share(&[&[1][..]], 0), None);
    }

    #[test]
    fn a_set_of_answers() {
        let loops = [7u32; 20];
        let answers =
            [("a b", &[1, 2][..], Finish::Eos), (" \n", &[][..], Finish::Eos), ("aaaa", &loops[..], Finish::Length)];
        let found = degeneration(&answers).unwrap();
        assert_eq!((found.answers, found.empty, found.cut, found.repetitive), (3, 1, 1, 1));
        assert!((found.repeated - (16.0 / 17.0) / 3.0).abs() < 1e-12 && (found.tokens - 22.0 / 3.0).abs() < 1e-12);
        assert_eq!(found.distinct, Some(2.0 / 20.0));
        assert_eq!(degeneration::<u32>(&[]), None);
    }
}
