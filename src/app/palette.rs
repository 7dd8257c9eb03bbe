//! A searchable list of actions, sessions, models or pairs.

use super::edit::EditBuffer;
use super::key::Key;
use super::keymap::{KeyRow, Table};
use crate::domain::{PairId, RubricPass};
use nucleo_matcher::pattern::{AtomKind, CaseMatching, Normalization, Pattern};
use nucleo_matcher::{Config, Matcher, Utf32Str};

/// What choosing an entry does.
#[derive(Debug, Clone, PartialEq)]
pub enum Pick {
    /// Run the action of this row of the screen's key table.
    Screen(usize),
    /// Run the action of this row of the global key table.
    Global(usize),
    /// Go to this screen.
    Go(&'static str),
    /// Open this session.
    Session(String),
    /// Create the session of this name with this model.
    Model {
        /// The session's name.
        name: String,
        /// The model; none to type a path.
        model: Option<String>,
    },
    /// Say how to run this command of the command line.
    CommandLine(usize),
    /// Show this pair.
    Pair(PairId),
    /// Ask this of each pair.
    Rubric(RubricPass),
    /// Add a criterion.
    NewCriterion,
}

/// A command of the command line that no screen has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    /// Its name.
    pub name: String,
    /// What it does, in one sentence.
    pub about: String,
    /// Whether it takes a session first.
    pub takes_session: bool,
}

/// One entry.
#[derive(Debug, Clone, PartialEq)]
pub struct PaletteEntry {
    /// What it is.
    pub title: String,
    /// What it does, in one line; empty if the title says it.
    pub about: String,
    /// A detail: its keys, its size.
    pub detail: String,
    /// What choosing it does.
    pub pick: Pick,
    /// Whether it records a verdict: such an entry comes last and is never preselected.
    pub verdict: bool,
}

impl PaletteEntry {
    /// An entry without a description.
    #[must_use]
    pub fn new(title: String, detail: String, pick: Pick) -> Self {
        Self { title, about: String::new(), detail, pick, verdict: false }
    }
}

/// The list.
#[derive(Debug, Clone)]
pub struct Palette {
    /// The heading.
    pub title: String,
    /// The query.
    pub query: EditBuffer,
    /// All entries.
    pub entries: Vec<PaletteEntry>,
    /// The index among the matches that the user moved to; typing resets it.
    moved: Option<usize>,
    /// Whether the first entry is selected while the query is empty.
    preselect: bool,
    /// The new session for which a query that matches nothing is the path of a model.
    path_for: Option<String>,
}

impl Palette {
    /// A list of entries with an empty query.
    #[must_use]
    pub fn new(title: impl Into<String>, entries: Vec<PaletteEntry>) -> Self {
        Self {
            title: title.into(),
            query: EditBuffer::default(),
            entries,
            moved: None,
            preselect: true,
            path_for: None,
        }
    }

    /// The same for a model of the session `name`: a query that matches no entry is a path.
    #[must_use]
    pub fn or_path(self, name: String) -> Self {
        Self { path_for: Some(name), ..self }
    }

    /// Whether a query can be a path.
    #[must_use]
    pub fn takes_paths(&self) -> bool {
        self.path_for.is_some()
    }

    /// What enter chooses now.
    #[must_use]
    pub fn chosen(&self) -> Option<Pick> {
        if let Some(entry) = self.current() {
            return Some(entry.pick.clone());
        }
        let path = self.query.text().trim();
        let name = self.path_for.clone().filter(|_| !path.is_empty() && self.matches().is_empty())?;
        Some(Pick::Model { name, model: Some(path.to_owned()) })
    }

