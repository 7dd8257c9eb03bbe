//! `tag`: sets tags on a session's prompts or takes them off.

use super::super::cli::TagArgs;
use super::super::error::{Error, Result};
use super::super::journal::Journal;
use super::super::out;
use super::context::CommandContext;
use super::screens::rater_named;
use crate::domain::{Prompt, PromptId, Session, TagChange, counted, nearest, sanitise, tag_problem};
use crate::protocol::SessionRecord;
use crate::storage::SessionDir;
use serde_json::json;

/// Tags the prompt, or those that match the filter.
pub fn run(context: &CommandContext, args: &TagArgs) -> Result<()> {
    let (prompt, changes) = changes(&args.changes)?;
    let rater = rater_named(args.rater.clone())?;
    let dir = SessionDir::find(&context.home, &args.session)?;
    let mut journal = Journal::require(&dir)?;
    let (session, found) = dir.state()?;
    out::warn_of_damage(&found);
    let prompts = chosen(&session, &dir.name(), prompt, args)?;
    let mut changed = 0;
    for prompt in &prompts {
        let differ = changes.iter().filter(|(tag, on)| prompt.tags.contains(tag) != *on);
        let mut any = false;
        for (tag, on) in differ {
            let change = TagChange { prompt: prompt.id.clone(), tag: tag.clone(), rater: rater.clone(), on: *on };
            journal.append(&SessionRecord::Tagged(change))?;
            any = true;
        }
        changed += usize::from(any);
    }
    journal.close()?;
    if context.json {
        return out::json(&json!({ "session": dir.name(), "prompts": prompts.len(), "changed": changed }));
    }
    let known = match prompts.len() - changed {
        0 => String::new(),
        n => format!(", {n} had them so already"),
    };
    out::line(&format!("{} tagged{known}", counted(changed, "prompt")))
}

/// The prompts that are meant.
fn chosen<'a>(session: &'a Session, name: &str, prompt: Option<&str>, args: &'a TagArgs) -> Result<Vec<&'a Prompt>> {
    match (prompt, &args.filter) {
        (Some(_), Some(_)) => Err(Error::Usage("give a prompt or --filter, not both; a tag begins with + or -".into())),
        (None, None) => Err(Error::Usage("give a prompt's id, or --filter before the tags".into())),
        (Some(id), None) => session.prompt(&PromptId::new(id)).map(|prompt| vec![prompt]).ok_or_else(|| {
            let near = nearest(id, session.prompts().iter().map(|p| p.id.as_str()));
            let near = near.map_or_else(String::new, |near| format!("; did you mean `{}`?", sanitise(near)));
            Error::failed(format!("session {name} has no prompt `{id}`{near}"))
        }),
        (None, Some(filter)) => {
            let found = session.view(filter).prompts();
            if found.is_empty() {
                let all = counted(session.prompts().len(), "prompt");
                return Err(Error::failed(format!(
                    "none of the {all} of session {name} matches the filter `{filter}`"
                )));
            }
            Ok(found)
        }
    }
}

/// A prompt's id, if one is given, and tags with whether each is set.
type Changes<'a> = (Option<&'a str>, Vec<(String, bool)>);

/// The prompt, and the tags with whether each is set.
fn changes(words: &[String]) -> Result<Changes<'_>> {
    let is_change = |word: &str| word.starts_with(['+', '-']);
    let (prompt, changes) = match words {
        [first, rest @ ..] if !is_change(first) => (Some(first.as_str()), rest),
        all => (None, all),
    };
    if changes.is_empty() {
        return Err(Error::Usage("give at least one +TAG or -TAG".into()));
    }
    let mut out: Vec<(String, bool)> = Vec::new();
    for word in changes {
        if word.starts_with("--") {
            return Err(Error::Usage(format!("give {word} before the prompt and the tags")));
        }
        let (tag, on) = match (word.strip_prefix('+'), word.strip_prefix('-')) {
            (Some(tag), _) => (tag, true),
            (None, Some(tag)) => (tag, false),
            (None, None) => {
                return Err(Error::Usage(format!("`{word}` is neither +TAG nor -TAG: a prompt's id comes first")));
            }
        };
        if let Some(problem) = tag_problem(tag) {
            return Err(Error::Usage(problem));
        }
        if out.iter().any(|(known, other)| known == tag && *other != on) {
            return Err(Error::Usage(format!("the tag {tag} is set and taken off")));
        }
        out.push((tag.to_owned(), on));
    }
    Ok((prompt, out))
}
