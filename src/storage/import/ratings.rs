//! Answers with a thumb up or down, one JSON object a line with `prompt`, `completion` and `label`.

use super::super::error::Result;
use super::{Imported, Refusal, answer, examples, fits, lines};
use crate::domain::PromptBody;
use serde_json::Value;
use std::path::Path;

/// A rating as a file tells it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ImportedRating {
    /// What was asked.
    pub prompt: PromptBody,
    /// The answer.
    pub completion: String,
    /// Desirable (true) or undesirable.
    pub good: bool,
}

/// The ratings of a file, at most `limit`, in TRL's form for unpaired preferences: `prompt` and `completion` both texts or
/// both lists of messages, `label` true, false, 1 or 0.
///
/// # Errors
/// When the file cannot be read or holds no rating at all.
pub fn ratings(path: &Path, limit: Option<usize>) -> Result<Imported<ImportedRating>> {
    lines::some(path, limit, "ratings", "`prompt`, `completion` and `label`", from_json)
}

fn from_json(value: &Value) -> Result<ImportedRating, Refusal> {
    let field = |name: &str| value.get(name).filter(|v| !v.is_null());
    let missing = |name: &str| format!("has no `{name}`");
    let prompt = field("prompt").ok_or_else(|| missing("prompt"))?;
    let completion = field("completion").ok_or_else(|| missing("completion"))?;
    let good = match field("label").ok_or_else(|| missing("label"))? {
        Value::Bool(good) => *good,
        Value::Number(n) if n.as_i64() == Some(1) => true,
        Value::Number(n) if n.as_i64() == Some(0) => false,
        _ => return Err("has a `label` that is neither true nor false".into()),
    };
    let (prompt, completion) = answer("completion", prompt, completion)?;
    if examples::is_unasked(&prompt) || completion.trim().is_empty() {
        return Err(Refusal::Empty);
    }
    fits("prompt", &serde_json::to_string(&prompt).unwrap_or_default())?;
    fits("completion", &completion)?;
    Ok(ImportedRating { prompt, completion, good })
}
