//! Draws the ratings of several models.
//!
//! ```text
//! ─ ratings · check:max_words=40 · winrate ──────────────────────────────────────────────────────────────────────
//!   dpo-1           1168 [1102 … 1240]   better · 90 won, 4 tied, 26 lost
//!   sft-1           1040 [ 985 … 1097]   cannot tell: about 214 prompts would tell · 60 won, 8 tied, 52 lost
//!   tiny            1000                 the others are measured by it · 30 won, 6 tied, 84 lost
//!   120 comparisons on 40 prompts · two equal models would tie in 12 %
//! ```

use crate::app::{cells, clip, presentable, short_model_name};
use crate::domain::{Standing, Standings, counted};
use crate::ui::rows::{conclusion, flow, heading, wrapped};
use crate::ui::theme::{BOLD, DIM, TEXT, WARN};
use ratatui::style::Style;
use ratatui::text::{Line, Span};

/// The most cells of a name.
const NAME: usize = 24;
/// Cells of a rating and its interval.
const FIGURES: usize = 19;

/// A table of ratings.
pub(super) fn rating_lines(table: &Standings, width: usize) -> Vec<Line<'static>> {
    let judge = presentable(&table.judge);
    let mut out = vec![heading(&format!("ratings · {judge} · {}", table.suite), width)];
    if let Some(why) = &table.undefined {
        out.extend(wrapped(&format!("undefined: {}", presentable(why)), width, 2, WARN));
        return out;
    }
    let names: Vec<String> = table.rows.iter().map(|row| presentable(&short_model_name(&row.name))).collect();
    let wide = names.iter().map(|name| cells(name)).max().unwrap_or(0).min(NAME).min(width / 3);
    let style = if table.not_headline.is_empty() { TEXT } else { DIM };
    for (row, name) in table.rows.iter().zip(&names) {
        out.extend(row_lines(row, name, wide, style, width));
    }
    let mut says =
        vec![(format!("{} on {}", counted(table.comparisons, "comparison"), counted(table.prompts, "prompt")), DIM)];
    says.extend(table.tie_rate.map(|rate| (format!("two equal models would tie in {:.0} %", 100.0 * rate), DIM)));
    let [earlier, silent] = table.left_out;
    if earlier > 0 {
        says.push((format!("{earlier} repeated later and left out"), DIM));
    }
    if silent > 0 {
        says.push((format!("{silent} without an opinion"), WARN));
    }
    out.extend(flow(says, 2, width));
    for remark in &table.remarks {
        out.extend(wrapped(remark, width, 2, DIM));
    }
    for why in &table.not_headline {
        out.extend(wrapped(&format!("⚠ not a headline: {}", presentable(why)), width, 2, WARN));
    }
    out
}

/// The name, the rating with its interval, and what they say: in the same row where it fits.
fn row_lines(row: &Standing, name: &str, wide: usize, style: Style, width: usize) -> Vec<Line<'static>> {
    let name = clip(name, wide);
    let pad = " ".repeat(wide.saturating_sub(cells(&name)) + 2);
    let figures = match row.interval {
        Some([low, high]) => format!("{:>5.0} [{low:.0} … {high:.0}]", row.elo),
        None => format!("{:>5.0}", row.elo),
    };
    let gap = " ".repeat(FIGURES.saturating_sub(cells(&figures)) + 2);
    let counts = format!("{} won, {} tied, {} lost", row.wins, row.ties, row.losses);
    let says = row.conclusion.as_ref().map_or_else(|| ("the others are measured by it".into(), DIM), conclusion);
    let mut spans = vec![Span::styled(format!("  {name}{pad}"), style), Span::styled(figures, BOLD), Span::raw(gap)];
    let used: usize = spans.iter().map(|span| cells(&span.content)).sum();
    if used + cells(&says.0) + 3 + cells(&counts) <= width {
        spans.extend([Span::styled(says.0, says.1), Span::styled(format!(" · {counts}"), DIM)]);
        return vec![Line::from(spans)];
    }
    let mut out = vec![Line::from(spans)];
    out.extend(flow(vec![says, (counts, DIM)], wide + 4, width));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Conclusion;

    fn text(lines: &[Line]) -> String {
        let line = |line: &Line| line.spans.iter().map(|span| span.content.as_ref()).collect::<String>();
        lines.iter().map(|l| line(l).trim_end().to_owned()).collect::<Vec<_>>().join("\n")
    }

    fn table() -> Standings {
        let row = |name: &str, elo: f64, interval, conclusion| Standing {
            name: name.into(),
            elo,
            interval,
            wins: 30,
            ties: 4,
            losses: 6,
            conclusion,
        };
        let better = Conclusion { word: "better", detail: None };
        let unclear = Conclusion { word: "cannot tell", detail: Some("about 214 prompts would tell".into()) };
        Standings {
            judge: "reward:reward-1".into(),
            suite: "winrate".into(),
            anchor: "tiny".into(),
            rows: vec![
                row("dpo-1", 1168.2, Some([1102.0, 1240.4]), Some(better)),
                row("sft-1", 1040.0, Some([985.0, 1097.0]), Some(unclear)),
                row("/models/of/mine/tiny", 1000.0, None, None),
            ],
            comparisons: 120,
            prompts: 40,
            left_out: [3, 2],
            runs: vec!["eval-1".into()],
            tie_rate: Some(0.125),
            remarks: vec!["2 of 3 pairs of models met; the others are compared through third ones".into()],
            undefined: None,
            not_headline: vec!["its accuracy on your labels was not measured".into()],
        }
    }

    #[test]
    fn ratings_stand_in_a_row_where_they_fit_and_go_on_below_where_not() {
        insta::assert_snapshot!("ratings_120", text(&rating_lines(&table(), 120)));
        insta::assert_snapshot!("ratings_60", text(&rating_lines(&table(), 60)));
        let undefined = Standings { undefined: Some("c has no comparison".into()), ..table() };
        assert!(text(&rating_lines(&undefined, 80)).contains("undefined: c has no comparison"));
    }
}
