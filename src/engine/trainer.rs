//! The trainer: from a run's specification and rows to updates, evaluations, sampled answers and checkpoints.
//!
//! Owns the order of things, the same for every method: tokenise, reference log-probs, batches, gradient accumulation,
//! self-checks, clipping, update, report. Refuses losses (recipes), files outside the folders it is given, and clocks in
//! anything but the reported speed.
//!
//! **Invariants.** Step `k` is a pure function of the specification, the rows and the weights after step `k − 1`: order and
//! dropout come from (seed, step), so a resumed run ends in the same bytes on the CPU. Nothing is overwritten by an update
//! whose loss or gradient is not finite.

mod answers;
mod batches;
mod best;
mod checkpoint;
mod health;
mod mix;
mod online;
mod options;
mod pass;
mod probe;
mod watch;

use super::decoder::Decoder;
use super::device::device;
use super::error::Error;
use super::fingerprint::{Fingerprints, identity};
use super::language_model::{LanguageModel, Reading};
use super::loss::Tally;
use super::optim::AdamW;
use super::policy::Policy;
use super::recipe::{Recipe, Window, online as online_recipe, recipe};
use super::reference::{Reference, ReferenceCache};
use super::rows::{Example, Making, Rows, Tokenised, tokenise};
use super::schedule::Schedule;
use super::sink::Sink;
use crate::domain::{Metrics, Params, PromptBody, SftRow, method};
use crate::protocol::{Plan, RunEvent, RunSpec, Task, TrainSpec};
use best::Best;
use online::Online;
use std::path::Path;
use std::time::Instant;
use watch::Check;

pub(super) use batches::Batches;
pub(super) use checkpoint::notes;
pub(super) use mix::making as mix_making;
pub(super) use options::check;
pub use options::tune_of;
pub(super) use pass::Grouping;
pub(super) use watch::peak_mib;

/// What a call of [`Trainer::step`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepOutcome {
    /// One update was made; there may be more.
    Stepped,
    /// Nothing: every planned step has been made, or the run has ended early.
    Done,
}

/// The rows of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRows {
    /// What is trained on.
    pub rows: Rows,
    /// Texts mixed in against forgetting; may be empty.
    pub mix: Vec<SftRow>,
    /// General text on which forgetting is measured; may be empty.
    pub probe: Vec<SftRow>,
}

impl From<Rows> for RunRows {
    fn from(rows: Rows) -> Self {
        Self { rows, mix: Vec::new(), probe: Vec::new() }
    }
}

/// Where a run finds what other runs left.
#[derive(Debug, Clone, Copy)]
pub struct Places<'a> {
    /// The cache of reference log-probs.
    pub cache: &'a Path,
    /// The checkpoint folder of an earlier run whose trained weights this one starts from; as they are then, they are the
    /// reference.
    pub init: Option<&'a Path>,
    /// A checkpoint folder of this very run.
    pub resume: Option<&'a Path>,
    /// The model and the checkpoint folder of the reward run that scores answers.
    pub reward: Option<(&'a Path, &'a Path)>,
    /// The date by which that run rendered its conversations, as [`crate::protocol::Inputs::date`].
    pub reward_date: Option<&'a str>,
}

impl<'a> Places<'a> {
    /// A fresh run from the model as it is.
    #[must_use]
    pub fn new(cache: &'a Path) -> Self {
        Self { cache, init: None, resume: None, reward: None, reward_date: None }
    }
}

/// A training run in memory.
pub struct Trainer {
    model: LanguageModel,
    policy: Policy,
    way: Way,
    optimizer: AdamW,
    schedule: Schedule,
    spec: TrainSpec,
    /// Prompts asked now and then, so that a person can look at what the numbers mean.
    asked: Vec<PromptBody>,
    train: Data,
    eval: Data,
    batches: Batches,
    mix: Option<mix::Mix>,
    probe: Option<probe::Probe>,
    step: u64,
    /// Steps planned, those of mixed rows alone too.
    total: u64,
    /// Real tokens trained on so far, prompts of both sides counted.
    tokens: u64,
    check: Check,
    best: Best,
    /// It has been said that memory ran out.
    narrowed: bool,
    health: health::Watcher,
    /// How answers become tokens, where scores will hang on it.
    reading: Option<Reading>,
    /// Answers of the untrained model have been shown.
    introduced: bool,
}

/// What a method learns from: rows that are there, or the policy's own answers.
enum Way {
    Rows(Box<dyn Recipe>),
    Answers(Box<Online>),
}

impl Way {
    /// What the method adds to a checkpoint for those who use its result.
    fn notes(&self) -> serde_json::Value {
        match self {
            Self::Rows(recipe) => recipe.notes(),
            Self::Answers(_) => serde_json::Value::Null,
        }
    }

