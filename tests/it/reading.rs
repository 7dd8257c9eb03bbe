//! Reading and finding on the label screen: the prompt's scrolling, Markdown, thoughts, marks, find, copy.

use crate::support::{Desk, completion, pair, pairs, prompt};
use tiebreak::app::screen::label::Pane;
use tiebreak::app::{ActiveScreen, Effect, Msg};
use tiebreak::domain::{CompletionId, Finish, Message, Pair, PairId, PromptBody, PromptId, RunId, Seen};
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

const STEPS: &str = "## Steps\n\nUse **plenty** of *fresh* water and `salt`:\n\n1. Boil the water in a large pot until it rolls, which takes about ten minutes.\n2. Add the pasta.\n\n```python\nfor minute in range(10):\n    stir(pot, slowly=True, spoon=\"wooden\", direction=\"clockwise\", speed=0.5)\n```\n\n| part | grams |\n|------|-------|\n| salt | 10 |\n";
const THOUGHT: &str =
    "<think>\nThe user wants Markdown. I should list the steps.\n</think>\n\nBoil the water, then add the pasta.";

/// A conversation with two pairs of one prompt: Markdown that was cut, and a thought.
fn talk() -> Vec<SessionRecord> {
    let turn = |role: &str, text: &str| Message::new(role, text);
    let mut asked = prompt("p31", "", "kitchen");
    asked.body = PromptBody::Chat(
        vec![
            turn("user", &"How do I cook pasta? I have a pot, a stove, some salt and an hour. ".repeat(6)),
            turn("assistant", &"Boil it in salted water. ".repeat(12)),
            turn("user", "Can you please use more Markdown formatting?"),
        ]
        .into(),
    );
    let mut cut = completion("p31.0", "p31", STEPS, 60);
    cut.finish = Finish::Length;
    let second = Pair { id: PairId::new("p31:0-2"), b: CompletionId::new("p31.2"), ..pair("p31") };
    vec![
        SessionRecord::Prompted(asked.into()),
        SessionRecord::Completed(cut.into()),
        SessionRecord::Completed(completion("p31.1", "p31", THOUGHT, 41).into()),
        SessionRecord::Completed(completion("p31.2", "p31", "Boil, salt, stir.", 8).into()),
        SessionRecord::Paired(pair("p31").into()),
        SessionRecord::Paired(second.into()),
    ]
}

/// The pane that shows this answer.
fn pane_of(desk: &Desk, answer: &str) -> Pane {
    let ActiveScreen::LabelScreen(label) = &desk.model.screen else { panic!("not the label screen") };
    let card = label.card.as_ref().expect("a pair is shown");
    let first = card.completion(Pane::First).as_str() == answer;
    if first { Pane::First } else { Pane::Second }
}

fn focus(desk: &mut Desk, answer: &str) {
    let pane = pane_of(desk, answer);
    let ActiveScreen::LabelScreen(label) = &desk.model.screen else { panic!("not the label screen") };
    if label.card.as_ref().expect("a pair is shown").focus != pane {
        desk.keys("tab");
    }
}

#[test]
fn reading_snapshots() {
    let mut desk = Desk::with_session(80, 24, talk());
    snap("label_reading", &mut desk);
    desk.keys("R m");
    snap("label_raw", &mut desk);
    desk.keys("R m p K K K");
    snap("label_prompt", &mut desk);
}

#[test]
fn find_snapshots() {
    let mut records = pairs(12);
    records.extend(talk());
    let mut desk = Desk::with_session(80, 24, records);
    desk.keys("1 /");
    snap("find_empty", &mut desk);
    desk.type_text("WATER boil");
    snap("find_busy", &mut desk);
    desk.type_text(" zzz");
    snap("find_none", &mut desk);
}

#[test]
fn the_prompt_is_pinned_scrolls_and_expands() {
    let mut desk = Desk::with_session(80, 24, talk());
    let text = desk.screen();
    assert!(text.contains("user ▸ Can you please use more") && text.contains("turn 3/3"), "{text}");
    desk.keys("K K K K K K K K K K K K K K K");
    let text = desk.screen();
    assert!(text.contains("user ▸ How do I cook") && text.contains("turn 1/3"), "{text}");
    desk.keys("p");
    let text = desk.screen();
    assert!(text.contains("user ▸ How do I cook") && text.contains("more Markdown formatting?"), "{text}");
    assert!(text.contains("p shrinks"), "{text}");
}

