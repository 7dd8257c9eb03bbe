//! The real binary in a pseudo-terminal: it draws, reacts, idles, restores the terminal and loses no label.

use crate::terminal::Pty;
use portable_pty::{CommandBuilder, PtySize};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tiebreak::domain::{Completion, CompletionId, Finish, LogProb, Pair, PairId, Prompt, PromptBody, PromptId};
use tiebreak::protocol::{SessionMeta, SessionRecord};
use tiebreak::storage::{Home, SessionDir};

/// A session with unlabelled pairs, written like an import.
pub fn session(home: &Path, name: &str, pairs: usize) -> PathBuf {
    let home = Home::resolve(Some(home)).unwrap();
    home.create().unwrap();
    let meta = SessionMeta { format: 1, name: name.into(), model: "none".into(), created_ms: 1, app: "test".into() };
    let dir = SessionDir::create(&home, name, &meta).unwrap();
    let lock = dir.lock().unwrap().unwrap();
    let mut writer = dir.writer(&lock).unwrap();
    for i in 1..=pairs {
        let prompt = PromptId::new(format!("p{i}"));
        let body = PromptBody::user(format!("question number {i}"));
        writer
            .append(&SessionRecord::Prompted(
                Prompt { id: prompt.clone(), body, source: "test".into(), tags: [].into() }.into(),
            ))
            .unwrap();
        let side = |name: &str| Completion {
            turns: [].into(),
            id: CompletionId::new(format!("i{i}.{name}")),
            prompt: prompt.clone(),
            model: "test".into(),
            text: format!("answer {name} to question {i}").into(),
            tokens: 5,
            finish: Finish::Given,
            sampler: None,
            logprob: LogProb::UNKNOWN,
        };
        let (a, b) = (side("a"), side("b"));
        let pair = Pair {
            id: PairId::new(format!("i{i}")),
            prompt: prompt.clone(),
            a: a.id.clone(),
            b: b.id.clone(),
            strategy: "import".into(),
            p_select: 1.0,
        };
        for record in
            [SessionRecord::Completed(a.into()), SessionRecord::Completed(b.into()), SessionRecord::Paired(pair.into())]
        {
            writer.append(&record).unwrap();
        }
    }
    writer.sync().unwrap();
    dir.path().to_owned()
}

#[test]
fn it_starts_reacts_resizes_and_restores_the_terminal() {
    let home = tempfile::tempdir().unwrap();
    session(home.path(), "tone", 3);
    let mut pty = Pty::open(home.path(), &[]);
    pty.wait("session", |t| t.contains("tone"));
    pty.keys("?");
    pty.wait("help", |t| t.contains("find any action"));
    pty.keys("\x1b");
    pty.wait("screen without help", |t| !t.contains("find any action"));
    let size = PtySize { rows: 40, cols: 120, pixel_width: 0, pixel_height: 0 };
    pty.screen.lock().unwrap().parser.screen_mut().set_size(40, 120);
    pty.master.as_ref().unwrap().resize(size).unwrap();
    pty.wait("footer at the bottom", |t| t.lines().nth(39).is_some_and(|l| l.contains("help")));
    pty.keys("q");
    let (_, code) = pty.ended();
    assert_eq!(code, 0);
    std::thread::sleep(Duration::from_millis(100));
    let screen = pty.screen.lock().unwrap();
    let now = screen.parser.screen();
    assert!(!now.alternate_screen() && !now.hide_cursor() && !now.bracketed_paste(), "the terminal is not restored");
}

#[test]
fn nothing_is_written_while_nothing_changes() {
    let home = tempfile::tempdir().unwrap();
    session(home.path(), "tone", 3);
    for args in [&[][..], &["label", "tone"]] {
        let pty = Pty::open(home.path(), args);
        pty.wait("footer", |t| t.contains("help"));
        pty.settle(Duration::from_millis(1500));
        let before = pty.written();
        std::thread::sleep(Duration::from_millis(2500));
        assert_eq!(pty.written(), before, "written while idle:\n{}", pty.text());
    }
}

