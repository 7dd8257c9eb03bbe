//! One record of a file, and which of its columns were read.
//!
//! Owns the marks: reading a column is what marks it, so no format can forget to. Refuses to know what a column means.

use serde_json::{Map, Value};
use std::cell::RefCell;
use std::collections::BTreeSet;

/// A JSON object.
pub type Object = Map<String, Value>;

/// Columns whose names files also write in capitals.
const IN_CAPITALS: [&str; 17] = [
    "prompt",
    "instruction",
    "input",
    "question",
    "query",
    "system",
    "messages",
    "conversations",
    "completion",
    "response",
    "output",
    "answer",
    "chosen",
    "rejected",
    "label",
    "text",
    "tools",
];

fn is_known_in_capitals(name: &str, columns: &Object) -> bool {
    let lower = name.to_lowercase();
    lower != name && IN_CAPITALS.contains(&&*lower) && !columns.contains_key(&lower)
}

fn in_lower_case(columns: &Object) -> Object {
    let mut out = Object::new();
    for (name, value) in columns {
        let known = is_known_in_capitals(name, columns) && !out.contains_key(&name.to_lowercase());
        out.insert(if known { name.to_lowercase() } else { name.clone() }, value.clone());
    }
    out
}

/// Reads a text that is a JSON list of messages.
fn unfold_messages(value: &mut Value) {
    let Value::String(text) = &*value else { return };
    if !text.trim_start().starts_with("[{") {
        return;
    }
    let message = |one: &Value| {
        let says = |names: &[&str]| names.iter().any(|name| one.get(*name).is_some());
        says(&["role", "from"]) && says(&["content", "value", "tool_calls"])
    };
    if let Ok(list) = serde_json::from_str::<Vec<Value>>(text)
        && list.iter().all(message)
    {
        *value = Value::Array(list);
    }
}

/// One record of a file: a line of text, or a JSON value with marks on the columns that were read.
#[derive(Debug, Clone)]
pub struct Record {
    body: Body,
    marks: RefCell<Marks>,
}

#[derive(Debug, Clone, PartialEq)]
enum Body {
    Text(String),
    Json(Value),
}

/// Columns by their paths: `prompt`, or `data.text` in a column that was opened.
#[derive(Debug, Clone, Default)]
struct Marks {
    read: BTreeSet<String>,
    opened: BTreeSet<String>,
    /// Paths within columns that were not read.
    noted: BTreeSet<String>,
}

impl Record {
    /// A line of plain text.
    pub fn text(line: impl Into<String>) -> Self {
        Self { body: Body::Text(line.into()), marks: RefCell::default() }
    }

    /// A JSON value. Columns of a known name count in lower case, and messages that a text holds as JSON are messages.
    #[must_use]
    pub fn json(mut value: Value) -> Self {
        if let Value::Object(columns) = &mut value {
            if columns.keys().any(|name| is_known_in_capitals(name, columns)) {
                *columns = in_lower_case(columns);
            }
            columns.values_mut().for_each(unfold_messages);
        }
        Self { body: Body::Json(value), marks: RefCell::default() }
    }

    /// A line of plain text, or a JSON string.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match &self.body {
            Body::Text(text) => Some(text),
            Body::Json(value) => value.as_str(),
        }
    }

    /// A column that is present and not null. It counts as read.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.columns()?.get(name)
    }

    /// Whether a column is present, null or not. It does not count as read.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.object().is_some_and(|object| object.contains_key(name))
    }

    /// Whether all of these columns are present.
    #[must_use]
    pub fn has_all(&self, names: &[&str]) -> bool {
        names.iter().all(|name| self.has(name))
    }

    /// Whether one of these columns is present.
    #[must_use]
    pub fn has_any(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.has(name))
    }

    /// The columns of a JSON object; none of another record.
    #[must_use]
    pub fn columns(&self) -> Option<RowFields<'_>> {
        Some(RowFields { object: self.object()?, marks: &self.marks, under: String::new(), hidden: Vec::new() })
    }

    /// The columns of a JSON object.
    ///
    /// # Errors
    /// When the record is none.
    pub(super) fn row(&self) -> Result<RowFields<'_>, String> {
        self.columns().ok_or_else(|| "is not a JSON object".into())
    }

    /// The columns that hold something and were not read, with their values.
    #[must_use]
    pub fn unread(&self) -> Vec<(String, &Value)> {
        let mut out = Vec::new();
        if let Some(object) = self.object() {
            let marks = self.marks.borrow();
            unread(object, "", &marks, &mut out);
            out.extend(marks.noted.iter().map(|path| (path.clone(), &Value::Null)));
        }
        out
    }

    fn object(&self) -> Option<&Object> {
        match &self.body {
            Body::Text(_) => None,
            Body::Json(value) => value.as_object(),
        }
    }
}

fn unread<'a>(object: &'a Object, under: &str, marks: &Marks, out: &mut Vec<(String, &'a Value)>) {
    for (name, value) in object {
        let path = format!("{under}{name}");
        match value {
            _ if marks.read.contains(&path) || is_nothing(value) => {}
            Value::Object(inner) if marks.opened.contains(&path) => unread(inner, &format!("{path}."), marks, out),
            _ => out.push((path, value)),
        }
    }
}

