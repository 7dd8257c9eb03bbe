//! Which key runs which action: the tables of the screens, a preset over them, and the user's own settings over both.
//!
//! Owns the rules: an action has a short stable name, a key has one action on a screen, a screen leaves the global keys
//! alone. Refuses to read files: the shell reads `config.toml` and passes its settings with their lines.

mod presets;
#[cfg(test)]
mod tests;

pub use presets::{PRESETS, Preset};

use super::key::Key;
use super::keymap::{Binding, KeyRow, Section, Table};
use crate::domain::hint;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Where the global keys are set.
pub const EVERYWHERE: &str = "everywhere";

/// A setting of the user's file: the keys of an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySetting {
    /// The screen's name, or [`EVERYWHERE`].
    pub place: String,
    /// The action's name.
    pub action: String,
    /// The names of its keys.
    pub keys: Vec<String>,
    /// The line of the file.
    pub line: usize,
}

/// What is wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyProblem {
    /// The line of the file.
    pub line: usize,
    /// What is wrong there and what to do.
    pub text: String,
}

/// The effective keys of every action.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyBindings {
    /// The preset's name; empty without one.
    preset: &'static str,
    /// The keys of the actions that have others than in their table, by place and name in the table.
    changed: HashMap<(&'static str, &'static str), Vec<Key>>,
    /// The first key of every action.
    first: HashMap<(&'static str, &'static str), Key>,
}

/// The stable name of an action in `config.toml`, from its name in the key table: `1 better` is `better_1`.
#[must_use]
pub fn action_name(name: &str) -> String {
    let words: Vec<&str> = name.split_whitespace().collect();
    match words.as_slice() {
        [number, rest @ ..] if !rest.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) => {
            format!("{}_{number}", rest.join("_"))
        }
        words => words.join("_"),
    }
}

impl KeyBindings {
    /// The keys of the tables. Each table lists every action of a screen, or those of all screens.
    #[must_use]
    pub fn defaults(tables: &[Table]) -> Self {
        let mut out = Self::default();
        out.note_first(tables);
        out
    }

    /// The keys of the tables with a preset and settings over them.
    ///
    /// # Errors
    /// The first line with an unknown name, or with a key that has another action on the same screen.
    pub fn build(tables: &[Table], preset: Option<(&str, usize)>, settings: &[KeySetting]) -> Result<Self, KeyProblem> {
        let mut out = Self::default();
        let mut line_of: HashMap<(&'static str, &'static str), usize> = HashMap::new();
        if let Some((name, line)) = preset {
            let names = || PRESETS.iter().map(|preset| preset.name);
            let preset = PRESETS.iter().find(|preset| preset.name == name).ok_or_else(|| {
                let all: Vec<&str> = names().collect();
                let text = format!("no preset is called `{name}`: choose {}{}", all.join(", "), hint(name, names()));
                KeyProblem { line, text }
            })?;
            out.preset = preset.name;
            for (place, action, keys) in preset.keys {
                let (at, keys) = find(tables, place, action, keys).map_err(|text| KeyProblem { line, text })?;
                out.changed.insert(at, keys);
            }
        }
        let mut settings: Vec<&KeySetting> = settings.iter().collect();
        settings.sort_by_key(|setting| setting.line);
        for KeySetting { place, action, keys, line } in settings {
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            let (at, keys) = find(tables, place, action, &keys).map_err(|text| KeyProblem { line: *line, text })?;
            if let Some(earlier) = line_of.insert(at, *line) {
                let text = format!("[keys.{place}] {action} is set in line {earlier} too: remove one of the two");
                return Err(KeyProblem { line: *line, text });
            }
            out.changed.insert(at, keys);
        }
        out.check(tables, &line_of, preset.map_or(0, |(_, line)| line))?;
        out.note_first(tables);
        Ok(out)
    }

    /// A key with two actions on a screen. Only changed keys are checked: the tables have tests of their own.
    fn check(
        &self,
        tables: &[Table],
        line_of: &HashMap<(&'static str, &'static str), usize>,
        preset_line: usize,
    ) -> Result<(), KeyProblem> {
        let everywhere = tables.iter().find(|table| table.title == EVERYWHERE);
        let mut problems: Vec<KeyProblem> = Vec::new();
        for table in tables {
            let global = everywhere.filter(|_| table.title != EVERYWHERE);
            let mut taken: BTreeMap<String, (&'static str, &'static str)> = BTreeMap::new();
            for (place, row) in global.into_iter().chain([table]).flat_map(|t| self.named_rows(t)) {
                let at = (place, row.name);
                let Some(other) = taken.insert(row.key.to_string(), at).filter(|other| *other != at) else { continue };
                let involved: Vec<_> = [at, other].into_iter().filter(|at| self.changed.contains_key(at)).collect();
                let Some(line) = involved.iter().map(|at| line_of.get(at).copied().unwrap_or(preset_line)).max() else {
                    continue;
                };
                let set = |at: &(&'static str, &'static str)| line_of.get(at) == Some(&line);
                let (this, that) = if set(&at) { (at, other) } else { (other, at) };
                let text = format!(
                    "`{}` is the key of {} and of {} on the {} screen: give one of them another key",
                    row.key,
                    action_name(this.1),
                    action_name(that.1),
                    table.title
                );
                problems.push(KeyProblem { line, text });
            }
        }
        problems.into_iter().min_by_key(|problem| problem.line).map_or(Ok(()), Err)
    }

