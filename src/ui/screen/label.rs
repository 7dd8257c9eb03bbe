//! Draws the label screen: the prompt, two answers, the last verdicts.

mod end;

use crate::app::screen::label::{Card, LabelScreen, Pane, history, sampler, stats};
use crate::app::{Model, OpenSession, cells, clip, presentable};
use crate::domain::{OVERALL, QueueOrder, RubricPass, counted};
use crate::ui::frame::{damage, duration, put, put_line, rule, running, saved};
use crate::ui::theme::{ACCENT, ACCENT_BOLD, BOLD, DIFFERS, DIM, TEXT};
use crate::ui::widgets::plain::gauge;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use std::ops::Range;

/// Columns that breadcrumb, rater and save state take in the header at most before other things give way.
const NARROW_HEADER: u16 = 46;

/// The breadcrumb and the state for the header.
pub fn header(model: &Model, _screen: &LabelScreen) -> (Vec<String>, Line<'static>) {
    let Some(open) = &model.open else { return (vec!["label".into()], Line::default()) };
    let mut spans = running(model);
    let stats = stats(open);
    // In a narrow header the filter is more important than the speed.
    let wide = model.size.0 >= 100 || open.filter().is_none();
    if open.order == QueueOrder::Disputed && open.loaded {
        spans.push(Span::styled(format!("{} left   ", counted(open.queue.len(), "dispute")), BOLD));
    } else if open.order == QueueOrder::Contested && open.loaded {
        spans.push(Span::styled(format!("{} contested left   ", open.queue.len()), BOLD));
    } else if stats.total > 0 && open.loaded {
        spans.push(Span::styled(format!("{} of {} ", stats.done, stats.total), BOLD));
        if wide {
            spans.push(Span::styled(gauge(stats.done as f64 / stats.total as f64, 6), ACCENT));
        }
        // On a narrow terminal rate and time left give way to the rater and the session's name.
        let used: u16 = spans.iter().map(|span| cells(&span.content) as u16).sum();
        let mut room = model.size.0.saturating_sub(used + NARROW_HEADER);
        let rate = stats.per_hour.filter(|_| wide).map(|rate| (format!("   {rate:.0}/h"), TEXT));
        let left = stats.left_ms.filter(|ms| *ms > 0.0 && wide);
        let left = left.map(|ms| (format!("   {} left", roughly(ms / 1000.0)), DIM));
        for (text, style) in rate.into_iter().chain(left) {
            let width = cells(&text) as u16;
            if width <= room {
                room -= width;
                spans.push(Span::styled(text, style));
            }
        }
        spans.push(Span::raw(if wide { "   " } else { "  " }));
    }
    spans.extend(damage(model, usize::from(model.size.0 / 3)));
    spans.extend(saved(model, usize::from(model.size.0 / 2)));
    // While the logs are read, the breadcrumb names the requested screen.
    let place = model.goal.as_ref().filter(|_| !open.loaded).map_or("label", |(_, goal)| goal.screen);
    let mut parts = vec![clip(&open.meta.name, if wide { 40 } else { 12 }), place.into()];
    if open.loaded {
        parts.extend(narrowed(open));
    }
    (parts, Line::from(spans))
}

/// The order, the criterion and the filter of the queue, where they are not the usual ones.
fn narrowed(open: &OpenSession) -> Vec<String> {
    let order = (open.order != QueueOrder::Arrival).then(|| open.order.name().replace('_', " "));
    let rubric = match &open.rubric {
        RubricPass::Overall => None,
        RubricPass::One(name) => Some(presentable(name)),
        RubricPass::All => Some("all criteria".to_owned()),
    };
    let filter = open.filter().map(|filter| format!("{} match {}", open.matching(), presentable(&filter.to_string())));
    order.into_iter().chain(rubric).chain(filter).collect()
}

/// The question about a pair, where it is not simply which answer is better: `helpful (2 of 4): Which answer …?`
fn question(open: &OpenSession, card: &Card) -> Option<String> {
    let questions = open.session.questions(&open.rubric);
    let by = card.asked.criterion.as_deref();
    let place = match questions.iter().position(|q| *q == by).filter(|_| questions.len() > 1) {
        Some(at) => format!(" ({} of {})", at + 1, questions.len()),
        None if by.is_none() => return None,
        None => String::new(),
    };
    let sentence = match by {
        Some(name) => open.session.criterion(name).map_or("", |c| c.sentence.as_str()),
        None => "Which answer is better?",
    };
    Some(format!("{}{place}: {}", presentable(by.unwrap_or(OVERALL)), presentable(sentence)))
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
        None => end::empty(buf, area, model, open),
    }
    if open.loaded { last_verdicts(open, area.width) } else { Line::default() }
}

