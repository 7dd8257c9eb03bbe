//! The forms for sampling, pairing and scoring: their states at three sizes, and what their keys ask for.

use crate::support::{BEGIN_MS, Desk, cards, pairs};
use tiebreak::app::{Effect, Msg, PairPreview, ScoreProgress, StratumCount};
use tiebreak::domain::{CompletionId, Num, Params, RunId, method};
use tiebreak::protocol::{
    DataSnapshot, Envelope, Inputs, ModelCard, ModelRef, RunEvent, RunSpec, SessionRecord, Task, TrainSpec,
};

const SIZES: [(u16, u16); 4] = [(80, 24), (120, 40), (60, 16), (200, 60)];

fn snap(name: &str, desk: &mut Desk) {
    for (w, h) in SIZES {
        desk.send(Msg::Resize(w, h));
        insta::with_settings!({ snapshot_path => "../snapshots", prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(format!("{name}_{w}x{h}"), desk.screen());
        });
    }
}

fn models() -> Vec<ModelCard> {
    let card = |name: &str, format: &str, parameters| ModelCard {
        name: name.into(),
        path: format!("/models/{name}"),
        format: format.into(),
        family: "llama".into(),
        parameters,
        bytes: 1,
        context: 2048,
        chat: true,
        problem: None,
    };
    vec![card("SmolLM2-135M-Instruct", "safetensors", 135_000_000), card("tiny", "embedded", 1_000_000)]
}

/// A finished training run.
fn trained(desk: &mut Desk, id: &str, name: &str) {
    let data = DataSnapshot { file: "data.jsonl".into(), sha256: "0".repeat(64), rows: 4, session_seq: 4 };
    let model = ModelRef { name: "SmolLM2-135M-Instruct".into(), path: "models/smollm2".into() };
    let params = Params::defaults(&method(name).unwrap().rows());
    desk.send(Msg::RunFound(Box::new(RunSpec {
        id: RunId::new(id),
        task: Task::Train(TrainSpec::new(name, model, params, data)),
        device: "cpu".into(),
        created_ms: BEGIN_MS,
        app: "test".into(),
        inputs: Inputs::default(),
    })));
    let events = [
        RunEvent::Started { attempt: 1, pid: 1, device: "CPU".into(), from_step: None },
        RunEvent::Finished { step: 3, state: String::new() },
    ];
    let records = events.into_iter().enumerate();
    let records = records.map(|(i, e)| Envelope { n: i as u64 + 1, m: i as u64, w: BEGIN_MS, data: Ok(e) }).collect();
    desk.send(Msg::RunRecords { run: RunId::new(id), records });
    desk.send(Msg::RunAlive { run: RunId::new(id), alive: false });
}

/// A session with a dpo and a reward run, and scores by the latter.
fn busy(w: u16, h: u16) -> Desk {
    let mut records = pairs(6);
    for i in 1..=6 {
        for side in 0..2 {
            let completion = CompletionId::new(format!("p{i}.{side}"));
            records.push(SessionRecord::Scored {
                completion,
                run: RunId::new("reward-1"),
                score: Num(f64::from(side)),
            });
        }
    }
    let mut desk = Desk::with_session(w, h, records);
    desk.send(Msg::ModelsListed(models()));
    trained(&mut desk, "dpo-1", "dpo");
    trained(&mut desk, "reward-1", "reward");
    desk.effects();
    desk
}

/// Moves the focus to a field.
fn focus(desk: &mut Desk, label: &str) {
    for _ in 0..40 {
        let is_it = |line: &str| {
            let rest = line.strip_prefix(" ▸ ").unwrap_or_default();
            rest.trim_start_matches(['[', 'x', ']', ' ']).starts_with(label)
        };
        if desk.screen().lines().any(is_it) {
            return;
        }
        desk.keys("down");
    }
    panic!("no field {label}:\n{}", desk.screen());
}

#[test]
fn sampling_in_its_states() {
    let mut loading = Desk::new(80, 24);
    loading.send(Msg::SessionsListed(cards()));
    loading.send(Msg::SessionOpened(crate::support::opened("story-tone")));
    loading.keys("s");
    snap("sample_loading", &mut loading);
    let mut empty = Desk::with_session(80, 24, Vec::new());
    empty.keys("s");
    snap("sample_empty", &mut empty);
    let mut desk = busy(80, 24);
    desk.keys("s");
    focus(&mut desk, "dpo-1");
    desk.keys("space");
    snap("sample_busy", &mut desk);
}

