//! What files with two answers to a prompt have in common: the columns that hold them, the prompt, tags, and the words by which a
//! decision names one of them.
//!
//! Owns these conventions. Refuses to guess: columns that it does not know, or a decision that names neither answer, are errors
//! that say so.

use super::chat_json::{fits, fits_as_json, instruction, is_blank, messages, turn};
use super::schema::{ImportedVotes, Refusal};
use crate::domain::{Choice, Message, PromptBody, Side, Strength};
use serde_json::{Map, Value};

/// A JSON object.
pub(super) type Object = Map<String, Value>;

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

/// Columns of the prompt, the surest name first.
const PROMPTS: [&str; 9] =
    ["prompt", "instruction", "question", "query", "problem", "messages", "conversation", "input", "text"];

/// Columns with a part of the prompt that nothing here can place.
const UNPLACED: [&str; 4] = ["context", "history", "tools", "images"];

/// The longest tag.
const LONGEST_TAG: usize = 64;

/// Two answers of a row, as they stand in it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TwoAnswers {
    /// The columns' names.
    pub(super) names: (String, String),
    /// The texts.
    pub(super) texts: (String, String),
    /// The models that wrote them, where the row names them.
    pub(super) models: (Option<String>, Option<String>),
}

/// A name in lower case, its words apart by one space.
pub(super) fn words(name: &str) -> String {
    let lower: String = name.to_lowercase().chars().map(|c| if c.is_alphanumeric() { c } else { ' ' }).collect();
    lower.split_whitespace().collect::<Vec<_>>().join(" ")
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
fn columns(object: &Object) -> Option<(String, String)> {
    let mut best: Option<(usize, String, String)> = None;
    for name in object.keys() {
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
            let partner = object.keys().find(|k| split_end(k).any(|(s, a, f)| s == stem && a == at && !f));
            if let Some(partner) = partner {
                best = Some((rank, name.clone(), partner.clone()));
            }
        }
    }
    best.map(|(_, a, b)| (a, b))
}

/// Whether a row holds two answers.
pub(super) fn has_two(object: &Object) -> bool {
    columns(object).is_some() || list(object).is_some()
}

/// A column with a list of answers.
fn list(object: &Object) -> Option<(&'static str, &Vec<Value>)> {
    LISTS.into_iter().find_map(|name| Some((name, object.get(name)?.as_array()?)))
}

/// The two answers of a row.
pub(super) fn two_answers(object: &Object) -> Result<TwoAnswers, String> {
    if let Some((a, b)) = columns(object) {
        let models = (model_of(object, &a), model_of(object, &b));
        let texts = (answer_text(&a, object.get(&a))?, answer_text(&b, object.get(&b))?);
        return Ok(TwoAnswers { names: (a, b), texts, models });
    }
    let Some((name, answers)) = list(object) else {
        return Err("has no two answers, such as `response_1` and `response_2`".into());
    };
    let [a, b] = answers.as_slice() else {
        return Err(format!("has {} answers in `{name}`: expected two", answers.len()));
    };
    let stem = name.trim_end_matches('s');
    let models = object.get("models").or_else(|| object.get("generation_models")).and_then(Value::as_array);
    let model = |at: usize| models.filter(|m| m.len() == 2).and_then(|m| m[at].as_str()).map(str::to_owned);
    Ok(TwoAnswers {
        names: (format!("{stem}-0"), format!("{stem}-1")),
        texts: (answer_text(name, Some(a))?, answer_text(name, Some(b))?),
        models: (model(0), model(1)),
    })
}

/// The model that wrote the answer in a column: `model_a` for `response_a`, or `response_a_model`.
fn model_of(object: &Object, answer: &str) -> Option<String> {
    let text =
        |name: &str| object.get(name).and_then(Value::as_str).filter(|m| !m.trim().is_empty()).map(str::to_owned);
    let by_end = |(_, at, first): (String, usize, bool)| {
        let end = if first { ENDS[at].0 } else { ENDS[at].1 };
        ["", "_", "-"].iter().find_map(|gap| text(&format!("model{gap}{end}")))
    };
    ["_model", "-model", " model"]
        .iter()
        .find_map(|end| text(&format!("{answer}{end}")))
        .or_else(|| split_end(answer).find_map(by_end))
}

/// An answer as text: a string, one assistant turn, or an object with `text` or `content`.
pub(super) fn answer_text(name: &str, value: Option<&Value>) -> Result<String, String> {
    match value {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(list @ Value::Array(_)) => turn(name, messages(name, list)?),
        Some(Value::Object(parts)) => {
            let text = ["text", "content", "response", "value"].iter().find_map(|part| parts.get(*part)?.as_str());
            text.map(str::to_owned).ok_or_else(|| format!("has a `{name}` that holds no text"))
        }
        None | Some(Value::Null) => Err(format!("has no `{name}`")),
        Some(_) => Err(format!("has a `{name}` that is not text")),
    }
}

