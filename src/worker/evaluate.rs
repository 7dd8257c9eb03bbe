//! An evaluation run: its inputs opened, its log as the state it resumes from. Owns that glue; refuses the evaluation itself.

use super::adapters::held;
use super::ask;
use super::drive::{Saving, Work, WorkOutcome};
use super::error::Error;
use super::inputs::{CheckedInputs, check_or_record, dated, newest, recorded_checkpoint};
use super::log::Log;
use super::prepared::Prepared;
use crate::domain::{Contestant, EvalAnswer, EvalState, Finding, Fold64, GatePair, RunId, Severity};
use crate::evaluate::{EvalInputs, Evaluation, GateSetInput, JudgeInputs, JudgingRun, TrainingSuites};
use crate::foreign;
use crate::protocol::{
    CheckpointRole, DataSnapshot, EvalSide, EvalSpec, GateSet, Rendering, RunEvent, RunSpec, TRAINED_PROMPTS, Task,
    TrainSpec,
};
use crate::storage::{self, RunDir, SessionDir, sha256};
use crate::train::PeriodicSuites;
use crate::{model, nn};
use std::collections::BTreeSet;
use std::path::Path;

/// Prepares an evaluation.
pub(super) fn prepare<'a>(run: &'a RunDir, spec: &'a RunSpec, eval: &'a EvalSpec) -> Prepared<'a> {
    let device = nn::device(&spec.device);
    Prepared {
        device: device.as_ref().map_or_else(|_| spec.device.clone(), nn::describe),
        open: Box::new(move |past, _, log| {
            ask::wait(run, log)?;
            let texts = eval.suites.iter().map(|suite| text(run, &suite.data)).collect::<Result<_, Error>>()?;
            let gates = eval.judges.iter().map(|judge| gates(run, &judge.gate)).collect::<Result<_, Error>>()?;
            let bound = check_or_record(run, spec, past, log)?;
            // A judge's single letters are asked for by the worker itself.
            let remote = [&eval.a, &eval.b].iter().any(|side| side.server.is_some());
            let inputs = EvalInputs {
                run: spec.id.clone(),
                spec: eval,
                texts,
                checkpoints: [CheckpointRole::A, CheckpointRole::B]
                    .map(|role| bound.checkpoint(role).map(Path::to_owned)),
                identities: Contestant::BOTH.map(|side| identity(&bound, eval, side)),
                rendering: bound.spec.inputs.rendering(),
                reward_renderings: [reward_rendering(run, &eval.a)?, reward_rendering(run, &eval.b)?],
                trained: trained_prompts(run)?,
                past: logged(run)?,
                known: earlier_answers(run)?,
                judges: JudgeInputs {
                    reward: judging_run(run, &bound, CheckpointRole::Reward)?,
                    implicit: judging_run(run, &bound, CheckpointRole::Implicit)?,
                    warnings: circles(run, eval)?,
                },
                gates,
                asking: if remote { ask::process(run, spec)? } else { None },
                device: device?,
            };
            Ok(Box::new(EvalWork { evaluation: Evaluation::open(inputs)? }))
        }),
    }
}

/// The suites that are measured while a run trains; none for a run without.
pub(super) fn training_suites(run: &RunDir, train: &TrainSpec) -> Result<Option<Box<dyn PeriodicSuites>>, Error> {
    if train.suites.is_empty() {
        return Ok(None);
    }
    let texts: Vec<String> = train.suites.iter().map(|suite| text(run, &suite.data)).collect::<Result<_, Error>>()?;
    let first = run.tail().poll()?.into_iter().find_map(|envelope| match envelope.data {
        Ok(RunEvent::Evaluated { step: 0, metrics }) if metrics.iter().any(|(name, _)| name.starts_with("suite/")) => {
            Some(metrics)
        }
        _ => None,
    });
    Ok(Some(Box::new(TrainingSuites::open(&train.suites, &texts, first)?)))
}

