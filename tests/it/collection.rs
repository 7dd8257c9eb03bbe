//! Collecting preferences by several raters: pairs chosen by strategies, imported votes, agreement, and the rule.

use crate::cli::{json, text, tiebreak};
use std::fs;
use std::path::Path;
use tiebreak::domain::{Completion, CompletionId, Finish, Prompt, PromptBody, PromptId, STRATEGIES, Strategy};
use tiebreak::protocol::SessionRecord;
use tiebreak::storage::{Home, SessionDir};

/// A session with four answers by two models to each of six prompts, none of them paired.
fn answered(home: &Path) {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-llama");
    json(home, &["new", "s", "--model", model.to_str().unwrap(), "--json"]);
    let dir = SessionDir::find(&Home::resolve(Some(home)).unwrap(), "s").unwrap();
    let lock = dir.lock().unwrap().unwrap();
    let mut log = dir.writer(&lock).unwrap();
    for p in 0..6 {
        let id = PromptId::new(format!("p{p}"));
        let tags = [["math", "chat"][p % 2].to_owned()].into();
        let body = PromptBody::user(format!("question {p}"));
        log.append(&SessionRecord::Prompted(Prompt { id: id.clone(), body, source: "test".into(), tags }.into()))
            .unwrap();
        for k in 0..4 {
            let words = "word ".repeat(1 + (p * 5 + k * 3) % 7);
            log.append(&SessionRecord::Completed(
                Completion {
                    turns: [].into(),
                    id: CompletionId::new(format!("{}.p{p}.{k}", if k < 2 { "sample-1" } else { "sample-2" })),
                    prompt: id.clone(),
                    model: if k < 2 { "base".into() } else { "base+dpo-1".into() },
                    text: format!("{words}{p} {k}").into(),
                    tokens: 3,
                    finish: Finish::Eos,
                    sampler: None,
                    logprob: (-1.0 - k as f64).into(),
                }
                .into(),
            ))
            .unwrap();
        }
    }
    log.sync().unwrap();
}

fn pairs(home: &Path, args: &[&str]) -> Vec<serde_json::Value> {
    let out = tiebreak(home, &[&["pair", "s", "--json"], args].concat());
    assert!(out.status.success(), "{args:?}: {}", text(&out.stderr));
    text(&out.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn refused(home: &Path, args: &[&str]) -> String {
    let out = tiebreak(home, args);
    assert!(!out.status.success() && out.stdout.is_empty(), "{args:?}");
    assert_eq!(text(&out.stderr).trim_end().lines().count(), 1, "{args:?}: {}", text(&out.stderr));
    text(&out.stderr)
}

#[test]
fn every_strategy_puts_pairs_up_with_the_probability_of_their_choice() {
    for strategy in STRATEGIES.iter().map(|s: &Strategy| s.name) {
        let home = tempfile::tempdir().unwrap();
        let home = home.path();
        answered(home);
        let args = ["--strategy", strategy, "--by", "tag", "--score", "length", "--limit", "4", "--across"];
        let found = pairs(home, &args);
        assert_eq!(found.len(), 4, "{strategy}");
        for pair in &found {
            let p = pair["p_select"].as_f64().unwrap();
            assert!(p > 0.0 && p <= 1.0, "{pair}");
        }
        let (session, _) = SessionDir::find(&Home::resolve(Some(home)).unwrap(), "s").unwrap().state().unwrap();
        assert_eq!(session.pairs().len(), 4, "{strategy}");
        assert_eq!(session.queue(&tiebreak::domain::Rater::new("ana")).len(), 4);
        // What is paired is not chosen again.
        let rest = pairs(home, &["--strategy", "random", "--across"]);
        assert_eq!(rest.len(), 6 * 6 - 4, "{strategy}");
        assert_eq!(json(home, &["replay", "s", "--check", "--json"])["pairs"], 36);
    }
}

#[test]
fn pairs_form_within_a_sampling_run_unless_it_is_said_otherwise() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    answered(home);
    let within = pairs(home, &["--strategy", "random"]);
    assert_eq!(within.len(), 6 * 2);
    let across = pairs(home, &["--strategy", "stratified", "--by", "models", "--across"]);
    assert_eq!(across.len(), 6 * 4);
    assert!(across.iter().all(|p| (p["a"].as_str() < Some("sample-2")) != (p["b"].as_str() < Some("sample-2"))));
}

#[test]
fn what_cannot_be_chosen_is_one_sentence() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    answered(home);
    let pair = |more: &[&str]| refused(home, &[&["pair", "s"], more].concat());
    assert!(pair(&["--strategy", "best_worst"]).contains("--score"));
    assert!(pair(&["--strategy", "best_worst", "--score", "reward-7"]).contains("reward-7"));
    assert!(pair(&["--strategy", "stratified"]).contains("--by"));
    let fixed = ["--strategy", "stratified", "--by", "tag", "--quota", "math=99"];
    assert!(pair(&fixed).contains("larger than the stratum: it has 6 pairs"), "{}", pair(&fixed));
    let none = ["--strategy", "stratified", "--by", "tag", "--quota", "code=1"];
    assert!(pair(&none).contains("there are: chat, math"), "{}", pair(&none));
    assert!(pair(&["--strategy", "hard_negatives", "--score", "length", "--against", "2..1"]).contains("0.5..2"));
    assert!(pair(&["--strategy", "random", "--score", "checks:nope"]).contains("is not a check"));
    assert!(refused(home, &["pair", "s", "--strategy", "best"]).contains("best_worst"));
    assert!(refused(home, &["rule", "s", "--threshold", "2"]).contains("from 0 to 1"));
}

