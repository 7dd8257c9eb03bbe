//! Draws the evaluate screen: the figures (see `ui/evaluation.rs`), the items side by side, or the form.

mod form;
mod items;

use crate::app::screen::evaluate::{EvaluateScreen, EvaluateView, evaluations};
use crate::app::{EvalSpec, Model, OpenSession, cells, clip, eval_spec};
use crate::domain::RunId;
use crate::ui::evaluation::{EvaluationScene, draw_evaluation};
use crate::ui::frame::{damage, run_damage, saved};
use crate::ui::run::headline;
use crate::ui::theme::{ACCENT, BOLD, DIM};
use crate::ui::widgets::plain::centred;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

/// The breadcrumb and the state for the header.
pub fn header(model: &Model, screen: &EvaluateScreen) -> (Vec<String>, Line<'static>) {
    let Some(open) = &model.open else { return (vec!["evaluate".into()], Line::default()) };
    let mut place = vec![clip(&open.meta.name, 40)];
    let mut spans = damage(model, usize::from(model.size.0 / 3));
    match (screen.view, screen.shown(open)) {
        (EvaluateView::Form, _) => place.push("evaluate: new".into()),
        (_, Some(run)) => {
            place.push(format!("evaluate {}", run.id));
            spans.extend(run_damage(run, usize::from(model.size.0 / 3)));
            spans.extend(headline(&run.state, &run.status(), false, model.size.0).spans);
            return (place, Line::from(spans));
        }
        (_, None) => place.push("evaluate".into()),
    }
    spans.extend(saved(model, usize::from(model.size.0 / 2)));
    (place, Line::from(spans))
}

/// Draws the body; returns the status line.
pub fn body(buf: &mut Buffer, area: Rect, model: &Model, screen: &EvaluateScreen) -> Line<'static> {
    let Some(open) = &model.open else { return Line::default() };
    if screen.view == EvaluateView::Form {
        return form::draw(buf, area, &screen.form);
    }
    let Some(run) = screen.shown(open) else {
        if open.loaded {
            let key = model.keys.key("evaluate", "new evaluation");
            let lines = [
                "no evaluation yet".to_owned(),
                String::new(),
                format!("{key} sets one up: a trained run against its base,"),
                "on prompts that neither was trained on, by judges and suites".into(),
            ];
            centred(buf, area, &lines);
        } else {
            centred(buf, area, &["reading the session …".into()]);
        }
        return Line::default();
    };
    let spec = eval_spec(run.spec.as_ref());
    if screen.view == EvaluateView::Items {
        return items::draw(buf, area, run, spec, &screen.items);
    }
    let scene = EvaluationScene {
        spec,
        run: &run.state,
        status: run.status(),
        report: screen.report.as_ref(),
        runs: runs_line(open, &run.id, area.width),
        scroll: screen.scroll,
        replay: false,
    };
    draw_evaluation(&scene, area, buf);
    Line::styled(facts(spec), DIM)
}

/// How answers are drawn, for the status line.
fn facts(spec: Option<&EvalSpec>) -> String {
    let Some(spec) = spec else { return String::new() };
    let mut parts = Vec::new();
    for suite in &spec.suites {
        let how = match suite.sampler.temperature {
            0.0 => "greedy".to_owned(),
            t => format!("temperature {t}"),
        };
        let limit = suite.limit.map_or_else(String::new, |n| format!(", at most {n} items"));
        parts.push(format!("{}: {how}, {} tokens{limit}", suite.name, suite.sampler.max_new_tokens));
    }
    parts.join(" · ")
}

/// The session's evaluations, the newest first and the shown one marked; none where there is only one.
fn runs_line(open: &OpenSession, now: &RunId, width: u16) -> Option<Line<'static>> {
    let runs: Vec<(String, bool)> =
        evaluations(open).map(|run| (format!("{} {}", run.id, run.status().word()), run.id == *now)).collect();
    if runs.len() < 2 {
        return None;
    }
    let at = runs.iter().position(|(_, here)| *here).unwrap_or(0);
    let room = usize::from(width).saturating_sub(6);
    let mut from = at;
    let mut used = cells(&runs[at].0) + 4;
    while from > 0 && used + cells(&runs[from - 1].0) + 4 < room {
        from -= 1;
        used += cells(&runs[from].0) + 4;
    }
    let mut spans = vec![Span::styled(if from > 0 { " ‹ " } else { " " }, DIM)];
    let mut left = room;
    for (text, here) in &runs[from..] {
        if cells(text) + 4 > left {
            spans.push(Span::styled("›", DIM));
            break;
        }
        left -= cells(text) + 4;
        spans.push(Span::styled(if *here { "▸ " } else { "  " }, ACCENT));
        spans.push(Span::styled(text.clone(), if *here { BOLD } else { DIM }));
        spans.push(Span::raw("  "));
    }
    Some(Line::from(spans))
}
