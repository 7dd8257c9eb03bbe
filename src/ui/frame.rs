//! The frame around every screen: header (breadcrumb, live run, save state), status line, footer (the keys that matter
//! here), and rules with titles.

use crate::app::bindings::EVERYWHERE;
use crate::app::{ActiveScreen, Model, READ_ONLY_DISK, RunView, SaveState, Tone, cells, clip, presentable, wrap};
use crate::domain::{QueueOrder, counted};
use crate::ui::theme::{ACCENT, BAD, BOLD, DIM, GOOD, TEXT, WARN};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Widget;

/// The smallest supported terminal.
const MIN_SIZE: (u16, u16) = (60, 16);

/// The parts of the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Areas {
    /// The first row.
    pub header: Rect,
    /// The rows between header and status line.
    pub body: Rect,
    /// The row above the footer.
    pub status: Rect,
    /// The last row.
    pub footer: Rect,
}

/// The parts of the frame; none if the terminal is too small.
#[must_use]
pub fn areas(area: Rect) -> Option<Areas> {
    if area.width < MIN_SIZE.0 || area.height < MIN_SIZE.1 {
        return None;
    }
    let row = |y: u16| Rect { y: area.y + y, height: 1, ..area };
    Some(Areas {
        header: row(0),
        body: Rect { y: area.y + 1, height: area.height - 3, ..area },
        status: row(area.height - 2),
        footer: row(area.height - 1),
    })
}

/// Says that the terminal is too small.
pub fn too_small(buf: &mut Buffer, area: Rect) {
    let text = format!("too small: needs {}x{}, is {}x{}", MIN_SIZE.0, MIN_SIZE.1, area.width, area.height);
    put(buf, area.x, area.y, area.width, &text, TEXT);
}

/// Writes text on one row, cut to `width` cells; returns the cells used.
pub fn put(buf: &mut Buffer, x: u16, y: u16, width: u16, text: &str, style: Style) -> u16 {
    if !buf.area.contains((x, y).into()) {
        return 0;
    }
    let (end, _) = buf.set_stringn(x, y, text, usize::from(width), style);
    end - x
}

/// Draws a line of spans on one row.
pub fn put_line(buf: &mut Buffer, area: Rect, line: Line) {
    let row = Rect { height: area.height.min(1), ..area }.intersection(buf.area);
    if !row.is_empty() {
        line.render(row, buf);
    }
}

/// The width of a line in cells.
pub fn width_of(line: &Line) -> u16 {
    line.spans.iter().map(|span| cells(&span.content) as u16).sum()
}

/// The save state, in at most `room` cells.
#[must_use]
pub fn saved(model: &Model, room: usize) -> Vec<Span<'static>> {
    let Some(open) = &model.open else { return Vec::new() };
    let retry = model.keys.key(EVERYWHERE, "save");
    let (text, style) = match (&open.read_only, open.saved()) {
        (Some(disk), _) if disk == READ_ONLY_DISK => (disk.clone(), WARN),
        (Some(holder), _) => (format!("read-only: held by {holder}"), WARN),
        (None, SaveState::Saved) => ("✓ saved".to_owned(), GOOD),
        (None, SaveState::Saving(_)) => ("saving…".to_owned(), WARN),
        (None, SaveState::Delayed { records, error, retry_ms }) => {
            let seconds = retry_ms.saturating_sub(model.clock_ms).div_ceil(1000);
            (format!("{records} NOT SAVED, next try in {seconds} s ({retry}: now): {error}"), BAD)
        }
        (None, SaveState::Failed(error)) => (format!("NOT SAVED, {retry} tries again: {error}"), BAD),
    };
    vec![Span::styled(clip(&text, room), style)]
}

/// What is wrong with the open session's logs, in at most `room` cells.
#[must_use]
pub fn damage(model: &Model, room: usize) -> Vec<Span<'static>> {
    let Some(open) = &model.open else { return Vec::new() };
    damage_spans(&open.integrity.words(), open.integrity.opaque, room)
}

/// What is wrong with a run's log, in at most `room` cells.
#[must_use]
pub fn run_damage(run: &RunView, room: usize) -> Vec<Span<'static>> {
    damage_spans(&run.integrity.words(), run.integrity.opaque, room)
}

