//! Draws a run: curves, findings, samples and settings. It draws a [`Scene`], so that the live view and the replay
//! share their code.

mod findings;
mod layout;
mod panes;
mod sampling;
mod scene;

pub use scene::Scene;

use self::findings::{alerts, severity_style, wrapped};
use crate::app::curves::{XUnit, panes as panes_of};
use crate::app::{cells, clip, presentable};
use crate::domain::{LOST_WORKER, RunState, RunStatus, Sample, counted};
use crate::ui::frame::{duration, put_line, rule};
use crate::ui::theme::{ACCENT, BAD, BOLD, DIM, GOOD, WARN};
use crate::ui::widgets::plain::{bar, bytes, centred, count};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

/// The view settings, for the status line.
pub fn settings(scene: &Scene<'_>, width: u16) -> Line<'static> {
    if scene.sampling {
        return Line::default();
    }
    let watch = scene.view;
    let mut parts = vec![format!("x {}", watch.unit.word())];
    if let Some(x) = watch.cursor {
        let at = match watch.unit {
            XUnit::Time => duration(x / 1000.0),
            XUnit::Step | XUnit::Epoch => format!("step {x}"),
        };
        parts.push(format!("cursor at {at}"));
    }
    if watch.smoothing() > 0.0 {
        parts.push(format!("smoothed {} (dots: as measured)", watch.smoothing()));
    }
    if watch.log_scale {
        parts.push("log scale".into());
    }
    if watch.zoom > 0 {
        parts.push(format!("zoom {}×", 1_u32 << watch.zoom));
    }
    // Without a side column, the most important facts go here.
    if !layout::has_side(width) {
        if let Some(plan) = &scene.run.plan {
            parts.push(format!("{} train · {} eval", plan.train_rows, plan.eval_rows));
        }
        if scene.run.dropped() > 0 {
            parts.push(format!("{} left out", scene.run.dropped()));
        }
        for (name, value) in scene.facts.iter().filter(|(name, _)| matches!(*name, "beta" | "rubric" | "filter")) {
            parts.push(format!("{name} {value}"));
        }
    }
    Line::styled(parts.join(" · "), DIM)
}

/// Draws a run.
pub fn draw_scene(scene: &Scene<'_>, area: Rect, buf: &mut Buffer) {
    if area.is_empty() {
        return;
    }
    if scene.sampling {
        return sampling::draw(scene, area, buf);
    }
    let panes = panes_of(scene.run);
    let wanted = layout::LayoutInput {
        panes: panes.len(),
        focus: scene.view.pane,
        runs: scene.runs.is_some(),
        formula: scene.run.plan.as_ref().is_some_and(|p| !p.objective.is_empty()) && !panes.is_empty(),
        enlarged: scene.view.enlarged,
    };
    let parts = layout::parts(area, wanted);
    if let (Some(at), Some(plan)) = (parts.formula, &scene.run.plan) {
        let width = usize::from(at.width).saturating_sub(12);
        buf.set_stringn(at.x + 1, at.y, "objective", 10, DIM);
        buf.set_stringn(at.x + 12, at.y, clip(&plan.objective, width), width, Style::default());
    }
    if let (Some(at), Some(line)) = (parts.runs, &scene.runs) {
        put_line(buf, at, line.clone());
    }
    if panes.is_empty() {
        waiting(scene, parts.charts[0], buf);
    }
    for (i, (pane, at)) in panes.iter().skip(parts.first).zip(&parts.charts).enumerate() {
        panes::draw(scene, pane, parts.first + i == scene.view.pane, *at, buf);
    }
    let hidden = panes.len().saturating_sub(parts.charts.len());
    if let Some(side) = parts.side {
        facts_and_findings(scene, hidden, side, buf);
        bottom_pane(scene, false, parts.bottom, buf);
    } else {
        bottom_pane(scene, true, parts.bottom, buf);
    }
}

/// A run's status for the header: state, step, epoch, speed, time left.
#[must_use]
pub fn headline(run: &RunState, status: &RunStatus, sampling: bool, width: u16) -> Line<'static> {
    let (word, style) = match status {
        RunStatus::Starting => ("STARTING", ACCENT),
        RunStatus::Running => ("LIVE", GOOD),
        RunStatus::Paused => ("PAUSED", WARN),
        RunStatus::Suspended => ("SUSPENDED", BAD),
        RunStatus::Finished => ("FINISHED", BOLD),
        RunStatus::Stopped => ("STOPPED", BOLD),
        RunStatus::Failed(_) => ("FAILED", BAD),
        RunStatus::Lost => ("LOST", BAD),
    };
    let mut parts = vec![Span::styled(word, style)];
    let mut say = |text: String| {
        parts.push(Span::raw("  "));
        parts.push(Span::raw(text));
    };
    if let Some(stage) = run.stage.as_ref().filter(|_| status.is_live() && !(sampling && run.step > 0)) {
        let share = if stage.total > 0 { format!(" {}/{}", stage.done, stage.total) } else { String::new() };
        say(format!("{}{share}", clip(&presentable(&stage.name), 30)));
    }
    let unit = if sampling { "answer" } else { "step" };
    match run.plan.as_ref().filter(|p| p.total_steps > 0) {
        Some(plan) => {
            let digits = plan.total_steps.to_string().len();
            say(format!("{unit} {:>digits$}/{}", run.step, plan.total_steps));
            if plan.steps_per_epoch > 0 && width >= 100 {
                let epochs = plan.total_steps as f64 / plan.steps_per_epoch as f64;
                say(format!("epoch {:.1}/{}", run.epoch, trim(epochs)));
            }
        }
        None if run.step > 0 => say(format!("{unit} {}", run.step)),
        None => {}
    }
    if let Some(rate) = run.tokens_per_second().filter(|rate| *rate > 0.0 && *status == RunStatus::Running) {
        say(format!("{rate:>4.0} tok/s"));
    }
    let busy = run.latest("gpu/utilisation").filter(|_| *status == RunStatus::Running && width >= 100);
    if let Some(busy) = busy {
        say(format!("gpu {busy:>3.0} %"));
    }
    if let Some(left) = run.seconds_left().filter(|_| *status == RunStatus::Running) {
        say(format!("{} left", duration(left)));
    } else if !status.is_live() && run.elapsed_ms() > 0 {
        say(format!("after {}", duration(run.elapsed_ms() as f64 / 1000.0)));
    }
    Line::from(parts)
}

