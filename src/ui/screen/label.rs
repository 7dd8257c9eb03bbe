//! Draws the label screen: the prompt, two answers, the last verdicts.

mod answer;
mod end;
mod prompt;

pub(super) use answer::styled;

use crate::app::screen::label::{Card, LabelScreen, Pane, history, sampler, stats};
use crate::app::{Model, OpenSession, cells, clip, presentable};
use crate::domain::{OVERALL, QueueOrder, RubricPass, counted};
use crate::ui::frame::{damage, duration, put, running, saved};
use crate::ui::theme::{ACCENT, ACCENT_BOLD, BOLD, DIM, TEXT};
use crate::ui::widgets::plain::gauge;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

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
    let progress = open.progress().map(|share| format!("looking through the pairs {:.0} %", share * 100.0));
    order.into_iter().chain(rubric).chain(filter).chain(progress).collect()
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
        Some(card) => pair(buf, area, model, screen, card),
        None => end::empty(buf, area, model, open),
    }
    if open.loaded { last_verdicts(model, open, area.width) } else { Line::default() }
}

fn pair(buf: &mut Buffer, area: Rect, model: &Model, screen: &LabelScreen, card: &Card) {
    let Some(open) = &model.open else { return };
    let layout = card.layout;
    let asked = question(open, card);
    let mut title = match &asked {
        Some(question) => format!("{question} · {}", card.name),
        None => format!("prompt {}", card.name),
    };
    for tag in &card.tags {
        title.push_str(" · ");
        title.push_str(tag);
    }
    let mut remark = Vec::new();
    // In a blind comparison a word may tell who wrote an answer.
    for pane in [Pane::First, Pane::Second] {
        if let Some(word) = card.giveaways[pane.index()].first() {
            remark.push(format!("⚠ answer {} says “{word}”", pane.number()));
        }
    }
    let by = card.asked.criterion.as_deref();
    let verdict = open.session.verdict_by(&card.pair, &open.rater, by).filter(|_| !card.is_unmarked());
    if let Some((_, verdict)) = verdict {
        remark.push(format!("your verdict: {}", crate::app::screen::label::verdict_words(verdict)));
    }
    if let Some(note) = open.session.note_of(&card.pair, &open.rater).filter(|_| !card.is_unmarked()) {
        remark.push(format!("note: {}", clip(&presentable(note), usize::from(area.width / 3))));
    }
    let style = if asked.is_some() { ACCENT_BOLD } else { DIM };
    prompt::draw(buf, area, (card, &model.keys), &Span::styled(title, style), &remark);
    let top = area.y + 1 + layout.prompt;
    if layout.beside {
        let left = (area.width - 1) / 2;
        let height = layout.rows[0] + 1;
        answer::draw(buf, Rect { x: area.x, y: top, width: left, height }, model, screen, card, Pane::First);
        let second = Rect { x: area.x + left + 1, y: top, width: area.width - left - 1, height };
        answer::draw(buf, second, model, screen, card, Pane::Second);
        put(buf, area.x + left, top, 1, "┬", DIM);
        for y in 1..height {
            put(buf, area.x + left, top + y, 1, "│", DIM);
        }
    } else {
        let mut y = top;
        for pane in [Pane::First, Pane::Second] {
            let rows = layout.rows[pane.index()];
            if rows > 0 {
                answer::draw(buf, Rect { y, height: rows + 1, ..area }, model, screen, card, pane);
                y += rows + 1;
            }
        }
    }
}

/// The status line: the last verdicts, newest first, and the sampler.
fn last_verdicts(model: &Model, open: &OpenSession, width: u16) -> Line<'static> {
    let sampler = sampler(open, &model.keys);
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
