//! Answers of the background threads to the event loop.

use crate::app::Msg;
use tokio::sync::mpsc::Sender;

/// A message and the opening of a session that it belongs to. The loop drops messages of an earlier opening.
#[derive(Debug)]
pub struct Reply {
    /// The opening; none if the message belongs to no session.
    pub opening: Option<u64>,
    /// The message.
    pub msg: Msg,
}

/// Sends messages to the loop. The channel is bounded: reading logs blocks until the screen has folded earlier
/// messages.
#[derive(Debug, Clone)]
pub struct Replies(Sender<Reply>);

impl Replies {
    /// Answers go to `sender`.
    pub fn new(sender: Sender<Reply>) -> Self {
        Self(sender)
    }

    /// Sends a message that belongs to no session. False when the receiver is gone.
    pub fn send(&self, msg: Msg) -> bool {
        self.0.blocking_send(Reply { opening: None, msg }).is_ok()
    }

    /// Sends a message for an opening of a session. False when the receiver is gone.
    pub fn of(&self, opening: u64, msg: Msg) -> bool {
        self.0.blocking_send(Reply { opening: Some(opening), msg }).is_ok()
    }
}
