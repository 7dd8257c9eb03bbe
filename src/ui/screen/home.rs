//! Draws the home screen: sessions, live runs, models and device.

use crate::app::screen::home::HomeScreen;
use crate::app::{LiveRun, Model, SessionCard, cells, clip, model_summary, presentable};
use crate::domain;
use crate::ui::frame::{damage, put, put_line, rule, running, saved};
use crate::ui::theme::{ACCENT, ACCENT_BOLD, BAD, BOLD, DIM, GOOD, TEXT, WARN};
use crate::ui::widgets::plain::gauge;
use crate::ui::widgets::sparkline::sparkline;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

/// From this width on, sessions and models stand side by side.
const SIDE_BY_SIDE: u16 = 150;
/// Columns of the header's breadcrumb, with room around it.
const BREADCRUMB: usize = 25;
/// Columns of a rater's name.
const RATER: usize = 24;
/// Columns of a loss sparkline.
const SPARK: usize = 12;

/// The breadcrumb and the state for the header.
pub fn header(model: &Model, _screen: &HomeScreen) -> (Vec<String>, Line<'static>) {
    let mut spans = running(model);
    spans.extend(damage(model, usize::from(model.size.0 / 3)));
    let device = if model.device.is_empty() { "looking for the device …" } else { &model.device };
    let mut state = saved(model, 40);
    let used = |spans: &[Span]| spans.iter().map(|s| cells(&s.content)).sum::<usize>();
    // The live run and the save state take precedence over the device.
    let room = usize::from(model.size.0).saturating_sub(BREADCRUMB);
    if used(&spans) + used(&state) + cells(device) + 3 <= room {
        spans.push(Span::styled(device.to_owned(), DIM));
        if !state.is_empty() {
            spans.push(Span::raw("   "));
        }
    } else {
        state = saved(model, room.saturating_sub(used(&spans)));
    }
    spans.extend(state);
    (vec!["tiebreak".into(), "sessions".into()], Line::from(spans))
}

/// Draws the body; returns the status line.
pub fn body(buf: &mut Buffer, area: Rect, model: &Model, screen: &HomeScreen) -> Line<'static> {
    let live: Vec<(&str, &LiveRun)> = model
        .sessions
        .iter()
        .flatten()
        .flat_map(|card| card.running.iter().map(|run| (card.name.as_str(), run)))
        .collect();
    let model_rows = model.models.as_ref().map_or(1, |m| m.len().max(1)) as u16;
    if area.width >= SIDE_BY_SIDE {
        let right = (area.width / 3).min(64);
        let left = Rect { width: area.width - right, ..area };
        let side = Rect { x: left.right() + 2, width: right - 2, ..area };
        sessions(buf, left, model, screen);
        let top = (live.len() as u16).max(1) + 2;
        live_runs(buf, Rect { height: top.min(side.height), ..side }, &live);
        let rest = Rect { y: side.y + top.min(side.height), height: side.height.saturating_sub(top), ..side };
        models(buf, rest, model);
    } else {
        let bottom = (model_rows + 1).min(6);
        let middle = if live.is_empty() { 0 } else { (live.len() as u16 + 2).min(6) };
        let top = area.height.saturating_sub(bottom + middle);
        sessions(buf, Rect { height: top, ..area }, model, screen);
        live_runs(buf, Rect { y: area.y + top, height: middle, ..area }, &live);
        models(buf, Rect { y: area.y + top + middle, height: bottom, ..area }, model);
    }
    match screen.current(model) {
        Some(card) => {
            let mut spans = vec![Span::styled(format!("{}  ·  {}", card.name, card.model), DIM)];
            let used: usize = spans.iter().map(|span| cells(&span.content)).sum();
            let by = raters(card, model, usize::from(area.width).saturating_sub(used + 7));
            if !by.is_empty() {
                spans.push(Span::styled(format!("  ·  {by}"), DIM));
            }
            if !card.integrity.is_intact() {
                spans.push(Span::styled(format!("  ·  ⚠ {}", card.integrity.sentence()), BAD));
            }
            Line::from(spans)
        }
        None => Line::default(),
    }
}

