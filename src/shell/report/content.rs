//! What a report says of a session. Owns the parts and their order; each ends with the command that makes its numbers again.
//! Refuses formats.

use super::super::error::Result;
use super::super::{evaluation, supervisor};
use super::chart::{ChartInterval, ChartLine, ReportChart};
use super::document::{Document, SampleAnswer};
use super::ratings;
use super::results;
use super::words::{conclusion, number, percent, signed};
use crate::domain::{
    Contestant, EvalReport, EvalState, Finish, ItemKey, Outcome, RunState, Session, SuiteRow, agreement_report,
    counted, eval_report, method, suite, with_people,
};
use crate::protocol::{EvalSpec, Integrity, JudgeSpec, RunSpec, Task, TrainSpec};
use crate::storage::{RunDir, SessionDir, utc_time};

/// Answers shown side by side for each evaluation.
const SAMPLES: usize = 4;
/// Metrics that get a chart, each with its held-out form, in order.
const CURVES: &[(&str, &str)] = &[
    ("loss", "loss"),
    ("rewards/accuracies", "share of pairs ranked right"),
    ("rewards/margins", "reward margin"),
    ("objective/scores", "score of answers"),
    ("reward", "reward of answers"),
    ("objective/kl", "KL to the reference, nats an answer"),
    ("kl/chosen", "KL to the reference on chosen answers, nats"),
    ("probe/kl", "forgetting: KL to the base model, nats a token"),
];

/// A run with everything that the report needs of it.
pub(super) struct ReportedRun {
    /// Its folder.
    pub(super) dir: RunDir,
    /// Its specification.
    pub(super) spec: RunSpec,
    /// Its folded log.
    pub(super) state: RunState,
    /// Its status in a word.
    pub(super) status: String,
}

/// The report of a session, or of one of its runs.
///
/// # Errors
/// When a log cannot be read.
pub fn document(dir: &SessionDir, only: Option<&RunDir>) -> Result<Document> {
    let (session, found) = dir.state()?;
    let mut out = Document::default();
    let name = dir.name();
    let meta = dir.meta()?;
    out.heading(1, &name);
    out.text(&format!(
        "Model {}. {}, {}, {}. Made with tiebreak {}.",
        meta.model,
        counted(session.prompts().len(), "prompt"),
        counted(session.completion_count(), "answer"),
        counted(session.pairs().len(), "pair"),
        env!("CARGO_PKG_VERSION")
    ));
    damage(&mut out, &found, &name);
    let mut runs = Vec::new();
    for run in dir.runs()? {
        if only.is_some_and(|only| only.id() != run.id()) {
            continue;
        }
        let (state, status) = supervisor::state_of(&run)?;
        runs.push(ReportedRun { spec: run.spec()?, dir: run, state, status: status.word().to_owned() });
    }
    let trained: Vec<(&ReportedRun, &TrainSpec)> = runs
        .iter()
        .filter_map(|run| if let Task::Train(train) = &run.spec.task { Some((run, train)) } else { None })
        .collect();
    let mut reports = Vec::new();
    for run in &runs {
        if let Task::Eval(spec) = &run.spec.task {
            let eval = with_people(&run.state.eval, &session);
            reports.push((run, spec, eval_report(&eval, &evaluation::others(dir, &run.dir.id())?)));
        }
    }
    let results = reports.iter().map(|(run, spec, report)| (run.dir.id().into_string(), *spec, report));
    results::results(&mut out, &results.collect::<Vec<_>>());
    if only.is_none() {
        labels(&mut out, &session, &name);
    }
    training(&mut out, &trained, &name);
    settings(&mut out, &trained);
    curves(&mut out, &trained, &name);
    let mut points = Vec::new();
    for (run, spec, report) in &reports {
        evaluated(&mut out, run, spec, report, &name);
        points.extend(trade_off_point(run, spec, report));
    }
    if only.is_none() {
        let anchor = dir.meta()?.model;
        let tables = evaluation::standings_of(dir, &session, Some(&anchor), evaluation::CONTEST, None)?;
        ratings::ratings(&mut out, &tables, &name);
    }
    trade_off(&mut out, &points);
    if trained.len() == 1 && only.is_some() {
        samples(&mut out, trained[0].0);
    }
    Ok(out)
}

