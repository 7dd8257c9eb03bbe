//! Overfitting: the training rows are learnt, the held-out rows are not. Derived from the logged metrics while they are folded, so
//! that it also shows for runs of older versions.
//!
//! Two signs: the accuracy on training pairs is high while the held-out accuracy stays behind by more than its uncertainty
//! and has not risen; or the held-out loss rises from its minimum while the training loss falls. Refuses a verdict on one evaluation
//! of a loss.

use crate::domain::run::{Finding, Severity};
use crate::domain::stats::{Z95, wilson};

/// The name in [`Finding::rule`].
pub(super) const RULE: &str = "overfitting";

/// Least accuracy on training pairs.
const LEARNT: f64 = 0.9;
/// Training steps that are averaged.
const STEPS: usize = 10;
/// Rise of the held-out loss above its minimum, as a share of it.
const RISE: f64 = 0.05;
/// Evaluations in a row above the minimum.
const EVALUATIONS: usize = 2;

/// The finite points of a metric, by step.
pub(super) type PointsOf<'a> = &'a dyn Fn(&str) -> Vec<(u64, f64)>;

/// The finding at the newest evaluation of `rows` held-out rows; none without a sign.
pub(super) fn overfitting(points: PointsOf<'_>, rows: usize) -> Option<Finding> {
    let (step, text) = by_accuracy(points, rows).or_else(|| by_loss(points))?;
    Some(Finding {
        rule: RULE.into(),
        step,
        severity: Severity::Warn,
        text,
        remedy: "Add training rows, train for fewer steps, or lower learning_rate.".into(),
        pair: None,
    })
}

/// The mean of the last training steps up to a step.
fn recent(points: &[(u64, f64)], step: u64) -> Option<f64> {
    let until: Vec<f64> = points.iter().filter(|(at, _)| *at <= step).map(|(_, y)| *y).collect();
    let last = &until[until.len().saturating_sub(STEPS)..];
    (last.len() == STEPS).then(|| last.iter().sum::<f64>() / STEPS as f64)
}

fn by_accuracy(points: PointsOf<'_>, rows: usize) -> Option<(u64, String)> {
    let held = points("eval_rewards/accuracies");
    let ((_, first), (step, now)) = (*held.first()?, *held.last()?);
    let train = recent(&points("rewards/accuracies"), step)?;
    if rows == 0 || held.len() < 2 || train < LEARNT || now > first {
        return None;
    }
    let n = rows as f64;
    let (low, high) = wilson(now * n, n, Z95);
    (high < train).then(|| {
        let text = format!(
            "Training pairs are learnt (accuracy {train:.2}), held-out pairs are not: {now:.2} [{low:.2} – {high:.2}] on {rows}, \
             {first:.2} at first."
        );
        (step, text)
    })
}

fn by_loss(points: PointsOf<'_>) -> Option<(u64, String)> {
    let held = points("eval_loss");
    let (best_at, (best_step, best)) = held.iter().copied().enumerate().min_by(|a, b| a.1.1.total_cmp(&b.1.1))?;
    let (step, now) = *held.last()?;
    let after = &held[best_at + 1..];
    let rises =
        best > 0.0 && after.len() >= EVALUATIONS && after.iter().all(|(_, y)| *y > best) && now > best * (1.0 + RISE);
    let loss = points("loss");
    let (before, train) = (recent(&loss, best_step)?, recent(&loss, step)?);
    (rises && train < before).then(|| {
        let text = format!(
            "The held-out loss rises since step {best_step} ({best:.4} → {now:.4}) while the training loss falls \
             ({before:.4} → {train:.4})."
        );
        (step, text)
    })
}
