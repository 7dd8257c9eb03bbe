//! The trainer: from a run's specification and rows to updates, evaluations, sampled answers and checkpoints.
//!
//! Owns the training loop, the same for every method: tokenise, reference log-probs, batches, gradient accumulation,
//! self-checks, clipping, optimizer step, metrics. Refuses losses (recipes), files outside the given folders, and clocks other
//! than for the reported speed.
//!
//! **Invariants.** Step `k` is a pure function of the specification, the rows and the weights after step `k − 1`: order and
//! dropout come from (seed, step), so a resumed run ends in the same bytes on the CPU. No weight changes when a loss or
//! gradient is not finite.

mod answers;
mod batches;
mod best;
mod checkpoint;
mod health;
mod inputs;
mod mix;
mod options;
mod pass;
mod probe;
mod rollouts;
mod self_check;
mod state;
mod suites;

use super::data::{Example, Tokenised, remedies, tokenise};
use super::loss::Tally;
use super::recipe::{PreparedMethod, UpdateWindow, prepare};
use super::reference::{Reference, ReferenceCache};
use super::schedule::Schedule;
use super::scorer::RewardScorer;
use crate::domain::{Finding, Metrics, Severity, TuneKind, method};
use crate::model::error::Error;
use crate::model::fingerprint::{Fingerprints, identity};
use crate::model::language_model::LanguageModel;
use crate::model::sink::Sink;
use crate::model::tune::Tune;
use crate::nn::device::device;
use crate::nn::optim::AdamW;
use crate::nn::policy::Policy;
use crate::protocol::{Plan, RunEvent, RunSpec};
use best::Best;
use health::HealthMonitor;
use mix::Mix;
use options::{new_policy, tune_from};
use pass::{ExampleSet, PassOptions, StepTokens, forward_backward, not_finite, score, scored_examples};
use probe::Probe;
use rollouts::{AnswerScorer, RolloutContext, Rollouts};
use self_check::SelfCheck;
use std::path::Path;
use std::time::Instant;
pub use suites::PeriodicSuites;
use suites::SUITE_PREFIX;

pub(crate) use batches::Batches;
pub(crate) use checkpoint::result_notes;
pub use inputs::{RunPaths, RunRows};
pub(crate) use mix::tokenise_options as mix_tokenise_options;
pub use options::tune_of;
pub(crate) use options::{train_spec, tune};
pub(crate) use pass::Grouping;
pub(crate) use self_check::peak_mib;
pub use state::Trainer;

/// What a call of [`Trainer::step`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepOutcome {
    /// One update was made; there may be more.
    Stepped,
    /// Nothing: all planned steps are done, or the run stopped early.
    Done,
}

/// What the reference log-probs depend on beside the tokens: the model's files, the tensors of the initial checkpoint, the
/// dtype and the engine.
fn reference_identity(spec: &RunSpec, policy: &Policy, tune: &Tune, adapter: bool) -> Result<String, Error> {
    let path = &train_spec(spec)?.model.path;
    let model = match spec.inputs.models.first() {
        Some(model) => identity(model),
        None => identity(&Fingerprints::default().of(path, Path::new(path), |_, _| Ok(()))?),
    };
    // Equal tensors with other scales are another reference.
    let scales = match tune {
        Tune::Lora(spec) if !spec.modules.is_empty() => format!(" {:?} {}", spec.modules, spec.rslora),
        Tune::Lora(spec) => format!(" {}", spec.scale()),
        _ => String::new(),
    };
    let trained = if adapter { checkpoint::weights_hash(policy)? + &scales } else { String::new() };
    Ok(format!("{model} {} {} {trained}", policy.decoder().dtype().as_str(), policy.path()))
}

/// What a person should know of how the model is read.
fn noted(note: &str) -> Finding {
    Finding {
        rule: "model_note".into(),
        step: 0,
        severity: Severity::Note,
        text: note.into(),
        remedy: String::new(),
        pair: None,
    }
}

