//! Draws a sampling run: its progress, speed and last answers.

use super::findings::{alerts, severity_style, wrapped};
use super::scene::Scene;
use crate::app::{clip, presentable};
use crate::domain::{Finish, RunStatus, counted};
use crate::ui::frame::{duration, put_line, rule};
use crate::ui::theme::DIM;
use crate::ui::widgets::plain::bar;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::Span;

/// Draws the run.
pub fn draw(scene: &Scene<'_>, area: Rect, buf: &mut Buffer) {
    let run = scene.run;
    let (x, width) = (area.x + 1, usize::from(area.width).saturating_sub(2));
    let mut rows = area.y..area.bottom();
    if let (Some(line), Some(y)) = (&scene.runs, scene.runs.as_ref().and_then(|_| rows.next())) {
        put_line(buf, Rect { y, height: 1, ..area }, line.clone());
    }
    rows.next();
    let mut put = |text: String, style: Style, rows: &mut std::ops::Range<u16>| {
        if let Some(y) = rows.next() {
            buf.set_stringn(x, y, clip(&text, width), width, style);
        }
    };
    if let Some(plan) = run.plan.as_ref().filter(|p| p.total_steps > 0) {
        let share = run.step as f64 / plan.total_steps as f64;
        let bar = bar(share, width.saturating_sub(34).min(60));
        let digits = plan.total_steps.to_string().len();
        let answers = format!("{bar}  {:>digits$} of {} answers", run.step, plan.total_steps);
        put(answers, Style::default(), &mut rows);
    } else {
        let what = run.stage.as_ref().map_or("the worker is starting …".to_owned(), |s| presentable(&s.name));
        put(what, Style::default(), &mut rows);
    }
    let mut facts = Vec::new();
    // Some servers do not count tokens: then nothing is known of the rate.
    if let Some(rate) = run.tokens_per_second().filter(|rate| *rate > 0.0) {
        facts.push(format!("{rate:.0} tok/s"));
    }
    if let Some(waiting) = run.latest("queue_depth").filter(|n| *n > 0.0) {
        facts.push(format!("{} waiting", counted(waiting as u64, "prompt")));
    }
    if let Some(left) = run.seconds_left().filter(|_| scene.status == RunStatus::Running) {
        facts.push(format!("{} left", duration(left)));
    }
    facts.push(format!("{} made", counted(run.paired, "pair")));
    facts.push(match run.duplicates {
        0 => "no duplicates".to_owned(),
        n => format!("{} dropped", counted(n, "duplicate answer")),
    });
    put(facts.join(" · "), Style::default(), &mut rows);
    let about: Vec<String> = scene.facts.iter().map(|(name, value)| format!("{name} {value}")).collect();
    put(about.join(" · "), DIM, &mut rows);
    for (text, severity) in alerts(scene) {
        for line in wrapped(&text, width) {
            put(line, severity_style(severity), &mut rows);
        }
    }
    rows.next();
    let Some(y) = rows.next() else { return };
    rule(buf, Rect { y, height: 1, ..area }, &Span::styled("last answers", DIM), "");
    if run.recent.is_empty() {
        if let Some(y) = rows.next() {
            buf.set_stringn(x, y, "none yet", width, DIM);
        }
        return;
    }
    // Two lines for an answer: prompt and length, then its beginning.
    for done in run.recent.iter().rev() {
        if rows.len() < 2 {
            return;
        }
        let (Some(a), Some(b)) = (rows.next(), rows.next()) else { return };
        let end = if done.finish == Finish::Length { " · truncated at the limit" } else { "" };
        let tokens = if done.tokens > 0 { format!(" · {} tok", done.tokens) } else { String::new() };
        let head = format!("{}{tokens}{end}", done.prompt);
        buf.set_stringn(x, a, clip(&head, width), width, DIM);
        buf.set_stringn(x + 1, b, clip(&presentable(&done.text), width - 1), width, Style::default());
    }
}
