//! Sample answers during training, for inspection.
//!
//! Owns the choice of prompts (the first distinct ones of the evaluation rows, else of the training rows) and greedy decoding:
//! answers to a prompt differ only through the weights. Refuses to judge them.

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

/// Number of prompts.
const MAX_PROMPTS: usize = 3;
/// Maximum tokens of an answer.
const MAX_NEW_TOKENS: usize = 64;

/// The first distinct prompts of the evaluation rows, then of the training rows.
pub(super) fn sample_prompts(rows: &Rows, eval: &[Example], train: &[Example]) -> Vec<PromptBody> {
    let mut prompts: Vec<PromptBody> = Vec::new();
    for prompt in eval.iter().chain(train).filter_map(|e| rows.prompt(e.row)) {
        if !prompts.contains(&prompt) {
            prompts.push(prompt);
        }
        if prompts.len() == MAX_PROMPTS {
            break;
        }
    }
    prompts
}

/// Emits one `Sampled` per prompt.
pub(super) fn emit_samples(
    prompts: &[PromptBody],
    model: &LanguageModel,
    policy: &Policy,
    step: u64,
    sink: &mut dyn Sink,
) -> Result<(), Error> {
    if prompts.is_empty() {
        return Ok(());
    }
    policy.release_memory();
    let greedy = Sampler { temperature: 0.0, top_p: 1.0, max_new_tokens: MAX_NEW_TOKENS, ..Sampler::default() };
    let of = |(number, prompt): (usize, &PromptBody)| {
        let prompt = model.encode_prompt(prompt)?;
        Ok(PromptRequest { number, prompt, rngs: vec![stream(0, 0)], sampler: greedy })
    };
    let queue = prompts.iter().enumerate().map(of).collect::<Result<Vec<PromptRequest>, Error>>()?;
    let tokenizer = &model.tokenizer;
    let answers = generate_all(policy.decoder(), queue, tokenizer.stops(), true)?;
    policy.release_memory();
    for (prompt, answers) in prompts.iter().zip(&answers) {
        let text = model.answer_text(prompt, answers.first().map_or(&[], |a| &a.ids))?;
        let prompt = prompt.headline().to_owned();
        sink.emit(RunEvent::Sampled { step, prompt, text, score: None })?;
    }
    Ok(())
}
