//! Suites by name and their files on this machine. Owns the look-up; refuses to read them: the worker does.

use super::error::{Error, Result};
use super::suite_folder::suite_folder;
use crate::domain::{SuiteRow, hint, suite, suites};
use crate::storage::Home;
use std::path::{Path, PathBuf};

/// The suite of that name, or a user's own suite in the file of that name.
///
/// # Errors
/// When there is neither; a similar name is suggested.
pub fn named(name: &str) -> Result<(&'static SuiteRow, Option<PathBuf>)> {
    if let Some(row) = suite(name) {
        return Ok((row, None));
    }
    let path = Path::new(name);
    if let (true, Some(own)) = (path.is_file(), suite("own")) {
        return Ok((own, Some(path.to_owned())));
    }
    let names: Vec<&str> = suites().iter().map(|row| row.name).collect();
    Err(Error::Usage(format!(
        "`{name}` is neither a suite nor a file{}; the suites are {}",
        hint(name, names.iter().copied()),
        names.join(", ")
    )))
}

/// Refuses a metric of a suite that is not measured while training: nothing would ever be the best. `measured` are the names of
/// the suites that are, with commas.
///
/// # Errors
/// When the suite is not among them, or reports no such number.
pub fn check_best(metric: &str, measured: &str) -> Result<()> {
    let Some(rest) = metric.strip_prefix("suite/") else { return Ok(()) };
    let (name, key) = rest.split_once('/').unwrap_or((rest, ""));
    let (row, _) = named(name)?;
    if !measured.split(',').any(|known| known == name) {
        return Err(Error::Usage(format!(
            "metric_for_best_model={metric} needs the suite {name} while training: set eval_suites={name}"
        )));
    }
    if row.measures.iter().any(|measure| measure.key == key) {
        return Ok(());
    }
    let keys: Vec<String> = row.measures.iter().map(|measure| format!("suite/{name}/{}", measure.key)).collect();
    Err(Error::Usage(format!(
        "metric_for_best_model={metric} is no number of the suite {name}: set one of {}",
        keys.join(", ")
    )))
}

/// The suite's file in the folder `data`, by default that of the settings, or `suites` in the data folder; `data` itself where it
/// is a file.
///
/// # Errors
/// When it is not there; the message says where to get it.
pub fn suite_file(home: &Home, row: &SuiteRow, data: Option<&Path>) -> Result<PathBuf> {
    if let Some(file) = data.filter(|path| path.is_file()) {
        return Ok(file.to_owned());
    }
    let names = row.files.join(" or ");
    let own = suite_folder(home, None);
    let folder = data.unwrap_or(&own);
    if data.is_none() && !folder.is_dir() {
        return Err(Error::Usage(format!(
            "the suite {} reads {names}: name it or its folder with --data, or put the file into {} ({})",
            row.name,
            folder.display(),
            row.source
        )));
    }
    row.files.iter().map(|name| folder.join(name)).find(|path| path.is_file()).ok_or_else(|| {
        Error::failed(format!(
            "{} has no {names} for the suite {}: get it from {}",
            folder.display(),
            row.name,
            row.source
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_checkpoint_follows_only_what_is_measured() {
        let said = |metric: &str, measured: &str| check_best(metric, measured).map_err(|e| e.to_string());
        assert!(said("eval_loss", "").is_ok() && said("", "ifeval").is_ok());
        assert!(said("suite/ifeval/prompt_strict", "degenerate,ifeval").is_ok());
        assert!(said("suite/ifeval/prompt_strict", "").unwrap_err().ends_with("set eval_suites=ifeval"));
        assert!(said("suite/ifeval/strict", "ifeval").unwrap_err().contains("set one of suite/ifeval/prompt_strict"));
        assert!(said("suite/nosuch", "ifeval").is_err());
    }
}