fn damage(out: &mut Document, found: &Integrity, session: &str) {
    if !found.is_intact() {
        out.warning(&format!("The logs of this session are damaged: {}.", found.words()));
        out.command(&format!("tiebreak replay {session} --check"));
    }
}

pub(super) fn labels(out: &mut Document, session: &Session, name: &str) {
    out.heading(2, "Labels");
    let outcomes = session.outcomes();
    let of = |wanted: fn(Outcome) -> bool| outcomes.values().filter(|found| wanted(found.outcome)).count().to_string();
    out.table(
        &["preferred", "tie", "both bad", "unresolved", "open"],
        vec![vec![
            of(|o| matches!(o, Outcome::Prefer(..))),
            of(|o| o == Outcome::Tie),
            of(|o| o == Outcome::BothBad),
            of(|o| o == Outcome::Unresolved),
            of(|o| o == Outcome::Open),
        ]],
    );
    let report = agreement_report(session);
    let share = |hits: usize, of: usize| {
        if of == 0 { "–".into() } else { format!("{} of {of}", percent(hits as f64 / of as f64)) }
    };
    let raters = report.raters.iter().map(|rater| {
        vec![
            rater.name.clone(),
            rater.labels.to_string(),
            share(rater.repeated_same, rater.repeated),
            share(rater.chose_left, rater.preferences),
            share(rater.chose_longer, rater.unequal_length),
        ]
    });
    out.table(&["rater", "labels", "same as before", "left side", "longer answer"], raters.collect());
    let coefficients = report.coefficients.iter().map(|c| {
        let value = c.value.map_or_else(|| "undefined: no variation".into(), |value| format!("{value:.3}"));
        let interval = c.interval.map_or_else(String::new, |(low, high)| format!("{low:.3} … {high:.3}"));
        vec![c.name.clone(), value, interval, c.items.to_string()]
    });
    if report.coefficients.iter().all(|c| c.items == 0) {
        out.text("No pair was judged by two raters, so nothing is known of their agreement.");
    } else {
        out.table(&["agreement", "value", "95 % interval", "pairs"], coefficients.collect());
    }
    out.command(&format!("tiebreak agreement {name}"));
}

fn training(out: &mut Document, runs: &[(&ReportedRun, &TrainSpec)], name: &str) {
    if runs.is_empty() {
        return;
    }
    out.heading(2, "Training runs");
    let rows = runs.iter().map(|(run, train)| {
        let plan = run.state.plan.as_ref();
        let rows = plan.map_or_else(String::new, |p| format!("{} + {} held out", p.train_rows, p.eval_rows));
        let left: usize = plan.map_or(0, |p| p.dropped.iter().map(|d| d.count).sum());
        let chosen: Vec<String> =
            [train.rubric.as_ref(), train.filter.as_ref()].into_iter().flatten().cloned().collect();
        vec![
            run.dir.id().into_string(),
            train.method.clone(),
            train.init.as_ref().map_or_else(|| train.model.name.clone(), ToString::to_string),
            rows,
            left.to_string(),
            chosen.join(", "),
            format!("{} after {}", run.status, counted(run.state.step, "step")),
            run.state.began_wall.map(utc_time).unwrap_or_default(),
        ]
    });
    out.table(
        &["run", "method", "starts from", "rows", "left out", "rubric, filter", "status", "began (UTC)"],
        rows.collect(),
    );
    for (run, train) in runs {
        if let Some(plan) = run.state.plan.as_ref().filter(|plan| !plan.objective.is_empty()) {
            out.text(&format!("{}: {}", run.dir.id(), plan.objective));
        }
        run_findings(out, run);
        out.command(&train_command(name, &run.dir.id().into_string(), train));
    }
}

