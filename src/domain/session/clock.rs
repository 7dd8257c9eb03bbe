//! A session's clock: which of two acts is the later one, in every copy of a session alike.
//!
//! Owns the session's clock. Within one log the order of the records decides. Between the logs of two copies only wall
//! clocks can, and they may be wrong, so the clock is a hybrid one (Kulkarni et al. 2014, "Logical Physical Clocks"): it
//! shows the wall time of a record, or one millisecond after the latest act known so far where the wall clock is behind.
//! An act that was taken from another copy keeps the time that it has there.

/// The session's clock, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Clock {
    /// The wall time of the record that is being folded.
    wall: u64,
    /// The time of the latest act.
    latest: u64,
    /// The time in another copy of the act that is being taken from there.
    copied: Option<u64>,
}

impl Clock {
    /// The time of the act that is being folded.
    pub(super) fn stamp(&mut self) -> u64 {
        let at = self.copied.unwrap_or_else(|| self.wall.max(self.latest + 1));
        self.latest = self.latest.max(at);
        at
    }

    /// The time of the record that is being folded or, where the wall clock is behind, of the latest act.
    pub(super) fn now(&self) -> u64 {
        self.wall.max(self.latest)
    }

    /// Sets the wall time of the records folded from here on.
    pub(super) fn set_wall(&mut self, wall_ms: u64) {
        // As below: acts after it still get later times.
        self.wall = wall_ms.min(MAX_TIME);
    }

    /// From here on acts happened at this time in another copy; none: here. Returns what was set before.
    pub(super) fn copy_from(&mut self, at: Option<u64>) -> Option<u64> {
        // A time from a foreign file must not exhaust the clock.
        std::mem::replace(&mut self.copied, at.map(|at| at.min(MAX_TIME)))
    }

    /// Whether the act that is being folded was taken from another copy.
    pub(super) fn copying(&self) -> bool {
        self.copied.is_some()
    }
}

/// The latest time that a record or another copy may claim: the year 9999.
const MAX_TIME: u64 = 253_402_300_799_999;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_time_in_a_file_exhausts_the_clock() {
        for wall in [0, 1, MAX_TIME, MAX_TIME + 1, 1 << 63, u64::MAX] {
            let mut clock = Clock::default();
            clock.set_wall(wall);
            let first = clock.stamp();
            clock.set_wall(5);
            let second = clock.stamp();
            clock.copy_from(Some(u64::MAX));
            let copied = clock.stamp();
            clock.copy_from(None);
            assert!(first < second && copied <= MAX_TIME && clock.stamp() > second.max(copied), "{wall}");
            assert!(clock.now() <= MAX_TIME + 3, "{wall}");
        }
    }
}
