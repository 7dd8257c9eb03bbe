//! The popups of the label screen, the rank sheet and the end of a queue, in their states at three sizes.

use super::support::{Desk, completion, pair, pairs, prompt};
use tiebreak::app::Msg;
use tiebreak::domain::{Choice, PairId, Rater};
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

fn desk() -> Desk {
    Desk::with_session(80, 24, pairs(12))
}

#[test]
fn filter_in_its_states() {
    let mut desk = desk();
    desk.keys("f");
    snap("filter_empty", &mut desk);
    desk.type_text("tag:kids -verdict:tie gap:0.5");
    desk.keys("enter");
    snap("filter_wrong", &mut desk);
    desk.keys("backspace backspace backspace backspace backspace backspace backspace");
    desk.keys("enter");
    assert!(desk.model.popups.is_empty(), "{}", desk.screen());
    snap("filter_busy", &mut desk);
    desk.keys("f");
    snap("filter_again", &mut desk);
    for _ in 0..40 {
        desk.keys("backspace");
    }
    desk.type_text("tag:nowhere");
    desk.keys("enter");
    snap("filter_none", &mut desk);
}

#[test]
fn tags_in_their_states() {
    let mut records = pairs(12);
    if let SessionRecord::Prompted(prompt) = &mut records[0] {
        std::sync::Arc::make_mut(prompt).tags.clear();
    }
    let mut desk = Desk::with_session(80, 24, records);
    desk.keys("T");
    snap("tags_empty", &mut desk);
    desk.type_text("kit");
    desk.keys("tab");
    desk.type_text(" \"two words\" urgent");
    snap("tags_busy", &mut desk);
    desk.keys("enter");
    snap("tags_set", &mut desk);
}

#[test]
fn criteria_in_their_states() {
    let mut empty = desk();
    empty.keys("c");
    snap("criterion_empty", &mut empty);
    let mut records = pairs(12);
    for (name, sentence) in [
        ("helpful", "Which answer helps the person more with what they asked for?"),
        ("harmless", "Which answer is less likely to harm anyone?"),
        ("concise", "Which answer says the same in fewer words, without leaving out anything that the person needs?"),
    ] {
        records.insert(0, SessionRecord::CriterionSet { name: name.into(), sentence: Some(sentence.into()) });
    }
    let mut desk = Desk::with_session(80, 24, records);
    desk.keys("c down");
    snap("criterion_choose", &mut desk);
    desk.keys("esc c down enter");
    snap("criterion_busy", &mut desk);
    desk.keys("c up enter");
    assert!(desk.model.popups.is_empty());
}

#[test]
fn going_to_a_pair_in_its_states() {
    let mut empty = Desk::with_session(80, 24, Vec::new());
    empty.keys("g");
    snap("goto_empty", &mut empty);
    let mut desk = desk();
    desk.keys("1 2 0 g");
    snap("goto_busy", &mut desk);
    desk.type_text("p7");
    snap("goto_found", &mut desk);
    desk.type_text("zz");
    snap("goto_none", &mut desk);
}

#[test]
fn notes_in_their_states() {
    let mut desk = desk();
    desk.keys("n");
    snap("note_empty", &mut desk);
    desk.type_text(&"Both dodge the question, and the second one repeats itself. ".repeat(4));
    snap("note_busy", &mut desk);
    desk.keys("enter");
    snap("note_saved", &mut desk);
}

#[test]
fn corrections_in_their_states() {
    let mut desk = desk();
    desk.keys("e");
    snap("correction_new", &mut desk);
    desk.type_text("\n");
    for line in 0..30 {
        desk.type_text(&format!("Line {line} of the correction."));
        desk.keys("enter");
    }
    snap("correction_busy", &mut desk);
    desk.keys("esc");
    snap("correction_discard", &mut desk);
    desk.keys("n ctrl-s");
    snap("correction_saved", &mut desk);
}

/// One prompt with `count` answers of several lines.
fn answers(count: usize) -> Vec<SessionRecord> {
    let mut out = vec![SessionRecord::Prompted(prompt("p1", "What should I cook tonight?", "kitchen").into())];
    let dishes = ["Soup", "Bread", "Rice", "Salad", "Stew", "Cake", "Pasta", "Curry", "Pie"];
    for (i, dish) in dishes.iter().take(count).enumerate() {
        let text = format!("{dish}: take what is at hand and cook it slowly.\nThen taste it, and serve it warm.");
        out.push(SessionRecord::Completed(completion(&format!("p1.{i}"), "p1", &text, 20 + i as u32).into()));
    }
    out.push(SessionRecord::Paired(pair("p1").into()));
    out
}

#[test]
fn the_rank_sheet_while_busy() {
    let mut desk = Desk::with_session(80, 24, answers(9));
    desk.keys("B r 3 = 1 7");
    snap("rank_nine", &mut desk);
    let mut few = Desk::with_session(80, 24, answers(3));
    few.keys("B");
    snap("rank_three", &mut few);
}

#[test]
fn the_end_of_a_queue_in_its_states() {
    let mut desk = desk();
    desk.keys("1 1 1 H , 2 2 . 0 0 b 1");
    snap("end_one_model", &mut desk);
    let mut records = pairs(12);
    for record in &mut records {
        if let SessionRecord::Completed(c) = record
            && c.id.as_str().ends_with(".1")
        {
            std::sync::Arc::make_mut(c).model = "merged".into();
        }
    }
    let mut two = Desk::with_session(80, 24, records);
    two.keys("1 1 1 H , 2 2 . 0 0 b 1");
    snap("end_two_models", &mut two);
    let settled = |desk: &Desk, pair: &str| {
        desk.session().verdict_of(&PairId::new(pair), &Rater::new("ada")).map(|(_, v)| v.choice)
    };
    assert_eq!(settled(&two, "p9:0-1"), Some(Choice::Tie));
}
