//! Texts to tokens by a model's tokenizer and chat template.
//!
//! Owns the end of an answer: the template's output, or the EOS token's text. Refuses masks.

use crate::domain::{Conversation, PromptBody, ReplyRef};
use crate::model::error::Error;
use crate::model::language_model::LanguageModel;
use crate::model::thought_form;

/// Tokenises rows' texts with a model's tokenizer and chat template.
pub trait Encode {
    /// The prompt, ready for generation.
    ///
    /// # Errors
    /// When the template or the tokenizer rejects it.
    fn prompt(&self, prompt: &PromptBody) -> Result<Vec<u32>, Error>;

    /// Prompt and answer, to the answer's end.
    ///
    /// # Errors
    /// When the template or the tokenizer rejects it.
    fn answered(&self, prompt: &PromptBody, answer: &str) -> Result<Vec<u32>, Error>;

    /// A conversation; with `open` followed by the generation prompt.
    ///
    /// # Errors
    /// When the template or the tokenizer rejects it.
    fn conversation(&self, talk: &Conversation, open: bool) -> Result<Vec<u32>, Error>;

    /// Prompt and answer, where the answer may be turns.
    ///
    /// # Errors
    /// When the template or the tokenizer rejects it, or the prompt of an answer of turns is plain text.
    fn replied(&self, prompt: &PromptBody, answer: ReplyRef<'_>) -> Result<Vec<u32>, Error> {
        match prompt {
            _ if answer.turns.is_empty() => self.answered(prompt, answer.text),
            PromptBody::Chat(talk) => self.conversation(&talk.followed_by(answer.turns), false),
            PromptBody::Text(_) => Err(Error::Invalid("an answer of messages needs a prompt of messages".into())),
        }
    }

    /// The number of trailing tokens that separate a turn from the next: whitespace after the end-of-turn token.
    fn separator(&self, turn: &[u32]) -> usize;

    /// The number of trailing tokens that end a turn: its end token with what separates it from the next turn; 0 where nothing
    /// ends it.
    fn ending(&self, turn: &[u32]) -> usize;

    /// Whether the chat template opens a thought in front of the answer to this prompt.
    ///
    /// # Errors
    /// When the template rejects it.
    fn opens_thought(&self, prompt: &PromptBody) -> Result<bool, Error>;

    /// Plain text including the EOS token.
    ///
    /// # Errors
    /// When the tokenizer rejects it.
    fn text(&self, text: &str) -> Result<Vec<u32>, Error>;

    /// The model's context length.
    fn context(&self) -> usize;

    /// The variables that the chat template reads; none where that is not known.
    fn variables(&self) -> Option<Vec<String>> {
        None
    }
}

impl Encode for LanguageModel {
    fn context(&self) -> usize {
        self.config.context
    }

    fn variables(&self) -> Option<Vec<String>> {
        self.template.as_ref()?.variables().ok()
    }

    fn prompt(&self, prompt: &PromptBody) -> Result<Vec<u32>, Error> {
        self.encode_prompt(prompt)
    }

    fn answered(&self, prompt: &PromptBody, answer: &str) -> Result<Vec<u32>, Error> {
        match prompt {
            PromptBody::Chat(talk) => {
                let turn = thought_form::turn(self.template.as_ref(), answer);
                self.conversation(&talk.followed_by(&[turn]), false)
            }
            PromptBody::Text(text) => self.text(&format!("{text}{answer}")),
        }
    }

    fn conversation(&self, talk: &Conversation, open: bool) -> Result<Vec<u32>, Error> {
        self.tokenizer.encode(&self.render_conversation(talk, open)?, false)
    }

    fn separator(&self, turn: &[u32]) -> usize {
        let Some(end) = turn.iter().rposition(|id| self.tokenizer.stops().contains(id)) else { return 0 };
        let tail = &turn[end + 1..];
        let blank = self.tokenizer.decode(tail).is_ok_and(|text| text.trim().is_empty());
        if blank { tail.len() } else { 0 }
    }

