//! What a stranger wrote: 400 hostile texts as prompts, answers, names, notes, raters, tags, metrics and models, over every screen,
//! command and report; special files in a session's folder.

use crate::cli::{text, tiebreak};
use crate::support::{Desk, completion, envelopes, key, opened, pair, prompt, sampling, sampling_began, vote};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tiebreak::app::{Goal, Msg, Next, Popup, ROUTES, SessionCard};
use tiebreak::domain::{Finding, Metrics, PromptId, Rater, RunId, Severity, Side, TagChange, is_shown};
use tiebreak::protocol::{Integrity, ModelCard, RunEvent, SessionRecord, Task};
use tiebreak::storage::{Home, SessionDir, list_sessions};
use tiebreak::ui;

/// What each text carries.
const PAYLOADS: [&str; 20] = [
    "\u{1b}[2J\u{1b}[31mred",
    "\u{1b}]0;title\u{7}",
    "\u{1b}]8;;http://example.test\u{7}link\u{1b}]8;;\u{7}",
    "\u{1b}]52;c;cm0gLXJm\u{7}",
    "\u{9b}2J\u{9d}0;x\u{9c}",
    "\0\u{1}\u{8}\u{c}\u{e}\u{f}",
    "\u{7f}\u{80}\u{85}\u{9f}",
    "\u{202e}txt.exe\u{202d}\u{2066}\u{2069}",
    "\u{200e}\u{200f}\u{61c}",
    "\u{e0001}\u{e0041}\u{e0042}\u{e007f}",
    "\u{2028}line\u{2029}paragraph",
    "\u{200b}\u{2060}\u{feff}\u{ad}\u{180e}",
    "\u{fe00}\u{e0100}\u{e01ef}\u{fff9}\u{fffb}",
    "\u{ffff}\u{fffe}\u{fdd0}\u{1fffe}",
    "a\u{301}\u{302}\u{303}\u{304}\u{305}\u{306}\u{307}\u{308}\u{309}\u{30a}\u{30b}\u{30c}\u{30d}\u{30e}\u{30f}\u{310}",
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "[x](javascript:alert(1)) ![y](http://example.test/p.png)",
    "=cmd|' /C calc'!A0",
    "\r\rover\r\nwritten\t",
    "👩🏽\u{200d}❤\u{fe0f}\u{200d}💋\u{200d}👨🏿 ｗｉｄｅ 日本語",
];

/// 400 texts: every payload in 20 places.
fn corpus() -> Vec<String> {
    let frames: [fn(&str) -> String; 20] = [
        |p| p.to_owned(),
        |p| format!("{p}{p}{p}"),
        |p| format!("before {p}"),
        |p| format!("{p} after"),
        |p| format!("before {p} after"),
        |p| format!("\n{p}\n"),
        |p| format!("# {p}\n\n- {p}\n"),
        |p| format!("```\n{p}\n```"),
        |p| format!("`{p}`"),
        |p| format!("\"{p}\", '{p}'"),
        |p| format!("| {p} | {p} |\n|---|---|"),
        |p| format!("<b>{p}</b>"),
        |p| format!("{{\"k\": \"{p}\"}}"),
        |p| format!("{} {p}", "long ".repeat(300)),
        |p| p.repeat(100),
        |p| format!("{p}{}", "x".repeat(2000)),
        |p| format!("e{}{p}", "\u{301}".repeat(200)),
        |p| format!("=1+1,{p}"),
        |p| format!("@{p}"),
        |p| format!("<think>{p}</think>{p}"),
    ];
    PAYLOADS.iter().flat_map(|payload| frames.iter().map(move |frame| frame(payload))).collect()
}

