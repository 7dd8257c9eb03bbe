//! `models get ORG/NAME` and `data get ORG/NAME`: files of the Hugging Face hub, and the command that uses them.

use super::super::error::{Error, Result};
use super::super::hub::{self, HubName};
use super::super::{models, out};
use super::context::CommandContext;
use crate::domain::counted;
use crate::protocol::ModelRef;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Downloads a model.
pub(super) fn model(context: &CommandContext, name: &str) -> Result<()> {
    let name = HubName::model(name)?;
    let found = hub::get_model(&name)?;
    let path = found.path.display().to_string();
    // Downloaded whole is not yet usable: its family or its tokenizer may be unknown.
    let problem = if found.adapter {
        None
    } else {
        models::check(&ModelRef { name: name.repo.clone(), path: path.clone() }).err().map(|e| e.to_string())
    };
    if context.json {
        return out::json(&json!({
            "model": name.repo, "revision": name.revision, "commit": found.commit, "path": path, "files": found.files,
            "bytes": found.bytes, "adapter": found.adapter, "problem": problem,
        }));
    }
    out::line(&format!("{} is in {path} ({})", name.spelled(), brought(&found.commit, found.files, found.bytes)))?;
    let quoted = shell_words(&found.path);
    match problem {
        Some(problem) => Err(Error::failed(format!("{} was downloaded but cannot be used: {problem}", name.spelled()))),
        None if found.adapter => out::line(&format!(
            "it is an adapter; train on from it with `tiebreak train SESSION METHOD --init {quoted}`"
        )),
        None if name.file.is_none() && name.revision == "main" => {
            out::line(&format!("use it with `tiebreak new SESSION --model {}`", name.repo))
        }
        None => out::line(&format!("use it with `tiebreak new SESSION --model {quoted}`")),
    }
}

/// Downloads a dataset's split.
pub(super) fn data(context: &CommandContext, name: &str, to: Option<&Path>) -> Result<()> {
    let name = HubName::data(name)?;
    let found = hub::get_data(&name)?;
    let paths = match to {
        None => found.paths,
        Some(to) => vec![gather(&found.paths, to)?],
    };
    let shown: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    let command = |path: &PathBuf| format!("tiebreak import SESSION {}", shell_words(path));
    if context.json {
        return out::json(&json!({
            "data": name.repo, "config": found.config, "split": found.split, "revision": name.revision,
            "commit": found.commit, "paths": shown, "files": found.files, "bytes": found.bytes,
            "import": paths.iter().map(command).collect::<Vec<_>>(),
        }));
    }
    let facts = brought(&found.commit, found.files, found.bytes);
    out::line(&format!("{}, configuration {}, split {} ({facts}):", name.repo, found.config, found.split))?;
    shown.iter().try_for_each(|path| out::line(&format!("  {path}")))?;
    out::line("import it with")?;
    paths.iter().try_for_each(|path| out::line(&format!("  {}", command(path))))
}

fn brought(commit: &str, files: usize, bytes: u64) -> String {
    let commit = commit.get(..12).unwrap_or(commit);
    match files {
        0 => format!("commit {commit}, nothing to download"),
        n => format!("commit {commit}, {} downloaded, {:.1} MB", counted(n, "file"), bytes as f64 / 1e6),
    }
}

/// Puts files together as one: lines of JSON can be joined, other kinds only copied alone.
fn gather(paths: &[PathBuf], to: &Path) -> Result<PathBuf> {
    let lines = |path: &PathBuf| path.extension().is_some_and(|end| end == "jsonl" || end == "ndjson");
    if paths.len() > 1 && !paths.iter().all(lines) {
        return Err(Error::failed(format!(
            "the split lies in {} files that cannot be joined into one: leave --to out, and import each",
            paths.len()
        )));
    }
    let mut bytes = Vec::new();
    for path in paths {
        bytes.extend(crate::foreign::read(path, crate::foreign::ROWS).map_err(|e| Error::io("read", path, e))?);
        if paths.len() > 1 && !bytes.ends_with(b"\n") {
            bytes.push(b'\n');
        }
    }
    crate::storage::write_result(to, &bytes)?;
    Ok(to.to_owned())
}

/// A path as a shell reads it back.
fn shell_words(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=@%,:".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}
