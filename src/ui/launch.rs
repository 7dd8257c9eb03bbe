//! Draws the launch screen: a form that knows the data.

use super::frame::{duration, rule};
use super::theme::{ACCENT, ACCENT_BOLD, BAD, BOLD, DIM, TEXT, WARN};
use super::widgets::plain::{bytes, count, middle};
use crate::app::launch::{Answer, Field, Launch, Start};
use crate::app::{Model, cells, clip, wrap};
use crate::domain::{Kind, ParamRow, methods};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

/// Where the values begin, after the names.
const VALUES: u16 = 32;
/// Where the usual ranges begin.
const USUAL: u16 = 47;
/// Below this width, what does not fit beside the fields is said below them.
const NARROW: u16 = 100;

/// Place and state for the header.
pub fn header(model: &Model, _screen: &Launch) -> (Vec<String>, Line<'static>) {
    let name = model.open.as_ref().map(|open| open.meta.name.clone()).unwrap_or_default();
    (vec![name, "launch".into()], Line::styled(format!("device  {}", model.device), DIM))
}

/// Draws the body and gives the status line.
pub fn body(buf: &mut Buffer, area: Rect, model: &Model, screen: &Launch) -> Line<'static> {
    if !model.open.as_ref().is_some_and(|open| open.loaded) {
        middle(buf, area, &["reading the session …".into()]);
        return Line::default();
    }
    // The summary at the bottom is always there; the fields scroll above it.
    let narrow = area.width < NARROW;
    let tail_height = if narrow { 7 } else { 6 }.min(area.height);
    let head = Rect { height: area.height - tail_height, ..area };
    let tail = Rect { y: head.bottom(), height: tail_height, ..area };
    fields(buf, head, model, screen);
    summary(buf, tail, screen);
    status(screen, narrow)
}

/// One line of the form: the field it belongs to, if keys can go there, and its parts at their columns.
struct Row {
    field: Option<Field>,
    parts: Vec<(u16, String, Style)>,
}

fn fields(buf: &mut Buffer, area: Rect, model: &Model, screen: &Launch) {
    let rows = form_rows(model, screen);
    let height = usize::from(area.height);
    let at = rows.iter().position(|r| r.field == Some(screen.form.focus)).unwrap_or(0);
    // The focused field and two after it are in sight; the method stays in sight as long as it can.
    let first = (at + 3).saturating_sub(height).min(rows.len().saturating_sub(height));
    for (i, row) in rows.iter().skip(first).take(height).enumerate() {
        let y = area.y + i as u16;
        if row.field == Some(screen.form.focus) {
            buf.set_stringn(area.x + 1, y, "▸", 1, ACCENT_BOLD);
        }
        for (x, text, style) in &row.parts {
            let room = usize::from(area.width.saturating_sub(*x + 1));
            buf.set_stringn(area.x + x, y, clip_keeping(text, room), room, *style);
        }
    }
    if first + height < rows.len() {
        buf.set_stringn(area.right().saturating_sub(10), area.bottom() - 1, "   ↓ more ", 10, DIM);
    }
}

/// Cut at the right, blanks inside kept.
fn clip_keeping(text: &str, room: usize) -> String {
    if cells(text) <= room { text.to_owned() } else { clip(text, room) }
}

