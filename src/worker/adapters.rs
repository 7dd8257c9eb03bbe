//! Adapters made elsewhere: read and described, and the run's own copy of one that it starts from.
//!
//! Owns the copy in the run's folder, in a checkpoint's form: the run needs the other folder only once.

use super::error::Error;
use super::log::Log;
use super::out::say;
use crate::domain::{Finding, Severity, adapter_base_note};
use crate::model::{ADAPTER_FILES, LanguageModel, PeftAdapter, TRAINED_FILE};
use crate::protocol::{AdapterCard, FileDigest, ModelInput, RunEvent, TrainSpec};
use crate::storage::{self, RunDir, sha256};
use std::path::{Path, PathBuf};

/// `worker adapter DIR MODEL`: the [`AdapterCard`] of an adapter that fits a model.
pub(super) fn describe(dir: &Path, model: &Path) -> Result<(), Error> {
    let read = PeftAdapter::read(dir, &LanguageModel::open(model)?.config)?;
    let spec = read.spec;
    say(&AdapterCard {
        r: spec.r,
        alpha: spec.alpha,
        rslora: spec.rslora,
        dora: spec.dora,
        patterned: !spec.modules.is_empty(),
        targets: spec.targets,
        base: read.base,
    })
}

/// The folder of a run's own copy of the adapter that it started from; none if it started from none.
pub(super) fn held(run: &RunDir, train: &TrainSpec) -> Option<PathBuf> {
    train.adapter.as_ref().map(|_| run.path().join("inputs/adapter"))
}

/// The record of the adapter that a run starts from, and its own copy; its first worker makes it.
pub(super) fn bind(
    run: &RunDir,
    train: &TrainSpec,
    known: Option<&ModelInput>,
    log: &mut Log,
) -> Result<Option<(ModelInput, PathBuf)>, Error> {
    let (Some(source), Some(held)) = (&train.adapter, held(run, train)) else { return Ok(None) };
    let copy = held.join(TRAINED_FILE);
    if let Some(known) = known {
        let now = digest(&copy)?;
        if known.files.get(TRAINED_FILE) != Some(&now) {
            let what = format!("{} (the adapter that it started from) was changed", copy.display());
            return Err(Error::Changed { what, since: format!("run {} began", run.id()) });
        }
        return Ok(Some((known.clone(), held)));
    }
    let folder = Path::new(&source.path);
    let mut input = ModelInput { path: source.path.clone(), ..ModelInput::default() };
    let read = PeftAdapter::read(folder, &LanguageModel::open(Path::new(&train.model.path))?.config)?;
    for name in ADAPTER_FILES {
        input.files.insert(name.into(), digest(&folder.join(name))?);
    }
    std::fs::create_dir_all(&held).map_err(|e| storage::Error::io("create", &held, e))?;
    read.write(&held)?;
    input.files.insert(TRAINED_FILE.into(), digest(&copy)?);
    if let Some(text) = adapter_base_note(&source.base, &train.model.name) {
        log.put(&RunEvent::Found(Finding {
            rule: "adapter_base".into(),
            step: log.step,
            severity: Severity::Note,
            text: format!("In {}: {text}.", folder.display()),
            remedy: String::new(),
            pair: None,
        }))?;
    }
    Ok(Some((input, held)))
}

fn digest(path: &Path) -> Result<FileDigest, Error> {
    let bytes = storage::read_file(path, crate::foreign::ROWS)?;
    Ok(FileDigest { size: bytes.len() as u64, sha256: sha256(&bytes) })
}