    /// The command palette: actions of the screen, global actions, the other screens, the sessions, and what only the
    /// command line does. Nothing is selected while the query is empty.
    #[must_use]
    pub fn commands(
        screen: &Table,
        anywhere: &Table,
        screens: impl Iterator<Item = &'static str>,
        sessions: impl Iterator<Item = String>,
        command_line: &[CommandLine],
    ) -> Self {
        let entry = |keys: String, row: KeyRow, pick: Pick| PaletteEntry {
            title: row.name.to_owned(),
            about: row.help.to_owned(),
            detail: keys,
            pick,
            verdict: row.verdict,
        };
        let here = screen.actions().into_iter().map(|(keys, row)| entry(keys, row, Pick::Screen(row.first)));
        let there = anywhere.actions().into_iter().map(|(keys, row)| entry(keys, row, Pick::Global(row.first)));
        let mut entries: Vec<PaletteEntry> = here.chain(there).collect();
        for name in screens {
            // A screen that a key of this one opens is listed already.
            if name != screen.title && entries.iter().all(|entry| entry.title != name) {
                let about = format!("go to the {name} screen");
                entries.push(PaletteEntry { about, ..PaletteEntry::new(name.into(), String::new(), Pick::Go(name)) });
            }
        }
        entries.extend(
            sessions.map(|name| PaletteEntry::new(format!("open session {name}"), String::new(), Pick::Session(name))),
        );
        for (at, command) in command_line.iter().enumerate() {
            if entries.iter().all(|entry| entry.title != command.name) {
                let (name, about) = (command.name.clone(), format!("in a shell: {}", command.about));
                let detail = "tiebreak".to_owned();
                entries.push(PaletteEntry { about, ..PaletteEntry::new(name, detail, Pick::CommandLine(at)) });
            }
        }
        Self { preselect: false, ..Self::new("what to do", entries) }
    }

    /// The entries that match the query, best first and verdicts last.
    #[must_use]
    pub fn matches(&self) -> Vec<&PaletteEntry> {
        self.ranked().into_iter().map(|(_, entry)| entry).collect()
    }

    /// The matches with their ranks, 0 for the best.
    fn ranked(&self) -> Vec<(u32, &PaletteEntry)> {
        let query = self.query.text().trim().to_lowercase();
        let with = |rank: &dyn Fn(&PaletteEntry) -> Option<u32>| -> Vec<(u32, &PaletteEntry)> {
            self.entries.iter().filter_map(|entry| Some((rank(entry)?, entry))).collect()
        };
        let mut matches = with(&|entry| substring_rank(&query, entry));
        if matches.is_empty() {
            matches = fuzzy(&query, &self.entries);
        }
        matches.sort_by_key(|(rank, entry)| (entry.verdict, *rank));
        matches
    }

    /// The index of the selected match. A verdict is selected only by moving to it; nothing else is selected instead.
    #[must_use]
    pub fn selected(&self) -> Option<usize> {
        let ranked = self.ranked();
        if let Some(at) = self.moved {
            return (!ranked.is_empty()).then(|| at.min(ranked.len() - 1));
        }
        let best = ranked.iter().map(|(rank, _)| *rank).min();
        let active = self.preselect || !self.query.text().trim().is_empty();
        let first = ranked.first().filter(|(rank, entry)| active && !entry.verdict && Some(*rank) == best);
        first.map(|_| 0)
    }

    /// The selected match.
    #[must_use]
    pub fn current(&self) -> Option<&PaletteEntry> {
        self.matches().get(self.selected()?).copied()
    }

    /// Moves to the next match, or to the first if none is selected.
    pub fn down(&mut self) {
        self.moved = Some(self.selected().map_or(0, |at| (at + 1).min(self.matches().len().saturating_sub(1))));
    }

    /// Moves to the previous match.
    pub fn up(&mut self) {
        self.moved = Some(self.selected().map_or(0, |at| at.saturating_sub(1)));
    }

    /// Handles a key that edits the query.
    pub fn press(&mut self, key: Key) {
        if self.query.press(key) {
            self.moved = None;
        }
    }

    /// Inserts pasted text.
    pub fn insert(&mut self, text: &str) {
        self.query.insert(text);
        self.moved = None;
    }
}

