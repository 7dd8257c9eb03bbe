//! What of a row was not read: counted by column, or the reason to refuse the row.
//!
//! Owns which columns mean something to every reader: a row that has one of them is not taken without it. Refuses to guess that
//! such a column does not matter.

use super::judgements::is_needed;
use super::meaning::repeats;
use super::record::Record;
use super::schema::{ImportedPair, ImportedPrompt, ImportedRating, ImportedVotes, Ranking};
use crate::domain::{PromptBody, SftBody, counted};
use std::collections::BTreeMap;

/// Columns of which a prompt is made.
const PROMPT_PARTS: [&str; 32] = [
    "prompt",
    "instruction",
    "input",
    "question",
    "query",
    "problem",
    "context",
    "article",
    "passage",
    "paragraph",
    "document",
    "story",
    "choices",
    "options",
    "trajectory",
    "messages",
    "conversations",
    "conversation",
    "user_input",
    "system",
    "system_prompt",
    "system_message",
    "history",
    "tools",
    "functions",
    "chat_template_kwargs",
    "documents",
    "images",
    "image",
    "videos",
    "audios",
    "audio",
];

/// Columns of which an answer is made.
const ANSWER_PARTS: [&str; 4] = ["reasoning", "reasoning_content", "thinking", "tool_calls"];

/// What a row says: its prompt, and everything.
pub(super) trait Says {
    /// Whether judgements matter: not to somebody who asks for prompts alone.
    const JUDGED: bool = true;

    /// The prompt's texts and all texts.
    fn says(&self) -> (String, String);
}

fn asked(prompt: &PromptBody) -> String {
    match prompt {
        PromptBody::Text(text) => text.clone(),
        PromptBody::Chat(talk) => talk.iter().map(|turn| turn.content.as_str()).collect::<Vec<_>>().join("\n"),
    }
}

fn with_answers(prompt: &PromptBody, answers: &[&str]) -> (String, String) {
    let headline = prompt.headline().to_owned();
    (headline, std::iter::once(asked(prompt).as_str()).chain(answers.iter().copied()).collect::<Vec<_>>().join("\n"))
}

impl Says for ImportedPrompt {
    const JUDGED: bool = false;

    fn says(&self) -> (String, String) {
        with_answers(&self.body, &[])
    }
}

impl Says for ImportedPair {
    fn says(&self) -> (String, String) {
        with_answers(&self.prompt, &[&self.chosen.text, &self.rejected.text])
    }
}

impl Says for ImportedVotes {
    fn says(&self) -> (String, String) {
        with_answers(&self.prompt, &[&self.a.0.text, &self.b.0.text])
    }
}

impl Says for ImportedRating {
    fn says(&self) -> (String, String) {
        with_answers(&self.prompt, &[&self.completion.text])
    }
}

impl Says for SftBody {
    fn says(&self) -> (String, String) {
        match self {
            Self::Completion { prompt, completion } => with_answers(prompt, &[completion]),
            Self::Messages(talk) => with_answers(&PromptBody::Chat(talk.clone()), &[]),
            Self::Text(text) => (text.clone(), text.clone()),
        }
    }
}

/// A record of several that belong together, as its reader says it.
impl Says for (String, String) {
    fn says(&self) -> (String, String) {
        self.clone()
    }
}

impl Says for Vec<SftBody> {
    fn says(&self) -> (String, String) {
        let all: Vec<(String, String)> = self.iter().map(Says::says).collect();
        (String::new(), all.into_iter().map(|(_, said)| said).collect::<Vec<_>>().join("\n"))
    }
}

impl Says for Vec<Ranking> {
    fn says(&self) -> (String, String) {
        let mut said = String::new();
        for ranking in self {
            said.push_str(&asked(&ranking.prompt));
            ranking.answers.iter().for_each(|one| said.push_str(&format!("\n{}\n", one.answer.text)));
        }
        (self.first().map_or_else(String::new, |ranking| ranking.prompt.headline().to_owned()), said)
    }
}

/// The columns that no row used, with the number of rows that had them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnusedColumns(pub BTreeMap<String, usize>);

impl UnusedColumns {
    /// Counts what a good row holds beyond what was read.
    ///
    /// # Errors
    /// When one of the columns means something: the row is not to be taken without it.
    pub(super) fn count<T: Says>(&mut self, record: &Record, row: &T, format: &str) -> Result<(), String> {
        let unread = record.unread();
        let mut said = None;
        let mut unused = Vec::new();
        for (name, value) in unread {
            let means = |parts: &[&str]| parts.contains(&name.as_str());
            if !(means(&PROMPT_PARTS) || T::JUDGED && (means(&ANSWER_PARTS) || is_needed(&name))) {
                unused.push(name);
                continue;
            }
            let (asked, all) = said.get_or_insert_with(|| row.says());
            let harmless = match name.as_str() {
                "weight" => value.as_f64() == Some(1.0),
                "train" => value.as_bool() == Some(true),
                "choices" | "options" => false,
                _ => repeats(value, asked, all),
            };
            if !harmless {
                return Err(refusal(&name, format));
            }
        }
        for name in unused {
            *self.0.entry(name).or_default() += 1;
        }
        Ok(())
    }

    /// `not used: source (12 rows), score_chosen (12 rows)`; none where every column was.
    #[must_use]
    pub fn sentence(&self) -> Option<String> {
        let columns: Vec<String> =
            self.0.iter().map(|(name, rows)| format!("{} ({})", shown(name), counted(*rows, "row"))).collect();
        (!columns.is_empty()).then(|| format!("not used: {}", columns.join(", ")))
    }
}

/// A column's name, safe to print: it comes from a file.
fn shown(name: &str) -> String {
    let name = crate::domain::sanitise(name).replace('\n', " ");
    if name.chars().count() > 60 { name.chars().take(59).chain(['…']).collect() } else { name }
}

fn refusal(name: &str, format: &str) -> String {
    match name {
        "images" | "image" | "videos" | "audios" | "audio" => {
            format!("has `{name}`: pictures and sounds are not read, and the row is not taken without them")
        }
        "weight" => {
            "has a `weight` other than 1: rows are trained alike; remove the column, or leave out rows of weight 0"
                .into()
        }
        "label" | "kto_tag" => {
            format!("has a `{name}`, which {format} does not read: import ratings with --as ratings")
        }
        "thumbs_up" | "is_safe" | "is_correct" | "is_good" | "passed" | "correct" => format!(
            "has a `{name}`, which {format} does not read: call it `label` and import ratings with --as ratings, or leave out the \
             rows where it is false and remove it"
        ),
        "article" | "passage" | "paragraph" | "document" | "story" => format!(
            "has a `{name}`, which {format} does not read: call it `context` if the question is about it, or remove it"
        ),
        _ => format!(
            "has a `{name}`, which {format} does not read: remove the column, or name a format that reads it with --as"
        ),
    }
}
