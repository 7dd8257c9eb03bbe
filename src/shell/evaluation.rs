//! Plans an evaluation: contestants, suites with copies of their files, judges, and the prompts that are held out.
//!
//! The evaluate screen and the command `eval` both use it, so that both make the same runs. Owns the look-up of names and the
//! rule that a prompt that a contestant was trained on is left out of a win rate. Refuses to read suites: the worker does.

use super::error::{Error, Result};
use super::plan::{new_spec, trained};
use super::suite_folder::suite_folder;
use super::suites::{named, suite_file};
use super::{models, servers, supervisor};
use crate::domain::{
    JsonFields, JudgeOperand, Prompt, PromptBody, PromptId, RunId, Sampler, SuiteRow, counted, eval_report, hint,
    judges, suite, suites, with_people,
};
use crate::protocol::{
    DataSnapshot, EvalSide, EvalSpec, JudgeSpec, ModelRef, RunSpec, ServerOptions, ServerRef, SuiteSpec,
    TRAINED_PROMPTS, Task,
};
use crate::storage::formats::recognise;
use crate::storage::import::{self, ImportedRows};
use crate::storage::{DataFile, Home, SessionDir, sha256};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

mod contest;
mod gates;
mod trained;

pub use contest::{CONTEST, contest_plans, same_evaluation, standings_of};
pub use trained::EvalNotes;
use trained::trained_prompts;

/// The request for an evaluation.
#[derive(Debug, Clone)]
pub struct EvalOrder {
    /// The model in question: a run, a model, or a server's model.
    pub a: String,
    /// What it is compared with; none for the model that `a` was trained on.
    pub b: Option<String>,
    /// Suites by name, or files of a user's own suite; empty for `winrate`.
    pub suites: Vec<String>,
    /// Judges by name and operand.
    pub judges: Vec<String>,
    /// A file of prompts in place of the session's.
    pub prompts: Option<PathBuf>,
    /// The folder of the suites' files.
    pub data: Option<PathBuf>,
    /// The most items of each suite.
    pub limit: Option<usize>,
    /// How often each prompt is answered.
    pub seeds: u32,
    /// How answers are drawn; `max_new_tokens` 0 for each suite's own.
    pub sampler: Sampler,
    /// How servers are asked.
    pub servers: ServerOptions,
    /// Variables of the chat templates.
    pub variables: JsonFields,
    /// What computes.
    pub device: String,
    /// The last record of the session's log that counts; none takes all.
    pub upto: Option<u64>,
}

/// The specification of an evaluation and copies of its files.
///
/// # Errors
/// When a name is unknown, a file is missing, or no prompt is held out.
pub fn plan(home: &Home, dir: &SessionDir, order: EvalOrder) -> Result<(RunSpec, Vec<DataFile>, EvalNotes)> {
    plan_with(home, dir, order, &[], None)
}

/// An evaluation as a round of a loop wants it.
#[derive(Debug)]
pub struct RoundEvaluation<'a> {
    /// Its name.
    pub id: RunId,
    /// The prompts that the loop holds out.
    pub prompts: &'a [Arc<Prompt>],
}

/// As [`plan`]; a round of a loop is compared on the loop's held-out prompts.
///
/// # Errors
/// As [`plan`].
pub fn plan_on(
    home: &Home,
    dir: &SessionDir,
    order: EvalOrder,
    round: RoundEvaluation<'_>,
) -> Result<(RunSpec, Vec<DataFile>, EvalNotes)> {
    plan_with(home, dir, order, &[], Some(round))
}

/// As [`plan`], on prompts that these runs were not trained on either.
fn plan_among(
    home: &Home,
    dir: &SessionDir,
    order: EvalOrder,
    others: &[RunId],
) -> Result<(RunSpec, Vec<DataFile>, EvalNotes)> {
    plan_with(home, dir, order, others, None)
}

