//! The models on this machine, found by a short-lived worker.

use super::error::{Error, Result};
use super::supervisor::{Deadline, ask_within};
use super::{embedded, fetch, hub};
use crate::domain::{JsonFields, nearest};
use crate::protocol::{MaskedRow, ModelCard, ModelDescription, ModelRef};
use crate::storage::Home;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The longest time for a question about models: weights are not read.
const ASK_TIME: Duration = Duration::from_mins(1);
/// The format of the embedded model, in lists.
const EMBEDDED: &str = "embedded";

/// The folder of downloaded models and the embedded one.
#[must_use]
pub fn folder(home: &Home) -> PathBuf {
    home.root().join("models")
}

/// Every model: the embedded one, those in the data folder and those in the Hugging Face cache.
///
/// # Errors
/// When the worker fails.
pub fn list(home: &Home) -> Result<Vec<ModelCard>> {
    let root = folder(home);
    let mut cards = Vec::new();
    let unpacked = embedded::unpack(&root);
    ask_within(Some(&Deadline::of(ASK_TIME)), &[OsStr::new("models"), root.as_os_str()], |card: ModelCard| {
        cards.push(card);
        Ok(())
    })?;
    match unpacked {
        Ok(None) => {}
        Ok(Some(path)) => {
            // The folder of older versions: hide the same model, list another one by its path.
            let old = root.join(embedded::NAME);
            if embedded::is_copy(&old) {
                cards.retain(|card| Path::new(&card.path) != old);
            }
            for card in cards.iter_mut().filter(|card| Path::new(&card.path) == old) {
                card.name.clone_from(&card.path);
            }
            if let Some(card) = cards.iter_mut().find(|card| Path::new(&card.path) == path) {
                EMBEDDED.clone_into(&mut card.format);
                embedded::NAME.clone_into(&mut card.name);
            }
        }
        // The other models are usable.
        Err(e) => cards.push(ModelCard {
            name: embedded::NAME.into(),
            path: root.join(embedded::NAME).display().to_string(),
            format: EMBEDDED.into(),
            family: String::new(),
            parameters: 0,
            bytes: 0,
            context: 0,
            chat: false,
            problem: Some(e.to_string()),
        }),
    }
    Ok(cards)
}

/// The embedded model, unpacked if it is missing; none in a build without one.
///
/// # Errors
/// When its files cannot be written.
pub fn embedded(home: &Home) -> Result<Option<ModelRef>> {
    let path = embedded::unpack(&folder(home))?;
    Ok(path.map(|path| ModelRef { name: embedded::NAME.into(), path: path.display().to_string() }))
}

/// The model of that name: an existing folder or file, else a name of [`list`].
///
/// # Errors
/// When there is none (a similar name is suggested) or it is unusable (with the reason).
pub fn find(home: &Home, name: &str) -> Result<ModelRef> {
    let path = Path::new(name);
    if path.exists() {
        let path = std::path::absolute(path).map_err(|e| Error::io("find", path, e))?;
        return Ok(ModelRef { name: name.into(), path: path.display().to_string() });
    }
    if name.eq_ignore_ascii_case(embedded::NAME)
        && let Some(model) = embedded(home)?
    {
        return Ok(model);
    }
    // No model name begins like this: it is a path.
    if name.starts_with(['/', '.', '~']) {
        return Err(Error::failed(format!(
            "{name} does not exist: name a model's folder, a .gguf file, or a model that `tiebreak models` lists"
        )));
    }
    let cards = list(home)?;
    // A downloaded model has another name for its folder or file.
    if name.eq_ignore_ascii_case(fetch::SMOLLM2)
        && let Some(path) = fetch::downloaded(&folder(home)).map(|path| path.display().to_string())
        && let Some(card) = cards.iter().find(|card| card.path == path && card.problem.is_none())
    {
        return Ok(ModelRef { name: card.name.clone(), path });
    }
    let same = |card: &&ModelCard| card.name == name || card.path == name;
    let like = |card: &&ModelCard| card.name.eq_ignore_ascii_case(name);
    if let Some(card) = cards.iter().find(same).or_else(|| cards.iter().find(like)) {
        return match &card.problem {
            None => Ok(ModelRef { name: card.name.clone(), path: card.path.clone() }),
            Some(problem) => Err(Error::failed(format!("model {name} cannot be used: {problem}"))),
        };
    }
    let usable = cards.iter().filter(|c| c.problem.is_none()).map(|c| c.name.as_str());
    Err(Error::failed(match nearest(name, usable) {
        near if hub::looks_like(name) => {
            let near = near.map_or_else(String::new, |near| format!("did you mean `{near}`? Or "));
            format!("there is no model `{name}` on this machine: {near}get it with `tiebreak models get {name}`")
        }
        Some(near) => format!("there is no model `{name}` on this machine; did you mean `{near}`?"),
        None => format!("there is no model `{name}` on this machine: get one with `tiebreak models get smollm2`"),
    }))
}

/// Asks a worker how a model reads.
///
/// # Errors
/// When it cannot be loaded, with the reason.
pub fn describe(model: &ModelRef, variables: &JsonFields) -> Result<ModelDescription> {
    let mut found = None;
    let variables = json_text(variables);
    let question = [OsStr::new("describe"), OsStr::new(&model.path), OsStr::new(&variables)];
    ask_within(Some(&Deadline::of(ASK_TIME)), &question, |description| {
        found = Some(description);
        Ok(())
    })?;
    found.ok_or_else(|| Error::failed(format!("the worker said nothing about {}: try again", model.name)))
}

/// Asks a worker for the first `most` rows of a file as a model reads them; an empty format is found out.
///
/// # Errors
/// When the model cannot be loaded or the file cannot be read, with the reason.
pub fn render(
    model: &ModelRef,
    file: &Path,
    format: &str,
    most: u64,
    variables: &JsonFields,
) -> Result<Vec<MaskedRow>> {
    let mut rows = Vec::new();
    let (most, variables) = (most.to_string(), json_text(variables));
    let words = [OsStr::new(format), OsStr::new(&most), OsStr::new(&variables)];
    let question = ["render".as_ref(), OsStr::new(&model.path), file.as_os_str()].into_iter().chain(words);
    let question: Vec<&OsStr> = question.collect();
    ask_within(Some(&Deadline::of(ASK_TIME)), &question, |row| {
        rows.push(row);
        Ok(())
    })?;
    Ok(rows)
}

/// Template variables as a worker takes them.
fn json_text(variables: &JsonFields) -> String {
    serde_json::Value::Object(variables.clone()).to_string()
}

/// Asks a worker whether a model can be loaded. The worker reads configuration, tokenizer and template, and checks the
/// tensors' names and shapes without reading their data.
///
/// # Errors
/// When it cannot be loaded, with the reason.
pub fn check(model: &ModelRef) -> Result<()> {
    let question = [OsStr::new("model"), OsStr::new(&model.path)];
    ask_within(Some(&Deadline::of(ASK_TIME)), &question, |_: ModelCard| Ok(()))
}