fn sessions(buf: &mut Buffer, area: Rect, model: &Model, screen: &HomeScreen) {
    let count = model
        .sessions
        .as_ref()
        .map_or(String::new(), |s| if s.is_empty() { String::new() } else { s.len().to_string() });
    rule(buf, area, &Span::styled("sessions", BOLD), &count);
    let area = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
    let Some(cards) = &model.sessions else {
        put(buf, area.x + 3, area.y + 1, area.width, "reading the sessions …", DIM);
        return;
    };
    if cards.is_empty() {
        let key = |action: &str| Span::styled(model.keys.key("home", action), ACCENT);
        let lines = [
            vec![Span::raw("No sessions yet.")],
            vec![],
            vec![key("new"), Span::raw("  creates one: a name, a model, a file of prompts.")],
            vec![
                Span::raw("   Then "),
                key("sample"),
                Span::raw(" samples answers, "),
                key("label"),
                Span::raw(" labels them, "),
                key("launch"),
                Span::raw(" trains, "),
                key("watch"),
                Span::raw(" watches."),
            ],
            vec![],
            vec![
                Span::raw("To look first: "),
                Span::styled("tiebreak demo", ACCENT),
                Span::raw(" in a shell, with answers to label at once."),
            ],
        ];
        for (i, spans) in lines.into_iter().enumerate() {
            let row = Rect { x: area.x + 3, y: area.y + 1 + i as u16, width: area.width.saturating_sub(4), height: 1 };
            put_line(buf, row, Line::from(spans));
        }
        return;
    }
    let selected = screen.selected(model).unwrap_or(0);
    let rows = usize::from(area.height);
    let first = (selected + 1).saturating_sub(rows).min(cards.len().saturating_sub(rows));
    for (i, card) in cards.iter().enumerate().skip(first).take(rows) {
        let row = Rect { y: area.y + (i - first) as u16, height: 1, ..area };
        session(buf, row, card, i == selected, model);
    }
}

fn session(buf: &mut Buffer, row: Rect, card: &SessionCard, selected: bool, model: &Model) {
    let (mark, name_style) = if selected { ("›", ACCENT_BOLD) } else { (" ", TEXT) };
    put(buf, row.x + 1, row.y, 1, mark, ACCENT_BOLD);
    // Fixed columns from the right; the name gets the remaining width.
    let ago = ago(model.now_ms, card.changed_ms);
    let mut x = row.right().saturating_sub(13);
    put(buf, x, row.y, 12, &format!("{ago:>12}"), DIM);
    x = x.saturating_sub(SPARK as u16 + 2);
    put(buf, x, row.y, SPARK as u16, &spark(&card.losses, model.theme.ascii), TEXT);
    x = x.saturating_sub(11);
    put(buf, x, row.y, 9, &counted(card.runs, "run"), DIM);
    x = x.saturating_sub(13);
    put(buf, x, row.y, 12, &counted(card.label_count(), "label"), DIM);
    let name = clip(&card.name, usize::from(x.saturating_sub(row.x + 4)));
    let used = put(buf, row.x + 3, row.y, x.saturating_sub(row.x + 4), &name, name_style);
    let mut at = row.x + 3 + used + 2;
    if !card.running.is_empty() {
        at += put(buf, at, row.y, x.saturating_sub(at + 1), "running", GOOD) + 2;
    }
    if !card.integrity.is_intact() {
        put(buf, at, row.y, x.saturating_sub(at + 1), &format!("⚠ {}", card.integrity.words()), BAD);
    }
}

/// Whose labels a session's count counts, in at most `room` cells: `labels by ana 24 (you), ben 12`.
fn raters(card: &SessionCard, model: &Model, room: usize) -> String {
    let mut out = String::new();
    for (at, (rater, n)) in card.labels.iter().enumerate() {
        let you = if model.rater.as_ref() == Some(rater) { " (you)" } else { "" };
        let name = clip(&presentable(rater.as_str()), RATER);
        let next = format!("{}{name} {n}{you}", if at == 0 { "labels by " } else { ", " });
        let left = card.labels.len() - at - 1;
        let reserve = if left > 0 { " and 99 more".len() } else { 0 };
        if cells(&out) + cells(&next) + reserve > room {
            let more = card.labels.len() - at;
            return if at == 0 {
                format!("labels by {}", domain::counted(more, "rater"))
            } else {
                format!("{out} and {more} more")
            };
        }
        out.push_str(&next);
    }
    out
}

