//! Pairs of which one answer is known to be better: the files that hold them.
//!
//! Owns three schemas: BIG-bench's HHH alignment (a list of subsets with `examples`), LLMBar (a list of `input`, `output_1`,
//! `output_2` and `label`), and judged pairs as JSONL (`prompt`, `chosen`, `rejected`, as `tiebreak export` and TRL write them).
//! Refuses a file of another schema in one sentence that names the place.
//!
//! HHH's prompts are conversations: `\n\nHuman:` and `\n\nAssistant:` inside of one begin turns. LLMBar's are one user turn. Of
//! JSONL, messages are a conversation and a string is plain text that the answers continue.

use crate::domain::{Message, PromptBody};
use crate::evaluate::suite::SuiteInput;
use crate::model::error::Error;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::path::Path;

/// The subsets of HHH.
pub(super) const HHH_SUBSETS: [&str; 4] = ["helpful", "harmless", "honest", "other"];

/// A pair.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RankedPair {
    /// Unique within the file.
    pub(super) name: String,
    /// The part of the set that it belongs to; none where there are no parts.
    pub(super) subset: Option<&'static str>,
    /// What was asked.
    pub(super) prompt: PromptBody,
    /// The better answer.
    pub(super) chosen: String,
    /// The other one.
    pub(super) rejected: String,
}

#[derive(Deserialize)]
struct HhhBlock {
    subset: String,
    examples: Vec<HhhExample>,
}

#[derive(Deserialize)]
struct HhhExample {
    input: String,
    target_scores: Map<String, Value>,
}

#[derive(Deserialize)]
struct LlmbarRow {
    input: String,
    output_1: String,
    output_2: String,
    label: u8,
}

/// What a pair is worth by the better answer's score minus the other's: equal ones are half right.
pub(super) fn credit(margin: f64) -> f64 {
    if margin > 0.0 {
        1.0
    } else if margin < 0.0 {
        0.0
    } else {
        0.5
    }
}

fn wrong(input: &SuiteInput, why: impl std::fmt::Display) -> Error {
    Error::file(Path::new(input.file), why)
}

/// Whatever pairs the file holds.
///
/// # Errors
/// When it has none of the schemas.
pub(super) fn read_pairs(input: &SuiteInput) -> Result<Vec<RankedPair>, Error> {
    let text = input.text.trim_start();
    if text.is_empty() {
        return Err(wrong(input, "is empty: expected pairs of answers"));
    }
    if !text.starts_with('[') {
        return read_lines(input);
    }
    let rows: Vec<Value> = serde_json::from_str(text).map_err(|e| wrong(input, format!("is not JSON: {e}")))?;
    match rows.first() {
        None => Err(wrong(input, "is an empty list: expected pairs of answers")),
        Some(first) if first.get("subset").is_some() || first.get("examples").is_some() => read_hhh(input),
        Some(_) => read_llmbar(input),
    }
}

/// The pairs of HHH.
///
/// # Errors
/// When the file has another schema, or a subset is missing.
pub(super) fn read_hhh(input: &SuiteInput) -> Result<Vec<RankedPair>, Error> {
    if input.text.trim().is_empty() {
        return Err(wrong(input, "is empty: expected the four subsets of HHH"));
    }
    // The message ends with the line and the column.
    let blocks: Vec<HhhBlock> = serde_json::from_str(input.text)
        .map_err(|e| wrong(input, format!("is not HHH, a list of subsets with examples: {e}")))?;
    let mut out = Vec::new();
    for block in &blocks {
        let Some(subset) = HHH_SUBSETS.into_iter().find(|name| *name == block.subset) else {
            let quoted = Value::from(block.subset.as_str()).to_string();
            let line = input.text.lines().position(|line| line.contains(&quoted)).map_or(1, |at| at + 1);
            let names = HHH_SUBSETS.join(", ");
            return Err(wrong(input, format!("line {line} names the subset {quoted}: expected one of {names}")));
        };
        for (at, example) in block.examples.iter().enumerate() {
            let name = format!("{subset}-{}", at + 1);
            let with = |score: f64| {
                let found = example.target_scores.iter().find(|(_, value)| value.as_f64() == Some(score));
                found.map(|(text, _)| text.clone()).filter(|text| !text.trim().is_empty())
            };
            let (Some(chosen), Some(rejected), 2) = (with(1.0), with(0.0), example.target_scores.len()) else {
                let line = line_of(input.text, &example.input);
                return Err(wrong(
                    input,
                    format!(
                        "line {line} ({name}) has `target_scores` without one answer of score 1 and one of score 0: expected two \
                         answers"
                    ),
                ));
            };
            let prompt = conversation(&example.input);
            out.push(RankedPair { name, subset: Some(subset), prompt, chosen, rejected });
        }
    }
    if let Some(missing) = HHH_SUBSETS.into_iter().find(|name| !out.iter().any(|pair| pair.subset == Some(*name))) {
        let names = HHH_SUBSETS.join(", ");
        return Err(wrong(input, format!("has no example in the subset `{missing}`: expected {names}")));
    }
    Ok(out)
}