    /// Takes back what [`Way::notes`] gave.
    fn recall(&mut self, notes: &serde_json::Value) {
        if let Self::Rows(recipe) = self {
            recipe.recall(notes);
        }
    }

    /// Where the method is beyond the number of steps.
    fn state(&self) -> serde_json::Value {
        match self {
            Self::Rows(_) => serde_json::Value::Null,
            Self::Answers(online) => online.state(),
        }
    }

    /// Takes back what [`Way::state`] gave.
    fn restore(&mut self, state: &serde_json::Value) -> Result<(), Error> {
        match self {
            Self::Rows(_) => Ok(()),
            Self::Answers(online) => online.restore(state),
        }
    }
}

/// Tokens of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Work {
    /// New to the run: `num_tokens` counts them.
    seen: u64,
    /// Gone through forwards and backwards: what the speed is measured by.
    done: u64,
}

/// Examples with their reference log-probs; `references` is empty where the method has none.
#[derive(Default)]
struct Data {
    examples: Vec<Example>,
    references: Vec<Reference>,
}

/// The training part of a specification.
pub(super) fn train_spec(spec: &RunSpec) -> Result<&TrainSpec, Error> {
    match &spec.task {
        Task::Train(t) => Ok(t),
        Task::Sample(_) => Err(Error::Asked(format!("run {} samples; it has nothing to train", spec.id))),
    }
}

/// The policy on the path that `params` ask for.
fn policy_of(decoder: Decoder, params: &Params) -> Result<Policy, Error> {
    if params.text("engine") == "reference" { Ok(Policy::reference(decoder)) } else { Policy::new(decoder) }
}

/// What the run's reference log-probs depend on beside the tokens: every byte of the model's files, what it was trained to by
/// an earlier run, the number type and the way in which they are computed.
fn reference_identity(spec: &RunSpec, policy: &Policy, adapter: bool) -> Result<String, Error> {
    let path = &train_spec(spec)?.model.path;
    let model = match spec.inputs.models.first() {
        Some(model) => identity(model),
        None => identity(&Fingerprints::default().of(path, Path::new(path), |_, _| Ok(()))?),
    };
    let trained = if adapter { checkpoint::weights_hash(policy)? } else { String::new() };
    Ok(format!("{model} {} {} {trained}", policy.decoder().dtype().as_str(), policy.path()))
}

