//! Draws the label screen: the prompt, two answers, the last verdicts.

mod answer;
mod prompt;

use crate::app::screen::label::{Card, LabelScreen, Pane, history, sampler, stats};
use crate::app::{Model, OpenSession, clip, presentable, short_model_name};
use crate::domain::{QueueOrder, counted};
use crate::ui::frame::{damage, duration, put, put_line, running, saved};
use crate::ui::theme::{ACCENT, BOLD, DIM, TEXT};
use crate::ui::widgets::plain::gauge;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

/// The breadcrumb and the state for the header.
pub fn header(model: &Model, _screen: &LabelScreen) -> (Vec<String>, Line<'static>) {
    let Some(open) = &model.open else { return (vec!["label".into()], Line::default()) };
    let mut spans = running(model);
    let stats = stats(open);
    if open.order == QueueOrder::Disputed && open.loaded {
        spans.push(Span::styled(format!("{} left   ", counted(open.queue.len(), "dispute")), BOLD));
    } else if stats.total > 0 && open.loaded {
        spans.push(Span::styled(format!("{} of {} ", stats.done, stats.total), BOLD));
        spans.push(Span::styled(gauge(stats.done as f64 / stats.total as f64, 6), ACCENT));
        if let Some(rate) = stats.per_hour {
            spans.push(Span::styled(format!("   {rate:.0}/h"), TEXT));
        }
        if let Some(ms) = stats.left_ms.filter(|ms| *ms > 0.0) {
            spans.push(Span::styled(format!("   {} left", roughly(ms / 1000.0)), DIM));
        }
        spans.push(Span::raw("   "));
    }
    spans.extend(damage(model, usize::from(model.size.0 / 3)));
    spans.extend(saved(model, usize::from(model.size.0 / 2)));
    // While the logs are read, the breadcrumb names the requested screen.
    let place = model.goal.as_ref().filter(|_| !open.loaded).map_or("label", |(_, goal)| goal.screen);
    (vec![clip(&open.meta.name, 40), place.into()], Line::from(spans))
}

/// The time left, rounded to its precision.
fn roughly(seconds: f64) -> String {
    if seconds < 90.0 {
        duration((seconds / 10.0).ceil() * 10.0)
    } else if seconds < 3600.0 {
        format!("{:.0} m", seconds / 60.0)
    } else {
        duration(seconds)
    }
}

/// Draws the body; returns the status line.
pub fn body(buf: &mut Buffer, area: Rect, model: &Model, screen: &LabelScreen) -> Line<'static> {
    let Some(open) = &model.open else { return Line::default() };
    match &screen.card {
        Some(card) => pair(buf, area, open, screen, card),
        None => empty(buf, area, open),
    }
    if open.loaded { last_verdicts(open, area.width) } else { Line::default() }
}

fn pair(buf: &mut Buffer, area: Rect, open: &OpenSession, screen: &LabelScreen, card: &Card) {
    let layout = card.layout;
    let mut title = format!("prompt {}", card.name);
    for tag in &card.tags {
        title.push_str(" · ");
        title.push_str(tag);
    }
    let mut remark = Vec::new();
    if let Some((_, verdict)) = open.session.verdict_of(&card.pair, &open.rater) {
        remark.push(format!("your verdict: {}", crate::app::screen::label::verdict_words(verdict)));
    }
    if let Some(note) = open.session.note_of(&card.pair, &open.rater) {
        remark.push(format!("note: {}", clip(&presentable(note), usize::from(area.width / 3))));
    }
    prompt::draw(buf, area, card, &Span::styled(title, DIM), &remark);
    let top = area.y + 1 + layout.prompt;
    if layout.beside {
        let left = (area.width - 1) / 2;
        let height = layout.rows[0] + 1;
        answer::draw(buf, Rect { x: area.x, y: top, width: left, height }, open, screen, card, Pane::First);
        let second = Rect { x: area.x + left + 1, y: top, width: area.width - left - 1, height };
        answer::draw(buf, second, open, screen, card, Pane::Second);
        put(buf, area.x + left, top, 1, "┬", DIM);
        for y in 1..height {
            put(buf, area.x + left, top + y, 1, "│", DIM);
        }
    } else {
        let mut y = top;
        for pane in [Pane::First, Pane::Second] {
            let rows = layout.rows[pane.index()];
            if rows > 0 {
                answer::draw(buf, Rect { y, height: rows + 1, ..area }, open, screen, card, pane);
                y += rows + 1;
            }
        }
    }
}

