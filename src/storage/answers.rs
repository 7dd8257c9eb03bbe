//! What files with two answers to a prompt have in common: the columns that hold them, the prompt, tags, and the words by which a
//! decision names one of them.
//!
//! Owns these conventions. Refuses to guess: columns that it does not know, or a decision that names neither answer, are errors
//! that say so.

use super::chat_json::messages;
use super::given::GivenAnswer;
use super::judgements::decides;
pub(super) use super::judgements::words;
use super::meaning::{question, sound_pair};
use super::record::{RowFields, is_nothing};
use super::schema::{ImportedPair, ImportedVotes, Refusal};
use crate::domain::{Choice, PromptBody, Side, Strength};
use serde_json::Value;

/// What answers are called, the surest name first.
const STEMS: [&str; 12] = [
    "response",
    "answer",
    "output",
    "completion",
    "generation",
    "generations",
    "candidate",
    "reply",
    "summary",
    "option",
    "assistant",
    "text",
];

/// The ends by which two columns of one name differ.
const ENDS: [(&str, &str); 5] = [("1", "2"), ("0", "1"), ("a", "b"), ("left", "right"), ("first", "second")];

/// Lists of answers.
const LISTS: [&str; 6] = ["responses", "answers", "outputs", "completions", "generations", "candidates"];

/// The longest tag.
const LONGEST_TAG: usize = 64;

/// Two answers of a row, as they stand in it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TwoAnswers {
    /// The columns' names.
    pub(super) names: (String, String),
    /// The texts.
    pub(super) texts: (GivenAnswer, GivenAnswer),
    /// The models that wrote them, where the row names them.
    pub(super) models: (Option<String>, Option<String>),
}

/// A column's name without one of `ENDS`: `response_1` is `response`, and `1`.
fn split_end(name: &str) -> impl Iterator<Item = (String, usize, bool)> {
    let lower = name.to_lowercase();
    let ends = ENDS.iter().enumerate().flat_map(|(at, (x, y))| [(at, *x, true), (at, *y, false)]);
    ends.filter_map(move |(at, end, first)| {
        let stem = lower.strip_suffix(end)?.trim_end_matches([' ', '_', '-', '.']);
        Some((stem.to_owned(), at, first))
    })
}

/// The two columns that hold answers.
fn columns(row: &RowFields<'_>) -> Option<(String, String)> {
    let mut best: Option<(usize, String, String)> = None;
    for name in row.names() {
        for (stem, at, first) in split_end(name) {
            let rank = match STEMS.iter().position(|s| *s == stem) {
                Some(rank) => rank,
                // Columns called only `a` and `b`, or `left` and `right`.
                None if stem.is_empty() && matches!(ENDS[at].0, "a" | "left") => STEMS.len(),
                None => continue,
            };
            if !first || best.as_ref().is_some_and(|(other, ..)| *other <= rank) {
                continue;
            }
            let partner = row.names().find(|k| split_end(k).any(|(s, a, f)| s == stem && a == at && !f));
            if let Some(partner) = partner {
                best = Some((rank, name.clone(), partner.clone()));
            }
        }
    }
    best.map(|(_, a, b)| (a, b))
}

/// Whether a row holds two answers.
pub(super) fn has_two(row: &RowFields<'_>) -> bool {
    columns(row).is_some() || list(row).is_some()
}

/// A column with a list of answers.
fn list<'a>(row: &RowFields<'a>) -> Option<(&'static str, &'a Vec<Value>)> {
    LISTS.into_iter().find_map(|name| Some((name, row.peek(name)?.as_array()?)))
}

/// What is read of an object in a list of answers.
const READ_OF_ANSWER: [&str; 12] = [
    "text",
    "content",
    "response",
    "value",
    "role",
    "from",
    "model",
    "generator",
    "reasoning_content",
    "reasoning",
    "thinking",
    "tool_calls",
];

/// Reports what the objects of a list hold beyond the parts that are `read`.
pub(super) fn noted(row: &RowFields<'_>, column: &str, list: &[Value], read: &[&str]) {
    for (part, value) in list.iter().filter_map(Value::as_object).flatten() {
        if !read.contains(&part.as_str()) && !is_nothing(value) {
            row.note(&format!("{column}[].{part}"));
        }
    }
}

