//! The folder of the suites' files: named by the user, in `config.toml`, or `suites` in the data folder.

use super::config::UserSettings;
use crate::app::SuiteFiles;
use crate::domain::suites;
use crate::storage::Home;
use std::path::{Path, PathBuf};

/// The folder that is named; else that of the settings; else `suites` in the data folder, which need not exist.
#[must_use]
pub fn suite_folder(home: &Home, named: Option<PathBuf>) -> PathBuf {
    named.or_else(|| UserSettings::read(home.config_file()).suites).unwrap_or_else(|| home.root().join("suites"))
}

/// Which suites have their file in a folder.
#[must_use]
pub fn suite_files(folder: &Path) -> SuiteFiles {
    let file = |names: &[&str]| names.iter().find(|name| folder.join(name).is_file()).map(|name| (*name).to_owned());
    let found = suites().into_iter().filter_map(|row| Some((row.name.to_owned(), file(row.files)?)));
    SuiteFiles { folder: folder.display().to_string(), exists: folder.is_dir(), found: found.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suite_is_found_by_any_of_its_names() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ifeval.jsonl"), "").unwrap();
        let files = suite_files(dir.path());
        assert!(files.exists);
        assert_eq!(files.of("ifeval"), Some("ifeval.jsonl"));
        assert_eq!((files.of("gsm8k"), files.of("winrate")), (None, None));
        assert!(!suite_files(&dir.path().join("none")).exists);
    }
}
