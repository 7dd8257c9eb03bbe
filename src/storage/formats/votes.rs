//! Imports and exports pairs with every vote: one JSON object a pair, judged or not. This program's own form: what it writes, it
//! reads back with the same outcomes.
//!
//! `prompt` (messages, or plain text), `a` and `b`, `model_a` and `model_b`, `tags`, `strategy` and `p_select`; `votes` with
//! `rater`, `choice` (a, b, tie, both_bad, skip), `strength` (slight, better, much), `left`, `seen`, `ms`, `criterion`, `pass` (1 for
//! a repeat), `review`, `partial` (what there was of both answers, where they had not ended), and `latest` false for a vote that the rater replaced; `notes`;
//! `corrections` with `rater`, `answer` (a, b) and `text`; `adjudications`. `id`, `source`, `outcome`, `agreement` and `margin` are for other
//! programs: an import works them out again. A rater that was imported before keeps its name; others become `import:FILE#NAME`.

use super::super::answers::tags_of;
use super::super::chat_json::{add_extras, answer_turns, fits, fits_as_json};
use super::super::given::GivenAnswer;
use super::super::meaning::question;
use super::super::pair_columns::{choice_word, strength_of};
use super::super::record::Record;
use super::super::schema::{Fit, Format, ImportedVote, ImportedVotes, Reader, Reads, Refusal, Writer};
use crate::domain::{
    Adjudication, Asked, Choice, Completion, Conversation, LabelledPair, Outcome, PromptBody, Rater, Seen, Side,
    Strength,
};
use serde_json::{Map, Value, json};

/// The row of the table.
pub const FORMAT: Format = Format {
    name: "votes",
    help: "Every pair with every rater's vote, notes and adjudications: `prompt`, `a`, `b`, `votes`",
    reads: Some(Reads {
        plain_text: false,
        record: "a JSON object with `prompt`, `a`, `b` and `votes`",
        fit: |record| if ["a", "b", "votes"].iter().all(|name| record.has(name)) { Fit::Sure } else { Fit::No },
        row: Reader::Votes(row),
    }),
    writes: Some(Writer::Votes(to_json)),
};

fn to_json(all: &LabelledPair<'_>) -> Value {
    let (outcome, margin) = match all.found.outcome {
        Outcome::Open => ("open", None),
        Outcome::Tie => ("tie", None),
        Outcome::BothBad => ("both_bad", None),
        Outcome::Unresolved => ("unresolved", None),
        Outcome::Prefer(Side::A, margin) => ("a", Some(margin)),
        Outcome::Prefer(Side::B, margin) => ("b", Some(margin)),
    };
    let prompt = match &all.prompt.body {
        PromptBody::Chat(talk) => json!(talk.turns),
        PromptBody::Text(text) => json!(text),
    };
    let votes: Vec<Value> = all
        .votes
        .iter()
        .map(|vote| {
            let v = vote.verdict;
            json!({
                "rater": v.rater, "choice": choice_word(v.choice), "strength": strength_of(v.choice), "left": v.left,
                "seen": v.seen, "ms": v.ms, "criterion": v.asked.criterion, "pass": v.asked.pass,
                "review": v.asked.review, "latest": vote.latest, "partial": v.showing.partial,
            })
        })
        .collect();
    let notes: Vec<Value> = all.notes.iter().map(|(rater, text)| json!({"rater": rater, "note": text})).collect();
    let corrected = |(side, rater, text): &(Side, &Rater, &str)| json!({"rater": rater, "answer": side, "text": text});
    let corrections: Vec<Value> = all.corrections.iter().map(corrected).collect();
    let settled = |a: &&Adjudication| {
        let (choice, strength) = (choice_word(a.choice), strength_of(a.choice));
        json!({"rater": a.rater, "choice": choice, "strength": strength, "criterion": a.criterion})
    };
    let settled: Vec<Value> = all.adjudications.iter().map(settled).collect();
    let answer = |completion: &Completion| {
        if completion.turns.is_empty() { json!(completion.text) } else { json!(answer_turns(completion.into())) }
    };
    let mut columns = json!({
        "id": all.pair.id, "prompt": prompt, "a": answer(all.a), "b": answer(all.b), "model_a": all.a.model,
        "model_b": all.b.model, "tags": all.prompt.tags, "source": all.prompt.source, "strategy": all.pair.strategy,
        "p_select": all.pair.p_select, "outcome": outcome, "agreement": all.found.agreement, "margin": margin,
        "votes": votes, "notes": notes, "corrections": corrections, "adjudications": settled,
    });
    if let PromptBody::Chat(talk) = &all.prompt.body {
        add_extras(&mut columns, talk);
    }
    columns
}

/// Columns that are for other programs.
const DERIVED: [&str; 5] = ["id", "source", "outcome", "agreement", "margin"];

