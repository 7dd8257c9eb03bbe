//! Draws the prompt of the shown pair, led by its turns' roles.
//!
//! ```text
//! ─ prompt p31·2 · kids ────────────────── turn 3/3 · 4 lines above · J K scroll, p expands ─
//!    assistant ▸ It is scattered sunlight.
//!    user ▸ Can you please use more Markdown formatting?
//! ```

use crate::app::bindings::KeyBindings;
use crate::app::screen::label::Card;
use crate::domain::counted;
use crate::ui::frame::{fitting, put, put_line, rule};
use crate::ui::theme::{ACCENT, BOLD, DIM, TEXT};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

/// Draws the rule above the prompt, and its lines.
pub fn draw(buf: &mut Buffer, area: Rect, (card, keys): (&Card, &KeyBindings), title: &Span, remarks: &[String]) {
    let prompt = &card.prompt;
    let mut all: Vec<Vec<String>> = Vec::new();
    if let Some((turn, turns)) = prompt.turn_in_view() {
        all.push(vec![format!("turn {turn}/{turns}")]);
    }
    if prompt.is_cut() {
        let (above, below) = prompt.hidden();
        let part = |n: usize, at: &str| (n > 0).then(|| format!("{} {at}", counted(n, "line")));
        let long: Vec<String> = part(above, "above").into_iter().chain(part(below, "below")).collect();
        all.push(vec![long.join(", "), format!("↑{above} ↓{below}")]);
    }
    all.extend(remarks.iter().map(|remark| vec![remark.clone()]));
    if prompt.is_cut() {
        let [down, up, size] = ["prompt down", "prompt up", "expand prompt"].map(|name| keys.key("label", name));
        let does = if prompt.expanded { "shrinks" } else { "expands" };
        all.push(vec![format!("{down} {up} scroll, {size} {does}"), format!("{down} {up} {size}"), String::new()]);
    } else if prompt.expanded {
        all.push(vec![format!("{} shrinks", keys.key("label", "expand prompt"))]);
    }
    let remark = fitting(area.width, &title.content, &all);
    rule(buf, area, title, &remark.join(" · "));
    let rows = usize::from(card.layout.prompt);
    for (i, line) in prompt.lines.iter().skip(prompt.scroll).take(rows).enumerate() {
        let style = if prompt.is_question(line.start) { BOLD } else { TEXT };
        let (x, y, width) = (area.x + 3, area.y + 1 + i as u16, area.width.saturating_sub(3));
        let Some(role) = prompt.role_in(line) else {
            put(buf, x, y, width, &prompt.text[line.clone()], style);
            continue;
        };
        let spans = vec![
            Span::styled(&prompt.text[role.clone()], if style == BOLD { ACCENT } else { DIM }),
            Span::styled(&prompt.text[role.end..line.end], style),
        ];
        put_line(buf, Rect { x, y, width, height: 1 }, Line::from(spans));
    }
}
