//! The state of a run: what its log folds to. Live view, re-attach, replay and tests all use it.
//!
//! Owns status, plan, series, findings, samples, checkpoints and the estimate of the time left. Refuses clocks:
//! durations come from the writer's monotonic milliseconds, and the caller says whether a process is alive.

use super::canonical::CanonicalHash;
use super::measured::EvalState;
use super::metric::{Metrics, Num};
use super::run::{Finding, Plan, RunStatus};
use super::series::Series;
use super::text::Completion;
use serde::Serialize;
use serde_json::json;
use std::collections::VecDeque;

mod overfit;
#[cfg(test)]
mod tests;

/// Number of recent steps used to estimate the rate and the time left.
const WINDOW: usize = 24;
/// Number of recent completions of a sampling run kept for its view; the session has all of them.
const RECENT: usize = 50;

/// An answer sampled from the model in training.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sample {
    /// Steps completed before it.
    pub step: u64,
    /// The prompt. Sanitise before showing.
    pub prompt: String,
    /// The answer. Sanitise before showing.
    pub text: String,
    /// Its score, if answers are scored.
    pub score: Option<f64>,
}

/// A checkpoint that the log reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Checkpoint {
    /// Its step.
    pub step: u64,
    /// Its size.
    pub bytes: u64,
    /// Milliseconds of running time at which it was verified.
    pub ms: u64,
}

/// A command that the worker acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Obeyed {
    /// Steps completed before it.
    pub step: u64,
    /// The command's word: `pause`, `resume`, `checkpoint`, `stop`.
    pub word: String,
}

/// Work between steps, such as loading or reference log-probs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stage {
    /// The current stage.
    pub name: String,
    /// Units done.
    pub done: u64,
    /// Total units.
    pub total: u64,
}

/// The folded state of a run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RunState {
    status: Option<RunStatus>,
    /// Number of the worker that holds or last held the run; 0 before the first.
    pub attempt: u32,
    /// The device.
    pub device: String,
    /// The run's plan, once it is known.
    pub plan: Option<Plan>,
    /// Steps completed (training) or completions sampled (sampling).
    pub step: u64,
    /// Passes over the data so far.
    pub epoch: f64,
    /// Work between steps, while it lasts.
    pub stage: Option<Stage>,
    series: Vec<(String, Series)>,
    /// Findings in order.
    pub findings: Vec<Finding>,
    /// Answers sampled from the model in training, in order.
    pub samples: Vec<Sample>,
    /// Checkpoints in order, without those of superseded steps.
    pub checkpoints: Vec<Checkpoint>,
    /// Acknowledged commands, in order.
    pub obeyed: Vec<Obeyed>,
    /// The last completions of a sampling run, newest last.
    pub recent: VecDeque<Completion>,
    /// Tokens sampled (sampling) or trained on, as logged.
    pub tokens: u64,
    /// Pairs formed (sampling).
    pub paired: u64,
    /// Identical candidates dropped (sampling).
    pub duplicates: u64,
    /// What an evaluation has measured.
    pub eval: EvalState,
    /// Hash of the final weights or texts, once finished.
    pub final_state: Option<String>,
    /// Wall clock of the first event, milliseconds since 1970; for people, never for durations.
    pub began_wall: Option<u64>,
    /// Wall clock of the last event.
    pub last_wall: u64,
    /// How often bytes were cut from the log after a crash.
    pub repairs: u64,
    clock: Clock,
    /// Step, running time and tokens at recent steps, for the rate; cleared by a pause.
    pace: VecDeque<(u64, u64, u64)>,
    smoothing: f64,
}

/// Running time: the writer's monotonic milliseconds, summed over attempts without the time between them.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Clock {
    base: u64,
    start: Option<u64>,
    now: u64,
}

impl RunState {
    /// Records that an event was written at monotonic `m` and wall `w` milliseconds; call it before folding the event.
    pub fn tick(&mut self, m: u64, w: u64) {
        let start = *self.clock.start.get_or_insert(m);
        self.clock.now = self.clock.now.max(self.clock.base.saturating_add(m.saturating_sub(start)));
        self.began_wall.get_or_insert(w);
        self.last_wall = w;
    }

