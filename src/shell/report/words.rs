//! Numbers and conclusions in the report's words.

use crate::domain::Conclusion;

pub(super) fn conclusion(conclusion: &Conclusion) -> String {
    match &conclusion.detail {
        Some(detail) => format!("{}: {detail}", conclusion.word),
        None => conclusion.word.to_owned(),
    }
}

pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

pub(super) fn signed(x: f64) -> String {
    format!("{x:+.3}")
}

/// A value with its significant digits: a learning rate is not rounded to zero, a count has no fraction.
pub(super) fn number(x: f64) -> String {
    match x.abs() {
        size if x.fract() == 0.0 && size < 1e15 => format!("{x:.0}"),
        size if (1e-3..1e5).contains(&size) => format!("{x:.4}"),
        _ => format!("{x:.2e}"),
    }
}
