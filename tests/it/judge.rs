//! Deciding on the label screen: remapped keys, corrections, skips, the end of a queue, best-of-K and rankings.

use super::support::{Desk, completion, paint, pair, pairs, prompt};
use tiebreak::app::bindings::{KeyBindings, KeySetting};
use tiebreak::app::{ActiveScreen, Theme, action_tables, all_keys};
use tiebreak::domain::{CORRECTION, Choice, CompletionId, PairId, Side, WinRate};
use tiebreak::protocol::SessionRecord;

fn bound(settings: &[(&str, &str, &str)]) -> KeyBindings {
    let one = |(i, (place, action, key)): (usize, &(&str, &str, &str))| KeySetting {
        place: (*place).into(),
        action: (*action).into(),
        keys: vec![(*key).into()],
        line: i + 1,
    };
    let settings: Vec<KeySetting> = settings.iter().enumerate().map(one).collect();
    KeyBindings::build(&action_tables(), None, &settings).expect("the settings are right")
}

/// One prompt with `count` answers, paired as a sampling run pairs them: each with the next.
fn answers(count: usize) -> Vec<SessionRecord> {
    let mut out = vec![SessionRecord::Prompted(prompt("p1", "What should I cook tonight?", "kitchen").into())];
    let dishes = ["Soup", "Bread", "Rice", "Salad", "Stew", "Cake", "Pasta", "Curry", "Pie", "Toast"];
    for (i, dish) in dishes.iter().take(count).enumerate() {
        let text = format!("{dish}: take what is at hand and cook it slowly.\nThen taste it, and serve it warm.");
        out.push(SessionRecord::Completed(completion(&format!("p1.{i}"), "p1", &text, 20 + i as u32).into()));
    }
    out.push(SessionRecord::Paired(pair("p1").into()));
    out
}

#[test]
fn keys_follow_the_settings_in_footer_help_palette_and_sentences() {
    let mut desk = Desk::with_session(120, 40, pairs(3));
    desk.model.keys = bound(
        &[("label", "better_1", "x"), ("label", "undo", "U"), ("everywhere", "help", "f")]
            .map(|(p, a, k)| if a == "help" { (p, a, "F") } else { (p, a, k) }),
    );
    assert!(desk.screen().lines().last().is_some_and(|footer| footer.contains("x 2 better")), "{}", desk.screen());
    desk.keys("1");
    assert!(desk.screen().contains("1 does nothing here; F shows the keys"), "{}", desk.screen());
    assert_eq!(desk.session().verdicts().count(), 0);
    desk.keys("x");
    assert_eq!(desk.session().verdicts().count(), 1);
    desk.keys("U");
    assert!(desk.session().verdicts().all(|(_, judged)| judged.undone));
    desk.keys("F");
    assert!(desk.screen().contains("the first answer is better"));
    desk.keys("esc :");
    desk.type_text("1 better");
    assert!(desk.screen().lines().any(|line| line.contains("1 better") && line.contains('x')), "{}", desk.screen());
}

/// The names in `config.toml` are a contract: they may grow, and none may go.
#[test]
fn the_names_of_actions_are_stable() {
    let names: Vec<String> = action_tables()
        .iter()
        .flat_map(|table| {
            let one = |(_, row): (String, tiebreak::app::keymap::KeyRow)| {
                format!("{}.{}", table.title, tiebreak::app::bindings::action_name(row.name))
            };
            table.actions().into_iter().map(one).collect::<Vec<_>>()
        })
        .collect();
    for name in [
        "everywhere.help",
        "everywhere.quit",
        "home.launch",
        "label.better_1",
        "label.better_2",
        "label.much_better_1",
        "label.much_better_2",
        "label.slightly_better_1",
        "label.tie",
        "label.both_bad",
        "label.skip",
        "label.undo",
        "label.best_of",
        "rank.pick_1",
        "rank.save",
        "watch.pause",
        "replay.next_mark",
    ] {
        assert!(names.contains(&name.to_owned()), "{name} is gone: {names:?}");
    }
    insta::assert_snapshot!("action_names", names.join("\n"));
}

