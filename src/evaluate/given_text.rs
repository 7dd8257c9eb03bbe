//! Given texts as tokens: which tokens of an answer or a text are scored, for any model.
//!
//! An answer to a conversation is rendered by the model's chat template; its own tokens are scored, neither the prompt's nor
//! the end of the turn. A model without a template reads the conversation as `Human: …`, `Assistant: …` with a blank line
//! between turns. A text is encoded as the tokenizer does it and scored from its second token on: the first has no context,
//! unless the tokenizer puts a BOS before it. Refuses to compute.

use crate::domain::{Message, PromptBody};
use crate::model::error::Error;
use crate::model::language_model::LanguageModel;
use crate::nn::policy::Row;
use crate::train::Encode;
use crate::train::data::common_prefix;

/// A text with the tokens of it that are scored.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct GivenText {
    /// Its tokens, those scored marked.
    pub(super) row: Row,
    /// The characters that the scored tokens spell.
    pub(super) chars: usize,
}

/// An answer to a prompt.
///
/// # Errors
/// When the template or the tokenizer rejects it.
pub(super) fn given_answer(model: &LanguageModel, prompt: &PromptBody, answer: &str) -> Result<GivenText, Error> {
    let rendered = model.template.is_some() && matches!(prompt, PromptBody::Chat(_));
    let (before, mut whole) = match prompt {
        PromptBody::Chat(_) if rendered => (model.encode_prompt(prompt)?, model.answered(prompt, answer)?),
        PromptBody::Chat(messages) => {
            let text = transcript(messages);
            (unended(model, &text)?, unended(model, &format!("{text} {answer}"))?)
        }
        PromptBody::Text(text) => (unended(model, text)?, unended(model, &format!("{text}{answer}"))?),
    };
    let from = common_prefix(&before, &whole).max(1);
    if rendered {
        // No token attends to what follows the last scored one.
        let end = whole.iter().rposition(|id| model.tokenizer.stops().contains(id));
        whole.truncate(end.filter(|end| *end >= from).unwrap_or(whole.len()));
    }
    let scored = (from..whole.len()).collect();
    Ok(GivenText { row: Row::new(whole, scored), chars: answer.chars().count() })
}

/// A text of its own; a conversation is rendered with all its turns.
///
/// # Errors
/// When the template or the tokenizer rejects it.
pub(super) fn given_text(model: &LanguageModel, text: &PromptBody) -> Result<GivenText, Error> {
    let (ids, text) = match text {
        PromptBody::Chat(messages) if model.template.is_some() => {
            let text = model.render_conversation(messages, false)?;
            (model.tokenizer.encode(&text, false)?, text)
        }
        PromptBody::Chat(messages) => {
            let text = transcript(messages);
            (unended(model, &text)?, text)
        }
        PromptBody::Text(text) => (unended(model, text)?, text.clone()),
    };
    let first = model.tokenizer.decode(&ids[..ids.len().min(1)])?.chars().count();
    let scored = (1..ids.len()).collect();
    Ok(GivenText { row: Row::new(ids, scored), chars: text.chars().count().saturating_sub(first) })
}

/// A text's tokens without an end token that the tokenizer adds.
fn unended(model: &LanguageModel, text: &str) -> Result<Vec<u32>, Error> {
    let mut ids = model.tokenizer.encode(text, true)?;
    let added = |ids: &[u32]| -> bool {
        let last = ids.last().filter(|id| model.tokenizer.stops().contains(id));
        last.is_some_and(|id| model.tokenizer.token(*id).is_some_and(|token| !text.ends_with(&token)))
    };
    if ids.len() > 1 && added(&ids) {
        ids.pop();
    }
    Ok(ids)
}

/// A conversation for a model without a chat template, up to where the assistant answers.
fn transcript(messages: &[Message]) -> String {
    let mut out = String::new();
    for turn in messages {
        match turn.role.as_str() {
            "user" => out.push_str("Human: "),
            "assistant" => out.push_str("Assistant: "),
            _ => {}
        }
        out.push_str(&turn.content);
        out.push_str("\n\n");
    }
    out.push_str("Assistant:");
    out
}

/// Whether both models turn every one of `texts` into the same tokens of one vocabulary, so that their distributions can be
/// compared token by token.
///
/// # Errors
/// When a template or a tokenizer rejects a text.
pub(super) fn same_tokens<'a>(
    a: &LanguageModel,
    b: &LanguageModel,
    texts: impl IntoIterator<Item = &'a PromptBody>,
) -> Result<bool, Error> {
    let known = |id: usize| u32::try_from(id).ok().map(|id| (a.tokenizer.token(id), b.tokenizer.token(id)));
    let same = |id: usize| known(id).is_some_and(|(a, b)| a == b);
    if a.config.vocab != b.config.vocab || !(0..a.config.vocab).all(same) {
        return Ok(false);
    }
    for text in texts {
        if given_text(a, text)?.row != given_text(b, text)?.row {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn model() -> LanguageModel {
        LanguageModel::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-llama")).unwrap()
    }

    fn scored(model: &LanguageModel, given: &GivenText) -> String {
        let ids: Vec<u32> = given.row.scored.iter().map(|at| given.row.ids[*at]).collect();
        model.tokenizer.decode_all(&ids).unwrap()
    }

    #[test]
    fn the_answers_own_tokens_are_scored() {
        let mut model = model();
        let given = given_answer(&model, &PromptBody::user("Hello"), "Well.").unwrap();
        assert_eq!((scored(&model, &given).as_str(), given.chars), ("Well.", 5));
        let whole = model.tokenizer.decode_all(&given.row.ids).unwrap();
        assert_eq!(whole, "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\nWell.");
        let given = given_answer(&model, &PromptBody::Text("Once".into()), " more").unwrap();
        assert_eq!(scored(&model, &given), " more");
        model.template = None;
        let turn = |role: &str, content: &str| Message::new(role, content);
        let talk =
            PromptBody::Chat(vec![turn("user", "One?"), turn("assistant", "Two."), turn("user", "Three?")].into());
        let given = given_answer(&model, &talk, "Well.").unwrap();
        assert_eq!(scored(&model, &given), " Well.");
        let whole = model.tokenizer.decode_all(&given.row.ids).unwrap();
        assert_eq!(whole, "Human: One?\n\nAssistant: Two.\n\nHuman: Three?\n\nAssistant: Well.");
    }

    #[test]
    fn a_text_is_scored_from_its_second_token_on() {
        let model = model();
        let given = given_text(&model, &PromptBody::Text("The river".into())).unwrap();
        let first = model.tokenizer.decode(&given.row.ids[..1]).unwrap();
        assert_eq!(given.row.scored, (1..given.row.ids.len()).collect::<Vec<_>>());
        assert_eq!(format!("{first}{}", scored(&model, &given)), "The river");
        assert_eq!(given.chars, "The river".len() - first.len());
        assert!(given_text(&model, &PromptBody::Text("T".into())).unwrap().row.scored.is_empty());
    }

    #[test]
    fn a_model_has_its_own_vocabulary() {
        let (one, mut two) = (model(), model());
        let texts = [PromptBody::Text("The river".into())];
        assert!(same_tokens(&one, &two, &texts).unwrap());
        two.config.vocab += 1;
        assert!(!same_tokens(&one, &two, &texts).unwrap());
    }
}
