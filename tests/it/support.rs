//! A test desk for the workbench: the model, a fake disk that acknowledges, and keys written as words.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use std::collections::VecDeque;
use tiebreak::app::{Code, Effect, Goal, Key, LiveRun, Model, Msg, Opened, SeqMap, SessionCard, Theme, begin, update};
use tiebreak::domain::{
    Asked, Choice, Completion, CompletionId, Finish, Message, Pair, PairId, Prompt, PromptBody, PromptId, Rater, RunId,
    Sampler, Seen, Session, Showing, Side, Strength, Verdict,
};
use tiebreak::protocol::{
    DataSnapshot, Envelope, Inputs, Integrity, LogFold, ModelCard, ModelRef, Plan, RunEvent, RunSpec, SampleSpec,
    SessionMeta, SessionRecord, Task, apply_record,
};
use tiebreak::ui;

/// The start time of every test.
pub const BEGIN_MS: u64 = 1_760_000_000_000;

/// A rater's verdict that a side of a pair is better.
pub fn vote(pair: &str, rater: &str, side: Side) -> SessionRecord {
    SessionRecord::Judged(
        Verdict {
            pair: PairId::new(pair),
            rater: Rater::new(rater),
            choice: Choice::Prefer(side, Strength::Better),
            left: Side::A,
            seen: Seen::Full,
            ms: 900,
            winner_hash: None,
            asked: Asked::default(),
            showing: Showing::default(),
        }
        .into(),
    )
}

/// A model, the log of its records, and the unanswered effects.
pub struct Desk {
    pub model: Model,
    /// The session's log, as on disk.
    pub log: Vec<SessionRecord>,
    /// Effects other than `Append`, in order.
    pub effects: Vec<Effect>,
    /// Appends not acknowledged yet.
    pub waiting: VecDeque<(u64, SessionRecord)>,
    /// The log's numbers of verdicts.
    pub numbers: SeqMap,
    /// Whether appends are acknowledged at once.
    pub prompt_disk: bool,
    /// Milliseconds between two keys.
    pub pace_ms: u64,
}

impl Desk {
    /// A workbench on the home screen.
    pub fn new(w: u16, h: u16) -> Self {
        let mut desk = Self {
            model: Model::new(Theme::default(), (w, h), BEGIN_MS),
            log: Vec::new(),
            effects: Vec::new(),
            waiting: VecDeque::new(),
            numbers: SeqMap::default(),
            prompt_disk: true,
            pace_ms: 4_000,
        };
        let effects = begin(&mut desk.model, None);
        desk.take(effects);
        desk
    }

    /// A workbench with a session open on the label screen.
    pub fn with_session(w: u16, h: u16, records: Vec<SessionRecord>) -> Self {
        let mut desk = Self::new(w, h);
        desk.log = records;
        desk.model.goal = Some(("story-tone".into(), Goal::to("label")));
        desk.send(Msg::SessionOpened(opened("story-tone")));
        desk.send(log_read(&desk.log));
        desk.send(Msg::SessionLoaded);
        desk
    }

    /// Sends a message; the disk answers if it is prompt.
    pub fn send(&mut self, msg: Msg) {
        let effects = update(&mut self.model, msg);
        self.take(effects);
    }

    fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Append { ticket, record } => self.waiting.push_back((ticket, record)),
                other => self.effects.push(other),
            }
        }
        if self.prompt_disk {
            self.flush();
        }
    }

    /// The disk acknowledges every waiting append.
    pub fn flush(&mut self) {
        while self.flush_one() {}
    }

    /// The disk acknowledges one append; false if none waits.
    pub fn flush_one(&mut self) -> bool {
        let Some((ticket, record)) = self.waiting.pop_front() else { return false };
        let mut record = record;
        assert!(self.numbers.resolve(&mut record), "a verdict comes before what undoes it");
        self.numbers.note(ticket, &record, self.log.len() as u64 + 1);
        self.log.push(record);
        let effects = update(&mut self.model, Msg::Acknowledged { ticket, seq: self.log.len() as u64 });
        self.take(effects);
        true
    }

    /// Presses keys written as words, `1 H space ctrl-r esc`; the clock advances before each.
    pub fn keys(&mut self, keys: &str) {
        for word in keys.split_whitespace() {
            self.pass(self.pace_ms);
            self.send(Msg::Key(key(word)));
        }
    }

    /// Advances the clock.
    pub fn pass(&mut self, ms: u64) {
        self.send(Msg::Tick { now_ms: self.model.now_ms + ms, clock_ms: self.model.clock_ms + ms });
    }

    /// Types text.
    pub fn type_text(&mut self, text: &str) {
        for c in text.chars() {
            self.send(Msg::Key(Key::char(c)));
        }
    }

    /// The effects since the last call.
    pub fn effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// The state folded from the log on disk.
    pub fn replayed(&self) -> Session {
        let mut session = Session::default();
        for (i, record) in self.log.iter().enumerate() {
            apply_record(&mut session, i as u64 + 1, 0, record);
        }
        session
    }

    /// The open session's live state.
    pub fn session(&self) -> &Session {
        &self.model.open.as_ref().expect("a session is open").session
    }

    /// The screen as text.
    pub fn screen(&self) -> String {
        paint(&self.model)
    }
}

