//! Judges of evaluations, contestants behind servers, and blind judging by people: real processes.

use crate::cli::{json, text, tiebreak};
use crate::servers::{Server, events, found, kill, run, session, tiny, until, worker_of};
use crate::support::{Desk, envelopes, paint};
use serde_json::{Value, json as object};
use std::fs;
use std::path::Path;
use tiebreak::app::Msg;
use tiebreak::domain::{
    Asked, Choice, Completion, Contestant, EVALUATION, EvalAnswer, ItemKey, Pair, PairId, PosedPair, PromptId, Rater,
    RunId, Seen, Showing, Side, Strength, Verdict, eval_report, with_people,
};
use tiebreak::protocol::{RunEvent, SessionRecord};
use tiebreak::storage::{Home, SessionDir};

const SHORT: [&str; 4] = ["--max-new-tokens", "6", "--device", "cpu"];

fn prompts(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("plain question {i}")).collect()
}

fn eval(home: &Path, args: &[&str]) -> (bool, String, String) {
    let output = tiebreak(home, &[&["eval", "s"], args, &SHORT].concat());
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

fn report(home: &Path, id: &str) -> Value {
    json(home, &["eval", "s", "--show", id, "--json"])
}

fn answers(home: &Path, id: &str, side: Contestant) -> Vec<EvalAnswer> {
    let all = events(&run(home, id)).into_iter();
    all.filter_map(|e| if let RunEvent::EvalAnswered(a) = e { Some(*a).filter(|a| a.side == side) } else { None })
        .collect()
}

/// Pairs `good`/`bad` with another prompt each, the good one first in every second.
fn labelled(home: &Path, n: usize) {
    let row = |i: usize| {
        let (good, bad) = (format!("a good answer {i}"), format!("a bad one {i}"));
        object!({ "prompt": format!("labelled {i}"), "chosen": good, "rejected": bad }).to_string()
    };
    let file = home.join("pairs.jsonl");
    fs::write(&file, (0..n).map(row).collect::<Vec<_>>().join("\n")).unwrap();
    json(home, &["import", "s", file.to_str().unwrap(), "--json"]);
}

/// A file in LLMBar's form of which the server's judge knows nothing: it always says A.
fn llmbar(home: &Path) -> String {
    let rows: Vec<Value> = (0..12)
        .map(|i| {
            let (one, two) = (format!("right {i}"), format!("wrong {i} and longer"));
            let (one, two) = if i % 2 == 0 { (one, two) } else { (two, one) };
            object!({ "input": format!("ask {i}"), "output_1": one, "output_2": two, "label": 1 + i % 2 })
        })
        .collect();
    let folder = home.join("data");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("llmbar_natural.json"), Value::from(rows).to_string()).unwrap();
    folder.display().to_string()
}

#[test]
fn an_evaluation_that_is_killed_sends_no_request_for_an_answer_twice() {
    let server = Server::start();
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let prompts: Vec<String> = (0..16).map(|i| format!("slow {i}")).collect();
    session(home, &prompts);
    let (own, model) = (server.model(), tiny().display().to_string());
    let (ok, _, err) = eval(home, &["--a", &own, "--b", &model, "--judge", "check:contains=Here", "--detach"]);
    assert!(ok, "{err}");
    let dir = run(home, "eval-1");
    let starts = || events(&dir).iter().filter(|e| matches!(e, RunEvent::Started { .. })).count();
    let mut came = 0;
    for kills in 1..=3 {
        until("answers come", || answers(home, "eval-1", Contestant::A).len() >= 4 * kills);
        kill(worker_of(&dir));
        until("it is dead", || !dir.is_alive());
        came = answers(home, "eval-1", Contestant::A).len();
        assert!(tiebreak(home, &["resume", "s/eval-1"]).status.success());
        until("the next one starts", || starts() > kills);
    }
    until("it ends", || events(&dir).iter().any(|e| matches!(e, RunEvent::Finished { .. })));
    assert!(prompts.iter().all(|p| server.counts()[p] == 1), "{:?}", server.counts());
    assert_eq!(answers(home, "eval-1", Contestant::A).len(), 16);
    // Of the last four, those that the killed worker had not read were under way. On a busy machine it may have read them all.
    let kept = found(&events(&dir), "answers_kept").map(|f| f.text.clone());
    assert!(came == 16 || kept.is_some_and(|text| text.contains("came after the last worker had ended")), "{came}");
}

