//! The ratings of several models in a report: a table for each judge that compared three or more. Owns no number.

use super::document::Document;
use super::words::{conclusion, percent};
use crate::domain::{Standing, Standings, counted};

/// The models that a judge compared with each other.
pub(super) fn ratings(out: &mut Document, tables: &[Standings], name: &str) {
    if tables.is_empty() {
        return;
    }
    out.heading(2, "Ratings");
    out.text("Bradley–Terry ratings on the Elo scale. The intervals are over prompts, and not corrected for the number of models.");
    for table in tables {
        out.heading(3, &format!("{} on {}", table.judge, table.suite));
        if let Some(why) = &table.undefined {
            out.text(&format!("Undefined: {why}."));
            continue;
        }
        let row = |row: &Standing| {
            vec![
                row.name.clone(),
                format!("{:.0}", row.elo),
                row.interval.map_or_else(String::new, |[low, high]| format!("{low:.0} … {high:.0}")),
                format!("{} / {} / {}", row.wins, row.ties, row.losses),
                row.conclusion.as_ref().map_or_else(|| "the others are measured by it".into(), conclusion),
            ]
        };
        let head = ["model", "rating", "95 % interval", "won / tied / lost", "it is"];
        out.table(&head, table.rows.iter().map(row).collect());
        let left_out = table.left_out.iter().sum::<usize>();
        let left_out = if left_out > 0 { format!(", {left_out} left out") } else { String::new() };
        out.list(
            [format!("{} on {}{left_out}", counted(table.comparisons, "comparison"), counted(table.prompts, "prompt"))]
                .into_iter()
                .chain(table.tie_rate.map(|rate| format!("two equal models would tie in {}", percent(rate))))
                .chain(table.remarks.iter().cloned()),
        );
        for why in &table.not_headline {
            out.warning(&format!("{} is no headline: {why}.", table.judge));
        }
    }
    out.command(&format!("tiebreak eval {name} --ratings"));
}
