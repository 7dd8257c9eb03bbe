//! Exports a session's rows for other programs, in one of the formats.

use super::formats::{Format, Writer};
use crate::domain::{LabelledPair, LeftOut, PairId, PairRow, RowChoice, Session, shown_json};
use serde_json::Value;
use std::collections::HashMap;

/// The session's training rows that are meant as JSON lines, each with its newline, and the judged pairs left out. Ratings do not
/// leave out pairs judged both bad, votes leave out only what the filter does.
#[must_use]
pub fn lines(session: &Session, format: &Format, choice: &RowChoice) -> (Vec<String>, LeftOut) {
    fn each<T>(rows: &[T], line: impl Fn(&T) -> Value) -> Vec<String> {
        rows.iter().map(|row| shown_json(line(row).to_string()) + "\n").collect()
    }
    match format.writes {
        None => (Vec::new(), LeftOut::default()),
        Some(Writer::Pairs(record)) => {
            let (rows, left_out) = session.rows_of(choice);
            let (labelled, _) = session.labelled(choice, false);
            let of: HashMap<&PairId, &LabelledPair<'_>> = labelled.iter().map(|all| (&all.pair.id, all)).collect();
            // A correction over its original is no pair of the session.
            let line = |row: &PairRow| record(row, of.get(&row.pair).copied());
            (each(&rows, line), left_out)
        }
        Some(Writer::Votes(record)) => {
            let (pairs, filtered) = session.labelled(choice, true);
            (each(&pairs, record), LeftOut { filtered, ..LeftOut::default() })
        }
        Some(Writer::Texts(record)) => (each(&session.sft_rows_of(choice), record), LeftOut::default()),
        Some(Writer::Ratings(record)) => {
            let left_out = LeftOut { both_bad: 0, ..session.rows_of(choice).1 };
            (each(&session.rated_rows_of(choice), record), left_out)
        }
    }
}