    /// A worker started or resumed the run; `m` is its monotonic time. Steps after `from_step` of earlier attempts no
    /// longer count.
    pub fn start(&mut self, attempt: u32, device: &str, from_step: Option<u64>, m: u64) {
        self.clock.base = self.clock.now;
        self.clock.start = Some(m);
        device.clone_into(&mut self.device);
        self.status = Some(RunStatus::Running);
        self.stage = None;
        self.pace.clear();
        // A sampling or evaluation run resumes from its log, a training run from a checkpoint, or else from the start.
        if attempt > 1 && (from_step.is_some() || (self.recent.is_empty() && self.eval.is_empty())) {
            let from = from_step.unwrap_or(0);
            for (_, series) in &mut self.series {
                series.restart(from);
            }
            // A run that restarts logs everything again, including what precedes its first step.
            let stays = |step: u64| from_step.is_some() && step <= from;
            self.samples.retain(|s| stays(s.step));
            self.checkpoints.retain(|c| c.step <= from);
            self.findings.retain(|f| stays(f.step));
            self.step = self.step.min(from);
            self.tokens = self.latest("num_tokens").filter(|n| n.is_finite()).map_or(0, |n| n as u64);
            if let Some(plan) = self.plan.as_ref().filter(|p| p.steps_per_epoch > 0) {
                self.epoch = self.step as f64 / plan.steps_per_epoch as f64;
            }
        }
        self.attempt = attempt;
    }

    /// The run's plan.
    pub fn set_plan(&mut self, plan: Plan) {
        self.plan = Some(plan);
    }

    /// Progress of work between steps, which ends when all units are done.
    pub fn progress(&mut self, stage: &str, done: u64, total: u64) {
        self.stage = (done < total || total == 0).then(|| Stage { name: stage.to_owned(), done, total });
    }

    /// An optimizer step completed.
    pub fn advance(&mut self, step: u64, epoch: f64, metrics: &Metrics) {
        self.step = step;
        self.epoch = epoch;
        self.stage = None;
        if let Some(n) = metrics.get("num_tokens").filter(|n| n.is_finite()) {
            // A resumed sampling run counts from zero; its completions are already counted.
            self.tokens = self.tokens.max(n as u64);
        }
        self.measure(step, metrics);
        self.record_pace();
    }

    /// Metrics were measured at a step.
    pub fn measure(&mut self, step: u64, metrics: &Metrics) {
        let ms = self.clock.now;
        for (place, (name, value)) in metrics.iter().enumerate() {
            // Most often the series are in the order of the metrics.
            let is = |known: &(String, Series)| known.0 == name;
            let found =
                if self.series.get(place).is_some_and(is) { Some(place) } else { self.series.iter().position(is) };
            if let Some(at) = found {
                self.series[at].1.push(step, value, ms);
            } else {
                let mut series = Series::default();
                series.set_smoothing(self.smoothing);
                series.push(step, value, ms);
                self.series.push((name.to_owned(), series));
            }
        }
        let evaluated = metrics.iter().any(|(name, _)| name.starts_with("eval_"));
        if evaluated && !self.findings.iter().any(|finding| finding.rule == overfit::RULE) {
            let rows = self.plan.as_ref().map_or(0, |plan| plan.eval_rows);
            let points = |name: &str| -> Vec<(u64, f64)> {
                let points = self.series(name).map(|series| series.live().points());
                points.into_iter().flatten().filter(|(_, y, _)| y.is_finite()).map(|(step, y, _)| (step, y)).collect()
            };
            let found = overfit::overfitting(&points, rows);
            self.findings.extend(found);
        }
    }

    /// An answer was sampled from the model in training.
    pub fn sample(&mut self, step: u64, prompt: &str, text: &str, score: Option<f64>) {
        self.samples.push(Sample { step, prompt: prompt.to_owned(), text: text.to_owned(), score });
    }

    /// A candidate was sampled.
    pub fn complete(&mut self, completion: &Completion) {
        self.step += 1;
        self.stage = None;
        self.tokens += completion.tokens as u64;
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(completion.clone());
        self.record_pace();
    }

    /// A checkpoint is on disk.
    pub fn checkpoint(&mut self, step: u64, bytes: u64) {
        self.checkpoints.push(Checkpoint { step, bytes, ms: self.clock.now });
    }

    /// A command was acknowledged.
    pub fn obey(&mut self, word: &str) {
        self.obeyed.push(Obeyed { step: self.step, word: word.to_owned() });
        match word {
            "pause" => self.status = Some(RunStatus::Paused),
            "resume" => {
                self.status = Some(RunStatus::Running);
                // The pause must not count in the rate.
                self.pace.clear();
            }
            _ => {}
        }
    }

    /// The run ended.
    pub fn end(&mut self, status: RunStatus, step: u64) {
        self.status = Some(status);
        self.step = step;
        self.stage = None;
    }

    fn record_pace(&mut self) {
        if self.pace.len() == WINDOW {
            self.pace.pop_front();
        }
        self.pace.push_back((self.step, self.clock.now, self.tokens));
    }

    /// The status according to the log alone.
    #[must_use]
    pub fn logged_status(&self) -> RunStatus {
        self.status.clone().unwrap_or(RunStatus::Starting)
    }

