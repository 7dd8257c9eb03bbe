//! A run's inputs: recorded by its first worker, checked by every later one and by every user of its result.
//!
//! Owns the check: inputs recorded in `inputs.json` or at launch are compared by hash; unrecorded ones are accepted as they are,
//! with a warning. Refuses to continue when an input differs: the message names the file and the remedy.

use super::adapters;
use super::error::Error;
use super::log::Log;
use super::prepared::PastAttempts;
use super::servers::check_servers;
use crate::domain::{Finding, RunId, Severity};
use crate::model::{Fingerprints, LanguageModel, Sink, identity};
use crate::protocol::{
    CheckpointInput, CheckpointRole, Inputs, ModelInput, ModelRef, Rendering, RunEvent, RunSpec, Task,
};
use crate::storage::{CheckpointDir, CheckpointSearch, RunDir, digest_of, utc_time};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Maximum differences named in a message; the rest are counted.
const MAX_NAMED: usize = 3;

/// A run's specification and inputs after the check.
pub(super) struct CheckedInputs {
    /// The specification with all inputs.
    pub(super) spec: RunSpec,
    /// The folders of the checkpoints it needs.
    pub(super) checkpoints: BTreeMap<String, PathBuf>,
    /// The reward run's model and how its template renders.
    pub(super) scorer: Option<(PathBuf, Rendering)>,
    /// The models as they were read, by their paths here.
    models: Vec<(PathBuf, ModelInput)>,
}

impl CheckedInputs {
    /// The fingerprint of the model at that path, as one hash.
    pub(super) fn model_identity(&self, path: &Path) -> Option<String> {
        self.models.iter().find(|(read, _)| read == path).map(|(_, model)| identity(model))
    }

    /// The checkpoint in that role.
    pub(super) fn checkpoint(&self, role: CheckpointRole) -> Option<&Path> {
        self.checkpoints.get(role.word()).map(PathBuf::as_path)
    }

    /// The checkpoint of that run in that role.
    pub(super) fn checkpoint_of(&self, role: CheckpointRole, run: &RunId) -> Option<&Path> {
        self.checkpoints.get(&role.slot(run)).map(PathBuf::as_path)
    }
}

/// A model that a run reads: its path in the specification, its path here, and the parent run trained on it.
struct ModelUse {
    name: String,
    path: PathBuf,
    parent: Option<RunDir>,
}

/// Checks the run's inputs; the first worker records them.
///
/// # Errors
/// When an input differs from its record or cannot be read.
pub(super) fn check_or_record(
    run: &RunDir,
    spec: &RunSpec,
    past: &PastAttempts,
    log: &mut Log,
) -> Result<CheckedInputs, Error> {
    let recorded = run.recorded_inputs()?;
    let first = recorded.is_none();
    let known = recorded.unwrap_or_else(|| spec.inputs.clone());
    if first && past.attempts > 0 && spec.inputs.is_empty() {
        unrecorded(
            log,
            format!("The run was launched by a version that did not record its inputs: {}.", unrecorded_inputs(spec)),
        )?;
    }
    let mut inputs = Inputs {
        date: Some(date_of(spec, &known)),
        chat_template_kwargs: known.chat_template_kwargs.clone(),
        ..Inputs::default()
    };
    let mut checkpoints = BTreeMap::new();
    for (role, id) in spec.parents() {
        let (input, path) = match known.checkpoint_of(role, id) {
            Some(input) => (input.clone(), recorded_checkpoint(run, input)?),
            None => newest_checkpoint(run, role, id)?,
        };
        if let Some(finding) = input.passed_over().filter(|_| first) {
            log.put(&RunEvent::Found(finding))?;
        }
        inputs.checkpoints.push(input);
        checkpoints.insert(role.slot(id), path);
    }
    if let Task::Train(train) = &spec.task
        && let Some((input, held)) = adapters::bind(run, train, known.adapter.as_ref(), log)?
    {
        inputs.adapter = Some(input);
        checkpoints.insert(CheckpointRole::Init.word().to_owned(), held);
    }
    let mut read: Vec<(PathBuf, ModelInput)> = Vec::new();
    let prints = Fingerprints::new(&run.fingerprints());
    for ModelUse { name, path, parent } in models_of(run, spec)? {
        let now = fingerprint(&prints, &name, &path, log)?;
        match known.model(&name) {
            Some(then) => compare_model(&path, then, &now, &format!("run {} began", run.id()))?,
            None => parent.iter().try_for_each(|parent| check_parent(parent, &path, &now, log))?,
        }
        if inputs.model(&name).is_none() {
            inputs.models.push(now.clone());
        }
        read.push((path, now));
    }
    inputs.servers = check_servers(spec, &known, log)?;
    // A parent's adapter must go on the model that it was trained on.
    if first {
        for (role, id) in spec.parents().into_iter().filter(|(role, _)| !judges(*role)) {
            let parent = sibling_run(run, id)?;
            let theirs = parent.resolved_spec()?;
            for own in adapted(spec, role, id) {
                let Some((_, now)) = read.iter().find(|(path, _)| *path == Path::new(&own.path)) else { continue };
                if theirs.models().iter().any(|model| model.path == own.path) {
                    check_parent(&parent, Path::new(&own.path), now, log)?;
                } else {
                    other_model(log, role, id, &own.path, &theirs)?;
                }
            }
        }
        run.record_inputs(&inputs)?;
        say_unread(spec, &inputs, log)?;
    }
    let scorer = match spec.parents().into_iter().find(|(role, _)| *role == CheckpointRole::Reward) {
        Some((_, id)) => Some(scorer(&sibling_run(run, id)?)?),
        None => None,
    };
    Ok(CheckedInputs { spec: RunSpec { inputs, ..spec.clone() }, checkpoints, scorer, models: read })
}

