//! Draws the launch screen: the form, the data and the estimate.

use crate::app::screen::launch::{EstimateState, LaunchField, LaunchScreen, Start};
use crate::app::{Model, cells, clip, presentable, wrap};
use crate::domain::{LeftOut, Needs, ParamKind, ParamRow, checks, counted, filter_words, methods};
use crate::ui::frame::{damage, duration, rule};
use crate::ui::theme::{ACCENT, ACCENT_BOLD, BAD, BOLD, DIM, TEXT, WARN};
use crate::ui::widgets::plain::{bytes, centred, count};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

/// The column of the values.
const VALUES: u16 = 32;
/// The column of the usual ranges.
const USUAL: u16 = 47;
/// Below this width, long texts go below the fields instead of beside them.
const NARROW: u16 = 100;

/// The breadcrumb and the state for the header.
pub fn header(model: &Model, _screen: &LaunchScreen) -> (Vec<String>, Line<'static>) {
    let name = model.open.as_ref().map(|open| open.meta.name.clone()).unwrap_or_default();
    let mut spans = damage(model, usize::from(model.size.0 / 3));
    spans.push(Span::styled(format!("device  {}", model.device), DIM));
    (vec![name, "launch".into()], Line::from(spans))
}

/// Draws the body; returns the status line.
pub fn body(buf: &mut Buffer, area: Rect, model: &Model, screen: &LaunchScreen) -> Line<'static> {
    if !model.open.as_ref().is_some_and(|open| open.loaded) {
        centred(buf, area, &["reading the session …".into()]);
        return Line::default();
    }
    // The summary at the bottom is always there; the fields scroll above it.
    let narrow = area.width < NARROW;
    let tail_height = if narrow { 7 } else { 6 }.min(area.height);
    let head = Rect { height: area.height - tail_height, ..area };
    let tail = Rect { y: head.bottom(), height: tail_height, ..area };
    fields(buf, head, model, screen);
    summary(buf, tail, screen);
    status(screen, usize::from(area.width))
}

/// One line of the form: its field, if it can have the focus, and its parts with their columns.
struct FormLine {
    field: Option<LaunchField>,
    parts: Vec<(u16, String, Style)>,
}

fn fields(buf: &mut Buffer, area: Rect, model: &Model, screen: &LaunchScreen) {
    let rows = form_rows(model, screen, usize::from(area.width));
    let height = usize::from(area.height);
    let at = rows.iter().position(|r| r.field == Some(screen.form.focus)).unwrap_or(0);
    // The focused field and two lines after it are visible; the method is as long as possible.
    let first = (at + 3).saturating_sub(height).min(rows.len().saturating_sub(height));
    for (i, row) in rows.iter().skip(first).take(height).enumerate() {
        let y = area.y + i as u16;
        if row.field == Some(screen.form.focus) {
            buf.set_stringn(area.x + 1, y, "▸", 1, ACCENT_BOLD);
        }
        for (x, text, style) in &row.parts {
            let room = usize::from(area.width.saturating_sub(*x + 1));
            buf.set_stringn(area.x + x, y, clip_to(text, room), room, *style);
        }
    }
    if first + height < rows.len() {
        buf.set_stringn(area.right().saturating_sub(10), area.bottom() - 1, "   ↓ more ", 10, DIM);
    }
}

/// The text in at most `room` cells; keeps inner blanks if it fits.
fn clip_to(text: &str, room: usize) -> String {
    if cells(text) <= room { text.to_owned() } else { clip(text, room) }
}

/// The methods with the selected one marked; its neighbours only, if not all fit.
fn choice_line(names: &[&str], chosen: usize, room: usize) -> String {
    let items: Vec<String> =
        names.iter().enumerate().map(|(i, name)| format!("{} {name}", if i == chosen { "◉" } else { "○" })).collect();
    for gap in ["   ", "  "] {
        let line = items.join(gap);
        if cells(&line) <= room {
            return line;
        }
    }
    let (mut first, mut last) = (chosen, chosen);
    let line = |first: usize, last: usize| {
        let before = if first > 0 { "… " } else { "" };
        let after = if last + 1 < items.len() { " …" } else { "" };
        format!("{before}{}{after}", items[first..=last].join("  "))
    };
    // First the left neighbour, so that ← has a visible target; then the following ones; then the others before.
    if first > 0 && cells(&line(first - 1, last)) <= room {
        first -= 1;
    }
    loop {
        if last + 1 < items.len() && cells(&line(first, last + 1)) <= room {
            last += 1;
        } else if first > 0 && cells(&line(first - 1, last)) <= room {
            first -= 1;
        } else {
            return line(first, last);
        }
    }
}