/// A number with one decimal, or none if it is whole.
fn trim(x: f64) -> String {
    if (x - x.round()).abs() < 0.05 { format!("{x:.0}") } else { format!("{x:.1}") }
}

/// Before the first step: the current stage and the plan.
fn waiting(scene: &Scene<'_>, area: Rect, buf: &mut Buffer) {
    let mut lines: Vec<String> = Vec::new();
    match (&scene.status, &scene.run.stage) {
        (RunStatus::Failed(error), _) => {
            lines.push("the run failed before its first step".into());
            lines.extend(wrapped(error, usize::from(area.width).saturating_sub(8)));
        }
        (RunStatus::Lost, _) => {
            let text = format!("{LOST_WORKER}; no step was logged");
            lines.extend(wrapped(&text, usize::from(area.width).saturating_sub(8)));
        }
        (_, Some(stage)) => {
            lines.push(clip(&presentable(&stage.name), usize::from(area.width)));
            if stage.total > 0 {
                lines.push(format!(
                    "{} {:>4.0} %",
                    bar(stage.done as f64 / stage.total as f64, 30),
                    stage.done as f64 * 100.0 / stage.total as f64
                ));
            }
        }
        (RunStatus::Starting, None) => lines.push("the worker is starting …".into()),
        (_, None) => lines.push("waiting for the first step …".into()),
    }
    if let Some(plan) = &scene.run.plan {
        lines.push(String::new());
        lines.push(format!("{} on {}", counted(plan.total_steps, "step"), counted(plan.train_rows, "row")));
        lines.push(clip(&plan.objective, usize::from(area.width)));
    }
    centred(buf, area, &lines);
}

