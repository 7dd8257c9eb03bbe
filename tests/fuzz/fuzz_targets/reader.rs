//! One reader of the program under libFuzzer: the one that TIEBREAK_FUZZ_ENTRY names.
//!
//! One binary for all readers: each would link the whole program again. `seeds` as the name of a reader's folder is left to
//! `TIEBREAK_FUZZ_SEEDS`: the folder into which the inputs to begin with are written.

#![no_main]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    missing_docs,
    reason = "a test"
)]

use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;

#[path = "../entries.rs"]
mod entries;

static ENTRY: OnceLock<&'static entries::Entry> = OnceLock::new();

fn begin() {
    // A panic of a library that the program contains must not end the process; libFuzzer's hook would.
    let _ = std::panic::take_hook();
    std::panic::set_hook(Box::new(|panic| {
        if !tiebreak::foreign::panics_are_contained() {
            eprintln!("{panic}");
        }
    }));
    let name = std::env::var("TIEBREAK_FUZZ_ENTRY").unwrap_or_default();
    let names: Vec<_> = entries::ENTRIES.iter().map(|entry| entry.name).collect();
    let entry = entries::ENTRIES
        .iter()
        .find(|entry| entry.name == name)
        .unwrap_or_else(|| panic!("set TIEBREAK_FUZZ_ENTRY to one of {}", names.join(", ")));
    if let Some(folder) = std::env::var_os("TIEBREAK_FUZZ_SEEDS") {
        std::fs::create_dir_all(&folder).unwrap();
        for (at, seed) in (entry.seeds)().iter().enumerate() {
            std::fs::write(std::path::Path::new(&folder).join(format!("seed-{at:03}")), seed).unwrap();
        }
    }
    let _ = ENTRY.set(entry);
}

fuzz_target!(init: begin(), |bytes: &[u8]| (ENTRY.get().unwrap().run)(bytes));
