//! The one integration binary: each further one would link candle again.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs,
    reason = "tests may fail loudly"
)]

mod adapters;
mod agreement;
mod architecture;
mod blind_pass;
mod bundled;
mod cases;
#[path = "../fuzz/chance.rs"]
mod chance;
mod cli;
mod collection;
mod copies;
mod damage;
#[path = "../fuzz/entries.rs"]
mod entries;
mod eval_judges;
mod evaluate_screen;
mod faults;
mod forms;
mod fuzz;
mod gguf;
mod growing;
mod hints;
mod hostile;
mod hub;
mod ifeval;
mod inputs;
mod judge;
mod keys;
mod long;
mod loop_screen;
mod methods;
mod models;
mod not_finite;
mod older_checkpoint;
mod oom;
mod pictures;
mod places;
mod prose;
mod pty;
mod public_templates;
mod reading;
mod redirects;
mod round;
mod rounds;
mod rubric;
mod scores;
mod screens_core;
mod screens_label;
mod screens_runs;
mod servers;
mod simultaneous;
mod storage;
mod support;
mod template_variables;
mod terminal;
mod terminal_edges;
mod tiny;
mod trainer;
mod trl;
mod unread_parts;
mod votes;
mod workbench;
mod worker;