/// The side column: facts, then findings.
fn facts_and_findings(scene: &Scene<'_>, hidden: usize, area: Rect, buf: &mut Buffer) {
    let mut y = area.y;
    rule(buf, area, &Span::styled("run", DIM), "");
    y += 1;
    let mut facts = scene.facts.clone();
    facts.extend(state_facts(scene.run, scene.status.is_live()));
    if hidden > 0 {
        facts.push(("more panes", format!("{hidden} on other pages: tab")));
    }
    for (name, value) in facts {
        if y + 3 >= area.bottom() {
            break;
        }
        buf.set_stringn(area.x + 1, y, name, 13, DIM);
        let width = usize::from(area.width).saturating_sub(15);
        // Mark a cut with `…`.
        let mut lines = wrapped(&value, width);
        if lines.len() > 2 {
            lines[1] = clip(&format!("{} {}", lines[1], lines[2]), width);
        }
        for line in lines.into_iter().take(2) {
            buf.set_stringn(area.x + 15, y, line, width, Style::default());
            y += 1;
        }
    }
    if y + 2 >= area.bottom() {
        return;
    }
    y += 1;
    rule(buf, Rect { y, height: 1, ..area }, &Span::styled("findings", DIM), "");
    y += 1;
    let found = alerts(scene);
    if found.is_empty() {
        buf.set_stringn(area.x + 1, y, "none so far", usize::from(area.width), DIM);
        return;
    }
    for (text, severity) in found {
        for line in wrapped(&text, usize::from(area.width).saturating_sub(2)) {
            if y >= area.bottom() {
                return;
            }
            buf.set_string(area.x + 1, y, line, severity_style(severity));
            y += 1;
        }
        y += 1;
    }
}

/// The GPU figures of the last step; `n/a` for those its driver does not report.
fn gpu(run: &RunState) -> String {
    let figure = |name: &str, say: &dyn Fn(f64) -> String| {
        run.latest(name).filter(|x| x.is_finite()).map_or_else(|| "n/a".to_owned(), say)
    };
    format!(
        "{} · {} in use · {}",
        figure("gpu/utilisation", &|x| format!("{x:.0} %")),
        figure("gpu/memory_mib", &|x| bytes((x * f64::from(1 << 20)) as u64)),
        figure("gpu/temperature", &|x| format!("{x:.0} °C")),
    )
}

/// Facts from the log, to show beside the curves.
fn state_facts(run: &RunState, live: bool) -> Vec<(&'static str, String)> {
    let mut out = Vec::new();
    if !run.device.is_empty() {
        out.push(("device", run.device.clone()));
    }
    if run.device.starts_with("CUDA") {
        out.push(("gpu", gpu(run)));
    }
    if let Some(plan) = &run.plan {
        out.push(("rows", format!("{} train · {} eval", plan.train_rows, plan.eval_rows)));
        if plan.trainable > 0 {
            let share = plan.trainable as f64 * 100.0 / plan.parameters.max(1) as f64;
            out.push(("parameters", format!("{} trainable, {share:.1} %", count(plan.trainable))));
        }
        for d in &plan.dropped {
            out.push(("left out", format!("{} {}", d.count, d.reason)));
        }
    }
    if let Some(last) = run.checkpoints.last() {
        out.push(("checkpoint", format!("step {} · {}", last.step, bytes(last.bytes))));
    }
    if run.attempt > 1 {
        out.push(("attempt", format!("{} (earlier ones dotted)", run.attempt)));
    }
    if run.elapsed_ms() > 0 {
        out.push((if live { "running" } else { "took" }, duration(run.elapsed_ms() as f64 / 1000.0)));
    }
    out
}

