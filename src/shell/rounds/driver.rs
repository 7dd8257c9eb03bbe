//! The process of a loop: derives the next step, does it, and again, until the loop ends or waits for people.
//!
//! Owns the loop's lock, so that there is one such process. It keeps nothing in memory that is not derived again by the next one,
//! but that a judge was asked for every pair. Refuses to append to a log whose lock another process holds: it puts what it has
//! into the inbox and waits until it is taken.

use super::super::error::{Error, Result};
use super::super::plan::check_whole;
use super::super::{out, servers, supervisor};
use super::delivery::{deliver, settle};
use super::follow::{LoopControl, follow};
use super::planning::find;
use super::words::LoopEnd;
use super::{judging, steps};
use crate::domain::{
    LOST_WORKER, LoopProgress, LoopSpec, LoopState, LoopStep, RoundProgress, RoundRuns, RoundWin, RunId, RunStatus,
    Session, counted, eval_report, with_people,
};
use crate::protocol::SessionRecord;
use crate::storage::{Home, Inbox, LoopFolder, RunDir, SessionDir};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Time between two looks for people's verdicts.
const PEOPLE_WAIT: Duration = Duration::from_secs(2);
/// How often a run that was lost is resumed by one process.
const RESUMES: u32 = 3;

/// Hears what a loop does.
pub trait LoopReporter {
    /// A step of a round is done; `said` is what came of it.
    ///
    /// # Errors
    /// When it cannot be said: the loop ends.
    fn step(&mut self, round: u32, step: LoopStep, run: Option<&RunId>, said: &str) -> Result<()>;
    /// A round is done.
    ///
    /// # Errors
    /// When it cannot be said: the loop ends.
    fn round(&mut self, round: &RoundProgress) -> Result<()>;
}

/// Where a loop stands now. `asked` are the rounds whose judge was asked for every pair.
///
/// # Errors
/// When a log cannot be read.
pub fn progress(dir: &SessionDir, spec: &LoopSpec, session: &Session, asked: &BTreeSet<u32>) -> Result<LoopProgress> {
    let mut all = Vec::new();
    for round in 1..=spec.rounds {
        let runs = runs_of(dir, spec, round, session, asked.contains(&round))?;
        let begun = runs.sampling.is_some();
        all.push(runs);
        if !begun {
            break;
        }
    }
    Ok(LoopProgress::of(spec, session, &all))
}

fn runs_of(dir: &SessionDir, spec: &LoopSpec, round: u32, session: &Session, asked: bool) -> Result<RoundRuns> {
    let status = |id: RunId| -> Result<Option<RunStatus>> {
        existing(dir, &id)?.map(|run| supervisor::state_of(&run).map(|(_, status)| status)).transpose()
    };
    let mut out = RoundRuns {
        sampling: status(spec.sampling(round))?,
        training: status(spec.training(round))?,
        asked,
        ..RoundRuns::default()
    };
    if let Some(run) = existing(dir, &spec.evaluation(round))? {
        let (state, status) = supervisor::state_of(&run)?;
        if status == RunStatus::Finished {
            out.win = RoundWin::of(&eval_report(&with_people(&state.eval, session), &[]));
        }
        out.evaluation = Some(status);
    }
    Ok(out)
}

/// The run of that id; none where there is none.
fn existing(dir: &SessionDir, id: &RunId) -> Result<Option<RunDir>> {
    let path = dir.path().join("runs").join(id.as_str());
    if path.join("spec.json").is_file() { Ok(Some(RunDir::open(&path)?)) } else { Ok(None) }
}

