//! Draws the sample screen; `app/screen/sample.rs` has its sketch.

use crate::app::Model;
use crate::app::screen::sample::SampleScreen;
use crate::ui::frame::damage;
use crate::ui::theme::{DIM, TEXT, WARN};
use crate::ui::widgets::form::{self, FormOutcome};
use crate::ui::widgets::plain::centred;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

/// The breadcrumb and the state for the header.
pub fn header(model: &Model, _screen: &SampleScreen) -> (Vec<String>, Line<'static>) {
    let name = model.open.as_ref().map(|open| open.meta.name.clone()).unwrap_or_default();
    let mut spans = damage(model, usize::from(model.size.0 / 3));
    spans.push(Span::styled(format!("device  {}", model.device), DIM));
    (vec![name, "sample".into()], Line::from(spans))
}

/// Draws the body; returns the status line.
pub fn body(buf: &mut Buffer, area: Rect, model: &Model, screen: &SampleScreen) -> Line<'static> {
    if screen.prompts.is_none() {
        centred(buf, area, &["reading the session …".into()]);
        return Line::default();
    }
    let mut lines = vec![(screen.summary(), TEXT)];
    lines.retain(|(text, _)| !text.is_empty());
    if model.models.is_none() {
        lines.push(("looking for models on this machine …".into(), DIM));
    }
    if let Some(url) = screen.asked() {
        lines.push((format!("asking {url} for its models …"), DIM));
    }
    let obstacle = screen.obstacle();
    if let Some(why) = &obstacle {
        lines.push((format!("⚠ {why}"), WARN));
    }
    form::draw(buf, area, &screen.form, &FormOutcome { title: "this run", lines });
    Line::default()
}
