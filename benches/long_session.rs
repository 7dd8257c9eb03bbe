//! A session of 100,000 pairs: how long it takes to open, and each thing that works on all of it:
//! `cargo bench --bench long_session`.
//!
//! Owns the measurement on a session of its own: 100,000 prompts of a dozen words with two answers of forty, scores of one run,
//! verdicts of two raters on 4,000 pairs, and a tag on every tenth prompt. The program is timed in a pseudo-terminal: from its
//! start to the first pair on the screen, from a key to the first bytes of the next frame, and its memory (on Linux) once all is
//! read; everything else by the function that the program calls. Prints the median of five, and with `-- --json` one object. `-- --pairs N` changes the size, `-- --only NAME` measures what begins so.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement may end and print")]

#[path = "support/program.rs"]
#[allow(dead_code, reason = "the measurements share it")]
mod program;

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};
use program::{given, words_after};
use serde_json::{Map, Value, json};
use std::collections::HashSet;
use std::hint::black_box;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
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
/// After so long without output a frame is over.
const QUIET: Duration = Duration::from_millis(150);
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

/// The program in a pseudo-terminal.
struct Running {
    child: Box<dyn Child + Send + Sync>,
    keys: Box<dyn Write + Send>,
    /// What it writes, with the time at which it came.
    written: Receiver<(Instant, Vec<u8>)>,
    /// From its start to the first pair on the screen.
    opened: Duration,
    /// The screen stays as long as its master does.
    _master: Box<dyn MasterPty + Send>,
}

impl Running {
    fn start(home: &Path) -> Self {
        let size = PtySize { rows: 40, cols: 120, pixel_width: 0, pixel_height: 0 };
        let pty = native_pty_system().openpty(size).unwrap();
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_tiebreak"));
        command.args(["label", "long", "--rater", "ana", "--home"]);
        command.arg(home);
        command.env("TERM", "xterm-256color");
        command.env("LANG", "C.UTF-8");
        let mut reader = pty.master.try_clone_reader().unwrap();
        let keys = pty.master.take_writer().unwrap();
        let start = Instant::now();
        let child = pty.slave.spawn_command(command).unwrap();
        let (said, written) = channel();
        std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            while let Ok(n) = reader.read(&mut buffer) {
                if n == 0 || said.send((Instant::now(), buffer[..n].to_vec())).is_err() {
                    return;
                }
            }
        });
        let shown = ["all read", "read ↓", "% read"].map(str::as_bytes);
        let mut seen = Vec::new();
        let opened = loop {
            let (at, bytes) = written.recv().unwrap();
            seen.extend_from_slice(&bytes);
            if shown.iter().any(|word| seen.windows(word.len()).any(|w| w == *word)) {
                break at - start;
            }
        };
        Self { child, keys, written, opened, _master: pty.master }
    }

    /// Waits until it has written nothing for a while.
    fn settle(&self) {
        while self.written.recv_timeout(QUIET).is_ok() {}
    }

    /// Types keys that may change nothing on the screen.
    fn send(&mut self, keys: &str) {
        self.settle();
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// From the key to the first bytes of the next frame.
    fn press(&mut self, key: &str) -> Duration {
        self.settle();
        let start = Instant::now();
        self.keys.write_all(key.as_bytes()).unwrap();
        self.keys.flush().unwrap();
        let (at, _) = self.written.recv_timeout(Duration::from_secs(20)).unwrap();
        at - start
    }

    /// Its memory in MiB, now and at its peak; none where /proc does not tell.
    fn memory(&self) -> Option<[f64; 2]> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.process_id()?)).ok()?;
        let of = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<f64>().ok()
        };
        Some([of("VmRSS")? / 1024.0, of("VmHWM")? / 1024.0])
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Presses every key of the label screen that works on more than the shown pair.
fn keys(table: &mut Table, home: &Path) {
    let mut program = Running::start(home);
    // The writer reads the log once more after the screen has it.
    std::thread::sleep(Duration::from_secs(3));
    if let Some([now, peak]) = program.memory() {
        table.say("memory after opening", now, "MiB");
        table.say("memory at its peak", peak, "MiB");
    }
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

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::resolve(Some(&folder.path().join("home"))).unwrap();
    let pairs = words_after("--pairs").map_or(100_000, |n| n[0].parse().unwrap());
    let dir = write(&home, pairs);
    let mut table = Table { only: words_after("--only"), rows: Map::new() };
    table.row("open", || Running::start(home.root()).opened);
    if table.measures("key") {
        keys(&mut table, home.root());
    }
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
