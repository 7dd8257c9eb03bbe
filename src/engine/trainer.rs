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
mod checkpoint;
mod watch;

use super::device::device;
use super::error::Error;
use super::language_model::LanguageModel;
use super::loss::{PairLoss, Tally};
use super::optim::AdamW;
use super::policy::{Batch, Policy, TokenScores};
use super::recipe::{Recipe, Scored, recipe};
use super::reference::{Reference, ReferenceCache, rows as token_rows};
use super::rows::{TokenPair, Tokenised, order, tokenise};
use super::schedule::Schedule;
use super::sink::Sink;
use super::tune::{LINEARS, LoraSpec, Tune};
use crate::domain::{Metrics, PairRow, Params, method};
use crate::protocol::{Plan, RunEvent, RunSpec, Task, TrainSpec};
use std::path::Path;
use std::time::Instant;
use watch::Check;

/// What a call of [`Trainer::step`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepOutcome {
    /// One update was made; there may be more.
    Stepped,
    /// Nothing: every planned step has been made.
    Done,
}

/// A training run in memory.
pub struct Trainer {
    model: LanguageModel,
    policy: Policy,
    recipe: Box<dyn Recipe>,
    optimizer: AdamW,
    schedule: Schedule,
    spec: TrainSpec,
    /// Prompts by row, for sampled answers.
    asked: Vec<crate::domain::PromptBody>,
    train: Data,
    eval: Data,
    batches: Batches,
    step: u64,
    /// Real tokens trained on so far, prompts of both sides counted.
    tokens: u64,
    check: Check,
    /// Answers of the untrained model have been shown.
    introduced: bool,
}

/// Pairs with their reference log-probs; `references` is empty where the method has none.
#[derive(Default)]
struct Data {
    pairs: Vec<TokenPair>,
    references: Vec<Reference>,
}

/// How rows make batches and batches make steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Batches {
    rows: usize,
    /// Pairs in a micro-batch.
    size: usize,
    /// Micro-batches in a step.
    accumulate: usize,
    seed: u64,
    shuffle: bool,
    /// Steps in all.
    pub(super) total: u64,
}

impl Batches {
    pub(super) fn new(rows: usize, params: &Params) -> Self {
        let size = params.usize("per_device_train_batch_size").max(1);
        let accumulate = params.usize("gradient_accumulation_steps").max(1);
        let seed = params.i64("seed") as u64;
        let mut out = Self { rows, size, accumulate, seed, shuffle: params.bool("shuffle"), total: 0 };
        let asked = params.i64("max_steps");
        out.total = match u64::try_from(asked) {
            Ok(steps) if steps > 0 => steps,
            _ => (params.f64("num_train_epochs") * out.per_epoch() as f64).ceil() as u64,
        };
        out
    }

    /// Micro-batches of an epoch.
    fn micro(&self) -> usize {
        self.rows.div_ceil(self.size)
    }

    /// Steps of an epoch; the last one may have fewer micro-batches.
    pub(super) fn per_epoch(&self) -> u64 {
        self.micro().div_ceil(self.accumulate) as u64
    }

    /// The micro-batches of the step after `done` steps, as indices of rows, and how many pairs came before them in the run.
    fn window(&self, done: u64) -> (Vec<Vec<usize>>, u64) {
        let (epoch, within) = (done / self.per_epoch(), (done % self.per_epoch()) as usize);
        let order = order(self.rows, self.shuffle, self.seed, epoch);
        let first = within * self.accumulate;
        let micro = order.chunks(self.size).skip(first).take(self.accumulate).map(<[usize]>::to_vec).collect();
        (micro, epoch * self.rows as u64 + (first * self.size) as u64)
    }
}

/// What is trained, by `tune` and the `lora_*` parameters.
#[must_use]
pub fn tune_of(params: &Params) -> Tune {
    if params.text("tune") == "full" {
        return Tune::Full;
    }
    let modules: Vec<&str> = params.text("lora_target_modules").split(',').map(str::trim).collect();
    let wanted = |name: &&&str| modules.contains(&"all-linear") || modules.contains(*name);
    Tune::Lora(LoraSpec {
        r: params.usize("lora_r"),
        alpha: params.f64("lora_alpha"),
        rslora: false,
        dropout: params.f64("lora_dropout"),
        targets: LINEARS.iter().filter(wanted).map(|name| (*name).to_owned()).collect(),
        seed: params.i64("seed") as u64,
    })
}