fn form_rows(model: &Model, screen: &Launch) -> Vec<Row> {
    let form = &screen.form;
    let method = form.method();
    let mut out = vec![Row { field: None, parts: Vec::new() }];
    let names: Vec<String> =
        methods().iter().map(|m| format!("{} {}", if m.name == method.name { "◉" } else { "○" }, m.name)).collect();
    let style = |field| if form.focus == field { ACCENT } else { TEXT };
    out.push(Row {
        field: Some(Field::Method),
        parts: vec![
            (3, "method".into(), label(form.focus == Field::Method)),
            (16, names.join("   "), style(Field::Method)),
            (16 + cells(&names.join("   ")) as u16 + 3, method.help.into(), DIM),
        ],
    });
    out.push(Row { field: None, parts: vec![(3, "data".into(), TEXT), (16, data_line(screen), TEXT)] });
    let base = model.open.as_ref().map_or("", |open| open.meta.model.as_str());
    let start = match form.start() {
        Start::Model => base.to_owned(),
        Start::Run(run) => format!("{base} + adapter of {run}"),
    };
    let more = match form.starts().len() {
        1 => String::new(),
        n => format!("{} other start{}", n - 1, if n == 2 { "" } else { "s" }),
    };
    out.push(Row {
        field: Some(Field::Start),
        parts: vec![
            (3, "start from".into(), label(form.focus == Field::Start)),
            (16, start.clone(), style(Field::Start)),
            (16 + cells(&start) as u16 + 3, more, DIM),
        ],
    });
    out.push(Row { field: None, parts: Vec::new() });
    let rows = method.rows();
    for field in form.fields() {
        match field {
            Field::Method | Field::Start => {}
            Field::More => {
                let n = rows.iter().filter(|r| !r.basic).count();
                let text = if form.advanced { "… fewer options".to_owned() } else { format!("… {n} more options") };
                out.push(Row { field: Some(field), parts: vec![(3, text, style(field))] });
            }
            Field::Param(at) => param_row(&rows[at], field, screen, &mut out),
        }
    }
    out
}

fn label(focused: bool) -> Style {
    if focused { ACCENT_BOLD } else { TEXT }
}

fn param_row(row: &ParamRow, field: Field, screen: &Launch, out: &mut Vec<Row>) {
    let form = &screen.form;
    let focused = form.focus == field;
    let value = match (form.text(row), row.kind) {
        ("", _) => "·".to_owned(),
        (text, Kind::Choice(_) | Kind::Bool) if focused => format!("‹ {text} ›"),
        (text, _) => text.to_owned(),
    };
    let problem = form.problem(row);
    let style = match (&problem, focused, form.changed(row)) {
        (Some(_), ..) => BAD,
        (None, true, _) => ACCENT_BOLD,
        (None, false, true) => BOLD,
        (None, false, false) => TEXT,
    };
    let mut parts = vec![(3, row.key.to_owned(), label(focused)), (VALUES, value, style)];
    if problem.is_some() {
        parts.push((USUAL, "⚠ cannot be taken".to_owned(), WARN));
    } else if focused && matches!(row.kind, Kind::Choice(_)) {
        if let Kind::Choice(words) = row.kind {
            parts.push((USUAL + 3, words.join("  "), DIM));
        }
    } else {
        let usual = if row.key == "num_train_epochs" {
            let (about, steps) = match &screen.answer {
                Answer::Known(e) => ("", e.steps),
                _ => ("about ", form.steps(screen.data.pairs)),
            };
            format!("{} → {about}{steps} step{}", row.usual, if steps == 1 { "" } else { "s" })
        } else if row.usual.is_empty() && !focused {
            row.help.to_owned()
        } else {
            row.usual.to_owned()
        };
        parts.push((USUAL, usual, DIM));
    }
    out.push(Row { field: Some(field), parts });
    if focused {
        let default = if form.changed(row) { format!(" · default {}", row.default) } else { String::new() };
        let line = problem.map_or((5, format!("{}{default}", row.help), DIM), |why| (5, format!("⚠ {why}"), WARN));
        out.push(Row { field: None, parts: vec![line] });
    }
}

/// `48 verdicts → 41 pairs  (4 ties, 2 both bad, 1 equal left out)`.
fn data_line(screen: &Launch) -> String {
    let (data, left) = (&screen.data, &screen.data.left);
    let named = [
        (left.ties, "tie", "ties"),
        (left.both_bad, "both bad", "both bad"),
        (left.unresolved, "unresolved", "unresolved"),
        (left.equal, "equal", "equal"),
        (left.empty, "empty", "empty"),
    ];
    let parts: Vec<String> = named
        .into_iter()
        .filter(|(n, ..)| *n > 0)
        .map(|(n, one, many)| format!("{n} {}", if n == 1 { one } else { many }))
        .collect();
    let left = if parts.is_empty() { String::new() } else { format!("  ({} left out)", parts.join(", ")) };
    let plural = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
    format!("{} → {}{left}", plural(data.verdicts, "verdict"), plural(data.pairs, "pair"))
}