    fn note_first(&mut self, tables: &[Table]) {
        self.first.clear();
        for table in tables {
            for (place, row) in self.named_rows(table) {
                self.first.entry((place, row.name)).or_insert(row.key);
            }
        }
    }

    /// The rows of a table under their effective keys, each with the name of its action.
    fn named_rows(&self, table: &Table) -> Vec<(&'static str, KeyRow)> {
        let rows = self.table(table.title, table).rows;
        let named = rows.iter().map(|row| (table.title, KeyRow { name: rows[row.first].name, ..*row }));
        named.collect()
    }

    /// The preset's name; empty without one.
    #[must_use]
    pub fn preset(&self) -> &'static str {
        self.preset
    }

    /// Whether an action has other keys than in its table.
    #[must_use]
    pub fn is_changed(&self, place: &str, name: &str) -> bool {
        self.changed.keys().any(|(p, n)| *p == place && *n == name)
    }

    /// The first key of an action by its name in the table, for sentences; `?` for an unknown one.
    #[must_use]
    pub fn key(&self, place: &str, name: &str) -> String {
        let found = self.first.iter().find(|((p, n), _)| *p == place && *n == name);
        found.map_or_else(|| "?".into(), |(_, key)| key.to_string())
    }

    /// The rows of a section under their effective keys. `all` is the screen's section of every action: it names them.
    #[must_use]
    pub fn section<A: Copy + PartialEq>(
        &self,
        place: &'static str,
        section: &Section<A>,
        all: &Section<A>,
    ) -> Vec<Binding<A>> {
        let rows = section.rows;
        let name = |action: A| all.rows.iter().find(|row| row.action == action).map(|row| row.name);
        let first = |action: A| rows.iter().position(|row| row.action == action).unwrap_or(0);
        let plain: Vec<(Key, usize)> = rows.iter().map(|row| (row.key, first(row.action))).collect();
        let mut before = None;
        let one = |(key, i): (Key, usize)| {
            let footer = if before == Some(i) { "" } else { rows[i].footer };
            before = Some(i);
            Binding { key, footer, ..rows[i] }
        };
        self.rows(place, &plain, |i| name(rows[i].action)).into_iter().map(one).collect()
    }

    /// The effective keys of a table's rows in order, each with the index of its row. `name_of` names the action of a row
    /// as the screen's table of every action does.
    fn rows(
        &self,
        place: &'static str,
        rows: &[(Key, usize)],
        name_of: impl Fn(usize) -> Option<&'static str>,
    ) -> Vec<(Key, usize)> {
        let mut out = Vec::with_capacity(rows.len());
        let mut done: HashSet<usize> = HashSet::new();
        for (i, (key, first)) in rows.iter().enumerate() {
            match name_of(i).and_then(|name| self.changed.get(&(place, name))) {
                None => out.push((*key, i)),
                Some(keys) if done.insert(*first) => out.extend(keys.iter().map(|key| (*key, i))),
                Some(_) => {}
            }
        }
        out
    }

    /// A table of every action with its effective keys.
    #[must_use]
    pub fn table(&self, place: &'static str, table: &Table) -> Table {
        let keys: Vec<(Key, usize)> = table.rows.iter().map(|row| (row.key, row.first)).collect();
        let name_of = |i: usize| table.rows.get(table.rows[i].first).map(|row| row.name);
        let effective = self.rows(place, &keys, name_of);
        let of = |i: usize| table.rows[i].first;
        let mut out = Table { title: table.title, rows: Vec::with_capacity(effective.len()) };
        let mut before = None;
        for (key, i) in &effective {
            let first = effective.iter().position(|(_, other)| of(*other) == of(*i)).unwrap_or(0);
            // A second key of the same row would repeat the footer's word.
            let footer = if before == Some(*i) { "" } else { table.rows[*i].footer };
            before = Some(*i);
            out.rows.push(KeyRow { key: *key, first, footer, ..table.rows[*i] });
        }
        out
    }
}

/// The action that a setting names, and its keys.
fn find(
    tables: &[Table],
    place: &str,
    action: &str,
    keys: &[&str],
) -> Result<((&'static str, &'static str), Vec<Key>), String> {
    let places = || tables.iter().map(|table| table.title);
    let table = tables.iter().find(|table| table.title == place).ok_or_else(|| {
        let all: Vec<&str> = places().collect();
        format!("[keys.{place}]: there is no such screen; write one of {}{}", all.join(", "), hint(place, places()))
    })?;
    let actions = table.actions();
    let names: Vec<String> = actions.iter().map(|(_, row)| action_name(row.name)).collect();
    let row = names.iter().position(|name| name == action).ok_or_else(|| {
        let near = hint(action, names.iter().map(String::as_str));
        format!("[keys.{place}] {action}: no such action{near}; `tiebreak config` lists them")
    })?;
    if keys.is_empty() {
        return Err(format!("[keys.{place}] {action}: no key; give one, such as \"x\", or leave the line out"));
    }
    let keys: Result<Vec<Key>, String> =
        keys.iter().map(|word| Key::parse(word).map_err(|why| format!("[keys.{place}] {action}: {why}"))).collect();
    Ok(((table.title, actions[row].1.name), keys?))
}
