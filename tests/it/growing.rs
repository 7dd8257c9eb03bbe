//! Answers that grow on the label screen: reading along, voting before they end, undo, and what becomes of the verdict.

use crate::support::{Desk, completion, envelopes, pairs, prompt, sampling, sampling_began};
use tiebreak::app::screen::label::{Card, Pane};
use tiebreak::app::{ActiveScreen, Msg};
use tiebreak::domain::{
    Choice, CompletionId, Filter, Pair, PairId, PartialCounts, PartialFate, PartialView, PromptId, RunId, Seen,
    Session, Side, Strength, Verdict,
};
use tiebreak::protocol::{Growing, GrowingAnswer, RunEvent, SessionRecord};

const SIZES: [(u16, u16); 3] = [(80, 24), (120, 40), (60, 16)];
const RUN: &str = "sample-1";
const A: &str =
    "The Moon pulls on the water of the oceans, and the Earth turns under it. So the sea rises and falls twice a day.";
const B: &str = "Tides are waves. They come from the wind, which blows over the sea \u{1b}[31mand\u{7} pushes the water up the beach.";

fn id(k: usize) -> CompletionId {
    CompletionId::new(format!("{RUN}.p1.{k}"))
}

fn the_pair() -> Pair {
    let (id_of, prompt) = (PairId::new(format!("p1:{RUN}.0-1")), PromptId::new("p1"));
    Pair { id: id_of, prompt, a: id(0), b: id(1), strategy: "random".into(), p_select: 1.0 }
}

/// So many characters of both answers.
fn growing(a: usize, b: usize) -> Growing {
    let answer = |k: usize, whole: &str, n: usize| GrowingAnswer {
        completion: id(k),
        text: whole.chars().take(n).collect(),
        tokens: n / 4,
        ended: n >= whole.chars().count(),
    };
    Growing { pairs: vec![the_pair()], answers: vec![answer(0, A, a), answer(1, B, b)] }
}

/// A session with one prompt, and a run that is sampling.
fn desk(size: (u16, u16), records: Vec<SessionRecord>) -> Desk {
    let mut desk = Desk::with_session(size.0, size.1, records);
    desk.send(Msg::RunFound(Box::new(sampling(RUN))));
    desk.send(Msg::RunRecords { run: RunId::new(RUN), records: envelopes(&sampling_began(2)) });
    desk.send(Msg::RunAlive { run: RunId::new(RUN), alive: true });
    desk
}

fn asked() -> Vec<SessionRecord> {
    vec![SessionRecord::Prompted(prompt("p1", "Why are there tides?", "").into())]
}

fn grow(desk: &mut Desk, a: usize, b: usize) {
    desk.send(Msg::RunGrowing { run: RunId::new(RUN), growing: growing(a, b) });
}

fn finish(desk: &mut Desk, texts: [&str; 2]) {
    let mut events: Vec<RunEvent> =
        (0..2).map(|k| RunEvent::Completed(completion(id(k).as_str(), "p1", texts[k], 30).into())).collect();
    events.push(RunEvent::Paired(the_pair().into()));
    desk.send(Msg::RunRecords { run: RunId::new(RUN), records: envelopes(&events) });
    desk.send(Msg::RunGrowing { run: RunId::new(RUN), growing: Growing::default() });
}

fn card(desk: &Desk) -> Option<&Card> {
    let ActiveScreen::LabelScreen(label) = &desk.model.screen else { panic!("not the label screen") };
    label.card.as_ref()
}

fn verdict(desk: &Desk) -> Verdict {
    desk.session().verdicts().last().expect("a verdict").1.verdict.clone()
}

fn view(verdict: &Verdict) -> PartialView {
    *verdict.showing.partial.clone().expect("a view of answers that had not ended")
}

