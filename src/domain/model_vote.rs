//! How a model's numbers become a verdict: a gap of scores, or the probability that an answer is better.
//!
//! Owns the thresholds, which every user of them states. Refuses to know which model it was.

use super::verdict::{Choice, Side, Strength};

/// The largest gap of a tie, in standard deviations of the run's scores.
pub const TIE_GAP: f64 = 0.1;
/// The largest distance of a tie from an even probability.
pub const TIE_PROBABILITY: f64 = 0.05;
/// Gaps from which a preference is more than slight, and much.
pub const GAPS: [f64; 2] = [0.5, 1.0];
/// Distances from an even probability from which a preference is more than slight, and much.
pub const DISTANCES: [f64; 2] = [0.2, 0.4];

/// The verdict for how much better `a` scores, in standard deviations of the run's scores; `tie` is the largest gap of a tie.
#[must_use]
pub fn vote_by_gap(gap: f64, tie: f64) -> Choice {
    vote(gap, tie, GAPS)
}

/// The verdict for the probability that `a` is better; `tie` is the largest distance of a tie from an even one.
#[must_use]
pub fn vote_by_probability(probability: f64, tie: f64) -> Choice {
    vote(probability - 0.5, tie, DISTANCES)
}

fn vote(signed: f64, tie: f64, [better, much]: [f64; 2]) -> Choice {
    let size = signed.abs();
    if size <= tie {
        return Choice::Tie;
    }
    let strength = match size {
        _ if size < better => Strength::Slight,
        _ if size < much => Strength::Better,
        _ => Strength::Much,
    };
    Choice::Prefer(if signed > 0.0 { Side::A } else { Side::B }, strength)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_gives_the_strength_and_the_sign_the_side() {
        let of = |gap| vote_by_gap(gap, TIE_GAP);
        assert_eq!(of(0.1), Choice::Tie);
        assert_eq!(of(-0.11), Choice::Prefer(Side::B, Strength::Slight));
        assert_eq!(of(0.5), Choice::Prefer(Side::A, Strength::Better));
        assert_eq!(of(-2.0), Choice::Prefer(Side::B, Strength::Much));
        assert_eq!(vote_by_probability(0.54, TIE_PROBABILITY), Choice::Tie);
        assert_eq!(vote_by_probability(0.95, TIE_PROBABILITY), Choice::Prefer(Side::A, Strength::Much));
        assert_eq!(vote_by_probability(0.31, TIE_PROBABILITY), Choice::Prefer(Side::B, Strength::Slight));
        assert_eq!(vote_by_gap(0.0, 0.0), Choice::Tie, "equal scores are a tie whatever the band");
    }
}