/// Three annotators on three rows, as one JSON array.
fn votes(home: &Path) -> String {
    let rows = serde_json::json!([
        {"instruction": "Add", "input": "1 + 1", "response1": "2", "response2": "3", "cmp_key": "x_y", "motivation_app": "Sums",
         "annotator1": 1, "annotator2": 1, "annotator3": 1},
        {"instruction": "Greet", "input": "", "response1": "Hi", "response2": "Go away", "cmp_key": "x_z",
         "annotator1": 1, "annotator2": 2, "annotator3": 0},
        {"instruction": "Name", "input": "", "response1": "Tom", "response2": "Ann", "cmp_key": "y_z",
         "annotator1": 2, "annotator2": 2, "annotator3": 1},
        {"instruction": "Broken", "input": "", "response1": true, "response2": "x", "annotator1": 1},
        {"instruction": "Empty", "input": "", "response1": "", "response2": "x", "annotator1": 1}
    ]);
    let path = home.join("votes.json");
    fs::write(&path, serde_json::to_string_pretty(&rows).unwrap()).unwrap();
    path.display().to_string()
}

#[test]
fn votes_of_several_raters_are_imported_once_with_their_models_and_tags() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    answered(home);
    let file = votes(home);
    let added = json(home, &["import", "s", &file, "--json"]);
    assert_eq!((&added["kind"], &added["pairs"], &added["bad_lines"]), (&"pandalm".into(), &3.into(), &1.into()));
    let again = json(home, &["import", "s", &file, "--json"]);
    assert_eq!((&again["pairs"], &again["known_pairs"]), (&0.into(), &3.into()), "{again}");
    let (session, _) = SessionDir::find(&Home::resolve(Some(home)).unwrap(), "s").unwrap().state().unwrap();
    let pair = &session.pairs()[0];
    let (a, b) = session.sides(pair).unwrap();
    assert_eq!((a.model.as_str(), b.model.as_str()), ("x", "y"));
    assert_eq!(session.prompt(&pair.prompt).unwrap().tags, ["Sums"]);
    assert_eq!(session.counting(&pair.id).len(), 3);
    let report = json(home, &["agreement", "s", "--json"]);
    assert_eq!(report["overlapping"], 3);
    // Of nine pairs of votes three and one agree.
    let percent = report["coefficients"][0]["value"].as_f64().unwrap();
    assert!((percent - 4.0 / 9.0).abs() < 1e-12, "{report}");
    assert_eq!(report["confusion"]["counts"][1][1], 1);
}

