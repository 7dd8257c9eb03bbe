//! A list to find something in by typing parts of it: actions, sessions, models, pairs.

use super::edit::EditBuffer;
use super::keymap::{self, Action, Context};
use crate::domain::PairId;

/// What taking an entry does.
#[derive(Debug, Clone, PartialEq)]
pub enum Pick {
    /// Do this.
    Act(Action),
    /// Open this session.
    Session(String),
    /// Make the new session of this name with this model.
    Model {
        /// The session's name.
        name: String,
        /// The model; none to type a path.
        model: Option<String>,
    },
    /// Show this pair.
    Pair(PairId),
}

/// One entry.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// What it is.
    pub title: String,
    /// What to know about it: its key, its size.
    pub detail: String,
    /// What taking it does.
    pub pick: Pick,
}

/// The list.
#[derive(Debug, Clone)]
pub struct Palette {
    /// What is looked for.
    pub title: String,
    /// What is typed.
    pub query: EditBuffer,
    /// All there is.
    pub entries: Vec<Entry>,
    /// The selected one among the matches.
    pub selected: usize,
}

impl Palette {
    /// A list of entries, nothing typed.
    #[must_use]
    pub fn new(title: impl Into<String>, entries: Vec<Entry>) -> Self {
        Self { title: title.into(), query: EditBuffer::default(), entries, selected: 0 }
    }

    /// Every action of these contexts, and the sessions to go to.
    #[must_use]
    pub fn commands(contexts: &[Context], sessions: impl Iterator<Item = String>) -> Self {
        let mut entries: Vec<Entry> = Vec::new();
        for row in contexts.iter().flat_map(|context| keymap::rows(*context)) {
            let known = entries.iter_mut().find(|e| e.pick == Pick::Act(row.action));
            match known {
                Some(entry) => entry.detail.push_str(&format!(" {}", row.key)),
                None if row.action == Action::Palette => {}
                None => entries.push(Entry {
                    title: row.help.to_owned(),
                    detail: row.key.to_string(),
                    pick: Pick::Act(row.action),
                }),
            }
        }
        entries.extend(sessions.map(|name| Entry {
            title: format!("open session {name}"),
            detail: String::new(),
            pick: Pick::Session(name),
        }));
        Self::new("what to do", entries)
    }

    /// The entries that match what is typed, best first.
    #[must_use]
    pub fn matches(&self) -> Vec<&Entry> {
        let mut found: Vec<(u32, &Entry)> = self
            .entries
            .iter()
            .filter_map(|entry| {
                let text = format!("{} {}", entry.title, entry.detail);
                score(self.query.text(), &text).map(|score| (score, entry))
            })
            .collect();
        found.sort_by_key(|(score, _)| *score);
        found.into_iter().map(|(_, entry)| entry).collect()
    }

    /// The selected match.
    #[must_use]
    pub fn current(&self) -> Option<&Entry> {
        self.matches().get(self.selected).copied()
    }
}

/// How well `query` matches `text`, smaller is better: every character must occur in order; gaps and a late begin cost,
/// the beginning of a word costs nothing.
fn score(query: &str, text: &str) -> Option<u32> {
    let text: Vec<char> = text.to_lowercase().chars().collect();
    let query: Vec<char> = query.to_lowercase().chars().filter(|c| !c.is_whitespace()).collect();
    let Some(first) = query.first() else { return Some(0) };
    let starts = text.iter().enumerate().filter(|(_, c)| *c == first).map(|(at, _)| at);
    starts.filter_map(|start| score_from(&query, &text, start)).min()
}

fn score_from(query: &[char], text: &[char], start: usize) -> Option<u32> {
    let word_start = |at: usize| at == 0 || !text[at - 1].is_alphanumeric();
    let mut cost = if word_start(start) { 0 } else { 8 };
    let mut at = start;
    for c in &query[1..] {
        let next = at + 1 + text[at + 1..].iter().position(|t| t == c)?;
        if next != at + 1 {
            let gap = (next - at - 1) as u32;
            cost += if word_start(next) { 1 + gap.min(2) } else { 4 + gap.min(20) };
        }
        at = next;
    }
    Some(cost * 64 + (start as u32).min(63))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_parts_finds_the_action() {
        let mut palette = Palette::commands(&[Context::Label, Context::Anywhere], ["kids".to_owned()].into_iter());
        palette.query.insert("undo last");
        assert_eq!(palette.current().unwrap().pick, Pick::Act(Action::Undo));
        palette.query = EditBuffer::line("kids");
        assert_eq!(palette.current().unwrap().pick, Pick::Session("kids".into()));
        palette.query = EditBuffer::line("zzzz");
        assert!(palette.current().is_none());
    }
}
