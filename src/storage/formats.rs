//! The table of import and export formats: one file per format in `formats/`, and nothing else to touch.
//!
//! The build script declares every file of the folder as a module and lists its `FORMAT` here, sorted by file name.
//! Names, help texts, completions, error messages and the recognition of files derive from that list. Owns the look-up
//! by name. Refuses to read files: `container` decodes them into records, `import` and `export` do the rest.

pub use super::given::GivenAnswer;
pub use super::record::Record;
pub use super::schema::{
    Fit, Format, Gather, Gathered, ImportedPair, ImportedPrompt, ImportedRating, ImportedVote, ImportedVotes,
    RankedAnswer, Ranking, Reader, Reads, Refusal, Writer,
};

use super::container;
use super::error::{Error, Result};
use super::record::RowFields;
use crate::domain::sanitise;
use serde_json::Value;
use std::path::Path;

// Declares the modules, and `FORMATS: &[&Format]`.
include!(concat!(env!("OUT_DIR"), "/formats.rs"));

/// The formats that can be read.
pub fn imports() -> impl Iterator<Item = &'static Format> + Clone {
    FORMATS.iter().copied().filter(|format| format.reads.is_some())
}

/// The formats that can be written.
pub fn exports() -> impl Iterator<Item = &'static Format> + Clone {
    FORMATS.iter().copied().filter(|format| format.writes.is_some())
}

/// The format of that name that can be read.
///
/// # Errors
/// When there is none; the message lists the known ones.
pub fn import_named(name: &str) -> Result<&'static Format> {
    named(name, imports())
}

/// The format of that name that can be written.
///
/// # Errors
/// When there is none; the message lists the known ones.
pub fn export_named(name: &str) -> Result<&'static Format> {
    named(name, exports())
}

/// The formats as a table in Markdown.
#[must_use]
pub fn markdown() -> String {
    let mut out = String::from("| format | import | export | holds |\n|---|---|---|---|\n");
    for format in FORMATS {
        let mark = |is: bool| if is { "yes" } else { "" };
        let (reads, writes) = (mark(format.reads.is_some()), mark(format.writes.is_some()));
        out.push_str(&format!("| `{}` | {reads} | {writes} | {} |\n", format.name, format.help));
    }
    out
}

