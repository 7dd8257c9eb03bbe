//! Imports prompts: one per line as plain text, or JSON lines.
//!
//! A JSON record is a string, or has a prompt in one of the forms of `question`: `prompt`, `messages`, `instruction` with `input` …
//! Strings become conversations of one user turn; a conversation that an assistant ends is cut behind its last user turn, and the
//! answer there is counted. `tags`, `tag`, `category`, `task` and `topic` become the prompt's tags.

use super::super::answers::{has_two, tags_of};
use super::super::chat_json::{fits_as_json, is_blank, messages};
use super::super::judgements::{is_an_answer, is_more_than_a_prompt};
use super::super::meaning::{has_completion, has_prompt_column, prompt_column, question, truth};
use super::super::record::{Record, RowFields};
use super::super::schema::{Fit, Format, ImportedPrompt, Reader, Reads, Refusal};
use crate::domain::PromptBody;

/// The row of the table.
pub const FORMAT: Format = Format {
    name: "prompts",
    help: "Prompts, one a line, as plain text or JSON",
    reads: Some(Reads {
        plain_text: true,
        record: "a prompt, as text or as JSON with `prompt`, `messages` or `instruction`",
        // `messages` may be SFT texts or prompts to answer; only their owner knows.
        fit,
        row: Reader::Prompts(row),
    }),
    writes: None,
};

fn fit(record: &Record) -> Fit {
    let Some(row) = record.columns() else {
        return if record.as_text().is_some() { Fit::Possible } else { Fit::No };
    };
    let rated = ["label", "kto_tag"].iter().any(|name| row.peek(name).is_some_and(|label| truth(label).is_some()));
    let answers = row.names().filter(|name| is_an_answer(name) && row.holds(name)).count() > 1;
    let judged = answers || row.names().any(|name| is_more_than_a_prompt(name) && row.holds(name));
    let more = rated || judged || has_completion(&row) || has_two(&row);
    if has_prompt_column(&row) && !more { Fit::Possible } else { Fit::No }
}

/// Whether messages beside another column that holds the prompt end with an answer.
fn answered_beside(row: &RowFields<'_>) -> bool {
    let answered = |name: &str| {
        let turns = row.peek(name).and_then(|list| messages(name, list).ok());
        turns.is_some_and(|turns| turns.last().is_some_and(|turn| turn.role == "assistant"))
    };
    let mut others =
        ["messages", "conversations", "conversation"].into_iter().filter(|name| prompt_column(row) != Some(*name));
    others.any(answered)
}

fn row(record: &Record) -> Result<ImportedPrompt, Refusal> {
    let mut unread = Vec::new();
    let body = match (record.as_text(), record.columns()) {
        (Some(text), _) => PromptBody::user(text),
        (None, Some(row)) => {
            if prompt_column(&row).is_none() {
                let given = ["prompt", "messages", "instruction"].iter().any(|name| row.peek(name).is_some());
                let none = "has none of `prompt`, `messages` and `instruction`";
                return Err(if given { Refusal::Empty } else { none.into() });
            }
            let PromptBody::Chat(mut talk) = question(&row, false)? else { return Err("has no prompt".into()) };
            let last = talk.iter().rposition(|m| m.role == "user").ok_or("has no message of the role `user`")?;
            // A tool's result or a later instruction is to be answered too.
            if talk.last().is_some_and(|turn| turn.role == "assistant") {
                talk.turns.change(|turns| turns.truncate(last + 1));
                unread.push("answer behind the last question, which --as sft imitates");
            }
            if answered_beside(&row) {
                unread.push("answer behind the last question, which --as sft imitates");
            }
            PromptBody::Chat(talk)
        }
        (None, None) => return Err("is neither text nor a JSON object".into()),
    };
    if is_blank(&body) {
        return Err(Refusal::Empty);
    }
    fits_as_json("prompt", &body)?;
    let tags = record.columns().map_or(Ok(Vec::new()), |row| tags_of(&row))?;
    Ok(ImportedPrompt { body, tags, unread })
}
