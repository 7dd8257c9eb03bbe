//! Filters, tags, criteria, repeats and contested labels: by keys on the label screen and on the command line.

use crate::cli::{json, text, tiebreak};
use crate::support::{Desk, completion, pair, prompt};
use std::fs;
use std::path::Path;
use tiebreak::app::{Effect, Goal, Msg};
use tiebreak::domain::{
    Choice, CompletionId, Num, PairId, QueueOrder, Rater, Repeats, RubricPass, RunId, Side, Strength,
};
use tiebreak::protocol::SessionRecord;
use tiebreak::storage::{Home, SessionDir};

/// Three pairs of two tagged prompts and one without, and two criteria.
fn records() -> Vec<SessionRecord> {
    let mut out = Vec::new();
    for (n, tag) in ["code", "math", ""].into_iter().enumerate() {
        let id = format!("p{n}");
        out.push(SessionRecord::Prompted(prompt(&id, &format!("question {n}"), tag).into()));
        for k in 0..2 {
            let answer = completion(&format!("{id}.{k}"), &id, &format!("answer {k} to {n}"), 4);
            out.push(SessionRecord::Completed(answer.into()));
        }
        out.push(SessionRecord::Paired(pair(&id).into()));
    }
    for (name, sentence) in [("helpful", "Which answer helps more?"), ("harmless", "Which is safer?")] {
        out.push(SessionRecord::CriterionSet { name: name.into(), sentence: Some(sentence.into()) });
    }
    out
}

fn queue(desk: &Desk) -> Vec<String> {
    desk.model.open.as_ref().unwrap().queue.iter().map(ToString::to_string).collect()
}

fn last_verdict(desk: &Desk) -> &tiebreak::domain::Verdict {
    match desk.log.last() {
        Some(SessionRecord::Judged(verdict)) => verdict,
        other => panic!("{other:?}"),
    }
}

fn clear(desk: &mut Desk) {
    desk.keys("ctrl-u");
}

#[test]
fn a_filter_narrows_the_queue_and_an_empty_one_clears_it() {
    let mut desk = Desk::with_session(80, 24, records());
    desk.keys("f");
    desk.type_text("tag:code,math -verdict:tie");
    desk.keys("enter");
    assert_eq!(queue(&desk), ["p0:0-1", "p1:0-1"]);
    let screen = desk.screen();
    assert!(screen.contains("2 match tag:code,math -verdict:tie"), "{screen}");
    desk.keys("0");
    assert_eq!(queue(&desk), ["p1:0-1"]);
    assert!(desk.screen().contains("1 match"), "the tie no longer matches: {}", desk.screen());
    desk.keys("u");
    assert_eq!(queue(&desk).len(), 2, "undone, it matches again");
    // A wrong filter is refused in place, and nothing changes.
    desk.keys("f");
    clear(&mut desk);
    desk.type_text("tga:code");
    desk.keys("enter");
    assert!(desk.screen().contains("invalid filter at character 1"), "{}", desk.screen());
    assert_eq!(queue(&desk).len(), 2);
    desk.keys("esc f");
    clear(&mut desk);
    desk.type_text("model:smol");
    desk.keys("enter");
    assert!(desk.screen().contains("may tell you who wrote"), "{}", desk.screen());
    desk.keys("f");
    clear(&mut desk);
    desk.type_text("tag:nothing");
    desk.keys("enter");
    assert!(desk.screen().contains("No pair matches tag:nothing."), "{}", desk.screen());
    desk.keys("f");
    clear(&mut desk);
    desk.keys("enter");
    assert_eq!(queue(&desk).len(), 3);
}

