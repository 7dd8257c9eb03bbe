//! Values of a chat template as text: as Python's `str` and `repr` print them, and as JSON.
//!
//! Owns both forms and their limits. Refuses values that are nested too deeply or whose text would be too long: a list that holds
//! one list many times over is small, and its text is not.

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind};
use serde::Serialize;

/// The longest text of a conversation or a value, in bytes.
pub(super) const LONGEST_TEXT: usize = 64 << 20;

/// How deep a value may be nested.
const DEEPEST: usize = 100;

/// What a value's text may still need.
struct Room {
    bytes: usize,
    levels: usize,
}

impl Room {
    fn new() -> Self {
        Self { bytes: LONGEST_TEXT, levels: DEEPEST }
    }

    /// Takes room for so many bytes.
    fn take(&mut self, bytes: usize) -> Result<(), Error> {
        self.bytes = self.bytes.checked_sub(bytes).ok_or_else(|| {
            refused(format!("the text of a value is longer than the limit of {} MiB", LONGEST_TEXT >> 20))
        })?;
        Ok(())
    }

    /// Prints the inside of a list or a map.
    fn inside<T>(&mut self, print: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        if self.levels == 0 {
            return Err(refused(format!("a value is nested more than {DEEPEST} levels deep")));
        }
        self.levels -= 1;
        let printed = print(self);
        self.levels += 1;
        printed
    }
}

fn refused(why: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, why)
}

/// A value as Python's `str` prints it.
pub(super) fn printed(value: &Value) -> Result<String, Error> {
    if value.is_undefined() {
        return Ok(String::new());
    }
    if let Some(text) = value.as_str() {
        return Ok(text.to_owned());
    }
    let mut out = String::new();
    repr(value, &mut out, &mut Room::new())?;
    Ok(out)
}

/// A value as Python's `repr` prints it.
fn repr(value: &Value, out: &mut String, room: &mut Room) -> Result<(), Error> {
    let before = out.len();
    match value.kind() {
        ValueKind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::None => out.push_str("None"),
        ValueKind::String => quoted(value.as_str().unwrap_or_default(), out),
        ValueKind::Seq => {
            out.push('[');
            room.inside(|room| {
                for (i, item) in value.try_iter().into_iter().flatten().enumerate() {
                    room.take(2)?;
                    out.push_str(if i > 0 { ", " } else { "" });
                    repr(&item, out, room)?;
                }
                Ok(())
            })?;
            out.push(']');
            return room.take(2);
        }
        ValueKind::Map => {
            out.push('{');
            room.inside(|room| {
                for (i, key) in value.try_iter().into_iter().flatten().enumerate() {
                    room.take(4)?;
                    out.push_str(if i > 0 { ", " } else { "" });
                    repr(&key, out, room)?;
                    out.push_str(": ");
                    repr(&value.get_item(&key).unwrap_or_default(), out, room)?;
                }
                Ok(())
            })?;
            out.push('}');
            return room.take(2);
        }
        _ => out.push_str(&value.to_string()),
    }
    room.take(out.len() - before)
}

fn quoted(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out.push(quote);
}

/// `tojson` as transformers defines it: Python's `json.dumps` without ASCII escapes; `indent` as there.
#[expect(clippy::needless_pass_by_value, reason = "the engine hands a filter its options by value")]
pub(super) fn to_json(value: &Value, options: Kwargs) -> Result<String, minijinja::Error> {
    let fail = |e: String| minijinja::Error::new(ErrorKind::InvalidOperation, format!("tojson: {e}"));
    let indent: Option<usize> = options.get("indent")?;
    let sort: Option<bool> = options.get("sort_keys")?;
    let _: Option<bool> = options.get("ensure_ascii")?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    options.assert_all_used()?;
    let mut json = as_json(value, &mut Room::new())?;
    if sort == Some(true) {
        json.sort_all_objects();
    }
    let mut out = Vec::new();
    let done = match indent {
        None => {
            let [item, key] = match separators.as_deref() {
                None => [", ", ": "],
                Some([item, key]) => [item.as_str(), key.as_str()],
                Some(other) => return Err(fail(format!("separators are two texts, not {}", other.len()))),
            };
            json.serialize(&mut serde_json::Serializer::with_formatter(&mut out, Separated { item, key }))
        }
        Some(n) => {
            let width = " ".repeat(n.min(16));
            let formatter = serde_json::ser::PrettyFormatter::with_indent(width.as_bytes());
            json.serialize(&mut serde_json::Serializer::with_formatter(&mut out, formatter))
        }
    };
    done.map_err(|e| fail(e.to_string()))?;
    String::from_utf8(out).map_err(|e| fail(e.to_string()))
}

/// A value as JSON, its maps in their own order.
fn as_json(value: &Value, room: &mut Room) -> Result<serde_json::Value, Error> {
    // A value takes more memory than its text.
    room.take(size_of::<serde_json::Value>())?;
    let items = || value.try_iter().into_iter().flatten();
    Ok(match value.kind() {
        ValueKind::Undefined | ValueKind::None => serde_json::Value::Null,
        ValueKind::Bool => value.is_true().into(),
        ValueKind::Number => match value.as_i64() {
            Some(n) if value.is_integer() => n.into(),
            _ => f64::try_from(value.clone()).map_or(serde_json::Value::Null, Into::into),
        },
        ValueKind::Seq | ValueKind::Iterable => {
            room.inside(|room| items().map(|v| as_json(&v, room)).collect::<Result<Vec<_>, _>>())?.into()
        }
        ValueKind::Map => {
            let object = room.inside(|room| {
                items()
                    .map(|key| {
                        let name = printed(&key)?;
                        room.take(name.len())?;
                        Ok((name, as_json(&value.get_item(&key).unwrap_or_default(), room)?))
                    })
                    .collect::<Result<_, Error>>()
            })?;
            serde_json::Value::Object(object)
        }
        _ => {
            let text = value.to_string();
            room.take(text.len())?;
            text.into()
        }
    })
}

/// JSON on one line with the separators that `json.dumps` was given.
struct Separated<'a> {
    item: &'a str,
    key: &'a str,
}

impl serde_json::ser::Formatter for Separated<'_> {
    fn begin_array_value<W: ?Sized + std::io::Write>(&mut self, w: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { w.write_all(self.item.as_bytes()) }
    }
    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, w: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { w.write_all(self.item.as_bytes()) }
    }
    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, w: &mut W) -> std::io::Result<()> {
        w.write_all(self.key.as_bytes())
    }
}
