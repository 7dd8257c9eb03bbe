//! When a run shows the answers that it is writing: often enough to read along, rarely enough not to slow it.
//!
//! Owns the pace. Refuses to stop a run: where the file cannot be written, nobody can read along and the run goes on.

use super::out::note;
use crate::protocol::Growing;
use crate::storage::RunDir;
use std::time::{Duration, Instant};

/// The shortest time between two states.
const EVERY: Duration = Duration::from_millis(200);
/// A state costs at most one part in so many of the run's time, where that is not longer than anybody waits to read along.
const SHARE: u32 = 100;
/// The longest time between two states that can be written.
const LONGEST: Duration = Duration::from_millis(500);
/// The time before the next try where the file could not be written.
const AFTER_FAULT: Duration = Duration::from_secs(10);

/// The file of the answers being written.
pub(super) struct GrowingFile {
    run: RunDir,
    /// Not before.
    next: Option<Instant>,
    /// Whether the file holds anything.
    shown: bool,
    failed: bool,
}

impl GrowingFile {
    /// The file of a run, without what an earlier worker left.
    pub(super) fn new(run: &RunDir) -> Self {
        run.clear_growing();
        Self { run: run.clone(), next: None, shown: false, failed: false }
    }

    /// Writes the answers if it is time; only then are they put together.
    pub(super) fn show(&mut self, answers: &mut dyn FnMut() -> Growing) {
        let began = Instant::now();
        if self.next.is_some_and(|next| began < next) {
            return;
        }
        let growing = answers();
        let nothing = growing.is_empty() && !self.shown;
        let written = if nothing { Ok(()) } else { self.run.write_growing(&growing) };
        self.shown |= !growing.is_empty();
        let mut pause = EVERY.max((began.elapsed() * SHARE).min(LONGEST));
        if let Err(e) = written {
            pause = pause.max(AFTER_FAULT);
            if !self.failed {
                note(&format!("answers cannot be read while they are written: {e}; the run goes on"));
            }
            self.failed = true;
        }
        self.next = Some(Instant::now() + pause);
    }
}

impl Drop for GrowingFile {
    fn drop(&mut self) {
        self.run.clear_growing();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_put_together_only_when_it_is_time_and_gone_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("spec.json"), "{}").unwrap();
        let run = RunDir::open(dir.path()).unwrap();
        let mut tail = run.growing();
        let mut file = GrowingFile::new(&run);
        let mut built = 0;
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(450) {
            file.show(&mut || {
                built += 1;
                let id = crate::domain::CompletionId::new("c");
                let pair = crate::domain::Pair {
                    id: crate::domain::PairId::new("p"),
                    prompt: crate::domain::PromptId::new("p"),
                    a: id.clone(),
                    b: id,
                    strategy: "random".into(),
                    p_select: 1.0,
                };
                Growing { pairs: vec![pair], answers: Vec::new() }
            });
        }
        assert!((2..=3).contains(&built), "{built}");
        assert_eq!(tail.poll().map(|g| g.pairs.len()), Some(1));
        drop(file);
        assert_eq!(tail.poll(), Some(Growing::default()));
        assert!(!dir.path().join("growing.json").exists());
    }
}
