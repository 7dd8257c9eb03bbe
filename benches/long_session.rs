//! A session of 100,000 pairs: how long it takes to open, and each thing that works on all of it:
//! `cargo bench --bench long_session`.
//!
//! Owns the measurement on a session of its own: 100,000 prompts of a dozen words with two answers of forty, scores of one run,
//! verdicts of two raters on 4,000 pairs, and a tag on every tenth prompt. The program is timed in a pseudo-terminal, from its
//! start to the first pair on the screen; everything else by the function that the program calls. Prints the median of five, and
//! with `-- --json` one object. `-- --pairs N` changes the size, `-- --only NAME` measures what begins so.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement may end and print")]

#[path = "support/program.rs"]
#[allow(dead_code, reason = "the measurements share it")]
mod program;

use portable_pty::{CommandBuilder, PtySize, native_pty_system};
use program::{given, words_after};
use serde_json::{Map, Value, json};
use std::collections::HashSet;
use std::hint::black_box;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};
use tiebreak::domain::{
    Asked, Choice, Completion, CompletionId, Filter, Finish, Num, Pair, PairId, Prompt, PromptBody, PromptId,
    QueueOrder, Rater, RowChoice, RubricPass, RunId, STRATEGIES, ScoreSource, Seen, SelectOptions, Session, Showing,
    Side, Strength, Verdict, agreement_report, mix64,
};
use tiebreak::protocol::{LogFold, SessionMeta, SessionRecord};
use tiebreak::storage::{Home, SessionDir, export, formats};

/// Times that each thing is measured.
const TIMES: usize = 5;
/// Pairs with verdicts.
const JUDGED: usize = 4_000;
/// What a text is made of.
const WORDS: [&str; 16] = [
    "the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "while", "rain", "falls", "on", "quiet",
    "streets", "nobody",
];
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

fn text(words: usize, seed: u64) -> String {
    let word = |i: usize| WORDS[(mix64(seed ^ ((i as u64) << 40)) % 16) as usize];
    (0..words).map(word).collect::<Vec<_>>().join(" ")
}

fn rater(name: &str) -> Rater {
    Rater::new(name)
}

/// Writes the session.
fn write(home: &Home, pairs: usize) -> SessionDir {
    let meta = SessionMeta { format: 1, name: "long".into(), model: "tiny".into(), created_ms: 1, app: "0".into() };
    let dir = SessionDir::create(home, "long", &meta).unwrap();
    let lock = dir.lock().unwrap().unwrap();
    let mut log = dir.writer(&lock).unwrap();
    let run = RunId::new("reward-1");
    for i in 0..pairs {
        let seed = i as u64;
        let prompt = PromptId::new(format!("p{}", i + 1));
        let tags = if i % 10 == 0 { vec!["code".into()] } else { Vec::new() };
        let body = PromptBody::user(format!("{} {i}?", text(12, seed)));
        let asked = Prompt { id: prompt.clone(), body, source: "big".into(), tags };
        log.append(&SessionRecord::Prompted(asked.into())).unwrap();
        let ids = ["a", "b"].map(|side| CompletionId::new(format!("i{}.{side}", i + 1)));
        for (at, id) in ids.iter().enumerate() {
            let answer = Completion {
                turns: Vec::new(),
                id: id.clone(),
                prompt: prompt.clone(),
                model: "m".into(),
                text: text(40, mix64(seed) ^ at as u64),
                tokens: 50,
                finish: Finish::Given,
                sampler: None,
                logprob: None,
            };
            log.append(&SessionRecord::Completed(answer.into())).unwrap();
        }
        let [a, b] = ids.clone();
        let id = PairId::new(format!("i{}", i + 1));
        let pair = Pair { id, prompt, a, b, strategy: "random".into(), p_select: 1.0 };
        log.append(&SessionRecord::Paired(pair.into())).unwrap();
        for (at, completion) in ids.into_iter().enumerate() {
            let score = Num((mix64(seed ^ ((at as u64) << 50)) % 1000) as f64 / 500.0);
            log.append(&SessionRecord::Scored { completion, run: run.clone(), score }).unwrap();
        }
    }
    for i in 0..JUDGED.min(pairs) {
        for (at, name) in ["ana", "bo"].into_iter().enumerate() {
            let choice = match mix64(i as u64 ^ ((at as u64) << 30)) % 3 {
                0 => Choice::Tie,
                1 => Choice::Prefer(Side::A, Strength::Better),
                _ => Choice::Prefer(Side::B, Strength::Slight),
            };
            let verdict = Verdict {
                pair: PairId::new(format!("i{}", i + 1)),
                rater: rater(name),
                choice,
                left: Side::A,
                seen: Seen::Full,
                ms: 2000,
                winner_hash: None,
                asked: Asked::default(),
                showing: Showing::default(),
            };
            log.append(&SessionRecord::Judged(verdict)).unwrap();
        }
    }
    log.sync().unwrap();
    dir
}

/// From the program's start to the first pair on the screen.
fn open(home: &Path) -> Duration {
    let size = PtySize { rows: 40, cols: 120, pixel_width: 0, pixel_height: 0 };
    let pty = native_pty_system().openpty(size).unwrap();
    let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_tiebreak"));
    command.args(["label", "long", "--rater", "ana", "--home"]);
    command.arg(home);
    command.env("TERM", "xterm-256color");
    command.env("LANG", "C.UTF-8");
    let mut reader = pty.master.try_clone_reader().unwrap();
    let start = Instant::now();
    let mut child = pty.slave.spawn_command(command).unwrap();
    let (mut seen, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
    let shown = ["all read", "read ↓", "% read"].map(str::as_bytes);
    let taken = loop {
        let n = reader.read(&mut buffer).unwrap();
        assert!(n > 0, "the program ended before it showed a pair");
        seen.extend_from_slice(&buffer[..n]);
        if shown.iter().any(|word| seen.windows(word.len()).any(|w| w == *word)) {
            break start.elapsed();
        }
    };
    child.kill().unwrap();
    child.wait().unwrap();
    taken
}

/// Measures and prints.
struct Table {
    only: Option<Vec<String>>,
    rows: Map<String, Value>,
}

impl Table {
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

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::resolve(Some(&folder.path().join("home"))).unwrap();
    let pairs = words_after("--pairs").map_or(100_000, |n| n[0].parse().unwrap());
    let dir = write(&home, pairs);
    let mut table = Table { only: words_after("--only"), rows: Map::new() };
    table.row("open", || open(home.root()));
    table.timed("open: read and parse", || dir.tail().poll().unwrap());
    let records = dir.tail().poll().unwrap();
    table.row("open: fold", || {
        let (mut log, records) = (LogFold::default(), records.clone());
        let start = Instant::now();
        log.add(records);
        start.elapsed()
    });
    let mut log = LogFold::default();
    log.add(records);
    on_everything(&mut table, &log.session);
    if given("--json") {
        println!("{}", Value::Object(table.rows));
    }
}