/// Objective, estimate and warning: what pressing enter comes to.
fn summary(buf: &mut Buffer, area: Rect, screen: &Launch) {
    if area.height < 4 {
        return;
    }
    rule(buf, area, &Span::styled("this run", DIM), "");
    let width = usize::from(area.width).saturating_sub(18);
    let method = screen.form.method();
    let formula = (method.objective)(&screen.form.params_so_far());
    buf.set_stringn(area.x + 3, area.y + 1, "objective", 12, DIM);
    let mut y = area.y + 1;
    for range in wrap(&formula, width).into_iter().take(2) {
        buf.set_stringn(area.x + 16, y, &formula[range], width, TEXT);
        y += 1;
    }
    let lines = estimate_lines(screen);
    buf.set_stringn(area.x + 3, y, "estimate", 12, DIM);
    for (text, style) in lines {
        for range in wrap(&text, width) {
            if y >= area.bottom() {
                return;
            }
            buf.set_stringn(area.x + 16, y, &text[range], width, style);
            y += 1;
        }
    }
}

fn estimate_lines(screen: &Launch) -> Vec<(String, Style)> {
    if screen.data.pairs == 0 {
        let text = "no pairs yet: judge some first (esc), or import pairs";
        return vec![(text.into(), WARN)];
    }
    let steps = screen.form.steps(screen.data.pairs);
    match &screen.answer {
        Answer::None => match screen.form.params() {
            Ok(_) => vec![(format!("about {steps} steps"), TEXT)],
            Err(why) => vec![(format!("cannot start: {why}"), WARN)],
        },
        Answer::Asked => vec![(format!("about {steps} steps · asking a worker for time and memory …"), DIM)],
        Answer::Failed(why) => vec![(why.clone(), WARN)],
        Answer::Known(e) => {
            let time = e.seconds.map_or("time known after the first steps".into(), duration);
            let text = format!("{} steps · {time} · {} memory", e.steps, bytes(e.memory_bytes));
            let left: usize = e.dropped.iter().map(|d| d.count).sum();
            let cut = match left {
                0 => String::new(),
                n => format!(" · {n} too long or unusable, left out"),
            };
            let rows = format!(
                "{} train · {} eval{cut} · longest {} tok · {} numbers trained",
                e.train_rows,
                e.eval_rows,
                e.longest,
                count(e.trainable)
            );
            let mut out = vec![(text, BOLD)];
            // What may spoil the result comes before what is merely good to know.
            out.extend(screen.length_confound().map(|w| (confound(w), WARN)));
            out.push((rows, DIM));
            out
        }
    }
}

fn confound(longer_wins: f64) -> String {
    let share = longer_wins * 100.0;
    if longer_wins > 0.5 {
        format!("⚠ the longer answer wins {share:.0} %: length may be what is learned")
    } else {
        format!("⚠ the longer answer wins only {share:.0} %: brevity may be what is learned")
    }
}

fn status(screen: &Launch, narrow: bool) -> Line<'static> {
    match screen.form.focus {
        // Beside the methods there is no room to say in full what the chosen one does.
        Field::Method if narrow => Line::styled(format!("← → choose · {}", screen.form.method().help), DIM),
        Field::Method => Line::styled("← → choose the method", DIM),
        Field::Start => Line::styled("← → choose what the run starts from", DIM),
        Field::More => Line::styled("enter shows or hides the advanced options", DIM),
        Field::Param(_) => match screen.form.focused_row().map(|r| r.kind) {
            Some(Kind::Choice(_) | Kind::Bool) => Line::styled("← → choose", DIM),
            _ => Line::styled("type a value; it replaces what stands there", DIM),
        },
    }
}
