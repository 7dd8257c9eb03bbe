//! Starting threads where memory may run out.
//!
//! Owns the look before a thread starts: the library maps its stack, and then ends the process where the few pages beside it do not
//! fit. Refuses to start one that could end so.

use super::error::Error;
use std::io;

/// The stack of a thread where nothing else is said, in bytes.
pub(crate) const STACK: usize = 2 << 20;

/// What a thread takes beside its stack, generously.
const BESIDE: usize = 1 << 20;

/// Whether a thread with a stack of `stack` bytes fits in memory.
///
/// # Errors
/// When the system refuses the memory.
pub(crate) fn room(stack: usize) -> io::Result<()> {
    memmap2::MmapMut::map_anon(stack.saturating_add(BESIDE)).map(drop)
}

/// A thread for `what` that the system refused, with a stack of `stack` bytes.
pub(crate) fn refused(what: &str, stack: usize, e: &io::Error) -> Error {
    // For a thread the system names memory and the limit of processes alike.
    if e.kind() == io::ErrorKind::OutOfMemory || room(stack).is_err() {
        return Error::Memory { what: format!("the thread of {what}"), bytes: stack as u64 };
    }
    Error::Invalid(format!(
        "cannot start the thread of {what}: {e}; there is no memory for it or no more processes are allowed: end other programs, or \
         raise the limits (ulimit -v, ulimit -u)"
    ))
}