/// The columns of a JSON object, or of an object in one of them.
#[derive(Debug, Clone)]
pub struct RowFields<'a> {
    object: &'a Object,
    marks: &'a RefCell<Marks>,
    under: String,
    hidden: Vec<String>,
}

impl<'a> RowFields<'a> {
    /// A column that is present and not null. It counts as read.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a Value> {
        let value = self.peek(name)?;
        self.mark(name);
        Some(value)
    }

    /// The same without counting as read.
    #[must_use]
    pub fn peek(&self, name: &str) -> Option<&'a Value> {
        if self.hidden.iter().any(|hidden| hidden == name) {
            return None;
        }
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// Counts a column as read.
    pub fn mark(&self, name: &str) {
        self.marks.borrow_mut().read.insert(format!("{}{name}", self.under));
    }

    /// Says that something within a column was not read, which has no name of its own: `responses[].id`.
    pub fn note(&self, path: &str) {
        self.marks.borrow_mut().noted.insert(format!("{}{path}", self.under));
    }

    /// Counts columns as read.
    pub fn mark_all(&self, names: &[&str]) {
        for name in names {
            self.mark(name);
        }
    }

    /// A text that is not blank; null and other values are none. It counts as read where it is a text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&'a str> {
        let text = self.peek(name)?.as_str()?;
        self.mark(name);
        Some(text).filter(|text| !text.trim().is_empty())
    }

    /// A text, which may be empty.
    ///
    /// # Errors
    /// When the column is missing or holds something else.
    pub(super) fn string(&self, name: &str) -> Result<&'a str, String> {
        match self.get(name) {
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(format!("has a `{name}` that is not text")),
            None => Err(format!("has no `{name}`")),
        }
    }

    /// The first of these columns that holds something. It counts as read.
    #[must_use]
    pub fn first_of<'n>(&self, names: &[&'n str]) -> Option<(&'n str, &'a Value)> {
        let name = names.iter().find(|name| self.holds(name))?;
        Some((name, self.get(name)?))
    }

    /// Whether a column holds something: not null, not blank, not an empty list.
    #[must_use]
    pub fn holds(&self, name: &str) -> bool {
        self.peek(name).is_some_and(|value| !is_nothing(value))
    }

    /// The columns' names.
    pub fn names(&self) -> impl Iterator<Item = &'a String> {
        let hidden = self.hidden.clone();
        self.object.keys().filter(move |name| !hidden.contains(name))
    }

    /// The columns within an object; what of them is not read is reported by its path.
    #[must_use]
    pub fn child(&self, name: &str) -> Option<RowFields<'a>> {
        let object = self.peek(name)?.as_object()?;
        let path = format!("{}{name}", self.under);
        self.marks.borrow_mut().opened.insert(path.clone());
        Some(RowFields { object, marks: self.marks, under: format!("{path}."), hidden: Vec::new() })
    }

    /// The same columns without some.
    #[must_use]
    pub fn without(&self, hidden: impl IntoIterator<Item = String>) -> Self {
        let mut out = self.clone();
        out.hidden.extend(hidden);
        out
    }
}

/// Whether a value says nothing: null, blank, empty.
#[must_use]
pub fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(parts) => parts.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn known_names_count_in_lower_case_and_messages_in_a_text_are_messages() {
        let record = Record::json(json!({
            "Prompt": "q", "CHOSEN": r#"[{"role": "assistant", "content": "a"}]"#, "chosen_by": "X", "Model": "m",
            "answer": "1", "Answer": "2", "tools": r#"[{"name": "f"}]"#
        }));
        let row = record.columns().unwrap();
        assert_eq!(
            row.names().collect::<Vec<_>>(),
            ["prompt", "chosen", "chosen_by", "Model", "answer", "Answer", "tools"]
        );
        assert_eq!(row.get("chosen"), Some(&json!([{"role": "assistant", "content": "a"}])));
        assert_eq!((row.text("answer"), row.text("Answer")), (Some("1"), Some("2")));
        assert_eq!(row.text("tools"), Some(r#"[{"name": "f"}]"#));
    }

    #[test]
    fn only_what_is_read_is_marked() {
        let record = Record::json(json!({
            "prompt": "q", "source": "x", "empty": "", "none": null, "data": {"text": "a", "more": 1}, "meta": {"n": 1}
        }));
        let row = record.columns().unwrap();
        assert_eq!(row.text("prompt"), Some("q"));
        assert!(row.peek("source").is_some() && record.has("none") && row.get("none").is_none());
        assert_eq!(row.child("data").unwrap().text("text"), Some("a"));
        let unread: Vec<String> = record.unread().into_iter().map(|(name, _)| name).collect();
        assert_eq!(unread, ["source", "data.more", "meta"]);
        assert!(row.without(["prompt".to_owned()]).get("prompt").is_none());
    }
}
