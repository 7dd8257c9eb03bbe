//! Answers of the model in training, so that a person can look at what the numbers mean.
//!
//! Owns which prompts are asked (the first distinct ones of the evaluation rows, else of the training rows) and that the
//! answers are greedy: two answers to a prompt differ because the weights do.

use super::Trainer;
use crate::engine::error::Error;
use crate::engine::sink::Sink;
use crate::protocol::RunEvent;
use candle_core::{D, Tensor};

/// Prompts asked.
const PROMPTS: usize = 3;
/// The most tokens of an answer.
const LENGTH: usize = 64;

impl Trainer {
    /// Says one `Sampled` a prompt.
    pub(super) fn show_answers(&self, sink: &mut dyn Sink) -> Result<(), Error> {
        let mut asked: Vec<&crate::domain::PromptBody> = Vec::new();
        for pair in self.eval.pairs.iter().chain(&self.train.pairs) {
            let Some(prompt) = self.asked.get(pair.row) else { continue };
            if !asked.contains(&prompt) {
                asked.push(prompt);
            }
            if asked.len() == PROMPTS {
                break;
            }
        }
        for prompt in asked {
            let text = self.answer(&self.model.encode_prompt(prompt)?)?;
            sink.emit(RunEvent::Sampled { step: self.step, prompt: prompt.headline().to_owned(), text })?;
        }
        Ok(())
    }

    /// The greedy continuation of a prompt's tokens as text.
    fn answer(&self, prompt: &[u32]) -> Result<String, Error> {
        let decoder = self.policy.decoder();
        let mut cache = decoder.cache(1, prompt.len() + LENGTH)?;
        let mut next = prompt.to_vec();
        let mut said = Vec::new();
        while said.len() < LENGTH {
            let ids = Tensor::new(next.as_slice(), decoder.device())?.unsqueeze(0)?;
            let logits = decoder.step(&ids, &mut cache, true)?;
            let id = logits.argmax(D::Minus1)?.squeeze(0)?.to_scalar::<u32>()?;
            if self.model.tokenizer.stops().contains(&id) {
                break;
            }
            said.push(id);
            next = vec![id];
        }
        self.model.tokenizer.decode(&said)
    }
}
