//! An arena of reusable buffers: taken by length, returned when dropped, so that a step maps no fresh memory, and steps of
//! changing lengths do not fragment it.
//!
//! Owns regions of memory with first-fit allocation, in which adjacent gaps merge:
//! when nothing is lent, all is one gap again. So a run holds what its largest step
//! needed. A taken buffer's contents are unspecified: the caller writes it first.

use crate::memory;
use std::alloc::{GlobalAlloc, Layout, System, handle_alloc_error};
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

/// Elements of a cache line: alignment and granularity of buffers.
const LINE: usize = 16;

/// Elements in a region, unless one buffer is larger: 1 GiB. Pages never written take no memory.
const REGION: usize = 1 << 28;

/// One allocation that buffers are lent from.
struct Region {
    start: NonNull<f32>,
    layout: Layout,
    /// Elements before the first whole cache line.
    skipped: usize,
    /// Elements from there on.
    len: usize,
    /// Free gaps: offset to width. No two touch.
    gaps: BTreeMap<usize, usize>,
    /// End of the last element that was ever lent.
    reached: usize,
}

// SAFETY: a region owns its memory, and each part is lent to one buffer at a time.
#[expect(unsafe_code, reason = "a pointer to memory of its own")]
unsafe impl Send for Region {}

impl Region {
    /// A region of `len` elements; none if the allocation fails, of which the program's allocator would tell its hook.
    fn new(len: usize) -> Option<Self> {
        let layout = Layout::array::<f32>(len.checked_add(LINE)?).ok()?;
        // SAFETY: the size is not 0. Zeroed memory is valid f32, so all of it may be read at once.
        #[expect(unsafe_code, reason = "memory that may be lent in parts")]
        let start = NonNull::new(unsafe { System.alloc_zeroed(layout) })?.cast::<f32>();
        let skipped = start.align_offset(LINE * size_of::<f32>()).min(LINE);
        Some(Self { start, layout, skipped, len, gaps: BTreeMap::from([(0, len)]), reached: 0 })
    }

    /// Whether none of it is lent.
    fn is_whole(&self) -> bool {
        self.gaps.get(&0) == Some(&self.len)
    }

    /// Takes `size` elements from the first gap that fits.
    fn take(&mut self, size: usize) -> Option<usize> {
        let (at, width) = self.gaps.iter().find(|(_, width)| **width >= size).map(|(at, width)| (*at, *width))?;
        self.gaps.remove(&at);
        if width > size {
            self.gaps.insert(at + size, width - size);
        }
        self.reached = self.reached.max(at + size);
        Some(at)
    }

    /// Returns `size` elements at `at` and merges adjacent gaps.
    fn give(&mut self, at: usize, size: usize) {
        let (mut first, mut end) = (at, at + size);
        let before = self.gaps.range(..at).next_back().map(|(before, width)| (*before, before + width));
        if let Some((before, _)) = before.filter(|(_, end)| *end == at) {
            first = before;
        }
        if let Some(width) = self.gaps.remove(&end) {
            end += width;
        }
        self.gaps.insert(first, end - first);
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: it was allocated with this layout, and no buffer of it is left.
        #[expect(unsafe_code, reason = "as it was allocated")]
        unsafe {
            System.dealloc(self.start.as_ptr().cast(), self.layout);
        }
    }
}

/// Regions and how much of them is lent.
#[derive(Default)]
struct Regions {
    /// Regions with their numbers.
    all: Vec<(u64, Region)>,
    /// Regions created so far.
    made: u64,
    /// Elements lent.
    lent: usize,
}

impl Regions {
    /// Lends `size` elements: the region's number, the address, the offset.
    fn lend(&mut self, size: usize) -> (u64, NonNull<f32>, usize) {
        let found = self
            .all
            .iter_mut()
            .find_map(|(number, region)| Some((*number, region.start, region.skipped, region.take(size)?)));
        let (number, start, skipped, at) = found.unwrap_or_else(|| self.grow(size));
        self.lent += size;
        // SAFETY: the gap lies within the region.
        #[expect(unsafe_code, reason = "a place in a region")]
        (number, unsafe { start.add(skipped + at) }, at)
    }

    /// A new region whose first `size` numbers are taken.
    fn grow(&mut self, size: usize) -> (u64, NonNull<f32>, usize, usize) {
        // Where address space counts as memory, a whole region may not be available.
        let region = Region::new(size.max(REGION)).or_else(|| Region::new(size));
        let Some(mut region) = region else {
            let layout = Layout::array::<f32>(size).unwrap_or(Layout::new::<f32>());
            memory::full(layout.size());
            handle_alloc_error(layout);
        };
        self.made += 1;
        let taken = (self.made, region.start, region.skipped, region.take(size).unwrap_or(0));
        self.all.push((self.made, region));
        taken
    }
}

/// Returns unused heap pages to the system, which glibc would keep: memory freed after loading a model or dropping a packed
/// copy of it.
pub fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(unsafe_code, reason = "a function of the C library")]
    // SAFETY: it may be called at any time, from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Panics on a length from an overflowed product of sizes.
#[cold]
fn capacity(len: usize) -> ! {
    assert!(len == 0, "a buffer of {len} numbers is beyond any memory");
    handle_alloc_error(Layout::new::<f32>())
}

/// Lends buffers.
#[derive(Default, Clone)]
pub struct Arena(Arc<Mutex<Regions>>);

