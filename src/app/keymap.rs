//! Key tables: `key → action` with one line on what it does, a section for each screen and popup.
//!
//! Footer, `?` help, command palette and the README's key table derive from them. Each screen declares its sections in
//! its own file.

use super::key::{Code, Key};

/// A row: a key and its action.
#[derive(Debug, Clone, Copy)]
pub struct Binding<A> {
    /// The key.
    pub key: Key,
    /// The action.
    pub action: A,
    /// One or two words for the footer; empty to leave it out. Adjacent rows with the same words are merged.
    pub footer: &'static str,
    /// What it does, in one line.
    pub help: &'static str,
    /// What the palette finds it by.
    pub name: &'static str,
    /// Whether it records a verdict. The palette never preselects such a row.
    pub verdict: bool,
}

/// A row of a key table. Its name is the footer's word unless [`Binding::named`] sets another.
pub const fn on<A: Copy>(key: Key, action: A, footer: &'static str, help: &'static str) -> Binding<A> {
    Binding { key, action, footer, help, name: footer, verdict: false }
}

impl<A: Copy> Binding<A> {
    /// Sets the name.
    #[must_use]
    pub const fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    /// Marks the row as one that records a verdict.
    #[must_use]
    pub const fn verdict(self) -> Self {
        Self { verdict: true, ..self }
    }
}

/// The key of a character.
pub const fn c(c: char) -> Key {
    Key::char(c)
}

/// The key of a code, without modifiers.
pub const fn k(code: Code) -> Key {
    Key::plain(code)
}

/// The keys of a screen, a state of it, or a popup.
#[derive(Debug, Clone, Copy)]
pub struct Section<A: 'static> {
    /// Its title in help and README.
    pub title: &'static str,
    /// The rows, in the footer's order.
    pub rows: &'static [Binding<A>],
}

impl<A: Copy + PartialEq> Section<A> {
    /// The action of a key.
    #[must_use]
    pub fn lookup(&self, key: Key) -> Option<A> {
        self.rows.iter().find(|row| row.key == key).map(|row| row.action)
    }

    /// The section without its action type.
    #[must_use]
    pub fn table(&self) -> Table {
        let first = |action: A| self.rows.iter().position(|row| row.action == action).unwrap_or(0);
        let rows = self.rows.iter();
        let rows = rows.map(|row| {
            let Binding { key, footer, help, name, verdict, action } = *row;
            KeyRow { key, footer, help, name, verdict, first: first(action) }
        });
        Table { title: self.title, rows: rows.collect() }
    }
}

/// A row without its action type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyRow {
    /// The key.
    pub key: Key,
    /// The footer's word.
    pub footer: &'static str,
    /// What it does.
    pub help: &'static str,
    /// What the palette finds it by.
    pub name: &'static str,
    /// Whether it records a verdict.
    pub verdict: bool,
    /// The index of the first row with the same action.
    pub first: usize,
}

/// A section for help, palette and README.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Table {
    /// Its title.
    pub title: &'static str,
    /// Its rows.
    pub rows: Vec<KeyRow>,
}

impl Table {
    /// Each action with all its keys, in the order of their first rows.
    #[must_use]
    pub fn actions(&self) -> Vec<(String, KeyRow)> {
        let mut out: Vec<(String, KeyRow)> = Vec::new();
        for row in &self.rows {
            match out.iter_mut().find(|(_, first)| first.first == row.first) {
                Some((keys, _)) => {
                    keys.push(' ');
                    keys.push_str(&row.key.to_string());
                }
                None => out.push((row.key.to_string(), *row)),
            }
        }
        out
    }
}

/// The footer's entries: the keys that share a word, and the word.
pub fn footer(rows: impl IntoIterator<Item = (Key, &'static str)>) -> Vec<(String, &'static str)> {
    let mut out: Vec<(String, &'static str)> = Vec::new();
    for (key, footer) in rows {
        match out.last_mut() {
            Some((keys, word)) if *word == footer => {
                keys.push(' ');
                keys.push_str(&key.to_string());
            }
            _ => out.push((key.to_string(), footer)),
        }
    }
    out
}

/// The README's key table as Markdown.
#[must_use]
pub fn markdown(tables: &[Table]) -> String {
    let mut out = String::from("| where | keys | what they do |\n|---|---|---|\n");
    for table in tables {
        for (keys, row) in table.actions() {
            let keys: Vec<String> = keys.split(' ').map(|key| format!("`{}`", key.replace('|', "\\|"))).collect();
            out.push_str(&format!("| {} | {} | {} |\n", table.title, keys.join(" "), row.help));
        }
    }
    out
}
