//! Draws the replay: the verdicts or the curves as they were, above the timeline.

use crate::app::screen::replay::{Mark, ReplayScreen, Timeline};
use crate::app::{Model, presentable, wrap};
use crate::domain::{Choice, Completion, PartialFate, Session, Side, Strength, Verdict, counted};
use crate::ui::evaluation::{EvaluationScene, draw_evaluation};
use crate::ui::frame::{damage, put, rule};
use crate::ui::run::{Scene, draw_scene, headline, settings};
use crate::ui::theme::{ACCENT, ACCENT_BOLD, BOLD, DIM, GOOD, TEXT, WARN};
use crate::ui::widgets::chart::clock;
use crate::ui::widgets::plain::centred;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

/// Rows of the timeline: a rule, the line, the legend of its marks.
const TIMELINE: u16 = 3;
/// From this width on, the two answers stand side by side.
const SIDE_BY_SIDE: u16 = 90;

/// The breadcrumb and the state for the header.
pub fn header(model: &Model, screen: &ReplayScreen) -> (Vec<String>, Line<'static>) {
    let name = model.open.as_ref().map(|open| open.meta.name.clone()).unwrap_or_default();
    let place = vec![name, "replay".into()];
    let Some(line) = &screen.timeline else { return (place, Line::styled("REPLAY", ACCENT_BOLD)) };
    let digits = line.len().to_string().len();
    let how = if screen.playing { "playing" } else { "paused " };
    let state = format!("  {how} {}×  entry {:>digits$}/{}", screen.speed(), line.cursor(), line.len());
    let mut spans = damage(model, usize::from(model.size.0 / 3));
    spans.extend([Span::styled("REPLAY", ACCENT_BOLD), Span::raw(state)]);
    (place, Line::from(spans))
}

/// Draws the body; returns the status line.
pub fn body(buf: &mut Buffer, area: Rect, model: &Model, screen: &ReplayScreen) -> Line<'static> {
    let Some(line) = &screen.timeline else {
        let lines = match &screen.unread {
            Some(error) => wrap(error, usize::from(area.width.saturating_sub(4)))
                .into_iter()
                .map(|line| error[line].into())
                .collect(),
            None => vec!["reading the session …".into()],
        };
        centred(buf, area, &lines);
        return Line::default();
    };
    if line.is_empty() {
        centred(buf, area, &["nothing to replay yet".into(), "what you label and train is played back here".into()]);
        return Line::default();
    }
    let above = Rect { height: area.height.saturating_sub(TIMELINE), ..area };
    timeline(buf, Rect { y: above.bottom(), height: TIMELINE.min(area.height), ..area }, screen, line);
    if screen.shows_curves()
        && let Some((id, run)) = screen.run()
    {
        let spec = line.runs().iter().find(|(run, _)| *run == id).and_then(|(_, spec)| spec.as_ref());
        // In a replay the worker counts as alive until the log says otherwise.
        let status = run.status(Some(true));
        if let Some(eval) = crate::app::eval_spec(spec) {
            let mut parts = vec![Span::raw(" "), Span::styled(format!("{id}  "), BOLD), Span::raw(status.word())];
            parts.extend(headline(run, &status, false, area.width).spans.into_iter().skip(1));
            let scene = EvaluationScene {
                spec: Some(eval),
                run,
                status,
                report: screen.report.as_ref(),
                runs: Some(Line::from(parts)),
                scroll: 0,
                replay: true,
            };
            draw_evaluation(&scene, above, buf);
            return Line::default();
        }
        let sampling = spec.map_or(run.tokens > 0 && run.metrics().next().is_none(), |s| s.kind() == "sample");
        let mut parts = vec![Span::raw(" "), Span::styled(format!("{id}  "), BOLD)];
        // A past status is in lower case: only the present is LIVE.
        parts.push(Span::raw(status.word()));
        parts.extend(headline(run, &status, sampling, area.width).spans.into_iter().skip(1));
        let scene = Scene {
            run,
            status,
            sampling,
            view: &screen.curves,
            facts: spec.map_or_else(Vec::new, crate::app::spec_facts),
            runs: Some(Line::from(parts)),
            replay: true,
            ascii: model.theme.ascii,
        };
        draw_scene(&scene, above, buf);
        return settings(&scene, area.width);
    }
    let session = &line.state().session;
    if let Some((_, verdict, undone)) = screen.current_verdict() {
        let whole = model.open.as_ref().map_or(session, |open| &open.session);
        verdict_view(buf, above, (session, whole), verdict, undone);
    } else {
        let have = format!(
            "{} · {} · {}",
            counted(session.prompts().len(), "prompt"),
            counted(session.completion_count(), "answer"),
            counted(session.pairs().len(), "pair")
        );
        centred(buf, above, &["nothing labelled yet".into(), have]);
    }
    match unknown_entry(line) {
        Some(text) => Line::styled(text, WARN),
        None => Line::styled(verdict_count(session), DIM),
    }
}