/// Says which parts of the models' files are not used, and which template variables of the run no template reads.
fn say_unread(spec: &RunSpec, inputs: &Inputs, log: &mut Log) -> Result<(), Error> {
    // Once a model, which may be the base of several contestants.
    let models: BTreeMap<&str, &ModelRef> = spec.models().into_iter().map(|model| (&*model.path, model)).collect();
    for model in models.into_values() {
        // One that cannot be opened fails where it is used.
        let Ok(opened) = LanguageModel::open(Path::new(&model.path)) else { continue };
        let step = log.step;
        let mut say = |rule: &str, severity, text: &str, remedy: &str| {
            let (rule, text, remedy) = (rule.into(), format!("{}: {text}", model.name), remedy.into());
            log.put(&RunEvent::Found(Finding { rule, step, severity, text, remedy, pair: None }))
        };
        for text in &opened.unread {
            let remedy = "Compare `tiebreak models show` with what the model's files should hold.";
            say("model_part_unread", Severity::Note, text, remedy)?;
        }
        for text in opened.unread_variables(&inputs.chat_template_kwargs) {
            let remedy = "Check the variable's name in the model's chat template.";
            say("template_variable_unread", Severity::Warn, &text, remedy)?;
        }
    }
    Ok(())
}

/// Whether a run in that role only judges, on its own model.
fn judges(role: CheckpointRole) -> bool {
    matches!(role, CheckpointRole::Reward | CheckpointRole::Implicit)
}

/// The models that a checkpoint in that role goes on; none for a run that only judges.
fn adapted<'a>(spec: &'a RunSpec, role: CheckpointRole, id: &RunId) -> Vec<&'a ModelRef> {
    match (&spec.task, role) {
        (Task::Eval(eval), CheckpointRole::A) => eval.a.model.iter().collect(),
        (Task::Eval(eval), CheckpointRole::B) => eval.b.model.iter().collect(),
        (Task::Eval(_), _) => Vec::new(),
        (Task::Sample(sample), _) => {
            let fits = |(at, _): &(usize, &ModelRef)| sample.adapter_of(*at) == Some((role, id));
            sample.models.iter().enumerate().filter(fits).map(|(_, model)| model).collect()
        }
        (Task::Train(_), _) => spec.models(),
    }
}

/// The run's rendering date: as recorded; for older runs the launch date in UTC.
fn date_of(spec: &RunSpec, known: &Inputs) -> String {
    known.date.clone().unwrap_or_else(|| utc_time(spec.created_ms))
}

/// Adds the rendering date to a specification.
///
/// # Errors
/// When the record of the run's inputs is invalid.
pub(super) fn dated(run: &RunDir, spec: RunSpec) -> Result<RunSpec, Error> {
    let known = run.recorded_inputs()?.unwrap_or_else(|| spec.inputs.clone());
    let date = Some(date_of(&spec, &known));
    let chat_template_kwargs = known.chat_template_kwargs;
    Ok(RunSpec { inputs: Inputs { date, chat_template_kwargs, ..spec.inputs }, ..spec })
}

