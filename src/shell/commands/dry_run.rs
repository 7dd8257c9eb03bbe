//! `import --dry-run`: what the first rows of a file become, and what of them is not used. Nothing is written.
//!
//! ```text
//! pairs.jsonl: read as pairs, 12 rows
//! row 1
//!   system       Be brief.
//!   user         Name a primary colour.
//!   chosen       Red is a primary colour.
//!   rejected     Red is not a colour.
//! ```
//!
//! Owns the rows' layout. Refuses to render them by a template: a session's model is not loaded here.

use super::super::error::Result;
use super::super::out;
use crate::domain::{Choice, Message, PromptBody, SftBody, Side, Strength, counted, sanitise};
use crate::storage::formats::{GivenAnswer, ImportedVote};
use crate::storage::import::{Imported, ImportedRows};
use serde_json::{Value, json};

/// Rows shown.
const SHOWN: usize = 3;

/// Characters of a text that are shown.
const LONGEST: usize = 400;

/// A row's parts with their labels, in reading order.
type Parts = Vec<(String, String)>;

/// Says what a file's rows become.
pub(super) fn show(imported: &Imported, json: bool) -> Result<()> {
    let rows: Vec<Parts> = first(&imported.rows);
    if let Some(left_out) = imported.left_out() {
        out::note(&left_out);
    }
    if json {
        let rows: Vec<Value> = rows
            .iter()
            .map(|parts| parts.iter().map(|(label, text)| json!({ "part": label, "text": text })).collect())
            .collect();
        imported.notes().iter().for_each(|note| out::note(note));
        return out::json(&json!({
            "file": imported.file, "kind": imported.format, "rows": imported.rows.len(), "first": rows,
            "bad_lines": imported.refused.bad_lines, "left_out": imported.left_out(), "notes": imported.notes(),
            "unused": imported.unused.0, "dry_run": true,
        }));
    }
    let (n, noun) = (imported.rows.len(), imported.rows.noun().trim_end_matches('s'));
    out::line(&format!("{}: read as {}, {}; nothing was imported", imported.file, imported.format, counted(n, noun)))?;
    for (at, parts) in rows.iter().enumerate() {
        out::line(&format!("{noun} {}", at + 1))?;
        for (label, text) in parts {
            let text = shortened(text).replace('\n', &format!("\n{:15}", ""));
            out::line(&format!("  {label:<12} {text}"))?;
        }
    }
    imported.notes().iter().for_each(|note| out::note(note));
    Ok(())
}

/// A text safe to print, its length said where it is cut.
fn shortened(text: &str) -> String {
    let text = sanitise(text);
    let all = text.chars().count();
    if all <= LONGEST {
        text
    } else {
        format!("{}… ({all} characters)", text.chars().take(LONGEST).collect::<String>())
    }
}

fn first(rows: &ImportedRows) -> Vec<Parts> {
    match rows {
        ImportedRows::Prompts(rows) => rows.iter().take(SHOWN).map(|row| prompt(&row.body)).collect(),
        ImportedRows::Pairs(rows) => {
            let pair = rows.iter().take(SHOWN).map(|row| {
                let answers = [answer("chosen", &row.chosen), answer("rejected", &row.rejected)];
                prompt(&row.prompt).into_iter().chain(answers).collect()
            });
            pair.collect()
        }
        ImportedRows::Votes(rows) => {
            let pair = rows.iter().take(SHOWN).map(|row| {
                let answers = [answer("a", &row.a.0), answer("b", &row.b.0)];
                let votes = row.votes.iter().map(|vote| ("vote".to_owned(), said(vote)));
                prompt(&row.prompt).into_iter().chain(answers).chain(votes).collect()
            });
            pair.collect()
        }
        ImportedRows::Texts(_, rows) => rows.iter().take(SHOWN).map(text).collect(),
        ImportedRows::Ratings(rows) => {
            let rating = rows.iter().take(SHOWN).map(|row| {
                let label = if row.good { "good" } else { "bad" };
                let more = [answer("answer", &row.completion), ("label".to_owned(), label.to_owned())];
                prompt(&row.prompt).into_iter().chain(more).collect()
            });
            rating.collect()
        }
    }
}

fn text(body: &SftBody) -> Parts {
    match body {
        SftBody::Text(text) => vec![("text".into(), text.clone())],
        SftBody::Messages(talk) => prompt(&PromptBody::Chat(talk.clone())),
        SftBody::Completion { prompt: asked, completion } => {
            prompt(asked).into_iter().chain([("answer".to_owned(), completion.clone())]).collect()
        }
    }
}

fn answer(label: &str, given: &GivenAnswer) -> (String, String) {
    (label.to_owned(), given.text.clone())
}

fn prompt(body: &PromptBody) -> Parts {
    let turn = |turn: &Message| {
        let not_trained = if turn.trains() == Some(false) { " (not trained)" } else { "" };
        (format!("{}{not_trained}", turn.role), turn.readable())
    };
    match body {
        PromptBody::Text(text) => vec![("text".into(), text.clone())],
        PromptBody::Chat(talk) => {
            let tools = (!talk.tools().is_empty()).then(|| ("tools".to_owned(), Value::from(talk.tools()).to_string()));
            let set = |(name, value): (&String, &Value)| ("template".to_owned(), format!("{name} = {value}"));
            tools.into_iter().chain(talk.variables().iter().map(set)).chain(talk.iter().map(turn)).collect()
        }
    }
}

/// A vote in words: `annotator: b, much better, by safer`.
fn said(vote: &ImportedVote) -> String {
    let choice = match vote.choice {
        Choice::Prefer(side, strength) => {
            let side = if side == Side::A { "a" } else { "b" };
            match strength {
                Strength::Slight => format!("{side}, slightly better"),
                Strength::Better => format!("{side}, better"),
                Strength::Much => format!("{side}, much better"),
            }
        }
        Choice::Tie => "tie".into(),
        Choice::BothBad => "both bad".into(),
        Choice::Skip => "skipped".into(),
    };
    let by = vote.asked.criterion.as_deref().map_or_else(String::new, |by| format!(", by {by}"));
    format!("{}: {choice}{by}", vote.rater)
}
