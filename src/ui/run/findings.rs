//! A run's most important messages: how it ended, and its findings.

use super::scene::Scene;
use crate::app::{presentable, wrap};
use crate::domain::{Finding, LOST_WORKER, RunStatus, Severity};
use crate::ui::theme::{BAD, WARN};
use ratatui::style::Style;

/// A text wrapped in lines.
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    let text = presentable(text);
    wrap(&text, width).into_iter().map(|r| text[r].to_owned()).collect()
}

/// Why a failed or lost run ended, and what to do.
fn end_message(scene: &Scene<'_>) -> Option<(String, Severity)> {
    match &scene.status {
        RunStatus::Failed(error) => Some((error.clone(), Severity::Stop)),
        RunStatus::Lost => {
            let from = match scene.run.checkpoints.last() {
                Some(c) => format!("from the checkpoint at step {}", c.step),
                None => "from the beginning (no checkpoint yet)".into(),
            };
            let how = if scene.replay { "it can be resumed" } else { "R resumes it" };
            Some((format!("The run is lost: {LOST_WORKER}. {how} {from}."), Severity::Stop))
        }
        _ => None,
    }
}

/// The text of a finding: where, what, what to do.
fn finding_text(f: &Finding) -> String {
    let word = match f.severity {
        Severity::Note => "note",
        Severity::Warn => "warning",
        Severity::Stop => "stop",
    };
    let pair = f.pair.as_ref().map_or(String::new(), |p| format!(" · pair {p}"));
    format!("{word} · step {}{pair} · {}", f.step, f.sentence())
}

/// The style of a finding.
pub fn severity_style(severity: Severity) -> Style {
    match severity {
        Severity::Note => Style::default(),
        Severity::Warn => WARN,
        Severity::Stop => BAD,
    }
}

/// The messages to show, most urgent first: how the run ended, then findings by severity, newest first.
pub fn alerts(scene: &Scene<'_>) -> Vec<(String, Severity)> {
    let mut out: Vec<(String, Severity)> = end_message(scene).into_iter().collect();
    let mut findings: Vec<&Finding> = scene.run.findings.iter().rev().collect();
    findings.sort_by_key(|f| std::cmp::Reverse(f.severity));
    out.extend(findings.into_iter().map(|f| (finding_text(f), f.severity)));
    out
}