/// The line of methods at this width, and the column for the help of the selected one; none if the help does not fit.
fn method_line(screen: &LaunchScreen, width: usize) -> (String, Option<u16>) {
    let method = screen.form.method();
    let names: Vec<&str> = methods().iter().map(|m| m.name).collect();
    let chosen = names.iter().position(|name| *name == method.name).unwrap_or(0);
    let line = choice_line(&names, chosen, width.saturating_sub(17));
    let help = 16 + cells(&line) + 3;
    (line, (help + 24 <= width).then_some(help as u16))
}

fn form_rows(model: &Model, screen: &LaunchScreen, width: usize) -> Vec<FormLine> {
    let form = &screen.form;
    let method = form.method();
    let mut out = vec![FormLine { field: None, parts: Vec::new() }];
    let (names, help) = method_line(screen, width);
    let style = |field| if form.focus == field { ACCENT } else { TEXT };
    out.push(FormLine {
        field: Some(LaunchField::Method),
        parts: [
            (3, "method".into(), label_style(form.focus == LaunchField::Method)),
            (16, names, style(LaunchField::Method)),
        ]
        .into_iter()
        .chain(help.map(|x| (x, method.help.into(), DIM)))
        .collect(),
    });
    out.push(FormLine { field: None, parts: vec![(3, "data".into(), TEXT), (16, data_line(screen), TEXT)] });
    let base = model.open.as_ref().map_or("", |open| open.meta.model.as_str());
    let start = match form.start() {
        Start::Model => base.to_owned(),
        Start::Run(run) => format!("{base} + adapter of {run}"),
        Start::Folder(folder) => {
            let cursor = if form.focus == LaunchField::Start { "▏" } else { "" };
            let text = format!("{base} + adapter in {}{cursor}", presentable(&folder));
            clip_start(&text, width.saturating_sub(17))
        }
    };
    let more = match form.starts().len() {
        1 => String::new(),
        n => format!("{} other start{}", n - 1, if n == 2 { "" } else { "s" }),
    };
    out.push(FormLine {
        field: Some(LaunchField::Start),
        parts: vec![
            (3, "start from".into(), label_style(form.focus == LaunchField::Start)),
            (16, start.clone(), style(LaunchField::Start)),
            (16 + cells(&start) as u16 + 3, more, DIM),
        ],
    });
    if matches!(form.start(), Start::Folder(_)) {
        let decided = "the adapter decides tune, rank, scale, kind and modules".to_owned();
        out.push(FormLine { field: None, parts: vec![(16, decided, DIM)] });
    }
    row_choice(screen, width, &mut out);
    out.push(FormLine { field: None, parts: Vec::new() });
    let rows = method.rows();
    for field in form.fields() {
        match field {
            LaunchField::Method | LaunchField::Start | LaunchField::Filter | LaunchField::Rubric => {}
            LaunchField::More => {
                let n = rows.iter().filter(|r| !r.basic).count();
                let text = if form.advanced { "… fewer options".to_owned() } else { format!("… {n} more options") };
                out.push(FormLine { field: Some(field), parts: vec![(3, text, style(field))] });
            }
            LaunchField::Param(at) => param_row(&rows[at], field, screen, width, &mut out),
        }
    }
    out
}

