//! Keys that judge: quick ones, held ones, and 3,000 a minute in a real terminal.

use super::pty::session;
use super::support::{Desk, completion, key, pairs};
use super::terminal::Pty;
use std::path::Path;
use std::time::Duration;
use tiebreak::app::Msg;
use tiebreak::app::pace::READ_MS;
use tiebreak::domain::Choice;
use tiebreak::protocol::SessionRecord;
use tiebreak::storage::{Home, SessionDir};

fn verdicts(desk: &Desk) -> usize {
    desk.session().verdicts().filter(|(_, judged)| !judged.undone).count()
}

#[test]
fn a_verdict_sooner_than_anyone_reads_is_saved_and_said() {
    let mut desk = Desk::with_session(80, 24, pairs(6));
    desk.pace_ms = 80;
    desk.keys("1 2 0 b");
    assert_eq!(verdicts(&desk), 4);
    assert!(desk.screen().contains("Recorded 80 ms after the pair appeared; u undoes it"), "{}", desk.screen());
    let times: Vec<u64> = desk.session().verdicts().map(|(_, judged)| judged.verdict.ms).collect();
    assert_eq!(times, [80; 4]);
    desk.pace_ms = READ_MS;
    desk.keys("1");
    assert!(!desk.screen().contains("Recorded"), "{}", desk.screen());
    // 0 would mean that the time is not known.
    desk.pace_ms = 0;
    desk.keys("2");
    assert_eq!(desk.session().verdicts().last().map(|(_, judged)| judged.verdict.ms), Some(1));
    desk.send(Msg::Paste("1 2 1 2".into()));
    assert_eq!(verdicts(&desk), 6, "pasted text records no verdict");
}

#[test]
fn the_guard_of_the_settings_ignores_quick_verdicts() {
    let mut desk = Desk::with_session(80, 24, pairs(3));
    desk.model.guard_ms = 250;
    desk.pace_ms = 249;
    desk.keys("1");
    assert_eq!(verdicts(&desk), 0);
    assert!(desk.screen().contains("Ignored: 249 ms after the pair appeared"), "{}", desk.screen());
    desk.pace_ms = 1;
    desk.keys("1");
    assert_eq!(verdicts(&desk), 1);
}

#[test]
fn a_held_key_does_not_judge_pair_after_pair() {
    let mut desk = Desk::with_session(80, 24, pairs(40));
    let hold = |desk: &mut Desk, word: &str| {
        desk.pass(3_000);
        desk.send(Msg::Key(key(word)));
        desk.pass(500);
        for _ in 0..30 {
            desk.send(Msg::Key(key(word)));
            desk.pass(33);
        }
    };
    for word in ["1", "0", "space"] {
        let before = verdicts(&desk);
        hold(&mut desk, word);
        // The first repeat cannot be told from a press.
        assert_eq!(verdicts(&desk) - before, 2, "{word}");
        let said = format!("{word} is held down: its repeats are ignored until a pause or another key");
        assert!(desk.screen().contains(&said), "{}", desk.screen());
    }
    let before = verdicts(&desk);
    desk.keys("2 1");
    assert_eq!(verdicts(&desk) - before, 2);
    // Scrolling goes on.
    hold(&mut desk, "j");
    assert!(!desk.screen().contains("is held down"));
}

#[test]
fn reported_repeats_judge_nothing_and_leave_other_keys_alone() {
    let mut desk = Desk::with_session(80, 24, pairs(9));
    desk.model.reports_repeats = true;
    desk.keys("1");
    for _ in 0..20 {
        desk.pass(33);
        desk.send(Msg::KeyRepeat(key("1")));
    }
    assert_eq!(verdicts(&desk), 1);
    assert!(desk.screen().contains("1 is held down: its repeats are ignored"), "{}", desk.screen());
    // Presses that are told apart from repeats all count.
    desk.pass(500);
    for _ in 0..3 {
        desk.send(Msg::Key(key("1")));
        desk.pass(33);
    }
    assert_eq!(verdicts(&desk), 4);
    desk.keys("n");
    for _ in 0..3 {
        desk.send(Msg::KeyRepeat(key("1")));
    }
    assert!(desk.screen().contains("111"), "repeats type: {}", desk.screen());
}

#[test]
fn a_held_key_ranks_one_prompt_and_judges_no_pair_after_it() {
    let mut desk = Desk::with_session(80, 24, ranked());
    desk.model.reports_repeats = true;
    desk.keys("B 1");
    let after_rank = verdicts(&desk);
    assert_eq!(after_rank, 3);
    for _ in 0..9 {
        desk.pass(33);
        desk.send(Msg::KeyRepeat(key("1")));
    }
    assert_eq!(verdicts(&desk), after_rank);
}

/// Two prompts; the first has four answers.
fn ranked() -> Vec<SessionRecord> {
    let mut out = pairs(2);
    for i in 2..4 {
        let text = format!("Another answer, number {i}, with words of its own.");
        out.push(SessionRecord::Completed(completion(&format!("p1.{i}"), "p1", &text, 9).into()));
    }
    out
}

