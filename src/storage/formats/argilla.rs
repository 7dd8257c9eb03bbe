//! Imports Argilla's records: `fields`, and `responses` of several users to the dataset's questions.
//!
//! Reads the exports of Argilla 1 (a column a question with `user_id`, `value` and `status`) and 2.x, nested (`records.to_json`: `responses` by question) or flat (`QUESTION.responses`, `.users`,
//! `.status`), and the server's list of responses (`values`, `user_id`, `status`). A question is a choice between the answers, a
//! ranking of them, or two rating questions, one an answer: the higher rating wins. Text questions whose name says so become notes.
//! A response that was discarded or is a draft has no vote; the nested export does not say which are. Suggestions are a model's
//! and are not read. A record without a vote is a pair to judge.

use super::super::answers::{
    Decision, TwoAnswers, as_prompt, decision_of, prompt_of, tags_of, two_answers, unjudged, words,
};
use super::super::record::{Record, RowFields};
use super::super::schema::{Fit, Format, ImportedVote, ImportedVotes, Reader, Reads, Refusal};
use crate::domain::{Choice, PromptBody, Side, Strength};
use serde_json::Value;
use std::collections::BTreeMap;

/// The row of the table.
pub const FORMAT: Format = Format {
    name: "argilla",
    help: "Argilla's records: `fields` with two answers, `responses` of several users",
    reads: Some(Reads {
        plain_text: false,
        record: "an Argilla record with `fields` and `responses`, or with `QUESTION.responses`",
        fit: |record| {
            let flat = record.columns().is_some_and(|row| {
                row.names().any(|name| name.ends_with(".responses.users") || older(row.peek(name)).is_some())
            });
            if record.has("fields") && record.has("responses") || flat { Fit::Sure } else { Fit::No }
        },
        row: Reader::Votes(row),
    }),
    writes: None,
};

/// What Argilla adds to a record of its own.
const OF_RECORD: [&str; 6] = ["id", "external_id", "status", "inserted_at", "updated_at", "_server_id"];

/// One user's value for a question.
#[derive(Debug)]
struct Response<'a> {
    question: &'a str,
    user: String,
    value: &'a Value,
    status: &'a str,
}

fn row(record: &Record) -> Result<ImportedVotes, Refusal> {
    let all = record.row()?;
    let fields = match all.peek("fields") {
        Some(Value::Object(_)) => all.child("fields").ok_or("has `fields` that are not an object")?,
        Some(_) => return Err("has `fields` that are not an object".into()),
        None => {
            let no_field = |name: &&String| {
                let of_record = OF_RECORD.contains(&name.as_str()) || *name == "metadata";
                name.contains('.') || of_record || name.contains("-suggestion") || older(all.peek(name)).is_some()
            };
            all.without(all.names().filter(no_field).cloned().collect::<Vec<_>>())
        }
    };
    let mut answers = two_answers(&fields)?;
    let prompt = prompt(&fields, &answers)?;
    let metadata = all.child("metadata");
    let tags = tags_of(metadata.as_ref().unwrap_or(&fields))?;
    all.mark_all(&OF_RECORD);
    if let Some(found) = &metadata {
        let text = |name: &str| {
            found.text(&format!("{name}_model")).or_else(|| found.text(&format!("{name}-model"))).map(str::to_owned)
        };
        answers.models.0 = answers.models.0.take().or_else(|| text(&answers.names.0));
        answers.models.1 = answers.models.1.take().or_else(|| text(&answers.names.1));
    }
    let names = answers.names.clone();
    let mut row = unjudged(prompt, tags, answers)?;
    let mut submitted: BTreeMap<&str, Vec<Response<'_>>> = BTreeMap::new();
    for response in responses(&all)? {
        match response.status {
            "discarded" => row.unread.push("discarded response"),
            "draft" | "pending" => row.unread.push("draft response"),
            _ if response.value.is_null() => row.unread.push("response without a value"),
            _ => submitted.entry(response.question).or_default().push(response),
        }
    }
    let suggested: Vec<&String> =
        all.names().filter(|name| name.contains(".suggestion") || name.contains("-suggestion")).collect();
    for name in &suggested {
        all.mark(name);
    }
    let made = |name: &&&String| !name.ends_with("-metadata") && all.holds(name);
    let suggested: Vec<&&String> = suggested.iter().filter(made).collect();
    if all.get("suggestions").and_then(Value::as_object).is_some_and(|s| !s.is_empty()) || !suggested.is_empty() {
        row.unread.push("record with suggestions");
    }
    let names = (names.0.as_str(), names.1.as_str());
    let deciding = deciding(&submitted, names)?;
    let mut votes: Vec<(String, Choice)> = Vec::new();
    match &deciding {
        Deciding::Nothing => {}
        Deciding::Question(question) => {
            for response in &submitted[question] {
                match value_decision(response.value, names) {
                    Some(Decision::Choice(choice)) => votes.push((response.user.clone(), choice)),
                    Some(Decision::Undecided) => row.unread.push("undecided response"),
                    None => {
                        return Err(
                            format!("has a `{question}` of {}, which names neither answer", response.value).into()
                        );
                    }
                }
            }
        }
        Deciding::Ratings(a, b) => {
            for first in &submitted[a] {
                let second = submitted[b].iter().rfind(|second| second.user == first.user);
                match (first.value.as_f64(), second.and_then(|second| second.value.as_f64())) {
                    (Some(x), Some(y)) => votes.push((first.user.clone(), higher(x, y))),
                    _ => row.unread.push("rating of only one answer"),
                }
            }
        }
    }
    row.votes = votes.into_iter().map(|(user, choice)| ImportedVote::new(user, choice)).collect();
    row.keep_latest();
    for (question, given) in &submitted {
        if deciding.reads(question) {
            continue;
        }
        for response in given {
            match response.value.as_str() {
                Some(text) if is_note(question) => row.notes.push((response.user.clone(), text.to_owned())),
                _ => row.unread.push("answer to another question"),
            }
        }
    }
    Ok(row)
}