/// The fields that say which rows the run trains on.
fn row_choice(screen: &LaunchScreen, width: usize, out: &mut Vec<FormLine>) {
    let form = &screen.form;
    let problem = form.choice().err();
    for field in form.fields() {
        let focused = form.focus == field;
        let (name, text, empty) = match field {
            LaunchField::Filter => ("filter", form.filter_text(), "all rows"),
            LaunchField::Rubric => ("rubric", form.rubric_text(), ""),
            LaunchField::Method | LaunchField::Start | LaunchField::Param(_) | LaunchField::More => continue,
        };
        let style = match (focused, problem.is_some()) {
            (true, true) => BAD,
            (true, false) => ACCENT_BOLD,
            (false, _) if text.is_empty() => DIM,
            (false, _) => TEXT,
        };
        let text = if text.is_empty() && !focused {
            empty.to_owned()
        } else {
            format!("{text}{}", if focused { "▏" } else { "" })
        };
        let shown = clip_start(&text, width.saturating_sub(17));
        let parts = vec![(3, name.to_owned(), label_style(focused)), (16, shown, style)];
        out.push(FormLine { field: Some(field), parts });
        if focused {
            let (text, style) = match &problem {
                Some(why) => (format!("⚠ {why}"), WARN),
                None if field == LaunchField::Filter => (format!("only rows that match: {}", filter_words()), DIM),
                None => (format!("{}; or a mix such as helpful=0.7,harmless=0.3", form.rubrics().join("  ")), DIM),
            };
            for range in wrap(&text, width.saturating_sub(6)) {
                out.push(FormLine { field: None, parts: vec![(5, text[range].to_owned(), style)] });
            }
        }
    }
}

fn label_style(focused: bool) -> Style {
    if focused { ACCENT_BOLD } else { TEXT }
}

fn param_row(row: &ParamRow, field: LaunchField, screen: &LaunchScreen, width: usize, out: &mut Vec<FormLine>) {
    let form = &screen.form;
    let focused = form.focus == field;
    let choices = form.choices(row);
    let text = if form.text(row).is_empty() { "·" } else { form.text(row) };
    let value = match choices.is_empty() {
        false if focused => format!("‹ {text} ›"),
        _ if focused => clip_start(text, width.saturating_sub(usize::from(VALUES) + 1)),
        _ => text.to_owned(),
    };
    let problem = form.problem(row);
    let style = match (&problem, focused, form.changed(row)) {
        (Some(_), ..) => BAD,
        (None, true, _) => ACCENT_BOLD,
        (None, false, true) => BOLD,
        (None, false, false) => TEXT,
    };
    // A long value pushes the next part to the right.
    let beside = USUAL.max(VALUES + cells(&value) as u16 + 2);
    let mut parts = vec![(3, row.key.to_owned(), label_style(focused)), (VALUES, value, style)];
    if problem.is_some() {
        parts.push((beside, "⚠ invalid".to_owned(), WARN));
    } else if focused && !choices.is_empty() && row.kind != ParamKind::Bool {
        let named: Vec<&str> = choices.into_iter().filter(|choice| !choice.is_empty()).collect();
        parts.push((beside.max(USUAL + 3), named.join("  "), DIM));
    } else {
        let usual = if row.key == "num_train_epochs" {
            let steps = match &screen.estimate {
                EstimateState::Ready(e) => counted(e.steps, "step"),
                _ => steps_text(screen),
            };
            format!("{} → {steps}", row.usual)
        } else if row.usual.is_empty() && !focused {
            row.help.to_owned()
        } else {
            row.usual.to_owned()
        };
        parts.push((beside, usual, DIM));
    }
    out.push(FormLine { field: Some(field), parts });
    if focused {
        let default = match row.default {
            _ if !form.changed(row) => String::new(),
            "" => " · default: empty".into(),
            default => format!(" · default {default}"),
        };
        let mut below = |text: String, style| out.push(FormLine { field: None, parts: vec![(5, text, style)] });
        // In full, wrapped.
        let (text, style) = match problem {
            Some(why) => (format!("⚠ {why}"), WARN),
            None => (format!("{}{default}", row.help), DIM),
        };
        for range in wrap(&text, width.saturating_sub(6)) {
            below(text[range].to_owned(), style);
        }
        if row.kind == ParamKind::Checks {
            let names: Vec<&str> = checks().iter().map(|check| check.name).collect();
            let names = format!("checks: {}", names.join(" "));
            for range in wrap(&names, width.saturating_sub(6)) {
                below(names[range].to_owned(), DIM);
            }
        }
    }
}

