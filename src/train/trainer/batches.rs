//! How rows make batches and batches make steps: a pure function of the specification and the number of steps made.

use crate::domain::{RolloutParams, TrainerParams};
use crate::model::error::Error;
use crate::train::data::{self, Example};
use std::cmp::Reverse;

/// Micro-batches that are sorted by length together, at most: enough for little padding, few enough for epochs that differ.
const SORTED: usize = 50;

/// How the answers of a round are cut into updates and micro-batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RoundShape {
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

impl RoundShape {
    /// In which order a pass over the `n` answers of round `number` takes them; every pass has its own, from another stream
    /// than the prompts' order.
    pub(super) fn order(&self, n: usize, seed: u64, number: u64, pass: usize) -> Vec<usize> {
        data::order(n, true, seed ^ 0x7061_7373, number * self.iterations as u64 + pass as u64)
    }

    /// Answers of an update, when a round has `n`.
    pub(super) fn per_update(&self, n: usize) -> usize {
        n.div_ceil(self.minis)
    }

    /// The round that `params` ask for.
    ///
    /// # Errors
    /// When its answers are not whole groups.
    pub(super) fn new(params: &TrainerParams, rollout: &RolloutParams) -> Result<Self, Error> {
        let out = Self {
            group: rollout.num_generations.max(1),
            size: params.per_device_train_batch_size.max(1),
            accumulate: params.gradient_accumulation_steps.max(1),
            minis: rollout.num_mini_batches.max(1),
            iterations: rollout.num_iterations.max(1),
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Batches {
    pub(super) rows: usize,
    /// Tokens of each row's longest sequence, where rows of similar length go together.
    lengths: Option<Vec<usize>>,
    /// Pairs in a micro-batch, where tokens do not bound it.
    size: usize,
    /// Where micro-batches that tokens bound end, in rows that are sorted by length.
    ends: Option<Vec<usize>>,
    /// Micro-batches in a step.
    accumulate: usize,
    pub(super) seed: u64,
    shuffle: bool,
    /// Updates made of the rows of a step before the next ones are taken.
    updates_per_round: u64,
    /// Sequences trained on for each row.
    sequences_per_row: usize,
    /// Steps in all.
    pub(crate) total: u64,
}

impl Batches {
    pub(crate) fn new(rows: usize, params: &TrainerParams) -> Self {
        let size = params.per_device_train_batch_size.max(1);
        let accumulate = params.gradient_accumulation_steps.max(1);
        let (seed, shuffle) = (params.seed, params.shuffle);
        let mut out = Self {
            rows,
            lengths: None,
            size,
            ends: None,
            accumulate,
            seed,
            shuffle,
            updates_per_round: 1,
            sequences_per_row: 1,
            total: 0,
        };
        out.set_total(params);
        out
    }

    /// Batches of these examples: those of similar length together where `group_by_length` asks for it, and as many as fit into
    /// `max_tokens_per_batch`.
    ///
    /// # Errors
    /// When that holds not even the longest of them.
    pub(crate) fn from_examples(examples: &[Example], params: &TrainerParams) -> Result<Self, Error> {
        let budget = params.max_tokens_per_batch;
        let mut out = Self::new(examples.len(), params);
        if !params.group_by_length && budget == 0 {
            return Ok(out);
        }
        let lengths: Vec<usize> = examples.iter().map(Example::longest).collect();
        if budget > 0 {
            let sizes = examples.iter().map(|e| (e.longest(), e.rows.len())).collect();
            out.ends = Some(fill_batches(sizes, budget).map_err(|least| {
                Error::Asked(format!(
                    "max_tokens_per_batch={budget} does not hold the longest row, which takes {least} tokens; set it to \
                     {least} or more, or lower max_length"
                ))
            })?);
        }
        out.lengths = Some(lengths);
        out.set_total(params);
        Ok(out)
    }

    /// Rounds of prompts for a method that answers them itself: every step of a round is one update on its answers.
    ///
    /// # Errors
    /// When the answers of a round do not come out even.
    pub(crate) fn rounds(rows: usize, params: &TrainerParams, rollout: &RolloutParams) -> Result<Self, Error> {
        let round = RoundShape::new(params, rollout)?;
        let mut out = Self {
            rows,
            lengths: None,
            size: round.prompts().min(rows.max(1)),
            ends: None,
            accumulate: 1,
            seed: params.seed,
            shuffle: params.shuffle,
            updates_per_round: round.updates(),
            sequences_per_row: round.group,
            total: 0,
        };
        out.set_total(params);
        Ok(out)
    }

    fn set_total(&mut self, params: &TrainerParams) {
        self.total = match u64::try_from(params.max_steps) {
            Ok(steps) if steps > 0 => steps,
            _ => (params.num_train_epochs * self.per_epoch() as f64).ceil() as u64,
        };
    }

    /// Micro-batches of an epoch.
    fn micro(&self) -> usize {
        self.ends.as_ref().map_or_else(|| self.rows.div_ceil(self.size), Vec::len)
    }

    /// Whether tokens bound a micro-batch, so that micro-batches differ in rows: a row counts in its update as much as any other.
    pub(super) fn by_tokens(&self) -> bool {
        self.ends.is_some()
    }

    /// Steps of an epoch; the last one may have fewer micro-batches.
    pub(crate) fn per_epoch(&self) -> u64 {
        self.micro().div_ceil(self.accumulate) as u64 * self.updates_per_round
    }

    /// Sequences of a full step, on average where tokens bound it.
    pub(super) fn rows_per_step(&self) -> f64 {
        let size = match &self.ends {
            Some(ends) => self.rows as f64 / ends.len().max(1) as f64,
            None => self.size as f64,
        };
        size * (self.accumulate * self.sequences_per_row) as f64 / self.updates_per_round as f64
    }

    /// Rows that are worked on at once, where they are no rows of these batches.
    pub(super) fn rows_per_micro_batch(&self) -> usize {
        let most = |ends: &Vec<usize>| ends.first().copied().unwrap_or(1);
        self.ends.as_ref().map_or(self.size, most).max(1)
    }

    /// Sequences trained on by the first `done` steps.
    pub(super) fn rows_seen(&self, done: u64) -> f64 {
        let (epoch, within) = (done / self.per_epoch(), done % self.per_epoch());
        let whole = (self.rows * self.sequences_per_row) as f64;
        epoch as f64 * whole + (within as f64 * self.rows_per_step()).min(whole)
    }

    /// Rows of the round that the step after `done` steps belongs to, its number, and the step's place in it.
    pub(super) fn round(&self, done: u64) -> (Vec<usize>, u64, u64) {
        let (rows, _) = self.window(done);
        (rows.concat(), done / self.updates_per_round, done % self.updates_per_round)
    }

    /// The micro-batches of an epoch.
    fn epoch(&self, epoch: u64) -> Vec<Vec<usize>> {
        let order = data::order(self.rows, self.shuffle, self.seed, epoch);
        let order = match (&self.lengths, &self.ends) {
            (Some(lengths), Some(ends)) => return by_tokens(lengths, ends, order, self.seed, epoch),
            (Some(lengths), None) => by_length(lengths, self.size, order, self.seed, epoch),
            (None, _) => order,
        };
        order.chunks(self.size).map(<[usize]>::to_vec).collect()
    }

    /// The micro-batches of the run in their order; of as many passes over the data as have at most `rows` rows together, and
    /// of the first in any case.
    pub(crate) fn planned_batches(&self, rows: usize) -> Vec<Vec<usize>> {
        let steps = self.per_epoch() / self.updates_per_round;
        if steps == 0 {
            return Vec::new();
        }
        let total = self.total.div_ceil(self.updates_per_round);
        let epochs = total.div_ceil(steps).min((rows / self.rows).max(1) as u64);
        let of = |epoch: u64| {
            let left = total.saturating_sub(epoch * steps).min(steps) as usize;
            self.epoch(epoch).into_iter().take(left * self.accumulate)
        };
        (0..epochs).flat_map(of).collect()
    }

    /// The micro-batches of answers that come of as many prompts, as indices of the prompts' rows, one an answer.
    ///
    /// # Errors
    /// When the answers of a round do not come out even.
    pub(crate) fn planned_answer_batches(
        &self,
        rows: usize,
        params: &TrainerParams,
        rollout: &RolloutParams,
    ) -> Result<Vec<Vec<usize>>, Error> {
        let round = RoundShape::new(params, rollout)?;
        let mut out = Vec::new();
        for (number, prompts) in self.planned_batches(rows).into_iter().enumerate() {
            let n = prompts.len() * round.group;
            for pass in 0..round.iterations {
                let order = round.order(n, self.seed, number as u64, pass);
                let micro = order.chunks(round.per_update(n)).flat_map(|part| part.chunks(round.size));
                out.extend(micro.map(|micro| micro.iter().map(|i| prompts[i / round.group]).collect()));
            }
        }
        Ok(out)
    }

    /// The micro-batches of the step after `done` steps, as indices of rows, and how many pairs came before them in the run.
    pub(super) fn window(&self, done: u64) -> (Vec<Vec<usize>>, u64) {
        if done >= self.total {
            return (Vec::new(), 0);
        }
        let (epoch, within) = (done / self.per_epoch(), (done % self.per_epoch() / self.updates_per_round) as usize);
        let first = within * self.accumulate;
        let mut micro = self.epoch(epoch);
        let before: usize = micro.iter().take(first).map(Vec::len).sum();
        let micro = micro.drain(first..(first + self.accumulate).min(micro.len())).collect();
        (micro, epoch * self.rows as u64 + before as u64)
    }
}

/// Rows in micro-batches of similar length: sorted within stretches of a shuffled `order`, cut into micro-batches, and these
/// shuffled. The one with the longest row is the first, so that a run whose memory is too small says so at once; an
/// incomplete one is the last.
fn by_length(lengths: &[usize], size: usize, mut order: Vec<usize>, seed: u64, epoch: u64) -> Vec<usize> {
    let Some(top) = (0..order.len()).max_by_key(|at| (lengths[order[*at]], Reverse(*at))) else { return order };
    order.swap(0, top);
    // At least four stretches where there are rows enough, as Hugging Face's sampler has it.
    let stretch = size * (order.len() / (4 * size)).clamp(1, SORTED);
    for part in order.chunks_mut(stretch) {
        part.sort_by_key(|row| Reverse(lengths[*row]));
    }
    let micro: Vec<&[usize]> = order.chunks(size).collect();
    let whole = order.len() / size;
    let rest = shuffled_after_first(whole, seed, epoch).chain(whole.max(1)..micro.len());
    std::iter::once(0).chain(rest).flat_map(|k| micro[k].iter().copied()).collect()
}

/// The places of all micro-batches but the first, shuffled.
fn shuffled_after_first(micro: usize, seed: u64, epoch: u64) -> impl Iterator<Item = usize> {
    // Another stream than the rows' order.
    data::order(micro.saturating_sub(1), true, seed ^ 0x006c_656e, epoch).into_iter().map(|k| k + 1)
}

/// Where micro-batches end that hold as many rows as fit into `budget` tokens, padding counted, in rows sorted by (length of
/// the longest sequence, sequences); the longest come first.
///
/// # Errors
/// The tokens of the largest row, when they are more.
fn fill_batches(mut sizes: Vec<(usize, usize)>, budget: usize) -> Result<Vec<usize>, usize> {
    if let Some(most) = sizes.iter().map(|(length, count)| length * count).max().filter(|most| *most > budget) {
        return Err(most);
    }
    sizes.sort_by_key(|size| Reverse(size.0));
    let (mut ends, mut first, mut sequences) = (Vec::new(), 0, 0);
    for (at, (_, count)) in sizes.iter().enumerate() {
        if sizes[first].0 * (sequences + count) > budget && at > first {
            ends.push(at);
            (first, sequences) = (at, 0);
        }
        sequences += count;
    }
    ends.extend((!sizes.is_empty()).then_some(sizes.len()));
    Ok(ends)
}

/// Rows sorted by length, those of the same length in the order of a shuffled `order`, cut at `ends`; the micro-batches are shuffled
/// but for the first, which has the longest row.
fn by_tokens(lengths: &[usize], ends: &[usize], mut order: Vec<usize>, seed: u64, epoch: u64) -> Vec<Vec<usize>> {
    order.sort_by_key(|row| Reverse(lengths[*row]));
    let mut starts = std::iter::once(0).chain(ends.iter().copied());
    let micro: Vec<Vec<usize>> = ends.iter().filter_map(|end| Some(order[starts.next()?..*end].to_vec())).collect();
    let rest = shuffled_after_first(micro.len(), seed, epoch);
    std::iter::once(0).chain(rest).filter_map(|k| micro.get(k).cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Hyperparameters, Params};

    fn batches(rows: usize, grouped: bool) -> Batches {
        let mut params = Params::default();
        let all = [("per_device_train_batch_size", "4"), ("num_train_epochs", "2"), ("shuffle", "true"), ("seed", "7")];
        for (k, v) in &all {
            params.0.insert((*k).into(), (*v).into());
        }
        // Lengths without an order to them.
        let lengths = grouped.then(|| (0..rows).map(|i| i * 37 % 101).collect());
        Batches { lengths, ..Batches::new(rows, &TrainerParams::read(&params).unwrap()) }
    }

    #[test]
    fn every_answer_of_a_round_is_in_one_micro_batch_of_a_pass() {
        let mut params = Params::defaults(&crate::domain::method("grpo").unwrap().rows());
        for (k, v) in [("num_generations", "3"), ("per_device_train_batch_size", "2"), ("num_iterations", "2")] {
            params.0.insert(k.into(), v.into());
        }
        params.0.insert("gradient_accumulation_steps".into(), "3".into());
        params.0.insert("max_steps".into(), "8".into());
        let rollout = RolloutParams::read(&params).unwrap();
        let params = TrainerParams::read(&params).unwrap();
        let batches = Batches::rounds(5, &params, &rollout).unwrap();
        let rounds = batches.planned_batches(100);
        let micro = batches.planned_answer_batches(100, &params, &rollout).unwrap();
        assert!(micro.iter().all(|m| (1..=2).contains(&m.len())));
        let mut count = [0; 5];
        micro.iter().flatten().for_each(|i| count[*i] += 1);
        let mut want = [0; 5];
        rounds.iter().flatten().for_each(|i| want[*i] += 3 * 2);
        assert_eq!(count, want);
        assert!(want.iter().any(|n| *n > 0));
    }

    #[test]
    fn the_longest_row_is_in_the_first_batch_and_every_row_in_one() {
        for rows in [1, 3, 4, 5, 17, 90, 401] {
            let b = batches(rows, true);
            let lengths = b.lengths.clone().unwrap();
            for epoch in 0..2 {
                let micro = b.epoch(epoch);
                let longest = lengths.iter().max().unwrap();
                assert!(micro[0].iter().any(|i| lengths[*i] == *longest), "{rows} rows: {:?}", micro[0]);
                assert!(micro[..micro.len() - 1].iter().all(|m| m.len() == 4), "{rows} rows");
                let mut all = micro.concat();
                all.sort_unstable();
                assert_eq!(all, (0..rows).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn lengths_go_together_in_an_order_of_each_epochs_own() {
        let (grouped, plain) = (batches(401, true), batches(401, false));
        let lengths = grouped.lengths.clone().unwrap();
        let padding = |b: &Batches| -> usize {
            let micro = b.epoch(0);
            let of = |m: &Vec<usize>| {
                let longest = m.iter().map(|i| lengths[*i]).max().unwrap();
                m.iter().map(|i| longest - lengths[*i]).sum::<usize>()
            };
            micro.iter().map(of).sum()
        };
        assert!(padding(&grouped) * 5 < padding(&plain), "{} {}", padding(&grouped), padding(&plain));
        let tops: Vec<usize> = grouped.epoch(0).iter().map(|m| lengths[m[0]]).collect();
        assert!(!tops.is_sorted_by(|a, b| a >= b), "the batches are shuffled");
        assert_eq!(grouped.epoch(1), batches(401, true).epoch(1));
        assert_ne!(grouped.epoch(0), grouped.epoch(1));
        // A step's window is its part of the epoch.
        let steps: Vec<Vec<usize>> = (0..grouped.per_epoch()).flat_map(|k| grouped.window(k).0).collect();
        assert_eq!(steps, grouped.epoch(0));
        assert_eq!(grouped.planned_batches(1), grouped.epoch(0));
        assert_eq!(grouped.planned_batches(10_000), [grouped.epoch(0), grouped.epoch(1)].concat());
        let three = Batches { total: 3, ..grouped.clone() };
        assert_eq!(three.planned_batches(10_000), grouped.epoch(0)[..3]);
    }

    #[test]
    fn tokens_bound_a_batch_and_the_longest_comes_first() {
        for (rows, sequences) in [(1, 1), (5, 2), (401, 1), (401, 2)] {
            let plain = batches(rows, true);
            let lengths = plain.lengths.clone().unwrap();
            let sizes: Vec<(usize, usize)> = lengths.iter().map(|n| (*n, sequences)).collect();
            let budget = 300;
            let ends = fill_batches(sizes, budget).unwrap();
            let b = Batches { ends: Some(ends), ..plain };
            let mut seen = 0;
            for epoch in 0..2 {
                let micro = b.epoch(epoch);
                assert_eq!(micro.len() as u64, b.per_epoch());
                let cost = |m: &[usize]| m.iter().map(|i| lengths[*i]).max().unwrap() * m.len() * sequences;
                assert!(micro.iter().all(|m| cost(m) <= budget), "{rows} rows of {sequences}");
                assert!(micro[0].iter().any(|i| lengths[*i] == *lengths.iter().max().unwrap()));
                let mut all = micro.concat();
                all.sort_unstable();
                assert_eq!(all, (0..rows).collect::<Vec<_>>());
                // A step's window is its part of the epoch, and what came before it is counted in rows.
                let b = Batches { total: 2 * b.per_epoch(), ..b.clone() };
                for (k, m) in micro.iter().enumerate() {
                    let (window, before) = b.window(epoch * b.per_epoch() + k as u64);
                    assert_eq!((&window[0], before), (m, seen));
                    seen += m.len() as u64;
                }
            }
            assert!(rows < 400 || b.epoch(0) != b.epoch(1));
        }
        assert_eq!(fill_batches(vec![(10, 2), (200, 2)], 300), Err(400));
        assert_eq!(fill_batches(vec![(100, 1), (50, 1), (150, 1), (150, 1)], 300), Ok(vec![2, 4]));
        assert_eq!(fill_batches(Vec::new(), 300), Ok(Vec::new()));
    }
}
