//! Draws the form for a new evaluation.
//!
//! ```text
//! ─ compare ───────────────────────────────────────────────────────────────────────────────────────
//!   model         ‹ dpo-3 ›          dpo-3  dpo-3@best  SmolLM2-135M-Instruct
//!   against       the model it was trained on
//! ─ suites ────────────────────────────────────────────────── /home/ada/.tiebreak/suites: 2 files ─
//!   [x] winrate      session's prompts   paired answers on prompts that neither was trained on
//!   [ ] ifeval       not found           instructions that a program can check, followed or not
//! ─ judges ────────────────────────────────────────────────────────────────────────────────────────
//!   [ ] check        ·                   verifiable checks
//! ─ answers ───────────────────────────────────────────────────────────────────────────────────────
//!   limit · seeds 1 · temperature 0 · max_new_tokens · template
//! ─ this evaluation ───────────────────────────────────────────────────────────────────────────────
//!   winrate 100 items · 200 answers, up to 100 of them known from earlier evaluations
//! ```

use crate::app::screen::evaluate::{EvalField, EvalForm, PlanState};
use crate::app::{cells, clip, presentable, wrap};
use crate::domain::{JudgeOperand, counted, judges, suites};
use crate::ui::frame::{put, rule};
use crate::ui::theme::{ACCENT_BOLD, BOLD, DIM, GOOD, TEXT, WARN};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

/// The column of values.
const VALUES: u16 = 20;
/// The column of what stands beside a value.
const BESIDE: u16 = 42;
/// Rows of the plan below the form, its rule included.
const PLAN: u16 = 5;

/// A row of the form.
enum FormRow {
    /// A rule with a title and a remark.
    Heading(&'static str, String),
    /// Parts, each at its column.
    Parts(Option<EvalField>, Vec<(u16, String, Style)>),
}

/// Draws the form; returns the status line.
pub fn draw(buf: &mut Buffer, area: Rect, form: &EvalForm) -> Line<'static> {
    let plan = PLAN.min(area.height / 3).max(2);
    let above = Rect { height: area.height.saturating_sub(plan), ..area };
    let rows = rows(form, area.width);
    let focus = rows.iter().position(|row| matches!(row, FormRow::Parts(Some(field), _) if *field == form.focus));
    // The row below the focus explains it.
    let last = focus.map_or(0, |at| (at + 2).min(rows.len()));
    let first = last.saturating_sub(usize::from(above.height));
    for (row, line) in rows.iter().skip(first).take(usize::from(above.height)).enumerate() {
        let y = above.y + row as u16;
        match line {
            FormRow::Heading(title, remark) => {
                rule(buf, Rect { y, height: 1, ..above }, &Span::styled(*title, DIM), remark);
            }
            FormRow::Parts(_, parts) => {
                for (x, text, style) in parts {
                    put(buf, above.x + x, y, above.width.saturating_sub(x + 1), text, *style);
                }
            }
        }
    }
    let hidden = rows.len().saturating_sub(first + usize::from(above.height));
    let below = Rect { y: above.bottom(), height: plan, ..area };
    let more = if hidden > 0 { format!("{} more ↓", counted(hidden, "row")) } else { String::new() };
    rule(buf, below, &Span::styled("this evaluation", DIM), &more);
    let mut y = below.y + 1;
    let room = usize::from(area.width.saturating_sub(4));
    let mut rows: Vec<(String, Style)> = Vec::new();
    for (text, style) in planned(form) {
        rows.extend(wrap(&text, room).into_iter().map(|range| (text[range].trim_end().to_owned(), style)));
    }
    let shown = usize::from(below.bottom().saturating_sub(y));
    let cut = rows.len() > shown;
    rows.truncate(shown);
    if let Some((last, _)) = rows.last_mut().filter(|_| cut) {
        *last = clip(&format!("{last} …"), room);
    }
    for (text, style) in rows {
        put(buf, area.x + 3, y, area.width.saturating_sub(3), &text, style);
        y += 1;
    }
    Line::default()
}

