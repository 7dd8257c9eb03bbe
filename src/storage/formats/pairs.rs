//! Imports and exports judged pairs: one JSON object per line with `chosen` and `rejected`.
//!
//! Writes what `trl` writes. The answers are texts, messages, or lists of messages; the prompt is `prompt`, or `question`,
//! `instruction` with `input`, `messages` … with `system`, `history` and `tools` around it (Intel Orca, LLaMA-Factory, Axolotl,
//! OpenRLHF, distilabel). Without a prompt the answers' common beginning is one, but only in a row that holds no other text:
//! messages that both share, or the longest common prefix. A prompt that both answers repeat is taken once.

use super::super::answers::tags_of;
use super::super::given::{GivenAnswer, is_message};
use super::super::meaning::{as_chat, prompt_column, question, sound_pair, surround};
use super::super::pair_columns::explicit;
use super::super::record::{Record, RowFields, is_nothing};
use super::super::schema::{Fit, Format, ImportedPair, Reader, Reads, Refusal, Writer};
use super::super::{chat_json, transcript};
use crate::domain::{CORRECTION, Conversation, Message, PromptBody, Strength};
use serde_json::Value;

/// The row of the table.
pub const FORMAT: Format = Format {
    name: "pairs",
    help: "Judged pairs in TRL's forms: `chosen` and `rejected`, with or without `prompt`",
    reads: Some(Reads {
        plain_text: false,
        record: "a JSON object with `prompt`, `chosen` and `rejected`",
        fit: |record| if record.has("chosen") { Fit::Sure } else { Fit::No },
        row: Reader::Pairs(row),
    }),
    writes: Some(Writer::Pairs(explicit)),
};

/// Columns that say which answer is better, by the better one's and the other's.
const SCORES: [(&str, &str); 6] = [
    ("score_chosen", "score_rejected"),
    ("chosen_score", "rejected_score"),
    ("chosen_rating", "rejected_rating"),
    ("chosen-rating", "rejected-rating"),
    ("rating_chosen", "rating_rejected"),
    ("chosen_reward", "rejected_reward"),
];

/// Columns that describe a pair and are no part of a prompt: beside them a common beginning may be one.
const ABOUT: [&str; 24] = [
    "chosen",
    "rejected",
    "id",
    "source",
    "dataset",
    "split",
    "subset",
    "language",
    "lang",
    "strength",
    "agreement",
    "raters",
    "votes",
    "adjudicated_by",
    "seen",
    "partial",
    "model_chosen",
    "model_rejected",
    "adapter_chosen",
    "adapter_rejected",
    "strategy",
    "tags",
    "note",
    "rank",
];

pub(super) fn row(record: &Record) -> Result<ImportedPair, Refusal> {
    let row = record.row()?;
    let (Some(chosen), Some(rejected)) = (row.peek("chosen"), row.peek("rejected")) else {
        let missing = if row.peek("chosen").is_none() { "chosen" } else { "rejected" };
        return Err(format!("has no `{missing}`").into());
    };
    let mut said = Vec::new();
    let (prompt, chosen, rejected) = if let (Some(chosen), Some(rejected)) = (chosen.as_str(), rejected.as_str()) {
        row.mark_all(&["chosen", "rejected"]);
        texts(&row, chosen, rejected, &mut said)?
    } else {
        let side = |name: &str, value: &Value| match value {
            Value::Array(list) if !list.iter().any(Value::is_string) => {
                row.mark(name);
                chat_json::messages(name, value)
            }
            message @ Value::Object(parts) if is_message(parts) => {
                row.mark(name);
                chat_json::messages(name, &Value::Array(vec![message.clone()]))
            }
            _ => GivenAnswer::in_row(&row, name).map(|answer| answer.as_turns()),
        };
        conversations(&row, side("chosen", chosen)?, side("rejected", rejected)?)?
    };
    sound_pair(&prompt, &chosen, &rejected)?;
    if chosen.says_the_same(&rejected) {
        return Err(Refusal::Equal);
    }
    said.extend(contradiction(&row));
    let model = |name: &str, other: &str| row.text(name).or_else(|| row.text(other)).map(str::to_owned);
    let models = (model("chosen_model", "chosen-model"), model("rejected_model", "rejected-model"));
    let (strength, margin) = (strength(&row), margin(&row)?);
    Ok(ImportedPair { prompt, tags: tags_of(&row)?, chosen, rejected, models, strength, margin, said })
}

