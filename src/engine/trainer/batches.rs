//! How rows make batches and batches make steps: a pure function of the specification and the number of steps made.

use crate::domain::Params;
use crate::engine::error::Error;
use crate::engine::rows::order;

/// How the answers of a round are cut into updates and micro-batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Round {
    /// Answers to a prompt.
    pub(super) group: usize,
    /// Answers of a micro-batch.
    pub(super) size: usize,
    /// Micro-batches of an update.
    pub(super) accumulate: usize,
    /// Updates of a pass over the round.
    pub(super) minis: usize,
    /// Passes over the round.
    pub(super) iterations: usize,
}

impl Round {
    /// The round that `params` ask for.
    ///
    /// # Errors
    /// When its answers are not whole groups.
    pub(super) fn new(params: &Params) -> Result<Self, Error> {
        let of = |key: &str| params.usize(key).max(1);
        let out = Self {
            group: of("num_generations"),
            size: of("per_device_train_batch_size"),
            accumulate: of("gradient_accumulation_steps"),
            minis: of("num_mini_batches"),
            iterations: of("num_iterations"),
        };
        let answers = out.answers();
        if answers.is_multiple_of(out.group) {
            return Ok(out);
        }
        Err(Error::Asked(format!(
            "a round has {answers} answers (per_device_train_batch_size × gradient_accumulation_steps × num_mini_batches), \
             which are no whole groups of num_generations={}; make one a multiple of the other",
            out.group
        )))
    }

    /// Answers of a round.
    pub(super) fn answers(&self) -> usize {
        self.size * self.accumulate * self.minis
    }

    /// Prompts of a round.
    pub(super) fn prompts(&self) -> usize {
        self.answers() / self.group
    }

    /// Updates made of a round.
    pub(super) fn updates(&self) -> u64 {
        (self.minis * self.iterations) as u64
    }
}

/// How rows make batches and batches make steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) struct Batches {
    pub(super) rows: usize,
    /// Pairs in a micro-batch.
    pub(super) size: usize,
    /// Micro-batches in a step.
    accumulate: usize,
    pub(super) seed: u64,
    shuffle: bool,
    /// Updates made of the rows of a step before the next ones are taken.
    repeat: u64,
    /// Sequences trained on for each row.
    times: usize,
    /// Steps in all.
    pub(in crate::engine) total: u64,
}

impl Batches {
    pub(in crate::engine) fn new(rows: usize, params: &Params) -> Self {
        let size = params.usize("per_device_train_batch_size").max(1);
        let accumulate = params.usize("gradient_accumulation_steps").max(1);
        let seed = params.i64("seed") as u64;
        let mut out =
            Self { rows, size, accumulate, seed, shuffle: params.bool("shuffle"), repeat: 1, times: 1, total: 0 };
        out.set_total(params);
        out
    }

    /// Rounds of prompts for a method that answers them itself: every step of a round is one update on its answers.
    ///
    /// # Errors
    /// When the answers of a round do not come out even.
    pub(in crate::engine) fn rounds(rows: usize, params: &Params) -> Result<Self, Error> {
        let round = Round::new(params)?;
        let seed = params.i64("seed") as u64;
        let mut out = Self {
            rows,
            size: round.prompts().min(rows.max(1)),
            accumulate: 1,
            seed,
            shuffle: params.bool("shuffle"),
            repeat: round.updates(),
            times: round.group,
            total: 0,
        };
        out.set_total(params);
        Ok(out)
    }

    fn set_total(&mut self, params: &Params) {
        let asked = params.i64("max_steps");
        self.total = match u64::try_from(asked) {
            Ok(steps) if steps > 0 => steps,
            _ => (params.f64("num_train_epochs") * self.per_epoch() as f64).ceil() as u64,
        };
    }

    /// Micro-batches of an epoch.
    fn micro(&self) -> usize {
        self.rows.div_ceil(self.size)
    }

    /// Steps of an epoch; the last one may have fewer micro-batches.
    pub(in crate::engine) fn per_epoch(&self) -> u64 {
        self.micro().div_ceil(self.accumulate) as u64 * self.repeat
    }

    /// Sequences of a full step.
    pub(super) fn rows_per_step(&self) -> f64 {
        (self.size * self.accumulate * self.times) as f64 / self.repeat as f64
    }

    /// Sequences trained on by the first `done` steps.
    pub(super) fn rows_seen(&self, done: u64) -> f64 {
        let (epoch, within) = (done / self.per_epoch(), done % self.per_epoch());
        let whole = (self.rows * self.times) as f64;
        epoch as f64 * whole + (within as f64 * self.rows_per_step()).min(whole)
    }

    /// Rows of the round that the step after `done` steps belongs to, its number, and the step's place in it.
    pub(super) fn round(&self, done: u64) -> (Vec<usize>, u64, u64) {
        let (rows, _) = self.window(done);
        (rows.concat(), done / self.repeat, done % self.repeat)
    }

    /// The micro-batches of the step after `done` steps, as indices of rows, and how many pairs came before them in the run.
    pub(super) fn window(&self, done: u64) -> (Vec<Vec<usize>>, u64) {
        if done >= self.total {
            return (Vec::new(), 0);
        }
        let (epoch, within) = (done / self.per_epoch(), (done % self.per_epoch() / self.repeat) as usize);
        let order = order(self.rows, self.shuffle, self.seed, epoch);
        let first = within * self.accumulate;
        let micro = order.chunks(self.size).skip(first).take(self.accumulate).map(<[usize]>::to_vec).collect();
        (micro, epoch * self.rows as u64 + (first * self.size) as u64)
    }
}
