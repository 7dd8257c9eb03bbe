//! The exports of other programs with several raters, pairs to judge, and the round trip of this program's own votes.

use super::*;
use crate::domain::{
    Adjudication, Aggregation, Asked, Choice, CollectionSettings, Completion, CompletionId, Finish, LabelRule, LogProb,
    Outcome, Pair, PairId, PartialView, Prompt, PromptId, Seen, ShownPart, Side, Strength, Verdict,
};
use crate::protocol::SessionRecord;
use crate::storage::formats::{ImportedVote, recognise};
use serde_json::json;

const A: Choice = Choice::Prefer(Side::A, Strength::Better);
const B: Choice = Choice::Prefer(Side::B, Strength::Better);

/// The rows of a file, which is recognised as `format` by itself, and what was left out.
fn rows(name: &str, text: &str, format: &str) -> (Vec<ImportedVotes>, Refused) {
    let (_dir, path) = file(name, text.as_bytes());
    assert_eq!(recognise(&path).unwrap().name, format);
    let whole = by_name(&path, format, None).unwrap();
    let ImportedRows::Votes(rows) = whole.rows else { panic!("{whole:?}") };
    (rows, whole.refused)
}

fn lines(rows: &[serde_json::Value]) -> String {
    rows.iter().map(|row| row.to_string() + "\n").collect()
}

fn said(row: &ImportedVotes) -> Vec<(&str, Choice)> {
    row.votes.iter().map(|vote| (vote.rater.as_str(), vote.choice)).collect()
}

fn counts(refused: &Refused) -> Vec<(&str, usize)> {
    refused.unread.iter().map(|(what, n)| (*what, *n)).collect()
}

#[test]
fn argilla_records_hold_choices_rankings_and_ratings_of_several_users() {
    let fields = json!({"instruction": "Greet me.", "response1": "Hi", "response2": "Go away"});
    let text = json!([
        {"id": "1", "fields": fields, "metadata": {"category": "chat", "response1_model": "x"}, "vectors": {}, "_server_id": "s",
         "suggestions": {"preference": {"value": "response2", "score": null, "agent": "judge"}},
         "responses": {"preference": [
            {"value": "response1", "user_id": "ana"}, {"value": "response2", "user_id": "ben"},
            {"value": "response1", "user_id": "cy", "status": "discarded"}, {"value": null, "user_id": "dee"},
            {"value": "response2", "user_id": "eve", "status": "draft"}, {"value": "tie", "user_id": "fay"}],
          "comment": [{"value": "too curt", "user_id": "ben"}]}},
        {"id": "2", "fields": fields, "responses": {"ranking": [
            {"value": [{"value": "response2", "rank": 1}, {"value": "response1", "rank": 2}], "user_id": "ana"},
            {"value": ["response1", "response2"], "user_id": "ben"}]}},
        {"id": "3", "fields": fields, "responses": {
            "response1-rating": [{"value": 5, "user_id": "ana"}, {"value": 3, "user_id": "ben"}],
            "response2-rating": [{"value": 1, "user_id": "ana"}, {"value": 3, "user_id": "ben"}]}},
        {"id": "4", "fields": fields, "responses": {}},
        {"id": "5", "fields": fields, "responses": {"preference": [{"value": "purple", "user_id": "ana"}]}},
        {"id": "6", "fields": {"instruction": "Greet me.", "response1": "Hi", "response2": ""}, "responses": {}},
        {"id": "7", "fields": fields, "responses": [
            {"user_id": "ana", "status": "submitted", "values": {"preference": {"value": 2}}}]}
    ]);
    let (found, refused) = rows("argilla.json", &text.to_string(), "argilla");
    assert_eq!(said(&found[0]), [("ana", A), ("ben", B), ("fay", Choice::Tie)]);
    assert_eq!(found[0].notes, [("ben".to_owned(), "too curt".to_owned())]);
    assert_eq!((found[0].tags.as_slice(), found[0].a.1.as_deref()), (["chat".to_owned()].as_slice(), Some("x")));
    assert_eq!(said(&found[1]), [("ana", B), ("ben", A)]);
    assert_eq!(said(&found[2]), [("ana", A), ("ben", Choice::Tie)]);
    assert_eq!(said(&found[3]), []);
    assert_eq!(said(&found[4]), [("ana", B)]);
    assert_eq!((found.len(), refused.empty, refused.bad_lines), (5, 1, 1));
    assert!(refused.bad[0].reason.contains("names neither answer"), "{:?}", refused.bad);
    let want = [
        ("discarded response", 1),
        ("draft response", 1),
        ("record with suggestions", 1),
        ("response without a value", 1),
    ];
    assert_eq!(counts(&refused), want);

    let flat = json!([{"id": "1", "prompt": "q", "generation-0": "x", "generation-1": "y", "best.responses": ["generation-1", "1"],
        "best.responses.users": ["ana", "ben"], "best.responses.status": ["submitted", "discarded"]}]);
    let (found, refused) = rows("flat.json", &flat.to_string(), "argilla");
    assert_eq!((said(&found[0]), counts(&refused)), (vec![("ana", B)], vec![("discarded response", 1)]));
}