/// The prompt: a field of a known name or, beside the answers, the only one.
fn prompt(fields: &RowFields<'_>, answers: &TwoAnswers) -> Result<PromptBody, String> {
    let rest = fields.without([answers.names.0.clone(), answers.names.1.clone()]);
    let mut names = rest.names();
    match (names.next(), names.next()) {
        (Some(name), None) => as_prompt(name, rest.get(name).unwrap_or(&Value::Null)),
        _ => prompt_of(&rest),
    }
}

/// Which questions decide.
#[derive(Debug)]
enum Deciding<'a> {
    Nothing,
    Question(&'a str),
    Ratings(&'a str, &'a str),
}

impl Deciding<'_> {
    fn reads(&self, question: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Question(one) => *one == question,
            Self::Ratings(a, b) => *a == question || *b == question,
        }
    }
}

fn deciding<'a>(submitted: &BTreeMap<&'a str, Vec<Response<'a>>>, names: (&str, &str)) -> Result<Deciding<'a>, String> {
    // A rating question of an answer has the answer's name in its own, or ends like it.
    let rates = |name: &str| {
        let end = words(name).rsplit(' ').next().unwrap_or_default().to_owned();
        let about = |question: &&&str| {
            let said = words(question);
            said.contains(&words(name)) || said.split(' ').any(|word| word == end)
        };
        let numbers = |question: &&&str| submitted[**question].iter().all(|r| r.value.is_number());
        let mut all = submitted.keys().filter(about).filter(numbers);
        all.next().copied().filter(|_| all.next().is_none())
    };
    if let (Some(a), Some(b)) = (rates(names.0), rates(names.1))
        && a != b
    {
        return Ok(Deciding::Ratings(a, b));
    }
    let decides = |question: &&&str| submitted[**question].iter().any(|r| value_decision(r.value, names).is_some());
    let chosen: Vec<&str> = submitted.keys().filter(decides).copied().collect();
    let named = |question: &&&str| {
        ["prefer", "best", "better", "choose", "chosen", "winner", "overall", "rank"]
            .iter()
            .any(|part| words(question).contains(part))
    };
    match chosen.as_slice() {
        [] => match submitted.keys().find(named) {
            Some(question) => Ok(Deciding::Question(question)),
            None => Ok(Deciding::Nothing),
        },
        [one] => Ok(Deciding::Question(one)),
        several => match several.iter().filter(named).collect::<Vec<_>>().as_slice() {
            [one] => Ok(Deciding::Question(one)),
            _ => Err(format!("has several questions that decide ({}): export only one of them", several.join(", "))),
        },
    }
}

fn value_decision(value: &Value, names: (&str, &str)) -> Option<Decision> {
    match value {
        Value::Array(list) => ranking(list, names).map(Decision::Choice),
        one => decision_of(one, names),
    }
}