fn plan_with(
    home: &Home,
    dir: &SessionDir,
    order: EvalOrder,
    others: &[RunId],
    round: Option<RoundEvaluation<'_>>,
) -> Result<(RunSpec, Vec<DataFile>, EvalNotes)> {
    if order.seeds > 1 && order.sampler.temperature == 0.0 {
        return Err(Error::Usage(format!(
            "--seeds {} needs a temperature above 0: greedy answers are the same for every seed",
            order.seeds
        )));
    }
    let (session, _, seq) = dir.snapshot(order.upto)?;
    let a = side(home, dir, &order.a, &order.servers)?;
    let b = match &order.b {
        Some(name) => side(home, dir, name, &order.servers)?,
        None => base_of(home, dir, &a)?,
    };
    if (&a.model, &a.adapter, &a.server) == (&b.model, &b.adapter, &b.server) && order.b.is_none() {
        return Err(Error::Usage(format!(
            "{} would be compared with itself: name another model to compare it with",
            a.name
        )));
    }
    let mut notes = EvalNotes::default();
    let mut files = Vec::new();
    let mut specs = Vec::new();
    let names = if order.suites.is_empty() { vec!["winrate".to_owned()] } else { order.suites.clone() };
    let runs = [&a, &b].into_iter().filter_map(|side| side.adapter.clone());
    let trained = trained_prompts(dir, runs.chain(others.iter().cloned()).collect())?;
    for name in &names {
        let (row, own) = named(name)?;
        takes(dir, row, &a)?;
        takes(dir, row, &b)?;
        let (bytes, file, rows) = if row.takes_prompts() {
            let prompts = match (&order.prompts, &round) {
                (Some(path), _) => read_prompts(path)?,
                (None, Some(round)) => round.prompts.iter().map(|prompt| (**prompt).clone()).collect(),
                (None, None) => session.prompts().iter().map(|prompt| (**prompt).clone()).collect(),
            };
            let from =
                order.prompts.as_ref().map_or_else(|| format!("session {}", dir.name()), |p| p.display().to_string());
            let prompts = held_out(prompts, &trained.ids, &from, &mut notes)?;
            let mut bytes = Vec::new();
            for prompt in &prompts {
                serde_json::to_writer(&mut bytes, prompt).map_err(|e| Error::bug("write a prompt as JSON", e))?;
                bytes.push(b'\n');
            }
            (bytes, from, prompts.len())
        } else {
            let path = own.map_or_else(|| suite_file(home, row, order.data.as_deref()), Ok)?;
            let bytes = crate::storage::read_file(&path, crate::foreign::ROWS)?;
            let rows = memchr::memchr_iter(b'\n', &bytes).count();
            (bytes, path.display().to_string(), rows)
        };
        let frozen = format!("suite-{}.dat", specs.len() + 1);
        let data = DataSnapshot { file: frozen.clone(), sha256: sha256(&bytes), rows, session_seq: seq };
        files.push(DataFile { name: frozen, bytes });
        let max_new_tokens =
            if order.sampler.max_new_tokens > 0 { order.sampler.max_new_tokens } else { row.max_new_tokens };
        let sampler = Sampler { max_new_tokens, ..order.sampler };
        specs.push(SuiteSpec { name: row.name.into(), data, file, sampler, limit: order.limit });
    }
    if !trained.asked.is_empty() {
        let bytes = trained.asked.iter().flat_map(|hash| [hash, "\n"]).collect::<String>().into_bytes();
        files.push(DataFile { name: TRAINED_PROMPTS.into(), bytes });
    }
    let mut judges: Vec<JudgeSpec> =
        order.judges.iter().map(|word| judge(home, dir, word, &order.servers)).collect::<Result<_>>()?;
    gates::check_judges(&judges)?;
    gates::check_suites(&specs, [&a, &b])?;
    let own = suite_folder(home, None);
    let data = order.data.as_deref().or_else(|| Some(own.as_path()).filter(|folder| folder.is_dir()));
    gates::measure(dir, &session, seq, &mut judges, data, &mut files, &mut notes)?;
    let judged = specs.iter().any(|spec| suite(&spec.name).is_some_and(|row| row.judged));
    if let (Some(judge), false) = (order.judges.first(), judged) {
        return Err(Error::Usage(format!(
            "--judge {judge} has nothing to compare: add a suite with answers to compare, such as --suite winrate"
        )));
    }
    let servers: Vec<ServerRef> = [&a, &b]
        .into_iter()
        .filter_map(|side| side.server.clone())
        .chain(judges.iter().filter_map(|j| j.server.clone()))
        .collect();
    servers::remember_keys(home, &servers)?;
    let task = Task::Eval(EvalSpec { a, b, suites: specs, judges, seeds: order.seeds });
    let id = round.map_or_else(|| dir.next_run_id("eval"), |round| Ok(round.id))?;
    let mut spec = new_spec(id, task, order.device);
    spec.inputs.chat_template_kwargs = order.variables;
    Ok((spec, files, notes))
}

