//! The win rate of one model over another on the same prompts. A tie is half a win.

use super::Undefined;
use super::comparison::{ComparisonVerdict, verdict};
use super::interval::{
    Cluster, ConfidenceInterval, PromptScore, bootstrap_mean, clusters, mean, standard_error, wilson95,
};

/// How often the first model beats the second.
#[derive(Debug, Clone, PartialEq)]
pub struct PairedWinRate {
    /// Comparisons.
    pub rows: usize,
    /// Prompts: comparisons on one prompt are not independent.
    pub prompts: usize,
    /// Scores of exactly 1.
    pub wins: usize,
    /// Scores of exactly 0.5.
    pub ties: usize,
    /// Scores of exactly 0.
    pub losses: usize,
    /// The mean score, 0..=1.
    pub rate: f64,
    /// The standard error of the rate, by prompt.
    pub standard_error: Result<f64, Undefined>,
    /// Wilson's interval where each prompt has one comparison and none is a tie; otherwise a bootstrap over prompts.
    pub interval: Result<ConfidenceInterval, Undefined>,
    /// Whether the first model is better.
    pub verdict: ComparisonVerdict,
}

/// The win rate of scores in 0..=1: 1 a win, 0.5 a tie, 0 a loss, or the probability of a win.
///
/// # Errors
/// No scores, or one outside 0..=1.
pub fn paired_win_rate(scores: &[PromptScore], seed: u64) -> Result<PairedWinRate, Undefined> {
    let clusters: Vec<Cluster> = clusters(scores, 0.0..=1.0, "a number from 0 to 1")?.into_values().collect();
    let count = |value: f64| scores.iter().filter(|row| row.score == value).count();
    let (wins, ties, losses) = (count(1.0), count(0.5), count(0.0));
    let (rows, prompts) = (scores.len(), clusters.len());
    let rate = mean(&clusters);
    let interval = interval(&clusters, rate, wins + losses == rows && prompts == rows, seed);
    Ok(PairedWinRate {
        rows,
        prompts,
        wins,
        ties,
        losses,
        rate,
        standard_error: standard_error(&clusters),
        verdict: verdict(rate, interval.as_ref().ok(), 0.5, prompts),
        interval,
    })
}

fn interval(clusters: &[Cluster], rate: f64, decided_once: bool, seed: u64) -> Result<ConfidenceInterval, Undefined> {
    let n = clusters.len() as f64;
    if clusters.len() < 2 {
        return Err(Undefined::OnePrompt);
    }
    // Samples of prompts that all have the same mean never vary: a bootstrap would be sure after two prompts.
    let constant = clusters.iter().all(|c| c.sum * clusters[0].rows == clusters[0].sum * c.rows);
    if decided_once || (constant && rate != 0.5) {
        return Ok(wilson95(rate * n, n));
    }
    bootstrap_mean(clusters, seed)
}

#[cfg(test)]
mod tests {
    use super::super::comparison::CannotTell;
    use super::*;

    fn scores(counts: &[(f64, usize)]) -> Vec<PromptScore> {
        let all = counts.iter().flat_map(|(score, n)| vec![*score; *n]);
        all.enumerate().map(|(i, score)| PromptScore { prompt: i as u64, score }).collect()
    }

    fn near(got: f64, want: f64) {
        assert!((got - want).abs() < 1e-6, "{got} is not {want}");
    }

    #[test]
    fn wins_losses_and_ties_of_the_reference() {
        let found = paired_win_rate(&scores(&[(1.0, 12), (0.0, 6), (0.5, 4)]), 7).unwrap();
        near(found.rate, 0.636_364);
        near(found.standard_error.unwrap(), 0.094_100);
        assert_eq!((found.wins, found.losses, found.ties, found.prompts), (12, 6, 4, 22));
        let interval = found.interval.unwrap();
        // About rate ± 1.96 standard errors.
        assert!((interval.half_width() - 1.96 * 0.0941).abs() < 0.02, "{interval:?}");
        assert!(matches!(found.verdict, ComparisonVerdict::CannotTell(CannotTell::Needs(n)) if n > 22 && n < 60));
    }