impl Arena {
    fn with<T>(&self, f: impl FnOnce(&mut Regions) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A buffer of `len` elements with unspecified contents.
    ///
    /// # Panics
    /// When no memory could ever hold so many.
    pub fn take(&self, len: usize) -> Buffer {
        let size = len.max(1).checked_next_multiple_of(LINE).filter(|size| Layout::array::<f32>(*size).is_ok());
        let Some(size) = size else { capacity(len) };
        let (region, start, at) = self.with(|regions| regions.lend(size));
        Buffer { start, len, region, at, size, arena: self.clone() }
    }

    /// A buffer of `len` zeros.
    pub fn zeros(&self, len: usize) -> Buffer {
        let mut buffer = self.take(len);
        buffer.fill(0.0);
        buffer
    }

    /// Returns regions of which nothing is lent to the system.
    pub fn clear(&self) {
        self.with(|regions| regions.all.retain(|(_, region)| !region.is_whole()));
    }

    /// Bytes lent now.
    pub fn lent(&self) -> usize {
        self.with(|regions| regions.lent * size_of::<f32>())
    }

    /// Bytes that were ever lent from the regions it holds.
    pub fn held(&self) -> usize {
        self.with(|regions| regions.all.iter().map(|(_, region)| region.reached * size_of::<f32>()).sum())
    }
}

/// A lent slice of f32.
pub struct Buffer {
    start: NonNull<f32>,
    len: usize,
    /// The number of its region, the offset, and the elements taken there.
    region: u64,
    at: usize,
    size: usize,
    /// Keeps the region alive.
    arena: Arena,
}

// SAFETY: a buffer has its elements to itself.
#[expect(unsafe_code, reason = "a pointer to numbers that are lent to it alone")]
unsafe impl Send for Buffer {}
// SAFETY: as above; shared, it only lets them be read.
#[expect(unsafe_code, reason = "a pointer to numbers that are lent to it alone")]
unsafe impl Sync for Buffer {}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: `len` numbers from there on are lent to this buffer alone, and were zeros before they were anything else.
        #[expect(unsafe_code, reason = "its part of a region")]
        unsafe {
            std::slice::from_raw_parts(self.start.as_ptr(), self.len)
        }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above.
        #[expect(unsafe_code, reason = "its part of a region")]
        unsafe {
            std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len)
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let (number, at, size) = (self.region, self.at, self.size);
        self.arena.with(|regions| {
            regions.lent -= size;
            if let Some((_, region)) = regions.all.iter_mut().find(|(n, _)| *n == number) {
                region.give(at, size);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_takes_the_first_gap_that_fits() {
        let arena = Arena::default();
        let first = arena.take(5000);
        assert_eq!((first.len(), arena.lent()), (5000, 4 * 5008));
        assert_eq!(first.as_ptr().align_offset(64), 0);
        let second = arena.take(100);
        let at = first.as_ptr();
        drop(first);
        let again = arena.take(4900);
        assert_eq!((again.as_ptr(), again.len()), (at, 4900));
        let beside = arena.take(6000);
        assert!(beside.as_ptr() > second.as_ptr(), "it does not fit between");
        assert_eq!(arena.held(), 4 * (5008 + 112 + 6000));
        assert!(arena.zeros(300).iter().all(|x| *x == 0.0));
    }

    #[test]
    fn gaps_merge_whatever_the_order_of_return() {
        let arena = Arena::default();
        for round in 0..6 {
            let mut all: Vec<Option<Buffer>> = (1..40).map(|i| Some(arena.take(i * 100 + round))).collect();
            for step in 0..all.len() {
                let n = all.len();
                all[(step * 7 + round) % n] = None;
            }
            assert_eq!(arena.lent(), 0);
            assert_eq!(arena.with(|r| r.all.iter().map(|(_, r)| r.gaps.len()).collect::<Vec<_>>()), [1]);
        }
    }

    #[test]
    fn buffers_do_not_overlap() {
        let arena = Arena::default();
        let mut all: Vec<(f32, Buffer)> = Vec::new();
        for i in 0..500_usize {
            let mut buffer = arena.take((i * 7919) % 3000 + 1);
            buffer.fill(i as f32);
            all.push((i as f32, buffer));
            if i % 3 == 2 {
                all.swap_remove((i * 31) % all.len());
            }
        }
        assert!(all.iter().all(|(number, buffer)| buffer.iter().all(|x| x == number)));
    }

    #[test]
    fn steps_of_changing_lengths_hold_little_more_than_the_largest_needs() {
        let arena = Arena::default();
        let mut most = 0;
        for step in 0..60 {
            let tokens = 100 + (step * 37) % 400;
            let mut kept = Vec::new();
            for _ in 0..20 {
                let (wide, narrow) = (arena.take(tokens * 30), arena.take(tokens * 10));
                kept.push(arena.take(tokens * 10));
                drop(narrow);
                kept.push(arena.take(tokens * 53));
                drop(wide);
                kept.push(arena.take(tokens));
            }
            most = most.max(arena.lent());
            while kept.pop().is_some() {
                let _both = (arena.take(tokens * 10), arena.take(tokens * 53));
                most = most.max(arena.lent());
            }
        }
        let held = arena.held();
        assert!(held * 10 < most * 11, "{held} held for {most}");
    }

    #[test]
    #[should_panic(expected = "beyond any memory")]
    fn a_length_that_overflowed_makes_no_buffer() {
        let _ = Arena::default().take(usize::MAX - 3);
    }

    #[test]
    fn clear_returns_unused_regions() {
        let arena = Arena::default();
        let kept = arena.take(1000);
        let other = arena.take(REGION);
        assert_eq!(arena.with(|r| r.all.len()), 2);
        drop(other);
        arena.clear();
        assert_eq!(arena.with(|r| r.all.len()), 1);
        drop(kept);
        arena.clear();
        assert_eq!((arena.with(|r| r.all.len()), arena.lent(), arena.held()), (0, 0, 0));
        assert_eq!(arena.take(10).len(), 10, "and there is more where it came from");
    }
}