#[test]
fn tags_are_set_with_completion_and_undone_in_the_same_stack() {
    let mut desk = Desk::with_session(80, 24, records());
    desk.keys("1 T");
    desk.type_text("ha");
    desk.keys("tab");
    assert!(desk.screen().contains("tags of prompt p1"), "{}", desk.screen());
    desk.type_text("rd co");
    desk.keys("tab enter");
    let tags = |desk: &Desk, at: usize| desk.session().prompts()[at].tags.join(" ");
    assert_eq!(tags(&desk, 1), "math hard code");
    assert_eq!(desk.replayed().prompts()[1].tags.join(" "), "math hard code");
    assert!(desk.screen().contains("prompt p1 · math · hard · code"), "{}", desk.screen());
    desk.keys("u u");
    assert_eq!(tags(&desk, 1), "math");
    assert!(matches!(desk.log.last(), Some(SessionRecord::Withdrawn { .. })));
    desk.keys("ctrl-r");
    assert_eq!(tags(&desk, 1), "math hard");
    desk.keys("u u");
    assert!(matches!(desk.log.last(), Some(SessionRecord::Undone { .. })), "then the verdict before them");
    desk.keys("T");
    clear(&mut desk);
    desk.type_text("a,b");
    desk.keys("enter");
    assert!(desk.screen().contains("the tag `a,b` contains"), "{}", desk.screen());
    clear(&mut desk);
    desk.keys("enter");
    assert_eq!(tags(&desk, 0), "", "none takes all off");
    assert_eq!(desk.session().state_hash(), desk.replayed().state_hash());
}

#[test]
fn criteria_are_asked_one_by_one_or_beside_each_other() {
    let mut desk = Desk::with_session(120, 30, records());
    desk.keys("c");
    desk.type_text("helpful");
    desk.keys("enter");
    assert!(desk.screen().contains("helpful: Which answer helps more? · p0"), "{}", desk.screen());
    desk.keys("1");
    assert_eq!(last_verdict(&desk).asked.criterion.as_deref(), Some("helpful"));
    assert_eq!((queue(&desk).len(), desk.session().queue(&Rater::new("ada")).len()), (2, 3));
    desk.keys("c");
    desk.type_text("all");
    desk.keys("enter");
    // The first pair has a verdict by one criterion: overall and the other one are missing.
    assert!(desk.screen().contains("overall (1 of 3): Which answer is better?"), "{}", desk.screen());
    let left = desk.model.open.as_ref().unwrap().session.verdicts().next().unwrap().1.verdict.left;
    desk.keys("H");
    assert!(desk.screen().contains("harmless (3 of 3): Which is safer?"), "{}", desk.screen());
    assert_eq!(last_verdict(&desk).left, left, "the sides stay");
    desk.keys("0");
    assert_eq!(last_verdict(&desk).asked.criterion.as_deref(), Some("harmless"));
    assert!(desk.screen().contains("overall (1 of 3)") && desk.screen().contains("p1"), "{}", desk.screen());
    desk.keys("2 1");
    assert_eq!(last_verdict(&desk).asked.criterion.as_deref(), Some("helpful"));
    desk.keys("u");
    assert!(desk.screen().contains("helpful (2 of 3)"), "undo asks the same again: {}", desk.screen());
    desk.keys("2 1 1 1 1");
    assert!(queue(&desk).is_empty());
    assert!(desk.screen().contains("All 3 pairs are labelled."), "{}", desk.screen());
    assert_eq!(desk.session().state_hash(), desk.replayed().state_hash());
}

#[test]
fn a_repeat_comes_unmarked_with_its_sides_swapped() {
    let mut all = records();
    all.push(SessionRecord::RepeatsSet(Repeats { share: 1.0, distance: 1, after_ms: 0 }));
    let mut desk = Desk::with_session(100, 30, all);
    desk.keys("n");
    desk.type_text("look here");
    desk.keys("enter 1");
    let first = last_verdict(&desk).clone();
    desk.keys("1");
    // The first pair is back after one other verdict: nothing says so, and its answers have changed places.
    let screen = desk.screen();
    assert!(
        screen.contains("prompt p0") && !screen.contains("your verdict") && !screen.contains("look here"),
        "{screen}"
    );
    desk.keys("1");
    let again = last_verdict(&desk).clone();
    assert_eq!((&again.pair, again.left, again.asked.pass), (&first.pair, first.left.other(), 1));
    let side = |verdict: &tiebreak::domain::Verdict| match verdict.choice {
        Choice::Prefer(side, _) => side,
        other => panic!("{other:?}"),
    };
    assert_eq!(side(&again), side(&first).other(), "the same key means the other answer");
    let outcome = desk.session().outcome(&first.pair);
    assert_eq!(outcome, tiebreak::domain::Outcome::Prefer(side(&first), 2.0 / 3.0), "the first verdict counts");
    desk.keys("u");
    desk.keys("2");
    let redone = last_verdict(&desk);
    assert_eq!((redone.asked.pass, side(redone)), (1, side(&first)), "an undone repeat is given again as one");
}

