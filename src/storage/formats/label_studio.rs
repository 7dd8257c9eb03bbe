//! Imports Label Studio's exports: tasks with two texts in `data` and the `annotations` of several people.
//!
//! Reads JSON and JSON-MIN. An annotation decides by a pairwise tag (`selected` left or right), by a choice that names an answer, its
//! place or a tie, or by a rating of each answer. `left` is the first name in the tag's `toName`; where the tag's names are no
//! fields of the data they must end like them. Text areas become notes. A cancelled annotation has no vote, and of several by one
//! person the latest counts. A task without a vote is a pair to judge.

use super::super::answers::{Decision, TwoAnswers, decision, prompt_of, tags_of, two_answers, unjudged, words};
use super::super::given::GivenAnswer;
use super::super::record::{Object, Record, RowFields};
use super::super::schema::{Fit, Format, ImportedVote, ImportedVotes, Reader, Reads, Refusal};
use crate::domain::{Choice, Side, Strength};
use serde_json::Value;

/// The row of the table.
pub const FORMAT: Format = Format {
    name: "label-studio",
    help: "Label Studio's tasks: `data` with two answers, `annotations` of several people",
    reads: Some(Reads {
        plain_text: false,
        record: "a Label Studio task with `data` and `annotations`",
        fit: |record| {
            let whole = record.has("data") && (record.has("annotations") || record.has("completions"));
            if whole || record.has("annotation_id") && record.has("annotator") { Fit::Sure } else { Fit::No }
        },
        row: Reader::Votes(row),
    }),
    writes: None,
};

/// What JSON-MIN adds to the data's own fields.
const OF_TASK: [&str; 20] = [
    "id",
    "annotator",
    "annotation_id",
    "created_at",
    "updated_at",
    "lead_time",
    "inner_id",
    "total_annotations",
    "cancelled_annotations",
    "total_predictions",
    "drafts",
    "meta",
    "project",
    "updated_by",
    "file_upload",
    "comment_count",
    "unresolved_comment_count",
    "last_comment_updated_at",
    "comment_authors",
    "is_labeled",
];

fn row(record: &Record) -> Result<ImportedVotes, Refusal> {
    let task = record.row()?;
    task.mark_all(&OF_TASK);
    match task.peek("data") {
        Some(Value::Object(_)) => {
            let data = task.child("data").ok_or("has `data` that are not an object")?;
            whole(&task, &data)
        }
        Some(_) => Err("has `data` that are not an object".into()),
        None => flat(&task),
    }
}

/// A task with its annotations.
fn whole(task: &RowFields<'_>, data: &RowFields<'_>) -> Result<ImportedVotes, Refusal> {
    let annotations = task.get("annotations").or_else(|| task.get("completions")).unwrap_or(&Value::Null);
    let mut annotations: Vec<&Object> = match annotations {
        Value::Null => Vec::new(),
        Value::Array(list) => {
            list.iter().map(Value::as_object).collect::<Option<_>>().ok_or("has an annotation that is no object")?
        }
        _ => return Err("has `annotations` that are not a list".into()),
    };
    let when = |annotation: &&Object| {
        let at = ["updated_at", "created_at"].iter().find_map(|name| annotation.get(*name)?.as_str());
        at.unwrap_or_default().to_owned()
    };
    annotations.sort_by_key(when);
    let results: Vec<Vec<&Object>> = annotations.iter().map(|annotation| results(annotation)).collect();
    // The tag says which two fields are compared, and in which order.
    let compared = results.iter().flatten().find_map(|result| {
        let (first, second) = result.get("to_name")?.as_str()?.split_once(',')?;
        Some((first.trim().to_owned(), second.trim().to_owned()))
    });
    let answers = match &compared {
        Some((first, second)) => ordered(data, first, second)?,
        None => two_answers(data)?,
    };
    let names = answers.names.clone();
    let rest = data.without([names.0.clone(), names.1.clone()]);
    let mut row = unjudged(prompt_of(&rest)?, tags_of(data)?, answers)?;
    for (annotation, results) in annotations.iter().zip(&results) {
        let rater = person(annotation.get("completed_by"));
        if annotation.get("was_cancelled").and_then(Value::as_bool) == Some(true) {
            row.unread.push("cancelled annotation");
            continue;
        }
        for text in results.iter().filter(|r| kind(r) == "textarea").flat_map(|r| texts(r)) {
            row.notes.push((rater.clone(), text));
        }
        let decisive =
            ["pairwise", "choices", "rating"].into_iter().find(|one| results.iter().any(|r| kind(r) == *one));
        let others = results.iter().filter(|r| Some(kind(r)) != decisive && kind(r) != "textarea").count();
        row.unread.extend(std::iter::repeat_n("result of an annotation that does not decide", others));
        match decided(results, (&names.0, &names.1))? {
            Some(Decision::Choice(choice)) => row.votes.push(ImportedVote::new(rater, choice)),
            Some(Decision::Undecided) => row.unread.push("undecided annotation"),
            None => row.unread.push("annotation without a choice"),
        }
    }
    if task.get("predictions").and_then(Value::as_array).is_some_and(|all| !all.is_empty()) {
        row.unread.push("task with predictions");
    }
    row.keep_latest();
    Ok(row)
}