fn pair(buf: &mut Buffer, area: Rect, open: &OpenSession, screen: &LabelScreen, card: &Card) {
    let layout = card.layout;
    let asked = question(open, card);
    let mut title = match &asked {
        Some(question) => format!("{question} · {}", card.prompt_id),
        None => format!("prompt {}", card.prompt_id),
    };
    for tag in &card.tags {
        title.push_str(" · ");
        title.push_str(tag);
    }
    let mut remark = Vec::new();
    let by = card.asked.criterion.as_deref();
    let verdict = open.session.verdict_by(&card.pair, &open.rater, by).filter(|_| !card.is_unmarked());
    if let Some((_, verdict)) = verdict {
        remark.push(format!("your verdict: {}", crate::app::screen::label::verdict_words(verdict)));
    }
    if let Some(note) = open.session.note_of(&card.pair, &open.rater).filter(|_| !card.is_unmarked()) {
        remark.push(format!("note: {}", clip(&presentable(note), usize::from(area.width / 3))));
    }
    if card.prompt_lines.len() > usize::from(layout.prompt) {
        remark.push(format!("{} more lines", card.prompt_lines.len() - usize::from(layout.prompt)));
    }
    let style = if asked.is_some() { ACCENT_BOLD } else { DIM };
    rule(buf, area, &Span::styled(title, style), &remark.join(" · "));
    for (i, line) in card.prompt_lines.iter().take(usize::from(layout.prompt)).enumerate() {
        put(buf, area.x + 3, area.y + 1 + i as u16, area.width.saturating_sub(3), &card.prompt[line.clone()], BOLD);
    }
    let top = area.y + 1 + layout.prompt;
    if layout.beside {
        let left = (area.width - 1) / 2;
        let height = layout.rows[0] + 1;
        answer(buf, Rect { x: area.x, y: top, width: left, height }, open, screen, card, Pane::First);
        let second = Rect { x: area.x + left + 1, y: top, width: area.width - left - 1, height };
        answer(buf, second, open, screen, card, Pane::Second);
        put(buf, area.x + left, top, 1, "┬", DIM);
        for y in 1..height {
            put(buf, area.x + left, top + y, 1, "│", DIM);
        }
    } else {
        let mut y = top;
        for pane in [Pane::First, Pane::Second] {
            let rows = layout.rows[pane.index()];
            if rows > 0 {
                answer(buf, Rect { y, height: rows + 1, ..area }, open, screen, card, pane);
                y += rows + 1;
            }
        }
    }
}

fn answer(buf: &mut Buffer, area: Rect, open: &OpenSession, screen: &LabelScreen, card: &Card, pane: Pane) {
    let i = pane.index();
    let mut remark = Vec::new();
    if card.corrected[i] {
        remark.push("✎ corrected".to_owned());
    } else if open.session.correction_of(card.completion(pane), &open.rater).is_some() && !card.is_unmarked() {
        remark.push("✎ original".to_owned());
    }
    if card.tokens[i] > 0 {
        remark.push(format!("{} tok", card.tokens[i]));
    }
    remark.push(match card.read_percent(pane) {
        100 => "all read".to_owned(),
        percent => format!("{percent} % read ↓"),
    });
    let focused = card.focus == pane;
    let title = match (screen.zoom, focused) {
        (true, _) => format!("{} zoomed", pane.number()),
        _ => pane.number().to_string(),
    };
    let style = if focused { ACCENT_BOLD } else { BOLD };
    rule(buf, area, &Span::styled(title, style), &remark.join(" · "));
    let marks = if screen.diff { card.diff.as_ref().map(|diff| diff.only[i].as_slice()) } else { None };
    let text = &card.text[i];
    if text.trim().is_empty() {
        put(buf, area.x + 3, area.y + 1, area.width.saturating_sub(3), "(an empty answer)", DIM);
        return;
    }
    let rows = usize::from(area.height.saturating_sub(1));
    for (row, line) in card.lines[i].iter().skip(card.scroll[i]).take(rows).enumerate() {
        let at = Rect { x: area.x + 3, y: area.y + 1 + row as u16, width: area.width.saturating_sub(3), height: 1 };
        marked(buf, at, text, line.clone(), marks);
    }
}

/// One line of text. With marks, marked words are highlighted and the others dim.
fn marked(buf: &mut Buffer, at: Rect, text: &str, line: Range<usize>, marks: Option<&[Range<usize>]>) {
    let Some(marks) = marks else {
        put(buf, at.x, at.y, at.width, &text[line], TEXT);
        return;
    };
    let mut spans = Vec::new();
    let mut from = line.start;
    for mark in marks.iter().filter(|mark| mark.start < line.end && mark.end > line.start) {
        let (start, end) = (mark.start.max(line.start), mark.end.min(line.end));
        spans.push(Span::styled(&text[from..start], DIM));
        spans.push(Span::styled(&text[start..end], DIFFERS));
        from = end;
    }
    spans.push(Span::styled(&text[from..line.end], DIM));
    put_line(buf, at, Line::from(spans));
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