/// A contestant by its name: a run of the session, a model, or a server's model.
fn side(home: &Home, dir: &SessionDir, name: &str, options: &ServerOptions) -> Result<EvalSide> {
    if ServerRef::is_address(name) {
        let server = servers::find(&[&name.to_owned()], options)?.pop();
        return Ok(EvalSide { name: name.to_owned(), model: None, adapter: None, server });
    }
    let id = RunId::new(name);
    if dir.runs()?.iter().any(|run| run.id() == id.parts().0) {
        let run = trained(dir, &id)?;
        return Ok(EvalSide { name: name.to_owned(), model: Some(run.model), adapter: Some(id), server: None });
    }
    let model = models::find(home, name).map_err(|e| match e {
        Error::Failed(why) => Error::failed(format!("{why}; session {} has no run of that name either", dir.name())),
        other => other,
    })?;
    Ok(EvalSide { name: model.name.clone(), model: Some(model), adapter: None, server: None })
}

/// Refuses a contestant that cannot give what the suite asks for.
fn takes(dir: &SessionDir, row: &SuiteRow, side: &EvalSide) -> Result<()> {
    if side.server.is_some() && row.scores_texts() {
        return Err(Error::failed(format!(
            "the suite {} reads log-probs of given texts, which {} behind a server does not give: name a model on this machine, \
             or leave out the suite",
            row.name, side.name
        )));
    }
    match &side.adapter {
        Some(id) if !row.takes_rewards() => trained(dir, id)?.check_policy("eval").map_err(|e| match e {
            Error::Failed(why) => Error::failed(format!("{why}, or only suites that take rewards: {}", rewarding())),
            other => other,
        }),
        _ => Ok(()),
    }
}

/// The suites that take rewards.
fn rewarding() -> String {
    suites().iter().filter(|row| row.takes_rewards()).map(|row| row.name).collect::<Vec<_>>().join(", ")
}

/// The model that a run was trained on; otherwise the session's.
fn base_of(home: &Home, dir: &SessionDir, a: &EvalSide) -> Result<EvalSide> {
    let model: ModelRef = match (&a.model, &a.adapter) {
        (Some(model), Some(_)) => model.clone(),
        _ => models::find(home, &dir.meta()?.model)?,
    };
    Ok(EvalSide { name: model.name.clone(), model: Some(model), adapter: None, server: None })
}

