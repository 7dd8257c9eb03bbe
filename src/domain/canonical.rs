//! Canonical JSON: one text for one value, so that a hash of it survives renames in the code and other JSON libraries.
//!
//! Keys are sorted by their bytes, there is no white space, numbers are the shortest that read back the same (RFC 8785
//! without its UTF-16 order of keys, which differs only beyond U+FFFF).

use super::hash::Fold64;
use serde::Serialize;
use serde_json::Value;

/// The canonical JSON of a value. A value that does not serialise yields its error text, whose hash differs from every
/// state's.
pub(super) fn canonical_json(value: &impl Serialize) -> String {
    let mut out = String::new();
    match serde_json::to_value(value) {
        Ok(value) => write(&value, &mut out),
        Err(error) => out.push_str(&error.to_string()),
    }
    out
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            out.push('{');
            for (i, (key, value)) in entries.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                write(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write(item, out);
            }
            out.push(']');
        }
        leaf => out.push_str(&leaf.to_string()),
    }
}

/// A hash of a sequence of values by their canonical JSON.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct CanonicalHash(Fold64);

impl CanonicalHash {
    /// Adds a value.
    pub(super) fn add(&mut self, value: &impl Serialize) {
        self.0.add(canonical_json(value).as_bytes());
    }

    /// The hash so far as 16 hex digits.
    pub(super) fn hex(self) -> String {
        self.0.hex()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn one_value_has_one_text_whatever_the_order_of_its_keys() {
        let one = json!({"b": [1, 2.5, -0.1, 1e300], "a": {"z": null, "é": "x\n\"\u{1}"}});
        let two = json!({"a": {"é": "x\n\"\u{1}", "z": null}, "b": [1, 2.5, -0.1, 1e300]});
        let text = canonical_json(&one);
        assert_eq!(text, "{\"a\":{\"z\":null,\"é\":\"x\\n\\\"\\u0001\"},\"b\":[1,2.5,-0.1,1e+300]}");
        assert_eq!(text, canonical_json(&two));
    }
}
