//! A contestant that answers: its model with its checkpoint, decoding many prompts at once.
//!
//! Owns loading, encoding and the queue of prompts. Refuses to know suites: it takes tokens and a sampler. An answer depends
//! on its prompt, its sampler and the seed alone.

use crate::domain::{Finish, Sampler};
use crate::generate::{Generated, PackedDecoder, PromptRequest, Queue, generate};
use crate::model::error::Error;
use crate::model::language_model::LanguageModel;
use crate::model::trained::Trained;
use crate::model::tune::Tune;
use crate::nn::decoder::Decoder;
use crate::nn::random::stream;
use candle_core::Device;
use std::collections::BTreeMap;
use std::path::Path;

/// Rows that are decoded at once: the weights are read once for all of them.
const ROWS: usize = 16;

/// How it decodes.
enum Decoding {
    /// On the CPU: rows of several prompts in one batch.
    Queued(Box<PackedDecoder>, Queue),
    /// On other devices: one prompt at a time.
    Stepwise(Box<Decoder>, BTreeMap<usize, Generated>),
}

/// A loaded contestant.
pub(super) struct Player {
    model: LanguageModel,
    decoding: Decoding,
    /// Prompts submitted and not yet taken, with the last token of each.
    open: Vec<(usize, Option<u32>)>,
}

/// A decoded answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Played {
    pub(super) text: String,
    pub(super) tokens: usize,
    pub(super) finish: Finish,
}

impl Player {
    /// Loads the model's weights, with the checkpoint in the folder `adapter`.
    ///
    /// # Errors
    /// When the model cannot be loaded, or the checkpoint does not fit it.
    pub(super) fn open(model: LanguageModel, adapter: Option<&Path>, device: &Device) -> Result<Self, Error> {
        let trained = adapter.map(Trained::read).transpose()?;
        let stops = model.tokenizer.stops().to_vec();
        let decoding = if device.is_cpu() && trained.is_none() {
            Decoding::Queued(Box::new(PackedDecoder::open(&model)?), Queue::new(ROWS, &stops))
        } else {
            let decoder = model.decoder(device, trained.as_ref().map_or(&Tune::None, |t| &t.tune))?;
            if let Some(trained) = &trained {
                trained.put_on(decoder.trainables())?;
            }
            if device.is_cpu() {
                Decoding::Queued(Box::new(PackedDecoder::of(&decoder, true)?), Queue::new(ROWS, &stops))
            } else {
                Decoding::Stepwise(Box::new(decoder), BTreeMap::new())
            }
        };
        Ok(Self { model, decoding, open: Vec::new() })
    }

    /// Whether it can begin another prompt at once.
    pub(super) fn is_idle(&self) -> bool {
        match &self.decoding {
            Decoding::Queued(_, queue) => queue.waiting() == 0,
            Decoding::Stepwise(_, done) => done.is_empty(),
        }
    }

    /// Begins to answer a prompt of `ids`. `max_new_tokens` must fit the context.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub(super) fn submit(&mut self, number: usize, ids: Vec<u32>, sampler: Sampler, name: u64) -> Result<(), Error> {
        let rng = stream(sampler.seed, name);
        self.open.push((number, ids.last().copied()));
        match &mut self.decoding {
            Decoding::Queued(_, queue) => {
                queue.push(PromptRequest { number, prompt: ids, rngs: vec![rng], sampler });
            }
            Decoding::Stepwise(decoder, done) => {
                let stops = self.model.tokenizer.stops();
                let drawn = generate(decoder, &ids, stops, &sampler, &mut [rng], true)?;
                done.extend(drawn.into_iter().map(|answer| (number, answer)));
            }
        }
        Ok(())
    }

    /// Draws a token for every open answer. Returns the tokens drawn.
    ///
    /// # Errors
    /// When logits are not finite.
    pub(super) fn step(&mut self) -> Result<usize, Error> {
        match &mut self.decoding {
            Decoding::Queued(decoder, queue) => queue.step(decoder),
            Decoding::Stepwise(_, done) => Ok(done.values().map(|answer| answer.ids.len()).sum()),
        }
    }

    /// The answers that are complete now, with the numbers of their prompts.
    ///
    /// # Errors
    /// When the tokenizer cannot decode them.
    pub(super) fn take(&mut self) -> Result<Vec<(usize, Played)>, Error> {
        let mut out = Vec::new();
        let mut open = Vec::new();
        for (number, before) in std::mem::take(&mut self.open) {
            let done = match &mut self.decoding {
                Decoding::Queued(_, queue) => queue.take(number).and_then(|all| all.into_iter().next()),
                Decoding::Stepwise(_, done) => done.remove(&number),
            };
            match done {
                Some(answer) => {
                    let text = self.model.tokenizer.decode_after(before, &answer.ids)?;
                    out.push((number, Played { text, tokens: answer.ids.len(), finish: answer.finish }));
                }
                None => open.push((number, before)),
            }
        }
        self.open = open;
        Ok(out)
    }
}