/// How much better the preferred answer is, in this program's own words.
fn strength(row: &RowFields<'_>) -> Option<Strength> {
    let found = match row.peek("strength")?.as_str()? {
        "slight" => Strength::Slight,
        "better" => Strength::Better,
        "much" => Strength::Much,
        _ => return None,
    };
    row.mark("strength");
    Some(found)
}

/// The row's margin: a number, or none. A correction has none, and this program writes 0 for it.
fn margin(row: &RowFields<'_>) -> Result<Option<f64>, String> {
    let Some(value) = row.get("margin").filter(|value| !is_nothing(value)) else { return Ok(None) };
    let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok()).filter(|n: &f64| n.is_finite());
    let number = number.ok_or("has a `margin` that is no number")?;
    let corrected = row.peek("strategy").and_then(Value::as_str) == Some(CORRECTION);
    Ok(Some(number).filter(|_| !corrected))
}

/// What the row's scores say against it.
fn contradiction(row: &RowFields<'_>) -> Option<&'static str> {
    let number = |name: &str| row.peek(name).and_then(|v| v.as_f64().or_else(|| v.as_str()?.trim().parse().ok()));
    let scored = SCORES.iter().find_map(|(a, b)| Some(number(a)? - number(b)?));
    match scored.or_else(|| number("margin")) {
        Some(difference) if difference < 0.0 => Some("pair whose scores say that the rejected answer is better"),
        // A margin of zero is what this program writes of a correction.
        Some(difference) if difference == 0.0 && scored.is_some() => Some("pair whose scores are equal"),
        _ => None,
    }
}

type Sides = (PromptBody, GivenAnswer, GivenAnswer);

fn texts(row: &RowFields<'_>, chosen: &str, rejected: &str, said: &mut Vec<&'static str>) -> Result<Sides, Refusal> {
    let whole = transcript::transcript(chosen).zip(transcript::transcript(rejected));
    if prompt_column(row).is_none() {
        if row.peek("prompt").is_some_and(is_nothing) && whole.is_none() {
            return Err(Refusal::Empty);
        }
        if let Some((chosen, rejected)) = whole {
            return conversations(row, chosen, rejected);
        }
        // Equal answers have no split point; they count as equal.
        if chosen == rejected {
            return Err(Refusal::Equal);
        }
        if let Some(name) = row.names().find(|name| !ABOUT.contains(&name.as_str()) && is_text(row.peek(name))) {
            return Err(format!("has no `prompt`, and what its `{name}` means is not known").into());
        }
        let split = common_prefix(chosen, rejected);
        if split == 0 {
            return Err("has no `prompt`, and its answers have no common beginning".into());
        }
        let prompt = PromptBody::Text(chosen[..split].to_owned());
        return Ok((prompt, chosen[split..].into(), rejected[split..].into()));
    }
    let prompt = question(row, true)?;
    if let PromptBody::Text(text) = &prompt
        && let (Some(a), Some(b)) = (chosen.strip_prefix(text.as_str()), rejected.strip_prefix(text.as_str()))
        && !a.trim().is_empty()
        && !b.trim().is_empty()
    {
        said.push("row whose answers repeat the prompt: taken once");
        let (a, b) = (a.into(), b.into());
        return Ok((prompt, a, b));
    }
    // Whole transcripts beside a prompt that is their beginning.
    if let Some((a, b)) = whole {
        let PromptBody::Chat(talk) = as_chat(prompt) else { return Err("has no prompt of messages".into()) };
        let strip = |turns: Vec<Message>| turns.strip_prefix(&*talk.turns).map(<[Message]>::to_vec);
        let (Some(a), Some(b)) = (strip(a), strip(b)) else {
            return Err("has a `prompt` beside transcripts that do not begin with it".into());
        };
        said.push("row whose answers repeat the prompt: taken once");
        let answer = |field: &str, turns| GivenAnswer::of_turns(field, turns);
        return Ok((PromptBody::Chat(talk), answer("chosen", a)?, answer("rejected", b)?));
    }
    Ok((prompt, chosen.into(), rejected.into()))
}

/// Whether a column holds text: words, or a list or an object with some.
fn is_text(value: Option<&Value>) -> bool {
    match value {
        Some(Value::String(text)) => !text.trim().is_empty(),
        Some(Value::Array(list)) => list.iter().any(|item| is_text(Some(item))),
        Some(Value::Object(parts)) => parts.values().any(|item| is_text(Some(item))),
        _ => false,
    }
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

/// Answers of messages: what answers the row's prompt, or whole conversations that begin with it.
fn conversations(row: &RowFields<'_>, mut chosen: Vec<Message>, mut rejected: Vec<Message>) -> Result<Sides, Refusal> {
    let answers_alone = [&chosen, &rejected].iter().all(|turns| turns.first().is_some_and(|t| t.role == "assistant"));
    let text_prompt = row.text("prompt");
    let talk = match prompt_column(row) {
        // A text as `prompt` beside whole conversations only repeats a turn of them.
        Some("prompt") if text_prompt.is_some() && !answers_alone => {
            let mut talk = Conversation::from(split_common(&mut chosen, &mut rejected)?);
            let asked = text_prompt.unwrap_or_default().trim();
            let known = |turn: &Message| turn.content.trim() == asked || asked.contains(turn.content.trim());
            if !talk.iter().any(known) {
                return Err("has a `prompt` that is no part of its conversations".into());
            }
            surround(row, &mut talk)?;
            talk
        }
        Some(name) => {
            let PromptBody::Chat(talk) = question(row, false)? else { return Err("has no prompt of messages".into()) };
            // Some files repeat the prompt in the answers.
            let bare = row
                .peek(name)
                .filter(|v| v.is_array())
                .map_or_else(|| talk.turns.to_vec(), |list| chat_json::messages(name, list).unwrap_or_default());
            for side in [&mut chosen, &mut rejected] {
                let repeated = [&talk.turns[..], &bare]
                    .into_iter()
                    .find(|turns| side.len() > turns.len() && side.starts_with(turns));
                let n = repeated.map_or(0, <[Message]>::len);
                side.drain(..n);
            }
            talk
        }
        None => {
            if let Some(prompt) = row.peek("prompt") {
                row.mark("prompt");
                if !prompt.is_array() && !is_nothing(prompt) {
                    return Err("has a `prompt` that is neither text nor a list of messages".into());
                }
            }
            let mut talk = Conversation::from(split_common(&mut chosen, &mut rejected)?);
            surround(row, &mut talk)?;
            talk
        }
    };
    if talk.turns.is_empty() {
        return Err("has no `prompt`, and its conversations have no common beginning".into());
    }
    let (chosen, rejected) = (GivenAnswer::of_turns("chosen", chosen)?, GivenAnswer::of_turns("rejected", rejected)?);
    Ok((PromptBody::Chat(talk), chosen, rejected))
}

/// Takes the turns that two conversations share off their beginnings.
fn split_common(chosen: &mut Vec<Message>, rejected: &mut Vec<Message>) -> Result<Vec<Message>, Refusal> {
    if chosen == rejected {
        return Err(Refusal::Equal);
    }
    let same = chosen.iter().zip(rejected.iter()).take_while(|(c, r)| c == r).count();
    let split = same.min(chosen.len().min(rejected.len()).saturating_sub(1));
    let turns: Vec<Message> = chosen.drain(..split).collect();
    rejected.drain(..split);
    Ok(turns)
}
