//! Parsers of option values: ranges, names and their error messages.

use crate::domain::{Filter, QueueOrder, Rubric, STRATEGIES};
use crate::storage::formats::{self, Format};
use clap::builder::{PossibleValue, PossibleValuesParser, RangedU64ValueParser, TypedValueParser};

/// The name of an import format.
pub(super) fn import_format() -> impl TypedValueParser<Value = &'static Format> {
    names(formats::imports()).try_map(|name| formats::import_named(&name))
}

/// The name of an export format.
pub(super) fn export_format() -> impl TypedValueParser<Value = &'static Format> {
    names(formats::exports()).try_map(|name| formats::export_named(&name))
}

fn names(formats: impl Iterator<Item = &'static Format>) -> PossibleValuesParser {
    formats.map(|format| PossibleValue::new(format.name).help(format.help)).collect::<Vec<_>>().into()
}

/// The name of a screen.
pub(super) fn screens() -> PossibleValuesParser {
    crate::app::ROUTES.iter().map(|route| route.name).collect::<Vec<_>>().into()
}

/// The name of an order of the queue.
pub(super) fn order() -> impl TypedValueParser<Value = QueueOrder> {
    let names: Vec<&str> = QueueOrder::ALL.iter().map(|(name, ..)| *name).collect();
    PossibleValuesParser::from(names).try_map(|name| QueueOrder::named(&name).ok_or("no such order"))
}

/// The name of a strategy. `contested` is an order of the label queue alone, which the command explains.
pub(super) fn strategy() -> PossibleValuesParser {
    let names = STRATEGIES.iter().map(|s| PossibleValue::new(s.name));
    names.chain([PossibleValue::new(QueueOrder::Contested.name()).hide(true)]).collect::<Vec<_>>().into()
}

pub(super) fn filter(text: &str) -> Result<Filter, String> {
    Filter::parse(text).map_err(|e| e.to_string())
}

pub(super) fn rubric(text: &str) -> Result<Rubric, String> {
    Rubric::parse(text)
}

/// An integer from 1 to `max`.
pub(super) fn at_most(max: u64) -> RangedU64ValueParser {
    clap::value_parser!(u64).range(1..=max)
}

pub(super) fn temperature(text: &str) -> Result<f64, String> {
    between(text, 0.0, 100.0)
}

pub(super) fn share(text: &str) -> Result<f64, String> {
    between(text, f64::MIN_POSITIVE, 1.0)
}

pub(super) fn tie_band(text: &str) -> Result<f64, String> {
    between(text, 0.0, 10.0)
}

pub(super) fn speed(text: &str) -> Result<f64, String> {
    let (min, max) = crate::app::screen::replay::SPEED_RANGE;
    between(text, min, max)
}

fn between(text: &str, lo: f64, hi: f64) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(x) if x >= lo && x <= hi => Ok(x),
        _ => Err(format!(
            "it takes a number from {} to {hi}",
            if lo < 1e-300 && lo > 0.0 { "above 0".into() } else { lo.to_string() }
        )),
    }
}

/// `WxH` as columns and rows of a picture or a terminal.
pub(super) fn size(text: &str) -> Result<(u16, u16), String> {
    let parsed = text.split_once('x').and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
    match parsed {
        Some((w @ 60..=500, h @ 16..=200)) => Ok((w, h)),
        _ => Err("it takes columns x rows from 60x16 to 500x200, as 100x30".into()),
    }
}

/// The longest span: a year.
const LONGEST_MS: i128 = 366 * 24 * 3_600_000;

/// A span of time such as `2h`, `90 minutes` or `1d 6h`, in milliseconds; a day has 24 hours.
pub fn span(text: &str) -> Result<u64, String> {
    let expected =
        || format!("invalid span `{text}`: expected a time such as 2h, 30m or 1d, at most a year; 0s for none");
    let span: jiff::Span = text.trim().parse().map_err(|_| expected())?;
    let duration = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|_| expected())?;
    let ms = duration.as_millis();
    if (0..=LONGEST_MS).contains(&ms) { u64::try_from(ms).map_err(|_| expected()) } else { Err(expected()) }
}

/// A span in its largest whole units: `2h`, `1d 6h`.
#[must_use]
pub fn span_words(ms: u64) -> String {
    let parts = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s"), (1, "ms")];
    let (mut left, mut words) = (ms, Vec::new());
    for (unit, name) in parts {
        if left >= unit {
            words.push(format!("{}{name}", left / unit));
            left %= unit;
        }
    }
    words.join(" ")
}

#[cfg(test)]
mod span_tests {
    use super::*;

    #[test]
    fn spans_are_read_and_written() {
        for (text, ms, words) in [
            ("2h", 7_200_000, "2h"),
            ("1d 6h", 108_000_000, "1d 6h"),
            ("90 minutes", 5_400_000, "1h 30m"),
            ("PT45M", 2_700_000, "45m"),
            ("0s", 0, ""),
        ] {
            assert_eq!(span(text), Ok(ms), "{text}");
            assert_eq!(span_words(ms), words);
        }
        for text in ["", "2", "soon", "-2h", "3 years", "1mo"] {
            assert!(span(text).unwrap_err().contains("such as 2h"), "{text}");
        }
    }
}
