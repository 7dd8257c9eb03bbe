//! The evaluate screen: its states, the items side by side, the way of losses to the label queue, and the form.

use crate::support::{BEGIN_MS, Desk, envelopes, pairs};
use tiebreak::app::screen::replay::Timeline;
use tiebreak::app::{Effect, EvalEstimate, EvalRequest, Goal, Msg, Show, SuiteFiles, update};
use tiebreak::domain::{
    Comparison, Contestant, EvalAnswer, Finding, Finish, ItemKey, Measurement, Metrics, Num, Params, Plan, PromptBody,
    RunId, RunStatus, Sampler, Severity, eval_report, mix64,
};
use tiebreak::protocol::{
    DataSnapshot, EvalSide, EvalSpec, Inputs, JudgeSpec, ModelRef, RunCommand, RunEvent, RunSpec, SessionRecord,
    SuiteSpec, Task, TrainSpec,
};

const SIZES: [(u16, u16); 3] = [(80, 24), (120, 40), (60, 16)];
const JUDGES: [&str; 2] = ["check:contains=blue", "llm:qwen3-8b"];

fn snap(name: &str, desk: &mut Desk) {
    for (w, h) in SIZES {
        desk.send(Msg::Resize(w, h));
        insta::with_settings!({ snapshot_path => "../snapshots", prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(format!("evaluate_{name}_{w}x{h}"), desk.screen());
        });
    }
}

fn data(file: &str, rows: usize) -> DataSnapshot {
    DataSnapshot { file: file.into(), sha256: "0".repeat(64), rows, session_seq: 60 }
}

fn model() -> ModelRef {
    ModelRef { name: "SmolLM2-135M-Instruct".into(), path: "models/smollm2".into() }
}

fn spec(id: &str, task: Task) -> RunSpec {
    RunSpec {
        id: RunId::new(id),
        task,
        device: "cpu".into(),
        created_ms: BEGIN_MS,
        app: "test".into(),
        inputs: Inputs::default(),
    }
}

fn evaluation(id: &str) -> RunSpec {
    let side = |name: &str, run: Option<&str>| EvalSide {
        name: name.into(),
        model: Some(model()),
        adapter: run.map(RunId::new),
        server: None,
    };
    let judge = |kind: &str, checks: Option<&str>| JudgeSpec {
        kind: kind.into(),
        run: None,
        model: checks.is_none().then(|| ModelRef { name: "qwen3-8b".into(), path: "models/qwen3".into() }),
        server: None,
        checks: checks.map(str::to_owned),
        gate: Vec::new(),
    };
    let suite = |name: &str, rows| SuiteSpec {
        name: name.into(),
        data: data("suite-1.dat", rows),
        file: "session".into(),
        sampler: Sampler { temperature: 0.0, max_new_tokens: 512, ..Sampler::default() },
        limit: None,
    };
    let spec_of = EvalSpec {
        a: side("dpo-1", Some("dpo-1")),
        b: side("SmolLM2-135M-Instruct", None),
        suites: vec![suite("winrate", 40), suite("ifeval", 30)],
        judges: vec![judge("check", Some("contains=blue")), judge("llm", None)],
        seeds: 1,
    };
    spec(id, Task::Eval(spec_of))
}

fn trained(id: &str) -> RunSpec {
    let params = Params::defaults(&tiebreak::domain::method("dpo").unwrap().rows());
    spec(id, Task::Train(TrainSpec::new("dpo", model(), params, data("data.jsonl", 41))))
}

fn key(suite: &str, item: usize) -> ItemKey {
    ItemKey { suite: suite.into(), item: format!("p{item}"), seed: 0 }
}

