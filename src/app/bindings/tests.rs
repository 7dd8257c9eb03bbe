//! Tests of the rules for keys.

use super::super::keymap::{Section, c, on};
use super::*;

const LABEL: Section<u8> = Section {
    title: "label",
    rows: &[
        on(c('1'), 1, "better", "first").named("1 better"),
        on(c('2'), 2, "better", "second").named("2 better"),
        on(c('j'), 3, "", "down").named("scroll down"),
        on(c('n'), 3, "", "down"),
    ],
};
const GLOBAL: Section<u8> = Section { title: EVERYWHERE, rows: &[on(c('q'), 1, "", "quit").named("quit")] };

fn tables() -> Vec<Table> {
    vec![GLOBAL.table(), LABEL.table()]
}

fn set(action: &str, keys: &[&str], line: usize) -> KeySetting {
    let keys = keys.iter().map(|key| (*key).to_owned()).collect();
    KeySetting { place: "label".into(), action: action.into(), keys, line }
}

fn refused(settings: &[KeySetting]) -> String {
    let problem = KeyBindings::build(&tables(), None, settings).unwrap_err();
    format!("line {}: {}", problem.line, problem.text)
}

#[test]
fn a_setting_replaces_every_key_of_its_action() {
    let all = tables();
    let keys = KeyBindings::build(&all, None, &[set("scroll_down", &["down", "x"], 3)]).unwrap();
    let shown: Vec<String> = keys.table("label", &all[1]).rows.iter().map(|row| row.key.to_string()).collect();
    assert_eq!(shown, ["1", "2", "↓", "x"]);
    assert_eq!(keys.key("label", "scroll down"), "↓");
    assert_eq!(keys.key("label", "1 better"), "1");
    // Keys may be swapped.
    let swapped = [set("better_1", &["2"], 1), set("better_2", &["1"], 2)];
    let keys = KeyBindings::build(&all, None, &swapped).unwrap();
    assert_eq!(keys.key("label", "1 better"), "2");
}

#[test]
fn a_wrong_setting_is_refused_with_line_and_remedy() {
    assert_eq!(
        refused(&[set("beter_1", &["x"], 4)]),
        "line 4: [keys.label] beter_1: no such action; did you mean `better_1`?; `tiebreak config` lists them"
    );
    assert!(refused(&[set("better_1", &["spcae"], 5)]).starts_with("line 5: [keys.label] better_1: no key is called"));
    assert_eq!(
        refused(&[set("better_1", &["2"], 7)]),
        "line 7: `2` is the key of better_1 and of better_2 on the label screen: give one of them another key"
    );
    assert!(refused(&[set("better_1", &["q"], 8)]).contains("better_1 and of quit"), "global keys stay reachable");
    assert!(refused(&[set("better_1", &["x"], 1), set("better_1", &["y"], 2)]).contains("set in line 1 too"));
    let elsewhere = KeySetting { place: "lable".into(), ..set("better_1", &["x"], 9) };
    assert!(refused(&[elsewhere]).contains("did you mean `label`?"));
    let preset = KeyBindings::build(&tables(), Some(("azery", 1)), &[]).unwrap_err();
    assert!(preset.text.contains("did you mean `azerty`?"), "{}", preset.text);
}
