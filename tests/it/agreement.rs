//! The agreement screen: its states, the way to a dispute and back, and that votes on disputes have no names.

use crate::support::{Desk, pairs};
use tiebreak::app::{Effect, Msg};
use tiebreak::domain::{Choice, PairId, Rater, Seen, Side, Strength, Verdict, agreement_report};
use tiebreak::protocol::SessionRecord;

const SIZES: [(u16, u16); 3] = [(80, 24), (120, 40), (60, 16)];

fn snap(name: &str, desk: &mut Desk) {
    for (w, h) in SIZES {
        desk.send(Msg::Resize(w, h));
        insta::with_settings!({ snapshot_path => "../snapshots", prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(format!("{name}_{w}x{h}"), desk.screen());
        });
    }
}

/// Twelve pairs; `ana` and `ben` judged ten of them and differ on three, `model:dpo-1` judged all.
fn voted() -> Vec<SessionRecord> {
    let mut records = pairs(12);
    let ids: Vec<PairId> = records
        .iter()
        .filter_map(|r| if let SessionRecord::Paired(p) = r { Some(p.id.clone()) } else { None })
        .collect();
    for (i, pair) in ids.iter().enumerate() {
        for rater in ["ana", "ben", "model:dpo-1"] {
            if i >= 10 && rater != "model:dpo-1" {
                continue;
            }
            let side = if rater == "ben" && i % 3 == 1 || i % 4 == 0 { Side::B } else { Side::A };
            let choice = if i == 5 { Choice::Tie } else { Choice::Prefer(side, Strength::Better) };
            let (left, seen, ms) = (if i % 2 == 0 { Side::A } else { Side::B }, Seen::Full, 2000);
            let (pair, rater) = (pair.clone(), Rater::new(rater));
            records.push(SessionRecord::Judged(
                Verdict {
                    pair,
                    rater,
                    choice,
                    left,
                    seen,
                    ms,
                    winner_hash: None,
                    asked: tiebreak::domain::Asked::default(),
                    showing: tiebreak::domain::Showing::default(),
                }
                .into(),
            ));
        }
    }
    records
}

/// Presses the key that leads to the screen, and answers its request from the session as the shell does.
fn opened(records: Vec<SessionRecord>) -> Desk {
    let mut desk = Desk::with_session(80, 24, records);
    desk.effects();
    desk.keys("A");
    answer(&mut desk);
    desk
}

fn answer(desk: &mut Desk) {
    let asked = desk.effects().into_iter().find_map(|e| match e {
        Effect::Agreement { ticket, .. } => Some(ticket),
        _ => None,
    });
    let ticket = asked.expect("the screen asks for the figures");
    let report = Box::new(agreement_report(desk.session()));
    desk.send(Msg::AgreementReady { ticket, answer: Ok(report) });
}

#[test]
fn agreement_in_its_states() {
    let mut loading = Desk::with_session(80, 24, pairs(12));
    loading.keys("A");
    snap("agreement_loading", &mut loading);
    snap("agreement_empty", &mut opened(pairs(12)));
    let mut busy = opened(voted());
    busy.keys("j");
    snap("agreement_busy", &mut busy);
    let mut wide = opened(voted());
    wide.send(Msg::Resize(200, 60));
    let screen = wide.screen();
    assert!(screen.contains("not a person") && screen.contains("Krippendorff alpha, ordinal"), "{screen}");
    let disputed = &screen[screen.find("disputed").unwrap()..];
    assert!(!disputed.contains("ana") && !disputed.contains("ben"), "votes on disputes have no names: {disputed}");
}

#[test]
fn a_dispute_is_settled_from_the_list_and_leaves_it() {
    let mut desk = opened(voted());
    let before = desk.session().disputes().len();
    assert!(before > 1);
    let second = desk.session().disputes()[1].pair.clone();
    desk.keys("j enter");
    desk.pass(1000);
    desk.keys("1");
    desk.flush();
    assert_eq!(desk.session().disputes().len(), before - 1);
    assert!(desk.session().adjudication_of(&second).is_some(), "the selected one");
    desk.keys("A");
    answer(&mut desk);
    assert!(desk.screen().contains("disputed"));
}

#[test]
fn labels_since_the_figures_are_counted_and_can_be_included() {
    let mut desk = opened(voted());
    desk.send(Msg::AgreementReady { ticket: 99, answer: Err("of another request".into()) });
    assert!(!desk.screen().contains("of another request"));
    let mut more = voted();
    let last = more.pop().unwrap();
    let record = crate::support::envelopes(&[last]).remove(0);
    desk.send(Msg::Records(vec![tiebreak::protocol::Envelope { n: 9000, ..record }]));
    assert!(desk.screen().contains("1 label since; r computes again"), "{}", desk.screen());
    desk.keys("r");
    answer(&mut desk);
    assert!(!desk.screen().contains("since; r computes"));
}
