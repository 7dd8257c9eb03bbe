//! The first reading of a session's log: one thread reads and parses, this one folds.
//!
//! Owns the order of that work. Refuses to repair, and to lose damage: the reader it returns has counted it.

use crate::protocol::{LogFold, SessionRecord};
use crate::storage::{self, LogPart, LogTail, SessionDir};
use std::sync::mpsc::sync_channel;

/// Bytes of a log that are parsed before their records are folded.
const PART: u64 = 1 << 18;
/// Parts that may wait to be folded.
const WAITING: usize = 4;

/// A log as it was read at opening.
#[derive(Debug)]
pub struct OpeningRead {
    /// How far the log was counted before it was read.
    pub counted: u64,
    /// The reader, at the end of what was read.
    pub tail: LogTail<SessionRecord>,
    /// What it read, folded.
    pub log: LogFold,
    /// Why it did not read on.
    pub error: Option<storage::Error>,
}

impl OpeningRead {
    /// Reads a session's log to its end.
    pub fn of(dir: &SessionDir) -> Self {
        let counted = dir.counted_end();
        let mut tail = dir.tail();
        let mut log = LogFold::default();
        let (parts, parsed) = sync_channel(WAITING);
        let mut in_order = true;
        let error = std::thread::scope(|scope| {
            let tail = &mut tail;
            let reader = std::thread::Builder::new().name("log".into()).spawn_scoped(scope, move || {
                loop {
                    match tail.poll_part(PART) {
                        Ok(part) => {
                            let more = part.more && part.in_order;
                            if parts.send(part).is_err() || !more {
                                return None;
                            }
                        }
                        Err(error) => return Some(error),
                    }
                }
            });
            for LogPart { records, in_order: after, .. } in parsed {
                in_order &= after;
                if in_order {
                    log.add(records);
                }
            }
            reader.ok().and_then(|reader| reader.join().ok()).flatten()
        });
        if in_order {
            // Where no thread could be started nothing was read yet; else the log is at its end.
            return Self { counted, tail, log, error };
        }
        Self::whole(dir, counted)
    }

    /// Reads a log whose records are out of order: all of it is sorted before it is folded.
    fn whole(dir: &SessionDir, counted: u64) -> Self {
        let (mut tail, mut log) = (dir.tail(), LogFold::default());
        let error = match tail.poll() {
            Ok(records) => {
                log.add(records);
                None
            }
            Err(error) => Some(error),
        };
        Self { counted, tail, log, error }
    }
}