/// The log of an evaluation after so many items of the suite on prompts; none has judged before all are answered.
fn log(items: usize, of: usize) -> Vec<RunEvent> {
    let mut out = vec![
        RunEvent::Started { attempt: 1, pid: 7, device: "CPU · 2 threads".into(), from_step: None },
        RunEvent::Planned(Plan { total_steps: 220, train_rows: 70, ..Plan::default() }),
    ];
    let mut step = 0;
    let mut stepped = |out: &mut Vec<RunEvent>| {
        step += 1;
        out.push(RunEvent::Stepped { step, epoch: 0.0, metrics: Metrics::new() });
    };
    for side in Contestant::BOTH {
        for item in 1..=items {
            // The base answers at length and misses the word in a third.
            let misses = mix64(item as u64).is_multiple_of(if side == Contestant::A { 5 } else { 3 });
            let word = if misses { "grey" } else { "blue" };
            let text = match side {
                Contestant::A => {
                    format!("Air scatters **{word}** light.\n\n1. It bounces.\n2. It reaches your eyes, {item}.")
                }
                Contestant::B if item == 4 => {
                    "Air scatters **blue** light.\n\n1. It bounces.\n2. It reaches your eyes, 4.".into()
                }
                Contestant::B => {
                    format!("The sky is {word} because of a process called Rayleigh scattering, prompt {item}.")
                }
            };
            let chars = text.len();
            let mut values = Metrics::new();
            values.set("words", text.split_whitespace().count() as f64);
            values.set("cut", f64::from(u8::from(item % 9 == 0)));
            out.push(RunEvent::EvalAnswered(Box::new(EvalAnswer {
                key: key("winrate", item),
                side,
                prompt: PromptBody::user(format!("Why is the sky blue, and what has it to do with question {item}?")),
                text,
                tokens: chars / 4,
                finish: if item % 9 == 0 { Finish::Length } else { Finish::Eos },
                source: "s".into(),
                reused: side == Contestant::B && item <= 10,
            })));
            let cluster = format!("c{item}");
            out.push(RunEvent::Measured(Measurement { key: key("winrate", item), side, cluster, values }));
            stepped(&mut out);
        }
    }
    if items < of {
        return out;
    }
    for side in Contestant::BOTH {
        for item in 1..=30 {
            let mut values = Metrics::new();
            let followed = mix64(item + 50).is_multiple_of(if side == Contestant::A { 2 } else { 4 });
            values.set("prompt_strict", f64::from(u8::from(followed)));
            let cluster = format!("i{item}");
            out.push(RunEvent::Measured(Measurement { key: key("ifeval", item as usize), side, cluster, values }));
            stepped(&mut out);
        }
    }
    for judge in JUDGES {
        for item in 1..=items {
            let lot = mix64(item as u64 * 7 + judge.len() as u64) % 10;
            let p = if lot < 5 {
                1.0
            } else if lot < 7 {
                0.5
            } else {
                0.0
            };
            let llm = judge.starts_with("llm");
            let first = llm.then_some(Num(if item % 3 == 0 { 0.9 } else { p }));
            out.push(RunEvent::Compared(Comparison {
                key: key("winrate", item),
                judge: judge.into(),
                cluster: format!("c{item}"),
                p: (item != 3 || llm).then_some(Num(p)),
                a_first: first,
                b_first: llm.then_some(Num(p)),
                chars: [60 + item % 7, 70 + item % 11],
                problem: (item == 3 && !llm).then(|| "the answer is empty".into()),
                reference: None,
                difference: None,
            }));
            stepped(&mut out);
        }
    }
    out
}

fn finished(mut events: Vec<RunEvent>) -> Vec<RunEvent> {
    events.push(RunEvent::Found(Finding {
        rule: "longer".into(),
        step: 220,
        severity: Severity::Warn,
        text: "Answers of SmolLM2-135M-Instruct are longer.".into(),
        remedy: "Read the win rate at equal length.".into(),
        pair: None,
    }));
    events.push(RunEvent::Finished { step: 220, state: "00".into() });
    events
}

/// The screen with these runs, opened by its key; requests for figures are answered as the shell does.
fn opened(runs: Vec<(RunSpec, Vec<RunEvent>, bool)>) -> Desk {
    let launched = runs.iter().map(|(spec, ..)| SessionRecord::Launched(Box::new(spec.clone())));
    let mut desk = Desk::with_session(80, 24, pairs(6).into_iter().chain(launched).collect());
    for (spec, events, alive) in runs {
        let run = spec.id.clone();
        desk.send(Msg::RunFound(Box::new(spec)));
        desk.send(Msg::RunRecords { run: run.clone(), records: envelopes(&events) });
        desk.send(Msg::RunAlive { run, alive });
    }
    desk.effects();
    desk.keys("E");
    desk
}

