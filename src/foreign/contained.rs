//! Calls into a library that panics on damaged input: the panic becomes an error.
//!
//! Owns the mark by which the program's panic hook knows such a call, so that nothing is reported and no terminal is restored.
//! Refuses to wrap code of this program: its panics are bugs.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic of this thread becomes an error: a hook stays silent then.
#[must_use]
pub fn panics_are_contained() -> bool {
    CONTAINED.get()
}

/// What the work returns; none where it panics. What it works on must not be used after that.
pub fn contained<T>(work: impl FnOnce() -> T) -> Option<T> {
    CONTAINED.set(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    CONTAINED.set(false);
    done.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_nothing_and_the_mark_is_taken_off() {
        assert_eq!(contained(|| (panics_are_contained(), 3)), Some((true, 3)));
        let nothing: Option<usize> = contained(|| [1, 2, 3][std::hint::black_box(7)]);
        assert_eq!((nothing, panics_are_contained()), (None, false));
    }
}
