//! Rows as data sets and tools publish them: what each means, what of it is said, and by which sentence it is refused.

use super::cases::{found, read, refused};

/// What was left out and what is to be known, as one text.
fn told(text: &str) -> String {
    let imported = read("r.jsonl", text, None).unwrap().1;
    imported.left_out().into_iter().chain(imported.notes()).collect::<Vec<_>>().join("; ")
}

#[test]
fn rows_of_published_data_sets_mean_what_their_cards_say() {
    for (row, want) in [
        // UltraInteract's question is a conversation.
        (
            r#"{"task":"Coding","trajectory":[{"from":"user","value":"q"}],"chosen":"a","rejected":"b"}"#,
            "user: q | a > b",
        ),
        (r#"{"qid":1,"question":"q","response_j":"a","response_k":"b"}"#, "user: q | a ~ b | readers a"),
        (
            r#"{"question":"q","answers":[{"text":"a","pm_score":1,"selected":true},{"text":"b","pm_score":4,"selected":false}]}"#,
            "user: q | a ~ b | readers b",
        ),
        // Capybara's and ms-swift's turns in pairs.
        (
            r#"{"conversation":[{"input":"q","output":"a"}],"prompt":"q","chosen":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}],"rejected":[{"role":"user","content":"q"},{"role":"assistant","content":"b"}]}"#,
            "user: q | a > b",
        ),
        (r#"{"prompt":"q","generation":"a"}"#, "text: q | a"),
        (r#"{"INSTRUCTION":"q","RESPONSE":"a"}"#, "user: q | a"),
        (r#"{"Prompt":"q","Chosen":"a","Rejected":"b"}"#, "text: q | a > b"),
        (r#"{"instruction":"q","output":["a"]}"#, "user: q | a"),
        (
            r#"{"prompt":"q","chosen":"[{\"role\":\"assistant\",\"content\":\"a\"}]","rejected":"[{\"role\":\"assistant\",\"content\":\"b\"}]"}"#,
            "user: q | a > b",
        ),
        (
            r#"{"prompt":"q","responses":[{"text":"a","reasoning_content":"t"},{"text":"b"}]}"#,
            "user: q | <think>⏎t⏎</think>⏎⏎a ~ b | ",
        ),
        // Argilla 1, in both of its forms.
        (
            r#"{"prompt":"q","response-1":"a","response-2":"b","best":[{"user_id":"u","value":2,"status":"submitted"},{"user_id":"v","value":1,"status":"discarded"}],"metadata":"{}"}"#,
            "user: q | a ~ b | u b",
        ),
        (
            r#"{"prompt":"q","response-1":"a","response-2":"b","best":{"user_id":["u"],"value":[1],"status":["submitted"]}}"#,
            "user: q | a ~ b | u a",
        ),
        // A tool's result is to be answered.
        (
            r#"{"prompt":[{"role":"user","content":"q"},{"role":"assistant","content":"","tool_calls":[{"function":{"name":"f"}}]},{"role":"tool","content":"1"}]}"#,
            "user: q / assistant: → f() / tool: 1",
        ),
    ] {
        assert_eq!(found(row), [want], "{row}");
    }
}

#[test]
fn who_speaks_is_known_under_the_names_of_the_field() {
    for (asks, answers) in [
        ("Human", "AI"),
        ("USER", "ASSISTANT"),
        ("User", "Chatbot"),
        ("human", "bing"),
        ("human", "bard"),
        ("user", "claude"),
        ("prompter", "model"),
    ] {
        let row =
            format!(r#"{{"conversations":[{{"from":"{asks}","value":"q"}},{{"from":"{answers}","value":"a"}}]}}"#);
        assert_eq!(found(&row), ["user: q / assistant: a"], "{row}");
    }
    let legacy = r#"{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":null,"function_call":{"name":"f","arguments":"{}"}},{"role":"function","name":"f","content":"1"},{"role":"assistant","content":"a"}],"functions":[{"name":"f"}]}"#;
    assert_eq!(found(legacy), ["user: q / assistant: → f({}) / tool: 1 / assistant: a {tools f}"]);
}

#[test]
fn turns_that_do_not_train_are_known_under_every_name() {
    for (no, yes) in [
        (r#""loss":false"#, r#""loss":true"#),
        (r#""loss":0"#, r#""loss":1.0"#),
        (r#""training":false"#, r#""training":true"#),
        (r#""train":false"#, r#""train":true"#),
        (r#""weight":0"#, r#""weight":1"#),
    ] {
        let turn = |more: &str, text: &str| format!(r#"{{"role":"assistant","content":"{text}",{more}}}"#);
        let user = r#"{"role":"user","content":"q"}"#;
        let row = format!(r#"{{"messages":[{user},{},{user},{}]}}"#, turn(no, "bad"), turn(yes, "good"));
        assert_eq!(found(&row), ["user: q / assistant-: bad / user: q / assistant+: good"], "{row}");
    }
    let parts = r#"{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"ab","train_detail":[{"begin_offset":0,"end_offset":1,"train":true}]}]}"#;
    let said = refused(parts, Some("sft"));
    assert!(said.contains("`train_detail`"), "{said}");
}

#[test]
fn one_column_that_says_in_words_which_answer_is_better_is_a_vote() {
    for (column, vote) in [
        (r#""winner":"model_a""#, "winner a"),
        (r#""preferred":"B""#, "preferred b"),
        (r#""choice":"response_b is slightly better""#, "choice b?"),
        (r#""best":"tie""#, "best tie"),
        (r#""judgement":"A","id":"B""#, "judgement a"),
        (r#""human_preference":"left""#, "human_preference a"),
        (r#""winner":null"#, ""),
    ] {
        let row = format!(r#"{{"prompt":"q","response_a":"x","response_b":"y",{column}}}"#);
        assert_eq!(found(&row), [format!("user: q | x ~ y | {vote}")], "{row}");
    }
    let two = refused(r#"{"prompt":"q","response_a":"x","response_b":"y","winner":"a","preference":"b"}"#, None);
    assert!(two.contains("`winner`") || two.contains("`preference`"), "{two}");
    let open = r#"{"prompt":"q","completion":"<think>and so on"}"#;
    assert!(told(open).contains("1 answer that ends inside its thought"), "{}", told(open));
}

#[test]
fn a_judgement_that_is_not_read_is_no_pair_to_judge_and_no_prompt() {
    for column in [
        r#""labels":[1,0]"#,
        r#""win":1"#,
        r#""best":"the blue one""#,
        r#""judgement":"0""#,
        r#""human_preference":0.7"#,
        r#""likert":2"#,
        r#""selected":true"#,
        // Whatever its name: it says which answer.
        r#""result":"response_b""#,
        r#""gewonnen":"response_a is better""#,
    ] {
        let row = format!(r#"{{"prompt":"q","response_a":"a","response_b":"b",{column}}}"#);
        let name = column.split('"').nth(1).unwrap();
        let said = refused(&row, None);
        assert!(said.contains(&format!("`{name}`")) && said.contains("--as"), "{row}: {said}");
    }
    for row in [
        r#"{"prompt":"q","better":"a","worse":"b"}"#,
        r#"{"prompt":"q","win":"a","lose":"b"}"#,
        r#"{"query":"q","pos":["a"],"neg":["b"]}"#,
        r#"{"prompt":"q","positive":"a","negative":"b"}"#,
        r#"{"prompt":"q","response_chosen":"a","response_rejected":"b"}"#,
        r#"{"prompt":"q","chosen_messages":[],"rejected_messages":[{"role":"assistant","content":"b"}]}"#,
        r#"{"context":[{"role":"user","content":"q"}],"original_response":"b","edited_response":"a"}"#,
        r#"{"input":"q","targets":{"choices":["a","b"],"labels":[1,0]}}"#,
    ] {
        let said = refused(row, None);
        assert!(said.contains("fits no format"), "{row}: {said}");
    }
    let thumb = refused(r#"{"prompt":"q","response":"a","thumbs_up":false}"#, None);
    assert!(thumb.contains("`thumbs_up`") && thumb.contains("--as ratings"), "{thumb}");
    let unsafe_answer = refused(r#"{"prompt":"q","response":"a","is_safe":false}"#, None);
    assert!(unsafe_answer.contains("`is_safe`"), "{unsafe_answer}");
    let steps = refused(r#"{"prompt":"q","completions":["one","two"],"labels":[true,false]}"#, None);
    assert!(steps.contains("`labels`"), "{steps}");
}

#[test]
fn what_a_list_of_answers_holds_beyond_what_is_read_is_said() {
    for (row, path) in [
        (r#"{"prompt":"q","answers":[{"answer":"a","rank":1,"note":"x"},{"answer":"b","rank":2}]}"#, "answers[].note"),
        (
            r#"{"instruction":"q","completions":[{"response":"a","overall_score":2,"critique":"c"},{"response":"b","overall_score":1}]}"#,
            "completions[].critique",
        ),
        (
            r#"{"context":[{"role":"user","content":"q"}],"completions":[{"rank":0,"completion":"a","id":7},{"rank":1,"completion":"b"}]}"#,
            "completions[].id",
        ),
        (
            r#"{"context":[{"role":"user","content":"q"}],"response1":"a","response2":"b","overall_preference":-1,"individual_preference":[{"score":-1,"reasoning":"r","feedback1":"f"}]}"#,
            "individual_preference[].feedback1",
        ),
        (
            r#"{"user_input":"q","responses_and_scores":[{"response":"a","score":2,"x":1},{"response":"b","score":1}]}"#,
            "responses_and_scores[].x",
        ),
    ] {
        assert!(told(row).contains(&format!("not used: {path} (1 row)")), "{row}: {}", told(row));
    }
}

#[test]
fn nothing_is_left_out_in_silence() {
    // A ranking whose answers are all the same gives no pair.
    let same = r#"{"prompt":"q","answers":[{"answer":"a","rank":1},{"answer":"a","rank":2}]}"#;
    let other = r#"{"prompt":"q","answers":[{"answer":"a","rank":1},{"answer":"b","rank":2}]}"#;
    let said = told(&format!("{same}\n{other}\n"));
    assert!(said.contains("left out 1 pair of equal answers"), "{said}");
    let said = refused(same, None);
    assert!(said.contains("1 pair of equal answers"), "{said}");
    let tree = r#"{"message_tree_id":"t","prompt":{"text":"q","role":"prompter","replies":[{"text":"a","role":"assistant","rank":0,"replies":[]},{"text":"b","role":"assistant","rank":1,"replies":[]},{"text":"c","role":"assistant","rank":2,"deleted":true,"replies":[]},{"text":" ","role":"assistant","rank":3,"replies":[]}]}}"#;
    let said = told(tree);
    assert!(said.contains("1 deleted message; 1 message without a text"), "{said}");
    let begun = r#"{"prompt":[{"role":"user","content":"q"},{"role":"assistant","content":"Because"}],"chosen":" a","rejected":" b"}"#;
    let said = told(begun);
    assert!(
        said.contains("1 prompt with an assistant's turn at the end: the answer follows as another turn"),
        "{said}"
    );
    // The arena's questions without an answer.
    let battle = r#"{"model_a":"m","model_b":"n","prompt":"[\"q\",\"r\"]","response_a":"[\"a\"]","response_b":"[\"b\"]","winner_model_a":1,"winner_model_b":0,"winner_tie":0}"#;
    let said = refused(battle, None);
    assert!(said.contains("has 2 questions in `prompt` and 1 answer in `response_a`"), "{said}");
    // A prompt's answer that stands in another column.
    let card = r#"{"prompt":"q","messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]}"#;
    assert!(told(card).contains("1 answer behind the last question, which --as sft imitates"), "{}", told(card));
    let choices = r#"[{"id":1,"data":{"prompt":"q","answer1":"a","answer2":"b"},"annotations":[{"id":1,"completed_by":1,"result":[{"from_name":"c","to_name":"answer1","type":"choices","value":{"choices":["answer1","answer2"]}}]}]}]"#;
    let said = refused(choices, None);
    assert!(said.contains("has 2 choices that decide"), "{said}");
    let rated = choices
        .replace(r#"["answer1","answer2"]"#, r#"["answer1"]"#)
        .replace(r"}}]}]}]", r#"}},{"from_name":"r","to_name":"answer1","type":"rating","value":{"rating":5}}]}]}]"#);
    assert!(told(&rated).contains("1 result of an annotation that does not decide"), "{}", told(&rated));
}

#[test]
fn what_cannot_be_read_is_refused_by_name() {
    for (row, says) in [
        (r#"{"prompt":"q","chosen":["a"],"rejected":["b","c"]}"#, "has 2 answers in `rejected`: expected one"),
        (r#"{"prompt":["q","r"],"chosen":"a","rejected":"b"}"#, "has a `prompt` that is a list of texts"),
        (
            r#"{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":null,"refusal":"No."}]}"#,
            "with a `refusal` in place of its `content`",
        ),
        (
            r#"{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"","tool_calls":[{"function":{"name":"f","arguments":{"id":123456789012345678901234567890}}}]}]}"#,
            "has a number of more than 64 bits in `tool_calls`",
        ),
        (r#"{"data":[{"prompt":"q"}]}"#, "holds its rows in the column `data`"),
        ("{}", "its records have no columns"),
        ("", "is empty: it holds no row"),
        (r#"{"prompt":"a","prompt":"b","chosen":"x","rejected":"y"}"#, "names `prompt` twice"),
        (r#"{"prompt":"q","chosen":"a","rejected":"b","margin":NaN}"#, "NaN and Infinity are no JSON, write null"),
    ] {
        let said = refused(row, None);
        assert!(said.contains(says), "{row}: {said}");
    }
}
