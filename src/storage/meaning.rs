//! What the columns of a row mean: the prompt with all its parts, texts to imitate, labels.
//!
//! Owns the field's names for these parts, in one place for all formats. Refuses to guess: a part that cannot be placed is an
//! error with the column's name.

pub(super) use super::chat_json::truth;
use super::chat_json::{exact, fits, fits_as_json, is_blank, messages, with_input};
use super::given::GivenAnswer;
use super::record::{RowFields, is_nothing};
use super::schema::Refusal;
use super::transcript;
use crate::domain::{Conversation, JsonFields, Message, PromptBody, RESERVED_VARIABLES, SftBody};
use serde_json::{Value, json};

/// Columns of the prompt, the surest name first.
const PROMPTS: [&str; 14] = [
    "prompt",
    "instruction",
    "question",
    "query",
    "problem",
    "messages",
    "conversations",
    "conversation",
    "trajectory",
    "context_messages",
    "user_input",
    "input",
    "text",
    "context",
];

/// Columns of the system prompt.
const SYSTEMS: [&str; 3] = ["system", "system_prompt", "system_message"];

/// Columns of an answer to imitate.
const COMPLETIONS: [&str; 7] = ["completion", "response", "output", "answer", "target", "solution", "generation"];

/// Whether a row has a column of a prompt.
pub(super) fn has_prompt(row: &RowFields<'_>) -> bool {
    PROMPTS.iter().any(|name| row.holds(name))
}

/// Whether a row has a column of a prompt, filled in or not.
pub(super) fn has_prompt_column(row: &RowFields<'_>) -> bool {
    PROMPTS.iter().any(|name| row.names().any(|own| own == name))
}

