//! What every command knows, and the run that a command is about.

use super::super::error::{Error, Result};
use crate::domain::RunId;
use crate::storage::{Home, RunDir, SessionDir};

/// What every command knows.
#[derive(Debug)]
pub struct CommandContext {
    /// The data folder.
    pub home: Home,
    /// Answer in JSON.
    pub json: bool,
}

/// The session and the run that `SESSION/RUN` names.
pub(super) fn run_named(context: &CommandContext, text: &str) -> Result<(SessionDir, RunDir)> {
    let Some((session, run)) = text.trim_end_matches('/').rsplit_once('/') else {
        return Err(Error::Usage(format!(
            "`{text}` names no run: write SESSION/RUN (`tiebreak runs {text}` lists them)"
        )));
    };
    let dir = SessionDir::find(&context.home, session)?;
    let run = dir.run(&RunId::new(run))?;
    Ok((dir, run))
}
