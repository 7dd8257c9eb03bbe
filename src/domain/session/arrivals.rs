//! What arrived in a session, in order and under its id: prompts, answers, pairs.
//!
//! Owns the lists and their indexes. Copies of a session share them, and each sees what had arrived in it: so the states of a replay
//! at many places take little room. Refuses to know what the things are.

use super::super::ids::{CompletionId, PairId, PromptId};
use super::super::text::{Completion, Pair, Prompt};
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

/// Something that arrives under an id.
pub(super) trait Arrival: Clone + PartialEq {
    /// Its kind of id.
    type Id: Hash + Eq;

    /// Whether two lists differ where only their order does.
    const ORDERED: bool;

    /// Its id.
    fn id(&self) -> &Self::Id;
}

impl Arrival for Prompt {
    type Id = PromptId;
    const ORDERED: bool = true;

    fn id(&self) -> &PromptId {
        &self.id
    }
}

impl Arrival for Completion {
    type Id = CompletionId;
    const ORDERED: bool = false;

    fn id(&self) -> &CompletionId {
        &self.id
    }
}

impl Arrival for Pair {
    type Id = PairId;
    const ORDERED: bool = true;

    fn id(&self) -> &PairId {
        &self.id
    }
}

/// The list that copies share; no id is in it twice.
#[derive(Debug, Clone)]
struct Shelf<T> {
    items: Vec<Arc<T>>,
    /// Places in `items`, by their ids.
    places: HashTable<u32>,
    hashes: RandomState,
}

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self { items: Vec::new(), places: HashTable::new(), hashes: RandomState::default() }
    }
}

impl<T: Arrival> Shelf<T> {
    fn add(&mut self, item: Arc<T>) {
        let Self { items, places, hashes } = self;
        let (at, hash) = (items.len() as u32, hashes.hash_one(item.id()));
        items.push(item);
        places.insert_unique(hash, at, |at| hashes.hash_one(items[*at as usize].id()));
    }

    fn place(&self, id: &T::Id) -> Option<usize> {
        let found = self.places.find(self.hashes.hash_one(id), |at| self.items[*at as usize].id() == id)?;
        Some(*found as usize)
    }
}

/// What has arrived.
#[derive(Debug, Clone)]
pub(super) struct Arrivals<T> {
    shelf: Arc<Shelf<T>>,
    /// How much of it has arrived here. What follows is what arrives next in a copy that is ahead.
    len: usize,
}

impl<T> Default for Arrivals<T> {
    fn default() -> Self {
        Self { shelf: Arc::default(), len: 0 }
    }
}