/// The end of a text that does not fit, so that the typed part stays visible.
fn clip_start(text: &str, room: usize) -> String {
    if cells(text) <= room {
        return text.to_owned();
    }
    let from = text.char_indices().map(|(at, _)| at).find(|at| cells(&text[*at..]) < room);
    format!("…{}", &text[from.unwrap_or(text.len())..])
}

/// The data of the selected method, mixed-in and probe texts, and what was left out.
fn data_line(screen: &LaunchScreen) -> String {
    let data = &screen.data;
    let (mut line, more) = match screen.form.method().needs {
        Needs::Pairs => {
            let judged = data.pairs - data.corrected_pairs;
            let mut verdicts = counted(data.verdicts, "verdict");
            if data.partial > 0 {
                verdicts.push_str(&format!(" ({} partial)", data.partial));
            }
            let mut line = format!("{verdicts} → {}", counted(judged, "pair"));
            if data.corrected_pairs > 0 {
                line.push_str(&format!(" + {} over the original", counted(data.corrected_pairs, "correction")));
            }
            (line, left_out(&data.left))
        }
        Needs::Examples if data.corrections == 0 => (counted(data.examples, "example"), String::new()),
        Needs::Examples => (counted(data.examples, "example"), counted(data.corrections, "correction")),
        Needs::Ratings => (counted(data.good + data.bad, "rating"), format!("{} good, {} bad", data.good, data.bad)),
        Needs::Prompts => (counted(data.prompts, "prompt"), String::new()),
    };
    let params = screen.form.params_or_defaults();
    if params.f64("mix_ratio") > 0.0 {
        line.push_str(&format!(" · {} mixed in", counted(data.mixed, "example")));
    }
    if params.f64("probe_steps") > 0.0 {
        line.push_str(&format!(" · {} probed", counted(data.probe, "text")));
    }
    if more.is_empty() { line } else { format!("{line}  ({more})") }
}

/// `4 ties, 2 both bad, 1 equal left out`, or nothing.
fn left_out(left: &LeftOut) -> String {
    let named = [
        (left.ties, "tie", "ties"),
        (left.both_bad, "both bad", "both bad"),
        (left.unresolved, "unresolved", "unresolved"),
        (left.equal, "equal", "equal"),
        (left.empty, "empty", "empty"),
        (left.incomplete, "incomplete", "incomplete"),
        (left.filtered, "not matching", "not matching"),
    ];
    let parts: Vec<String> = named
        .into_iter()
        .filter(|(n, ..)| *n > 0)
        .map(|(n, one, many)| format!("{n} {}", if n == 1 { one } else { many }))
        .collect();
    if parts.is_empty() { String::new() } else { format!("{} left out", parts.join(", ")) }
}

