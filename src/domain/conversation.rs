//! Messages and conversations: the turns, the fields beside their texts, the tools and the template's variables.
//!
//! Owns what of a row reaches a chat template. A field of a message that nothing here knows is kept as it is and handed to the
//! template. Refuses to render.

use super::common_text::CommonText;
use super::hash::Fold64;
use super::lone_list::LoneList;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use std::sync::LazyLock;

/// Named JSON values.
pub type JsonFields = Map<String, Value>;

/// The fields of a message beside `role` and `content`. Most messages have none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct MessageFields(Option<Box<JsonFields>>);

impl MessageFields {
    /// A field that is present and not null.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.as_ref()?.get(name).filter(|value| !value.is_null())
    }

    /// Sets a field.
    pub fn set(&mut self, name: &str, value: Value) {
        self.0.get_or_insert_with(Box::default).insert(name.into(), value);
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|fields| fields.is_empty())
    }

    /// The fields in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.0.iter().flat_map(|fields| fields.iter())
    }
}

impl From<JsonFields> for MessageFields {
    fn from(fields: JsonFields) -> Self {
        Self(Some(fields).filter(|fields| !fields.is_empty()).map(Box::new))
    }
}

impl Serialize for MessageFields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Some(fields) => fields.serialize(serializer),
            None => JsonFields::new().serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for MessageFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        JsonFields::deserialize(deserializer).map(Self::from)
    }
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, `tool`, or another role of the model's chat template.
    pub role: CommonText,
    /// The text of the turn.
    pub content: String,
    /// Its other fields: `reasoning_content`, `tool_calls`, `name`, `weight`, …
    #[serde(flatten)]
    pub more: MessageFields,
}

/// The names under which a message holds its reasoning.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

impl Message {
    /// A turn of text alone.
    pub fn new(role: impl Into<CommonText>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into(), more: MessageFields::default() }
    }

    /// An assistant's turn of text alone.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new("assistant", content)
    }

    /// The reasoning that led to the text.
    #[must_use]
    pub fn reasoning(&self) -> Option<&str> {
        REASONING.iter().find_map(|name| self.more.get(name)?.as_str()).filter(|text| !text.trim().is_empty())
    }

    /// Its calls of tools.
    #[must_use]
    pub fn tool_calls(&self) -> &[Value] {
        self.more.get("tool_calls").and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// Whether the turn says whether it is trained on (`weight` 0 or 1, `train`), and which.
    #[must_use]
    pub fn trains(&self) -> Option<bool> {
        let weight = || self.more.get("weight").and_then(Value::as_f64).map(|weight| weight != 0.0);
        self.more.get("train").and_then(Value::as_bool).or_else(weight)
    }

    /// The same without some of its fields.
    #[must_use]
    pub fn without(&self, names: &[&str]) -> Self {
        let kept = self.more.iter().filter(|(name, _)| !names.contains(&name.as_str()));
        let more: JsonFields = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
        Self { role: self.role.clone(), content: self.content.clone(), more: more.into() }
    }

    /// The same turn, not trained on.
    #[must_use]
    pub fn untrained(&self) -> Self {
        let mut turn = self.clone();
        if turn.role == "assistant" {
            turn.more.set("train", false.into());
        }
        turn
    }

    /// Whether it says nothing: no text and no call of a tool.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.content.trim().is_empty() && self.tool_calls().is_empty()
    }

    /// The turn as a person reads it: reasoning, text, calls of tools.
    #[must_use]
    pub fn readable(&self) -> String {
        let mut parts = Vec::new();
        if let Some(reasoning) = self.reasoning() {
            parts.push(format!("<think>\n{}\n</think>", reasoning.trim()));
        }
        if !self.content.is_empty() {
            parts.push(self.content.clone());
        }
        for call in self.tool_calls() {
            let function = call.get("function").unwrap_or(call);
            let name = function.get("name").and_then(Value::as_str).unwrap_or("tool");
            let given = match function.get("arguments") {
                Some(Value::String(text)) => text.clone(),
                Some(value) => value.to_string(),
                None => String::new(),
            };
            parts.push(format!("→ {name}({given})"));
        }
        parts.join("\n\n")
    }

    pub(super) fn fold(&self, h: &mut Fold64) {
        h.add(self.role.as_bytes());
        h.add(self.content.as_bytes());
        for (name, value) in self.more.iter() {
            h.add(name.as_bytes());
            h.add(value.to_string().as_bytes());
        }
    }
}

