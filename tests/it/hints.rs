//! Hints name the keys in effect: with every key rebound, no default key is named on the label, rank, agreement and sample screens.

use super::support::{Desk, completion, envelopes, key, pair, pairs, prompt, sampling, sampling_began, vote};
use std::collections::{BTreeMap, BTreeSet};
use tiebreak::app::bindings::{EVERYWHERE, KeyBindings, KeySetting, action_name};
use tiebreak::app::{Effect, Goal, Msg, Show, action_tables};
use tiebreak::domain::{Finish, Message, Pair, PairId, PromptBody, QueueOrder, RunId, Side};
use tiebreak::protocol::{RunEvent, SessionRecord};

/// The screens whose keys are rebound.
const PLACES: &[&str] = &[EVERYWHERE, "label", "rank", "agreement", "sample"];

/// Every action of these screens on a letter that no screen text has, and the letters by place and action.
fn rebound() -> (KeyBindings, BTreeMap<(String, String), String>) {
    let mut letters = ('\u{410}'..='\u{44f}').chain('\u{561}'..='\u{586}').map(String::from);
    let (mut settings, mut keys) = (Vec::new(), BTreeMap::new());
    for table in action_tables().iter().filter(|table| PLACES.contains(&table.title)) {
        // The rows of other screens may share letters, those of all screens may not.
        let global = table.title == EVERYWHERE;
        let mut of_screen = if global { Vec::new() } else { ('\u{3b1}'..='\u{3c9}').map(String::from).collect() };
        of_screen.reverse();
        for (_, row) in table.actions() {
            let letter = of_screen.pop().or_else(|| letters.next()).expect("enough letters");
            keys.insert((table.title.to_owned(), row.name.to_owned()), letter.clone());
            let action = action_name(row.name);
            settings.push(KeySetting {
                place: table.title.into(),
                action,
                keys: vec![letter],
                line: settings.len() + 1,
            });
        }
    }
    (KeyBindings::build(&action_tables(), None, &settings).expect("the settings are right"), keys)
}

/// The default keys of these screens that stand out as a word of their own.
fn defaults() -> BTreeSet<String> {
    let tables = action_tables();
    let rows = tables.iter().filter(|table| PLACES.contains(&table.title)).flat_map(|table| &table.rows);
    let names = rows.map(|row| row.key.to_string());
    // Digits name the answers; arrows, commas and the like are text too.
    names
        .filter(|name| name.len() > 1 && name.is_ascii() || name.starts_with(|c: char| c.is_ascii_alphabetic()))
        .collect()
}

/// The default keys that a screen names. A popup has keys that nobody can rebind, in its footer and in its hint.
fn named(screen: &str, popup: bool) -> Vec<(String, String)> {
    let defaults = defaults();
    let of_popups = ["ctrl-s", "ctrl-x", "esc", "enter", "tab"];
    let mut out = Vec::new();
    let rows = screen.lines().count() - usize::from(popup);
    for line in screen.lines().take(rows) {
        let mut before = "";
        for word in line.split(|c: char| c.is_whitespace() || "()[]{},;:·".contains(c)) {
            let unit = matches!(word, "s" | "m" | "h") && before.parse::<f64>().is_ok();
            if defaults.contains(word) && !unit && !(popup && of_popups.contains(&word)) {
                out.push((word.to_owned(), line.trim().to_owned()));
            }
            before = word;
        }
    }
    out
}

/// A desk whose keys are pressed by the names of their actions.
struct Rebound {
    desk: Desk,
    keys: BTreeMap<(String, String), String>,
    checked: usize,
}

impl Rebound {
    fn new(records: Vec<SessionRecord>) -> Self {
        let (bindings, keys) = rebound();
        let mut desk = Desk::with_session(120, 40, records);
        desk.model.keys = bindings;
        Self { desk, keys, checked: 0 }
    }