#[test]
fn it_ends_soon_after_a_signal() {
    let home = tempfile::tempdir().unwrap();
    session(home.path(), "tone", 3);
    let opened = || {
        let pty = Pty::open(home.path(), &["label", "tone"]);
        pty.wait("session", |t| t.contains("tone"));
        pty
    };
    // Should take a second; allows three on a busy machine.
    let bound = Duration::from_secs(3);
    for signal in [rustix::process::Signal::HUP, rustix::process::Signal::TERM] {
        let mut pty = opened();
        pty.signal(signal);
        let (took, code) = pty.ended();
        assert!(took < bound, "{signal:?}: {took:?}");
        assert_eq!(code, 128 + signal.as_raw() as u32);
        std::thread::sleep(Duration::from_millis(100));
        assert!(!pty.screen.lock().unwrap().parser.screen().alternate_screen(), "{signal:?} leaves the screen taken");
    }
}

#[test]
fn it_ends_soon_after_a_hang_up() {
    let home = tempfile::tempdir().unwrap();
    session(home.path(), "tone", 3);
    let (mut pty, mut reader) = Pty::unread(home.path(), &["label", "tone"]);
    let mut buffer = vec![0u8; 1 << 16];
    // Checks the screen, not the bytes: a frame writes only changed cells.
    while !pty.text().contains("tone") {
        let n = reader.read(&mut buffer).unwrap();
        pty.screen.lock().unwrap().parser.process(&buffer[..n]);
    }
    drop(reader);
    pty.master = None;
    let (took, code) = pty.ended();
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert_ne!(code, 0);
}

#[test]
fn a_killed_workbench_has_lost_no_acknowledged_verdict() {
    kills(10);
}

#[test]
#[ignore = "takes minutes: the long version of the one above"]
fn a_workbench_killed_a_hundred_times_has_lost_no_acknowledged_verdict() {
    kills(100);
}