impl Trainer {
    /// Makes everything ready for the first step: loads the model, tokenises the rows, computes or reads the reference
    /// log-probs, and says `Progressed` and `Planned`.
    ///
    /// # Errors
    /// When the model cannot be loaded, no row is left to train on, or a checkpoint does not belong to this run.
    pub fn open(spec: &RunSpec, rows: &RunRows, places: &Places<'_>, sink: &mut dyn Sink) -> Result<Self, Error> {
        let train_spec = train_spec(spec)?.clone();
        let params = &train_spec.params;
        check(params)?;
        let learner = online_recipe(&train_spec.method, params)?;
        let offline = if learner.is_some() { None } else { Some(recipe(&train_spec.method, params)?) };
        let making = making(offline.as_deref(), params);

        progress(sink, "loading the model", 0, 1)?;
        let model = LanguageModel::open(Path::new(&train_spec.model.path))?.dated(spec.inputs.date.as_deref())?;
        let device = device(&spec.device)?;
        let mut decoder = model.decoder(&device, &tune_of(params))?;
        let hidden = model.config.hidden;
        // A value head begins at 0, which is no opinion.
        let value = learner.as_ref().filter(|l| l.shape().values).map(|_| vec![0.0; hidden]);
        if let Some(first) = value.or_else(|| offline.as_ref().and_then(|r| r.score_head(hidden, params))) {
            decoder.add_score(first, making.valued)?;
        }
        let policy = policy_of(decoder, params)?;
        progress(sink, "loading the model", 1, 1)?;

        let watch = |done| progress(sink, "tokenising", done, rows.rows.len());
        let Tokenised { train, eval, mut dropped, findings } = tokenise(&model, &rows.rows, &making, watch)?;
        if train.is_empty() {
            let why: Vec<_> = dropped.iter().map(|d| format!("{} {}", d.count, d.reason)).collect();
            return Err(Error::Asked(format!(
                "none of {} rows is left to train on ({} kept for evaluation, left out: {}); add rows, raise \
                 max_length, or lower eval_fraction",
                rows.rows.len(),
                eval.len(),
                if why.is_empty() { "none".to_owned() } else { why.join(", ") }
            )));
        }
        if places.resume.is_none() {
            for finding in findings {
                sink.emit(RunEvent::Found(finding))?;
            }
        }

        let reading = if making.valued { Some(model.reading()?) } else { None };
        let probe = probe::Probe::new(&model, &policy, &rows.probe, params)?;
        if let Some(dir) = places.init {
            checkpoint::start_from(&policy, params, dir)?;
        }
        let all: Vec<&Example> = train.iter().chain(&eval).collect();
        let mut references = if offline.as_ref().is_some_and(|r| r.needs_reference()) {
            let total = all.len();
            let watch = |done: usize| progress(sink, "reference log-probs", done, total);
            let adapter = places.init.is_some();
            let identity = reference_identity(spec, &policy, adapter)?;
            let (references, used) = ReferenceCache::new(places.cache, &identity).get(&policy, adapter, &all, watch)?;
            if used.computed < total {
                progress(sink, "reference log-probs", total, total)?;
            }
            references
        } else {
            Vec::new()
        };
        let eval_references = references.split_off(train.len().min(references.len()));

        let way = match (offline, learner) {
            (Some(recipe), _) => Way::Rows(recipe),
            (None, Some(learner)) => {
                progress(sink, "loading what scores", 0, 1)?;
                let online = Online::open(learner, &model, &rows.rows, params, places, &device)?;
                progress(sink, "loading what scores", 1, 1)?;
                Way::Answers(Box::new(online))
            }
            (None, None) => return Err(Error::Asked(format!("there is no recipe for {}", train_spec.method))),
        };
        let batches = match &way {
            Way::Rows(_) => Batches::of(&train, params)?,
            Way::Answers(_) => Batches::rounds(train.len(), params)?,
        };
        let mix = mix::Mix::new(&model, &rows.mix, params, &mut dropped)?;
        let total = batches.total + mix.as_ref().map_or(0, |m| m.steps_alone(&batches));
        let schedule = Schedule::new(params, total)?;
        let optimizer = AdamW::new(params, policy.trainables())?;
        let at_reference = match &way {
            Way::Rows(recipe) => recipe.at_reference(),
            Way::Answers(_) => None,
        };
        let at_reference = at_reference.filter(|_| places.init.is_none() || params.f64("lora_dropout") == 0.0);
        let plan = Plan {
            total_steps: total,
            steps_per_epoch: batches.per_epoch(),
            train_rows: train.len(),
            eval_rows: eval.len(),
            trainable: policy.trainables().iter().map(|(_, v)| v.elem_count() as u64).sum(),
            parameters: model.config.parameters(),
            dropped,
            objective: method(&train_spec.method).map(|m| m.formula(params)).unwrap_or_default(),
            longest: train.iter().chain(&eval).map(Example::longest).max().unwrap_or(0),
        };
        let mut trainer = Self {
            asked: answers::asked(&rows.rows, &eval, &train),
            model,
            policy,
            way,
            optimizer,
            schedule,
            spec: train_spec,
            train: Data { examples: train, references },
            eval: Data { examples: eval, references: eval_references },
            batches,
            mix,
            probe,
            step: 0,
            total,
            tokens: 0,
            check: Check::new(at_reference),
            best: Best::default(),
            narrowed: false,
            health: health::Watcher::default(),
            reading,
            introduced: false,
        };
        trainer.begin_watching(&plan.dropped);
        match places.resume {
            Some(dir) => trainer.restore(dir)?,
            None => trainer.health.report_plan(sink)?,
        }
        sink.emit(RunEvent::Planned(plan))?;
        Ok(trainer)
    }

