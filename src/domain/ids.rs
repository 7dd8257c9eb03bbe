//! Ids as newtypes, so that a pair's id cannot pass for a prompt's. An id takes 16 bytes; one of up to 15 bytes lies in its place,
//! and the copies of a longer one share it. A long session holds a million of them.

use super::hash::hash64;
use ecow::EcoString;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cell::RefCell;
use std::fmt;

/// Long ids read last that a thread remembers: an answer's id comes again in its pair.
const REMEMBERED: usize = 64;

thread_local! {
    static READ_LAST: RefCell<[EcoString; REMEMBERED]> = const { RefCell::new([const { EcoString::new() }; REMEMBERED]) };
}

/// The text of an id that was read, shared with one that was read before.
fn read_again(text: &str) -> EcoString {
    let held = EcoString::from(text);
    if held.is_inline() {
        return held;
    }
    let place = hash64(text.as_bytes()) as usize % REMEMBERED;
    let known = READ_LAST.try_with(|read| {
        let mut read = read.try_borrow_mut().ok()?;
        if read[place] != held {
            read[place] = held.clone();
        }
        Some(read[place].clone())
    });
    known.ok().flatten().unwrap_or(held)
}

/// Reads the text of an id.
struct IdText;

impl Visitor<'_> for IdText {
    type Value = EcoString;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<EcoString, E> {
        Ok(read_again(text))
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(EcoString);

        impl $name {
            /// The id with exactly this text.
            pub fn new(text: impl AsRef<str>) -> Self {
                Self(EcoString::from(text.as_ref()))
            }

            /// The id's text as a text of its own.
            #[must_use]
            pub fn into_string(self) -> String {
                self.0.into()
            }

            /// Whether its text lies apart, where its copies share it.
            #[must_use]
            pub fn is_long(&self) -> bool {
                !self.0.is_inline()
            }

            /// The id's text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(IdText).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// A prompt within one session: `p17`. Numbered in order of arrival.
    PromptId
);
id!(
    /// A completion within one session: `RUN.PROMPT.K` for sampled ones (`s1.p17.0`), `i3.a` for imported ones.
    CompletionId
);
id!(
    /// A pair within one session: `PROMPT:COMPLETION-COMPLETION` possibly shortened, unique within the session.
    PairId
);
id!(
    /// A run within one session and the name of its folder: `dpo-3`, `sample-1`.
    RunId
);
id!(
    /// Who judged: a person's chosen name, `import:FILE` for imported verdicts, or `model:RUN` and `model:judge:NAME` for those
    /// of a model.
    Rater
);

impl CompletionId {
    /// Whether this sampling run drew the completion.
    #[must_use]
    pub fn is_of(&self, run: &RunId) -> bool {
        self.0.strip_prefix(run.as_str()).is_some_and(|rest| rest.starts_with('.'))
    }
}

/// Whether a text can name a session, a run or a file of one: up to 64 letters, digits, `-`, `_` and `.`, beginning with a
/// letter or digit. Such a name joined to a folder stays in that folder.
#[must_use]
pub fn is_name(text: &str) -> bool {
    text.len() <= 64
        && text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// Suffix of a run's name that selects its best checkpoint instead of its newest.
const BEST: &str = "@best";

impl RunId {
    /// The run's id, and whether its best checkpoint is selected instead of its newest: `dpo-1@best`.
    #[must_use]
    pub fn parts(&self) -> (Self, bool) {
        match self.0.strip_suffix(BEST) {
            Some(run) => (Self::new(run), true),
            None => (self.clone(), false),
        }
    }

    /// The run's name without the checkpoint suffix.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.strip_suffix(BEST).unwrap_or(&self.0)
    }

    /// The same run with its best checkpoint selected.
    #[must_use]
    pub fn at_best(&self) -> Self {
        Self::new(format!("{}{BEST}", self.parts().0))
    }
}

impl Rater {
    /// Whether these verdicts were imported, not given by a person.
    #[must_use]
    pub fn is_import(&self) -> bool {
        self.0.starts_with("import:")
    }

    /// Whether these verdicts are a model's: a reward run's, another trained run's, or a judge's.
    #[must_use]
    pub fn is_model(&self) -> bool {
        self.0.starts_with("model:")
    }

    /// A run or a judge as a rater.
    #[must_use]
    pub fn model(name: &str) -> Self {
        Self::new(format!("model:{name}"))
    }

    /// Why a person cannot have this name; none if one can.
    #[must_use]
    pub fn reserved(name: &str) -> Option<&'static str> {
        let is = |prefix: &str| name.trim_start().to_lowercase().starts_with(prefix);
        if is("import:") {
            return Some("a rater's name cannot begin with `import:`: that marks verdicts that came with a file");
        }
        is("model:").then_some("a rater's name cannot begin with `model:`: that marks verdicts of a model")
    }

    /// Whether a person gave these verdicts here: neither a file nor a model.
    #[must_use]
    pub fn is_person(&self) -> bool {
        !self.is_import() && !self.is_model()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_any_length_is_its_text_and_a_long_one_that_is_read_again_is_held_once() {
        for length in [0, 1, 15, 16, 24, 25, 300] {
            let text: String = (0..length).map(|at| char::from(b'a' + (at % 26) as u8)).collect();
            let json = serde_json::to_string(&[&text, &text]).unwrap();
            let [one, two]: [PairId; 2] = serde_json::from_str(&json).unwrap();
            assert_eq!(
                (one.as_str(), &one, serde_json::to_string(&[&one, &two]).unwrap()),
                (&*text, &PairId::new(&text), json)
            );
            assert_eq!(std::ptr::eq(one.as_str(), two.as_str()), length > 15, "{length}");
            assert_eq!(one.into_string(), text);
        }
        // Far more long ids than are remembered.
        let names: Vec<String> = (0..1_000).map(|n| format!("sample-1.p{n}.a-long-name")).collect();
        let ids: Vec<RunId> = serde_json::from_str(&serde_json::to_string(&names).unwrap()).unwrap();
        assert!(ids.iter().zip(&names).all(|(id, name)| id.as_str() == name));
        assert_eq!(size_of::<PairId>(), 16);
    }
}
