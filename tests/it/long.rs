//! A session so long that its queue is built in slices: keys have their turn between two, and nothing of them is lost.

use crate::support::{Desk, pairs};
use tiebreak::app::{Effect, Msg};
use tiebreak::domain::{Filter, PairId, QueueOrder};

const PAIRS: usize = 20_000;

/// Lets the work go on to its end; returns how many slices it took.
fn go_on(desk: &mut Desk) -> usize {
    let mut slices = 0;
    while desk.effects().contains(&Effect::Continue) {
        desk.send(Msg::Continue);
        slices += 1;
        assert!(slices < 100, "the work never ends");
    }
    slices
}

/// The queue as it is computed at once.
fn expected(desk: &Desk) -> Vec<PairId> {
    let open = desk.model.open.as_ref().unwrap();
    let mut queue = open.session.queue_by(&open.rater, open.order, &open.rubric);
    if let Some(filter) = open.filter() {
        let matching = open.session.view(filter).pairs();
        assert_eq!(matching.len(), open.matching());
        queue.retain(|pair| matching.contains(pair));
    }
    queue
}

#[test]
fn a_filter_over_a_long_session_is_looked_up_in_slices_while_keys_work() {
    let mut desk = Desk::with_session(120, 40, pairs(PAIRS));
    desk.effects();
    desk.keys("f");
    desk.type_text("tag:poem");
    desk.keys("enter");
    assert!(desk.screen().contains("looking through the pairs"), "{}", desk.screen());
    assert!(desk.screen().contains("prompt p1 "), "the shown pair stays until the queue is there");
    // Between two slices the shown pair is judged, and one that matches, and one of them is undone.
    desk.keys("1 2 u 0");
    let open = desk.model.open.as_ref().unwrap();
    assert!(open.is_building() && open.filter().is_none());
    assert_eq!(open.done, 2);
    assert!(go_on(&mut desk) >= 1);
    let open = desk.model.open.as_ref().unwrap();
    assert_eq!(open.filter(), Some(&Filter::parse("tag:poem").unwrap()));
    assert_eq!((open.matching(), open.queue.len(), open.done), (PAIRS / 4, PAIRS / 4 - 1, 1));
    assert_eq!(open.queue, expected(&desk));
    let text = desk.screen();
    assert!(text.contains("prompt p6 ") && text.contains("5000 of 20000 pairs match, 4999 to label"), "{text}");
    assert!(!text.contains("looking through"), "{text}");
    assert_eq!(desk.replayed().verdicts().count(), desk.session().verdicts().count());
}

#[test]
fn another_order_replaces_one_that_is_still_being_built() {
    let mut desk = Desk::with_session(120, 40, pairs(PAIRS));
    desk.effects();
    for (filter, pairs) in [("text:haiku", PAIRS / 4), ("tag:kids", PAIRS / 4), ("", 0)] {
        desk.keys("f ctrl-u");
        desk.type_text(filter);
        desk.keys("enter");
        if filter == "tag:kids" {
            go_on(&mut desk);
            assert_eq!(desk.model.open.as_ref().unwrap().matching(), pairs);
            assert_eq!(desk.model.open.as_ref().unwrap().queue, expected(&desk));
        }
    }
    go_on(&mut desk);
    assert_eq!((desk.model.open.as_ref().unwrap().order, expected(&desk).len()), (QueueOrder::Arrival, PAIRS));
    assert_eq!(desk.model.open.as_ref().unwrap().queue, expected(&desk));
}