    /// Presses the key of an action, and checks the screen at three sizes.
    fn press(&mut self, place: &str, action: &str) {
        let letter = self.keys.get(&(place.to_owned(), action.to_owned())).unwrap_or_else(|| panic!("no {action}"));
        let letter = letter.clone();
        self.desk.pass(4_000);
        self.desk.send(Msg::Key(key(&letter)));
        self.check(&format!("after {action}"));
    }

    fn check(&mut self, when: &str) {
        for (w, h) in [(80, 24), (200, 60), (120, 40)] {
            let popup = !self.desk.model.popups.is_empty();
            self.desk.model.size = (w, h);
            self.desk.send(Msg::Resize(w, h));
            let screen = self.desk.screen();
            let found = named(&screen, popup);
            assert!(found.is_empty(), "{when}, {w}x{h}: {found:?}\n{screen}");
            self.checked += 1;
        }
    }

    fn says(&mut self, text: &str) {
        self.desk.send(Msg::Resize(200, 60));
        let screen = self.desk.screen();
        assert!(screen.contains(text), "not said: {text}\n{screen}");
    }

    fn key_of(&self, place: &str, action: &str) -> String {
        self.keys[&(place.to_owned(), action.to_owned())].clone()
    }
}

/// A conversation that is too long for the screen, thoughts, three answers.
fn long() -> Vec<SessionRecord> {
    let turn = |role: &str, text: &str| Message::new(role, text);
    let mut asked = prompt("p1", "", "kitchen");
    asked.body = PromptBody::Chat(
        vec![
            turn("user", &"How could one cook pasta with one pot, one stove and little time? ".repeat(60)),
            turn("assistant", &"Boil it in salted water. ".repeat(40)),
            turn("user", "Please use more Markdown formatting."),
        ]
        .into(),
    );
    let mut cut = completion("p1.0", "p1", "## Steps\n\n- Boil **water**.\n- Stir.", 60);
    cut.finish = Finish::Length;
    let thought = "<think>\nThey want Markdown. Steps help.\n</think>\n\nBoil water, then stir.";
    let second = Pair { id: PairId::new("p1:0-2"), b: tiebreak::domain::CompletionId::new("p1.2"), ..pair("p1") };
    let mut out = vec![
        SessionRecord::Prompted(asked.into()),
        SessionRecord::Completed(cut.into()),
        SessionRecord::Completed(completion("p1.1", "p1", thought, 41).into()),
        SessionRecord::Completed(completion("p1.2", "p1", "Boil, salt, stir.", 8).into()),
        SessionRecord::Paired(pair("p1").into()),
        SessionRecord::Paired(second.into()),
    ];
    out.extend(pairs(5).into_iter().filter(|record| {
        !matches!(record, SessionRecord::Prompted(p) if p.id.as_str() == "p1")
            && !matches!(record, SessionRecord::Completed(c) if c.prompt.as_str() == "p1")
            && !matches!(record, SessionRecord::Paired(p) if p.prompt.as_str() == "p1")
    }));
    out
}

#[test]
fn the_check_finds_a_default_key() {
    let desk = Desk::with_session(120, 40, long());
    let found = named(&desk.screen(), false);
    let words: BTreeSet<&str> = found.iter().map(|(word, _)| word.as_str()).collect();
    for word in ["J", "K", "p", "m", "u", "space"] {
        assert!(words.contains(word), "{word}: {words:?}");
    }
}