/// The damage if there is any, else the number of unknown records.
fn damage_spans(damage: &str, unknown: u64, room: usize) -> Vec<Span<'static>> {
    let (text, style) = match (damage, unknown) {
        ("", 0) => return Vec::new(),
        ("", n) => (counted(n, "unknown record"), WARN),
        (damage, _) => (format!("⚠ {damage}"), BAD),
    };
    vec![Span::styled(clip(&text, room), style), Span::raw("   ")]
}

/// The live training run of the open session, in words.
#[must_use]
pub fn running(model: &Model) -> Vec<Span<'static>> {
    let live = |run: &&RunView| !run.is_sampling() && run.alive == Some(true) && run.status().is_live();
    let Some(run) = model.open.as_ref().and_then(|open| open.runs.iter().rev().find(live)) else { return Vec::new() };
    let total = run.state.plan.as_ref().map_or(0, |plan| plan.total_steps);
    let step = if total > 0 { format!(" {}/{total}", run.state.step) } else { format!(" {}", run.status().word()) };
    vec![Span::styled(run.id.to_string(), GOOD), Span::raw(step), Span::raw("   ")]
}

/// Who works here, in a few words or by name alone; empty where nobody is known. No other rater's name is ever shown.
#[must_use]
pub fn rater(model: &Model, short: bool) -> Vec<Span<'static>> {
    let Some(rater) = model.open.as_ref().map(|open| &open.rater).or(model.rater.as_ref()) else { return Vec::new() };
    let name = clip(&presentable(rater.as_str()), 16);
    let labelling = matches!(model.screen, ActiveScreen::LabelScreen(_));
    let adjudicates = labelling && model.open.as_ref().is_some_and(|open| open.order == QueueOrder::Disputed);
    let text = match (adjudicates, short) {
        (true, _) => format!("{name} adjudicates"),
        (false, true) => name,
        (false, false) => format!("rater {name}"),
    };
    vec![Span::styled(text, ACCENT), Span::raw(if short { "  " } else { "   " })]
}

/// The header: breadcrumb on the left, state on the right. If both do not fit, the breadcrumb is cut.
pub fn header(buf: &mut Buffer, area: Rect, place: Vec<String>, right: Line) {
    let want = width_of(&right);
    let room = area.width.saturating_sub(want + 4);
    let mut spans = vec![Span::raw(" ")];
    let last = place.len().saturating_sub(1);
    for (i, part) in place.into_iter().enumerate() {
        if i > 0 {
            spans.push(Span::styled(" › ", DIM));
        }
        spans.push(Span::styled(part, if i == last { BOLD } else { TEXT }));
    }
    put_line(buf, Rect { width: room + 1, ..area }, Line::from(spans));
    let width = want.min(area.width.saturating_sub(2));
    put_line(buf, Rect { x: area.right().saturating_sub(width + 1), width, ..area }, right);
}

/// Rows that a notice takes at most.
const NOTICE_ROWS: usize = 3;

/// The status line: the notice, or else the screen's own line. A notice that is too long for one row takes the rows above
/// too: its end is the remedy.
pub fn status(buf: &mut Buffer, area: Rect, model: &Model, line: Line) {
    let inner = Rect { x: area.x + 1, width: area.width.saturating_sub(2), ..area };
    match &model.notice {
        Some(notice) => {
            let (mark, style) = match notice.tone {
                Tone::Info => ("", ACCENT),
                Tone::Warn => ("⚠ ", WARN),
            };
            let room = usize::from(inner.width).saturating_sub(2).max(1);
            let lines = wrap(&notice.text, room);
            let shown = lines.len().min(NOTICE_ROWS);
            for (i, line) in lines.iter().take(shown).enumerate() {
                let up = (shown - 1 - i) as u16;
                let row = Rect { y: area.y.saturating_sub(up), ..inner };
                put(buf, area.x, row.y, area.width, &" ".repeat(usize::from(area.width)), TEXT);
                let rest = if i + 1 == NOTICE_ROWS { notice.text.len() } else { line.end };
                let text = clip(notice.text[line.start..rest].trim_end(), room);
                let mark = if i == 0 { mark } else { &"  "[..mark.chars().count()] };
                put_line(buf, row, Line::from(vec![Span::styled(mark.to_owned(), style), Span::styled(text, style)]));
            }
        }
        None => put_line(buf, inner, line),
    }
}

