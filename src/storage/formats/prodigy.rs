//! Imports Prodigy's `choice` tasks: an input with options, of which an annotator accepted one.
//!
//! `text` (or `prompt` …), `options` with `id` and `text`, `accept` with the ids chosen, `answer` accept, reject or ignore. A line is
//! one annotator's answer (`_annotator_id`, else `_session_id`); lines of one task (`_task_hash`) become one pair, and of several
//! answers by one annotator the latest counts (`_timestamp`, else the later line). Two options are the answers; further ones may
//! say that neither is better. A task that was rejected or ignored has no vote.

use super::super::answers::{Decision, TwoAnswers, decision, prompt_of, tags_of, unjudged};
use super::super::given::GivenAnswer;
use super::super::record::{Record, RowFields};
use super::super::schema::{Fit, Format, ImportedVote, ImportedVotes, Reader, Reads, Refusal};
use crate::domain::{Choice, Side, Strength};
use serde_json::{Map, Value};

/// The row of the table.
pub const FORMAT: Format = Format {
    name: "prodigy",
    help: "Prodigy's choice tasks: `text`, `options`, `accept`, `answer`",
    reads: Some(Reads {
        plain_text: false,
        record: "a JSON object with `text`, `options`, `accept` and `answer`",
        fit: |record| {
            let answered = ["accept", "answer", "_view_id", "_task_hash"].iter().any(|name| record.has(name));
            if record.has("options") && answered { Fit::Sure } else { Fit::No }
        },
        row: Reader::Votes(row),
    }),
    writes: None,
};

/// An option: its id as text, and the option.
type Choosable<'a> = (String, &'a Map<String, Value>);

fn row(record: &Record) -> Result<ImportedVotes, Refusal> {
    let fields = record.row()?;
    // Prodigy keeps its own notes under names that begin so.
    for name in fields.names().filter(|name| name.starts_with('_')) {
        fields.mark(name);
    }
    let options = options(&fields)?;
    // An option whose text says that neither is better is no answer.
    let other = |(id, option): &Choosable<'_>| {
        let text = option.get("text").and_then(Value::as_str).unwrap_or(id);
        match decision(text, ("\u{0}", "\u{0}")).or_else(|| decision(id, ("\u{0}", "\u{0}"))) {
            Some(Decision::Choice(choice @ (Choice::Tie | Choice::BothBad))) => Some(Decision::Choice(choice)),
            Some(Decision::Undecided) => Some(Decision::Undecided),
            _ => None,
        }
    };
    let answers: Vec<&Choosable<'_>> = if options.len() == 2 {
        options.iter().collect()
    } else {
        options.iter().filter(|o| other(o).is_none()).collect()
    };
    let [a, b] = answers.as_slice() else {
        return Err(format!("has {} options that are answers: expected two", answers.len()).into());
    };
    let model = |option: &Choosable<'_>| option.1.get("model").and_then(Value::as_str).map(str::to_owned);
    let two = TwoAnswers {
        names: (a.0.clone(), b.0.clone()),
        texts: (
            GivenAnswer::of("options", Some(&option_text(a.1)))?,
            GivenAnswer::of("options", Some(&option_text(b.1)))?,
        ),
        models: (model(a), model(b)),
    };
    let mut row = unjudged(prompt_of(&fields)?, tags_of(&fields)?, two)?;
    row.item = Some(id_text(fields.get("_task_hash")).unwrap_or_default());
    let accepted = accepted(&fields, &options)?;
    match (fields.get("answer").and_then(Value::as_str), accepted.as_slice()) {
        (Some("reject"), _) => row.unread.push("rejected task"),
        (Some("ignore"), _) => row.unread.push("ignored task"),
        (Some("accept") | None, []) => row.unread.push("task accepted without a choice"),
        (Some("accept") | None, chosen) => {
            let choice = match chosen {
                [one] if one.0 == a.0 => Decision::Choice(Choice::Prefer(Side::A, Strength::Better)),
                [one] if one.0 == b.0 => Decision::Choice(Choice::Prefer(Side::B, Strength::Better)),
                [one] => other(one).unwrap_or(Decision::Undecided),
                [x, y] if [&x.0, &y.0] == [&a.0, &b.0] => Decision::Choice(Choice::Tie),
                _ => return Err(format!("accepts {} options: expected one", chosen.len()).into()),
            };
            match choice {
                Decision::Choice(choice) => {
                    let mut vote = ImportedVote::new(rater(&fields), choice);
                    vote.at = fields.get("_timestamp").and_then(Value::as_f64);
                    row.votes.push(vote);
                }
                Decision::Undecided => row.unread.push("undecided task"),
            }
        }
        (Some(other), _) => return Err(format!("has the answer `{other}`: expected accept, reject or ignore").into()),
    }
    Ok(row)
}

/// Who answered.
fn rater(fields: &RowFields<'_>) -> String {
    let named = ["_annotator_id", "_session_id"].iter().find_map(|name| id_text(fields.get(name)));
    named.unwrap_or_else(|| "annotator".into())
}

/// An id, which may be a number.
fn id_text(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) if !text.trim().is_empty() => Some(text.clone()),
        Value::Number(n) => Some(n.to_string()),
        _ => None,
    }
}

fn option_text(option: &Map<String, Value>) -> Value {
    ["text", "html", "content"].iter().find_map(|name| option.get(*name)).cloned().unwrap_or(Value::Null)
}

fn options<'a>(fields: &RowFields<'a>) -> Result<Vec<Choosable<'a>>, String> {
    let all = fields.get("options").and_then(Value::as_array).ok_or("has no list `options`")?;
    let one = |option: &'_ Value| -> Option<()> { option.as_object().map(|_| ()) };
    if !all.iter().all(|option| one(option).is_some()) {
        return Err("has `options` that are not objects with `id` and `text`".into());
    }
    let named: Option<Vec<Choosable<'_>>> =
        all.iter().filter_map(Value::as_object).map(|option| Some((id_text(option.get("id"))?, option))).collect();
    let named = named.ok_or("has an option without an `id`")?;
    match named.iter().enumerate().find(|(i, (id, _))| named[..*i].iter().any(|(other, _)| other == id)) {
        Some((_, (id, _))) => Err(format!("has two options with the id `{id}`")),
        None => Ok(named),
    }
}

/// The options accepted, in their own order.
fn accepted<'a>(fields: &RowFields<'_>, options: &[Choosable<'a>]) -> Result<Vec<Choosable<'a>>, String> {
    let ids: Vec<String> = match fields.get("accept") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(list)) => {
            list.iter().map(|id| id_text(Some(id))).collect::<Option<_>>().ok_or("has an `accept` that holds no ids")?
        }
        Some(one) => vec![id_text(Some(one)).ok_or("has an `accept` that is no list of ids")?],
    };
    if let Some(unknown) = ids.iter().find(|id| !options.iter().any(|(known, _)| known == *id)) {
        return Err(format!("accepts `{unknown}`, which is none of its options"));
    }
    Ok(options.iter().filter(|(id, _)| ids.contains(id)).cloned().collect())
}
