//! The import graph of the files, and its cycles.
//!
//! Reads `use` lines and inline paths. A re-exported name counts for the file that defines it; `mod` and `pub use`
//! lines of a room's root file add no edges. Test modules are skipped.

use super::{code, root, sources};
use std::collections::{BTreeMap, BTreeSet};

/// The files of the crate by module path, and their re-exports.
struct Files {
    /// Module path (`nn::cpu`) to the file's code.
    modules: BTreeMap<String, String>,
    /// Module path to (name, path of what it stands for).
    exports: BTreeMap<String, Vec<(String, Vec<String>)>>,
}

/// Flattens a `use` tree into paths, each with the name it imports.
fn paths(tree: &str, prefix: &[String], out: &mut Vec<(String, Vec<String>)>) {
    let mut depth = 0;
    let mut start = 0;
    for (at, c) in tree.char_indices().chain([(tree.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let part = tree[start..at].trim();
                start = at + 1;
                if part.is_empty() {
                    continue;
                }
                let (path, alias) = match part.split_once(" as ") {
                    Some((path, alias)) if !part.contains('{') => (path.trim(), Some(alias.trim())),
                    _ => (part, None),
                };
                let (head, inner) = match path.find('{') {
                    Some(open) => (path[..open].trim_end_matches("::"), Some(&path[open + 1..path.len() - 1])),
                    None => (path, None),
                };
                let mut full = prefix.to_vec();
                full.extend(head.split("::").filter(|s| !s.is_empty()).map(|s| s.trim().to_owned()));
                if let Some(inner) = inner {
                    paths(inner, &full, out);
                } else {
                    let name = alias.map_or_else(|| full.last().cloned().unwrap_or_default(), str::to_owned);
                    out.push((name, full));
                }
            }
            _ => {}
        }
    }
}

/// The paths in the `use` statements of a file.
fn uses(text: &str) -> Vec<(String, Vec<String>)> {
    let mut out = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let line = line.trim_start();
        let Some(at) = line.find("use ").filter(|at| *at == 0 || line.starts_with("pub")) else { continue };
        let mut tree = line[at + 4..].to_owned();
        while !tree.contains(';') {
            let Some(more) = lines.next() else { break };
            tree.push_str(more.trim());
        }
        paths(tree.split(';').next().unwrap_or_default(), &[], &mut out);
    }
    out
}

/// A path in `module`, relative to the crate; none for other crates.
fn absolute(path: &[String], module: &[String], files: &Files) -> Option<Vec<String>> {
    let first = path.first()?;
    let mut base = match first.as_str() {
        "crate" => Vec::new(),
        "self" | "super" => module.to_vec(),
        child if files.modules.contains_key(&[module, &[child.to_owned()]].concat().join("::")) => {
            return Some([module, path].concat());
        }
        _ => return None,
    };
    for part in path {
        match part.as_str() {
            "crate" => {}
            "self" => {}
            "super" => {
                base.pop()?;
            }
            other => base.push(other.to_owned()),
        }
    }
    Some(base)
}

/// The module that defines the item of a path.
fn definer(path: &[String], files: &Files, depth: usize) -> Option<String> {
    if depth > 8 {
        return None;
    }
    let module_len = (0..=path.len()).rev().find(|n| files.modules.contains_key(&path[..*n].join("::")))?;
    let module = &path[..module_len];
    let key = module.join("::");
    let Some(name) = path.get(module_len) else { return Some(key) };
    let export = files.exports.get(&key)?.iter().find(|(n, _)| n == name);
    match export {
        Some((_, to)) => definer(&absolute(to, module, files)?, files, depth + 1),
        None => Some(key),
    }
}

fn read() -> Files {
    let src = root().join("src");
    let mut modules = BTreeMap::new();
    for (path, text) in sources(&src) {
        let Ok(rest) = path.strip_prefix(&src) else { continue };
        let name = rest
            .with_extension("")
            .components()
            .map(|c| c.as_os_str().to_string_lossy().into_owned())
            .collect::<Vec<_>>();
        if name[0] == "main" || name[0] == "kernels" || name.iter().any(|n| n == "tests" || n == "toy") {
            continue;
        }
        let name = if name == ["lib"] { String::new() } else { name.join("::") };
        let code: Vec<&str> = code(&text).into_iter().map(|(_, line)| line).collect();
        modules.insert(name, code.join("\n"));
    }
    let mut files = Files { modules, exports: BTreeMap::new() };
    for (module, text) in &files.modules {
        files.exports.insert(module.clone(), uses(text));
    }
    files
}

/// Edges from a module to the modules it imports from.
fn edges(files: &Files) -> BTreeMap<String, BTreeSet<String>> {
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, text) in &files.modules {
        let module: Vec<String> = name.split("::").filter(|s| !s.is_empty()).map(str::to_owned).collect();
        let to = edges.entry(name.clone()).or_default();
        let mut add = |path: &[String]| {
            let found = absolute(path, &module, files).and_then(|p| definer(&p, files, 0));
            to.extend(found.filter(|f| f != name && !f.is_empty()));
        };
        let exported =
            text.lines().filter(|l| l.starts_with("pub use ") || l.starts_with("pub(") && l.contains(") use "));
        let faces: Vec<&str> = exported.collect();
        for (_, path) in uses(text) {
            // A re-export of a child's item is no edge.
            if !faces.iter().any(|line| path.first().is_some_and(|first| line.contains(&format!("use {first}::")))) {
                add(&path);
            }
        }
        // Inline paths: words joined by `::`.
        for line in text.lines().filter(|l| !l.contains("use ")) {
            for word in line.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')) {
                if let Some((head, _)) = word.split_once("::")
                    && !head.is_empty()
                {
                    let path: Vec<String> = word.split("::").filter(|s| !s.is_empty()).map(str::to_owned).collect();
                    add(&path);
                }
            }
        }
    }
    edges
}

/// All modules reachable from `from`.
fn reach<'a>(from: &'a str, edges: &'a BTreeMap<String, BTreeSet<String>>) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    let mut open = vec![from];
    while let Some(at) = open.pop() {
        for next in edges.get(at).into_iter().flatten() {
            if seen.insert(next.as_str()) {
                open.push(next);
            }
        }
    }
    seen
}

#[test]
fn files_have_no_import_cycles() {
    let files = read();
    let edges = edges(&files);
    assert!(edges.values().map(BTreeSet::len).sum::<usize>() > 500, "the imports were not read");
    let mut circles: BTreeSet<Vec<&str>> = BTreeSet::new();
    let reached: BTreeMap<&str, BTreeSet<&str>> = edges.keys().map(|k| (k.as_str(), reach(k, &edges))).collect();
    for (name, seen) in &reached {
        if seen.contains(name) {
            circles.insert(seen.iter().copied().filter(|other| reached[other].contains(name)).collect());
        }
    }
    let cycles: Vec<String> = circles
        .iter()
        .map(|circle| {
            let inner = circle.iter().flat_map(|a| {
                edges[*a].iter().filter(|b| circle.contains(&b.as_str())).map(move |b| format!("  {a} -> {b}"))
            });
            format!("{} files:\n{}", circle.len(), inner.collect::<Vec<_>>().join("\n"))
        })
        .collect();
    assert!(cycles.is_empty(), "{} cycles\n{}", cycles.len(), cycles.join("\n"));
}
