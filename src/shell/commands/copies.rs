//! `pack`, `unpack`, `collect`: several people, each with a copy of a session.

use super::super::cli::{CollectArgs, PackArgs, UnpackArgs};
use super::super::error::{Error, Result};
use super::super::journal::Journal;
use super::super::{out, plan};
use super::context::CommandContext;
use crate::domain::{Act, ActKind, Copied, Rater, counted};
use crate::protocol::SessionRecord;
use crate::storage::{SessionDir, pack, temp_dir};
use serde_json::json;
use std::collections::HashMap;
use std::path::Path;

/// Writes a session to one file.
pub fn pack(context: &CommandContext, args: &PackArgs) -> Result<()> {
    let dir = SessionDir::find(&context.home, &args.session)?;
    let packed = pack::pack(&dir, &args.to, args.weights)?;
    if context.json {
        return out::json(&json!({
            "session": dir.name(), "file": args.to, "files": packed.files, "bytes": packed.bytes,
            "weights_left_out": packed.weights_left_out, "foreign_left_out": packed.foreign_left_out,
        }));
    }
    let mut left = Vec::new();
    if packed.weights_left_out > 0 {
        left.push(format!("{} of checkpoints (add --weights)", counted(packed.weights_left_out, "file")));
    }
    if packed.foreign_left_out > 0 {
        left.push(format!("{} that no session has", counted(packed.foreign_left_out, "file")));
    }
    let left = if left.is_empty() { String::new() } else { format!("; left out: {}", left.join(", ")) };
    out::line(&format!("packed {} into {}{left}", counted(packed.files, "file"), args.to.display()))
}

/// Unpacks a session into the data folder.
pub fn unpack(context: &CommandContext, args: &UnpackArgs) -> Result<()> {
    let (dir, packed) = pack::unpack(&context.home, &args.file, args.name.as_deref())?;
    if context.json {
        let (name, path) = (dir.name(), dir.path());
        return out::json(&json!({ "session": name, "path": path, "files": packed.files, "bytes": packed.bytes }));
    }
    out::line(&format!("unpacked session {} into {}", dir.name(), dir.path().display()))
}

/// Takes what people did in other copies of the session.
pub fn collect(context: &CommandContext, args: &CollectArgs) -> Result<()> {
    let dir = SessionDir::find(&context.home, &args.session)?;
    let rename = renames(&args.rename)?;
    let mut journal = Journal::require(&dir)?;
    for from in &args.from {
        collect_from(context, args, &dir, &mut journal, from, &rename)?;
    }
    journal.close()
}

/// `OLD=NEW` for each.
fn renames(words: &[String]) -> Result<HashMap<Rater, Rater>> {
    let one = |word: &String| {
        let (old, new) = word.split_once('=').filter(|(old, new)| !old.is_empty() && !new.trim().is_empty())?;
        let new = Rater::new(new.trim());
        new.is_person().then(|| (Rater::new(old), new))
    };
    words
        .iter()
        .map(|word| {
            one(word).ok_or_else(|| Error::Usage(format!("`--rename {word}`: expected OLD=NEW, two raters' names")))
        })
        .collect()
}

fn collect_from(
    context: &CommandContext,
    args: &CollectArgs,
    dir: &SessionDir,
    journal: &mut Journal,
    from: &str,
    rename: &HashMap<Rater, Rater>,
) -> Result<()> {
    let path = Path::new(from);
    // A file is a packed session; it is unpacked beside the sessions and removed again.
    let unpacked = path.is_file().then(|| temp_dir(&context.home.cache(), "collect")).transpose()?;
    let other = match &unpacked {
        Some(folder) => pack::unpack_into(path, folder.path())?,
        None => SessionDir::find(&context.home, from)?,
    };
    let real = |dir: &SessionDir| std::fs::canonicalize(dir.path()).ok();
    if real(&other) == real(dir) {
        return Err(Error::failed(format!("{from} is the session itself: name another copy of it")));
    }
    // What an earlier copy brought is on disk, and so in the state.
    journal.sync()?;
    let (mine, _) = dir.state()?;
    let (theirs, found) = other.state()?;
    if !args.allow_damaged {
        plan::check_whole(from, &found, "collect")?;
    }
    out::warn_of_damage(&found);
    let copied = mine.missing_from(&theirs, rename, args.one_person).map_err(|shared| {
        let rater = &shared.rater;
        Error::failed(format!(
            "{from}: {shared}: give `--one-person` if that is one person, or `--rename {rater}=NAME` if the other copy's is another"
        ))
    })?;
    let mut counts = Counts::default();
    for act in &copied.acts {
        counts.add(act);
        write(journal, act)?;
    }
    journal.sync()?;
    report(context, dir, from, &copied, &counts)
}

