//! The report's first table: what the evaluations of a session say, a row for each judge and each suite's first measure. The whole
//! numbers stand with each evaluation; a judge that failed its gate is left to those.

use super::document::Document;
use super::words::{conclusion, percent, signed};
use crate::domain::EvalReport;
use crate::protocol::EvalSpec;

/// Adds the table; nothing where no evaluation compared anything.
pub(super) fn results(out: &mut Document, evaluations: &[(String, &EvalSpec, &EvalReport)]) {
    let mut rows = Vec::new();
    for (id, spec, report) in evaluations {
        let mut add = |what: String, value: String, interval: String, found: String| {
            rows.push(vec![
                id.clone(),
                format!("{} against {}", spec.a.name, spec.b.name),
                what,
                value,
                interval,
                found,
            ]);
        };
        for judge in report.judges.iter().filter(|judge| judge.not_headline.is_empty()) {
            let Some(rate) = judge.rate else { continue };
            let interval = judge.interval.map(|[low, high]| format!("{} … {}", percent(low), percent(high)));
            let what = format!("win rate by {}", judge.judge);
            add(what, percent(rate), interval.unwrap_or_default(), conclusion(&judge.conclusion));
        }
        for suite in &report.suites {
            let Some(measure) = suite.measures.first() else { continue };
            let Some(difference) = measure.difference else { continue };
            let interval = measure.interval.map(|[low, high]| format!("{} … {}", signed(low), signed(high)));
            let what = format!("{}: {}", suite.suite, measure.title);
            add(what, signed(difference), interval.unwrap_or_default(), conclusion(&measure.conclusion));
        }
    }
    if !rows.is_empty() {
        out.heading(2, "Results");
        out.table(&["evaluation", "a against b", "what", "value, or a − b", "95 % interval", "conclusion"], rows);
    }
}