#[test]
fn no_default_key_is_named_while_judging() {
    let mut r = Rebound::new(long());
    r.check("at first");
    let thoughts = r.key_of("label", "thoughts");
    r.says(&format!("({thoughts} unfolds)"));
    let (down, up) = (r.key_of("label", "prompt down"), r.key_of("label", "prompt up"));
    r.says(&format!("{down} {up} scroll"));
    for action in [
        "thoughts",
        "prompt up",
        "prompt down",
        "expand prompt",
        "expand prompt",
        "raw",
        "diff",
        "raw",
        "diff",
        "zoom",
        "zoom",
        "focus",
        "next difference",
        "scroll down",
        "page down",
        "original",
        "copy",
        "copy prompt",
        "undo",
        "redo",
        "order",
        "criterion",
    ] {
        r.press("label", action);
    }
    for action in ["find", "go to pair", "note", "edit", "tags", "filter", "import"] {
        r.press("label", action);
        r.desk.keys("esc");
        r.check("after a popup");
    }
    r.press("label", "sample");
    r.press("sample", "back");
    r.press(EVERYWHERE, "help");
    r.desk.keys("esc");
    r.press(EVERYWHERE, "palette");
    r.desk.keys("esc");
    r.press(EVERYWHERE, "save");
    r.desk.keys("1");
    r.check("after a key without an action");
    r.press("label", "edit");
    r.desk.type_text(" More.");
    r.desk.keys("ctrl-s");
    r.check("after a correction");
    r.press("label", "undo");
    r.press("label", "tags");
    r.desk.type_text(" new");
    r.desk.keys("enter");
    r.check("after a change of tags");
    r.press("label", "skip");
    r.press("label", "1 better");
    r.press("label", "go to pair");
    r.desk.keys("enter");
    r.press("label", "skip");
    r.desk.pass(20);
    let tie = r.key_of("label", "tie");
    r.desk.send(Msg::Key(key(&tie)));
    r.check("after a quick verdict");
    r.says("Recorded 20 ms after");
    r.desk.model.reports_repeats = true;
    r.desk.send(Msg::KeyRepeat(key(&tie)));
    r.check("while a key is held");
    for _ in 0..9 {
        r.press("label", "both bad");
    }
    r.says("train on the verdicts");
    r.press("label", "undo");
    r.press("label", "best of");
    assert!(r.checked > 150, "{}", r.checked);
}

#[test]
fn no_default_key_is_named_while_ranking() {
    let mut r = Rebound::new(long());
    r.press("label", "best of");
    let pick = r.key_of("rank", "pick 2");
    r.says(&format!("2 [{pick}]"));
    for action in [
        "save",
        "equal",
        "take back",
        "mode",
        "take back",
        "equal",
        "pick 9",
        "pick 1",
        "pick 1",
        "equal",
        "pick 2",
        "save",
    ] {
        r.press("rank", action);
    }
    r.desk.model.goal = None;
    let mut empty = Rebound::new(pairs(3));
    empty.press("label", "best of");
    empty.desk.model.screen = (tiebreak::app::ROUTES.iter().find(|route| route.name == "rank").unwrap().open)(
        &mut empty.desk.model.shared,
        Show::Default,
    )
    .0;
    empty.check("on the rank screen without a prompt");
    empty.press("rank", "pick 1");
    let best = empty.key_of("label", "best of");
    empty.says(&format!("press {best}"));
}

#[test]
fn no_default_key_is_named_with_disputes() {
    let mut records = pairs(3);
    records.extend([vote("p1:0-1", "ana", Side::A), vote("p1:0-1", "ben", Side::B)]);
    records.extend([vote("p2:0-1", "ana", Side::A), vote("p2:0-1", "ben", Side::B)]);
    let mut r = Rebound::new(records);
    r.press("label", "agreement");
    r.check("while agreement is computed");
    let ticket = |r: &mut Rebound| {
        let asked = r
            .desk
            .effects()
            .into_iter()
            .find_map(|e| if let Effect::Agreement { ticket, .. } = e { Some(ticket) } else { None });
        asked.expect("the screen asks")
    };
    let asked = ticket(&mut r);
    r.desk.send(Msg::AgreementReady { ticket: asked, answer: Err("the log cannot be read".into()) });
    r.check("without figures");
    let again = r.key_of("agreement", "recompute");
    r.says(&format!("{again} tries again"));
    r.press("agreement", "recompute");
    let asked = ticket(&mut r);
    let report = Box::new(tiebreak::domain::agreement_report(r.desk.session()));
    r.desk.send(Msg::AgreementReady { ticket: asked, answer: Ok(report) });
    // The figures have names of one letter: `n`, and the sides of the confusion.
    r.desk.send(Msg::Resize(120, 40));
    let others: Vec<String> = r
        .desk
        .screen()
        .lines()
        .filter(|l| !l.contains(" n ") && !l.contains("] n") && !l.trim_start().starts_with(['b', 't']))
        .map(str::to_owned)
        .collect();
    let others = others.join("\n");
    assert!(others.contains("disputed"), "{others}");
    assert_eq!(named(&others, false), [], "{others}");
    let late = envelopes(&[vote("p3:0-1", "ana", Side::A)]).remove(0);
    r.desk.send(Msg::Records(vec![tiebreak::protocol::Envelope { n: 9_000, ..late }]));
    r.says(&format!("{again} computes again"));
    r.press("agreement", "adjudicate");
    r.press("label", "skip");
    let order = r.key_of("label", "order");
    r.says(&format!("press {order} for the other pairs"));
    r.press("label", "tie");
    r.press("label", "tie");
    r.check("after the last dispute");
}

