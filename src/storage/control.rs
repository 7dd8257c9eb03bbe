//! The control folder: commands to a running worker, one file each, created by a rename and read in order.

use super::error::{Error, Result};
use super::files::{create_dir, names, read_file, temp_in, ticket, wall_ms, write_new};
use crate::protocol::RunCommand;
use std::path::Path;

/// Most bytes of a command.
const MOST: u64 = 1 << 16;

/// Posts a command to the folder atomically.
pub(super) fn post(dir: &Path, command: RunCommand) -> Result<()> {
    create_dir(dir)?;
    let temp = temp_in(dir, command.word())?;
    let text = serde_json::to_vec(&command).map_err(|e| Error::io("write", dir, e.into()))?;
    write_new(&temp, &text)?;
    // Names sort by time, then by the sender's counter. The random suffix keeps the commands of two processes apart.
    let suffix = temp.file_name().and_then(|name| name.to_str()?.rsplit('-').next()).unwrap_or_default();
    let name = format!("{:015}-{:06}-{suffix}-{}.json", wall_ms(), ticket(), command.word());
    std::fs::rename(&temp, dir.join(name)).map_err(|e| Error::io("write", dir, e))
}

/// Takes every waiting command, oldest first. A file that is not a command is renamed to `.refused` and not read again.
pub(super) fn take(dir: &Path) -> Result<Vec<RunCommand>> {
    let mut out = Vec::new();
    for name in names(dir)? {
        let is_json = Path::new(&name).extension().is_some_and(|e| e == "json");
        if name.starts_with('.') || !is_json {
            continue;
        }
        let path = dir.join(&name);
        let Ok(bytes) = read_file(&path, MOST) else { continue };
        if let Ok(command) = serde_json::from_slice(&bytes) {
            std::fs::remove_file(&path).map_err(|e| Error::io("take", &path, e))?;
            out.push(command);
        } else {
            let aside = path.with_extension("refused");
            std::fs::rename(&path, &aside).map_err(|e| Error::io("set aside", &path, e))?;
        }
    }
    Ok(out)
}

/// Removes the commands posted before `before_ms`.
pub(super) fn discard(dir: &Path, before_ms: u64) -> Result<()> {
    for name in names(dir)? {
        let posted: Option<u64> = name.split('-').next().and_then(|ms| ms.parse().ok());
        if posted.is_some_and(|ms| ms < before_ms) {
            let path = dir.join(&name);
            std::fs::remove_file(&path).map_err(|e| Error::io("remove", &path, e))?;
        }
    }
    Ok(())
}
