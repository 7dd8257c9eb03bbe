//! Checks the source text: the rooms' import table, import cycles among files, and the form of files.

mod circles;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Room, the rooms it may import, the crates it must not name.
const ROOMS: &[(&str, &[&str], &[&str])] = &[
    (
        "domain",
        &[],
        &[
            "tokio",
            "candle_core",
            "candle_nn",
            "ratatui",
            "crossterm",
            "rustix",
            "std::fs",
            "std::time",
            "std::process",
            "std::net",
        ],
    ),
    (
        "demo",
        &["domain"],
        &["tokio", "candle_core", "ratatui", "crossterm", "std::fs", "std::time", "std::process", "std::net"],
    ),
    (
        "protocol",
        &["domain"],
        &[
            "tokio",
            "candle_core",
            "candle_nn",
            "ratatui",
            "crossterm",
            "rustix",
            "std::fs",
            "std::time",
            "std::process",
            "std::net",
        ],
    ),
    (
        "foreign",
        &[],
        &["tokio", "candle_core", "candle_nn", "ratatui", "crossterm", "std::time", "std::process", "std::net"],
    ),
    ("storage", &["domain", "protocol", "foreign"], &["tokio", "candle_core", "candle_nn", "ratatui", "crossterm"]),
    (
        "kernels",
        &[],
        &["tokio", "candle_core", "ratatui", "crossterm", "std::fs", "std::time", "std::process", "std::net"],
    ),
    ("model", &["foreign", "domain", "protocol", "kernels"], &["tokio", "ratatui", "crossterm"]),
    ("nn", &["model", "kernels", "domain"], &["tokio", "ratatui", "crossterm"]),
    ("generate", &["nn", "model", "kernels", "protocol", "domain"], &["tokio", "ratatui", "crossterm"]),
    (
        "train",
        &["foreign", "generate", "nn", "model", "kernels", "protocol", "demo", "domain"],
        &["tokio", "ratatui", "crossterm"],
    ),
    (
        "evaluate",
        &["foreign", "train", "generate", "nn", "model", "kernels", "protocol", "domain"],
        &["tokio", "ratatui", "crossterm"],
    ),
    (
        "worker",
        &["foreign", "domain", "protocol", "storage", "model", "nn", "generate", "train", "evaluate"],
        &["ratatui", "crossterm", "candle_core", "candle_nn"],
    ),
    (
        "app",
        &["domain", "protocol"],
        &[
            "tokio",
            "candle_core",
            "candle_nn",
            "ratatui",
            "crossterm",
            "std::fs",
            "std::time",
            "std::process",
            "std::net",
        ],
    ),
    (
        "ui",
        &["domain", "app"],
        &["tokio", "candle_core", "candle_nn", "crossterm", "std::fs", "std::time", "std::process", "std::net"],
    ),
    (
        "shell",
        &["foreign", "app", "ui", "storage", "protocol", "demo", "domain"],
        &["candle_core", "candle_nn", "safetensors"],
    ),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file under `dir` with its text.
fn sources(dir: &Path) -> Vec<(PathBuf, String)> {
    let mut out = Vec::new();
    let Ok(entries) = fs::read_dir(dir) else { return out };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            out.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push((path.clone(), fs::read_to_string(&path).expect("a source file is readable")));
        }
    }
    out.sort();
    out
}

fn room_of(path: &Path) -> Option<String> {
    let rest = path.strip_prefix(root().join("src")).ok()?;
    let first = rest.components().next()?.as_os_str().to_str()?;
    Some(first.trim_end_matches(".rs").to_owned())
}

/// The numbered lines of code of a file, without comments and inline test modules.
fn code(text: &str) -> Vec<(usize, &str)> {
    let mut out = Vec::new();
    let mut lines = text.lines().enumerate().peekable();
    while let Some((at, line)) = lines.next() {
        let next = lines.peek().map_or("", |(_, l)| l.trim_start());
        if line.trim() == "#[cfg(test)]" && next.starts_with("mod ") && next.ends_with('{') {
            // rustfmt closes a module at the indentation of its first line.
            let end = format!("{}}}", &line[..line.len() - line.trim_start().len()]);
            for (_, inner) in lines.by_ref() {
                if inner == end {
                    break;
                }
            }
        } else if !line.trim_start().starts_with("//") {
            out.push((at, line));
        }
    }
    out
}

