//! Do rounds pay? One loop of three rounds against one of a single round with the same number of labels, on the embedded model:
//! `cargo bench --bench loop_rounds`.
//!
//! Owns the measurement, through the program's own commands, for each of five seeds with other prompts, samples and orders:
//!
//! 1. `tiebreak loop` on 300 prompts, a fifth of them held out, four answers to each at temperature 1. The judge is a stated rule,
//!    verifiable checks for kind and against rude words; random pairs, 198 labels in all, ties among them.
//! 2. Three rounds: 80 prompts, 66 labels and 17 steps of DPO each, from the model of the round before. One round: 240 prompts,
//!    198 labels and 51 steps. The settings of DPO are those of the manners measurement.
//! 3. The result answers 100 unseen prompts, four times each; the share of kind answers by the rule of the other measurements
//!    ([`is_kind`]) counts.
//!
//! Refuses to tune by the outcome. Intervals are Student's over the seeds; the difference is taken seed by seed. `-- --seeds 3`
//! shortens it, `-- --json` prints one object.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "a measurement may end and print")]

#[path = "support/program.rs"]
mod program;

use program::{answers, given, number, tiebreak, words_after, write_lines};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Instant;
use tiebreak::demo::{self, Split, is_kind};
use tiebreak::storage::{Home, SessionDir};

/// Prompts of a seed; a fifth is held out.
const PROMPTS: usize = 300;
/// Unseen prompts, and answers to each.
const JUDGING: usize = 100;
const JUDGED_ANSWERS: &str = "4";
/// The seeds of the prompts, samples and orders.
const SEEDS: u64 = 5;
/// Student's t at 97.5 % for so many degrees of freedom, from 1.
const STUDENT: [f64; 4] = [12.706, 4.303, 3.182, 2.776];
/// The rule.
const RULE: &str = "check:any_of=please,gladly,of course,happy to,glad,dear,pleasure,lovely,thank you,take care,my \
                    friend,welcome,i hope;none_of=fool,go away,stupid,bored,not my problem,bother,leave me alone,ugh,do not \
                    care,silly,lazy,waste,whatever,dull,nonsense";
/// A loop by its rounds, labels of a round and steps of a round.
const LOOPS: [(u32, &str, &str); 2] = [(1, "198", "max_steps=51"), (3, "66", "max_steps=17")];
/// Sampling as in the other measurements.
const SAMPLE: [&str; 6] = ["--temperature", "1", "--top-p", "1", "--max-new-tokens", "64"];
const DPO: [&str; 3] = ["learning_rate=3e-3", "per_device_train_batch_size=8", "eval_fraction=0"];

/// How many of a model's answers to the unseen prompts are kind, per hundred.
fn kind(home: &Path, name: &str, model: &str, judged: &str, seed: u64) -> f64 {
    tiebreak(home, &["new", name, "--model", model, "--prompts", judged]);
    let seed = seed.to_string();
    tiebreak(home, &[&["sample", name, "--per-prompt", JUDGED_ANSWERS, "--seed", &seed], SAMPLE.as_slice()].concat());
    let dir = SessionDir::find(&Home::resolve(Some(home)).unwrap(), name).unwrap();
    let all = answers(&dir, "sample-1");
    let kind = all.values().flatten().filter(|answer| is_kind(&answer.text)).count();
    100.0 * kind as f64 / (JUDGING * JUDGED_ANSWERS.parse::<usize>().unwrap()) as f64
}