/// The judge named by `KIND` or `KIND:OPERAND`.
///
/// # Errors
/// When there is none of that name, or its operand is missing or unusable.
pub fn judge(home: &Home, dir: &SessionDir, word: &str, options: &ServerOptions) -> Result<JudgeSpec> {
    let (kind, operand) = word.split_once(':').map_or((word, None), |(kind, operand)| (kind, Some(operand)));
    let rows = judges();
    let names: Vec<&str> = rows.iter().map(|row| row.name).collect();
    let Some(row) = rows.iter().find(|row| row.name == kind) else {
        return Err(Error::Usage(format!(
            "`{kind}` is not a judge{}; the judges are {}",
            hint(kind, names.iter().copied()),
            names.join(", ")
        )));
    };
    let mut spec =
        JudgeSpec { kind: kind.into(), run: None, model: None, server: None, checks: None, gate: Vec::new() };
    let needs = |what: &str, example: &str| {
        Err(Error::Usage(format!("the judge {kind} needs {what}: write --judge {kind}:{example}")))
    };
    match (row.takes, operand) {
        (JudgeOperand::None, None) => {}
        (JudgeOperand::None, Some(_)) => {
            return Err(Error::Usage(format!("the judge {kind} takes nothing after a colon: write --judge {kind}")));
        }
        (JudgeOperand::Run, None) => return needs("a run", "RUN"),
        (JudgeOperand::Model, None) => return needs("a model", "MODEL"),
        (JudgeOperand::Checks, None) => return needs("checks", "\"contains=please;max_words=40\""),
        (JudgeOperand::Run, Some(run)) => {
            let run = trained(dir, &RunId::new(run))?;
            spec.run = Some(if kind == "reward" { run.check_reward()? } else { run.check_scores()? });
        }
        (JudgeOperand::Model, Some(name)) if ServerRef::is_address(name) => {
            spec.server = servers::find(&[&name.to_owned()], options)?.pop();
        }
        (JudgeOperand::Model, Some(name)) => spec.model = Some(models::find(home, name)?),
        (JudgeOperand::Checks, Some(checks)) => {
            crate::domain::Checks::parse(checks).map_err(|e| Error::Usage(format!("--judge {kind}: {e}")))?;
            spec.checks = Some(checks.to_owned());
        }
    }
    Ok(spec)
}

/// The prompts of a file.
fn read_prompts(path: &Path) -> Result<Vec<Prompt>> {
    let format = recognise(path)?;
    let source = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let imported = import::read(path, format, None)?;
    let bodies = match imported.rows {
        ImportedRows::Prompts(rows) => rows.into_iter().map(|row| (row.body, row.tags)).collect(),
        ImportedRows::Pairs(rows) => rows.into_iter().map(|row| (row.prompt, row.tags)).collect(),
        ImportedRows::Votes(rows) => rows.into_iter().map(|row| (row.prompt, row.tags)).collect(),
        ImportedRows::Ratings(rows) => rows.into_iter().map(|row| (row.prompt, Vec::new())).collect(),
        ImportedRows::Texts(_, rows) => rows.into_iter().map(|row| (row.prompt(), Vec::new())).collect::<Vec<_>>(),
    };
    let mut seen = BTreeSet::new();
    let prompt = |(body, tags): (PromptBody, Vec<String>)| {
        let id = body.derived_id();
        seen.insert(id.clone()).then(|| Prompt { id, body, source: source.as_str().into(), tags: tags.into() })
    };
    Ok(bodies.into_iter().filter_map(prompt).collect())
}

/// The prompts that no contestant was trained on.
fn held_out(
    prompts: Vec<Prompt>,
    trained: &BTreeSet<PromptId>,
    from: &str,
    notes: &mut EvalNotes,
) -> Result<Vec<Prompt>> {
    let all = prompts.len();
    if all == 0 {
        return Err(Error::failed(format!("{from} has no prompts: name a file of them with --prompts")));
    }
    let kept: Vec<Prompt> = prompts.into_iter().filter(|prompt| !trained.contains(&prompt.body.derived_id())).collect();
    if kept.is_empty() {
        return Err(Error::failed(format!(
            "a contestant was trained on every prompt of {from}: name unseen ones with --prompts FILE"
        )));
    }
    if kept.len() < all {
        notes.0.push(format!(
            "{} of {from} left out: a contestant was trained on them",
            counted(all - kept.len(), "prompt")
        ));
    }
    Ok(kept)
}

/// The uncorrected p-values of the session's other evaluations.
///
/// # Errors
/// When the folder of runs cannot be listed.
pub fn others(dir: &SessionDir, id: &RunId) -> Result<Vec<f64>> {
    let mut out = Vec::new();
    for run in dir.runs()? {
        let evaluates = run.spec().is_ok_and(|spec| matches!(spec.task, Task::Eval(_)));
        if evaluates && run.id() != *id {
            let mut eval = supervisor::state_of(&run)?.0.eval;
            if eval.posed().next().is_some() {
                eval = with_people(&eval, &dir.state()?.0);
            }
            out.extend(eval_report(&eval, &[]).p_values());
        }
    }
    Ok(out)
}
