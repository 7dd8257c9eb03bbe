//! Draws the score screen; `app/screen/score.rs` has its sketch.

use crate::app::Model;
use crate::app::screen::score::ScoreScreen;
use crate::ui::frame::{damage, saved};
use crate::ui::theme::{ACCENT, DIM, GOOD, TEXT, WARN};
use crate::ui::widgets::form::{self, FormOutcome};
use crate::ui::widgets::plain::{bar, centred};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;

/// Columns of the bar.
const BAR: usize = 20;

/// The breadcrumb and the state for the header.
pub fn header(model: &Model, _screen: &ScoreScreen) -> (Vec<String>, Line<'static>) {
    let name = model.open.as_ref().map(|open| open.meta.name.clone()).unwrap_or_default();
    let mut spans = damage(model, usize::from(model.size.0 / 3));
    spans.extend(saved(model, usize::from(model.size.0 / 2)));
    (vec![name, "score".into()], Line::from(spans))
}

/// Draws the body; returns the status line.
pub fn body(buf: &mut Buffer, area: Rect, model: &Model, screen: &ScoreScreen) -> Line<'static> {
    if !model.open.as_ref().is_some_and(|open| open.loaded) {
        centred(buf, area, &["reading the session …".into()]);
        return Line::default();
    }
    let mut lines = Vec::new();
    if !screen.to_do.is_empty() {
        lines.push((screen.to_do.clone(), TEXT));
    }
    match (&model.scoring, &model.scored) {
        (Some(now), _) if now.total > 0 => {
            let share = now.done as f64 / now.total as f64;
            lines.push((
                format!("{} {} of {} {} by {}", bar(share, BAR), now.done, now.total, now.what, now.by),
                ACCENT,
            ));
        }
        (Some(now), _) => lines.push((format!("loading {} …", now.by), DIM)),
        (None, Some(Ok(text))) => lines.push((text.clone(), GOOD)),
        (None, Some(Err(why))) => lines.push((format!("⚠ {why}"), WARN)),
        (None, None) => {}
    }
    if model.scoring.is_none()
        && let Some(why) = screen.obstacle(&model.shared)
    {
        lines.push((format!("⚠ {why}"), WARN));
    }
    form::draw(buf, area, &screen.form, &FormOutcome { title: "this scoring", lines });
    Line::default()
}
