//! The launch, watch and replay screens: records and keys in, cells out.

use insta::assert_snapshot;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use tiebreak::app::screen::replay::Timeline;
use tiebreak::app::{Code, Effect, Goal, Key, Model, Msg, Opened, Show, Theme, update};
use tiebreak::domain::{
    Choice, Completion, CompletionId, Finding, Finish, LogProb, Metrics, Pair, PairId, Params, Plan, Prompt,
    PromptBody, PromptId, Rater, RunId, Sampler, Seen, Severity, Side, Strength, Verdict, method, mix64,
};
use tiebreak::protocol::{
    Damage, DamagedPlace, DataSnapshot, DroppedRows, Envelope, Estimate, Inputs, Integrity, MaskPiece, MaskedRow,
    Masks, ModelRef, RunCommand, RunEvent, RunSpec, SampleSpec, SessionMeta, SessionRecord, Task, TrainSpec,
};

const T0: u64 = 1_750_000_000_000;

/// The sizes of the snapshots; the first is the smallest supported.
const SIZES: [(u16, u16); 4] = [(60, 16), (80, 24), (120, 40), (200, 60)];

/// A log of records with numbers and times.
#[derive(Clone)]
struct Log<T> {
    rows: Vec<Envelope<T>>,
    ms: u64,
}

impl<T> Log<T> {
    fn new(ms: u64) -> Self {
        Self { rows: Vec::new(), ms }
    }

    fn add(&mut self, after_ms: u64, data: T) {
        self.ms += after_ms;
        self.rows.push(Envelope { n: self.rows.len() as u64 + 1, m: self.ms, w: T0 + self.ms, data: Ok(data) });
    }
}

fn tick(ms: u64) -> Msg {
    Msg::Tick { now_ms: ms, clock_ms: ms }
}

fn snapshot_of(file: &str, rows: usize) -> DataSnapshot {
    DataSnapshot { file: file.into(), sha256: "0".repeat(64), rows, session_seq: 9 }
}

fn model_ref() -> ModelRef {
    ModelRef { name: "SmolLM2-135M-Instruct".into(), path: "models/smollm2".into() }
}

fn train_spec(id: &str) -> RunSpec {
    RunSpec {
        id: RunId::new(id),
        task: Task::Train(TrainSpec::new(
            "dpo",
            model_ref(),
            Params::defaults(&method("dpo").unwrap().rows()),
            snapshot_of("data.jsonl", 41),
        )),
        device: "cpu".into(),
        created_ms: T0,
        app: "0.1.0".into(),
        inputs: Inputs::default(),
    }
}

fn sample_spec(id: &str) -> RunSpec {
    RunSpec {
        id: RunId::new(id),
        task: Task::Sample(SampleSpec {
            models: vec![model_ref()],
            servers: Vec::new(),
            adapter: None,
            adapters: Vec::new(),
            per_prompt: 4,
            sampler: Sampler::default(),
            data: snapshot_of("data.jsonl", 30),
            unpaired: false,
        }),
        device: "cpu".into(),
        created_ms: T0,
        app: "0.1.0".into(),
        inputs: Inputs::default(),
    }
}

/// The log of a DPO run of this many steps; `f` may change a step's metrics.
fn train_log(steps: u64, total: u64, f: impl Fn(u64, &mut Metrics)) -> Log<RunEvent> {
    let mut log = Log::new(1_000);
    log.add(0, RunEvent::Started { attempt: 1, pid: 77, device: "CPU · 2 threads".into(), from_step: None });
    log.add(800, plan(total));
    log.add(1_000, RunEvent::Progressed { stage: "reference log-probs".into(), done: 41, total: 41 });
    log.add(
        500,
        RunEvent::Sampled {
            step: 0,
            prompt: "Why is the sky blue?".into(),
            text: "The sky is blue because of Rayleigh scattering, in which shorter wavelengths are scattered more."
                .into(),
            score: None,
        },
    );
    for step in 1..=steps {
        step_events(&mut log, step, total, &f);
    }
    log
}

fn plan(total: u64) -> RunEvent {
    RunEvent::Planned(Plan {
        total_steps: total,
        steps_per_epoch: (total / 3).max(1),
        train_rows: 37,
        eval_rows: 4,
        trainable: 4_884_480,
        parameters: 139_399_488,
        dropped: vec![DroppedRows { reason: "longer than max_length".into(), count: 2 }],
        objective: method("dpo").map(|m| (m.objective)(&Params::defaults(&m.rows()))).unwrap(),
        longest: 312,
    })
}