    /// Makes the next step and tells `sink`: answers of the untrained model before the first, then `Stepped`, and
    /// `Evaluated` and `Sampled` where they are due.
    ///
    /// # Errors
    /// When the loss or a gradient is not finite (no weight has changed by it then) or a self-check fails, both after a `Found`
    /// of severity stop; or when a tensor operation fails.
    pub fn step(&mut self, sink: &mut dyn Sink) -> Result<StepOutcome, Error> {
        if self.step >= self.total || self.best.ended {
            return Ok(StepOutcome::Done);
        }
        if self.step == 0 && !self.introduced {
            self.introduced = true;
            self.show_answers(sink)?;
            self.probe(sink)?;
        }
        let began = Instant::now();
        let mut tally = Tally::default();
        let (own, mut work) = self.gather(&mut tally, sink)?;
        self.check_start(own, &tally, sink)?;
        let (mixed, more) = self.imitate_mixed(&mut tally, sink)?;
        self.say_narrowed(sink)?;
        let loss = own + mixed;
        work.seen += more;
        work.done += more;

        let gradients = self.policy.take_gradients()?;
        let norm = AdamW::norm(&gradients)?;
        if !norm.is_finite() {
            return Err(self.bad_gradient(sink)?);
        }
        let rate = self.schedule.rate(self.step);
        // Answers that all earned the same teach nothing, and that is no fault of the tensors.
        let watching = self.check.watching(rate) && (norm > 0.0 || matches!(self.way, Way::Rows(_)));
        let update = self.optimizer.update(self.policy.trainables(), &gradients, norm, rate, watching)?;
        drop(gradients);
        if watching {
            self.check_moved(&update, sink)?;
        }
        self.step += 1;
        self.tokens += work.seen;

        let seconds = began.elapsed().as_secs_f64();
        let mut metrics = Metrics::new();
        metrics.set("loss", loss);
        metrics.set("grad_norm", norm);
        metrics.set("learning_rate", rate);
        tally.write("", &mut metrics);
        metrics.set("num_tokens", self.tokens as f64);
        metrics.set("step_seconds", seconds);
        metrics.set("tokens_per_second", work.done as f64 / seconds);
        if let Some(mib) = watch::peak_mib() {
            metrics.set("peak_mib", mib);
        }
        let found = self.health.observe(self.step, &metrics);
        sink.emit(RunEvent::Stepped { step: self.step, epoch: self.epoch(), metrics })?;
        for finding in found {
            sink.emit(RunEvent::Found(finding))?;
        }

        if self.due("eval_steps") && !self.eval.examples.is_empty() {
            let metrics = self.evaluate()?;
            sink.emit(RunEvent::Evaluated { step: self.step, metrics: metrics.clone() })?;
            self.compare(&metrics, sink)?;
        }
        if self.due("probe_steps") {
            self.probe(sink)?;
        }
        if self.due("sample_steps") {
            self.show_answers(sink)?;
        }
        Ok(StepOutcome::Stepped)
    }

    /// Whether what happens every so many steps happens now; it always does at the end.
    fn due(&self, key: &str) -> bool {
        let every = self.spec.params.usize(key) as u64;
        self.step == self.total || self.best.ended || (every > 0 && self.step.is_multiple_of(every))
    }

    /// Adds up the gradient of the next step's own rows; gives its loss and the work it was.
    fn gather(&mut self, tally: &mut Tally, sink: &mut dyn Sink) -> Result<(f64, Work), Error> {
        if let Way::Answers(_) = self.way {
            return self.learn_from_answers(tally, sink);
        }
        let (micro, mut before) = self.batches.window(self.step);
        let examples = || micro.iter().flatten().map(|i| &self.train.examples[*i]);
        let (all, scored) = (examples().count(), examples().map(Example::scored).sum());
        let tokens: usize = examples().map(Example::tokens).sum();
        let mut loss = 0.0;
        for rows in &micro {
            // Micro-batches of the same size count alike, also a shorter last one, as TRL has it.
            let share =
                if self.batches.by_tokens() { rows.len() as f64 / all as f64 } else { 1.0 / micro.len() as f64 };
            let window = Window { share, tokens: scored };
            loss += self.pass(rows, before, &window, tally, sink)?;
            before += rows.len() as u64;
        }
        Ok((loss, Work { seen: tokens as u64, done: tokens as u64 }))
    }

    /// Steps made.
    #[must_use]
    pub fn step_count(&self) -> u64 {
        self.step
    }

    /// Steps planned.
    #[must_use]
    pub fn total_steps(&self) -> u64 {
        self.total
    }

    /// Passes over the data so far.
    #[must_use]
    pub fn epoch(&self) -> f64 {
        self.step.min(self.batches.total) as f64 / self.batches.per_epoch() as f64
    }

    /// What is trained on, in tokens.
    #[must_use]
    pub fn examples(&self) -> &[Example] {
        &self.train.examples
    }

    /// The policy.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }
}

/// How rows become examples: as the recipe says, or, for methods that answer themselves, as prompts.
pub(super) fn making(recipe: Option<&dyn Recipe>, params: &Params) -> Making {
    match recipe {
        Some(recipe) => recipe.making(params),
        None => Making {
            eval_fraction: params.f64("eval_fraction"),
            ..Making::plain(params.usize("max_length").saturating_sub(params.usize("max_completion_length")))
        },
    }
}

/// Says how far a stage before the first step is. Twenty lines of a stage in the log are enough for a bar.
fn progress(sink: &mut dyn Sink, stage: &str, done: usize, total: usize) -> Result<(), Error> {
    if done == total || done.is_multiple_of(total.div_ceil(20).max(1)) {
        sink.emit(RunEvent::Progressed { stage: stage.into(), done: done as u64, total: total as u64 })?;
    }
    Ok(())
}