/// The entry at the cursor, if its kind is unknown to this version.
fn unknown_entry(line: &Timeline) -> Option<String> {
    let (value, log) = line.current()?.unknown()?;
    let kind = value.get("k").and_then(|k| k.as_str()).unwrap_or("?");
    Some(format!(
        "entry {} of {log} is of the unknown kind `{}`: it is kept unchanged",
        line.cursor(),
        presentable(kind)
    ))
}

/// The number of verdicts at this point.
fn verdict_count(session: &Session) -> String {
    let (counting, undone) = session.verdict_counts();
    let taken = if undone > 0 { format!(" · {undone} undone") } else { String::new() };
    format!("{} on {}{taken}", counted(counting, "verdict"), counted(session.pairs().len(), "pair"))
}

/// The pair of a verdict as it was on the screen, and the decision. Answers that had not ended are shown as far as they had
/// come; they are in the logs later, which `whole` knows.
fn verdict_view(buf: &mut Buffer, area: Rect, (now, whole): (&Session, &Session), verdict: &Verdict, undone: bool) {
    let partial = verdict.showing.partial.as_ref();
    let session = if partial.is_some() { whole } else { now };
    let is_known = partial.is_none() || whole.partial_fate(verdict) == Some(PartialFate::Bound);
    let pair = session.pair(&verdict.pair).filter(|_| is_known);
    let Some((pair, (a, b))) = pair.and_then(|p| Some((p, session.sides(p)?))) else {
        let id = presentable(verdict.pair.as_str());
        let lines = match partial {
            None => vec![format!("pair {id} has a verdict, but its answers are not in the logs")],
            Some(view) => vec![
                format!("pair {id}: {} ({})", decision(verdict), presentable(verdict.rater.as_str())),
                format!(
                    "given on {} and {} characters of answers that ended otherwise or never",
                    view.a.chars, view.b.chars
                ),
            ],
        };
        return centred(buf, area, &lines);
    };
    let prompt = session.prompt(&pair.prompt).map_or(String::new(), |p| presentable(p.body.headline()));
    rule(buf, area, &Span::styled(format!("prompt {}", pair.prompt), DIM), &verdict.pair.to_string());
    let used =
        paragraph(buf, Rect { y: area.y + 1, height: 3.min(area.height.saturating_sub(1)), ..area }, &prompt, BOLD);
    let decided = {
        let who = presentable(verdict.rater.as_str());
        let mut text = match who.strip_prefix("import:") {
            Some(file) => format!("imported from {file}: {}", decision(verdict)),
            None => format!("{who}: {}", decision(verdict)),
        };
        if verdict.is_partial() {
            text.push_str(", before both answers had ended");
        }
        if undone {
            text.push_str(" (undone later)");
        }
        text
    };
    let y = area.y + 2 + used;
    put(buf, area.x + 2, y, area.width.saturating_sub(3), &decided, if undone { WARN } else { GOOD });
    let rest = Rect { y: y + 2, height: area.bottom().saturating_sub(y + 2), ..area };
    // As they were: the left one was `verdict.left`.
    let shown: [(&Completion, Side); 2] = match verdict.left {
        Side::A => [(a, Side::A), (b, Side::B)],
        Side::B => [(b, Side::B), (a, Side::A)],
    };
    let parts = if area.width >= SIDE_BY_SIDE {
        let half = area.width / 2;
        [Rect { width: half - 1, ..rest }, Rect { x: rest.x + half + 1, width: area.width - half - 1, ..rest }]
    } else {
        let half = rest.height / 2;
        [Rect { height: half, ..rest }, Rect { y: rest.y + half, height: rest.height - half, ..rest }]
    };
    for (i, ((completion, side), part)) in shown.into_iter().zip(parts).enumerate() {
        let won = matches!(verdict.choice, Choice::Prefer(s, _) if s == side) && !undone;
        let title = format!("{}{}", i + 1, if won { " ✓ preferred" } else { "" });
        let style = if won { ACCENT_BOLD } else { BOLD };
        let part_of = partial.map(|view| if side == Side::A { &view.a } else { &view.b }).filter(|part| !part.ended);
        let (chars, most) = (part_of.map(|part| part.chars), completion.text.len());
        let end = chars.and_then(|n| completion.text.char_indices().nth(n)).map_or(most, |(end, _)| end);
        // An imported answer's tokens were never counted.
        let tokens = if let Some(chars) = chars {
            format!("… writing, {}", counted(chars, "character"))
        } else if completion.tokens > 0 {
            format!("{} tok", completion.tokens)
        } else {
            String::new()
        };
        rule(buf, part, &Span::styled(title, style), &tokens);
        let text = Rect { y: part.y + 1, height: part.height.saturating_sub(1), ..part };
        paragraph(buf, text, &presentable(&completion.text[..end]), TEXT);
    }
}

