//! Loops with real processes and the embedded model: done in one go, killed at any moment, stopped, waiting for people, beside
//! a workbench that holds the session; and what they refuse.

use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tiebreak::demo::{self, Split};
use tiebreak::domain::{Asked, Choice, EvalState, Rater, RunId, Seen, Showing, Side, Strength, Verdict, hash64, mix64};
use tiebreak::protocol::{RunEvent, SessionRecord};
use tiebreak::storage::{Home, SessionDir};

/// Generous: the machine may be busy.
const PATIENCE: Duration = Duration::from_mins(4);
/// The rule of the tests: kind words.
const RULE: &str =
    "check:any_of=please,gladly,of course,happy to,glad,dear,pleasure;none_of=fool,go away,stupid,ugh,lazy";
/// A loop of two short rounds that goes on whatever its evaluations say.
const LOOP: &[&str] = &[
    "--judge",
    RULE,
    "--strategy",
    "best_worst",
    "--per-prompt",
    "3",
    "--max-new-tokens",
    "24",
    "--temperature",
    "1",
    "--set",
    "learning_rate=3e-3",
    "--set",
    "per_device_train_batch_size=4",
    "--set",
    "save_steps=1",
    "--eval-limit",
    "6",
    "--all-rounds",
];

fn command(home: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tiebreak"));
    command.args(args).env("TIEBREAK_HOME", home);
    command
}

fn tiebreak(home: &Path, args: &[&str]) -> Output {
    command(home, args).output().unwrap()
}

/// Runs a command that must succeed; returns its standard output.
fn done(home: &Path, args: &[&str]) -> String {
    let output = tiebreak(home, args);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{args:?}: {err}\n{out}");
    out.into_owned()
}

/// Runs a command that must fail with one sentence; returns it.
fn refused(home: &Path, args: &[&str]) -> String {
    let output = tiebreak(home, args);
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(matches!(output.status.code(), Some(1 | 2)), "{args:?}: {err}");
    assert_eq!(err.trim().lines().count(), 1, "{err}");
    err
}

/// A session with this many prompts.
fn session(home: &Path, prompts: usize) -> SessionDir {
    let file = home.join("prompts.txt");
    fs::write(&file, demo::prompts(7, prompts, Split::Train).join("\n")).unwrap();
    done(home, &["new", "s", "--model", "tiny", "--prompts", file.to_str().unwrap()]);
    SessionDir::find(&Home::resolve(Some(home)).unwrap(), "s").unwrap()
}

fn looped<'a>(more: &[&'a str]) -> Vec<&'a str> {
    ["loop", "s"].iter().chain(more).chain(LOOP).copied().collect()
}

fn shown(home: &Path, name: &str) -> Value {
    serde_json::from_str(done(home, &["loop", "s", "--show", name, "--json"]).lines().last().unwrap()).unwrap()
}

/// Everything that a loop decided: answers, pairs, verdicts, weights, measured numbers. Times are left out.
fn outcome(dir: &SessionDir, rounds: u32) -> Vec<String> {
    let (state, found) = dir.state().unwrap();
    assert!(found.is_intact(), "{}", found.sentence());
    let mut out = Vec::new();
    out.extend(state.completions().iter().map(|c| serde_json::to_string(c).unwrap()));
    out.extend(state.pairs().iter().map(|pair| serde_json::to_string(pair).unwrap()));
    out.extend(state.verdicts().map(|(_, judged)| serde_json::to_string(&judged.verdict).unwrap()));
    for round in 1..=rounds {
        let train = dir.run(&RunId::new(format!("loop-1-r{round}-train"))).unwrap();
        out.push(format!("{:016x}", hash64(&fs::read(train.path().join("data.jsonl")).unwrap())));
        let last = train.checkpoints().unwrap().pop().unwrap();
        let mut files: Vec<_> = fs::read_dir(&last.path).unwrap().map(|f| f.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|e| e == "safetensors"));
        files.sort();
        assert!(!files.is_empty(), "no weights in {}", last.path.display());
        for file in files {
            let name = file.file_name().unwrap().to_string_lossy().into_owned();
            out.push(format!("round {round} {name} {:016x}", hash64(&fs::read(&file).unwrap())));
        }
        let mut eval = EvalState::default();
        for envelope in dir.run(&RunId::new(format!("loop-1-r{round}-eval"))).unwrap().tail().poll().unwrap() {
            match envelope.data {
                Ok(RunEvent::EvalAnswered(answer)) => eval.answer(*answer),
                Ok(RunEvent::Compared(comparison)) => eval.compare(comparison),
                Ok(RunEvent::Measured(measurement)) => eval.measure(measurement),
                _ => {}
            }
        }
        out.extend(eval.answers().map(|a| format!("{:?} {:?} {}", a.key, a.side, a.text)));
        out.extend(eval.comparisons().map(|c| serde_json::to_string(c).unwrap()));
    }
    out
}

