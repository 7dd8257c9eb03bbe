//! Whether a model got better: suites of prompts, and who judges their answers.
//!
//! Owns scoring of texts. Refuses to run models, and statistics, which `domain` has.

mod degeneration;
mod final_number;
mod ifeval;
mod refusal;

pub use degeneration::{Degeneration, REPEATED, degeneration, distinct_share, repeated_share};
pub use final_number::{final_number, same_number};
pub use ifeval::{
    IfevalCheck, IfevalCount, IfevalError, IfevalInstruction, IfevalItem, IfevalKind, IfevalProblem, IfevalScore,
    IfevalTotals, ifeval_checks,
};
pub use refusal::{Compliance, compliance, refuses_by_string_rule};
