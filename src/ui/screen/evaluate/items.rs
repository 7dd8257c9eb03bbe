//! Draws one item of an evaluation: the prompt, both answers, and what was said of them.
//!
//! ```text
//! ─ winrate/p17 ───────────────────────────────────────────── 3 of 17 losses · by check:contains=the · 100 in all ─
//!    Explain why the sky is blue to a child, in a few sentences.
//! ─ a dpo-3 ────────────────────────────── 62 tok ─┬─ b SmolLM2-135M ───────────────── 91 tok · ✂ cut at limit ─
//!    Sunlight looks white, but it is made of many  │   The sky is blue because of a process called
//! ─ judged ──────────────────────────────────────────────────────────────────────────────────────────────────────
//!    check:contains=the   SmolLM2-135M is better · dpo-3 fails contains=the
//!    mean words 41 and 62 · cut at the limit 0 and 1
//! ```

use super::super::label::styled;
use crate::app::screen::evaluate::ItemsView;
use crate::app::{EvalSpec, JudgeSpec, RunView, cells, clip, presentable};
use crate::domain::{
    Checks, Comparison, Contestant, EvalState, Finish, ItemFilter, ItemKey, answer_after_thoughts, suite,
};
use crate::ui::evaluation::names;
use crate::ui::frame::{fitting, put, put_line, rule};
use crate::ui::theme::{BOLD, DIM, TEXT, WARN};
use crate::ui::widgets::plain::centred;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

/// From this width on, both answers stand side by side, as the layout says.
const BESIDE: u16 = 90;

/// Draws the item; returns the status line.
pub fn draw(buf: &mut Buffer, area: Rect, run: &RunView, spec: Option<&EvalSpec>, view: &ItemsView) -> Line<'static> {
    let (number, passing, all) = view.place();
    let by = match &view.judge {
        Some(judge) => format!("by {}", presentable(judge)),
        None if matches!(view.filter, ItemFilter::Losses | ItemFilter::Wins | ItemFilter::Ties) => {
            "by the first judge, else by the suite".into()
        }
        None => String::new(),
    };
    let Some(item) = view.current() else {
        let none = if all == 0 {
            "nothing is measured for both yet".into()
        } else {
            format!("no item: {}", view.filter.words())
        };
        let hint = if all == 0 { String::new() } else { format!("f takes another filter · {all} in all · {by}") };
        centred(buf, area, &[none, hint]);
        return Line::default();
    };
    let key = &item.key;
    let seed = if key.seed > 0 { format!(" · seed {}", key.seed + 1) } else { String::new() };
    let title = clip(&presentable(&format!("{}/{}{seed}", key.suite, key.item)), usize::from(area.width / 2));
    let place = format!("{number} of {passing} {}", view.filter.words());
    let short = format!("{number} of {passing}");
    let total = if passing == all { String::new() } else { format!("{all} in all") };
    let remarks = [vec![place, short], vec![by, String::new()], vec![total]];
    rule(buf, area, &Span::styled(title.clone(), BOLD), &fitting(area.width, &title, &remarks).join(" · "));
    let mut y = area.y + 1;
    for line in &view.prompt_lines {
        put(buf, area.x + 3, y, area.width.saturating_sub(3), &view.prompt[line.clone()], BOLD);
        y += 1;
    }
    if view.prompt_hidden > 0 {
        let text = format!(" {} more ", view.prompt_hidden);
        let wide = cells(&text) as u16;
        put(buf, area.right().saturating_sub(wide + 1), y - 1, wide, &text, DIM);
    }
    let sides = names(spec);
    if area.width >= BESIDE {
        let left = (area.width - 1) / 2;
        let height = view.rows + 1;
        answer(buf, Rect { y, width: left, height, ..area }, run, view, key, Contestant::A, &sides[0]);
        let second = Rect { x: area.x + left + 1, y, width: area.width - left - 1, height };
        answer(buf, second, run, view, key, Contestant::B, &sides[1]);
        put(buf, area.x + left, y, 1, "┬", DIM);
        for row in 1..height {
            put(buf, area.x + left, y + row, 1, "│", DIM);
        }
        y += height;
    } else {
        for side in Contestant::BOTH {
            let height = view.rows + 1;
            answer(buf, Rect { y, height, ..area }, run, view, key, side, &sides[side.index()]);
            y += height;
        }
    }
    let below = Rect { y, height: area.bottom().saturating_sub(y), ..area };
    said(buf, below, view.state(run), spec, key, &sides);
    Line::default()
}

