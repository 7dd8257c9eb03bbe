//! How rows make batches and batches make steps: a pure function of the specification and the number of steps made.

use crate::domain::Params;
use crate::engine::rows::order;

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
    /// Steps in all.
    pub(in crate::engine) total: u64,
}

impl Batches {
    pub(in crate::engine) fn new(rows: usize, params: &Params) -> Self {
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
    pub(in crate::engine) fn per_epoch(&self) -> u64 {
        self.micro().div_ceil(self.accumulate) as u64
    }

    /// Rows of a full step.
    pub(super) fn rows_per_step(&self) -> usize {
        self.size * self.accumulate
    }

    /// The micro-batches of the step after `done` steps, as indices of rows, and how many pairs came before them in the run.
    pub(super) fn window(&self, done: u64) -> (Vec<Vec<usize>>, u64) {
        if done >= self.total {
            return (Vec::new(), 0);
        }
        let (epoch, within) = (done / self.per_epoch(), (done % self.per_epoch()) as usize);
        let order = order(self.rows, self.shuffle, self.seed, epoch);
        let first = within * self.accumulate;
        let micro = order.chunks(self.size).skip(first).take(self.accumulate).map(<[usize]>::to_vec).collect();
        (micro, epoch * self.rows as u64 + (first * self.size) as u64)
    }
}
