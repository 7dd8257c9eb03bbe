//! The hash of the text that a verdict prefers, in 16 bytes: a long session holds one for each verdict.
//!
//! Refuses to lose what another program wrote in its place: any text is kept as it is.

use super::common_text::CommonText;
use super::hash::hash64;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// The hash of a preferred text: 16 hexadecimal digits on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WinnerHash(Held);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Held {
    Number(u64),
    /// No 16 digits as this program writes them.
    Text(CommonText),
}

impl WinnerHash {
    /// Of this text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        hash64(text.as_bytes()).into()
    }

    /// What a file says.
    #[must_use]
    pub fn read(said: &str) -> Self {
        let digits = said.len() == 16 && said.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let number = digits.then(|| u64::from_str_radix(said, 16).ok()).flatten();
        Self(number.map_or_else(|| Held::Text(said.into()), Held::Number))
    }
}

impl From<u64> for WinnerHash {
    /// A hash that was computed before.
    fn from(hash: u64) -> Self {
        Self(Held::Number(hash))
    }
}

impl fmt::Display for WinnerHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Held::Number(hash) => write!(f, "{hash:016x}"),
            Held::Text(said) => f.write_str(said),
        }
    }
}

impl Serialize for WinnerHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for WinnerHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Said;
        impl Visitor<'_> for Said {
            type Value = WinnerHash;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E: Error>(self, said: &str) -> Result<WinnerHash, E> {
                Ok(WinnerHash::read(said))
            }
        }
        deserializer.deserialize_str(Said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_says_is_what_is_written_again() {
        for said in
            ["", "0", "00000000000000ff", "00000000000000FF", "+0000000000000ff", "ffffffffffffffff", "sha256:ab"]
        {
            let json = serde_json::to_string(said).unwrap();
            let read: WinnerHash = serde_json::from_str(&json).unwrap();
            assert_eq!((serde_json::to_string(&read).unwrap(), read.to_string()), (json, said.to_owned()));
            assert_eq!(
                matches!(read.0, Held::Number(_)),
                said.len() == 16 && said.starts_with(['0', 'f']) && !said.contains('F')
            );
        }
        assert_eq!(WinnerHash::of("a text"), WinnerHash::read(&format!("{:016x}", hash64(b"a text"))));
        assert_eq!(size_of::<Option<WinnerHash>>(), 16);
    }
}
