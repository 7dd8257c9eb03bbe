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
use tiebreak::domain::{Comparison, Contestant, EvalState, Finding, Num, RunId, eval_report};
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

/// The log of an evaluation, with the rule as one more judge, and what the run found.
fn with_rule(dir: &SessionDir, run: &str) -> (EvalState, Vec<Finding>) {
    let mut eval = EvalState::default();
    let mut findings = Vec::new();
    for envelope in dir.run(&RunId::new(run)).unwrap().tail().poll().unwrap() {
        match envelope.data {
            Ok(RunEvent::EvalAnswered(answer)) => eval.answer(*answer),
            Ok(RunEvent::Measured(measurement)) => eval.measure(measurement),
            Ok(RunEvent::Compared(comparison)) => eval.compare(comparison),
            Ok(RunEvent::Found(finding)) => findings.push(finding),
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
                cluster: a.prompt.derived_id().into_string(),
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
    (eval, findings)
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
    let mut logs = Vec::new();
    for (number, method) in ["dpo-1", "orpo-1", "ppo-1"].into_iter().enumerate() {
        let b = ["eval", "manners", "--a", method, "--b", "tiny"];
        tiebreak(home, &[&b[..], &common, &drawn].concat());
        let (eval, findings) = with_rule(&dir, &format!("eval-{}", number + 1));
        logs.push((method, eval, findings));
    }
    // Every p-value is corrected for the tests of all three evaluations.
    let p_values: Vec<Vec<f64>> = logs.iter().map(|(_, eval, _)| eval_report(eval, &[]).p_values()).collect();
    let reports: Vec<Value> = logs
        .iter()
        .enumerate()
        .map(|(at, (method, eval, findings))| {
            let others: Vec<f64> =
                p_values.iter().enumerate().filter(|(i, _)| *i != at).flat_map(|(_, p)| p.clone()).collect();
            let report = eval_report(eval, &others);
            json!({ "a": method, "judges": report.judges, "findings": findings })
        })
        .collect();
    let seconds = began.elapsed().as_secs_f64();
    if given("--json") {
        println!("{}", json!({ "evaluations": reports, "seconds": seconds }));
    } else {
        show(&reports);
        println!("{seconds:.0} s in all");
    }
}

/// What an evaluation's report says of a judge.
fn judge_of<'a>(report: &'a Value, kind: &str) -> &'a Value {
    report["judges"].as_array().unwrap().iter().find(|j| j["judge"].as_str().unwrap().starts_with(kind)).unwrap()
}

fn percent(rate: &Value, interval: &Value) -> String {
    let of = |x: &Value| 100.0 * number(x);
    match interval.as_array() {
        Some(ends) => format!("{:.0} % ({:.0} to {:.0})", of(rate), of(&ends[0]), of(&ends[1])),
        None => format!("{:.0} %", of(rate)),
    }
}

fn conclusion(of: &Value) -> String {
    match of["detail"].as_str() {
        Some(detail) => format!("{}: {detail}", of["word"].as_str().unwrap()),
        None => of["word"].as_str().unwrap().to_owned(),
    }
}

/// The table of the README, the same in full, and what is known of the judges.
fn show(reports: &[Value]) {
    let kinds = ["rule", "reward", "implicit", "llm"];
    println!("win rate over `tiny` on {JUDGING} unseen prompts, 95 % intervals; a star: no headline\n");
    println!("| | by the rule | by reward | by implicit reward | by letters |\n|---|---|---|---|---|");
    for report in reports {
        let cells = kinds.map(|kind| {
            let judge = judge_of(report, kind);
            let star = if judge["not_headline"].as_array().unwrap().is_empty() { "" } else { " *" };
            let word = judge["conclusion"]["word"].as_str().unwrap();
            format!("{}, {word}{star}", percent(&judge["rate"], &judge["interval"]))
        });
        println!("| `{}` | {} |", report["a"].as_str().unwrap(), cells.join(" | "));
    }
    println!("\n| run | judge | win rate | won, tied, lost | at equal length | characters | p | conclusion |");
    println!("|---|---|---|---|---|---|---|---|");
    for report in reports {
        for judge in kinds.map(|kind| judge_of(report, kind)) {
            let length = &judge["length_controlled"];
            let equal = if length.is_null() {
                format!("undefined: {}", judge["length_undefined"].as_str().unwrap())
            } else {
                percent(&length["rate"], &length["interval"])
            };
            let chars = &judge["mean_chars"];
            let p = judge["p_corrected"].as_f64().map_or_else(|| "–".to_owned(), |p| format!("{p:.3}"));
            println!(
                "| `{}` | `{}` | {} | {}, {}, {} | {equal} | {:.0} against {:.0} | {p} | {} |",
                report["a"].as_str().unwrap(),
                judge["judge"].as_str().unwrap(),
                percent(&judge["rate"], &judge["interval"]),
                judge["wins"],
                judge["ties"],
                judge["losses"],
                number(&chars[0]),
                number(&chars[1]),
                conclusion(&judge["conclusion"])
            );
        }
    }
    println!("\n| judge | measured on | right | decided | both orders agree | kappa | no headline because |");
    println!("|---|---|---|---|---|---|---|");
    for judge in reports[0]["judges"].as_array().unwrap() {
        let name = judge["judge"].as_str().unwrap();
        let why: Vec<&str> = judge["not_headline"].as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect();
        let optional = |value: &Value| value.as_f64().map_or_else(|| "–".to_owned(), |x| format!("{x:.2}"));
        for gate in judge["gate"].as_array().into_iter().flatten() {
            println!(
                "| `{name}` | {} | {} | {} | {} | {} | {} |",
                gate["set"].as_str().unwrap(),
                percent(&gate["accuracy"], &gate["interval"]),
                gate["decided"],
                optional(&gate["consistency"]),
                optional(&gate["kappa"]),
                why.join("; ")
            );
        }
    }
    for (number, report) in reports.iter().enumerate() {
        for finding in report["findings"].as_array().unwrap() {
            println!("\neval-{}: {}", number + 1, finding["text"].as_str().unwrap());
        }
    }
    println!();
}