impl Trainer {
    /// Prepares the first step: loads the model, tokenises the rows, computes or loads the reference log-probs. Emits
    /// `Progressed` and `Planned`.
    ///
    /// # Errors
    /// When the model cannot be loaded, no row is left to train on, or a checkpoint does not belong to this run.
    pub fn open(spec: &RunSpec, rows: &RunRows, paths: &RunPaths<'_>, sink: &mut dyn Sink) -> Result<Self, Error> {
        let train_spec = train_spec(spec)?.clone();
        let prepared = prepare(&train_spec.method, &train_spec.params)?;
        let options = prepared.tokenise_options(train_spec.split_by_text);
        let PreparedMethod { recipe, shared: params, rollout, mix, probe } = prepared;
        let needs = recipe.rollout();

        progress(sink, "loading the model", 0, 1)?;
        let model = LanguageModel::open(Path::new(&train_spec.model.path))?.rendering(&spec.inputs.rendering())?;
        let device = device(&spec.device)?;
        let tune = tune_from(&params, paths.init)?;
        let mut decoder = model.decoder(&device, &tune)?;
        let hidden = model.config.hidden;
        // A value head starts at 0.
        let value = needs.filter(|needs| needs.values).map(|_| vec![0.0; hidden]);
        if let Some(first) = value.or_else(|| recipe.initial_score_head(hidden, params.seed)) {
            decoder.add_score(first, options.read_value)?;
        }
        let policy = new_policy(decoder, &params)?;
        progress(sink, "loading the model", 1, 1)?;

        let report = |done| progress(sink, "tokenising", done, rows.rows.len());
        let Tokenised { train, eval, mut dropped, findings, .. } = tokenise(&model, &rows.rows, &options, report)?;
        if train.is_empty() {
            let why: Vec<_> = dropped.iter().map(|d| format!("{} {}", d.count, d.reason)).collect();
            return Err(Error::Invalid(format!(
                "none of {} rows is left to train on ({} held out for evaluation, left out: {}); {}",
                rows.rows.len(),
                eval.len(),
                if why.is_empty() { "none".to_owned() } else { why.join(", ") },
                remedies(&dropped, !eval.is_empty()).join(", or ")
            )));
        }
        if paths.resume.is_none() {
            for finding in model.notes.iter().map(|note| noted(note)).chain(findings) {
                sink.emit(RunEvent::Found(finding))?;
            }
        }

        let reading = if options.read_value { Some(model.reading()?) } else { None };
        let (probe, unread) = Probe::new(&model, &policy, &rows.probe, &probe)?;
        if let Some(finding) = unread.filter(|_| paths.resume.is_none()) {
            sink.emit(RunEvent::Found(finding))?;
        }
        if let Some(dir) = paths.init {
            checkpoint::load_initial_weights(&policy, &tune, dir)?;
        }
        let all: Vec<&Example> = train.iter().chain(&eval).collect();
        let mut references = if recipe.needs_reference() {
            let total = all.len();
            let report = |done: usize| progress(sink, "reference log-probs", done, total);
            let adapter = paths.init.is_some();
            let identity = reference_identity(spec, &policy, &tune, adapter)?;
            let (references, used) = ReferenceCache::new(paths.cache, &identity).get(&policy, adapter, &all, report)?;
            if used.computed < total {
                progress(sink, "reference log-probs", total, total)?;
            }
            references
        } else {
            Vec::new()
        };
        let eval_references = references.split_off(train.len().min(references.len()));

        let mut rollouts = None;
        if let (Some(rollout), Some(needs)) = (&rollout, needs) {
            progress(sink, "loading the reward model", 0, 1)?;
            let scorer = match paths.reward {
                Some((path, dir)) => {
                    let how = paths.reward_rendering.cloned().unwrap_or_default();
                    Some(RewardScorer::open(path, dir, &device)?.rendering(&how)?)
                }
                None => None,
            };
            // Without an initial checkpoint the base model (adapter off) is the reference.
            let reference = if needs.reference && (paths.init.is_some() || params.tune == TuneKind::Full) {
                let reference = new_policy(model.decoder(&device, &tune)?, &params)?;
                if let Some(dir) = paths.init {
                    checkpoint::load_initial_weights(&reference, &tune, dir)?;
                }
                Some(reference)
            } else {
                None
            };
            let score = scorer.map(|scorer| -> AnswerScorer {
                Box::new(move |prompt, answer| Ok(scorer.standardise(scorer.score(prompt, answer)?)))
            });
            rollouts = Some(Rollouts::new(needs, &rows.rows, &params, rollout, score, reference)?);
            progress(sink, "loading the reward model", 1, 1)?;
        }
        let batches = match &rollout {
            None => Batches::from_examples(&train, &params)?,
            Some(rollout) => Batches::rounds(train.len(), &params, rollout)?,
        };
        let mix = Mix::new(&model, &rows.mix, &params, &mix, &mut dropped)?;
        let total = batches.total + mix.as_ref().map_or(0, |m| m.extra_steps(&batches));
        let schedule = Schedule::new(&params, total);
        let optimizer = AdamW::new(&params, policy.trainables())?;
        let at_reference = recipe.at_reference().filter(|_| paths.init.is_none() || params.lora_dropout == 0.0);
        let plan = Plan {
            total_steps: total,
            steps_per_epoch: batches.per_epoch(),
            train_rows: train.len(),
            eval_rows: eval.len(),
            trainable: policy.trainables().iter().map(|(_, v)| v.elem_count() as u64).sum(),
            parameters: model.config.parameters(),
            dropped,
            objective: method(&train_spec.method).map(|m| m.formula(&train_spec.params)).unwrap_or_default(),
            longest: train.iter().chain(&eval).map(Example::longest).max().unwrap_or(0),
        };
        let recipe_hint = recipe.health().no_gradient;
        let mut trainer = Self {
            sample_prompts: answers::sample_prompts(&rows.rows, &eval, &train),
            health: HealthMonitor::new(&train_spec.method, recipe.as_ref(), mix.as_ref(), batches.per_epoch(), &plan),
            model,
            policy,
            recipe,
            rollouts,
            optimizer,
            schedule,
            spec: train_spec,
            tune,
            params,
            train: ExampleSet { examples: train, references },
            eval: ExampleSet { examples: eval, references: eval_references },
            batches,
            mix,
            probe,
            suites: None,
            step: 0,
            total,
            tokens: 0,
            check: SelfCheck::new(at_reference, recipe_hint),
            best: Best::default(),
            reading,
            initial_samples_shown: false,
        };
        match paths.resume {
            Some(dir) => trainer.restore(dir)?,
            None => trainer.health.report_plan(sink)?,
        }
        sink.emit(RunEvent::Planned(plan))?;
        Ok(trainer)
    }

