//! Pictures of screens by command: every screen, with the answers to what it asks.

use crate::cli::{text, tiebreak};
use crate::pty::session;
use crate::support::vote;
use tiebreak::domain::Side;
use tiebreak::storage::SessionDir;

/// Two raters who differ on every third pair.
fn judged(path: &std::path::Path) {
    let dir = SessionDir::open(path).unwrap();
    let lock = dir.lock().unwrap().unwrap();
    let mut writer = dir.writer(&lock).unwrap();
    for i in 1..=9 {
        for rater in ["ana", "ben"] {
            let side = if i % 2 == 0 || (rater == "ben" && i % 3 == 0) { Side::A } else { Side::B };
            writer.append(&vote(&format!("i{i}"), rater, side)).unwrap();
        }
    }
    writer.sync().unwrap();
}

#[test]
fn every_screen_can_be_printed_and_none_waits_for_an_answer() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    judged(&session(home, "tone", 9));
    let file = home.join("picture.svg");
    for route in tiebreak::app::ROUTES {
        let args = ["report", "tone", "--to", file.to_str().unwrap(), "--screen", route.name, "--size", "120x40"];
        let output = tiebreak(home, &args);
        assert!(output.status.success(), "{}: {}", route.name, text(&output.stderr));
        let picture = std::fs::read_to_string(&file).unwrap();
        assert!(picture.contains(&format!("the {} screen", route.name)), "{}", route.name);
        assert!(!picture.contains("looking for") && !picture.contains("computing"), "{}: {picture}", route.name);
        let shows = match route.name {
            "home" => "labels by ana 9, ben 9",
            "agreement" => "Krippendorff alpha",
            "pair" => "already paired",
            _ => continue,
        };
        assert!(picture.contains(shows), "{}: no `{shows}` in {picture}", route.name);
    }
    let refused = tiebreak(home, &["report", "tone", "--to", "x.svg", "--screen", "agreemet"]);
    assert!(text(&refused.stderr).contains("agreement"), "{}", text(&refused.stderr));
    assert_eq!(SessionDir::open(&home.join("sessions/tone")).unwrap().runs().unwrap().len(), 0, "nothing was started");
}
