//! Draws the pair screen; `app/screen/pair.rs` has its sketch.

use crate::app::screen::pair::{PairScreen, PreviewState};
use crate::app::{Model, PairPreview};
use crate::domain::counted;
use crate::ui::frame::{damage, saved};
use crate::ui::theme::{DIM, GOOD, TEXT, WARN};
use crate::ui::widgets::form::{self, FormOutcome};
use crate::ui::widgets::plain::centred;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::Line;

/// The breadcrumb and the state for the header.
pub fn header(model: &Model, _screen: &PairScreen) -> (Vec<String>, Line<'static>) {
    let name = model.open.as_ref().map(|open| open.meta.name.clone()).unwrap_or_default();
    let mut spans = damage(model, usize::from(model.size.0 / 3));
    spans.extend(saved(model, usize::from(model.size.0 / 2)));
    (vec![name, "pair".into()], Line::from(spans))
}

/// Draws the body; returns the status line.
pub fn body(buf: &mut Buffer, area: Rect, model: &Model, screen: &PairScreen) -> Line<'static> {
    let Some(open) = model.open.as_ref().filter(|open| open.loaded) else {
        centred(buf, area, &["reading the session …".into()]);
        return Line::default();
    };
    let mut lines = Vec::new();
    match &screen.preview {
        PreviewState::Pending => lines.push(("counting …".to_owned(), DIM)),
        PreviewState::Ready(preview) => lines.extend(counts(preview)),
        PreviewState::None | PreviewState::Failed(_) => {}
    }
    if let Some(why) = screen.obstacle(open) {
        lines.push((format!("⚠ {why}"), WARN));
    }
    form::draw(buf, area, &screen.form, &FormOutcome { title: "these pairs", lines });
    Line::default()
}

/// How many pairs, of which parts and strata, and what was left out.
fn counts(preview: &PairPreview) -> Vec<(String, Style)> {
    let PairPreview { chosen, of, parts, strata, left_out } = preview;
    let mut first = format!("{} of {of}", counted(*chosen, "pair"));
    if parts.len() > 1 {
        let parts: Vec<String> = parts.iter().map(|(name, n)| format!("{n} {name}")).collect();
        first.push_str(&format!(": {}", parts.join(", ")));
    }
    let mut out = vec![(first, if *chosen > 0 { GOOD } else { TEXT })];
    if !left_out.is_empty() {
        out.push((format!("left out: {left_out}"), DIM));
    }
    if !strata.is_empty() {
        let strata: Vec<String> = strata.iter().map(|s| format!("{} {} of {}", s.name, s.chosen, s.size)).collect();
        out.push((strata.join(" · "), TEXT));
    }
    out
}