/// Writes a text, with `…` if it was cut; returns the rows used.
fn paragraph(buf: &mut Buffer, area: Rect, text: &str, style: Style) -> u16 {
    let width = area.width.saturating_sub(4);
    let lines = wrap(text, usize::from(width));
    let mut used = 0;
    for range in lines.iter().take(usize::from(area.height)) {
        put(buf, area.x + 2, area.y + used, width, &text[range.clone()], style);
        used += 1;
    }
    if lines.len() > usize::from(area.height) && used > 0 {
        put(buf, area.right().saturating_sub(2), area.y + used - 1, 1, "…", DIM);
    }
    used
}

/// The decision in words, in terms of the screen.
fn decision(verdict: &Verdict) -> String {
    match verdict.choice {
        Choice::Prefer(side, strength) => {
            let which = if side == verdict.left { 1 } else { 2 };
            let how = match strength {
                Strength::Slight => "slightly better",
                Strength::Better => "better",
                Strength::Much => "much better",
            };
            format!("{which} is {how}")
        }
        Choice::Tie => "a tie".into(),
        Choice::BothBad => "both bad".into(),
        Choice::Skip => "skipped".into(),
    }
}

/// The timeline: the played part, the marks, the playhead.
fn timeline(buf: &mut Buffer, area: Rect, screen: &ReplayScreen, line: &Timeline) {
    if area.height < TIMELINE || area.width < 20 {
        return;
    }
    rule(buf, area, &Span::styled("time", DIM), "");
    let (x, y, width) = (area.x + 1, area.y + 1, area.width - 2);
    let length = line.length().max(1) as f64;
    let place = |ms: u64| ((ms as f64 / length) * f64::from(width - 1)).round() as u16;
    let head = place(screen.head_ms());
    for column in 0..width {
        let played = column <= head;
        put(buf, x + column, y, 1, if played { "━" } else { "─" }, if played { ACCENT } else { DIM });
    }
    // Rarer marks are drawn over more frequent ones.
    for kind in [Mark::Label, Mark::Checkpoint, Mark::Launch, Mark::Finding] {
        for (at, _) in line.marks().iter().filter(|(_, mark)| *mark == kind) {
            let (symbol, style) = mark_symbol(kind);
            put(buf, x + place(line.time_of(*at)), y, 1, symbol, style);
        }
    }
    put(buf, x + head, y, 1, "┃", ACCENT_BOLD);
    let seconds = |ms: u64| clock(ms as f64 / 1000.0);
    let mut at =
        x + put(buf, x, y + 1, 24, &format!("{} of {}", seconds(screen.head_ms()), seconds(line.length())), TEXT) + 3;
    for (kind, word) in
        [(Mark::Label, "label"), (Mark::Launch, "launch"), (Mark::Checkpoint, "checkpoint"), (Mark::Finding, "finding")]
    {
        if !line.marks().iter().any(|(_, mark)| *mark == kind) {
            continue;
        }
        let (symbol, style) = mark_symbol(kind);
        at += put(buf, at, y + 1, 1, symbol, style);
        at += put(buf, at, y + 1, area.right().saturating_sub(at), &format!(" {word}   "), DIM);
    }
}

fn mark_symbol(mark: Mark) -> (&'static str, Style) {
    match mark {
        Mark::Label => ("•", TEXT),
        Mark::Launch => ("▶", GOOD),
        Mark::Checkpoint => ("◆", TEXT),
        Mark::Finding => ("!", WARN),
    }
}