#[test]
fn label_studio_tasks_hold_pairwise_choices_and_ratings() {
    let data = json!({"prompt": "Greet me.", "answer1": "Hi", "answer2": "Go away", "category": "chat"});
    let pairwise = |to: &str, side: &str| json!({"from_name": "pw", "to_name": to, "type": "pairwise", "value": {"selected": side}});
    let choice =
        |said: &str| json!({"from_name": "c", "to_name": "p", "type": "choices", "value": {"choices": [said]}});
    let rating = |of: &str, n: u8| json!({"from_name": "r", "to_name": of, "type": "rating", "value": {"rating": n}});
    let note = json!({"from_name": "n", "to_name": "p", "type": "textarea", "value": {"text": ["curt"]}});
    let by = |who: u8, at: &str, result: &[serde_json::Value]| json!({"completed_by": who, "was_cancelled": false, "updated_at": at, "result": result});
    let text = json!([
        {"id": 1, "data": data, "predictions": [], "annotations": [
            // The later annotation by 7 stands first.
            by(7, "2026-01-02T00:00:00Z", &[pairwise("answer1,answer2", "right"), note]),
            by(7, "2026-01-01T00:00:00Z", &[pairwise("answer1,answer2", "left")]),
            {"completed_by": {"id": 8, "email": "eve@example.org"}, "result": [pairwise("answer1,answer2", "left")]},
            {"completed_by": 9, "was_cancelled": true, "result": [pairwise("answer1,answer2", "left")]}]},
        {"id": 2, "data": data, "annotations": [by(7, "", &[pairwise("txt-2,txt-1", "left")])]},
        {"id": 3, "data": data, "annotations": [by(7, "", &[choice("Answer 1 is much better")]), by(8, "", &[choice("Tie")])]},
        {"id": 4, "data": data, "annotations": [by(7, "", &[rating("answer1", 2), rating("answer2", 4)])]},
        {"id": 5, "data": data, "annotations": []},
        {"id": 6, "data": data, "annotations": [by(7, "", &[pairwise("old,new", "left")])]},
        {"id": 7, "data": data, "annotations": [by(7, "", &[choice("purple")])]}
    ]);
    let (found, refused) = rows("ls.json", &serde_json::to_string_pretty(&text).unwrap(), "label-studio");
    // Annotations without a time come first.
    assert_eq!(said(&found[0]), [("eve@example.org", A), ("7", B)]);
    assert_eq!((found[0].notes.len(), found[0].tags.as_slice()), (1, ["chat".to_owned()].as_slice()));
    assert_eq!(said(&found[1]), [("7", A)]);
    assert_eq!((found[1].a.0.text.as_str(), found[1].b.0.text.as_str()), ("Go away", "Hi"), "the tag's order");
    assert_eq!(said(&found[2]), [("7", Choice::Prefer(Side::A, Strength::Much)), ("8", Choice::Tie)]);
    assert_eq!(said(&found[3]), [("7", B)]);
    assert_eq!(said(&found[4]), []);
    assert_eq!((found.len(), refused.bad_lines), (5, 2));
    assert!(refused.bad[0].reason.contains("compares `old` and `new`"), "{:?}", refused.bad);
    let want = [("cancelled annotation", 1), ("vote replaced by a later one of the same rater", 1)];
    assert_eq!(counts(&refused), want);

    let min = |who: u8, side: &str| json!({"id": 1, "prompt": "q", "text1": "x", "text2": "y", "annotator": who, "annotation_id": who, "pw": side});
    let (found, _) = rows("min.json", &json!([min(1, "left"), min(2, "right")]).to_string(), "label-studio");
    assert_eq!(found.iter().map(said).collect::<Vec<_>>(), [[("1", A), ("2", B)]]);
}

