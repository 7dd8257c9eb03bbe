//! Evaluation: is a model better than another?
//!
//! Owns the suites and the judges (one file each), the drawing and reuse of answers, and the order of the work. Refuses
//! statistics, which `domain` computes from what was logged, and the layout of session folders.
//!
//! **Invariants.** An answer depends on the model, the prompt and the sampling alone, so that it can be reused and a killed
//! evaluation gives the same numbers. Thoughts are removed before anything is scored; an unclosed thought is an empty answer.

mod alarm;
mod asked;
mod degeneration;
mod evaluation;
mod final_number;
mod given_text;
mod ifeval;
mod item;
mod judge;
mod judging;
mod lines;
mod player;
mod ranked;
mod refusal;
mod scored;
mod scoring;
mod suite;
mod training;

pub use degeneration::{Degeneration, REPEATED, degeneration, distinct_share, repeated_share};
pub use evaluation::{EvalInputs, Evaluation};
pub use final_number::{final_number, same_number};
pub use ifeval::{
    IfevalCheck, IfevalCount, IfevalError, IfevalInstruction, IfevalItem, IfevalKind, IfevalProblem, IfevalScore,
    IfevalTotals, ifeval_checks,
};
pub use item::{Answered, ChoiceScore, Given, Item, ItemRequest, ReadItems, TextScore};
pub use judge::{Bout, GateSetInput, JudgeInputs, JudgeKind, JudgingRun, Referee, Ruling, judge_kinds};
pub use refusal::{Compliance, compliance, refuses_by_string_rule};
pub use suite::{Suite, SuiteInput, suites};
pub use training::TrainingSuites;
