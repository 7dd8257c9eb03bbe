//! Session folders on disk: append-only logs, repair, tailing, locks, atomic checkpoints, import and export formats.
//!
//! Owns the layout of the data folder and what makes a byte on disk trustworthy. Refuses to know models, terminals and
//! runtimes; what the records mean is the protocol's and the domain's business.
//!
//! **Invariants.** One writer per log, and only under the lock of its folder. A record is appended in one write; what a
//! crash left behind is moved to `quarantine/` before the next record, never glued to it and never thrown away. A reader
//! never repairs. A checkpoint becomes visible by one rename after every byte of it is on disk, and older ones go only
//! after that. Folders are 0700 and files 0600.

mod checkpoint;
mod clock;
mod control;
mod error;
pub mod export;
mod files;
mod home;
pub mod import;
mod inputs;
mod lock;
mod log;
mod run;
mod session;
mod summary;

pub use checkpoint::{Checkpoint, Found, sha256};
pub use clock::{local_time, utc_time};
pub use error::{Error, Result};
pub use files::{free_bytes, wall_ms};
pub use home::{Home, list_sessions};
pub use inputs::digest_of;
pub use lock::{Holder, Lock, is_locked, lock_holder};
pub use log::{LogRecord, LogTail, LogWriter};
pub use run::RunDir;
pub use session::{DataFile, SessionDir};
pub use summary::SessionSummary;