#[test]
fn a_server_answers_a_second_judge_asks_nothing_and_a_position_lover_is_refused_the_headline() {
    let server = Server::start();
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    session(home, &[prompts(6), vec!["long question".into()]].concat());
    let (model, own) = (tiny().display().to_string(), server.model());
    let (ok, out, err) = eval(home, &["--a", &own, "--b", &model, "--judge", "check:contains=Here"]);
    assert!(ok, "{err}");
    // The server refuses one prompt: it is neither measured nor compared.
    let log = events(&run(home, "eval-1"));
    let said = found(&log, "answers_missing").unwrap();
    assert!(said.text.contains("1 answer") && said.text.contains("9999 tokens"), "{}", said.text);
    assert!(
        out.contains("6 won, 0 tied, 0 lost") && out.contains("answers_missing") || out.contains("could not be had"),
        "{out}"
    );
    let asked = server.counts();
    assert!(prompts(6).iter().all(|p| asked[p] == 1), "{asked:?}");

    let judge = format!("llm:{}", server.model());
    let data = llmbar(home);
    let args = ["--a", &own, "--b", &model, "--judge", &judge, "--data", &data];
    let (ok, out, err) = eval(home, &args);
    assert!(ok, "{err}");
    // A second judge adds no generation.
    for side in Contestant::BOTH {
        let second = answers(home, "eval-2", side);
        assert!(second.len() >= 6 && second.iter().all(|a| a.reused), "{second:?}");
    }
    assert!(prompts(6).iter().all(|p| server.counts()[p] == 1));
    let found = &report(home, "eval-2")["report"]["judges"][0];
    assert_eq!((found["gate"][0]["set"].as_str(), found["gate"][0]["pairs"].as_u64()), (Some("llmbar"), Some(12)));
    assert_eq!((found["accuracy"].as_f64(), found["consistency"].as_f64()), (Some(0.5), Some(0.0)), "{found}");
    assert!(found["position_bias"].as_f64().unwrap() > 0.4 && found["position_logit"].as_f64().unwrap() > 2.0);
    let refused = found["not_headline"].as_array().unwrap();
    assert_eq!(refused.len(), 2, "{found}");
    assert!(out.contains("⚠ not a headline: it judges 50 %") && out.contains("when the order is swapped"), "{out}");
    assert_eq!(json(home, &["replay", "s", "--check", "--json"])["ok"], true);

    let (ok, _, err) = eval(home, &["--a", &own, "--judge", "check:contains=a", "--judge", "check:contains=a"]);
    assert!(!ok && err.contains("named twice"), "{err}");
    if let Some(row) = tiebreak::domain::suites().into_iter().find(|row| row.max_new_tokens == 0) {
        fs::write(home.join("data").join(row.files[0]), "{}").unwrap();
        let (ok, _, err) = eval(home, &["--a", &own, "--suite", row.name, "--data", &data]);
        assert!(!ok && err.contains("reads log-probs") && err.contains("does not give"), "{err}");
    }
}

