//! The name of a run that is launched: chosen, or the next free one of its kind.
//!
//! Owns what two launches at once do: who comes second takes the next name, and the next seed where seeds are counted. Refuses to
//! change a name that somebody chose.

use super::error::Result;
use crate::domain::Sampler;
use crate::protocol::{RunSpec, Task};
use crate::storage::{self, DataFile, RunDir, SessionDir};

/// How often a taken name is replaced: as many launches would have to come between.
const TRIES: usize = 100;

/// Where the name in a specification came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunName {
    /// Chosen by a person or a loop.
    Given,
    /// The next free one of its kind.
    Next,
    /// As [`RunName::Next`], of a sampling run whose seed counts the sampling runs before it.
    NextWithSeed,
}

impl RunName {
    /// Of a name that a person may have chosen.
    pub fn of(given: Option<&String>) -> Self {
        if given.is_some() { Self::Given } else { Self::Next }
    }

    /// Of a sampling run.
    pub fn of_sampling(count_seed: bool) -> Self {
        if count_seed { Self::NextWithSeed } else { Self::Next }
    }

    /// Creates a run's folder. Puts the name and the seed that it got into the specification.
    ///
    /// # Errors
    /// When a chosen name is taken, or the folder cannot be created.
    pub(super) fn create(self, dir: &SessionDir, spec: &mut RunSpec, files: &[DataFile]) -> Result<RunDir> {
        if self == Self::NextWithSeed {
            self.advance(dir, spec)?;
        }
        for _ in 1..TRIES {
            match dir.create_run_with(spec, files) {
                Err(storage::Error::Exists(_)) if self != Self::Given => self.advance(dir, spec)?,
                made => return Ok(made?),
            }
        }
        Ok(dir.create_run_with(spec, files)?)
    }

    /// The name before the seed: a run that is launched in between takes that name, so that creating this one fails.
    fn advance(self, dir: &SessionDir, spec: &mut RunSpec) -> Result<()> {
        let id = spec.id.as_str();
        let kind = id.rsplit_once('-').map_or(id, |(kind, _)| kind);
        spec.id = dir.next_run_id(kind)?;
        if let (Self::NextWithSeed, Task::Sample(sample)) = (self, &mut spec.task) {
            sample.sampler.seed = counted_seed(dir)?;
        }
        Ok(())
    }
}

/// The seed of the next sampling run, if seeds are counted: another one than those before it had, whose texts it would repeat.
///
/// # Errors
/// When the folder of runs cannot be listed.
pub(super) fn counted_seed(dir: &SessionDir) -> Result<u64> {
    let earlier = dir.runs()?.iter().filter(|r| r.spec().is_ok_and(|s| s.kind() == "sample")).count();
    Ok(Sampler::default().seed + earlier as u64)
}