/// What the run found.
pub(super) fn run_findings(out: &mut Document, run: &ReportedRun) {
    let line =
        |finding: &crate::domain::Finding| format!("{}, step {}: {}", run.dir.id(), finding.step, finding.sentence());
    out.list(run.state.findings.iter().map(line));
}

/// The command that trains it again: settings that are not the method's defaults.
pub(super) fn train_command(session: &str, run: &str, train: &TrainSpec) -> String {
    let mut out = format!("tiebreak train {session} {} --name {run}-again", train.method);
    if let Some(init) = &train.init {
        out.push_str(&format!(" --init {init}"));
    }
    if let Some(adapter) = &train.adapter {
        out.push_str(&format!(" --init {}", quoted(&adapter.path)));
    }
    for (option, text) in [("--filter", &train.filter), ("--rubric", &train.rubric)] {
        if let Some(text) = text {
            out.push_str(&format!(" {option} {}", quoted(text)));
        }
    }
    for (key, value, _) in changed(train) {
        out.push_str(&format!(" --set {}", quoted(&format!("{key}={value}"))));
    }
    out
}

/// A word of a shell command.
pub(super) fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

/// Key, value and default of the settings that differ from the method's defaults.
fn changed(train: &TrainSpec) -> Vec<(&'static str, String, &'static str)> {
    let rows = method(&train.method).map(crate::domain::Method::rows).unwrap_or_default();
    let differs = |row: crate::domain::ParamRow| {
        let value = train.params.text(row.key);
        (!value.is_empty() && value != row.default).then(|| (row.key, value.to_owned(), row.default))
    };
    rows.into_iter().filter_map(differs).collect()
}

pub(super) fn settings(out: &mut Document, runs: &[(&ReportedRun, &TrainSpec)]) {
    if runs.is_empty() {
        return;
    }
    out.heading(2, "Hyper-parameters");
    // What people ask for first, and whatever any run changed.
    let mut keys: Vec<&'static str> = Vec::new();
    for (_, train) in runs {
        let rows = method(&train.method).map(crate::domain::Method::rows).unwrap_or_default();
        let changed: Vec<&str> = changed(train).into_iter().map(|(key, ..)| key).collect();
        keys.extend(rows.iter().filter(|row| row.basic || changed.contains(&row.key)).map(|row| row.key));
    }
    let mut seen = std::collections::BTreeSet::new();
    keys.retain(|key| seen.insert(*key));
    let header: Vec<String> =
        std::iter::once("key".to_owned()).chain(runs.iter().map(|(run, _)| run.dir.id().into_string())).collect();
    let rows = keys.into_iter().map(|key| {
        let value = |train: &TrainSpec| match train.params.text(key) {
            "" => "–".to_owned(),
            text => text.to_owned(),
        };
        std::iter::once(key.to_owned()).chain(runs.iter().map(|(_, train)| value(train))).collect()
    });
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    out.table(&header, rows.collect());
}

