//! Labelling progress: how many, how fast, time left, and the last verdicts in words.

use crate::app::bindings::KeyBindings;
use crate::app::open::OpenSession;
use crate::app::wrap::presentable;
use crate::domain::{Choice, PairId, QueueOrder, RunStatus, Strength, Verdict, counted};
use std::collections::HashSet;

/// The number of recent verdicts that the rate is computed from.
const WINDOW: usize = 20;
/// A verdict counts for at most this long; longer is a pause.
const IDLE_MS: u64 = 5 * 60 * 1000;
/// The rate is not shown before this many verdicts.
const MIN_VERDICTS: usize = 3;

/// Labelling progress.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Stats {
    /// Pairs this rater has labelled.
    pub done: usize,
    /// Pairs this rater can label.
    pub total: usize,
    /// Pairs an hour, from the median time of recent verdicts.
    pub per_hour: Option<f64>,
    /// Milliseconds left at that rate.
    pub left_ms: Option<f64>,
}

/// The progress in the open session.
#[must_use]
pub fn stats(open: &OpenSession) -> Stats {
    let session = &open.session;
    let (judged, growing) = open.growing_counts();
    let left = open.queue.len() + growing;
    let mut times: Vec<u64> = session
        .verdicts()
        .rev()
        .filter(|(_, j)| !j.undone && j.verdict.rater == open.rater && j.verdict.ms > 0)
        .take(WINDOW)
        .map(|(_, j)| j.verdict.ms.min(IDLE_MS))
        .collect();
    times.sort_unstable();
    let median = (times.len() >= MIN_VERDICTS).then(|| {
        let mid = times.len() / 2;
        if times.len() % 2 == 1 { times[mid] as f64 } else { (times[mid - 1] + times[mid]) as f64 / 2.0 }
    });
    Stats {
        done: open.done + judged,
        total: open.done + judged + left,
        per_hour: median.map(|ms| 3_600_000.0 / ms.max(1.0)),
        left_ms: median.map(|ms| ms * left as f64),
    }
}

/// A verdict in words, as it was given on the screen: `1 slightly`, `tie`, `2 better (partial)`.
#[must_use]
pub fn verdict_words(verdict: &Verdict) -> String {
    let words = choice_words(verdict);
    if verdict.is_partial() { format!("{words} (partial)") } else { words }
}

fn choice_words(verdict: &Verdict) -> String {
    match verdict.choice {
        Choice::Prefer(side, strength) => {
            let number = if side == verdict.left { 1 } else { 2 };
            let how = match strength {
                Strength::Slight => " slightly",
                Strength::Better => " better",
                Strength::Much => " much",
            };
            format!("{number}{how}")
        }
        Choice::Tie => "tie".into(),
        Choice::BothBad => "both bad".into(),
        Choice::Skip => "skipped".into(),
    }
}

/// The last verdicts not undone, newest first: the pair's name and the verdict in words. Among disputes those on disputed pairs
/// are left out: they would sway the decision.
#[must_use]
pub fn history(open: &OpenSession, count: usize) -> Vec<(String, String)> {
    let disputed: HashSet<PairId> = if open.order == QueueOrder::Disputed {
        open.session.disputes_on(open.rubric.criterion()).into_iter().map(|dispute| dispute.pair).collect()
    } else {
        HashSet::new()
    };
    open.session
        .verdicts()
        .rev()
        .filter(|(_, j)| !j.undone && j.verdict.rater == open.rater && !disputed.contains(&j.verdict.pair))
        .take(count)
        .map(|(_, j)| {
            let pair = &j.verdict.pair;
            let name = open.pair_name(pair);
            let by =
                j.verdict.asked.criterion.as_ref().map_or_else(String::new, |name| format!("{}: ", presentable(name)));
            (name, by + &verdict_words(j.verdict))
        })
        .collect()
}

/// The status of the newest sampling run; empty if there is nothing to say.
#[must_use]
pub fn sampler(open: &OpenSession, keys: &KeyBindings) -> String {
    let Some(run) = open.runs.iter().rev().find(|run| run.is_sampling()) else { return String::new() };
    let ahead = open.queue.len().saturating_sub(1);
    let total = run.state.plan.as_ref().map_or(0, |plan| plan.total_steps);
    // How far it is, where that is known, before or after other words.
    let step = (total > 0).then(|| format!("{} of {total}", run.state.step));
    let so_far = step.as_ref().map_or_else(String::new, |step| format!("{step} · "));
    let at = step.map_or_else(String::new, |step| format!(" at {step}"));
    let watch = keys.key("label", "watch");
    match run.status() {
        RunStatus::Starting => "sampler: starting".into(),
        RunStatus::Running => match &run.state.stage {
            // The first answers are under way: the model is loaded, whatever the last record says.
            Some(_) if run.state.step == 0 && open.growing.pairs().next().is_some() => {
                format!("sampler: {so_far}writing {}", counted(open.growing.pairs().count(), "pair"))
            }
            Some(stage) if run.state.step == 0 => format!("sampler: {}", stage.name),
            _ => format!("sampler: {so_far}{} ahead", counted(ahead, "pair")),
        },
        RunStatus::Paused => format!("sampler: paused{at}"),
        RunStatus::Suspended => format!("sampler: suspended{at}, {watch} shows it"),
        RunStatus::Failed(_) => format!("sampler: failed, {watch} shows why"),
        RunStatus::Lost => format!("sampler: lost{at}, {watch} shows why"),
        RunStatus::Finished | RunStatus::Stopped => String::new(),
    }
}