#[test]
fn models_adapters_and_servers_take_turns() {
    let mut desk = busy(100, 40);
    desk.keys("s");
    assert!(!desk.screen().contains("reward-1"), "a reward model writes no answers:\n{}", desk.screen());
    focus(&mut desk, "tiny");
    desk.keys("space");
    focus(&mut desk, "dpo-1");
    desk.keys("space enter");
    assert!(desk.effects().is_empty());
    assert!(desk.screen().contains("3 models take turns, but a prompt gets 2 answers"), "{}", desk.screen());
    focus(&mut desk, "another");
    desk.type_text("http://127.0.0.1:9/v1");
    desk.keys("enter");
    let ticket = match desk.effects().as_slice() {
        [Effect::ListServer { ticket, url, .. }] if url == "http://127.0.0.1:9/v1" => *ticket,
        other => panic!("{other:?}"),
    };
    assert!(desk.screen().contains("asking http://127.0.0.1:9/v1"), "{}", desk.screen());
    desk.send(Msg::ServerListed {
        ticket,
        answer: Err("server http://127.0.0.1:9/v1 does not answer: start it".into()),
    });
    assert!(desk.screen().contains("does not answer: start it"), "{}", desk.screen());
    desk.keys("enter");
    let ticket = match desk.effects().as_slice() {
        [Effect::ListServer { ticket, .. }] => *ticket,
        other => panic!("{other:?}"),
    };
    desk.send(Msg::ServerListed { ticket, answer: Ok(vec!["qwen".into(), "phi".into()]) });
    desk.keys("space");
    focus(&mut desk, "per_prompt");
    desk.keys("backspace 4");
    let shown = desk.screen();
    assert!(shown.contains("qwen@127.0.0.1:9 1") && shown.contains("12 pairs, fewer"), "{shown}");
    desk.keys("enter");
    match desk.effects().as_slice() {
        [Effect::Sample(r)] => {
            assert_eq!(r.models, ["SmolLM2-135M-Instruct", "tiny", "http://127.0.0.1:9/v1#qwen"]);
            assert_eq!((r.adapters.as_slice(), r.per_prompt, r.count_seed), (&[RunId::new("dpo-1")][..], 4, true));
        }
        other => panic!("{other:?}"),
    }
    desk.keys("enter");
    assert!(desk.effects().iter().all(|e| !matches!(e, Effect::Sample(_))) || desk.pace_ms >= 3_000);
}

#[test]
fn a_typed_path_completes_and_is_added() {
    let mut desk = busy(100, 40);
    desk.keys("s");
    focus(&mut desk, "another");
    desk.type_text("/mo");
    desk.keys("tab");
    let ticket = match desk.effects().as_slice() {
        [Effect::CompletePath { ticket, text }] if text == "/mo" => *ticket,
        other => panic!("{other:?}"),
    };
    desk.send(Msg::PathCompleted { ticket, options: vec!["/models/a.gguf".into()] });
    desk.keys("enter");
    assert!(desk.screen().contains("[x] a.gguf") || desk.screen().contains("[x] a "), "{}", desk.screen());
}

fn preview() -> PairPreview {
    let stratum = |name: &str, chosen, size| StratumCount { name: name.into(), chosen, size };
    PairPreview {
        chosen: 5,
        of: 12,
        parts: vec![("best_worst".into(), 2), ("random".into(), 3)],
        strata: vec![stratum("kids", 3, 8), stratum("poem", 2, 4)],
        left_out: "6 already paired".into(),
    }
}

/// The preview that the screen asked for last.
fn asked(desk: &mut Desk) -> (u64, tiebreak::app::PairRequest) {
    let last = desk.effects().into_iter().rev().find_map(|e| match e {
        Effect::PreviewPairs { ticket, request } => Some((ticket, request)),
        _ => None,
    });
    last.expect("a preview is asked for")
}

#[test]
fn pairing_in_its_states() {
    let mut loading = Desk::new(80, 24);
    loading.send(Msg::SessionsListed(cards()));
    loading.send(Msg::SessionOpened(crate::support::opened("story-tone")));
    loading.keys("P");
    snap("pair_loading", &mut loading);
    let mut empty = Desk::with_session(80, 24, Vec::new());
    empty.keys("P");
    snap("pair_empty", &mut empty);
    let mut desk = busy(80, 24);
    desk.keys("P");
    let (ticket, _) = asked(&mut desk);
    desk.send(Msg::PairsPreviewed { ticket, answer: Ok(Box::new(preview())) });
    snap("pair_busy", &mut desk);
}

