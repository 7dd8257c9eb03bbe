//! Filters over a session, and the tags that they see.

use super::super::collect::tests::{session, verdict};
use super::super::*;
use crate::domain::verdict::{Asked, Seen, Side, Strength};
use crate::domain::{Choice, Filter, Message, PromptBody, RowChoice, Rubric, SftBody};

const A: Choice = Choice::Prefer(Side::A, Strength::Better);
const B: Choice = Choice::Prefer(Side::B, Strength::Much);

fn filter(text: &str) -> Filter {
    Filter::parse(text).unwrap()
}

fn found(s: &Session, text: &str) -> Vec<String> {
    let filter = filter(text);
    let view = s.view(&filter);
    s.pairs().iter().filter(|pair| view.pair(pair)).map(|pair| pair.id.to_string()).collect()
}

fn choice(text: &str) -> RowChoice {
    RowChoice { filter: Some(filter(text)), ..RowChoice::default() }
}

fn tag(s: &mut Session, seq: u64, prompt: &str, name: &str, on: bool) {
    s.tag(seq, TagChange { prompt: PromptId::new(prompt), tag: name.into(), rater: Rater::new("ana"), on });
}

/// Six pairs with something of everything.
fn mixed() -> Session {
    let mut s = session(6);
    tag(&mut s, 1, "p0", "Code", true);
    tag(&mut s, 2, "p1", "math", true);
    tag(&mut s, 3, "p1", "code", true);
    s.judge(10, Verdict { ms: 900, ..verdict(0, "ana", A) });
    s.judge(11, Verdict { ms: 80, ..verdict(0, "ben", B) });
    s.judge(12, Verdict { seen: Seen::Partial, ms: 900, ..verdict(1, "ana", Choice::Tie) });
    // An imported verdict has no time.
    s.judge(13, Verdict { ms: 0, ..verdict(2, "import:votes.json#cy", Choice::Skip) });
    s.judge(14, Verdict { asked: Asked::by(Some("helpful")), ..verdict(3, "ben", B) });
    s.note(PairId::new("x4"), Rater::new("ana"), "Check the DATE".into());
    let correction = |text: &str| Correction {
        pair: PairId::new("x2"),
        completion: CompletionId::new("c2.b"),
        rater: Rater::new("ana"),
        text: text.into(),
    };
    s.correct(15, correction("better"));
    for (c, value) in [("c0.a", 0.0), ("c0.b", 1.0), ("c1.a", 0.1), ("c1.b", 0.0)] {
        s.score(CompletionId::new(c), &RunId::new("reward-1"), value);
    }
    s
}

#[test]
fn every_term_finds_its_pairs() {
    let s = mixed();
    for (text, want) in [
        ("tag:code", "x0 x1"),
        ("tag:code,math -tag:math", "x0"),
        ("rater:ana", "x0 x1"),
        ("rater:CY", "x2"),
        ("rater:ana,ben -rater:ben", "x1"),
        ("verdict:tie", "x1"),
        ("verdict:much", "x0"),
        ("rater:ana verdict:much", ""),
        ("rater:ben verdict:much", "x0"),
        ("verdict:better,tie", "x0 x1"),
        ("verdict:skip", "x2"),
        ("verdict:none", "x3 x4 x5"),
        ("-verdict:none", "x0 x1 x2"),
        ("disputed", "x0"),
        ("contested", ""),
        ("seen:partial", "x1"),
        ("criterion:helpful", "x3"),
        ("criterion:Helpful verdict:much", "x3"),
        ("criterion:helpful verdict:tie", ""),
        ("strategy:random text:\"ANSWER a 4\"", "x4"),
        ("strategy:close", ""),
        ("model:m -corrected", "x0 x1 x3 x4 x5"),
        ("model:c3", "x3"),
        ("note:date", "x4"),
        ("gap:<0.5", "x1"),
        ("gap:>=0.5", "x0"),
        ("-gap:<0.5 tag:code", "x0"),
        ("ms:<250", "x0"),
        ("ms:<250 rater:ana", ""),
        ("ms:>=250", "x0 x1"),
        ("-ms:<250 -verdict:none", "x1 x2"),
        ("corrected", "x2"),
        ("prompt:p3,p5", "x3 x5"),
        ("source:t prompt:P3", "x3"),
        ("disputed,corrected", "x0 x2"),
        ("", "x0 x1 x2 x3 x4 x5"),
        ("tag:none", ""),
    ] {
        assert_eq!(found(&s, text).join(" "), want, "{text}");
    }
    let mut s = s;
    s.correct(16, Correction { text: String::new(), ..s.correction_at(15).unwrap().clone() });
    assert!(found(&s, "corrected").is_empty(), "it was withdrawn");
    s.judge(17, verdict(1, "ana", B));
    s.judge(18, verdict(0, "ben", A));
    assert_eq!(found(&s, "disputed"), Vec::<String>::new());
    s.score(CompletionId::new("c1.a"), &RunId::new("reward-1"), 3.0);
    assert_eq!(found(&s, "contested"), ["x0", "x1"]);
}

