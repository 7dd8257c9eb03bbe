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
const COLUMNS: [(&str, u8); 59] = [
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
    ("labels", MORE | DECIDES),
    ("targets", MORE),
    ("target_scores", MORE),
    ("win", MORE | DECIDES),
    ("lose", MORE | DECIDES),
    ("pos", MORE | DECIDES),
    ("neg", MORE | DECIDES),
    ("positive", MORE | DECIDES),
    ("negative", MORE | DECIDES),
    ("best", MORE | DECIDES),
    ("worst", MORE | DECIDES),
    ("selected", MORE | DECIDES),
    ("judgement", MORE | DECIDES),
    ("judgment", MORE | DECIDES),
    ("thumbs_up", MORE | NEEDED | DECIDES),
    ("is_safe", MORE | NEEDED | DECIDES),
    ("is_correct", MORE | NEEDED | DECIDES),
    ("is_good", MORE | NEEDED | DECIDES),
    ("passed", NEEDED | DECIDES),
    ("correct", NEEDED | DECIDES),
    ("correctness", DECIDES),
    ("pm_score", DECIDES),
    ("likert", DECIDES),
    ("upvotes", DECIDES),
];

/// A column with one of these words in its name holds a preference label: `human_preference`, `response_chosen`.
const WORDS: [&str; 13] = [
    "chosen",
    "rejected",
    "preferred",
    "dispreferred",
    "nonpreferred",
    "preference",
    "preferences",
    "better",
    "worse",
    "winner",
    "winning",
    "losing",
    "accepted",
];

fn rules_out(name: &str, what: u8) -> bool {
    COLUMNS.iter().any(|(column, rules_out)| *column == name && rules_out & what != 0)
}

fn has_a_word(name: &str, among: &[&str]) -> bool {
    words(name).split(' ').any(|word| among.contains(&word))
}

/// A name in lower case, its words apart by one space.
pub(super) fn words(name: &str) -> String {
    let lower: String = name.to_lowercase().chars().map(|c| if c.is_alphanumeric() { c } else { ' ' }).collect();
    lower.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether a column is called an answer: `edited_response`, `response_j`, `answer`.
pub(super) fn is_an_answer(name: &str) -> bool {
    has_a_word(name, &["response", "answer", "completion", "output", "reply"])
}

/// Whether rows that have the column are more than prompts, whatever their form.
pub(super) fn is_more_than_a_prompt(name: &str) -> bool {
    rules_out(name, MORE) || has_a_word(name, &WORDS)
}

/// Whether a row is not to be taken where this column was not read.
pub(super) fn is_needed(name: &str) -> bool {
    rules_out(name, NEEDED)
}

/// Whether two answers beside the column are judged already.
pub(super) fn decides(name: &str) -> bool {
    rules_out(name, DECIDES) || has_a_word(name, &WORDS)
}
