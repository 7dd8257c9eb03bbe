//! The commands that open a screen of the workbench.

use super::super::bundle;
use super::super::cli::ScreenArgs;
use super::super::error::{Error, Result};
use super::super::run::{Opening, workbench};
use super::Context;
use crate::app::Goal;
use crate::domain::{Rater, RunId, nearest};
use crate::storage::SessionDir;

/// Opens the workbench, on a screen of a session if one is named.
pub fn open(context: Context, goal: Option<(String, Goal)>, rater: Option<String>, args: &ScreenArgs) -> Result<()> {
    if context.json {
        return Err(Error::Usage("--json is for commands, and this opens a screen: leave it out".into()));
    }
    if let Some((session, _)) = &goal {
        // A wrong name is said here in a sentence, not on a screen that opens for nothing.
        SessionDir::find(&context.home, session)?;
    }
    let rater = rater.or_else(|| std::env::var("USER").ok()).filter(|name| !name.trim().is_empty());
    let rater = rater.unwrap_or_else(|| "me".into());
    if rater.starts_with("import:") {
        return Err(Error::Usage(
            "a rater's name cannot begin with `import:`: that marks verdicts that came with a file".into(),
        ));
    }
    workbench(Opening { home: context.home, goal, rater: Rater(rater), synchronise: !args.no_sync })
}

/// Opens a copy of a bundled session.
pub fn demo(context: Context, name: Option<&str>, args: &ScreenArgs) -> Result<()> {
    let names = bundle::names();
    let name = match name {
        Some(name) => names.iter().find(|n| **n == name).copied(),
        None => names.first().copied(),
    };
    let Some(name) = name else {
        return Err(Error::Usage(match nearest(name.unwrap_or_default(), names) {
            Some(near) => format!("there is no bundled session of that name; did you mean `{near}`?"),
            None => "this build carries no session: make one with `tiebreak new`".into(),
        }));
    };
    let dir = bundle::unpack(&context.home, name)?;
    let path = dir.path().display().to_string();
    open(context, Some((path, Goal::Watch(None))), None, args)
}

/// Opens the charts of a session or of one run of it.
pub fn watch(context: Context, target: &str, args: &ScreenArgs) -> Result<()> {
    let whole = SessionDir::find(&context.home, target);
    let goal = match (whole, target.trim_end_matches('/').rsplit_once('/')) {
        (Ok(_), _) => (target.to_owned(), Goal::Watch(None)),
        (Err(_), Some((session, run))) => {
            let run = RunId::new(run);
            SessionDir::find(&context.home, session)?.run(&run)?;
            (session.to_owned(), Goal::Watch(Some(run)))
        }
        (Err(error), None) => return Err(error.into()),
    };
    open(context, Some(goal), None, args)
}
