//! The way of a loop's records into the session's log: through the inbox, whoever holds the lock.
//!
//! Owns the waiting until they are there. Refuses to append without the lock.

use super::super::error::{Error, Result};
use super::super::journal::Journal;
use super::super::out;
use super::follow::LoopControl;
use crate::protocol::SessionRecord;
use crate::storage::{Inbox, SessionDir};
use std::time::{Duration, Instant};

/// Time between two looks at what another process has to do.
const WAIT: Duration = Duration::from_millis(100);
/// After this time it is said that somebody else has the session's lock.
const PATIENCE: Duration = Duration::from_secs(3);

/// Puts records into the inbox and waits until they are in the log.
pub(super) fn deliver(
    dir: &SessionDir,
    name: &str,
    records: &[SessionRecord],
    control: &mut LoopControl,
) -> Result<()> {
    if records.is_empty() {
        return Ok(());
    }
    let batch = Inbox::of(dir).put(name, records)?;
    settle(dir, name, control)?;
    let refused = Inbox::refused(&batch);
    if refused.is_file() {
        return Err(Error::failed(format!(
            "what {name} wrote for the session's log could not be read back: see {}",
            refused.display()
        )));
    }
    Ok(())
}

/// Waits until nothing of this loop is left in the inbox; takes it itself where nobody holds the session's lock.
pub(super) fn settle(dir: &SessionDir, name: &str, control: &mut LoopControl) -> Result<()> {
    let inbox = Inbox::of(dir);
    let (began, mut said) = (Instant::now(), false);
    while !inbox.waiting_from(name)?.is_empty() {
        // Opening the journal takes what waits.
        if let Some(journal) = Journal::open(dir)? {
            journal.close()?;
            continue;
        }
        control.check()?;
        if !said && began.elapsed() >= PATIENCE {
            said = true;
            let holder = dir.holder().map_or_else(|| "another process".into(), |holder| holder.to_string());
            out::note(&format!(
                "{name} waits until {holder}, which holds session {}, has saved its records",
                dir.name()
            ));
        }
        std::thread::sleep(WAIT);
    }
    Ok(())
}
