//! Draws the agreement screen: coefficients between raters, each rater with themselves, the disputed pairs.
//!
//! ```text
//!  week › agreement                                    3 raters · 61 pairs · 44 judged by two or more
//!  ─ between raters ─────────────────────────────┬─ each rater ──────────────────────────────────────
//!    Krippendorff alpha, ordinal  .71  [.58 – .82]│ ana   44 labels  repeats 5 of 6  left 54 %  longer 61 %
//!    percent agreement            .79  [.66 – .89]│ ben   41 labels  repeats 4 of 6  left 71 % ⚠  longer 63 %
//!    Cohen kappa, ana and ben     .68  [.51 – .83]│ model:dpo-1 (not a person)  44 labels …
//!  ─ disputed ────────────────────────────────────────────────────────────────── 2 of 44 · 7 labels newer
//!  ▸ p31·2  1 : 1   tie 1   Can you please use more Markdown formatting?
//!    p7     2 : 1           Explain why the sky is blue …
//! ```
//! Below 132 columns the raters stand under the coefficients and both scroll together.

use crate::app::screen::agreement::AgreementScreen;
use crate::app::{Model, OpenSession, clip, presentable};
use crate::domain::{AgreementReport, Choice, Coefficient, Dispute, RaterFigures, Side, counted, wilson};
use crate::ui::frame::{damage, put, put_line, rule, running, saved};
use crate::ui::theme::{ACCENT, BOLD, DIM, TEXT, WARN};
use crate::ui::widgets::plain::centred;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

/// From this width on the raters stand beside the coefficients.
const BESIDE: u16 = 132;
/// The fewest pairs of a stratum that is shown.
const SHOWN_STRATUM: usize = 20;
/// The fewest choices from which a bias is named.
const BIAS_FROM: usize = 20;

/// The breadcrumb and the state for the header.
pub fn header(model: &Model, screen: &AgreementScreen) -> (Vec<String>, Line<'static>) {
    let Some(open) = &model.open else { return (vec!["agreement".into()], Line::default()) };
    let mut spans = running(model);
    if let Some(Ok(report)) = &screen.report {
        let text =
            format!("{} · {}   ", counted(report.raters.len(), "rater"), counted(open.session.pairs().len(), "pair"));
        spans.push(Span::styled(text, DIM));
    }
    spans.extend(damage(model, usize::from(model.size.0 / 3)));
    spans.extend(saved(model, usize::from(model.size.0 / 2)));
    (vec![clip(&open.meta.name, 40), "agreement".into()], Line::from(spans))
}

/// Draws the body; returns the status line.
pub fn body(buf: &mut Buffer, area: Rect, model: &Model, screen: &AgreementScreen) -> Line<'static> {
    let Some(open) = &model.open else { return Line::default() };
    let report = match &screen.report {
        None => {
            centred(buf, area, &["computing agreement …".into()]);
            return Line::default();
        }
        Some(Err(error)) => {
            centred(
                buf,
                area,
                &["Agreement cannot be computed.".into(), error.clone(), format!("{} tries again", again(model))],
            );
            return Line::default();
        }
        Some(Ok(report)) => report,
    };
    if report.overlapping == 0 && screen.disputes.is_empty() {
        empty(buf, area, open, report);
        return newer(model, screen);
    }
    let listed = screen.disputes.len().max(1) as u16 + 1;
    let below = listed.min((area.height / 2).max(3));
    let above = Rect { height: area.height - below, ..area };
    figures(buf, above, report, screen.scroll);
    disputes(buf, Rect { y: above.bottom(), height: below, ..area }, open, report, screen);
    newer(model, screen)
}

/// The key that computes the figures again.
fn again(model: &Model) -> String {
    model.keys.key("agreement", "recompute")
}

fn newer(model: &Model, screen: &AgreementScreen) -> Line<'static> {
    match screen.newer {
        0 => Line::default(),
        n => Line::from(Span::styled(format!("{} since; {} computes again", counted(n, "label"), again(model)), DIM)),
    }
}

/// What to do before two raters judged one pair.
fn empty(buf: &mut Buffer, area: Rect, open: &OpenSession, report: &AgreementReport) {
    let name = presentable(&open.meta.name);
    let first = match report.raters.as_slice() {
        [] => "No labels yet.".to_owned(),
        [one] => format!("Only {} has labelled so far.", presentable(&one.name)),
        _ => "No pair has labels of two raters.".to_owned(),
    };
    centred(
        buf,
        area,
        &[
            first,
            String::new(),
            format!("Another rater labels with `tiebreak label {name} --rater NAME`,"),
            format!("or on another machine: `tiebreak pack {name}`, then `tiebreak collect {name}`."),
            format!("`tiebreak rule {name} --labels-per-item 2` asks for two labels of every pair."),
        ],
    );
}