/// The training part of a specification.
pub(super) fn train_spec(spec: &RunSpec) -> Result<&TrainSpec, Error> {
    match &spec.task {
        Task::Train(t) => Ok(t),
        Task::Sample(_) => Err(Error::Asked(format!("run {} samples; it has nothing to train", spec.id))),
    }
}

impl Trainer {
    /// Makes everything ready for the first step: loads the model, tokenises `rows`, computes or reads the reference
    /// log-probs (kept in `cache`), and says `Progressed` and `Planned`.
    ///
    /// `init` is the checkpoint folder of an earlier run whose trained weights this one starts from; as they are then, they
    /// are the reference. `resume` is a checkpoint folder of this very run.
    ///
    /// # Errors
    /// When the model cannot be loaded, no row is left to train on, or a checkpoint does not belong to this run.
    pub fn open(
        spec: &RunSpec,
        rows: &[PairRow],
        cache: &Path,
        init: Option<&Path>,
        resume: Option<&Path>,
        sink: &mut dyn Sink,
    ) -> Result<Self, Error> {
        let train_spec = train_spec(spec)?.clone();
        let params = &train_spec.params;
        let recipe = recipe(&train_spec.method, params)?;
        let progress = |sink: &mut dyn Sink, stage: &str, done: usize, total: usize| {
            // Twenty lines of a stage in the log are enough for a bar.
            if done == total || done.is_multiple_of(total.div_ceil(20).max(1)) {
                sink.emit(RunEvent::Progressed { stage: stage.into(), done: done as u64, total: total as u64 })?;
            }
            Ok(())
        };

        progress(sink, "loading the model", 0, 1)?;
        let model = LanguageModel::open(Path::new(&train_spec.model.path))?;
        let decoder = model.decoder(&device(&spec.device)?, &tune_of(params))?;
        let policy = Policy::new(decoder);
        progress(sink, "loading the model", 1, 1)?;

        let fraction = params.f64("eval_fraction");
        let longest = params.usize("max_length");
        let Tokenised { train, eval, dropped, findings } =
            tokenise(&model, rows, longest, fraction, |done| progress(sink, "tokenising", done, rows.len()))?;
        if train.is_empty() {
            let why: Vec<_> = dropped.iter().map(|d| format!("{} {}", d.count, d.reason)).collect();
            return Err(Error::Asked(format!(
                "none of {} rows is left to train on ({} kept for evaluation, left out: {}); add pairs, raise \
                 max_length, or lower eval_fraction",
                rows.len(),
                eval.len(),
                if why.is_empty() { "none".to_owned() } else { why.join(", ") }
            )));
        }
        if resume.is_none() {
            for finding in findings {
                sink.emit(RunEvent::Found(finding))?;
            }
        }

        let mut identity = format!("{} f32", model.fingerprint()?);
        if let Some(dir) = init {
            checkpoint::start_from(&policy, params, dir)?;
            identity = format!("{identity} {}", checkpoint::weights_hash(&policy)?);
        }
        let all: Vec<&TokenPair> = train.iter().chain(&eval).collect();
        let mut references = if recipe.needs_reference() {
            let total = all.len();
            let watch = |done: usize| progress(sink, "reference log-probs", done, total);
            let (references, used) = ReferenceCache::new(cache, &identity).get(&policy, init.is_some(), &all, watch)?;
            if used.computed < total {
                progress(sink, "reference log-probs", total, total)?;
            }
            references
        } else {
            Vec::new()
        };
        let eval_references = references.split_off(train.len().min(references.len()));

        let batches = Batches::new(train.len(), params);
        let schedule = Schedule::new(params, batches.total)?;
        let optimizer = AdamW::new(params, policy.trainables())?;
        let at_reference = recipe.at_reference().filter(|_| init.is_none() || params.f64("lora_dropout") == 0.0);
        sink.emit(RunEvent::Planned(Plan {
            total_steps: batches.total,
            steps_per_epoch: batches.per_epoch(),
            train_rows: train.len(),
            eval_rows: eval.len(),
            trainable: policy.trainables().iter().map(|(_, v)| v.elem_count() as u64).sum(),
            parameters: model.config.parameters(),
            dropped,
            objective: method(&train_spec.method).map(|m| (m.objective)(params)).unwrap_or_default(),
            longest: train.iter().chain(&eval).map(TokenPair::longest).max().unwrap_or(0),
        }))?;
        let mut trainer = Self {
            asked: rows.iter().map(|r| r.prompt.clone()).collect(),
            model,
            policy,
            recipe,
            optimizer,
            schedule,
            spec: train_spec,
            train: Data { pairs: train, references },
            eval: Data { pairs: eval, references: eval_references },
            batches,
            step: 0,
            tokens: 0,
            check: Check::new(at_reference),
            introduced: false,
        };
        if let Some(dir) = resume {
            trainer.restore(dir)?;
        }
        Ok(trainer)
    }