fn row(record: &Record) -> Result<ImportedVotes, Refusal> {
    let columns = record.row()?;
    if columns.get("prompt").is_none() {
        return Err("has no `prompt`".into());
    }
    let prompt = match columns.get("prompt") {
        // An empty prompt is one here: a session has such pairs too.
        Some(Value::String(text)) if text.trim().is_empty() => PromptBody::Text(text.clone()),
        Some(Value::Array(list)) if list.is_empty() => PromptBody::Chat(Conversation::default()),
        _ => question(&columns, true)?,
    };
    let text = |name: &str| GivenAnswer::of(name, columns.get(name));
    let model = |name: &str| record.field(name).and_then(Value::as_str).map(str::to_owned);
    // An answer may be empty here: a session has such pairs too.
    let (a, b) = (text("a")?, text("b")?);
    fits_as_json("prompt", &prompt)?;
    fits("first answer", &a.text)?;
    fits("second answer", &b.text)?;
    let tags = tags_of(&columns)?;
    // What an import works out again, or has no use for.
    columns.mark_all(&DERIVED);
    let (a, b) = ((a, model("model_a")), (b, model("model_b")));
    let mut row = ImportedVotes { prompt, tags, a, b, ..ImportedVotes::default() };
    // A rater's replaced votes come before the one that counts, whatever their order.
    let mut votes: Vec<(bool, ImportedVote)> =
        list(record, "votes")?.iter().map(|v| vote(v)).collect::<Result<_, _>>()?;
    votes.sort_by_key(|(latest, _)| *latest);
    row.votes = votes.into_iter().map(|(_, vote)| vote).collect();
    for one in list(record, "notes")? {
        let (Some(rater), Some(note)) = (string(one, "rater"), string(one, "note")) else {
            return Err("has a note without the texts `rater` and `note`".into());
        };
        row.notes.push((rater.into(), note.into()));
    }
    for one in list(record, "corrections")? {
        let side = match string(one, "answer") {
            Some("a") => Side::A,
            Some("b") => Side::B,
            _ => return Err("has a correction whose `answer` is neither a nor b".into()),
        };
        let (Some(rater), Some(text)) = (string(one, "rater"), string(one, "text")) else {
            return Err("has a correction without the texts `rater` and `text`".into());
        };
        fits("correction", text)?;
        row.corrections.push((side, rater.into(), text.into()));
    }
    for settled in list(record, "adjudications")? {
        let rater = string(settled, "rater").ok_or("has an adjudication without a `rater`")?;
        row.adjudications.push((rater.to_owned(), choice(settled)?, criterion(settled)?));
    }
    if let Some(strategy) = model("strategy") {
        let p = record.field("p_select").and_then(Value::as_f64).filter(|p| (0.0..=1.0).contains(p));
        let plain = strategy.len() <= 40 && strategy.chars().all(|c| c.is_ascii_alphanumeric() || "_-+.".contains(c));
        let p = p.filter(|_| plain).ok_or("has a `strategy` without a `p_select` from 0 to 1")?;
        row.selected = Some((strategy, p));
    }
    Ok(row)
}

/// The objects of a list; none where it is absent.
fn list<'a>(record: &'a Record, name: &str) -> Result<Vec<&'a Map<String, Value>>, String> {
    let Some(value) = record.field(name) else { return Ok(Vec::new()) };
    let all = value.as_array().and_then(|list| list.iter().map(Value::as_object).collect::<Option<Vec<_>>>());
    all.ok_or_else(|| format!("has `{name}` that are not a list of objects"))
}

fn string<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    object.get(name)?.as_str().filter(|text| !text.trim().is_empty())
}

fn vote(given: &Map<String, Value>) -> Result<(bool, ImportedVote), String> {
    let rater = string(given, "rater").ok_or("has a vote without a `rater`")?;
    let mut vote = ImportedVote::new(rater, choice(given)?);
    vote.left = match string(given, "left") {
        None | Some("a") => Side::A,
        Some("b") => Side::B,
        Some(other) => return Err(format!("has a vote with `{other}` on the left: expected a or b")),
    };
    vote.seen = match string(given, "seen") {
        Some("full") => Seen::Full,
        Some("partial") => Seen::Partial,
        _ => Seen::Unknown,
    };
    let pass = given.get("pass").and_then(Value::as_u64).unwrap_or(0) as u32;
    let review = given.get("review").and_then(Value::as_bool).unwrap_or(false);
    vote.asked = Asked { criterion: criterion(given)?.map(Into::into), pass, review };
    vote.partial = match given.get("partial").filter(|value| !value.is_null()) {
        None => None,
        Some(value) => Some(
            serde_json::from_value(value.clone())
                .map_err(|e| format!("has a vote whose `partial` is not what was shown of `a` and `b`: {e}"))?,
        ),
    };
    vote.ms = given.get("ms").and_then(Value::as_u64).unwrap_or(0);
    Ok((given.get("latest").and_then(Value::as_bool).unwrap_or(true), vote))
}

/// The name of the criterion by which was judged; none for overall.
fn criterion(given: &Map<String, Value>) -> Result<Option<String>, String> {
    let Some(name) = string(given, "criterion") else { return Ok(None) };
    let plain = name.len() <= 40 && name.chars().all(|c| c.is_alphanumeric() || "_-.".contains(c));
    if plain {
        Ok(Some(name.to_owned()))
    } else {
        Err("has a `criterion` that is no name of letters, digits, - _ .".into())
    }
}

fn choice(given: &Map<String, Value>) -> Result<Choice, String> {
    let strength = match given.get("strength").and_then(Value::as_str) {
        Some("slight") => Strength::Slight,
        Some("better" | "") | None => Strength::Better,
        Some("much") => Strength::Much,
        Some(other) => return Err(format!("has a vote of the strength `{other}`: expected slight, better or much")),
    };
    match string(given, "choice") {
        Some("a") => Ok(Choice::Prefer(Side::A, strength)),
        Some("b") => Ok(Choice::Prefer(Side::B, strength)),
        Some("tie") => Ok(Choice::Tie),
        Some("both_bad") => Ok(Choice::BothBad),
        Some("skip") => Ok(Choice::Skip),
        Some(other) => Err(format!("has a vote for `{other}`: expected a, b, tie, both_bad or skip")),
        None => Err("has a vote without a `choice`".into()),
    }
}
