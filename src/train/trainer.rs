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
mod inputs;
mod mix;
mod online;
mod options;
mod pass;
mod probe;
mod rounds;
mod rows;
mod saved;
mod state;
mod watch;

use super::data::{Example, Tokenised, tokenise};
use super::loss::Tally;
use super::recipe::{AnyRecipe, recipe};
use super::reference::ReferenceCache;
use super::schedule::Schedule;
use crate::domain::{Metrics, method};
use crate::model::error::Error;
use crate::model::fingerprint::{Fingerprints, identity};
use crate::model::language_model::LanguageModel;
use crate::model::sink::Sink;
use crate::nn::device::device;
use crate::nn::optim::AdamW;
use crate::nn::policy::Policy;
use crate::protocol::{Plan, RunEvent, RunSpec, Task, TrainSpec};
use best::{Best, Now};
use health::{Size, Watcher};
use mix::Mix;
use online::Online;
use options::policy_of;
use probe::Probe;
use saved::{start_from, weights_hash};
use state::{Check, Data, Way};
use std::path::Path;
use std::time::Instant;

pub(crate) use batches::Batches;
pub use inputs::{Places, RunRows};
pub(crate) use mix::making as mix_making;
pub(crate) use options::check;
pub use options::tune_of;
pub(crate) use pass::Grouping;
pub(crate) use saved::notes;
pub use state::Trainer;
pub(crate) use watch::peak_mib;

/// What a call of [`Trainer::step`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepOutcome {
    /// One update was made; there may be more.
    Stepped,
    /// Nothing: every planned step has been made, or the run has ended early.
    Done,
}

/// The training part of a specification.
pub(super) fn train_spec(spec: &RunSpec) -> Result<&TrainSpec, Error> {
    match &spec.task {
        Task::Train(t) => Ok(t),
        Task::Sample(_) => Err(Error::Asked(format!("run {} samples; it has nothing to train", spec.id))),
    }
}

/// What the run's reference log-probs depend on beside the tokens: every byte of the model's files, what it was trained to by
/// an earlier run, the number type and the way in which they are computed.
fn reference_identity(spec: &RunSpec, policy: &Policy, adapter: bool) -> Result<String, Error> {
    let path = &train_spec(spec)?.model.path;
    let model = match spec.inputs.models.first() {
        Some(model) => identity(model),
        None => identity(&Fingerprints::default().of(path, Path::new(path), |_, _| Ok(()))?),
    };
    let trained = if adapter { weights_hash(policy)? } else { String::new() };
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
        let recipe = recipe(&train_spec.method, params)?;
        let making = recipe.making(params);

        progress(sink, "loading the model", 0, 1)?;
        let model = LanguageModel::open(Path::new(&train_spec.model.path))?.dated(spec.inputs.date.as_deref())?;
        let device = device(&spec.device)?;
        let mut decoder = model.decoder(&device, &tune_of(params))?;
        if let Some(initial) = recipe.score_head(model.config.hidden, params) {
            decoder.add_score(initial, making.valued)?;
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
        let probe = Probe::new(&model, &policy, &rows.probe, params)?;
        if let Some(dir) = places.init {
            start_from(&policy, params, dir)?;
        }
        let all: Vec<&Example> = train.iter().chain(&eval).collect();
        let mut references = if recipe.needs_reference() {
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

        let way = match recipe {
            AnyRecipe::Offline(recipe) => Way::Rows(recipe),
            AnyRecipe::Online(recipe) => {
                progress(sink, "loading what scores", 0, 1)?;
                let online = Online::open(recipe, &model, &rows.rows, params, places, &device)?;
                progress(sink, "loading what scores", 1, 1)?;
                Way::Answers(Box::new(online))
            }
        };
        let batches = match &way {
            Way::Rows(_) => Batches::of(&train, params)?,
            Way::Answers(_) => Batches::rounds(train.len(), params)?,
        };
        let mix = Mix::new(&model, &rows.mix, params, &mut dropped)?;
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
        let size = Size { steps: total, steps_per_epoch: batches.per_epoch(), kept: train.len() + eval.len() };
        let mut trainer = Self {
            asked: answers::asked(&rows.rows, &eval, &train),
            model,
            policy,
            way,
            optimizer,
            schedule,
            spec: train_spec.clone(),
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
            health: Watcher::new(&train_spec.method, params, size, &plan.dropped),
            reading,
            introduced: false,
        };
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
        match self.advance(sink) {
            Err(Error::NotFinite(what)) => Err(self.not_finite(what, sink)?),
            done => done,
        }
    }

    fn advance(&mut self, sink: &mut dyn Sink) -> Result<StepOutcome, Error> {
        if self.step >= self.total || self.best.ended {
            return Ok(StepOutcome::Done);
        }
        if self.step == 0 && !self.introduced {
            self.introduced = true;
            match self.show_answers(sink) {
                // The step below meets the same numbers and names the pair.
                Err(Error::NotFinite(_)) => {}
                shown => shown?,
            }
            self.measure_probe(sink)?;
        }
        let began = Instant::now();
        let mut tally = Tally::default();
        let (own, mut work) = self.gather(&mut tally, sink)?;
        self.check_start(own, &tally, sink)?;
        let (mixed, more) = self.imitate(&mut tally, sink)?;
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
            let now = Now { step: self.step, total: self.total };
            self.best.compare(&metrics, &self.spec.params, now, sink)?;
        }
        if self.due("probe_steps") {
            self.measure_probe(sink)?;
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

    /// Adds the gradient of this step's mixed rows; gives their part of the loss and how many tokens they have.
    fn imitate(&mut self, tally: &mut Tally, sink: &mut dyn Sink) -> Result<(f64, u64), Error> {
        let Some(mix) = &self.mix else { return Ok((0.0, 0)) };
        match mix.imitate(&mut self.policy, &self.batches, self.step, tally)? {
            Ok(done) => Ok(done),
            Err(bad) => Err(self.bad_scores(bad, sink)?),
        }
    }

    /// Measures the probe where the run has one.
    fn measure_probe(&mut self, sink: &mut dyn Sink) -> Result<(), Error> {
        match &mut self.probe {
            Some(probe) => probe.measure(&self.policy, self.step, sink),
            None => Ok(()),
        }
    }

    /// The step whose evaluation was the best so far by `metric_for_best_model`; none before the first.
    #[must_use]
    pub fn best_step(&self) -> Option<u64> {
        self.best.at()
    }

    /// Whether the run stands at that step.
    #[must_use]
    pub fn is_best_now(&self) -> bool {
        self.best_step() == Some(self.step)
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

/// Says how far a stage before the first step is. Twenty lines of a stage in the log are enough for a bar.
fn progress(sink: &mut dyn Sink, stage: &str, done: usize, total: usize) -> Result<(), Error> {
    if done == total || done.is_multiple_of(total.div_ceil(20).max(1)) {
        sink.emit(RunEvent::Progressed { stage: stage.into(), done: done as u64, total: total as u64 })?;
    }
    Ok(())
}
