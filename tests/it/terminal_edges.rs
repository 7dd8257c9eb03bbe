//! Terminals at their limits: one of 65535 by 65535 cells, one whose output is stopped, one whose locale shows ASCII only.

use crate::pty::session;
use crate::terminal::{BINARY, Pty};
use portable_pty::{CommandBuilder, PtySize};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use rustix::process::Signal;
use rustix::termios::{Action, LocalModes, tcflow, tcgetattr};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::path::Path;
use std::time::Duration;
use tiebreak::app::Theme;
use tiebreak::ui::theme::finish;

#[test]
fn a_terminal_that_claims_65535_by_65535_cells_is_drawn_on() {
    let home = tempfile::tempdir().unwrap();
    session(home.path(), "tone", 4);
    // It claims them from the start.
    let mut command = CommandBuilder::new("sh");
    command.args(["-c", "stty rows 65535 cols 65535; exec \"$0\" label tone", BINARY]);
    command.env("TIEBREAK_HOME", home.path());
    command.env("TERM", "xterm-256color");
    command.env("LANG", "C.UTF-8");
    let mut pty = Pty::program(command);
    pty.wait("a screen", |_| pty.written() > 2000);
    pty.settle(Duration::from_millis(500));
    pty.keys("q");
    assert_eq!(pty.ended().1, 0, "{}", pty.text());
    // It grows to them.
    let mut pty = Pty::open(home.path(), &["label", "tone"]);
    pty.wait("pair", |t| t.contains("question number 1"));
    let size = PtySize { rows: 65535, cols: 65535, pixel_width: 0, pixel_height: 0 };
    let before = pty.written();
    pty.master.as_ref().unwrap().resize(size).unwrap();
    pty.wait("another frame", |_| pty.written() > before);
    pty.settle(Duration::from_millis(500));
    pty.keys("q");
    assert_eq!(pty.ended().1, 0, "{}", pty.text());
}

#[test]
fn a_stopped_output_and_then_a_signal_leave_the_terminal_as_it_was() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let home = tempfile::tempdir().unwrap();
        session(home.path(), "tone", 4);
        let mut pty = Pty::open(home.path(), &["label", "tone"]);
        pty.wait("pair", |t| t.contains("question number 1"));
        let name = pty.master.as_ref().unwrap().tty_name().unwrap();
        let tty = OpenOptions::new().read(true).write(true).open(name).unwrap();
        let cooked = LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
        assert!(
            !tcgetattr(&tty).unwrap().local_modes.contains(LocalModes::ICANON),
            "it is raw while the screen is there"
        );
        tcflow(&tty, Action::OOff).unwrap();
        // Frames that nobody lets through.
        for _ in 0..20 {
            pty.keys("?");
            std::thread::sleep(Duration::from_millis(20));
        }
        pty.signal(signal);
        let (took, _) = pty.ended();
        assert!(took < Duration::from_secs(9), "{signal:?}: {took:?}");
        let after = tcgetattr(&tty).unwrap();
        assert!(after.local_modes.contains(cooked), "{signal:?}: {:?}", after.local_modes);
        pty.settle(Duration::from_millis(300));
        let shown = pty.screen.lock().unwrap().parser.screen().alternate_screen();
        assert!(!shown, "{signal:?}: the alternate screen is left");
    }
}

/// What a cell shows in a theme without other characters than ASCII.
fn plain(symbol: &str) -> String {
    let area = Rect::new(0, 0, 1, 1);
    let mut buffer = Buffer::empty(area);
    buffer[(0, 0)].set_symbol(symbol);
    finish(&mut buffer, area, Theme { colour: true, ascii: true, light: false });
    buffer[(0, 0)].symbol().to_owned()
}

#[test]
fn every_character_that_a_screen_draws_has_a_form_in_ascii() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/snapshots");
    let mut without: BTreeMap<char, String> = BTreeMap::new();
    let mut looked = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let text = fs::read_to_string(entry.path()).unwrap();
        looked += 1;
        for c in text.chars().filter(|c| !c.is_ascii()) {
            if !plain(&c.to_string()).is_ascii() {
                without.entry(c).or_insert_with(|| entry.file_name().to_string_lossy().into_owned());
            }
        }
    }
    assert!(looked > 100, "{looked}");
    assert_eq!(without, BTreeMap::new(), "characters that stay as they are");
    // What a person or a model wrote stays.
    assert_eq!((plain("é"), plain("漢"), plain("a")), ("é".into(), "漢".into(), "a".into()));
}

#[test]
fn every_screen_is_ascii_where_the_locale_is() {
    let home = tempfile::tempdir().unwrap();
    session(home.path(), "tone", 4);
    for (name, value, ascii) in [
        ("LC_ALL", "C", true),
        ("LC_ALL", "POSIX", true),
        ("LANG", "C", true),
        ("LC_ALL", "en_US.ISO-8859-1", true),
        ("LC_ALL", "en_US.UTF-8", false),
        ("LC_ALL", "C.utf8", false),
    ] {
        let env = [(name, OsStr::new(value))];
        let mut pty = Pty::with(home.path(), &["label", "tone"], (140, 45), &env);
        pty.wait("pair", |t| t.contains("question number 1"));
        // The help, the palette, and the screens that keys open from here.
        for key in ["?", "\x1b", ":", "\x1b", "t", "\x1b", "s", "\x1b", "e", "\x1b", "w", "\x1b", "h"] {
            pty.keys(key);
            pty.settle(Duration::from_millis(150));
        }
        pty.signal(Signal::TERM);
        pty.ended();
        let bytes = pty.screen.lock().unwrap().bytes.clone();
        let other: String = String::from_utf8_lossy(&bytes).chars().filter(|c| !c.is_ascii()).collect();
        assert_eq!(other.is_empty(), ascii, "{name}={value}: {other}");
    }
}
