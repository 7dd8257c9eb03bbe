//! Where a loop stands: which step comes next, who is waited for, whether it has ended.
//!
//! Owns the derivation from what the session holds: runs under the loop's names, pairs under its identities, verdicts of its
//! rater. Nothing else is recorded, so that a process that dies at any moment loses nothing. Refuses to know files: the caller
//! says what became of each run.

use super::ids::RunId;
use super::loop_spec::LoopSpec;
use super::run::RunStatus;
use super::scorecard::{EvalReport, JudgeReport};
use super::session::Session;
use super::text::{Pair, Prompt, is_held_out};
use super::verdict::Choice;
use serde::Serialize;
use std::sync::Arc;

/// The suite whose judge decides whether a round is better.
pub const LOOP_SUITE: &str = "winrate";

/// The prompts of a loop.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LoopPrompts {
    /// Those that rounds sample, in the order in which rounds take them.
    pub training: Vec<Arc<Prompt>>,
    /// Those that no round samples.
    pub held_out: Vec<Arc<Prompt>>,
}

impl LoopPrompts {
    /// The prompts of a loop in its session.
    #[must_use]
    pub fn of(spec: &LoopSpec, session: &Session) -> Self {
        let all = session.prompts().iter().take(spec.prompts).cloned();
        let (held_out, mut training): (Vec<_>, Vec<_>) = all.partition(|p| is_held_out(&p.id, spec.held_out));
        training.sort_by_key(|prompt| (spec.draw(&prompt.id), prompt.id.clone()));
        Self { training, held_out }
    }

    /// The prompts of a round.
    #[must_use]
    pub fn round(&self, spec: &LoopSpec, round: u32) -> &[Arc<Prompt>] {
        let first = (round.saturating_sub(1) as usize).saturating_mul(spec.prompts_per_round).min(self.training.len());
        let end = first.saturating_add(spec.prompts_per_round).min(self.training.len());
        &self.training[first..end]
    }
}

/// A step of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LoopStep {
    /// The model answers prompts.
    Sample,
    /// Answers are paired.
    Pair,
    /// Pairs are judged.
    Judge,
    /// The model trains on the verdicts.
    Train,
    /// It is compared with the model before.
    Evaluate,
}

impl LoopStep {
    /// Its name.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Sample => "sample",
            Self::Pair => "pair",
            Self::Judge => "judge",
            Self::Train => "train",
            Self::Evaluate => "evaluate",
        }
    }
}

/// How a round did against the one before.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RoundWin {
    /// Who compared.
    pub judge: String,
    /// The win rate over the model before; a tie is half a win.
    pub rate: Option<f64>,
    /// Its 95 % interval.
    pub interval: Option<[f64; 2]>,
    /// Comparisons.
    pub comparisons: usize,
    /// Comparisons that wait for people, or in which the judge had no opinion.
    pub unjudged: usize,
}

impl RoundWin {
    /// The comparison that decides, in what an evaluation found: of several people's the one that is furthest.
    #[must_use]
    pub fn of(report: &EvalReport) -> Option<Self> {
        let judges = report.judges.iter().filter(|judge| judge.suite == LOOP_SUITE);
        let JudgeReport { judge, rate, interval, comparisons, unjudged, .. } = judges.min_by_key(|j| j.unjudged)?;
        let (judge, rate, interval) = (judge.clone(), *rate, *interval);
        Some(Self { judge, rate, interval, comparisons: *comparisons, unjudged: *unjudged })
    }

    /// Whether the interval lies above one half.
    #[must_use]
    pub fn improves(&self) -> bool {
        self.interval.is_some_and(|[low, _]| low > 0.5)
    }

    /// The numbers: `62.5 % [51.0 – 73.0] of 40`.
    #[must_use]
    pub fn numbers(&self) -> String {
        let percent = |x: f64| format!("{:.1}", 100.0 * x);
        let rate = self.rate.map_or_else(|| "undefined".into(), |rate| format!("{} %", percent(rate)));
        let span =
            self.interval.map_or_else(String::new, |[low, high]| format!(" [{} – {}]", percent(low), percent(high)));
        format!("{rate}{span} of {}", self.comparisons)
    }

    /// What the interval says.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self.interval {
            Some([low, _]) if low > 0.5 => "better",
            Some([_, high]) if high < 0.5 => "worse",
            _ => "cannot tell",
        }
    }
}

/// What became of a round's runs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RoundRuns {
    /// Of its sampling run; none where there is none yet.
    pub sampling: Option<RunStatus>,
    /// Of its training run.
    pub training: Option<RunStatus>,
    /// Of its evaluation.
    pub evaluation: Option<RunStatus>,
    /// What the evaluation found.
    pub win: Option<RoundWin>,
    /// The judge was asked for every pair and has no verdict on some.
    pub asked: bool,
}

/// How far a round is.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RoundProgress {
    /// Its number, from 1.
    pub round: u32,
    /// Pairs chosen.
    pub pairs: usize,
    /// Pairs with a verdict.
    pub judged: usize,
    /// Verdicts that neither answer is better.
    pub ties: usize,
    /// Its runs.
    pub runs: RoundRuns,
}