fn named(name: &str, mut formats: impl Iterator<Item = &'static Format> + Clone) -> Result<&'static Format> {
    let known = formats.clone();
    formats.find(|format| format.name == name).ok_or_else(|| Error::Format {
        given: name.into(),
        known: known.map(|format| format.name).collect::<Vec<_>>().join(", "),
    })
}

/// The format that the first records of a file fit best: the first record that has columns of a format's own decides.
///
/// # Errors
/// When the file cannot be read, holds no record or fits no format.
pub fn recognise(path: &Path) -> Result<&'static Format> {
    let first = container::first(path)?;
    let best = |record: &Record| {
        let mut best = (Fit::No, None);
        for format in imports() {
            let fit = format.reads.map_or(Fit::No, |reads| (reads.fit)(record));
            if fit > best.0 {
                best = (fit, Some(format));
            }
        }
        best
    };
    let fits: Vec<(Fit, Option<&'static Format>)> = first.iter().map(best).collect();
    let sure =
        fits.iter().find(|(fit, _)| *fit >= Fit::Likely).or_else(|| fits.iter().find(|(_, format)| format.is_some()));
    if let Some((_, Some(format))) = sure {
        return Ok(format);
    }
    let reason = match first.first().and_then(Record::columns) {
        Some(row) if row.names().next().is_none() => "fits no format: its records have no columns".into(),
        Some(row) if first.len() == 1 && nested(&row).is_some() => {
            let name = sanitise(nested(&row).unwrap_or_default());
            format!("holds its rows in the column `{name}`: write them one a line (`jq -c '.[\"{name}\"][]'`)")
        }
        Some(row) => {
            let names: Vec<String> = row.names().map(|name| format!("`{}`", sanitise(name))).collect();
            format!("fits no format: its records have the columns {}; name a format with --as", names.join(", "))
        }
        None if first.is_empty() => return import_named("prompts"),
        None => "fits no format: name one with --as".into(),
    };
    Err(Error::Import { path: path.to_owned(), reason })
}

/// The column of a file's only record that holds rows.
fn nested<'a>(row: &RowFields<'a>) -> Option<&'a str> {
    let rows = |name: &&String| {
        let list = row.peek(name).and_then(Value::as_array);
        let message = |one: &Value| ["role", "from"].iter().any(|name| one.get(*name).is_some());
        list.is_some_and(|list| !list.is_empty() && list.iter().all(|one| one.is_object() && !message(one)))
    };
    row.names().find(rows).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_folder_is_a_format_with_a_name_of_its_own() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/storage/formats");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().replace('_', "-"))
            .collect();
        files.sort();
        let names: Vec<&str> = FORMATS.iter().map(|format| format.name).collect();
        assert_eq!(names, files);
        for format in FORMATS {
            assert!(format.reads.is_some() || format.writes.is_some(), "{} does nothing", format.name);
            assert!(!format.help.is_empty() && !format.help.ends_with('.'), "{}: {}", format.name, format.help);
        }
    }

    #[test]
    fn a_file_is_recognised_by_its_first_record() {
        let dir = tempfile::tempdir().unwrap();
        for (text, name) in [
            ("\u{feff}\n\n{\"chosen\":\"a\",\"rejected\":\"b\"}\n", "pairs"),
            ("{\"chosen\":1,\"completion\":\"a\",\"label\":true}\n", "pairs"),
            ("{\"prompt\":\"q\",\"completion\":\"a\",\"label\":true}\n", "ratings"),
            ("{\"prompt\":\"q\",\"completion\":\"a\"}\n", "sft"),
            ("{\"text\":\"a\"}\n", "sft"),
            ("{\"conversations\":[]}\n", "sft"),
            ("{\"messages\":[]}\n", "prompts"),
            ("{\"prompt\":\"q\",\"response_1\":\"a\",\"response_2\":\"b\"}\n", "unjudged"),
            ("{\"instruction\":\"q\",\"response1\":\"a\",\"response2\":\"b\",\"annotator1\":1}\n", "pandalm"),
            ("{\"input\":\"q\",\"output_1\":\"a\",\"output_2\":\"b\",\"label\":1}\n", "llmbar"),
            ("{\"text\":\"q\",\"options\":[],\"accept\":[],\"answer\":\"accept\"}\n", "prodigy"),
            ("[{\"id\":\"1\",\"fields\":{},\"responses\":{}}]", "argilla"),
            ("[{\"id\":1,\"data\":{},\"annotations\":[]}]", "label-studio"),
            ("{\"prompt\":\"q\",\"a\":\"x\",\"b\":\"y\",\"votes\":[]}\n", "votes"),
            ("Why?\n", "prompts"),
            ("{oops\n", "prompts"),
            ("", "prompts"),
        ] {
            let path = dir.path().join("file");
            std::fs::write(&path, text).unwrap();
            assert_eq!(recognise(&path).unwrap().name, name, "{text}");
        }
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let message = import_named("trl").unwrap_err().to_string();
        assert_eq!(
            message,
            "`trl` is not a format: use alpaca-eval, arena, argilla, comparison, distilabel, dolly, helpsteer, helpsteer-ratings, hh-rlhf, label-studio, llmbar, ms-swift, mt-bench, nectar, nemo, oasst, oasst-messages, openai-preference, openrlhf, pairs, pandalm, probe, prodigy, prompts, ratings, safe-rlhf, self-instruct, sft, sharegpt, shp, summarize-from-feedback, ultrafeedback, unjudged, votes, webgpt"
        );
        assert!(
            export_named("prompts").unwrap_err().to_string().ends_with("use kto, pairs, sft, trl, trl-implicit, votes")
        );
    }
}