/// A session whose every free text is one of these.
fn records(texts: &[String]) -> Vec<SessionRecord> {
    let mut out = Vec::new();
    for (i, text) in texts.iter().enumerate() {
        let id = format!("p{i}");
        let mut asked = prompt(&id, text, text);
        asked.source = text.into();
        out.push(SessionRecord::Prompted(asked.into()));
        for side in ["0", "1"] {
            let mut answer = completion(&format!("{id}.{side}"), &id, &format!("{side}{text}"), 3);
            answer.model = text.into();
            out.push(SessionRecord::Completed(answer.into()));
        }
        let pair = pair(&id);
        out.push(SessionRecord::Paired(pair.clone().into()));
        // Every second pair stays open, for the screens that ask.
        if i % 2 == 0 {
            out.push(vote(pair.id.as_str(), text, Side::A));
            let rater = Rater::new(text.as_str());
            out.push(SessionRecord::Noted { pair: pair.id.clone(), rater: rater.clone(), text: text.clone() });
            out.push(SessionRecord::Corrected {
                pair: pair.id.clone(),
                completion: pair.a.clone(),
                rater: rater.clone(),
                text: format!("better {text}"),
            });
            let prompt = PromptId::new(id.as_str());
            out.push(SessionRecord::Tagged(TagChange { prompt, tag: text.clone(), rater, on: true }));
        }
        if i % 7 == 0 {
            out.push(SessionRecord::CriterionSet { name: text.clone(), sentence: Some(text.clone()) });
        }
    }
    out
}

/// What a run logs, with every free text one of these.
fn events(texts: &[String]) -> Vec<RunEvent> {
    let mut out = sampling_began(60);
    for (i, text) in texts.iter().enumerate() {
        let metrics: Metrics = serde_json::from_value(serde_json::json!({ "loss": 0.5, text.as_str(): -1.5 })).unwrap();
        out.push(RunEvent::Stepped { step: i as u64 + 1, epoch: 0.1, metrics });
        out.push(RunEvent::Found(Finding {
            rule: text.clone(),
            step: i as u64 + 1,
            severity: Severity::Warn,
            text: text.clone(),
            remedy: text.clone(),
            pair: None,
        }));
    }
    out
}

/// Asserts that every cell of the screen holds only what may be shown.
fn check(desk: &Desk, what: &str) {
    let (w, h) = desk.model.size;
    let mut terminal = Terminal::new(TestBackend::new(w, h)).unwrap();
    terminal.draw(|frame| ui::render(frame, &desk.model)).unwrap();
    for cell in terminal.backend().buffer().content() {
        let symbol = cell.symbol();
        assert!(symbol.chars().all(is_shown) && symbol.chars().count() <= 13, "{what}: {symbol:?}");
    }
}

#[test]
fn no_screen_shows_what_a_strangers_text_hides() {
    let texts = corpus();
    assert_eq!(texts.len(), 400);
    for (batch, texts) in texts.chunks(20).enumerate() {
        let first = &texts[batch % texts.len()];
        let mut desk = Desk::with_session(100, 30, records(texts));
        desk.send(Msg::SessionsListed(
            texts
                .iter()
                .map(|text| SessionCard {
                    name: text.clone(),
                    model: text.clone(),
                    labels: vec![(Rater::new(text.as_str()), 3)],
                    integrity: Integrity::default(),
                    runs: 1,
                    running: Vec::new(),
                    changed_ms: 1,
                    losses: vec![0.5],
                })
                .collect(),
        ));
        let card = |text: &String| ModelCard {
            name: text.clone(),
            path: text.clone(),
            format: text.clone(),
            family: text.clone(),
            parameters: 1,
            bytes: 2,
            context: 3,
            chat: true,
            problem: Some(text.clone()),
        };
        desk.send(Msg::ModelsListed(texts.iter().map(card).collect()));
        desk.send(Msg::DeviceKnown(first.clone()));
        let mut spec = sampling(first);
        if let Task::Sample(sample) = &mut spec.task {
            sample.models[0].name.clone_from(first);
        }
        let run = spec.id.clone();
        desk.send(Msg::RunFound(Box::new(spec)));
        desk.send(Msg::RunAlive { run: run.clone(), alive: true });
        desk.send(Msg::RunRecords { run: run.clone(), records: envelopes(&events(texts)) });
        desk.send(Msg::WorkerLog { run, lines: texts.to_vec() });
        for route in ROUTES {
            let effects = tiebreak::app::follow(&mut desk.model, Next::go(Goal::to(route.name)));
            drop(effects);
            check(&desk, &format!("{} of batch {batch}", route.name));
            for word in ["down", "tab", "enter"] {
                desk.send(Msg::Key(key(word)));
                check(&desk, &format!("{} of batch {batch} after {word}", route.name));
            }
            desk.model.popups.clear();
        }
        for text in texts.iter().step_by(4) {
            desk.model.popups.push(Popup::Message { title: text.clone(), body: text.clone() });
            check(&desk, "a message");
            desk.model.popups.clear();
            desk.send(Msg::Note(text.clone()));
            check(&desk, "a notice");
            desk.send(Msg::Failed(text.clone()));
            check(&desk, "a failure");
            desk.model.popups.clear();
        }
        let mut session = opened(first);
        session.meta.model.clone_from(first);
        session.rater = Rater::new(first.as_str());
        desk.send(Msg::SessionOpened(session));
        check(&desk, "a session of that name");
    }
}