    #[test]
    fn wilson_without_ties() {
        let vectors = [
            (8, 10, 0.490_162, 0.943_318),
            (0, 10, 0.0, 0.277_533),
            (55, 100, 0.452_446, 0.643_855),
            (110, 200, 0.480_756, 0.617_359),
        ];
        for (k, n, low, high) in vectors {
            let found = paired_win_rate(&scores(&[(1.0, k), (0.0, n - k)]), 1).unwrap();
            let interval = found.interval.unwrap();
            near(interval.low, low);
            near(interval.high, high);
            assert_eq!(interval.method, super::super::IntervalMethod::Wilson);
        }
        let found = paired_win_rate(&scores(&[(1.0, 25), (0.0, 25)]), 1).unwrap();
        assert!((found.interval.unwrap().half_width() - 0.133).abs() < 0.001);
    }

    #[test]
    fn swapping_the_models_mirrors_everything() {
        let rows: Vec<PromptScore> =
            (0..60).map(|i| PromptScore { prompt: i / 2, score: [1.0, 0.5, 0.0, 1.0, 0.25][i as usize % 5] }).collect();
        let swapped: Vec<PromptScore> = rows.iter().map(|r| PromptScore { score: 1.0 - r.score, ..*r }).collect();
        let (a, b) = (paired_win_rate(&rows, 3).unwrap(), paired_win_rate(&swapped, 3).unwrap());
        assert!((a.rate + b.rate - 1.0).abs() < 1e-12);
        assert_eq!((a.wins, a.ties, a.losses), (b.losses, b.ties, b.wins));
        let (x, y) = (a.interval.unwrap(), b.interval.unwrap());
        assert!((x.low + y.high - 1.0).abs() < 1e-12 && (x.high + y.low - 1.0).abs() < 1e-12, "{x:?} {y:?}");
        assert!((a.standard_error.unwrap() - b.standard_error.unwrap()).abs() < 1e-12);
        let mut turned = rows.clone();
        turned.reverse();
        assert_eq!(paired_win_rate(&turned, 3).unwrap().interval, Ok(x), "the order of rows does not matter");
        assert_ne!(paired_win_rate(&rows, 4).unwrap().interval, Ok(x), "the seed does");
    }

    #[test]
    fn identical_models_are_at_exactly_half_and_cannot_be_told_apart() {
        let found = paired_win_rate(&scores(&[(0.5, 100)]), 5).unwrap();
        assert_eq!((found.rate, found.standard_error.clone()), (0.5, Ok(0.0)));
        let interval = found.interval.unwrap();
        assert_eq!((interval.low, interval.high), (0.5, 0.5));
        assert_eq!(found.verdict, ComparisonVerdict::CannotTell(CannotTell::NoDifference));
    }

    #[test]
    fn few_prompts_are_never_sure() {
        assert_eq!(paired_win_rate(&[], 1), Err(Undefined::Empty));
        let one = paired_win_rate(&scores(&[(1.0, 1)]), 1).unwrap();
        assert_eq!((one.interval, one.standard_error), (Err(Undefined::OnePrompt), Err(Undefined::OnePrompt)));
        assert_eq!(one.verdict, ComparisonVerdict::CannotTell(CannotTell::NoInterval));
        // Three prompts, two comparisons each, all won: nothing varies.
        let rows: Vec<_> = (0..6).map(|i| PromptScore { prompt: i / 2, score: 1.0 }).collect();
        assert!(matches!(paired_win_rate(&rows, 1).unwrap().verdict, ComparisonVerdict::CannotTell(_)));
        // Many rows of one prompt are still one prompt.
        let rows = vec![PromptScore { prompt: 9, score: 1.0 }; 50];
        assert_eq!(paired_win_rate(&rows, 1).unwrap().interval, Err(Undefined::OnePrompt));
        for bad in [f64::NAN, 1.5, -0.1] {
            assert!(matches!(
                paired_win_rate(&[PromptScore { prompt: 0, score: bad }], 1),
                Err(Undefined::Score { row: 1, .. })
            ));
        }
    }

    #[test]
    fn answers_to_one_prompt_count_as_one() {
        let once: Vec<_> =
            (0..40).map(|i| PromptScore { prompt: i, score: [1.0, 0.5, 1.0, 0.0][i as usize % 4] }).collect();
        let thrice: Vec<_> = once.iter().flat_map(|r| vec![*r; 3]).collect();
        let (a, b) = (paired_win_rate(&once, 2).unwrap(), paired_win_rate(&thrice, 2).unwrap());
        assert_eq!((a.rate, a.interval), (b.rate, b.interval));
        assert!((a.standard_error.unwrap() - b.standard_error.unwrap()).abs() < 1e-12);
    }
}