/// Checks that the models of a trained run are unchanged. `sink` receives progress.
///
/// # Errors
/// When one has changed or the record is invalid. Runs of older versions have no record and are not checked.
pub(super) fn check_models(run: &RunDir, sink: &mut dyn Sink) -> Result<(), Error> {
    let Some(recorded) = run.recorded_inputs()? else { return Ok(()) };
    let prints = Fingerprints::new(&run.fingerprints());
    for ModelUse { name, path, .. } in models_of(run, &run.resolved_spec()?)? {
        if let Some(then) = recorded.model(&name) {
            let now = fingerprint(&prints, &name, &path, sink)?;
            compare_model(&path, then, &now, &format!("run {} began", run.id()))?;
        }
    }
    Ok(())
}

/// Checks all recorded inputs, as the run's next worker will.
///
/// # Errors
/// When anything is not as recorded.
pub(super) fn verify(run: &RunDir, sink: &mut dyn Sink) -> Result<(), Error> {
    for input in run.recorded_inputs()?.unwrap_or_default().checkpoints {
        recorded_checkpoint(run, &input)?;
    }
    check_models(run, sink)
}

/// Where the weights lie that a run computes with: folders or files of models, and folders of checkpoints. What cannot be found is
/// left out.
pub(super) fn weights_of(run: &RunDir, spec: &RunSpec) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let models = models_of(run, spec).unwrap_or_default().into_iter().map(|model| model.path).collect();
    let recorded = run.recorded_inputs().ok().flatten().unwrap_or_default();
    let checkpoints = recorded.checkpoints.iter().filter_map(|input| recorded_checkpoint(run, input).ok());
    let adapter = if let Task::Train(train) = &spec.task { adapters::held(run, train) } else { None };
    let own = run.latest_checkpoint().ok().and_then(|found| found.checkpoint).map(|checkpoint| checkpoint.path);
    (models, checkpoints.chain(adapter).chain(own).collect())
}

/// The reward run's model and how its template renders.
pub(super) fn scorer(reward: &RunDir) -> Result<(PathBuf, Rendering), Error> {
    let spec = dated(reward, reward.resolved_spec()?)?;
    let rendering = spec.inputs.rendering();
    let Task::Train(train) = spec.task else { return Err(Error::NotTraining(reward.id().into_string())) };
    Ok((PathBuf::from(train.model.path), rendering))
}

/// The models that a run reads: its own and the reward run's.
fn models_of(run: &RunDir, placed: &RunSpec) -> Result<Vec<ModelUse>, Error> {
    // Names are the unresolved paths, also relative ones: a data folder may be moved.
    let written = run.spec()?;
    let own = written.models().into_iter().zip(placed.models());
    let mut all: Vec<ModelUse> =
        own.map(|(w, p)| ModelUse { name: w.path.clone(), path: PathBuf::from(&p.path), parent: None }).collect();
    for (_, id) in placed.parents().into_iter().filter(|(role, _)| judges(*role)) {
        let parent = sibling_run(run, id)?;
        let (written, placed) = (parent.spec()?, parent.resolved_spec()?);
        for (w, p) in written.models().into_iter().zip(placed.models()) {
            let parent = Some(parent.clone());
            all.push(ModelUse { name: w.path.clone(), path: PathBuf::from(&p.path), parent });
        }
    }
    Ok(all)
}

/// A run of the same session.
fn sibling_run(run: &RunDir, id: &RunId) -> Result<RunDir, Error> {
    Ok(run.sibling(&id.parts().0)?)
}

fn fingerprint(prints: &Fingerprints, name: &str, path: &Path, sink: &mut dyn Sink) -> Result<ModelInput, Error> {
    let mib = |bytes: u64| bytes >> 20;
    let watch = |done: u64, total: u64| {
        sink.emit(RunEvent::Progressed {
            stage: "checking the model's files".into(),
            done: mib(done),
            total: mib(total),
        })
    };
    Ok(prints.of(name, path, watch)?)
}

/// The run's own copy of a recorded checkpoint, or else the parent run's.
pub(super) fn recorded_checkpoint(run: &RunDir, input: &CheckpointInput) -> Result<PathBuf, Error> {
    if let Some(held) = run.held_checkpoint(input) {
        return Ok(held);
    }
    let CheckpointInput { role, run: id, step, digest, .. } = input;
    let gone = |why: String| Error::Parent { run: run.id().into_string(), step: *step, parent: id.to_string(), why };
    let Ok(parent) = sibling_run(run, id) else { return Err(gone("that run was deleted".into())) };
    let CheckpointSearch { checkpoint, passed_over, .. } = parent.checkpoint_at(*step);
    let Some(found) = checkpoint else {
        let folder = parent.path().join("ckpt").join(format!("step-{step:08}"));
        return Err(gone(match passed_over.first() {
            Some(why) if folder.exists() => format!("it is damaged ({why})"),
            _ => format!("it is gone: {} keeps only its newest checkpoints (save_total_limit)", id.parts().0),
        }));
    };
    if digest_of(&found.path)? != *digest {
        return Err(gone("it was written again with other weights".into()));
    }
    Ok(run.hold_checkpoint(*role, id, &found)?)
}