/// `!` is bare on AZERTY, `<` on QWERTZ and AZERTY, `'` and others elsewhere: only a capital letter needs shift everywhere.
#[test]
fn strong_verdicts_need_shift_on_every_layout() {
    let tables = all_keys();
    let label = tables.iter().find(|table| table.title == "label").unwrap();
    let strong: Vec<_> = label.rows.iter().filter(|row| row.name.contains("much better")).collect();
    assert_eq!(strong.len(), 2);
    for row in strong {
        let key = row.key.typed().expect("a strong verdict is one key press");
        assert!(key.is_uppercase(), "{key}");
        // With caps lock on, the bare key is the lower-case letter's: it must not be an action that people press often.
        let bare = key.to_ascii_lowercase();
        assert!(label.rows.iter().all(|other| other.key.typed() != Some(bare)), "{bare} has an action");
    }
}

#[test]
fn a_correction_shows_toggles_trains_over_the_original_and_is_undone_with_its_row() {
    let mut desk = Desk::with_session(100, 30, pairs(2));
    desk.keys("e");
    desk.type_text(" Corrected end.");
    desk.keys("ctrl-s");
    assert!(desk.screen().contains("Corrected end."), "{}", desk.screen());
    assert!(desk.screen().contains("✎ corrected"));
    let (rows, _) = desk.session().rows();
    let [row] = rows.as_slice() else { panic!("{rows:?}") };
    assert!(row.chosen.ends_with("Corrected end.") && row.chosen.starts_with(&row.rejected));
    assert_eq!(
        (row.strategy.as_deref(), row.rater.as_ref().map(tiebreak::domain::Rater::as_str)),
        (Some(CORRECTION), Some("ada"))
    );
    let supply = desk.session().supply();
    assert_eq!((supply.pairs, supply.corrected_pairs, supply.examples), (1, 1, 1));
    // It is no pair to judge.
    assert_eq!(desk.session().pairs().len(), 2);
    desk.keys("v");
    assert!(desk.screen().contains("✎ original") && !desk.screen().contains("Corrected end."));
    desk.keys("v");
    assert!(desk.screen().contains("Corrected end."));
    insta::assert_snapshot!("label_corrected_100x30", desk.screen());
    desk.keys("e");
    assert!(desk.screen().contains("your correction of answer 1"), "{}", desk.screen());
    desk.keys("esc u");
    assert!(!desk.screen().contains("Corrected end."), "{}", desk.screen());
    assert!(desk.session().rows().0.is_empty());
    desk.keys("ctrl-r");
    assert_eq!(desk.session().rows().0.len(), 1);
    assert_eq!(desk.replayed().rows(), desk.session().rows());
    // An export has it too, with the columns of every other row.
    desk.keys("1");
    let format = tiebreak::storage::formats::export_named("trl").unwrap();
    let (lines, _) = tiebreak::storage::export::lines(desk.session(), format, &tiebreak::domain::RowChoice::default());
    let rows: Vec<serde_json::Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[1]["strategy"], "correction");
    assert_eq!(rows[1]["raters"], serde_json::json!(["ada"]));
    let columns = |row: &serde_json::Value| row.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(columns(&rows[0]), columns(&rows[1]));
}

#[test]
fn a_verdict_can_be_changed_to_a_skip_and_back() {
    let mut desk = Desk::with_session(100, 30, pairs(2));
    desk.keys("1 g enter");
    let judged = desk.session().pairs()[0].id.clone();
    desk.keys("space");
    let ada = tiebreak::domain::Rater::new("ada");
    let choice = |desk: &Desk| desk.session().verdict_of(&judged, &ada).map(|(_, v)| v.choice);
    assert_eq!(choice(&desk), Some(Choice::Skip));
    assert!(desk.screen().contains("skipped instead of `1 better`"), "{}", desk.screen());
    assert!(desk.session().queue(&ada).contains(&judged), "it comes back");
    desk.keys("u");
    assert!(matches!(choice(&desk), Some(Choice::Prefer(..))));
}

