//! The line codec: one JSON object per line with number, timestamps and checksum.
//!
//! `{"n":seq,"m":monotonic_ms,"w":wall_ms,"k":kind,"v":version,"d":data,"c":"crc32"}`; the CRC-32 covers the bytes
//! before `,"c"`. Parsing works on bytes, since a torn line may end inside a character.

use super::SCHEMA_VERSION;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::ops::Range;

/// The longest line a log may hold, in bytes, its newline included.
pub const MAX_LINE: usize = 1 << 20;

/// The largest sequence number: the largest integer that every JSON parser reads exactly.
pub const MAX_SEQ: u64 = (1 << 53) - 1;

/// A record with its number and timestamps in a log.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope<T> {
    /// Sequence number within its log: 1, 2, 3 … without gaps; at most [`MAX_SEQ`] on disk. A reader gives a record
    /// whose number is taken a substitute number above that.
    pub n: u64,
    /// Milliseconds on the writer's monotonic clock.
    pub m: u64,
    /// Milliseconds since 1970 on the wall clock. Never used to order records of one log.
    pub w: u64,
    /// The record, or its raw JSON when this version does not know its kind.
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
    /// The checksum is right but the shape is wrong.
    #[error("the line is not a record: {0}")]
    Shape(String),
    /// Longer than [`MAX_LINE`].
    #[error("a record of {0} bytes is longer than the limit of {MAX_LINE}")]
    TooLong(usize),
}

/// The line of a record, its newline included. `T` serialises as `{"k":…,"d":…}`.
///
/// # Errors
/// When the record does not serialise to that shape, or its line is longer than [`MAX_LINE`].
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

/// The number and the checksum of a line (with or without its newline), without parsing its data.
///
/// # Errors
/// When the checksum does not match, or the line does not begin with a valid sequence number.
pub fn verify(line: &[u8]) -> Result<(u64, u32), LineError> {
    let line = trimmed(line);
    let crc = checksum(line)?;
    if !line.starts_with(b"{\"n\":") {
        return Err(LineError::Shape("no number `n`".into()));
    }
    Ok((in_range(number_after(line, b"{\"n\":").map(|(n, _)| n))?, crc))
}

fn in_range(n: Option<u64>) -> Result<u64, LineError> {
    n.filter(|n| *n <= MAX_SEQ).ok_or_else(|| LineError::Shape(format!("its number is not from 0 to {MAX_SEQ}")))
}

fn trimmed(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Length of a line's suffix in bytes: `,"c":"xxxxxxxx"}`.
const SUFFIX: usize = 16;

/// The checksum, if it is right.
fn checksum(line: &[u8]) -> Result<u32, LineError> {
    let split = line.len().checked_sub(SUFFIX).ok_or(LineError::Checksum)?;
    let (body, tail) = line.split_at(split);
    let stored = tail.strip_prefix(b",\"c\":\"").and_then(|t| t.strip_suffix(b"\"}")).ok_or(LineError::Checksum)?;
    let stored = std::str::from_utf8(stored).ok().and_then(|t| u32::from_str_radix(t, 16).ok());
    let crc = crc32fast::hash(body);
    if stored == Some(crc) { Ok(crc) } else { Err(LineError::Checksum) }
}

/// Limits of the search in a damaged line: start positions tried per end, and bytes checksummed in total.
const MAX_STARTS: usize = 4;
const SEARCH_BYTES: usize = 16 << 20;

/// Finds whole records inside a damaged line: two lines without the newline between them, or a torn line before a whole
/// one.
///
/// A record's first and last bytes cannot occur unescaped inside a JSON string, and its checksum must match.
#[must_use]
pub fn records_within(line: &[u8]) -> Vec<Range<usize>> {
    let mut starts: Vec<usize> = Vec::new();
    let mut found = Vec::new();
    let mut budget = SEARCH_BYTES;
    for at in 0..line.len() {
        let rest = &line[at..];
        if rest.starts_with(b"{\"n\":") {
            starts.push(at);
        } else if rest.starts_with(b",\"c\":\"") && rest.get(SUFFIX - 2..SUFFIX) == Some(b"\"}") {
            let end = at + SUFFIX;
            for start in starts.iter().rev().take(MAX_STARTS) {
                let Some(left) = budget.checked_sub(end - start) else { return found };
                budget = left;
                if verify(&line[*start..end]).is_ok() {
                    found.push(*start..end);
                    starts.clear();
                    break;
                }
            }
        }
    }
    found
}

/// A number after the name of its field, and the rest.
fn number_after<'a>(bytes: &'a [u8], name: &[u8]) -> Option<(u64, &'a [u8])> {
    let rest = bytes.strip_prefix(name)?;
    let (mut n, mut digits) = (0_u64, 0);
    while let Some(digit @ b'0'..=b'9') = rest.get(digits) {
        n = n.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
        digits += 1;
    }
    (digits > 0).then(|| (n, &rest[digits..]))
}

/// The parts of a line as [`encode`] writes it.
struct Parts<'a> {
    n: u64,
    m: u64,
    w: u64,
    kind: &'a str,
    data: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(line: &'a [u8]) -> Option<Self> {
        let (n, rest) = number_after(line, b"{\"n\":")?;
        let (m, rest) = number_after(rest, b",\"m\":")?;
        let (w, rest) = number_after(rest, b",\"w\":")?;
        let rest = rest.strip_prefix(b",\"k\":\"")?;
        let end = rest.iter().position(|b| !(b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'_'))?;
        let kind = std::str::from_utf8(&rest[..end]).ok()?;
        let (_, rest) = number_after(rest.get(end..)?.strip_prefix(b"\"")?, b",\"v\":")?;
        let data = rest.strip_prefix(b",\"d\":")?;
        Some(Self { n, m, w, kind, data: data.get(..data.len().checked_sub(SUFFIX)?)? })
    }
}

