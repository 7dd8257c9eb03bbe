//! Which loops have a live process. Owns what was last said of each; refuses to read their messages.

use super::super::reply::Replies;
use crate::app::Msg;
use crate::storage::{LoopFolder, SessionDir};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(400);

/// The loops' processes, as last said.
#[derive(Debug, Default)]
pub(super) struct LoopsAlive {
    known: BTreeMap<String, bool>,
    looked: Option<Instant>,
}

impl LoopsAlive {
    /// Sends what has changed. False when the receiver is gone.
    pub(super) fn poll(&mut self, opening: u64, dir: &SessionDir, replies: &Replies) -> bool {
        if self.looked.is_some_and(|at| at.elapsed() < LOOK) {
            return true;
        }
        self.looked = Some(Instant::now());
        let mut ok = true;
        // A folder that cannot be listed is looked at again.
        for name in LoopFolder::all(dir).unwrap_or_default() {
            let alive = LoopFolder::of(dir, &name).is_running();
            if self.known.insert(name.clone(), alive) != Some(alive) {
                ok &= replies.of(opening, Msg::LoopAlive { name, alive });
            }
        }
        ok
    }
}
