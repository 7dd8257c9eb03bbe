//! What becomes of a checkpoint's scalar head in an export.
//!
//! Owns the two parts of a checkpoint: the policy, a language model without the head, and the scorer, a sequence classifier of
//! `transformers` with one label, its configuration and its padding token. Refuses families that have no classifier there.

use crate::domain::{Finding, Message, Severity};
use crate::model::error::Error;
use crate::model::language_model::LanguageModel;
use crate::model::sink::Sink;
use crate::model::staged_folder::StagedFolder;
use crate::model::trained::{SCORE, Trained};
use crate::protocol::RunEvent;
use candle_core::Tensor;
use serde_json::{Map, Value, json};

/// What of a checkpoint is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportPart {
    /// The language model; a value head beside it is left out.
    Policy,
    /// The layers with the scalar head in place of the language-model head: a reward model, or the critic of PPO.
    Scorer,
}

impl ExportPart {
    /// Takes the scalar head (1, H) out of a checkpoint's tensors; none for a policy.
    pub(super) fn split(self, trained: &mut Trained) -> Result<Option<Tensor>, Error> {
        let head = trained.tensors.remove(SCORE);
        match (self, head) {
            (Self::Policy, _) => Ok(None),
            (Self::Scorer, Some(head)) => Ok(Some(head)),
            (Self::Scorer, None) => {
                Err(Error::Invalid(format!("the checkpoint has no scalar head ({SCORE}): name a reward or a PPO run")))
            }
        }
    }
}

/// The class of `transformers` that puts a score head on the model's layers.
pub(super) fn classifier(model: &LanguageModel) -> Result<&'static str, Error> {
    let family = model.config.family;
    family.classifier.ok_or_else(|| {
        let known = "transformers has no class for it; score answers here with `tiebreak score`";
        Error::unsupported(&model.path, format!("a score head of the family {}", family.name()), known)
    })
}

/// The token that pads a scorer's batches.
pub(super) struct Padding {
    id: u32,
    text: String,
    /// Whether the model's own files name it.
    given: bool,
}

/// Chooses the padding token. `transformers` reads the score at the last token that is not padding, so it must not be one that ends
/// rows. The model's own comes first; none where every special token ends rows.
pub(super) fn padding(model: &LanguageModel) -> Result<Option<Padding>, Error> {
    let (tokenizer, special) = (&model.tokenizer, &model.tokenizer.special);
    let mut ends: Vec<u32> = tokenizer.eos_text().and_then(|text| tokenizer.id(text)).into_iter().collect();
    // A template that refuses this conversation ends rows that are not known; those of plain text are.
    if model.template.is_some()
        && let Ok(text) = model.render(&[Message::new("user", "?"), Message::assistant("!")], false)
    {
        ends.extend(tokenizer.encode(&text, false)?.last());
    }
    let named = |text: &Option<String>| text.as_deref().and_then(|text| tokenizer.id(text));
    // Both files must name it: the tokenizer pads, the model looks for its number.
    let own = named(&special.pad).filter(|id| model.config.pad.is_none_or(|pad| pad == *id));
    let marked = (0..tokenizer.size() as u32).filter(|id| tokenizer.is_special(*id) && !tokenizer.stops().contains(id));
    let all =
        own.into_iter().chain(model.config.pad).chain(named(&special.unk)).chain(named(&special.bos)).chain(marked);
    let fits = |id: &u32| !ends.contains(id) && (*id as usize) < model.config.vocab;
    let chosen = all.into_iter().filter(fits).find_map(|id| Some((id, tokenizer.token(id)?)));
    Ok(chosen.map(|(id, text)| Padding { id, text, given: own == Some(id) && model.config.pad == Some(id) }))
}

/// Makes a language model's config.json that of a classifier with one label.
pub(super) fn classify(config: &mut Map<String, Value>, class: &str, padding: Option<&Padding>) {
    config.insert("architectures".into(), json!([class]));
    config.insert("id2label".into(), json!({"0": "LABEL_0"}));
    config.insert("label2id".into(), json!({"LABEL_0": 0}));
    config.insert("pad_token_id".into(), padding.map(|padding| padding.id).into());
}

/// Names the padding token in the tokenizer's files.
pub(super) fn write_padding(folder: &StagedFolder, padding: &Padding) -> Result<(), Error> {
    for name in ["tokenizer_config.json", "special_tokens_map.json"] {
        let path = folder.file(name);
        let held = crate::model::fields::json(&path)?;
        if held.is_none() && name != "tokenizer_config.json" {
            continue;
        }
        let mut fields = held.unwrap_or_else(|| json!({}));
        if let Some(map) = fields.as_object_mut() {
            map.insert("pad_token".into(), padding.text.clone().into());
        }
        folder.json(name, &fields)?;
    }
    Ok(())
}

/// Says which token pads, where that is not the model's own. `adapter`: the export has no tokenizer and no config.json.
pub(super) fn note_padding(padding: Option<&Padding>, adapter: bool, sink: &mut dyn Sink) -> Result<(), Error> {
    let why = "transformers reads a score at the last token that is not padding";
    let text = match padding {
        Some(padding) if padding.given => return Ok(()),
        Some(Padding { id, text, .. }) if adapter => format!(
            "{why}, and the base model names no padding token that never ends a row: before you score batches, set \
             tokenizer.pad_token={text:?} and model.config.pad_token_id={id}."
        ),
        Some(Padding { id, text, .. }) => format!(
            "{why}, and the base model names no padding token that never ends a row: this folder pads with {text:?} ({id})."
        ),
        None => {
            format!("{why}, and every special token here may end a row: score one text at a time, without padding.")
        }
    };
    let (rule, severity) = ("padding".to_owned(), Severity::Note);
    sink.emit(RunEvent::Found(Finding { rule, step: 0, severity, text, remedy: String::new(), pair: None }))
}

#[cfg(test)]
mod tests;