fn curves(out: &mut Document, runs: &[(&ReportedRun, &TrainSpec)], name: &str) {
    let line = |run: &ReportedRun, metric: &str, suffix: &str| -> Option<ChartLine> {
        let points = run.state.series(metric)?.live().points().map(|(step, y, _)| (step as f64, y)).collect();
        Some(ChartLine { name: format!("{}{suffix}", run.dir.id()), points })
    };
    let mut heading = false;
    let mut suites: Vec<String> = Vec::new();
    for (run, _) in runs {
        suites.extend(run.state.metrics().filter(|metric| metric.starts_with("suite/")).map(str::to_owned));
    }
    suites.sort();
    suites.dedup();
    let own = CURVES.iter().map(|(metric, title)| ((*metric).to_owned(), (*title).to_owned()));
    for (metric, title) in own.chain(suites.into_iter().map(|metric| (metric.clone(), metric))) {
        let mut lines = Vec::new();
        for (run, _) in runs {
            lines.extend(line(run, &metric, ""));
            lines.extend(line(run, &format!("eval_{metric}"), ", held out"));
        }
        let chart = ReportChart::Lines { title, x: "step".into(), lines };
        if !chart.is_empty() {
            if !heading {
                heading = true;
                out.heading(2, "Curves");
            }
            out.chart(chart);
        }
    }
    if heading {
        let table = runs.iter().flat_map(|(run, _)| {
            run.state.metrics().filter_map(move |metric| {
                let (first, last) = (run.state.series(metric)?.live().point(0)?.1, run.state.latest(metric)?);
                Some(vec![run.dir.id().into_string(), metric.to_owned(), number(first), number(last)])
            })
        });
        out.table(&["run", "metric", "first", "last"], table.collect());
        for (run, _) in runs {
            out.command(&format!("tiebreak report {name}/{} --to metrics.csv", run.dir.id()));
        }
    }
}

pub(super) fn evaluated(out: &mut Document, run: &ReportedRun, spec: &EvalSpec, report: &EvalReport, name: &str) {
    out.heading(2, &format!("Evaluation {}: {} against {}", run.dir.id(), spec.a.name, spec.b.name));
    if run.status != "finished" {
        out.warning(&format!("This evaluation is {}: its numbers may change.", run.status));
    }
    let span = |ends: Option<[f64; 2]>, digits: fn(f64) -> String| {
        ends.map_or_else(String::new, |[low, high]| format!("{} … {}", digits(low), digits(high)))
    };
    let p = |p: Option<f64>| p.map_or_else(String::new, |p| format!("{p:.3}"));
    let judges: Vec<Vec<String>> = report
        .judges
        .iter()
        .map(|judge| {
            vec![
                format!("{} ({})", judge.judge, judge.suite),
                judge.rate.map_or_else(|| "undefined".into(), percent),
                span(judge.interval, percent),
                format!("{} / {} / {}", judge.wins, judge.ties, judge.losses),
                judge.length_controlled.as_ref().map_or_else(|| "–".into(), |length| percent(length.rate)),
                format!("{:.0} / {:.0}", judge.mean_chars[0], judge.mean_chars[1]),
                p(judge.p_corrected),
                conclusion(&judge.conclusion),
            ]
        })
        .collect();
    out.table(
        &[
            "judge",
            "win rate of a",
            "95 % interval",
            "won / tied / lost",
            "at equal length",
            "characters a / b",
            "p",
            "conclusion",
        ],
        judges,
    );
    for judge in &report.judges {
        for why in &judge.not_headline {
            out.warning(&format!("{} is no headline: {why}.", judge.judge));
        }
    }
    let rows = report.judges.iter().filter_map(|judge| {
        Some(ChartInterval { name: judge.judge.clone(), value: judge.rate?, interval: judge.interval })
    });
    out.chart(ReportChart::Intervals { title: "win rate of a".into(), null: 0.5, rows: rows.collect() });
    let value = |x: Option<f64>| x.map_or_else(|| "–".into(), |x| format!("{x:.3}"));
    for suite in &report.suites {
        out.heading(3, &suite.suite);
        let rows = suite.measures.iter().map(|m| {
            vec![
                m.title.to_owned(),
                value(m.a),
                value(m.b),
                m.difference.map_or_else(String::new, signed),
                span(m.interval, signed),
                m.items.to_string(),
                p(m.p_corrected),
                conclusion(&m.conclusion),
            ]
        });
        out.table(&["measure", "a", "b", "a − b", "95 % interval", "items", "p", "conclusion"], rows.collect());
    }
    if report.tests > 1 {
        out.text(&format!("p-values are corrected by Holm for the {} tests of this session.", report.tests));
    }
    out.list(run.state.findings.iter().map(crate::domain::Finding::sentence));
    side_by_side(out, spec, &run.state.eval);
    out.command(&eval_command(name, spec));
    out.command(&format!("tiebreak eval {name} --show {}", run.dir.id()));
}

