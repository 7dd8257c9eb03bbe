//! Which pairs match: one bit for each pair of a long session, by its place in the order of arrival.
//!
//! Refuses to go on knowing a pair whose place changed: places never do.

use super::super::super::ids::PairId;
use super::super::Session;
use std::collections::HashSet;

/// A set of pairs of one session, those of its evaluations too.
#[derive(Debug, Clone, Default)]
pub struct PairSet {
    /// By the pairs' places, 64 to a word.
    words: Vec<u64>,
    /// How many bits are set.
    set: usize,
    /// Pairs that are not among the session's own: those of evaluations.
    beyond: HashSet<PairId>,
}

impl PairSet {
    /// How many pairs are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.set + self.beyond.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a pair of that session is in it.
    #[must_use]
    pub fn contains(&self, session: &Session, pair: &PairId) -> bool {
        match session.pair_place(pair) {
            Some(place) => self.words.get(place / 64).is_some_and(|word| word & bit(place) != 0),
            None => self.beyond.contains(pair),
        }
    }

    /// Adds a pair of that session.
    pub fn insert(&mut self, session: &Session, pair: &PairId) {
        match session.pair_place(pair) {
            Some(place) => self.insert_place(place),
            None => drop(self.beyond.insert(pair.clone())),
        }
    }

    /// Takes out a pair of that session.
    pub fn remove(&mut self, session: &Session, pair: &PairId) {
        let Some(place) = session.pair_place(pair) else {
            self.beyond.remove(pair);
            return;
        };
        if let Some(word) = self.words.get_mut(place / 64).filter(|word| **word & bit(place) != 0) {
            *word &= !bit(place);
            self.set -= 1;
        }
    }

    /// Adds the pair at that place.
    pub(super) fn insert_place(&mut self, place: usize) {
        let at = place / 64;
        if at >= self.words.len() {
            self.words.resize(at + 1, 0);
        }
        self.set += usize::from(self.words[at] & bit(place) == 0);
        self.words[at] |= bit(place);
    }
}

fn bit(place: usize) -> u64 {
    1 << (place % 64)
}

/// The same pairs, whatever was taken out before.
impl PartialEq for PairSet {
    fn eq(&self, other: &Self) -> bool {
        let word = |set: &Self, at: usize| set.words.get(at).copied().unwrap_or(0);
        let words = self.words.len().max(other.words.len());
        self.beyond == other.beyond && (0..words).all(|at| word(self, at) == word(other, at))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::super::hash::mix64;
    use super::super::super::super::ids::{CompletionId, PromptId};
    use super::super::super::super::text::Pair;
    use super::*;

    #[test]
    fn a_set_of_pairs_is_the_set_of_their_ids() {
        let id = |n: u64| PairId::new(format!("i{n}"));
        let mut session = Session::default();
        for n in 0..300 {
            let (a, b) = (CompletionId::new("a"), CompletionId::new("b"));
            let prompt = PromptId::new("p");
            session.add_pair(Pair { id: id(n), prompt, a, b, strategy: "random".into(), p_select: 1.0 });
        }
        for seed in 0..20 {
            let (mut pairs, mut ids) = (PairSet::default(), HashSet::new());
            for k in 0..400 {
                // The last ones are not among the session's own.
                let pair = id(mix64(seed << 32 | k) % 310);
                if mix64(k ^ (seed << 20)).is_multiple_of(3) {
                    pairs.remove(&session, &pair);
                    ids.remove(&pair);
                } else {
                    pairs.insert(&session, &pair);
                    ids.insert(pair);
                }
            }
            assert!((0..320).all(|n| pairs.contains(&session, &id(n)) == ids.contains(&id(n))));
            let mut again = PairSet::default();
            for pair in &ids {
                again.insert(&session, pair);
            }
            assert_eq!((pairs.len(), pairs.is_empty(), &pairs), (ids.len(), ids.is_empty(), &again));
            again.remove(&session, ids.iter().next().unwrap());
            assert_ne!(pairs, again);
        }
    }
}