    fn ending(&self, turn: &[u32]) -> usize {
        let separator = self.separator(turn);
        let ends =
            turn.get(turn.len().wrapping_sub(separator + 1)).is_some_and(|id| self.tokenizer.stops().contains(id));
        if ends { separator + 1 } else { 0 }
    }

    fn opens_thought(&self, prompt: &PromptBody) -> Result<bool, Error> {
        LanguageModel::opens_thought(self, prompt)
    }

    fn text(&self, text: &str) -> Result<Vec<u32>, Error> {
        match self.tokenizer.eos_text().filter(|eos| !text.ends_with(eos)) {
            Some(eos) => self.tokenizer.encode(&format!("{text}{eos}"), true),
            None => self.tokenizer.encode(text, true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ends_inside_thought;
    use serde_json::{Value, json};
    use std::path::Path;

    /// Turns in channels, as those of GPT-OSS.
    const CHANNELS: &str = "{%- for m in messages -%}{%- set last = loop.last and not add_generation_prompt -%}\
        {%- if m.role == 'assistant' -%}\
        {%- if last and m.thinking is defined -%}{{ '<|start|>assistant<|channel|>analysis<|message|>' + m.thinking + '<|end|>' }}{%- endif -%}\
        {{ '<|start|>assistant<|channel|>final<|message|>' + m.content + ('<|return|>' if last else '<|end|>') }}\
        {%- else -%}{{ '<|start|>' + m.role + '<|message|>' + m.content + '<|end|>' }}{%- endif -%}\
        {%- endfor -%}{%- if add_generation_prompt -%}<|start|>assistant{%- endif -%}";

    /// The tiny Llama with control tokens of channels.
    fn model(dir: &Path) -> LanguageModel {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-llama");
        let read =
            |name: &str| -> Value { serde_json::from_str(&std::fs::read_to_string(from.join(name)).unwrap()).unwrap() };
        let (mut config, mut tokenizer) = (read("config.json"), read("tokenizer.json"));
        let names = ["start", "channel", "message", "end", "return"];
        for (i, name) in names.iter().enumerate() {
            let token = json!({"id": 304 + i, "content": format!("<|{name}|>"), "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true});
            tokenizer["added_tokens"].as_array_mut().unwrap().push(token);
        }
        config["vocab_size"] = json!(304 + names.len());
        std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
        std::fs::write(dir.join("tokenizer.json"), tokenizer.to_string()).unwrap();
        std::fs::write(dir.join("chat_template.jinja"), CHANNELS).unwrap();
        LanguageModel::open(dir).unwrap()
    }

    /// What the model drew is what a run reads of it again, with its analysis as a thought.
    #[test]
    fn an_answer_in_channels_is_read_back_as_it_was_drawn() {
        let dir = tempfile::tempdir().unwrap();
        let model = model(dir.path());
        let id = |text: &str| model.tokenizer.encode(text, false).unwrap();
        let end = id("<|return|>");
        assert!(model.tokenizer.stops().contains(&end[0]) && !model.tokenizer.stops().contains(&id("<|end|>")[0]));
        let prompt = PromptBody::user("Why?");
        let before = model.prompt(&prompt).unwrap();
        let drawn =
            id("<|channel|>analysis<|message|>So it is.<|end|><|start|>assistant<|channel|>final<|message|>Well.");
        let text = model.answer_text(&prompt, &drawn).unwrap();
        assert_eq!(text, "<think>\nSo it is.\n</think>\n\nWell.");
        assert_eq!(model.answered(&prompt, &text).unwrap(), [&before[..], &drawn, &end].concat());
        let short = id("<|channel|>final<|message|>Well.");
        assert_eq!(model.answer_text(&prompt, &short).unwrap(), "Well.");
        assert_eq!(model.answered(&prompt, "Well.").unwrap(), [&before[..], &short, &end].concat());
        let begun = drawn.iter().position(|token| *token == id("<|message|>")[0]).unwrap();
        let cut = model.answer_text(&prompt, &drawn[..begun + 2]).unwrap();
        assert!(
            cut.starts_with("<think>\n") && ends_inside_thought(&cut, model.opens_thought(&prompt).unwrap()),
            "{cut}"
        );
    }
}