/// No prompt was answered twice, no pair chosen twice, none judged twice.
fn nothing_twice(dir: &SessionDir, per_prompt: usize) {
    let (mut pairs, mut verdicts) = (Vec::new(), Vec::new());
    for envelope in dir.tail().poll().unwrap() {
        match envelope.data {
            Ok(SessionRecord::Paired(pair)) => pairs.push(pair.id.clone()),
            Ok(SessionRecord::Judged(verdict)) => verdicts.push((verdict.pair.clone(), verdict.rater.clone())),
            _ => {}
        }
    }
    let all = (pairs.len(), verdicts.len());
    pairs.sort();
    pairs.dedup();
    verdicts.sort();
    verdicts.dedup();
    assert_eq!(all, (pairs.len(), verdicts.len()));
    let (state, _) = dir.state().unwrap();
    let mut of_prompt = std::collections::BTreeMap::new();
    for completion in state.completions() {
        *of_prompt.entry(completion.prompt.clone()).or_insert(0) += 1;
    }
    assert!(of_prompt.values().all(|n| *n <= per_prompt), "{of_prompt:?}");
}

fn kill(pid: u32) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid as i32) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

/// Ends the loop's process and every worker of it, as a power cut would.
fn kill_all(dir: &SessionDir, mut driver: Child) -> bool {
    let ended = driver.try_wait().unwrap().is_some();
    driver.kill().unwrap();
    driver.wait().unwrap();
    for run in dir.runs().unwrap() {
        if let (true, Some(holder)) = (run.is_alive(), run.holder()) {
            kill(holder.pid);
        }
    }
    let start = Instant::now();
    while dir.runs().unwrap().iter().any(tiebreak::storage::RunDir::is_alive) {
        assert!(start.elapsed() < PATIENCE, "a worker outlived its kill");
        std::thread::sleep(Duration::from_millis(5));
    }
    ended
}