/// The two answers of a row.
pub(super) fn two_answers(row: &RowFields<'_>) -> Result<TwoAnswers, String> {
    if let Some((a, b)) = columns(row) {
        let models = (model_of(row, &a), model_of(row, &b));
        let texts = (GivenAnswer::in_row(row, &a)?, GivenAnswer::in_row(row, &b)?);
        return Ok(TwoAnswers { names: (a, b), texts, models });
    }
    let Some((name, answers)) = list(row) else {
        return Err("has no two answers, such as `response_1` and `response_2`".into());
    };
    row.mark(name);
    let [a, b] = answers.as_slice() else {
        return Err(format!("has {} answers in `{name}`: expected two", answers.len()));
    };
    if let Some(part) =
        answers.iter().filter_map(Value::as_object).flat_map(serde_json::Map::keys).find(|part| decides(part))
    {
        return Err(format!(
            "has a `{part}` in its `{name}`, a decision that this form does not read: name a form with --as"
        ));
    }
    noted(row, name, answers, &READ_OF_ANSWER);
    let stem = name.trim_end_matches('s');
    let models = ["models", "generation_models"].into_iter().find_map(|name| {
        let models = row.peek(name)?.as_array().filter(|models| models.len() == 2)?;
        row.mark(name);
        Some(models)
    });
    let own = |at: usize| ["model", "generator"].into_iter().find_map(|name| answers[at].get(name)?.as_str());
    let model = |at: usize| own(at).or_else(|| models.and_then(|m| m[at].as_str())).map(str::to_owned);
    Ok(TwoAnswers {
        names: (format!("{stem}-0"), format!("{stem}-1")),
        texts: (GivenAnswer::of(name, Some(a))?, GivenAnswer::of(name, Some(b))?),
        models: (model(0), model(1)),
    })
}

/// The model that wrote the answer in a column: `model_a` for `response_a`, or `response_a_model`.
fn model_of(row: &RowFields<'_>, answer: &str) -> Option<String> {
    let text = |name: &str| row.text(name).map(str::to_owned);
    let by_end = |(_, at, first): (String, usize, bool)| {
        let end = if first { ENDS[at].0 } else { ENDS[at].1 };
        let names =
            ["model", "generator"].into_iter().flat_map(|stem| ["", "_", "-"].map(|gap| format!("{stem}{gap}{end}")));
        names.into_iter().find_map(|name| text(&name))
    };
    ["_model", "-model", " model"]
        .iter()
        .find_map(|end| text(&format!("{answer}{end}")))
        .or_else(|| split_end(answer).find_map(by_end))
}

/// The prompt of a row, from the first column of a known name, with what stands around it. Text becomes a user's turn.
pub(super) fn prompt_of(row: &RowFields<'_>) -> Result<PromptBody, String> {
    question(row, false)
}

/// A value as a prompt: text or messages.
pub(super) fn as_prompt(name: &str, value: &Value) -> Result<PromptBody, String> {
    match value {
        Value::String(text) => Ok(PromptBody::user(text.as_str())),
        list @ Value::Array(_) => Ok(PromptBody::Chat(messages(name, list)?.into())),
        _ => Err(format!("has a `{name}` that is neither text nor a list of messages")),
    }
}

/// The tags of a row: `tags`, `tag`, `category`, `task`, `topic` or `motivation_app`, one or a list; `tags` may be one text
/// with commas. Only `tags` must be tags; under
/// the other names a long text or a number is none.
pub(super) fn tags_of(row: &RowFields<'_>) -> Result<Vec<String>, String> {
    let tag = |text: &str| {
        let text = text.trim();
        (!text.is_empty() && text.chars().count() <= LONGEST_TAG && !text.contains('\n')).then(|| text.to_owned())
    };
    let mut out: Vec<String> = Vec::new();
    for name in ["tags", "tag", "category", "task", "topic", "motivation_app"] {
        let Some(value) = row.peek(name) else { continue };
        let found: Option<Vec<String>> = match value {
            Value::String(text) if text.trim().is_empty() => Some(Vec::new()),
            Value::String(text) if name == "tags" => text.split(',').map(tag).collect(),
            Value::String(text) => tag(text).map(|t| vec![t]),
            Value::Array(list) => list.iter().map(|v| tag(v.as_str()?)).collect(),
            _ => None,
        };
        match found {
            Some(found) => {
                row.mark(name);
                for tag in found {
                    if !out.contains(&tag) {
                        out.push(tag);
                    }
                }
            }
            None if name == "tags" => {
                return Err(format!("has `tags` that are not texts of 1 to {LONGEST_TAG} characters on one line"));
            }
            None => {}
        }
    }
    Ok(out)
}

