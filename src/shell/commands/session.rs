//! `new`, `import`, `export`: creating sessions, importing and exporting data.

use super::super::cli::{ExportArgs, ImportArgs, NewArgs};
use super::super::effects::{check_prompts, make_session};
use super::super::error::{Error, Result};
use super::super::intake;
use super::super::journal::Journal;
use super::super::{out, plan};
use super::context::CommandContext;
use super::dry_run;
use crate::domain::counted;
use crate::storage::formats::{self, Format};
use crate::storage::{SessionDir, export};
use serde_json::json;
use std::path::Path;

/// Creates a session, with the prompts of the given files.
pub fn new(context: &CommandContext, args: &NewArgs) -> Result<()> {
    args.prompts.iter().try_for_each(|file| check_prompts(file))?;
    let dir = make_session(&context.home, &args.session, &args.model)?;
    if context.json {
        out::json(&json!({ "session": dir.name(), "path": dir.path(), "model": dir.meta()?.model }))?;
    } else {
        out::line(&format!("created session {} in {}", dir.name(), dir.path().display()))?;
    }
    let prompts = formats::import_named("prompts")?;
    args.prompts.iter().try_for_each(|file| import_file(context, &dir, file, Some(prompts), None))
}

/// Imports a file into a session.
pub fn import(context: &CommandContext, args: &ImportArgs) -> Result<()> {
    let dir = SessionDir::find(&context.home, &args.session)?;
    if args.dry_run {
        return dry_run::show(&intake::read(&args.file, args.format, args.limit)?, context.json);
    }
    import_file(context, &dir, &args.file, args.format, args.limit)
}

fn import_file(
    context: &CommandContext,
    dir: &SessionDir,
    file: &Path,
    format: Option<&'static Format>,
    limit: Option<usize>,
) -> Result<()> {
    let mut journal = Journal::require(dir)?;
    let intake = intake::bring_in(&mut journal, file, format, limit);
    journal.close()?;
    let intake = intake?;
    if let Some(left_out) = &intake.left_out {
        out::note(left_out);
    }
    intake.notes.iter().for_each(|note| out::note(note));
    if context.json {
        let added = intake.added;
        out::json(&json!({
            "session": dir.name(), "file": file, "kind": intake.format, "prompts": added.prompts, "pairs": added.pairs,
            "unjudged": added.unjudged, "rows": added.rows, "known_prompts": added.known_prompts, "known_pairs": added.known_pairs,
            "known_rows": added.known_rows, "bad_lines": intake.bad_lines, "left_out": intake.left_out,
            "notes": intake.notes, "unused": intake.unused.0,
        }))
    } else {
        out::line(&intake.text())
    }
}

/// Writes a session's training rows to a file or to standard output.
pub fn export(context: &CommandContext, args: &ExportArgs) -> Result<()> {
    let dir = SessionDir::find(&context.home, &args.session)?;
    let (session, found) = dir.state()?;
    if !args.allow_damaged {
        plan::check_whole(&dir.name(), &found, "export")?;
    }
    out::warn_of_damage(&found);
    let choice = args.choice.choice();
    choice.rubric.check(session.criteria()).map_err(Error::failed)?;
    let (rows, left) = export::lines(&session, args.format, &choice);
    let partial = session.partial_counts();
    let free = out::result(&args.to, rows.concat().as_bytes())?;
    let object = context.json.then(|| {
        json!({ "session": dir.name(), "file": args.to, "rows": rows.len(), "left_out": left.total(),
            "filtered": left.filtered, "partial": partial, "damage": found.damage() })
    });
    let filtered = match left.filtered {
        0 => String::new(),
        n => format!("; {n} labelled pairs do not match the filter"),
    };
    let left = match left.total() {
        0 => String::new(),
        n if left.incomplete > 0 => format!(
            " ({n} labelled pairs give no row: ties, both bad, unresolved, equal, empty, or without one of the criteria)"
        ),
        n => format!(" ({n} labelled pairs give no row: ties, both bad, unresolved, equal or empty)"),
    };
    let text = format!("wrote {} to {}{left}{filtered}", counted(rows.len(), "row"), args.to.display());
    if let Some(sentence) = partial.sentence() {
        out::note(&format!("{sentence}; the column `partial` marks them, `--filter -partial` leaves the pairs out"));
    }
    out::about(free, &text, object.as_ref())
}
