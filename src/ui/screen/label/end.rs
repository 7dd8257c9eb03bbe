//! The end of a queue: what the verdicts add up to, and what to do next.
//!
//! ```text
//! All 12 pairs are labelled.
//!   1 slight · 7 better · 2 much · 1 tie · 1 both bad
//!   merged 4 · base 6 · 1 tie · 1 both bad → 40 % of decided [17–69], n=10
//!
//! o  settle 2 disputes
//! t  train on the verdicts
//! ```
//!
//! Which model won is revealed here: the queue is empty, and no verdict is to come.

use crate::app::screen::label::{sampler, stats};
use crate::app::{Model, OpenSession, clip, presentable, short_model_name};
use crate::domain::{BlindSet, Filter, FilterTest, ModelContest, QueueOrder, WinRate, counted};
use crate::ui::frame::put_line;
use crate::ui::theme::{ACCENT, BOLD, DIM};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

/// Model pairs listed at most.
const CONTESTS: usize = 5;

/// The empty state: what to do without a pair to label.
pub fn empty(buf: &mut Buffer, area: Rect, model: &Model, open: &OpenSession) {
    let key = |action: &str, text: &str| {
        vec![Span::styled(model.keys.key("label", action), ACCENT), Span::raw(format!("  {text}"))]
    };
    let stats = stats(open);
    let sampler = sampler(open, &model.keys);
    // What pairs that are judged come to, and where to go from there.
    let judged = || {
        let mut lines = outcome(open, usize::from(area.width.saturating_sub(4)));
        lines.push(vec![]);
        match open.session.disputes().len() {
            0 => {}
            n => lines.push(key("agreement", &format!("settle {}", counted(n, "dispute")))),
        }
        lines.push(key("launch", "train on the verdicts"));
        lines.push(key("sample", "sample more answers"));
        lines.push(key("go to pair", "look at a pair again"));
        lines
    };
    let mut lines: Vec<Vec<Span>> = Vec::new();
    if !open.loaded {
        lines.push(vec![Span::styled("reading the session …", DIM)]);
    } else if !sampler.is_empty() {
        lines.push(vec![Span::styled("No pair to label yet: pairs appear here as they are ready.", BOLD)]);
        lines.push(vec![Span::raw(sampler)]);
        lines.push(vec![]);
        lines.push(key("watch", "watch it"));
    } else if open.order == QueueOrder::Disputed {
        lines.push(vec![Span::styled("No disputes left.", BOLD)]);
        lines.push(vec![]);
        lines.push(key("order", "label the other pairs"));
        lines.push(key("launch", "train on the verdicts"));
        lines.push(key("undo", "undo the last decision"));
    } else if open.order == QueueOrder::Contested {
        lines.push(vec![Span::styled("No label is contested that you have not judged again.", BOLD)]);
        lines.push(vec![]);
        lines.push(key("order", "label the other pairs"));
        lines.push(key("launch", "train on the verdicts"));
        lines.push(key("undo", "undo the last verdict"));
    } else if let Some(filter) = open.filter() {
        let filter = presentable(&filter.to_string());
        let text = match open.matching() {
            0 => format!("No pair matches {filter}."),
            n => format!(
                "{}, and no pair is left to label.",
                match n {
                    1 => format!("1 pair matches {filter}"),
                    n => format!("{n} pairs match {filter}"),
                }
            ),
        };
        lines.push(vec![Span::styled(text, BOLD)]);
        let found = revealed(model, open);
        if found.is_empty() {
            lines.push(vec![]);
        }
        lines.extend(found);
        lines.push(key("filter", "change the filter; an empty one clears it"));
        lines.push(key("go to pair", "look at a pair again"));
        lines.push(key("undo", "undo the last verdict or correction"));
    } else if open.session.settings().is_some() && !open.session.pairs().is_empty() {
        let text = format!("No pair needs a label from {}.", presentable(open.rater.as_str()));
        lines.push(vec![Span::styled(text, BOLD)]);
        lines.extend(judged());
    } else if stats.done > 0 {
        lines.push(vec![Span::styled(
            match stats.total {
                1 => "The only pair is labelled.".into(),
                n => format!("All {n} pairs are labelled."),
            },
            BOLD,
        )]);
        lines.extend(judged());
        lines.push(key("undo", "undo the last verdict or correction"));
    } else if !open.session.pairs().is_empty() {
        let n = open.session.pairs().len();
        let imported = match n {
            1 => "the only pair was imported with its verdict".into(),
            n => format!("all {n} pairs were imported with verdicts"),
        };
        lines.push(vec![Span::styled(format!("Nothing to label: {imported}."), BOLD)]);
        lines.push(vec![]);
        lines.push(key("launch", "train on the verdicts"));
        lines.push(key("sample", "sample answers to label yourself"));
        lines.push(key("go to pair", "look at a pair"));
    } else if open.session.prompts().is_empty() {
        lines.push(vec![Span::styled("This session has no prompts yet.", BOLD)]);
        lines.push(vec![]);
        lines.push(key("import", "import a file: prompts one per line or as JSONL, or pairs as JSONL"));
    } else {
        let prompts = counted(open.session.prompts().len(), "prompt");
        lines.push(vec![Span::styled(format!("{prompts}, and no answers to compare yet."), BOLD)]);
        lines.push(vec![]);
        lines.push(key("sample", &format!("sample answers with {}", short_model_name(&open.meta.model))));
        lines.push(key("import", "import pairs from a file"));
    }
    if open.loaded && open.filter().is_none() {
        let open_sets = open.session.blind_sets(&open.rater).into_iter().filter(|set| set.judged < set.pairs);
        lines.extend(open_sets.map(|set| {
            let BlindSet { run, pairs, judged, .. } = set;
            let left = counted(pairs - judged, "pair");
            key("filter", &format!("then eval:{run} judges {left} of the evaluation {run}, blind"))
        }));
    }
    let top = area.y + area.height.saturating_sub(lines.len() as u16) / 3;
    for (i, spans) in lines.into_iter().enumerate() {
        let row = Rect { x: area.x + 3, y: top + i as u16, width: area.width.saturating_sub(4), height: 1 };
        put_line(buf, row, Line::from(spans));
    }
}