#[test]
fn runs_judge_are_measured_and_say_when_they_judge_themselves() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    session(home, &prompts(5));
    labelled(home, 36);
    let set = ["--set", "max_steps=6", "--set", "learning_rate=1e-3", "--device", "cpu"];
    for method in ["reward", "dpo"] {
        let output = tiebreak(home, &[&["train", "s", method, "--filter", "prompt:p1,p2"], &set[..]].concat());
        let output = if output.status.success() {
            output
        } else {
            tiebreak(home, &[&["train", "s", method], &set[..]].concat())
        };
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    let (ok, out, err) = eval(home, &["--a", "dpo-1", "--judge", "reward:reward-1", "--judge", "implicit:dpo-1"]);
    assert!(ok, "{err}");
    assert!(err.contains("left out of the measure of reward:reward-1: it learned from them"), "{err}");
    let log = events(&run(home, "eval-1"));
    let circle = found(&log, "judge_in_circle").unwrap();
    assert!(circle.text.contains("implicit:dpo-1 judges dpo-1, which is that run"), "{}", circle.text);
    assert!(found(&log, "calibration").unwrap().text.contains("reward:reward-1"));
    assert!(out.contains("reward hacking") && out.contains("was not measured"), "{out}");
    let comparisons: Vec<_> =
        log.iter().filter_map(|e| if let RunEvent::Compared(c) = e { Some(c) } else { None }).collect();
    for c in comparisons.iter().filter(|c| c.reference.is_none()) {
        let (Some(p), Some(difference)) = (c.p, c.difference) else { continue };
        assert_eq!(p.0 > 0.5, difference.0 > 0.0, "the sign decides");
    }
    // The same question again: the same numbers, and no new answer.
    let (ok, ..) = eval(home, &["--a", "dpo-1", "--judge", "reward:reward-1", "--judge", "implicit:dpo-1"]);
    assert!(ok);
    assert!(answers(home, "eval-2", Contestant::A).iter().all(|a| a.reused));
    assert_eq!(
        report(home, "eval-1")["report"]["judges"][0]["rate"],
        report(home, "eval-2")["report"]["judges"][0]["rate"]
    );
    let (ok, _, err) = eval(home, &["--a", "dpo-1", "--judge", "reward:dpo-1"]);
    assert!(!ok && err.contains("dpo-1"), "{err}");
}

#[test]
fn a_person_judges_blind_pairs_that_train_nothing() {
    let server = Server::start();
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    session(home, &prompts(8));
    let (a, b) = (server.model(), tiny().display().to_string());
    let (ok, out, err) = eval(home, &["--a", &a, "--b", &b, "--judge", "human"]);
    assert!(ok, "{err}");
    assert!(
        out.contains("tiebreak label s --filter eval:eval-1") && out.contains("8 of 8 pairs are still to be judged"),
        "{out}"
    );
    let dir = SessionDir::find(&Home::resolve(Some(home)).unwrap(), "s").unwrap();
    let (state, _) = dir.state().unwrap();
    assert_eq!((state.held_out_pairs().len(), state.pairs().len(), state.completion_count()), (8, 0, 0));
    let pairs = state.held_out_pairs().to_vec();
    let lock = dir.lock().unwrap().unwrap();
    let mut writer = dir.writer(&lock).unwrap();
    for pair in &pairs {
        // The server's answers begin with "Here".
        let (first, _) = state.sides(pair).unwrap();
        let side = if first.text.starts_with("Here") { Side::A } else { Side::B };
        let verdict = Verdict {
            pair: pair.id.clone(),
            rater: Rater::new("ana"),
            choice: Choice::Prefer(side, Strength::Better),
            left: Side::A,
            seen: Seen::Full,
            ms: 5,
            winner_hash: None,
            asked: Asked::default(),
            showing: Showing::default(),
        };
        writer.append(&SessionRecord::Judged(verdict.into())).unwrap();
    }
    writer.sync().unwrap();
    drop((writer, lock));
    let firsts = pairs.iter().filter(|p| state.sides(p).unwrap().0.text.starts_with("Here")).count();
    assert!((1..8).contains(&firsts), "the order of answers says nothing: {firsts} of 8");
    let judge = &report(home, "eval-1")["report"]["judges"][0];
    assert_eq!(
        (judge["judge"].as_str(), judge["wins"].as_u64(), judge["losses"].as_u64()),
        (Some("human:ana"), Some(8), Some(0))
    );
    assert_eq!(judge["not_headline"], object!([]));
    let (state, _) = dir.state().unwrap();
    assert!(state.rows().0.is_empty());
    let refused = tiebreak(home, &["train", "s", "dpo", "--set", "max_steps=1"]);
    assert!(!refused.status.success(), "no pair trains");
    let exported = tiebreak(home, &["export", "s", "--to", "-"]);
    assert!(!text(&exported.stdout).contains("Here:"), "{}", text(&exported.stdout));
    // The evaluation's own log folds to the same without the session.
    let mut eval = tiebreak::domain::EvalState::default();
    for event in events(&run(home, "eval-1")) {
        if let RunEvent::Posed(posed) = event {
            eval.pose(*posed);
        }
    }
    assert_eq!(eval_report(&with_people(&eval, &state), &[]).judges[0].wins, 8);
    assert_eq!(json(home, &["replay", "s", "--check", "--json"])["ok"], true);
    // The same again makes the same pairs under the new run's name, and asks the server nothing.
    let before = server.counts();
    let (ok, ..) = eval_again(home, &a, &b);
    assert!(ok && server.counts() == before);
}

