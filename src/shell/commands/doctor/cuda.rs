//! The libraries of a CUDA build: which exist, and where they are searched.
//!
//! Checks file names only and loads nothing.

use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Libraries that a build with `--features cuda` loads at startup, and their origin.
const LIBRARIES: [(&str, &str); 6] = [
    ("libcuda.so", "the driver"),
    ("libcudart.so", "CUDA's runtime"),
    ("libcublas.so", "cuBLAS"),
    ("libcublasLt.so", "cuBLAS"),
    ("libcurand.so", "cuRAND"),
    ("libnvrtc.so", "NVRTC"),
];
/// Environment variables for the toolkit's folder.
const TOOLKITS: [&str; 3] = ["CUDA_HOME", "CUDA_PATH", "CUDA_ROOT"];
/// The usual folders of distributions, the toolkit and WSL.
const USUAL: [&str; 8] = [
    "/usr/local/cuda/lib64",
    "/usr/local/cuda/targets/x86_64-linux/lib",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/usr/lib/wsl/lib",
    "/run/opengl-driver/lib",
];

/// Whether this build supports CUDA, the path of each library (null if missing), and the searched folders.
pub(super) fn facts() -> Vec<(&'static str, Value)> {
    let folders = folders(|name| std::env::var(name).ok());
    let libraries: serde_json::Map<String, Value> = LIBRARIES
        .iter()
        .map(|(name, of)| {
            let folder = find(name, &folders).map_or(Value::Null, |path| path.display().to_string().into());
            ((*name).to_owned(), json!({ "of": of, "path": folder }))
        })
        .collect();
    vec![
        ("cuda_build", cfg!(feature = "cuda").into()),
        ("cuda_libraries", libraries.into()),
        ("cuda_searched", json!(folders)),
    ]
}

/// `libcuda.so (the driver): PATH`, one line per library.
pub(super) fn words(facts: &Value) -> Vec<String> {
    let entries = facts.as_object().into_iter().flatten();
    entries
        .map(|(name, entry)| {
            let of = entry["of"].as_str().unwrap_or_default();
            match entry["path"].as_str() {
                Some(path) => format!("{name} ({of}): {path}"),
                None => format!("{name} ({of}): n/a"),
            }
        })
        .collect()
}

/// The loader's search path as far as it is known: `LD_LIBRARY_PATH`, the toolkit's folders, the usual ones.
fn folders(var: impl Fn(&str) -> Option<String>) -> Vec<PathBuf> {
    let mut out: Vec<PathBuf> = Vec::new();
    let mut add = |path: PathBuf| {
        if !path.as_os_str().is_empty() && !out.contains(&path) {
            out.push(path);
        }
    };
    std::env::split_paths(&var("LD_LIBRARY_PATH").unwrap_or_default()).for_each(&mut add);
    for root in TOOLKITS.iter().filter_map(|name| var(name)).filter(|root| !root.is_empty()) {
        add(Path::new(&root).join("lib64"));
        add(Path::new(&root).join("lib"));
    }
    USUAL.iter().map(PathBuf::from).for_each(add);
    out
}

/// The first file of that name, with or without a version suffix.
fn find(name: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    folders.iter().find_map(|folder| {
        let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
            .ok()?
            .flatten()
            .filter(|entry| {
                let file = entry.file_name();
                let rest = file.to_str().and_then(|file| file.strip_prefix(name));
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            })
            .map(|entry| entry.path())
            .collect();
        found.sort();
        found.into_iter().next()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_found_with_a_version_suffix_in_the_first_folder_that_has_them() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("a"), dir.path().join("cuda"));
        std::fs::create_dir_all(second.join("lib64")).unwrap();
        std::fs::create_dir_all(&first).unwrap();
        std::fs::write(second.join("lib64/libcublas.so.13"), "").unwrap();
        std::fs::write(first.join("libcublasLt.so.13.1"), "").unwrap();
        let folders = folders(|name| match name {
            "LD_LIBRARY_PATH" => Some(format!("{}:", first.display())),
            "CUDA_HOME" => Some(second.display().to_string()),
            _ => None,
        });
        assert_eq!(folders[..2], [first.clone(), second.join("lib64")]);
        assert!(folders.contains(&PathBuf::from("/usr/lib/wsl/lib")));
        assert_eq!(find("libcublas.so", &folders[..3]), Some(second.join("lib64/libcublas.so.13")));
        assert_eq!(find("libcublasLt.so", &folders[..3]), Some(first.join("libcublasLt.so.13.1")));
        assert_eq!(find("libcuda.so", &folders[..3]), None);
    }

    #[test]
    fn a_missing_library_is_listed_as_missing() {
        let lines = words(&json!({ "libcuda.so": { "of": "the driver", "path": null } }));
        assert_eq!(lines, ["libcuda.so (the driver): n/a"]);
    }
}