#[test]
fn the_end_of_a_queue_adds_up_and_reveals_the_models() {
    let mut records = pairs(12);
    for record in &mut records {
        if let SessionRecord::Completed(c) = record
            && c.id.as_str().ends_with(".1")
        {
            std::sync::Arc::make_mut(c).model = "merged".into();
        }
    }
    let mut desk = Desk::with_session(100, 30, records.clone());
    assert!(!desk.screen().contains("merged"), "the models stay hidden while there is a pair to judge");
    desk.keys("1 1 1 1 1 1 2 2 2 2 0 b");
    let summary = desk.session().verdict_summary(&tiebreak::domain::Rater::new("ada"), "SmolLM2-135M-Instruct");
    let [contest] = summary.models.as_slice() else { panic!("{summary:?}") };
    let WinRate::Share { n, .. } = contest.rate else { panic!("{contest:?}") };
    assert_eq!((contest.first.as_str(), n, contest.ties, contest.both_bad), ("merged", 10, 1, 1));
    assert!(desk.screen().contains("of decided ["), "{}", desk.screen());
    assert!(desk.screen().contains("rater ada"));
    insta::assert_snapshot!("label_end_100x30", desk.screen());
    for (w, h) in [(80, 24), (60, 16), (200, 60)] {
        desk.model.size = (w, h);
        insta::assert_snapshot!(format!("label_end_{w}x{h}"), paint(&desk.model));
    }
    // Pairs that were chosen by score give no rate.
    for record in &mut records {
        if let SessionRecord::Paired(pair) = record {
            std::sync::Arc::make_mut(pair).strategy = "close".into();
        }
    }
    let mut desk = Desk::with_session(100, 30, records);
    desk.keys("1 1 1 1 1 1 2 2 2 2 0 b");
    assert!(desk.screen().contains("no win rate: 10 pairs were chosen by score"), "{}", desk.screen());
}

#[test]
fn best_of_writes_the_best_over_each_other_answer_as_one_step() {
    let mut desk = Desk::with_session(80, 24, answers(4));
    desk.keys("B");
    assert!(matches!(desk.model.screen, ActiveScreen::RankScreen(_)), "{}", desk.screen());
    insta::assert_snapshot!("rank_80x24", desk.screen());
    for (w, h) in [(60, 16), (120, 40)] {
        desk.send(tiebreak::app::Msg::Resize(w, h));
        insta::assert_snapshot!(format!("rank_{w}x{h}"), desk.screen());
    }
    let ActiveScreen::RankScreen(rank) = &desk.model.screen else { panic!("the rank screen") };
    let best = rank.sheet.as_ref().unwrap().answers[2].completion.clone();
    desk.keys("7");
    assert!(desk.screen().contains("there is no answer 7"), "{}", desk.screen());
    desk.keys("3");
    assert!(desk.screen().contains("best answer saved: 3 verdicts"), "{}", desk.screen());
    let session = desk.session();
    assert_eq!(session.verdicts().count(), 3);
    for (_, judged) in session.verdicts() {
        let pair = session.pair(&judged.verdict.pair).unwrap();
        let Choice::Prefer(side, _) = judged.verdict.choice else { panic!("{judged:?}") };
        assert_eq!(if side == Side::A { &pair.a } else { &pair.b }, &best);
    }
    let made = session.pairs().iter().filter(|pair| pair.strategy == "best_of" && pair.p_select == 1.0).count();
    assert!(made == 2 || made == 3, "the pair that was there already is used: {made}");
    desk.keys("u");
    assert!(desk.session().verdicts().all(|(_, judged)| judged.undone), "one undo takes all of it back");
    let ada = tiebreak::domain::Rater::new("ada");
    assert_eq!(desk.session().queue(&ada), [PairId::new("p1:0-1")], "its pairs are not left over to be judged");
    desk.keys("ctrl-r");
    assert!(desk.session().verdicts().all(|(_, judged)| !judged.undone));
    assert_eq!(desk.replayed().state_hash(), desk.session().state_hash());
}

