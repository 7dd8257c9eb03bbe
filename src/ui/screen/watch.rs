//! Draws the watch screen: a run of the open session, live.

use crate::app::screen::watch::WatchScreen;
use crate::app::{Model, RunView, cells, run_facts};
use crate::domain::RunId;
use crate::ui::frame::run_damage;
use crate::ui::run::{Scene, draw_scene, headline, settings};
use crate::ui::theme::{ACCENT, BOLD, DIM};
use crate::ui::widgets::plain::centred;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

/// The breadcrumb and the state for the header.
pub fn header(model: &Model, screen: &WatchScreen) -> (Vec<String>, Line<'static>) {
    let Some(open) = &model.open else { return (vec!["watch".into()], Line::default()) };
    match screen.view.shown(open) {
        Some(run) => {
            let place = vec![open.meta.name.clone(), format!("run {}", run.id)];
            let mut spans = run_damage(run, usize::from(model.size.0 / 3));
            spans.extend(headline(&run.state, &run.status(), run.is_sampling(), model.size.0).spans);
            (place, Line::from(spans))
        }
        None => (vec![open.meta.name.clone(), "watch".into()], Line::default()),
    }
}

/// Draws the body; returns the status line.
pub fn body(buf: &mut Buffer, area: Rect, model: &Model, screen: &WatchScreen) -> Line<'static> {
    let Some(open) = &model.open else { return Line::default() };
    let Some(run) = screen.view.shown(open) else {
        if open.loaded {
            let how = "t trains on the verdicts · esc goes back to labelling, where s samples answers";
            centred(buf, area, &["no run yet".into(), how.into()]);
        } else {
            centred(buf, area, &["reading the session …".into()]);
        }
        return Line::default();
    };
    let scene = Scene {
        run: &run.state,
        status: run.status(),
        sampling: run.is_sampling(),
        view: &screen.view,
        facts: run_facts(run),
        runs: (open.runs.len() > 1).then(|| runs_line(&open.runs, &run.id, area.width)),
        replay: false,
        ascii: model.theme.ascii,
    };
    draw_scene(&scene, area, buf);
    settings(&scene, area.width)
}

/// The line of runs; the selected one is visible even if not all fit.
fn runs_line<'a>(runs: &[RunView], now: &RunId, width: u16) -> Line<'a> {
    let label = |r: &RunView| format!("{} {}", r.id, r.status().word());
    let at = runs.iter().position(|r| r.id == *now).unwrap_or(0);
    let room = usize::from(width).saturating_sub(8);
    let mut from = at;
    let mut used = cells(&label(&runs[at])) + 3;
    while from > 0 && used + cells(&label(&runs[from - 1])) + 3 < room {
        from -= 1;
        used += cells(&label(&runs[from])) + 3;
    }
    let mut parts = vec![Span::styled(if from > 0 { " ‹ " } else { " " }, DIM)];
    let mut left = room;
    for run in &runs[from..] {
        let text = label(run);
        if cells(&text) + 3 > left {
            parts.push(Span::styled("›", DIM));
            break;
        }
        left -= cells(&text) + 3;
        let here = run.id == *now;
        let mark = if here { "▸" } else { " " };
        parts.push(Span::styled(mark, ACCENT));
        parts.push(Span::styled(text, if here { BOLD } else { DIM }));
        parts.push(Span::raw("  "));
    }
    Line::from(parts)
}
