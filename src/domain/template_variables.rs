//! Variables of a chat template that a person sets: `enable_thinking` and others (`chat_template_kwargs`).
//!
//! Owns the syntax, the names that a template gets from elsewhere, and the names known well enough to be set alone. Refuses to know
//! what a template does with them.

use super::conversation::JsonFields;
use serde_json::Value;

/// Variables that a template gets from elsewhere.
pub const RESERVED_VARIABLES: [&str; 10] = [
    "messages",
    "tools",
    "documents",
    "add_generation_prompt",
    "continue_final_message",
    "tokenize",
    "bos_token",
    "eos_token",
    "pad_token",
    "unk_token",
];

/// Variables that published templates read: `--set NAME=VALUE` takes them by their own names.
pub const KNOWN_VARIABLES: [&str; 8] = [
    "enable_thinking",
    "thinking",
    "thinking_budget",
    "reasoning_effort",
    "preserve_thinking",
    "clear_thinking",
    "strip_thinking",
    "model_identity",
];

/// Variables from a JSON object as text; none from an empty text.
///
/// # Errors
/// When it is no JSON object, or sets what a template gets from elsewhere.
pub fn template_variables(text: &str) -> Result<JsonFields, String> {
    if text.trim().is_empty() {
        return Ok(JsonFields::new());
    }
    let object: JsonFields = serde_json::from_str(text)
        .map_err(|_| "expected a JSON object, such as {\"enable_thinking\": false}".to_owned())?;
    match RESERVED_VARIABLES.iter().find(|name| object.contains_key(**name)) {
        Some(name) => Err(format!("`{name}` is set by the conversation or the model")),
        None => Ok(object),
    }
}

/// A variable's value from text: JSON, else the text itself.
#[must_use]
pub fn variable_value(text: &str) -> Value {
    let text = text.trim();
    match text {
        // As Python writes them.
        "True" => true.into(),
        "False" => false.into(),
        _ => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn variables_are_a_json_object_without_reserved_names() {
        assert!(template_variables(" ").unwrap().is_empty());
        assert_eq!(template_variables("{\"enable_thinking\": false}").unwrap()["enable_thinking"], json!(false));
        for (text, says) in [("enable_thinking", "JSON object"), ("[1]", "JSON object"), ("{\"tools\": []}", "`tools`")]
        {
            let said = template_variables(text).unwrap_err();
            assert!(said.contains(says), "{said}");
        }
        for (text, value) in
            [("false", json!(false)), ("False", json!(false)), ("3", json!(3)), ("low", json!("low")), ("", json!(""))]
        {
            assert_eq!(variable_value(text), value);
        }
    }
}
