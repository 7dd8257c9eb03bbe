//! `config`: where the settings are, and the effective keys.

use super::super::config::UserSettings;
use super::super::error::{Error, Result};
use super::super::out;
use super::context::CommandContext;
use crate::app::action_tables;
use crate::app::bindings::action_name;

/// Prints the path of the settings and the keys of every action.
pub fn config(context: &CommandContext) -> Result<()> {
    let config = UserSettings::read(context.home.config_file());
    let (path, keys) = (config.path.display().to_string(), &config.keys);
    if context.json {
        out::json(&serde_json::json!({
            "path": path, "exists": config.exists, "preset": keys.preset(), "guard_ms": config.guard_ms,
            "background": config.background.name(), "suites": config.suites, "problem": config.problem,
        }))?;
    } else {
        let exists = if config.exists { "" } else { "  (does not exist: every key is at its default)" };
        out::line(&format!("{path}{exists}"))?;
        if !keys.preset().is_empty() {
            out::line(&format!("preset {}", keys.preset()))?;
        }
        if let Some(folder) = &config.suites {
            out::line(&format!("suites {}", folder.display()))?;
        }
        let guard = match config.guard_ms {
            0 => "guard_ms 0: every verdict counts, however soon after its pair appeared".to_owned(),
            ms => format!("guard_ms {ms}: a verdict sooner than {ms} ms after its pair appeared is ignored"),
        };
        out::line(&guard)?;
        let name = config.background.name();
        out::line(&format!(
            "background {name}: colours for a light or a dark terminal; auto asks COLORFGBG, else dark"
        ))?;
    }
    for table in action_tables() {
        for (shown, row) in keys.table(table.title, &table).actions() {
            let (action, changed) = (action_name(row.name), keys.is_changed(table.title, row.name));
            if context.json {
                out::json(&serde_json::json!({
                    "screen": table.title, "action": action, "keys": shown.split(' ').collect::<Vec<_>>(),
                    "changed": changed, "help": row.help,
                }))?;
            } else {
                let mark = if changed { "*" } else { " " };
                out::line(&format!("{:<10} {action:<22} {mark} {shown:<12} {}", table.title, row.help))?;
            }
        }
    }
    match config.problem {
        None => Ok(()),
        Some(problem) => Err(Error::failed(format!("{problem} (until then every key is at its default)"))),
    }
}
