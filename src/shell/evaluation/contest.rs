//! Several models against each other: an evaluation for every two, and the ratings that follow from a session's evaluations.
//!
//! Owns who meets whom, on prompts that none of them was trained on, and which earlier evaluation may stand for a planned one.
//! Refuses statistics: [`crate::domain::standings`] has those.

use super::super::error::{Error, Result};
use super::super::inputs::record_checkpoints;
use super::super::supervisor;
use super::{EvalOrder, plan_among, side};
use crate::domain::{
    EvalReport, EvalState, RatedEvaluation, RunStatus, Session, Standings, eval_report, standings, with_people,
};
use crate::protocol::{EvalSpec, RunSpec, Task};
use crate::storage::{DataFile, Home, RunDir, SessionDir};
use std::collections::BTreeSet;

/// The fewest models whose ratings show beside an evaluation.
pub const CONTEST: usize = 3;
/// The most models of one contest.
const MOST: usize = 12;

/// A planned evaluation: its specification, its files, and what it leaves out.
pub type ContestPlan = (RunSpec, Vec<DataFile>, super::EvalNotes);

/// An evaluation for every two of `names`, the later one as a. `order` says the rest.
///
/// # Errors
/// When there are fewer than three models, one comes twice, or an evaluation cannot be planned.
pub fn contest_plans(home: &Home, dir: &SessionDir, names: &[String], order: &EvalOrder) -> Result<Vec<ContestPlan>> {
    if !(CONTEST..=MOST).contains(&names.len()) {
        return Err(Error::Usage(format!(
            "--contest takes {CONTEST} to {MOST} models, the one to measure by first: --contest tiny,sft-1,dpo-1; for two use --a and --b"
        )));
    }
    let mut seen = BTreeSet::new();
    let mut runs = Vec::new();
    for name in names {
        let found = side(home, dir, name, &order.servers)?;
        if !seen.insert(found.name.clone()) {
            return Err(Error::Usage(format!("--contest names {} twice: name each model once", found.name)));
        }
        runs.extend(found.adapter);
    }
    let mut plans = Vec::new();
    for (at, b) in names.iter().enumerate() {
        for a in &names[at + 1..] {
            let order = EvalOrder { a: a.clone(), b: Some(b.clone()), ..order.clone() };
            plans.push(plan_among(home, dir, order, &runs)?);
        }
    }
    Ok(plans)
}

/// The newest evaluation of the session that does what this specification asks: the same contestants with the same checkpoints,
/// the same items, sampling and judges. A failed one does not stand for it.
///
/// # Errors
/// When a log cannot be read, or a contestant has no usable checkpoint.
pub fn same_evaluation(dir: &SessionDir, spec: &RunSpec) -> Result<Option<RunDir>> {
    let Task::Eval(wanted) = &spec.task else { return Ok(None) };
    let checkpoints = record_checkpoints(dir, spec.clone())?.inputs.checkpoints;
    // The specification of a saved session names models from the data folder.
    let portable = dir.portable(spec);
    let Task::Eval(moved) = &portable.task else { return Ok(None) };
    let mut found = None;
    for run in dir.runs()? {
        let known = run.spec()?;
        let Task::Eval(eval) = &known.task else { continue };
        let same = [wanted, moved].into_iter().any(|spec| comparable(spec) == comparable(eval));
        let rendered = known.inputs.chat_template_kwargs == spec.inputs.chat_template_kwargs;
        if same && rendered && known.inputs.checkpoints == checkpoints {
            let status = supervisor::state_of(&run)?.1;
            if !matches!(status, RunStatus::Failed(_)) {
                found = Some(run);
            }
        }
    }
    Ok(found)
}

/// A specification without what says when it was made.
fn comparable(spec: &EvalSpec) -> EvalSpec {
    let mut spec = spec.clone();
    let gates = spec.judges.iter_mut().flat_map(|judge| judge.gate.iter_mut().map(|set| &mut set.data));
    for data in spec.suites.iter_mut().map(|suite| &mut suite.data).chain(gates) {
        data.session_seq = 0;
    }
    spec
}

/// The ratings by every judge and suite of the session's evaluations that compared at least `least` models.
///
/// # Errors
/// When a log cannot be read.
pub fn standings_of(
    dir: &SessionDir,
    session: &Session,
    anchor: Option<&str>,
    least: usize,
    only: Option<&BTreeSet<String>>,
) -> Result<Vec<Standings>> {
    let mut all: Vec<(String, [String; 2], EvalState, EvalReport)> = Vec::new();
    for run in dir.runs()? {
        let Task::Eval(spec) = run.spec()?.task else { continue };
        let id = run.id().into_string();
        if only.is_some_and(|only| !only.contains(&id)) {
            continue;
        }
        let eval = with_people(&supervisor::state_of(&run)?.0.eval, session);
        let report = eval_report(&eval, &[]);
        all.push((id, [spec.a.name, spec.b.name], eval, report));
    }
    let rated: Vec<RatedEvaluation> = all
        .iter()
        .map(|(run, [a, b], eval, report)| RatedEvaluation { run, names: [a, b], eval, judges: report.headlines() })
        .collect();
    Ok(standings(&rated, anchor, least))
}