/// Whether a loop killed this many times, at moments that `seed` decides, ends as one that nobody disturbed.
fn killed(rounds: u32, kills: u32, seed: u64) {
    let undisturbed = tempfile::tempdir().unwrap();
    let expected = session(undisturbed.path(), 30);
    let count = rounds.to_string();
    let began = Instant::now();
    done(undisturbed.path(), &looped(&["--rounds", &count]));
    let whole = began.elapsed();

    let disturbed = tempfile::tempdir().unwrap();
    let home = disturbed.path();
    let dir = session(home, 30);
    let mut hit = 0;
    for n in 0..u64::from(kills) {
        // The same command again goes on with the same loop.
        let args = looped(&["--rounds", &count]);
        let child = command(home, &args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let share = (mix64(seed + n) % 1000) as f64 / 1000.0;
        std::thread::sleep(whole.mul_f64(share / 2.0) + Duration::from_millis(mix64(seed ^ n) % 40));
        hit += u32::from(!kill_all(&dir, child));
    }
    done(home, &looped(&["--rounds", &count]));
    assert!(hit > 0, "every kill came after the end");
    assert_eq!(dir.state().unwrap().0.loops().len(), 1);
    nothing_twice(&dir, 3);
    let (left, right) = (outcome(&expected, rounds), outcome(&dir, rounds));
    assert_eq!(left.len(), right.len());
    for (a, b) in left.iter().zip(&right) {
        assert_eq!(a, b);
    }
    assert_eq!(done(home, &["replay", "s", "--check"]).lines().count(), 1);
}

#[test]
fn a_loop_killed_twice_ends_in_the_same_bytes() {
    killed(2, 2, 11);
}

#[test]
#[ignore = "takes minutes: `cargo test --test it rounds -- --ignored`"]
fn a_loop_killed_ten_times_ends_in_the_same_bytes() {
    for seed in [1, 2] {
        killed(3, 10, seed);
    }
}

#[test]
fn rounds_sample_their_own_prompts_and_never_the_held_out_ones() {
    let temp = tempfile::tempdir().unwrap();
    let home = temp.path();
    let dir = session(home, 30);
    let plan = done(home, &looped(&["--rounds", "2", "--dry-run"]));
    assert!(plan.contains("2 rounds") && plan.contains("best_worst by checks:any_of"), "{plan}");
    assert!(dir.runs().unwrap().is_empty() && dir.state().unwrap().0.loops().is_empty(), "a dry run leaves nothing");
    let said = done(home, &looped(&["--rounds", "2", "--json"]));
    let last: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!((last["end"].as_str(), last["result"].as_str()), (Some("done"), Some("loop-1-r2-train")), "{said}");
    let (state, _) = dir.state().unwrap();
    let spec = &state.loops()[0];
    let prompts = tiebreak::domain::LoopPrompts::of(spec, &state);
    assert!(!prompts.held_out.is_empty());
    let sampled: Vec<_> = state.completions().iter().map(|c| c.prompt.clone()).collect();
    assert!(prompts.held_out.iter().all(|prompt| !sampled.contains(&prompt.id)));
    for round in 1..=2 {
        let asked: Vec<_> = prompts.round(spec, round).iter().map(|p| p.id.clone()).collect();
        let answers = state.completions();
        let own = answers.iter().filter(|c| c.id.is_of(&spec.sampling(round)));
        assert!(own.clone().count() > 0 && own.clone().all(|c| asked.contains(&c.prompt)));
        // Round 2 answers with the adapter of round 1.
        assert!(own.clone().all(|c| c.model.contains("loop-1-r1-train") == (round == 2)));
    }
    // On-policy: a round trains on its own pairs.
    let rows = |round| fs::read_to_string(dir.run(&spec.training(round)).unwrap().path().join("data.jsonl")).unwrap();
    assert!(rows(1).contains("loop-1-r1.") && !rows(2).contains("loop-1-r1.") && rows(2).contains("loop-1-r2."));
    let evaluated = fs::read_to_string(dir.run(&spec.evaluation(2)).unwrap().path().join("suite-1.dat")).unwrap();
    assert_eq!(evaluated.lines().count(), prompts.held_out.len());
    // Again: nothing is left to do.
    let before = dir.tail().poll().unwrap().len();
    assert!(done(home, &looped(&["--rounds", "2"])).contains("loop-1 did all of its 2 rounds"));
    assert_eq!(dir.tail().poll().unwrap().len(), before);
    let other = done(home, &looped(&["--rounds", "1", "--seed", "5", "--dry-run"]));
    assert!(other.starts_with("loop-2 "), "{other}");
}

#[test]
fn a_loop_that_gains_nothing_ends_and_says_so() {
    let temp = tempfile::tempdir().unwrap();
    let home = temp.path();
    session(home, 30);
    let mut args = looped(&["--rounds", "3", "--set", "learning_rate=1e-9"]);
    args.retain(|word| *word != "--all-rounds" && *word != "learning_rate=3e-3");
    let at = args.iter().rposition(|word| *word == "--set" && word.len() == 5).unwrap();
    assert!(at > 0);
    // The removed value leaves a --set behind it: take that out too.
    let lone = args.windows(2).position(|w| w[0] == "--set" && w[1] == "--set").unwrap();
    args.remove(lone);
    let said = done(home, &args);
    assert!(
        said.contains("loop-1 ends after round 1 of 3") && said.contains("win rate 50.0 % [50.0 – 50.0]"),
        "{said}"
    );
    assert!(said.contains("cannot tell; the result is the model that it started from"), "{said}");
    let state = shown(home, "loop-1");
    assert_eq!((state["state"].as_str(), state["ended"].as_bool()), (Some("no_gain"), Some(true)));
}

#[test]
fn a_loop_waits_for_people_and_goes_on_when_they_are_done() {
    let temp = tempfile::tempdir().unwrap();
    let home = temp.path();
    let dir = session(home, 12);
    let args = [
        "loop",
        "s",
        "--rounds",
        "1",
        "--judge",
        "human",
        "--eval-judge",
        RULE,
        "--per-prompt",
        "2",
        "--max-new-tokens",
        "16",
        "--temperature",
        "1",
        "--prompts-per-round",
        "6",
        "--set",
        "per_device_train_batch_size=4",
    ];
    let said = done(home, &args);
    assert!(said.contains("loop-1 waits at round 1: ") && said.contains("--filter model:loop-1-r1-sample"), "{said}");
    assert_eq!(shown(home, "loop-1")["state"], "waits");
    let (state, _) = dir.state().unwrap();
    let (lock, rater) = (dir.lock().unwrap().unwrap(), Rater::new("ada"));
    let mut writer = dir.writer(&lock).unwrap();
    let queue = state.queue(&rater);
    assert!(queue.len() >= 4);
    for id in &queue {
        let (a, _) = state.sides(state.pair(id).unwrap()).unwrap();
        let verdict = Verdict {
            pair: id.clone(),
            choice: Choice::Prefer(Side::A, Strength::Better),
            left: Side::A,
            rater: rater.clone(),
            ms: 900,
            seen: Seen::Full,
            winner_hash: Some(hash64(a.text.as_bytes()).into()),
            asked: Asked::default(),
            showing: Showing::default(),
        };
        writer.append(&SessionRecord::Judged(verdict.into())).unwrap();
    }
    writer.sync().unwrap();
    drop((writer, lock));
    let said = done(home, &["loop", "s", "--resume", "loop-1"]);
    assert!(said.contains("round 1, train     dpo on"), "{said}");
    assert!(shown(home, "loop-1")["ended"].as_bool().unwrap());
}

#[test]
fn a_loop_in_the_background_stops_and_waits_while_another_process_holds_the_session() {
    let temp = tempfile::tempdir().unwrap();
    let home = temp.path();
    let dir = session(home, 30);
    let started = done(home, &looped(&["--rounds", "2", "--detach"]));
    assert!(started.contains("loop-1 started"), "{started}");
    let until = |what: &str, is: &dyn Fn() -> bool| {
        let start = Instant::now();
        while !is() {
            assert!(start.elapsed() < PATIENCE, "{what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    until("no run began", &|| !dir.runs().unwrap().is_empty());
    let again = refused(home, &["loop", "s", "--resume", "loop-1"]);
    assert!(again.contains("loop-1 is running already"), "{again}");
    done(home, &["stop", "s/loop-1"]);
    until("it did not stop", &|| shown(home, "loop-1")["running"] == false);
    let stopped = refused(home, &["stop", "s/loop-1"]);
    assert!(stopped.contains("is not running"), "{stopped}");

    // As a workbench does: it holds the lock, and takes what waits in the inbox. Here it takes nothing for a while.
    let held = dir.lock().unwrap().unwrap();
    done(home, &["resume", "s/loop-1"]);
    let inbox = dir.path().join("inbox");
    until("nothing waits", &|| fs::read_dir(&inbox).is_ok_and(|mut files| files.next().is_some()));
    std::thread::sleep(Duration::from_millis(300));
    assert!(dir.state().unwrap().0.pairs().is_empty(), "it wrote without the lock");
    drop(held);
    until("it did not end", &|| shown(home, "loop-1")["ended"] == true);
    nothing_twice(&dir, 3);
}

#[test]
fn a_round_of_ties_trains_nothing_and_says_so() {
    let temp = tempfile::tempdir().unwrap();
    let home = temp.path();
    session(home, 12);
    let rule = ["--judge", "check:min_words=0", "--per-prompt", "2", "--max-new-tokens", "8"];
    let output = tiebreak(home, &[&["loop", "s", "--rounds", "1"], &rule[..]].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("loop-1 ends at round 1: none of its ") && said.contains("a tie trains nothing"), "{said}");
}

#[test]
fn what_a_loop_cannot_do_is_one_sentence() {
    let temp = tempfile::tempdir().unwrap();
    let home = temp.path();
    session(home, 12);
    let with = |more: &[&str]| refused(home, &[&["loop", "s", "--rounds", "2"], more].concat());
    for (args, part) in [
        (&["--judge", "chek:x"][..], "did you mean `check`?"),
        (&["--judge", "check"], "needs an operand"),
        (&["--judge", "check:contians=x"], "contains"),
        (&["--judge", "human:x"], "takes nothing after a colon"),
        (&["--judge", "reward:nope"], "no run `nope`"),
        (&["--judge", "human", "--strategy", "best_worst"], "--score"),
        (&["--judge", "human", "--method", "ppo"], "--method dpo"),
        (&["--judge", "human", "--method", "dop"], "did you mean `dpo`?"),
        (&["--judge", "human", "--set", "bta=1"], "beta"),
        (&["--judge", "human", "--prompts-per-round", "30"], "--prompts-per-round"),
        (&["--judge", "human", "--suite", "nope"], "neither a suite nor a file"),
        (&["--judge", "human", "--init", "dpo-1"], "no run `dpo-1`"),
        (&["--judge", "human", "--name", "a.b"], "cannot name a loop"),
        (&["--judge", "human", "--held-out", "1"], "above 0 and below 1"),
        (&["--judge", "human", "--eval-judge", "nobody"], "not a judge"),
        (&[], "--judge"),
    ] {
        let said = with(args);
        assert!(said.contains(part), "{args:?}: {said}");
    }
    let said = refused(home, &["loop", "s"]);
    assert!(said.contains("--rounds"), "{said}");
    let said = refused(home, &["loop", "s", "--resume", "loop-9"]);
    assert!(said.contains("no loop loop-9"), "{said}");
    assert!(!home.join("sessions/s/loops").exists(), "nothing is made for a loop that does not exist");
    assert!(done(home, &["loop", "s", "--show", "all"]).contains("no loop yet"));
    fs::write(home.join("none.txt"), "").unwrap();
    done(home, &["new", "empty", "--model", "tiny"]);
    let said = refused(home, &["loop", "empty", "--rounds", "1", "--judge", "human"]);
    assert!(said.contains("has no prompts"), "{said}");
}