/// A row of JSON-MIN: the data's fields and the tags' values side by side, one annotation a row.
fn flat(task: &RowFields<'_>) -> Result<ImportedVotes, Refusal> {
    let answers = two_answers(task)?;
    let names = answers.names.clone();
    let own = OF_TASK.iter().map(|name| (*name).to_owned()).chain([names.0.clone(), names.1.clone()]);
    let rest = task.without(own);
    let mut row = unjudged(prompt_of(&rest)?, tags_of(task)?, answers)?;
    row.item = Some(task.get("id").map(Value::to_string).unwrap_or_default());
    let said = |value: &Value| match value {
        Value::String(said) => Some(said.clone()),
        Value::Object(value) => {
            ["selected", "choices"].iter().find_map(|name| value.get(*name)?.as_str()).map(str::to_owned)
        }
        _ => None,
    };
    let decides = |name: &String| {
        let decision = decision(&said(rest.peek(name)?)?, (&names.0, &names.1))?;
        rest.mark(name);
        Some(decision)
    };
    let decisions: Vec<Decision> = rest.names().filter_map(decides).collect();
    match decisions.as_slice() {
        [] => row.unread.push("annotation without a choice"),
        [Decision::Choice(choice)] => row.votes.push(ImportedVote::new(person(task.get("annotator")), *choice)),
        [Decision::Undecided] => row.unread.push("undecided annotation"),
        several => return Err(format!("has {} fields that decide: export only one of them", several.len()).into()),
    }
    Ok(row)
}

/// The results of an annotation.
fn results(annotation: &Object) -> Vec<&Object> {
    annotation.get("result").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object).collect()
}

fn kind(result: &Object) -> &str {
    result.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn value<'a>(result: &'a Object, name: &str) -> Option<&'a Value> {
    result.get("value")?.get(name)
}

fn texts(result: &Object) -> Vec<String> {
    match value(result, "text") {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

/// The two fields that a tag compares, in its order.
fn ordered(data: &RowFields<'_>, first: &str, second: &str) -> Result<TwoAnswers, String> {
    if data.peek(first).is_some() && data.peek(second).is_some() {
        let texts = (GivenAnswer::of(first, data.get(first))?, GivenAnswer::of(second, data.get(second))?);
        return Ok(TwoAnswers { names: (first.into(), second.into()), texts, models: (None, None) });
    }
    let found = two_answers(data)?;
    let end = |name: &str| words(name).chars().last();
    let ends = |a: &str, b: &str| (end(a), end(b));
    let (tag, columns) = (ends(first, second), ends(&found.names.0, &found.names.1));
    if tag == columns {
        return Ok(found);
    }
    if (tag.1, tag.0) == columns {
        let TwoAnswers { names: (a, b), texts: (x, y), models: (m, n) } = found;
        return Ok(TwoAnswers { names: (b, a), texts: (y, x), models: (n, m) });
    }
    Err(format!(
        "compares `{first}` and `{second}`, which are no fields of its data, and `{}` and `{}` do not end like them",
        found.names.0, found.names.1
    ))
}

/// What an annotation says of the two answers.
fn decided(results: &[&Object], names: (&str, &str)) -> Result<Option<Decision>, String> {
    if let Some(pairwise) = results.iter().find(|r| kind(r) == "pairwise") {
        let side = match value(pairwise, "selected").and_then(Value::as_str) {
            Some("left") => Side::A,
            Some("right") => Side::B,
            None => return Ok(None),
            Some(other) => return Err(format!("has a pairwise result `{other}`: expected left or right")),
        };
        return Ok(Some(Decision::Choice(Choice::Prefer(side, Strength::Better))));
    }
    let choices: Vec<&str> = results
        .iter()
        .filter(|r| kind(r) == "choices")
        .filter_map(|r| value(r, "choices")?.as_array())
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let decisions: Vec<Decision> = choices.iter().filter_map(|said| decision(said, names)).collect();
    match decisions.as_slice() {
        [] => {}
        [one] => return Ok(Some(*one)),
        several => return Err(format!("has {} choices that decide: export only one of them", several.len())),
    }
    if let [said] = choices.as_slice() {
        return Err(format!("has the choice `{said}`, which names neither answer"));
    }
    let rating = |name: &str| {
        let of = |r: &&&Object| r.get("to_name").and_then(Value::as_str) == Some(name) && kind(r) == "rating";
        value(results.iter().find(of)?, "rating")?.as_f64()
    };
    let (Some(x), Some(y)) = (rating(names.0), rating(names.1)) else { return Ok(None) };
    Ok(Some(Decision::Choice(match x.total_cmp(&y) {
        std::cmp::Ordering::Greater => Choice::Prefer(Side::A, Strength::Better),
        std::cmp::Ordering::Less => Choice::Prefer(Side::B, Strength::Better),
        std::cmp::Ordering::Equal => Choice::Tie,
    })))
}

/// Who annotated: a number, or a user with an e-mail address.
fn person(value: Option<&Value>) -> String {
    match value {
        Some(Value::Object(user)) => {
            let name = user.get("email").and_then(Value::as_str).filter(|name| !name.trim().is_empty());
            name.map(str::to_owned)
                .or_else(|| user.get("id").map(Value::to_string))
                .unwrap_or_else(|| "annotator".into())
        }
        Some(Value::String(name)) if !name.trim().is_empty() => name.clone(),
        Some(Value::Number(n)) => n.to_string(),
        _ => "annotator".into(),
    }
}
