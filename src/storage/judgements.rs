//! The columns in which files hold a judgement: which answer is better, or what an answer is worth.
//!
//! Owns their names, in one table for all readers, and what each of them rules out. Refuses to know what a judgement says: the
//! format does.

/// Rows that have the column are more than prompts.
const MORE: u8 = 1;

/// A row is not taken where the column was not read.
const NEEDED: u8 = 2;

/// Two answers beside the column are judged already.
const DECIDES: u8 = 4;

/// The columns, with what each of them rules out.
const COLUMNS: [(&str, u8); 36] = [
    ("label", NEEDED | DECIDES),
    ("kto_tag", NEEDED),
    ("weight", NEEDED),
    ("train", NEEDED),
    ("winner", MORE | NEEDED | DECIDES),
    ("preference", MORE | NEEDED | DECIDES),
    ("preferred", MORE | DECIDES),
    ("preferred_output", MORE),
    ("preferred_response", MORE),
    ("choice", DECIDES),
    ("vote", DECIDES),
    ("votes", MORE | DECIDES),
    ("verdict", DECIDES),
    ("better", DECIDES),
    ("better_response_id", MORE | NEEDED | DECIDES),
    ("safer_response_id", MORE | NEEDED | DECIDES),
    ("chosen", MORE | NEEDED | DECIDES),
    ("rejected", MORE | NEEDED | DECIDES),
    ("rejected_response", MORE | NEEDED),
    ("rejected_messages", NEEDED),
    ("overall_preference", MORE | NEEDED | DECIDES),
    ("preference_strength", MORE | DECIDES),
    ("annotator1", DECIDES),
    ("accept", MORE | NEEDED),
    ("responses", MORE),
    ("score", DECIDES),
    ("scores", DECIDES),
    ("overall_score", DECIDES),
    ("rating", DECIDES),
    ("ratings", DECIDES),
    ("reward", DECIDES),
    ("rewards", DECIDES),
    ("rank", MORE | NEEDED | DECIDES),
    ("ranking", MORE),
    ("rankings", MORE),
    ("options", NEEDED),
];

fn rules_out(name: &str, what: u8) -> bool {
    COLUMNS.iter().any(|(column, rules_out)| *column == name && rules_out & what != 0)
}

/// Whether rows that have the column are more than prompts, whatever their form.
pub(super) fn is_more_than_a_prompt(name: &str) -> bool {
    rules_out(name, MORE)
}

/// Whether a row is not to be taken where this column was not read.
pub(super) fn is_needed(name: &str) -> bool {
    rules_out(name, NEEDED)
}

/// Whether two answers beside the column are judged already.
pub(super) fn decides(name: &str) -> bool {
    rules_out(name, DECIDES)
}