#[test]
fn growing_snapshots() {
    let snap = |name: &str, desk: &mut Desk| {
        for (w, h) in SIZES {
            desk.send(Msg::Resize(w, h));
            insta::with_settings!({ snapshot_path => "../snapshots", prepend_module_to_snapshot => false, omit_expression => true }, {
                insta::assert_snapshot!(format!("{name}_{w}x{h}"), desk.screen());
            });
        }
    };
    let mut desk = desk((80, 24), asked());
    snap("growing_loading", &mut desk);
    grow(&mut desk, 40, 52);
    snap("growing_busy", &mut desk);
    grow(&mut desk, 60, 200);
    snap("growing_one_ended", &mut desk);
    desk.keys("1");
    snap("growing_judged", &mut desk);
    finish(&mut desk, [A, B]);
    snap("growing_done", &mut desk);
}

#[test]
fn answers_grow_in_step_and_keep_what_was_read() {
    let mut desk = desk((80, 24), asked());
    assert!(card(&desk).is_none());
    grow(&mut desk, 10, 52);
    let shown = |desk: &Desk| card(desk).map(|card| card.text.clone().map(|text| text.chars().count())).unwrap();
    assert_eq!(shown(&desk), [10, 10]);
    let before = card(&desk).unwrap().shown_ms;
    desk.pass(900);
    grow(&mut desk, 30, 60);
    assert_eq!((shown(&desk), card(&desk).unwrap().shown_ms), ([30, 30], before));
    assert!(desk.screen().contains("… writing, 7 tok"), "{}", desk.screen());
    // Nothing a model wrote reaches the terminal unsanitised, and the hash is of what it wrote.
    grow(&mut desk, 90, 90);
    assert!(!desk.screen().contains('\u{1b}') && !desk.screen().contains('\u{7}'));
    finish(&mut desk, [A, B]);
    let card = card(&desk).unwrap();
    assert!(card.writing.is_none() && card.shown_ms == before && card.text.iter().any(|text| text == A));
    desk.keys("1");
    assert!(verdict(&desk).showing.partial.is_none() && verdict(&desk).winner_hash.is_some());
}

#[test]
fn a_verdict_before_the_answers_end_binds_to_them_by_content() {
    for key in ["1", "2", "H", "L", "0", "b", ","] {
        let mut desk = desk((80, 24), asked());
        grow(&mut desk, 31, 90);
        let left = card(&desk).unwrap().side(Pane::First);
        desk.keys(key);
        let given = verdict(&desk);
        let parts = view(&given);
        assert_eq!((parts.a.chars, parts.b.chars, given.seen), (31, 31, Seen::Partial), "{key}");
        assert!(given.winner_hash.is_none() && given.is_partial() && given.left == left);
        assert!(parts.a.fits(A) && parts.b.fits(B) && !parts.a.fits(B));
        assert_eq!(desk.session().partial_fate(&given), Some(PartialFate::Missing));
        if key == "1" {
            assert_eq!(given.choice, Choice::Prefer(left, Strength::Better));
            assert!(desk.screen().contains("1 better (partial)"), "{}", desk.screen());
        }
        finish(&mut desk, [A, B]);
        assert_eq!(desk.session().partial_fate(&given), Some(PartialFate::Bound));
        let open = desk.model.open.as_ref().unwrap();
        assert!(open.queue.is_empty() && open.done == 1, "{key}");
        if let Choice::Prefer(side, _) = given.choice {
            let rows = desk.session().rows().0;
            assert_eq!(rows[0].chosen, if side == Side::A { A } else { B });
        }
        // What the log says after a restart is the same.
        assert_eq!(desk.replayed().verdicts().count(), 1);
        assert_eq!(desk.replayed().state_hash(), desk.session().state_hash());
    }
}

#[test]
fn an_answer_that_ended_with_another_text_is_asked_again() {
    let mut desk = desk((80, 24), asked());
    grow(&mut desk, 31, 31);
    desk.keys("1");
    let other = B.replace("waves", "winds");
    finish(&mut desk, [A, &other]);
    let counts = desk.session().partial_counts();
    assert_eq!(counts, PartialCounts { given: 1, differs: 1, missing: 0 });
    assert!(desk.session().rows().0.is_empty());
    let shown = card(&desk).expect("the pair is asked again");
    assert!(shown.pair == the_pair().id && shown.writing.is_none());
    desk.keys("2");
    let open = desk.model.open.as_ref().unwrap();
    assert!(open.queue.is_empty() && desk.session().rows().0.len() == 1);
    assert_eq!(desk.session().verdicts().count(), 2);
}

