//! The state machine, driven by keys: verdicts on disk, undo and redo, a slow and a failing disk, the keymap, and the
//! path from an empty machine to a session.

use crate::support::{Desk, cards, envelopes, key, log_read, models, opened, pairs, sampling, sampling_began};
use std::collections::HashSet;
use tiebreak::app::{ActiveScreen, Effect, Goal, Msg, Next, Popup, ROUTES, SaveState, all_keys, keymap, update};
use tiebreak::domain::{Choice, CompletionId, Num, Rater, RunId, Seen, Side, Strength, WinnerHash};
use tiebreak::protocol::{RunEvent, SessionRecord};

fn judged(desk: &Desk) -> Vec<(String, Choice)> {
    let session = desk.session();
    session.verdicts().filter(|(_, j)| !j.undone).map(|(_, j)| (j.verdict.pair.to_string(), j.verdict.choice)).collect()
}

fn shown(desk: &Desk) -> Option<String> {
    match &desk.model.screen {
        ActiveScreen::LabelScreen(label) => label.card.as_ref().map(|card| card.pair.to_string()),
        _ => None,
    }
}

fn saved(desk: &Desk) -> SaveState {
    desk.model.open.as_ref().unwrap().saved()
}

#[test]
fn one_key_records_one_verdict() {
    let mut desk = Desk::with_session(80, 24, pairs(8));
    let before = desk.log.len();
    desk.keys("1 2 H L , . 0 b");
    let verdicts: Vec<_> = desk.log[before..]
        .iter()
        .map(|record| match record {
            SessionRecord::Judged(v) => v.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(verdicts.len(), 8);
    let strengths =
        [Strength::Better, Strength::Better, Strength::Much, Strength::Much, Strength::Slight, Strength::Slight];
    for (i, verdict) in verdicts.iter().enumerate() {
        assert_eq!(verdict.pair.as_str(), format!("p{}:0-1", i + 1), "the next pair is there at once");
        assert_eq!((verdict.seen, verdict.ms), (Seen::Full, 4_000));
        let expected = match i {
            6 => Choice::Tie,
            7 => Choice::BothBad,
            _ => Choice::Prefer(if i % 2 == 0 { verdict.left } else { verdict.left.other() }, strengths[i]),
        };
        assert_eq!(verdict.choice, expected, "key {i}");
        if let Choice::Prefer(side, _) = verdict.choice {
            let pair = desk.session().pair(&verdict.pair).unwrap();
            let id = if side == Side::A { &pair.a } else { &pair.b };
            let text = &desk.session().completion(id).unwrap().text;
            assert_eq!(verdict.winner_hash, Some(WinnerHash::of(text)));
        }
    }
    let sides: HashSet<bool> = verdicts.iter().map(|v| v.left == Side::A).collect();
    assert_eq!(sides.len(), 2, "both orders occur");
    assert!(desk.screen().contains("All 8 pairs are labelled."), "{}", desk.screen());
}

#[test]
fn sides_are_blind_stable_and_balanced() {
    let ada = Rater::new("ada");
    let first = (0..1000)
        .filter(|i| {
            let pair = tiebreak::domain::PairId::new(format!("p{i}:0-1"));
            let side = tiebreak::app::screen::label::first_side(&pair, &ada);
            assert_eq!(side, tiebreak::app::screen::label::first_side(&pair, &ada));
            side == Side::A
        })
        .count();
    assert!((450..550).contains(&first), "{first} of 1000");
}

#[test]
fn undo_reverts_one_verdict_and_the_replay_agrees() {
    let mut desk = Desk::with_session(80, 24, pairs(6));
    let (pair, queue) = (shown(&desk), desk.model.open.as_ref().unwrap().queue.clone());
    for key in ["1", "L", "0", "b", "space"] {
        desk.keys(key);
        desk.keys("u");
        assert_eq!((shown(&desk), judged(&desk)), (pair.clone(), Vec::new()), "undo after {key}");
        assert_eq!(desk.model.open.as_ref().unwrap().queue, queue);
        desk.keys("ctrl-r");
        assert_eq!(judged(&desk).len(), 1, "redo of {key}");
        desk.keys("u");
    }
    desk.keys("1 2 0 b u u ctrl-r");
    assert_eq!(judged(&desk).len(), 3);
    assert_eq!(desk.replayed().state_hash(), desk.session().state_hash());
}

/// Random keys on disks of any speed: the log on disk folds to the live state, whatever the order of acknowledgements.
#[test]
fn replay_of_the_log_is_the_live_state_for_any_keys_on_any_disk() {
    let keys = ["1", "2", "H", "L", ",", ".", "0", "b", "space", "u", "u", "ctrl-r", "j", "d", "z", "tab"];
    for seed in 0..60u64 {
        let mut random = seed;
        let mut next = |n: usize| {
            random = tiebreak::domain::mix64(random);
            (random % n as u64) as usize
        };
        let mut desk = Desk::with_session(80, 24, pairs(12));
        desk.prompt_disk = false;
        for _ in 0..80 {
            desk.keys(keys[next(keys.len())]);
            for _ in 0..next(3) {
                desk.flush_one();
            }
        }
        let shown_before = judged(&desk);
        while desk.flush_one() {}
        assert_eq!(saved(&desk), SaveState::Saved, "seed {seed}");
        assert_eq!(judged(&desk), shown_before, "acknowledgements change nothing on the screen, seed {seed}");
        assert_eq!(desk.replayed().state_hash(), desk.session().state_hash(), "seed {seed}");
        let open = desk.model.open.as_ref().unwrap();
        assert_eq!(open.queue, desk.replayed().queue(&open.rater), "seed {seed}");
        // A restart continues where it stopped, undo included.
        let mut again = Desk::with_session(80, 24, desk.log.clone());
        assert_eq!(judged(&again), judged(&desk), "seed {seed}");
        desk.keys("u");
        again.keys("u");
        desk.flush();
        again.flush();
        assert_eq!(judged(&again), judged(&desk), "seed {seed}");
    }
}

#[test]
fn saved_shows_only_after_the_acknowledgement() {
    let mut desk = Desk::with_session(100, 30, pairs(4));
    desk.prompt_disk = false;
    desk.keys("1 2");
    assert_eq!(saved(&desk), SaveState::Saving(2));
    assert!(desk.screen().contains("saving…") && desk.screen().contains("2 of 4"), "{}", desk.screen());
    // An undo of an unsaved verdict is sent at once too: the writer fills in the number.
    desk.keys("u 0");
    assert_eq!(desk.waiting.len(), 4, "no record waits for an acknowledgement");
    desk.flush();
    assert!(matches!(&desk.log[desk.log.len() - 2], SessionRecord::Undone { of } if *of == desk.log.len() as u64 - 2));
    assert!(desk.screen().contains("✓ saved"));
    // A disk that rejects a record.
    desk.keys("1");
    let (ticket, record) = desk.waiting.pop_front().unwrap();
    update(&mut desk.model, Msg::AppendFailed { ticket, error: "no space left on the device".into() });
    assert!(desk.screen().contains("NOT SAVED, ctrl-s tries again: no space left"), "{}", desk.screen());
    desk.keys("q");
    assert!(matches!(desk.model.popups.last(), Some(Popup::Confirm(_))), "quitting asks first");
    desk.keys("n ctrl-s");
    assert_eq!(desk.waiting.front().map(|(_, record)| record), Some(&record), "it is sent again");
    desk.flush();
    desk.effects();
    desk.keys("q");
    assert_eq!(desk.effects(), [Effect::Quit]);
}

#[test]
fn what_is_done_while_the_log_is_read_is_kept_and_sent_after_it() {
    let mut desk = Desk::new(80, 24);
    desk.model.goal = Some(("story-tone".into(), Goal::to("label")));
    desk.send(Msg::SessionOpened(opened("story-tone")));
    let open = desk.model.open.as_mut().unwrap();
    let kind = SessionRecord::CriterionSet { name: "kind".into(), sentence: Some("Which is kinder?".into()) };
    assert!(open.write(&kind).is_empty(), "nothing is sent before the log is read");
    assert_eq!(saved(&desk), SaveState::Saving(1));
    desk.log = pairs(2);
    let read = log_read(&desk.log);
    desk.send(read);
    desk.send(Msg::SessionLoaded);
    assert_eq!(desk.log.last(), Some(&kind));
    assert_eq!(saved(&desk), SaveState::Saved);
    let session = &desk.model.open.as_ref().unwrap().session;
    assert_eq!((session.pairs().len(), session.criteria().len()), (2, 1));
}

#[test]
fn a_failing_disk_is_retried_and_the_header_says_when() {
    let mut desk = Desk::with_session(110, 30, pairs(4));
    desk.prompt_disk = false;
    desk.keys("1 2");
    desk.send(Msg::SaveDelayed { error: "no space left on the disk".into(), in_ms: 4_000 });
    assert!(desk.screen().contains("2 NOT SAVED, next try in 4 s (ctrl-s: now): no space"), "{}", desk.screen());
    let version = desk.model.version;
    desk.pass(1_500);
    assert!(desk.model.version > version && desk.screen().contains("next try in 3 s"), "{}", desk.screen());
    desk.effects();
    desk.keys("ctrl-s");
    assert_eq!(desk.effects(), [Effect::SaveNow], "the writer has the records; they are not sent twice");
    assert_eq!(desk.waiting.len(), 2);
    desk.flush();
    assert_eq!(saved(&desk), SaveState::Saved);
    desk.keys("ctrl-s");
    assert!(desk.effects().is_empty() && desk.screen().contains("everything is saved"));
}

#[test]
fn a_clock_set_back_affects_no_key_and_no_duration() {
    let mut desk = Desk::with_session(80, 24, pairs(30));
    desk.keys("1");
    for back in 1..30 {
        let (now_ms, clock_ms) = (desk.model.now_ms - back * 1000, desk.model.clock_ms + 700);
        desk.send(Msg::Tick { now_ms, clock_ms });
        desk.send(Msg::Key(key("2")));
    }
    let times: Vec<u64> = desk.session().verdicts().map(|(_, judged)| judged.verdict.ms).collect();
    assert_eq!(times.len(), 30, "every key is a verdict");
    assert!(times[1..].iter().all(|ms| *ms == 700), "{times:?}");
}

#[test]
fn a_verdict_records_whether_both_answers_were_read() {
    let mut records = pairs(2);
    for record in &mut records {
        if let SessionRecord::Completed(c) = record {
            std::sync::Arc::make_mut(c).text =
                (0..60).map(|i| format!("{} line {i}", c.id)).collect::<Vec<_>>().join("\n").into();
        }
    }
    let mut desk = Desk::with_session(120, 24, records);
    desk.keys("1");
    desk.keys("pgdn pgdn pgdn pgdn pgdn pgdn");
    assert!(desk.screen().matches("all read").count() == 2, "{}", desk.screen());
    desk.keys("2");
    let seen: Vec<Seen> = desk.session().verdicts().map(|(_, j)| j.verdict.seen).collect();
    assert_eq!(seen, [Seen::Partial, Seen::Full]);
}

#[test]
fn notes_and_corrections_are_recorded_and_a_skipped_pair_returns() {
    let mut desk = Desk::with_session(120, 40, pairs(2));
    desk.keys("n");
    desk.type_text("both 1 2 dodge the question");
    desk.keys("enter");
    assert!(desk.screen().contains("note: both 1 2 dodge the question"), "{}", desk.screen());
    desk.keys("tab e");
    desk.type_text(" The end.");
    desk.keys("enter");
    desk.type_text("q");
    desk.keys("ctrl-s");
    let correction = desk.session().corrections()[0].clone();
    assert!(correction.text.ends_with(" The end.\nq"), "{}", correction.text);
    assert_eq!(judged(&desk), [], "typing records no verdict");
    desk.keys("space 1");
    assert_eq!(shown(&desk).as_deref(), Some("p1:0-1"), "the skipped pair returns");
    desk.keys("g down enter");
    assert_eq!(shown(&desk).as_deref(), Some("p2:0-1"), "a labelled pair can be shown again");
    assert!(desk.screen().contains("your verdict: 1 better"), "{}", desk.screen());
    assert_eq!(desk.replayed().state_hash(), desk.session().state_hash());
}

#[test]
fn a_correction_is_stored_verbatim_reopened_withdrawn_and_undone() {
    // Answers in code or Arabic contain tabs and direction marks.
    let original = "fn f() {\n\treturn \u{202b}\u{5d0}\u{202c}\r\n}";
    let mut records = pairs(2);
    for record in &mut records {
        if let SessionRecord::Completed(c) = record {
            std::sync::Arc::make_mut(c).text = original.into();
        }
    }
    let mut desk = Desk::with_session(120, 40, records);
    let texts = |desk: &Desk| -> Vec<String> {
        desk.session().sft_rows().iter().map(|row| format!("{:?}", row.body)).collect()
    };
    desk.keys("e");
    desk.type_text(" //");
    desk.keys("tab");
    desk.type_text("ok");
    desk.keys("ctrl-s");
    let first = format!("{original} //\tok");
    assert_eq!(desk.session().corrections()[0].text, first, "byte for byte");
    assert!(desk.screen().contains("✎ corrected"), "{}", desk.screen());
    assert!(!desk.screen().contains('\u{202b}'), "the screen shows sanitised text");
    // The correction is reopened, not the original; one key does not discard it.
    desk.keys("e");
    desk.type_text("!");
    desk.keys("esc");
    assert!(desk.screen().contains("Discard what you typed?"), "{}", desk.screen());
    desk.keys("n ctrl-s");
    assert_eq!(desk.session().corrections().last().unwrap().text, format!("{first}!"));
    desk.keys("e");
    desk.type_text("?");
    desk.keys("esc y");
    desk.keys("e esc");
    assert!(!desk.screen().contains("Discard"), "nothing was typed");
    assert_eq!(desk.session().corrections().len(), 2);
    // Undo and redo, one by one.
    desk.keys("u");
    assert_eq!(desk.session().corrections().last().unwrap().text, first);
    desk.keys("ctrl-r");
    assert_eq!(desk.session().corrections().last().unwrap().text, format!("{first}!"));
    desk.keys("u u");
    assert!(desk.session().corrections().is_empty() && texts(&desk).is_empty());
    assert!(!desk.screen().contains("✎ corrected"), "{}", desk.screen());
    desk.keys("u");
    assert!(desk.screen().contains("Nothing to undo"), "{}", desk.screen());
    desk.keys("ctrl-r");
    assert_eq!(texts(&desk).len(), 1);
    // Ctrl-x withdraws it; undo restores it.
    desk.keys("e ctrl-x");
    assert!(texts(&desk).is_empty() && !desk.screen().contains("✎ corrected"), "{}", desk.screen());
    desk.keys("u");
    assert_eq!(texts(&desk).len(), 1);
    // Verdicts and corrections are undone in reverse order.
    desk.keys("1 u");
    assert_eq!((desk.session().verdicts().count(), texts(&desk).len()), (1, 1));
    assert!(desk.session().verdicts().all(|(_, judged)| judged.undone));
    desk.keys("u");
    assert!(texts(&desk).is_empty());
    assert_eq!(desk.replayed().state_hash(), desk.session().state_hash());
}

#[test]
fn a_read_only_session_is_not_written() {
    let mut desk = Desk::new(80, 24);
    let mut holder = opened("story-tone");
    holder.read_only = Some("process 4711".into());
    desk.send(Msg::SessionOpened(holder));
    desk.send(Msg::Records(crate::support::envelopes(&pairs(2))));
    desk.send(Msg::SessionLoaded);
    assert!(desk.screen().contains("read-only: held by process 4711"), "{}", desk.screen());
    for keys in ["1", "u", "n", "e", "s", "i"] {
        desk.keys(keys);
        assert!(desk.model.popups.is_empty() && desk.waiting.is_empty() && desk.log.is_empty(), "{keys}");
        assert!(desk.screen().contains("process 4711 holds this session"), "{keys}: {}", desk.screen());
    }
}

#[test]
fn keys_alone_lead_from_an_empty_machine_to_labelling() {
    let mut desk = Desk::new(80, 24);
    assert_eq!(desk.effects(), [Effect::ListSessions, Effect::QueryDevice, Effect::ListModels]);
    desk.send(Msg::SessionsListed(Vec::new()));
    desk.send(Msg::ModelsListed(models()));
    desk.keys("n");
    desk.type_text("my tone");
    desk.keys("enter");
    assert!(desk.screen().contains("invalid character ` `"), "{}", desk.screen());
    desk.keys("ctrl-u");
    desk.type_text("my-tone");
    desk.keys("enter");
    assert!(desk.screen().contains("SmolLM2-135M-Instruct") && !desk.screen().contains("› gpt2"), "{}", desk.screen());
    desk.keys("enter");
    desk.send(Msg::Paste("prompts.txt\n".into()));
    desk.keys("enter");
    let create = Effect::CreateSession {
        name: "my-tone".into(),
        model: "SmolLM2-135M-Instruct".into(),
        prompts: Some("prompts.txt".into()),
    };
    assert_eq!(desk.effects(), [create]);
    desk.send(Msg::Created { name: "my-tone".into() });
    assert_eq!(desk.effects(), [Effect::OpenSession { name: "my-tone".into() }, Effect::ListSessions]);
    desk.send(Msg::SessionOpened(opened("my-tone")));
    let prompts: Vec<_> = pairs(4).into_iter().filter(|r| matches!(r, SessionRecord::Prompted(_))).collect();
    desk.send(Msg::Records(crate::support::envelopes(&prompts)));
    desk.send(Msg::SessionLoaded);
    assert!(desk.screen().contains("4 prompts, and no answers to compare yet."), "{}", desk.screen());
    desk.keys("s");
    for _ in 0..20 {
        if desk.screen().contains("▸ per_prompt") {
            break;
        }
        desk.keys("down");
    }
    desk.keys("backspace 0 enter");
    assert!(desk.screen().contains("invalid per_prompt=0"), "{}", desk.screen());
    desk.keys("backspace 3 down backspace 9 enter");
    match desk.effects().as_slice() {
        [Effect::Sample(request)] => {
            assert_eq!((request.per_prompt, request.sampler.temperature, request.sampler.seed), (3, 0.9, 42));
        }
        other => panic!("{other:?}"),
    }
    desk.send(Msg::RunFound(Box::new(sampling("sample-1"))));
    desk.send(Msg::Launched { run: tiebreak::domain::RunId::new("sample-1") });
    assert!(
        desk.screen().contains("pairs appear here") || desk.screen().contains("No pair to label yet"),
        "{}",
        desk.screen()
    );
    desk.send(Msg::Records(crate::support::envelopes(&pairs(4))));
    assert!(shown(&desk).is_some(), "the first finished pair shows without a key");
}

#[test]
fn keys_switch_screens_and_failures_are_shown() {
    let mut desk = Desk::new(80, 24);
    desk.send(Msg::SessionsListed(cards()));
    desk.effects();
    desk.keys("down t");
    assert_eq!(desk.effects(), [Effect::OpenSession { name: "kitchen-help".into() }]);
    desk.send(Msg::Failed("kitchen-help/session.json line 1 is not JSON; restore it from a copy".into()));
    assert!(desk.screen().contains("line 1 is not JSON"), "{}", desk.screen());
    desk.keys("enter");
    assert!(matches!(desk.model.screen, ActiveScreen::HomeScreen(_)) && desk.model.goal.is_none());
    desk.keys("down t");
    desk.send(Msg::SessionOpened(opened("safety-probe")));
    let mut desk = Desk::with_session(80, 24, pairs(2));
    for (keys, screen) in [
        ("t", "launch"),
        ("esc", "label"),
        ("w", "watch"),
        ("esc", "label"),
        ("r", "replay"),
        ("esc", "label"),
        ("esc", "home"),
    ] {
        desk.keys(keys);
        assert_eq!(desk.model.screen.any().name(), screen, "{keys}");
    }
    desk.send(Msg::SessionsListed(cards()));
    desk.effects();
    desk.keys("l");
    assert_eq!(desk.model.screen.any().name(), "label", "the open session is not opened again");
    desk.keys(": s a f e t y enter");
    assert_eq!(desk.effects(), [Effect::OpenSession { name: "safety-probe".into() }]);
    assert_eq!(desk.model.goal, Some(("safety-probe".into(), Goal::to("label"))));
}

#[test]
fn nothing_visible_changes_without_a_new_version() {
    let mut desk = Desk::with_session(80, 24, pairs(3));
    for word in ["1", "d", "?", "j", "esc", ":", "u", "esc", "0", "u", "n", "x", "esc", "z", "q"] {
        let (version, screen) = (desk.model.version, desk.screen());
        desk.send(Msg::Key(key(word)));
        assert!(desk.model.version > version || desk.screen() == screen, "{word}");
    }
    let (version, screen) = (desk.model.version, desk.screen());
    desk.model.notice = None;
    desk.pass(10);
    assert_eq!(desk.model.version, version, "time alone causes no redraw");
    assert!(!screen.is_empty());
}

#[test]
fn the_keymap_binds_each_key_once_and_explains_it() {
    let tables = all_keys();
    for table in &tables {
        assert!(!table.rows.is_empty(), "{} has no keys", table.title);
        let mut seen = HashSet::new();
        for row in &table.rows {
            let (key, help) = (row.key, row.help);
            assert!(seen.insert(key), "{key} is bound twice in {}", table.title);
            assert!(!help.is_empty() && help.len() <= 60, "{key}: {help}");
        }
    }
    // A screen must not shadow a global key.
    for screen in ROUTES.iter().flat_map(|route| (route.keys)()) {
        for row in &tables[0].rows {
            assert!(screen.rows.iter().all(|r| r.key != row.key), "{} hides {}", screen.title, row.key);
        }
    }
    // The palette searches names: every action of a screen has one of its own.
    for table in ROUTES.iter().filter_map(|route| (route.keys)().into_iter().next()).chain([tables[0].clone()]) {
        let mut names = HashSet::new();
        for (keys, row) in table.actions() {
            assert!(!row.name.is_empty(), "{} {keys} has no name", table.title);
            assert!(names.insert(row.name), "{}: two actions are called {}", table.title, row.name);
        }
    }
    let titles: HashSet<&str> = tables.iter().map(|table| table.title).collect();
    assert_eq!(titles.len(), tables.len(), "every title is unique");
    assert!(titles.contains("everywhere") && ROUTES.iter().all(|route| titles.contains(route.name)));
    assert!(keymap::markdown(&tables).lines().count() > 40);
}

#[test]
fn the_queue_can_be_ordered_by_scores() {
    let mut records = pairs(3);
    let mut desk = Desk::with_session(100, 30, records.clone());
    desk.keys("o");
    assert!(desk.screen().contains("no pair left to label has scores"), "{}", desk.screen());
    for (completion, score) in [("p1.0", 1.0), ("p1.1", -1.0), ("p3.0", 0.25), ("p3.1", 0.5)] {
        records.push(SessionRecord::Scored {
            completion: CompletionId::new(completion),
            run: RunId::new("reward-1"),
            score: Num(score),
        });
    }
    let mut desk = Desk::with_session(100, 30, records);
    assert!(desk.screen().contains("prompt p1"), "the order of arrival is the default");
    desk.keys("o");
    let screen = desk.screen();
    assert!(screen.contains("prompt p3") && screen.contains("2 of 3 pairs have scores"), "{screen}");
    desk.keys("1");
    assert!(desk.screen().contains("prompt p1"));
    desk.keys("1");
    assert!(desk.screen().contains("prompt p2"), "pairs without scores come last");
    desk.keys("u o");
    assert!(desk.screen().contains("prompt p1") && desk.screen().contains("order of arrival"));
    assert_eq!(desk.session().state_hash(), desk.replayed().state_hash());
}

/// Destinations are names, so a key could name a screen that does not exist.
#[test]
fn every_key_leads_to_a_screen_that_exists() {
    for route in ROUTES {
        let tables = (route.keys)();
        for row in tables.iter().flat_map(|table| &table.rows) {
            let mut desk = Desk::with_session(80, 24, pairs(2));
            desk.send(Msg::SessionsListed(cards()));
            tiebreak::app::follow(&mut desk.model, Next::go(Goal::to(route.name)));
            assert_eq!(desk.model.screen.any().name(), route.name);
            desk.send(Msg::Key(row.key));
            let notice = desk.model.notice.as_ref().map_or("", |notice| notice.text.as_str());
            assert!(!notice.contains("no screen is called"), "{} {}: {notice}", route.name, row.key);
            let goal = desk.model.goal.as_ref().map_or(route.name, |(_, goal)| goal.screen);
            assert!(ROUTES.iter().any(|route| route.name == goal), "{} {}: {goal}", route.name, row.key);
        }
    }
}

#[test]
fn the_palette_records_no_verdict_that_was_not_selected() {
    for query in
        ["tie", "both bad", "better", "1 much", "slightly", "search", "filter", "theme", "home", "neither", "t"]
    {
        let mut desk = Desk::with_session(80, 24, pairs(4));
        desk.keys(":");
        desk.type_text(query);
        desk.keys("enter");
        assert_eq!(judged(&desk), [], "`{query}` and enter: {}", desk.screen());
    }
    // Moving to a verdict selects it.
    let mut desk = Desk::with_session(80, 24, pairs(4));
    desk.keys(": t i e down enter");
    assert_eq!(judged(&desk), [("p1:0-1".to_owned(), Choice::Tie)]);
}

#[test]
fn the_palette_finds_actions_by_their_names() {
    let found = |query: &str| {
        let mut desk = Desk::with_session(80, 24, pairs(4));
        desk.keys("1 :");
        desk.type_text(query);
        match desk.model.popups.last() {
            Some(Popup::Palette(palette)) => palette.current().map(|entry| entry.title.clone()),
            other => panic!("{other:?}"),
        }
    };
    for name in ["undo", "redo", "skip", "zoom", "note", "diff", "sample", "import", "replay", "help", "quit", "home"] {
        assert_eq!(found(name).as_deref(), Some(name));
    }
    assert_eq!(found("zom").as_deref(), Some("zoom"), "a typo still matches");
    assert_eq!(found("xyzzy"), None);
    // The chosen action runs.
    let mut desk = Desk::with_session(80, 24, pairs(4));
    desk.keys("1 : u n d o enter");
    assert_eq!(judged(&desk), []);
    assert_eq!(shown(&desk).as_deref(), Some("p1:0-1"));
}

#[test]
fn what_was_typed_for_a_new_session_is_kept_when_it_is_wrong() {
    let mut desk = Desk::new(80, 24);
    desk.effects();
    desk.send(Msg::SessionsListed(Vec::new()));
    desk.send(Msg::ModelsListed(crate::support::models()));
    desk.keys("n");
    desk.type_text("week");
    desk.keys("enter");
    // A path typed into the list of models is taken as one.
    desk.type_text("~/models/hf");
    assert!(desk.screen().contains("enter takes it as a folder"), "{}", desk.screen());
    desk.keys("enter");
    desk.type_text("no-file");
    desk.keys("enter");
    let create = |model: &str, prompts: &str| Effect::CreateSession {
        name: "week".into(),
        model: model.into(),
        prompts: Some(prompts.into()),
    };
    assert_eq!(desk.effects(), [create("~/models/hf", "no-file")]);
    let unmade = |error: &str, at_prompts| {
        let (name, model, prompts) = ("week".into(), "~/models/hf".into(), Some("no-file".into()));
        Msg::NotCreated(tiebreak::app::Unmade { name, model, prompts, error: error.into(), at_prompts })
    };
    desk.send(unmade("no-file is not a file", true));
    assert!(
        desk.screen().contains("> no-file") && desk.screen().contains("no-file is not a file"),
        "{}",
        desk.screen()
    );
    desk.keys("ctrl-u");
    desk.type_text("a-file");
    desk.keys("enter");
    assert_eq!(desk.effects(), [create("~/models/hf", "a-file")]);
    desk.send(unmade("there is no model", false));
    assert!(
        desk.screen().contains("> ~/models/hf") && desk.screen().contains("there is no model"),
        "{}",
        desk.screen()
    );
}

#[test]
fn redraw_and_suspend_work_over_every_popup() {
    for open in ["?", ":", "/", "n"] {
        let mut desk = Desk::with_session(80, 24, pairs(3));
        desk.keys(open);
        assert_eq!(desk.model.popups.len(), 1, "{open}");
        for (key, effect) in [("ctrl-l", Effect::Redraw), ("ctrl-z", Effect::Suspend)] {
            desk.effects();
            desk.keys(key);
            assert!(desk.effects().contains(&effect), "{key} over {open}");
            assert_eq!(desk.model.popups.len(), 1, "{key} over {open}");
        }
    }
}

#[test]
fn a_run_whose_process_is_stopped_by_a_signal_is_shown_so_and_without_a_speed() {
    let mut desk = Desk::with_session(120, 40, pairs(3));
    let run = RunId::new("sample-1");
    desk.send(Msg::RunFound(Box::new(sampling("sample-1"))));
    desk.send(Msg::RunAlive { run: run.clone(), alive: true });
    let mut events = sampling_began(120);
    for step in 1..=20 {
        let metrics = serde_json::from_value(serde_json::json!({ "tokens": 400.0 })).unwrap();
        events.push(RunEvent::Stepped { step, epoch: 0.0, metrics });
    }
    desk.send(Msg::RunRecords { run: run.clone(), records: envelopes(&events) });
    desk.keys("w");
    assert!(desk.screen().contains("LIVE"), "{}", desk.screen());
    desk.send(Msg::RunSuspended { run: run.clone(), suspended: true });
    let stopped = desk.screen();
    assert!(stopped.contains("SUSPENDED") && !stopped.contains("LIVE") && !stopped.contains("tok/s"), "{stopped}");
    desk.keys("p");
    assert!(desk.screen().contains("is stopped by a signal"), "{}", desk.screen());
    desk.send(Msg::RunSuspended { run, suspended: false });
    assert!(desk.screen().contains("LIVE"), "{}", desk.screen());
}
