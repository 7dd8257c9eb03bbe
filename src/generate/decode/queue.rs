//! Continuous batching: each candidate of a queued prompt becomes a row, and a finished row frees a slot for the next.
//!
//! Owns the queue's order and the drawing of tokens. Refuses to let rows depend on each other: a candidate's tokens depend
//! only on its prompt and its random generator.

use super::{KvCache, PackedDecoder, RowCache};
use crate::domain::{Finish, Sampler};
use crate::generate::generated::Generated;
use crate::generate::sampler::{Drawn, draw};
use crate::model::error::Error;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// A prompt to continue.
#[derive(Debug, Clone)]
pub struct PromptRequest {
    /// The caller's identifier.
    pub number: usize,
    /// Its tokens.
    pub prompt: Vec<u32>,
    /// A random generator for each candidate.
    pub rngs: Vec<ChaCha8Rng>,
    /// How its tokens are drawn.
    pub sampler: Sampler,
}

/// A prefilled prompt.
struct Prefilled {
    number: usize,
    prompt: Arc<Vec<u32>>,
    kv: Arc<KvCache>,
    logits: Arc<Vec<f32>>,
    sampler: Sampler,
    /// Candidates waiting for a slot.
    waiting: VecDeque<(usize, ChaCha8Rng)>,
}

/// A candidate in progress.
struct ActiveRow {
    number: usize,
    candidate: usize,
    prompt: Arc<Vec<u32>>,
    cache: RowCache,
    rng: ChaCha8Rng,
    sampler: Sampler,
    generated: Generated,
    /// The next input token.
    next: u32,
}

/// The candidates that are waiting, active and done.
pub struct Queue {
    rows: usize,
    stops: Vec<u32>,
    requests: VecDeque<PromptRequest>,
    prefilled: Option<Prefilled>,
    active: Vec<ActiveRow>,
    done: BTreeMap<usize, Vec<Option<Generated>>>,
}

impl Queue {
    /// An empty queue with at most `rows` active rows; `stops` end a row.
    #[must_use]
    pub fn new(rows: usize, stops: &[u32]) -> Self {
        let (requests, active, done) = (VecDeque::new(), Vec::new(), BTreeMap::new());
        Self { rows: rows.max(1), stops: stops.into(), requests, prefilled: None, active, done }
    }

    /// Appends a prompt.
    pub fn push(&mut self, request: PromptRequest) {
        self.done.insert(request.number, vec![None; request.rngs.len()]);
        self.requests.push_back(request);
    }

    /// Active rows.
    #[must_use]
    pub fn active(&self) -> usize {
        self.active.len()
    }

    /// Candidates waiting for a slot.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.prefilled.as_ref().map_or(0, |b| b.waiting.len())
            + self.requests.iter().map(|a| a.rngs.len()).sum::<usize>()
    }

    /// The candidates of a prompt once all are done, in the order of their generators.
    pub fn take(&mut self, number: usize) -> Option<Vec<Generated>> {
        if self.done.get(&number)?.iter().any(Option::is_none) {
            return None;
        }
        Some(self.done.remove(&number)?.into_iter().flatten().collect())
    }

    /// The tokens of a candidate so far and whether it has stopped; none before it began and after its prompt was taken.
    #[must_use]
    pub fn progress(&self, number: usize, candidate: usize) -> Option<(&[u32], bool)> {
        if let Some(generated) = self.done.get(&number)?.get(candidate)? {
            return Some((&generated.ids, true));
        }
        let row = self.active.iter().find(|row| (row.number, row.candidate) == (number, candidate))?;
        Some((&row.generated.ids, false))
    }

    /// Fills free slots and advances every row by a token; returns the number of tokens drawn, 0 when nothing is left to do.
    ///
    /// # Errors
    /// When a prompt is empty or holds a token that is not in the vocabulary, or logits are not finite.
    pub fn step(&mut self, decode: &PackedDecoder) -> Result<usize, Error> {
        let mut drawn = self.fill(decode)?;
        if self.active.is_empty() {
            return Ok(drawn);
        }
        for row in &mut self.active {
            decode.lengthen(&mut row.cache, || [row.prompt.as_slice(), &row.generated.ids].concat())?;
        }
        let tokens: Vec<u32> = self.active.iter().map(|o| o.next).collect();
        let mut rows: Vec<&mut RowCache> = self.active.iter_mut().map(|o| &mut o.cache).collect();
        let logits = decode.step(&tokens, &mut rows)?;
        let vocab = decode.config().vocab;
        let each = self.active.par_iter_mut().zip(logits.par_chunks(vocab));
        let draws: Vec<Drawn> = each.map(|(o, z)| draw(z, &o.sampler, &mut o.rng)).collect::<Result<_, Error>>()?;
        drawn += draws.len();
        for (row, draw) in std::mem::take(&mut self.active).into_iter().zip(draws) {
            self.advance(row, draw);
        }
        Ok(drawn)
    }

    /// Starts candidates while there are free slots.
    fn fill(&mut self, decode: &PackedDecoder) -> Result<usize, Error> {
        let mut drawn = 0;
        while self.active.len() < self.rows {
            let Some(prefilled) = self.prefilled.as_mut().filter(|b| !b.waiting.is_empty()) else {
                let Some(request) = self.requests.pop_front() else { break };
                self.prefilled = Some(self.prefill(request, decode)?);
                continue;
            };
            let Some((candidate, mut rng)) = prefilled.waiting.pop_front() else { continue };
            let first = draw(&prefilled.logits, &prefilled.sampler, &mut rng)?;
            drawn += 1;
            let row = ActiveRow {
                number: prefilled.number,
                candidate,
                prompt: prefilled.prompt.clone(),
                cache: RowCache::after(&prefilled.kv),
                rng,
                sampler: prefilled.sampler,
                generated: Generated { ids: Vec::new(), logp: 0.0, finish: Finish::Length, end: None },
                next: 0,
            };
            self.advance(row, first);
        }
        Ok(drawn)
    }

    fn prefill(&mut self, request: PromptRequest, decode: &PackedDecoder) -> Result<Prefilled, Error> {
        let PromptRequest { number, prompt, rngs, mut sampler } = request;
        sampler.max_new_tokens = sampler.max_new_tokens.min(decode.config().room_after(prompt.len()));
        let (kv, logits) = decode.prefill(&prompt)?;
        let mut waiting: VecDeque<_> = rngs.into_iter().enumerate().collect();
        if sampler.max_new_tokens == 0 {
            let none = Generated { ids: Vec::new(), logp: 0.0, finish: Finish::Length, end: None };
            self.done.insert(number, vec![Some(none); waiting.len()]);
            waiting.clear();
        }
        let prompt = Arc::new(prompt);
        Ok(Prefilled { number, prompt, kv: Arc::new(kv), logits: Arc::new(logits), sampler, waiting })
    }

    /// Appends the drawn token to its row, and puts the row among the active or the done ones.
    fn advance(&mut self, mut row: ActiveRow, drawn: Drawn) {
        row.generated.logp += drawn.logp;
        if self.stops.contains(&drawn.token) {
            row.generated.finish = Finish::Eos;
            row.generated.end = Some(drawn.token);
        } else {
            row.generated.ids.push(drawn.token);
            if row.generated.ids.len() < row.sampler.max_new_tokens {
                row.next = drawn.token;
                self.active.push(row);
                return;
            }
        }
        if let Some(place) = self.done.get_mut(&row.number).and_then(|all| all.get_mut(row.candidate)) {
            *place = Some(row.generated);
        }
    }
}