fn planned(form: &EvalForm) -> Vec<(String, Style)> {
    match &form.plan {
        PlanState::None => Vec::new(),
        PlanState::Pending => vec![("planning …".into(), DIM)],
        PlanState::Failed(why) => vec![(format!("cannot start: {}", presentable(why)), WARN)],
        PlanState::Ready(estimate) => {
            let suites: Vec<String> =
                estimate.suites.iter().map(|(name, rows)| format!("{name} {}", counted(*rows, "item"))).collect();
            let mut work = format!("{} · {}", suites.join(", "), counted(estimate.answers, "answer"));
            if estimate.known > 0 {
                work.push_str(&format!(", up to {} of them known from earlier evaluations", estimate.known));
            }
            let [a, b] = &estimate.names;
            let mut out = vec![(format!("{} against {}", presentable(a), presentable(b)), BOLD), (work, TEXT)];
            out.extend(estimate.notes.iter().map(|note| (presentable(note), WARN)));
            out
        }
    }
}

fn rows(form: &EvalForm, width: u16) -> Vec<FormRow> {
    let mut out = vec![FormRow::Heading("compare", String::new())];
    out.extend(value(
        form,
        EvalField::A,
        "model",
        "none: ← → choose",
        "a run of this session, a model, or URL#NAME",
        width,
    ));
    out.extend(value(
        form,
        EvalField::B,
        "against",
        "the model it was trained on",
        "empty for the model that it was trained on",
        width,
    ));
    let folder = form.files.as_ref().map_or_else(String::new, |files| {
        let have = if files.exists { counted(files.found.len(), "file") } else { "no such folder".into() };
        format!("{}: {have}", clip(&presentable(&files.folder), usize::from(width / 2)))
    });
    out.push(FormRow::Heading("suites", folder));
    for (at, row) in suites().into_iter().enumerate() {
        let focused = form.focus == EvalField::Suite(at);
        let file = form.files.as_ref().and_then(|files| files.of(row.name));
        let (has, style) = match (row.takes_prompts(), file, &form.files) {
            (true, ..) => ("session's prompts".to_owned(), DIM),
            (_, Some(file), _) => (file.to_owned(), GOOD),
            (_, None, Some(_)) => ("not found".to_owned(), if form.has_suite(row) { WARN } else { DIM }),
            (_, None, None) => ("…".to_owned(), DIM),
        };
        out.push(FormRow::Parts(
            Some(EvalField::Suite(at)),
            vec![
                (2, tick(form.has_suite(row)).to_owned(), label(focused)),
                (6, row.name.to_owned(), label(focused)),
                (VALUES, clip(&has, usize::from(BESIDE - VALUES - 1)), style),
                (BESIDE, clip(row.help, usize::from(width.saturating_sub(BESIDE + 1))), DIM),
            ],
        ));
        if focused && !row.takes_prompts() && file.is_none() {
            let text = format!("needs {}: {}", row.files.join(" or "), row.source);
            out.push(note(&text, width));
        } else if focused && width < BESIDE + 40 {
            out.push(note(row.help, width));
        }
    }
    out.extend(value(
        form,
        EvalField::OwnFile,
        "your own file",
        "·",
        "a JSONL of prompts with checks, a reference or choices",
        width,
    ));
    out.extend(value(form, EvalField::Folder, "folder", "the default one", "where the suites' files are", width));
    out.push(FormRow::Heading("judges", String::new()));
    for (at, row) in judges().into_iter().enumerate() {
        let field = EvalField::Judge(at);
        let focused = form.focus == field;
        let empty = match row.takes {
            JudgeOperand::None => "",
            JudgeOperand::Run => "a run",
            JudgeOperand::Model => "a model or URL#NAME",
            JudgeOperand::Checks => "checks",
        };
        let (text, style) = text(form, field, empty);
        out.push(FormRow::Parts(
            Some(field),
            vec![
                (2, tick(form.has_judge(at, row)).to_owned(), label(focused)),
                (6, row.name.to_owned(), label(focused)),
                (VALUES, clip(&text, usize::from(width.saturating_sub(VALUES + 1))), style),
                (beside(&text), clip(row.help, usize::from(width.saturating_sub(beside(&text) + 1))), DIM),
            ],
        ));
        if focused {
            let choices: Vec<&str> = form.choices(field).into_iter().filter(|choice| !choice.is_empty()).collect();
            let how = match row.takes {
                JudgeOperand::Checks => "such as contains=please;max_words=40".to_owned(),
                JudgeOperand::None => "space ticks it".to_owned(),
                _ if choices.is_empty() => "type its name".to_owned(),
                _ => format!("← → choose: {}", choices.join("  ")),
            };
            out.push(note(&how, width));
        }
    }
    out.push(FormRow::Heading("answers", String::new()));
    out.extend(value(
        form,
        EvalField::Prompts,
        "prompts",
        "the session's",
        "a file of prompts in place of the session's",
        width,
    ));
    out.extend(value(
        form,
        EvalField::Limit,
        "limit",
        "every item",
        "the most items of each suite, by a fixed shuffle",
        width,
    ));
    out.extend(value(
        form,
        EvalField::Seeds,
        "seeds",
        "1",
        "answers to each prompt; needs a temperature above 0",
        width,
    ));
    out.extend(value(form, EvalField::Temperature, "temperature", "0", "0 is greedy", width));
    out.extend(value(
        form,
        EvalField::MaxTokens,
        "max_new_tokens",
        "each suite's own",
        "the most tokens of an answer",
        width,
    ));
    out.extend(value(
        form,
        EvalField::Variables,
        "template",
        "no variables",
        "variables of the chat template, such as {\"enable_thinking\": false}",
        width,
    ));
    out
}

