//! `eval`: launching an evaluation, following it, and printing what it found.

use super::super::cli::EvalArgs;
use super::super::error::{Error, Result};
use super::super::evaluation::{CONTEST, EvalOrder, others, plan, standings_of};
use super::super::run_name::RunName;
use super::super::{out, supervisor};
use super::contest;
use super::context::CommandContext;
use super::launch::launched;
use crate::domain::{
    Conclusion, EvalReport, Finding, GateReport, JudgeReport, LLMBAR, MeasureReport, RunId, Sampler, Severity,
    SuiteReport, counted, eval_report, sanitise, with_people,
};
use crate::protocol::{EvalSpec, Task};
use crate::storage::{RunDir, SessionDir};
use serde_json::json;

/// Launches an evaluation, or prints the report of an earlier one.
pub fn evaluate(context: &CommandContext, args: EvalArgs) -> Result<()> {
    let dir = SessionDir::find(&context.home, &args.session)?;
    out::warn_of_damage(&dir.state()?.1);
    if let Some(id) = &args.show {
        return print(context, &dir, &dir.run(&RunId::new(id))?);
    }
    if args.ratings {
        return contest::ratings(context, &dir);
    }
    let sampler = Sampler {
        temperature: args.temperature,
        top_p: args.top_p,
        max_new_tokens: args.max_new_tokens.unwrap_or(0) as usize,
        seed: args.seed,
        ..Sampler::default()
    };
    let order = EvalOrder {
        a: args.a.unwrap_or_default(),
        b: args.b,
        suites: args.suites,
        judges: args.judges,
        prompts: args.prompts,
        data: args.data,
        limit: args.limit.map(|n| n as usize),
        seeds: args.seeds,
        sampler,
        servers: args.server.options(),
        variables: args.template.variables(),
        device: args.device,
        upto: None,
    };
    if !args.contest.is_empty() {
        return contest::run(context, &dir, &args.contest, &order);
    }
    let (spec, files, notes) = plan(&context.home, &dir, order)?;
    notes.0.iter().for_each(|note| out::note(note));
    let run = supervisor::launch(&dir, None, &spec, &files, RunName::Next)?;
    launched(context, &dir, &run, args.detach)?;
    if args.detach { Ok(()) } else { print(context, &dir, &run) }
}

/// Prints what an evaluation has found so far.
fn print(context: &CommandContext, dir: &SessionDir, run: &RunDir) -> Result<()> {
    let Task::Eval(spec) = run.spec()?.task else {
        return Err(Error::failed(format!(
            "run {} is not an evaluation: see `tiebreak runs {}`",
            run.id(),
            dir.name()
        )));
    };
    let (state, status) = supervisor::state_of(run)?;
    let (session, _) = dir.state()?;
    let mut report = eval_report(&with_people(&state.eval, &session), &others(dir, &run.id())?);
    report.standings = standings_of(dir, &session, Some(&dir.meta()?.model), CONTEST, None)?;
    report.standings.retain(|table| table.counts(run.id().as_str()));
    if context.json {
        return out::json(&json!({
            "session": dir.name(), "run": run.id(), "status": status.word(), "a": spec.a.name, "b": spec.b.name,
            "seeds": spec.seeds, "report": report,
            "findings": state.findings,
        }));
    }
    lines(&spec, &report).iter().try_for_each(|line| out::line(line))?;
    if report.judges.iter().any(|judge| judge.judge.starts_with("human") && judge.unjudged > 0) {
        out::line(&format!("judge them blind: tiebreak label {} --filter eval:{}", dir.name(), run.id()))?;
    }
    report.standings.iter().flat_map(contest::lines).try_for_each(|line| out::line(&line))?;
    state.findings.iter().filter_map(warning).try_for_each(|line| out::line(&line))
}

/// The report as lines of text.
fn lines(spec: &EvalSpec, report: &EvalReport) -> Vec<String> {
    let mut out = vec![format!("a: {}   b: {}", sanitise(&spec.a.name), sanitise(&spec.b.name))];
    for SuiteReport { suite, measures } in &report.suites {
        out.push(suite.clone());
        out.extend(measures.iter().map(measure));
    }
    out.extend(report.judges.iter().flat_map(judge));
    if report.tests > 1 {
        out.push(format!("p-values corrected by Holm for {} in this session", counted(report.tests, "test")));
    }
    out
}

