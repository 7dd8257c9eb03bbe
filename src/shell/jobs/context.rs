//! What jobs share: the way to the log, and a thread.

use super::super::reply::Replies;
use crate::app::Msg;
use crate::protocol::SessionRecord;
use crate::storage::import::Imported;
use std::io;

/// What a job has for the open session's log. The opening says for which session.
#[derive(Debug)]
pub enum ForLog {
    /// The rows of a file.
    Imported(u64, Box<Imported>),
    /// Records, and what to say once they are on disk.
    Records(u64, Vec<SessionRecord>, Option<Msg>),
}

/// Receives what jobs have for the log.
pub(super) type ToWriter = dyn Fn(ForLog) + Send + Sync;

/// Starts a thread.
pub(super) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name(name.into()).spawn(work).map(drop)
}

/// Runs `work` in its own thread.
pub fn run_in_background(replies: &Replies, name: &str, work: impl FnOnce() + Send + 'static) {
    if let Err(error) = spawn(name, work) {
        replies.send(Msg::Failed(format!("cannot start a thread ({error}): close other programs and try again")));
    }
}
