//! The program's allocator: the system's, which tells a hook of memory that runs out before the process ends.
//!
//! Owns the hook and a reserve, freed before the hook runs so that it can allocate. Refuses to go on after it: a failed allocation
//! still aborts the process, unless the hook has replaced or ended it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::null_mut;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

/// Bytes kept for the hook; above the size from which the system's allocator maps memory of its own, so that freeing gives it back.
const RESERVE: usize = 4 << 20;

/// What runs when an allocation of so many bytes has failed.
type Hook = Box<dyn Fn(usize) + Send + Sync>;

static HOOK: OnceLock<Hook> = OnceLock::new();
static HELD: AtomicPtr<u8> = AtomicPtr::new(null_mut());
static RUNNING: AtomicBool = AtomicBool::new(false);

/// The layout of the reserve.
fn reserve() -> Option<Layout> {
    Layout::from_size_align(RESERVE, 4096).ok()
}

/// Runs `hook` with the number of bytes when an allocation fails, from whichever thread asked for them. The first hook stays; an
/// allocation that fails while it runs is not reported.
pub fn on_full(hook: impl Fn(usize) + Send + Sync + 'static) {
    if HOOK.set(Box::new(hook)).is_ok()
        && let Some(layout) = reserve()
    {
        #[expect(unsafe_code, reason = "the system's allocator is called without the hook")]
        // SAFETY: the size is not 0.
        HELD.store(unsafe { System.alloc(layout) }, Ordering::Release);
    }
}

/// Tells the hook that `bytes` could not be allocated. Returns where there is none, or where it did not end the process.
#[cold]
pub fn full(bytes: usize) {
    let Some(hook) = HOOK.get() else { return };
    if RUNNING.swap(true, Ordering::AcqRel) {
        return;
    }
    let held = HELD.swap(null_mut(), Ordering::AcqRel);
    if let (false, Some(layout)) = (held.is_null(), reserve()) {
        #[expect(unsafe_code, reason = "as it was allocated")]
        // SAFETY: it was allocated with this layout, and is taken by one thread only.
        unsafe {
            System.dealloc(held, layout);
        }
    }
    hook(bytes);
}

/// The system's allocator, with the hook of [`on_full`].
pub struct ReportingAllocator;

/// Reports a failed allocation, and passes the pointer on.
#[inline]
fn checked(made: *mut u8, bytes: usize) -> *mut u8 {
    if made.is_null() {
        full(bytes);
    }
    made
}

// SAFETY: every call is the system allocator's own, with the caller's arguments.
#[expect(unsafe_code, reason = "an allocator is unsafe to implement")]
unsafe impl GlobalAlloc for ReportingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's.
        checked(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's.
        checked(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's.
        checked(unsafe { System.realloc(at, layout, size) }, size)
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's.
        unsafe { System.dealloc(at, layout) }
    }
}
