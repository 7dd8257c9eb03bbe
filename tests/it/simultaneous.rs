//! Two processes that launch a run of one session at the same moment: each gets a name of its own.

use crate::cli::{json, text, with_pairs};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use tiebreak::protocol::Task;
use tiebreak::storage::{Home, SessionDir};

/// Starts all commands, then waits for each: whether it succeeded, and what it printed.
fn together(home: &Path, commands: &[&[&str]]) -> Vec<(bool, String)> {
    let start = |args: &&[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tiebreak"));
        command.args(*args).env("TIEBREAK_HOME", home).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let started: Vec<_> = commands.iter().map(start).collect();
    let ended = started.into_iter().map(|child| child.wait_with_output().unwrap());
    ended.map(|out| (out.status.success(), text(&out.stdout) + &text(&out.stderr))).collect()
}

#[test]
fn runs_launched_at_once_have_their_own_names_and_seeds() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    with_pairs(home);
    let dir = SessionDir::find(&Home::resolve(Some(home)).unwrap(), "tone").unwrap();
    let sample: &[&str] = &["sample", "tone", "--per-prompt", "1", "--max-new-tokens", "1", "--detach"];
    let train: &[&str] = &["train", "tone", "dpo", "--set", "max_steps=1", "--set", "eval_fraction=0", "--detach"];
    let model = json(home, &["models", "--json"]);
    let model = model["name"].as_str().unwrap_or("tiny").to_owned();
    let eval: &[&str] =
        &["eval", "tone", "--a", &model, "--suite", "degenerate", "--limit", "1", "--max-new-tokens", "1", "--detach"];
    let mut launched = 0;
    for round in 0..20 {
        let command = [sample, train, sample, eval][round % 4];
        for (succeeded, said) in together(home, &[command, command]) {
            assert!(succeeded, "{command:?} in round {round}: {said}");
            launched += 1;
        }
    }
    // Of two at once, one may leave its record to the next process that writes.
    assert!(together(home, &[sample])[0].0);
    launched += 1;
    let runs = dir.runs().unwrap();
    let names: BTreeSet<String> = runs.iter().map(|run| run.id().into_string()).collect();
    assert_eq!((runs.len(), names.len()), (launched, launched), "{names:?}");
    let mut seeds = BTreeSet::new();
    for run in &runs {
        let spec = run.spec().unwrap();
        assert_eq!(spec.id, run.id(), "the specification has the name of its folder");
        if let Task::Sample(sample) = spec.task {
            assert!(seeds.insert(sample.sampler.seed), "two sampling runs have the seed {}", sample.sampler.seed);
        }
    }
    let (session, found) = dir.state().unwrap();
    assert!(found.is_intact(), "{}", found.sentence());
    assert_eq!(session.runs().len(), launched, "every launch is recorded");
}

#[test]
fn of_two_runs_with_one_chosen_name_the_second_is_refused_in_a_sentence() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    with_pairs(home);
    let set = ["--set", "max_steps=1", "--set", "eval_fraction=0", "--name", "mine", "--detach"];
    let train = &[&["train", "tone", "dpo"], &set[..]].concat()[..];
    let ended = together(home, &[train, train]);
    let refused: Vec<&String> = ended.iter().filter(|(succeeded, _)| !succeeded).map(|(_, said)| said).collect();
    let [said] = refused[..] else { panic!("{ended:?}") };
    assert!(said.trim_end().ends_with("runs/mine already exists: choose another name"), "{said}");
}
