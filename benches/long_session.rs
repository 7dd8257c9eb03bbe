//! Long sessions, of 100,000 pairs: how long it takes to open, and each thing that works on all of it:
//! `cargo bench --bench long_session`.
//!
//! Owns the measurement on sessions of its own: 100,000 pairs with verdicts of two raters on 4,000 of them, the same with a verdict
//! on every pair (`judged`), a run of 500,000 steps (`rows`), 1,000 runs (`runs`), and the replay of the first (`replay`). The
//! program is timed in a pseudo-terminal: from its start to what it opens on, from a key to the first bytes of the next frame,
//! and its memory (on Linux); everything else by the function that the program calls. Prints the median of five, and with
//! `-- --json` one object. `-- --pairs N`, `--rows N` and `--runs N` change the sizes, `-- --only NAME` measures what begins so,
//! `-- --program FILE` measures another build of the program.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement may end and print")]

#[path = "support/program.rs"]
#[allow(dead_code, reason = "the measurements share it")]
mod program;

#[path = "support/screen.rs"]
mod screen;
#[path = "support/sessions.rs"]
mod sessions;

use program::{given, words_after};
use screen::{Running, memory_of};
use serde_json::{Map, Value, json};
use std::collections::HashSet;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};
use tiebreak::app::screen::replay::Timeline;
use tiebreak::domain::{
    Filter, QueueOrder, Rater, RowChoice, RubricPass, RunId, STRATEGIES, ScoreSource, SelectOptions, Session,
    agreement_report, mix64,
};
use tiebreak::protocol::LogFold;
use tiebreak::storage::{Home, SessionDir, export, formats};

/// Times that each thing is measured.
const TIMES: usize = 5;
/// Random places of a replay that are looked at.
const SEEKS: u64 = 50;
/// One filter of every kind.
const FILTERS: [&str; 14] = [
    "tag:code",
    "source:big",
    "prompt:p17",
    "text:umbrella",
    "text:fox",
    "note:why",
    "model:m",
    "strategy:random",
    "rater:ana",
    "verdict:tie",
    "verdict:none",
    "gap:<0.5",
    "disputed",
    "contested",
];

/// Words of the label screen once it shows a pair.
const PAIR_SHOWN: [&str; 3] = ["all read", "read ↓", "% read"];

fn rater(name: &str) -> Rater {
    Rater::new(name)
}

/// The label screen on a session.
fn labelling(home: &Path, name: &str) -> Running {
    Running::start(home, &["label", name, "--rater", "ana"], &PAIR_SHOWN)
}

/// Presses every key of the label screen that works on more than the shown pair.
fn keys(table: &mut Table, home: &Path) {
    let mut program = labelling(home, "long");
    table.memory("", &program);
    let mut verdicts = ["1", "2", ",", ".", "0"].into_iter().cycle();
    table.row("key: verdict", || program.press(verdicts.next().unwrap()));
    table.row("key: skip", || program.press(" "));
    table.row("key: undo", || program.press("u"));
    let pairs =
        [("note", "n", "\x1b"), ("expand prompt", "p", "p"), ("list of pairs", "g", "\x1b"), ("palette", ":", "\x1b")];
    for (name, key, back) in pairs {
        table.row(&format!("key: {name}"), || {
            let taken = program.press(key);
            program.press(back);
            taken
        });
    }
    table.row("key: a letter of a search", || {
        program.press("/");
        let taken = program.press("u");
        program.press("\x1b");
        taken
    });
    for filter in FILTERS {
        table.row(&format!("key: enter of the filter {filter}"), || {
            program.press("f");
            // What the filter was is deleted first.
            program.send(&format!("\x15{filter}"));
            program.press("\r")
        });
    }
    program.press("f");
    program.send("\x15\r");
    table.row("key: order", || program.press("o"));
    table.row("key: agreement", || {
        let taken = program.press("A");
        program.press("\x1b");
        taken
    });
    if let Some([_, peak]) = program.memory().filter(|_| table.measures("memory")) {
        table.say("memory at its peak after these keys", peak, "MiB");
    }
    table.row("key: home", || {
        let taken = program.press("\x1b");
        program.press("\r");
        taken
    });
}

/// Measures and prints.
struct Table {
    only: Option<Vec<String>>,
    rows: Map<String, Value>,
}

impl Table {
    /// Whether something that begins so is measured.
    fn measures(&self, name: &str) -> bool {
        let begins = |start: &String| name.starts_with(start.as_str()) || start.starts_with(name);
        self.only.as_ref().is_none_or(|only| only.iter().any(begins))
    }

    /// Whether anything is measured beside what begins so.
    fn measures_beyond(&self, begins: &[&str]) -> bool {
        let beside = |start: &String| !begins.iter().any(|name| start.starts_with(name));
        self.only.as_ref().is_none_or(|only| only.iter().any(beside))
    }

