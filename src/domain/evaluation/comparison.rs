//! What an interval lets one say about two models: better, worse, or cannot tell, and how many prompts would tell.

use super::interval::{ConfidenceInterval, IntervalMethod};

/// Fewest prompts from which a bootstrap may call a difference. A percentile interval of fewer is too narrow: it lacks
/// both the factor √(n/(n − 1)) and the wide tails of Student's t. The number is this program's choice.
pub const BETTER_NEEDS: usize = 10;

/// Rates nearer to a half than this are 50 % in whole numbers.
const ROUNDS_TO_HALF: f64 = 0.005;

/// What a comparison says of the first model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ComparisonVerdict {
    /// The interval lies above the value that means "the same".
    Better,
    /// The interval lies below it.
    Worse,
    /// The interval holds it, or does not exist.
    CannotTell(CannotTell),
}

/// Why a comparison cannot tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CannotTell {
    /// The interval holds the value that means "the same"; about so many prompts would tell, were the difference as seen.
    Needs(usize),
    /// No difference was seen: no number of prompts would tell.
    NoDifference,
    /// A rate that the interval tells from a half, and that still rounds to 50 %: no difference that matters.
    RoundsToHalf,
    /// Fewer than [`BETTER_NEEDS`] prompts.
    TooFewPrompts,
    /// There is no interval.
    NoInterval,
}

/// The verdict for a `value` and its interval. `null` is the value that means "the same"; higher is better.
pub(super) fn verdict(
    value: f64,
    interval: Option<&ConfidenceInterval>,
    null: f64,
    prompts: usize,
) -> ComparisonVerdict {
    let Some(interval) = interval else { return ComparisonVerdict::CannotTell(CannotTell::NoInterval) };
    if interval.holds(null) {
        let needs = prompts_to_tell(prompts, interval.half_width(), value - null);
        return ComparisonVerdict::CannotTell(needs.map_or(CannotTell::NoDifference, CannotTell::Needs));
    }
    let sampled = matches!(interval.method, IntervalMethod::Bootstrap { .. });
    match interval.low > null {
        _ if sampled && prompts < BETTER_NEEDS => ComparisonVerdict::CannotTell(CannotTell::TooFewPrompts),
        // The probabilities of a judge vary so little that their mean is known more finely than anyone reads it.
        _ if null == 0.5 && (value - null).abs() < ROUNDS_TO_HALF => {
            ComparisonVerdict::CannotTell(CannotTell::RoundsToHalf)
        }
        true => ComparisonVerdict::Better,
        false => ComparisonVerdict::Worse,
    }
}

/// The verdict for a `value` with an interval over `prompts`.
#[must_use]
pub fn verdict_of(value: f64, interval: &ConfidenceInterval, null: f64, prompts: usize) -> ComparisonVerdict {
    verdict(value, Some(interval), null, prompts)
}

/// How many prompts would make the half width smaller than the `distance` seen, from the half width on `prompts`: it
/// shrinks with √n. None where the distance is 0. Never fewer than one more than there were.
#[must_use]
pub fn prompts_to_tell(prompts: usize, half_width: f64, distance: f64) -> Option<usize> {
    if distance.abs() < 1e-12 || !half_width.is_finite() || !distance.is_finite() {
        return None;
    }
    let needed = (prompts as f64 * (half_width / distance).powi(2)).floor() as usize;
    Some(needed.saturating_add(1).max(prompts + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(low: f64, high: f64) -> ConfidenceInterval {
        ConfidenceInterval { low, high, method: IntervalMethod::Bootstrap { draws: 2000 } }
    }

    #[test]
    fn the_verdict_follows_the_interval() {
        assert_eq!(verdict(0.6, Some(&interval(0.51, 0.69)), 0.5, 100), ComparisonVerdict::Better);
        assert_eq!(verdict(0.4, Some(&interval(0.31, 0.49)), 0.5, 100), ComparisonVerdict::Worse);
        assert_eq!(
            verdict(0.6, Some(&interval(0.51, 0.69)), 0.5, 9),
            ComparisonVerdict::CannotTell(CannotTell::TooFewPrompts)
        );
        assert_eq!(verdict(0.6, None, 0.5, 100), ComparisonVerdict::CannotTell(CannotTell::NoInterval));
        assert_eq!(
            verdict(0.5, Some(&interval(0.4, 0.6)), 0.5, 9),
            ComparisonVerdict::CannotTell(CannotTell::NoDifference)
        );
        // A rate of 50 % in whole numbers is none to conclude from, however narrow its interval; a difference of 0.004 may be one.
        let rounds = ComparisonVerdict::CannotTell(CannotTell::RoundsToHalf);
        assert_eq!(verdict(0.504, Some(&interval(0.503, 0.505)), 0.5, 400), rounds);
        assert_eq!(verdict(0.496, Some(&interval(0.495, 0.497)), 0.5, 400), rounds);
        assert_eq!(verdict(0.506, Some(&interval(0.505, 0.507)), 0.5, 400), ComparisonVerdict::Better);
        assert_eq!(verdict(0.004, Some(&interval(0.003, 0.005)), 0.0, 400), ComparisonVerdict::Better);
        // An end on the value holds it.
        assert_eq!(
            verdict(0.55, Some(&interval(0.5, 0.6)), 0.5, 40),
            ComparisonVerdict::CannotTell(CannotTell::Needs(41))
        );
    }

    #[test]
    fn twice_the_half_width_needs_four_times_the_prompts() {
        assert_eq!(prompts_to_tell(100, 0.1, 0.05), Some(401));
        assert_eq!(prompts_to_tell(100, 0.1, -0.05), Some(401));
        assert_eq!(prompts_to_tell(100, 0.1, 0.0), None);
        assert_eq!(prompts_to_tell(100, 0.01, 0.05), Some(101));
    }
}