/// The objective, the estimate and its warning.
fn summary(buf: &mut Buffer, area: Rect, screen: &LaunchScreen) {
    if area.height < 4 {
        return;
    }
    rule(buf, area, &Span::styled("this run", DIM), "");
    let width = usize::from(area.width).saturating_sub(18);
    let method = screen.form.method();
    let formula = method.formula(&screen.form.params_or_defaults());
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

/// The approximate number of steps, before there is an estimate.
fn steps_text(screen: &LaunchScreen) -> String {
    match screen.form.steps(screen.rows()) {
        Some(steps) => format!("about {}", counted(steps, "step")),
        None => "the number of steps depends on the lengths".into(),
    }
}

fn estimate_lines(screen: &LaunchScreen) -> Vec<(String, Style)> {
    if let Some(why) = screen.obstacle() {
        return vec![(why, WARN)];
    }
    match &screen.estimate {
        EstimateState::None => vec![(steps_text(screen), TEXT)],
        EstimateState::Pending => vec![(format!("{} · estimating time and memory …", steps_text(screen)), DIM)],
        EstimateState::Failed(why) => vec![(why.clone(), WARN)],
        EstimateState::Ready(e) => {
            let time = e.seconds.map_or("time unknown until the first steps".into(), duration);
            let text = format!("{} · {time} · {} memory", counted(e.steps, "step"), bytes(e.memory_bytes));
            let left: usize = e.dropped.iter().map(|d| d.count).sum();
            let cut = match left {
                0 => String::new(),
                n => format!(" · {n} too long or unusable, left out"),
            };
            let again = match e.layers - e.kept_layers.min(e.layers) {
                0 => String::new(),
                n => format!(" · {n} of {} layers recomputed", e.layers),
            };
            let rows = format!(
                "{} train · {} eval{cut} · max {} tok · {} trainable parameters{again}",
                e.train_rows,
                e.eval_rows,
                e.longest,
                count(e.trainable)
            );
            let mut out = vec![(text, BOLD)];
            // The warning comes before the details.
            out.extend(screen.length_confound().map(|w| (length_warning(w), WARN)));
            out.push((rows, DIM));
            out
        }
    }
}

fn length_warning(longer_wins: f64) -> String {
    let share = longer_wins * 100.0;
    if longer_wins > 0.5 {
        format!("⚠ the longer answer wins {share:.0} %: length may be what is learned")
    } else {
        format!("⚠ the longer answer wins only {share:.0} %: brevity may be what is learned")
    }
}

fn status(screen: &LaunchScreen, width: usize) -> Line<'static> {
    let help = screen.form.method().help;
    let (_, beside) = method_line(screen, width);
    // The selected method's help goes here if it does not fit beside the methods.
    let in_full = width >= usize::from(NARROW) && beside.is_some_and(|x| usize::from(x) + cells(help) < width);
    match screen.form.focus {
        LaunchField::Method if !in_full => Line::styled(format!("← → choose · {help}"), DIM),
        LaunchField::Method => Line::styled("← → choose the method", DIM),
        LaunchField::Start => Line::styled("← → choose the start, or type an adapter's folder", DIM),
        LaunchField::Filter => Line::styled("type a filter; empty trains on every row", DIM),
        LaunchField::Rubric => Line::styled("← → choose the criterion, or type a mix", DIM),
        LaunchField::More => Line::styled("enter shows or hides the advanced options", DIM),
        LaunchField::Param(_) => match screen.form.focused_row() {
            Some(row) if row.kind == ParamKind::Word && !screen.form.choices(&row).is_empty() => {
                Line::styled("← → choose a finished run, or type its name", DIM)
            }
            Some(row) if !screen.form.choices(&row).is_empty() => Line::styled("← → choose", DIM),
            Some(row) if row.kind == ParamKind::Checks => {
                Line::styled("type checks with ; between them: contains=please;max_words=40;json", DIM)
            }
            Some(row) if row.kind == ParamKind::Variables => {
                Line::styled("type a JSON object: {\"enable_thinking\": false}", DIM)
            }
            _ => Line::styled("type to replace the value", DIM),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_methods_stay_readable_at_any_width() {
        let names =
            ["dpo", "orpo", "sft", "reward", "kto", "cpo", "simpo", "ppo", "grpo", "rloo", "online_dpo", "nash_md"];
        for room in [20, 63, 103, 200] {
            for chosen in 0..names.len() {
                let line = choice_line(&names, chosen, room);
                assert!(cells(&line) <= room, "{room}: {line}");
                assert!(line.contains(&format!("◉ {}", names[chosen])), "{room}: {line}");
                let whole = |name: &str| line.contains(&format!("○ {name}")) || line.contains(&format!("◉ {name}"));
                assert_eq!(line.starts_with('…'), !whole("dpo"), "{room}: {line}");
                assert_eq!(line.ends_with('…'), !whole("nash_md"), "{room}: {line}");
            }
        }
        assert_eq!(choice_line(&names[..2], 1, 63), "○ dpo   ◉ orpo");
        assert_eq!(choice_line(&names, 0, 63), "◉ dpo  ○ orpo  ○ sft  ○ reward  ○ kto  ○ cpo  ○ simpo  ○ ppo …");
        assert_eq!(choice_line(&names, 11, 20), "… ◉ nash_md");
    }

    #[test]
    fn a_long_value_shows_its_end() {
        assert_eq!(clip_start("short", 5), "short");
        assert_eq!(clip_start("contains=please", 7), "…please");
        assert_eq!(clip_start("好好好", 5), "…好好");
    }
}