fn warning(finding: &Finding) -> Option<String> {
    let text = sanitise(&finding.sentence());
    match finding.severity {
        Severity::Note if finding.rule != "calibration" => None,
        Severity::Note => Some(format!("· {text}")),
        _ => Some(format!("⚠ {text}")),
    }
}

/// A judge on pairs with a known better answer.
fn gate(g: &GateReport) -> String {
    let percent = |x: Option<f64>| x.map_or_else(|| "–".into(), |x| format!("{:.0} %", 100.0 * x));
    let set = if g.set == LLMBAR { "on LLMBar natural" } else { "on your labels" };
    let span =
        g.interval.map_or_else(String::new, |[low, high]| format!(" [{:.0} – {:.0}]", 100.0 * low, 100.0 * high));
    let kappa = g.kappa.map_or_else(String::new, |k| format!("  kappa {k:.2}"));
    let unjudged = if g.unjudged > 0 { format!(" ({} without an opinion)", g.unjudged) } else { String::new() };
    let same = g.consistency.map_or_else(String::new, |c| format!("  both orders agree {}", percent(Some(c))));
    format!(
        "  {set:<22} right {}{span}  n {}{unjudged}{kappa}{same}  picks the longer {} (better in {})",
        percent(g.accuracy),
        g.decided,
        percent(g.longer),
        percent(g.longer_is_better)
    )
}

fn measure(m: &MeasureReport) -> String {
    let value = |x: Option<f64>| x.map_or_else(|| "–".into(), |x| format!("{x:.3}"));
    let interval = m.interval.map_or_else(String::new, |[low, high]| format!(" [{low:+.3} … {high:+.3}]"));
    let difference = m.difference.map_or_else(String::new, |d| format!("{d:+.3}{interval}  {}", words(&m.conclusion)));
    let alone = m.alone.map_or_else(String::new, |[low, high]| format!("[{low:.3} … {high:.3}]"));
    let why = m.undefined.as_ref().map_or_else(String::new, |why| format!("  ({why})"));
    let p = m.p_corrected.map_or_else(String::new, |p| format!("  p {p:.3}"));
    format!("  {:<22} a {:>7}  b {:>7}  n {:<4} {difference}{alone}{p}{why}", m.title, value(m.a), value(m.b), m.items)
}

fn judge(j: &JudgeReport) -> Vec<String> {
    let percent = |x: f64| format!("{:.1}", 100.0 * x);
    let span = |ends: Option<[f64; 2]>| {
        ends.map_or_else(String::new, |[low, high]| format!(" [{} – {}]", percent(low), percent(high)))
    };
    let rate = j.rate.map_or_else(|| "undefined".into(), |r| format!("{} %{}", percent(r), span(j.interval)));
    let p = j.p_corrected.map_or_else(String::new, |p| format!("  p {p:.3}"));
    let unjudged = if j.unjudged > 0 { format!("  {} without an opinion", j.unjudged) } else { String::new() };
    let mut out = vec![
        format!("{} on {}", sanitise(&j.judge), j.suite),
        format!(
            "  win rate of a          {rate}  n {}  {} won, {} tied, {} lost  {}{p}{unjudged}",
            j.comparisons,
            j.wins,
            j.ties,
            j.losses,
            words(&j.conclusion)
        ),
    ];
    let [a, b] = j.mean_chars;
    out.push(match (&j.length_controlled, &j.length_undefined) {
        (Some(l), _) => {
            let extreme = if l.extreme { "  ⚠ moved far: the fit may have failed" } else { "" };
            format!(
                "  at equal length        {} %{}  {}  mean {a:.0} against {b:.0} characters{extreme}",
                percent(l.rate),
                span(l.interval),
                words(&l.conclusion)
            )
        }
        (None, why) => format!(
            "  at equal length        undefined: {}; mean {a:.0} against {b:.0} characters",
            why.as_deref().unwrap_or("no fit")
        ),
    });
    if let (Some(consistency), Some(bias)) = (j.consistency, j.position_bias) {
        out.push(format!(
            "  both orders agree      {} %  favours the first answer by {:+.1} points",
            percent(consistency),
            100.0 * bias
        ));
    }
    out.extend(j.gate.iter().map(gate));
    out.extend(j.not_headline.iter().map(|why| format!("  ⚠ not a headline: {why}")));
    out
}

fn words(conclusion: &Conclusion) -> String {
    match &conclusion.detail {
        Some(detail) => format!("{}: {detail}", conclusion.word),
        None => conclusion.word.to_owned(),
    }
}
