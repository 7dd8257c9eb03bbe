//! Rows decoded together: prompts wait, each candidate of one becomes a row, and a row that ends makes room for the next.
//!
//! Owns the order of filling and the drawing of tokens. Refuses to let rows depend on each other: a candidate's tokens follow
//! from its prompt and its generator, whatever else is decoded beside it.

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
    /// The caller's name for it.
    pub number: usize,
    /// Its tokens.
    pub prompt: Vec<u32>,
    /// A generator for each candidate.
    pub rngs: Vec<ChaCha8Rng>,
    /// How its tokens are drawn.
    pub sampler: Sampler,
}

/// A prompt whose candidates have prefilled.
struct Prefilled {
    number: usize,
    kv: Arc<KvCache>,
    logits: Arc<Vec<f32>>,
    sampler: Sampler,
    /// Candidates that wait for a row.
    waiting: VecDeque<(usize, ChaCha8Rng)>,
}

/// A candidate in progress.
struct ActiveRow {
    number: usize,
    candidate: usize,
    cache: RowCache,
    rng: ChaCha8Rng,
    sampler: Sampler,
    generated: Generated,
    /// The token that goes in next.
    next: u32,
}

/// Candidates waiting, in progress and done.
pub struct Queue {
    rows: usize,
    stops: Vec<u32>,
    requests: VecDeque<PromptRequest>,
    prefilled: Option<Prefilled>,
    active: Vec<ActiveRow>,
    done: BTreeMap<usize, Vec<Option<Generated>>>,
}

impl Queue {
    /// An empty queue of at most `rows` rows at once; `stops` end a row.
    #[must_use]
    pub fn new(rows: usize, stops: &[u32]) -> Self {
        let (requests, active, done) = (VecDeque::new(), Vec::new(), BTreeMap::new());
        Self { rows: rows.max(1), stops: stops.into(), requests, prefilled: None, active, done }
    }

    /// Puts a prompt at the end.
    pub fn push(&mut self, request: PromptRequest) {
        self.done.insert(request.number, vec![None; request.rngs.len()]);
        self.requests.push_back(request);
    }

    /// Rows in progress.
    #[must_use]
    pub fn active(&self) -> usize {
        self.active.len()
    }

    /// Candidates that wait for a row.
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

    /// Fills free rows and advances every row by a token; gives the number of tokens drawn, 0 when nothing is left to do.
    ///
    /// # Errors
    /// When a prompt is empty or holds a token that is not in the vocabulary, or logits are not finite.
    pub fn step(&mut self, decode: &PackedDecoder) -> Result<usize, Error> {
        let mut drawn = self.fill(decode)?;
        if self.active.is_empty() {
            return Ok(drawn);
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

    /// Begins candidates while there are rows for them.
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
        let PromptRequest { number, prompt, rngs, sampler } = request;
        let (kv, logits) = decode.prefill(&prompt)?;
        let mut waiting: VecDeque<_> = rngs.into_iter().enumerate().collect();
        if sampler.max_new_tokens == 0 {
            let none = Generated { ids: Vec::new(), logp: 0.0, finish: Finish::Length, end: None };
            self.done.insert(number, vec![Some(none); waiting.len()]);
            waiting.clear();
        }
        Ok(Prefilled { number, kv: Arc::new(kv), logits: Arc::new(logits), sampler, waiting })
    }

    /// Puts the drawn token on its row, and the row back among the row ones or among the done.
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
