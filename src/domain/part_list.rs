//! A list that only grows, in parts that its copies share: the states of a run at many places of a replay take little room. It
//! never moves what it holds, so that growing leaves no holes in the memory.
//!
//! Owns the parts.

use std::ops::Range;
use std::sync::Arc;

/// Items of a part.
const PART: usize = 1024;

/// A list that only grows.
#[derive(Debug, Clone, PartialEq)]
pub struct PartList<T> {
    /// Parts of [`PART`] items each.
    full: Vec<Arc<[T]>>,
    /// What follows; fewer than that.
    rest: Vec<T>,
}

impl<T> Default for PartList<T> {
    fn default() -> Self {
        Self { full: Vec::new(), rest: Vec::new() }
    }
}

impl<T: Clone> FromIterator<T> for PartList<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut list = Self::default();
        items.into_iter().for_each(|item| list.push(item));
        list
    }
}

impl<T: Clone> PartList<T> {
    /// How many items it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.full.len() * PART + self.rest.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.full.is_empty() && self.rest.is_empty()
    }

    /// Adds an item at its end.
    pub fn push(&mut self, item: T) {
        self.rest.push(item);
        if self.rest.len() == PART {
            self.full.push(self.rest.drain(..).collect());
        }
    }

    /// The item at that place.
    #[must_use]
    pub fn get(&self, at: usize) -> Option<&T> {
        match self.full.get(at / PART) {
            Some(part) => Some(&part[at % PART]),
            None => self.rest.get(at.checked_sub(self.full.len() * PART)?),
        }
    }

    /// The last item.
    #[must_use]
    pub fn last(&self) -> Option<&T> {
        self.get(self.len().checked_sub(1)?)
    }

    /// Its items in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.full.iter().flat_map(|part| part.iter()).chain(&self.rest)
    }

    /// The items from one place to another, which ends it.
    pub fn range(&self, range: Range<usize>) -> impl DoubleEndedIterator<Item = &T> {
        range.filter_map(|at| self.get(at))
    }

    /// Changes one item, in a part of this list's own.
    pub fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        let before = self.full.len() * PART;
        match self.full.get_mut(at / PART) {
            Some(part) => Arc::make_mut(part).get_mut(at % PART),
            None => self.rest.get_mut(at.checked_sub(before)?),
        }
    }

    /// What each item becomes, in order.
    #[must_use]
    pub fn map<U>(&self, mut change: impl FnMut(&T) -> U) -> PartList<U> {
        let full = self.full.iter().map(|part| part.iter().map(&mut change).collect()).collect();
        PartList { full, rest: self.rest.iter().map(&mut change).collect() }
    }

    /// One group of `n` items after another, where a part is a multiple of `n`; what fills no group at the end is left out.
    pub fn groups(&self, n: usize) -> impl Iterator<Item = &[T]> {
        self.full.iter().flat_map(move |part| part.chunks_exact(n)).chain(self.rest.chunks_exact(n))
    }

    /// The last `n` items of a list whose length is a multiple of `n`, where a part is too.
    pub fn last_group(&self, n: usize) -> &[T] {
        let part = if self.rest.is_empty() { self.full.last().map_or(&[][..], |part| part) } else { &self.rest };
        &part[part.len().saturating_sub(n)..]
    }

    /// How many items at the beginning hold, where all that hold come first.
    pub fn partition_point(&self, holds: impl Fn(&T) -> bool) -> usize {
        let before = self.full.partition_point(|part| part.last().is_some_and(&holds));
        let part = self.full.get(before).map_or(&self.rest[..], |part| part);
        before * PART + part.partition_point(holds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_in_parts_is_a_list() {
        for len in [0, 1, 15, PART - 1, PART, PART + 1, 3 * PART, 3 * PART + 48] {
            let mut list = PartList::default();
            (0..len).for_each(|n| list.push(n));
            let all: Vec<usize> = (0..len).collect();
            assert_eq!((list.len(), list.is_empty(), list.last()), (len, len == 0, all.last()));
            assert!((0..len + 3).all(|at| list.get(at) == all.get(at)) && list.iter().eq(&all));
            assert!((0..=len).all(|n| list.partition_point(|item| *item < n) == n));
            if len > 0 && len.is_multiple_of(16) {
                assert_eq!(list.last_group(16), &all[len - 16..]);
            }
            assert!(list.map(|n| n * 2).iter().copied().eq(all.iter().map(|n| n * 2)));
            assert!(list.groups(16).eq(all.chunks_exact(16)));
            let collected: PartList<usize> = all.iter().copied().collect();
            assert_eq!(collected, list);
            let copy = list.clone();
            list.push(len);
            assert_eq!((copy.len(), copy != list), (len, true));
            let shared = copy.full.iter().zip(&list.full).all(|(a, b)| Arc::ptr_eq(a, b));
            assert!(shared);
            // What is changed in one is not in the other.
            if let Some(first) = list.get_mut(0) {
                *first = 7;
                assert_eq!((list.get(0), copy.get(0)), (Some(&7), all.first().or(None)));
            }
        }
    }
}
