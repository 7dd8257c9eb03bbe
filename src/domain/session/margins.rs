//! Margins that an imported file states of its pairs.
//!
//! Owns where a stated margin counts: while the file's own verdict decides. Refuses it once a person here judged the pair.

use super::super::ids::{PairId, RunId};
use super::super::verdict::{Choice, Side};
use super::Session;

impl Session {
    /// Takes a margin that a file states of the chosen answer over the other one; a later one replaces it.
    pub fn state_margin(&mut self, pair: PairId, margin: f64) {
        if margin.is_finite() {
            self.margins.add(pair, &RunId::new(""), margin);
        }
    }

    /// The margin that a file states of a pair, where its import's verdict for `side` alone decides.
    #[must_use]
    pub fn stated_margin(&self, pair: &PairId, side: Side) -> Option<f64> {
        let margin = self.margins.latest(pair)?.value;
        let imported = self.deciding_on(pair, None).iter().all(|(_, verdict)| {
            verdict.rater.is_import() && matches!(verdict.choice, Choice::Prefer(own, _) if own == side)
        });
        imported.then_some(margin)
    }
}
