//! Draws the loop screen; `app/screen/rounds.rs` has its sketch.

use crate::app::screen::rounds::{LoopPlan, LoopScreen, LoopView};
use crate::app::{Model, OpenSession, cells, clip, presentable, wrap};
use crate::domain::{LoopProgress, LoopSpec, LoopState, RoundProgress, RoundWin, RunStatus, counted};
use crate::ui::frame::{damage, put, rule, saved};
use crate::ui::theme::{ACCENT, BAD, BOLD, DIM, GOOD, TEXT, WARN};
use crate::ui::widgets::form::{self, FormOutcome};
use crate::ui::widgets::interval::interval;
use crate::ui::widgets::plain::{bar, centred, more_mark};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

/// Columns of the table before the win rate.
const TABLE: u16 = 49;
/// Columns of the status of the sampling run, which is left out below [`NARROW`] columns.
const SAMPLE: u16 = 11;
const NARROW: u16 = 72;
/// Columns of the win rate's numbers.
const NUMBERS: u16 = 32;
/// Columns of an interval.
const INTERVAL: usize = 21;
/// Columns of the bar.
const BAR: usize = 20;

/// The breadcrumb and the state for the header.
pub fn header(model: &Model, screen: &LoopScreen) -> (Vec<String>, Line<'static>) {
    let Some(open) = &model.open else { return (vec!["loop".into()], Line::default()) };
    let mut spans = damage(model, usize::from(model.size.0 / 3));
    let place = match (screen.view, screen.shown(open)) {
        (LoopView::Form, _) => "loop: new".to_owned(),
        (_, Some(spec)) => {
            let word = if screen.is_running(open) { ("running", GOOD) } else { ("not running", DIM) };
            spans.push(Span::styled(word.0, word.1));
            spans.push(Span::raw("   "));
            format!("loop {}", spec.name)
        }
        (_, None) => "loop".into(),
    };
    spans.extend(saved(model, usize::from(model.size.0 / 2)));
    (vec![clip(&open.meta.name, 40), place], Line::from(spans))
}

/// Draws the body; returns the status line.
pub fn body(buf: &mut Buffer, area: Rect, model: &Model, screen: &LoopScreen) -> Line<'static> {
    let Some(open) = model.open.as_ref().filter(|open| open.loaded) else {
        centred(buf, area, &["reading the session …".into()]);
        return Line::default();
    };
    if screen.view == LoopView::Form {
        let lines = match &screen.form.plan {
            LoopPlan::None => Vec::new(),
            LoopPlan::Pending => vec![("checking …".to_owned(), DIM)],
            LoopPlan::Ready(lines) => lines.iter().map(|line| (line.clone(), TEXT)).collect(),
            LoopPlan::Failed(why) => vec![(format!("⚠ {why}"), WARN)],
        };
        form::draw(buf, area, &screen.form.fields, &FormOutcome { title: "this loop", lines });
        return Line::default();
    }
    let (Some(spec), Some(progress)) = (screen.shown(open), &screen.progress) else {
        let key = model.keys.key("loop", "new loop");
        let lines = [
            "no loop yet".to_owned(),
            String::new(),
            format!("{key} plans one: sample, pair, judge, train, evaluate,"),
            "in rounds, each from the model of the round before".into(),
        ];
        centred(buf, area, &lines);
        return Line::default();
    };
    let resume = model.keys.key("loop", "resume");
    let below = below(open, spec, progress, screen, &resume, usize::from(area.width.saturating_sub(6)).max(1));
    let tail = (below.len() as u16 + 1).min(area.height.saturating_sub(3));
    table(buf, Rect { height: area.height - tail, ..area }, progress, screen.scroll);
    let at = Rect { y: area.bottom() - tail, height: tail, ..area };
    rule(buf, at, &Span::styled(spec.name.clone(), BOLD), "");
    for (i, (text, style)) in below.iter().take(usize::from(tail.saturating_sub(1))).enumerate() {
        put(buf, at.x + 3, at.y + 1 + i as u16, at.width.saturating_sub(4), text, *style);
    }
    Line::default()
}

/// The rounds, a row each; the last ones where there are more than rows.
fn table(buf: &mut Buffer, area: Rect, progress: &LoopProgress, scroll: usize) {
    let narrow = area.width < NARROW;
    let (head, win) = if narrow {
        (" round  pairs judged  ties  train", "win rate")
    } else {
        (" round  sample     pairs judged  ties  train", "win rate over the round before")
    };
    let x = table_width(area);
    put(buf, area.x, area.y, area.width, head, DIM);
    put(buf, area.x + x, area.y, area.width.saturating_sub(x), win, DIM);
    let rows = usize::from(area.height.saturating_sub(1));
    let all = progress.rounds.len();
    // The newest round is in sight unless the reader scrolls back.
    let first = all.saturating_sub(rows).saturating_sub(scroll);
    for (i, round) in progress.rounds.iter().skip(first).take(rows).enumerate() {
        row(buf, Rect { y: area.y + 1 + i as u16, height: 1, ..area }, round);
    }
    if first > 0 {
        more_mark(buf, Rect { y: area.y + 1, ..area }, first);
    }
}