/// What an annotator said of two answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// A choice.
    Choice(Choice),
    /// Explicitly none.
    Undecided,
}

/// A decision in words: the name of an answer or of its place (`response_1`, `Response A`, `left`, `2`), with or without how much
/// better it is, or that neither is. None where it names neither answer.
pub(super) fn decision(said: &str, names: (&str, &str)) -> Option<Decision> {
    let said = words(said);
    let (a, b) = (words(names.0), words(names.1));
    let prefer = |side, strength| Some(Decision::Choice(Choice::Prefer(side, strength)));
    if said == a || said == b {
        return prefer(if said == a { Side::A } else { Side::B }, Strength::Better);
    }
    match said.as_str() {
        "tie" | "equal" | "same" | "equally good" | "both good" | "both are good" | "both" | "about the same"
        | "about equal" | "no preference" | "neutral" | "draw" => return Some(Decision::Choice(Choice::Tie)),
        "both bad" | "both are bad" | "equally bad" | "neither" | "neither is good" | "none" | "tie bothbad"
        | "tie both bad" => return Some(Decision::Choice(Choice::BothBad)),
        "skip" | "skipped" | "unsure" | "cannot tell" | "can t tell" | "can t choose" | "don t know" => {
            return Some(Decision::Undecided);
        }
        _ => {}
    }
    let mut strength = Strength::Better;
    let mut rest = Vec::new();
    for word in said.split(' ') {
        match word {
            "much" | "significantly" | "far" | "strongly" => strength = Strength::Much,
            "slightly" | "somewhat" | "marginally" => strength = Strength::Slight,
            "is" | "was" | "the" | "better" | "best" | "wins" | "preferred" | "prefer" | "one" | "more" | "helpful" => {
            }
            _ if STEMS.contains(&word) || word == "model" => {}
            _ => rest.push(word),
        }
    }
    let [end] = rest.as_slice() else { return None };
    let last = |name: &str| name.rsplit(' ').next().unwrap_or_default().to_owned();
    if let Some(n) = end.chars().next().filter(|c| end.len() == 1 && c.is_ascii_digit()) {
        let ends_in = |name: &str, digit: char| name.ends_with(digit);
        return match n {
            _ if ends_in(&a, n) => prefer(Side::A, strength),
            _ if ends_in(&b, n) => prefer(Side::B, strength),
            '1' => prefer(Side::A, strength),
            '2' => prefer(Side::B, strength),
            '0' => Some(Decision::Choice(Choice::Tie)),
            _ => None,
        };
    }
    if *end == last(&a) || *end == last(&b) {
        return prefer(if *end == last(&a) { Side::A } else { Side::B }, strength);
    }
    match *end {
        "a" | "left" | "first" => prefer(Side::A, strength),
        "b" | "right" | "second" => prefer(Side::B, strength),
        _ => None,
    }
}

/// A decision given as a JSON value: words or a whole number.
pub(super) fn decision_of(value: &Value, names: (&str, &str)) -> Option<Decision> {
    match value {
        Value::String(said) => decision(said, names),
        Value::Number(n) => {
            let n = n.as_i64().or_else(|| n.as_f64().filter(|x| x.fract() == 0.0).map(|x| x as i64))?;
            decision(&n.to_string(), names)
        }
        _ => None,
    }
}

/// Two answers without votes, as a row to fill in. Empty and overlong texts are refused.
pub(super) fn unjudged(prompt: PromptBody, tags: Vec<String>, answers: TwoAnswers) -> Result<ImportedVotes, Refusal> {
    sound_pair(&prompt, &answers.texts.0, &answers.texts.1)?;
    let (a, b) = ((answers.texts.0, answers.models.0), (answers.texts.1, answers.models.1));
    Ok(ImportedVotes { prompt, tags, a, b, ..ImportedVotes::default() })
}

