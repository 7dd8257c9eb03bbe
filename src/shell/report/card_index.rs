//! The results of a model card in its metadata: `model-index`, which the hub shows beside the card.
//!
//! Owns which numbers go in: what a suite measured of the run itself, and its win rate by judges that passed their gate. Refuses
//! differences and judges that failed: they stand in the card's text, with their intervals.

use crate::domain::{Contestant, EvalReport, RunId, sanitise};
use crate::protocol::EvalSpec;
use serde_json::Value;

/// The side of an evaluation that a run is; none where it compares others.
pub(super) fn side_of(spec: &EvalSpec, own: &RunId) -> Option<Contestant> {
    Contestant::BOTH.into_iter().find(|side| spec.side(*side).adapter.as_ref().is_some_and(|id| id.parts().0 == *own))
}

/// The lines of `model-index`; none where nothing was measured. A string in JSON is a string in YAML.
pub(super) fn model_index(name: &str, own: &RunId, evaluations: &[(&EvalSpec, &EvalReport)]) -> Vec<String> {
    let text = |text: &str| Value::from(sanitise(text)).to_string();
    let mut lines = Vec::new();
    let mut result = |suite: &str, metrics: Vec<(String, f64)>| {
        if metrics.is_empty() {
            return;
        }
        lines.push("  - task:".into());
        lines.push("      type: text-generation".into());
        lines.push("    dataset:".into());
        lines.push(format!("      name: {}", text(suite)));
        lines.push(format!("      type: {}", text(suite)));
        lines.push("    metrics:".into());
        for (metric, value) in metrics {
            lines.push(format!("    - type: {}", text(&metric)));
            lines.push(format!("      value: {}", (value * 1e6).round() / 1e6));
        }
    };
    for (spec, report) in evaluations {
        let Some(side) = side_of(spec, own) else { continue };
        let rates = report.judges.iter().filter(|judge| judge.not_headline.is_empty()).filter_map(|judge| {
            let (rate, other) = match side {
                Contestant::A => (judge.rate?, &spec.b.name),
                Contestant::B => (1.0 - judge.rate?, &spec.a.name),
            };
            Some((judge.suite.as_str(), format!("win rate against {other} by {}", judge.judge), rate))
        });
        let rates: Vec<(&str, String, f64)> = rates.filter(|(.., rate)| rate.is_finite()).collect();
        for suite in &report.suites {
            let own = suite.measures.iter().filter_map(|measure| {
                let value = if side == Contestant::A { measure.a } else { measure.b };
                Some((measure.title.to_owned(), value.filter(|value| value.is_finite())?))
            });
            let judged =
                rates.iter().filter(|(of, ..)| *of == suite.suite).map(|(_, what, rate)| (what.clone(), *rate));
            result(&suite.suite, own.chain(judged).collect());
        }
        for (of, what, rate) in &rates {
            if !report.suites.iter().any(|suite| suite.suite == *of) {
                result(of, vec![(what.clone(), *rate)]);
            }
        }
    }
    if lines.is_empty() {
        return lines;
    }
    let head = ["model-index:".to_owned(), format!("- name: {}", text(name)), "  results:".to_owned()];
    head.into_iter().chain(lines).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Conclusion, MeasureReport, SuiteReport};
    use serde_json::json;

    #[test]
    fn the_runs_own_values_stand_there_and_no_text_becomes_yaml() {
        let spec: EvalSpec = serde_json::from_value(json!({
            "a": {"name": "base"}, "b": {"name": "dpo-1", "adapter": "dpo-1@best"}, "suites": [], "judges": [], "seeds": 1
        }))
        .unwrap();
        let measure = MeasureReport {
            key: "strict",
            title: "strict \": prompts",
            items: 4,
            prompts: 4,
            a: Some(0.25),
            b: Some(1.0 / 3.0),
            difference: None,
            interval: None,
            alone: None,
            conclusion: Conclusion { word: "better", detail: None },
            p: None,
            p_corrected: None,
            undefined: None,
        };
        let nothing = MeasureReport { b: None, ..measure.clone() };
        let suites = vec![SuiteReport { suite: "ifeval".into(), measures: vec![measure, nothing] }];
        let report = EvalReport { suites, ..EvalReport::default() };
        let own = RunId::new("dpo-1");
        let lines = model_index("dpo-1 of s", &own, &[(&spec, &report)]).join("\n");
        assert_eq!(
            lines,
            "model-index:\n- name: \"dpo-1 of s\"\n  results:\n  - task:\n      type: text-generation\n    dataset:\n      name: \
             \"ifeval\"\n      type: \"ifeval\"\n    metrics:\n    - type: \"strict \\\": prompts\"\n      value: 0.333333"
        );
        assert!(model_index("x", &RunId::new("dpo-2"), &[(&spec, &report)]).is_empty());
    }
}