fn step_events(log: &mut Log<RunEvent>, step: u64, total: u64, f: &impl Fn(u64, &mut Metrics)) {
    let noise = |k: u64| (mix64(step * 31 + k) % 1000) as f64 / 1000.0 - 0.5;
    let t = step as f64 / 120.0;
    let (chosen, rejected) = (0.4 * t.min(1.6) + noise(1) * 0.08, -0.7 * t.min(1.8) + noise(2) * 0.1);
    let mut m = Metrics::new();
    m.set("loss", (std::f64::consts::LN_2 - 0.26 * (1.0 - (-t).exp()) + noise(3) * 0.06).max(0.02));
    m.set("rewards/chosen", chosen);
    m.set("rewards/rejected", rejected);
    m.set("rewards/margins", chosen - rejected);
    m.set("rewards/accuracies", (0.5 + 0.4 * (1.0 - (-t).exp()) + noise(4) * 0.2).clamp(0.0, 1.0));
    m.set("kl/chosen", 0.9 * t + noise(5).abs() * 0.1);
    m.set("grad_norm", 1.6 + noise(6) + if step == 90 { 14.0 } else { 0.0 });
    m.set("learning_rate", 1e-5 * (1.0 - step as f64 / total as f64));
    m.set("num_tokens", (step * 910) as f64);
    f(step, &mut m);
    log.add(5_000, RunEvent::Stepped { step, epoch: step as f64 * 3.0 / total as f64, metrics: m });
    if step.is_multiple_of(50) {
        let mut e = Metrics::new();
        e.set("eval_loss", std::f64::consts::LN_2 - 0.2 * (1.0 - (-t).exp()));
        e.set("eval_rewards/accuracies", 0.75);
        log.add(900, RunEvent::Evaluated { step, metrics: e });
        log.add(300, RunEvent::Checkpointed { step, bytes: 58_000_000 });
        log.add(
            900,
            RunEvent::Sampled {
                step,
                prompt: "Why is the sky blue?".into(),
                text: "Sunlight is made of many colours, and the air bounces the blue light around the most.\u{1b}[31m So\nblue comes to your eyes!".into(),
                score: None,
            },
        );
    }
    if step == 180 {
        log.add(
            10,
            RunEvent::Found(Finding {
                rule: "chosen_falls".into(),
                step: 180,
                severity: Severity::Warn,
                text:
                    "The chosen log-prob is falling (−0.6 nats a token): the margin grows by pushing the rejected down."
                        .into(),
                remedy: "Try a smaller learning rate or orpo.".into(),
                pair: None,
            }),
        );
    }
}

const TEXTS: [(&str, &str); 4] = [
    (
        "Sunlight looks white, but it is made of many colours. The air bounces blue light around the most.",
        "Rayleigh scattering.",
    ),
    (
        "Mix flour, eggs and milk, rest the batter, then fry thin pancakes in butter.",
        "You can make pancakes from flour.",
    ),
    (
        "A transformer attends to every earlier token at once.",
        "It is a robot in disguise that also attends, in its way, to what matters.",
    ),
    (
        "Because the moon pulls the water.",
        "Tides come from the moon's pull and the turning earth; the sun helps a little.",
    ),
];

/// A session's own log: prompts, pairs and verdicts.
fn session_log(verdicts: u64, runs: &[RunSpec]) -> Log<SessionRecord> {
    let mut log = Log::new(0);
    let ask = ["Why is the sky blue?", "How do I make pancakes?", "What is a transformer?", "Why are there tides?"];
    for k in 0..16_u64 {
        let (prompt, i) = (PromptId::new(format!("p{}", k + 1)), k as usize % 4);
        log.add(
            10,
            SessionRecord::Prompted(
                Prompt {
                    id: prompt.clone(),
                    body: PromptBody::user(ask[i]),
                    source: "prompts.txt".into(),
                    tags: [].into(),
                }
                .into(),
            ),
        );
        for (side, text) in [("a", TEXTS[i].0), ("b", TEXTS[i].1)] {
            log.add(
                0,
                SessionRecord::Completed(
                    Completion {
                        turns: [].into(),
                        id: CompletionId::new(format!("i{k}.{side}")),
                        prompt: prompt.clone(),
                        model: "SmolLM2-135M-Instruct".into(),
                        text: format!("{text} ({k})").into(),
                        tokens: text.len() as u32 / 4,
                        finish: Finish::Given,
                        sampler: None,
                        logprob: LogProb::UNKNOWN,
                    }
                    .into(),
                ),
            );
        }
        log.add(
            0,
            SessionRecord::Paired(
                Pair {
                    id: PairId::new(format!("p{}:a-b", k + 1)),
                    prompt,
                    a: CompletionId::new(format!("i{k}.a")),
                    b: CompletionId::new(format!("i{k}.b")),
                    strategy: "random".into(),
                    p_select: 1.0,
                }
                .into(),
            ),
        );
    }
    for k in 0..verdicts {
        let choice = match k % 8 {
            5 => Choice::Tie,
            6 => Choice::BothBad,
            k => Choice::Prefer(if k % 3 == 0 { Side::B } else { Side::A }, Strength::Better),
        };
        log.add(
            7_000,
            SessionRecord::Judged(
                Verdict {
                    pair: PairId::new(format!("p{}:a-b", k + 1)),
                    rater: Rater::new("me"),
                    choice,
                    left: if k % 2 == 0 { Side::A } else { Side::B },
                    seen: Seen::Full,
                    ms: 6_000,
                    winner_hash: None,
                    asked: tiebreak::domain::Asked::default(),
                    showing: tiebreak::domain::Showing::default(),
                }
                .into(),
            ),
        );
    }
    for spec in runs {
        log.add(3_000, SessionRecord::Launched(Box::new(spec.clone())));
    }
    log
}