    /// The status, given whether somebody holds the run's lock; none while that is unknown. An unfinished log without a
    /// held lock is a lost run. Until the lock is checked, an unfinished run is starting, rather than guessed live or
    /// lost.
    #[must_use]
    pub fn status(&self, alive: Option<bool>) -> RunStatus {
        match (self.logged_status(), alive) {
            (live, Some(false)) if live.is_live() => RunStatus::Lost,
            (live, None) if live.is_live() => RunStatus::Starting,
            (logged, _) => logged,
        }
    }

    /// A metric's series.
    #[must_use]
    pub fn series(&self, name: &str) -> Option<&Series> {
        self.series.iter().find(|(n, _)| n == name).map(|(_, s)| s)
    }

    /// The evaluation series of a metric, logged as `eval_…`.
    #[must_use]
    pub fn eval_series(&self, name: &str) -> Option<&Series> {
        self.series.iter().find(|(n, _)| n.strip_prefix("eval_") == Some(name)).map(|(_, s)| s)
    }

    /// Names of the metrics measured so far, in order of first appearance.
    pub fn metrics(&self) -> impl Iterator<Item = &str> {
        self.series.iter().map(|(n, _)| n.as_str())
    }

    /// The last value of a metric.
    #[must_use]
    pub fn latest(&self, name: &str) -> Option<f64> {
        self.series(name)?.live().last().map(|(_, y, _)| y)
    }

    /// Sets the smoothing of every series, present and future. A view setting: [`RunState::state_hash`] ignores it.
    pub fn set_smoothing(&mut self, beta: f64) {
        if self.smoothing == beta {
            return;
        }
        self.smoothing = beta;
        for (_, series) in &mut self.series {
            series.set_smoothing(beta);
        }
    }

    /// The smoothing of its series; 0 is off.
    #[must_use]
    pub fn smoothing(&self) -> f64 {
        self.smoothing
    }

    /// Total running time of all attempts in milliseconds.
    #[must_use]
    pub fn elapsed_ms(&self) -> u64 {
        self.clock.now
    }

    /// Mean seconds per step (or completion) over recent ones.
    #[must_use]
    pub fn seconds_per_step(&self) -> Option<f64> {
        let ((s0, t0, _), (s1, t1, _)) = (self.pace.front()?, self.pace.back()?);
        (s1 > s0 && t1 > t0).then(|| (t1 - t0) as f64 / 1000.0 / (s1 - s0) as f64)
    }

    /// Tokens per second over recent steps: as the run logged it (`tokens_per_second`), else from the tokens counted.
    #[must_use]
    pub fn tokens_per_second(&self) -> Option<f64> {
        if let Some(rate) = self.latest("tokens_per_second").filter(|r| r.is_finite()) {
            return Some(rate);
        }
        let ((_, t0, n0), (_, t1, n1)) = (self.pace.front()?, self.pace.back()?);
        (t1 > t0 && n1 > n0).then(|| (n1 - n0) as f64 * 1000.0 / (t1 - t0) as f64)
    }

    /// Seconds left at the rate of recent steps; none before two steps, without a plan, or after the end.
    #[must_use]
    pub fn seconds_left(&self) -> Option<f64> {
        if !self.logged_status().is_live() {
            return None;
        }
        let left = self.plan.as_ref()?.total_steps.saturating_sub(self.step);
        Some(self.seconds_per_step()? * left as f64)
    }

    /// Total dropped rows for all reasons.
    #[must_use]
    pub fn dropped(&self) -> usize {
        self.plan.as_ref().map_or(0, |p| p.dropped.iter().map(|d| d.count).sum())
    }

    /// A hash of everything in the log: equal for equal logs, whatever the view did in between.
    #[must_use]
    pub fn state_hash(&self) -> String {
        let mut h = CanonicalHash::default();
        h.add(&json!({
            "status": self.status, "attempt": self.attempt, "device": self.device, "running_ms": self.clock.now,
            "plan": self.plan, "step": self.step, "epoch": Num(self.epoch), "stage": self.stage,
            "findings": self.findings, "samples": self.samples, "checkpoints": self.checkpoints, "obeyed": self.obeyed,
            "tokens": self.tokens, "paired": self.paired, "duplicates": self.duplicates, "final": self.final_state,
        }));
        for (name, series) in &self.series {
            for (ghost, line) in std::iter::once(series.live()).chain(series.ghosts()).enumerate() {
                let points: Vec<_> = line.points().map(|(step, value, ms)| (step, Num(value), ms)).collect();
                h.add(&json!({"series": name, "ghost": ghost, "points": points}));
            }
        }
        if !self.eval.is_empty() {
            let answers: Vec<_> = self.eval.answers().collect();
            let measurements: Vec<_> = self.eval.measurements().collect();
            let comparisons: Vec<_> = self.eval.comparisons().collect();
            h.add(&json!({"answers": answers, "measurements": measurements, "comparisons": comparisons}));
        }
        for completion in &self.recent {
            h.add(&json!({"completion": completion.id, "text": completion.text}));
        }
        h.hex()
    }
}
