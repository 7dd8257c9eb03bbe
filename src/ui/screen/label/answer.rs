//! Draws one answer of the shown pair: its marks on the rule, and its text as Markdown, raw, or with differences.
//!
//! ```text
//! ─ 1 [markdown] ──────────── 60 tok · ✂ cut at limit · 64 % read ↓ ─
//!    ▸ thought, 212 words (m unfolds)
//!    ## Steps
//!    1. Boil the water for
//!       ten minutes.
//!  ↪
//! ```

use crate::app::screen::label::{Card, LabelScreen, Pane, TextLine};
use crate::app::{Model, OpenSession, TextStyle, presentable};
use crate::domain::{Choice, QueueOrder, counted};
use crate::ui::frame::{fitting, put, put_line, rule};
use crate::ui::theme::{ACCENT, ACCENT_BOLD, BOLD, DIFFERS, DIM, TEXT};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use std::ops::Range;

/// Draws the rule above the answer, and its lines.
pub fn draw(buf: &mut Buffer, area: Rect, model: &Model, screen: &LabelScreen, card: &Card, pane: Pane) {
    let Some(open) = &model.open else { return };
    let i = pane.index();
    let shown = &card.shown[i];
    let focused = card.focus == pane;
    let mut title =
        if screen.zoom && focused { format!("{} zoomed", pane.number()) } else { pane.number().to_string() };
    if shown.markdown {
        title.push_str(match (screen.diff, screen.view.raw) {
            (true, _) => " [raw: diff]",
            (_, true) => " [raw]",
            _ => " [markdown]",
        });
    }
    let style = if focused { ACCENT_BOLD } else { BOLD };
    let mut remark = fitting(area.width, &title, &marks(open, card, pane));
    // What matters most stands at the end of the rule.
    remark.reverse();
    rule(buf, area, &Span::styled(title, style), &remark.join(" · "));
    let differences = if screen.diff { card.diff.as_ref().map(|diff| diff.only[i].as_slice()) } else { None };
    if card.text[i].trim().is_empty() {
        put(buf, area.x + 3, area.y + 1, area.width.saturating_sub(3), "(an empty answer)", DIM);
        return;
    }
    let rows = usize::from(area.height.saturating_sub(1));
    for (row, line) in card.lines[i].iter().skip(card.scroll[i]).take(rows).enumerate() {
        let y = area.y + 1 + row as u16;
        let indent = 3 + line.indent as u16;
        if line.continued {
            put(buf, area.x + 1, y, 1, "↪", DIM);
        }
        let at = Rect { x: area.x + indent, y, width: area.width.saturating_sub(indent), height: 1 };
        let mut spans = styled(&shown.text, line, &shown.styles, differences);
        let ends_fold = |(range, style): &(Range<usize>, TextStyle)| {
            *style == TextStyle::Fold && line.range.contains(&range.start) && range.end <= line.range.end
        };
        if shown.styles.iter().any(ends_fold) {
            spans.push_span(Span::styled(format!(" ({} unfolds)", model.keys.key("label", "thoughts")), DIM));
        }
        put_line(buf, at, spans);
    }
}

/// What the rule says about an answer, the most important first, each in its forms from long to short.
fn marks(open: &OpenSession, card: &Card, pane: Pane) -> Vec<Vec<String>> {
    let i = pane.index();
    let forms = |forms: &[&str]| forms.iter().map(|form| (*form).to_owned()).collect::<Vec<_>>();
    let mut out = vec![match card.read_percent(pane) {
        100 => forms(&["all read"]),
        percent if card.lacks_thought(pane) => {
            vec![format!("{percent} % read, thought folded"), format!("{percent} % read")]
        }
        percent => vec![format!("{percent} % read ↓")],
    }];
    if card.writing.as_ref().is_some_and(|writing| !writing.ended[i]) {
        let so_far = match card.tokens[i] {
            0 => counted(card.text[i].chars().count(), "character"),
            n => format!("{n} tok"),
        };
        out.insert(0, vec![format!("… writing, {so_far}"), "… writing".into(), "…".into()]);
        return out;
    }
    if card.thoughts[i].last().is_some_and(|thought| !thought.closed) {
        out.push(forms(&["⚠ ends inside a thought", "⚠ in thought"]));
    }
    if card.cut[i] {
        out.push(forms(&["✂ cut at limit", "✂ cut"]));
    }
    if card.corrected[i] {
        out.push(forms(&["✎ corrected", "✎"]));
    } else if open.session.correction_of(card.completion(pane), &open.rater).is_some() && !card.is_unmarked() {
        out.push(forms(&["✎ original", "✎ orig"]));
    }
    if let Some(score) = score(open, card, pane) {
        out.push(score);
    }
    if card.tokens[i] > 0 {
        out.push(vec![format!("{} tok", card.tokens[i]), String::new()]);
    }
    out
}

/// The reward score of an answer and the run that gave it, once the rater has judged: before, it would not be blind.
fn score(open: &OpenSession, card: &Card, pane: Pane) -> Option<Vec<String>> {
    if card.is_unmarked() {
        return None;
    }
    let settled = open.session.adjudication_of(&card.pair).is_some();
    let judged = open.session.verdict_of(&card.pair, &open.rater).is_some_and(|(_, v)| v.choice != Choice::Skip);
    let blind = if open.order == QueueOrder::Disputed { !settled } else { !judged };
    let score = open.session.score_of(card.completion(pane)).filter(|_| !blind)?;
    let run = presentable(score.run.as_str());
    Some(vec![format!("{run} {:+.2}", score.value), format!("{:+.2}", score.value), String::new()])
}

/// A line with its styles. With differences, these are highlighted and the rest is dim.
pub fn styled<'a>(
    text: &'a str,
    line: &TextLine,
    styles: &[(Range<usize>, TextStyle)],
    differences: Option<&[Range<usize>]>,
) -> Line<'a> {
    let (start, end) = (line.range.start, line.range.end);
    let overlaps = |range: &Range<usize>| range.start < end && range.end > start;
    let here: Vec<&(Range<usize>, TextStyle)> = styles.iter().filter(|(range, _)| overlaps(range)).collect();
    let differ: Vec<&Range<usize>> = differences.unwrap_or_default().iter().filter(|range| overlaps(range)).collect();
    let edges = here.iter().map(|(range, _)| range).chain(differ.iter().copied());
    let mut cuts: Vec<usize> = edges.flat_map(|range| [range.start, range.end]).collect();
    cuts.extend([start, end]);
    cuts.retain(|cut| (start..=end).contains(cut));
    cuts.sort_unstable();
    cuts.dedup();
    let spans = cuts.windows(2).map(|cut| {
        let mut style = if differences.is_some() { DIM } else { TEXT };
        for (_, of) in here.iter().filter(|(range, _)| range.contains(&cut[0])) {
            style = style.patch(look(*of));
        }
        if differ.iter().any(|range| range.contains(&cut[0])) {
            style = DIFFERS;
        }
        Span::styled(&text[cut[0]..cut[1]], style)
    });
    spans.collect()
}

/// How a style of text looks, without meaning by colour alone: code keeps its backticks, a heading its `#`.
fn look(style: TextStyle) -> Style {
    match style {
        TextStyle::Heading | TextStyle::Strong => BOLD,
        TextStyle::Emphasis => Style::new().add_modifier(Modifier::ITALIC),
        TextStyle::Struck => Style::new().add_modifier(Modifier::CROSSED_OUT),
        TextStyle::Code => ACCENT,
        TextStyle::Marker | TextStyle::Thought | TextStyle::Fold => DIM,
    }
}
