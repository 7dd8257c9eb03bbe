//! Draws what an evaluation found, so that the live view and the replay share their code.
//!
//! ```text
//! ─ dpo-3 against SmolLM2-135M ──────────────────────────── 100 answers taken over · 5 tests corrected together ─
//!  ▸ eval-2 running   eval-1 finished
//!  ██████▎··············  214 of 541
//! ─ win rate of dpo-3 · winrate ─────────────────────────────────────────────────────────────────────────────────
//!   check:contains=the    62.0 %      ├──┼─●──┤        [49 – 74]  n 60   30 won, 10 tied, 20 lost
//!                         cannot tell: about 94 prompts would tell · p .21
//!     at equal length     53.1 %    ├────●────┤        [45 – 61]         112 against 87 characters ⚠ longer
//!     ⚠ not a headline: its accuracy on LLMBar natural was not measured
//! ─ suites ────────────────────── SmolLM2 ─── dpo-3 ─── difference [95 %] ───────────────────────────────────────
//!   ifeval  n 100
//!     prompts, strict         .230     .260    +.030 [-.010 … +.070]  cannot tell: about 94 prompts would tell
//! ```

use crate::app::{EvalSpec, cells, clip, presentable};
use crate::domain::{
    EvalReport, Finding, GateReport, JudgeReport, LLMBAR, LOST_WORKER, MeasureReport, RunState, RunStatus, Severity,
    counted,
};
use crate::ui::frame::{put_line, rule, width_of};
use crate::ui::ratings::rating_lines;
use crate::ui::rows::{conclusion, flow, heading, wrapped};
use crate::ui::theme::{BAD, BOLD, DIM, TEXT, WARN};
use crate::ui::widgets::interval::interval;
use crate::ui::widgets::plain::{bar, centred};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

/// The share by which one mean length exceeds the other before it is marked.
const LONGER: f64 = 1.1;

/// What is drawn of an evaluation.
pub struct EvaluationScene<'a> {
    /// What it compares, once known.
    pub spec: Option<&'a EvalSpec>,
    /// Its folded log.
    pub run: &'a RunState,
    /// Its status.
    pub status: RunStatus,
    /// What it found, or why that cannot be computed; none while it is computed.
    pub report: Option<&'a Result<Box<EvalReport>, String>>,
    /// The line of the session's evaluations.
    pub runs: Option<Line<'a>>,
    /// The first row shown.
    pub scroll: usize,
    /// Whether it is a replay, where no key acts on the run.
    pub replay: bool,
}

/// Draws an evaluation.
pub fn draw_evaluation(scene: &EvaluationScene<'_>, area: Rect, buf: &mut Buffer) {
    if area.is_empty() {
        return;
    }
    let [a, b] = names(scene.spec);
    let width = usize::from(area.width);
    let title = clip(&format!("{a} against {b}"), width.saturating_sub(8));
    rule(buf, area, &Span::styled(title, BOLD), &remark(scene));
    let mut top = area.y + 1;
    if let Some(line) = scene.runs.clone() {
        put_line(buf, Rect { y: top, height: 1, ..area }, line);
        top += 1;
    }
    if scene.status.is_live() {
        put_line(buf, Rect { y: top, height: 1, ..area }, progress(scene.run, width));
        top += 1;
    }
    let below = Rect { y: top, height: area.bottom().saturating_sub(top), ..area };
    if below.is_empty() {
        return;
    }
    let mut lines = ending(scene, width);
    match scene.report {
        _ if scene.run.eval.is_empty() && lines.is_empty() => return waiting(scene, below, buf),
        None if !scene.run.eval.is_empty() => lines.push(Line::styled("  computing the figures …", DIM)),
        Some(Err(why)) => {
            let text = format!("The figures cannot be computed: {why}");
            lines.extend(wrapped(&text, width, 2, BAD));
        }
        Some(Ok(report)) => lines.extend(figures(report, [&a, &b], width)),
        None => {}
    }
    lines.extend(found(scene.run, width));
    let rows = usize::from(below.height);
    let scroll = scene.scroll.min(lines.len().saturating_sub(rows));
    let more = lines.len().saturating_sub(scroll + rows);
    for (row, line) in lines.into_iter().skip(scroll).take(rows).enumerate() {
        put_line(buf, Rect { y: below.y + row as u16, height: 1, ..below }, line);
    }
    if more > 0 || scroll > 0 {
        let text = format!(" {} ", if more > 0 { format!("{more} more ↓") } else { "end".into() });
        let wide = cells(&text) as u16;
        let at = Rect { x: below.right().saturating_sub(wide + 1), y: below.bottom() - 1, width: wide, height: 1 };
        put_line(buf, at, Line::styled(text, DIM));
    }
}

