//! Typed hyper-parameters: a struct with one field per key, parsed once from a run's parameters.
//!
//! Owns the macros that declare keys and choices, and the parsing. A key is declared once: the field is its name and its type,
//! so no key is listed that nothing reads. Refuses range checks: those happen when a value is set, and an old run keeps values
//! from before a range became narrower.

use super::check::Checks;
use super::conversation::JsonFields;
use super::param::{ParamError, ParamKind, ParamRow, Params};
use super::template_variables::template_variables;

/// A struct of hyper-parameters.
pub trait Hyperparameters: Sized {
    /// Its keys, in the order of the form.
    const ROWS: &'static [ParamRow];

    /// Parses every key. An absent key, as in runs from before it existed, has the value that those runs used.
    ///
    /// # Errors
    /// When a value does not parse.
    fn read(params: &Params) -> Result<Self, ParamError>;

    /// [`Hyperparameters::ROWS`] as a `Vec`.
    #[must_use]
    fn rows() -> Vec<ParamRow> {
        Self::ROWS.to_vec()
    }

    /// The description by `describe`, or the parse error.
    fn described(params: &Params, describe: fn(&Self) -> String) -> String {
        match Self::read(params) {
            Ok(read) => describe(&read),
            Err(e) => e.to_string(),
        }
    }

    /// The contradiction found by `refuse`, or the parse error.
    fn refused(params: &Params, refuse: fn(&Self) -> Option<String>) -> Option<String> {
        match Self::read(params) {
            Ok(read) => refuse(&read),
            Err(e) => Some(e.to_string()),
        }
    }
}

/// A type that parses from a hyper-parameter's text.
pub trait FromText: Sized {
    /// The parsed value; none when the text is invalid.
    fn from_text(text: &str) -> Option<Self>;
}

impl FromText for f64 {
    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok().filter(|x: &Self| x.is_finite())
    }
}

impl FromText for usize {
    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl FromText for u64 {
    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl FromText for i64 {
    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl FromText for bool {
    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl FromText for String {
    fn from_text(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

impl FromText for JsonFields {
    fn from_text(text: &str) -> Option<Self> {
        template_variables(text).ok()
    }
}

impl FromText for Checks {
    fn from_text(text: &str) -> Option<Self> {
        Self::parse(text).ok()
    }
}

/// Comma-separated values.
impl<T: FromText> FromText for Vec<T> {
    fn from_text(text: &str) -> Option<Self> {
        text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(T::from_text).collect()
    }
}

/// A row; its key is filled in from the field's name.
pub(crate) const fn row(
    kind: ParamKind,
    default: &'static str,
    usual: &'static str,
    help: &'static str,
    basic: bool,
) -> ParamRow {
    ParamRow { key: "", kind, default, usual, help, basic }
}

/// Parses one key; `before` is its text in runs from before the key existed.
///
/// # Errors
/// When the text does not parse.
pub(crate) fn read<T: FromText>(params: &Params, row: &ParamRow, before: &str) -> Result<T, ParamError> {
    let text = params.0.get(row.key).map_or(before, String::as_str);
    // These kinds have a better error message than the type's parser.
    if !matches!(row.kind, ParamKind::Float(..) | ParamKind::Int(..) | ParamKind::Floats(..)) {
        row.parse(text)?;
    }
    let reason = match row.kind {
        ParamKind::Int(..) => "expected a whole number",
        ParamKind::Floats(..) => "expected comma-separated numbers",
        _ => "expected a number",
    };
    let fail = || ParamError::Value { key: row.key.into(), value: text.into(), reason: reason.into() };
    T::from_text(text).ok_or_else(fail)
}

/// Declares a struct of hyper-parameters: `field: type = row(…);`. Append `, before "text"` where runs from before the key
/// existed used another value than its default.
macro_rules! hyperparameters {
    ($(#[$meta:meta])* $vis:vis struct $name:ident {
        $($field:ident: $type:ty = $row:expr $(, before $before:literal)?;)*
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone)]
        $vis struct $name {
            $(
                #[doc = concat!("The value of `", stringify!($field), "`.")]
                pub $field: $type,
            )*
        }

        impl $crate::domain::Hyperparameters for $name {
            const ROWS: &'static [$crate::domain::ParamRow] =
                &[$($crate::domain::ParamRow { key: stringify!($field), ..$row },)*];

            fn read(params: &$crate::domain::Params) -> Result<Self, $crate::domain::ParamError> {
                Ok(Self {
                    $($field: {
                        const ROW: $crate::domain::ParamRow =
                            $crate::domain::ParamRow { key: stringify!($field), ..$row };
                        const BEFORE: &[&str] = &[$($before,)? ROW.default];
                        $crate::domain::read(params, &ROW, BEFORE[0])?
                    },)*
                })
            }
        }
    };
}

/// Declares an enum of a key's choices, in the order of the form.
macro_rules! choices {
    ($(#[$meta:meta])* $vis:vis enum $name:ident {
        $($(#[$doc:meta])* $variant:ident = $word:literal,)*
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $vis enum $name {
            $($(#[$doc])* $variant,)*
        }

        impl $name {
            /// The words.
            pub const WORDS: &'static [&'static str] = &[$($word,)*];
        }

        impl $crate::domain::FromText for $name {
            fn from_text(text: &str) -> Option<Self> {
                match text {
                    $($word => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $word,)*
                })
            }
        }
    };
}

pub(crate) use {choices, hyperparameters};

#[cfg(test)]
mod tests {
    use super::*;

    choices! {
        /// Two words.
        enum Word {
            /// The one.
            One = "one",
            /// The other.
            Other = "other",
        }
    }

    hyperparameters! {
        /// One of each kind.
        struct Some {
            beta: f64 = row(ParamKind::Float(0.0, 1.0), "0.1", "", "", true);
            count: usize = row(ParamKind::Int(0, 9), "3", "", "", true);
            word: Word = row(ParamKind::Choice(Word::WORDS), "one", "", "", true);
            weights: Vec<f64> = row(ParamKind::Floats(0.0, 1.0), "1", "", "", false);
            best: String = row(ParamKind::Metric, "eval_loss", "", "", false), before "";
        }
    }

    fn with(set: &[(&str, &str)]) -> Result<Some, ParamError> {
        Some::read(&Params(set.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()))
    }

    #[test]
    fn values_parse_and_absent_keys_have_the_values_of_old_runs() {
        let read = with(&[("beta", "1e-1"), ("count", "7"), ("word", "other"), ("weights", "0.5,2")]).unwrap();
        assert_eq!((read.beta, read.count, read.word, read.weights), (0.1, 7, Word::Other, vec![0.5, 2.0]));
        let old = with(&[]).unwrap();
        assert_eq!((old.beta, old.count, old.word, old.best.as_str()), (0.1, 3, Word::One, ""));
        assert_eq!(Some::ROWS.iter().map(|r| r.key).collect::<Vec<_>>(), ["beta", "count", "word", "weights", "best"]);
    }

    #[test]
    fn an_invalid_value_is_an_error_that_names_the_key() {
        for (key, value) in [("beta", "NaN"), ("count", "-1"), ("word", "two"), ("weights", "1,x"), ("best", "a b")] {
            let said = with(&[(key, value)]).unwrap_err().to_string();
            assert!(said.contains(key) && said.contains(value), "{said}");
        }
    }
}