#[test]
fn prodigy_lines_of_one_task_become_one_pair() {
    let line = |who: &str, hash: u32, accept: serde_json::Value, answer: &str, at: u32| {
        json!({"text": "Name a primary colour.", "options": [{"id": "A", "text": "Red is not a colour."},
            {"id": "B", "text": "Red is a primary colour."}, {"id": "T", "text": "Both are bad"}], "_task_hash": hash,
            "_view_id": "choice", "_annotator_id": who, "_timestamp": at, "accept": accept, "answer": answer})
    };
    let text = lines(&[
        line("ana", 1, json!(["B"]), "accept", 10),
        line("ben", 1, json!(["A"]), "accept", 11),
        line("ben", 1, json!(["B"]), "accept", 12),
        line("cy", 1, json!(["T"]), "accept", 13),
        line("dee", 1, json!(["A"]), "ignore", 14),
        line("ana", 2, json!([]), "reject", 15),
        line("ana", 3, json!(["Z"]), "accept", 16),
        line("ben", 1, json!(["A"]), "accept", 1),
    ]);
    let (found, refused) = rows("prodigy.jsonl", &text, "prodigy");
    assert_eq!(
        found.iter().map(said).collect::<Vec<_>>(),
        [vec![("ana", B), ("ben", B), ("cy", Choice::BothBad)], vec![]]
    );
    assert_eq!(refused.bad[0].reason, "accepts `Z`, which is none of its options");
    let want = [("ignored task", 1), ("rejected task", 1), ("vote replaced by a later one of the same rater", 2)];
    assert_eq!(counts(&refused), want);
    // As it stands in the wild: no annotator, two options.
    let plain = json!({"text": "q", "options": [{"id": 0, "text": "x"}, {"id": 1, "text": "y"}], "_input_hash": 1, "_task_hash": 2,
        "_view_id": "choice", "accept": [1], "answer": "accept"});
    let (found, _) = rows("plain.jsonl", &lines(&[plain]), "prodigy");
    assert_eq!((said(&found[0]), found[0].prompt.headline()), (vec![("annotator", B)], "q"));
}

#[test]
fn llmbar_has_one_label_and_pandalm_may_have_none() {
    let row = |label: serde_json::Value| json!({"input": "q", "output_1": "x", "output_2": "y", "label": label});
    let all = json!([row(json!(1)), row(json!(2)), row(json!(null)), row(json!(3))]);
    let (found, refused) = rows("llmbar.json", &all.to_string(), "llmbar");
    assert_eq!(found.iter().map(said).collect::<Vec<_>>(), [vec![("label", A)], vec![("label", B)], vec![]]);
    assert_eq!(refused.bad[0].reason, "has a `label` that is neither 0, 1 nor 2");
    let row = |one: serde_json::Value, two: serde_json::Value| json!({"instruction": "q", "response1": "x", "response2": "y", "annotator1": one, "annotator2": two});
    let all = json!([row(json!(1), json!(null)), row(json!(null), json!(null))]);
    let (found, _) = rows("p.json", &all.to_string(), "pandalm");
    assert_eq!(found.iter().map(said).collect::<Vec<_>>(), [vec![("annotator1", A)], vec![]]);
}

