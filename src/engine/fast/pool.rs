//! Buffers that go round: taken by a length, given back when dropped, so that a step maps no fresh memory.
//!
//! Owns the numbers' memory: what rests and what is lent are together never more than what was once lent at a time. Refuses
//! to say what is in a buffer when it is taken: whoever takes one writes it first.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

/// Buffers at rest and how much is lent.
#[derive(Debug, Default)]
struct Store {
    /// The one that has rested longest first.
    free: VecDeque<Vec<f32>>,
    /// Numbers in `free`.
    resting: usize,
    /// Numbers lent out.
    lent: usize,
    /// The most that was ever lent at a time.
    most: usize,
}

impl Store {
    /// A buffer of exactly `size` numbers that rests.
    fn find(&mut self, size: usize) -> Option<Vec<f32>> {
        // The last to come is the likeliest to be in a cache.
        let at = self.free.iter().rposition(|v| v.len() == size)?;
        let found = self.free.remove(at)?;
        self.resting -= size;
        Some(found)
    }

    /// Counts `size` numbers as lent, and lets go of what has rested longest where it would be too much.
    fn lend(&mut self, size: usize) {
        self.lent += size;
        self.most = self.most.max(self.lent);
        while self.resting + self.lent > self.most {
            let Some(old) = self.free.pop_front() else { return };
            self.resting -= old.len();
        }
    }
}

/// Sizes of buffers: at most an eighth more than what is asked, so that batches of about one length share them. Memory that is
/// never written costs nothing.
fn class(len: usize) -> usize {
    let step = (len.next_power_of_two() / 16).max(256);
    len.next_multiple_of(step)
}

/// The store that buffers come from.
#[derive(Debug, Default, Clone)]
pub(super) struct Pool(Arc<Mutex<Store>>);

/// A buffer of some length.
pub(super) struct Buffer {
    numbers: Vec<f32>,
    len: usize,
    pool: Pool,
}

impl Pool {
    fn with<T>(&self, f: impl FnOnce(&mut Store) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A buffer of `len` numbers, whatever they are.
    pub(super) fn take(&self, len: usize) -> Buffer {
        let size = class(len);
        let found = self.with(|store| {
            let found = store.find(size);
            store.lend(size);
            found
        });
        Buffer { numbers: found.unwrap_or_else(|| vec![0.0; size]), len, pool: self.clone() }
    }

    /// A buffer of `len` zeros.
    pub(super) fn zeros(&self, len: usize) -> Buffer {
        let mut buffer = self.take(len);
        buffer.fill(0.0);
        buffer
    }

    /// Lets go of what rests.
    pub(super) fn clear(&self) {
        self.with(|store| {
            store.free.clear();
            store.resting = 0;
            store.most = store.lent;
        });
    }

    /// Bytes lent out now.
    pub(super) fn lent(&self) -> usize {
        self.with(|store| store.lent * size_of::<f32>())
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.numbers[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.numbers[..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let numbers = std::mem::take(&mut self.numbers);
        self.pool.with(|store| {
            store.lent -= numbers.len();
            // No more rests than was ever needed at a time.
            if store.resting + store.lent + numbers.len() <= store.most {
                store.resting += numbers.len();
                store.free.push_back(numbers);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_go_round_and_no_more_rest_than_were_needed() {
        let pool = Pool::default();
        let first = pool.take(5000);
        assert_eq!((first.len(), pool.lent()), (5000, 4 * 5120));
        let at = first.as_ptr();
        drop(first);
        let again = pool.take(4900);
        assert_eq!((again.as_ptr(), again.len()), (at, 4900));
        let other = pool.zeros(30_000);
        drop((again, other));
        let resting = pool.with(|s| (s.resting, s.lent, s.free.len()));
        assert_eq!(resting, (5120 + 30_720, 0, 2));
        // One of another size takes the place of the one that rested longest.
        drop(pool.take(100));
        assert_eq!(pool.with(|s| (s.resting, s.lent, s.free.len())), (30_720 + 256, 0, 2));
    }

    #[test]
    fn what_rests_and_what_is_lent_are_never_more_than_was_needed() {
        let pool = Pool::default();
        let most: usize = {
            let all: Vec<Buffer> = (1..20).map(|i| pool.take(i * 1000)).collect();
            all.iter().map(|b| class(b.len())).sum()
        };
        for round in 0..50 {
            let all: Vec<Buffer> = (1..15).map(|i| pool.take(i * 1000 + round * 37)).collect();
            let (resting, lent) = pool.with(|s| (s.resting, s.lent));
            assert!(resting + lent <= most, "{resting} + {lent} > {most}");
            drop(all);
        }
    }

    #[test]
    fn nothing_rests_after_a_clearance() {
        let pool = Pool::default();
        let kept = pool.take(1000);
        drop(pool.take(3000));
        pool.clear();
        assert_eq!(pool.with(|s| (s.resting, s.lent, s.most, s.free.len())), (0, 1024, 1024, 0));
        drop(kept);
        assert_eq!(pool.with(|s| (s.resting, s.lent)), (1024, 0));
    }

    #[test]
    fn a_size_is_at_most_an_eighth_too_large() {
        for len in (1..2_000_000).step_by(997) {
            let size = class(len);
            assert!(size >= len && size <= len + len / 8 + 256, "{len}: {size}");
        }
    }
}
