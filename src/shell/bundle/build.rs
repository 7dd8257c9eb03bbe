//! The build script: lists the committed sessions in `sessions/` and the model in `assets/tiny/` so that the binary carries
//! them.
//!
//! Written out are two tables of relative path and bytes. Left out are locks and derived files, and checkpoints: the demo needs
//! no weights. Refuses nothing: without sessions or without a whole model its table is empty.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

const LEFT_OUT: &[&str] = &["lock", "summary.json", "ckpt", "ctl", "quarantine", "worker.log", "cache", "reserve"];
/// What a model's folder needs to be one.
const WHOLE: &[&str] = &["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"];

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
    let mut stdout = io::stdout();
    writeln!(stdout, "cargo::rerun-if-changed=sessions")?;
    writeln!(stdout, "cargo::rerun-if-changed=assets")?;
    writeln!(stdout, "cargo::rerun-if-changed=src/shell/bundle/build.rs")
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