/// An answer of one turn or more as a person reads it. The roles lead every turn but the first.
#[must_use]
pub fn readable_turns(turns: &[Message]) -> String {
    let shown = turns.iter().enumerate().map(|(at, turn)| match at {
        0 => turn.readable(),
        _ => format!("[{}]\n{}", turn.role, turn.readable()),
    });
    shown.collect::<Vec<_>>().join("\n\n")
}

/// The turns of a conversation with what its template reads beside them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Conversation {
    /// The turns.
    pub turns: LoneList<Message>,
    /// What its template reads beside the turns; none where it is nothing, as for most.
    beside: Option<Box<BesideTurns>>,
}

/// What a template reads beside the turns.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct BesideTurns {
    tools: Vec<Value>,
    variables: JsonFields,
}

impl Conversation {
    /// Its first `n` turns, with the same tools and variables.
    #[must_use]
    pub fn first(&self, n: usize) -> Self {
        self.with_turns(self.turns.iter().take(n).cloned().collect())
    }

    /// Other turns with the same tools and variables.
    #[must_use]
    pub fn with_turns(&self, turns: LoneList<Message>) -> Self {
        Self { turns, beside: self.beside.clone() }
    }

    /// The tools that the model may call, in the form of `transformers`.
    #[must_use]
    pub fn tools(&self) -> &[Value] {
        self.beside.as_ref().map_or(&[], |beside| &beside.tools)
    }

    /// Variables of the template, such as `enable_thinking` (`chat_template_kwargs`).
    #[must_use]
    pub fn variables(&self) -> &JsonFields {
        static NONE: LazyLock<JsonFields> = LazyLock::new(JsonFields::new);
        self.beside.as_ref().map_or(&NONE, |beside| &beside.variables)
    }

    /// Sets the tools.
    pub fn set_tools(&mut self, tools: Vec<Value>) {
        if tools != self.tools() {
            self.beside.get_or_insert_default().tools = tools;
            self.drop_nothing();
        }
    }

    /// Sets the variables of the template.
    pub fn set_variables(&mut self, variables: JsonFields) {
        if variables != *self.variables() {
            self.beside.get_or_insert_default().variables = variables;
            self.drop_nothing();
        }
    }

    /// Sets a variable of the template that is not set.
    pub fn default_variable(&mut self, name: &str, value: &Value) {
        let beside = self.beside.get_or_insert_default();
        beside.variables.entry(name).or_insert_with(|| value.clone());
    }

    /// Two conversations with nothing beside their turns are equal.
    fn drop_nothing(&mut self) {
        self.beside.take_if(|beside| **beside == BesideTurns::default());
    }

    /// The same conversation with more turns at its end.
    #[must_use]
    pub fn followed_by(&self, more: &[Message]) -> Self {
        self.with_turns(self.turns.iter().chain(more).cloned().collect())
    }

    /// Whether it is its turns alone.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.beside.is_none()
    }

    pub(super) fn fold(&self, h: &mut Fold64) {
        self.turns.iter().for_each(|turn| turn.fold(h));
        for tool in self.tools() {
            h.add(tool.to_string().as_bytes());
        }
        for (name, value) in self.variables() {
            h.add(name.as_bytes());
            h.add(value.to_string().as_bytes());
        }
    }
}

impl From<Vec<Message>> for Conversation {
    fn from(turns: Vec<Message>) -> Self {
        Self { turns: turns.into(), ..Self::default() }
    }
}

impl From<LoneList<Message>> for Conversation {
    fn from(turns: LoneList<Message>) -> Self {
        Self { turns, ..Self::default() }
    }
}

impl FromIterator<Message> for Conversation {
    fn from_iter<I: IntoIterator<Item = Message>>(turns: I) -> Self {
        Self { turns: turns.into_iter().collect(), ..Self::default() }
    }
}

impl std::ops::Deref for Conversation {
    type Target = [Message];

    fn deref(&self) -> &[Message] {
        &self.turns
    }
}

impl<'a> IntoIterator for &'a Conversation {
    type Item = &'a Message;
    type IntoIter = std::slice::Iter<'a, Message>;

    fn into_iter(self) -> Self::IntoIter {
        self.turns.iter()
    }
}