/// The empty state: what to do without a pair to label.
fn empty(buf: &mut Buffer, area: Rect, open: &OpenSession) {
    let key = |k: &'static str, text: &str| vec![Span::styled(k, ACCENT), Span::raw(format!("  {text}"))];
    let stats = stats(open);
    let sampler = sampler(open);
    let mut lines: Vec<Vec<Span>> = Vec::new();
    if !open.loaded {
        lines.push(vec![Span::styled("reading the session …", DIM)]);
    } else if !sampler.is_empty() {
        lines.push(vec![Span::styled("No pair to label yet: pairs appear here as they are ready.", BOLD)]);
        lines.push(vec![Span::raw(sampler)]);
        lines.push(vec![]);
        lines.push(key("w", "watch it"));
    } else if open.order == QueueOrder::Disputed {
        lines.push(vec![Span::styled("No disputes left.", BOLD)]);
        lines.push(vec![]);
        lines.push(key("o", "label the other pairs"));
        lines.push(key("t", "train on the verdicts"));
        lines.push(key("u", "undo the last decision"));
    } else if open.session.settings().is_some() && !open.session.pairs().is_empty() {
        let text = format!("No pair needs a label from {}.", presentable(open.rater.as_str()));
        lines.push(vec![Span::styled(text, BOLD)]);
        lines.push(vec![]);
        match open.session.disputes().len() {
            0 => {}
            n => lines.push(key("o", &format!("settle {}", counted(n, "dispute")))),
        }
        lines.push(key("t", "train on the verdicts"));
        lines.push(key("s", "sample more answers"));
        lines.push(key("g", "look at a pair again"));
    } else if stats.done > 0 {
        lines.push(vec![Span::styled(
            match stats.total {
                1 => "The only pair is labelled.".into(),
                n => format!("All {n} pairs are labelled."),
            },
            BOLD,
        )]);
        lines.push(vec![]);
        lines.push(key("t", "train on the verdicts"));
        lines.push(key("s", "sample more answers"));
        lines.push(key("g", "look at a pair again"));
        lines.push(key("u", "undo the last verdict or correction"));
    } else if !open.session.pairs().is_empty() {
        let n = open.session.pairs().len();
        let imported = match n {
            1 => "the only pair was imported with its verdict".into(),
            n => format!("all {n} pairs were imported with verdicts"),
        };
        lines.push(vec![Span::styled(format!("Nothing to label: {imported}."), BOLD)]);
        lines.push(vec![]);
        lines.push(key("t", "train on the verdicts"));
        lines.push(key("s", "sample answers to label yourself"));
        lines.push(key("g", "look at a pair"));
    } else if open.session.prompts().is_empty() {
        lines.push(vec![Span::styled("This session has no prompts yet.", BOLD)]);
        lines.push(vec![]);
        lines.push(key("i", "import a file: prompts one per line or as JSONL, or pairs as JSONL"));
    } else {
        let prompts = counted(open.session.prompts().len(), "prompt");
        lines.push(vec![Span::styled(format!("{prompts}, and no answers to compare yet."), BOLD)]);
        lines.push(vec![]);
        lines.push(key("s", &format!("sample answers with {}", short_model_name(&open.meta.model))));
        lines.push(key("i", "import pairs from a file"));
    }
    let top = area.y + area.height.saturating_sub(lines.len() as u16) / 3;
    for (i, spans) in lines.into_iter().enumerate() {
        let row = Rect { x: area.x + 3, y: top + i as u16, width: area.width.saturating_sub(4), height: 1 };
        put_line(buf, row, Line::from(spans));
    }
}

/// The status line: the last verdicts, newest first, and the sampler.
fn last_verdicts(open: &OpenSession, width: u16) -> Line<'static> {
    let sampler = sampler(open);
    let room = usize::from(width.saturating_sub(4)).saturating_sub(crate::app::cells(&sampler));
    let mut used = 0;
    let mut spans = Vec::new();
    for (i, (prompt, words)) in history(open, 3).into_iter().enumerate() {
        // Older verdicts give way to the sampler's status.
        used += crate::app::cells(&prompt) + crate::app::cells(&words) + if i > 0 { 4 } else { 1 };
        if i > 0 && used > room {
            break;
        }
        if i > 0 {
            spans.push(Span::styled(" · ", DIM));
        }
        spans.push(Span::styled(format!("{prompt} "), DIM));
        spans.push(Span::styled(words, if i == 0 { BOLD } else { DIM }));
    }
    if !sampler.is_empty() {
        let used: usize = spans.iter().map(|span| crate::app::cells(&span.content)).sum();
        let gap = usize::from(width.saturating_sub(2)).saturating_sub(used + crate::app::cells(&sampler));
        spans.push(Span::raw(" ".repeat(gap.max(2))));
        spans.push(Span::styled(sampler, DIM));
    }
    Line::from(spans)
}
