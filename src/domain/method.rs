//! The method table: one row a training method. The launch form, the command line, the docs and the replay read it.
//!
//! Owns the type of a row, the shared hyper-parameters, and the rules about contradictory options. Refuses mathematics. A
//! method declares its row in its recipe's file, beside its loss; [`crate::METHODS`] is the table.

mod contradiction;
mod row;
mod shared;

pub use row::{Condition, Dependency, Method, Needs};
pub use shared::{EngineKind, MixOrder, MixParams, ProbeParams, RolloutParams, SchedulerKind, TrainerParams, TuneKind};

pub(crate) use row::{CHECKS_WEIGHT_DEPENDENCY, nothing};
pub(crate) use shared::{
    ANSWERS_BATCH, ANSWERS_BEST, ANSWERS_EVAL, ANSWERS_RATE, EPSILON, EPSILON_HIGH, SOFT_LABELS, reward_formula,
};

/// The methods, in the order of the launch form.
#[must_use]
pub fn methods() -> &'static [Method] {
    crate::METHODS
}

/// The method of that name.
#[must_use]
pub fn method(name: &str) -> Option<&'static Method> {
    methods().iter().find(|m| m.name == name)
}
