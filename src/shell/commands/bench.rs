//! `bench`: how fast this program is on this machine, by what users run, in words or as one JSON object.
//!
//! Owns the statistics and the words. What needs a model is measured by a worker process of its own, so that its peak memory
//! is its own; the screens are measured from the other end of a terminal.

mod machine;
mod pty;
mod sample;
mod train;
mod ui;

use super::super::cli::BenchAction;
use super::super::error::{Error, Result};
use super::super::{out, supervisor};
use super::Context;
use crate::domain::{median, quantile};
use crate::protocol::{BenchAnswer, BenchSpec};
use serde_json::{Value, json};

/// Measures what is asked for.
pub fn run(context: &Context, action: BenchAction) -> Result<()> {
    match action {
        BenchAction::Train(args) => train::run(context, &args),
        BenchAction::Sample(args) => sample::run(context, &args),
        BenchAction::Ui(args) => ui::run(context, &args),
    }
}

/// Asks a new worker and gives its figures; how far it is stands on a bar.
fn ask(spec: &BenchSpec) -> Result<BenchAnswer> {
    let text = serde_json::to_string(spec).map_err(|e| Error::failed(format!("the question does not write: {e}")))?;
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

/// Median and ends of repeated measurements.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Spread {
    median: f64,
    least: f64,
    most: f64,
    count: usize,
}

impl Spread {
    fn of(values: &[f64]) -> Self {
        Self { median: median(values), least: quantile(values, 0.0), most: quantile(values, 1.0), count: values.len() }
    }

    fn json(self, digits: u32) -> Value {
        let r = |x| round(x, digits);
        json!({ "median": r(self.median), "least": r(self.least), "most": r(self.most), "count": self.count })
    }

    /// `49.3 (48.1 to 50.2)`.
    fn words(self, digits: usize) -> String {
        format!("{:.digits$} ({:.digits$} to {:.digits$})", self.median, self.least, self.most)
    }
}

/// A number for people's eyes in JSON: so many digits behind the point.
fn round(x: f64, digits: u32) -> f64 {
    let scale = 10_f64.powi(digits as i32);
    (x * scale).round() / scale
}

/// A line of a table for people: a name and what it is.
fn line(name: &str, value: &str) -> Result<()> {
    out::line(&format!("{name:<18} {value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_the_middle_and_the_ends() {
        let spread = Spread::of(&[3.0, 1.0, 2.0]);
        assert_eq!(spread, Spread { median: 2.0, least: 1.0, most: 3.0, count: 3 });
        assert_eq!(spread.words(1), "2.0 (1.0 to 3.0)");
        assert_eq!(spread.json(2)["most"], 3.0);
        assert_eq!(round(1.2345, 2), 1.23);
    }
}
