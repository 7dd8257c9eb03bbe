//! `kill -9` of a labelling process: the real binary in a terminal, keys as fast as a script types, a kill at any moment.

use super::{acknowledged, library, trace};
use crate::chance::Chance;
use crate::pty::session;
use crate::support::count;
use crate::terminal::Pty;
use std::time::{Duration, Instant};
use tiebreak::storage::{Home, SessionDir};

/// Pairs of a session; with all of them labelled, the next kill takes a new session.
const PAIRS: usize = 400;
const SIZE: (u16, u16) = (110, 24);

#[derive(Debug, Default)]
struct Tally {
    kills: usize,
    /// Verdicts that the screen had acknowledged before the kills.
    acknowledged: usize,
    /// Verdicts that reached the log without having been acknowledged.
    beyond: usize,
    /// Kills while a record was not acknowledged yet.
    pending: usize,
}

fn verdicts(dir: &SessionDir) -> usize {
    dir.state().unwrap().0.verdicts().filter(|(_, judged)| !judged.undone).count()
}

/// The most verdicts that the screen has acknowledged, and whether it showed a record that was still being saved at the end.
fn shown(trace: &std::path::Path, root: &std::path::Path) -> (Option<usize>, bool) {
    let mut screen = vt100::Parser::new(SIZE.1, SIZE.0, 0);
    let mut most = None;
    for change in trace::read(trace, root).iter().filter(|change| change.is_frame()) {
        screen.process(&change.data);
        if change.ends_frame() {
            most = most.max(acknowledged(&screen.screen().contents()));
        }
    }
    (most, screen.screen().contents().contains("saving"))
}

fn kills(kills: usize, seed: u64) {
    let mut chance = Chance(seed);
    let mut tally = Tally::default();
    let mut home = tempfile::tempdir().unwrap();
    session(home.path(), "tone", PAIRS);
    while tally.kills < kills {
        let dir = SessionDir::find(&Home::resolve(Some(home.path())).unwrap(), "tone").unwrap();
        let before = verdicts(&dir);
        if before + 120 > PAIRS {
            home = tempfile::tempdir().unwrap();
            session(home.path(), "tone", PAIRS);
            continue;
        }
        let beside = tempfile::tempdir().unwrap();
        let trace = beside.path().join("trace");
        let env = [
            ("LD_PRELOAD", library().as_os_str()),
            ("TIEBREAK_FAULT_ROOT", home.path().as_os_str()),
            ("TIEBREAK_FAULT_TRACE", trace.as_os_str()),
        ];
        let mut pty = Pty::with(home.path(), &["label", "tone"], SIZE, &env);
        pty.wait("pair", |t| acknowledged(t) == Some(before));
        let (alive, gap) = (Duration::from_micros(chance.next() % 400_000), 1 + chance.next() % 12);
        let began = Instant::now();
        let mut pressed = 0;
        while began.elapsed() < alive && pressed < 100 {
            pty.keys(if pressed % 2 == 0 { "1" } else { "2" });
            pressed += 1;
            std::thread::sleep(Duration::from_millis(gap));
        }
        pty.child.kill().unwrap();
        pty.child.wait().unwrap();
        let (most, pending) = shown(&trace, home.path());
        let most = most.unwrap_or(before);
        let (state, damage) = dir.state().unwrap();
        let now = state.verdicts().filter(|(_, judged)| !judged.undone).count();
        assert!(
            now >= most,
            "kill {} of seed {seed}: {most} verdicts were acknowledged and {now} are there",
            tally.kills
        );
        assert!(now <= before + pressed, "kill {}: {now} verdicts, {before} before and {pressed} keys", tally.kills);
        assert!(damage.is_intact(), "kill {}: {}", tally.kills, damage.sentence());
        tally.kills += 1;
        tally.acknowledged += most - before;
        tally.beyond += now - most;
        tally.pending += usize::from(pending || now > most);
    }
    assert!(tally.acknowledged > kills, "the keys did not arrive: {tally:?}");
    println!("kill -9 while labelling: {tally:?}: 0 acknowledged verdicts lost");
}

#[test]
fn no_acknowledged_verdict_is_lost_when_the_process_is_killed() {
    kills(12, 7);
}

#[test]
#[ignore = "TIEBREAK_KILLS kills, 1,000 without it"]
fn long_kills() {
    kills(count("TIEBREAK_KILLS", 1000), count("TIEBREAK_SEED", 2026) as u64);
}