/// The prompt of a row, from the first column of a known name, with its system prompt in front. Text becomes a user's turn.
pub(super) fn prompt_of(object: &Object) -> Result<PromptBody, String> {
    let given = |name: &&str| object.get(*name).is_some_and(|v| !v.is_null());
    let Some(name) = PROMPTS.iter().copied().find(|n| given(n)) else {
        return Err("has no prompt: expected `prompt`, `instruction`, `question` or `messages`".into());
    };
    if let Some(unread) = UNPLACED.iter().find(|n| given(n) && !is_nothing(&object[**n])) {
        return Err(format!("has a `{unread}` beside `{name}`, which cannot be read: put it into the prompt"));
    }
    let body = match &object[name] {
        Value::String(text) if name == "instruction" => instruction(text, object.get("input")),
        value => as_prompt(name, value)?,
    };
    let system =
        ["system", "system_prompt"].iter().find_map(|n| object.get(*n)?.as_str()).filter(|s| !s.trim().is_empty());
    Ok(match (system, body) {
        (Some(system), PromptBody::Chat(turns)) if turns.first().is_none_or(|t| t.role != "system") => {
            let first = Message { role: "system".into(), content: system.into() };
            PromptBody::Chat(std::iter::once(first).chain(turns).collect())
        }
        (_, body) => body,
    })
}

/// A value as a prompt: text or messages.
pub(super) fn as_prompt(name: &str, value: &Value) -> Result<PromptBody, String> {
    match value {
        Value::String(text) => Ok(PromptBody::user(text.as_str())),
        list @ Value::Array(_) => Ok(PromptBody::Chat(messages(name, list)?)),
        _ => Err(format!("has a `{name}` that is neither text nor a list of messages")),
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(parts) => parts.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The tags of a row: `tags`, `tag`, `category`, `task`, `topic` or `motivation_app`, one or a list; `tags` may be one text
/// with commas. Only `tags` must be tags; under
/// the other names a long text or a number is none.
pub(super) fn tags_of(object: &Object) -> Result<Vec<String>, String> {
    let tag = |text: &str| {
        let text = text.trim();
        (!text.is_empty() && text.chars().count() <= LONGEST_TAG && !text.contains('\n')).then(|| text.to_owned())
    };
    let mut out: Vec<String> = Vec::new();
    for name in ["tags", "tag", "category", "task", "topic", "motivation_app"] {
        let Some(value) = object.get(name) else { continue };
        let found: Option<Vec<String>> = match value {
            Value::Null => Some(Vec::new()),
            Value::String(text) if text.trim().is_empty() => Some(Vec::new()),
            Value::String(text) if name == "tags" => text.split(',').map(tag).collect(),
            Value::String(text) => tag(text).map(|t| vec![t]),
            Value::Array(list) => list.iter().map(|v| tag(v.as_str()?)).collect(),
            _ => None,
        };
        match found {
            Some(found) => found.into_iter().for_each(|tag| {
                if !out.contains(&tag) {
                    out.push(tag);
                }
            }),
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
    if answers.texts.0.trim().is_empty() || answers.texts.1.trim().is_empty() || is_blank(&prompt) {
        return Err(Refusal::Empty);
    }
    fits_as_json("prompt", &prompt)?;
    fits("first answer", &answers.texts.0)?;
    fits("second answer", &answers.texts.1)?;
    let (a, b) = ((answers.texts.0, answers.models.0), (answers.texts.1, answers.models.1));
    Ok(ImportedVotes { prompt, tags, a, b, ..ImportedVotes::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: Value) -> Object {
        let Value::Object(object) = value else { panic!("{value}") };
        object
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
            let row = object(json!({b: "second", "prompt": "q", a: "first", "model_1": "m"}));
            let found = two_answers(&row).unwrap();
            assert_eq!(found.texts, ("first".to_owned(), "second".to_owned()), "{a} {b}");
            assert_eq!(found.names, (a.to_owned(), b.to_owned()));
        }
        let list = object(json!({"generations": ["x", "y"], "models": ["m", "n"]}));
        assert_eq!(two_answers(&list).unwrap().models, (Some("m".into()), Some("n".into())));
        let three = object(json!({"generations": ["x", "y", "z"]}));
        assert_eq!(two_answers(&three).unwrap_err(), "has 3 answers in `generations`: expected two");
        assert!(!has_two(&object(json!({"response": "x", "prompt": "q", "a": 1}))));
        let named = object(json!({"response_a": "x", "response_b": "y", "model_a": "m", "response_b_model": "n"}));
        assert_eq!(two_answers(&named).unwrap().models, (Some("m".into()), Some("n".into())));
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
        let prompt = |value| prompt_of(&object(value));
        assert_eq!(prompt(json!({"instruction": "Add", "input": "1"})), Ok(PromptBody::user("Add\n\n1")));
        assert!(prompt(json!({"question": "Why?", "context": "Much text"})).unwrap_err().contains("`context`"));
        let PromptBody::Chat(turns) = prompt(json!({"question": "Why?", "system": "Be brief."})).unwrap() else {
            panic!()
        };
        assert_eq!((turns[0].role.as_str(), turns[1].content.as_str()), ("system", "Why?"));
        let tags = |value| tags_of(&object(value));
        assert_eq!(tags(json!({"tags": ["x", "y"], "category": "x", "task": "sum"})).unwrap(), ["x", "y", "sum"]);
        assert_eq!(tags(json!({"task": "a".repeat(65), "tag": 3})).unwrap(), [""; 0]);
        assert_eq!(tags(json!({"tags": "x, y"})).unwrap(), ["x", "y"]);
        assert!(tags(json!({"tags": [1]})).is_err());
    }
}
