//! The user's settings: `config.toml`, read once at start.
//!
//! Owns its form: `preset`, `guard_ms`, `background`, `suites` (the folder of the evaluation suites' files), and a table
//! `[keys.SCREEN]` with the keys of actions by name. Refuses to guess: anything
//! unknown is one sentence with file, line and remedy, and then the whole file has no effect.

use super::paths::home_path;
use crate::app::action_tables;
use crate::app::bindings::{KeyBindings, KeySetting};
use crate::domain::hint;
use crate::foreign::reason;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The largest file that is read, in bytes.
const MAX_SIZE: u64 = 1 << 20;

/// The longest time that `guard_ms` may set.
const MOST_GUARD_MS: i64 = 10_000;

/// What the terminal's background is like. It cannot be asked for safely: a late answer would be taken for keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Background {
    /// As `COLORFGBG` says; dark without it.
    #[default]
    Auto,
    /// Dark.
    Dark,
    /// Light.
    Light,
}

impl Background {
    const ALL: [(&'static str, Self); 3] = [("auto", Self::Auto), ("dark", Self::Dark), ("light", Self::Light)];

    /// Its name in the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, of)| *of == self).map_or("auto", |(name, _)| name)
    }

    /// Whether it is light, with the value of `COLORFGBG`: `15;0`, or `0;default;15`.
    #[must_use]
    pub fn is_light(self, colorfgbg: Option<&str>) -> bool {
        match self {
            Self::Dark => false,
            Self::Light => true,
            Self::Auto => colorfgbg.and_then(|value| value.rsplit(';').next()).is_some_and(|c| c == "7" || c == "15"),
        }
    }
}

/// What a file sets.
#[derive(Debug, PartialEq)]
struct ParsedSettings {
    keys: KeyBindings,
    guard_ms: u64,
    background: Background,
    suites: Option<PathBuf>,
}

impl ParsedSettings {
    fn defaults() -> Self {
        let keys = KeyBindings::defaults(&action_tables());
        Self { keys, guard_ms: 0, background: Background::Auto, suites: None }
    }
}

/// The settings in effect.
#[derive(Debug, Clone)]
pub struct UserSettings {
    /// Where the file is looked for.
    pub path: PathBuf,
    /// Whether it exists.
    pub exists: bool,
    /// The keys of every action.
    pub keys: KeyBindings,
    /// The folder of the evaluation suites' files, if it is set.
    pub suites: Option<PathBuf>,
    /// A verdict sooner than this after its pair appeared is ignored; 0 ignores none.
    pub guard_ms: u64,
    /// Whether the terminal's background is light.
    pub background: Background,
    /// What is wrong with the file, as one sentence; then everything is at its default.
    pub problem: Option<String>,
}

impl UserSettings {
    /// Reads the file. Without one, everything is at its default.
    #[must_use]
    pub fn read(path: PathBuf) -> Self {
        let found = read(&path);
        let exists = !matches!(&found, Err(error) if error.kind() == io::ErrorKind::NotFound);
        let settings = match found {
            Ok(text) => parse(&text).map_err(|(line, text)| format!("{}, line {line}: {text}", path.display())),
            Err(_) if !exists => Ok(ParsedSettings::defaults()),
            Err(error) => Err(format!("{} cannot be read: {}", path.display(), reason(&error))),
        };
        let (settings, problem) = match settings {
            Ok(settings) => (settings, None),
            Err(problem) => (ParsedSettings::defaults(), Some(problem)),
        };
        let ParsedSettings { keys, guard_ms, background, suites } = settings;
        // A relative folder is meant beside the file.
        let suites = suites.map(|folder| path.parent().map_or_else(|| folder.clone(), |at| at.join(&folder)));
        Self { path, exists, keys, suites, guard_ms, background, problem }
    }
}

fn read(path: &Path) -> io::Result<String> {
    crate::foreign::read_text(path, MAX_SIZE)
}

type Problem = (usize, String);

fn parse(text: &str) -> Result<ParsedSettings, Problem> {
    let line = |span: Range<usize>| text[..span.start.min(text.len())].matches('\n').count() + 1;
    let table = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(1, line);
        (at, format!("this is not valid TOML: {}", error.message().lines().next().unwrap_or_default()))
    })?;
    let (mut preset, mut settings, mut guard_ms, mut background) = (None, Vec::new(), 0, Background::Auto);
    let mut suites = None;
    for (name, value) in table.get_ref() {
        let at = line(name.span());
        match (name.get_ref().as_ref(), value.get_ref()) {
            ("preset", value) => preset = Some((string(value, "preset", at)?, at)),
            ("suites", value) => suites = Some(home_path(&string(value, "suites", at)?)),
            ("guard_ms", value) => guard_ms = milliseconds(value, at)?,
            ("background", value) => background = background_named(&string(value, "background", at)?, at)?,
            ("keys", DeValue::Table(places)) => {
                for (place, value) in places {
                    let at = line(place.span());
                    match (place.get_ref().as_ref(), value.get_ref()) {
                        ("preset", value) => preset = Some((string(value, "preset", at)?, at)),
                        (place, DeValue::Table(actions)) => {
                            for (action, value) in actions {
                                settings.push(setting(place, action, value, line(action.span()))?);
                            }
                        }
                        (other, _) => {
                            return Err((
                                at,
                                format!("[keys] {other}: write it under its screen, such as [keys.label]"),
                            ));
                        }
                    }
                }
            }
            ("keys", _) => return Err((at, "keys: write a table for each screen, such as [keys.label]".into())),
            (other, _) => {
                let near = hint(other, ["preset", "guard_ms", "background", "suites", "keys"]);
                return Err((
                    at,
                    format!(
                        "`{other}` is no setting: there are preset, guard_ms, background, suites and [keys.SCREEN]{near}"
                    ),
                ));
            }
        }
    }
    let preset = preset.as_ref().map(|(name, line)| (name.as_str(), *line));
    let keys = KeyBindings::build(&action_tables(), preset, &settings);
    let keys = keys.map_err(|problem| (problem.line, problem.text))?;
    Ok(ParsedSettings { keys, guard_ms, background, suites })
}

