//! `report`: exports a session or a run: a picture of a screen, a page, a table, or data.
//!
//! Owns the formats; the picture is `picture.rs`'s. Text that a model wrote is sanitised here as everywhere.

use super::super::cli::ReportArgs;
use super::super::error::{Error, Result};
use super::super::evaluation::{CONTEST, others, standings_of};
use super::super::{out, report, supervisor};
use super::context::CommandContext;
use super::picture::picture;
use crate::domain::{
    Metrics, Outcome, RunId, RunState, RunStatus, Session, eval_report, shown_json, table_cell, with_people,
};
use crate::protocol::{Envelope, RunEvent, RunSpec, Task};
use crate::storage::{Home, RunDir, SessionDir};
use serde_json::{Value, json};
use std::path::Path;

/// Writes the report.
pub fn run(context: &CommandContext, args: &ReportArgs) -> Result<()> {
    let (dir, run) = target(&context.home, &args.target)?;
    let ending = args.to.extension().and_then(|e| e.to_str());
    // A page of text suits standard output best.
    let format = if args.to == Path::new("-") { "md".into() } else { ending.unwrap_or_default().to_ascii_lowercase() };
    let text = match format.as_str() {
        "svg" => picture(&context.home, &dir, run.as_ref(), args)?,
        "html" => page(&context.home, &dir, run.as_ref(), args)?,
        "md" => report::markdown(&report::document(&dir, run.as_ref())?),
        "csv" => table(&dir, run.as_ref())?,
        "json" => shown_json(format!("{:#}\n", data(&dir, run.as_ref())?)),
        _ => {
            return Err(Error::Usage(format!(
                "{} is not a report format: use .svg, .html, .md, .csv or .json, or - for Markdown on standard output",
                args.to.display()
            )));
        }
    };
    let free = out::result(&args.to, text.as_bytes())?;
    let object = context.json.then(|| json!({ "file": args.to, "bytes": text.len() }));
    out::about(free, &format!("wrote {} ({} bytes)", args.to.display(), text.len()), object.as_ref())
}

/// The session, and the run if one is named.
fn target(home: &Home, text: &str) -> Result<(SessionDir, Option<RunDir>)> {
    match (SessionDir::find(home, text), text.trim_end_matches('/').rsplit_once('/')) {
        (Ok(dir), _) => Ok((dir, None)),
        (Err(_), Some((session, run))) => {
            let dir = SessionDir::find(home, session)?;
            let run = dir.run(&RunId::new(run))?;
            Ok((dir, Some(run)))
        }
        (Err(error), None) => Err(error.into()),
    }
}

/// The run asked for, or the session's last training run.
fn chosen(dir: &SessionDir, run: Option<&RunDir>) -> Result<Option<RunDir>> {
    if let Some(run) = run {
        return Ok(Some(dir.run(&run.id())?));
    }
    let mut last = None;
    for run in dir.runs()? {
        if matches!(run.spec()?.task, Task::Train(_)) {
            last = Some(run);
        }
    }
    Ok(last)
}

/// The metrics of a run, one line a step, without the steps that a resumed attempt replaced.
fn table(dir: &SessionDir, run: Option<&RunDir>) -> Result<String> {
    let Some(run) = chosen(dir, run)? else {
        return Err(Error::failed(format!("session {} has no training run whose metrics could be listed", dir.name())));
    };
    if matches!(run.spec()?.task, Task::Eval(_)) {
        return items(&run);
    }
    let events: Vec<Envelope<RunEvent>> = run.tail().poll()?;
    let mut steps: Vec<(u64, f64, Metrics)> = Vec::new();
    for event in events.iter().filter_map(Envelope::known) {
        match event {
            RunEvent::Started { from_step: Some(from), .. } => steps.retain(|(step, ..)| *step <= *from),
            RunEvent::Stepped { step, epoch, metrics } => steps.push((*step, *epoch, metrics.clone())),
            _ => {}
        }
    }
    let mut names: Vec<String> = Vec::new();
    for (name, _) in steps.iter().flat_map(|(_, _, m)| m.iter()) {
        if !names.iter().any(|n| n == name) {
            names.push(name.to_owned());
        }
    }
    let rows = steps.iter().map(|(step, epoch, metrics)| {
        let values = names.iter().map(|name| metrics.get(name).map_or_else(String::new, |value| value.to_string()));
        [step.to_string(), epoch.to_string()].into_iter().chain(values).collect()
    });
    let head = ["step", "epoch"].map(str::to_owned).into_iter().chain(names.iter().cloned()).collect();
    csv(std::iter::once(head).chain(rows))
}

