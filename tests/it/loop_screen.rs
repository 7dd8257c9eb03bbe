//! The loop screen in its states at four sizes, and what its keys ask for.

use crate::support::{BEGIN_MS, Desk, pairs, sampling};
use tiebreak::app::{Effect, Msg};
use tiebreak::domain::{
    Choice, CompletionId, Conclusion, EvalReport, JudgeReport, LoopRows, LoopSpec, Pair, PairId, Params, Plan,
    PromptId, Rater, RunId, Sampler, Seen, Side, Strength, Verdict, method,
};
use tiebreak::protocol::{
    DataSnapshot, Envelope, EvalSide, EvalSpec, ModelRef, RunEvent, RunSpec, SessionRecord, Task, TrainSpec,
};

const SIZES: [(u16, u16); 4] = [(80, 24), (120, 40), (60, 16), (200, 60)];
const RATER: &str = "check:contains=please";

fn snap(name: &str, desk: &mut Desk) {
    for (w, h) in SIZES {
        desk.send(Msg::Resize(w, h));
        insta::with_settings!({ snapshot_path => "../snapshots", prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(format!("{name}_{w}x{h}"), desk.screen());
        });
    }
}

fn spec(name: &str, judge: &str) -> LoopSpec {
    LoopSpec {
        name: name.into(),
        rounds: 3,
        init: None,
        judge: judge.into(),
        rater: (judge != "human").then(|| Rater::model(RATER)),
        tie_band: None,
        strategy: "best_worst".into(),
        score: Some("checks:contains=please".into()),
        limit: None,
        method: "dpo".into(),
        params: Params::defaults(&method("dpo").unwrap().rows()),
        rows: LoopRows::Round,
        suites: Vec::new(),
        eval_judge: RATER.into(),
        eval_limit: None,
        data: None,
        held_out: 0.2,
        prompts: 6,
        prompts_per_round: 2,
        per_prompt: 4,
        sampler: Sampler::default(),
        all_rounds: false,
        device: "auto".into(),
    }
}

/// A pair of a round, and the rule's verdict on it where it is judged.
fn chosen(spec: &LoopSpec, round: u32, n: usize, judged: Option<Choice>) -> Vec<SessionRecord> {
    let prompt = PromptId::new(format!("p{}", 2 * round as usize + n - 1));
    let pair = Pair {
        id: spec.pair_id(round, &prompt, n),
        prompt: prompt.clone(),
        a: CompletionId::new(format!("{prompt}.0")),
        b: CompletionId::new(format!("{prompt}.1")),
        strategy: "best_worst".into(),
        p_select: 0.5,
    };
    let verdict = judged.map(|choice| verdict(&pair.id, &Rater::model(RATER), choice));
    std::iter::once(SessionRecord::Paired(pair.into()))
        .chain(verdict.map(|verdict| SessionRecord::Judged(verdict.into())))
        .collect()
}

fn verdict(pair: &PairId, rater: &Rater, choice: Choice) -> Verdict {
    Verdict {
        pair: pair.clone(),
        rater: rater.clone(),
        choice,
        left: Side::A,
        seen: Seen::Unknown,
        ms: 0,
        winner_hash: None,
        asked: tiebreak::domain::Asked::default(),
        showing: tiebreak::domain::Showing::default(),
    }
}

fn events(desk: &mut Desk, id: &RunId, task: Task, events: Vec<RunEvent>, alive: bool) {
    let spec = RunSpec { id: id.clone(), task, ..sampling("any") };
    desk.send(Msg::RunFound(Box::new(spec)));
    let records = events.into_iter().enumerate();
    let records = records.map(|(i, e)| Envelope { n: i as u64 + 1, m: i as u64, w: BEGIN_MS, data: Ok(e) }).collect();
    desk.send(Msg::RunRecords { run: id.clone(), records });
    desk.send(Msg::RunAlive { run: id.clone(), alive });
}

fn started() -> RunEvent {
    RunEvent::Started { attempt: 1, pid: 1, device: "CPU".into(), from_step: None }
}