#[test]
fn a_strategy_with_scores_quotas_and_a_band_is_asked_for_by_keys() {
    let mut desk = busy(100, 40);
    desk.keys("P");
    asked(&mut desk);
    while !desk.screen().contains("‹ hard_negatives ›") {
        desk.keys("right");
    }
    assert!(desk.screen().contains("hard_negatives compares scores"), "{}", desk.screen());
    desk.keys("enter");
    assert!(desk.effects().iter().all(|e| !matches!(e, Effect::Pair(_))), "nothing starts without scores");
    focus(&mut desk, "score");
    while !desk.screen().contains("‹ reward-1 ›") {
        desk.keys("right");
    }
    focus(&mut desk, "against");
    while !desk.screen().contains("‹ band ›") {
        desk.keys("right");
    }
    focus(&mut desk, "limit");
    desk.keys("7");
    focus(&mut desk, "across");
    desk.keys("space");
    desk.pass(1000);
    let (ticket, request) = asked(&mut desk);
    assert_eq!((request.score.as_deref(), request.against.as_str()), (Some("reward-1"), "0.5..2"));
    assert_eq!((request.limit, request.across, request.strategy.as_str()), (Some(7), true, "hard_negatives"));
    desk.send(Msg::PairsPreviewed { ticket, answer: Ok(Box::new(preview())) });
    desk.keys("enter");
    assert_eq!(desk.effects(), [Effect::Pair(request)]);
    desk.send(Msg::PairsAdded(Ok("5 pairs of 12 chosen by hard_negatives".into())));
    assert!(desk.screen().contains("added 5 pairs"), "{}", desk.screen());
}

#[test]
fn typed_quotas_are_words_of_the_command() {
    let mut desk = busy(100, 40);
    desk.keys("P");
    asked(&mut desk);
    while !desk.screen().contains("‹ stratified ›") {
        desk.keys("right");
    }
    focus(&mut desk, "quota");
    while !desk.screen().contains("‹ by number ›") {
        desk.keys("right");
    }
    focus(&mut desk, "numbers");
    desk.type_text("kids=2; poem=90");
    desk.pass(1000);
    let (ticket, request) = asked(&mut desk);
    assert_eq!((request.quota, request.by), (vec!["kids=2".to_owned(), "poem=90".into()], vec!["tag".to_owned()]));
    let why = "the quota of 90 for poem is larger than the stratum: it has 4 pairs";
    desk.send(Msg::PairsPreviewed { ticket, answer: Err(why.into()) });
    assert!(desk.screen().contains(why), "{}", desk.screen());
    desk.keys("enter");
    assert!(desk.effects().is_empty(), "nothing starts");
}

#[test]
fn scoring_in_its_states_and_by_keys() {
    let mut loading = Desk::new(80, 24);
    loading.send(Msg::SessionsListed(cards()));
    loading.send(Msg::SessionOpened(crate::support::opened("story-tone")));
    loading.keys("M");
    snap("score_loading", &mut loading);
    let mut empty = Desk::with_session(80, 24, Vec::new());
    empty.keys("M");
    snap("score_empty", &mut empty);
    let mut desk = busy(80, 24);
    desk.keys("M");
    assert!(desk.screen().contains("0 of 12 answers without a score by reward-1"), "{}", desk.screen());
    desk.keys("right");
    focus(&mut desk, "vote");
    desk.keys("space enter");
    match desk.effects().as_slice() {
        [Effect::Score(request)] => assert_eq!((request.with.as_str(), request.vote), ("dpo-1", true)),
        other => panic!("{other:?}"),
    }
    let progress = ScoreProgress { by: "dpo-1".into(), what: "answers".into(), done: 5, total: 12 };
    desk.send(Msg::ScoreProgressed(progress));
    snap("score_busy", &mut desk);
    desk.keys("ctrl-x");
    assert_eq!(desk.effects(), [Effect::StopScoring]);
    desk.send(Msg::ScoreEnded(Err("scoring was stopped after 5 answers: what was scored is kept".into())));
    assert!(desk.screen().contains("what was scored is kept"), "{}", desk.screen());
}
