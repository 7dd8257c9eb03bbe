//! Built cases for every check, the variants, and what is refused.

use super::*;
use serde_json::json;

fn instruction(id: &str, kwargs: &Value) -> IfevalInstruction {
    let item = json!({"key": 7, "prompt": "p", "instruction_id_list": [id], "kwargs": [kwargs]});
    IfevalItem::parse(&item).unwrap().instructions.remove(0)
}

/// Texts that follow an instruction, and texts that do not.
#[expect(clippy::needless_pass_by_value, reason = "a json! literal stands in the call")]
fn check(id: &str, kwargs: Value, follow: &[&str], fail: &[&str]) {
    let instruction = instruction(id, &kwargs);
    for text in follow {
        assert!(instruction.holds(text), "{id} must hold on {text:?}");
    }
    for text in fail.iter().chain(&["", "  \n "]) {
        assert!(!instruction.holds(text), "{id} must fail on {text:?}");
    }
}

#[test]
fn keywords() {
    check("keywords:existence", json!({"keywords": ["war", "Peace"]}), &["WARM and peaceful"], &["war only"]);
    check("keywords:forbidden_words", json!({"forbidden_words": ["war"]}), &["warm"], &["War!", "a war"]);
    let most = json!({"keyword": "rain", "frequency": 2, "relation": "less than"});
    check("keywords:frequency", most, &["Rain.", "sun"], &["rain, Raining"]);
    let least = json!({"keyword": " rain ", "frequency": 2.0, "relation": "at least", "num_words": null});
    check("keywords:frequency", least, &["rain, Raining"], &["Rain."]);
    let letter = json!({"letter": "N", "let_frequency": 2, "let_relation": "at least"});
    check("keywords:letter_frequency", letter, &["Nun"], &["no"]);
    let mark = json!({"letter": "#", "let_frequency": 2, "let_relation": "less than"});
    check("keywords:letter_frequency", mark, &["# a"], &["## b"]);
}

#[test]
fn lengths() {
    let two = json!({"num_sentences": 2, "relation": "at least"});
    check("length_constraints:number_sentences", two, &["One. Two."], &["Dr. One."]);
    let words = json!({"num_words": 3, "relation": "less than"});
    check("length_constraints:number_words", words, &["well-known"], &["it's ok", "a b c"]);
    let two = json!({"num_paragraphs": 2});
    check("length_constraints:number_paragraphs", two, &["a\n***\nb", "***a***b***"], &["a", "a***\n***b"]);
    let nth = json!({"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Elm"});
    let follow = ["one\n\n'Elm' trees", "one\n\n\"elm, oak"];
    check("length_constraints:nth_paragraph_first_word", nth, &follow, &["one\n\nelms", "elm", "a\n\nelm\n\nc"]);
}

