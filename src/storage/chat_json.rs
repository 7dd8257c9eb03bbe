//! Messages in the forms of TRL, OpenAI and ShareGPT, and how they are written.
//!
//! Owns the roles' names, content in parts, calls of tools, and that a field nothing here knows stays with its message. Refuses
//! pictures and sounds by name. Refuses to decide which shape a record has: the format does.

use super::record::is_nothing;
use crate::domain::{Conversation, Message, MessageFields, PromptBody, ReplyRef};
use crate::protocol::MAX_LINE;
use serde_json::{Map, Value, json};

/// Fields of a message that hold what no model here reads.
const UNREADABLE: [&str; 7] = ["images", "image", "videos", "video", "audios", "audio", "image_url"];

/// From here on whole numbers do not fit into 64 bits: 2^63.
const LARGEST: f64 = 9_223_372_036_854_775_808.0;

/// A list of messages in TRL's form (`role`, `content`) or ShareGPT's (`from`, `value`).
pub(super) fn messages(field: &str, value: &Value) -> Result<Vec<Message>, String> {
    let Some(list) = value.as_array() else { return Err(format!("has a `{field}` that is not a list of messages")) };
    if !list.is_empty() && list.iter().all(Value::is_string) {
        return Err(format!("has a `{field}` that is a list of texts: expected messages with `role` and `content`"));
    }
    let mut out = Vec::with_capacity(list.len());
    for message in list {
        match exchange(message) {
            Some((asked, answered)) => out.extend([Message::new("user", asked), Message::assistant(answered)]),
            None => out.push(one(field, message)?),
        }
    }
    Ok(out)
}

/// A question with its answer in one object (ms-swift, Capybara): two turns.
fn exchange(turns: &Value) -> Option<(&str, &str)> {
    const NAMES: [(&str, &str); 3] = [("human", "assistant"), ("input", "output"), ("user", "assistant")];
    let object = turns.as_object().filter(|object| object.len() == 2)?;
    NAMES.iter().find_map(|(asked, answered)| Some((object.get(*asked)?.as_str()?, object.get(*answered)?.as_str()?)))
}

fn one(field: &str, message: &Value) -> Result<Message, String> {
    let unclear = || format!("has a message in `{field}` without the strings `role` and `content`");
    let Some(object) = message.as_object() else { return Err(unclear()) };
    let named = |a: &str, b: &str| object.get(a).or_else(|| object.get(b));
    let given = named("role", "from").and_then(Value::as_str).ok_or_else(unclear)?;
    let mut more = Map::new();
    for (name, value) in object {
        if matches!(name.as_str(), "role" | "from" | "content" | "value") || is_nothing(value) {
            continue;
        }
        if UNREADABLE.contains(&name.as_str()) {
            return Err(format!("has a message in `{field}` with `{name}`: pictures and sounds are not read"));
        }
        check_field(field, name, value)?;
        match name.as_str() {
            // ms-swift's and Axolotl's names of `train`.
            "loss" | "training" => drop(more.insert("train".into(), truth(value).unwrap_or(true).into())),
            // The older form of a call.
            "function_call" => drop(more.insert("tool_calls".into(), json!([{"type": "function", "function": value}]))),
            _ => drop(more.insert(name.clone(), value.clone())),
        }
    }
    let calls = more.contains_key("tool_calls");
    let content = match named("content", "value") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => joined(field, parts)?,
        None | Some(Value::Null) if more.contains_key("refusal") => {
            return Err(format!(
                "has a message in `{field}` with a `refusal` in place of its `content`, which is not read"
            ));
        }
        None | Some(Value::Null) if calls => String::new(),
        _ => return Err(unclear()),
    };
    let (role, content) = match given {
        "function_call" | "tool_call" => {
            more.insert("tool_calls".into(), called(field, &content)?);
            ("assistant", String::new())
        }
        other => (role(other), content),
    };
    Ok(Message { role: role.into(), content, more: MessageFields::from(more) })
}