/// A ranking of the answers: a list in order, or entries with `value` and `rank`.
fn ranking(list: &[Value], names: (&str, &str)) -> Option<Choice> {
    let place = |name: &str| {
        list.iter().enumerate().find_map(|(at, entry)| {
            let (value, rank) = match entry {
                Value::String(value) => (value.as_str(), at as f64),
                entry => (entry.get("value")?.as_str()?, entry.get("rank")?.as_f64()?),
            };
            (words(value) == words(name)).then_some(rank)
        })
    };
    // A lower rank is better.
    Some(higher(-place(names.0)?, -place(names.1)?))
}

fn higher(x: f64, y: f64) -> Choice {
    match x.total_cmp(&y) {
        std::cmp::Ordering::Greater => Choice::Prefer(Side::A, Strength::Better),
        std::cmp::Ordering::Less => Choice::Prefer(Side::B, Strength::Better),
        std::cmp::Ordering::Equal => Choice::Tie,
    }
}

fn is_note(question: &str) -> bool {
    let said = words(question);
    ["comment", "note", "reason", "rationale", "feedback", "explain", "justif"].iter().any(|part| said.contains(part))
}

/// Every response of a record, in each of its forms.
fn responses<'a>(record: &RowFields<'a>) -> Result<Vec<Response<'a>>, String> {
    let text = |value: Option<&Value>| match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => "user".to_owned(),
        Some(other) => other.to_string(),
    };
    let status = |value: Option<&'_ Value>| {
        value.and_then(Value::as_str).map_or("submitted", |s| match s {
            "discarded" => "discarded",
            "draft" => "draft",
            "pending" => "pending",
            _ => "submitted",
        })
    };
    let mut out = Vec::new();
    match record.get("responses") {
        Some(Value::Object(questions)) => {
            for (question, given) in questions {
                let list =
                    given.as_array().ok_or_else(|| format!("has `responses` to `{question}` that are not a list"))?;
                for one in list {
                    let value = one.get("value").unwrap_or(&Value::Null);
                    let (user, status) = (text(one.get("user_id")), status(one.get("status")));
                    out.push(Response { question, user, value, status });
                }
            }
        }
        Some(Value::Array(users)) => {
            for one in users {
                let (user, status) = (text(one.get("user_id")), status(one.get("status")));
                let values = one.get("values").and_then(Value::as_object);
                for (question, value) in values.into_iter().flatten() {
                    let value = value.get("value").unwrap_or(value);
                    out.push(Response { question, user: user.clone(), value, status });
                }
            }
        }
        Some(Value::Null) | None => {}
        Some(_) => return Err("has `responses` that are neither a list nor an object".into()),
    }
    for name in record.names() {
        let Some(question) = name.strip_suffix(".responses") else { continue };
        let Some(list) = record.get(name).and_then(Value::as_array) else { continue };
        let column = |end: &str| record.get(&format!("{name}.{end}")).and_then(Value::as_array);
        for (i, value) in list.iter().enumerate() {
            let of = |end: &str| column(end).and_then(|values| values.get(i));
            out.push(Response { question, user: text(of("users")), value, status: status(of("status")) });
        }
    }
    for name in record.names() {
        let Some(given) = older(record.peek(name)) else { continue };
        record.mark(name);
        for (user, value, of) in given {
            out.push(Response { question: name, user: text(user), value, status: status(of) });
        }
    }
    Ok(out)
}

/// One user's answer in Argilla 1: the user, the value, the status.
type Older<'a> = (Option<&'a Value>, &'a Value, Option<&'a Value>);

/// A question's responses as Argilla 1 writes them: a list of objects with `user_id`, `value` and `status`, or an object of lists.
fn older(column: Option<&Value>) -> Option<Vec<Older<'_>>> {
    let named = |object: &serde_json::Map<String, Value>| {
        ["user_id", "value", "status"].iter().all(|name| object.contains_key(*name))
    };
    match column? {
        Value::Array(list) => {
            let one = |one: &'_ Value| one.as_object().is_some_and(named);
            let all = !list.is_empty() && list.iter().all(one);
            all.then(|| list.iter().map(|one| (one.get("user_id"), &one["value"], one.get("status"))).collect())
        }
        Value::Object(lists) if named(lists) => {
            let values = lists["value"].as_array()?;
            let at = |name: &str, i: usize| lists[name].as_array().and_then(|list| list.get(i));
            Some(values.iter().enumerate().map(|(i, value)| (at("user_id", i), value, at("status", i))).collect())
        }
        _ => None,
    }
}