#[test]
fn two_answers_without_a_decision_are_pairs_to_judge_and_are_added_once() {
    let text = lines(&[
        json!({"prompt": "q", "response_1": "x", "response_2": "y", "model_1": "m", "tags": ["sum"]}),
        json!({"prompt": "q", "response_1": "x", "response_2": "z"}),
        json!({"prompt": "q", "response_1": "x", "response_2": "w", "winner": "response_1"}),
        json!({"prompt": "q", "response_1": "x", "response_2": " "}),
    ]);
    let (found, refused) = rows("u.jsonl", &text, "unjudged");
    assert_eq!((found.len(), refused.empty, refused.bad_lines), (2, 1, 1));
    assert!(refused.bad[0].reason.contains("`winner`"), "{:?}", refused.bad);
    let (_dir, path) = file("u.jsonl", text.as_bytes());
    let (_home, session) = session();
    let (added, state) = add_as(&session, &path, "unjudged");
    assert_eq!((added.unjudged, added.pairs, added.prompts), (2, 0, 1));
    assert_eq!(state.queue(&Rater::new("ana")).len(), 2, "they wait for a label");
    assert_eq!(state.prompts()[0].tags, ["sum"]);
    let (a, b) = state.sides(&state.pairs()[0]).unwrap();
    assert_eq!((a.model.as_str(), b.model.as_str()), ("m", "u.jsonl"));
    let (again, _) = add_as(&session, &path, "unjudged");
    assert_eq!((again.unjudged, again.known_pairs), (0, 2));
}

#[test]
fn a_file_imported_again_adds_its_new_and_changed_votes() {
    let text = |label: u8| json!([{"input": "q", "output_1": "x", "output_2": "y", "label": label}]).to_string();
    let (dir, path) = file("l.json", text(1).as_bytes());
    let (_home, session) = session();
    add_as(&session, &path, "llmbar");
    assert_eq!(add_as(&session, &path, "llmbar").0, Added { known_prompts: 1, known_pairs: 1, ..Added::default() });
    std::fs::write(&path, text(2)).unwrap();
    let (added, state) = add_as(&session, &path, "llmbar");
    assert_eq!((added.pairs, state.pairs().len()), (1, 1));
    assert_eq!(state.verdict_of(&state.pairs()[0].id, &Rater::new("import:l.json#label")).unwrap().1.choice, B);
    drop(dir);
}

/// A session of six pairs, sampled and judged in every way.
fn judged_session(session: &SessionDir) -> Session {
    let lock = session.lock().unwrap().unwrap();
    let mut log = session.writer(&lock).unwrap();
    for n in 0..7 {
        let body = if n == 6 { PromptBody::Text("Once".into()) } else { PromptBody::user(format!("question {n}")) };
        let prompt = PromptId::new(format!("p{n}"));
        let tags = [["math", "chat"][n % 2].to_owned()].into();
        log.append(&SessionRecord::Prompted(Prompt { id: prompt.clone(), body, source: "f".into(), tags }.into()))
            .unwrap();
        let id = |side: &str| CompletionId::new(format!("c{n}.{side}"));
        for side in ["a", "b"] {
            log.append(&SessionRecord::Completed(
                Completion {
                    turns: [].into(),
                    id: id(side),
                    prompt: prompt.clone(),
                    model: format!("model-{side}").into(),
                    text: if n == 5 && side == "b" { "".into() } else { format!("answer {side} {n}").into() },
                    tokens: 2,
                    finish: Finish::Eos,
                    sampler: None,
                    logprob: LogProb::UNKNOWN,
                }
                .into(),
            ))
            .unwrap();
        }
        let (a, b) = (id("a"), id("b"));
        let (strategy, p_select) = (["random", "close"][n % 2].to_owned(), 0.25);
        log.append(&SessionRecord::Paired(
            Pair { id: PairId::new(format!("x{n}")), prompt, a, b, strategy: strategy.into(), p_select }.into(),
        ))
        .unwrap();
    }
    let mut judge_by = |pair: usize, rater: &str, choice: Choice, asked: Asked| {
        // Cy never waits for the end of an answer.
        let begun = |text: &str| ShownPart::of(text, false);
        let b = if pair == 5 { "" } else { "answer b" };
        let partial = (rater == "cy").then(|| PartialView { a: begun("answer a"), b: begun(b) });
        log.append(&SessionRecord::Judged(
            Verdict {
                pair: PairId::new(format!("x{pair}")),
                rater: Rater::new(rater),
                choice,
                left: Side::B,
                seen: Seen::Partial,
                ms: 700,
                winner_hash: None,
                asked,
                showing: crate::domain::Showing { partial: partial.map(Box::new), ..crate::domain::Showing::default() },
            }
            .into(),
        ))
        .unwrap()
    };
    let much = Choice::Prefer(Side::B, Strength::Much);
    judge_by(0, "ana", B, Asked::by(Some("kind")));
    judge_by(1, "ana", Choice::Tie, Asked::by(Some("kind")));
    judge_by(0, "ana", A, Asked { pass: 1, ..Asked::default() });
    let mut judge = |pair: usize, rater: &str, choice: Choice| judge_by(pair, rater, choice, Asked::default());
    for (pair, votes) in [
        (0, [A, A, B]),
        (1, [A, much, Choice::Tie]),
        (2, [Choice::Tie, Choice::Tie, A]),
        (3, [Choice::BothBad, Choice::BothBad, Choice::Skip]),
        (5, [A, A, A]),
        (6, [much, B, Choice::Prefer(Side::A, Strength::Slight)]),
    ] {
        for (rater, choice) in ["ana", "import:old.json#ben", "cy"].into_iter().zip(votes) {
            judge(pair, rater, choice);
        }
    }
    // A vote that its rater replaced, and one that was undone.
    judge(0, "cy", much);
    let of = judge(2, "ana", much);
    log.append(&SessionRecord::Undone { of }).unwrap();
    let text = "said \"why\"\nat length".to_owned();
    log.append(&SessionRecord::Noted { pair: PairId::new("x0"), rater: Rater::new("cy"), text }).unwrap();
    let settled = Adjudication { pair: PairId::new("x1"), rater: Rater::new("dee"), choice: much, criterion: None };
    log.append(&SessionRecord::Adjudicated(settled)).unwrap();
    log.sync().unwrap();
    session.state().unwrap().0
}

