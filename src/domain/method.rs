//! The method table: one row a training method. The launch form, the command line, the docs and the replay read it; adding
//! a method is a file beside `dpo.rs`, its name in [`METHODS`], and a recipe file in the engine.

mod contradiction;
mod cpo;
mod dpo;
mod grpo;
mod kto;
mod orpo;
mod ppo;
mod reward;
mod rloo;
mod sft;
mod simpo;
mod table;

pub use contradiction::contradiction;
pub use table::{Method, Needs};

/// The methods, in the order the form shows them.
#[must_use]
pub fn methods() -> &'static [Method] {
    METHODS
}

/// The method of that name.
#[must_use]
pub fn method(name: &str) -> Option<&'static Method> {
    METHODS.iter().find(|m| m.name == name)
}

/// The table, in the order the form shows it.
const METHODS: &[Method] = &[
    dpo::METHOD,
    orpo::METHOD,
    sft::METHOD,
    reward::METHOD,
    ppo::METHOD,
    grpo::METHOD,
    rloo::METHOD,
    cpo::METHOD,
    simpo::METHOD,
    kto::METHOD,
];