fn finished() -> Vec<RunEvent> {
    vec![started(), RunEvent::Finished { step: 3, state: String::new() }]
}

fn training() -> Task {
    let data = DataSnapshot { file: "data.jsonl".into(), sha256: "0".repeat(64), rows: 4, session_seq: 4 };
    let model = ModelRef { name: "tiny".into(), path: "models/tiny".into() };
    Task::Train(TrainSpec::new("dpo", model, Params::defaults(&method("dpo").unwrap().rows()), data))
}

fn evaluation() -> Task {
    let side = |name: &str| EvalSide { name: name.into(), model: None, adapter: None, server: None };
    Task::Eval(EvalSpec { a: side("a"), b: side("b"), suites: Vec::new(), judges: Vec::new(), seeds: 1 })
}

fn report(rate: f64, interval: [f64; 2]) -> EvalReport {
    let judge = JudgeReport {
        judge: RATER.into(),
        suite: "winrate".into(),
        comparisons: 40,
        prompts: 40,
        wins: 20,
        ties: 10,
        losses: 10,
        unjudged: 0,
        rate: Some(rate),
        interval: Some(interval),
        conclusion: Conclusion { word: "better", detail: None },
        p: None,
        p_corrected: None,
        mean_chars: [10.0, 10.0],
        length_controlled: None,
        length_undefined: None,
        consistency: None,
        position_bias: None,
        position_logit: None,
        accuracy: None,
        gate: Vec::new(),
        not_headline: Vec::new(),
    };
    EvalReport { judges: vec![judge], ..EvalReport::default() }
}

/// Answers the screen's question for the figures of a round.
fn answer(desk: &mut Desk, run: &RunId, report: EvalReport) {
    let asked = desk.effects().into_iter().find_map(|effect| match effect {
        Effect::EvalReport { ticket, run: asked, .. } if asked == *run => Some(ticket),
        _ => None,
    });
    let ticket = asked.unwrap_or_else(|| panic!("nobody asked for the figures of {run}"));
    desk.send(Msg::EvalReportReady { ticket, answer: Ok(Box::new(report)) });
}

/// Round 1 is done and better, round 2 trains.
fn busy() -> Desk {
    let spec = spec("loop-1", "check:contains=please");
    let mut records = pairs(6);
    records.push(SessionRecord::LoopPlanned(Box::new(spec.clone())));
    let better = Choice::Prefer(Side::A, Strength::Better);
    for round in 1..=2 {
        records.extend(chosen(&spec, round, 0, Some(better)));
        records.extend(chosen(&spec, round, 1, Some(if round == 1 { Choice::Tie } else { better })));
    }
    let mut desk = Desk::with_session(80, 24, records);
    let sample = sampling("any").task;
    for round in 1..=2 {
        events(&mut desk, &spec.sampling(round), sample.clone(), finished(), false);
    }
    events(&mut desk, &spec.training(1), training(), finished(), false);
    events(&mut desk, &spec.evaluation(1), evaluation(), finished(), false);
    let plan = RunEvent::Planned(Plan { total_steps: 40, train_rows: 2, ..Plan::default() });
    let step = RunEvent::Stepped { step: 12, epoch: 0.3, metrics: tiebreak::domain::Metrics::new() };
    events(&mut desk, &spec.training(2), training(), vec![started(), plan, step], true);
    desk.send(Msg::LoopAlive { name: "loop-1".into(), alive: true });
    desk.keys("O");
    desk
}

#[test]
fn the_loop_screen_without_a_loop_and_before_the_session_is_read() {
    let mut desk = Desk::with_session(80, 24, pairs(6));
    desk.keys("O");
    snap("loop_empty", &mut desk);
    let mut desk = Desk::with_session(80, 24, pairs(6));
    desk.keys("O");
    if let Some(open) = &mut desk.model.open {
        open.loaded = false;
    }
    snap("loop_loading", &mut desk);
}