#[test]
fn undo_redo_skip_and_notes_work_while_answers_grow() {
    let mut desk = desk((80, 24), asked());
    grow(&mut desk, 31, 31);
    desk.keys("n");
    desk.type_text("wrong from the start");
    desk.keys("enter 2");
    assert!(card(&desk).is_none() && verdict(&desk).is_partial());
    desk.keys("u");
    assert!(desk.session().partial_counts().is_empty());
    assert_eq!(card(&desk).expect("the pair is back").pair, the_pair().id);
    grow(&mut desk, 40, 40);
    desk.keys("ctrl-r");
    assert_eq!((desk.session().partial_counts().given, view(&verdict(&desk)).a.chars), (1, 31));
    desk.keys("u space");
    assert!(card(&desk).is_none());
    finish(&mut desk, [A, B]);
    // A skipped pair comes back when it is finished.
    assert_eq!(card(&desk).expect("the pair comes back").pair, the_pair().id);
    let rater = desk.model.open.as_ref().unwrap().rater.clone();
    assert_eq!(desk.session().note_of(&the_pair().id, &rater), Some("wrong from the start"));
    assert_eq!(desk.replayed().state_hash(), desk.session().state_hash());
}

#[test]
fn finished_pairs_come_first_and_a_pair_that_is_gone_says_so() {
    let mut records = pairs(2);
    records.truncate(4);
    // The prompt of the growing pair has a finished pair, too.
    let mut desk = desk((80, 24), records);
    grow(&mut desk, 31, 31);
    assert!(card(&desk).unwrap().writing.is_none());
    desk.keys("1");
    assert!(card(&desk).unwrap().writing.is_some());
    desk.keys("e");
    assert!(desk.screen().contains("correct them once both have ended"), "{}", desk.screen());
    // The worker is gone before the answers ended.
    desk.send(Msg::RunAlive { run: RunId::new(RUN), alive: false });
    assert!(card(&desk).is_none() && desk.screen().contains("is gone"), "{}", desk.screen());
    let last = desk.session().verdicts().count();
    desk.keys("1");
    assert_eq!(desk.session().verdicts().count(), last);
}

#[test]
fn a_killed_run_leaves_a_verdict_that_is_counted_and_a_filter_finds_the_partial_ones() {
    let mut desk = desk((80, 24), asked());
    grow(&mut desk, 31, 31);
    desk.keys("2");
    desk.send(Msg::RunAlive { run: RunId::new(RUN), alive: false });
    let counts = desk.session().partial_counts();
    assert_eq!((counts.given, counts.missing), (1, 1));
    assert!(counts.sentence().unwrap().contains("1 of a pair that has not arrived"));
    // The run is resumed, and a model on this machine writes the same again.
    finish(&mut desk, [A, B]);
    assert_eq!(desk.session().partial_counts(), PartialCounts { given: 1, differs: 0, missing: 0 });
    let found = |session: &Session, filter: &str| session.view(&Filter::parse(filter).unwrap()).pairs().len();
    assert_eq!((found(desk.session(), "partial"), found(desk.session(), "-partial")), (1, 0));
    assert_eq!((found(desk.session(), "seen:partial"), found(desk.session(), "seen:full")), (1, 0));
    let summary = desk.session().verdict_summary(&desk.model.open.as_ref().unwrap().rater, "");
    assert_eq!(summary.partial, 1);
    let report = tiebreak::domain::agreement_report(desk.session());
    assert_eq!((report.partial.given, report.raters[0].partial), (1, 1));
    assert_eq!(desk.session().supply().partial, 1);
}
