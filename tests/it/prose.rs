//! The README matches the program: its key table is current, its commands and pictures exist.

use std::fs;
use std::path::PathBuf;
use tiebreak::app::{all_keys, keymap};

fn readme() -> (PathBuf, String) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = fs::read_to_string(&path).unwrap();
    (path, text)
}

/// `UPDATE_README=1 cargo test readme` updates the table.
#[test]
fn the_readme_has_the_key_table_of_the_program() {
    let (path, text) = readme();
    let (begin, end) = ("<!-- keys: generated from the key table; `cargo test` checks it -->\n", "<!-- keys end -->");
    let (before, rest) = text.split_once(begin).expect("the README has the mark before its keys");
    let (shown, after) = rest.split_once(end).expect("the README has the mark after its keys");
    let table = format!("{}\n", keymap::markdown(&all_keys()).trim_end());
    if std::env::var_os("UPDATE_README").is_some() {
        fs::write(path, format!("{before}{begin}{table}{end}{after}")).unwrap();
    } else {
        assert_eq!(shown, table, "run `UPDATE_README=1 cargo test readme`");
    }
}

/// `UPDATE_README=1 cargo test readme` updates the table.
#[test]
fn the_readme_has_the_table_of_formats_of_the_program() {
    let (path, text) = readme();
    let (begin, end) =
        ("<!-- formats: generated from the table of formats; `cargo test` checks it -->\n", "<!-- formats end -->");
    let (before, rest) = text.split_once(begin).expect("the README has the mark before its formats");
    let (shown, after) = rest.split_once(end).expect("the README has the mark after its formats");
    let table = tiebreak::storage::formats::markdown();
    if std::env::var_os("UPDATE_README").is_some() {
        fs::write(path, format!("{before}{begin}{table}{end}{after}")).unwrap();
    } else {
        assert_eq!(shown, table, "run `UPDATE_README=1 cargo test readme`");
    }
}

/// `UPDATE_README=1 cargo test readme` updates the table.
#[test]
fn the_readme_has_the_table_of_families_of_the_program() {
    let (path, text) = readme();
    let (begin, end) =
        ("<!-- families: generated from the table of families; `cargo test` checks it -->\n", "<!-- families end -->");
    let (before, rest) = text.split_once(begin).expect("the README has the mark before its families");
    let (shown, after) = rest.split_once(end).expect("the README has the mark after its families");
    let table = tiebreak::model::family::markdown();
    if std::env::var_os("UPDATE_README").is_some() {
        fs::write(path, format!("{before}{begin}{table}{end}{after}")).unwrap();
    } else {
        assert_eq!(shown, table, "run `UPDATE_README=1 cargo test readme`");
    }
}

#[test]
fn the_readme_names_commands_and_pictures_that_exist() {
    let (path, text) = readme();
    let root = path.parent().unwrap();
    let command = tiebreak::shell::cli::definition();
    for line in text.lines().filter_map(|l| l.strip_prefix("tiebreak ")) {
        let name = line.split_whitespace().next().unwrap();
        assert!(command.find_subcommand(name).is_some(), "`tiebreak {name}` is no command");
    }
    for picture in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        if !picture.contains("://") {
            assert!(root.join(picture).exists(), "{picture} is not there");
        }
    }
}
