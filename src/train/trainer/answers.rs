//! Answers of the model in training, so that a person can look at what the numbers mean.
//!
//! Owns which prompts are asked (the first distinct ones of the evaluation rows, else of the training rows) and that the
//! answers are greedy: two answers to a prompt differ because the weights do.

use super::state::Trainer;
use crate::domain::{PromptBody, Sampler};
use crate::generate::decode::PromptRequest;
use crate::generate::sampling::generate_all;
use crate::model::error::Error;
use crate::model::sink::Sink;
use crate::nn::random::stream;
use crate::protocol::RunEvent;
use crate::train::data::{Example, Rows};

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
        if self.asked.is_empty() {
            return Ok(());
        }
        self.policy.release_memory();
        let greedy = Sampler { temperature: 0.0, top_p: 1.0, max_new_tokens: LENGTH, ..Sampler::default() };
        let of = |(number, prompt): (usize, &PromptBody)| {
            let prompt = self.model.encode_prompt(prompt)?;
            Ok(PromptRequest { number, prompt, rngs: vec![stream(0, 0)], sampler: greedy })
        };
        let asked = self.asked.iter().enumerate().map(of).collect::<Result<Vec<PromptRequest>, Error>>()?;
        let tokenizer = &self.model.tokenizer;
        let answers = generate_all(self.policy.decoder(), asked, tokenizer.stops(), true)?;
        self.policy.release_memory();
        for (prompt, answers) in self.asked.iter().zip(&answers) {
            let text = tokenizer.decode(answers.first().map_or(&[], |a| &a.ids))?;
            let prompt = prompt.headline().to_owned();
            sink.emit(RunEvent::Sampled { step: self.step, prompt, text, score: None })?;
        }
        Ok(())
    }
}