/// A bundled session with a run, to which every text was added.
fn foreign(home: &Path, name: &str, texts: &[String]) -> PathBuf {
    let sessions = Home::resolve(Some(home)).unwrap();
    sessions.create().unwrap();
    let path = sessions.sessions().join(name);
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("sessions/tiny"), &path);
    let dir = SessionDir::open(&path).unwrap();
    let lock = dir.lock().unwrap().unwrap();
    let mut writer = dir.writer(&lock).unwrap();
    for record in records(texts) {
        writer.append(&record).unwrap();
    }
    writer.sync().unwrap();
    let run = dir.run(&RunId::new("sft-1")).unwrap();
    let lock = run.lock().unwrap().unwrap();
    let mut writer = run.writer(&lock).unwrap();
    for event in events(texts) {
        writer.append(&event).unwrap();
    }
    writer.sync().unwrap();
    path
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Asserts that an output holds only what may be shown.
fn clean(bytes: &[u8], what: &str) {
    let text = std::str::from_utf8(bytes).unwrap_or_else(|e| panic!("{what}: {e}"));
    let hidden = text.char_indices().find(|(_, c)| *c != '\n' && !is_shown(*c));
    if let Some((at, c)) = hidden {
        let around: String = text[..at].chars().rev().take(40).collect::<Vec<_>>().into_iter().rev().collect();
        panic!("{what}: {c:?} after {around:?}");
    }
}

#[test]
fn no_command_and_no_report_lets_a_strangers_text_out() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    foreign(home, "odd", &corpus());
    let at = |name: &str| home.join(name).to_str().unwrap().to_owned();
    let mut commands: Vec<Vec<String>> = Vec::new();
    let mut add = |line: &str| commands.push(line.split(' ').map(str::to_owned).collect());
    for line in [
        "runs odd",
        "agreement odd",
        "rubric odd",
        "tag odd",
        "rule odd",
        "replay odd --check",
        "models",
        "export odd --to -",
        "report odd --to -",
        "pair odd --strategy random --limit 3",
        "doctor",
    ] {
        add(line);
        add(&format!("{line} --json"));
    }
    for format in ["kto", "pairs", "sft", "trl", "trl-implicit", "votes"] {
        add(&format!("export odd --format {format} --to {}", at(&format!("{format}.jsonl"))));
    }
    for ending in ["md", "html", "csv", "json", "svg"] {
        add(&format!("report odd --to {}", at(&format!("all.{ending}"))));
        add(&format!("report odd/sft-1 --to {}", at(&format!("run.{ending}"))));
    }
    for route in ROUTES {
        add(&format!("report odd --screen {} --to {}", route.name, at(&format!("{}.svg", route.name))));
    }
    let mut done = 0;
    for command in &commands {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        let output = tiebreak(home, &words);
        let what = words.join(" ");
        clean(&output.stdout, &what);
        clean(&output.stderr, &what);
        assert!(!text(&output.stderr).contains("bug"), "{what}: {}", text(&output.stderr));
        done += usize::from(output.status.success());
    }
    assert!(done * 10 >= commands.len() * 8, "{done} of {} commands did something", commands.len());
    let mut files = 0;
    for entry in fs::read_dir(home).unwrap() {
        let path = entry.unwrap().path();
        let Some(ending) = path.extension().and_then(|e| e.to_str()).filter(|_| path.is_file()) else { continue };
        let bytes = fs::read(&path).unwrap();
        clean(&bytes, &path.display().to_string());
        let text = String::from_utf8(bytes).unwrap();
        match ending {
            "html" | "svg" => {
                let lower = text.to_lowercase();
                for markup in ["<script", "<img", "onerror=alert(1)>", "href=\"javascript:"] {
                    assert!(!lower.contains(markup), "{}: {markup}", path.display());
                }
            }
            "csv" => {
                let mut table = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
                for cell in table.records().flat_map(|row| row.unwrap().iter().map(str::to_owned).collect::<Vec<_>>()) {
                    let formula =
                        cell.trim_start().starts_with(['=', '+', '-', '@']) && cell.trim().parse::<f64>().is_err();
                    assert!(!formula, "{cell:?}");
                }
            }
            "jsonl" => {
                for line in text.lines() {
                    serde_json::from_str::<serde_json::Value>(line).unwrap();
                }
            }
            _ => {}
        }
        files += 1;
    }
    assert!(files > 20, "{files} files");
}

