//! Answers of the model in training, so that a person can look at what the numbers mean.
//!
//! Owns which prompts are asked (the first distinct ones of the evaluation rows, else of the training rows) and that the
//! answers are greedy: two answers to a prompt differ because the weights do.

use super::Trainer;
use crate::domain::{PromptBody, Sampler};
use crate::engine::error::Error;
use crate::engine::random::stream;
use crate::engine::rows::{Example, Rows};
use crate::engine::sampling::generate;
use crate::engine::sink::Sink;
use crate::protocol::RunEvent;

/// Prompts asked.
const PROMPTS: usize = 3;
/// The most tokens of an answer.
const LENGTH: usize = 64;

/// The first distinct prompts of the evaluation's rows, else of the training's.
pub(super) fn asked(rows: &Rows, eval: &[Example], train: &[Example]) -> Vec<PromptBody> {
    let mut asked: Vec<PromptBody> = Vec::new();
    for prompt in eval.iter().chain(train).filter_map(|e| rows.prompt(e.row)) {
        if !asked.contains(&prompt) {
            asked.push(prompt);
        }
        if asked.len() == PROMPTS {
            break;
        }
    }
    asked
}

impl Trainer {
    /// Asks no prompt from here on: nobody looks at the answers of a benchmark.
    pub fn ask_nothing(&mut self) {
        self.asked.clear();
    }

    /// Says one `Sampled` a prompt.
    pub(super) fn show_answers(&self, sink: &mut dyn Sink) -> Result<(), Error> {
        for prompt in &self.asked {
            let text = self.answer(&self.model.encode_prompt(prompt)?)?;
            let prompt = prompt.headline().to_owned();
            sink.emit(RunEvent::Sampled { step: self.step, prompt, text, score: None })?;
        }
        Ok(())
    }

    /// The greedy continuation of a prompt's tokens as text.
    fn answer(&self, prompt: &[u32]) -> Result<String, Error> {
        let tokenizer = &self.model.tokenizer;
        let greedy = Sampler { temperature: 0.0, top_p: 1.0, max_new_tokens: LENGTH, ..Sampler::default() };
        let rngs = &mut [stream(0, 0)];
        let answers = generate(self.policy.decoder(), prompt, tokenizer.stops(), &greedy, rngs, true)?;
        tokenizer.decode(answers.first().map_or(&[], |a| &a.ids))
    }
}