impl<T: Arrival> Arrivals<T> {
    /// In order of arrival.
    pub(super) fn as_slice(&self) -> &[Arc<T>] {
        &self.shelf.items[..self.len]
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, Arc<T>> {
        self.as_slice().iter()
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Where the one with this id is in the order of arrival.
    pub(super) fn place(&self, id: &T::Id) -> Option<usize> {
        self.shelf.place(id).filter(|at| *at < self.len)
    }

    pub(super) fn contains(&self, id: &T::Id) -> bool {
        self.place(id).is_some()
    }

    pub(super) fn get(&self, id: &T::Id) -> Option<&Arc<T>> {
        self.place(id).map(|at| &self.shelf.items[at])
    }

    /// Adds one; false where one with its id is there.
    pub(super) fn push(&mut self, item: Arc<T>) -> bool {
        // A copy that is ahead has it already.
        let ahead = self.shelf.items.get(self.len).is_some_and(|next| Arc::ptr_eq(next, &item) || *next == item);
        if !ahead {
            if self.contains(item.id()) {
                return false;
            }
            self.own().add(item);
        }
        self.len += 1;
        true
    }

    /// Changes one, which keeps its id.
    pub(super) fn change(&mut self, place: usize, change: impl FnOnce(&mut T)) {
        if place < self.len {
            change(Arc::make_mut(&mut Arc::make_mut(&mut self.shelf).items[place]));
        }
    }

    /// A list of this one's own that ends where it does.
    fn own(&mut self) -> &mut Shelf<T> {
        if self.shelf.items.len() > self.len {
            let mut own = Shelf::default();
            self.iter().for_each(|item| own.add(Arc::clone(item)));
            self.shelf = Arc::new(own);
        }
        Arc::make_mut(&mut self.shelf)
    }

    /// Nothing yet, but ready for the same to arrive again.
    pub(super) fn rewound(&self) -> Self {
        Self { shelf: Arc::clone(&self.shelf), len: 0 }
    }
}

impl<T: Arrival> PartialEq for Arrivals<T> {
    fn eq(&self, other: &Self) -> bool {
        let same = |a: &Arc<T>, b: &Arc<T>| Arc::ptr_eq(a, b) || a == b;
        if T::ORDERED {
            return self.len == other.len && self.iter().zip(other.iter()).all(|(a, b)| same(a, b));
        }
        self.len == other.len && self.iter().all(|a| other.get(a.id()).is_some_and(|b| same(a, b)))
    }
}

impl<'a, T: Arrival> IntoIterator for &'a Arrivals<T> {
    type Item = &'a Arc<T>;
    type IntoIter = std::slice::Iter<'a, Arc<T>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: Arrival> std::ops::Index<usize> for Arrivals<T> {
    type Output = Arc<T>;

    fn index(&self, at: usize) -> &Arc<T> {
        &self.as_slice()[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(id: &str, strategy: &str) -> Arc<Pair> {
        let (a, b) = (CompletionId::new("a"), CompletionId::new("b"));
        let (id, prompt) = (PairId::new(id), PromptId::new("p"));
        Arc::new(Pair { id, prompt, a, b, strategy: strategy.into(), p_select: 1.0 })
    }

    fn ids(arrivals: &Arrivals<Pair>) -> Vec<&str> {
        arrivals.iter().map(|pair| pair.id.as_str()).collect()
    }

    #[test]
    fn a_copy_sees_what_had_arrived_and_goes_its_own_way() {
        let mut all = Arrivals::default();
        assert!(["x", "y", "z"].iter().all(|id| all.push(pair(id, "random"))) && !all.push(pair("y", "other")));
        let mut again = all.rewound();
        assert_eq!((again.len(), again.place(&PairId::new("x"))), (0, None));
        assert!(again.push(pair("x", "random")) && again.push(pair("y", "random")));
        assert!(Arc::ptr_eq(&again.shelf, &all.shelf), "what arrives again is not held again");
        assert!(!again.push(pair("x", "random")) && !again.contains(&PairId::new("z")));
        let before = again.clone();
        // Another pair than the copy that is ahead has.
        assert!(again.push(pair("w", "random")) && again.push(pair("z", "other")));
        assert_eq!(
            (ids(&all), ids(&again), ids(&before)),
            (vec!["x", "y", "z"], vec!["x", "y", "w", "z"], vec!["x", "y"])
        );
        assert_eq!((again.place(&PairId::new("z")), all.place(&PairId::new("z"))), (Some(3), Some(2)));
        assert!(again != all && all.rewound() == Arrivals::default());
    }

    #[test]
    fn a_change_is_seen_by_no_other_copy() {
        let mut all = Arrivals::default();
        assert!(all.push(pair("x", "random")) && all.push(pair("y", "random")));
        let mut other = all.rewound();
        assert!(other.push(pair("x", "random")));
        other.change(0, |pair| pair.strategy = "changed".into());
        other.change(1, |pair| pair.strategy = "not there yet".into());
        assert!(other.push(pair("y", "random")));
        let strategies = |of: &Arrivals<Pair>| of.iter().map(|pair| pair.strategy.to_string()).collect::<Vec<_>>();
        assert_eq!(
            (strategies(&all), strategies(&other)),
            (vec!["random".into(); 2], vec!["changed".into(), "random".into()])
        );
    }
}