fn tick(on: bool) -> &'static str {
    if on { "[x]" } else { "[ ]" }
}

fn label(focused: bool) -> Style {
    if focused { ACCENT_BOLD } else { TEXT }
}

/// The column beside a value, further right for a long one.
fn beside(text: &str) -> u16 {
    BESIDE.max(VALUES + cells(text) as u16 + 2)
}

/// A field's text as shown: what stands for an empty one is dim.
fn text(form: &EvalForm, field: EvalField, empty: &str) -> (String, Style) {
    let (typed, focused) = (presentable(form.text(field)), form.focus == field);
    let shown = if typed.is_empty() { empty.to_owned() } else { typed.clone() };
    let shown = if focused && !form.choices(field).is_empty() { format!("‹ {shown} ›") } else { shown };
    let style = match (focused, typed.is_empty()) {
        (true, _) => ACCENT_BOLD,
        (false, true) => DIM,
        (false, false) => BOLD,
    };
    (shown, style)
}

/// A field with its value, and below it what it may be while it has the focus.
fn value(form: &EvalForm, field: EvalField, name: &str, empty: &str, help: &str, width: u16) -> Vec<FormRow> {
    let focused = form.focus == field;
    let (text, style) = text(form, field, empty);
    let parts = vec![
        (2, name.to_owned(), label(focused)),
        (VALUES, clip(&text, usize::from(width.saturating_sub(VALUES + 1))), style),
        (beside(&text), clip(help, usize::from(width.saturating_sub(beside(&text) + 1))), DIM),
    ];
    let mut out = vec![FormRow::Parts(Some(field), parts)];
    let choices: Vec<&str> = form.choices(field).into_iter().filter(|choice| !choice.is_empty()).collect();
    if focused && choices.len() > 1 {
        out.push(note(&choices.join("  "), width));
    } else if focused && usize::from(beside(&text)) + cells(help) + 1 > usize::from(width) {
        out.push(note(help, width));
    }
    out
}

fn note(text: &str, width: u16) -> FormRow {
    FormRow::Parts(None, vec![(6, clip(&presentable(text), usize::from(width.saturating_sub(8))), DIM)])
}
