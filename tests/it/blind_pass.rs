//! A blind human pass over an evaluation by keys alone, in a real terminal with real runs: form, verdicts, names at the end,
//! win rate with its interval.

use crate::cli::tiebreak;
use crate::servers::{Server, session};
use crate::terminal::Pty;
use std::time::Duration;
use tiebreak::protocol::SessionRecord;
use tiebreak::storage::{Home, SessionDir};

/// Items of the evaluation.
const ITEMS: usize = 20;

/// The server's answers begin so.
const MARK: &str = "Here:";

/// Which of the two shown answers is the server's: the one under the heading ` 1 ` or ` 2 `.
fn marked(screen: &str) -> &'static str {
    let at = |needle: &str| screen.find(needle).unwrap_or_else(|| panic!("no {needle} in\n{screen}"));
    if at(MARK) < at("─ 2 ") { "1" } else { "2" }
}

#[test]
fn twenty_blind_verdicts_by_keys_end_with_names_and_an_interval() {
    let server = Server::start();
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    session(home, &(0..ITEMS).map(|i| format!("plain question {i}")).collect::<Vec<_>>());
    let (own, tiny) = (server.model(), crate::servers::tiny().display().to_string());
    let args = ["eval", "s", "--a", &own, "--b", &tiny, "--judge", "human", "--max-new-tokens", "6", "--device", "cpu"];
    assert!(tiebreak(home, &args).status.success());

    let mut pty = Pty::open(home, &["label", "s", "--rater", "ana"]);
    pty.wait("label screen", |t| t.contains("no answers to compare yet"));
    pty.keys("E");
    pty.wait("evaluation", |t| t.contains("20 of 20 pairs are still to be judged"));
    pty.keys("j");
    let mut firsts = 0;
    for n in 0..ITEMS {
        let done = format!("{n} of {ITEMS}");
        pty.wait("a pair", |t| t.contains(&done) && t.contains(MARK));
        let screen = pty.text();
        assert!(!screen.contains("little@") && !screen.contains("tiny-llama"), "a name before the end:\n{screen}");
        let key = marked(&screen);
        firsts += usize::from(key == "1");
        // The last three go to the other model: an interval needs both.
        let key = if n + 3 < ITEMS { key } else { ["2", "1"][usize::from(key == "2")] };
        pty.keys(key);
    }
    // By chance all twenty on one side: two in a million.
    assert!((1..ITEMS).contains(&firsts), "sides are drawn: {firsts} of {ITEMS} first");
    pty.wait("names at the end", |t| t.contains("little@127.0.0.1") && t.contains("tiny-llama 3"));
    pty.keys("E");
    pty.wait("the win rate", |t| t.contains("17 won, 0 tied, 3 lost") && t.contains("85.0 %"));
    pty.settle(Duration::from_millis(300));
    let screen = pty.text();
    assert!(screen.contains("human:ana"), "{screen}");
    let line = screen.lines().find(|line| line.contains("85.0 %")).unwrap();
    assert!(line.contains('[') && line.contains("n 20"), "an interval beside the rate: {line}");
    // What a person said counts for the filter of items and for what goes back to the label queue.
    pty.keys("\r");
    pty.wait("items", |t| t.contains("1 of 20 all items") && t.contains("human:ana"));
    pty.keys("f");
    pty.wait("losses", |t| t.contains("1 of 3 losses"));
    pty.keys("\x1b");
    pty.wait("figures", |t| t.contains("85.0 %"));
    pty.keys("l");
    pty.wait("sent", |t| t.contains("3 pairs in the label queue"));
    pty.keys("\x1b");
    pty.wait("saved", |t| t.contains("✓ saved"));
    pty.keys("q");
    assert_eq!(pty.ended().1, 0);
    let dir = SessionDir::find(&Home::resolve(Some(home)).unwrap(), "s").unwrap();
    let judged = dir.tail().poll().unwrap().into_iter().filter_map(|e| e.data.ok());
    let judged = judged.filter(|record: &SessionRecord| matches!(record, SessionRecord::Judged(_))).count();
    assert_eq!(judged, ITEMS);
}