/// Who was compared in the evaluations that the filter names, once the rater has judged all of their pairs.
fn revealed(model: &Model, open: &OpenSession) -> Vec<Vec<Span<'static>>> {
    let named = |filter: &Filter, run: &str| {
        filter.asks(|test| matches!(test, FilterTest::Eval(name) if name.eq_ignore_ascii_case(run)))
    };
    let sets = open.session.blind_sets(&open.rater).into_iter();
    let sets = sets.filter(|set| open.filter().is_some_and(|filter| named(filter, set.run.as_str())));
    let mut out = Vec::new();
    for BlindSet { run, pairs, judged, revealed } in sets {
        let Some(found) = revealed else {
            out.push(vec![Span::styled(format!("  {judged} of {pairs} pairs of {run} are judged."), DIM)]);
            continue;
        };
        let [a, b] = found.names.map(|name| presentable(&short_model_name(&name)));
        let [won, lost] = found.wins;
        let ties = counted(found.ties, "tie");
        out.push(vec![Span::raw(format!("  {a} {won} · {b} {lost} · {ties}"))]);
    }
    if !out.is_empty() {
        let key = model.keys.key("label", "evaluate");
        out.push(vec![]);
        out.push(vec![Span::styled(key, ACCENT), Span::raw("  the win rate with its interval")]);
    }
    out
}

/// Counts of the rater's verdicts, and of each two models where there are several.
fn outcome(open: &OpenSession, width: usize) -> Vec<Vec<Span<'static>>> {
    let summary = open.session.verdict_summary(&open.rater, &open.meta.model);
    let [slight, better, much] = summary.preferences;
    let line = named(&[
        (slight, "slight"),
        (better, "better"),
        (much, "much"),
        (summary.ties, if summary.ties == 1 { "tie" } else { "ties" }),
        (summary.both_bad, "both bad"),
        (summary.skipped, "skipped"),
        (summary.partial, "partial"),
    ]);
    let mut lines = Vec::new();
    if !line.is_empty() {
        lines.push(vec![Span::styled(clip(&format!("  {line}"), width), DIM)]);
    }
    for contest in summary.models.iter().take(CONTESTS) {
        let (counts, rate) = contest_words(contest);
        let one = format!("  {counts} → {rate}");
        if crate::app::cells(&one) <= width {
            lines.push(vec![Span::raw(one)]);
        } else {
            lines.push(vec![Span::raw(clip(&format!("  {counts}"), width))]);
            lines.push(vec![Span::raw(clip(&format!("    → {rate}"), width))]);
        }
    }
    if summary.models.len() > CONTESTS {
        let more = summary.models.len() - CONTESTS;
        lines.push(vec![Span::styled(format!("  and {} of models", counted(more, "more pair")), DIM)]);
    }
    lines
}

/// `merged 4 · base 6 · 1 tie` and `40 % of decided [17–69], n=10`.
fn contest_words(contest: &ModelContest) -> (String, String) {
    let name = |model: &str| presentable(&short_model_name(model));
    let [first, second] = contest.wins;
    let mut counts = format!("{} {first} · {} {second}", name(&contest.first), name(&contest.second));
    let flat = named(&[(contest.ties, if contest.ties == 1 { "tie" } else { "ties" }), (contest.both_bad, "both bad")]);
    if !flat.is_empty() {
        counts.push_str(" · ");
        counts.push_str(&flat);
    }
    let rate = match contest.rate {
        WinRate::Share { share, interval: (low, high), n } => {
            let percent = |x: f64| (100.0 * x).round();
            let words = format!("{} % of decided [{}–{}], n={n}", percent(share), percent(low), percent(high));
            if low <= 0.5 && high >= 0.5 { format!("{words}: cannot tell") } else { words }
        }
        WinRate::ChosenByScore(n) => match n {
            1 => "no win rate: 1 pair was chosen by score".into(),
            n => format!("no win rate: {n} pairs were chosen by score"),
        },
        WinRate::Undecided => "no win rate: no random pair was decided".into(),
    };
    (counts, rate)
}

/// The counts that are not 0, with their nouns.
fn named(counts: &[(usize, &str)]) -> String {
    let shown: Vec<String> = counts.iter().filter(|(n, _)| *n > 0).map(|(n, noun)| format!("{n} {noun}")).collect();
    shown.join(" · ")
}