    /// Measures these suites every `every` steps, before the first step and after the last.
    #[must_use]
    pub fn with_suites(mut self, suites: Box<dyn PeriodicSuites>, every: u64) -> Self {
        self.suites = Some((suites, every));
        self
    }

    /// Runs the next step. Emits sample answers of the untrained model before the first step, then `Stepped`, and `Evaluated`
    /// and `Sampled` when due.
    ///
    /// # Errors
    /// When the loss or a gradient is not finite (no weight has changed) or a self-check fails, both after a `Found` of severity
    /// stop; or when a tensor operation fails.
    pub fn step(&mut self, sink: &mut dyn Sink) -> Result<StepOutcome, Error> {
        match self.advance(sink) {
            Err(Error::NotFinite(what)) => Err(self_check::not_finite(self.step, what, sink)?),
            done => done,
        }
    }

    fn advance(&mut self, sink: &mut dyn Sink) -> Result<StepOutcome, Error> {
        if self.step >= self.total || self.best.ended {
            return Ok(StepOutcome::Done);
        }
        if self.step == 0 && !self.initial_samples_shown {
            self.initial_samples_shown = true;
            match self.show_answers(sink) {
                // The step below hits the same error and names the pair.
                Err(Error::NotFinite(_)) => {}
                shown => shown?,
            }
            self.measure_probe(sink)?;
            self.measure_suites(sink)?;
        }
        let began = Instant::now();
        let mut tally = Tally::default();
        let (own, mut work) = self.accumulate_gradients(&mut tally, sink)?;
        let narrow = self.policy.decoder().dtype().size_in_bytes() < 4;
        self.check.check_start(self.step, own, &tally, narrow, sink)?;
        let (mixed, more) = match &self.mix {
            Some(mix) => mix.accumulate_gradients(&mut self.policy, &self.batches, self.step, &mut tally, sink)?,
            None => (0.0, 0),
        };
        self.check.report_narrowed(self.step, &self.policy, sink)?;
        let loss = own + mixed;
        work.new += more;
        work.processed += more;

        let gradients = self.policy.take_gradients()?;
        let norm = AdamW::norm(&gradients)?;
        if !norm.is_finite() {
            return Err(self.non_finite_gradient(sink)?);
        }
        let rate = self.schedule.rate(self.step);
        // Equal rewards give zero gradients, which is no fault of the tensors.
        let watching = self.check.checks_update(rate) && (norm > 0.0 || self.rollouts.is_none());
        let update = self.optimizer.update(self.policy.trainables(), &gradients, norm, rate, watching)?;
        drop(gradients);
        if watching {
            let vocab = self.model.config.vocab;
            self.check.check_moved(self.step, rate, &update, self.policy.trainables(), &tally, vocab, sink)?;
        }
        self.step += 1;
        self.tokens += work.new;

        let seconds = began.elapsed().as_secs_f64();
        let mut metrics = Metrics::new();
        metrics.set("loss", loss);
        metrics.set("grad_norm", norm);
        metrics.set("learning_rate", rate);
        tally.write("", &mut metrics);
        metrics.set("num_tokens", self.tokens as f64);
        metrics.set("step_seconds", seconds);
        metrics.set("tokens_per_second", work.processed as f64 / seconds);
        if let Some(mib) = self_check::peak_mib() {
            metrics.set("peak_mib", mib);
        }
        let found = self.health.observe(self.step, &metrics);
        sink.emit(RunEvent::Stepped { step: self.step, epoch: self.epoch(), metrics })?;
        for finding in found {
            sink.emit(RunEvent::Found(finding))?;
        }

        if self.due(self.params.eval_steps) && !self.eval.examples.is_empty() {
            let metrics = self.evaluate()?;
            sink.emit(RunEvent::Evaluated { step: self.step, metrics: metrics.clone() })?;
            if !self.params.metric_for_best_model.starts_with(SUITE_PREFIX) {
                self.best.compare(&metrics, &self.params, self.step, self.total, sink)?;
            }
        }
        if self.due(self.probe.as_ref().map_or(0, |probe| probe.every)) {
            self.measure_probe(sink)?;
        }
        if self.suites.as_ref().is_some_and(|(_, every)| self.due(*every)) {
            self.measure_suites(sink)?;
        }
        if self.due(self.params.sample_steps) {
            self.show_answers(sink)?;
        }
        Ok(StepOutcome::Stepped)
    }

