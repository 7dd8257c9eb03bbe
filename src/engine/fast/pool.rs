//! Buffers that go round: taken by a length, given back when dropped, so that a step maps no fresh memory.
//!
//! Owns the numbers' memory. Refuses to say what is in a buffer when it is taken: whoever takes one writes it first.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

/// Buffers at rest and how much is lent.
#[derive(Debug, Default)]
struct Store {
    free: Vec<Vec<f32>>,
    /// Numbers in `free`.
    resting: usize,
    /// Numbers lent out.
    lent: usize,
    /// The most that was ever lent at a time.
    most: usize,
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
        let found = self.with(|store| {
            // A buffer much larger than what is asked would be memory that nobody uses.
            let fits = |v: &Vec<f32>| v.len() >= len && v.len() <= len + len / 8 + 1024;
            let best = (0..store.free.len()).filter(|i| fits(&store.free[*i])).min_by_key(|i| store.free[*i].len());
            let found = best.map(|i| store.free.swap_remove(i));
            store.resting -= found.as_ref().map_or(0, Vec::len);
            store.lent += found.as_ref().map_or(len, Vec::len);
            store.most = store.most.max(store.lent);
            found
        });
        Buffer { numbers: found.unwrap_or_else(|| vec![0.0; len]), len, pool: self.clone() }
    }

    /// A buffer of `len` zeros.
    pub(super) fn zeros(&self, len: usize) -> Buffer {
        let mut buffer = self.take(len);
        buffer.fill(0.0);
        buffer
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
                store.free.push(numbers);
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
        assert_eq!((first.len(), pool.lent()), (5000, 20_000));
        let at = first.as_ptr();
        drop(first);
        let again = pool.take(4900);
        assert_eq!((again.as_ptr(), again.len()), (at, 4900));
        let other = pool.zeros(30_000);
        drop((again, other));
        let resting = pool.with(|s| (s.resting, s.lent, s.free.len()));
        assert_eq!(resting, (35_000, 0, 2));
        // One of another size replaces none of them and does not stay.
        drop(pool.take(100));
        assert_eq!(pool.with(|s| (s.resting, s.lent)), (35_000, 0));
    }
}