/// Answers the last request for figures. False without one.
fn answer(desk: &mut Desk) -> bool {
    let asked = desk.effects().into_iter().rev().find_map(|effect| match effect {
        Effect::EvalReport { ticket, run, upto: None } => Some((ticket, run)),
        _ => None,
    });
    let Some((ticket, run)) = asked else { return false };
    let open = desk.model.open.as_ref().unwrap();
    let report = eval_report(&open.run(&run).unwrap().state.eval, &[0.2]);
    desk.send(Msg::EvalReportReady { ticket, answer: Ok(Box::new(report)) });
    true
}

#[test]
fn evaluate_in_its_states() {
    let mut desk = opened(Vec::new());
    snap("empty", &mut desk);
    let mut desk = opened(vec![(evaluation("eval-1"), log(0, 40)[..2].to_vec(), true)]);
    snap("loading", &mut desk);
    let mut desk = opened(vec![(evaluation("eval-1"), log(12, 40), true)]);
    snap("computing", &mut desk);
    assert!(answer(&mut desk));
    snap("running", &mut desk);
    let mut desk = opened(vec![(evaluation("eval-1"), finished(log(40, 40)), false)]);
    assert!(answer(&mut desk));
    snap("finished", &mut desk);
    let mut events = log(12, 40);
    let error = "eval-1: the model in models/smollm2 is gone: put it back, then resume".to_owned();
    events.push(RunEvent::Failed { step: 24, error });
    let mut desk =
        opened(vec![(evaluation("eval-1"), finished(log(40, 40)), false), (evaluation("eval-2"), events, false)]);
    assert!(answer(&mut desk));
    snap("failed", &mut desk);
}

#[test]
fn figures_are_computed_again_at_most_once_a_second() {
    let mut desk = opened(vec![(evaluation("eval-1"), log(12, 40), true)]);
    assert!(answer(&mut desk));
    let more = |desk: &mut Desk, n: u64| {
        let mut event = envelopes(&[RunEvent::Stepped { step: n, epoch: 0.0, metrics: Metrics::new() }]);
        event[0].n = 1000 + n;
        desk.send(Msg::RunRecords { run: RunId::new("eval-1"), records: event });
    };
    more(&mut desk, 25);
    assert!(!answer(&mut desk), "the last computation is younger than a second");
    desk.pass(1_000);
    assert!(answer(&mut desk), "what was logged since is computed");
    desk.pass(5_000);
    assert!(!answer(&mut desk), "nothing is new");
    more(&mut desk, 26);
    assert!(desk.effects().iter().any(|effect| matches!(effect, Effect::EvalReport { .. })));
    desk.pass(3_000);
    more(&mut desk, 27);
    assert!(!answer(&mut desk), "a second request waits for the first answer");
}

#[test]
fn items_show_both_answers_and_follow_the_filter() {
    let mut desk = opened(vec![(evaluation("eval-1"), finished(log(40, 40)), false)]);
    desk.keys("enter f");
    snap("losses", &mut desk);
    let losses = desk.screen();
    desk.keys("right");
    assert_ne!(losses, desk.screen(), "the next item shows");
    desk.keys("f f f");
    assert!(desk.screen().contains("judges disagree"), "{}", desk.screen());
    desk.keys("esc");
    assert!(!desk.screen().contains("judges disagree"));
}

