//! Names on the hub: `ORG/NAME[/FILE.gguf][@REVISION]` of a model, `ORG/NAME[:CONFIG][:SPLIT][@REVISION]` of a dataset.

use super::super::error::{Error, Result};
use super::repo::HubRepo;
use hf_hub::RepoType;

/// The branch that a name without a revision means.
pub(super) const MAIN: &str = "main";

/// A repository on the hub, and what of it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubName {
    /// `ORG/NAME`.
    pub repo: String,
    /// A branch, a tag, or a commit.
    pub revision: String,
    /// A file within the repository.
    pub file: Option<String>,
    /// What stands behind colons: configuration and split of a dataset.
    pub parts: Vec<String>,
}

/// Whether a model's name may be one on the hub.
#[must_use]
pub fn looks_like(name: &str) -> bool {
    HubName::model(name).is_ok()
}

/// A part of a repository's name.
fn is_part(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
    let bytes = text.as_bytes();
    let whole = text.len() <= 96 && bytes.iter().all(|b| inner(*b)) && !text.contains("..") && !text.contains("--");
    whole && edge(bytes.first()) && edge(bytes.last())
}

fn is_revision(text: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/');
    let parts = || text.split('/');
    text.bytes().all(good)
        && parts().all(|part| !part.is_empty() && !part.starts_with(['.', '-']) && !part.contains(".."))
}

impl HubName {
    /// Reads a model's name.
    ///
    /// # Errors
    /// When it is not one; the message shows the form.
    pub fn model(text: &str) -> Result<Self> {
        let form = "ORG/NAME, ORG/NAME@REVISION, ORG/NAME/FILE.gguf, or smollm2 for a small one";
        let name = Self::parse(text, form)?;
        if !name.parts.is_empty() {
            return Err(wrong(text, form));
        }
        Ok(name)
    }

    /// Reads a dataset's name.
    ///
    /// # Errors
    /// When it is not one; the message shows the form.
    pub fn data(text: &str) -> Result<Self> {
        let form = "ORG/NAME, ORG/NAME:SPLIT, ORG/NAME:CONFIG:SPLIT, each with @REVISION behind it where one is wanted";
        let name = Self::parse(text, form)?;
        if name.file.is_some() || name.parts.len() > 2 {
            return Err(wrong(text, form));
        }
        Ok(name)
    }

    fn parse(text: &str, form: &str) -> Result<Self> {
        let (rest, revision) = text.split_once('@').unwrap_or((text, MAIN));
        let mut colons = rest.split(':');
        let path = colons.next().unwrap_or_default();
        let parts: Vec<String> = colons.map(str::to_owned).collect();
        let mut slashes = path.splitn(3, '/');
        let (org, name) = (slashes.next().unwrap_or_default(), slashes.next().unwrap_or_default());
        let file = slashes.next().map(str::to_owned);
        let gguf = |file: &String| super::files::is_safe(file) && file.to_lowercase().ends_with(".gguf");
        let good = is_part(org) && is_part(name) && is_revision(revision) && file.as_ref().is_none_or(gguf);
        if !good || parts.iter().any(String::is_empty) {
            return Err(wrong(text, form));
        }
        Ok(Self { repo: format!("{org}/{name}"), revision: revision.into(), file, parts })
    }

    /// The name to write in a command that gets the same again.
    #[must_use]
    pub fn spelled(&self) -> String {
        let mut out = self.repo.clone();
        if let Some(file) = &self.file {
            out.push_str(&format!("/{file}"));
        }
        for part in &self.parts {
            out.push_str(&format!(":{part}"));
        }
        if self.revision != MAIN {
            out.push_str(&format!("@{}", self.revision));
        }
        out
    }

    /// The repository of that kind.
    pub(super) fn at(&self, kind: RepoType) -> HubRepo {
        HubRepo { id: self.repo.clone(), revision: self.revision.clone(), kind }
    }
}

fn wrong(text: &str, form: &str) -> Error {
    Error::Usage(format!("`{text}` is not a name on the Hugging Face hub: write {form}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_their_parts_and_others_are_refused() {
        let name = HubName::model("acme/tiny-1.5@refs/pr/3").unwrap();
        assert_eq!((name.repo.as_str(), name.revision.as_str()), ("acme/tiny-1.5", "refs/pr/3"));
        assert_eq!(name.spelled(), "acme/tiny-1.5@refs/pr/3");
        let gguf = HubName::model("acme/tiny/sub/x.Q4_K_M.gguf").unwrap();
        assert_eq!(gguf.file.as_deref(), Some("sub/x.Q4_K_M.gguf"));
        let data = HubName::data("acme/prefs:en:train@v2").unwrap();
        assert_eq!((data.parts.as_slice(), data.revision.as_str()), (&["en".to_owned(), "train".to_owned()][..], "v2"));
        assert_eq!(data.spelled(), "acme/prefs:en:train@v2");
        for bad in [
            "smollm2",
            "a/b/c",
            "a/../b.gguf",
            "../b",
            "/a/b",
            "a/b@",
            "a/b@../x",
            "a/b@-x",
            "a b/c",
            "a/b:c",
            "a/..",
            "a--b/c",
            "a/b//x.gguf",
            "https://huggingface.co/a/b",
        ] {
            assert!(HubName::model(bad).is_err(), "{bad}");
        }
        for bad in ["a/b:", "a/b::c", "a/b:c:d:e", "a/b/x.gguf"] {
            assert!(HubName::data(bad).is_err(), "{bad}");
        }
    }
}