/// Puts something else in a file's place.
type Put = fn(&Path);

const SPECIAL: [(&str, Put); 5] = [
    ("a named pipe", |path| {
        assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    }),
    ("a socket", |path| {
        // The name of a socket is short: bound beside it and moved.
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::net::UnixListener::bind(dir.path().join("s")).unwrap();
        fs::rename(dir.path().join("s"), path).or_else(|_| fs::create_dir(path)).unwrap();
    }),
    ("a link to /dev/zero", |path| symlink("/dev/zero", path).unwrap()),
    ("a sparse file of 1 TiB", |path| fs::File::create(path).unwrap().set_len(1 << 40).unwrap()),
    ("a link out of the session", |path| {
        let outside = path.ancestors().find(|p| p.join("sessions").is_dir()).unwrap().join("secret");
        fs::write(&outside, "{\"SECRET\":1}\n").unwrap();
        symlink(outside, path).unwrap();
    }),
];

/// Runs a command with a time limit; its exit code and what it said.
fn within(home: &Path, args: &[&str], limit: Duration) -> (Option<i32>, String) {
    // Into a file: a full pipe would stop it.
    let said = tempfile::NamedTempFile::new().unwrap();
    let append = || fs::OpenOptions::new().append(true).open(said.path()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tiebreak"));
    command.args(args).env("TIEBREAK_HOME", home).stdin(Stdio::null());
    let mut child = command.stdout(append()).stderr(append()).spawn().unwrap();
    let until = Instant::now() + limit;
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if Instant::now() > until => {
                child.kill().unwrap();
                panic!("{args:?} does not end");
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    (status.code(), text(&fs::read(said.path()).unwrap()))
}

#[test]
fn a_special_file_in_a_session_blocks_nothing() {
    let files = [
        "session.json",
        "summary.json",
        "lock",
        "events/000001.jsonl",
        "events/000002.jsonl",
        "runs/sft-1/spec.json",
        "runs/sft-1/lock",
        "runs/sft-1/metrics/000001.jsonl",
        "runs/sft-1/data.jsonl",
        "runs/sft-1/worker.log",
        "runs/sft-1/growing.json",
    ];
    let template = tempfile::tempdir().unwrap();
    foreign(template.path(), "odd", &[]);
    for file in files {
        for (kind, put) in SPECIAL {
            let home = tempfile::tempdir().unwrap();
            let home = home.path();
            for name in ["good", "odd"] {
                copy(&template.path().join("sessions/odd"), &home.join("sessions").join(name));
            }
            let path = home.join("sessions/odd").join(file);
            let _ = fs::remove_file(&path);
            put(&path);
            let what = format!("{kind} as {file}");
            let begin = Instant::now();
            let listed = list_sessions(&Home::resolve(Some(home)).unwrap()).unwrap();
            assert!(listed.iter().any(|card| card.name == "good"), "{what}");
            assert!(begin.elapsed() < Duration::from_secs(5), "{what}: the list took {:?}", begin.elapsed());
            let target = home.join("report.md");
            for args in [
                ["runs", "odd"].as_slice(),
                &["replay", "odd", "--check"],
                &["report", "odd", "--to", target.to_str().unwrap()],
                &["export", "odd", "--to", "-"],
            ] {
                let (code, said) = within(home, args, Duration::from_secs(20));
                assert!(matches!(code, Some(0 | 1)), "{what}, {args:?}: {code:?} {said}");
                assert!(!said.contains("SECRET") && !said.contains("bug"), "{what}, {args:?}: {said}");
            }
        }
    }
}

#[test]
fn a_folder_of_a_session_may_not_lie_elsewhere() {
    let home = tempfile::tempdir().unwrap();
    let path = foreign(home.path(), "odd", &[]);
    let outside = home.path().join("elsewhere");
    fs::rename(path.join("runs"), &outside).unwrap();
    symlink(&outside, path.join("runs")).unwrap();
    let (code, said) = within(home.path(), &["runs", "odd"], Duration::from_secs(20));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("runs is a link that leads out of the session's folder"), "{said}");
}

#[test]
fn an_import_takes_pipes_and_no_devices() {
    let home = tempfile::tempdir().unwrap();
    crate::cli::with_pairs(home.path());
    for device in ["/dev/zero", "/dev/urandom", "/dev/null"] {
        let (code, said) = within(home.path(), &["import", "tone", device, "--as", "pairs"], Duration::from_secs(20));
        assert_eq!((code, said.trim_end().lines().count()), (Some(1), 1), "{said}");
        assert!(said.contains("is a device: name a file or a pipe"), "{said}");
    }
    let row = "{\"prompt\":\"piped\",\"chosen\":\"a\",\"rejected\":\"b\"}";
    let line = format!("echo '{row}' | \"$0\" import tone /dev/stdin --as pairs");
    let piped = Command::new("sh")
        .args(["-c", &line, env!("CARGO_BIN_EXE_tiebreak")])
        .env("TIEBREAK_HOME", home.path())
        .output()
        .unwrap();
    assert!(piped.status.success(), "{}", text(&piped.stderr));
    // A pipe of the shell, whose writer takes its time.
    let row = row.replace("piped", "substituted");
    let line = format!("\"$0\" import tone <(sleep 1; echo '{row}') --as pairs");
    let piped = Command::new("bash")
        .args(["-c", &line, env!("CARGO_BIN_EXE_tiebreak")])
        .env("TIEBREAK_HOME", home.path())
        .output()
        .unwrap();
    assert!(piped.status.success(), "{}", text(&piped.stderr));
    let exported = text(&crate::cli::tiebreak(home.path(), &["export", "tone", "--to", "-"]).stdout);
    assert!(exported.contains("\"piped\"") && exported.contains("\"substituted\""), "{exported}");
}

#[test]
fn an_import_from_a_pipe_without_a_writer_ends_with_a_sentence_and_by_ctrl_c() {
    let home = tempfile::tempdir().unwrap();
    crate::cli::with_pairs(home.path());
    let pipe = home.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let pipe = pipe.to_str().unwrap();
    let (code, said) = within(home.path(), &["import", "tone", pipe], Duration::from_secs(20));
    assert_eq!((code, said.trim_end().lines().count()), (Some(1), 1), "{said}");
    assert!(said.contains("is a pipe, which can be read only once: name its format with --as"), "{said}");
    let args = ["import", "tone", pipe, "--as", "pairs"];
    let (code, said) = within(home.path(), &args, Duration::from_secs(30));
    assert_eq!((code, said.trim_end().lines().count()), (Some(1), 1), "{said}");
    assert!(said.contains("nobody has opened this pipe for writing within 10 s: start the program"), "{said}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tiebreak"));
    let mut child = command.args(args).env("TIEBREAK_HOME", home.path()).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(1));
    assert!(child.try_wait().unwrap().is_none(), "it waits for a writer");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let began = Instant::now();
    assert!(!child.wait().unwrap().success());
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[test]
fn a_worker_at_the_limit_on_the_size_of_files_ends_with_a_sentence_and_no_part_of_a_checkpoint() {
    let home = tempfile::tempdir().unwrap();
    crate::cli::with_pairs(home.path());
    // In units of 512 or 1024 bytes, less than a checkpoint of the small model has.
    let line = "ulimit -f 8; exec \"$0\" train tone dpo --set max_steps=2 --set eval_fraction=0 --set save_steps=1";
    let output = Command::new("sh")
        .args(["-c", line, env!("CARGO_BIN_EXE_tiebreak")])
        .env("TIEBREAK_HOME", home.path())
        .output()
        .unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let last = said.trim_end().lines().next_back().unwrap_or_default();
    assert!(last.contains("limit on files of this process: raise it with `ulimit -f`"), "{said}");
    let run = home.path().join("sessions/tone/runs/dpo-1");
    let left: Vec<_> = fs::read_dir(run.join("ckpt")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(
        crate::worker::events(&tiebreak::storage::RunDir::open(&run).unwrap())
            .iter()
            .any(|event| matches!(event, tiebreak::protocol::RunEvent::Failed { .. }))
    );
}

#[test]
fn a_limit_on_the_size_of_files_is_one_sentence() {
    let home = tempfile::tempdir().unwrap();
    crate::cli::with_pairs(home.path());
    let rows: String = (0..4000)
        .map(|i| format!("{{\"prompt\":\"q{i}\",\"chosen\":\"a\",\"rejected\":\"b\"}}"))
        .collect::<Vec<_>>()
        .join("\n");
    let file = home.path().join("many.jsonl");
    fs::write(&file, rows).unwrap();
    let line = "ulimit -f 64; exec \"$0\" import tone \"$1\"";
    let output = Command::new("sh")
        .args(["-c", line, env!("CARGO_BIN_EXE_tiebreak"), file.to_str().unwrap()])
        .env("TIEBREAK_HOME", home.path())
        .output()
        .unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("raise it with `ulimit -f`"), "{said}");
    // What was there is there.
    let (code, said) = within(home.path(), &["export", "tone", "--to", "-"], Duration::from_secs(20));
    assert_eq!(code, Some(0), "{said}");
}