/// Appends an act and, where it was undone or redone, that.
fn write(journal: &mut Journal, act: &Act) -> Result<()> {
    let act_at = |record| SessionRecord::Collected { at: act.at, record: Box::new(record) };
    let record = match &act.kind {
        ActKind::Prompt(prompt) => SessionRecord::Prompted(prompt.clone().into()),
        ActKind::Completion(completion) => SessionRecord::Completed(completion.clone().into()),
        ActKind::Pair(pair) => SessionRecord::Paired(pair.clone().into()),
        ActKind::Verdict(verdict) => act_at(SessionRecord::Judged(verdict.clone().into())),
        ActKind::Adjudication(adjudication) => act_at(SessionRecord::Adjudicated(adjudication.clone())),
        ActKind::Correction(c) => act_at(SessionRecord::Corrected {
            pair: c.pair.clone(),
            completion: c.completion.clone(),
            rater: c.rater.clone(),
            text: c.text.clone(),
        }),
        ActKind::Note(pair, rater, text) => {
            act_at(SessionRecord::Noted { pair: pair.clone(), rater: rater.clone(), text: text.clone() })
        }
        ActKind::Tag(change) => act_at(SessionRecord::Tagged(change.clone())),
        ActKind::Criterion(name, sentence) => {
            act_at(SessionRecord::CriterionSet { name: name.clone(), sentence: sentence.clone() })
        }
        ActKind::Toggle(of, undone) => act_at(toggle(*of, *undone)),
    };
    let seq = journal.append(&record)?;
    if let Some((at, undone)) = act.toggled {
        journal.append(&SessionRecord::Collected { at, record: Box::new(toggle(seq, undone)) })?;
    }
    Ok(())
}

fn toggle(of: u64, undone: bool) -> SessionRecord {
    if undone { SessionRecord::Undone { of } } else { SessionRecord::Redone { of } }
}

/// What was taken.
#[derive(Debug, Default)]
struct Counts {
    verdicts: usize,
    adjudications: usize,
    corrections: usize,
    notes: usize,
    tags: usize,
    criteria: usize,
    toggles: usize,
    pairs: usize,
    undone: usize,
}

impl Counts {
    fn add(&mut self, act: &Act) {
        let counter = match &act.kind {
            ActKind::Prompt(_) | ActKind::Completion(_) => return,
            ActKind::Pair(_) => &mut self.pairs,
            ActKind::Verdict(_) => &mut self.verdicts,
            ActKind::Adjudication(_) => &mut self.adjudications,
            ActKind::Correction(_) => &mut self.corrections,
            ActKind::Note(..) => &mut self.notes,
            ActKind::Tag(_) => &mut self.tags,
            ActKind::Criterion(..) => &mut self.criteria,
            ActKind::Toggle(..) => &mut self.toggles,
        };
        *counter += 1;
        self.undone += usize::from(act.toggled.is_some_and(|(_, undone)| undone));
    }
}

fn report(context: &CommandContext, dir: &SessionDir, from: &str, copied: &Copied, counts: &Counts) -> Result<()> {
    if context.json {
        return out::json(&json!({
            "session": dir.name(), "from": from, "verdicts": counts.verdicts, "adjudications": counts.adjudications,
            "corrections": counts.corrections, "notes": counts.notes, "tags": counts.tags,
            "criteria": counts.criteria, "undone_or_redone": counts.toggles,
            "undone": counts.undone, "new_pairs": counts.pairs, "known": copied.known, "unreadable": copied.unreadable,
            "left_there": copied.left,
        }));
    }
    let mut taken: Vec<String> = [
        (counts.verdicts, "verdict"),
        (counts.adjudications, "adjudication"),
        (counts.corrections, "correction"),
        (counts.notes, "note"),
        (counts.tags, "tag change"),
        (counts.criteria, "criterion"),
        (counts.toggles, "undo or redo"),
        (counts.pairs, "new pair"),
    ]
    .into_iter()
    .filter(|(n, _)| *n > 0)
    .map(|(n, what)| match what {
        "undo or redo" => format!("{n} {what}"),
        "criterion" if n > 1 => format!("{n} criteria"),
        _ => counted(n, what),
    })
    .collect();
    if taken.is_empty() {
        taken.push("nothing new".into());
    }
    let mut text = format!("{from}: {}", taken.join(", "));
    if counts.undone > 0 {
        text.push_str(&format!(" ({} of them undone)", counts.undone));
    }
    text.push_str(&format!("; {} known already", copied.known));
    if copied.unreadable > 0 {
        text.push_str(&format!("; {} on pairs without texts left out", copied.unreadable));
    }
    let left = &copied.left;
    let stay: Vec<String> = [
        (left.runs, "run"),
        (left.pairs, "pair without a verdict"),
        (left.rows, "imported row"),
        (left.tags, "prompt's tags"),
    ]
    .into_iter()
    .filter(|(n, _)| *n > 0)
    .map(|(n, what)| match what {
        "pair without a verdict" if n > 1 => format!("{n} pairs without a verdict"),
        "prompt's tags" if n > 1 => format!("the tags of {n} prompts"),
        "prompt's tags" => "the tags of 1 prompt".to_owned(),
        _ => counted(n, what),
    })
    .collect();
    if !stay.is_empty() {
        text.push_str(&format!("; not taken: {}", stay.join(", ")));
    }
    out::line(&text)
}
