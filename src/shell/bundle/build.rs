//! The build script: embeds the sessions of `sessions/` and the model of `assets/tiny/`, declares the modules of the
//! folders in [`TABLES`], and compiles the CUDA kernels for the feature `cuda`.
//!
//! Writes two tables of relative path and bytes, and one table of modules per folder. Skips locks, derived files and
//! checkpoints: the demo needs no weights. A missing or incomplete input gives an empty table. Refuses `cuda` without
//! nvcc.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

const LEFT_OUT: &[&str] = &["lock", "summary.json", "ckpt", "ctl", "quarantine", "worker.log", "cache", "reserve"];
/// The files of a complete model.
const WHOLE: &[&str] = &["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"];

/// Folders in which every file is a row of a table: the folder below `src`, the row's name in each file, the table's
/// name and the rows' type. A new file adds a row.
const TABLES: &[(&str, &str, &str, &str)] = &[
    ("storage/formats", "FORMAT", "FORMATS", "Format"),
    ("model/family", "FAMILY", "FAMILIES", "Family"),
    ("evaluate/suite", "SUITE", "SUITES", "Suite"),
    ("evaluate/judge", "JUDGE", "JUDGES", "JudgeKind"),
];

fn main() -> io::Result<()> {
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
    let sessions = root.join("sessions");
    let mut table = String::from("&[\n");
    if sessions.is_dir() {
        for session in sorted(&sessions)? {
            if session.join("session.json").is_file() {
                add(&sessions, &session, &mut table)?;
            }
        }
    }
    table.push_str("]\n");
    std::fs::write(out.join("bundle.rs"), table)?;
    let tiny = root.join("assets/tiny");
    let mut table = String::from("&[\n");
    if WHOLE.iter().all(|name| tiny.join(name).is_file()) {
        add(&tiny, &tiny, &mut table)?;
    }
    table.push_str("]\n");
    std::fs::write(out.join("embedded.rs"), table)?;
    for (folder, row, table, kind) in TABLES {
        let (text, name) = modules(&root.join("src").join(folder), row, table, kind)?;
        std::fs::write(out.join(name), text)?;
        writeln!(io::stdout(), "cargo::rerun-if-changed=src/{folder}")?;
    }
    if std::env::var_os("CARGO_FEATURE_CUDA").is_some() {
        kernels(&root.join("src/nn/cuda/kernels"), &out)?;
    }
    let mut stdout = io::stdout();
    writeln!(stdout, "cargo::rerun-if-changed=sessions")?;
    writeln!(stdout, "cargo::rerun-if-changed=assets")?;
    writeln!(stdout, "cargo::rerun-if-changed=src/shell/bundle/build.rs")
}

/// Compiles `SOURCES/*.cu` to PTX in `out`, for the oldest GPUs with bf16; the driver compiles it for newer ones.
fn kernels(sources: &Path, out: &Path) -> io::Result<()> {
    let home = ["CUDA_HOME", "CUDA_PATH", "CUDA_ROOT"].iter().find_map(std::env::var_os);
    let nvcc = home.map_or_else(|| PathBuf::from("nvcc"), |home| PathBuf::from(home).join("bin/nvcc"));
    for source in sorted(sources)? {
        writeln!(io::stdout(), "cargo::rerun-if-changed={}", source.display())?;
        if source.extension().is_none_or(|e| e != "cu") {
            continue;
        }
        let ptx = out.join(source.file_stem().unwrap_or_default()).with_extension("ptx");
        let mut command = Command::new(&nvcc);
        command.args(["-ptx", "-O3", "-std=c++17", "-arch=compute_80", "-o"]).arg(&ptx).arg(&source);
        let done = command.output().map_err(|e| {
            io::Error::other(format!("cannot run {} ({e}): install CUDA or set CUDA_HOME", nvcc.display()))
        })?;
        if !done.status.success() {
            let errors = String::from_utf8_lossy(&done.stderr);
            return Err(io::Error::other(format!("{} does not compile: {errors}", source.display())));
        }
    }
    Ok(())
}

/// Declares every file of a folder as a module and lists their rows as `TABLE: &[&KIND]`, sorted by file name. Returns
/// the text and its file name.
fn modules(folder: &Path, row: &str, table: &str, kind: &str) -> io::Result<(String, String)> {
    let (mut declared, mut listed) = (String::new(), String::new());
    for path in sorted(folder)? {
        if path.extension().is_none_or(|e| e != "rs") {
            continue;
        }
        let module = path.file_stem().unwrap_or_default().to_string_lossy();
        let place = path.display().to_string();
        writeln!(declared, "#[path = {place:?}]\nmod {module};").map_err(io::Error::other)?;
        writeln!(listed, "    &{module}::{row},").map_err(io::Error::other)?;
    }
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    Ok((format!("{declared}pub(crate) static {table}: &[&{kind}] = &[\n{listed}];\n"), format!("{name}.rs")))
}

fn add(base: &Path, dir: &Path, table: &mut String) -> io::Result<()> {
    for path in sorted(dir)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if LEFT_OUT.contains(&name.as_str()) || name.starts_with('.') {
            continue;
        }
        if path.is_dir() {
            add(base, &path, table)?;
        } else {
            let relative = path.strip_prefix(base).unwrap_or(&path);
            writeln!(
                table,
                "    ({:?}, include_bytes!({:?}) as &[u8]),",
                relative.display().to_string(),
                path.display().to_string()
            )
            .map_err(io::Error::other)?;
        }
    }
    Ok(())
}

fn sorted(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = std::fs::read_dir(dir)?.map(|e| e.map(|e| e.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}
