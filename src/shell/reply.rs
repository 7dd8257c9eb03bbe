//! How the threads behind the screen answer it.

use crate::app::Msg;
use tokio::sync::mpsc::Sender;

/// A message, and which opening of a session it belongs to. What belongs to an earlier one is dropped by the loop: it was
/// under way when another session was opened.
#[derive(Debug)]
pub struct Reply {
    /// The opening; none for what belongs to no session.
    pub opening: Option<u64>,
    /// The message.
    pub msg: Msg,
}

/// Sends messages to the loop. The channel is bounded: who reads logs faster than the screen folds them waits.
#[derive(Debug, Clone)]
pub struct Replies(Sender<Reply>);

impl Replies {
    /// Answers go to `sender`.
    pub fn new(sender: Sender<Reply>) -> Self {
        Self(sender)
    }

    /// Sends what belongs to no session. False when nobody listens any more.
    pub fn send(&self, msg: Msg) -> bool {
        self.0.blocking_send(Reply { opening: None, msg }).is_ok()
    }

    /// Sends what belongs to an opening of a session. False when nobody listens any more.
    pub fn of(&self, opening: u64, msg: Msg) -> bool {
        self.0.blocking_send(Reply { opening: Some(opening), msg }).is_ok()
    }
}
