//! The table of suites: one file each in `suite/`, and nothing else to touch.
//!
//! The build script declares every file of the folder as a module and lists its `SUITE` here. Owns the contract of a suite.
//! Refuses models: a suite says what to ask and scores what was given.

use super::item::{Given, Item, ReadItems};
use crate::domain::{Metrics, SuiteRow};
use crate::model::error::Error;

// Declares the modules, and `SUITES: &[&Suite]`.
include!(concat!(env!("OUT_DIR"), "/suite.rs"));

/// A suite's file.
#[derive(Debug, Clone, Copy)]
pub struct SuiteInput<'a> {
    /// Its text.
    pub text: &'a str,
    /// Its name where the user has it.
    pub file: &'a str,
}

/// A suite.
pub struct Suite {
    /// Its row.
    pub row: SuiteRow,
    /// Reads the items of its file.
    ///
    /// # Errors
    /// When the file has another schema; the message names the line and the field.
    pub read: fn(&SuiteInput) -> Result<ReadItems, Error>,
    /// The values of its measures for one item.
    ///
    /// # Errors
    /// When the item cannot be scored.
    pub measure: fn(&Item, &Given) -> Result<Metrics, Error>,
}

/// The suites, sorted by name.
#[must_use]
pub fn suites() -> &'static [&'static Suite] {
    SUITES
}

/// The suite of that name.
///
/// # Errors
/// When there is none.
pub(super) fn suite_named(name: &str) -> Result<&'static Suite, Error> {
    SUITES
        .iter()
        .find(|suite| suite.row.name == name)
        .copied()
        .ok_or_else(|| Error::Invalid(format!("`{name}` is not a suite of this version: evaluate again")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Pooling;

    #[test]
    fn every_suite_has_a_name_of_its_own_and_says_what_it_reports() {
        let mut names: Vec<&str> = SUITES.iter().map(|suite| suite.row.name).collect();
        names.dedup();
        assert_eq!(names.len(), SUITES.len());
        for Suite { row, .. } in SUITES {
            assert!(!row.help.is_empty() && row.help.len() <= 60 && !row.help.ends_with('.'), "{}", row.help);
            assert!(!row.measures.is_empty(), "{} reports nothing", row.name);
            assert!(row.files.is_empty() || !row.source.is_empty(), "{} does not say where its file is", row.name);
            for measure in row.measures {
                assert!(measure.title.chars().count() <= 22, "{}", measure.title);
                if let Pooling::Per(other) = measure.pooling {
                    assert_ne!(other, measure.key);
                }
            }
        }
    }
}
