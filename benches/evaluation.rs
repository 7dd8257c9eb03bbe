//! Is it better, and who says so? DPO, ORPO and PPO on the embedded model against the model itself, by four judges:
//! `cargo bench --bench evaluation`.
//!
//! Owns the measurement, through the program's own commands. Answers to 260 prompts make pairs of a kind and a rude answer
//! ([`manner_of`]); 200 pairs train the methods of the manners measurement with its settings, and the pairs of the last 60
//! prompts, on which nothing is trained, measure and calibrate the judges. Then `tiebreak eval` compares each result with the
//! base model on 100 held-out prompts: by the rule itself, by the reward run (PPO was trained on it, which the evaluation
//! says), by the implicit reward of DPO, and by `tiny` as a judge of letters. Refuses to tune by the outcome, and prints what
//! comes out, judges that are no headline among it.
//!
//! `-- --data DIR` measures the judges on LLMBar natural too, `-- --judge MODEL` takes another judge of letters, `-- --json`
//! prints one object.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement that fails may say so by ending")]

#[path = "support/program.rs"]
mod program;

use program::{answers, given, number, tiebreak, words_after, write_lines};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Instant;
use tiebreak::demo::{self, Manner, Split, manner_of};
use tiebreak::domain::{Comparison, Contestant, EvalState, Num, RunId, eval_report};
use tiebreak::protocol::RunEvent;
use tiebreak::storage::{Home, SessionDir};

/// Seed of the prompts for the pairs.
const SEED: u64 = 42;
/// Prompts whose pairs train, and prompts whose pairs measure the judges.
const PROMPTS: [usize; 2] = [200, 60];
/// Pairs that train.
const PAIRS: usize = 200;
/// Held-out prompts.
const JUDGING: usize = 100;

/// The runs with the settings of the manners measurement; PPO needs the reward run.
const RUNS: [(&str, &[&str]); 4] = [
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
    ("reward", &["learning_rate=2e-3", "num_train_epochs=3", "per_device_train_batch_size=8"]),
    ("ppo", &["reward_model=reward-1", "learning_rate=2e-3", "per_device_train_batch_size=32"]),
];

/// What the rule says that an answer is worth.
fn worth(text: &str) -> i32 {
    match manner_of(text) {
        Some(Manner::Kind) => 1,
        None => 0,
        Some(Manner::Rude) => -1,
    }
}

/// The log of an evaluation, with the rule as one more judge.
fn with_rule(dir: &SessionDir, run: &str) -> EvalState {
    let mut eval = EvalState::default();
    for envelope in dir.run(&RunId::new(run)).unwrap().tail().poll().unwrap() {
        match envelope.data {
            Ok(RunEvent::EvalAnswered(answer)) => eval.answer(*answer),
            Ok(RunEvent::Measured(measurement)) => eval.measure(measurement),
            Ok(RunEvent::Compared(comparison)) => eval.compare(comparison),
            _ => {}
        }
    }
    let rows: Vec<Comparison> = eval
        .answers()
        .filter(|a| a.side == Contestant::A)
        .map(|a| {
            let b = eval.answer_of(&a.key, Contestant::B).unwrap();
            let p = match worth(&a.text) - worth(&b.text) {
                0 => 0.5,
                1.. => 1.0,
                _ => 0.0,
            };
            Comparison {
                key: a.key.clone(),
                judge: "rule".into(),
                cluster: a.prompt.derived_id().0,
                p: Some(Num(p)),
                a_first: None,
                b_first: None,
                chars: [a.text.chars().count(), b.text.chars().count()],
                problem: None,
                reference: None,
                difference: None,
            }
        })
        .collect();
    for row in rows {
        eval.compare(row);
    }
    eval
}