/// The command that evaluates again.
pub(super) fn eval_command(session: &str, spec: &EvalSpec) -> String {
    let mut out = format!("tiebreak eval {session} --a {} --b {}", quoted(&spec.a.name), quoted(&spec.b.name));
    for suite in &spec.suites {
        let own = suite.name == "own";
        out.push_str(&format!(" --suite {}", quoted(if own { &suite.file } else { &suite.name })));
    }
    let asked = spec.suites.iter().find(|s| suite(&s.name).is_some_and(SuiteRow::takes_prompts));
    if let Some(prompts) = asked.filter(|suite| !suite.file.starts_with("session ")) {
        out.push_str(&format!(" --prompts {}", quoted(&prompts.file)));
    }
    for judge in &spec.judges {
        out.push_str(&format!(" --judge {}", quoted(&JudgeSpec::name(judge))));
    }
    if let Some(suite) = spec.suites.first() {
        if let Some(limit) = suite.limit {
            out.push_str(&format!(" --limit {limit}"));
        }
        let sampler = suite.sampler;
        if sampler.temperature > 0.0 {
            out.push_str(&format!(
                " --temperature {} --top-p {} --seed {}",
                sampler.temperature, sampler.top_p, sampler.seed
            ));
        }
    }
    if spec.seeds > 1 {
        out.push_str(&format!(" --seeds {}", spec.seeds));
    }
    out
}

/// The first items that both contestants answered differently.
fn side_by_side(out: &mut Document, spec: &EvalSpec, state: &EvalState) {
    let keys: Vec<&ItemKey> = state.answers().filter(|a| a.side == Contestant::A).map(|a| &a.key).collect();
    let mut shown = 0;
    for key in keys {
        let [Some(a), Some(b)] = Contestant::BOTH.map(|side| state.answer_of(key, side)) else { continue };
        if a.text == b.text || shown == SAMPLES {
            continue;
        }
        shown += 1;
        let judged: Vec<String> = state
            .judges()
            .into_iter()
            .filter_map(|judge| {
                let p = state.comparison_of(judge, key)?.p?.0;
                let word = if p > 0.5 {
                    "a"
                } else if p < 0.5 {
                    "b"
                } else {
                    "tie"
                };
                Some(format!("{judge}: {word}"))
            })
            .collect();
        let remark = |answer: &crate::domain::EvalAnswer, more: &str| {
            let cut = if answer.finish == Finish::Length { ", cut at the limit" } else { "" };
            format!("{}{cut}{more}", counted(answer.tokens, "token"))
        };
        let judged = if judged.is_empty() { String::new() } else { format!("; {}", judged.join(", ")) };
        out.answers(
            a.prompt.headline(),
            vec![
                SampleAnswer { title: format!("a: {}", spec.a.name), remark: remark(a, &judged), text: a.text.clone() },
                SampleAnswer { title: format!("b: {}", spec.b.name), remark: remark(b, ""), text: b.text.clone() },
            ],
        );
    }
}

/// Name, KL, helpfulness and harmlessness of the contestant, each less the other's, as far as they were measured.
struct TradeOff {
    name: String,
    kl: Option<f64>,
    helpful: Option<f64>,
    harmless: Option<f64>,
}

