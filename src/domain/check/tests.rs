//! Golden verdicts of every check, the syntax and its error messages.

use super::*;

fn holds(checks: &str, text: &str) -> bool {
    let parsed = Checks::parse(checks).unwrap_or_else(|e| panic!("{checks}: {e}"));
    parsed.score(text) == 1.0
}

#[test]
fn every_check_holds_exactly_where_it_should() {
    let golden: &[(&str, &[&str], &[&str])] = &[
        (
            "contains=please",
            &["Please sit.", "Would you,\nPLEASE?", "please"],
            &["I am pleased.", "displease", "", "pleas e"],
        ),
        ("contains=Thank you", &["thank \n you!", "(Thank you)"], &["thank, you", "thank your cat"]),
        ("contains=C++", &["I like c++ best"], &["I like C"]),
        ("contains=猫", &["私は猫が好き"], &["私は犬が好き"]),
        ("contains=straße", &["Die STRASSE, die Straße"], &["Straßen"]),
        // The first match is inside a word, the second is not.
        ("contains=a a", &["aa a a"], &["aa aa"]),
        ("forbids=sorry", &["No problem", "sorrys"], &["Sorry, no."]),
        ("any_of=yes, no", &["No.", "oh yes"], &["yesterday", "not now"]),
        ("none_of=um,uh, you know", &["We know", "umbrella"], &["You know what", "so, um"]),
        ("min_words=3", &["One two three.", "one-two three"], &["one two", " — … 「」"]),
        ("max_words=2", &["", "can't go", "猫好"], &["one two three", "私は猫"]),
        ("min_chars=3", &["abc", "é\u{301}éé", "👩‍👩‍👧ab"], &["ab", "  a  ", "👩‍👩‍👧"]),
        ("max_chars=2", &["", " ab ", "👩‍👩‍👧!"], &["abc"]),
        ("starts_with=Dear ", &["dear Ann", "  DEAR\nAnn"], &["My dear"]),
        ("ends_with=.", &["Done.", "Done. \n"], &["Done", "Done.)"]),
        ("ends_with=Yours, Tom", &["… yours,\n  tom"], &["Yours Tom"]),
        ("json", &["{\"a\": [1, 2]}", "```json\n{\"a\": 1}\n```", "```\n[]\n```", "\"x\""], &["{a: 1}", "", "{} {}"]),
        (
            "no_repeat",
            &["I go. You go.", "", "Yes, I do", "- a\n- b", "} \n}\n"],
            &["I go. I GO!", "Again and again\nagain and again", "猫。犬。猫。"],
        ),
    ];
    for name in TABLE.iter().map(|check| check.name) {
        assert!(golden.iter().any(|(checks, ..)| checks.starts_with(name)), "{name} has no golden text");
    }
    for (checks, good, bad) in golden {
        for text in *good {
            assert!(holds(checks, text), "{checks} should hold for {text:?}");
        }
        for text in *bad {
            assert!(!holds(checks, text), "{checks} should not hold for {text:?}");
        }
    }
}

#[test]
fn the_score_is_the_share_that_holds() {
    let checks = Checks::parse("contains=please; max_words=4;json;ends_with=.").unwrap();
    assert_eq!(checks.score("Please sit down now."), 0.75);
    assert_eq!(checks.score("no"), 0.25);
    assert_eq!(Checks::parse(" ; ").unwrap().score("anything"), 1.0);
    assert!(Checks::parse("").unwrap().is_empty());
    let verdicts = checks.verdicts("no");
    assert_eq!(verdicts[1], ("max_words=4".to_owned(), true));
    assert_eq!(verdicts.iter().filter(|(_, held)| *held).count(), 1);
}

#[test]
fn the_canonical_text_parses_to_itself() {
    let text = " contains = thank you ;any_of= a , b,;; max_words=040;json ; contains=a=b";
    let canonical = Checks::parse(text).unwrap().to_string();
    assert_eq!(canonical, "contains=thank you;any_of=a,b;max_words=40;json;contains=a=b");
    assert_eq!(Checks::parse(&canonical).unwrap().to_string(), canonical);
}

#[test]
fn every_error_is_one_sentence() {
    for (text, message) in [
        ("max_word=4", "`max_word` is not a check; did you mean `max_words`?"),
        ("contains", "`contains` needs a phrase: write contains=thank you"),
        ("contains= ;json", "`contains` needs a phrase: write contains=thank you"),
        ("any_of=,", "`any_of` needs words separated by commas: write any_of=yes,no"),
        ("max_words=many", "`max_words=many` needs a whole number, 0 or more"),
        ("min_chars=-1", "`min_chars=-1` needs a whole number, 0 or more"),
        ("min_words", "`min_words` needs a whole number: write min_words=40"),
        ("json=1", "`json` takes no value: write it alone"),
        ("min_words=9;max_words=3;max_words=20", "`min_words=9` and `max_words=3` cannot both hold"),
    ] {
        assert_eq!(Checks::parse(text).unwrap_err().to_string(), message, "{text}");
    }
}