fn main() {
    let began = Instant::now();
    let folder = tempfile::tempdir().unwrap();
    let home: &Path = folder.path();
    let prompts = demo::prompts(SEED, PROMPTS.iter().sum(), Split::Train);
    let judged = demo::judging(JUDGING);
    assert!(judged.len() == JUDGING && judged.iter().all(|p| Split::of(p) == Split::HeldOut && !prompts.contains(p)));
    let file = write_lines(home, "prompts.txt", prompts.iter().cloned());
    tiebreak(home, &["new", "manners", "--model", "tiny", "--prompts", &file]);
    let drawn = ["--temperature", "1", "--top-p", "1", "--max-new-tokens", "64"];
    tiebreak(home, &[&["sample", "manners", "--per-prompt", "4"], &drawn[..]].concat());
    let dir = SessionDir::find(&Home::resolve(Some(home)).unwrap(), "manners").unwrap();
    let all = answers(&dir, "sample-1");
    let turn = |role: &str, text: &str| json!([{ "role": role, "content": text }]);
    let pairs = |prompts: &[String]| -> Vec<String> {
        let mut out = Vec::new();
        for prompt in prompts {
            let of = |manner| all[prompt].iter().filter(move |a| manner_of(&a.text) == Some(manner));
            out.extend(of(Manner::Kind).zip(of(Manner::Rude)).map(|(kind, rude)| {
                let (chosen, rejected) = (turn("assistant", &kind.text), turn("assistant", &rude.text));
                json!({ "prompt": turn("user", prompt), "chosen": chosen, "rejected": rejected }).to_string()
            }));
        }
        out
    };
    let mut train = pairs(&prompts[..PROMPTS[0]]);
    train.truncate(PAIRS);
    assert_eq!(train.len(), PAIRS, "there are too few pairs of a kind and a rude answer");
    tiebreak(home, &["import", "manners", &write_lines(home, "train.jsonl", train), "--as", "pairs"]);
    for (method, set) in RUNS {
        let set = set.iter().flat_map(|pair| ["--set", *pair]);
        tiebreak(home, &["train", "manners", method].into_iter().chain(set).collect::<Vec<_>>());
    }
    let measuring = pairs(&prompts[PROMPTS[0]..]);
    tiebreak(home, &["import", "manners", &write_lines(home, "measuring.jsonl", measuring), "--as", "pairs"]);
    let judged = write_lines(home, "judging.txt", judged);
    let letters = format!("llm:{}", words_after("--judge").map_or_else(|| "tiny".into(), |words| words[0].clone()));
    let mut common = vec!["--prompts", judged.as_str(), "--judge", "reward:reward-1", "--judge", "implicit:dpo-1"];
    common.extend(["--judge", letters.as_str()]);
    let data = words_after("--data").map(|words| words[0].clone());
    common.extend(data.iter().flat_map(|folder| ["--data", folder.as_str()]));
    let mut reports = Vec::new();
    for (number, method) in ["dpo-1", "orpo-1", "ppo-1"].into_iter().enumerate() {
        let b = ["eval", "manners", "--a", method, "--b", "tiny"];
        tiebreak(home, &[&b[..], &common, &drawn].concat());
        let eval = with_rule(&dir, &format!("eval-{}", number + 1));
        let report = serde_json::to_value(eval_report(&eval, &[])).unwrap();
        reports.push(json!({ "a": method, "judges": report["judges"] }));
    }
    let seconds = began.elapsed().as_secs_f64();
    if given("--json") {
        println!("{}", json!({ "evaluations": reports, "seconds": seconds }));
    } else {
        show(&reports);
        println!("{seconds:.0} s in all");
    }
}

fn percent(rate: &Value, interval: &Value) -> String {
    let of = |x: &Value| 100.0 * number(x);
    match interval.as_array() {
        Some(ends) => format!("{:.0} % ({:.0} to {:.0})", of(rate), of(&ends[0]), of(&ends[1])),
        None => format!("{:.0} %", of(rate)),
    }
}

fn show(reports: &[Value]) {
    println!("win rate over `tiny` on {JUDGING} unseen prompts, 95 % intervals; a star: no headline");
    println!("| run | by the rule | by reward | by implicit reward | by letters |\n|---|---|---|---|---|");
    for report in reports {
        let judges = report["judges"].as_array().unwrap();
        let cell = |kind: &str| {
            let judge = judges.iter().find(|j| j["judge"].as_str().unwrap().starts_with(kind)).unwrap();
            let star = if judge["not_headline"].as_array().unwrap().is_empty() { "" } else { " *" };
            format!("{}{star}", percent(&judge["rate"], &judge["interval"]))
        };
        let cells = ["rule", "reward", "implicit", "llm"].map(cell);
        println!("| `{}` | {} |", report["a"].as_str().unwrap(), cells.join(" | "));
    }
    for judge in reports[0]["judges"].as_array().unwrap() {
        for gate in judge["gate"].as_array().into_iter().flatten() {
            println!(
                "{} on {}: right {} of {}, both orders agree {}, kappa {}",
                judge["judge"].as_str().unwrap(),
                gate["set"].as_str().unwrap(),
                percent(&gate["accuracy"], &gate["interval"]),
                gate["decided"],
                gate["consistency"],
                gate["kappa"]
            );
        }
        for why in judge["not_headline"].as_array().unwrap() {
            println!("{}: {}", judge["judge"].as_str().unwrap(), why.as_str().unwrap());
        }
    }
}