/// A frozen file, checked by hash.
fn text(run: &RunDir, data: &DataSnapshot) -> Result<String, Error> {
    let path = run.path().join(&data.file);
    let wrong = |reason: String| Error::Data { path: path.clone(), reason };
    let bytes = storage::read_file(&path, foreign::ROWS)?;
    if sha256(&bytes) != data.sha256 {
        return Err(wrong("was changed since the run was launched: launch a new run".into()));
    }
    String::from_utf8(bytes).map_err(|e| wrong(format!("is not UTF-8 text: {e}")))
}

/// The pairs on which a judge is measured.
fn gates(run: &RunDir, sets: &[GateSet]) -> Result<Vec<GateSetInput>, Error> {
    let read = |set: &GateSet| {
        let text = text(run, &set.data)?;
        let pair = |(number, line): (usize, &str)| {
            serde_json::from_str::<GatePair>(line).map_err(|e| Error::Data {
                path: run.path().join(&set.data.file),
                reason: format!("line {} is invalid: {e}", number + 1),
            })
        };
        let pairs = text.lines().enumerate().map(pair).collect::<Result<_, Error>>()?;
        Ok(GateSetInput { set: set.set.clone(), pairs })
    };
    sets.iter().map(read).collect()
}

/// Judges that judge their own work: a run that is a contestant, or whose reward a contestant was trained on.
fn circles(run: &RunDir, eval: &EvalSpec) -> Result<Vec<Finding>, Error> {
    let mut out = Vec::new();
    for judge in &eval.judges {
        let Some(own) = judge.run.as_ref().map(|id| id.parts().0) else { continue };
        for side in Contestant::BOTH {
            let named = eval.side(side);
            let Some(how) = circle(run, named.adapter.as_ref(), &own)? else { continue };
            out.push(Finding {
                rule: "judge_in_circle".into(),
                step: 0,
                severity: Severity::Warn,
                text: format!(
                    "{} judges {}, which {how}: a higher number may be reward hacking.",
                    judge.name(),
                    named.name
                ),
                remedy: "Have people judge held-out prompts: --judge human.".into(),
                pair: None,
            });
        }
    }
    Ok(out)
}

/// How a contestant's run, or one that it started from, depends on the judging run; none where it does not.
fn circle(run: &RunDir, contestant: Option<&RunId>, judge: &RunId) -> Result<Option<&'static str>, Error> {
    let mut next = contestant.map(|id| id.parts().0);
    let mut seen = std::collections::BTreeSet::new();
    while let Some(id) = next {
        if id == *judge {
            return Ok(Some("is that run or started from it"));
        }
        if !seen.insert(id.clone()) {
            break;
        }
        let Task::Train(train) = run.sibling(&id)?.spec()?.task else { break };
        if train.reward.as_ref().is_some_and(|reward| reward.parts().0 == *judge) {
            return Ok(Some("was trained on its reward"));
        }
        next = train.init.map(|id| id.parts().0);
    }
    Ok(None)
}

/// What the template of a contestant that is a reward run renders besides conversations; none for others.
fn reward_rendering(run: &RunDir, side: &EvalSide) -> Result<Option<Rendering>, Error> {
    let Some(id) = &side.adapter else { return Ok(None) };
    let trained = run.sibling(&id.parts().0)?;
    let spec = dated(&trained, trained.resolved_spec()?)?;
    Ok(match spec.task {
        Task::Train(train) if train.method == "reward" => Some(spec.inputs.rendering()),
        _ => None,
    })
}

/// What the contestants were trained on, as hashes, a line each; nothing for a run of an older version.
fn trained_prompts(run: &RunDir) -> Result<BTreeSet<String>, Error> {
    let path = run.path().join(TRAINED_PROMPTS);
    if !path.exists() {
        return Ok(BTreeSet::new());
    }
    Ok(storage::read_text_file(&path, foreign::ROWS)?.lines().map(str::to_owned).collect())
}