#[test]
fn rows_are_those_that_match() {
    let mut s = mixed();
    s.judge(20, verdict(4, "ana", A));
    s.judge(21, verdict(5, "ana", B));
    let of = |s: &Session, c: &RowChoice| {
        let (rows, left) = s.rows_of(c);
        (rows.iter().map(|r| r.pair.to_string()).collect::<Vec<_>>(), left.total(), left.filtered)
    };
    assert_eq!(of(&s, &choice("verdict:much")), (vec!["x5".into()], 1, 2), "x0 is unresolved, x1 and x4 do not match");
    assert_eq!(of(&s, &choice("note:date")), (vec!["x4".into()], 0, 3));
    let helpful = RowChoice { rubric: Rubric::one(Some("helpful")), ..choice("prompt:p3") };
    assert_eq!(of(&s, &helpful), (vec!["x3".into()], 0, 0));
    assert_eq!(s.prompts_of(&choice("verdict:tie")).len(), 1);
    assert_eq!(s.prompts_of(&choice("tag:code")).len(), 2);
    assert_eq!(s.rated_rows_of(&choice("note:date")).len(), 2);
    assert_eq!((s.sft_rows_of(&choice("corrected")).len(), s.sft_rows_of(&choice("note:date")).len()), (1, 0));
    let supply = s.supply_of(&choice("note:date"));
    assert_eq!((supply.pairs, supply.good, supply.bad, supply.prompts, supply.verdicts), (1, 1, 1, 1, 1));
    assert_eq!((supply.examples, supply.mixed), (0, 1), "what is mixed in is not filtered");
    // Imported rows match by what they have.
    let turns = vec![Message::new("user", "the date?")];
    let body = SftBody::Messages(turns.into());
    s.add_text(TextSet::Sft, SftRow { id: PairId::new("t1"), prompt_id: body.prompt().derived_id(), body });
    let rating = RatedRow {
        cut: false,
        turns: [].into(),
        id: PairId::new("r1"),
        prompt_id: PromptId::new("h1"),
        prompt: PromptBody::user("the date?"),
        completion: "today".into(),
        good: true,
    };
    s.add_rating(rating);
    assert_eq!((s.sft_rows_of(&choice("text:date")).len(), s.rated_rows_of(&choice("text:date")).len()), (1, 1));
    assert_eq!((s.sft_rows_of(&choice("disputed")).len(), s.sft_rows_of(&choice("-disputed")).len()), (0, 2));
}

#[test]
fn tags_are_set_taken_off_undone_and_redone_over_the_imported_ones() {
    let mut s = Session::default();
    // A change may come before its prompt.
    tag(&mut s, 1, "p1", "hard", true);
    let body = PromptBody::user("q");
    s.add_prompt(Prompt { id: PromptId::new("p1"), body, source: "t".into(), tags: ["code".into()].into() });
    let tags = |s: &Session| s.prompts()[0].tags.join(" ");
    assert_eq!(tags(&s), "code hard");
    let before = s.state_hash();
    tag(&mut s, 2, "p1", "code", false);
    tag(&mut s, 3, "p1", "hard", true);
    assert_eq!((tags(&s).as_str(), s.known_tags()), ("hard", vec!["hard"]));
    let ana = Rater::new("ana");
    assert_eq!(s.undoable(&ana), Some(3));
    s.undo(3);
    s.undo(2);
    assert_eq!(tags(&s), "code hard");
    assert_ne!(s.state_hash(), before);
    s.redo(2);
    assert_eq!((tags(&s).as_str(), s.undoable(&ana), s.redoable(&ana)), ("hard", Some(2), Some(3)));
    tag(&mut s, u64::MAX, "p1", "late", true);
    s.renumber(u64::MAX, 9);
    assert_eq!((tags(&s).as_str(), s.undoable(&ana)), ("hard late", Some(9)));
    tag(&mut s, 10, "p9", "nowhere", true);
    assert_eq!(s.known_tags(), ["hard", "late"]);
    for bad in ["", " ", "+x", "-x", "a,b", "a\"b", "a\u{1b}b", &"x".repeat(65)] {
        assert!(tag_problem(bad).is_some(), "{bad:?}");
    }
    assert_eq!(tag_problem("two words"), None);
}
