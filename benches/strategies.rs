//! Do hard negatives pay? 200 labels chosen by each selection strategy, and what DPO makes of them:
//! `cargo bench --bench strategies`.
//!
//! Owns the measurement, through the program's own commands, five times with other prompts, samples and orders:
//!
//! 1. The embedded model answers 300 prompts six times each, at temperature 1.
//! 2. The labeller is a rule, [`manner_of`]: kind over neither over rude, a tie where both are alike. It labels 200 random pairs, the
//!    first round; a reward run learns from them and scores every answer. That is the source of scores that a user would have. The
//!    first labels are undone afterwards, so that no strategy trains on them.
//! 3. Each strategy chooses 200 of the other pairs in a copy of that session, and the rule labels them. Ties give no training row.
//! 4. DPO trains for 50 steps of 8 pairs with the settings of the manners measurement, whatever the number of ties.
//! 5. The result answers 100 held-out prompts that nothing was tuned on, four times each; the share of kind answers counts.
//!
//! Refuses to tune by the outcome. Size and epochs of the first round were chosen on another seed so that the reward run ranks
//! well above chance: 60 labels and 3 epochs do not. Intervals are Student's over the five seeds; the difference from `random`
//! is taken seed by seed. `-- --seeds 1` and `-- --only random,mix` shorten it, `-- --json` prints one object.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "a measurement may end and print")]

#[path = "support/program.rs"]
mod program;

use program::{answers, given, number, tiebreak, words_after, write_lines};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::time::Instant;
use tiebreak::demo::{self, Manner, Split, is_kind, manner_of};
use tiebreak::domain::{Asked, Choice, PairId, Rater, STRATEGIES, Seen, Session, Side, Strength, Verdict, WinnerHash};
use tiebreak::protocol::SessionRecord;
use tiebreak::storage::{Home, SessionDir};

/// Prompts of a seed.
const PROMPTS: usize = 300;
/// Answers to each.
const ANSWERS: &str = "6";
/// Labels that the reward run learns from.
const FIRST_LABELS: &str = "200";
/// Labels that a strategy gets.
const LABELS: &str = "200";
/// Held-out prompts.
const JUDGING: usize = 100;
/// The seeds of the prompts, samples and orders.
const SEEDS: u64 = 5;
/// Student's t at 97.5 % for so many degrees of freedom, from 1.
const STUDENT: [f64; 4] = [12.706, 4.303, 3.182, 2.776];

/// Sampling as in training.
const SAMPLE: [&str; 6] = ["--temperature", "1", "--top-p", "1", "--max-new-tokens", "64"];
/// The settings of the reward run: those of the manners measurement, with more epochs.
const REWARD: [&str; 3] = ["learning_rate=2e-3", "num_train_epochs=10", "per_device_train_batch_size=8"];
/// The settings of DPO, those of the manners measurement, with a fixed number of steps.
const DPO: [&str; 4] = ["learning_rate=3e-3", "max_steps=50", "per_device_train_batch_size=8", "eval_fraction=0"];

/// What the rule says that an answer is worth.
fn worth(text: &str) -> i32 {
    match manner_of(text) {
        Some(Manner::Kind) => 1,
        None => 0,
        Some(Manner::Rude) => -1,
    }
}

/// The rule's verdict on a pair.
fn verdict(session: &Session, id: &PairId) -> Verdict {
    let (a, b) = session.sides(session.pair(id).unwrap()).unwrap();
    let (choice, winner) = match worth(&a.text) - worth(&b.text) {
        0 => (Choice::Tie, None),
        1.. => (Choice::Prefer(Side::A, Strength::Better), Some(a)),
        _ => (Choice::Prefer(Side::B, Strength::Better), Some(b)),
    };
    Verdict {
        pair: id.clone(),
        rater: Rater::new("rule"),
        choice,
        left: Side::A,
        seen: Seen::Full,
        ms: 0,
        winner_hash: winner.map(|c| WinnerHash::of(&c.text)),
        asked: Asked::default(),
        showing: tiebreak::domain::Showing::default(),
    }
}

