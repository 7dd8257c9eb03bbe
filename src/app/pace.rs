//! How fast keys come: verdicts sooner than a person can read, and keys that are held down.
//!
//! Owns the thresholds and the pattern of a terminal's auto-repeat. Refuses to know what a key does, and to drop anything
//! itself.

use super::key::Key;

/// A verdict sooner than this after its pair appeared, in milliseconds, cannot rest on reading.
pub const READ_MS: u64 = 250;

/// The delay before a held key repeats: keyboards and systems differ from 180 ms to 1 s.
const DELAY_MS: std::ops::RangeInclusive<u64> = 180..=1000;
/// Repeats come this close at most on most systems; no finger presses one key so fast.
const REPEAT_MS: u64 = 60;
/// Slower repeats (macOS by default 90 ms, the Linux console 92 ms): two of them in a row are a held key.
const SLOW_REPEAT_MS: u64 = 100;
/// A pause this long ends a held key.
const PAUSE_MS: u64 = 400;

/// What the last presses of one key look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Rhythm {
    /// A press of its own.
    #[default]
    Single,
    /// A second press after a delay like that of a held key.
    Delayed,
    /// After such a delay, one repeat at a slow rate.
    Slow,
    /// Fast from the start, as a script or a pasted line sends it: no held key.
    Stream,
    /// The key is held down.
    Held,
}

/// Recognises a held key by its pattern: a press, a delay, then quick repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HeldKey {
    last: Option<(Key, u64)>,
    rhythm: Rhythm,
}

impl HeldKey {
    /// Notes a key press at a time of the monotonic clock; whether it is the repeat of a held key.
    pub fn press(&mut self, key: Key, clock_ms: u64) -> bool {
        let gap = match self.last.replace((key, clock_ms)) {
            Some((last, at)) if last == key => clock_ms.saturating_sub(at),
            _ => {
                self.rhythm = Rhythm::Single;
                return false;
            }
        };
        self.rhythm = match self.rhythm {
            Rhythm::Held if gap <= PAUSE_MS => Rhythm::Held,
            // A connection that hangs may make the pause: the next repeat tells.
            Rhythm::Held => Rhythm::Delayed,
            Rhythm::Delayed | Rhythm::Slow if gap <= REPEAT_MS => Rhythm::Held,
            Rhythm::Delayed if gap <= SLOW_REPEAT_MS => Rhythm::Slow,
            Rhythm::Slow if gap <= SLOW_REPEAT_MS => Rhythm::Held,
            Rhythm::Single | Rhythm::Stream if gap <= REPEAT_MS => Rhythm::Stream,
            Rhythm::Stream => Rhythm::Single,
            _ if DELAY_MS.contains(&gap) => Rhythm::Delayed,
            _ => Rhythm::Single,
        };
        self.rhythm == Rhythm::Held
    }

    /// Notes a press whose repeats the terminal reports: no pattern is needed.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

/// What is said of a verdict that came so soon; none for one that a person can have read for.
#[must_use]
pub fn quick_words(ms: u64, undo: &str) -> Option<String> {
    (ms < READ_MS).then(|| format!("Recorded {ms} ms after the pair appeared; {undo} undoes it"))
}

/// Why a verdict was not taken under the user's own `guard_ms`.
#[must_use]
pub fn guarded_words(ms: u64, guard_ms: u64) -> String {
    format!("Ignored: {ms} ms after the pair appeared; config.toml sets guard_ms = {guard_ms}. Press again.")
}

#[cfg(test)]
mod tests {
    use super::super::key::Key;
    use super::*;

    /// Which of the presses of one key, given by their gaps, count.
    fn counted(gaps: &[u64]) -> Vec<bool> {
        let (mut held, mut now) = (HeldKey::default(), 5_000);
        let mut counts = vec![!held.press(Key::char('1'), now)];
        for gap in gaps {
            now += gap;
            counts.push(!held.press(Key::char('1'), now));
        }
        counts
    }

    #[test]
    fn a_held_key_counts_twice_at_most_until_a_pause_or_another_key() {
        for (delay, rate) in [(180, 11), (250, 33), (500, 33), (660, 40), (1000, 60)] {
            let gaps = [&[delay][..], &[rate; 30]].concat();
            assert_eq!(counted(&gaps).iter().filter(|counts| **counts).count(), 2, "{delay} ms, then {rate} ms");
        }
        // The slow rates of macOS and of the Linux console need one repeat more.
        let slow = [&[375][..], &[90; 30]].concat();
        assert_eq!(counted(&slow).iter().filter(|counts| **counts).count(), 3);
        assert_eq!(counted(&[500, 33, 33, 401, 900]), [true, true, false, false, true, true], "a pause ends it");
        assert_eq!(
            counted(&[500, 33, 450, 33]),
            [true, true, false, true, false],
            "a pause of the connection does not"
        );
        let mut held = HeldKey::default();
        for at in [0, 500, 533] {
            held.press(Key::char('1'), at);
        }
        assert!(!held.press(Key::char('2'), 560) && !held.press(Key::char('1'), 580), "another key ends it");
    }

    #[test]
    fn presses_of_people_and_of_scripts_all_count() {
        for gap in [61, 90, 130, 179, 180, 400, 1000, 1001, 5000] {
            assert!(counted(&[gap; 40]).into_iter().all(|counts| counts), "every {gap} ms");
        }
        for gap in [0, 1, 5, 20, 60] {
            assert!(counted(&[gap; 40]).into_iter().all(|counts| counts), "every {gap} ms");
        }
        // A script that halts in a run of one key goes on with it.
        assert!(counted(&[20, 20, 500, 20, 20, 300, 20]).into_iter().all(|counts| counts));
        assert!(counted(&[300, 70, 300, 120, 90]).into_iter().all(|counts| counts));
    }

    #[test]
    fn only_a_quick_verdict_is_remarked_on() {
        assert_eq!(quick_words(80, "u").as_deref(), Some("Recorded 80 ms after the pair appeared; u undoes it"));
        assert_eq!(quick_words(READ_MS, "u"), None);
    }
}