fn kills(times: u32) {
    let mut acknowledged = 0;
    for round in 0..times {
        let home = tempfile::tempdir().unwrap();
        session(home.path(), "tone", 400);
        let mut pty = Pty::open(home.path(), &["label", "tone"]);
        pty.wait("pair", |t| t.contains("question number 1"));
        // Sends keys as fast as the terminal takes them and records what the screen reports as saved.
        let mut writer = pty.writer.take().unwrap();
        let typist = std::thread::spawn(move || {
            for i in 0..300 {
                let key: &[u8] = if i % 2 == 0 { b"1" } else { b"2" };
                if writer.write_all(key).and_then(|()| writer.flush()).is_err() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        std::thread::sleep(Duration::from_millis(60 + u64::from(round) * 37 % 500));
        pty.signal(rustix::process::Signal::KILL);
        pty.child.wait().unwrap();
        typist.join().unwrap();
        std::thread::sleep(Duration::from_millis(50));
        let said = saved(&pty.screen.lock().unwrap().bytes);
        let dir = SessionDir::find(&Home::resolve(Some(home.path())).unwrap(), "tone").unwrap();
        let (state, _) = dir.state().unwrap();
        let kept = state.verdicts().filter(|(_, j)| !j.undone).count();
        assert!(kept >= said, "round {round}: the screen called {said} verdicts saved, the log holds {kept}");
        acknowledged += said;
    }
    assert!(acknowledged > 0, "no verdict was ever acknowledged: the test checks nothing");
}

/// The largest number of verdicts that the screen showed as saved.
fn saved(bytes: &[u8]) -> usize {
    let mut parser = vt100::Parser::new(24, 80, 0);
    let mut most = 0;
    // Splits into frames: each begins with a cursor movement after the reset of the one before.
    for part in bytes.split_inclusive(|b| *b == b'm') {
        parser.process(part);
        if part.ends_with(b"\x1b[0m") {
            let text = parser.screen().contents();
            if text.contains("✓ saved") {
                most = most.max(done(&text));
            }
        }
    }
    most
}

/// The number before ` of ` in the header.
fn done(text: &str) -> usize {
    let Some((before, _)) = text.lines().next().and_then(|l| l.split_once(" of ")) else { return 0 };
    before.rsplit(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

#[test]
fn a_too_small_terminal_shows_a_message() {
    let home = tempfile::tempdir().unwrap();
    let mut pty = Pty::sized(home.path(), &[], 40, 10);
    pty.wait("sentence", |t| t.contains("too small: needs 60x16, is 40x10"));
    pty.keys("q");
    assert_eq!(pty.ended().1, 0);
}

/// Sets the terminal up, draws, and panics in another thread, as the log writer might.
#[test]
#[ignore = "panics on purpose, inside the terminal of the test below"]
fn inside_a_terminal_panics() {
    tiebreak::shell::install(tiebreak::shell::reports());
    let _guard = tiebreak::shell::terminal::TerminalGuard::take(false).unwrap();
    std::io::stdout().write_all(b"drawn on the alternate screen").unwrap();
    std::io::stdout().flush().unwrap();
    let _ = std::thread::Builder::new().name("writer".into()).spawn(|| panic!("the log is gone")).unwrap().join();
    // The panic hook has ended the process.
    std::thread::sleep(crate::terminal::PATIENCE);
}

fn panicked(colour: bool) -> (String, String, u32) {
    let mut command = CommandBuilder::new(std::env::current_exe().unwrap());
    command.args(["--exact", "pty::inside_a_terminal_panics", "--ignored", "--nocapture"]);
    command.env("TERM", "xterm-256color");
    command.env_remove("RUST_BACKTRACE");
    if colour {
        command.env_remove("NO_COLOR");
    } else {
        command.env("NO_COLOR", "1");
    }
    let mut pty = Pty::program(command);
    let (_, code) = pty.ended();
    pty.settle(Duration::from_millis(200));
    let bytes = String::from_utf8_lossy(&pty.screen.lock().unwrap().bytes).into_owned();
    (bytes, pty.text(), code)
}

#[test]
fn a_panic_restores_the_terminal_before_writing_its_report() {
    let (bytes, text, code) = panicked(true);
    assert_eq!(code, 101);
    let left = bytes.find("\x1b[?1049l").expect("the alternate screen is left");
    let report = bytes.find("the log is gone").expect("the panic is reported");
    assert!(bytes.find("drawn on the alternate screen").unwrap() < left && left < report, "{bytes:?}");
    assert!(text.contains("the log is gone") && text.contains("This is a bug in tiebreak"), "{text}");
    assert!(!text.contains("drawn on"), "{text}");
    assert!(bytes[report - 40..].contains("\x1b[3"), "the report has colours: {bytes:?}");
}

#[test]
fn a_report_respects_no_color() {
    let (bytes, _, _) = panicked(false);
    let report = &bytes[bytes.find("\x1b[?1049l").unwrap() + 8..];
    assert!(report.contains("the log is gone") && !report.contains("\x1b["), "{report:?}");
}

#[test]
fn a_second_terminal_can_write_once_the_first_is_closed() {
    let home = tempfile::tempdir().unwrap();
    session(home.path(), "tone", 3);
    let mut first = Pty::open(home.path(), &["label", "tone"]);
    first.wait("session", |t| t.contains("question number 1"));
    let mut second = Pty::open(home.path(), &["label", "tone", "--rater", "ben"]);
    second.wait("read-only", |t| t.contains("read-only: held by process") && t.contains("question number 1"));
    second.keys("1");
    second.wait("refusal", |t| t.contains("⚠ read-only: process"));
    first.keys("q");
    assert_eq!(first.ended().1, 0);
    second.wait("free", |t| t.contains("the session is free now") && !t.contains("read-only: held"));
    second.keys("1");
    second.wait("saved", |t| t.contains("question number 2") && t.contains("✓ saved"));
    second.keys("q");
    assert_eq!(second.ended().1, 0);
    let dir = SessionDir::find(&Home::resolve(Some(home.path())).unwrap(), "tone").unwrap();
    let (state, _) = dir.state().unwrap();
    let raters: Vec<String> = state.verdicts().map(|(_, j)| j.verdict.rater.as_str().to_owned()).collect();
    assert_eq!(raters, ["ben"]);
}
