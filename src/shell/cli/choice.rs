//! Arguments that say which pairs, rows and criteria are meant.

use super::values;
use crate::domain::{CRITERIA, Filter, QueueOrder, RowChoice, Rubric, filter_words};
use clap::Args;

/// Which of a session's rows.
#[derive(Debug, Clone, Args, Default)]
pub struct ChoiceArgs {
    /// Only the rows that match, such as "tag:code -verdict:tie gap:<0.5".
    #[arg(long, value_name = "FILTER", allow_hyphen_values = true, value_parser = values::filter, long_help = filter_help())]
    pub filter: Option<Filter>,
    /// The criterion by which pairs were judged, or a mix such as helpful=0.7,harmless=0.3.
    #[arg(long, value_name = "NAME[=W],…", value_parser = values::rubric, long_help = rubric_help())]
    pub rubric: Option<Rubric>,
}

impl ChoiceArgs {
    /// The choice.
    #[must_use]
    pub fn choice(&self) -> RowChoice {
        let filter = self.filter.clone().filter(|filter| !filter.is_empty());
        RowChoice { filter, rubric: self.rubric.clone().unwrap_or_default() }
    }
}

/// `rubric`.
#[derive(Debug, Args)]
pub struct RubricArgs {
    /// The session.
    pub session: String,
    /// A criterion to add: a known name, or a name and the question that raters answer; may be repeated.
    #[arg(long, value_name = "NAME[:SENTENCE]", help = add_help())]
    pub add: Vec<String>,
    /// A criterion to remove; its verdicts stay in the log. May be repeated.
    #[arg(long, value_name = "NAME")]
    pub remove: Vec<String>,
}

/// `tag`.
#[derive(Debug, Args)]
pub struct TagArgs {
    /// The session.
    pub session: String,
    /// The prompts that match; give it before the tags.
    #[arg(long, value_name = "FILTER", value_parser = values::filter, long_help = filter_help())]
    pub filter: Option<Filter>,
    /// Who tags (default: the user's name).
    #[arg(long, value_name = "NAME")]
    pub rater: Option<String>,
    /// A prompt's id (unless a filter is given), then +TAG to set a tag and -TAG to take it off.
    #[arg(value_name = "[PROMPT] +TAG -TAG", required = true, num_args = 1.., allow_hyphen_values = true)]
    pub changes: Vec<String>,
}

/// The orders with what they are.
pub fn order_help() -> String {
    let each = QueueOrder::ALL.iter().map(|(name, _, help)| format!("{name}: {help}"));
    format!("Which pairs come, in which order: {}", each.collect::<Vec<_>>().join("; "))
}

/// The language of filters.
pub fn filter_help() -> String {
    format!(
        "Only what matches: terms with blanks between them must all hold, - before one means not, a comma means or, as in \
         \"tag:code,math -verdict:tie gap:<0.5 text:'two words'\". Terms: {}",
        filter_words()
    )
}

fn rubric_help() -> String {
    "The criterion by which pairs were judged (default: overall), or a mix such as helpful=0.7,harmless=0.3: the sign of the \
     weighted mean of the signed strengths decides, its size is the margin. A pair needs a verdict by each criterion of a \
     mix. Shares of votes are not mixed: a mix gives no soft labels"
        .into()
}

fn add_help() -> String {
    let names: Vec<&str> = CRITERIA.iter().map(|(name, _)| *name).collect();
    format!(
        "A criterion to add: {}, or NAME: SENTENCE with the question that raters answer; may be repeated",
        names.join(", ")
    )
}