fn eval_again(home: &Path, a: &str, b: &str) -> (bool, String, String) {
    eval(home, &["--a", a, "--b", b, "--judge", "human"])
}

#[test]
fn a_judge_without_a_token_for_a_letter_is_refused_before_anything_runs() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    session(home, &prompts(2));
    let judge = home.join("no-b");
    fs::create_dir_all(&judge).unwrap();
    for entry in fs::read_dir(tiny()).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), judge.join(entry.file_name())).unwrap();
    }
    let file = judge.join("tokenizer.json");
    let tokenizer = fs::read_to_string(&file).unwrap();
    let without = tokenizer.replacen("\"B\":", "\"\u{2603}\":", 1);
    assert_ne!(tokenizer, without);
    fs::write(&file, without).unwrap();
    let (a, judge) = (tiny().display().to_string(), format!("llm:{}", judge.display()));
    let (ok, _, err) = eval(home, &["--a", &a, "--b", &a, "--judge", &judge]);
    assert!(!ok && err.contains("no single token for the letter B: use another judge"), "{err}");
    assert!(!events(&run(home, "eval-1")).iter().any(|e| matches!(e, RunEvent::EvalAnswered(_))));
}

/// Blind pairs on the label screen: no name before the end, what gives a model away is flagged, undo opens the set again.
#[test]
fn the_label_screen_judges_an_evaluation_blind() {
    let posed = |n: usize| {
        let first = if n.is_multiple_of(2) { Contestant::A } else { Contestant::B };
        let id = format!("eval-1.p{n}");
        let completion = |i: usize| {
            let own = (first == Contestant::A) == (i == 1);
            let text = if n == 0 && own { "I am Qwen, made by Alibaba." } else { "A plain answer." };
            Completion {
                model: if own { "dpo-7".into() } else { "zeta".into() },
                text: format!("{text} {n}{i}").into(),
                ..crate::support::completion(&format!("{id}.{i}"), &id, "", 4)
            }
        };
        let answers = [completion(1), completion(2)];
        RunEvent::Posed(Box::new(PosedPair {
            key: ItemKey { suite: "winrate".into(), item: format!("p{n}"), seed: 0 },
            cluster: format!("c{n}"),
            run: RunId::new("eval-1"),
            pair: Pair {
                id: PairId::new(id.clone()),
                prompt: PromptId::new(id.clone()),
                a: answers[0].id.clone(),
                b: answers[1].id.clone(),
                strategy: EVALUATION.into(),
                p_select: 1.0,
            },
            first,
            prompt: crate::support::prompt(&id, "Who are you?", ""),
            answers,
        }))
    };
    let mut desk = Desk::with_session(80, 24, crate::support::pairs(2));
    let events: Vec<RunEvent> = (0..3).map(posed).collect();
    desk.send(Msg::RunRecords { run: RunId::new("eval-1"), records: envelopes(&events) });
    assert_eq!(
        desk.session().queue(&desk.model.open.as_ref().unwrap().rater).len(),
        2,
        "the normal queue is as it was"
    );
    // Whoever comes from the disputes judges here all the same.
    desk.model.open.as_mut().unwrap().order = tiebreak::domain::QueueOrder::Disputed;
    desk.keys("f");
    desk.type_text("eval:eval-1");
    desk.keys("enter");
    desk.keys("o");
    assert!(desk.screen().contains("an order of their own"), "{}", desk.screen());
    desk.keys("f enter");
    assert!(desk.screen().contains("3 of"), "{}", desk.screen());
    assert!(desk.screen().contains("says “qwen”") || desk.screen().contains("says “alibaba”"), "{}", desk.screen());
    insta::assert_snapshot!("label_blind_80x24", desk.screen());
    for key in ["1", "2", "0"] {
        assert!(!desk.screen().contains("dpo-7") && !desk.screen().contains("zeta"), "{}", desk.screen());
        desk.keys(key);
    }
    assert!(
        desk.screen().contains("dpo-7") && desk.screen().contains("zeta") && desk.screen().contains("1 tie"),
        "{}",
        desk.screen()
    );
    for (w, h) in [(80, 24), (120, 40), (60, 16)] {
        desk.model.size = (w, h);
        insta::assert_snapshot!(format!("label_blind_end_{w}x{h}"), paint(&desk.model));
    }
    assert_eq!(desk.session().verdicts().count(), 3, "verdicts, no decisions on disputes");
    desk.keys("u");
    assert!(!desk.screen().contains("dpo-7"), "an undone verdict hides the names again");
    assert!(desk.replayed().rows().0.is_empty() && desk.session().rows().0.is_empty());
}

