//! Five methods that make the bundled model kinder, each from the base model, evaluated on prompts that nothing was tuned on:
//! `cargo bench --bench manners`.
//!
//! Owns the measurement, through the program's own commands: sample answers to 200 prompts, rank them (kind over rude:
//! [`manner_of`]) into 200 pairs, train five methods and a reward model on them, and evaluate each result on 100 held-out
//! prompts. Refuses to tune: the settings below were tuned on the prompts of `-- --tuning`, which are disjoint from the
//! evaluation prompts.
//!
//! `-- --tuning` evaluates on the tuning prompts, `-- --only dpo,ppo` runs some methods, `-- --json` prints one object.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement that fails may say so by ending")]

#[path = "support/program.rs"]
mod program;

use program::{answers, given, number, tiebreak, words_after, write_lines};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Instant;
use tiebreak::demo::{self, Manner, Split, is_kind, manner_of};
use tiebreak::domain::{Completion, CompletionId, wilson};
use tiebreak::storage::{Home, SessionDir};

/// Seed of the prompts for the pairs.
const SEED: u64 = 42;
/// Number of evaluation prompts.
const JUDGING: usize = 100;
/// Number of training pairs.
const PAIRS: usize = 200;

/// A run: its method and its non-default settings.
type MethodRun = (&'static str, &'static [&'static str]);

/// The runs; the reward model comes before the methods that use it.
const RUNS: &[MethodRun] = &[
    ("dpo", &["learning_rate=3e-3", "num_train_epochs=2", "per_device_train_batch_size=8", "eval_fraction=0"]),
    (
        "orpo",
        &[
            "learning_rate=3e-3",
            "num_train_epochs=4",
            "per_device_train_batch_size=8",
            "beta=2",
            "orpo_nll=completion_token_mean",
            "eval_fraction=0",
        ],
    ),
    ("sft", &["learning_rate=3e-3", "eval_fraction=0"]),
    ("reward", &["learning_rate=2e-3", "num_train_epochs=3", "per_device_train_batch_size=8"]),
    ("ppo", &["reward_model=reward-1", "learning_rate=2e-3", "per_device_train_batch_size=32"]),
    (
        "grpo",
        &[
            "reward_model=reward-1",
            "learning_rate=3e-3",
            "num_generations=4",
            "num_iterations=4",
            "per_device_train_batch_size=32",
        ],
    ),
];

/// Pairs of a kind and a rude answer to one prompt.
fn pairs(answers: &[Completion]) -> Vec<(&Completion, &Completion)> {
    let of = |manner| answers.iter().filter(move |a| manner_of(&a.text) == Some(manner));
    of(Manner::Kind).zip(of(Manner::Rude)).collect()
}

/// A percentage of `n` with its 95 % interval (Wilson).
fn share(hits: usize, n: usize) -> Value {
    let (low, high) = wilson(hits as f64, n as f64, 1.96);
    json!({ "hits": hits, "of": n, "percent": 100.0 * hits as f64 / n as f64, "low": 100.0 * low, "high": 100.0 * high })
}

fn percent_text(share: &Value) -> String {
    let of = |key: &str| number(&share[key]);
    format!("{:.0} % ({:.0} to {:.0})", of("percent"), of("low"), of("high"))
}

fn main() {
    let only = words_after("--only");
    let runs: Vec<MethodRun> =
        RUNS.iter().copied().filter(|(m, _)| only.as_ref().is_none_or(|only| only.iter().any(|o| o == m))).collect();
    let judged = if given("--tuning") { demo::tuning(JUDGING) } else { demo::judging(JUDGING) };

    let began = Instant::now();
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    let train = demo::prompts(SEED, 200, Split::Train);
    let prompts = write_lines(home, "prompts.txt", train.iter().cloned());
    tiebreak(home, &["new", "manners", "--model", "tiny", "--prompts", &prompts]);
    let sample = ["sample", "manners", "--temperature", "1", "--top-p", "1", "--max-new-tokens", "64"];
    let sampled = |more: &[&str]| {
        tiebreak(home, &[&sample, more].concat());
    };
    sampled(&["--per-prompt", "4"]);
    let dir = SessionDir::find(&Home::resolve(Some(home)).unwrap(), "manners").unwrap();
    let first = answers(&dir, "sample-1");
    let ranked: Vec<(&String, &str, &str)> = first
        .iter()
        .flat_map(|(prompt, all)| pairs(all).into_iter().map(move |(c, r)| (prompt, &*c.text, &*r.text)))
        .take(PAIRS)
        .collect();
    assert_eq!(ranked.len(), PAIRS, "there are too few pairs of a kind and a rude answer");
    // As conversations, to match the session's prompts.
    let turn = |role: &str, text: &str| json!([{ "role": role, "content": text }]);
    let rows = ranked.iter().map(|(p, c, r)| {
        let (chosen, rejected) = (turn("assistant", c), turn("assistant", r));
        json!({ "prompt": turn("user", p), "chosen": chosen, "rejected": rejected }).to_string()
    });
    tiebreak(home, &["import", "manners", &write_lines(home, "pairs.jsonl", rows), "--as", "pairs"]);
    let kind = ranked.iter().map(|(p, c, _)| {
        json!({ "messages": [{ "role": "user", "content": p }, { "role": "assistant", "content": c }] }).to_string()
    });
    tiebreak(home, &["import", "manners", &write_lines(home, "kind.jsonl", kind), "--as", "sft"]);

    let mut seconds = BTreeMap::new();
    for (method, set) in &runs {
        let start = Instant::now();
        let mut args = vec!["train", "manners", method];
        for pair in *set {
            args.extend(["--set", pair]);
        }
        tiebreak(home, &args);
        seconds.insert(*method, start.elapsed().as_secs_f64());
    }

    // Imported only now, so that no run can train on the evaluation prompts.
    let known: HashSet<&String> = train.iter().collect();
    assert!(judged.len() == JUDGING && judged.iter().all(|p| !known.contains(p) && Split::of(p) == Split::HeldOut));
    tiebreak(
        home,
        &["import", "manners", &write_lines(home, "judging.txt", judged.iter().cloned()), "--as", "prompts"],
    );
    sampled(&["--per-prompt", "4"]);
    let base = answers(&dir, "sample-2");
    let kind_of = |answers: &BTreeMap<String, Vec<Completion>>| {
        judged.iter().filter(|p| answers.get(*p).and_then(|a| a.first()).is_some_and(|a| is_kind(&a.text))).count()
    };
    let before = kind_of(&base);
    let mut out = Vec::new();
    let mut number = 2;
    for (method, set) in &runs {
        let mut row = json!({ "method": method, "set": set, "seconds": seconds[method] });
        if *method == "reward" {
            tiebreak(home, &["score", "manners", "--with", "reward-1"]);
            row["pairs_right"] = ranking_accuracy(&dir, &judged, &base);
        } else {
            number += 1;
            sampled(&["--per-prompt", "1", "--adapter", &format!("{method}-1")]);
            row["kind_after"] = share(kind_of(&answers(&dir, &format!("sample-{number}"))), JUDGING);
        }
        out.push(row);
    }
    let report = json!({
        "judged_on": if given("--tuning") { "the tuning set" } else { "the evaluation set" },
        "kind_before": share(before, JUDGING), "methods": out, "seconds": began.elapsed().as_secs_f64(),
    });
    if given("--json") {
        println!("{report}");
    } else {
        show(&report);
    }
}

/// The reward run's accuracy on the base model's kind-rude pairs of the evaluation prompts.
fn ranking_accuracy(dir: &SessionDir, judged: &[String], base: &BTreeMap<String, Vec<Completion>>) -> Value {
    let (session, _) = dir.state().unwrap();
    let scores: HashMap<CompletionId, f64> = session
        .completions()
        .into_iter()
        .filter_map(|c| Some((c.id.clone(), session.score_of(&c.id)?.value)))
        .collect();
    let all: Vec<_> = judged.iter().filter_map(|p| base.get(p)).flat_map(|answers| pairs(answers)).collect();
    let right = all.iter().filter(|(kind, rude)| scores[&kind.id] > scores[&rude.id]).count();
    share(right, all.len())
}

fn show(report: &Value) {
    println!("kind answers to {JUDGING} prompts of {}, 95 % intervals", report["judged_on"].as_str().unwrap());
    println!("{:8} {:>18}", "base", percent_text(&report["kind_before"]));
    for row in report["methods"].as_array().unwrap() {
        let (what, note) = match &row["kind_after"] {
            Value::Null => {
                (&row["pairs_right"], format!(" of {} held-out pairs ranked correctly", row["pairs_right"]["of"]))
            }
            kind => (kind, String::new()),
        };
        let seconds = number(&row["seconds"]);
        println!("{:8} {:>18}  {seconds:5.1} s{note}", row["method"].as_str().unwrap(), percent_text(what));
    }
    println!("{:.0} s in all", number(&report["seconds"]));
}