/// The screen of a model as text.
pub fn paint(model: &Model) -> String {
    let mut terminal = Terminal::new(TestBackend::new(model.size.0, model.size.1)).expect("a test terminal");
    terminal.draw(|frame| ui::render(frame, model)).expect("drawn");
    // Unlike the backend's own display, without quotes.
    let buffer = terminal.backend().buffer();
    let mut out = String::new();
    for y in 0..buffer.area.height {
        let mut line = String::new();
        let mut skip = 0;
        for x in 0..buffer.area.width {
            if skip > 0 {
                skip -= 1;
                continue;
            }
            let symbol = buffer[(x, y)].symbol();
            skip = tiebreak::app::cells(symbol).saturating_sub(1);
            line.push_str(symbol);
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// A key by its name.
pub fn key(word: &str) -> Key {
    if let Some(rest) = word.strip_prefix("ctrl-") {
        return Key::ctrl(rest.chars().next().expect("a character after ctrl-"));
    }
    Key::plain(match word {
        "space" => Code::Char(' '),
        "enter" => Code::Enter,
        "esc" => Code::Esc,
        "tab" => Code::Tab,
        "backspace" => Code::Backspace,
        "up" => Code::Up,
        "down" => Code::Down,
        "left" => Code::Left,
        "right" => Code::Right,
        "pgdn" => Code::PageDown,
        "pgup" => Code::PageUp,
        "end" => Code::End,
        "home" => Code::Home,
        one => {
            let mut chars = one.chars();
            let c = chars.next().expect("a key");
            assert!(chars.next().is_none(), "`{one}` is not a key's name");
            Code::Char(c)
        }
    })
}

/// The shell's message content for an opened session.
pub fn opened(name: &str) -> Opened {
    Opened {
        name: name.into(),
        path: format!("sessions/{name}"),
        meta: SessionMeta {
            format: 1,
            name: name.into(),
            model: "SmolLM2-135M-Instruct".into(),
            created_ms: BEGIN_MS,
            app: "test".into(),
        },
        read_only: None,
        rater: Rater::new("ada"),
    }
}

/// Records with sequence numbers and times, as in a log.
/// The message that brings a session's log at opening.
pub fn log_read(records: &[SessionRecord]) -> Msg {
    let mut log = LogFold::default();
    log.add(envelopes(records));
    Msg::LogRead(Box::new(log))
}

pub fn envelopes<T: Clone>(records: &[T]) -> Vec<Envelope<T>> {
    let number = |i: usize| i as u64 + 1;
    let envelope = |(i, record): (usize, &T)| Envelope {
        n: number(i),
        m: number(i) * 500,
        w: BEGIN_MS + number(i) * 500,
        data: Ok(record.clone()),
    };
    records.iter().enumerate().map(envelope).collect()
}

/// A prompt.
pub fn prompt(id: &str, text: &str, tag: &str) -> Prompt {
    Prompt {
        id: PromptId::new(id),
        body: PromptBody::Chat(vec![Message::new("user", text)].into()),
        source: "prompts.txt".into(),
        tags: Some(tag.to_owned()).filter(|tag| !tag.is_empty()).into_iter().collect(),
    }
}

/// A completion.
pub fn completion(id: &str, prompt: &str, text: &str, tokens: u32) -> Completion {
    Completion {
        turns: [].into(),
        id: CompletionId::new(id),
        prompt: PromptId::new(prompt),
        model: "SmolLM2-135M-Instruct".into(),
        text: text.into(),
        tokens,
        finish: Finish::Eos,
        sampler: Some(Sampler::default().into()),
        logprob: (-40.0).into(),
    }
}

/// A pair of the completions `PROMPT.0` and `PROMPT.1`.
pub fn pair(prompt: &str) -> Pair {
    Pair {
        id: PairId::new(format!("{prompt}:0-1")),
        prompt: PromptId::new(prompt),
        a: CompletionId::new(format!("{prompt}.0")),
        b: CompletionId::new(format!("{prompt}.1")),
        strategy: "random".into(),
        p_select: 1.0,
    }
}

/// The log of a session with `count` unlabelled pairs.
pub fn pairs(count: usize) -> Vec<SessionRecord> {
    let questions = [
        ("Explain why the sky is blue to a child, in a few sentences.", "kids"),
        ("Write a haiku about a lost umbrella.", "poem"),
        ("My bread does not rise. What should I check first?", "kitchen"),
        ("Wie sagt man „good luck“ auf Japanisch (日本語)?", "language"),
    ];
    let answers = [
        "Sunlight looks white, but it is made of many colours. When it travels through the air, the tiny bits of air bounce \
         the blue light around the most. So wherever you look, blue light comes to your eyes!",
        "The sky is blue because of a process called Rayleigh scattering, in which shorter wavelengths of electromagnetic \
         radiation are scattered more strongly by the molecules of the atmosphere than longer wavelengths. Since blue light \
         has a shorter wavelength than red light, it is scattered in all directions, and reaches your eyes from everywhere \
         in the sky.",
    ];
    let mut out = Vec::new();
    for i in 1..=count {
        let id = format!("p{i}");
        let (question, tag) = questions[(i - 1) % questions.len()];
        out.push(SessionRecord::Prompted(prompt(&id, question, tag).into()));
        let tail = if i == 1 { String::new() } else { format!(" (answer {i})") };
        out.push(SessionRecord::Completed(
            completion(&format!("{id}.0"), &id, &format!("{}{tail}", answers[0]), 46).into(),
        ));
        out.push(SessionRecord::Completed(
            completion(&format!("{id}.1"), &id, &format!("{}{tail}", answers[1]), 72).into(),
        ));
        out.push(SessionRecord::Paired(pair(&id).into()));
    }
    out
}

/// The specification of a sampling run.
pub fn sampling(id: &str) -> RunSpec {
    let model = ModelRef { name: "SmolLM2-135M-Instruct".into(), path: "models/smollm2".into() };
    let data = DataSnapshot { file: "data.jsonl".into(), sha256: "0".repeat(64), rows: 60, session_seq: 60 };
    RunSpec {
        id: RunId::new(id),
        task: Task::Sample(SampleSpec {
            models: vec![model],
            servers: Vec::new(),
            adapter: None,
            adapters: Vec::new(),
            per_prompt: 2,
            sampler: Sampler::default(),
            data,
            unpaired: false,
        }),
        device: "auto".into(),
        created_ms: BEGIN_MS,
        app: "test".into(),
        inputs: Inputs::default(),
    }
}

/// The first events of a sampling run of `total` completions.
pub fn sampling_began(total: u64) -> Vec<RunEvent> {
    vec![
        RunEvent::Started { attempt: 1, pid: 4711, device: "CPU · 2 threads".into(), from_step: None },
        RunEvent::Planned(Plan { total_steps: total, train_rows: 60, ..Plan::default() }),
    ]
}

/// Sessions for the list.
pub fn cards() -> Vec<SessionCard> {
    let card = |name: &str, labels: &[(&str, usize)], runs, ago_ms: u64, losses: Vec<f64>, running| SessionCard {
        name: name.into(),
        model: "SmolLM2-135M-Instruct".into(),
        labels: labels.iter().map(|(rater, n)| (Rater::new(*rater), *n)).collect(),
        integrity: Integrity::default(),
        runs,
        running,
        changed_ms: BEGIN_MS - ago_ms,
        losses,
    };
    let falling: Vec<f64> = (0..40).map(|i| 0.69 - 0.012 * f64::from(i)).collect();
    let live = vec![LiveRun { run: RunId::new("dpo-3"), step: 214, total: 640 }];
    vec![
        card("story-tone", &[("ana", 30), ("me", 14), ("model:reward-1", 4)], 3, 120_000, falling, live),
        card("kitchen-help", &[("me", 1)], 1, 3 * 3_600_000, Vec::new(), Vec::new()),
        card("a-name-that-goes-on-for-longer-than-any-column-can-hold", &[], 0, 26 * 3_600_000, Vec::new(), Vec::new()),
        card("safety-probe", &[("me", 212)], 9, 9 * 86_400_000, vec![0.69, 0.66, f64::NAN, 0.7, 0.3], Vec::new()),
    ]
}

/// Models for the list.
pub fn models() -> Vec<ModelCard> {
    let card = |name: &str, format: &str, family: &str, parameters, problem: Option<&str>| ModelCard {
        name: name.into(),
        path: format!("models/{name}"),
        format: format.into(),
        family: family.into(),
        parameters,
        bytes: parameters * 2,
        context: 8192,
        chat: true,
        problem: problem.map(str::to_owned),
    };
    vec![
        card("SmolLM2-135M-Instruct", "safetensors", "llama", 134_515_008, None),
        card("Qwen3-0.6B-Q8_0.gguf", "gguf", "qwen3", 596_049_920, None),
        card("gpt2", "safetensors", "", 124_439_808, Some("the architecture GPT2LMHeadModel is not supported")),
    ]
}

/// A number from the environment: how long the long tests go on.
pub fn count(name: &str, otherwise: usize) -> usize {
    std::env::var(name).ok().map_or(otherwise, |text| text.parse().unwrap())
}
