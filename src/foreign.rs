//! What somebody else made and this program takes in: files of any kind, and data on which a library may panic.
//!
//! Owns the one way such a file is opened: regular files only, with a limit on what is read, and never waiting for a writer at
//! the other end. Owns the calls whose panic becomes an error. Refuses to know what a file means: its reader does.
//!
//! **Invariant.** Memory grows with the bytes that were read, never with a length that a file claims.

mod contained;
mod file;
mod reason;

pub use contained::{contained, panics_are_contained};
pub use file::{CONFIG, DOCUMENT, ROWS, beginning, open, open_with, read, read_text, stays_below, tail_of};
pub use reason::reason;