/// What comes next.
#[derive(Debug, Clone, PartialEq)]
pub enum LoopState {
    /// A step that has to be begun, or is under way or broken off as `status` says.
    Next {
        /// The round.
        round: u32,
        /// The step.
        step: LoopStep,
        /// What became of the step's run; none where there is none yet.
        status: Option<RunStatus>,
    },
    /// People have to judge.
    Waits {
        /// The round.
        round: u32,
        /// The step: judge, or evaluate.
        step: LoopStep,
        /// Pairs that wait.
        left: usize,
    },
    /// Every round is done.
    Done,
    /// The last round that was done is not better than the one before.
    NoGain {
        /// The round.
        round: u32,
    },
}

/// Where a loop stands.
#[derive(Debug, Clone, PartialEq)]
pub struct LoopProgress {
    /// The rounds that have begun, and the one that is next.
    pub rounds: Vec<RoundProgress>,
    /// What comes next.
    pub state: LoopState,
}

impl LoopProgress {
    /// Derives it. `runs` says what became of each round's runs, the first round's first.
    #[must_use]
    pub fn of(spec: &LoopSpec, session: &Session, runs: &[RoundRuns]) -> Self {
        let mut rounds: Vec<RoundProgress> = (1..=spec.rounds)
            .map(|round| {
                let runs = runs.get(round as usize - 1).cloned().unwrap_or_default();
                RoundProgress { round, runs, ..RoundProgress::default() }
            })
            .collect();
        for pair in session.pairs() {
            let Some(round) = spec.round_of(&pair.id).and_then(|n| rounds.get_mut((n as usize).checked_sub(1)?)) else {
                continue;
            };
            round.pairs += 1;
            if let Some(choice) = verdict_on(spec, session, pair) {
                round.judged += 1;
                round.ties += usize::from(matches!(choice, Choice::Tie | Choice::BothBad));
            }
        }
        let state = next(spec, &rounds);
        let shown = match &state {
            LoopState::Next { round, .. } | LoopState::Waits { round, .. } | LoopState::NoGain { round } => *round,
            LoopState::Done => spec.rounds,
        };
        rounds.truncate(shown as usize);
        Self { rounds, state }
    }

    /// Whether nothing is left to do.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.state, LoopState::Done | LoopState::NoGain { .. })
    }

    /// The run that is the loop's result: the last one that no later round failed to improve on. None for the model that it
    /// started from, and before the first round is trained.
    #[must_use]
    pub fn result(&self, spec: &LoopSpec) -> Option<RunId> {
        if let LoopState::NoGain { round } = self.state {
            return spec.before(round);
        }
        let trained = |r: &&RoundProgress| r.runs.training == Some(RunStatus::Finished);
        self.rounds.iter().rev().find(trained).map(|last| spec.training(last.round))
    }
}

/// What the loop's judge says of a pair; of people's verdicts the first that decides.
fn verdict_on(spec: &LoopSpec, session: &Session, pair: &Pair) -> Option<Choice> {
    if let Some(rater) = &spec.rater {
        return session.verdict_of(&pair.id, rater).map(|(_, verdict)| verdict.choice);
    }
    let given = session.counting(&pair.id).into_iter().filter(|(_, verdict)| verdict.rater.is_person());
    given.map(|(_, verdict)| verdict.choice).find(|choice| *choice != Choice::Skip)
}

/// The first thing that is not done. A step counts as done where a later one has begun.
fn next(spec: &LoopSpec, rounds: &[RoundProgress]) -> LoopState {
    for RoundProgress { round, pairs, judged, runs, .. } in rounds {
        let step = |step, status: &Option<RunStatus>| LoopState::Next { round: *round, step, status: status.clone() };
        if runs.training.is_none() {
            if runs.sampling != Some(RunStatus::Finished) {
                return step(LoopStep::Sample, &runs.sampling);
            }
            if *pairs == 0 {
                return step(LoopStep::Pair, &None);
            }
            let left = pairs - judged;
            if left > 0 && spec.asks_people() {
                return LoopState::Waits { round: *round, step: LoopStep::Judge, left };
            }
            if left > 0 && !runs.asked {
                return step(LoopStep::Judge, &None);
            }
        }
        if runs.training != Some(RunStatus::Finished) {
            return step(LoopStep::Train, &runs.training);
        }
        match (&runs.evaluation, &runs.win) {
            (Some(RunStatus::Finished), Some(win)) => {
                if spec.eval_judge == super::loop_spec::PEOPLE && win.unjudged > 0 {
                    return LoopState::Waits { round: *round, step: LoopStep::Evaluate, left: win.unjudged };
                }
                if !win.improves() && !spec.all_rounds {
                    return LoopState::NoGain { round: *round };
                }
            }
            // Nothing was compared: nothing says that it is better.
            (Some(RunStatus::Finished), None) if !spec.all_rounds => return LoopState::NoGain { round: *round },
            (Some(RunStatus::Finished), None) => {}
            (status, _) => return step(LoopStep::Evaluate, status),
        }
    }
    LoopState::Done
}
