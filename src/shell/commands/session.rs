//! `new`, `import`, `export`: making sessions, bringing data in and taking it out.

use super::super::cli::{ExportArgs, ImportArgs, ImportKind, NewArgs};
use super::super::effects::{check_prompts, make_session};
use super::super::error::{Error, Result};
use super::super::intake::{self, Kind};
use super::super::journal::Journal;
use super::super::{out, plan};
use super::Context;
use crate::domain::{TaughtSet, counted};
use crate::storage::{SessionDir, export};
use serde_json::json;
use std::path::Path;

/// Makes a session, with prompts if files are named.
pub fn new(context: &Context, args: &NewArgs) -> Result<()> {
    args.prompts.iter().try_for_each(|file| check_prompts(file))?;
    let dir = make_session(&context.home, &args.session, &args.model)?;
    if context.json {
        out::json(&json!({ "session": dir.name(), "path": dir.path(), "model": dir.meta()?.model }))?;
    } else {
        out::line(&format!("made session {} in {}", dir.name(), dir.path().display()))?;
    }
    args.prompts.iter().try_for_each(|file| bring_in(context, &dir, file, Some(Kind::Prompts), None))
}

/// Brings a file into a session.
pub fn import(context: &Context, args: &ImportArgs) -> Result<()> {
    let dir = SessionDir::find(&context.home, &args.session)?;
    let kind = args.kind.map(|kind| match kind {
        ImportKind::Prompts => Kind::Prompts,
        ImportKind::Pairs => Kind::Pairs,
        ImportKind::Sft => Kind::Examples(TaughtSet::Sft),
        ImportKind::Probe => Kind::Examples(TaughtSet::Probe),
        ImportKind::Ratings => Kind::Ratings,
    });
    bring_in(context, &dir, &args.file, kind, args.limit)
}

fn bring_in(context: &Context, dir: &SessionDir, file: &Path, kind: Option<Kind>, limit: Option<usize>) -> Result<()> {
    let mut journal = Journal::require(dir)?;
    let intake = intake::bring_in(&mut journal, file, kind, limit);
    journal.close()?;
    let intake = intake?;
    if let Some(left_out) = &intake.left_out {
        out::note(left_out);
    }
    if context.json {
        let added = intake.added;
        out::json(&json!({
            "session": dir.name(), "file": file, "kind": intake.kind.word(), "prompts": added.prompts, "pairs": added.pairs,
            "rows": added.rows, "known_prompts": added.known_prompts, "known_pairs": added.known_pairs,
            "known_rows": added.known_rows, "bad_lines": intake.bad_lines, "left_out": intake.left_out,
        }))
    } else {
        out::line(&intake.text())
    }
}

/// Writes a session's training rows to a file or to standard output.
pub fn export(context: &Context, args: &ExportArgs) -> Result<()> {
    let format = export::Format::named(&args.format).map_err(|e| Error::Usage(e.to_string()))?;
    let dir = SessionDir::find(&context.home, &args.session)?;
    let (session, found) = dir.state()?;
    if !args.allow_damaged {
        plan::check_whole(&dir.name(), &found, "export")?;
    }
    out::damaged(&found);
    let (rows, left) = export::lines(&session, format);
    let free = out::result(&args.to, rows.concat().as_bytes())?;
    let object = context.json.then(|| {
        json!({ "session": dir.name(), "file": args.to, "rows": rows.len(), "left_out": left.total(),
            "damage": found.damage() })
    });
    let left = match left.total() {
        0 => String::new(),
        n => format!(" ({n} judged pairs make no row: ties, both bad, unresolved, equal or empty)"),
    };
    let text = format!("wrote {} to {}{left}", counted(rows.len(), "row"), args.to.display());
    out::about(free, &text, object.as_ref())
}
