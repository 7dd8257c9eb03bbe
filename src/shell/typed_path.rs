//! Paths that a user typed on a screen, where no shell expands them.

use std::path::{Path, PathBuf};

/// A path typed on a screen, where no shell expands `~`.
#[must_use]
pub fn home_path(text: &str) -> PathBuf {
    let text = text.trim();
    match (text.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest),
        _ => PathBuf::from(text),
    }
}
