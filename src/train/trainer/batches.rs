//! Rows to batches and batches to steps, as a pure function of the specification and the step. Refuses texts and tensors.

use crate::domain::{RolloutParams, TrainerParams};
use crate::model::error::Error;
use crate::train::data::{self, Example};
use std::cmp::Reverse;

/// Maximum micro-batches that are sorted by length together: little padding, but different batches every epoch.
const SORTED: usize = 50;

/// How a round's answers are split into updates and micro-batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RoundShape {
    /// Answers per prompt.
    pub(super) group: usize,
    /// Answers per micro-batch.
    pub(super) size: usize,
    /// Micro-batches per update.
    pub(super) accumulate: usize,
    /// Updates per epoch over the round.
    pub(super) minis: usize,
    /// Epochs over the round.
    pub(super) iterations: usize,
}

impl RoundShape {
    /// The order of the `n` answers of round `number` in epoch `pass`, from another stream than the prompts' order.
    pub(super) fn order(&self, n: usize, seed: u64, number: u64, pass: usize) -> Vec<usize> {
        data::order(n, true, seed ^ 0x7061_7373, number * self.iterations as u64 + pass as u64)
    }

    /// Answers per update in a round of `n`.
    pub(super) fn per_update(&self, n: usize) -> usize {
        n.div_ceil(self.minis)
    }

    /// The round shape of `params`.
    ///
    /// # Errors
    /// When its answers are not a multiple of the group size.
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
        Err(Error::Invalid(format!(
            "a round has {answers} answers (per_device_train_batch_size × gradient_accumulation_steps × num_mini_batches), \
             which is not a multiple of num_generations={}; change one of them",
            out.group
        )))
    }

    /// Answers per round.
    pub(super) fn answers(&self) -> usize {
        self.size * self.accumulate * self.minis
    }

    /// Prompts per round.
    pub(super) fn prompts(&self) -> usize {
        self.answers() / self.group
    }

    /// Updates per round.
    pub(super) fn updates(&self) -> u64 {
        (self.minis * self.iterations) as u64
    }
}

/// The plan of batches and steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Batches {
    pub(super) rows: usize,
    /// Tokens of each row's longest sequence, for grouping by length.
    lengths: Option<Vec<usize>>,
    /// Rows per micro-batch, without a token budget.
    size: usize,
    /// With a token budget: the ends of micro-batches in rows sorted by length.
    ends: Option<Vec<usize>>,
    /// Micro-batches per step.
    accumulate: usize,
    pub(super) seed: u64,
    shuffle: bool,
    /// Updates on the same rows before the next ones (online methods).
    updates_per_round: u64,
    /// Sequences trained on per row.
    sequences_per_row: usize,
    /// Total steps.
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

    /// Batches of these examples, grouped by length with `group_by_length`, and filled up to `max_tokens_per_batch`.
    ///
    /// # Errors
    /// When the token budget is below the longest example.
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
                Error::Invalid(format!(
                    "max_tokens_per_batch={budget} is too small for the longest row of {least} tokens; set it to {least} or \
                     more, or lower max_length"
                ))
            })?);
        }
        out.lengths = Some(lengths);
        out.set_total(params);
        Ok(out)
    }

    /// Rounds of prompts for online methods: every step is one update on a round's answers.
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

    /// Micro-batches per epoch.
    fn micro(&self) -> usize {
        self.ends.as_ref().map_or_else(|| self.rows.div_ceil(self.size), Vec::len)
    }

    /// Whether there is a token budget. Micro-batches then differ in size, and every row of an update has equal weight.
    pub(super) fn by_tokens(&self) -> bool {
        self.ends.is_some()
    }

    /// Steps per epoch; the last one may have fewer micro-batches.
    pub(crate) fn per_epoch(&self) -> u64 {
        self.micro().div_ceil(self.accumulate) as u64 * self.updates_per_round
    }

    /// Sequences per full step; an average with a token budget.
    pub(super) fn rows_per_step(&self) -> f64 {
        let size = match &self.ends {
            Some(ends) => self.rows as f64 / ends.len().max(1) as f64,
            None => self.size as f64,
        };
        size * (self.accumulate * self.sequences_per_row) as f64 / self.updates_per_round as f64
    }

    /// Rows per micro-batch for evaluation and mixed SFT rows.
    pub(super) fn rows_per_micro_batch(&self) -> usize {
        let most = |ends: &Vec<usize>| ends.first().copied().unwrap_or(1);
        self.ends.as_ref().map_or(self.size, most).max(1)
    }

    /// Sequences trained on in the first `done` steps.
    pub(super) fn rows_seen(&self, done: u64) -> f64 {
        let (epoch, within) = (done / self.per_epoch(), done % self.per_epoch());
        let whole = (self.rows * self.sequences_per_row) as f64;
        epoch as f64 * whole + (within as f64 * self.rows_per_step()).min(whole)
    }

    /// The round of the step after `done` steps: its rows, its number, and the step's index in it.
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

    /// The run's micro-batches in order, limited to the epochs that fit into `rows` rows, at least the first.
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

    /// The micro-batches of answers for as many prompts; each answer as its prompt's row index.
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

    /// The micro-batches of the step after `done` steps as row indices, and the number of rows before them in the run.
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

/// Groups rows by length: sorts within chunks of a shuffled `order`, splits into micro-batches and shuffles these. The one with
/// the longest row comes first, so that a lack of memory shows at once; an incomplete one comes last.
fn by_length(lengths: &[usize], size: usize, mut order: Vec<usize>, seed: u64, epoch: u64) -> Vec<usize> {
    let Some(top) = (0..order.len()).max_by_key(|at| (lengths[order[*at]], Reverse(*at))) else { return order };
    order.swap(0, top);
    // At least four chunks if there are enough rows, as in Hugging Face's sampler.
    let chunk = size * (order.len() / (4 * size)).clamp(1, SORTED);
    for part in order.chunks_mut(chunk) {
        part.sort_by_key(|row| Reverse(lengths[*row]));
    }
    let micro: Vec<&[usize]> = order.chunks(size).collect();
    let whole = order.len() / size;
    let rest = shuffled_after_first(whole, seed, epoch).chain(whole.max(1)..micro.len());
    std::iter::once(0).chain(rest).flat_map(|k| micro[k].iter().copied()).collect()
}

/// The indices of all micro-batches except the first, shuffled.
fn shuffled_after_first(micro: usize, seed: u64, epoch: u64) -> impl Iterator<Item = usize> {
    // Another stream than the rows' order.
    data::order(micro.saturating_sub(1), true, seed ^ 0x006c_656e, epoch).into_iter().map(|k| k + 1)
}

/// The ends of micro-batches filled up to `budget` tokens, padding included, longest rows first. `sizes`: (length of the longest
/// sequence, number of sequences).
///
/// # Errors
/// The tokens of the largest row, if above the budget.
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

/// Rows sorted by length (ties in the shuffled `order`), split at `ends`. Micro-batches are shuffled except the first, which has
/// the longest row.
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
        // Unordered lengths.
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
    fn the_longest_row_is_in_the_first_batch_and_every_row_is_in_one_batch() {
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
    fn rows_are_grouped_by_length_differently_every_epoch() {
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
    fn a_token_budget_limits_batches_and_the_longest_comes_first() {
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