fn trade_off_point(run: &ReportedRun, spec: &EvalSpec, report: &EvalReport) -> Option<TradeOff> {
    let measure = |suite: &str, key: &str| {
        let found = report.suites.iter().find(|s| s.suite == suite)?;
        found.measures.iter().find(|m| m.key == key)
    };
    let difference = |suite: &str, key: &str| measure(suite, key).and_then(|m| m.difference);
    let rate = report.judges.iter().find(|j| j.not_headline.is_empty()).and_then(|j| j.rate).map(|rate| rate - 0.5);
    let helpful = rate.or_else(|| difference("hhh", "helpful")).or_else(|| difference("ifeval", "prompt_strict"));
    let harmless = difference("hhh", "harmless").or_else(|| difference("xstest", "unsafe_refused"));
    let kl = measure("forgetting", "kl").and_then(|m| m.a);
    (helpful.is_some() || harmless.is_some()).then(|| TradeOff {
        name: format!("{} ({})", spec.a.name, run.dir.id()),
        kl,
        helpful,
        harmless,
    })
}

fn trade_off(out: &mut Document, points: &[TradeOff]) {
    let both: Vec<&TradeOff> = points.iter().filter(|p| p.helpful.is_some() && p.harmless.is_some()).collect();
    if both.is_empty() {
        return;
    }
    out.heading(2, "Helpful against harmless");
    out.text(
        "Each evaluated model less what it was compared with: helpful is the win rate, or else the HHH pairs or the \
              instructions followed; harmless is the HHH pairs, or else the unsafe prompts refused.",
    );
    let value = |x: Option<f64>| x.map_or_else(|| "not measured".into(), signed);
    out.table(
        &["model", "helpful", "harmless", "KL, nats a token"],
        both.iter()
            .map(|p| {
                vec![
                    p.name.clone(),
                    value(p.helpful),
                    value(p.harmless),
                    p.kl.map_or_else(|| "not measured".into(), number),
                ]
            })
            .collect(),
    );
    let with_kl = |of: fn(&TradeOff) -> Option<f64>| -> Vec<(String, f64, f64)> {
        both.iter().filter_map(|p| Some((p.name.clone(), p.kl?, of(p)?))).collect()
    };
    for (title, points) in [("helpful", with_kl(|p| p.helpful)), ("harmless", with_kl(|p| p.harmless))] {
        out.chart(ReportChart::Points {
            title: format!("{title}, by distance from the base model"),
            x: "KL, nats a token".into(),
            y: title.into(),
            points,
        });
    }
    let points = both.iter().filter_map(|p| Some((p.name.clone(), p.helpful?, p.harmless?))).collect();
    out.chart(ReportChart::Points {
        title: "helpful against harmless".into(),
        x: "helpful".into(),
        y: "harmless".into(),
        points,
    });
}

/// The answers that a run showed while it trained: first and last of each prompt.
pub(super) fn samples(out: &mut Document, run: &ReportedRun) {
    let mut prompts: Vec<&str> = run.state.samples.iter().map(|sample| sample.prompt.as_str()).collect();
    let mut seen = std::collections::BTreeSet::new();
    prompts.retain(|prompt| seen.insert(*prompt));
    if prompts.is_empty() {
        return;
    }
    out.heading(2, "Answers while training");
    for prompt in prompts {
        let own: Vec<_> = run.state.samples.iter().filter(|sample| sample.prompt == prompt).collect();
        let ends = own.first().into_iter().chain(own.last().filter(|_| own.len() > 1));
        let answers = ends.map(|sample| SampleAnswer {
            title: format!("step {}", sample.step),
            remark: sample.score.map_or_else(String::new, |score| format!("score {}", number(score))),
            text: sample.text.clone(),
        });
        out.answers(prompt, answers.collect());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_numbers_and_counts_keep_their_digits() {
        let written = [1e-5, 0.593_147, 111.0, -47.25, 123_456.5, 0.0].map(number);
        assert_eq!(written, ["1.00e-5", "0.5931", "111", "-47.2500", "1.23e5", "0"]);
    }

    #[test]
    fn a_word_of_a_command_is_quoted_where_the_shell_would_change_it() {
        assert_eq!(
            ["beta=0.1", "a b", "it's", "$x", ""].map(quoted),
            ["beta=0.1", "'a b'", "'it'\\''s'", "'$x'", "''"]
        );
    }
}
