//! Exports a session's rows for other programs, in one of the formats.

use super::formats::{Format, Writer};
use crate::domain::{LeftOut, RowChoice, Session};
use serde_json::Value;

/// The session's training rows that are meant as JSON lines, each with its newline, and the judged pairs left out. Ratings do not
/// leave out pairs judged both bad.
#[must_use]
pub fn lines(session: &Session, format: &Format, choice: &RowChoice) -> (Vec<String>, LeftOut) {
    fn each<T>(rows: &[T], line: impl Fn(&T) -> Value) -> Vec<String> {
        rows.iter().map(|row| line(row).to_string() + "\n").collect()
    }
    match format.writes {
        None => (Vec::new(), LeftOut::default()),
        Some(Writer::Pairs(record)) => {
            let (rows, left_out) = session.rows_of(choice);
            (each(&rows, record), left_out)
        }
        Some(Writer::Texts(record)) => (each(&session.sft_rows_of(choice), record), LeftOut::default()),
        Some(Writer::Ratings(record)) => {
            let left_out = LeftOut { both_bad: 0, ..session.rows_of(choice).1 };
            (each(&session.rated_rows_of(choice), record), left_out)
        }
    }
}