/// A list of messages where there is nothing else; else an object.
impl Serialize for Conversation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        if self.is_plain() {
            return self.turns.serialize(serializer);
        }
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("messages", &self.turns)?;
        if !self.tools().is_empty() {
            map.serialize_entry("tools", self.tools())?;
        }
        if !self.variables().is_empty() {
            map.serialize_entry("chat_template_kwargs", self.variables())?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Conversation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Conversation;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of messages, or an object with `messages`")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Conversation, A::Error> {
                let mut turns = Vec::new();
                while let Some(turn) = list.next_element()? {
                    turns.push(turn);
                }
                Ok(turns.into())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Conversation, A::Error> {
                let mut out = Conversation::default();
                while let Some(name) = map.next_key::<String>()? {
                    match name.as_str() {
                        "messages" => out.turns = map.next_value()?,
                        "tools" => out.set_tools(map.next_value()?),
                        "chat_template_kwargs" => out.set_variables(map.next_value()?),
                        _ => drop(map.next_value::<serde::de::IgnoredAny>()?),
                    }
                }
                Ok(out)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// An answer: its text as a person reads it and, where it is more than one assistant's text, its turns.
#[derive(Debug, Clone, Copy)]
pub struct ReplyRef<'a> {
    /// The text.
    pub text: &'a str,
    /// The turns; none where the text is all there is.
    pub turns: &'a [Message],
    /// Whether it was cut at the limit of tokens: nothing that ends it was written.
    pub cut: bool,
}

impl<'a> From<&'a str> for ReplyRef<'a> {
    fn from(text: &'a str) -> Self {
        Self { text, turns: &[], cut: false }
    }
}

impl<'a> From<&'a String> for ReplyRef<'a> {
    fn from(text: &'a String) -> Self {
        Self { text, turns: &[], cut: false }
    }
}

/// The turns of a pair's answers, where an answer is more than one assistant's text, and which answers were cut.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PairTurns {
    /// Of the preferred answer; none where its text is all there is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chosen: Vec<Message>,
    /// Of the other answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rejected: Vec<Message>,
    /// Whether the preferred answer was cut at the limit of tokens.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub chosen_cut: bool,
    /// Whether the other answer was.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rejected_cut: bool,
}

impl PairTurns {
    /// Both answers' turns; none where neither has any.
    #[must_use]
    pub fn of(chosen: &[Message], rejected: &[Message]) -> Option<Box<Self>> {
        Self { chosen: chosen.to_vec(), rejected: rejected.to_vec(), ..Self::default() }.some()
    }

    /// What is to be known of two answers beside their texts; none where it is nothing.
    #[must_use]
    pub fn of_replies(chosen: ReplyRef<'_>, rejected: ReplyRef<'_>) -> Option<Box<Self>> {
        Self {
            chosen: chosen.turns.to_vec(),
            rejected: rejected.turns.to_vec(),
            chosen_cut: chosen.cut,
            rejected_cut: rejected.cut,
        }
        .some()
    }

    fn some(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn plain_messages_are_written_as_before_and_other_fields_are_kept() {
        let plain = r#"[{"role":"user","content":"Hi"}]"#;
        let read: Conversation = serde_json::from_str(plain).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), plain);
        let rich = json!({
            "messages": [{"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1}}}]}],
            "tools": [{"type": "function"}],
            "chat_template_kwargs": {"enable_thinking": false},
        });
        let read: Conversation = serde_json::from_value(rich.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), rich);
        assert_eq!(read.turns[0].readable(), "→ f({\"x\":1})");
        let hash = |c: &Conversation| {
            let mut h = Fold64::default();
            c.fold(&mut h);
            h.hex()
        };
        assert_ne!(hash(&read), hash(&read.turns.clone().into()));
    }

    #[test]
    fn a_turn_says_whether_it_is_trained_on() {
        let turn = |fields: Value| serde_json::from_value::<Message>(fields).unwrap();
        let with = |name: &str, value: Value| {
            let mut turn = turn(json!({"role": "assistant", "content": "x"}));
            turn.more.set(name, value);
            turn.trains()
        };
        assert_eq!((with("weight", json!(0)), with("weight", json!(1.0))), (Some(false), Some(true)));
        assert_eq!((with("train", json!(false)), with("name", json!("x"))), (Some(false), None));
        let thought = turn(json!({"role": "assistant", "content": "4", "reasoning_content": "Two and two."}));
        assert_eq!(thought.readable(), "<think>\nTwo and two.\n</think>\n\n4");
    }
}