#[test]
fn the_rule_decides_what_is_disputed_and_is_part_of_the_session() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    answered(home);
    json(home, &["import", "s", &votes(home), "--json"]);
    let set = ["rule", "s", "--labels-per-item", "3", "--threshold", "0.5", "--aggregation", "mean_strength", "--json"];
    let rule = json(home, &set);
    assert_eq!((&rule["labels_per_item"], &rule["max_labels"]), (&3.into(), &3.into()));
    assert_eq!(json(home, &["rule", "s", "--json"]), rule);
    assert_eq!(json(home, &["agreement", "s", "--json"])["disputed"], 2);
    assert!(tiebreak(home, &["replay", "s", "--check"]).status.success());
}

#[test]
fn agreement_without_variation_is_said_to_be_undefined() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    answered(home);
    let out = text(&tiebreak(home, &["agreement", "s"]).stdout);
    assert!(out.contains("undefined: no pair has two labels"), "{out}");
    let rows = serde_json::json!([{"instruction": "Add", "response1": "2", "response2": "3", "annotator1": 1, "annotator2": 1}]);
    let file = home.join("same.json");
    fs::write(&file, rows.to_string()).unwrap();
    json(home, &["import", "s", file.to_str().unwrap(), "--json"]);
    let out = text(&tiebreak(home, &["agreement", "s"]).stdout);
    assert!(out.contains("undefined: no variation  n=1"), "{out}");
}

#[test]
fn a_decision_on_a_dispute_adjudicates_it_and_can_be_undone() {
    use crate::support::{Desk, pairs};
    use tiebreak::domain::{
        Choice, CollectionSettings, LabelRule, Outcome, QueueOrder, Rater, Seen, Side, Strength, Verdict,
    };
    let mut desk = Desk::with_session(80, 24, pairs(3));
    let open = desk.model.open.as_mut().unwrap();
    let pair = open.session.pairs()[1].id.clone();
    open.session.configure(CollectionSettings {
        rule: LabelRule { labels_per_item: 2, max_labels: 2, threshold: 0.6 },
        ..CollectionSettings::default()
    });
    for (seq, rater, side) in [(1001, "ben", Side::A), (1002, "cy", Side::B)] {
        open.session.judge(
            seq,
            Verdict {
                pair: pair.clone(),
                rater: Rater::new(rater),
                choice: Choice::Prefer(side, Strength::Better),
                left: Side::A,
                seen: Seen::Full,
                ms: 1,
                winner_hash: None,
                asked: tiebreak::domain::Asked::default(),
                showing: tiebreak::domain::Showing::default(),
            },
        );
    }
    open.requeue();
    assert_eq!(open.queue.len(), 2, "the disputed pair is asked of nobody");
    desk.keys("o");
    let outcome = |desk: &Desk| desk.model.open.as_ref().unwrap().session.outcome(&pair);
    let queue = |desk: &Desk| desk.model.open.as_ref().unwrap().queue.clone();
    assert_eq!(desk.model.open.as_ref().unwrap().order, QueueOrder::Disputed);
    assert_eq!((queue(&desk), outcome(&desk)), (vec![pair.clone()], Outcome::Unresolved));
    assert!(crate::support::paint(&desk.model).contains("1 dispute left"));
    desk.keys("space");
    assert_eq!(outcome(&desk), Outcome::Unresolved, "a skip decides nothing");
    desk.keys("0");
    assert!(
        matches!(desk.log.last(), Some(SessionRecord::Adjudicated(a)) if a.choice == Choice::Tie && a.pair == pair)
    );
    assert_eq!((queue(&desk).len(), outcome(&desk)), (0, Outcome::Tie));
    assert!(crate::support::paint(&desk.model).contains("No disputes left."));
    desk.keys("u");
    assert!(matches!(desk.log.last(), Some(SessionRecord::Undone { .. })));
    assert_eq!((queue(&desk), outcome(&desk)), (vec![pair.clone()], Outcome::Unresolved));
    desk.keys("ctrl-r");
    assert_eq!(outcome(&desk), Outcome::Tie);
    desk.keys("o");
    assert_eq!(queue(&desk).len(), 2, "back to the pairs left to label");
}