/// Below the charts: samples or `worker.log`; without a side column, findings come first.
fn bottom_pane(scene: &Scene<'_>, findings: bool, area: Rect, buf: &mut Buffer) {
    if area.height < 2 {
        return;
    }
    let width = usize::from(area.width).saturating_sub(2);
    let mut rows = area.y + 1..area.bottom();
    let alerts = if findings && !scene.view.show_output { alerts(scene) } else { Vec::new() };
    let title = match (scene.view.show_output, alerts.is_empty()) {
        (true, _) => "worker.log",
        (false, false) => "findings · samples",
        (false, true) => "samples",
    };
    rule(buf, area, &Span::styled(title, DIM), "");
    if scene.view.show_output {
        let skip = scene.view.output.len().saturating_sub(usize::from(area.height) - 1);
        if scene.view.output.is_empty() {
            buf.set_stringn(area.x + 1, area.y + 1, "worker.log is empty", width, DIM);
        }
        for line in &scene.view.output[skip..] {
            let Some(y) = rows.next() else { return };
            buf.set_stringn(area.x + 1, y, clip(&presentable(line), width), width, DIM);
        }
        return;
    }
    // Findings may take all rows but one if there are samples.
    let keep = usize::from(!scene.run.samples.is_empty());
    for (text, severity) in &alerts {
        let lines = wrapped(text, width);
        let room = rows.len().saturating_sub(keep);
        for (i, line) in lines.iter().take(room).enumerate() {
            let Some(y) = rows.next() else { break };
            // Mark a cut with `…`.
            let cut = i + 1 == room && lines.len() > room;
            let line = if cut { clip(&format!("{line} {}", lines[i + 1]), width) } else { line.clone() };
            buf.set_string(area.x + 1, y, line, severity_style(*severity));
        }
    }
    samples(scene, &mut rows, area.x + 1, width, buf);
}

/// Before and after: the newest samples, each below the first sample of the same prompt.
fn samples(scene: &Scene<'_>, rows: &mut impl ExactSizeIterator<Item = u16>, x: u16, width: usize, buf: &mut Buffer) {
    let all = &scene.run.samples;
    let Some(last) = all.last() else {
        if let Some(y) = rows.next() {
            buf.set_stringn(x, y, "answers sampled before, during and after training appear here", width, DIM);
        }
        return;
    };
    if rows.len() == 1 {
        let score = last.score.map_or(String::new(), |s| format!("{} › ", panes::value(s).trim_start()));
        let text = format!("step {} › {} › {score}{}", last.step, presentable(&last.prompt), presentable(&last.text));
        if let Some(y) = rows.next() {
            buf.set_stringn(x, y, clip(&text, width), width, Style::default());
        }
        return;
    }
    let newest: Vec<_> = all.iter().filter(|s| s.step == last.step).collect();
    // Scores share one column; an unscored (greedy) sample has none.
    let scored = all.iter().any(|s| s.score.is_some());
    let score = |s: &Sample| match s.score {
        _ if !scored => String::new(),
        Some(score) => panes::value(score),
        None => format!("{:>8}", "–"),
    };
    for now in newest {
        let Some(y) = rows.next() else { return };
        let ask = clip(&presentable(&now.prompt), width);
        buf.set_stringn(x, y, ask, width, BOLD);
        let before = all.iter().find(|s| s.prompt == now.prompt && s.step < now.step);
        for (sample, style) in before.map(|s| (s, DIM)).into_iter().chain([(now, Style::default())]) {
            let Some(y) = rows.next() else { return };
            let head = format!("step {:>4}{}  ", sample.step, score(sample));
            let text = clip(&presentable(&sample.text), width.saturating_sub(cells(&head) + 1));
            buf.set_stringn(x + 1, y, head + &text, width - 1, style);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Metrics;

    #[test]
    fn missing_gpu_figures_are_not_available() {
        let mut run = RunState::default();
        assert_eq!(gpu(&run), "n/a · n/a in use · n/a");
        let mut metrics = Metrics::new();
        metrics.set("gpu/utilisation", 61.0);
        metrics.set("gpu/temperature", 54.0);
        run.advance(1, 0.0, &metrics);
        assert_eq!(gpu(&run), "61 % · n/a in use · 54 °C");
        run.device = "CUDA 0 · H100".into();
        assert!(state_facts(&run, true).iter().any(|(name, _)| *name == "gpu"));
        run.device = "CPU · 2 threads".into();
        assert!(state_facts(&run, true).iter().all(|(name, _)| *name != "gpu"));
    }
}