/// Does what is left of a loop. With `wait` it waits for people instead of ending.
///
/// # Errors
/// When another process does, a step fails, or a log cannot be read or written. What was done before counts.
pub fn drive(
    home: &Home,
    dir: &SessionDir,
    name: &str,
    key_envs: &[String],
    wait: bool,
    reporter: &mut dyn LoopReporter,
) -> Result<(LoopSpec, LoopProgress, LoopEnd)> {
    if Inbox::of(dir).waiting_from(name)?.is_empty() {
        // Nothing is made for a loop that does not exist.
        find(dir, name)?;
    }
    let folder = LoopFolder::of(dir, name);
    let Some(_lock) = folder.lock()? else {
        let holder = folder.holder().map_or_else(|| "another process".into(), |holder| holder.to_string());
        return Err(Error::failed(format!(
            "{name} is running already ({holder}): stop it with `tiebreak stop {}/{name}`, or watch it with `tiebreak watch {}`",
            dir.name(),
            dir.name()
        )));
    };
    let mut control = LoopControl::new(folder)?;
    let early = |error: Error, control: &LoopControl| match error {
        Error::Superseded if control.is_interrupted() => Ok(LoopEnd::Interrupted),
        Error::Superseded => Ok(LoopEnd::Stopped),
        error => Err(error),
    };
    // What an earlier process has handed over comes first: it may hold the plan.
    if let Err(error) = settle(dir, name, &mut control) {
        let end = early(error, &control)?;
        let spec = find(dir, name)?;
        let found = progress(dir, &spec, &dir.state()?.0, &BTreeSet::new())?;
        return Ok((spec, found, end));
    }
    let spec = find(dir, name)?;
    let mut driver = Driver { home, dir, spec: &spec, key_envs, asked: BTreeSet::new(), resumed: BTreeMap::new() };
    let mut told = 0;
    let end = loop {
        let (session, integrity) = dir.state()?;
        check_whole(&dir.name(), &integrity, "loop")?;
        let found = progress(dir, &spec, &session, &driver.asked)?;
        for round in found.rounds.iter().filter(|round| is_over(round, &found.state)) {
            if round.round > told {
                reporter.round(round)?;
                told = round.round;
            }
        }
        let done = match &found.state {
            LoopState::Next { round, step, status } => {
                driver.step(*round, *step, status.as_ref(), &session, &mut control, reporter)
            }
            LoopState::Waits { .. } if wait => control.check().map(|()| std::thread::sleep(PEOPLE_WAIT)),
            _ => break LoopEnd::of(&found),
        };
        if let Err(error) = done.and_then(|()| control.check()) {
            break early(error, &control)?;
        }
    };
    let found = progress(dir, &spec, &dir.state()?.0, &driver.asked)?;
    Ok((spec, found, end))
}

/// Whether a round has nothing left to do.
fn is_over(round: &RoundProgress, state: &LoopState) -> bool {
    match state {
        LoopState::Next { round: at, .. } | LoopState::Waits { round: at, .. } => round.round < *at,
        LoopState::Done | LoopState::NoGain { .. } => true,
    }
}

struct Driver<'a> {
    home: &'a Home,
    dir: &'a SessionDir,
    spec: &'a LoopSpec,
    key_envs: &'a [String],
    asked: BTreeSet<u32>,
    resumed: BTreeMap<RunId, u32>,
}