/// A preference that names neither models nor strength.
pub(super) fn plain_pair(
    row: &RowFields<'_>,
    prompt: PromptBody,
    chosen: GivenAnswer,
    rejected: GivenAnswer,
) -> Result<ImportedPair, Refusal> {
    sound_pair(&prompt, &chosen, &rejected)?;
    if chosen.says_the_same(&rejected) {
        return Err(Refusal::Equal);
    }
    let (tags, models) = (tags_of(row)?, (None, None));
    Ok(ImportedPair { prompt, tags, chosen, rejected, models, strength: None, margin: None, said: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::super::record::Record;
    use super::*;
    use serde_json::json;

    fn record(value: Value) -> Record {
        Record::json(value)
    }

    #[test]
    fn two_answers_are_found_under_many_names() {
        for (a, b) in [
            ("response1", "response2"),
            ("response_1", "response_2"),
            ("output-1", "output-2"),
            ("answer_a", "answer_b"),
            ("Completion A", "Completion B"),
            ("generations-0", "generations-1"),
            ("a", "b"),
            ("left", "right"),
        ] {
            let row = record(json!({b: "second", "prompt": "q", a: "first", "model_1": "m"}));
            let found = two_answers(&row.columns().unwrap()).unwrap();
            assert_eq!(found.texts, ("first".into(), "second".into()), "{a} {b}");
            assert_eq!(found.names, (a.to_owned(), b.to_owned()));
        }
        let list = record(json!({"generations": ["x", "y"], "models": ["m", "n"]}));
        assert_eq!(two_answers(&list.columns().unwrap()).unwrap().models, (Some("m".into()), Some("n".into())));
        let three = record(json!({"generations": ["x", "y", "z"]}));
        assert_eq!(two_answers(&three.columns().unwrap()).unwrap_err(), "has 3 answers in `generations`: expected two");
        assert!(!has_two(&record(json!({"response": "x", "prompt": "q", "a": 1})).columns().unwrap()));
        let named = record(json!({"response_a": "x", "response_b": "y", "model_a": "m", "response_b_model": "n"}));
        assert_eq!(two_answers(&named.columns().unwrap()).unwrap().models, (Some("m".into()), Some("n".into())));
    }

    #[test]
    fn a_decision_names_an_answer_or_its_place() {
        let names = ("response_1", "response_2");
        let prefer = |side, strength| Some(Decision::Choice(Choice::Prefer(side, strength)));
        for (said, want) in [
            ("response_2", prefer(Side::B, Strength::Better)),
            ("Response 1", prefer(Side::A, Strength::Better)),
            ("A", prefer(Side::A, Strength::Better)),
            ("Response B is much better", prefer(Side::B, Strength::Much)),
            ("left is slightly better", prefer(Side::A, Strength::Slight)),
            ("2", prefer(Side::B, Strength::Better)),
            ("0", Some(Decision::Choice(Choice::Tie))),
            ("Tie", Some(Decision::Choice(Choice::Tie))),
            ("tie (bothbad)", Some(Decision::Choice(Choice::BothBad))),
            ("Both are bad", Some(Decision::Choice(Choice::BothBad))),
            ("Can't choose", Some(Decision::Undecided)),
            ("3", None),
            ("the blue one", None),
            ("A and B", None),
            ("not A", None),
            ("", None),
        ] {
            assert_eq!(decision(said, names), want, "{said}");
        }
        let from_zero = ("generations-0", "generations-1");
        assert_eq!(decision_of(&json!(0), from_zero), prefer(Side::A, Strength::Better));
        assert_eq!(decision_of(&json!(1.0), from_zero), prefer(Side::B, Strength::Better));
        assert_eq!(decision_of(&json!(1.5), names), None);
        assert_eq!(decision_of(&json!(true), names), None);
    }

    #[test]
    fn prompts_and_tags_are_read_from_known_columns_alone() {
        let prompt = |value| prompt_of(&record(value).columns().unwrap());
        assert_eq!(prompt(json!({"instruction": "Add", "input": "1"})), Ok(PromptBody::user("Add\n\n1")));
        assert_eq!(
            prompt(json!({"question": "Why?", "context": "Much text"})),
            Ok(PromptBody::user("Why?\n\nMuch text"))
        );
        let PromptBody::Chat(turns) = prompt(json!({"question": "Why?", "system": "Be brief."})).unwrap() else {
            panic!()
        };
        assert_eq!((turns[0].role.as_str(), turns[1].content.as_str()), ("system", "Why?"));
        let tags = |value| tags_of(&record(value).columns().unwrap());
        assert_eq!(tags(json!({"tags": ["x", "y"], "category": "x", "task": "sum"})).unwrap(), ["x", "y", "sum"]);
        assert_eq!(tags(json!({"task": "a".repeat(65), "tag": 3})).unwrap(), [""; 0]);
        assert_eq!(tags(json!({"tags": "x, y"})).unwrap(), ["x", "y"]);
        assert!(tags(json!({"tags": [1]})).is_err());
    }
}
