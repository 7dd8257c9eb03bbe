//! Imports and exports judged pairs: one JSON object per line with `chosen` and `rejected`.
//!
//! Writes what `trl` writes. Reads the columns that it does not know as nothing but tags. Accepts TRL's forms (explicit prompt, strings or messages; implicit prompt: the longest common prefix) and
//! Anthropic's transcripts (`\n\nHuman: …\n\nAssistant: …`), which become conversations.

use super::super::answers::tags_of;
use super::super::chat_json::{fits, fits_as_json, is_blank, messages, turn};
use super::super::container::Record;
use super::super::pair_columns::explicit;
use super::super::schema::{Fit, Format, ImportedPair, Reader, Reads, Refusal, Writer};
use crate::domain::{Message, PromptBody};
use serde_json::Value;

/// The row of the table.
pub const FORMAT: Format = Format {
    name: "pairs",
    help: "Judged pairs in TRL's forms: `chosen` and `rejected`, with or without `prompt`",
    reads: Some(Reads {
        plain_text: false,
        record: "a JSON object with `prompt`, `chosen` and `rejected`",
        fit: |record| if record.has("chosen") { Fit::Sure } else { Fit::No },
        row: Reader::Pairs(pair_from_row),
    }),
    writes: Some(Writer::Pairs(explicit)),
};

fn pair_from_row(record: &Record) -> Result<ImportedPair, Refusal> {
    record.object()?;
    let (Some(chosen), Some(rejected)) = (record.field("chosen"), record.field("rejected")) else {
        let missing = if record.field("chosen").is_none() { "chosen" } else { "rejected" };
        return Err(format!("has no `{missing}`").into());
    };
    let prompt = record.field("prompt");
    let mut pair = match (chosen, rejected) {
        (Value::String(chosen), Value::String(rejected)) => strings(prompt, chosen, rejected)?,
        (Value::Array(_), Value::Array(_)) => {
            conversations(prompt, messages("chosen", chosen)?, messages("rejected", rejected)?)?
        }
        _ => return Err("has a `chosen` and a `rejected` that are not both strings or both lists of messages".into()),
    };
    if pair.chosen.trim().is_empty() || pair.rejected.trim().is_empty() || is_blank(&pair.prompt) {
        return Err(Refusal::Empty);
    }
    if pair.chosen.split_whitespace().eq(pair.rejected.split_whitespace()) {
        return Err(Refusal::Equal);
    }
    fits_as_json("prompt", &pair.prompt)?;
    fits("chosen answer", &pair.chosen)?;
    fits("rejected answer", &pair.rejected)?;
    pair.tags = record.fields().map_or(Ok(Vec::new()), tags_of)?;
    Ok(pair)
}

fn strings(prompt: Option<&Value>, chosen: &str, rejected: &str) -> Result<ImportedPair, Refusal> {
    let prompt = match prompt {
        Some(Value::String(text)) => PromptBody::Text(text.clone()),
        Some(list) => PromptBody::Chat(messages("prompt", list)?),
        None => {
            if let (Some(c), Some(r)) = (transcript(chosen), transcript(rejected)) {
                return conversations(None, c, r);
            }
            // Equal answers have no split point; they count as equal.
            if chosen == rejected {
                return Err(Refusal::Equal);
            }
            let split = common_prefix(chosen, rejected);
            if split == 0 {
                return Err("has no `prompt`, and its answers have no common beginning".into());
            }
            let cut = |text: &str| text[split..].to_owned();
            return Ok(ImportedPair {
                prompt: PromptBody::Text(chosen[..split].to_owned()),
                tags: Vec::new(),
                chosen: cut(chosen),
                rejected: cut(rejected),
            });
        }
    };
    Ok(ImportedPair { prompt, tags: Vec::new(), chosen: chosen.to_owned(), rejected: rejected.to_owned() })
}

/// Length in bytes of the longest common prefix of two texts, one character less if it ends in a space (TRL's
/// `extract_prompt`: the space belongs to the answer). If one text is a prefix of the other, its last character belongs
/// to the answer.
fn common_prefix(a: &str, b: &str) -> usize {
    let mut last = (0, None);
    let mut before;
    for ((at, x), y) in a.char_indices().zip(b.chars()) {
        before = last;
        last = (at, Some(x));
        if x != y {
            return if before.1 == Some(' ') { before.0 } else { at };
        }
    }
    last.0
}

fn conversations(
    prompt: Option<&Value>,
    mut chosen: Vec<Message>,
    mut rejected: Vec<Message>,
) -> Result<ImportedPair, Refusal> {
    let body = if let Some(list @ Value::Array(_)) = prompt {
        let turns = messages("prompt", list)?;
        // Some files repeat the prompt in the answers.
        for side in [&mut chosen, &mut rejected] {
            if side.len() > turns.len() && side.starts_with(&turns) {
                side.drain(..turns.len());
            }
        }
        turns
    } else {
        // A string as `prompt` beside whole conversations only repeats their first turn.
        if chosen == rejected {
            return Err(Refusal::Equal);
        }
        let same = chosen.iter().zip(&rejected).take_while(|(c, r)| c == r).count();
        let split = same.min(chosen.len().min(rejected.len()).saturating_sub(1));
        let turns: Vec<Message> = chosen.drain(..split).collect();
        rejected.drain(..split);
        turns
    };
    if body.is_empty() {
        return Err("has no `prompt`, and its conversations have no common beginning".into());
    }
    Ok(ImportedPair {
        prompt: PromptBody::Chat(body),
        tags: Vec::new(),
        chosen: turn("chosen", chosen)?,
        rejected: turn("rejected", rejected)?,
    })
}

/// A `\n\nHuman: …\n\nAssistant: …` transcript as messages.
fn transcript(text: &str) -> Option<Vec<Message>> {
    const MARKS: [(&str, &str); 2] = [("\n\nHuman:", "user"), ("\n\nAssistant:", "assistant")];
    let mut rest = text;
    let mut turns = Vec::new();
    if !rest.starts_with(MARKS[0].0) {
        return None;
    }
    while !rest.is_empty() {
        let (mark, role) = MARKS.iter().find(|(mark, _)| rest.starts_with(mark))?;
        rest = &rest[mark.len()..];
        let end = MARKS.iter().filter_map(|(mark, _)| rest.find(mark)).min().unwrap_or(rest.len());
        turns.push(Message { role: (*role).into(), content: rest[..end].trim().to_owned() });
        rest = &rest[end..];
    }
    Some(turns)
}