#[test]
fn a_contested_label_is_judged_again_and_a_skip_leaves_it() {
    let mut all = records();
    for (id, score) in [("p0.0", 0.0), ("p0.1", 0.0), ("p1.0", 2.0), ("p1.1", -2.0)] {
        let (completion, run) = (CompletionId::new(id), RunId::new("reward-1"));
        all.push(SessionRecord::Scored { completion, run, score: Num(score) });
    }
    let mut desk = Desk::with_session(80, 24, all);
    let right = |desk: &Desk, side: Side| {
        let tiebreak::app::ActiveScreen::LabelScreen(label) = &desk.model.screen else { panic!("another screen") };
        let card = label.card.as_ref().unwrap();
        if card.left == side { "1" } else { "2" }
    };
    desk.keys("0");
    let key = right(&desk, Side::B);
    desk.keys(key);
    desk.keys("o");
    assert_eq!(desk.model.open.as_ref().unwrap().order, QueueOrder::Contested);
    let screen = desk.screen();
    assert!(
        screen.contains("contested") && screen.contains("prompt p1") && !screen.contains("your verdict"),
        "{screen}"
    );
    desk.keys("space");
    let pair = PairId::new("p1:0-1");
    assert_eq!(desk.session().outcome(&pair), tiebreak::domain::Outcome::Prefer(Side::B, 2.0 / 3.0));
    let key = if right(&desk, Side::A) == "1" { "H" } else { "L" };
    desk.keys(key);
    assert!(last_verdict(&desk).asked.review);
    assert_eq!(desk.session().outcome(&pair), tiebreak::domain::Outcome::Prefer(Side::A, Strength::Much.margin()));
    assert!(desk.screen().contains("No label is contested"), "{}", desk.screen());
}

#[test]
fn a_run_is_launched_on_a_filter() {
    let mut desk = Desk::with_session(120, 40, records());
    desk.keys("1 1 1 t tab tab");
    desk.type_text("tag:math");
    desk.pass(500);
    let screen = desk.screen();
    assert!(screen.contains("tag:math") && screen.contains("1 pair  (2 not matching left out)"), "{screen}");
    let request = desk.effects().into_iter().rev().find_map(|effect| match effect {
        Effect::Estimate { request, .. } => Some(request),
        _ => None,
    });
    assert_eq!(request.unwrap().choice.words(), "filter tag:math");
    desk.type_text(" verdict:tie");
    desk.pass(500);
    assert!(desk.screen().contains("no row matches the filter"), "{}", desk.screen());
    desk.type_text(" bad");
    desk.pass(500);
    assert!(desk.screen().contains("`bad` is no term"), "{}", desk.screen());
}

#[test]
fn a_session_opens_with_the_filter_and_criterion_of_the_command() {
    let mut desk = Desk::new(80, 24);
    desk.log = records();
    desk.model.filter = Some(tiebreak::domain::Filter::parse("prompt:p2").unwrap());
    desk.model.rubric = RubricPass::One("harmless".into());
    desk.model.goal = Some(("story-tone".into(), Goal::to("label")));
    desk.send(Msg::SessionOpened(crate::support::opened("story-tone")));
    let records = crate::support::envelopes(&desk.log);
    desk.send(Msg::Records(records));
    desk.send(Msg::SessionLoaded);
    assert_eq!(queue(&desk), ["p2:0-1"]);
    assert!(desk.screen().contains("harmless: Which is safer? · p2"), "{}", desk.screen());
}

/// A session of four imported pairs, two of them by one criterion too.
fn on_disk(home: &Path) {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-llama");
    json(home, &["new", "s", "--model", model.to_str().unwrap(), "--json"]);
    let file = home.join("pairs.jsonl");
    let row = |n: usize| format!("{{\"prompt\":\"q{n}\",\"chosen\":\"good {n}\",\"rejected\":\"bad {n}\"}}\n");
    fs::write(&file, (1..5).map(row).collect::<String>()).unwrap();
    json(home, &["import", "s", file.to_str().unwrap(), "--json"]);
}