#[test]
fn pairs_of_one_prompt_have_names_of_their_own() {
    let mut desk = Desk::with_session(80, 24, talk());
    assert!(desk.screen().contains("prompt p31·1"));
    desk.keys("1");
    let text = desk.screen();
    assert!(text.contains("prompt p31·2") && text.contains("p31·1 1 better"), "{text}");
    desk.keys("g");
    let text = desk.screen();
    assert!(text.contains("› p31·1") && text.contains("  p31·2"), "{text}");
    assert!(Desk::with_session(80, 24, pairs(2)).screen().contains("prompt p1 "), "a single pair needs no number");
}

#[test]
fn a_folded_thought_is_not_read_and_unfolding_reads_it() {
    let mut desk = Desk::with_session(200, 60, talk());
    let text = desk.screen();
    assert!(text.contains("▸ thought, 9 words (m unfolds)") && text.contains("thought folded"), "{text}");
    desk.keys("1");
    let (_, judged) = desk.session().verdicts().next().expect("a verdict");
    assert_eq!(judged.verdict.seen, Seen::Partial);
    desk.keys("u m");
    let text = desk.screen();
    assert!(text.contains("I should list the steps.") && !text.contains("thought folded"), "{text}");
    desk.keys("1");
    let (_, judged) = desk.session().verdicts().last().expect("a verdict");
    assert_eq!(judged.verdict.seen, Seen::Full);
}

#[test]
fn answers_say_that_they_were_cut_and_scores_wait_for_the_verdict() {
    let mut records = talk();
    let run = RunId::new("reward-1");
    let score = |id: &str, value: f64| SessionRecord::Scored {
        completion: CompletionId::new(id),
        run: run.clone(),
        score: tiebreak::domain::Num(value),
    };
    records.extend([score("p31.0", 1.25), score("p31.1", -0.5)]);
    let mut unclosed = completion("p9.0", "p9", "<think>\nhm, well", 5);
    unclosed.finish = Finish::Length;
    records.extend([
        SessionRecord::Prompted(prompt("p9", "Why?", "").into()),
        SessionRecord::Completed(unclosed.into()),
        SessionRecord::Completed(completion("p9.1", "p9", "So.", 2).into()),
        SessionRecord::Paired(pair("p9").into()),
    ]);
    let mut desk = Desk::with_session(200, 60, records);
    let text = desk.screen();
    assert!(text.contains("✂ cut at limit") && !text.contains("+1.25"), "{text}");
    desk.keys("2 u");
    assert!(!desk.screen().contains("reward-1"), "undone: blind again");
    desk.keys("2 g enter");
    let text = desk.screen();
    assert!(text.contains("reward-1 +1.25") && text.contains("reward-1 -0.50"), "{text}");
    desk.keys("g down down enter");
    let text = desk.screen();
    assert!(text.contains("⚠ ends inside a thought") && text.contains("not ended"), "{text}");
}

#[test]
fn find_names_answers_by_their_side_and_goes_to_the_match() {
    let mut records = talk();
    records.extend(pairs(12));
    let mut desk = Desk::with_session(80, 24, records);
    desk.keys("/");
    desk.type_text("SHOULD list");
    let number = pane_of(&desk, "p31.1").number();
    let text = desk.screen();
    assert!(text.contains("› p31·1") && text.contains(&format!(" answer {number} ")), "{text}");
    assert!(!text.contains("SmolLM2"), "{text}");
    desk.keys("enter");
    let text = desk.screen();
    assert!(text.contains("prompt p31·1") && text.contains("I should list"), "the thought is unfolded: {text}");
    // A name comes before every text that contains it.
    desk.keys("g p 7 enter");
    assert!(desk.screen().contains("prompt p7 "));
    desk.keys("n");
    desk.type_text("look at Ärger");
    desk.keys("enter /");
    desk.type_text("ärger");
    let text = desk.screen();
    assert!(text.contains("› p7 ") && text.contains(" note ") && text.contains("1 in 1 pair"), "{text}");
    desk.keys("esc");
    assert!(desk.model.popups.is_empty());
}

