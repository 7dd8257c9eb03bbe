//! The control folder: orders to a running worker, one file each, put there by a rename and taken in order.

use super::error::{Error, Result};
use super::files::{create_dir, names, temp_in, ticket, wall_ms, write_new};
use crate::protocol::RunCommand;
use std::path::Path;

/// Puts an order into the folder, where it appears whole.
pub(super) fn post(dir: &Path, command: RunCommand) -> Result<()> {
    create_dir(dir)?;
    let temp = temp_in(dir, command.word())?;
    let text = serde_json::to_vec(&command).map_err(|e| Error::io("write", dir, e.into()))?;
    write_new(&temp, &text)?;
    // The name orders by time, then by the poster's own count.
    // The temporary name's random end keeps the orders of two processes apart.
    let own = temp.file_name().and_then(|name| name.to_str()?.rsplit('-').next()).unwrap_or_default();
    let name = format!("{:015}-{:06}-{own}-{}.json", wall_ms(), ticket(), command.word());
    std::fs::rename(&temp, dir.join(name)).map_err(|e| Error::io("write", dir, e))
}

/// Takes every waiting order, oldest first. A file that is no order is set aside under another ending and not asked again.
pub(super) fn take(dir: &Path) -> Result<Vec<RunCommand>> {
    let mut out = Vec::new();
    for name in names(dir)? {
        let is_order = Path::new(&name).extension().is_some_and(|e| e == "json");
        if name.starts_with('.') || !is_order {
            continue;
        }
        let path = dir.join(&name);
        let Ok(bytes) = std::fs::read(&path) else { continue };
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

/// Removes the orders given before a moment.
pub(super) fn discard(dir: &Path, before_ms: u64) -> Result<()> {
    for name in names(dir)? {
        let given: Option<u64> = name.split('-').next().and_then(|ms| ms.parse().ok());
        if given.is_some_and(|ms| ms < before_ms) {
            let path = dir.join(&name);
            std::fs::remove_file(&path).map_err(|e| Error::io("remove", &path, e))?;
        }
    }
    Ok(())
}