/// Parses a line (with or without its newline).
///
/// # Errors
/// When the checksum does not match or the shape is wrong. An unknown kind is not an error.
pub fn decode<T: DeserializeOwned>(line: &[u8]) -> Result<Envelope<T>, LineError> {
    checksum(trimmed(line))?;
    parse_verified(line)
}

/// Parses a line that [`verify`] has accepted.
///
/// # Errors
/// When the shape is wrong. An unknown kind is not an error.
pub fn parse_verified<T: DeserializeOwned>(line: &[u8]) -> Result<Envelope<T>, LineError> {
    let line = trimmed(line);
    // The usual line: known kind, fields in the codec's order. It is parsed without a tree of values in between.
    if let Some(Parts { n, m, w, kind, data }) = Parts::of(line)
        && n <= MAX_SEQ
        && let Ok(record) = super::tagged::record(kind, data)
    {
        return Ok(Envelope { n, m, w, data: Ok(record) });
    }
    let value: Value = serde_json::from_slice(line).map_err(|e| LineError::Shape(e.to_string()))?;
    let number = |key: &str| {
        value.get(key).and_then(Value::as_u64).ok_or_else(|| LineError::Shape(format!("no number `{key}`")))
    };
    let (n, m, w) = (in_range(number("n").ok())?, number("m")?, number("w")?);
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
    use crate::domain::{PairId, Rater};
    use crate::protocol::SessionRecord;

    #[test]
    fn a_record_survives_encoding_and_decoding() {
        let record = SessionRecord::Undone { of: 7 };
        let line = encode(3, 10, 20, &record).expect("encodes");
        let back: Envelope<SessionRecord> = decode(line.as_bytes()).expect("decodes");
        assert_eq!((back.n, back.m, back.w), (3, 10, 20));
        assert_eq!(back.known(), Some(&record));
    }

    #[test]
    fn a_line_in_another_order_is_the_same_record() {
        let record =
            SessionRecord::Noted { pair: PairId::new("p\"1"), rater: Rater::new("ä"), text: ",\"d\":{}".into() };
        let line = encode(3, 10, 20, &record).expect("encodes");
        let mut value: Value = serde_json::from_str(&line).expect("JSON");
        let fields = value.as_object_mut().expect("an object");
        // The data before the kind, and a field that this version does not know.
        let data = fields.shift_remove("d").expect("data");
        fields.shift_insert(1, "d".into(), data);
        fields.shift_insert(2, "x".into(), Value::Null);
        fields.shift_remove("c");
        let body = value.to_string().strip_suffix('}').expect("an object").to_owned();
        let moved = format!("{body},\"c\":\"{:08x}\"}}", crc32fast::hash(body.as_bytes()));
        let decoded: Vec<Envelope<SessionRecord>> =
            [line, moved].iter().map(|line| decode(line.as_bytes()).expect("decodes")).collect();
        assert_eq!(decoded[0], decoded[1]);
        assert_eq!(decoded[0].known(), Some(&record));
    }

    #[test]
    fn every_flipped_bit_is_detected() {
        let line = encode(1, 2, 3, &SessionRecord::Undone { of: 7 }).expect("encodes");
        for at in 0..(line.len() - 1) * 8 {
            let mut bytes = line.clone().into_bytes();
            bytes[at / 8] ^= 1 << (at % 8);
            // The case of a checksum digit does not matter.
            if !bytes.eq_ignore_ascii_case(line.as_bytes()) {
                assert!(decode::<SessionRecord>(&bytes).is_err(), "bit {at}");
            }
        }
    }

    #[test]
    fn every_truncated_line_is_detected() {
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

    #[test]
    fn whole_records_are_found_inside_a_damaged_line_and_nothing_else() {
        let line = |n: u64| encode(n, 2, 3, &SessionRecord::Undone { of: 7 }).expect("encodes").trim_end().to_owned();
        let (one, two) = (line(1), line(2));
        let glued = format!("{one}{two}");
        assert_eq!(records_within(glued.as_bytes()), [0..one.len(), one.len()..glued.len()]);
        let torn = format!("{}{two}#", &one[..30]);
        assert_eq!(records_within(torn.as_bytes()), vec![30..30 + two.len(); 1]);
        assert!(records_within(one.replace("\"of\":7", "\"of\":8").as_bytes()).is_empty());
        // A line inside a text is escaped, so it is not a record.
        let note = SessionRecord::Noted { pair: PairId::new("p"), rater: Rater::new("a"), text: one };
        let note = encode(3, 1, 1, &note).expect("encodes").replace("\"rater\":\"a\"", "\"rater\":\"b\"");
        assert!(records_within(note.as_bytes()).is_empty());
        // The search is bounded on hostile bytes.
        assert!(records_within("{\"n\":,\"c\":\"00000000\"}".repeat(MAX_LINE / 23).as_bytes()).is_empty());
    }

    #[test]
    fn a_sequence_number_out_of_range_is_damage() {
        for n in [MAX_SEQ + 1, u64::MAX] {
            let line = encode(n, 2, 3, &SessionRecord::Undone { of: 7 }).expect("encodes");
            assert!(verify(line.as_bytes()).is_err() && decode::<SessionRecord>(line.as_bytes()).is_err());
        }
        let line = encode(MAX_SEQ, 2, 3, &SessionRecord::Undone { of: 7 }).expect("encodes");
        assert_eq!(verify(line.as_bytes()).map(|(n, _)| n), Ok(MAX_SEQ));
        assert_eq!(decode::<SessionRecord>(line.as_bytes()).map(|e| e.n), Ok(MAX_SEQ));
    }
}