    /// Whether something that happens every `every` steps is due; always true at the end.
    fn due(&self, every: u64) -> bool {
        self.step == self.total || self.best.ended || (every > 0 && self.step.is_multiple_of(every))
    }

    fn show_answers(&self, sink: &mut dyn Sink) -> Result<(), Error> {
        answers::emit_samples(&self.sample_prompts, &self.model, &self.policy, self.step, sink)
    }

    fn measure_suites(&mut self, sink: &mut dyn Sink) -> Result<(), Error> {
        let Some((suites, _)) = &mut self.suites else { return Ok(()) };
        self.policy.release_memory();
        let (metrics, findings) = suites.measure(&self.model, &self.policy, self.step)?;
        self.policy.release_memory();
        sink.emit(RunEvent::Evaluated { step: self.step, metrics: metrics.clone() })?;
        for finding in findings {
            sink.emit(RunEvent::Found(finding))?;
        }
        if self.params.metric_for_best_model.starts_with(SUITE_PREFIX) && self.step > 0 {
            self.best.compare(&metrics, &self.params, self.step, self.total, sink)?;
        }
        Ok(())
    }

    fn measure_probe(&mut self, sink: &mut dyn Sink) -> Result<(), Error> {
        match &mut self.probe {
            Some(probe) => probe.measure(&self.policy, self.step, sink),
            None => Ok(()),
        }
    }

    /// Accumulates the gradient of the next step's rows; returns the loss and the token counts.
    fn accumulate_gradients(&mut self, tally: &mut Tally, sink: &mut dyn Sink) -> Result<(f64, StepTokens), Error> {
        if let Some(rollouts) = &mut self.rollouts {
            let from = RolloutContext {
                policy: &mut self.policy,
                model: &self.model,
                examples: &self.train.examples,
                batches: &self.batches,
                step: self.step,
            };
            return rollouts.accumulate_gradients(self.recipe.as_mut(), from, tally, sink);
        }
        let (micro, mut before) = self.batches.window(self.step);
        let examples = || micro.iter().flatten().map(|i| &self.train.examples[*i]);
        let (all, scored) = (examples().count(), examples().map(Example::scored).sum::<usize>());
        let tokens: usize = examples().map(Example::tokens).sum();
        let mut loss = 0.0;
        for rows in &micro {
            // Micro-batches have equal weight, even a smaller last one, as in TRL.
            let share =
                if self.batches.by_tokens() { rows.len() as f64 / all as f64 } else { 1.0 / micro.len() as f64 };
            let window = UpdateWindow { share, tokens: scored as f64 };
            loss += self.forward_backward(rows, before, &window, tally, sink)?;
            before += rows.len() as u64;
        }
        Ok((loss, StepTokens { new: tokens as u64, processed: tokens as u64 }))
    }

