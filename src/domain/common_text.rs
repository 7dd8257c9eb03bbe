//! Short texts that many things of a session have in common: a model's name, a file's, a role, a strategy.
//!
//! Owns that one read again and again is held once. Refuses to keep any that nothing has: those read last are remembered, in a
//! fixed number of places.

use super::hash::hash64;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cell::RefCell;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// A short text that many things have in common. Each of them holds one pointer.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommonText(Arc<String>);

/// Texts read last that a thread remembers.
const REMEMBERED: usize = 256;

thread_local! {
    static READ_LAST: RefCell<[Option<CommonText>; REMEMBERED]> = const { RefCell::new([const { None }; REMEMBERED]) };
}

impl CommonText {
    /// A text that was read, which may have been read before.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let place = hash64(text.as_bytes()) as usize;
        let known = READ_LAST.try_with(|read| {
            let mut read = read.try_borrow_mut().ok()?;
            let slot = &mut read[place % REMEMBERED];
            if slot.as_deref() != Some(text) {
                *slot = Some(Self::new(text));
            }
            slot.clone()
        });
        known.ok().flatten().unwrap_or_else(|| Self::new(text))
    }

    fn new(text: &str) -> Self {
        Self(Arc::new(text.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for CommonText {
    fn default() -> Self {
        Self::read("")
    }
}

impl Deref for CommonText {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for CommonText {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for CommonText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for CommonText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for CommonText {
    fn from(text: &str) -> Self {
        Self::read(text)
    }
}

impl From<&String> for CommonText {
    fn from(text: &String) -> Self {
        Self::read(text)
    }
}

impl From<String> for CommonText {
    fn from(text: String) -> Self {
        Self::read(&text)
    }
}

impl From<CommonText> for String {
    fn from(text: CommonText) -> Self {
        text.as_str().to_owned()
    }
}

impl From<&CommonText> for String {
    fn from(text: &CommonText) -> Self {
        text.as_str().to_owned()
    }
}

impl PartialEq<str> for CommonText {
    fn eq(&self, other: &str) -> bool {
        self.0.as_str() == other
    }
}

impl PartialEq<&str> for CommonText {
    fn eq(&self, other: &&str) -> bool {
        self.0.as_str() == *other
    }
}

impl PartialEq<String> for CommonText {
    fn eq(&self, other: &String) -> bool {
        self.0.as_str() == other.as_str()
    }
}

impl PartialEq<CommonText> for String {
    fn eq(&self, other: &CommonText) -> bool {
        self.as_str() == other.0.as_str()
    }
}

impl PartialEq<CommonText> for &str {
    fn eq(&self, other: &CommonText) -> bool {
        *self == other.0.as_str()
    }
}

impl Serialize for CommonText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for CommonText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = CommonText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<CommonText, E> {
                Ok(CommonText::read(text))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_again_is_held_once() {
        let read = |json: &str| serde_json::from_str::<Vec<CommonText>>(json).unwrap();
        let names = read(r#"["tiny", "a \"b\"", "tiny", "", "tiny"]"#);
        assert!(Arc::ptr_eq(&names[0].0, &names[2].0) && Arc::ptr_eq(&names[0].0, &names[4].0));
        assert_eq!(serde_json::to_string(&names).unwrap(), r#"["tiny","a \"b\"","tiny","","tiny"]"#);
        // Far more names than are remembered.
        let many: Vec<CommonText> = (0..1_000).map(|n| format!("model-{n}").into()).collect();
        assert!(many.iter().enumerate().all(|(n, name)| *name == format!("model-{n}")));
    }
}