/// The footer: as many keys as fit; the help key always does.
pub fn footer(buf: &mut Buffer, area: Rect, model: &Model) {
    let mut entries = model.footer();
    let room = usize::from(area.width);
    let all = |gap: usize| 1 + entries.iter().map(|(keys, word)| cells(keys) + cells(word) + 1 + gap).sum::<usize>();
    let gap = if all(3) <= room + 3 { 3 } else { 2 };
    let width = |(keys, word): &(String, &str)| cells(keys) + cells(word) + 1 + gap;
    let help = entries.iter().position(|(_, word)| *word == "help").map(|at| entries.remove(at));
    let mut used = 1 + help.as_ref().map_or(0, width);
    let mut spans = vec![Span::raw(" ")];
    let fits = entries.into_iter().take_while(|entry| {
        used += width(entry);
        used <= room + gap
    });
    for (i, (keys, word)) in fits.chain(help).enumerate() {
        if i > 0 {
            spans.push(Span::raw(" ".repeat(gap)));
        }
        spans.push(Span::styled(keys, ACCENT));
        spans.push(Span::styled(format!(" {word}"), DIM));
    }
    put_line(buf, area, Line::from(spans));
}

/// A rule across `area`'s first row with a title on the left and a remark on the right: `─ title ─── remark ─`.
pub fn rule(buf: &mut Buffer, area: Rect, title: &Span, remark: &str) {
    if area.is_empty() {
        return;
    }
    for x in area.left()..area.right() {
        put(buf, x, area.y, 1, "─", DIM);
    }
    let room = area.width.saturating_sub(4);
    if !title.content.is_empty() {
        let style = over_rule(title.style);
        let text = clip(&title.content, usize::from(room));
        put(buf, area.x + 1, area.y, room + 2, &format!(" {text} "), style);
    }
    let want = cells(remark) as u16 + 2;
    if !remark.is_empty() && cells(&title.content) as u16 + want + 6 < area.width {
        put(buf, area.right() - want - 1, area.y, want, &format!(" {remark} "), DIM);
    }
}

/// Remarks for a rule, each in its forms from long to short, the most important first: the longest forms that fit
/// beside the title. The least important are shortened first, then left out.
#[must_use]
pub fn fitting(width: u16, title: &str, remarks: &[Vec<String>]) -> Vec<String> {
    let room = usize::from(width).saturating_sub(cells(title) + 9);
    let mut forms: Vec<usize> = vec![0; remarks.len()];
    loop {
        let shown = remarks.iter().zip(&forms).filter_map(|(remark, form)| remark.get(*form));
        let shown: Vec<String> = shown.filter(|text| !text.is_empty()).cloned().collect();
        if cells(&shown.join(" · ")) <= room {
            return shown;
        }
        // Shorten everything once, the least important first, before anything is left out.
        let shorter = (0..remarks.len()).rev().find(|i| forms[*i] + 1 < remarks[*i].len());
        match shorter.or_else(|| (0..remarks.len()).rev().find(|i| forms[*i] < remarks[*i].len())) {
            Some(i) => forms[i] += 1,
            None => return Vec::new(),
        }
    }
}

/// The style for text over a rule, which is dim: text that is not dim must not become so.
#[must_use]
pub fn over_rule(style: Style) -> Style {
    if style.add_modifier.contains(Modifier::DIM) { style } else { style.remove_modifier(Modifier::DIM) }
}

/// A duration for people: `8 s`, `4 m 10 s`, `1 h 10 m`, `3 d`.
#[must_use]
pub fn duration(seconds: f64) -> String {
    let s = seconds.max(0.0).round() as u64;
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} m {:02} s", s / 60, s % 60),
        3600..172_800 => format!("{} h {:02} m", s / 3600, s % 3600 / 60),
        _ => format!("{} d", s / 86_400),
    }
}