/// A workbench on a session with these runs, each with its log and whether its worker is alive.
fn open_with(
    goal: Goal,
    theme: Theme,
    session: Log<SessionRecord>,
    runs: Vec<(RunSpec, Log<RunEvent>, bool)>,
    loaded: bool,
) -> (Model, Vec<Effect>) {
    let mut model = Model::new(theme, (80, 24), T0);
    let mut effects = tiebreak::app::begin(&mut model, Some(("story-tone".into(), goal)));
    let meta = SessionMeta {
        format: 1,
        name: "story-tone".into(),
        model: "SmolLM2-135M-Instruct".into(),
        created_ms: T0,
        app: "0.1.0".into(),
    };
    let mut send = |model: &mut Model, msg: Msg| effects.extend(update(model, msg));
    send(&mut model, Msg::DeviceKnown("CPU 2 cores · 21 GB free".into()));
    send(
        &mut model,
        Msg::SessionOpened(Opened {
            name: "story-tone".into(),
            path: "story-tone".into(),
            meta,
            read_only: None,
            rater: Rater::new("me"),
        }),
    );
    send(&mut model, Msg::Records(session.rows.clone()));
    let mut logs = Vec::new();
    for (spec, log, alive) in runs {
        let run = spec.id.clone();
        logs.push((run.clone(), log.rows.clone()));
        send(&mut model, Msg::RunFound(Box::new(spec)));
        send(&mut model, Msg::RunRecords { run: run.clone(), records: log.rows });
        send(&mut model, Msg::RunAlive { run, alive });
    }
    if loaded {
        send(&mut model, Msg::SessionLoaded);
    }
    let asked = effects.iter().find_map(|effect| match effect {
        Effect::ReadTimeline { ticket, .. } => Some(*ticket),
        _ => None,
    });
    if let Some(ticket) = asked {
        let answer = Ok(Box::new(Timeline::merge(session.rows, logs)));
        effects.extend(update(&mut model, Msg::TimelineRead { ticket, answer }));
    }
    (model, effects)
}

fn watching(runs: Vec<(RunSpec, Log<RunEvent>, bool)>) -> Model {
    let specs: Vec<RunSpec> = runs.iter().map(|r| r.0.clone()).collect();
    open_with(Goal::to("watch"), Theme::default(), session_log(12, &specs), runs, true).0
}

fn press(model: &mut Model, keys: &str) -> Vec<Effect> {
    let mut out = Vec::new();
    for word in keys.split_whitespace() {
        let code = match word {
            "enter" => Code::Enter,
            "esc" => Code::Esc,
            "tab" => Code::Tab,
            "left" => Code::Left,
            "right" => Code::Right,
            "up" => Code::Up,
            "down" => Code::Down,
            "end" => Code::End,
            "space" => Code::Char(' '),
            "backspace" => Code::Backspace,
            one => Code::Char(one.chars().next().unwrap()),
        };
        out.extend(update(model, Msg::Key(Key::plain(code))));
    }
    out
}

fn look(model: &mut Model, (w, h): (u16, u16)) -> String {
    update(model, Msg::Resize(w, h));
    let area = Rect::new(0, 0, w, h);
    let mut buf = Buffer::empty(area);
    tiebreak::ui::paint(&mut buf, area, model);
    let mut out = String::new();
    for y in 0..h {
        let mut x = 0;
        let mut row = String::new();
        while x < w {
            let symbol = buf[(x, y)].symbol();
            row.push_str(symbol);
            x += (tiebreak::app::cells(symbol) as u16).max(1);
        }
        out.push_str(row.trim_end());
        out.push('\n');
    }
    out
}

/// One snapshot for each size.
fn snap(name: &str, model: &mut Model) {
    for size in SIZES {
        assert_snapshot!(format!("{name}_{}x{}", size.0, size.1), look(model, size));
    }
}

#[test]
fn watch_busy() {
    let mut model = watching(vec![
        (sample_spec("sample-1"), Log::new(0), false),
        (train_spec("dpo-1"), train_log(214, 640, |_, _| {}), true),
    ]);
    snap("watch_busy", &mut model);
}

/// A metric's name, and its value as a function of the fraction of the run done.
type Curve<'a> = (&'a str, fn(f64) -> f64);

