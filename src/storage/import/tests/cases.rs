//! Rows that other programs, or earlier releases of this one, took with another meaning: each with its right one.

use super::fields::rows;
use super::*;
use crate::domain::Verdict;
use crate::storage::formats::recognise;

/// A file's rows in one line each, in the format that is found or named.
pub(super) fn read(name: &str, text: &str, format: Option<&str>) -> Result<(Vec<String>, Imported)> {
    let (_dir, path) = file(name, text.as_bytes());
    let format = match format {
        Some(format) => import_named(format)?,
        None => recognise(&path)?,
    };
    let imported = super::super::read(&path, format, None)?;
    Ok((rows(&imported.rows), imported))
}

pub(super) fn found(text: &str) -> Vec<String> {
    read("rows.jsonl", text, None).unwrap().0
}

pub(super) fn refused(text: &str, format: Option<&str>) -> String {
    read("rows.jsonl", text, format).unwrap_err().to_string()
}

#[test]
fn the_question_is_the_prompt_under_every_name() {
    for (row, want) in [
        (r#"{"instruction":"Capital?","input":"","chosen":"It is Rome.","rejected":"It is Oslo."}"#, "user: Capital?"),
        (
            r#"{"system":"Brief.","question":"Capital?","chosen":"It is Rome.","rejected":"It is Oslo."}"#,
            "system: Brief. / user: Capital?",
        ),
        (r#"{"system":"","question":"Capital?","chosen":"It is Rome.","rejected":"It is Oslo."}"#, "user: Capital?"),
        (r#"{"query":"Capital?","chosen":"It is Rome.","rejected":"It is Oslo."}"#, "user: Capital?"),
        (r#"{"problem":"Capital?","chosen":"It is Rome.","rejected":"It is Oslo."}"#, "user: Capital?"),
        (
            r#"{"messages":[{"role":"user","content":"Capital?"}],"chosen":"It is Rome.","rejected":"It is Oslo."}"#,
            "user: Capital?",
        ),
        (r#"{"prompt":null,"question":"Capital?","chosen":"It is Rome.","rejected":"It is Oslo."}"#, "user: Capital?"),
        (
            r#"{"system":"One word.","prompt":"Capital?","chosen":"It is Rome.","rejected":"It is Oslo."}"#,
            "system: One word. / user: Capital?",
        ),
        (
            r#"{"prompt":"Capital?","history":[["Hi","Ho"]],"chosen":"It is Rome.","rejected":"It is Oslo."}"#,
            "user: Hi / assistant: Ho / user: Capital?",
        ),
    ] {
        assert_eq!(found(row), [format!("{want} | It is Rome. > It is Oslo.")], "{row}");
    }
    // A text column that nothing here knows may be the prompt.
    let unknown = refused(r#"{"frage":"Capital?","chosen":"It is Rome.","rejected":"It is Oslo."}"#, None);
    assert!(unknown.contains("`frage`"), "{unknown}");
    assert_eq!(
        found(r#"{"chosen":"It is Rome.","rejected":"It is Oslo.","source":"x"}"#),
        ["text: It is | Rome. >  Oslo.".replace("| Rome", "|  Rome")]
    );
}

#[test]
fn answers_are_read_in_every_shape() {
    for row in [
        r#"{"prompt":"2+2?","chosen":[{"role":"assistant","content":"4"}],"rejected":[{"role":"assistant","content":"5"}]}"#,
        r#"{"prompt":"2+2?","chosen":{"role":"assistant","content":"4"},"rejected":{"role":"assistant","content":"5"}}"#,
        r#"{"prompt":"2+2?","chosen":[{"role":"assistant","content":[{"type":"text","text":"4"}]}],"rejected":[{"role":"assistant","content":[{"type":"text","text":"5"}]}]}"#,
        r#"{"prompt":[{"role":"user","content":[{"type":"text","text":"2+2?"}]}],"chosen":"4","rejected":"5"}"#,
        r#"{"conversations":[{"from":"human","value":"2+2?"}],"chosen":{"from":"gpt","value":"4"},"rejected":{"from":"gpt","value":"5"}}"#,
        r#"{"messages":[{"role":"user","content":"2+2?"}],"chosen":{"role":"assistant","content":"4"},"rejected":{"role":"assistant","content":"5"}}"#,
        r#"{"prompt":"2+2?","chosen":[{"role":"user","content":"2+2?"},{"role":"assistant","content":"4"}],"rejected":[{"role":"user","content":"2+2?"},{"role":"assistant","content":"5"}]}"#,
        r#"{"prompt":"2+2?","chosen":"\n\nHuman: 2+2?\n\nAssistant: 4","rejected":"\n\nHuman: 2+2?\n\nAssistant: 5"}"#,
    ] {
        assert_eq!(found(row), ["user: 2+2? | 4 > 5"], "{row}");
    }
    for (label, good) in [("1.0", true), ("0.0", false), ("true", true), ("\"false\"", false), ("1", true)] {
        let row = format!(r#"{{"prompt":"Hi","completion":"Hello","label":{label}}}"#);
        assert_eq!(found(&row), [format!("text: Hi | Hello | {good}")]);
    }
    let row = r#"{"prompt":"Hi","completion":[{"role":"assistant","content":"Hello"}],"label":true}"#;
    assert_eq!(found(row), ["user: Hi | Hello | true"]);
    let row = r#"{"prompt":"Hi","completion":[{"role":"assistant","content":"Hello"}]}"#;
    assert_eq!(found(row), ["user: Hi | Hello"]);
    let row = r#"{"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},{"role":"assistant","content":"c"}]}"#;
    assert_eq!(read("r.jsonl", row, Some("sft")).unwrap().0, ["user: ab / assistant: c"]);
}

#[test]
fn a_prompt_that_the_answers_repeat_is_taken_once_and_said() {
    let row = r#"{"prompt":"\n\nHuman: A colour.\n\nAssistant:","chosen":"\n\nHuman: A colour.\n\nAssistant: Red.","rejected":"\n\nHuman: A colour.\n\nAssistant: Ice."}"#;
    let (rows, imported) = read("r.jsonl", row, None).unwrap();
    assert_eq!(rows, ["text: ⏎⏎Human: A colour.⏎⏎Assistant: |  Red. >  Ice."]);
    assert_eq!(imported.notes(), ["r.jsonl: 1 row whose answers repeat the prompt: taken once"]);
}

#[test]
fn ratings_are_not_imitated() {
    let text = concat!(
        r#"{"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"Hello"}],"label":true}"#,
        "\n",
        r#"{"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"No"}],"label":false}"#
    );
    assert_eq!(found(text), ["user: Hi | Hello | true", "user: Hi | No | false"]);
    let said = refused(text, Some("sft"));
    assert!(said.contains("has a `label`") && said.contains("--as ratings"), "{said}");
}

#[test]
fn judged_rows_are_never_mere_prompts() {
    for row in [
        r#"{"prompt":"q","response_0":"x","response_1":"y","better_response_id":1}"#,
        r#"{"prompt":"q","answers":[{"answer":"x","rank":2},{"answer":"y","rank":1}]}"#,
        r#"{"text":"q","options":[{"id":"A","text":"x"},{"id":"B","text":"y"}],"accept":["B"],"answer":"accept"}"#,
    ] {
        assert!(found(row)[0].starts_with("user: q | x ~ y | ") && found(row)[0].ends_with(" b"), "{:?}", found(row));
    }
    for row in [
        r#"{"prompt":"q","winner":"x"}"#,
        r#"{"prompt":"q","rankings":[1,2]}"#,
        r#"{"prompt":"q","response":"a","response_quality":3,"votes":[]}"#,
    ] {
        let told = read("r.jsonl", row, None);
        assert!(told.is_err() || !matches!(told.unwrap().1.rows, ImportedRows::Prompts(_)), "{row}");
    }
    let named = refused(r#"{"prompt":"q","winner":"x"}"#, None);
    assert!(named.contains("fits no format") && named.contains("`winner`"), "{named}");
}

#[test]
fn a_column_that_means_something_is_not_dropped() {
    let pair = |more: &str| format!(r#"{{"prompt":"q","chosen":"a","rejected":"b",{more}}}"#);
    for (more, column) in [
        (r#""images":["x.png"]"#, "images"),
        (r#""weight":0.5"#, "weight"),
        (r#""article":"A text.""#, "article"),
        (r#""choices":["x","y"]"#, "choices"),
        (r#""question":"another one""#, "question"),
    ] {
        let said = refused(&pair(more), None);
        assert!(said.contains(&format!("`{column}`")), "{said}");
    }
    // A letter is in many texts.
    let letter = refused(r#"{"prompt":"What is a cat?","chosen":"A pet.","rejected":"A hat.","winner":"a"}"#, None);
    assert!(letter.contains("`winner`"), "{letter}");
    let tools =
        r#""tools":[{"type":"function","function":{"name":"f"}}],"chat_template_kwargs":{"enable_thinking":false}"#;
    assert_eq!(found(&pair(tools)), ["user: q {tools f} {{\"enable_thinking\":false}} | a > b"]);
    assert_eq!(found(&pair(r#""functions":[{"name":"f"}]"#)), ["user: q {tools f} | a > b"]);
    let reserved = refused(&pair(r#""chat_template_kwargs":{"messages":[]}"#), None);
    assert!(reserved.contains("`messages`"), "{reserved}");
    // Empty columns, and columns that repeat what is read, are no loss.
    for more in [r#""images":[]"#, r#""tools":null"#, r#""weight":1.0"#, r#""question":"q""#, r#""system":"""#] {
        assert_eq!(found(&pair(more)).len(), 1, "{more}");
    }
    let (_, imported) = read("r.jsonl", &pair(r#""source":"x","score_chosen":3"#), None).unwrap();
    assert_eq!(imported.notes(), ["r.jsonl: not used: score_chosen (1 row), source (1 row)"]);
}

#[test]
fn reasoning_calls_and_weights_stay_with_their_turns() {
    let pairs = concat!(
        r#"{"prompt":[{"role":"user","content":"Weather?"}],"chosen":[{"role":"assistant","content":"","tool_calls":[{"type":"function","function":{"name":"f","arguments":{"c":1}}}]}],"rejected":[{"role":"assistant","content":"No."}],"tools":[]}"#,
        "\n",
        r#"{"prompt":[{"role":"user","content":"2+2?"}],"chosen":[{"role":"assistant","content":"4","reasoning_content":"Two."}],"rejected":[{"role":"assistant","content":"5","reasoning_content":"Guess."}]}"#
    );
    assert_eq!(
        found(pairs),
        ["user: Weather? | → f({\"c\":1}) > No.", "user: 2+2? | <think>⏎Two.⏎</think>⏎⏎4 > <think>⏎Guess.⏎</think>⏎⏎5",]
    );
    // A text behind an answer of turns: only the answer's turns train.
    let row = r#"{"prompt":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":"c"}],"completion":[{"role":"assistant","content":"d","thinking":"e"}]}"#;
    assert_eq!(found(row), ["user: a / assistant-: b / user: c / assistant+: <think> e </think>  d"]);
}

#[test]
fn thoughts_that_are_not_finished_are_said_and_empty_answers_counted() {
    let row = r#"{"prompt":"Hi","chosen":"<think>\nOkay, the user","rejected":"<think>\nfine\n</think>\n\nHello"}"#;
    let (_, imported) = read("r.jsonl", row, None).unwrap();
    assert_eq!(imported.notes(), ["r.jsonl: 1 answer that ends inside its thought"]);
    let row = r#"{"prompt":"Hi","chosen":"<think>\na\n</think>\n\n","rejected":"Hello"}"#;
    let said = refused(row, None);
    assert!(said.contains("1 with an empty answer"), "{said}");
}

#[test]
fn tables_and_arrays_hold_the_same_rows() {
    let csv = "prompt,chosen,rejected\nA colour.,Red.,Ice.\nWhat is 2 + 3?,The sum is 5.,\"It is 6,\nor 7.\"\n";
    let want = ["text: A colour. | Red. > Ice.", "text: What is 2 + 3? | The sum is 5. > It is 6,⏎or 7."];
    assert_eq!(read("p.csv", csv, None).unwrap().0, want);
    assert_eq!(read("p.bin", csv, None).unwrap().0, want);
    let rows = [
        r#"{"prompt":"A colour.","chosen":"Red.","rejected":"Ice."}"#,
        r#"{"prompt":"What is 2 + 3?","chosen":"The sum is 5.","rejected":"It is 6,\nor 7."}"#,
    ];
    assert_eq!(read("p.json", &format!("[\n{}\n]", rows.join(",\n")), None).unwrap().0, want);
    assert_eq!(read("p.json", &format!("[{}]", rows.join(",")), None).unwrap().0, want);
    let with_bad =
        format!("{{\"prompt\":\"x\",\"chosen\":\"y\",\"rejected\":\"z\",\"score_chosen\":NaN}}\n{}", rows[0]);
    let (got, imported) = read("p.jsonl", &with_bad, None).unwrap();
    assert_eq!((got, imported.refused.bad[0].line), (vec![want[0].to_owned()], 1));
    assert_eq!(
        read("x.csv", "id,prompt,label\n1,How?,safe\n2,Why?,unsafe\n", None).unwrap().0,
        ["user: How?", "user: Why?"]
    );
}

#[test]
fn margins_and_strengths_reach_the_rows_and_survive_an_export() {
    let pair = |n: usize, more: &str| format!("{{\"prompt\":\"q{n}\",\"chosen\":\"a\",\"rejected\":\"b\"{more}}}");
    let text = [
        pair(1, ",\"margin\":1.5"),
        pair(2, ",\"margin\":\"0.25\",\"strength\":\"much\""),
        pair(3, ",\"margin\":null"),
        pair(4, ",\"strength\":\"slight\""),
        pair(5, ",\"margin\":0,\"strategy\":\"correction\""),
    ]
    .join("\n");
    let (_dir, path) = file("m.jsonl", text.as_bytes());
    let (_home, first) = session();
    let (added, state) = add(&first, &path);
    let margins = |state: &Session| state.rows().0.iter().map(|row| row.margin.unwrap()).collect::<Vec<_>>();
    let want = [1.5, 0.25, 2.0 / 3.0, 1.0 / 3.0, 2.0 / 3.0];
    assert_eq!((added.pairs, margins(&state)), (5, want.to_vec()));
    let (_out, again) = file("m.jsonl", exported(&state, "trl").as_bytes());
    let (_home, second) = session();
    let (_, back) = add(&second, &again);
    let close = margins(&back).iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-12);
    assert!(close, "{:?}", margins(&back));
    // A person's own verdict is stronger than what the file says, and an import repeated changes nothing.
    let (known, same) = add(&first, &path);
    assert_eq!((known.known_pairs, same.state_hash()), (5, state.state_hash()));
    let mut judged = state.clone();
    let verdict = Verdict { rater: Rater::new("ann"), ..state.verdicts().next().unwrap().1.verdict.clone() };
    judged.judge(900, verdict);
    assert_eq!(margins(&judged)[0], 2.0 / 3.0);
    let bad = refused(&pair(6, ",\"margin\":\"much\""), None);
    assert!(bad.contains("has a `margin` that is no number"), "{bad}");
    let weighted = refused(&pair(7, ",\"weight\":0.5"), None);
    assert!(weighted.contains("`weight` other than 1"), "{weighted}");
}

#[test]
fn an_object_as_an_answer_goes_in_whole_or_is_said() {
    let (rows, imported) = read(
        "rows.jsonl",
        r#"{"prompt":"q","chosen":{"content":"a","score":5,"reasoning_content":"hm"},"rejected":{"text":"b","id":7}}"#,
        None,
    )
    .unwrap();
    let ImportedRows::Pairs(pairs) = &imported.rows else { panic!("{rows:?}") };
    assert_eq!(pairs[0].chosen.turns[0].more.get("reasoning_content").and_then(|v| v.as_str()), Some("hm"));
    assert_eq!(imported.unused.sentence().unwrap(), "not used: chosen.score (1 row), rejected.id (1 row)");
    let listed = r#"{"prompt":"q","responses":[{"text":"a","model":"m1","id":1},{"text":"b","model":"m2"}]}"#;
    let (_, imported) = read("rows.jsonl", listed, None).unwrap();
    let ImportedRows::Votes(votes) = &imported.rows else { panic!("{listed}") };
    assert_eq!((votes[0].a.1.as_deref(), votes[0].b.1.as_deref()), (Some("m1"), Some("m2")));
    assert_eq!(imported.unused.sentence().unwrap(), "not used: responses[].id (1 row)");
    for row in [
        r#"{"prompt":"q","responses":[{"text":"a","score":5},{"text":"b","score":1}]}"#,
        r#"{"prompt":"q","responses":["a","b"],"scores":[5,1]}"#,
        r#"{"prompt":"q","responses":["a","b"],"rank":[1,2]}"#,
    ] {
        let said = refused(row, None);
        assert!(said.contains("a decision that this form does not read"), "{said}");
    }
}