/// Chooses pairs with the command and labels them by the rule. Returns the numbers of the records, and how many are ties.
fn label(home: &Path, dir: &SessionDir, options: &[&str]) -> (Vec<u64>, usize) {
    let chosen = tiebreak(home, &[&["pair", &dir.name(), "--json"], options].concat());
    let ids = chosen.lines().map(|line| {
        let pair: Value = serde_json::from_str(line).unwrap();
        PairId::new(pair["id"].as_str().unwrap())
    });
    let (session, _) = dir.state().unwrap();
    let lock = dir.lock().unwrap().unwrap();
    let mut writer = dir.writer(&lock).unwrap();
    let mut ties = 0;
    let mut numbers = Vec::new();
    for id in ids {
        let verdict = verdict(&session, &id);
        ties += usize::from(verdict.choice == Choice::Tie);
        numbers.push(writer.append(&SessionRecord::Judged(verdict.into())).unwrap());
    }
    writer.sync().unwrap();
    (numbers, ties)
}

fn train(home: &Path, session: &str, method: &str, set: &[&str]) {
    let set = set.iter().flat_map(|pair| ["--set", *pair]);
    tiebreak(home, &["train", session, method].into_iter().chain(set).collect::<Vec<_>>());
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Answers to each held-out prompt.
const JUDGED_ANSWERS: &str = "4";

/// How many of a model's answers to the held-out prompts are kind, per hundred.
fn kind(home: &Path, name: &str, model: &str, judged: &str, seed: u64) -> f64 {
    tiebreak(home, &["new", name, "--model", model, "--prompts", judged]);
    let seed = seed.to_string();
    tiebreak(home, &[&["sample", name, "--per-prompt", JUDGED_ANSWERS, "--seed", &seed], SAMPLE.as_slice()].concat());
    let dir = SessionDir::find(&Home::resolve(Some(home)).unwrap(), name).unwrap();
    let all = answers(&dir, "sample-1");
    // A prompt without an answer has no kind one.
    let kind = all.values().flatten().filter(|answer| is_kind(&answer.text)).count();
    100.0 * kind as f64 / (JUDGING * JUDGED_ANSWERS.parse::<usize>().unwrap()) as f64
}

/// The share of answers of different worth to one prompt that the reward run ranks right.
fn ranked_right(session: &Session, dir: &SessionDir) -> f64 {
    let (mut right, mut all) = (0, 0);
    for answers in answers(dir, "sample-1").values() {
        for (i, x) in answers.iter().enumerate() {
            for y in &answers[i + 1..] {
                let better = worth(&x.text) - worth(&y.text);
                if better != 0 {
                    let score = |id| session.score_of(id).unwrap().value;
                    all += 1;
                    right += usize::from((score(&x.id) > score(&y.id)) == (better > 0));
                }
            }
        }
    }
    right as f64 / all as f64
}

/// One seed: the base model, then every strategy.
fn measure(home: &Path, seed: u64, strategies: &[&str]) -> Value {
    let began = Instant::now();
    let base = format!("base-{seed}");
    let prompts = demo::prompts(seed, PROMPTS, Split::Train);
    let judged = demo::judging(JUDGING);
    assert!(judged.len() == JUDGING && judged.iter().all(|p| Split::of(p) == Split::HeldOut));
    let file = write_lines(home, &format!("prompts-{seed}.txt"), prompts);
    let judged = write_lines(home, "judging.txt", judged);
    tiebreak(home, &["new", &base, "--model", "tiny", "--prompts", &file]);
    let text = seed.to_string();
    tiebreak(home, &[&["sample", &base, "--per-prompt", ANSWERS, "--seed", &text], SAMPLE.as_slice()].concat());
    let dir = SessionDir::find(&Home::resolve(Some(home)).unwrap(), &base).unwrap();
    let (first, _) = label(home, &dir, &["--strategy", "random", "--limit", FIRST_LABELS, "--seed", &text]);
    train(home, &base, "reward", &REWARD);
    tiebreak(home, &["score", &base, "--with", "reward-1"]);
    {
        let lock = dir.lock().unwrap().unwrap();
        let mut writer = dir.writer(&lock).unwrap();
        for of in first {
            writer.append(&SessionRecord::Undone { of }).unwrap();
        }
        writer.sync().unwrap();
    }
    let accuracy = ranked_right(&dir.state().unwrap().0, &dir);
    let before = kind(home, &format!("judged-{seed}"), "tiny", &judged, seed);
    eprintln!(
        "seed {seed}: base {before}, the reward run ranks {accuracy:.3} right, {:.0} s",
        began.elapsed().as_secs_f64()
    );
    let mut rows = Vec::new();
    for strategy in strategies {
        let began = Instant::now();
        let name = format!("{}-{seed}", strategy.replace('_', "-"));
        copy(dir.path(), &dir.path().with_file_name(&name));
        let copied = SessionDir::find(&Home::resolve(Some(home)).unwrap(), &name).unwrap();
        let mut options = vec!["--strategy", strategy, "--limit", LABELS, "--score", "reward-1", "--seed", &text];
        options.extend(["--by", "length_gap"]);
        let (labels, ties) = label(home, &copied, &options);
        train(home, &name, "dpo", &DPO);
        let model = home.join(format!("model-{name}")).display().to_string();
        tiebreak(home, &["merge", &format!("{name}/dpo-1"), "--to", &model]);
        let kind = kind(home, &format!("judged-{name}"), &model, &judged, seed);
        eprintln!("  {strategy}: {kind} kind, {ties} ties, {:.0} s", began.elapsed().as_secs_f64());
        rows.push(json!({ "strategy": strategy, "labels": labels.len(), "ties": ties, "kind": kind }));
    }
    json!({ "seed": seed, "kind_before": before, "reward_accuracy": accuracy, "strategies": rows })
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
    let only = words_after("--only");
    let strategies: Vec<&str> = STRATEGIES
        .iter()
        .map(|s| s.name)
        .filter(|name| only.as_ref().is_none_or(|only| only.iter().any(|o| o == name)))
        .collect();
    let seeds = words_after("--seeds").map_or(SEEDS, |n| n[0].parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let runs: Vec<Value> = (1..=seeds).map(|seed| measure(folder.path(), seed, &strategies)).collect();
    let seconds = began.elapsed().as_secs_f64();
    if given("--json") {
        println!("{}", json!({ "seeds": runs, "seconds": seconds }));
        return;
    }
    let over = |of: &dyn Fn(&Value) -> f64| mean(&runs.iter().map(of).collect::<Vec<_>>());
    let row = |run: &Value, name: &str| {
        run["strategies"].as_array().unwrap().iter().find(|r| r["strategy"] == name).cloned().unwrap()
    };
    println!("kind answers in 100, means over {seeds} seeds with 95 % intervals, {seconds:.0} s");
    println!("| strategy | kind answers in 100 | difference from `random` | labels that are ties |\n|---|---|---|---|");
    println!("| none: `tiny` as it is | {} | | |", interval(over(&|run| number(&run["kind_before"]))));
    for name in &strategies {
        let kind = interval(over(&|run| number(&row(run, name)["kind"])));
        let ties = over(&|run| 100.0 * number(&row(run, name)["ties"]) / number(&row(run, name)["labels"])).0;
        let gained = match *name {
            "random" => String::new(),
            _ if !strategies.contains(&"random") => String::new(),
            _ => interval(over(&|run| number(&row(run, name)["kind"]) - number(&row(run, "random")["kind"]))),
        };
        println!("| `{name}` | {kind} | {gained} | {ties:.0} % |");
    }
    println!("the reward run ranks {} % right", interval(over(&|run| 100.0 * number(&run["reward_accuracy"]))));
}
