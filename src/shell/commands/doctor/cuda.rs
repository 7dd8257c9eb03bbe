//! What a CUDA build needs of a machine, where it is looked for, and what of it is there.
//!
//! Looks at names only: nothing is loaded.

use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Libraries that a build with `--features cuda` loads when it starts, and whose they are.
const LIBRARIES: [(&str, &str); 6] = [
    ("libcuda.so", "the driver"),
    ("libcudart.so", "CUDA's runtime"),
    ("libcublas.so", "cuBLAS"),
    ("libcublasLt.so", "cuBLAS"),
    ("libcurand.so", "cuRAND"),
    ("libnvrtc.so", "NVRTC"),
];
/// Where the toolkit's own variables point to a folder with libraries in it.
const TOOLKITS: [&str; 3] = ["CUDA_HOME", "CUDA_PATH", "CUDA_ROOT"];
/// Folders that distributions, the toolkit and WSL use.
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

/// Whether this build can compute on CUDA, the libraries with the place of each (null: not there), and the folders looked
/// into.
pub(super) fn facts() -> Vec<(&'static str, Value)> {
    let places = places(|name| std::env::var(name).ok());
    let libraries: serde_json::Map<String, Value> = LIBRARIES
        .iter()
        .map(|(name, of)| {
            let place = find(name, &places).map_or(Value::Null, |path| path.display().to_string().into());
            ((*name).to_owned(), json!({ "of": of, "path": place }))
        })
        .collect();
    vec![
        ("cuda_build", cfg!(feature = "cuda").into()),
        ("cuda_libraries", libraries.into()),
        ("cuda_searched", json!(places)),
    ]
}

/// `libcuda.so (the driver) is at …` or where it was not found, a line each.
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

/// The folders that the loader looks into, in its order, as far as they are known: the variable's, the toolkit's, the usual.
fn places(var: impl Fn(&str) -> Option<String>) -> Vec<PathBuf> {
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

/// The first file of that name, with or without a version behind it.
fn find(name: &str, places: &[PathBuf]) -> Option<PathBuf> {
    places.iter().find_map(|place| {
        let mut found: Vec<PathBuf> = std::fs::read_dir(place)
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
    fn libraries_are_found_with_their_version_in_the_first_place_that_has_them() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("a"), dir.path().join("cuda"));
        std::fs::create_dir_all(second.join("lib64")).unwrap();
        std::fs::create_dir_all(&first).unwrap();
        std::fs::write(second.join("lib64/libcublas.so.13"), "").unwrap();
        std::fs::write(first.join("libcublasLt.so.13.1"), "").unwrap();
        let places = places(|name| match name {
            "LD_LIBRARY_PATH" => Some(format!("{}:", first.display())),
            "CUDA_HOME" => Some(second.display().to_string()),
            _ => None,
        });
        assert_eq!(places[..2], [first.clone(), second.join("lib64")]);
        assert!(places.contains(&PathBuf::from("/usr/lib/wsl/lib")));
        assert_eq!(find("libcublas.so", &places[..3]), Some(second.join("lib64/libcublas.so.13")));
        assert_eq!(find("libcublasLt.so", &places[..3]), Some(first.join("libcublasLt.so.13.1")));
        assert_eq!(find("libcuda.so", &places[..3]), None);
    }

    #[test]
    fn what_is_not_there_is_said_to_be_not_there() {
        let lines = words(&json!({ "libcuda.so": { "of": "the driver", "path": null } }));
        assert_eq!(lines, ["libcuda.so (the driver): n/a"]);
    }
}
