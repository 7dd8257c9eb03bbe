//! Results of a benchmark: asking a worker for them, their spread, and printing them.

use super::super::super::error::{Error, Result};
use super::super::super::{out, supervisor};
use crate::domain::{median, quantile};
use crate::protocol::{BenchAnswer, BenchSpec};
use serde_json::{Value, json};

/// Asks a new worker for its results, with a progress bar.
pub(super) fn ask(spec: &BenchSpec) -> Result<BenchAnswer> {
    let text = serde_json::to_string(spec).map_err(|e| Error::bug("write a question", e))?;
    let bar = out::bar(0, "steps");
    let mut figures = None;
    let asked = supervisor::ask(&["bench".as_ref(), text.as_ref()], |answer: BenchAnswer| {
        if let BenchAnswer::Progressed { stage, done, total } = answer {
            bar.set_length(total);
            bar.set_position(done);
            bar.set_message(stage);
        } else {
            figures = Some(answer);
        }
        Ok(())
    });
    bar.finish_and_clear();
    asked?;
    figures.ok_or_else(|| Error::failed("the worker gave no figures: try again"))
}

/// Median, minimum and maximum of repeated measurements.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) least: f64,
    pub(super) most: f64,
    pub(super) count: usize,
}

impl Spread {
    pub(super) fn of(values: &[f64]) -> Self {
        Self { median: median(values), least: quantile(values, 0.0), most: quantile(values, 1.0), count: values.len() }
    }

    pub(super) fn json(self, digits: u32) -> Value {
        let r = |x| round(x, digits);
        json!({ "median": r(self.median), "least": r(self.least), "most": r(self.most), "count": self.count })
    }

    /// `49.3 (48.1 to 50.2)`.
    pub(super) fn words(self, digits: usize) -> String {
        format!("{:.digits$} ({:.digits$} to {:.digits$})", self.median, self.least, self.most)
    }
}

/// Rounds to so many decimal places, for JSON.
pub(super) fn round(x: f64, digits: u32) -> f64 {
    let scale = 10_f64.powi(digits as i32);
    (x * scale).round() / scale
}

/// Prints a name and its value.
pub(super) fn line(name: &str, value: &str) -> Result<()> {
    out::line(&format!("{name:<18} {value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_median_minimum_and_maximum() {
        let spread = Spread::of(&[3.0, 1.0, 2.0]);
        assert_eq!(spread, Spread { median: 2.0, least: 1.0, most: 3.0, count: 3 });
        assert_eq!(spread.words(1), "2.0 (1.0 to 3.0)");
        assert_eq!(spread.json(2)["most"], 3.0);
        assert_eq!(round(1.2345, 2), 1.23);
    }
}