fn background_named(name: &str, line: usize) -> Result<Background, Problem> {
    let found = Background::ALL.iter().find(|(known, _)| *known == name).map(|(_, background)| *background);
    found.ok_or_else(|| {
        let names = Background::ALL.map(|(name, _)| name);
        (line, format!("background: choose {}, not `{name}`{}", names.join(", "), hint(name, names)))
    })
}

fn milliseconds(value: &DeValue<'_>, line: usize) -> Result<u64, Problem> {
    let number = value.as_integer().and_then(|n| i64::from_str_radix(n.as_str(), n.radix()).ok());
    let number = number.filter(|n| (0..=MOST_GUARD_MS).contains(n));
    let shown = match value {
        DeValue::Integer(n) => n.to_string(),
        other => article(other.type_str()),
    };
    let wrong = || format!("guard_ms: expected a whole number of milliseconds from 0 to {MOST_GUARD_MS}, got {shown}");
    number.and_then(|n| u64::try_from(n).ok()).ok_or_else(|| (line, wrong()))
}

fn string(value: &DeValue<'_>, name: &str, line: usize) -> Result<String, Problem> {
    let wrong = || (line, format!("{name}: expected a text in quotes, got {}", article(value.type_str())));
    value.as_str().map(str::to_owned).ok_or_else(wrong)
}

/// `action = "key"` or `action = ["key", "key"]`.
fn setting(
    place: &str,
    action: &Spanned<toml::de::DeString<'_>>,
    value: &Spanned<DeValue<'_>>,
    line: usize,
) -> Result<KeySetting, Problem> {
    let action = action.get_ref().as_ref().to_owned();
    let text = |value: &DeValue<'_>| {
        value.as_str().map(str::to_owned).ok_or_else(|| {
            let got = article(value.type_str());
            (line, format!("[keys.{place}] {action}: expected a key in quotes, such as \"1\", got {got}"))
        })
    };
    let keys = match value.get_ref() {
        DeValue::Array(items) => items.iter().map(|item| text(item.get_ref())).collect::<Result<_, _>>()?,
        one => vec![text(one)?],
    };
    Ok(KeySetting { place: place.to_owned(), action, keys, line })
}