#[test]
fn a_ranking_writes_every_pair_with_equal_ranks_as_ties() {
    let mut desk = Desk::with_session(80, 24, answers(4));
    desk.keys("B r 2 4 = 1");
    assert!(desk.screen().contains("2 > 4 = 1"), "{}", desk.screen());
    insta::assert_snapshot!("rank_busy_80x24", desk.screen());
    let ActiveScreen::RankScreen(rank) = &desk.model.screen else { panic!("the rank screen") };
    let ids: Vec<CompletionId> = rank.sheet.as_ref().unwrap().answers.iter().map(|a| a.completion.clone()).collect();
    // The one that is left comes last.
    desk.keys("enter");
    let session = desk.session();
    assert_eq!((session.verdicts().count(), session.pairs().len()), (6, 6));
    let place = |id: &CompletionId| [3, 1, 4, 3][ids.iter().position(|other| other == id).unwrap()];
    for (_, judged) in session.verdicts() {
        let pair = session.pair(&judged.verdict.pair).unwrap();
        let want = match place(&pair.a).cmp(&place(&pair.b)) {
            std::cmp::Ordering::Less => Some(Side::A),
            std::cmp::Ordering::Greater => Some(Side::B),
            std::cmp::Ordering::Equal => None,
        };
        let got = match judged.verdict.choice {
            Choice::Prefer(side, _) => Some(side),
            _ => None,
        };
        assert_eq!(got, want, "{pair:?}");
    }
    // Too few are ranked: nothing is guessed.
    let mut desk = Desk::with_session(80, 24, answers(5));
    desk.keys("B r 2 enter");
    assert!(desk.screen().contains("not ranked yet: 1, 3, 4, 5"), "{}", desk.screen());
    assert_eq!(desk.session().verdicts().count(), 0);
}

#[test]
fn two_answers_are_not_enough_and_ten_are_cut_to_nine_and_said() {
    let mut desk = Desk::with_session(80, 24, pairs(1));
    desk.keys("B");
    assert!(desk.screen().contains("this prompt has 2 different answers"), "{}", desk.screen());
    let mut desk = Desk::with_session(120, 40, answers(10));
    desk.keys("B");
    assert!(desk.screen().contains("9 answers · 1 equal, empty or beyond nine not shown"), "{}", desk.screen());
    desk.model.theme = Theme { ascii: true, ..Theme::default() };
    assert!(desk.screen().is_ascii());
}

#[test]
fn the_rank_screen_without_a_prompt_says_how_to_choose_one() {
    let mut desk = Desk::with_session(80, 24, pairs(2));
    desk.keys(":");
    desk.type_text("rank");
    desk.keys("enter");
    for (w, h) in [(80, 24), (60, 16), (120, 40)] {
        desk.send(tiebreak::app::Msg::Resize(w, h));
        assert!(desk.screen().contains("No prompt is chosen"), "{}", desk.screen());
        insta::assert_snapshot!(format!("rank_empty_{w}x{h}"), desk.screen());
    }
    desk.keys("1");
    assert_eq!(desk.session().verdicts().count(), 0);
}

#[test]
fn who_rates_is_on_every_screen() {
    let mut desk = Desk::with_session(80, 24, pairs(2));
    for key in ["t", "esc", "w", "esc", "r", "esc", "esc"] {
        assert!(desk.screen().lines().next().is_some_and(|line| line.contains("ada")), "{}", desk.screen());
        desk.keys(key);
    }
    assert!(desk.screen().lines().next().is_some_and(|line| line.contains("ada")), "{}", desk.screen());
}

#[test]
fn config_prints_the_path_and_the_effective_keys_and_names_a_mistake() {
    let home = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tiebreak"));
        command.args(args).env("TIEBREAK_HOME", home.path()).env_remove("TIEBREAK_CONFIG").output().unwrap()
    };
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let file = home.path().join("config.toml");
    let output = run(&["config"]);
    assert!(output.status.success());
    assert!(text(&output.stdout).starts_with(&file.display().to_string()), "{}", text(&output.stdout));
    std::fs::write(&file, "preset = \"azerty\"\n[keys.label]\nundo = [\"u\", \"backspace\"]\n").unwrap();
    let lines: Vec<serde_json::Value> =
        text(&run(&["config", "--json"]).stdout).lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!((&lines[0]["preset"], &lines[0]["exists"]), (&"azerty".into(), &true.into()));
    let of = |action: &str| lines.iter().find(|l| l["screen"] == "label" && l["action"] == action).unwrap();
    assert_eq!(of("better_1")["keys"], serde_json::json!(["&"]));
    assert_eq!(of("undo")["keys"], serde_json::json!(["u", "backspace"]));
    assert_eq!((&of("undo")["changed"], &of("skip")["changed"]), (&true.into(), &false.into()));
    std::fs::write(&file, "[keys.label]\nbeter_1 = \"x\"\n").unwrap();
    let output = run(&["config"]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("config.toml, line 2: [keys.label] beter_1: no such action"), "{said}");
    assert!(said.contains("did you mean `better_1`?"), "{said}");
}