/// The rank of an entry by substring, smaller is better: the query in its title, then all words of the query anywhere.
fn substring_rank(query: &str, entry: &PaletteEntry) -> Option<u32> {
    let name = entry.title.to_lowercase();
    let starts = |text: &str, part: &str| {
        text.match_indices(part).any(|(at, _)| !text[..at].ends_with(|c: char| c.is_alphanumeric()))
    };
    if name.starts_with(query) {
        return Some(0);
    }
    if starts(&name, query) {
        return Some(1);
    }
    if name.contains(query) {
        return Some(2);
    }
    // The detail of a command of the command line is the program's name.
    let detail = if matches!(entry.pick, Pick::CommandLine(_)) { "" } else { &entry.detail };
    let all = format!("{name} {} {detail}", entry.about).to_lowercase();
    let words = || query.split_whitespace();
    match () {
        () if words().all(|word| starts(&all, word)) => Some(3),
        () if words().all(|word| all.contains(word)) => Some(4),
        () => None,
    }
}

/// The fallback without a substring match: entries whose titles contain the query's characters in order.
fn fuzzy<'a>(query: &str, entries: &'a [PaletteEntry]) -> Vec<(u32, &'a PaletteEntry)> {
    let pattern = Pattern::new(query, CaseMatching::Ignore, Normalization::Smart, AtomKind::Fuzzy);
    let mut matcher = Matcher::new(Config::DEFAULT);
    let mut chars = Vec::new();
    let mut score = |entry: &PaletteEntry| pattern.score(Utf32Str::new(&entry.title, &mut chars), &mut matcher);
    // Greater scores are better.
    entries.iter().filter_map(|entry| Some((u32::MAX - score(entry)?, entry))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::keymap::{Section, c, on};

    const KEYS: Section<u8> = Section {
        title: "label",
        rows: &[
            on(c('0'), 0, "tie", "neither is better").verdict(),
            on(c('u'), 1, "undo", "undo the last verdict"),
            on(c('d'), 2, "diff", "mark the words that differ"),
            on(c('t'), 3, "train", "launch a training run on ties too").named("launch"),
        ],
    };

    fn palette(query: &str) -> Palette {
        let sessions = ["kids".to_owned()].into_iter();
        let command = |name: &str| CommandLine { name: name.into(), about: "writes".into(), takes_session: true };
        let shell = [command("launch"), command("export")];
        let mut palette = Palette::commands(
            &KEYS.table(),
            &Table::default(),
            ["home", "label", "launch"].into_iter(),
            sessions,
            &shell,
        );
        palette.query.insert(query);
        palette
    }

    #[test]
    fn titles_rank_above_words_and_words_above_fuzzy_matches() {
        let found = |query: &str| palette(query).current().map(|entry| entry.pick.clone());
        assert_eq!(found("und"), Some(Pick::Screen(1)));
        assert_eq!(found("last undo"), Some(Pick::Screen(1)), "words in any order");
        assert_eq!(found("training"), Some(Pick::Screen(3)));
        assert_eq!(found("KIDS"), Some(Pick::Session("kids".into())));
        assert_eq!(found("home"), Some(Pick::Go("home")));
        assert_eq!(found("udo"), Some(Pick::Screen(1)), "a fuzzy match without a substring");
        assert_eq!(found("expor"), Some(Pick::CommandLine(1)));
        assert_eq!(found("zzzz"), None);
        let all = palette("tie");
        let tie: Vec<&str> = all.matches().iter().map(|entry| entry.title.as_str()).collect();
        assert!(!tie.contains(&"export"), "the program's name stands at every command: {tie:?}");
        let all = palette("");
        let names: Vec<&str> = all.entries.iter().map(|entry| entry.title.as_str()).collect();
        assert_eq!(names, ["tie", "undo", "diff", "launch", "home", "open session kids", "export"], "nothing twice");
    }

    #[test]
    fn a_verdict_is_never_preselected() {
        let mut tie = palette("tie");
        assert_eq!(tie.matches().last().unwrap().title, "tie");
        assert!(tie.current().is_none(), "neither it nor what merely mentions it");
        for _ in 0..tie.matches().len() {
            tie.down();
        }
        assert_eq!(tie.current().unwrap().pick, Pick::Screen(0));
        tie.press(Key::char('x'));
        assert!(tie.current().is_none());
        assert!(palette("").current().is_none(), "before something is typed");
    }
}
