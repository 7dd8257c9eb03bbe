//! `bench ui`: from a key to the last byte of the frame that it changed, measured from the terminal's side; under load while
//! a training run uses every core.
//!
//! Both work in a data folder of their own, which is gone afterwards.

use super::super::super::cli::BenchUiArgs;
use super::super::super::error::{Error, Result};
use super::super::super::intake;
use super::super::super::journal::Journal;
use super::super::super::plan::{self, TrainOrder};
use super::super::super::run_name::RunName;
use super::super::super::{models, out, supervisor};
use super::super::context::CommandContext;
use super::figures::{Spread, line, round};
use super::machine;
use super::pty::Pty;
use crate::demo::exchange;
use crate::domain::{Completion, CompletionId, Finish, LogProb, Pair, PairId, Prompt, PromptBody, PromptId, quantile};
use crate::protocol::{ModelRef, RunCommand, RunEvent, SessionMeta, SessionRecord};
use crate::storage::{Home, RunDir, SessionDir, formats};
use serde_json::json;
use std::ffi::OsStr;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What is pressed, in turn; each changes what is on the screen: a verdict brings the next pair, taking it back the last one,
/// and the answers are too long to be seen whole. Between a new pair and its verdict lie four other keys, since a verdict
/// that comes at once is taken for a key held down.
const KEYS: &[(&str, &[u8])] = &[
    ("verdict", b"1"),
    ("scroll", b"j"),
    ("scroll", b"k"),
    ("one answer", b"z"),
    ("both answers", b"z"),
    ("verdict", b"2"),
    ("scroll", b"j"),
    ("scroll", b"k"),
    ("one answer", b"z"),
    ("both answers", b"z"),
    ("undo", b"u"),
    ("scroll", b"j"),
    ("scroll", b"k"),
    ("one answer", b"z"),
    ("both answers", b"z"),
];
/// A frame is out when nothing has come for so long.
const QUIET: Duration = Duration::from_millis(4);
/// How long a key is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two keys: as fast as a person's, so that what a verdict sets off (its saving) falls into it.
const PAUSE: Duration = Duration::from_millis(80);
/// Keys that warm up.
const WARM: u32 = 10;
/// How long a run has to make its first step, and to end.
const RUN: Duration = Duration::from_mins(2);

/// Measures and says.
pub fn run(context: &CommandContext, args: &BenchUiArgs) -> Result<()> {
    let place = Place::new()?;
    labels(&place.home, args.keys + WARM)?;
    let load = args.under_load.then(|| Load::start(context, &place.home, args.model.as_deref())).transpose()?;
    let measured = measure(&place.home, args)?;
    let trained = load.as_ref().map(Load::steps).transpose()?;
    drop(load);
    let all: Vec<f64> = measured.iter().filter_map(|(_, ms)| *ms).collect();
    let unseen = measured.len() - all.len();
    let spread = Spread::of(&all);
    let (p95, p99) = (quantile(&all, 0.95), quantile(&all, 0.99));
    if context.json {
        let mut kinds = serde_json::Map::new();
        for (name, _) in KEYS {
            let of: Vec<f64> = measured.iter().filter(|(n, _)| n == name).filter_map(|(_, ms)| *ms).collect();
            kinds.insert((*name).into(), Spread::of(&of).json(2));
        }
        return out::json(&json!({
            "bench": "ui",
            "under_load": args.under_load,
            "keys": measured.len(),
            "unseen": unseen,
            "size": [args.size.0, args.size.1],
            "key_to_screen_ms": round(spread.median, 2),
            "p95_ms": round(p95, 2),
            "p99_ms": round(p99, 2),
            "worst_ms": round(spread.most, 2),
            "by_key": kinds,
            "steps_trained_meanwhile": trained,
            "machine": machine::facts(),
        }));
    }
    let beside = trained.map_or_else(String::new, |steps| format!(" · beside a run that made {steps} steps"));
    out::line(&format!("{} keys on the labelling screen, {}x{}{beside}", measured.len(), args.size.0, args.size.1))?;
    line(
        "key to screen",
        &format!("median {:.1} ms · 95 % {p95:.1} · 99 % {p99:.1} · worst {:.1}", spread.median, spread.most),
    )?;
    if unseen > 0 {
        line("without effect", &format!("{unseen} keys changed nothing within {} s", PATIENCE.as_secs()))?;
    }
    line("machine", &machine::words())
}

