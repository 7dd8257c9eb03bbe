//! The line codec: one JSON object a line, numbered, timed and checksummed.
//!
//! `{"n":seq,"m":monotonic_ms,"w":wall_ms,"k":kind,"v":version,"d":data,"c":"crc32"}`; the CRC-32 covers the bytes before
//! `,"c"`. Parsing works on bytes, since a torn line may end inside a character.

use super::SCHEMA_VERSION;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// The longest line a log may hold, in bytes, its newline included.
pub const MAX_LINE: usize = 1 << 20;

/// A record with its place in a log.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope<T> {
    /// Sequence number within its log: 1, 2, 3 … without gaps.
    pub n: u64,
    /// Milliseconds on the writer's monotonic clock.
    pub m: u64,
    /// Milliseconds since 1970 on the wall clock. Never used to order records of one log.
    pub w: u64,
    /// The record, or its raw form when this version does not know its kind.
    pub data: Result<T, Value>,
}

impl<T> Envelope<T> {
    /// The record, if this version knows its kind.
    pub fn known(&self) -> Option<&T> {
        self.data.as_ref().ok()
    }
}

/// Why a line is not a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// The checksum is missing or differs.
    #[error("the checksum does not match")]
    Checksum,
    /// The checksum is right but the line is not what the format says.
    #[error("the line is not a record: {0}")]
    Shape(String),
    /// Longer than [`MAX_LINE`].
    #[error("a record of {0} bytes is longer than the limit of {MAX_LINE}")]
    TooLong(usize),
}

/// The line of a record, its newline included. `T` serialises as `{"k":…,"d":…}`.
///
/// # Errors
/// When the record does not serialise so, or its line is longer than [`MAX_LINE`].
pub fn encode<T: Serialize>(n: u64, m: u64, w: u64, record: &T) -> Result<String, LineError> {
    let value = serde_json::to_value(record).map_err(|e| LineError::Shape(e.to_string()))?;
    let kind = value.get("k").cloned().ok_or_else(|| LineError::Shape("no kind".into()))?;
    let data = value.get("d").cloned().unwrap_or(Value::Null);
    let mut line = format!(r#"{{"n":{n},"m":{m},"w":{w},"k":{kind},"v":{SCHEMA_VERSION},"d":{data}"#);
    let crc = crc32fast::hash(line.as_bytes());
    line.push_str(&format!(",\"c\":\"{crc:08x}\"}}\n"));
    if line.len() > MAX_LINE {
        return Err(LineError::TooLong(line.len()));
    }
    Ok(line)
}

/// The record of a line (with or without its newline).
///
/// # Errors
/// When the checksum does not match or the line has not the format's shape. An unknown kind is no error.
pub fn decode<T: DeserializeOwned>(line: &[u8]) -> Result<Envelope<T>, LineError> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    // The tail is `,"c":"xxxxxxxx"}`: 16 bytes.
    let split = line.len().checked_sub(16).ok_or(LineError::Checksum)?;
    let (body, tail) = line.split_at(split);
    let given = tail.strip_prefix(b",\"c\":\"").and_then(|t| t.strip_suffix(b"\"}")).ok_or(LineError::Checksum)?;
    let given = std::str::from_utf8(given).ok().and_then(|t| u32::from_str_radix(t, 16).ok());
    if given != Some(crc32fast::hash(body)) {
        return Err(LineError::Checksum);
    }
    let value: Value = serde_json::from_slice(line).map_err(|e| LineError::Shape(e.to_string()))?;
    let number = |key: &str| {
        value.get(key).and_then(Value::as_u64).ok_or_else(|| LineError::Shape(format!("no number `{key}`")))
    };
    let (n, m, w) = (number("n")?, number("m")?, number("w")?);
    let mut record = serde_json::Map::new();
    record.insert("k".into(), value.get("k").cloned().unwrap_or(Value::Null));
    if let Some(d) = value.get("d").filter(|d| !d.is_null()) {
        record.insert("d".into(), d.clone());
    }
    let record = Value::Object(record);
    let data = serde_json::from_value(record.clone()).map_err(|_| record);
    Ok(Envelope { n, m, w, data })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::SessionRecord;

    #[test]
    fn a_line_gives_its_record_back() {
        let record = SessionRecord::Undone { of: 7 };
        let line = encode(3, 10, 20, &record).expect("encodes");
        let back: Envelope<SessionRecord> = decode(line.as_bytes()).expect("decodes");
        assert_eq!((back.n, back.m, back.w), (3, 10, 20));
        assert_eq!(back.known(), Some(&record));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let line = encode(1, 2, 3, &SessionRecord::Undone { of: 7 }).expect("encodes");
        for at in 0..(line.len() - 1) * 8 {
            let mut bytes = line.clone().into_bytes();
            bytes[at / 8] ^= 1 << (at % 8);
            // Upper and lower case of a checksum digit read the same.
            if !bytes.eq_ignore_ascii_case(line.as_bytes()) {
                assert!(decode::<SessionRecord>(&bytes).is_err(), "bit {at}");
            }
        }
    }

    #[test]
    fn every_cut_line_is_noticed() {
        let line = encode(1, 2, 3, &SessionRecord::Undone { of: 7 }).expect("encodes");
        for end in 0..line.len() - 1 {
            assert!(decode::<SessionRecord>(&line.as_bytes()[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn an_unknown_kind_is_kept() {
        #[derive(Serialize)]
        struct Later {
            k: &'static str,
            d: u32,
        }
        let line = encode(1, 2, 3, &Later { k: "from_the_future", d: 5 }).expect("encodes");
        let back: Envelope<SessionRecord> = decode(line.as_bytes()).expect("decodes");
        assert_eq!(back.data.expect_err("unknown")["k"], "from_the_future");
    }
}
