//! Rows decoded together: prompts wait, each candidate of one becomes a row, and a row that ends makes room for the next.
//!
//! Owns the order of filling and the drawing of tokens. Refuses to let rows depend on each other: a candidate's tokens follow
//! from its prompt and its generator, whatever else is decoded beside it.

use super::{Decode, History, Kept};
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
pub struct Asked {
    /// The caller's name for it.
    pub number: usize,
    /// Its tokens.
    pub prompt: Vec<u32>,
    /// A generator for each candidate.
    pub rngs: Vec<ChaCha8Rng>,
    /// How its tokens are drawn.
    pub sampler: Sampler,
}

/// A prompt whose candidates have begun.
struct Begun {
    number: usize,
    kept: Arc<Kept>,
    logits: Arc<Vec<f32>>,
    sampler: Sampler,
    /// Candidates that wait for a row.
    waiting: VecDeque<(usize, ChaCha8Rng)>,
}

/// A candidate in progress.
struct Open {
    number: usize,
    candidate: usize,
    history: History,
    rng: ChaCha8Rng,
    sampler: Sampler,
    made: Generated,
    /// The token that goes in next.
    next: u32,
}

/// Candidates waiting, in progress and done.
pub struct Queue {
    rows: usize,
    stops: Vec<u32>,
    asked: VecDeque<Asked>,
    begun: Option<Begun>,
    open: Vec<Open>,
    done: BTreeMap<usize, Vec<Option<Generated>>>,
}

impl Queue {
    /// An empty queue of at most `rows` rows at once; `stops` end a row.
    #[must_use]
    pub fn new(rows: usize, stops: &[u32]) -> Self {
        let (asked, open, done) = (VecDeque::new(), Vec::new(), BTreeMap::new());
        Self { rows: rows.max(1), stops: stops.into(), asked, begun: None, open, done }
    }

    /// Puts a prompt at the end.
    pub fn ask(&mut self, asked: Asked) {
        self.done.insert(asked.number, vec![None; asked.rngs.len()]);
        self.asked.push_back(asked);
    }

    /// Rows in progress.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// Candidates that wait for a row.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.begun.as_ref().map_or(0, |b| b.waiting.len()) + self.asked.iter().map(|a| a.rngs.len()).sum::<usize>()
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
    pub fn turn(&mut self, decode: &Decode) -> Result<usize, Error> {
        let mut drawn = self.fill(decode)?;
        if self.open.is_empty() {
            return Ok(drawn);
        }
        let tokens: Vec<u32> = self.open.iter().map(|o| o.next).collect();
        let mut rows: Vec<&mut History> = self.open.iter_mut().map(|o| &mut o.history).collect();
        let logits = decode.step(&tokens, &mut rows)?;
        let vocab = decode.config().vocab;
        let each = self.open.par_iter_mut().zip(logits.par_chunks(vocab));
        let draws: Vec<Drawn> = each.map(|(o, z)| draw(z, &o.sampler, &mut o.rng)).collect::<Result<_, Error>>()?;
        drawn += draws.len();
        for (open, draw) in std::mem::take(&mut self.open).into_iter().zip(draws) {
            self.advance(open, draw);
        }
        Ok(drawn)
    }

    /// Begins candidates while there are rows for them.
    fn fill(&mut self, decode: &Decode) -> Result<usize, Error> {
        let mut drawn = 0;
        while self.open.len() < self.rows {
            let Some(begun) = self.begun.as_mut().filter(|b| !b.waiting.is_empty()) else {
                let Some(asked) = self.asked.pop_front() else { break };
                self.begun = Some(self.begin(asked, decode)?);
                continue;
            };
            let Some((candidate, mut rng)) = begun.waiting.pop_front() else { continue };
            let first = draw(&begun.logits, &begun.sampler, &mut rng)?;
            drawn += 1;
            let open = Open {
                number: begun.number,
                candidate,
                history: History::after(&begun.kept),
                rng,
                sampler: begun.sampler,
                made: Generated { ids: Vec::new(), logp: 0.0, finish: Finish::Length, end: None },
                next: 0,
            };
            self.advance(open, first);
        }
        Ok(drawn)
    }

    fn begin(&mut self, asked: Asked, decode: &Decode) -> Result<Begun, Error> {
        let Asked { number, prompt, rngs, sampler } = asked;
        let (kept, logits) = decode.prefill(&prompt)?;
        let mut waiting: VecDeque<_> = rngs.into_iter().enumerate().collect();
        if sampler.max_new_tokens == 0 {
            let none = Generated { ids: Vec::new(), logp: 0.0, finish: Finish::Length, end: None };
            self.done.insert(number, vec![Some(none); waiting.len()]);
            waiting.clear();
        }
        Ok(Begun { number, kept: Arc::new(kept), logits: Arc::new(logits), sampler, waiting })
    }

    /// Puts the drawn token on its row, and the row back among the open ones or among the done.
    fn advance(&mut self, mut open: Open, drawn: Drawn) {
        open.made.logp += drawn.logp;
        if self.stops.contains(&drawn.token) {
            open.made.finish = Finish::Eos;
            open.made.end = Some(drawn.token);
        } else {
            open.made.ids.push(drawn.token);
            if open.made.ids.len() < open.sampler.max_new_tokens {
                open.next = drawn.token;
                self.open.push(open);
                return;
            }
        }
        if let Some(place) = self.done.get_mut(&open.number).and_then(|all| all.get_mut(open.candidate)) {
            *place = Some(open.made);
        }
    }
}