/// One answer under its rule.
fn answer(buf: &mut Buffer, area: Rect, run: &RunView, view: &ItemsView, key: &ItemKey, side: Contestant, name: &str) {
    let area = area.intersection(buf.area);
    if area.is_empty() {
        return;
    }
    let i = side.index();
    let mut title = format!("{} {name}", side.word());
    if view.has_markdown(side) {
        title.push_str(if view.answers.raw { " [raw]" } else { " [markdown]" });
    }
    let mut marks: Vec<Vec<String>> = Vec::new();
    if let Some(answer) = run.state.eval.answer_of(key, side) {
        let rows = view.lines[i].len();
        let below = rows.saturating_sub(view.scroll + usize::from(view.rows));
        if below > 0 {
            marks.push(vec![format!("{below} more ↓")]);
        }
        if answer.finish == Finish::Length {
            marks.push(vec!["✂ cut at limit".into(), "✂".into()]);
        }
        if answer.tokens > 0 {
            marks.push(vec![format!("{} tok", answer.tokens), String::new()]);
        }
        if answer.reused {
            marks.push(vec!["taken over".into(), String::new()]);
        }
    }
    let title = clip(&title, usize::from(area.width.saturating_sub(6)));
    rule(buf, area, &Span::styled(title.clone(), BOLD), &fitting(area.width, &title, &marks).join(" · "));
    let width = area.width.saturating_sub(3);
    let Some(shown) = &view.shown[i] else {
        put(buf, area.x + 3, area.y + 1, width, "(no text: log-probs or rewards are measured)", DIM);
        return;
    };
    if shown.text.trim().is_empty() {
        put(buf, area.x + 3, area.y + 1, width, "(an empty answer)", DIM);
        return;
    }
    let rows = usize::from(area.height.saturating_sub(1));
    for (row, line) in view.lines[i].iter().skip(view.scroll).take(rows).enumerate() {
        let y = area.y + 1 + row as u16;
        let indent = 3 + line.indent as u16;
        if line.continued {
            put(buf, area.x + 1, y, 1, "↪", DIM);
        }
        let at = Rect { x: area.x + indent, y, width: area.width.saturating_sub(indent), height: 1 };
        put_line(buf, at, styled(&shown.text, line, &shown.styles, None));
    }
}

/// What each judge said, which checks failed, and what was measured.
fn said(buf: &mut Buffer, area: Rect, state: &EvalState, spec: Option<&EvalSpec>, key: &ItemKey, sides: &[String; 2]) {
    if area.is_empty() {
        return;
    }
    rule(buf, area, &Span::styled("judged and measured", DIM), "");
    let width = usize::from(area.width.saturating_sub(4));
    let judges: Vec<&Comparison> = state.comparisons().filter(|comparison| comparison.key == *key).collect();
    // The last row is for what was measured.
    let rows = usize::from(area.height.saturating_sub(1));
    let room = rows.saturating_sub(1);
    for (row, judge) in judges.iter().take(room).enumerate() {
        let mut text = opinion(judge, sides);
        for failed in failed_checks(state, spec, judge, key, sides) {
            text.push_str(&format!(" · {failed}"));
        }
        if row + 1 == room && judges.len() > room {
            text = format!("{} judges more · {text}", judges.len() - room);
        }
        let name = clip(&presentable(&judge.judge), width / 3);
        let y = area.y + 1 + row as u16;
        let used = put(buf, area.x + 3, y, area.width.saturating_sub(3), &format!("{name}  "), TEXT);
        let style = if judge.p.is_none() { WARN } else { BOLD };
        let left = width.saturating_sub(usize::from(used));
        put(buf, area.x + 3 + used, y, left as u16, &clip(&text, left), style);
    }
    let y = area.y + 1 + judges.len().min(room) as u16;
    if y < area.bottom() {
        put(buf, area.x + 3, y, area.width.saturating_sub(3), &clip(&measured(state, key), width), DIM);
    }
}

fn opinion(judge: &Comparison, sides: &[String; 2]) -> String {
    let Some(p) = judge.p else {
        let why = judge.problem.as_deref().map_or_else(String::new, |why| format!(": {}", presentable(why)));
        return format!("no opinion{why}");
    };
    let sure = |p: f64| if p == 1.0 { String::new() } else { format!(" ({:.0} %)", 100.0 * p) };
    let mut text = match p.0 {
        p if p > 0.5 => format!("{} is better{}", sides[0], sure(p)),
        p if p < 0.5 => format!("{} is better{}", sides[1], sure(1.0 - p)),
        _ => "a tie".into(),
    };
    if let (Some(one), Some(two)) = (judge.a_first, judge.b_first)
        && (one.0 > 0.5) != (two.0 > 0.5)
    {
        text.push_str(", another one when the order is swapped");
    }
    text
}

/// The checks of a judge that an answer fails, by contestant.
fn failed_checks(
    state: &EvalState,
    spec: Option<&EvalSpec>,
    judge: &Comparison,
    key: &ItemKey,
    sides: &[String; 2],
) -> Vec<String> {
    let of: Option<&JudgeSpec> = spec.and_then(|spec| spec.judges.iter().find(|of| of.name() == judge.judge));
    let Some(checks) = of.and_then(|of| of.checks.as_ref()).and_then(|text| Checks::parse(text).ok()) else {
        return Vec::new();
    };
    let mut out = Vec::new();
    for side in Contestant::BOTH {
        let Some(answer) = state.answer_of(key, side) else { continue };
        let verdicts = checks.verdicts(&answer_after_thoughts(&answer.text, false));
        let failed: Vec<String> = verdicts.into_iter().filter(|(_, met)| !met).map(|(check, _)| check).collect();
        if !failed.is_empty() {
            out.push(format!("{} fails {}", sides[side.index()], presentable(&failed.join(", "))));
        }
    }
    out
}

/// The suite's values for both contestants.
fn measured(state: &EvalState, key: &ItemKey) -> String {
    let of = |side| state.measurement_of(key, side);
    let (Some(row), Some(a), Some(b)) = (suite(&key.suite), of(Contestant::A), of(Contestant::B)) else {
        return "nothing is measured for both".into();
    };
    let value = |x: f64| if x.fract() == 0.0 { format!("{x:.0}") } else { format!("{x:.3}") };
    let parts = row.measures.iter().filter_map(|measure| {
        let (a, b) = (a.values.get(measure.key)?, b.values.get(measure.key)?);
        Some(format!("{} {} and {}", measure.title, value(a), value(b)))
    });
    parts.collect::<Vec<_>>().join(" · ")
}
