//! Session folders on disk: append-only logs, repair, tailing, locks, atomic checkpoints, import and export formats.
//!
//! Owns the layout of the data folder and the durability of every byte in it. Refuses to know models, terminals and
//! async runtimes; the protocol and the domain say what records mean.
//!
//! An imported line becomes a row in three steps: `container` decodes the file into records, a format in `formats/`
//! turns each record into a row, `import` adds the rows to a session. `export` does the reverse.
//!
//! **Invariants.** One writer per log, and only under the lock of its folder. A record is appended in one write; bytes
//! torn by a crash are moved to `quarantine/` before the next append, never deleted. A reader never repairs. A
//! checkpoint becomes visible by one rename after every byte of it is on disk, and older ones are deleted only after
//! that. Folders are 0700 and files 0600.

mod answers;
mod asked;
mod chat_json;
mod checkpoint;
mod clock;
mod container;
mod control;
mod counted;
mod error;
pub mod export;
mod fault;
mod files;
pub mod formats;
mod gather;
mod given;
mod growing;
mod home;
pub mod import;
mod inbox;
mod inputs;
mod judgements;
mod lock;
mod log;
mod loop_folder;
mod meaning;
mod oom;
pub mod pack;
mod pair_columns;
mod record;
mod run;
mod schema;
mod session;
mod summary;
mod transcript;
mod unread;

pub use asked::{AskedFile, AskedWriter};
pub use checkpoint::{CheckpointDir, CheckpointSearch, sha256};
pub use clock::{local_time, utc_time};
pub use error::{Error, Result};
#[cfg(test)]
pub(crate) use fault::plan as faults;
pub use files::{
    Target, free_bytes, open_file, read_file, read_tail, read_text_file, temp_dir, wall_ms, write_private, write_result,
};
pub use growing::GrowingTail;
pub use home::Home;
pub use inbox::Inbox;
pub use inputs::digest_of;
pub use lock::{Holder, Lock, is_locked, lock_holder};
pub use log::{LogPart, LogRecord, LogTail, LogWriter};
pub use loop_folder::LoopFolder;
pub use oom::OomWatch;
pub use run::RunDir;
pub use session::{DataFile, SessionDir};
pub use summary::{SessionSummary, list_sessions};