    /// The memory of a program when it showed what was waited for, three seconds later and at its peak.
    fn memory(&mut self, of: &str, program: &Running) {
        if !self.measures(&format!("{of}memory")) {
            return;
        }
        // The writer reads the log once more after the screen has it.
        std::thread::sleep(Duration::from_secs(3));
        if let Some(([first, _], [now, peak])) = program.memory_then.zip(program.memory()) {
            self.say(&format!("{of}memory until then"), first, "MiB");
            self.say(&format!("{of}memory once all is read"), now, "MiB");
            self.say(&format!("{of}memory at its peak"), peak, "MiB");
        }
    }

    fn row(&mut self, name: &str, mut measure: impl FnMut() -> Duration) {
        if self.only.as_ref().is_some_and(|only| !only.iter().any(|start| name.starts_with(start.as_str()))) {
            return;
        }
        let mut taken: Vec<f64> = (0..TIMES).map(|_| measure().as_secs_f64() * 1e3).collect();
        taken.sort_by(f64::total_cmp);
        let median = (taken[TIMES / 2] * 10.0).round() / 10.0;
        if !given("--json") {
            println!("{median:>9.1} ms  {name}");
        }
        self.rows.insert(name.into(), json!(median));
    }

    fn say(&mut self, name: &str, value: f64, unit: &str) {
        let value = (value * 10.0).round() / 10.0;
        if !given("--json") {
            println!("{value:>9.1} {unit}  {name}");
        }
        self.rows.insert(format!("{name} {unit}"), json!(value));
    }

    fn timed<T>(&mut self, name: &str, mut work: impl FnMut() -> T) {
        self.row(name, || {
            let start = Instant::now();
            let done = black_box(work());
            let taken = start.elapsed();
            drop(done);
            taken
        });
    }
}

fn on_everything(table: &mut Table, session: &Session) {
    let ana = rater("ana");
    for filter in FILTERS {
        let filter_read = Filter::parse(filter).unwrap();
        table.timed(&format!("filter {filter}"), || session.view(&filter_read).pairs());
    }
    for (name, order, _) in QueueOrder::ALL {
        table.timed(&format!("queue {name}"), || session.queue_in(&ana, order));
    }
    let queue = session.queue(&ana);
    let shown = queue[0].clone();
    table.row("one verdict's move in the queue", || {
        let mut queue = queue.clone();
        let start = Instant::now();
        let pass = RubricPass::Overall;
        assert!(session.move_in_queue(&mut queue, &shown, &ana, QueueOrder::Arrival, &pass, true));
        start.elapsed()
    });
    table.timed("agreement", || agreement_report(session));
    table.timed("what there is to train on", || session.supply());
    let by_run = ScoreSource::Run(RunId::new("reward-1"));
    table.timed("pair: all possible pairs", || session.pool(&by_run, false, &[]));
    let made = session.pool(&by_run, false, &[]);
    let options = SelectOptions { limit: Some(1000), ..SelectOptions::default() };
    for strategy in STRATEGIES {
        if strategy.choose(&made.pool, &options).is_ok() {
            table.timed(&format!("pair {}", strategy.name), || strategy.choose(&made.pool, &options).unwrap());
        }
    }
    table.timed("pair: 1,000 new names", || {
        let mut taken = HashSet::new();
        for pair in session.pairs().iter().take(1000) {
            taken.insert(session.new_pair_id(pair.a.as_str(), pair.b.as_str(), &taken));
        }
        taken
    });
    for format in formats::exports() {
        table.timed(&format!("export {}", format.name), || export::lines(session, format, &RowChoice::default()));
    }
}

/// A session in which every pair is judged by one rater, and another begins.
fn judged(table: &mut Table, home: &Home, pairs: usize) {
    drop(sessions::pairs(home, "judged", pairs, Some("bo")));
    table.row("judged: open", || labelling(home.root(), "judged").opened);
    let mut program = labelling(home.root(), "judged");
    table.memory("judged: ", &program);
    let mut verdicts = ["1", "2", ",", ".", "0"].into_iter().cycle();
    table.row("judged: key: verdict", || program.press(verdicts.next().unwrap()));
    table.row("judged: key: undo", || program.press("u"));
    table.row("judged: key: order", || program.press("o"));
}

/// One run of many steps.
fn rows(table: &mut Table, home: &Home, rows: u64) {
    drop(sessions::rows(home, "rows", rows));
    let watching = || Running::start(home.root(), &["watch", "rows"], &["run dpo-1"]);
    table.row("rows: open", || watching().opened);
    let mut program = watching();
    table.memory("rows: ", &program);
    table.row("rows: key: smooth", || program.press("s"));
    table.row("rows: key: zoom", || program.press("+"));
}

