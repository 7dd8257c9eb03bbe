//! Answers of the model in training, so that a person can look at what the numbers mean.
//!
//! Owns which prompts are asked (the first distinct ones of the evaluation rows, else of the training rows) and that the
//! answers are greedy: two answers to a prompt differ because the weights do.

use crate::domain::{PromptBody, Sampler};
use crate::generate::decode::PromptRequest;
use crate::generate::sampling::generate_all;
use crate::model::error::Error;
use crate::model::language_model::LanguageModel;
use crate::model::sink::Sink;
use crate::nn::policy::Policy;
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

/// Says one `Sampled` a prompt of `asked`.
pub(super) fn show(
    asked: &[PromptBody],
    model: &LanguageModel,
    policy: &Policy,
    step: u64,
    sink: &mut dyn Sink,
) -> Result<(), Error> {
    if asked.is_empty() {
        return Ok(());
    }
    policy.release_memory();
    let greedy = Sampler { temperature: 0.0, top_p: 1.0, max_new_tokens: LENGTH, ..Sampler::default() };
    let of = |(number, prompt): (usize, &PromptBody)| {
        let prompt = model.encode_prompt(prompt)?;
        Ok(PromptRequest { number, prompt, rngs: vec![stream(0, 0)], sampler: greedy })
    };
    let queue = asked.iter().enumerate().map(of).collect::<Result<Vec<PromptRequest>, Error>>()?;
    let tokenizer = &model.tokenizer;
    let answers = generate_all(policy.decoder(), queue, tokenizer.stops(), true)?;
    policy.release_memory();
    for (prompt, answers) in asked.iter().zip(&answers) {
        let text = tokenizer.decode(answers.first().map_or(&[], |a| &a.ids))?;
        let prompt = prompt.headline().to_owned();
        sink.emit(RunEvent::Sampled { step, prompt, text, score: None })?;
    }
    Ok(())
}