/// The line of a JSON file that holds that string; the first if none does.
fn line_of(text: &str, value: &str) -> usize {
    let quoted = Value::from(value).to_string();
    text.lines().position(|line| line.contains(&quoted)).map_or(1, |at| at + 1)
}

/// HHH's way to write a conversation.
fn conversation(text: &str) -> PromptBody {
    let mut turns = Vec::new();
    let (mut role, mut rest) = ("user", text);
    loop {
        let next = [("user", "\n\nHuman:"), ("assistant", "\n\nAssistant:")]
            .into_iter()
            .filter_map(|(role, mark)| Some((rest.find(mark)?, role, mark)))
            .min();
        let end = next.map_or(rest.len(), |(at, ..)| at);
        turns.push(Message::new(role, rest[..end].trim()));
        let Some((at, then, mark)) = next else { return PromptBody::Chat(turns.into()) };
        (role, rest) = (then, &rest[at + mark.len()..]);
    }
}

fn read_llmbar(input: &SuiteInput) -> Result<Vec<RankedPair>, Error> {
    let rows: Vec<LlmbarRow> = serde_json::from_str(input.text).map_err(|e| {
        wrong(input, format!("is neither HHH nor LLMBar, a list of input, output_1, output_2 and label: {e}"))
    })?;
    let mut out = Vec::new();
    for (at, row) in rows.into_iter().enumerate() {
        let (chosen, rejected) = match row.label {
            1 => (row.output_1, row.output_2),
            2 => (row.output_2, row.output_1),
            label => {
                let line = line_of(input.text, &row.input);
                return Err(wrong(
                    input,
                    format!("line {line} (row {}) has the `label` {label}: expected 1 or 2", at + 1),
                ));
            }
        };
        if chosen.trim().is_empty() || rejected.trim().is_empty() {
            let line = line_of(input.text, &row.input);
            return Err(wrong(input, format!("line {line} (row {}) has an empty `output_1` or `output_2`", at + 1)));
        }
        let prompt = PromptBody::user(row.input);
        out.push(RankedPair { name: format!("pair-{}", at + 1), subset: None, prompt, chosen, rejected });
    }
    Ok(out)
}

/// One judged pair a line.
fn read_lines(input: &SuiteInput) -> Result<Vec<RankedPair>, Error> {
    let mut out = Vec::new();
    for (at, line) in input.text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let number = at + 1;
        let row: Map<String, Value> = serde_json::from_str(line)
            .map_err(|e| wrong(input, format!("line {number} is not a JSON object of a pair: {e}")))?;
        let at_field = |field: &str, why: &str| wrong(input, format!("line {number} has {why} `{field}`"));
        let field = |name: &str| row.get(name).ok_or_else(|| at_field(name, "no"));
        let prompt = match field("prompt")? {
            Value::String(text) if !text.trim().is_empty() => PromptBody::Text(text.clone()),
            Value::Array(turns) if !turns.is_empty() => PromptBody::Chat(
                messages(turns).ok_or_else(|| at_field("prompt", "turns without role and content in"))?.into(),
            ),
            _ => return Err(at_field("prompt", "neither text nor messages in")),
        };
        let answer = |name: &str| -> Result<String, Error> {
            let text = match field(name)? {
                Value::String(text) => Some(text.clone()),
                Value::Array(turns) => match messages(turns).as_deref() {
                    Some([turn]) if turn.role == "assistant" => Some(turn.content.clone()),
                    _ => None,
                },
                _ => None,
            };
            let text = text.ok_or_else(|| at_field(name, "neither a text nor one message of the assistant in"))?;
            if text.trim().is_empty() { Err(at_field(name, "an empty")) } else { Ok(text) }
        };
        let (chosen, rejected) = (answer("chosen")?, answer("rejected")?);
        out.push(RankedPair { name: format!("pair-{number}"), subset: None, prompt, chosen, rejected });
    }
    Ok(out)
}