fn lines(home: &Path, args: &[&str]) -> String {
    let out = tiebreak(home, args);
    assert!(out.status.success(), "{args:?}: {}", text(&out.stderr));
    text(&out.stdout)
}

fn refused(home: &Path, args: &[&str]) -> String {
    let out = tiebreak(home, args);
    assert!(!out.status.success() && out.stdout.is_empty(), "{args:?}");
    assert_eq!(text(&out.stderr).trim_end().lines().count(), 1, "{args:?}: {}", text(&out.stderr));
    text(&out.stderr)
}

#[test]
fn commands_tag_filter_and_train_by_criteria() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    on_disk(home);
    let (dir, prompts) = {
        let dir = SessionDir::find(&Home::resolve(Some(home)).unwrap(), "s").unwrap();
        let (session, _) = dir.state().unwrap();
        let ids: Vec<String> = session.prompts().iter().map(|p| p.id.to_string()).collect();
        (dir, ids)
    };
    assert!(lines(home, &["tag", "s", &prompts[0], "+easy", "+a b"]).contains("1 prompt tagged"));
    let said = lines(home, &["tag", "s", "--filter", "text:q1,q2", "+easy", "-a b"]);
    assert!(said.contains("2 prompts tagged"), "{said}");
    assert_eq!(json(home, &["tag", "--json", "s", "--filter", "tag:easy", "+easy"])["changed"], 0);
    assert!(refused(home, &["tag", "s", "nope", "+x"]).contains("no prompt `nope`"));
    assert!(refused(home, &["tag", "s", "+x"]).contains("--filter"));
    assert!(refused(home, &["tag", "s", &prompts[0]]).contains("+TAG"));
    assert!(refused(home, &["tag", "s", &prompts[0], "+x", "-x"]).contains("set and taken off"));
    assert!(refused(home, &["tag", "s", "--filter", "tag:zzz", "+x"]).contains("none of the 4 prompts"));
    assert!(refused(home, &["tag", "s", "--filter", "tga:x", "+x"]).contains("invalid filter at character 1"));

    // Export and training take the rows that match, and say what does not.
    let file = home.join("out.jsonl");
    let file = file.to_str().unwrap();
    let out = json(home, &["export", "s", "--to", file, "--filter", "tag:easy", "--json"]);
    assert_eq!((&out["rows"], &out["filtered"]), (&2.into(), &2.into()));
    assert_eq!(fs::read_to_string(file).unwrap().lines().count(), 2);
    let none = refused(home, &["train", "s", "dpo", "--filter", "tag:zzz", "--detach"]);
    assert!(none.contains("none of the 4 rows of session s matches the filter `tag:zzz`"), "{none}");

    // Criteria.
    assert!(lines(home, &["rubric", "s"]).contains("has no criteria"));
    assert!(refused(home, &["label", "s", "--rubric", "helpful"]).contains("tiebreak rubric"));
    let listed = lines(home, &["rubric", "s", "--add", "helpful", "--add", "kind: Which answer is kinder?"]);
    assert!(listed.contains("kind: Which answer is kinder?  (0 verdicts)"), "{listed}");
    assert!(refused(home, &["rubric", "s", "--add", "nice"]).contains("needs a sentence"));
    assert!(refused(home, &["rubric", "s", "--remove", "kinds"]).contains("did you mean `kind`"));
    assert!(refused(home, &["label", "s", "--rubric", "helpfull"]).contains("did you mean `helpful`"));
    assert!(refused(home, &["train", "s", "dpo", "--rubric", "helpful", "--detach"]).contains("judged by helpful"));
    assert!(refused(home, &["train", "s", "dpo", "--rubric", "helpful=0", "--detach"]).contains("above 0"));
    {
        let (session, _) = dir.state().unwrap();
        let lock = dir.lock().unwrap().unwrap();
        let mut log = dir.writer(&lock).unwrap();
        for (pair, n) in session.pairs().iter().zip(0..3u64) {
            for (criterion, strength) in [("helpful", Strength::Better), ("kind", Strength::Much)] {
                let (_, first) = session.verdicts().next().unwrap();
                let side = if criterion == "kind" && n == 1 { Side::B } else { Side::A };
                let verdict = tiebreak::domain::Verdict {
                    pair: pair.id.clone(),
                    rater: Rater::new("ana"),
                    choice: Choice::Prefer(side, strength),
                    winner_hash: None,
                    asked: tiebreak::domain::Asked::by(Some(criterion)),
                    showing: tiebreak::domain::Showing::default(),
                    ..first.verdict.clone()
                };
                log.append(&SessionRecord::Judged(verdict.into())).unwrap();
            }
        }
        log.sync().unwrap();
    }
    let out = json(home, &["export", "s", "--to", file, "--rubric", "helpful=0.7,kind=0.3", "--json"]);
    assert_eq!((&out["rows"], &out["left_out"]), (&3.into(), &0.into()));
    let args = ["train", "s", "dpo", "--rubric", "helpful=7,kind=3", "--filter", "tag:easy", "--set", "max_steps=1"];
    let trained = tiebreak(home, &[&args[..], &["--set", "eval_fraction=0", "--device", "cpu"]].concat());
    assert!(trained.status.success(), "{}", text(&trained.stderr));
    let spec = fs::read_to_string(dir.path().join("runs/dpo-1/spec.json")).unwrap();
    assert!(
        spec.contains("\"filter\": \"tag:easy\"") && spec.contains("\"rubric\": \"helpful=0.7,kind=0.3\""),
        "{spec}"
    );
    assert_eq!(fs::read_to_string(dir.path().join("runs/dpo-1/data.jsonl")).unwrap().lines().count(), 2);
    let runs = lines(home, &["runs", "s"]);
    assert!(runs.contains("rubric helpful=0.7,kind=0.3  filter tag:easy"), "{runs}");
    let agreement = lines(home, &["agreement", "s"]);
    assert!(agreement.contains("\ncriterion helpful\n") && agreement.contains("\ncriterion kind\n"), "{agreement}");
    let removed = tiebreak(home, &["rubric", "s", "--remove", "kind"]);
    assert!(text(&removed.stderr).contains("3 verdicts by kind stay"), "{}", text(&removed.stderr));
    assert_eq!(json(home, &["replay", "s", "--check", "--json"])["ok"], true);
}

