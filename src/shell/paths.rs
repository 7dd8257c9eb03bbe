//! Paths typed on a screen, where no shell expands or completes them.

use std::path::{Path, PathBuf};

/// The most completions of one text.
const MOST: usize = 200;

/// A typed path; `~/` is the user's folder.
#[must_use]
pub fn home_path(text: &str) -> PathBuf {
    let text = text.trim();
    match (text.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest),
        _ => PathBuf::from(text),
    }
}

/// What a typed path of a model may become: the folders (with a slash at the end) and `.gguf` files that begin so, sorted.
/// Hidden ones only where the text begins one. Nothing where the folder cannot be read.
#[must_use]
pub fn complete_model(text: &str) -> Vec<String> {
    let text = text.trim_start();
    let (folder, start) = text.rsplit_once('/').map_or(("", text), |(folder, start)| (&text[..=folder.len()], start));
    let read = if folder.is_empty() { PathBuf::from(".") } else { home_path(folder) };
    let Ok(entries) = std::fs::read_dir(read) else { return Vec::new() };
    let mut found: Vec<String> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let begins = name.starts_with(start) && (start.starts_with('.') || !name.starts_with('.'));
            // Follows links: the Hugging Face cache is full of them.
            let is_dir = begins && entry.path().is_dir();
            let model = Path::new(&name).extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf"));
            let ends = if is_dir { "/" } else { "" };
            (begins && (is_dir || model)).then(|| format!("{folder}{name}{ends}"))
        })
        .collect();
    found.sort();
    found.truncate(MOST);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_and_gguf_files_complete() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["models", "more", ".hidden"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        for name in ["m.gguf", "m.txt"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let root = format!("{}/", dir.path().display());
        let of = |start: &str| complete_model(&format!("{root}{start}")).join(" ").replace(&root, "");
        assert_eq!(of("mo"), "models/ more/");
        assert_eq!(of(""), "m.gguf models/ more/");
        assert_eq!((of(".h"), of("x")), (".hidden/".into(), String::new()));
        assert!(complete_model("/no/such/folder/x").is_empty());
    }
}
