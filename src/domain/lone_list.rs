//! A list that most often has one item, as a prompt has one turn: a lone item lies in its place, and a long session has a hundred
//! thousand.
//!
//! Owns where the items lie. Refuses to know what they are. A list takes as much room as its item, where that leaves a `Vec`'s beside
//! a niche; one of `smallvec` takes 16 bytes more.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

/// A list that most often has one item.
#[derive(Clone)]
pub struct LoneList<T>(Held<T>);

#[derive(Clone)]
enum Held<T> {
    /// One item.
    Alone(T),
    /// None, or several.
    Listed(Vec<T>),
}

impl<T> LoneList<T> {
    /// Changes them as a list.
    pub fn change<R>(&mut self, change: impl FnOnce(&mut Vec<T>) -> R) -> R {
        let mut list = std::mem::take(self).into_list();
        let done = change(&mut list);
        *self = list.into();
        done
    }

    /// As a list.
    #[must_use]
    pub fn into_list(self) -> Vec<T> {
        match self.0 {
            Held::Alone(item) => vec![item],
            Held::Listed(items) => items,
        }
    }
}

impl<T> Default for LoneList<T> {
    fn default() -> Self {
        Self(Held::Listed(Vec::new()))
    }
}

impl<T> Deref for LoneList<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.0 {
            Held::Alone(item) => std::slice::from_ref(item),
            Held::Listed(items) => items,
        }
    }
}

impl<T> From<Vec<T>> for LoneList<T> {
    fn from(mut items: Vec<T>) -> Self {
        match (items.len(), items.pop()) {
            (1, Some(alone)) => Self(Held::Alone(alone)),
            (_, last) => {
                items.extend(last);
                items.shrink_to_fit();
                Self(Held::Listed(items))
            }
        }
    }
}

impl<T> FromIterator<T> for LoneList<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        items.into_iter().collect::<Vec<_>>().into()
    }
}

impl<T: fmt::Debug> fmt::Debug for LoneList<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl<T: PartialEq> PartialEq for LoneList<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Eq> Eq for LoneList<T> {}

impl<T: Hash> Hash for LoneList<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl<T: Serialize> Serialize for LoneList<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for LoneList<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_a_list_wherever_they_lie() {
        let list = |n: usize| (0..n).map(|k| format!("turn {k}")).collect::<Vec<_>>();
        for n in 0..5 {
            let turns = LoneList::from(list(n));
            assert_eq!(
                (&*turns, turns.clone().into_list(), matches!(turns.0, Held::Alone(_))),
                (&*list(n), list(n), n == 1)
            );
            let json = serde_json::to_string(&turns).unwrap();
            assert_eq!((serde_json::to_string(&list(n)).unwrap(), serde_json::from_str(&json).unwrap()), (json, turns));
            // However they came to be as many.
            for m in 0..5 {
                let mut changed = LoneList::from(list(m));
                changed.change(|turns| *turns = list(n));
                assert_eq!(changed, list(n).into());
                assert_eq!(changed == list(m).into(), n == m);
            }
        }
        assert_eq!(size_of::<LoneList<(String, [u64; 2])>>(), size_of::<(String, [u64; 2])>());
    }
}