/// The items of an evaluation: one line an item and contestant or judge.
fn items(run: &RunDir) -> Result<String> {
    let (state, _) = state_of(run)?;
    let head = ["suite", "item", "seed", "of", "measure", "value"].map(str::to_owned).to_vec();
    let measured = state.eval.measurements().flat_map(|m| {
        m.values.iter().map(move |(name, value)| {
            let key = &m.key;
            [&key.suite, &key.item, &key.seed.to_string(), m.side.word(), name, &value.to_string()]
                .map(str::to_owned)
                .to_vec()
        })
    });
    let compared = state.eval.comparisons().map(|c| {
        let p = c.p.map_or_else(String::new, |p| p.0.to_string());
        let (seed, key) = (c.key.seed.to_string(), &c.key);
        [key.suite.as_str(), &key.item, &seed, &c.judge, "p", &p].map(str::to_owned).to_vec()
    });
    csv(std::iter::once(head).chain(measured).chain(compared))
}

/// Rows as comma-separated values: a field with a comma, a quote or a line break is quoted, and none is a formula.
fn csv(rows: impl IntoIterator<Item = Vec<String>>) -> Result<String> {
    let mut table = csv::Writer::from_writer(Vec::new());
    for row in rows {
        table.write_record(row.iter().map(|cell| table_cell(cell))).map_err(|e| Error::bug("write a table", e))?;
    }
    let bytes = table.into_inner().map_err(|e| Error::bug("write a table", e))?;
    String::from_utf8(bytes).map_err(|e| Error::bug("write a table", e))
}

/// Counts of a session's outcomes.
fn counts(session: &Session) -> [(&'static str, usize); 5] {
    let outcomes = session.outcomes();
    let of = |wanted: fn(Outcome) -> bool| outcomes.values().filter(|found| wanted(found.outcome)).count();
    [
        ("preferred", of(|o| matches!(o, Outcome::Prefer(..)))),
        ("ties", of(|o| o == Outcome::Tie)),
        ("both bad", of(|o| o == Outcome::BothBad)),
        ("unresolved", of(|o| o == Outcome::Unresolved)),
        ("open", of(|o| o == Outcome::Open)),
    ]
}

/// A run's folded state and status.
fn state_of(run: &RunDir) -> Result<(RunState, RunStatus)> {
    supervisor::state_of(run)
}

/// The report of an evaluation run; null for other runs.
fn evaluated(dir: &SessionDir, session: &Session, run: &RunDir, spec: &RunSpec, state: &RunState) -> Result<Value> {
    Ok(match spec.task {
        Task::Eval(_) => json!(eval_report(&with_people(&state.eval, session), &others(dir, &run.id())?)),
        _ => Value::Null,
    })
}

fn data(dir: &SessionDir, run: Option<&RunDir>) -> Result<Value> {
    let (session, found) = dir.state()?;
    out::warn_of_damage(&found);
    let meta = dir.meta()?;
    let mut runs = Vec::new();
    for candidate in dir.runs()? {
        if run.is_some_and(|r| r.id() != candidate.id()) {
            continue;
        }
        let spec = candidate.spec()?;
        let (state, status) = state_of(&candidate)?;
        let latest: serde_json::Map<String, Value> =
            state.metrics().filter_map(|m| Some((m.to_owned(), json!(state.latest(m)?)))).collect();
        runs.push(json!({
            "run": candidate.id(), "kind": spec.kind(), "status": status.word(), "step": state.step,
            "objective": state.plan.as_ref().map(|p| p.objective.as_str()), "latest": latest, "spec": spec,
            "findings": state.findings, "evaluation": evaluated(dir, &session, &candidate, &spec, &state)?,
        }));
    }
    let outcomes: serde_json::Map<String, Value> =
        counts(&session).into_iter().map(|(word, n)| (word.replace(' ', "_"), json!(n))).collect();
    let ratings = match run {
        Some(_) => Value::Null,
        None => json!(standings_of(dir, &session, Some(&meta.model), CONTEST, None)?),
    };
    Ok(json!({
        "session": dir.name(), "model": meta.model, "app": meta.app, "prompts": session.prompts().len(),
        "completions": session.completion_count(), "pairs": session.pairs().len(), "outcomes": outcomes,
        "state": session.state_hash(), "runs": runs, "ratings": ratings,
    }))
}

fn page(home: &Home, dir: &SessionDir, run: Option<&RunDir>, args: &ReportArgs) -> Result<String> {
    let picture = picture(home, dir, chosen(dir, run)?.as_ref(), args)?;
    Ok(report::html(&dir.name(), &report::document(dir, run)?, &[picture]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_of_a_table_keeps_its_commas() {
        let rows = [["step", "check, strict"], ["1", "say \"a\""]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(csv(rows).unwrap(), "step,\"check, strict\"\n1,\"say \"\"a\"\"\"\n");
        let hostile = [["=1+1", "a\u{1b}[2J\u{202e}"], ["-0.5", "-x"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(csv(hostile).unwrap(), "'=1+1,a\u{241b}[2J\n-0.5,'-x\n");
    }
}
