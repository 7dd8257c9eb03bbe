//! Loops: rounds of sampling, pairing, judging, training and evaluation as one plan of runs.
//!
//! Owns how a request becomes a plan, checked before anything runs (`planning`), and the process that carries it out (`driver`). A
//! step that takes long is a run like any other, launched under a name that follows from the plan; pairs and verdicts go to the
//! session's log through its inbox. So whatever dies, the next process finds what is done and goes on. Refuses to compute.

mod delivery;
mod driver;
mod follow;
mod judging;
mod planning;
mod steps;
mod words;

pub use driver::{LoopReporter, drive, progress};
pub use planning::{enter, find, plan};
pub use words::{LoopEnd, end_words, plan_words, round_words, standing};