#[test]
fn losses_become_pairs_of_the_session_once() {
    let mut desk = opened(vec![(evaluation("eval-1"), finished(log(40, 40)), false)]);
    let before = desk.session().pairs().len();
    desk.keys("l");
    let sent = desk.session().pairs().len() - before;
    assert!(sent > 3, "{sent}");
    let shown = desk.screen();
    assert!(shown.contains(&format!("{sent} pairs in the label queue")), "{shown}");
    assert!(shown.contains("no longer held out"), "{shown}");
    let of = |desk: &Desk| {
        let pairs = desk.session().pairs().iter().filter(|pair| pair.strategy == "evaluation losses");
        pairs.map(|pair| pair.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(of(&desk).len(), sent);
    assert!(of(&desk).iter().all(|id| id.starts_with("eval-1/winrate/p")));
    assert_eq!(desk.replayed().pairs().len(), desk.session().pairs().len(), "what is on disk is what shows");
    let known = desk.session().prompts().len();
    desk.keys("l");
    assert!(desk.screen().contains("no pair is new"), "{}", desk.screen());
    assert_eq!((desk.session().pairs().len(), desk.session().prompts().len()), (before + sent, known));
    let queued = desk.model.open.as_ref().unwrap().queue.len();
    assert_eq!(queued, before + sent, "they wait for a verdict");
}

#[test]
fn a_read_only_session_takes_no_losses() {
    let mut desk = opened(vec![(evaluation("eval-1"), finished(log(40, 40)), false)]);
    desk.model.open.as_mut().unwrap().read_only = Some("another window".into());
    let before = desk.session().pairs().len();
    desk.keys("l");
    assert!(desk.screen().contains("read-only: another window"), "{}", desk.screen());
    assert_eq!(desk.session().pairs().len(), before);
}

fn plan(desk: &mut Desk) -> Option<(u64, EvalRequest)> {
    desk.effects().into_iter().rev().find_map(|effect| match effect {
        Effect::PlanEvaluation { ticket, request } => Some((ticket, request)),
        _ => None,
    })
}

#[test]
fn the_form_plans_and_starts_once() {
    let done = |events: &mut Vec<RunEvent>| events.push(RunEvent::Finished { step: 4, state: "1".into() });
    let mut events = vec![RunEvent::Started { attempt: 1, pid: 7, device: "CPU · 2 threads".into(), from_step: None }];
    done(&mut events);
    let mut desk = opened(vec![(trained("dpo-1"), events, false)]);
    desk.keys("n");
    let files = desk.effects.iter().find_map(|effect| match effect {
        Effect::FindSuites { ticket, folder: None } => Some(*ticket),
        _ => None,
    });
    let found = vec![("ifeval".to_owned(), "ifeval_input_data.jsonl".to_owned())];
    let files = (files.expect("it looks for the suites"), SuiteFiles { folder: "/sets".into(), exists: true, found });
    desk.send(Msg::SuitesFound { ticket: files.0, files: files.1 });
    let (ticket, request) = plan(&mut desk).expect("it is planned at once");
    assert_eq!((request.a.as_str(), request.b.clone()), ("dpo-1", None));
    assert_eq!(request.suites, ["winrate"]);
    let answer = Err("a contestant was trained on every prompt of session story-tone: name unseen ones".to_owned());
    desk.send(Msg::EvaluationPlanned { ticket, answer });
    snap("form_refused", &mut desk);
    desk.keys("enter");
    assert!(!desk.effects().iter().any(|effect| matches!(effect, Effect::Evaluate(_))));
    // Further down: a suite, a judge with checks, a limit.
    while !focused(&desk, "ifeval") {
        desk.keys("down");
    }
    desk.keys("space");
    while !focused(&desk, "check ") {
        desk.keys("down");
    }
    desk.type_text("contains=the sky");
    while !focused(&desk, "limit") {
        desk.keys("tab");
    }
    desk.type_text("3o");
    assert!(desk.screen().contains("limit is `3o`: write a whole number"), "{}", desk.screen());
    desk.keys("ctrl-u");
    desk.type_text("3");
    while !focused(&desk, "template") {
        desk.keys("tab");
    }
    desk.type_text("{\"enable_thinking\": no}");
    assert!(desk.screen().contains("template: expected a JSON object"), "{}", desk.screen());
    desk.keys("ctrl-u");
    desk.type_text("{\"enable_thinking\": false}");
    desk.pass(500);
    let (ticket, request) = plan(&mut desk).expect("it is planned again");
    assert_eq!(request.suites, ["ifeval", "winrate"]);
    assert_eq!(request.judges, ["check:contains=the sky"]);
    assert_eq!(request.limit, Some(3));
    assert_eq!(serde_json::Value::from(request.variables), serde_json::json!({"enable_thinking": false}));
    let estimate = EvalEstimate {
        names: ["dpo-1".into(), "SmolLM2-135M-Instruct".into()],
        suites: vec![("ifeval".into(), 3), ("winrate".into(), 3)],
        answers: 12,
        known: 6,
        notes: vec!["4 prompts of session story-tone left out: a contestant was trained on them".into()],
    };
    desk.send(Msg::EvaluationPlanned { ticket, answer: Ok(estimate) });
    snap("form_ready", &mut desk);
    desk.keys("enter");
    let started =
        |desk: &mut Desk| desk.effects().into_iter().filter(|effect| matches!(effect, Effect::Evaluate(_))).count();
    assert_eq!(started(&mut desk), 1);
    desk.send(Msg::Key(crate::support::key("enter")));
    assert_eq!(started(&mut desk), 0, "a second enter starts no second one");
    desk.send(Msg::Launched { run: RunId::new("eval-1") });
    desk.send(Msg::RunFound(Box::new(evaluation("eval-1"))));
    assert!(desk.screen().contains("evaluate eval-1"), "{}", desk.screen());
}

/// Whether the row that begins with this word has the focus: it alone is in the accent's colour.
fn focused(desk: &Desk, word: &str) -> bool {
    use ratatui::{buffer::Buffer, layout::Rect, style::Color};
    let (w, h) = desk.model.size;
    let mut buf = Buffer::empty(Rect::new(0, 0, w, h));
    let area = buf.area;
    tiebreak::ui::paint(&mut buf, area, &desk.model);
    (1..h - 2).any(|y| {
        let row: String = (0..w).map(|x| buf[(x, y)].symbol()).collect();
        let text = row.trim_start_matches([' ', '[', ']', 'x']);
        let at = (row.chars().count() - text.chars().count()) as u16;
        text.starts_with(word) && at < 10 && buf[(at, y)].fg == Color::Cyan
    })
}

#[test]
fn keys_pause_stop_and_resume_the_run() {
    let mut desk = opened(vec![(evaluation("eval-1"), log(12, 40), true)]);
    let run = RunId::new("eval-1");
    desk.effects();
    desk.keys("p");
    assert!(desk.effects().contains(&Effect::Command { run: run.clone(), command: RunCommand::Pause }));
    desk.keys("S y");
    assert!(desk.effects().contains(&Effect::Command { run: run.clone(), command: RunCommand::Stop }));
    desk.send(Msg::RunAlive { run: run.clone(), alive: false });
    let status = desk.model.open.as_ref().unwrap().run(&run).unwrap().status();
    assert_eq!(status, RunStatus::Lost);
    desk.keys("R");
    assert!(desk.effects().contains(&Effect::ResumeRun { run }));
}

#[test]
fn a_replay_shows_the_figures_as_they_were() {
    let mut desk = opened(vec![(evaluation("eval-1"), finished(log(40, 40)), false)]);
    let effects = tiebreak::app::follow(&mut desk.model, tiebreak::app::Next::go(Goal::with("replay", Show::Default)));
    let [Effect::ReadTimeline { ticket, runs, .. }] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(*runs, [RunId::new("eval-1")]);
    let spec = evaluation("eval-1");
    let logs = vec![(spec.id.clone(), envelopes(&finished(log(40, 40))))];
    let timeline = Timeline::merge(envelopes(&[SessionRecord::Launched(Box::new(spec))]), logs);
    desk.send(Msg::TimelineRead { ticket: *ticket, answer: Ok(Box::new(timeline)) });
    desk.effects();
    desk.keys("end");
    desk.pass(300);
    let asked = desk.effects().into_iter().find_map(|effect| match effect {
        Effect::EvalReport { ticket, run, upto: Some(upto) } => Some((ticket, run, upto)),
        _ => None,
    });
    let (ticket, run, upto) = asked.expect("the figures at the cursor are computed");
    assert_eq!(upto, finished(log(40, 40)).len() as u64);
    let open = desk.model.open.as_ref().unwrap();
    let report = Box::new(eval_report(&open.run(&run).unwrap().state.eval, &[]));
    update(&mut desk.model, Msg::EvalReportReady { ticket, answer: Ok(report) });
    let shown = desk.screen();
    assert!(shown.contains("win rate of dpo-1") && shown.contains("REPLAY"), "{shown}");
}

#[test]
fn nothing_a_model_wrote_reaches_the_cells_as_control() {
    let mut events = log(4, 40);
    for event in &mut events {
        if let RunEvent::EvalAnswered(answer) = event {
            answer.text = "\u{1b}[31mred\u{7}\u{202e}".into();
        }
    }
    let mut desk = opened(vec![(evaluation("eval-1"), events, true)]);
    desk.keys("enter");
    let shown = desk.screen();
    assert!(shown.contains("red"), "{shown}");
    assert!(shown.chars().all(|c| c == '\n' || !c.is_control() && c != '\u{202e}'), "{shown:?}");
    desk.keys("l");
    assert!(desk.log.iter().any(|record| matches!(record, SessionRecord::Paired(_))));
}
