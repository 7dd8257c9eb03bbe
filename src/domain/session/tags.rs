//! Tags that raters set on prompts: changes in the order of the log, over the tags that were imported.

use super::super::ids::{PromptId, Rater};
use super::Session;
use serde::{Deserialize, Serialize};

/// A tag set on a prompt, or taken off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagChange {
    /// The prompt.
    pub prompt: PromptId,
    /// The tag.
    pub tag: String,
    /// Who changed it.
    pub rater: Rater,
    /// Whether it was set.
    pub on: bool,
}

/// A change, and whether it still counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Retagged {
    pub(super) change: TagChange,
    pub(super) undone: bool,
    /// When it was made, on the clock of tags and criteria.
    pub(super) at: u64,
    /// When it was last undone or redone; 0 if never.
    pub(super) toggled: u64,
}

/// The longest tag.
const LONGEST: usize = 64;

/// Why a text cannot be a tag; none if it can.
#[must_use]
pub fn tag_problem(tag: &str) -> Option<String> {
    let bad = tag.chars().find(|c| c.is_control() || matches!(c, '"' | '\'' | ','));
    match bad {
        _ if tag.trim().is_empty() => Some("a tag is empty".into()),
        _ if tag.starts_with(['+', '-']) => Some(format!("the tag `{tag}` begins with + or -")),
        _ if tag.chars().count() > LONGEST => Some(format!("a tag has at most {LONGEST} characters")),
        Some(c) => Some(format!("the tag `{}` contains {c:?}", super::super::safe_text::sanitise(tag))),
        None => None,
    }
}

impl Session {
    /// Sets a tag or takes it off, under its record's sequence number. The rater's redo stack is cleared.
    pub fn tag(&mut self, seq: u64, change: TagChange) {
        self.push_done(&change.rater, seq);
        let prompt = change.prompt.clone();
        let at = self.marks.stamp();
        self.retagged.insert(seq, Retagged { change, undone: false, at, toggled: 0 });
        self.retag(&prompt);
    }

    /// The tag change that a record of that number made, undone or not.
    #[must_use]
    pub fn tag_change_at(&self, seq: u64) -> Option<&TagChange> {
        self.retagged.get(&seq).map(|retagged| &retagged.change)
    }

    /// Every tag of a prompt of the session, in alphabetical order.
    #[must_use]
    pub fn known_tags(&self) -> Vec<&str> {
        let mut tags: Vec<&str> = self.prompts.iter().flat_map(|p| p.tags.iter().map(String::as_str)).collect();
        tags.sort_unstable();
        tags.dedup();
        tags
    }

    /// Makes a prompt's tags what they were, with every counting change.
    pub(super) fn retag(&mut self, id: &PromptId) {
        let changes = self.retagged.values().filter(|r| r.change.prompt == *id);
        let (any, mut counting): (usize, Vec<&Retagged>) = changes.fold((0, Vec::new()), |(n, mut counting), r| {
            counting.extend((!r.undone).then_some(r));
            (n + 1, counting)
        });
        // Changes from another copy happened among those made here. Of two at one time it is the same order in every copy.
        counting.sort_by(|x, y| {
            let key = |r: &Retagged| (r.at, r.change.tag.clone(), r.change.rater.clone(), r.change.on);
            key(x).cmp(&key(y))
        });
        if any == 0 {
            return;
        }
        let Some(place) = self.prompts.place(id) else { return };
        let own = || self.prompts[place].tags.clone();
        let imported = self.imported_tags.entry(id.clone()).or_insert_with(own);
        let mut tags = imported.clone();
        for Retagged { change, .. } in counting {
            tags.retain(|tag| *tag != change.tag);
            if change.on {
                tags.push(change.tag.clone());
            }
        }
        self.prompts.change(place, |prompt| prompt.tags = tags);
    }
}