/// The columns before the win rate.
fn table_width(area: Rect) -> u16 {
    if area.width < NARROW { TABLE - SAMPLE } else { TABLE }
}

fn row(buf: &mut Buffer, area: Rect, round: &RoundProgress) {
    let word = |status: &Option<RunStatus>| status.as_ref().map_or("–", RunStatus::word);
    let counts = if round.pairs == 0 {
        format!("{:>5} {:>6}  {:>4}", "–", "–", "–")
    } else {
        format!("{:>5} {:>6}  {:>4}", round.pairs, round.judged, round.ties)
    };
    let sampled = if area.width < NARROW { String::new() } else { format!("{:<9}  ", word(&round.runs.sampling)) };
    let text = format!("  {:>3}   {sampled}{counts}  {:<9}", round.round, word(&round.runs.training));
    put(buf, area.x, area.y, area.width, &text, TEXT);
    let width = table_width(area);
    let (x, room) = (area.x + width, area.width.saturating_sub(width));
    let Some(win) = &round.runs.win else {
        put(buf, x, area.y, room, word(&round.runs.evaluation), DIM);
        return;
    };
    let numbers = win.numbers();
    let wide = room >= NUMBERS + INTERVAL as u16 + 12;
    // Where little room is left the verdict counts more than the ends of the interval.
    let short = win.rate.map_or_else(|| "undefined".into(), |rate| format!("{:.1} %", 100.0 * rate));
    let fits = usize::from(room) >= cells(&numbers) + 2 + cells(win.word());
    let shown = if fits { numbers } else { short };
    let used = put(buf, x, area.y, room, &shown, BOLD);
    let mut at = x + if wide { NUMBERS } else { used + 2 };
    if let Some(rate) = win.rate.filter(|_| wide) {
        at += put(buf, at, area.y, INTERVAL as u16, &interval(rate, win.interval, INTERVAL), ACCENT) + 2;
    }
    put(buf, at, area.y, area.right().saturating_sub(at), win.word(), verdict_style(win));
}

fn verdict_style(win: &RoundWin) -> Style {
    match win.word() {
        "better" => GOOD,
        "worse" => BAD,
        _ => WARN,
    }
}

/// What stands below the rounds.
fn below(
    open: &OpenSession,
    spec: &LoopSpec,
    progress: &LoopProgress,
    screen: &LoopScreen,
    resume: &str,
    width: usize,
) -> Vec<(String, Style)> {
    let mut lines = Vec::new();
    let running = screen.is_running(open);
    let result = match progress.result(spec) {
        Some(run) => format!("the result is {run}"),
        None => "the result is the model that it started from".to_owned(),
    };
    match &progress.state {
        LoopState::Next { round, step, status } => {
            let what = match status {
                Some(RunStatus::Failed(why)) => (format!("failed: {why}"), BAD),
                Some(status) => (status.word().to_owned(), TEXT),
                None if running => ("under way".to_owned(), TEXT),
                None => ("to do".to_owned(), TEXT),
            };
            lines.push((format!("round {round} of {}: {} ({})", spec.rounds, step.word(), what.0), what.1));
            if let Some((run, plan)) = screen.current(open).and_then(|run| Some((run, run.state.plan.as_ref()?)))
                && plan.total_steps > 0
            {
                let share = run.state.step as f64 / plan.total_steps as f64;
                lines.push((
                    format!("{} {} of {} {}", bar(share, BAR), run.state.step, plan.total_steps, run.id),
                    ACCENT,
                ));
            }
            if !running {
                lines.push((format!("not running: {resume} goes on from here"), WARN));
            }
        }
        LoopState::Waits { round, left, .. } => {
            let text = format!("round {round} of {} waits for you: {} to judge", spec.rounds, counted(*left, "pair"));
            lines.push((text, WARN));
            if !running {
                lines.push((format!("not running: {resume} goes on once they are judged"), WARN));
            }
        }
        LoopState::Done => lines.push((format!("all {} done; {result}", counted(spec.rounds as usize, "round")), GOOD)),
        LoopState::NoGain { round } => {
            let text = format!(
                "ended after round {round} of {}, which is not better than the model before; {result}",
                spec.rounds
            );
            lines.push((text, WARN));
        }
    }
    let score = spec.score.as_ref().map_or_else(String::new, |source| format!(" by {source}"));
    lines.push((
        format!(
            "{} a round, {} to each · pairs {}{score} · judge {} · {}",
            counted(spec.prompts_per_round, "prompt"),
            counted(spec.per_prompt, "answer"),
            spec.strategy,
            spec.judge,
            spec.method
        ),
        DIM,
    ));
    let wrapped = |(text, style): (String, Style)| {
        let text = presentable(&text).replace('\n', " ");
        let parts = wrap(&text, width);
        parts.into_iter().map(|range| (text[range].to_owned(), style)).collect::<Vec<_>>()
    };
    lines.into_iter().flat_map(wrapped).collect()
}