#[test]
fn a_contest_meets_every_two_once_and_rates_them() {
    let server = Server::start();
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    session(home, &prompts(6));
    labelled(home, 12);
    let trained = tiebreak(home, &["train", "s", "dpo", "--set", "max_steps=3", "--device", "cpu"]);
    assert!(trained.status.success(), "{}", text(&trained.stderr));
    let (model, own) = (tiny().display().to_string(), server.model());
    let contest = [model.as_str(), "dpo-1", &own].join(",");
    let file = home.join("prompts.txt").display().to_string();
    let args = ["--contest", &contest, "--prompts", &file, "--judge", "check:contains=Here"];
    let (ok, out, err) = eval(home, &args);
    assert!(ok, "{err}");
    assert!(out.contains("ratings by check:contains=Here on winrate") && out.contains("has 1000"), "{out}");
    let evaluations = || fs::read_dir(run(home, "eval-1").path().parent().unwrap()).unwrap().count();
    let before = evaluations();
    let (ok, _, err) = eval(home, &args);
    assert!(ok && err.contains("eval-1 counts") && err.contains("eval-3 counts"), "{err}");
    assert_eq!(evaluations(), before, "a finished evaluation was repeated");
    let found = json(home, &["eval", "s", "--ratings", "--json"]);
    let table = &found["standings"][0];
    let names: Vec<&str> = table["rows"].as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap()).collect();
    // The server's answers alone contain the word, so that it wins against both and they tie.
    assert_eq!((names.len(), names[0]), (3, own.as_str()), "{table}");
    assert_eq!((table["anchor"].as_str(), table["rows"][0]["losses"].as_u64()), (Some(model.as_str()), Some(0)));
    assert!(table["remarks"][0].as_str().unwrap().contains("lower bound"), "{table}");
    let shown = report(home, "eval-1");
    assert_eq!(shown["report"]["standings"][0]["rows"], table["rows"]);
    let written = home.join("report.json");
    let made = tiebreak(home, &["report", "s", "--to", written.to_str().unwrap()]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let whole: serde_json::Value = serde_json::from_slice(&fs::read(&written).unwrap()).unwrap();
    assert_eq!(whole["ratings"], found["standings"]);
    for (names, says) in [("dpo-1,tiny", "takes 3 to 12"), ("dpo-1,dpo-1,dpo-1", "names dpo-1 twice")] {
        let (ok, _, err) = eval(home, &["--contest", names]);
        assert!(!ok && err.contains(says), "{err}");
    }
}