/// The names of both contestants, presentable.
#[must_use]
pub fn names(spec: Option<&EvalSpec>) -> [String; 2] {
    let name = |name: &str| presentable(&crate::app::short_model_name(name));
    spec.map_or_else(|| ["a".into(), "b".into()], |spec| [name(&spec.a.name), name(&spec.b.name)])
}

/// What stands beside the title: answers taken over, and the tests corrected together.
fn remark(scene: &EvaluationScene<'_>) -> String {
    let mut parts = Vec::new();
    let reused = scene.run.eval.answers().filter(|answer| answer.reused).count();
    if reused > 0 {
        parts.push(format!("{} taken over", counted(reused, "answer")));
    }
    if let Some(seeds) = scene.spec.map(|spec| spec.seeds).filter(|seeds| *seeds > 1) {
        parts.push(counted(seeds, "seed"));
    }
    if let Some(Ok(report)) = scene.report
        && report.tests > 1
    {
        parts.push(format!("p corrected for {} tests", report.tests));
    }
    parts.join(" · ")
}

fn progress(run: &RunState, width: usize) -> Line<'static> {
    let total = run.plan.as_ref().map_or(0, |plan| plan.total_steps);
    let mut spans = vec![Span::raw("  ")];
    if total > 0 {
        spans.push(Span::raw(bar(run.step as f64 / total as f64, (width / 4).clamp(10, 40))));
        spans.push(Span::raw(format!("  {} of {total}", run.step)));
    }
    if let Some(stage) = &run.stage {
        spans.push(Span::styled(format!("  {}", clip(&presentable(&stage.name), width / 2)), DIM));
    }
    Line::from(spans)
}

/// Before anything is measured.
fn waiting(scene: &EvaluationScene<'_>, area: Rect, buf: &mut Buffer) {
    let mut lines = Vec::new();
    match (&scene.status, &scene.run.stage) {
        (_, Some(stage)) => lines.push(format!("{} …", presentable(&stage.name))),
        (RunStatus::Starting, None) => lines.push("the worker is starting …".into()),
        (RunStatus::Paused, None) => lines.push("paused before the first answer".into()),
        (status, None) if status.is_live() => lines.push("waiting for the first answer …".into()),
        (status, None) => lines.push(format!("{} before anything was measured", status.word())),
    }
    if let Some(plan) = &scene.run.plan {
        lines.push(format!("{} to measure", counted(plan.train_rows, "item")));
    }
    centred(buf, area, &lines);
}

/// Why a failed or lost run ended, and what to do.
fn ending(scene: &EvaluationScene<'_>, width: usize) -> Vec<Line<'static>> {
    let how = if scene.replay { "It can be resumed." } else { "R resumes it where it ended." };
    match &scene.status {
        RunStatus::Failed(why) => wrapped(&format!("failed: {} {how}", presentable(why)), width, 2, BAD),
        RunStatus::Lost => {
            let text = format!("lost: {LOST_WORKER}. {how}");
            wrapped(&text, width, 2, BAD)
        }
        RunStatus::Stopped => wrapped(&format!("stopped before its end. {how}"), width, 2, WARN),
        _ => Vec::new(),
    }
}

fn figures(report: &EvalReport, names: [&str; 2], width: usize) -> Vec<Line<'static>> {
    let mut out = Vec::new();
    let mut suite = "";
    let columns = JudgeColumns::of(report, width);
    for judge in &report.judges {
        if judge.suite != suite {
            suite = &judge.suite;
            out.push(heading(&format!("win rate of {} · {suite}", names[0]), width));
        }
        out.extend(judge_lines(judge, &columns, width));
    }
    if !report.suites.is_empty() {
        out.push(heading("suites", width));
        let head = |name: &str| format!("{:>9}", clip(name, 9));
        let beside = if width >= BESIDE { "   difference [95 %]" } else { "" };
        out.push(Line::styled(format!("{:24}{} {}{beside}", "", head(names[0]), head(names[1])), DIM));
    }
    for suite in &report.suites {
        let items = suite.measures.iter().map(|m| m.items).max().unwrap_or(0);
        out.push(Line::from(vec![
            Span::styled(format!("  {}", suite.suite), BOLD),
            Span::styled(format!("  n {items}"), DIM),
        ]));
        out.extend(suite.measures.iter().flat_map(|m| measure_lines(m, items, width)));
    }
    out.extend(report.standings.iter().flat_map(|table| rating_lines(table, width)));
    out
}

/// The widths of the win rates' columns.
struct JudgeColumns {
    name: usize,
    axis: usize,
}