fn figures(buf: &mut Buffer, area: Rect, report: &AgreementReport, scroll: usize) {
    let judged = format!("{} judged by two or more", counted(report.overlapping, "pair"));
    if area.width >= BESIDE {
        let left = area.width / 2;
        let first = Rect { width: left, ..area };
        let second = Rect { x: area.x + left + 1, width: area.width - left - 1, ..area };
        section(buf, first, "between raters", &judged, &between(report, first.width), scroll);
        section(buf, second, "each rater", "", &raters(report, second.width), scroll);
        put(buf, area.x + left, area.y, 1, "┬", DIM);
        for y in area.y + 1..area.bottom() {
            put(buf, area.x + left, y, 1, "│", DIM);
        }
        return;
    }
    let mut lines = between(report, area.width);
    lines.push(Line::default());
    lines.push(Line::from(Span::styled("each rater", DIM)));
    lines.extend(raters(report, area.width));
    section(buf, area, "between raters", &judged, &lines, scroll);
}

/// A titled list that scrolls; what does not fit is counted in the title.
fn section(buf: &mut Buffer, area: Rect, title: &str, remark: &str, lines: &[Line<'static>], scroll: usize) {
    let rows = usize::from(area.height.saturating_sub(1));
    let scroll = scroll.min(lines.len().saturating_sub(rows));
    let more = lines.len().saturating_sub(scroll + rows);
    let remark = if more > 0 {
        format!("{remark} · {more} more ↓").trim_start_matches(" · ").to_owned()
    } else {
        remark.into()
    };
    rule(buf, area, &Span::styled(title.to_owned(), DIM), &remark);
    for (row, line) in lines.iter().skip(scroll).take(rows).enumerate() {
        let at = Rect { x: area.x + 2, y: area.y + 1 + row as u16, width: area.width.saturating_sub(2), height: 1 };
        put_line(buf, at, line.clone());
    }
}

/// A coefficient without the zero before its point: `.71`, `-.05`, `1.00`.
fn short(x: f64) -> String {
    // A coefficient just below 0 is no negative zero.
    let text = format!("{x:.2}");
    text.strip_prefix('-').filter(|rest| *rest == "0.00").unwrap_or(&text).replacen("0.", ".", 1)
}

fn between(report: &AgreementReport, width: u16) -> Vec<Line<'static>> {
    let strata: Vec<&Coefficient> = report.by_stratum.iter().filter(|c| c.items >= SHOWN_STRATUM).collect();
    let room = usize::from(width).saturating_sub(31).max(12);
    let all = report.coefficients.iter().chain(strata.iter().copied());
    let names = all.map(|c| crate::app::cells(&presentable(&c.name))).max().unwrap_or(0).min(room);
    let line = |c: &Coefficient| {
        let name = clip(&presentable(&c.name), names);
        let pad = " ".repeat(names - crate::app::cells(&name) + 2);
        let mut spans = vec![Span::styled(name + &pad, TEXT)];
        match (c.value, c.interval) {
            (None, _) if c.items == 0 => spans.push(Span::styled("undefined: no pair has two labels", DIM)),
            (None, _) => spans.push(Span::styled("undefined: no variation", DIM)),
            (Some(value), interval) => {
                spans.push(Span::styled(format!("{:>5}", short(value)), BOLD));
                let interval = interval.map(|(low, high)| format!("  [{} – {}]", short(low), short(high)));
                spans.push(Span::styled(interval.unwrap_or_default(), DIM));
                spans.push(Span::styled(format!("  n {}", c.items), DIM));
            }
        }
        Line::from(spans)
    };
    let mut out: Vec<Line<'static>> = report.coefficients.iter().map(line).collect();
    if !strata.is_empty() {
        out.push(Line::default());
        out.extend(strata.iter().map(|c| line(c)));
    }
    let few = report.by_stratum.len() - strata.len();
    if few > 0 {
        let text = format!("{few} of the strata have fewer than {SHOWN_STRATUM} pairs and are not shown");
        out.push(Line::from(Span::styled(text, DIM)));
    }
    if let Some(confusion) = &report.confusion {
        const LABELS: [&str; 4] = ["tie", "a", "b", "both bad"];
        out.push(Line::default());
        let (first, second) = (presentable(&confusion.first), presentable(&confusion.second));
        out.push(Line::from(Span::styled(format!("{first} (down) against {second} (across)"), DIM)));
        out.push(Line::from(Span::styled(format!("{:10}{}", "", LABELS.map(|l| format!("{l:>9}")).concat()), DIM)));
        for (label, row) in LABELS.iter().zip(confusion.counts) {
            let cells = row.map(|n| format!("{n:>9}")).concat();
            out.push(Line::from(vec![Span::styled(format!("{label:10}"), DIM), Span::styled(cells, TEXT)]));
        }
    }
    out
}