#[test]
fn exported_votes_import_with_equal_outcomes_under_every_aggregation() {
    let (_home, original) = session();
    let mut state = judged_session(&original);
    let text = exported(&state, "votes");
    assert_eq!(text.lines().count(), 7, "every pair, judged or not");
    let (_dir, path) = file("votes.jsonl", text.as_bytes());
    assert_eq!(recognise(&path).unwrap().name, "votes");
    let (_home2, other) = session();
    let (added, mut copy) = add_as(&other, &path, "votes");
    assert_eq!((added.pairs, added.unjudged, added.prompts), (6, 1, 7));
    assert_eq!(add_as(&other, &path, "votes").0.known_pairs, 7, "once");
    for (name, aggregation) in Aggregation::ALL {
        for labels in [1, 3] {
            let rule = LabelRule { labels_per_item: labels, max_labels: 3, threshold: 0.6 };
            state.configure(CollectionSettings { rule, aggregation });
            copy.configure(CollectionSettings { rule, aggregation });
            let (mine, theirs) = (state.outcomes(), copy.outcomes());
            let (kind, their_kind) = (state.outcomes_on(Some("kind")), copy.outcomes_on(Some("kind")));
            for (x, y) in state.pairs().iter().zip(copy.pairs()) {
                assert_eq!(mine[&x.id], theirs[&y.id], "{name} {}", x.id);
                assert_eq!(kind[&x.id], their_kind[&y.id], "{name} {}", x.id);
                assert_eq!((x.strategy.as_str(), x.p_select), (y.strategy.as_str(), y.p_select));
                assert_eq!(state.item_state(&x.id), copy.item_state(&y.id));
            }
        }
    }
    let settings = CollectionSettings::default();
    state.configure(settings);
    copy.configure(settings);
    assert_eq!(state.outcome(&PairId::new("x1")), Outcome::Prefer(Side::B, 1.0), "adjudicated");
    let rows =
        |s: &Session| s.rows().0.into_iter().map(|r| (r.prompt, r.chosen, r.margin, r.agreed)).collect::<Vec<_>>();
    assert_eq!(rows(&state), rows(&copy));
    assert_eq!(state.rows().1, copy.rows().1);
    let pair = &copy.pairs()[0].id;
    let cy = Rater::new("import:votes.jsonl#cy");
    assert_eq!(copy.note_of(pair, &cy), Some("said \"why\"\nat length"));
    assert_eq!(copy.verdicts_on(pair).filter(|j| j.verdict.rater == cy).count(), 2, "the replaced vote too");
    let (_, verdict) = copy.verdict_of(pair, &Rater::new("import:old.json#ben")).unwrap();
    assert_eq!((verdict.left, verdict.seen, verdict.ms), (Side::B, Seen::Partial, 700));
    assert_eq!(copy.partial_counts(), state.partial_counts());
    assert_eq!((copy.partial_counts().given, copy.partial_counts().differs, copy.partial_counts().missing), (7, 0, 0));
    assert_eq!(copy.prompts()[0].tags, ["math"]);

    // From the second time on the export is the same, byte by byte, but for the names of pairs and file.
    let named = |text: &str| text.replace("\"source\":\"votes.jsonl\"", "\"source\":\"f\"");
    let once = exported(&copy, "votes");
    let (_dir, path) = file("votes.jsonl", once.as_bytes());
    let (_home3, third) = session();
    let (_, copy) = add_as(&third, &path, "votes");
    assert_eq!(named(&exported(&copy, "votes")), named(&once));
}