/// Milliseconds of every key by its kind; none where nothing changed.
fn measure(home: &Home, args: &BenchUiArgs) -> Result<Vec<(&'static str, Option<f64>)>> {
    let words = ["label".as_ref(), "bench".as_ref(), "--home".as_ref(), home.root().as_os_str()];
    let pty = Pty::open(&words as &[&OsStr], args.size)?;
    // It is ready when it has drawn and rests: the answers to its questions about the terminal never come.
    let mut ready = Instant::now() + Duration::from_secs(30);
    let mut drawn = 0;
    while drawn < 500 {
        if Instant::now() > ready {
            return Err(Error::failed("the labelling screen did not come up: open `tiebreak demo` to see why"));
        }
        drawn += pty.frame(Duration::from_millis(300), PATIENCE)?.map_or(0, |(_, bytes)| bytes);
    }
    ready = Instant::now() + Duration::from_millis(500);
    while Instant::now() < ready {
        pty.frame(PAUSE, PAUSE)?;
    }
    let bar = out::bar(args.keys.into(), "keys");
    let mut out = Vec::new();
    for i in 0..args.keys + WARM {
        let (name, key) = KEYS[i as usize % KEYS.len()];
        let pressed = Instant::now();
        pty.press(key)?;
        let seen = pty.frame(QUIET, PATIENCE)?;
        if i >= WARM {
            out.push((name, seen.map(|(at, _)| (at - pressed).as_secs_f64() * 1e3)));
            bar.inc(1);
        }
        let rested = Instant::now() + PAUSE;
        while Instant::now() < rested {
            pty.frame(QUIET, rested.saturating_duration_since(Instant::now()))?;
        }
    }
    bar.finish_and_clear();
    Ok(out)
}

/// A data folder that is gone afterwards.
struct Place {
    home: Home,
    _folder: TempDir,
}

impl Place {
    fn new() -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("tiebreak-bench-ui-")
            .tempdir()
            .map_err(|e| Error::io("create a folder in", &std::env::temp_dir(), e))?;
        let home = Home::resolve(Some(folder.path()))?;
        home.create()?;
        Ok(Self { home, _folder: folder })
    }
}

/// A session, its folder made.
fn session(home: &Home, name: &str, model: &ModelRef) -> Result<SessionDir> {
    let meta = SessionMeta {
        format: 1,
        name: name.into(),
        model: model.path.clone(),
        created_ms: plan::wall_ms(),
        app: env!("CARGO_PKG_VERSION").into(),
    };
    Ok(SessionDir::create(home, name, &meta)?)
}

/// Texts of the generator in an answer that is judged: more than a screen shows.
const SHOWN: u64 = 32;
/// And in one that is trained on: what the smallest model's context holds.
const TRAINED: u64 = 4;

/// Two answers to one question, each of so many exchanges of the generator as one text.
fn texts(n: u64, exchanges: u64) -> (String, [String; 2]) {
    let whole = |from: u64| (from..from + exchanges).map(|i| exchange(7, i).answer).collect::<Vec<_>>().join("\n\n");
    let from = 2 * exchanges * n;
    (exchange(7, from).prompt, [whole(from), whole(from + exchanges)])
}