fn raters(report: &AgreementReport, width: u16) -> Vec<Line<'static>> {
    let names = report.raters.iter().map(|r| crate::app::cells(&presentable(&r.name))).max().unwrap_or(0);
    let names = names.min(usize::from(width / 4)).max(4);
    report.raters.iter().map(|r| rater(r, names)).collect()
}

fn rater(r: &RaterFigures, names: usize) -> Line<'static> {
    let name = clip(&presentable(&r.name), names);
    let pad = " ".repeat(names - crate::app::cells(&name) + 2);
    let mut spans =
        vec![Span::styled(name + &pad, BOLD), Span::styled(format!("{:>6}", counted(r.labels, "label")), TEXT)];
    if r.name.starts_with("model:") {
        spans.push(Span::styled("  not a person", DIM));
    }
    if r.partial > 0 {
        spans.push(Span::styled(format!("  {} partial", r.partial), TEXT));
    }
    if r.repeated > 0 {
        spans.push(Span::styled(format!("  repeats {} of {} same", r.repeated_same, r.repeated), TEXT));
    }
    for (what, hits, of) in [("left", r.chose_left, r.preferences), ("longer", r.chose_longer, r.unequal_length)] {
        if of == 0 {
            continue;
        }
        spans.push(Span::styled(format!("  {what} {:.0} %", 100.0 * hits as f64 / of as f64), TEXT));
        // Named only where chance does not explain it.
        let (low, high) = wilson(hits as f64, of as f64, 1.96);
        if of >= BIAS_FROM && !(low..=high).contains(&0.5) {
            spans.push(Span::styled(" ⚠", WARN));
        }
    }
    Line::from(spans)
}

fn disputes(buf: &mut Buffer, area: Rect, open: &OpenSession, report: &AgreementReport, screen: &AgreementScreen) {
    let n = screen.disputes.len();
    let remark = if n > 0 { format!("{n} of {}", report.overlapping.max(n)) } else { String::new() };
    rule(buf, area, &Span::styled("disputed", DIM), &remark);
    if n == 0 {
        put(buf, area.x + 3, area.y + 1, area.width.saturating_sub(3), "no pair is disputed", DIM);
        return;
    }
    let rows = usize::from(area.height.saturating_sub(1)).max(1);
    let from = (screen.selected + 1).saturating_sub(rows);
    for (row, (i, dispute)) in screen.disputes.iter().enumerate().skip(from).take(rows).enumerate() {
        let y = area.y + 1 + row as u16;
        if y >= area.bottom() {
            return;
        }
        let here = i == screen.selected;
        put(buf, area.x + 1, y, 1, if here { "▸" } else { " " }, ACCENT);
        let (votes, text) = dispute_words(open, dispute);
        let x = area.x + 3;
        let used =
            put(buf, x, y, area.width.saturating_sub(3), &format!("{votes:<24}"), if here { BOLD } else { TEXT });
        let room = area.width.saturating_sub(5 + used);
        put(buf, x + used + 1, y, room, &clip(&text, usize::from(room)), if here { TEXT } else { DIM });
    }
}

/// How the votes fell, without names, and the prompt's text.
fn dispute_words(open: &OpenSession, dispute: &Dispute) -> (String, String) {
    let (mut a, mut b, mut tie, mut bad) = (0, 0, 0, 0);
    for (_, verdict) in open.session.deciding_on(&dispute.pair, None) {
        match verdict.choice {
            Choice::Prefer(Side::A, _) => a += 1,
            Choice::Prefer(Side::B, _) => b += 1,
            Choice::Tie => tie += 1,
            Choice::BothBad => bad += 1,
            Choice::Skip => {}
        }
    }
    // The larger first: which answer it is would not be blind.
    let mut votes = format!("{} : {}", a.max(b), a.min(b));
    if tie > 0 {
        votes.push_str(&format!("  {}", counted(tie, "tie")));
    }
    if bad > 0 {
        votes.push_str(&format!("  {bad} both bad"));
    }
    let pair = open.session.pair(&dispute.pair);
    let prompt = pair.and_then(|pair| Some((open.names.name(&open.session, pair), open.session.prompt(&pair.prompt)?)));
    let text = prompt.map(|(name, p)| format!("{name}  {}", presentable(p.body.headline()).replace('\n', " ")));
    (votes, text.unwrap_or_default())
}
