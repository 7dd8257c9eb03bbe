//! What the measurements on the embedded model share: running the program's own commands, and reading their answers.
//!
//! Owns no measurement.

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use tiebreak::domain::{Completion, RunId};
use tiebreak::protocol::RunEvent;
use tiebreak::storage::SessionDir;

/// Runs a command of the program to its end; returns its standard output.
pub fn tiebreak(home: &Path, args: &[&str]) -> String {
    let said = Command::new(env!("CARGO_BIN_EXE_tiebreak")).args(args).env("TIEBREAK_HOME", home).output().unwrap();
    assert!(said.status.success(), "tiebreak {}: {}", args.join(" "), String::from_utf8_lossy(&said.stderr));
    String::from_utf8(said.stdout).unwrap()
}

/// Writes lines to a file and returns its path.
pub fn write_lines(home: &Path, name: &str, lines: impl IntoIterator<Item = String>) -> String {
    let path = home.join(name);
    fs::write(&path, lines.into_iter().map(|line| line + "\n").collect::<String>()).unwrap();
    path.display().to_string()
}

/// The answers of a sampling run, by prompt text.
pub fn answers(dir: &SessionDir, run: &str) -> BTreeMap<String, Vec<Completion>> {
    let (session, _) = dir.state().unwrap();
    let mut out: BTreeMap<String, Vec<Completion>> = BTreeMap::new();
    for event in dir.run(&RunId::new(run)).unwrap().tail().poll().unwrap() {
        if let Ok(RunEvent::Completed(completion)) = event.data {
            let prompt = session.prompt(&completion.prompt).unwrap().body.headline().to_owned();
            out.entry(prompt).or_default().push(completion.as_ref().clone());
        }
    }
    out
}

/// Whether an argument was given to the measurement.
pub fn given(name: &str) -> bool {
    std::env::args().any(|arg| arg == name)
}

/// The comma-separated words after an argument; none when it was not given.
pub fn words_after(name: &str) -> Option<Vec<String>> {
    let args: Vec<String> = std::env::args().collect();
    let at = args.iter().position(|arg| arg == name)?;
    Some(args[at + 1].split(',').map(str::to_owned).collect())
}

/// A number of a report.
pub fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}