#[test]
fn exported_preferences_say_who_judged_and_how() {
    let (_home, original) = session();
    let state = judged_session(&original);
    let text = exported(&state, "trl");
    assert_eq!(text, exported(&state, "pairs"));
    let rows: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // Pair 0: ana and ben for a, cy (in the end) much for b. 1 is adjudicated, 5 has an empty answer.
    let ids: Vec<&str> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["x0", "x1", "x6"]);
    let keys: Vec<&String> = rows[0].as_object().unwrap().keys().take(3).collect();
    assert_eq!(keys, ["prompt", "chosen", "rejected"]);
    let first = &rows[0];
    assert_eq!(
        (&first["strength"], &first["seen"], &first["strategy"]),
        (&json!("better"), &json!("partial"), &json!("random"))
    );
    assert_eq!((&first["model_chosen"], &first["model_rejected"]), (&json!("model-a"), &json!("model-b")));
    assert_eq!(first["raters"], json!(["ana", "import:old.json#ben", "cy"]));
    assert_eq!(
        first["votes"][2],
        json!({"rater": "cy", "choice": "rejected", "strength": "much", "criterion": "", "partial": true})
    );
    assert_eq!((&first["partial"], &first["votes"][0]["partial"]), (&json!(true), &json!(false)));
    assert_eq!((first["p_select"].as_f64(), first["tags"].as_str()), (Some(0.25), Some("math")));
    assert!((first["agreement"].as_f64().unwrap() - 2.0 / 3.0).abs() < 1e-12);
    assert_eq!(first["note"], "said \"why\"\nat length");
    assert_eq!((&rows[1]["adjudicated_by"], &rows[1]["strength"]), (&json!("dee"), &json!("much")));
    assert_eq!((&rows[1]["model_chosen"], &rows[1]["votes"][2]["choice"]), (&json!("model-b"), &json!("tie")));
    assert!(
        rows.iter().all(|row| row.as_object().unwrap().values().all(|value| !value.is_null())),
        "every type is in every row"
    );
    let (_dir, path) = file("trl.jsonl", text.as_bytes());
    assert_eq!(pairs(&path, None).unwrap().rows[0].tags, ["math"]);
}

#[test]
fn a_vote_that_cannot_be_read_refuses_its_row() {
    let row = |votes: serde_json::Value| json!({"prompt": "q", "a": "x", "b": "y", "votes": votes});
    let text = lines(&[
        row(json!([{"rater": "ana", "choice": "a"}])),
        row(json!([{"rater": "ana", "choice": "left"}])),
        row(json!([{"choice": "a"}])),
        row(json!([{"rater": "ana", "choice": "a", "strength": "huge"}])),
        row(json!("a")),
        json!({"prompt": "q", "a": "x", "b": "y", "votes": [], "strategy": "mix", "p_select": 2}),
    ]);
    let (found, refused) = rows("v.jsonl", &text, "votes");
    assert_eq!(found[0].votes, [ImportedVote::new("ana", A)]);
    assert_eq!((found.len(), refused.bad_lines), (1, 5));
    let all = refused.bad.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    insta::assert_snapshot!(all, @r"
    line 2 has a vote for `left`: expected a, b, tie, both_bad or skip
    line 3 has a vote without a `rater`
    line 4 has a vote of the strength `huge`: expected slight, better or much
    line 5 has `votes` that are not a list of objects
    line 6 has a `strategy` without a `p_select` from 0 to 1
    ");
}