/// The column that holds the prompt.
pub(super) fn prompt_column(row: &RowFields<'_>) -> Option<&'static str> {
    PROMPTS.into_iter().find(|name| row.holds(name))
}

/// The prompt of a row with its system prompt, its history, tools and template variables. A text becomes a user's turn; with
/// `plain`, a `prompt` that is a text and has none of these stays plain text.
///
/// # Errors
/// When there is none, or a part cannot be placed.
pub(super) fn question(row: &RowFields<'_>, plain: bool) -> Result<PromptBody, String> {
    let Some((name, value)) = row.first_of(&PROMPTS) else {
        return Err("has no prompt: expected `prompt`, `instruction`, `question` or `messages`".into());
    };
    let mut talk = Conversation::default();
    match value {
        Value::String(text) => {
            let input = if name == "instruction" { row.text("input") } else { None };
            let context = if name == "context" { None } else { row.text("context") };
            let whole = with_input(&with_input(text, input), context);
            let alone = input.is_none() && context.is_none();
            if plain && alone && name == "prompt" && !has_more(row) {
                return Ok(PromptBody::Text(whole));
            }
            talk.turns = match transcript::asked(&whole) {
                Some(turns) if alone => turns.into(),
                _ => vec![Message::new("user", whole)].into(),
            };
        }
        Value::Array(_) => talk.turns = messages(name, value)?.into(),
        _ => return Err(format!("has a `{name}` that is neither text nor a list of messages")),
    }
    surround(row, &mut talk)?;
    Ok(PromptBody::Chat(talk))
}

/// Whether something belongs around the prompt.
fn has_more(row: &RowFields<'_>) -> bool {
    SYSTEMS.iter().chain(&["history", "tools", "functions", "chat_template_kwargs"]).any(|name| row.holds(name))
}

/// Adds a row's system prompt, history, tools and template variables to a conversation.
///
/// # Errors
/// When one of them cannot be placed.
pub(super) fn surround(row: &RowFields<'_>, talk: &mut Conversation) -> Result<(), String> {
    if let Some(value) = row.first_of(&["history"]).map(|(_, value)| value) {
        let before = history(value)?;
        talk.turns.change(|turns| drop(turns.splice(0..0, before)));
    }
    if let Some((name, value)) = row.first_of(&SYSTEMS) {
        let Value::String(text) = value else { return Err(format!("has a `{name}` that is not text")) };
        match talk.turns.first().filter(|turn| turn.role == "system") {
            Some(turn) if turn.content.trim() == text.trim() => {}
            Some(_) => return Err(format!("has a `{name}` beside messages that begin with another system turn")),
            None => talk.turns.change(|turns| turns.insert(0, Message::new("system", text.as_str()))),
        }
    }
    talk.set_tools(tools(row)?);
    talk.set_variables(variables(row)?);
    Ok(())
}

/// Earlier turns: pairs of a question and its answer, or messages.
fn history(value: &Value) -> Result<Vec<Message>, String> {
    let wrong = || "has a `history` that is no list of questions with their answers".to_owned();
    let list = value.as_array().ok_or_else(wrong)?;
    if list.iter().all(Value::is_object) {
        return messages("history", value);
    }
    let mut turns = Vec::new();
    for pair in list {
        let [Value::String(asked), Value::String(answered)] = pair.as_array().ok_or_else(wrong)?.as_slice() else {
            return Err(wrong());
        };
        turns.extend([Message::new("user", asked.as_str()), Message::assistant(answered.as_str())]);
    }
    Ok(turns)
}

/// The tools of a row: a list, or one written as JSON.
fn tools(row: &RowFields<'_>) -> Result<Vec<Value>, String> {
    let Some((name, value)) = row.first_of(&["tools", "functions"]) else { return Ok(Vec::new()) };
    let wrong = || format!("has `{name}` that are no list of objects");
    let parsed = |text: &str| serde_json::from_str::<Value>(text).map_err(|_| wrong());
    let list = match value {
        Value::String(text) => match parsed(text)? {
            Value::Array(list) => list,
            one => vec![one],
        },
        Value::Array(list) => list.clone(),
        _ => return Err(wrong()),
    };
    let tool = |tool: Value| -> Result<Value, String> {
        let tool = match tool {
            Value::String(text) => parsed(&text)?,
            tool => tool,
        };
        // The older form names functions alone.
        let bare = name == "functions" && tool.get("function").is_none();
        Ok(if bare { json!({"type": "function", "function": tool}) } else { tool })
    };
    let list: Vec<Value> = list.into_iter().map(tool).collect::<Result<_, String>>()?;
    list.iter().try_for_each(|tool| exact(name, tool))?;
    if list.iter().all(Value::is_object) { Ok(list) } else { Err(wrong()) }
}

/// The template's variables of a row.
fn variables(row: &RowFields<'_>) -> Result<JsonFields, String> {
    let wrong = || "has `chat_template_kwargs` that are no object".to_owned();
    let Some((_, value)) = row.first_of(&["chat_template_kwargs"]) else { return Ok(JsonFields::new()) };
    let object = match value {
        Value::String(text) => serde_json::from_str(text).map_err(|_| wrong())?,
        Value::Object(object) => object.clone(),
        _ => return Err(wrong()),
    };
    object.iter().try_for_each(|(name, value)| exact(name, value))?;
    match RESERVED_VARIABLES.iter().find(|name| object.contains_key(**name)) {
        Some(name) => Err(format!("has `chat_template_kwargs` that set `{name}`, which a row may not")),
        // Parquet fills in null for what a row does not set.
        None => Ok(object.into_iter().filter(|(_, value)| !value.is_null()).collect()),
    }
}

/// Whether a row holds an answer to imitate.
pub(super) fn has_completion(row: &RowFields<'_>) -> bool {
    COMPLETIONS.iter().any(|name| row.holds(name))
}

/// The column of an answer to imitate, and whether it holds text.
fn answered(row: &RowFields<'_>) -> Option<(&'static str, bool)> {
    let name = COMPLETIONS.into_iter().find(|name| row.holds(name))?;
    Some((name, row.peek(name).is_some_and(Value::is_string)))
}

/// A text for SFT or to measure forgetting on: a conversation (`messages`, `conversations`), a prompt in any of its forms with
/// its answer (`completion`, `response`, `output`, `answer` …), or `text`.
pub(super) fn text_of(row: &RowFields<'_>) -> Result<SftBody, Refusal> {
    let body = if let Some(name) =
        ["messages", "conversations", "conversation"].into_iter().find(|name| row.holds(name))
    {
        conversation(name, row)?
    } else if let (Some(_), Some((name, is_text))) = (prompt_column(row), answered(row)) {
        example(question(row, is_text)?, GivenAnswer::in_row(row, name)?)?
    } else if let Some(text) = row.get("text") {
        SftBody::Text(text.as_str().ok_or("has a `text` that is not a string")?.to_owned())
    } else if let (Some(name), Some(_)) = (prompt_column(row), COMPLETIONS.iter().find(|name| row.peek(name).is_some()))
    {
        row.mark(name);
        return Err(Refusal::Empty);
    } else {
        return Err("has none of `messages`, `prompt` with `completion`, and `text`".into());
    };
    sound(&body)?;
    Ok(body)
}

/// Refuses a text that is empty or too long.
pub(super) fn sound(body: &SftBody) -> Result<(), Refusal> {
    let empty = match body {
        SftBody::Messages(turns) => turns.iter().all(|m| m.role != "assistant" || m.is_blank()),
        SftBody::Completion { prompt, completion } => {
            is_blank(prompt) || GivenAnswer::from(completion.as_str()).is_blank()
        }
        SftBody::Text(text) => text.trim().is_empty(),
    };
    if empty {
        return Err(Refusal::Empty);
    }
    Ok(fits_as_json("text", body)?)
}

/// A prompt and an answer to imitate.
pub(super) fn example(prompt: PromptBody, answer: GivenAnswer) -> Result<SftBody, Refusal> {
    match (&prompt, answer.turns.is_empty()) {
        (PromptBody::Text(_), false) => Err("has an answer of messages to a prompt of plain text".into()),
        _ => Ok(answer.to_imitate(prompt)),
    }
}

/// A whole conversation, or one that a column beside it answers.
fn conversation(name: &'static str, row: &RowFields<'_>) -> Result<SftBody, Refusal> {
    row.mark(name);
    let mut talk = Conversation::from(messages(name, row.peek(name).unwrap_or(&Value::Null))?);
    surround(row, &mut talk)?;
    let answers = talk.last().is_none_or(|turn| turn.role != "assistant");
    if let (true, Some((column, _))) = (answers, answered(row)) {
        return example(PromptBody::Chat(talk), GivenAnswer::in_row(row, column)?);
    }
    if !talk.iter().any(|turn| turn.role == "assistant") {
        return Err(format!("has no message of the role `assistant` in `{name}`").into());
    }
    Ok(SftBody::Messages(talk))
}

/// Splits a conversation in front of its last answer: the turns behind the last user's.
pub(super) fn split_answer(field: &str, mut talk: Conversation) -> Result<(PromptBody, GivenAnswer), String> {
    let last = talk.iter().rposition(|turn| turn.role == "user");
    let last = last.ok_or_else(|| format!("has no message of the role `user` in `{field}`"))?;
    let answer = talk.turns.change(|turns| turns.split_off(last + 1));
    if answer.is_empty() {
        return Err(format!("has no message of the role `assistant` behind the last question in `{field}`"));
    }
    Ok((PromptBody::Chat(talk), GivenAnswer::of_turns(field, answer)?))
}

/// Refuses two answers that are empty, equal or too long.
pub(super) fn sound_pair(prompt: &PromptBody, a: &GivenAnswer, b: &GivenAnswer) -> Result<(), Refusal> {
    if a.is_blank() || b.is_blank() || is_blank(prompt) {
        return Err(Refusal::Empty);
    }
    fits_as_json("prompt", prompt)?;
    for (what, answer) in [("first answer", a), ("second answer", b)] {
        fits(what, &answer.text)?;
        fits_as_json(what, &answer.turns)?;
    }
    Ok(())
}

/// A conversation as a prompt where an answer of turns follows it: plain text becomes a user's turn.
pub(super) fn as_chat(prompt: PromptBody) -> PromptBody {
    match prompt {
        PromptBody::Text(text) => {
            let turns = transcript::asked(&text).unwrap_or_else(|| vec![Message::new("user", text)]);
            PromptBody::Chat(turns.into())
        }
        PromptBody::Chat(talk) => PromptBody::Chat(talk),
    }
}

/// Every text within a value.
pub(super) fn texts_within(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text.trim()],
        Value::Array(list) => list.iter().flat_map(texts_within).collect(),
        Value::Object(parts) => ["content", "value", "text", "input", "output", "human", "user", "assistant"]
            .iter()
            .filter_map(|name| parts.get(*name))
            .flat_map(texts_within)
            .collect(),
        _ => Vec::new(),
    }
}

/// A shorter text repeats another only where it is a whole line of it.
const SHORT: usize = 16;

/// Whether a column that was not read only repeats what the row says, or holds all of it.
pub(super) fn repeats(value: &Value, asked: &str, said: &str) -> bool {
    let texts = texts_within(value);
    let texts: Vec<&str> = texts.into_iter().filter(|text| !text.is_empty()).collect();
    let whole = || texts.iter().any(|text| text.contains(asked.trim()));
    // A letter or a word is in many texts.
    let again =
        |text: &&str| said.contains(*text) && (text.len() >= SHORT || said.lines().any(|line| line.trim() == *text));
    !is_nothing(value) && !texts.is_empty() && (texts.iter().all(again) || texts.len() > 1 && whole())
}