/// The names under which files know who speaks, in lower case, and the role of each.
const ROLES: [(&str, &str); 22] = [
    ("user", "user"),
    ("human", "user"),
    ("prompter", "user"),
    ("assistant", "assistant"),
    ("gpt", "assistant"),
    ("chatgpt", "assistant"),
    ("chatbot", "assistant"),
    ("bot", "assistant"),
    ("model", "assistant"),
    ("ai", "assistant"),
    ("llm", "assistant"),
    ("bing", "assistant"),
    ("bard", "assistant"),
    ("claude", "assistant"),
    ("gemini", "assistant"),
    ("system", "system"),
    ("observation", "tool"),
    ("tool_response", "tool"),
    ("tool_result", "tool"),
    ("function_response", "tool"),
    ("function_output", "tool"),
    ("function", "tool"),
];

/// The role of who speaks under that name; another name is a role of its own.
fn role(name: &str) -> &str {
    let lower = name.trim().to_lowercase();
    ROLES.iter().find(|(known, _)| *known == lower).map_or(name, |(_, role)| *role)
}

/// A truth value in one of its forms; none of another value.
pub(super) fn truth(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(truth) => Some(*truth),
        Value::Number(n) if n.as_f64() == Some(1.0) => Some(true),
        Value::Number(n) if n.as_f64() == Some(0.0) => Some(false),
        Value::String(text) => match text.trim().to_lowercase().as_str() {
            "true" | "1" | "1.0" => Some(true),
            "false" | "0" | "0.0" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// Refuses a field that is known and says something else than what is known of it.
fn check_field(field: &str, name: &str, value: &Value) -> Result<(), String> {
    let ok = match name {
        "weight" => value.as_f64().is_some_and(|weight| weight == 0.0 || weight == 1.0),
        "train" => value.is_boolean(),
        "loss" | "training" => truth(value).is_some(),
        // Parts of a turn to train on, or by how much.
        "train_detail" | "training_detail" | "loss_scale" => false,
        "tool_calls" => value.is_array(),
        "function_call" => value.get("name").is_some_and(Value::is_string),
        "reasoning_content" | "reasoning" | "thinking" => value.is_string(),
        _ => true,
    };
    if !ok {
        return Err(format!("has a message in `{field}` with the `{name}` {value}, which is not read"));
    }
    exact(name, value)
}

/// Refuses a number of more than 64 bits, which would be rounded in what a model reads.
pub(super) fn exact(name: &str, value: &Value) -> Result<(), String> {
    match value {
        Value::Number(n) if n.as_f64().is_some_and(|x| n.is_f64() && x.abs() >= LARGEST) => {
            Err(format!("has a number of more than 64 bits in `{name}`: write it as text"))
        }
        Value::Array(list) => list.iter().try_for_each(|one| exact(name, one)),
        Value::Object(parts) => parts.values().try_for_each(|one| exact(name, one)),
        _ => Ok(()),
    }
}

/// The text of content in parts.
fn joined(field: &str, parts: &[Value]) -> Result<String, String> {
    let mut out = String::new();
    for part in parts {
        let kind = part.get("type").and_then(Value::as_str).unwrap_or("text");
        let text = part.as_str().or_else(|| part.get("text").and_then(Value::as_str));
        match (kind, text) {
            ("text" | "input_text" | "output_text", Some(text)) => out.push_str(text),
            _ => {
                return Err(format!(
                    "has a message in `{field}` with a part of the type `{kind}`: only parts of text are read"
                ));
            }
        }
    }
    Ok(out)
}

/// ShareGPT's call of a tool, written as JSON in a turn's text.
fn called(field: &str, text: &str) -> Result<Value, String> {
    let wrong = || format!("has a call of a tool in `{field}` that is not JSON with a `name`");
    let calls = match serde_json::from_str::<Value>(text).map_err(|_| wrong())? {
        Value::Array(calls) => calls,
        one => vec![one],
    };
    let call =
        |call: &Value| call.get("name").and_then(Value::as_str).map(|_| json!({"type": "function", "function": call}));
    calls
        .iter()
        .map(call)
        .collect::<Option<Vec<_>>>()
        .filter(|calls| !calls.is_empty())
        .map(Value::Array)
        .ok_or_else(wrong)
}

/// An instruction with its optional input, as one text.
pub(super) fn with_input(text: &str, input: Option<&str>) -> String {
    match input.filter(|input| !input.trim().is_empty()) {
        Some(input) => format!("{text}\n\n{input}"),
        None => text.to_owned(),
    }
}

/// Whether a prompt is blank.
pub(super) fn is_blank(prompt: &PromptBody) -> bool {
    prompt.headline().trim().is_empty()
}

/// Refuses a text that does not fit into one record of a log.
pub(super) fn fits(what: &str, text: &str) -> Result<(), String> {
    let room = MAX_LINE - 8192;
    // Escaping multiplies the length by at most six; only texts in between need to be measured.
    if text.len() <= room / 6 || serde_json::to_string(text).map_or(usize::MAX, |t| t.len()) <= room {
        Ok(())
    } else {
        Err(format!("has a {what} of {} bytes, longer than the limit of 1 MiB", text.len()))
    }
}

/// The same for a value that is stored as JSON.
pub(super) fn fits_as_json<T: serde::Serialize>(what: &str, value: &T) -> Result<(), String> {
    fits(what, &serde_json::to_string(value).unwrap_or_default())
}

/// An answer as turns.
pub(super) fn answer_turns(answer: ReplyRef<'_>) -> Vec<Message> {
    if answer.turns.is_empty() { vec![Message::assistant(answer.text)] } else { answer.turns.to_vec() }
}

/// Adds the columns of what a conversation has beside its turns.
pub(super) fn add_extras(columns: &mut Value, talk: &Conversation) {
    if !talk.tools().is_empty() {
        columns["tools"] = talk.tools().into();
    }
    if !talk.variables().is_empty() {
        columns["chat_template_kwargs"] = talk.variables().clone().into();
    }
}

/// `prompt` and `completion`: messages for a conversation, strings for plain text.
pub(super) fn completed(prompt: &PromptBody, completion: ReplyRef<'_>) -> Value {
    match prompt {
        PromptBody::Chat(talk) => {
            let mut columns = json!({"prompt": talk.turns, "completion": answer_turns(completion)});
            add_extras(&mut columns, talk);
            columns
        }
        PromptBody::Text(text) => json!({"prompt": text, "completion": completion.text}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(message: Value) -> Result<Message, String> {
        messages("messages", &Value::Array(vec![message])).map(|mut turns| turns.remove(0))
    }

    #[test]
    fn roles_parts_and_calls_are_read_in_every_form() {
        for (from, role) in [("human", "user"), ("gpt", "assistant"), ("observation", "tool"), ("critic", "critic")] {
            assert_eq!(read(json!({"from": from, "value": "x"})).unwrap(), Message::new(role, "x"));
        }
        let parts = json!({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]});
        assert_eq!(read(parts).unwrap(), Message::new("user", "ab"));
        let call = read(json!({"from": "function_call", "value": "{\"name\": \"f\", \"arguments\": {}}"})).unwrap();
        assert_eq!((call.role.as_str(), call.tool_calls().len(), call.content.as_str()), ("assistant", 1, ""));
        let null = read(json!({"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "f"}}]}));
        assert!(!null.unwrap().is_blank());
        let more =
            read(json!({"role": "assistant", "content": "4", "thinking": "2+2", "name": "x", "tool_calls": null}));
        assert_eq!(more.unwrap().more.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["thinking", "name"]);
    }

    #[test]
    fn what_is_not_read_is_named() {
        for (message, says) in [
            (json!({"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}), "`image_url`"),
            (json!({"role": "user", "content": "x", "images": ["a.png"]}), "`images`"),
            (json!({"role": "assistant", "content": "x", "weight": 0.5}), "`weight` 0.5"),
            (json!({"role": "assistant", "content": null}), "`content`"),
            (json!({"from": "function_call", "value": "do it"}), "call of a tool"),
            (json!("x"), "is a list of texts"),
            (json!(7), "without the strings"),
        ] {
            let said = read(message).unwrap_err();
            assert!(said.contains(says), "{said}");
        }
    }
}