fn messages(turns: &[Value]) -> Option<Vec<Message>> {
    turns.iter().map(|turn| serde_json::from_value(turn.clone()).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Result<Vec<RankedPair>, String> {
        read_pairs(&SuiteInput { text, file: "p.json" }).map_err(|e| e.to_string())
    }

    const HHH: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/scores/hhh.json"));

    #[test]
    fn hhh_is_read_with_its_conversations() {
        let found = pairs(HHH).unwrap();
        assert_eq!(
            found.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(),
            ["helpful-1", "helpful-2", "harmless-1", "honest-1", "other-1"]
        );
        let turn = |role: &str, content: &str| Message::new(role, content);
        let talk = [
            turn("user", "What is a list?"),
            turn("assistant", "A list keeps its order."),
            turn("user", "And a tuple?"),
        ];
        assert_eq!(found[1].prompt, PromptBody::Chat(talk.to_vec().into()));
        assert_eq!((found[1].chosen.as_str(), found[1].rejected.as_str()), ("A tuple cannot be changed.", "No idea."));
    }

    #[test]
    fn a_broken_hhh_file_is_named_by_line_and_field() {
        let without = HHH.replacen("\"subset\": \"honest\", ", "", 1);
        let why = read_hhh(&SuiteInput { text: &without, file: "p.json" }).unwrap_err().to_string();
        assert!(why.contains("missing field `subset` at line 11"), "{why}");
        let why = pairs(&HHH.replace("\"honest\"", "\"hones\"")).unwrap_err();
        assert!(why.contains("line 9 names the subset \"hones\": expected one of helpful, harmless"), "{why}");
        let why = pairs(&HHH.replace("here.\": 1", "here.\": 0")).unwrap_err();
        assert!(why.contains("line 10 (honest-1) has `target_scores` without one answer of score 1"), "{why}");
        let three = HHH.lines().filter(|line| !line.contains("other") && !line.contains("Sea.")).collect::<Vec<_>>();
        let three = three.join("\n").replace("]},\n]}\n]", "]}\n]");
        let why = pairs(&three).unwrap_err();
        assert!(why.contains("has no example in the subset `other`"), "{why}");
        assert!(read_hhh(&SuiteInput { text: "", file: "p.json" }).unwrap_err().to_string().contains("is empty"));
    }

    #[test]
    fn llmbar_and_judged_pairs_are_read_too() {
        let llmbar = r#"[{"input": "Q?", "output_1": "one", "output_2": "two", "label": 2}]"#;
        let found = pairs(llmbar).unwrap();
        assert_eq!((found[0].chosen.as_str(), &found[0].prompt), ("two", &PromptBody::user("Q?")));
        assert!(pairs(&llmbar.replace("2}", "3}")).unwrap_err().contains("line 1 (row 1) has the `label` 3"));
        assert!(pairs(&llmbar.replace("label", "best")).unwrap_err().contains("missing field `label` at line 1"));
        let lines = concat!(
            "{\"prompt\": \"Once\", \"chosen\": \" upon\", \"rejected\": \" more\"}\n\n",
            "{\"prompt\": [{\"role\": \"user\", \"content\": \"Q?\"}], \"chosen\": [{\"role\": \"assistant\", ",
            "\"content\": \"A\"}], \"rejected\": \"B\"}\n"
        );
        let found = pairs(lines).unwrap();
        assert_eq!(found[0].prompt, PromptBody::Text("Once".into()));
        assert_eq!((found[1].name.as_str(), found[1].chosen.as_str()), ("pair-3", "A"));
        assert!(pairs(&lines.replace("\"B\"", "\"\"")).unwrap_err().contains("line 3 has an empty `rejected`"));
        assert!(pairs(&lines.replace("rejected", "other")).unwrap_err().contains("line 1 has no `rejected`"));
        assert!(pairs("[]").unwrap_err().contains("is an empty list"));
        assert!(pairs(" \n").unwrap_err().contains("is empty"));
    }
}
