//! What a base model's own files say of it: its licence by the card beside its weights, its name by the folder of the hub's cache.
//!
//! Owns the reading of both. Refuses to guess: a list, a nested value or a missing card gives nothing.

use std::path::Path;

/// The longest card that is read, in bytes.
const LONGEST: u64 = 1 << 20;
/// The keys of a card that are carried over, in order.
const LICENSE_KEYS: [&str; 3] = ["license", "license_name", "license_link"];

/// What the base model's card says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct BaseCard {
    license: Vec<(&'static str, String)>,
}

impl BaseCard {
    /// Reads the card of a model's folder; empty for a file, or without one.
    pub(super) fn of(model: &Path) -> Self {
        let path = model.join("README.md");
        let text = crate::foreign::read_text(&path, LONGEST).unwrap_or_default();
        Self::read(&text)
    }

    fn read(text: &str) -> Self {
        let mut lines = text.lines();
        if lines.next().map(str::trim_end) != Some("---") {
            return Self::default();
        }
        let head: Vec<&str> = lines.by_ref().take_while(|line| line.trim_end() != "---").collect();
        let value = |key: &'static str| {
            let line = head.iter().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
            scalar(line).map(|value| (key, value))
        };
        Self { license: LICENSE_KEYS.into_iter().filter_map(value).collect() }
    }

    /// Keys and values of the licence; empty where the card names none. A link to a file of the base model's folder is
    /// left out, as that file may be elsewhere.
    pub(super) fn license(&self) -> Vec<(&'static str, &str)> {
        let kept = |(key, value): &&(&'static str, String)| *key != "license_link" || value.contains("://");
        self.license.iter().filter(kept).map(|(key, value)| (*key, value.as_str())).collect()
    }
}

/// A value on one line: bare, or in quotes; none for a list, a mapping, a block or nothing.
fn scalar(text: &str) -> Option<String> {
    let text = text.trim();
    for quote in ['"', '\''] {
        if let Some(rest) = text.strip_prefix(quote) {
            let (value, after) = rest.split_once(quote)?;
            let after = after.trim();
            return (!value.is_empty() && (after.is_empty() || after.starts_with('#'))).then(|| value.to_owned());
        }
    }
    let value = text.split(" #").next().unwrap_or_default().trim();
    let starts = value.chars().next()?;
    (!"[{|>&*!%@`#-".contains(starts) && !value.contains(": ")).then(|| value.to_owned())
}

/// The name on the hub of a model in the hub's cache: `…/models--ORG--NAME/snapshots/REVISION`. None elsewhere, as no file says
/// where a folder came from.
pub(super) fn hub_id(model: &Path) -> Option<String> {
    let mut parts = model.components().map(|part| part.as_os_str().to_str().unwrap_or_default());
    let folder = parts.find_map(|part| part.strip_prefix("models--"))?;
    if parts.next() != Some("snapshots") {
        return None;
    }
    let (org, name) = folder.split_once("--")?;
    let plain = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    (plain(org) && plain(name)).then(|| format!("{org}/{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_licence_is_what_the_card_says_and_nothing_else() {
        let read = |head: &str| {
            let text = format!("---\n{head}\n---\n# M\nlicense: mit\n");
            BaseCard::read(&text).license().into_iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>()
        };
        assert_eq!(read("license: apache-2.0 # as is\nlanguage:\n- en"), ["license=apache-2.0"]);
        assert_eq!(
            read("license: other\nlicense_name: \"my licence\"\nlicense_link: https://example.org/l"),
            ["license=other", "license_name=my licence", "license_link=https://example.org/l"]
        );
        assert_eq!(read("license: other\nlicense_link: LICENSE"), ["license=other"]);
        for none in ["license:\n- mit", "license: [mit, x]", "tags: x", "license: >\n  mit", "license: a: b"] {
            assert!(read(none).is_empty(), "{none}");
        }
        assert!(BaseCard::read("license: mit\n").license().is_empty(), "there is no metadata");
    }

    #[test]
    fn a_name_on_the_hub_is_known_in_its_cache_alone() {
        let id = |path: &str| hub_id(Path::new(path));
        assert_eq!(id("/c/hub/models--acme--tiny/snapshots/abc").as_deref(), Some("acme/tiny"));
        for none in
            ["/m/acme/tiny", "/c/models--gpt2/snapshots/a", "/c/models--acme--tiny", "/c/models--a--<b>/snapshots/a"]
        {
            assert_eq!(id(none), None, "{none}");
        }
    }
}