/// The newest (or best) checkpoint of another run, copied for this one.
fn newest_checkpoint(run: &RunDir, role: CheckpointRole, id: &RunId) -> Result<(CheckpointInput, PathBuf), Error> {
    let (found, damaged) = search(run, id)?;
    let input = CheckpointInput { role, run: id.clone(), step: found.step, digest: digest_of(&found.path)?, damaged };
    let path = run.hold_checkpoint(role, id, &found)?;
    Ok((input, path))
}

/// Compares a model with its record.
fn compare_model(path: &Path, then: &ModelInput, now: &ModelInput, since: &str) -> Result<(), Error> {
    let differences = then.differences(now);
    if differences.is_empty() {
        return Ok(());
    }
    let place = |file: &str| if path.is_dir() { path.join(file) } else { path.to_owned() };
    let mut said: Vec<String> = differences
        .iter()
        .take(MAX_NAMED)
        .map(|d| format!("{} ({}) {}", place(&d.file).display(), d.part, d.what))
        .collect();
    if differences.len() > MAX_NAMED {
        said.push(format!("{} more files differ", differences.len() - MAX_NAMED));
    }
    Err(Error::Changed { what: said.join(", "), since: since.to_owned() })
}

/// Compares a model with the record of its parent run.
fn check_parent(parent: &RunDir, path: &Path, now: &ModelInput, log: &mut Log) -> Result<(), Error> {
    let Some(recorded) = parent.recorded_inputs()? else {
        let text = format!(
            "Run {} was trained by a version that did not record inputs: cannot check whether {} is still the model it \
             was trained on.",
            parent.id(),
            path.display()
        );
        return unrecorded(log, text);
    };
    let (written, placed) = (parent.spec()?, parent.resolved_spec()?);
    let pair = written.models().into_iter().zip(placed.models()).find(|(_, placed)| Path::new(&placed.path) == path);
    match pair.and_then(|(written, _)| recorded.model(&written.path)) {
        Some(then) => compare_model(path, then, now, &format!("run {} was trained on it", parent.id())),
        None => Ok(()),
    }
}

fn unrecorded(log: &mut Log, text: String) -> Result<(), Error> {
    log.put(&RunEvent::Found(Finding {
        rule: "inputs_unrecorded".into(),
        step: log.step,
        severity: Severity::Warn,
        text,
        remedy: "They are recorded now and checked from now on.".into(),
        pair: None,
    }))
}

/// Warns that an adapter is used with another model than it was trained on; only shape mismatches are errors.
fn other_model(log: &mut Log, role: CheckpointRole, id: &RunId, path: &str, theirs: &RunSpec) -> Result<(), Error> {
    let trained: Vec<&str> = theirs.models().iter().map(|model| model.path.as_str()).collect();
    log.put(&RunEvent::Found(Finding {
        rule: "other_model".into(),
        step: log.step,
        severity: Severity::Warn,
        text: format!("The {} {id} was trained on {} but is used with {path}.", role.word(), trained.join(", ")),
        remedy: "Use the model it was trained on, unless both have the same weights.".into(),
        pair: None,
    }))
}

/// The unrecorded inputs of a run from an older version.
fn unrecorded_inputs(spec: &RunSpec) -> String {
    let mut parts = vec!["the model's files".to_owned(), "the date".to_owned()];
    parts.extend(spec.parents().into_iter().map(|(role, id)| format!("which checkpoint of {id} ({})", role.word())));
    parts.join(", ")
}

/// The newest checkpoint of a run of the same session, or the best one with `@best` (`dpo-1@best`).
pub(super) fn newest(run: &RunDir, id: &RunId) -> Result<CheckpointDir, Error> {
    Ok(search(run, id)?.0)
}

/// As [`newest`], with the steps of newer ones that are damaged.
fn search(run: &RunDir, id: &RunId) -> Result<(CheckpointDir, Vec<u64>), Error> {
    let (own, best) = id.parts();
    let other = run.sibling(&own)?;
    let found = if best { other.best_checkpoint() } else { other.latest_checkpoint()? };
    let Some(checkpoint) = found.checkpoint else {
        let why = found.passed_over.first().map_or_else(String::new, |why| format!(" ({why})"));
        return Err(Error::NoAdapter { run: id.to_string(), why });
    };
    Ok((checkpoint, found.damaged))
}