fn article(kind: &str) -> String {
    let vowel = kind.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {kind}", if vowel { "an" } else { "a" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::bindings::PRESETS;

    fn wrong(text: &str) -> String {
        let (line, text) = parse(text).unwrap_err();
        format!("line {line}: {text}")
    }

    #[test]
    fn keys_and_preset_are_read() {
        let text = "guard_ms = 250\nbackground = \"light\"\npreset = \"azerty\"\nsuites = \"sets\"\n[keys.label]\n\
                    better_1 = \"h\"\nundo = [\"u\", \"backspace\"]\n";
        let ParsedSettings { keys, guard_ms, background, suites } = parse(text).unwrap();
        assert_eq!((keys.preset(), guard_ms, background), ("azerty", 250, Background::Light));
        assert_eq!(suites, Some(PathBuf::from("sets")));
        assert_eq!(keys.key("label", "1 better"), "h", "a setting goes over the preset");
        assert_eq!(keys.key("label", "2 better"), "é");
        assert_eq!(parse("").unwrap(), ParsedSettings::defaults());
        let nested = parse("[keys]\npreset = \"qwertz\"\n").unwrap();
        assert_eq!(nested.keys.preset(), "qwertz");
    }

    #[test]
    fn the_background_is_as_set_or_as_the_terminal_says() {
        for (value, light) in [("0;15", true), ("0;default;7", true), ("15;0", false), ("", false), ("15;", false)] {
            assert_eq!(Background::Auto.is_light(Some(value)), light, "{value}");
            assert!(Background::Light.is_light(Some(value)) && !Background::Dark.is_light(Some(value)));
        }
        assert!(!Background::Auto.is_light(None));
    }

    #[test]
    fn every_preset_fits_the_tables() {
        for preset in PRESETS {
            parse(&format!("preset = \"{}\"", preset.name)).unwrap();
        }
    }

    #[test]
    fn every_fault_names_its_line_and_the_remedy() {
        let cases = [
            ("preset = \"azerty\"\n[keys.label\n", "line 2: this is not valid TOML"),
            (
                "\n[key.label]\n",
                "line 2: `key` is no setting: there are preset, guard_ms, background, suites and [keys.SCREEN]; did you mean `keys`?",
            ),
            ("[keys]\nbetter_1 = \"1\"\n", "line 2: [keys] better_1: write it under its screen"),
            (
                "[keys.label]\nbetter_1 = 1\n",
                "line 2: [keys.label] better_1: expected a key in quotes, such as \"1\", got an integer",
            ),
            ("\nguard_ms = -1\n", "line 2: guard_ms: expected a whole number of milliseconds from 0 to 10000, got -1"),
            ("guard_ms = 1_000_000\n", "line 1: guard_ms: expected a whole number"),
            (
                "guard_ms = \"250\"\n",
                "line 1: guard_ms: expected a whole number of milliseconds from 0 to 10000, got a string",
            ),
            ("guardms = 250\n", "line 1: `guardms` is no setting"),
            (
                "background = \"ligth\"\n",
                "line 1: background: choose auto, dark, light, not `ligth`; did you mean `light`?",
            ),
            ("preset = 3\n", "line 1: preset: expected a text in quotes, got an integer"),
            ("[keys.label]\n\nbeter_1 = \"x\"\n", "line 3: [keys.label] beter_1: no such action"),
            ("[keys.label]\ntie = \"b\"\n", "line 2: `b` is the key of"),
            ("[keys.label]\ntie = \"b\"\ntie = \"c\"\n", "line 3: this is not valid TOML: duplicate key"),
        ];
        for (text, said) in cases {
            assert!(wrong(text).starts_with(said), "{text:?}: {}", wrong(text));
        }
    }
}