#[test]
fn repeats_and_orders_on_the_command_line() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    on_disk(home);
    let said = lines(home, &["rule", "s", "--repeats", "0.1"]);
    assert!(said.contains("not set") && said.contains("10 % of the judged pairs come back after 20 others"), "{said}");
    let rule = json(home, &["rule", "s", "--repeat-distance", "5", "--json"]);
    assert_eq!((&rule["repeats"]["share"], &rule["repeats"]["distance"]), (&0.1.into(), &5.into()));
    assert!(!lines(home, &["rule", "s", "--repeats", "0"]).contains("come back"));
    assert!(refused(home, &["rule", "s", "--repeats", "2"]).contains("from 0 to 1"));
    assert!(refused(home, &["label", "s", "--order", "best"]).contains("best_worst"));
    let contested = refused(home, &["pair", "s", "--strategy", "contested"]);
    assert!(contested.contains("--order contested"), "{contested}");
    let help = lines(home, &["label", "--help"]);
    for (name, ..) in QueueOrder::ALL {
        assert!(help.contains(name), "{name}: {help}");
    }
}

#[test]
fn a_criterion_is_added_by_keys() {
    let plain: Vec<SessionRecord> =
        records().into_iter().filter(|r| !matches!(r, SessionRecord::CriterionSet { .. })).collect();
    let mut desk = Desk::with_session(80, 24, plain);
    desk.keys("c");
    assert!(desk.screen().contains("add a criterion to judge by"), "{}", desk.screen());
    desk.type_text("kind");
    desk.keys("enter");
    assert!(desk.screen().contains("needs a sentence"), "{}", desk.screen());
    desk.type_text(": Which answer is kinder?");
    desk.keys("enter");
    assert!(desk.screen().contains("kind: Which answer is kinder?"), "{}", desk.screen());
    desk.keys("1");
    assert_eq!(last_verdict(&desk).asked.criterion.as_deref(), Some("kind"));
    // The next one is in the list.
    desk.keys("c");
    desk.type_text("add");
    desk.keys("enter");
    desk.type_text("helpful");
    desk.keys("enter");
    let names: Vec<&str> = desk.session().criteria().iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["kind", "helpful"]);
    assert_eq!(desk.session().state_hash(), desk.replayed().state_hash());
}
