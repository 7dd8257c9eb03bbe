//! How far a session's log was once counted: a log that ends before that was cut between two lines, which nothing in it tells.
//!
//! Owns the reading of that number in `summary.json`, and the damage that follows from it. Refuses to count, which the list of
//! sessions does, and to say the same damage twice.

use super::files::read_json;
use crate::protocol::{Damage, DamagedPlace, Integrity};
use serde::Deserialize;
use std::path::Path;

/// The version of `summary.json`. Cached counts of another version are discarded and computed anew.
pub(super) const VERSION: u32 = 2;

/// What is read of the cached counts.
#[derive(Debug, Default, Deserialize)]
struct CountedEnd {
    #[serde(default)]
    version: u32,
    #[serde(default)]
    highest: u64,
}

/// The highest number of a record that was ever counted in a session's log; 0 where none was.
pub(super) fn counted_end(session: &Path) -> u64 {
    let counted: CountedEnd = read_json(&session.join("summary.json"), "counts").unwrap_or_default();
    if counted.version == VERSION { counted.highest } else { 0 }
}

/// Notes that a log ends at record `last` although `counted` were counted. Damage that is known already explains it.
pub(super) fn note_cut(integrity: &mut Integrity, last: u64, counted: u64) {
    if counted <= last || !integrity.is_intact() {
        return;
    }
    let what = format!(
        "the log ends at record {last}, and {counted} were counted before: restore events/ from a copy, or delete summary.json to go \
         on without them"
    );
    integrity.note(counted - last, DamagedPlace { damage: Damage::Missing, file: "events".into(), line: 0, what });
}