/// The verdicts in a session's log as the keys that gave them: by its lines, and as they fold.
fn logged(home: &Path, name: &str) -> (usize, String) {
    let dir = SessionDir::find(&Home::resolve(Some(home)).unwrap(), name).unwrap();
    let segments = std::fs::read_dir(dir.path().join("events")).unwrap();
    let text: String = segments.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    let (state, _) = dir.state().unwrap();
    let given = state.verdicts().filter(|(_, judged)| !judged.undone).map(|(_, judged)| match judged.verdict.choice {
        Choice::Prefer(side, _) if side == judged.verdict.left => '1',
        Choice::Prefer(..) => '2',
        Choice::Tie => '0',
        Choice::BothBad => 'b',
        Choice::Skip => '_',
    });
    (text.lines().filter(|line| line.contains("\"k\":\"judged\"")).count(), given.collect())
}

/// Keys in order: mixed ones, and runs of one key. A chunk begins with another key than the last one ended with.
fn chunks(count: usize) -> Vec<String> {
    let keys = ["1", "2", "0", "b", "111", "2222", "00", "bbbbb"];
    let (mut out, mut sent) = (Vec::new(), 0);
    for at in 0.. {
        let chunk: String = keys[at % keys.len()].chars().take(count - sent).collect();
        sent += chunk.len();
        out.push(chunk);
        if sent == count {
            break;
        }
    }
    out
}

/// Sends keys in chunks with a pause between two; the program must take each, in order.
fn script(count: usize, pairs: usize, pause: Duration) {
    let home = tempfile::tempdir().unwrap();
    session(home.path(), "tone", pairs);
    let mut pty = Pty::open(home.path(), &["label", "tone"]);
    pty.wait("pair", |t| t.contains("question number 1"));
    let sent = chunks(count);
    let begin = std::time::Instant::now();
    for (at, chunk) in sent.iter().enumerate() {
        pty.keys(chunk);
        let due = begin + pause * (at + 1) as u32;
        std::thread::sleep(due.saturating_duration_since(std::time::Instant::now()));
    }
    pty.wait("every verdict saved", |t| t.contains(&format!("{count} of {pairs}")) && t.contains("✓ saved"));
    pty.keys("q");
    assert_eq!(pty.ended().1, 0);
    let (lines, given) = logged(home.path(), "tone");
    assert_eq!(lines, count);
    assert_eq!(given, sent.concat(), "every key, in order");
}

#[test]
fn verdicts_sent_by_a_script_are_all_in_the_log() {
    script(600, 700, Duration::from_millis(5));
}

#[test]
#[ignore = "takes a minute: the rate and the size of the claim"]
fn three_thousand_verdicts_a_minute_are_all_in_the_log() {
    let keys = 3_000;
    script(keys, 4_000, Duration::from_mins(1) / chunks(keys).len() as u32);
}

/// A terminal that speaks the kitty keyboard protocol: it answers the probe and reports repeats.
#[test]
fn a_terminal_that_reports_repeats_is_asked_to_and_released() {
    let home = tempfile::tempdir().unwrap();
    session(home.path(), "tone", 9);
    let written =
        |pty: &Pty, bytes: &str| String::from_utf8_lossy(&pty.screen.lock().unwrap().bytes).matches(bytes).count();
    let (report, no_more) = ("\x1b[>15u", "\x1b[<u");
    let mut mute = Pty::open(home.path(), &["label", "tone"]);
    mute.wait("pair", |t| t.contains("question number 1"));
    mute.keys("1");
    mute.wait("verdict", |t| t.contains("1 of 9") && t.contains("✓ saved"));
    mute.keys("q");
    assert_eq!(mute.ended().1, 0);
    assert_eq!((written(&mute, report), written(&mute, no_more)), (0, 0), "only where the terminal answers");

    let mut pty = Pty::open(home.path(), &["label", "tone"]);
    pty.keys("\x1b[?0u\x1b[?62c");
    pty.wait("pair", |t| t.contains("question number 2"));
    pty.wait("the request for reports", |_| written(&pty, report) == 1);
    pty.keys("\x1b[49;1:1u");
    pty.wait("one verdict", |t| t.contains("2 of 9"));
    for _ in 0..20 {
        pty.keys("\x1b[49;1:2u");
    }
    pty.wait("the held key", |t| t.contains("1 is held down"));
    pty.keys("\x1b[49;1:3u");
    // Text is typed without reports.
    pty.keys("\x1b[47;1:1u");
    pty.wait("a search", |t| t.contains("find in prompts"));
    pty.wait("the end of the reports", |_| written(&pty, no_more) == 1);
    pty.keys("x\x7f\x1b");
    pty.wait("the pair again", |t| !t.contains("find in prompts") && t.contains("2 of 9"));
    pty.wait("reports again", |t| written(&pty, report) == 2 && t.contains("✓ saved"));
    pty.keys("\x1b[113;1:1u");
    assert_eq!(pty.ended().1, 0);
    std::thread::sleep(Duration::from_millis(100));
    let bytes = String::from_utf8_lossy(&pty.screen.lock().unwrap().bytes).into_owned();
    let left = bytes.rfind("\x1b[?1049l").expect("the screen is left");
    assert!(bytes.rfind(no_more).is_some_and(|at| at < left), "before the alternate screen is left");
    assert_eq!(written(&pty, no_more), 2);
    assert_eq!(logged(home.path(), "tone").1, "11");
}