/// A folder of the embedded model with this chat template.
fn model_with(home: &Path, template: &str) -> PathBuf {
    let folder = home.join("hostile-model");
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-llama"), &folder);
    fs::write(folder.join("chat_template.jinja"), template).unwrap();
    folder
}

#[test]
fn a_hostile_model_ends_a_command_with_one_sentence() {
    let home = tempfile::tempdir().unwrap();
    let rows = home.path().join("rows.jsonl");
    let talk = "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"},{\"role\":\"assistant\",\"content\":\"Ho\"}]}\n";
    fs::write(&rows, talk).unwrap();
    let compared = "{% set a = namespace(s=[1]) %}{% set b = namespace(s=[1]) %}{% for i in range(60) %}\
                    {% set a.s = [a.s, a.s] %}{% set b.s = [b.s, b.s] %}{% endfor %}{{ a.s == b.s }}";
    let joined = "{% set a = namespace(s=['x' * 1000]) %}{% for i in range(60) %}{% set a.s = [a.s, a.s] %}{% endfor %}{{ a.s | join }}";
    let doubled = "{% set a = namespace(s=[1, 2]) %}{% for i in range(60) %}{% set a.s = a.s + a.s %}{% endfor %}{{ a.s | length }}";
    for (template, said) in
        [("{{ 'x' * 100000000 }}", "limit"), (compared, "not ready after 5 s"), (joined, "MiB"), (doubled, "text")]
    {
        let folder = model_with(home.path(), template);
        let args = ["render", folder.to_str().unwrap(), rows.to_str().unwrap()];
        let (code, out) = within(home.path(), &args, Duration::from_mins(1));
        assert!(out.contains(said) && !out.contains("bug"), "{template}: {code:?} {out}");
        assert!(out.lines().count() < 20, "{template}: {out}");
    }
    let folder = model_with(home.path(), "{% for m in messages %}{{ m.content }}{% endfor %}");
    let spec = fs::read_to_string(folder.join("tokenizer.json")).unwrap();
    let mut spec: serde_json::Value = serde_json::from_str(&spec).unwrap();
    let replace = serde_json::json!({ "type": "Replace", "pattern": { "Regex": "" }, "content": "a".repeat(100) });
    spec["normalizer"] = serde_json::json!({ "type": "Sequence", "normalizers": vec![replace; 10] });
    fs::write(folder.join("tokenizer.json"), spec.to_string()).unwrap();
    let args = ["render", folder.to_str().unwrap(), rows.to_str().unwrap()];
    let (code, out) = within(home.path(), &args, Duration::from_mins(1));
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("the limit is 16 times") && !out.contains("bug"), "{out}");
}
