//! The blind order of a pair's answers on the screen. Refuses to know more than the pair and who rates it.

use crate::domain::{PairId, Rater, Side, hash64};

/// The completion in the first pane: a fixed pseudo-random choice for each pair and rater.
#[must_use]
pub fn first_side(pair: &PairId, rater: &Rater) -> Side {
    let key = format!("{pair}\u{0}{rater}");
    if hash64(key.as_bytes()) & 1 == 0 { Side::A } else { Side::B }
}
