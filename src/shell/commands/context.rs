//! The context of every command.

use super::super::error::{Error, Result};
use crate::domain::RunId;
use crate::storage::{Home, RunDir, SessionDir};

/// Options shared by all commands.
#[derive(Debug)]
pub struct CommandContext {
    /// The data folder.
    pub home: Home,
    /// Print JSON.
    pub json: bool,
}

/// The session and the run of `SESSION/RUN`.
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