fn other_run(name: &str, steps: u64, curves: &[Curve<'_>]) -> (RunSpec, Log<RunEvent>, bool) {
    let mut spec = train_spec(&format!("{name}-1"));
    let table = method(name).unwrap();
    let params = Params::defaults(&table.rows());
    if let Task::Train(train) = &mut spec.task {
        (train.method, train.params) = (name.into(), params.clone());
    }
    let mut log = Log::new(1_000);
    log.add(0, RunEvent::Started { attempt: 1, pid: 77, device: "CPU · 2 threads".into(), from_step: None });
    let objective = (table.objective)(&params);
    let plan = Plan { total_steps: 120, steps_per_epoch: 40, train_rows: 160, objective, ..Plan::default() };
    log.add(800, RunEvent::Planned(plan));
    let text = "The sky is blue because of Rayleigh scattering, in which short waves are scattered more.";
    let sampled = |step, text: &str, score: Option<f64>| RunEvent::Sampled {
        step,
        prompt: "Why is the sky blue?".into(),
        text: text.into(),
        score: score.map(tiebreak::domain::Num),
    };
    log.add(500, sampled(0, text, None));
    for step in 1..=steps {
        let share = step as f64 / 120.0;
        let noise = (mix64(step * 37) % 1000) as f64 / 1000.0 - 0.5;
        let mut m = Metrics::new();
        for (name, f) in curves {
            m.set(name, f(share) * (1.0 + 0.1 * noise));
        }
        log.add(4_000, RunEvent::Stepped { step, epoch: share * 3.0, metrics: m });
        let scored = curves.iter().any(|(name, _)| name.ends_with("/scores"));
        if scored && step.is_multiple_of(20) {
            log.add(10, sampled(step, "Sunlight has many colours; air bounces blue around the most.", Some(1.25)));
            log.add(10, sampled(step, "Blue.", Some(-0.5)));
        }
    }
    (spec, log, true)
}

#[test]
fn watch_ppo() {
    let run = other_run(
        "ppo",
        84,
        &[
            ("loss", |x| 0.3 - 0.2 * x),
            ("grad_norm", |x| 1.0 + x),
            ("learning_rate", |x| 1e-5 * (1.0 - x)),
            ("objective/kl", |x| 4.0 * x),
            ("objective/entropy", |x| 60.0 - 20.0 * x),
            ("objective/scores", |x| 2.0 * x - 0.4),
            ("objective/rlhf_reward", |x| 1.8 * x - 0.4),
            ("loss/policy_avg", |x| -0.02 - 0.01 * x),
            ("loss/value_avg", |x| 0.6 - 0.4 * x),
            ("policy/clipfrac_avg", |x| 0.2 * x),
            ("val/clipfrac_avg", |x| 0.1 * x),
            ("policy/entropy_avg", |x| 2.0 - x),
            ("completions/mean_length", |x| 40.0 + 9.0 * x),
            ("probe/nll", |x| 2.6 + 0.1 * x),
            ("probe/kl", |x| 0.05 * x),
        ],
    );
    let mut model = watching(vec![run]);
    snap("watch_ppo", &mut model);
    let text = look(&mut model, (120, 40));
    assert!(text.contains("−0.5000  Blue.") && text.contains("1.2500  Sunlight"), "{text}");
}

#[test]
fn watch_sft() {
    let run = other_run(
        "sft",
        96,
        &[
            ("loss", |x| 2.4 - x),
            ("grad_norm", |x| 1.0 + x),
            ("learning_rate", |x| 2e-5 * (1.0 - x)),
            ("entropy", |x| 2.2 - x),
            ("mean_token_accuracy", |x| 0.4 + 0.3 * x),
            ("num_tokens", |x| 9e4 * x),
        ],
    );
    let mut model = watching(vec![run]);
    snap("watch_sft", &mut model);
}

#[test]
fn a_pair_named_by_a_finding_can_be_labelled_again() {
    let found = |pair: &str| {
        RunEvent::Found(Finding {
            rule: "pair_fights".into(),
            step: 60,
            severity: Severity::Note,
            text: "The model holds against it.".into(),
            remedy: "Look at it again.".into(),
            pair: Some(PairId::new(pair)),
        })
    };
    let mut log = train_log(60, 640, |_, _| {});
    let mut model = watching(vec![(train_spec("dpo-1"), log, true)]);
    assert!(!look(&mut model, (120, 40)).contains("f label again"));
    press(&mut model, "f");
    assert!(look(&mut model, (120, 40)).contains("no finding of this run names a pair"));
    log = train_log(60, 640, |_, _| {});
    log.add(0, found("p3:a-b"));
    log.add(0, found("elsewhere"));
    let mut model = watching(vec![(train_spec("dpo-1"), log, true)]);
    assert!(look(&mut model, (120, 40)).contains("f label again"));
    press(&mut model, "f");
    let text = look(&mut model, (120, 40));
    assert!(text.contains("› label") && text.contains("prompt p3"), "{text}");
    // With several pairs, the screen asks which.
    let mut log = train_log(60, 640, |_, _| {});
    for pair in ["p3:a-b", "p4:a-b"] {
        log.add(0, found(pair));
    }
    let mut model = watching(vec![(train_spec("dpo-1"), log, true)]);
    press(&mut model, "f");
    let text = look(&mut model, (120, 40));
    assert!(text.contains("which pair") && text.contains("p4") && !text.contains("p5 "), "{text}");
}

#[test]
fn watch_empty() {
    let mut model = watching(Vec::new());
    snap("watch_empty", &mut model);
}

#[test]
fn watch_loading() {
    let mut log = Log::new(0);
    log.add(0, RunEvent::Started { attempt: 1, pid: 7, device: "CPU · 2 threads".into(), from_step: None });
    log.add(500, plan(33));
    log.add(900, RunEvent::Progressed { stage: "reference log-probs".into(), done: 12, total: 41 });
    let mut model = watching(vec![(train_spec("dpo-1"), log, true)]);
    snap("watch_loading", &mut model);
}

#[test]
fn watch_nan() {
    let mut log = train_log(47, 120, |step, m| {
        if step >= 45 {
            m.set("loss", f64::NAN);
            m.set("grad_norm", f64::INFINITY);
        }
    });
    log.add(
        10,
        RunEvent::Found(Finding {
            rule: "non_finite".into(),
            step: 47,
            severity: Severity::Stop,
            text: "The loss is not a number.".into(),
            remedy: "Use a smaller learning rate.".into(),
            pair: Some(PairId::new("p7:a-b")),
        }),
    );
    log.add(
        0,
        RunEvent::Failed { step: 47, error: "the loss at step 47 is NaN on pair p7:a-b: lower learning_rate".into() },
    );
    let mut model = watching(vec![(train_spec("dpo-1"), log, false)]);
    snap("watch_nan", &mut model);
}

#[test]
fn watch_lost_and_resumed() {
    let log = train_log(77, 120, |_, _| {});
    let mut model = watching(vec![(train_spec("dpo-1"), log, false)]);
    snap("watch_lost", &mut model);
    // R resumes it; the second attempt continues from the checkpoint, beside the dotted curve of the first.
    let effects = press(&mut model, "R");
    assert_eq!(effects, [Effect::ResumeRun { run: RunId::new("dpo-1") }]);
    let mut more = Log::new(50);
    more.rows = Vec::new();
    more.add(0, RunEvent::Started { attempt: 2, pid: 9, device: "CPU · 2 threads".into(), from_step: Some(50) });
    for step in 51..=60 {
        step_events(&mut more, step, 120, &|_, m| m.set("loss", 0.3));
    }
    update(&mut model, Msg::RunAlive { run: RunId::new("dpo-1"), alive: true });
    update(&mut model, Msg::RunRecords { run: RunId::new("dpo-1"), records: more.rows });
    snap("watch_resumed", &mut model);
}

#[test]
fn watch_sampling() {
    let mut log = Log::new(0);
    log.add(0, RunEvent::Started { attempt: 1, pid: 7, device: "CPU · 2 threads".into(), from_step: None });
    log.add(10, RunEvent::Planned(Plan { total_steps: 120, train_rows: 30, ..Plan::default() }));
    for k in 0..42_u64 {
        log.add(
            1_500,
            RunEvent::Completed(
                Completion {
                    turns: [].into(),
                    id: CompletionId::new(format!("sample-1.p{}.{}", k / 4 + 1, k % 4)),
                    prompt: PromptId::new(format!("p{}", k / 4 + 1)),
                    model: "SmolLM2-135M-Instruct".into(),
                    text: TEXTS[k as usize % 4].0.into(),
                    tokens: 60 + (k as u32 * 7) % 40,
                    finish: if k % 5 == 0 { Finish::Length } else { Finish::Eos },
                    sampler: None,
                    logprob: LogProb::UNKNOWN,
                }
                .into(),
            ),
        );
    }
    log.add(0, RunEvent::Deduplicated { prompt: PromptId::new("p3"), count: 2 });
    let mut model = watching(vec![(sample_spec("sample-1"), log, true)]);
    snap("watch_sampling", &mut model);
}

#[test]
fn watch_names_the_damage_of_the_shown_run() {
    let runs = ["dpo-1", "dpo-2"].map(|id| (train_spec(id), train_log(9, 640, |_, _| {}), false));
    let mut model = watching(runs.to_vec());
    let place = |line| DamagedPlace {
        damage: Damage::Line,
        file: "runs/dpo-1/metrics/000001.jsonl".into(),
        line,
        what: "the checksum does not match".into(),
    };
    let mut found = Integrity::default();
    found.note(3, place(7));
    update(&mut model, Msg::Integrity(found.clone()));
    update(&mut model, Msg::RunIntegrity { run: RunId::new("dpo-1"), integrity: found });
    assert!(!look(&mut model, (80, 24)).contains('⚠'), "dpo-2 is shown, and its log is intact");
    press(&mut model, "up");
    for size in SIZES {
        let text = look(&mut model, size);
        let header = text.lines().next().unwrap();
        assert!(header.contains("⚠ 3 damaged lines   LOST"), "{text}");
    }
    let unknown = Integrity { opaque: 2, ..Integrity::default() };
    update(&mut model, Msg::RunIntegrity { run: RunId::new("dpo-1"), integrity: unknown });
    let text = look(&mut model, (120, 40));
    assert!(text.contains("2 unknown records   LOST"), "{text}");
}

#[test]
fn watch_closer() {
    let mut model = watching(vec![(train_spec("dpo-1"), train_log(214, 640, |_, _| {}), true)]);
    press(&mut model, "s s left left left + + tab tab tab tab tab enter");
    snap("watch_closer", &mut model);
    // Esc leaves one layer at a time: the pane, the cursor, then the screen.
    press(&mut model, "esc");
    assert!(look(&mut model, (120, 40)).contains("cursor at step"));
    press(&mut model, "esc");
    assert!(!look(&mut model, (120, 40)).contains("cursor at step"));
    press(&mut model, "esc");
    assert!(look(&mut model, (120, 40)).contains("› label"));
}

#[test]
fn watch_axes_cycle() {
    let mut model = watching(vec![(train_spec("dpo-1"), train_log(214, 640, |_, _| {}), true)]);
    press(&mut model, "x");
    assert!(look(&mut model, (80, 24)).contains("x epoch"));
    press(&mut model, "x y");
    assert_snapshot!("watch_time_log_80x24", look(&mut model, (80, 24)));
    press(&mut model, "y x");
    assert!(look(&mut model, (80, 24)).contains("x step"));
}

#[test]
fn watch_ascii_is_ascii() {
    let theme = Theme { colour: false, ascii: true, light: false };
    let runs = vec![(train_spec("dpo-1"), train_log(214, 640, |_, _| {}), true)];
    let mut model = open_with(Goal::to("watch"), theme, session_log(12, &[]), runs, true).0;
    assert_snapshot!("watch_ascii_80x24", look(&mut model, (80, 24)));
}

#[test]
fn no_control_character_of_a_model_reaches_the_cells() {
    let mut model = watching(vec![(train_spec("dpo-1"), train_log(60, 640, |_, _| {}), true)]);
    for size in SIZES {
        assert!(look(&mut model, size).chars().all(|c| c == '\n' || !c.is_control()));
    }
}

#[test]
fn watch_keys_send_commands_to_the_worker() {
    let run = RunId::new("dpo-1");
    let mut model = watching(vec![(train_spec("dpo-1"), train_log(20, 640, |_, _| {}), true)]);
    let command = |command| vec![Effect::Command { run: run.clone(), command }];
    assert_eq!(press(&mut model, "p"), command(RunCommand::Pause));
    assert_eq!(press(&mut model, "c"), command(RunCommand::Checkpoint));
    // Stopping asks first.
    assert_eq!(press(&mut model, "S"), []);
    assert_eq!(press(&mut model, "n"), []);
    assert_eq!(press(&mut model, "S y"), command(RunCommand::Stop));
    let mut paused = Log::new(0);
    paused.add(0, RunEvent::Obeyed(RunCommand::Pause));
    update(&mut model, Msg::RunRecords { run: run.clone(), records: paused.rows });
    let paused = look(&mut model, (80, 24));
    assert!(paused.contains("PAUSED") && paused.contains("p resume"), "{paused}");
    assert_eq!(press(&mut model, "p"), command(RunCommand::Resume));
    assert_eq!(press(&mut model, "o"), [Effect::ReadWorkerLog { run: run.clone() }]);
    update(&mut model, Msg::WorkerLog { run, lines: vec!["tokenising 41 pairs".into()] });
    assert!(look(&mut model, (80, 24)).contains("tokenising 41 pairs"));
}

#[test]
fn a_finished_run_refuses_commands_and_says_why() {
    let mut log = train_log(33, 33, |_, _| {});
    log.add(0, RunEvent::Finished { step: 33, state: "00ff".into() });
    let mut model = watching(vec![(train_spec("dpo-1"), log, false)]);
    for key in ["p", "c", "S", "R"] {
        assert_eq!(press(&mut model, key), [], "{key}");
        assert!(look(&mut model, (80, 24)).contains("dpo-1 is finished"), "{key}");
    }
    assert!(look(&mut model, (80, 24)).contains("FINISHED"));
}

fn estimate(longer_wins: f64) -> Estimate {
    Estimate {
        steps: 33,
        train_rows: 37,
        eval_rows: 4,
        longest: 312,
        tokens: 12_345,
        trainable: 4_884_480,
        memory_bytes: 1_900_000_000,
        seconds: Some(360.0),
        longer_wins,
        ..Estimate::default()
    }
}

fn launching(verdicts: u64, loaded: bool) -> (Model, Vec<Effect>) {
    open_with(Goal::to("launch"), Theme::default(), session_log(verdicts, &[]), Vec::new(), loaded)
}

fn ticket(effects: &[Effect]) -> u64 {
    effects
        .iter()
        .rev()
        .find_map(|e| match e {
            Effect::Estimate { ticket, .. } => Some(*ticket),
            _ => None,
        })
        .expect("an estimate is asked for")
}

#[test]
fn launch_busy() {
    let (mut model, effects) = launching(12, true);
    let ticket = ticket(&effects);
    update(&mut model, Msg::EstimateReady { ticket, answer: Ok(estimate(0.78)) });
    press(&mut model, "tab tab tab");
    snap("launch_busy", &mut model);
}

#[test]
fn launch_warns_of_lengths_only_for_pairs() {
    let (mut model, effects) = launching(12, true);
    let first = ticket(&effects);
    update(&mut model, Msg::EstimateReady { ticket: first, answer: Ok(estimate(0.0)) });
    assert!(look(&mut model, (80, 24)).contains("the longer answer wins only 0 %"));
    // KTO learns from single ratings: the share of won pairs has no meaning.
    let kto = tiebreak::domain::methods().iter().position(|m| m.name == "kto").unwrap();
    press(&mut model, &"right ".repeat(kto));
    let effects = press(&mut model, "tab");
    update(&mut model, Msg::EstimateReady { ticket: ticket(&effects), answer: Ok(estimate(0.0)) });
    let text = look(&mut model, (80, 24));
    assert!(text.contains("37 train") && !text.contains("longer answer"), "{text}");
}

#[test]
fn launch_asking_and_empty() {
    let (mut model, _) = launching(12, true);
    snap("launch_asking", &mut model);
    let (mut model, effects) = launching(0, true);
    assert!(!effects.iter().any(|e| matches!(e, Effect::Estimate { .. })));
    snap("launch_empty", &mut model);
    assert_eq!(press(&mut model, "enter"), []);
    assert!(look(&mut model, (80, 24)).contains("no pairs to train on yet"));
}

#[test]
fn launch_loading() {
    // Until the logs are read, the label screen says so; then the form appears.
    let (mut model, _) = launching(3, false);
    snap("launch_loading", &mut model);
    assert!(!look(&mut model, (80, 24)).contains("learning_rate"));
    update(&mut model, Msg::SessionLoaded);
    assert!(look(&mut model, (80, 24)).contains("learning_rate"));
}

#[test]
fn launch_uses_typed_values_and_starts_once() {
    let (mut model, _) = launching(12, true);
    press(&mut model, "tab tab tab 0 . x");
    let text = look(&mut model, (120, 40));
    assert!(text.contains("beta=0. cannot be") || text.contains("0."), "{text}");
    press(&mut model, "backspace backspace 9 9 9 9");
    let text = look(&mut model, (120, 40));
    assert!(text.contains("expected a number from"), "{text}");
    assert_snapshot!("launch_bad_value_80x24", look(&mut model, (80, 24)));
    assert_eq!(press(&mut model, "enter"), [], "a bad value does not start");
    press(&mut model, "backspace backspace backspace backspace 0 . 2");
    // The first requests an estimate, the second starts without it, the third is ignored.
    let effects = press(&mut model, "enter enter enter");
    let [Effect::Estimate { .. }, Effect::Launch(request)] = effects.as_slice() else {
        panic!("one launch, not {effects:?}")
    };
    assert_eq!((request.method.as_str(), request.params.text("beta"), &request.init), ("dpo", "0.2", &None));
}

#[test]
fn launch_starts_from_a_typed_folder() {
    let (mut model, _) = launching(12, true);
    press(&mut model, "tab ~ / r m");
    for size in [(60, 16), (80, 24), (200, 60)] {
        let text = look(&mut model, size);
        assert!(text.contains("adapter in ~/rm▏"), "{text}");
        assert!(text.contains("or type an adapter's folder"), "{text}");
        assert!(text.contains("the adapter decides tune, rank"), "{text}");
    }
    let effects = press(&mut model, "enter enter");
    let launch = effects.iter().find_map(|e| if let Effect::Launch(request) = e { Some(request) } else { None });
    assert_eq!(launch.expect("it starts").init.as_deref(), Some("~/rm"));
}

#[test]
fn launch_does_not_start_after_a_failed_estimate() {
    let (mut model, effects) = launching(12, true);
    let first = ticket(&effects);
    let answer = Err("the disk of data has 0.01 GB free".into());
    update(&mut model, Msg::EstimateReady { ticket: first, answer });
    assert!(look(&mut model, (80, 24)).contains("0.01 GB free"));
    assert_eq!(press(&mut model, "enter"), []);
    assert!(look(&mut model, (80, 24)).contains("cannot start: the disk of data"));
    // With another value, the run waits for a new estimate.
    press(&mut model, "tab tab tab 0 . 2");
    let ticket = ticket(&press(&mut model, "enter"));
    assert!(look(&mut model, (80, 24)).contains("checking whether it fits"));
    let again = Err("the disk of data has 0.02 GB free".into());
    assert_eq!(update(&mut model, Msg::EstimateReady { ticket, answer: again }), []);
    assert!(look(&mut model, (80, 24)).contains("cannot start: the disk of data has 0.02"));
}

#[test]
fn launch_starts_a_waiting_run_after_its_estimate() {
    let launches = |effects: &[Effect]| effects.iter().filter(|e| matches!(e, Effect::Launch(_))).count();
    let (mut model, effects) = launching(12, true);
    let first = ticket(&effects);
    assert_eq!(press(&mut model, "enter"), [], "the estimate is requested already");
    let effects = update(&mut model, Msg::EstimateReady { ticket: first, answer: Ok(estimate(0.5)) });
    assert_eq!(launches(&effects), 1);
    // A change after enter cancels the waiting launch.
    let (mut model, effects) = launching(12, true);
    let first = ticket(&effects);
    press(&mut model, "enter tab tab tab 0 . 2");
    let answer = Ok(estimate(0.5));
    assert_eq!(launches(&update(&mut model, Msg::EstimateReady { ticket: first, answer })), 0);
}

#[test]
fn launch_on_a_damaged_log_needs_a_confirmation() {
    let (mut model, effects) = launching(12, true);
    let place = DamagedPlace {
        damage: Damage::Line,
        file: "events/000001.jsonl".into(),
        line: 7,
        what: "it is no whole record".into(),
    };
    let mut found = Integrity::default();
    found.note(3, place);
    update(&mut model, Msg::Integrity(found));
    let text = look(&mut model, (80, 24));
    assert!(text.contains("⚠ 3 damaged lines"), "{text}");
    let answer = Ok(estimate(0.5));
    update(&mut model, Msg::EstimateReady { ticket: ticket(&effects), answer });
    assert_eq!(press(&mut model, "enter"), [], "training on fewer rows than were labelled needs a confirmation");
    let text = look(&mut model, (80, 24));
    assert!(text.contains("Train on what can be read?") && text.contains("the first: events/000001.jsonl"), "{text}");
    assert_eq!(press(&mut model, "n"), []);
    let effects = press(&mut model, "enter y");
    let [Effect::Launch(request)] = effects.as_slice() else { panic!("one launch, not {effects:?}") };
    assert!(request.allow_damaged);
}

#[test]
fn launch_names_a_contradiction_and_does_not_start() {
    let (mut model, _) = launching(12, true);
    let at = |key: &str| {
        let rows = tiebreak::domain::method("dpo").unwrap().rows();
        rows.iter().filter(|row| row.basic).position(|row| row.key == key).unwrap()
    };
    for _ in 0..at("tune") + 3 {
        press(&mut model, "tab");
    }
    press(&mut model, "right tab 8");
    let text = look(&mut model, (80, 24));
    assert!(text.contains("cannot start: lora_r has no effect for tune=full"), "{text}");
    assert_eq!(press(&mut model, "enter"), []);
    assert_eq!(press(&mut model, "m").len(), 0);
    press(&mut model, "r");
    assert!(press(&mut model, "enter enter").iter().any(|e| matches!(e, Effect::Launch(_))));
}

#[test]
fn launch_shows_advanced_options_and_resets() {
    let (mut model, _) = launching(12, true);
    press(&mut model, "up");
    assert!(look(&mut model, (120, 40)).contains("more options"));
    press(&mut model, "enter");
    assert!(look(&mut model, (200, 60)).contains("adam_beta1"));
    snap("launch_advanced", &mut model);
    // The focus is on beta; one key resets it to the default.
    press(&mut model, "up up up up up up up up up up up 5");
    let before = look(&mut model, (120, 40));
    assert!(before.contains("· default"), "{before}");
    press(&mut model, "r");
    assert!(!look(&mut model, (120, 40)).contains("· default"));
}

fn replaying(loaded: bool) -> Model {
    let specs = [train_spec("dpo-1")];
    let mut session = session_log(9, &specs);
    session.add(200, SessionRecord::Undone { of: session.rows.len() as u64 - 1 });
    let mut run = train_log(214, 640, |_, _| {});
    // The run starts after the labels.
    for row in &mut run.rows {
        row.w += 70_000;
    }
    open_with(Goal::to("replay"), Theme::default(), session, vec![(specs[0].clone(), run, false)], loaded).0
}

#[test]
fn replay_shows_labels_and_curves_as_they_were() {
    let mut model = replaying(true);
    snap("replay_start", &mut model);
    // Marks: nine labels, the launch, four checkpoints, a finding.
    press(&mut model, "] ] ] ]");
    snap("replay_label", &mut model);
    for _ in 0..8 {
        press(&mut model, "]");
    }
    snap("replay_curves", &mut model);
    press(&mut model, "end");
    assert!(look(&mut model, (120, 40)).contains("step 214/640"));
    press(&mut model, "[");
    assert!(!look(&mut model, (120, 40)).contains("step 214/640"));
}

#[test]
fn replay_cuts_idle_time_and_stops_at_the_end() {
    let mut model = replaying(true);
    let now = T0 + 10_000_000;
    update(&mut model, tick(now));
    press(&mut model, "space");
    let before = model.version;
    update(&mut model, tick(now + 5_000));
    assert!(model.version > before);
    let playing = look(&mut model, (80, 24));
    assert!(playing.contains("playing 1×") && playing.contains("space pause"), "{playing}");
    assert!(!look(&mut model, (80, 24)).contains("entry   0/"));
    snap("replay_busy", &mut model);
    press(&mut model, "+ + + + + +");
    assert!(look(&mut model, (80, 24)).contains("playing 64×"));
    // Gaps of seven seconds between labels and of five between steps are cut to two: the replay takes under ten
    // minutes.
    update(&mut model, tick(now + 5_000 + 10_000));
    assert!(look(&mut model, (80, 24)).contains("paused"));
    let before = model.version;
    update(&mut model, tick(now + 60_000));
    assert_eq!(model.version, before, "no redraw without a change");
}

#[test]
fn replay_starts_playing_at_the_requested_speed() {
    let mut model =
        open_with(Goal::with("replay", Show::Speed(3.0)), Theme::default(), session_log(9, &[]), Vec::new(), true).0;
    assert!(look(&mut model, (80, 24)).contains("playing 3×"));
    let before = look(&mut model, (80, 24));
    let now = model.clock_ms;
    update(&mut model, tick(now + 2_000));
    assert_ne!(look(&mut model, (80, 24)), before, "it plays");
    press(&mut model, "+");
    assert!(look(&mut model, (80, 24)).contains("playing 4×"));
    press(&mut model, "- -");
    assert!(look(&mut model, (80, 24)).contains("playing 1×"), "{}", look(&mut model, (80, 24)));
}

#[test]
fn a_run_is_neither_live_nor_lost_before_its_lock_was_checked() {
    let mut model = watching(Vec::new());
    let (spec, log) = (train_spec("dpo-1"), train_log(9, 640, |_, _| {}));
    let run = spec.id.clone();
    update(&mut model, Msg::RunFound(Box::new(spec)));
    assert!(look(&mut model, (80, 24)).contains("STARTING"));
    update(&mut model, Msg::RunRecords { run: run.clone(), records: log.rows });
    let text = look(&mut model, (80, 24));
    assert!(text.contains("STARTING") && !text.contains("LOST") && !text.contains("LIVE"), "{text}");
    update(&mut model, Msg::RunAlive { run: run.clone(), alive: true });
    assert!(look(&mut model, (80, 24)).contains("LIVE"));
    update(&mut model, Msg::RunAlive { run, alive: false });
    assert!(look(&mut model, (80, 24)).contains("LOST"));
}

#[test]
fn a_worker_that_died_before_its_first_record_is_lost() {
    let mut model = watching(vec![(train_spec("dpo-1"), Log::new(0), false)]);
    assert!(look(&mut model, (80, 24)).contains("LOST"));
    assert_eq!(press(&mut model, "R"), [Effect::ResumeRun { run: RunId::new("dpo-1") }]);
}

#[test]
fn replay_loading_and_empty() {
    let mut model = open_with(Goal::to("replay"), Theme::default(), Log::new(0), Vec::new(), true).0;
    snap("replay_empty", &mut model);
    let mut model = replaying(false);
    snap("replay_loading", &mut model);
    update(&mut model, Msg::SessionLoaded);
    assert!(look(&mut model, (80, 24)).contains("REPLAY"));
}

#[test]
fn masks_show_before_a_run_and_scroll() {
    let mut model = open_with(Goal::to("launch"), Theme::default(), session_log(12, &[]), Vec::new(), true).0;
    let effects = press(&mut model, "m");
    let [Effect::Masks { ticket, request }] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!(request.method, "dpo");
    assert!(look(&mut model, (80, 24)).contains("reading the first rows"));
    let row = |i: usize, part: &str, answer: &str| MaskedRow {
        id: PairId::new(format!("p{i}:a-b")),
        part: part.into(),
        mixed: false,
        tokens: 34,
        learned: 12,
        pieces: vec![
            MaskPiece {
                text: "<|im_start|>user\nWhy is the sky blue?<|im_end|>\n<|im_start|>assistant\n".into(),
                learned: false,
                begins: false,
            },
            MaskPiece { text: format!("{answer}<|im_end|>"), learned: true, begins: false },
            MaskPiece { text: "\n".into(), learned: false, begins: false },
        ],
        left_out: None,
        said: Vec::new(),
    };
    let mut rows: Vec<MaskedRow> =
        (1..=4).flat_map(|i| [row(i, "chosen", TEXTS[0].0), row(i, "rejected", TEXTS[0].1)]).collect();
    rows.insert(2, MaskedRow { mixed: true, ..row(7, "", TEXTS[0].0) });
    rows.push(MaskedRow::left_out(PairId::new("p9:a-b"), "longer than max_length"));
    update(&mut model, Msg::MasksReady { ticket: *ticket, answer: Ok(Masks { rows, all: 10, mixed: 6 }) });
    snap("launch_masks", &mut model);
    look(&mut model, (80, 24));
    for _ in 0..60 {
        press(&mut model, "down");
    }
    let text = look(&mut model, (80, 24));
    assert!(text.contains("left out: longer than max_length") && !text.contains("more"), "{text}");
    press(&mut model, "esc");
    assert!(look(&mut model, (80, 24)).contains("method"));
    // A late answer for a closed sheet shows nothing.
    update(&mut model, Msg::MasksReady { ticket: *ticket, answer: Err("too late".into()) });
    assert!(!look(&mut model, (80, 24)).contains("too late"));
}
