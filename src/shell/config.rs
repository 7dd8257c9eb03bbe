//! The user's settings: `config.toml`, read once at start.
//!
//! Owns its form: `preset`, `suites` (the folder of the evaluation suites' files), and a table `[keys.SCREEN]` with the keys of actions by name. Refuses to guess: anything
//! unknown is one sentence with file, line and remedy, and then the whole file has no effect.

use super::typed_path::home_path;
use crate::app::action_tables;
use crate::app::bindings::{KeyBindings, KeySetting};
use crate::domain::hint;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The largest file that is read, in bytes.
const MAX_SIZE: u64 = 1 << 20;

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
    /// What is wrong with the file, as one sentence; then everything is at its default.
    pub problem: Option<String>,
}

impl UserSettings {
    /// Reads the file. Without one, everything is at its default.
    #[must_use]
    pub fn read(path: PathBuf) -> Self {
        let found = read(&path);
        let exists = !matches!(&found, Err(error) if error.kind() == io::ErrorKind::NotFound);
        let keys = match found {
            Ok(text) => parse(&text).map_err(|(line, text)| format!("{}, line {line}: {text}", path.display())),
            Err(_) if !exists => Ok((KeyBindings::defaults(&action_tables()), None)),
            Err(error) => Err(format!("{} cannot be read: {error}", path.display())),
        };
        match keys {
            Ok((keys, suites)) => {
                // A relative folder is meant beside the file.
                let suites = suites.map(|folder| path.parent().map_or_else(|| folder.clone(), |at| at.join(&folder)));
                Self { path, exists, keys, suites, problem: None }
            }
            Err(problem) => {
                let keys = KeyBindings::defaults(&action_tables());
                Self { path, exists, keys, suites: None, problem: Some(problem) }
            }
        }
    }
}

fn read(path: &Path) -> io::Result<String> {
    let size = std::fs::metadata(path)?.len();
    if size > MAX_SIZE {
        return Err(io::Error::other(format!("it has {size} bytes, and a file of settings has at most {MAX_SIZE}")));
    }
    std::fs::read_to_string(path)
}

type Problem = (usize, String);

fn parse(text: &str) -> Result<(KeyBindings, Option<PathBuf>), Problem> {
    let line = |span: Range<usize>| text[..span.start.min(text.len())].matches('\n').count() + 1;
    let table = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(1, line);
        (at, format!("this is not valid TOML: {}", error.message().lines().next().unwrap_or_default()))
    })?;
    let (mut preset, mut suites, mut settings) = (None, None, Vec::new());
    for (name, value) in table.get_ref() {
        let at = line(name.span());
        match (name.get_ref().as_ref(), value.get_ref()) {
            ("preset", value) => preset = Some((string(value, "preset", at)?, at)),
            ("suites", value) => suites = Some(home_path(&string(value, "suites", at)?)),
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
                let near = hint(other, ["preset", "suites", "keys"]);
                return Err((at, format!("`{other}` is no setting: there are preset, suites and [keys.SCREEN]{near}")));
            }
        }
    }
    let preset = preset.as_ref().map(|(name, line)| (name.as_str(), *line));
    let keys = KeyBindings::build(&action_tables(), preset, &settings);
    Ok((keys.map_err(|problem| (problem.line, problem.text))?, suites))
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
        let keys =
            parse("preset = \"azerty\"\n[keys.label]\nbetter_1 = \"h\"\nundo = [\"u\", \"backspace\"]\n").unwrap().0;
        assert_eq!(keys.preset(), "azerty");
        assert_eq!(keys.key("label", "1 better"), "h", "a setting goes over the preset");
        assert_eq!(keys.key("label", "2 better"), "é");
        assert_eq!(parse("").unwrap(), (KeyBindings::defaults(&action_tables()), None));
        assert_eq!(parse("suites = \"sets\"\n").unwrap().1, Some(PathBuf::from("sets")));
        let nested = parse("[keys]\npreset = \"qwertz\"\n").unwrap().0;
        assert_eq!(nested.preset(), "qwertz");
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
                "line 2: `key` is no setting: there are preset, suites and [keys.SCREEN]; did you mean `keys`?",
            ),
            ("[keys]\nbetter_1 = \"1\"\n", "line 2: [keys] better_1: write it under its screen"),
            (
                "[keys.label]\nbetter_1 = 1\n",
                "line 2: [keys.label] better_1: expected a key in quotes, such as \"1\", got an integer",
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
