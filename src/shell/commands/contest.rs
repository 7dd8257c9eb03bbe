//! `eval --contest` and `eval --ratings`: several models against each other, and their Bradley–Terry ratings.

use super::super::error::{Error, Result};
use super::super::evaluation::{EvalOrder, contest_plans, same_evaluation, standings_of};
use super::super::run_name::RunName;
use super::super::{out, supervisor};
use super::context::CommandContext;
use super::{follow, launch::launched};
use crate::domain::{Conclusion, RunStatus, Standing, Standings, counted, sanitise};
use crate::protocol::{RunSpec, Task};
use crate::storage::SessionDir;
use serde_json::json;
use std::collections::BTreeSet;

/// Evaluates every two of the models, and prints the ratings. What an earlier call finished counts.
pub fn run(context: &CommandContext, dir: &SessionDir, names: &[String], order: &EvalOrder) -> Result<()> {
    let mut said = BTreeSet::new();
    let mut own = BTreeSet::new();
    let mut anchor = None;
    for (spec, files, notes) in contest_plans(&context.home, dir, names, order)? {
        for note in notes.0.iter().filter(|note| said.insert((*note).clone())) {
            out::note(note);
        }
        let Task::Eval(eval) = &spec.task else { continue };
        // The first plan compares the second model with the first.
        anchor.get_or_insert_with(|| eval.b.name.clone());
        let between = format!("{} against {}", sanitise(&eval.a.name), sanitise(&eval.b.name));
        if let Some(run) = same_evaluation(dir, &spec)? {
            own.insert(run.id().into_string());
            match supervisor::state_of(&run)?.1 {
                RunStatus::Finished => out::note(&format!("{between}: {} counts", run.id())),
                status if status.is_live() => {
                    out::note(&format!("{between}: {} is still at work", run.id()));
                    follow::run(context, dir, &run)?;
                }
                _ => {
                    out::note(&format!("{between}: {} goes on", run.id()));
                    supervisor::resume(&run)?;
                    follow::run(context, dir, &run)?;
                }
            }
            continue;
        }
        out::note(&between);
        // Planned before the others were launched, it has their number.
        let spec = RunSpec { id: dir.next_run_id("eval")?, ..spec };
        let run = supervisor::launch(dir, None, &spec, &files, RunName::Next)?;
        own.insert(run.id().into_string());
        launched(context, dir, &run, false)?;
    }
    print(context, dir, anchor.as_deref(), Some(&own))
}

/// Prints the ratings that follow from all evaluations of the session.
pub fn ratings(context: &CommandContext, dir: &SessionDir) -> Result<()> {
    print(context, dir, Some(&dir.meta()?.model), None)
}

fn print(
    context: &CommandContext,
    dir: &SessionDir,
    anchor: Option<&str>,
    only: Option<&BTreeSet<String>>,
) -> Result<()> {
    let (session, _) = dir.state()?;
    let found = standings_of(dir, &session, anchor, 2, only)?;
    if context.json {
        return out::json(&json!({ "session": dir.name(), "standings": found }));
    }
    if found.is_empty() {
        return Err(Error::failed(format!(
            "no judge compared two models of session {}: add one, such as `tiebreak eval {} --contest A,B,C --judge \
             check:max_words=40`",
            dir.name(),
            dir.name()
        )));
    }
    found.iter().flat_map(lines).try_for_each(|line| out::line(&line))
}

/// A table of ratings as lines.
pub fn lines(table: &Standings) -> Vec<String> {
    let mut out = vec![format!(
        "ratings by {} on {}: {} on {} of {}; {} has 1000",
        sanitise(&table.judge),
        table.suite,
        counted(table.comparisons, "comparison"),
        counted(table.prompts, "prompt"),
        table.runs.join(", "),
        sanitise(&table.anchor)
    )];
    if let Some(why) = &table.undefined {
        out.push(format!("  undefined: {}", sanitise(why)));
    } else {
        let wide = table.rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
        out.extend(table.rows.iter().map(|row| line(row, wide)));
        if let Some(rate) = table.tie_rate {
            out.push(format!("  two equal models would tie in {:.0} % (Davidson)", 100.0 * rate));
        }
        out.push("  the intervals are over prompts and not corrected for the number of models".into());
    }
    out.extend(table.remarks.iter().map(|remark| format!("  · {remark}")));
    let [earlier, silent] = table.left_out;
    if earlier > 0 {
        let what = counted(earlier, "comparison");
        out.push(format!("  · left out: {what} that a later evaluation of the same two models repeats"));
    }
    if silent > 0 {
        out.push(format!("  · left out: {} without an opinion", counted(silent, "comparison")));
    }
    out.extend(table.not_headline.iter().map(|why| format!("  ⚠ not a headline: {}", sanitise(why))));
    out
}

fn line(row: &Standing, wide: usize) -> String {
    let span = row.interval.map_or_else(String::new, |[low, high]| format!("[{low:.0} … {high:.0}]"));
    let word = match &row.conclusion {
        Some(Conclusion { word, detail: Some(detail) }) => format!("{word}: {detail}"),
        Some(Conclusion { word, .. }) => (*word).to_owned(),
        None => String::new(),
    };
    let name = sanitise(&row.name);
    let text = format!(
        "  {name:<wide$}  {:>5.0} {span:<15} {} won, {} tied, {} lost  {word}",
        row.elo, row.wins, row.ties, row.losses
    );
    text.trim_end().to_owned()
}
