//! The READMEs match the program: their tables are current, their commands, keys, pictures and links exist.

use std::fs;
use std::path::{Path, PathBuf};
use tiebreak::app::{all_keys, keymap};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn readmes() -> Vec<(PathBuf, String)> {
    let names =
        ["", "benches", "sessions", "src", "src/app", "src/domain", "src/evaluate", "src/model", "tests/it/faults"];
    let read = |name: &str| {
        let path = root().join(name).join("README.md");
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        (path, text)
    };
    names.into_iter().map(read).collect()
}

/// The table between the marks in a README is this one. `UPDATE_README=1 cargo test --test it prose` updates it.
fn has_table(file: &str, of: &str, named: &str, table: &str) {
    let path = root().join(file);
    let text = fs::read_to_string(&path).unwrap();
    let begin = format!("<!-- {of}: generated from the {named}; `cargo test` checks it -->\n");
    let end = format!("<!-- {of} end -->");
    let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("{file} has no mark before its {of}"));
    let (shown, after) = rest.split_once(&end).unwrap_or_else(|| panic!("{file} has no mark after its {of}"));
    if std::env::var_os("UPDATE_README").is_some() {
        fs::write(path, format!("{before}{begin}{table}{end}{after}")).unwrap();
    } else {
        assert_eq!(shown, table, "run `UPDATE_README=1 cargo test --test it prose`");
    }
}

#[test]
fn the_tables_are_those_of_the_program() {
    let keys = format!("{}\n", keymap::markdown(&all_keys()).trim_end());
    has_table("src/app/README.md", "keys", "key table", &keys);
    has_table("README.md", "formats", "table of formats", &tiebreak::storage::formats::markdown());
    has_table("README.md", "families", "table of families", &tiebreak::model::family::markdown());
}

/// The rows of the short table of keys: `| where | `key` what · … |`.
#[test]
fn the_readme_names_keys_that_exist() {
    let text = fs::read_to_string(root().join("README.md")).unwrap();
    let (_, keys) = text.split_once("## Keys\n").unwrap();
    let table = keymap::markdown(&all_keys());
    let mut seen = 0;
    for row in keys.lines().take_while(|line| !line.starts_with("## ")).filter(|line| line.contains(" · ")) {
        let place = row.split('|').nth(1).unwrap().trim();
        let bound: Vec<&str> = table.lines().filter(|line| line.starts_with(&format!("| {place} |"))).collect();
        for key in row.split('`').skip(1).step_by(2) {
            let mark = format!("`{key}`");
            assert!(
                bound.iter().any(|line| line.split('|').nth(2).unwrap().contains(&mark)),
                "{place} has no key {key}"
            );
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen}");
}

#[test]
fn the_readmes_name_commands_pictures_and_files_that_exist() {
    let command = tiebreak::shell::cli::definition();
    for (path, text) in readmes() {
        for line in text.lines().filter_map(|l| l.strip_prefix("tiebreak ")) {
            let name = line.split_whitespace().next().unwrap();
            assert!(command.find_subcommand(name).is_some(), "{}: `tiebreak {name}` is no command", path.display());
        }
        for place in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if !place.contains("://") && !place.starts_with('#') {
                assert!(path.parent().unwrap().join(place).exists(), "{}: {place} is not there", path.display());
            }
        }
    }
}