    /// Makes the next step and tells `sink`: answers of the untrained model before the first, then `Stepped`, and
    /// `Evaluated` and `Sampled` where they are due.
    ///
    /// # Errors
    /// When the loss or a gradient is not finite (no weight has changed by it then) or a self-check fails, both after a `Found`
    /// of severity stop; or when a tensor operation fails.
    pub fn step(&mut self, sink: &mut dyn Sink) -> Result<StepOutcome, Error> {
        if self.step >= self.batches.total {
            return Ok(StepOutcome::Done);
        }
        if self.step == 0 && !self.introduced {
            self.introduced = true;
            self.show_answers(sink)?;
        }
        let began = Instant::now();
        let (window, mut before) = self.batches.window(self.step);
        let mut tally = Tally::default();
        let mut tokens = 0;
        for micro in &window {
            let out = self.forward_backward(micro, before, window.len(), &mut tally, sink)?;
            before += micro.len() as u64;
            tally.add("loss", out.loss, 1.0);
            tokens += micro.iter().map(|i| self.train.pairs[*i].tokens()).sum::<usize>();
        }
        let loss = tally.mean("loss").unwrap_or(f64::NAN);
        self.check_start(loss, &tally, sink)?;

        let gradients = self.policy.take_gradients();
        let norm = AdamW::norm(&gradients)?;
        if !norm.is_finite() {
            return Err(self.bad_gradient(&window, sink)?);
        }
        let rate = self.schedule.rate(self.step);
        let watching = self.check.watching(rate);
        let update = self.optimizer.update(self.policy.trainables(), &gradients, norm, rate, watching)?;
        drop(gradients);
        if watching {
            self.check_moved(&update, sink)?;
        }
        self.step += 1;
        self.tokens += tokens as u64;

        let seconds = began.elapsed().as_secs_f64();
        let mut metrics = Metrics::new();
        metrics.set("loss", loss);
        metrics.set("grad_norm", norm);
        metrics.set("learning_rate", rate);
        tally.write("", &mut metrics);
        metrics.set("num_tokens", self.tokens as f64);
        metrics.set("step_seconds", seconds);
        metrics.set("tokens_per_second", tokens as f64 / seconds);
        if let Some(mib) = watch::peak_mib() {
            metrics.set("peak_mib", mib);
        }
        sink.emit(RunEvent::Stepped { step: self.step, epoch: self.epoch(), metrics })?;

        let last = self.step == self.batches.total;
        let due = |every: usize| last || (every > 0 && self.step.is_multiple_of(every as u64));
        let (evaluate, show) = (due(self.spec.params.usize("eval_steps")), due(self.spec.params.usize("sample_steps")));
        if evaluate && !self.eval.pairs.is_empty() {
            self.evaluate(sink)?;
        }
        if show {
            self.show_answers(sink)?;
        }
        Ok(StepOutcome::Stepped)
    }

    /// Steps made.
    #[must_use]
    pub fn step_count(&self) -> u64 {
        self.step
    }

    /// Steps planned.
    #[must_use]
    pub fn total_steps(&self) -> u64 {
        self.batches.total
    }

    /// Passes over the data so far.
    #[must_use]
    pub fn epoch(&self) -> f64 {
        self.step as f64 / self.batches.per_epoch() as f64
    }