/// The session `bench` with as many pairs to judge.
fn labels(home: &Home, pairs: u32) -> Result<()> {
    let dir = session(home, "bench", &ModelRef { name: "none".into(), path: "none".into() })?;
    let mut journal = Journal::require(&dir)?;
    for n in 0..u64::from(pairs) {
        let (question, answers) = texts(n, SHOWN);
        let prompt = PromptId::new(format!("p{n}"));
        let body = PromptBody::user(question);
        journal.append(&SessionRecord::Prompted(
            Prompt { id: prompt.clone(), body, source: "bench".into(), tags: [].into() }.into(),
        ))?;
        let mut ids = Vec::new();
        for (side, text) in ["a", "b"].into_iter().zip(answers) {
            let id = CompletionId::new(format!("c{n}.{side}"));
            ids.push(id.clone());
            journal.append(&SessionRecord::Completed(
                Completion {
                    turns: [].into(),
                    id,
                    prompt: prompt.clone(),
                    model: "bench".into(),
                    tokens: text.split_whitespace().count() as u32,
                    text: text.into(),
                    finish: Finish::Given,
                    sampler: None,
                    logprob: LogProb::UNKNOWN,
                }
                .into(),
            ))?;
        }
        if let [a, b] = ids.as_slice() {
            journal.append(&SessionRecord::Paired(
                Pair {
                    id: PairId::new(format!("x{n}")),
                    prompt,
                    a: a.clone(),
                    b: b.clone(),
                    strategy: "import".into(),
                    p_select: 1.0,
                }
                .into(),
            ))?;
        }
    }
    journal.sync()?;
    journal.close()
}

/// A training run beside the screens. Dropping it ends the run.
struct Load(RunDir);

impl Load {
    /// Launches the run and waits for its first step.
    fn start(context: &CommandContext, home: &Home, model: Option<&str>) -> Result<Self> {
        let model = match model {
            Some(name) => models::find(&context.home, name)?,
            None => models::embedded(home)?
                .ok_or_else(|| Error::Usage("this build carries no model: name one with --model".into()))?,
        };
        let dir = session(home, "load", &model)?;
        let file = home.root().join("pairs.jsonl");
        let mut rows = String::new();
        for n in 0..64 {
            let (question, [chosen, rejected]) = texts(n, TRAINED);
            let row = json!({
                "prompt": [{"role": "user", "content": question}],
                "chosen": [{"role": "assistant", "content": chosen}],
                "rejected": [{"role": "assistant", "content": rejected}],
            });
            rows.push_str(&format!("{row}\n"));
        }
        std::fs::write(&file, rows).map_err(|e| Error::io("write", &file, e))?;
        let mut journal = Journal::require(&dir)?;
        intake::bring_in(&mut journal, &file, Some(formats::import_named("pairs")?), None)?;
        journal.close()?;
        let set = ["num_train_epochs=1000", "per_device_train_batch_size=4", "eval_fraction=0", "save_steps=0"];
        let set: Vec<String> = set.iter().map(|s| (*s).to_owned()).collect();
        let order = TrainOrder {
            choice: crate::domain::RowChoice::default(),
            method: "dpo".into(),
            params: plan::params("dpo", &set)?,
            name: None,
            init: None,
            adapter: None,
            device: "cpu".into(),
            allow_damaged: false,
            suites: None,
            upto: None,
        };
        let (spec, data) = plan::train(home, &dir, order)?;
        let load = Self(supervisor::launch(&dir, None, &spec, &data, RunName::Next)?);
        let until = Instant::now() + RUN;
        while load.steps()? == 0 {
            if Instant::now() > until || !load.0.is_alive() {
                return Err(Error::failed(
                    "the training run beside the screens did not get going: see `tiebreak train`",
                ));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(load)
    }

    /// Steps made.
    fn steps(&self) -> Result<u64> {
        let events = self.0.tail().poll()?;
        let step = |e: &RunEvent| if let RunEvent::Stepped { step, .. } = e { Some(*step) } else { None };
        Ok(events.iter().filter_map(|e| e.known().and_then(step)).max().unwrap_or(0))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.0.post(RunCommand::Stop);
        let until = Instant::now() + RUN;
        while self.0.is_alive() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
