//! JSON values as a file writes them.
//!
//! Owns what is said of a text that is no JSON, with the remedy where it is known. Refuses an object that names a field twice: which
//! of the two is meant is not known.

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;

/// How the refusal of a repeated name begins.
const TWICE: &str = "names `";

/// The value of a text.
///
/// # Errors
/// The end of a sentence that begins with the place of the text.
pub(super) fn value(text: &str) -> Result<Value, String> {
    let mut parser = serde_json::Deserializer::from_str(text);
    Strict.deserialize(&mut parser).and_then(|value| parser.end().map(|()| value)).map_err(|e| reason(text, &e))
}

/// Why a text is no JSON.
pub(super) fn reason(text: &str, e: &serde_json::Error) -> String {
    let mut said = e.to_string();
    if !text.trim_end().contains('\n') {
        // Its line is named in front of the sentence.
        said = said.replace(" at line 1 column ", " at column ");
    }
    if said.starts_with(TWICE) {
        return said;
    }
    let line = text.lines().nth(e.line().saturating_sub(1)).unwrap_or_default();
    let from = e.column().saturating_sub(2).min(line.len());
    let near = String::from_utf8_lossy(&line.as_bytes()[from..line.len().min(from + 12)]).into_owned();
    let remedy = match () {
        () if near.contains("NaN") || near.contains("Infinity") => ": NaN and Infinity are no JSON, write null",
        () if text.trim_start().starts_with("{'") => {
            ": it is a dictionary as Python prints it, write it with `json.dumps`"
        }
        () => "",
    };
    format!("is not JSON: {said}{remedy}")
}

/// Reads a value and refuses an object that names a field twice.
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut out = Vec::new();
        while let Some(value) = list.next_element_seed(Self)? {
            out.push(value);
        }
        Ok(Value::Array(out))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            let value = fields.next_value_seed(Self)?;
            if out.contains_key(&name) {
                return Err(A::Error::custom(format!("{TWICE}{name}` twice")));
            }
            out.insert(name, value);
        }
        Ok(Value::Object(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_what_the_library_reads() {
        for text in [
            r#"{"a":[1,-2,1.5,1e300,"\u00e9\n",null,true,{"b":{}}],"c":""}"#,
            "18446744073709551615",
            "-9223372036854775808",
            "[]",
            " \"x\" ",
        ] {
            assert_eq!(value(text).unwrap(), serde_json::from_str::<Value>(text).unwrap(), "{text}");
        }
    }

    #[test]
    fn a_name_given_twice_is_refused_wherever_it_stands() {
        for (text, says) in [
            (r#"{"prompt":"a","prompt":"b"}"#, "names `prompt` twice at column 27"),
            ("{\"prompt\":\"a\",\n\"prompt\":\"b\"}", "names `prompt` twice at line 2"),
            (r#"{"messages":[{"role":"user","content":"x","content":"y"}]}"#, "names `content` twice"),
            (r#"{"x":NaN}"#, "NaN and Infinity are no JSON, write null"),
            (r#"{"x":[1,-Infinity]}"#, "NaN and Infinity are no JSON, write null"),
            ("{'prompt': 'x'}", "`json.dumps`"),
            (r#"{"x":1} 2"#, "is not JSON: trailing characters"),
        ] {
            let said = value(text).unwrap_err();
            assert!(said.contains(says), "{text}: {said}");
        }
    }
}