impl JudgeColumns {
    fn of(report: &EvalReport, width: usize) -> Self {
        let longest = report.judges.iter().map(|j| cells(&presentable(&j.judge))).max().unwrap_or(0);
        let name = longest.clamp(17, (width / 4).max(17));
        // Margin, rate, interval and n stand beside name and axis.
        let axis = width.saturating_sub(2 + name + 9 + 2 + 15 + 8).clamp(9, 41);
        Self { name, axis: axis - (axis + 1) % 2 }
    }
}

fn percent(x: f64) -> String {
    format!("{:5.1} %", 100.0 * x)
}

/// `[49 – 74]`, in as many cells for any interval.
fn span(ends: Option<[f64; 2]>) -> String {
    let text = ends.map(|[low, high]| format!("[{:.0} – {:.0}]", 100.0 * low, 100.0 * high)).unwrap_or_default();
    format!("{text}{}", " ".repeat(13_usize.saturating_sub(cells(&text))))
}

/// The name, the rate, the interval drawn and in numbers.
fn rate_line(
    name: &str,
    style: Style,
    rate: f64,
    ends: Option<[f64; 2]>,
    columns: &JudgeColumns,
) -> Vec<Span<'static>> {
    let name = clip(name, columns.name);
    let pad = " ".repeat(columns.name.saturating_sub(cells(&name)) + 2);
    vec![
        Span::styled(format!("  {name}{pad}"), style),
        Span::styled(percent(rate), BOLD),
        Span::raw(format!("  {}  ", interval(rate, ends, columns.axis))),
        Span::styled(span(ends), DIM),
    ]
}

fn judge_lines(j: &JudgeReport, columns: &JudgeColumns, width: usize) -> Vec<Line<'static>> {
    let mut out = Vec::new();
    let name = presentable(&j.judge);
    let indent = columns.name + 4;
    let style = if j.not_headline.is_empty() { TEXT } else { DIM };
    match j.rate {
        Some(rate) => {
            let mut spans = rate_line(&name, style, rate, j.interval, columns);
            spans.push(Span::styled(format!("  n {}", j.comparisons), TEXT));
            out.push(Line::from(spans));
        }
        None => out.push(Line::styled(
            format!("  {}  undefined: no comparison has an opinion", clip(&name, columns.name)),
            DIM,
        )),
    }
    let mut says = vec![conclusion(&j.conclusion)];
    says.extend(j.p_corrected.map(|p| (format!("p {}", short(p)), DIM)));
    says.push((format!("{} won, {} tied, {} lost", j.wins, j.ties, j.losses), DIM));
    if j.unjudged > 0 {
        says.push((format!("{} without an opinion", j.unjudged), WARN));
    }
    out.extend(flow(says, indent, width));
    let [a, b] = j.mean_chars;
    let lengths = format!("{a:.0} against {b:.0} characters");
    let longer = match (a > b * LONGER, b > a * LONGER) {
        (true, _) => " ⚠ longer",
        (_, true) => " ⚠ shorter",
        _ => "",
    };
    match (&j.length_controlled, &j.length_undefined) {
        (Some(l), _) => {
            out.push(Line::from(rate_line("  at equal length", DIM, l.rate, l.interval, columns)));
            let mut says = vec![conclusion(&l.conclusion), (format!("{lengths}{longer}"), warned(longer))];
            if l.extreme {
                says.push(("⚠ moved far: the fit may have failed".into(), WARN));
            }
            out.extend(flow(says, indent, width));
        }
        (None, why) => {
            let why = why.clone().unwrap_or_else(|| "no fit".into());
            let says = vec![
                (format!("at equal length undefined: {why}"), DIM),
                (format!("{lengths}{longer}"), warned(longer)),
            ];
            out.extend(flow(says, 4, width));
        }
    }
    if let (Some(consistency), Some(bias)) = (j.consistency, j.position_bias) {
        let says = vec![
            (format!("both orders agree in {:.0} %", 100.0 * consistency), DIM),
            (format!("favours the first answer by {:+.1} points", 100.0 * bias), DIM),
        ];
        out.extend(flow(says, 4, width));
    }
    out.extend(j.gate.iter().flat_map(|gate| flow(known_pairs(gate), 4, width)));
    for why in &j.not_headline {
        out.extend(wrapped(&format!("⚠ not a headline: {why}"), width, 4, WARN));
    }
    out
}

/// What a judge said of pairs with a known better answer.
fn known_pairs(gate: &GateReport) -> Vec<(String, Style)> {
    let percent = |x: Option<f64>| x.map_or_else(|| "–".into(), |x| format!("{:.0} %", 100.0 * x));
    let set = if gate.set == LLMBAR { "on LLMBar natural" } else { "on your labels" };
    let mut says = vec![(format!("{set} right in {} of {}", percent(gate.accuracy), gate.decided), DIM)];
    says.extend(gate.kappa.map(|kappa| (format!("kappa {kappa:.2}"), DIM)));
    says.extend(gate.consistency.map(|same| (format!("both orders agree in {}", percent(Some(same))), DIM)));
    let longer = format!("picks the longer {} (better in {})", percent(gate.longer), percent(gate.longer_is_better));
    says.push((longer, DIM));
    says
}