#[test]
fn rooms_import_only_what_the_table_allows() {
    let mut wrong = Vec::new();
    for (path, text) in sources(&root().join("src")) {
        let Some(room) = room_of(&path) else { continue };
        let Some((_, may, banned)) = ROOMS.iter().find(|(name, ..)| *name == room) else {
            assert!(room == "lib" || room == "main", "{} is in no room of the table", path.display());
            continue;
        };
        if path.ends_with("tests.rs") {
            continue;
        }
        for (number, line) in code(&text) {
            for (other, ..) in ROOMS {
                let named = line.contains(&format!("crate::{other}::")) || line.contains(&format!("crate::{other};"));
                if named && *other != room && !may.contains(other) {
                    wrong.push(format!("{}:{}: {room} may not import {other}", path.display(), number + 1));
                }
            }
            for krate in *banned {
                if line.contains(&format!("{krate}::")) || line.contains(&format!("use {krate};")) {
                    wrong.push(format!("{}:{}: {room} must not know {krate}", path.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn files_begin_with_their_purpose_and_stay_readable() {
    let mut wrong = Vec::new();
    for (path, text) in sources(&root().join("src")).into_iter().chain(sources(&root().join("tests"))) {
        let name = path.display();
        if !text.starts_with("//!") {
            wrong.push(format!("{name}: does not begin with //!"));
        }
        if path.file_name().is_some_and(|f| f == "mod.rs") {
            wrong.push(format!("{name}: rooms have a face beside their folder, not a mod.rs"));
        }
        let lines = text.lines().count();
        if path.starts_with(root().join("src")) && lines > 700 {
            wrong.push(format!("{name}: {lines} lines; it wants to be two files"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn a_type_that_other_files_use_has_a_name_of_its_own() {
    // Each room has an error of its own.
    let per_room = ["Error", "Result"];
    let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
    // The kernels are a package of their own, but read together with what calls them.
    for (path, text) in sources(&root().join("src")) {
        for (number, line) in code(&text) {
            let Some(rest) = line.trim_start().strip_prefix("pub") else { continue };
            let rest =
                rest.split_once(") ").filter(|_| rest.starts_with('(')).map_or(rest, |(_, rest)| rest).trim_start();
            let word = ["struct ", "enum ", "trait ", "type "].iter().find_map(|kind| rest.strip_prefix(kind));
            let Some(word) = word else { continue };
            let name: String = word.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            names.entry(name).or_default().push(format!("{}:{}", path.display(), number + 1));
        }
    }
    assert!(names.len() > 500, "the declarations are found: {}", names.len());
    let twice: Vec<String> = names
        .into_iter()
        .filter(|(name, places)| places.len() > 1 && !per_room.contains(&name.as_str()))
        .map(|(name, places)| format!("{name}: {}", places.join(", ")))
        .collect();
    assert!(twice.is_empty(), "\n{}", twice.join("\n"));
}

#[test]
fn gradient_paths_use_no_fused_operation_without_a_backward_pass() {
    // These have no backward pass in candle 0.11 and raise no error. They are fine outside training.
    let fused = [
        "softmax_last_dim",
        "ops::rms_norm(",
        "rotary_emb::rope(",
        "rotary_emb::rope_i(",
        "ops::layer_norm(",
        "ops::sdpa",
        "QMatMul",
    ];
    let inference_only = ["inference"];
    let mut wrong = Vec::new();
    let rooms = ["model", "nn", "generate", "train", "evaluate"];
    for (path, text) in rooms.iter().flat_map(|room| sources(&root().join("src").join(room))) {
        let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default().to_owned();
        if inference_only.iter().any(|word| stem.contains(word)) {
            continue;
        }
        for (number, line) in code(&text) {
            for op in fused {
                if line.contains(op) {
                    wrong.push(format!("{}:{}: `{op}` cuts the gradient", path.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn files_of_strangers_are_opened_in_one_way() {
    let openers = ["fs::read(", "fs::read_to_string(", "File::open(", "read_to_string(path"];
    let rooms = ["storage", "model", "nn", "train", "evaluate", "worker", "shell"];
    // A pipe that a person names for an import; the build script, which no stranger reaches.
    let others = ["storage/container.rs", "shell/bundle/build.rs"];
    let mut wrong = Vec::new();
    for (path, text) in rooms.iter().flat_map(|room| sources(&root().join("src").join(room))) {
        if others.iter().any(|other| path.ends_with(other)) || path.to_string_lossy().contains("/tests") {
            continue;
        }
        for (number, line) in code(&text) {
            // To fsync a file or a folder, and to ask the kernel.
            let own = line.contains("sync") || line.contains("/proc/self");
            if !own && openers.iter().any(|opener| line.contains(opener)) {
                wrong.push(format!("{}:{}: use `foreign` or `storage::read_file`", path.display(), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