#[test]
fn the_rounds_show_while_they_go_on_and_their_figures_are_asked_for_once() {
    let mut desk = busy();
    let spec = spec("loop-1", "check:contains=please");
    answer(&mut desk, &spec.evaluation(1), report(0.675, [0.55, 0.8]));
    snap("loop_busy", &mut desk);
    desk.keys("esc O");
    answer(&mut desk, &spec.evaluation(1), report(0.675, [0.55, 0.8]));
    desk.pass(2_000);
    let again = desk.effects().into_iter().any(|effect| matches!(effect, Effect::EvalReport { .. }));
    assert!(!again, "the figures were asked for twice");
    desk.keys("S");
    assert!(desk.effects().contains(&Effect::StopLoop { name: "loop-1".into() }));
    desk.send(Msg::LoopAlive { name: "loop-1".into(), alive: false });
    desk.keys("S");
    assert!(desk.effects().is_empty() && desk.screen().contains("no loop is running"));
    desk.keys("R");
    assert!(desk.effects().contains(&Effect::ResumeLoop { name: "loop-1".into() }));
}

#[test]
fn a_round_that_is_not_better_ends_the_loop_on_the_screen_too() {
    let mut desk = busy();
    let spec = spec("loop-1", "check:contains=please");
    answer(&mut desk, &spec.evaluation(1), report(0.55, [0.45, 0.65]));
    let text = desk.screen();
    // Round 2 has begun all the same, but the loop's first gap is round 1's interval.
    assert!(text.contains("ended after round 1 of 3") && text.contains("cannot tell"), "{text}");
    desk.send(Msg::LoopAlive { name: "loop-1".into(), alive: false });
    desk.keys("R");
    assert!(desk.screen().contains("it has ended"));
}

#[test]
fn what_waits_for_people_leads_to_the_label_screen() {
    let spec = spec("loop-1", "human");
    let mut records = pairs(6);
    records.push(SessionRecord::LoopPlanned(Box::new(spec.clone())));
    records.extend(chosen(&spec, 1, 0, None));
    records.extend(chosen(&spec, 1, 1, None));
    let mut desk = Desk::with_session(80, 24, records);
    events(&mut desk, &spec.sampling(1), sampling("any").task, finished(), false);
    desk.keys("O");
    snap("loop_waits", &mut desk);
    desk.keys("enter");
    assert_eq!(desk.model.screen.any().name(), "label");
}

#[test]
fn the_form_plans_asks_the_shell_and_starts() {
    let mut desk = Desk::with_session(80, 24, pairs(6));
    desk.keys("O n");
    assert!(desk.screen().contains("name what the judge check goes by"));
    desk.keys("enter");
    assert!(!desk.effects().iter().any(|e| matches!(e, Effect::StartLoop(_))), "it cannot start yet");
    desk.keys("down down down");
    desk.type_text("contains=please");
    desk.pass(500);
    let asked = desk.effects().into_iter().find_map(|effect| match effect {
        Effect::PlanLoop { ticket, request } => Some((ticket, request)),
        _ => None,
    });
    let (ticket, request) = asked.expect("a plan was asked for");
    assert_eq!((request.judge.as_str(), request.rounds, request.method.as_str()), ("check:contains=please", 3, "dpo"));
    let plan =
        vec!["loop-1 of session story-tone: 3 rounds, from the session's model".to_owned(), "pair      random".into()];
    desk.send(Msg::LoopPlanned { ticket, answer: Ok(plan) });
    snap("loop_form", &mut desk);
    desk.send(Msg::LoopPlanned { ticket: ticket + 7, answer: Err("an answer to another question".into()) });
    assert!(!desk.screen().contains("another question"));
    desk.keys("enter");
    let started = desk.effects().into_iter().filter(|effect| matches!(effect, Effect::StartLoop(_))).count();
    assert_eq!(started, 1);
    let form = LoopSpec::name_problem("../x");
    assert!(form.is_some() && LoopSpec::name_problem("loop-1").is_none());
}