/// One seed: the model as it is, then each loop.
fn measure(home: &Path, seed: u64) -> Value {
    let text = seed.to_string();
    let file = write_lines(home, &format!("prompts-{seed}.txt"), demo::prompts(seed, PROMPTS, Split::Train));
    let judged = demo::judging(JUDGING);
    assert!(judged.len() == JUDGING && judged.iter().all(|p| Split::of(p) == Split::HeldOut));
    let judged = write_lines(home, "judging.txt", judged);
    let before = kind(home, &format!("judged-{seed}"), "tiny", &judged, seed);
    let mut rows = Vec::new();
    for (rounds, labels, steps) in LOOPS {
        let began = Instant::now();
        let name = format!("rounds-{rounds}-{seed}");
        tiebreak(home, &["new", &name, "--model", "tiny", "--prompts", &file]);
        let count = rounds.to_string();
        let mut args = vec!["loop", &name, "--rounds", &count, "--judge", RULE, "--limit", labels, "--seed", &text];
        args.extend(["--all-rounds", "--eval-limit", "20", "--set", steps, "--json"]);
        args.extend(SAMPLE);
        let set: Vec<&str> = DPO.iter().flat_map(|pair| ["--set", *pair]).collect();
        let said = tiebreak(home, &[args, set].concat());
        let end: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
        let of_rounds = end["rounds"].as_array().unwrap().clone();
        let sum = |key: &str| of_rounds.iter().map(|round| round[key].as_u64().unwrap()).sum::<u64>();
        let (judged_pairs, ties) = (sum("judged"), sum("ties"));
        assert_eq!(judged_pairs, 198, "a round had too few pairs");
        let model = home.join(format!("model-{name}")).display().to_string();
        let result = format!("{name}/loop-1-r{rounds}-train");
        tiebreak(home, &["merge", &result, "--to", &model]);
        let kind = kind(home, &format!("judged-{name}"), &model, &judged, seed);
        eprintln!(
            "seed {seed}, {rounds} rounds: {kind} kind (before {before}), {ties} ties, {:.0} s",
            began.elapsed().as_secs_f64()
        );
        rows.push(json!({ "rounds": rounds, "labels": judged_pairs, "ties": ties, "kind": kind }));
    }
    json!({ "seed": seed, "kind_before": before, "loops": rows })
}

/// The mean and half of its 95 % interval over the seeds; no interval of one seed.
fn mean(values: &[f64]) -> (f64, Option<f64>) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let square = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let half = values.len().checked_sub(2).and_then(|df| STUDENT.get(df)).map(|t| t * (square / n).sqrt());
    (mean, half)
}

fn interval((mean, half): (f64, Option<f64>)) -> String {
    half.map_or_else(|| format!("{mean:.1}"), |half| format!("{mean:.1} ({:.1} to {:.1})", mean - half, mean + half))
}

fn main() {
    let began = Instant::now();
    let seeds = words_after("--seeds").map_or(SEEDS, |n| n[0].parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let runs: Vec<Value> = (1..=seeds).map(|seed| measure(folder.path(), seed)).collect();
    let seconds = began.elapsed().as_secs_f64();
    if given("--json") {
        println!("{}", json!({ "seeds": runs, "seconds": seconds }));
        return;
    }
    let over = |of: &dyn Fn(&Value) -> f64| mean(&runs.iter().map(of).collect::<Vec<_>>());
    let of = |run: &Value, at: usize, key: &str| number(&run["loops"][at][key]);
    println!("kind answers in 100, means over {seeds} seeds with 95 % intervals, {seconds:.0} s");
    println!("| loop | kind answers in 100 | difference from one round | labels that are ties |\n|---|---|---|---|");
    println!("| none: `tiny` as it is | {} | | |", interval(over(&|run| number(&run["kind_before"]))));
    for (at, (rounds, ..)) in LOOPS.iter().enumerate() {
        let kind = interval(over(&|run| of(run, at, "kind")));
        let gained =
            if at == 0 { String::new() } else { interval(over(&|run| of(run, at, "kind") - of(run, 0, "kind"))) };
        let ties = over(&|run| 100.0 * of(run, at, "ties") / of(run, at, "labels")).0;
        println!("| {rounds} × {} labels | {kind} | {gained} | {ties:.0} % |", 198 / rounds);
    }
}