fn counted(n: usize, noun: &str) -> String {
    format!("{n:>4} {noun}{}", if n == 1 { "" } else { "s" })
}

fn spark(losses: &[f64], ascii: bool) -> String {
    let mut line = domain::Line::default();
    for (i, loss) in losses.iter().enumerate() {
        line.push(i as u64 + 1, *loss, 0);
    }
    sparkline(&line, SPARK, ascii)
}

fn live_runs(buf: &mut Buffer, area: Rect, live: &[(&str, &LiveRun)]) {
    if area.height == 0 {
        return;
    }
    rule(buf, area, &Span::styled("running now", BOLD), "");
    if live.is_empty() {
        put(buf, area.x + 3, area.y + 1, area.width.saturating_sub(3), "nothing", DIM);
    }
    for (i, (session, run)) in live.iter().take(usize::from(area.height.saturating_sub(1))).enumerate() {
        let mut spans =
            vec![Span::raw((*session).to_owned()), Span::styled(" › ", DIM), Span::styled(run.run.to_string(), BOLD)];
        if run.total > 0 {
            spans.push(Span::styled(format!("   {} of {}  ", run.step, run.total), TEXT));
            spans.push(Span::styled(gauge(run.step as f64 / run.total as f64, 8), ACCENT));
        } else {
            spans.push(Span::styled("   starting", DIM));
        }
        let row = Rect { x: area.x + 3, y: area.y + 1 + i as u16, width: area.width.saturating_sub(4), height: 1 };
        put_line(buf, row, Line::from(spans));
    }
}

fn models(buf: &mut Buffer, area: Rect, model: &Model) {
    if area.height == 0 {
        return;
    }
    rule(buf, area, &Span::styled("models on this machine", BOLD), "");
    let width = area.width.saturating_sub(4);
    let say = |buf: &mut Buffer, text: &str| {
        put(buf, area.x + 3, area.y + 1, width, text, DIM);
    };
    match &model.models {
        None => say(buf, "looking for models …"),
        Some(models) if models.is_empty() => {
            say(buf, "none found; `tiebreak models get smollm2` downloads a small one");
        }
        Some(models) => {
            let rows = usize::from(area.height - 1);
            let shown = if models.len() > rows { rows.saturating_sub(1) } else { models.len() };
            let longest = models.iter().map(|card| cells(&card.name) as u16).max().unwrap_or(0);
            for (i, card) in models.iter().take(shown).enumerate() {
                let y = area.y + 1 + i as u16;
                let (detail, style) = match &card.problem {
                    Some(problem) => (format!("cannot be used: {problem}"), WARN),
                    None => (model_summary(card), DIM),
                };
                let column = longest.clamp(16, (width * 2 / 3).max(16)) + 2;
                put(buf, area.x + 3, y, width, &clip(&card.name, usize::from(column - 2)), TEXT);
                let room = width.saturating_sub(column);
                put(buf, area.x + 3 + column, y, room, &clip(&detail, usize::from(room)), style);
            }
            if shown < models.len() {
                let more = format!("and {} more", models.len() - shown);
                put(buf, area.x + 3, area.y + 1 + shown as u16, width, &more, DIM);
            }
        }
    }
}

/// The age of a time, for people.
fn ago(now: u64, then: u64) -> String {
    let s = now.saturating_sub(then) / 1000;
    match s {
        _ if then == 0 => String::new(),
        0..60 => "just now".into(),
        60..3600 => format!("{} min ago", s / 60),
        3600..86_400 => format!("{} h ago", s / 3600),
        86_400..172_800 => "yesterday".into(),
        _ => format!("{} days ago", s / 86_400),
    }
}