/// Many runs.
fn runs(table: &mut Table, home: &Home, runs: usize) {
    drop(sessions::runs(home, "runs", runs));
    let watching = || Running::start(home.root(), &["watch", "runs"], &["run dpo-"]);
    table.row("runs: open", || watching().opened);
    let mut program = watching();
    table.memory("runs: ", &program);
    table.row("runs: key: previous run", || program.press("\x1b[A"));
}

/// The replay of the long session, by its keys and by the function that they call.
fn replay(table: &mut Table, home: &Path) {
    let opening = || Running::start(home, &["replay", "long"], &["paused"]);
    table.row("replay: open", || opening().opened);
    let mut program = opening();
    table.row("replay: key: end", || {
        let taken = program.press("\x1b[F");
        program.press("\x1b[H");
        taken
    });
    table.row("replay: key: home", || {
        program.press("\x1b[F");
        program.press("\x1b[H")
    });
    program.press("\x1b[F");
    table.row("replay: key: previous mark", || program.press("["));
    table.memory("replay: ", &program);
    drop(program);
    if !table.measures("replay: seek") {
        return;
    }
    // In a process of its own, whose memory is a live session's and its replay's.
    let seeks = std::process::Command::new(std::env::current_exe().unwrap()).arg("--seek").arg(home).output().unwrap();
    let said: Map<String, Value> = serde_json::from_slice(&seeks.stdout).unwrap();
    for (name, value) in said {
        let unit = if name.contains("memory") { "MiB" } else { "ms" };
        table.say(&format!("replay: {name}"), value.as_f64().unwrap(), unit);
    }
}

/// Seeks to random places of the long session's replay, each of them twice, and prints how long that took.
fn seek(home: &Path) {
    let dir = SessionDir::find(&Home::resolve(Some(home)).unwrap(), "long").unwrap();
    let mut live = LogFold::default();
    live.add(dir.tail().poll().unwrap());
    let mut line = Timeline::merge(dir.tail().poll().unwrap(), Vec::new());
    let mut said = Map::new();
    for round in ["seek for the first time", "seek again"] {
        let mut taken: Vec<f64> = (0..SEEKS)
            .map(|k| {
                let place = mix64(k) % (line.len() as u64 + 1);
                let start = Instant::now();
                line.seek(place as usize);
                let taken = start.elapsed().as_secs_f64() * 1e3;
                assert!(line.cursor() as u64 == place);
                taken
            })
            .collect();
        taken.sort_by(f64::total_cmp);
        said.insert(format!("{round}, median of {SEEKS}"), json!(taken[taken.len() / 2]));
        said.insert(format!("{round}, longest"), json!(taken[taken.len() - 1]));
    }
    if let Some([now, peak]) = memory_of("self") {
        said.insert("memory after the seeks".into(), json!(now));
        said.insert("memory at its peak".into(), json!(peak));
    }
    drop(black_box(live));
    println!("{}", Value::Object(said));
}

fn main() {
    if let Some(home) = words_after("--seek") {
        return seek(Path::new(&home[0]));
    }
    let folder = tempfile::tempdir().unwrap();
    let home = Home::resolve(Some(&folder.path().join("home"))).unwrap();
    let number = |name: &str, usual: usize| words_after(name).map_or(usual, |n| n[0].parse().unwrap());
    let pairs = number("--pairs", 100_000);
    let mut table = Table { only: words_after("--only"), rows: Map::new() };
    if table.measures("judged") {
        judged(&mut table, &home, pairs);
    }
    if table.measures("rows") {
        rows(&mut table, &home, number("--rows", 500_000) as u64);
    }
    if table.measures("runs") {
        runs(&mut table, &home, number("--runs", 1_000));
    }
    // The others are of one session.
    if table.measures_beyond(&["judged", "rows", "runs"]) {
        long(&mut table, &home, pairs);
    }
    if given("--json") {
        println!("{}", Value::Object(table.rows));
    }
}

fn long(table: &mut Table, home: &Home, pairs: usize) {
    let dir = sessions::pairs(home, "long", pairs, None);
    table.row("open", || labelling(home.root(), "long").opened);
    if table.measures("replay") {
        replay(table, home.root());
    }
    if table.measures("key") || table.measures("memory") {
        keys(table, home.root());
    }
    table.timed("open: read and parse", || dir.tail().poll().unwrap());
    if !table.measures_beyond(&["judged", "rows", "runs", "replay", "key", "memory"]) {
        return;
    }
    let records = dir.tail().poll().unwrap();
    table.row("open: fold", || {
        let (mut log, records) = (LogFold::default(), records.clone());
        let start = Instant::now();
        log.add(records);
        start.elapsed()
    });
    let mut log = LogFold::default();
    log.add(records);
    on_everything(table, &log.session);
}
