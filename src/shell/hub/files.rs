//! Names of files in a repository. They come from the hub, which may be anybody's: one that leaves its folder is refused.

use std::path::{Component, Path};

/// Whether a name, joined to a folder, stays in that folder.
pub(super) fn is_safe(name: &str) -> bool {
    let path = Path::new(name);
    let normal = path.components().all(|part| matches!(part, Component::Normal(_)));
    // `a//b` and `a/./b` have normal parts only.
    let spelled = name.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    normal && spelled && name.len() <= 512 && !name.chars().any(|c| c.is_control() || c == '\\')
}

/// A list of names for a message: the first few, and how many more.
pub(super) fn few(names: &[String]) -> String {
    const SHOWN: usize = 4;
    let first = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

/// Bytes for people.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} bytes"),
        10_000..100_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_stay_in_their_folder_are_safe() {
        for good in ["config.json", "data/train-00000-of-00001.parquet", ".gitattributes", "a b/ü.json"] {
            assert!(is_safe(good), "{good}");
        }
        for bad in ["../x", "/etc/x", "a/../x", "a//x", "./x", "a/.", "", "a\\..\\x", "a\nb", "C:\\x", "a/"] {
            assert!(!is_safe(bad), "{bad}");
        }
    }
}
