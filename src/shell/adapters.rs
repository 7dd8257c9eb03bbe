//! `--init DIR`: an adapter made elsewhere as the start of a run.
//!
//! Owns telling a folder from a run's name, and the options that the adapter decides. Refuses to read weights: a worker does.

use super::error::{Error, Result};
use super::supervisor::{Deadline, ask_within};
use crate::domain::RunId;
use crate::domain::{Method, Params};
use crate::protocol::{AdapterCard, AdapterRef, ModelRef};
use crate::storage::SessionDir;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The longest time to read an adapter.
const READ_TIME: Duration = Duration::from_mins(1);

/// What `--init` names: a run of the session, or a folder.
///
/// # Errors
/// When the folder does not exist.
pub fn start(dir: &SessionDir, text: &str) -> Result<(Option<RunId>, Option<PathBuf>)> {
    let (id, path) = (RunId::new(text), Path::new(text));
    let is_run = !text.contains('/') && dir.run(&id.parts().0).is_ok();
    if is_run || !(text.contains('/') || path.is_dir()) {
        return Ok((Some(id), None));
    }
    let path = std::path::absolute(path).map_err(|e| Error::io("find", path, e))?;
    if !path.is_dir() {
        return Err(Error::failed(format!(
            "{text} is no folder: name a folder with adapter_config.json, or a run of the session"
        )));
    }
    Ok((None, Some(path)))
}

/// The adapter in a folder for a model, and the options of a run that starts from it.
///
/// # Errors
/// When it is of another kind or does not fit the model, or an option was set to another value than the adapter's.
pub fn settle(folder: &Path, model: &ModelRef, method: &Method, params: &Params) -> Result<(AdapterRef, Params)> {
    let mut found: Option<AdapterCard> = None;
    let question = [OsStr::new("adapter"), folder.as_os_str(), OsStr::new(&model.path)];
    ask_within(Some(&Deadline::of(READ_TIME)), &question, |card| {
        found = Some(card);
        Ok(())
    })?;
    let card =
        found.ok_or_else(|| Error::failed(format!("the worker said nothing about {}: try again", folder.display())))?;
    let rows = method.rows();
    let usual = Params::defaults(&rows);
    let mut settled = params.clone();
    let own = [
        ("tune", "lora".to_owned()),
        ("lora_r", card.r.to_string()),
        ("lora_alpha", card.alpha.to_string()),
        ("use_rslora", card.rslora.to_string()),
        ("use_dora", card.dora.to_string()),
        ("lora_target_modules", card.targets.join(",")),
    ];
    for (key, value) in own {
        let before = params.text(key).to_owned();
        settled.set(&rows, method.name, key, &value).map_err(|e| {
            Error::failed(format!("the adapter in {} has {key}={value}, which no run can have: {e}", folder.display()))
        })?;
        if before != usual.text(key) && before != settled.text(key) {
            return Err(Error::Usage(format!(
                "the adapter in {} has {key}={value}, and {key}={before} was set: leave --set {key} out",
                folder.display()
            )));
        }
    }
    Ok((AdapterRef { path: folder.display().to_string(), base: card.base }, settled))
}