    /// The rows trained on, in tokens.
    #[must_use]
    pub fn pairs(&self) -> &[TokenPair] {
        &self.train.pairs
    }

    /// The policy.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Scores a micro-batch of the training rows, adds its gradient ÷ `windows`, and gives its loss. `before` is how many
    /// pairs the run has seen before it.
    ///
    /// On the CPU each pair goes through the decoder alone, without the batch's padding: the same sums, less work, and the
    /// same bits as its reference log-probs, so that margins start at exactly 0.
    fn forward_backward(
        &mut self,
        micro: &[usize],
        before: u64,
        windows: usize,
        tally: &mut Tally,
        sink: &mut dyn Sink,
    ) -> Result<PairLoss, Error> {
        let pairs: Vec<&TokenPair> = micro.iter().map(|i| &self.train.pairs[*i]).collect();
        let covers = self.recipe.covers_prompt();
        let together = if self.policy.decoder().device().is_cpu() { 1 } else { pairs.len() };
        let (mut scores, mut tapes) = (TokenScores::default(), Vec::new());
        for (i, group) in pairs.chunks(together).enumerate() {
            // Dropout is a function of how many pairs came before, however the run got here.
            self.policy.set_passes(before + i as u64);
            let (part, tape) = self.policy.score_train(&batch_of(group, covers))?;
            scores.rows.extend(part.rows);
            tapes.push((tape, 2 * group.len()));
        }
        if let Some(bad) = watch::not_finite(&scores, &pairs) {
            return Err(self.bad_scores(bad, sink)?);
        }
        let references: Vec<Option<&Reference>> = micro.iter().map(|i| self.train.references.get(*i)).collect();
        let out = self.recipe.loss(&scored(&pairs, &scores, &references, covers), tally)?;
        if !out.loss.is_finite() {
            return Err(self.bad_scores(pairs[0].pair.clone(), sink)?);
        }
        let share = 1.0 / windows as f64;
        let mut g = Vec::with_capacity(scores.rows.len());
        for pair in &out.g {
            g.push(pair.chosen.iter().map(|x| x * share).collect());
            g.push(pair.rejected.iter().map(|x| x * share).collect());
        }
        let mut from = 0;
        for (tape, rows) in tapes {
            self.policy.backward(tape, &g[from..from + rows])?;
            from += rows;
        }
        Ok(out)
    }

    /// Measures the evaluation rows and says `Evaluated`; every metric is weighted by pairs or tokens, not by batches.
    fn evaluate(&mut self, sink: &mut dyn Sink) -> Result<(), Error> {
        let mut tally = Tally::default();
        let covers = self.recipe.covers_prompt();
        for first in (0..self.eval.pairs.len()).step_by(self.batches.size) {
            let end = (first + self.batches.size).min(self.eval.pairs.len());
            let pairs: Vec<&TokenPair> = self.eval.pairs[first..end].iter().collect();
            let scores = self.policy.score(&batch_of(&pairs, covers), true)?;
            let references: Vec<Option<&Reference>> = (first..end).map(|i| self.eval.references.get(i)).collect();
            let out = self.recipe.loss(&scored(&pairs, &scores, &references, covers), &mut tally)?;
            tally.add("loss", out.loss, pairs.len() as f64);
        }
        let mut metrics = Metrics::new();
        tally.write("eval_", &mut metrics);
        sink.emit(RunEvent::Evaluated { step: self.step, metrics })
    }
}

/// Chosen and rejected rows of each pair, one after the other.
fn batch_of(pairs: &[&TokenPair], prompt: bool) -> Batch {
    Batch { rows: pairs.iter().flat_map(|p| token_rows(p, prompt)).collect() }
}

fn scored<'a>(
    pairs: &[&TokenPair],
    scores: &'a TokenScores,
    references: &[Option<&'a Reference>],
    prompt: bool,
) -> Vec<Scored<'a>> {
    let sides = scores.rows.chunks_exact(2);
    sides
        .zip(pairs)
        .zip(references)
        .map(|((rows, pair), reference)| Scored {
            prompt: if prompt { pair.prompt.len() - 1 } else { 0 },
            chosen: &rows[0],
            rejected: &rows[1],
            reference: *reference,
        })
        .collect()
}