#[test]
fn no_default_key_is_named_without_pairs_or_disk_or_sampler() {
    let mut none = Rebound::new(Vec::new());
    none.check("without prompts");
    for action in ["sample", "undo", "best of", "thoughts", "find"] {
        none.press("label", action);
        if !none.desk.model.popups.is_empty() {
            none.desk.keys("esc");
        }
    }
    let mut prompts = Rebound::new(pairs(2).into_iter().filter(|r| matches!(r, SessionRecord::Prompted(_))).collect());
    prompts.check("without answers");
    let run = RunId::new("sample-1");
    prompts.desk.send(Msg::RunFound(Box::new(sampling("sample-1"))));
    prompts.desk.send(Msg::RunRecords { run: run.clone(), records: envelopes(&sampling_began(40)) });
    prompts.desk.send(Msg::RunAlive { run: run.clone(), alive: true });
    prompts.check("while sampling");
    prompts.press("label", "sample");
    prompts.press("sample", "back");
    prompts.desk.send(Msg::RunAlive { run: run.clone(), alive: false });
    prompts.check("after the sampler was lost");
    let watch = prompts.key_of("label", "watch");
    prompts.says(&format!("{watch} shows why"));
    let mut events = sampling_began(40);
    events.push(RunEvent::Failed { step: 3, error: "out of memory".into() });
    prompts.desk.send(Msg::RunRecords { run, records: envelopes(&events).split_off(2) });
    prompts.check("after the sampler failed");

    let mut filtered = Rebound::new(pairs(3));
    filtered.press("label", "filter");
    filtered.desk.type_text("text:nowhere");
    filtered.desk.keys("enter");
    filtered.check("with a filter that nothing matches");
    filtered.desk.model.order = QueueOrder::Arrival;

    let mut criteria = pairs(3);
    let sentence = Some("Which answer is kinder?".into());
    criteria.insert(0, SessionRecord::CriterionSet { name: "kind".into(), sentence });
    let mut asked = Rebound::new(criteria);
    asked.press("label", "criterion");
    asked.desk.keys("down enter");
    asked.check("by a criterion");

    let mut disk = Rebound::new(pairs(3));
    disk.desk.prompt_disk = false;
    disk.press("label", "tie");
    let retry = disk.key_of(EVERYWHERE, "save");
    disk.desk.send(Msg::SaveDelayed { error: "the disk is full".into(), in_ms: 5_000 });
    disk.check("while the disk is full");
    disk.says(&format!("({retry}: now)"));
    let (ticket, _) = disk.desk.waiting.pop_front().expect("a record waits");
    disk.desk.send(Msg::AppendFailed { ticket, error: "the disk is full".into() });
    disk.check("after the disk refused");
    disk.says(&format!("{retry} tries again"));
    tiebreak::app::follow(&mut disk.desk.model, tiebreak::app::Next::go_in(Some("other".into()), Goal::to("label")));
    disk.check("when another session is asked for");
    disk.says(&format!("({retry} retries)"));
}