fn warned(mark: &str) -> Style {
    if mark.is_empty() { DIM } else { WARN }
}

/// A number in few cells: `.230`, `2.385`, `112`; a small one as `2.1e-5`.
fn short(x: f64) -> String {
    let text = match x.abs() {
        size if size != 0.0 && size < 5e-4 => format!("{x:.1e}"),
        size if size < 10.0 => format!("{x:.3}"),
        size if size < 100.0 => format!("{x:.2}"),
        _ => format!("{x:.0}"),
    };
    if x.abs() < 1.0 { text.replacen("0.", ".", 1) } else { text }
}

fn signed(x: f64) -> String {
    if x < 0.0 { short(x) } else { format!("+{}", short(x)) }
}

/// From this width on, a difference and its interval stand beside both values.
const BESIDE: usize = 71;

fn measure_lines(m: &MeasureReport, items: usize, width: usize) -> Vec<Line<'static>> {
    let value = |x: Option<f64>| format!("{:>9}", x.map_or_else(|| "–".into(), short));
    let mut spans = vec![
        Span::styled(format!("    {:20}", clip(m.title, 20)), TEXT),
        Span::styled(format!("{} {}", value(m.a), value(m.b)), TEXT),
    ];
    let mut says = Vec::new();
    if let Some(difference) = m.difference {
        let ends = m.interval.map_or_else(String::new, |[low, high]| format!(" [{} … {}]", signed(low), signed(high)));
        let text = format!("{}{ends}", signed(difference));
        if width >= BESIDE {
            spans.push(Span::styled(format!("   {text:<24}"), BOLD));
        } else {
            says.push((format!("difference {text}"), BOLD));
        }
        says.push(conclusion(&m.conclusion));
    }
    says.extend(m.alone.map(|[low, high]| (format!("[{} … {}]", short(low), short(high)), DIM)));
    says.extend(m.p_corrected.map(|p| (format!("p {}", short(p)), DIM)));
    says.extend(m.undefined.as_ref().map(|why| (why.clone(), DIM)));
    if m.items != items {
        says.push((format!("n {}", m.items), DIM));
    }
    let mut line = Line::from(spans);
    let wide: usize = says.iter().map(|(text, _)| cells(text) + 3).sum();
    if usize::from(width_of(&line)) + wide <= width {
        for (i, (text, style)) in says.into_iter().enumerate() {
            line.spans.push(Span::styled(if i > 0 { " · " } else { "  " }, DIM));
            line.spans.push(Span::styled(text, style));
        }
        return vec![line];
    }
    let mut out = vec![line];
    out.extend(flow(says, 6, width));
    out
}

/// Findings, and what was left out.
fn found(run: &RunState, width: usize) -> Vec<Line<'static>> {
    let mut out = Vec::new();
    let dropped: Vec<String> = run
        .plan
        .iter()
        .flat_map(|plan| &plan.dropped)
        .map(|row| format!("{} {}", row.count, presentable(&row.reason)))
        .collect();
    if run.findings.is_empty() && dropped.is_empty() {
        return out;
    }
    out.push(heading("findings", width));
    for finding in run.findings.iter().rev() {
        let (word, style) = looks(finding);
        let text = format!("{word} · {}", presentable(&finding.sentence()));
        out.extend(wrapped(&text, width, 2, style));
    }
    for text in dropped {
        out.extend(wrapped(&format!("left out: {text}"), width, 2, WARN));
    }
    out
}

fn looks(finding: &Finding) -> (&'static str, Style) {
    match finding.severity {
        Severity::Note => ("note", TEXT),
        Severity::Warn => ("warning", WARN),
        Severity::Stop => ("stop", BAD),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_digits_in_few_cells() {
        let written = [0.23, 1.0, 2.3854, 112.4, -0.01, 0.0, 2e-5, 34.56].map(short);
        assert_eq!(written, [".230", "1.000", "2.385", "112", "-.010", ".000", "2.0e-5", "34.56"]);
        assert_eq!((signed(0.03), signed(-0.03)), ("+.030".into(), "-.030".into()));
    }

    #[test]
    fn parts_go_on_in_the_next_row() {
        let parts = vec![("one two three".to_owned(), DIM), ("four five six".into(), DIM), ("seven".into(), DIM)];
        let rows: Vec<String> = flow(parts, 4, 40)
            .iter()
            .map(|line| line.spans.iter().map(|span| span.content.as_ref()).collect())
            .collect();
        assert_eq!(rows, ["    one two three · four five six", "    seven"]);
    }
}