impl Driver<'_> {
    fn step(
        &mut self,
        round: u32,
        step: LoopStep,
        status: Option<&RunStatus>,
        session: &Session,
        control: &mut LoopControl,
        reporter: &mut dyn LoopReporter,
    ) -> Result<()> {
        let (home, dir, spec) = (self.home, self.dir, self.spec);
        match step {
            LoopStep::Sample => {
                let run =
                    self.run(&spec.sampling(round), status, |_| steps::sample(home, dir, spec, round, session))?;
                if self.finish(&run, control)? {
                    let said = steps::sampled(&dir.state()?.0, spec, round);
                    reporter.step(round, step, Some(&run.id()), &said)?;
                }
            }
            LoopStep::Pair => {
                let session = match spec.score.as_deref().filter(|word| is_run(word)) {
                    None => session.clone(),
                    Some(run) => {
                        judging::score(home, dir, spec, round, run, control)?;
                        dir.state()?.0
                    }
                };
                let (pairs, said) = steps::pair(dir, spec, round, &session)?;
                let records: Vec<SessionRecord> =
                    pairs.into_iter().map(|pair| SessionRecord::Paired(pair.into())).collect();
                deliver(dir, &spec.name, &records, control)?;
                reporter.step(round, step, None, &said)?;
            }
            LoopStep::Judge => {
                let said = judging::judge(home, dir, spec, round, self.key_envs, control)?;
                self.asked.insert(round);
                reporter.step(round, step, None, &said)?;
            }
            LoopStep::Train => {
                let run = self.run(&spec.training(round), status, |_| steps::train(home, dir, spec, round, session))?;
                if self.finish(&run, control)? {
                    let (state, _) = supervisor::state_of(&run)?;
                    let rows = state.plan.as_ref().map_or(0, |plan| plan.train_rows);
                    let said = format!("{} on {}, {}", spec.method, counted(rows, "row"), counted(state.step, "step"));
                    reporter.step(round, step, Some(&run.id()), &said)?;
                }
            }
            LoopStep::Evaluate => {
                let keys = self.key_envs;
                let run = self.run(&spec.evaluation(round), status, |_| {
                    let (run, notes) = steps::evaluate(home, dir, spec, round, session, keys)?;
                    for note in &notes {
                        out::note(note);
                    }
                    Ok(run)
                })?;
                if self.finish(&run, control)? {
                    let state = supervisor::state_of(&run)?.0;
                    let win = RoundWin::of(&eval_report(&with_people(&state.eval, &dir.state()?.0), &[]));
                    let said = win.map_or_else(
                        || "nothing could be compared".to_owned(),
                        |win| format!("win rate {}", win.numbers()),
                    );
                    reporter.step(round, step, Some(&run.id()), &said)?;
                }
            }
        }
        Ok(())
    }

    /// The run of a step: launched, found alive, or resumed where it broke off.
    fn run(
        &mut self,
        id: &RunId,
        status: Option<&RunStatus>,
        launch: impl FnOnce(&Self) -> Result<RunDir>,
    ) -> Result<RunDir> {
        let Some(status) = status else { return launch(self) };
        let run = self.dir.run(id)?;
        if run.is_alive() || *status == RunStatus::Finished {
            return Ok(run);
        }
        let before = self.resumed.entry(id.clone()).or_default();
        *before += 1;
        if *before > RESUMES {
            return Err(Error::failed(format!(
                "run {id} was lost {RESUMES} times: each time {LOST_WORKER}; see {}",
                run.worker_log().display()
            )));
        }
        servers::check_keys(self.home, &run)?;
        match supervisor::resume(&run) {
            // It may have started or ended in between.
            Err(_) if run.is_alive() => Ok(run),
            Err(error) => Err(error),
            Ok(()) => Ok(run),
        }
    }

    /// Follows a run. Whether it finished; a lost one is resumed by the next step.
    fn finish(&self, run: &RunDir, control: &mut LoopControl) -> Result<bool> {
        let (id, name) = (run.id(), &self.spec.name);
        match follow(run, &format!("{}/{id}", self.dir.name()), control)? {
            Some(RunStatus::Finished) => Ok(true),
            Some(RunStatus::Failed(why)) => Err(Error::failed(format!(
                "{name} ends: run {id} failed: {why}; mend that, then go on with `tiebreak loop {} --resume {name}`",
                self.dir.name()
            ))),
            Some(RunStatus::Stopped) => {
                if control.is_stopped()? {
                    return Err(Error::Superseded);
                }
                Err(Error::failed(format!(
                    "{name} ends: its run {id} was stopped; go on with `tiebreak loop {} --resume {name}`",
                    self.dir.name()
                )))
            }
            Some(_) => Ok(false),
            None => Err(Error::Superseded),
        }
    }
}

/// Whether a source of scores is a run of the session.
fn is_run(word: &str) -> bool {
    !matches!(word, "length" | "logprob") && !word.contains(':')
}