#[test]
fn content_and_format() {
    let two = json!({"num_placeholders": 2});
    check("detectable_content:number_placeholders", two, &["[name] [a b]"], &["[name]", "[a\nb] [c]"]);
    let ps = json!({"postscript_marker": "P.S."});
    check("detectable_content:postscript", ps, &["Bye.\nP. S. more", "p.s. x"], &["PS: x", "P.S x"]);
    let pps = json!({"postscript_marker": "P.P.S"});
    check("detectable_content:postscript", pps, &["P.P.S. x", "p. p. s x"], &["P.S. x"]);
    let two = json!({"num_bullets": 2});
    check("detectable_format:number_bullet_lists", two, &["* a\n - b", "*a\n*b"], &["* a", "** a\n* b", "-\n-\n-"]);
    check("detectable_format:constrained_response", json!({}), &["So: My answer is no."], &["my answer is no."]);
    let two = json!({"num_highlights": 2});
    check("detectable_format:number_highlighted_sections", two, &["*a* *b*", "**a** **b**"], &["*a*", "**** ** **"]);
    let two = json!({"section_spliter": "Section", "num_sections": 2});
    check(
        "detectable_format:multiple_sections",
        two,
        &["Section 1 a\nSection2 b"],
        &["SECTION 1 Section 2", "Section"],
    );
    check("detectable_format:title", json!({}), &["<<joy>>\ntext"], &["<joy>", "<< >>", "<<a\nb>>"]);
    let json_texts = [r#"{"a": [1, NaN, -Infinity]}"#, "```json\n[1]\n```", "```\n\"NaN \\\" x\"\n```", r#""\ud800""#];
    check("detectable_format:json_format", json!(null), &json_texts, &["{'a': 1}", "a [1]", "-NaN", "1NaN", "```json"]);
}

#[test]
fn whole_answers() {
    check(
        "combination:two_responses",
        json!({}),
        &["a\n******\nb", "******a******b"],
        &["a******a", "a", "a******\n******b"],
    );
    let repeat = json!({"prompt_to_repeat": "Say This"});
    check("combination:repeat_prompt", repeat, &["  say this now"], &["I say this"]);
    check("startend:end_checker", json!({"end_phrase": "Peace! "}), &["So, PEACE!\" ", "\"peace!\""], &["Peace! ok"]);
    check("startend:quotation", json!({}), &[" \"a\" "], &["\"", "a\"", "“a”"]);
    let caps = json!({"capital_frequency": 3, "capital_relation": "less than"});
    check("change_case:capital_word_frequency", caps, &["GO NOW there", "Go"], &["I AM OK", "I'M OK"]);
    let english = "this is a short text about the weather, which is fine today.";
    check(
        "change_case:english_lowercase",
        json!({}),
        &[english],
        &["This is a text", "das ist ein text auf deutsch", "123"],
    );
    check("change_case:english_capital", json!({}), &[&english.to_uppercase()], &[english, "123"]);
    check("punctuation:no_comma", json!({}), &["a; b"], &["a, b"]);
    check("language:response_language", json!({"language": "de"}), &["Das ist ein Text auf Deutsch."], &[english]);
}

#[test]
fn every_check_is_in_the_table_once() {
    let mut ids: Vec<&str> = ifeval_checks().iter().map(|check| check.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 25);
}

#[test]
fn loose_takes_any_of_eight_variants() {
    let texts = variants("*a*\nb\n*c*");
    assert_eq!(texts, ["*a*\nb\n*c*", "a\nb\nc", "b\n*c*", "*a*\nb", "b", "b\nc", "a\nb", "b"]);
    assert_eq!(variants("one")[2..], ["", "", "", "", "", ""]);
    let item = json!({"key": "k", "prompt": "p", "instruction_id_list": ["startend:quotation", "punctuation:no_comma"],
        "kwargs": [{}, null]});
    let item = IfevalItem::parse(&item).unwrap();
    let score = item.score("Sure, here it is:\n\"text\"");
    assert_eq!((score.strict.clone(), score.loose.clone()), (vec![false, false], vec![true, true]));
    let empty = item.score("");
    assert_eq!(empty, IfevalScore { strict: vec![false; 2], loose: vec![false; 2] });
    let mut totals = IfevalTotals::default();
    assert_eq!(totals.prompts.shares(), None);
    totals.add(&item, &score);
    totals.add(&item, &item.score("\"a\""));
    assert_eq!(totals.prompts, IfevalCount { all: 2, strict: 1, loose: 2 });
    assert_eq!(totals.instructions.shares(), Some((0.5, 1.0)));
    assert_eq!(totals.by_instruction["startend:quotation"], IfevalCount { all: 2, strict: 1, loose: 2 });
}

#[test]
fn what_cannot_be_checked_is_refused_by_name() {
    let says = |item: Value| IfevalItem::parse(&item).unwrap_err().to_string();
    let one = |id: &str, kwargs: Value| {
        says(json!({"key": 9, "prompt": "p", "instruction_id_list": [id], "kwargs": [kwargs]}))
    };
    assert_eq!(
        one("keywords:existance", json!({})),
        "IFEval item 9, instruction keywords:existance: there is no such instruction; did you mean `keywords:existence`?"
    );
    assert_eq!(
        one("length_constraints:number_words", json!({"relation": "at least"})),
        "IFEval item 9, instruction length_constraints:number_words: `num_words` is missing or of the wrong type"
    );
    let refused = [
        ("length_constraints:number_words", json!({"num_words": -1, "relation": "at least"}), "`num_words` is -1"),
        ("length_constraints:number_words", json!({"num_words": "3", "relation": "at least"}), "`num_words` is \"3\""),
        (
            "length_constraints:number_words",
            json!({"num_words": 3, "relation": "at most"}),
            "`relation` is \"at most\"",
        ),
        ("keywords:existence", json!({"keywords": []}), "a list of texts"),
        ("keywords:existence", json!({"keywords": ["a", 3]}), "a list of texts"),
        (
            "keywords:letter_frequency",
            json!({"letter": "ab", "let_frequency": 1, "let_relation": "at least"}),
            "one character",
        ),
        ("language:response_language", json!({"language": "tlh"}), "`language` is \"tlh\""),
        ("punctuation:no_comma", json!({"num_words": 3}), "it takes no `num_words`"),
        ("punctuation:no_comma", json!([3]), "not an object"),
        (
            "length_constraints:nth_paragraph_first_word",
            json!({"num_paragraphs": 2, "nth_paragraph": 3, "first_word": "a"}),
            "`nth_paragraph` is 3, but must be at most the number of paragraphs",
        ),
    ];
    for (id, kwargs, want) in refused {
        let got = one(id, kwargs);
        assert!(got.contains(want) && got.contains(id) && got.contains("item 9"), "{got}");
    }
    assert!(says(json!({"prompt": "p"})).contains("`key` is missing"));
    assert!(
        says(json!({"key": 1, "prompt": "p", "instruction_id_list": [], "kwargs": []})).contains("nothing to check")
    );
    assert!(says(json!({"key": 1, "prompt": "p", "instruction_id_list": ["a"], "kwargs": []})).contains("must match"));
    // Zero is a value, not a missing one.
    check("length_constraints:number_words", json!({"num_words": 0, "relation": "at least"}), &["a"], &[]);
}