/// What a contestant's answers depend on besides prompt and sampling.
fn identity(bound: &CheckedInputs, eval: &EvalSpec, side: Contestant) -> String {
    let role = match side {
        Contestant::A => CheckpointRole::A,
        Contestant::B => CheckpointRole::B,
    };
    let mut h = Fold64::default();
    if let Some(model) = &eval.side(side).model
        && let Some(digest) = bound.model_identity(Path::new(&model.path))
    {
        h.add(digest.as_bytes());
    }
    if let Some(server) = &eval.side(side).server
        && let Some(input) = bound.spec.inputs.server(&server.url, &server.model)
    {
        h.add(input.identity().as_bytes());
    }
    if let Some(checkpoint) = bound.spec.inputs.checkpoint(role) {
        h.add(checkpoint.digest.as_bytes());
    }
    let variables = &bound.spec.inputs.chat_template_kwargs;
    if !variables.is_empty() {
        h.add(serde_json::Value::Object(variables.clone()).to_string().as_bytes());
    }
    h.hex()
}

/// What the run's own log has.
fn logged(run: &RunDir) -> Result<EvalState, Error> {
    let mut state = EvalState::default();
    for envelope in run.tail().poll()? {
        match envelope.data {
            Ok(RunEvent::EvalAnswered(answer)) => state.answer(*answer),
            Ok(RunEvent::Measured(measurement)) => state.measure(measurement),
            Ok(RunEvent::Compared(comparison)) => state.compare(comparison),
            Ok(RunEvent::Posed(posed)) => state.pose(*posed),
            _ => {}
        }
    }
    Ok(state)
}

/// The answers of the session's other evaluations. One whose log cannot be read is not reused.
fn earlier_answers(run: &RunDir) -> Result<Vec<EvalAnswer>, Error> {
    let mut out = Vec::new();
    for other in SessionDir::open(run.session_path())?.runs()? {
        let evaluates = other.spec().is_ok_and(|spec| matches!(spec.task, Task::Eval(_)));
        if !evaluates || other.id() == run.id() {
            continue;
        }
        let Ok(records) = other.tail().poll() else { continue };
        out.extend(records.into_iter().filter_map(|envelope| match envelope.data {
            Ok(RunEvent::EvalAnswered(answer)) => Some(*answer),
            _ => None,
        }));
    }
    Ok(out)
}

/// A run that judges, with the checkpoint that this run holds of it.
fn judging_run(run: &RunDir, bound: &CheckedInputs, role: CheckpointRole) -> Result<Option<JudgingRun>, Error> {
    let Some(checkpoint) = bound.checkpoint(role) else { return Ok(None) };
    let Some((_, id)) = bound.spec.parents().into_iter().find(|(own, _)| *own == role) else { return Ok(None) };
    let judge = run.sibling(&id.parts().0)?;
    let spec = dated(&judge, judge.resolved_spec()?)?;
    let rendering = spec.inputs.rendering();
    let Task::Train(train) = spec.task else { return Err(Error::NotTraining(id.to_string())) };
    let recorded = judge.recorded_inputs()?.unwrap_or(spec.inputs);
    let init = match (recorded.checkpoint(CheckpointRole::Init), &train.init) {
        (Some(input), _) => Some(recorded_checkpoint(&judge, input)?),
        (None, Some(parent)) => Some(newest(&judge, parent)?.path),
        (None, None) => held(&judge, &train),
    };
    Ok(Some(JudgingRun { spec: train, checkpoint: checkpoint.to_owned(), init, rendering }))
}

/// An evaluation run. It resumes from its log.
struct EvalWork {
    evaluation: Evaluation,
}

impl Work for EvalWork {
    fn step(&mut self, log: &mut Log) -> Result<WorkOutcome, model::Error> {
        Ok(if self.evaluation.next(log)? { WorkOutcome::Stepped } else { WorkOutcome::Done })
    }

    fn done(&self) -> u64 {
        self.evaluation.done()
    }

    fn save(&mut self, _dir: &Path) -> Result<(), model::Error> {
        Ok(())
    }

    fn saving(&self) -> Option<Saving> {
        None
    }

    fn state_hash(&mut self) -> Result<String, Error> {
        Ok(self.evaluation.state().result_hash())
    }
}
