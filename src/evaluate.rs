//! Evaluation: is a model better than another?
//!
//! Owns the suites and the judges (one file each), the drawing and reuse of answers, and the order of the work. Refuses
//! statistics, which `domain` computes from what was logged, and the layout of session folders.
//!
//! **Invariants.** An answer depends on the model, the prompt and the sampling alone, so that it can be reused and a killed
//! evaluation gives the same numbers. Thoughts are removed before anything is scored; an unclosed thought is an empty answer.

mod alarm;
mod asked;
mod evaluation;
mod given_text;
mod item;
mod judge;
mod judging;
mod player;
mod ranked;
mod scoring;
mod suite;

pub use evaluation::{EvalInputs, Evaluation};
pub use item::{Answered, ChoiceScore, Given, Item, ItemRequest, ReadItems, TextScore};
pub use judge::{Bout, JudgeInputs, JudgeKind, JudgingRun, Referee, Ruling, judge_kinds};
pub use suite::{Suite, SuiteInput, suites};