#[test]
fn find_searches_a_large_session_in_slices() {
    let mut desk = Desk::with_session(80, 24, pairs(4000));
    desk.keys("/");
    desk.effects();
    desk.type_text("(answer 3999)");
    assert!(desk.screen().contains("searching…"), "{}", desk.screen());
    assert!(desk.effects().contains(&Effect::Continue));
    let mut slices = 0;
    loop {
        desk.send(Msg::Continue);
        slices += 1;
        if !desk.effects().contains(&Effect::Continue) {
            break;
        }
    }
    let text = desk.screen();
    assert!(slices > 3 && text.contains("2 in 1 pair") && !text.contains("searching"), "{slices}: {text}");
}

#[test]
fn copies_are_the_text_as_the_model_wrote_it() {
    let mut records = talk();
    if let SessionRecord::Completed(answer) = &mut records[1] {
        std::sync::Arc::make_mut(answer).text = "raw \u{1b}[31mred\u{0}\r\n".into();
    }
    records.push(SessionRecord::Completed(completion("p8.0", "p8", &"x".repeat(60_000), 9).into()));
    records.push(SessionRecord::Completed(completion("p8.1", "p8", &"y".repeat(60_000), 9).into()));
    records
        .extend([SessionRecord::Prompted(prompt("p8", "Long?", "").into()), SessionRecord::Paired(pair("p8").into())]);
    let mut desk = Desk::with_session(120, 40, records);
    focus(&mut desk, "p31.0");
    desk.effects();
    desk.keys("y Y");
    let copied: Vec<(String, String)> = desk
        .effects()
        .into_iter()
        .filter_map(|effect| match effect {
            Effect::Copy { what, text } => Some((what, text)),
            _ => None,
        })
        .collect();
    let number = pane_of(&desk, "p31.0").number();
    assert_eq!(copied[0], (format!("answer {number}"), "raw \u{1b}[31mred\u{0}\r\n".to_owned()));
    assert!(
        copied[1].0 == "prompt of p31·1" && copied[1].1.ends_with("user: Can you please use more Markdown formatting?")
    );
    desk.keys("g p 8 enter y");
    assert!(!desk.effects().iter().any(|effect| matches!(effect, Effect::Copy { .. })));
    let text = desk.screen();
    assert!(text.contains("has 60000 bytes, and a terminal copies at most 56244"), "{text}");
}

#[test]
fn the_side_in_the_list_is_the_side_on_the_card() {
    let mut desk = Desk::with_session(80, 40, pairs(20));
    for at in 1..=20 {
        let answer = format!("p{at}.1");
        desk.keys(&format!("g p {} enter", at.to_string().chars().map(String::from).collect::<Vec<_>>().join(" ")));
        let ActiveScreen::LabelScreen(label) = &desk.model.screen else { panic!("not the label screen") };
        assert_eq!(label.card.as_ref().unwrap().prompt_id, PromptId::new(format!("p{at}")));
        let number = pane_of(&desk, &answer).number();
        desk.keys("/");
        desk.type_text("Rayleigh");
        let text = desk.screen();
        let row = text.lines().find(|line| line.contains(&format!(" p{at} ")) && line.contains("answer"));
        let row = row.unwrap_or_else(|| panic!("p{at} is not listed: {text}"));
        assert!(row.contains(&format!("answer {number}")), "p{at}: {row}");
        desk.keys("esc");
    }
}

#[test]
fn with_a_correction_shown_find_and_copy_follow_what_is_shown() {
    let mut desk = Desk::with_session(120, 40, talk());
    focus(&mut desk, "p31.1");
    let number = pane_of(&desk, "p31.1").number();
    desk.keys("e ctrl-u");
    desk.type_text("Never rinse it.");
    desk.keys("ctrl-s");
    desk.effects();
    desk.keys("y");
    let copied = desk.effects().into_iter().find_map(|effect| match effect {
        Effect::Copy { what, text } => Some((what, text)),
        _ => None,
    });
    let (what, text) = copied.expect("a copy");
    assert_eq!(what, format!("your correction of answer {number}"));
    assert!(text.ends_with("Never rinse it.") && text.starts_with("<think>"), "{text}");
    desk.keys("/");
    desk.type_text("a rinse never");
    let text = desk.screen();
    assert!(text.contains(&format!("correction {number}")) && text.contains("1 in 1 pair"), "{text}");
    desk.keys("enter");
    assert!(desk.screen().contains("Never rinse it."));
    // The original's own words are off the card while the correction shows.
    desk.keys("/");
    desk.type_text("then add the pasta");
    desk.keys("enter");
    let text = desk.screen();
    assert!(text.contains(&format!("the match is in the original of answer {number}: v shows it")), "{text}");
}