    /// Forward and backward pass of a micro-batch; returns its share of the window's loss. `before` is the number of examples
    /// processed before it in the run.
    fn forward_backward(
        &mut self,
        micro: &[usize],
        before: u64,
        window: &UpdateWindow,
        tally: &mut Tally,
        sink: &mut dyn Sink,
    ) -> Result<f64, Error> {
        let Self { train, recipe, health, policy, .. } = self;
        let examples: Vec<&Example> = micro.iter().map(|i| &train.examples[*i]).collect();
        let references: Vec<Option<&Reference>> = micro.iter().map(|i| train.references.get(*i)).collect();
        let grouping = Grouping::new(recipe.needs_reference(), policy.packs());
        let options = PassOptions { first_pass: before, temperature: 1.0, grouping, separable: recipe.separable() };
        let done = forward_backward(policy, &examples, &references, options, &mut |batch| {
            for example in batch {
                health.record(example);
            }
            recipe.loss(batch, window, tally)
        })?;
        tally.close();
        match done {
            Ok(loss) => Ok(loss),
            Err(bad) => Err(self_check::non_finite_scores(self.step, bad, sink)?),
        }
    }

    /// Evaluates the held-out examples; metrics are weighted by examples or tokens, not by batches.
    fn evaluate(&mut self) -> Result<Metrics, Error> {
        let ExampleSet { examples, references } = &self.eval;
        if let Some(rollouts) = &self.rollouts {
            return rollouts.evaluate(&self.policy, &self.model, examples, self.batches.seed);
        }
        let mut tally = Tally::default();
        let mut all = Vec::with_capacity(examples.len());
        let size = self.batches.rows_per_micro_batch();
        for first in (0..examples.len()).step_by(size) {
            let end = (first + size).min(examples.len());
            let batch: Vec<&Example> = examples[first..end].iter().collect();
            let scores = score(&self.policy, &batch)?;
            let references: Vec<Option<&Reference>> = (first..end).map(|i| references.get(i)).collect();
            for ((example, scored), reference) in batch.iter().zip(&scores).zip(&references) {
                if let Some(what) = not_finite(scored, *reference) {
                    return Err(Error::NotFinite(format!(
                        "{what} of the held-out pair {} are not finite.",
                        example.id
                    )));
                }
            }
            let scored = scored_examples(&batch, &scores, &references);
            let tokens = batch.iter().map(|e| e.scored()).sum::<usize>() as f64;
            let out = self.recipe.loss(&scored, &UpdateWindow { share: 1.0, tokens }, &mut tally)?;
            tally.close();
            tally.add("loss", out.loss, self.recipe.eval_weight(&scored));
            all.extend(scores.into_iter().map(|s| s.rows));
        }
        let mut metrics = Metrics::new();
        tally.write("eval_", &mut metrics);
        self.recipe.finish_evaluation(&all, &mut metrics);
        Ok(metrics)
    }

    /// A gradient is not finite although the losses are: repeats the step example by example to find the culprit.
    fn non_finite_gradient(&mut self, sink: &mut dyn Sink) -> Result<Error, Error> {
        let mut culprit = None;
        let rows = if self.rollouts.is_none() { self.batches.window(self.step).0 } else { Vec::new() };
        for i in rows.into_iter().flatten() {
            let window = UpdateWindow { share: 1.0, tokens: self.train.examples[i].scored() as f64 };
            self.forward_backward(&[i], 0, &window, &mut Tally::default(), sink)?;
            let gradients = self.policy.take_gradients()?;
            if !AdamW::norm(&gradients)?.is_finite() {
                culprit = Some(self.train.examples[i].id.clone());
                break;
            }
        }
        self_check::non_finite_gradient(self.step, culprit, sink)
    }
}

/// Emits the progress of a stage before the first step, at most about twenty times per stage.
fn progress(sink: &mut dyn Sink, stage: &str, done: usize, total: usize) -> Result<(), Error> {
    if done == total || done.is_multiple_of(total.div_ceil(20).max(1)) {
        sink.emit(RunEvent::Progressed { stage: stage.into(), done: done as u64, total: total as u64 })?;
    }
    Ok(())
}
