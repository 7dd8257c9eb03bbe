//! The sessions that the measurements of long sessions write: many pairs, all of them judged, one long run, many runs.
//!
//! Owns their contents, which depend on nothing but their sizes. Measures nothing.

use tiebreak::domain::{
    Asked, Choice, Completion, CompletionId, Finish, LogProb, Metrics, Num, Pair, PairId, Params, Plan, Prompt,
    PromptBody, PromptId, Rater, RunId, Seen, Showing, Side, Strength, Verdict, mix64,
};
use tiebreak::protocol::{DataSnapshot, ModelRef, RunEvent, RunSpec, SessionMeta, SessionRecord, Task, TrainSpec};
use tiebreak::storage::{Home, LogWriter, SessionDir};

/// Pairs with verdicts of two raters in a session that is not judged as a whole.
pub const JUDGED: usize = 4_000;
/// Steps of each run where there are many.
const SHORT_RUN: u64 = 20;
/// What a text is made of.
const WORDS: [&str; 16] = [
    "the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "while", "rain", "falls", "on", "quiet",
    "streets", "nobody",
];
/// What a step of DPO logs.
const METRICS: [&str; 10] = [
    "loss",
    "grad_norm",
    "learning_rate",
    "rewards/chosen",
    "rewards/rejected",
    "rewards/margins",
    "rewards/accuracies",
    "logps/chosen",
    "logps/rejected",
    "num_tokens",
];

fn text(words: usize, seed: u64) -> String {
    let word = |i: usize| WORDS[(mix64(seed ^ ((i as u64) << 40)) % 16) as usize];
    (0..words).map(word).collect::<Vec<_>>().join(" ")
}

fn create(home: &Home, name: &str) -> SessionDir {
    let meta = SessionMeta { format: 1, name: name.into(), model: "tiny".into(), created_ms: 1, app: "0".into() };
    SessionDir::create(home, name, &meta).unwrap()
}

fn judge(log: &mut LogWriter<SessionRecord>, pair: usize, rater: &str, salt: u64) {
    let choice = match mix64(pair as u64 ^ (salt << 30)) % 3 {
        0 => Choice::Tie,
        1 => Choice::Prefer(Side::A, Strength::Better),
        _ => Choice::Prefer(Side::B, Strength::Slight),
    };
    let verdict = Verdict {
        pair: PairId::new(format!("i{}", pair + 1)),
        rater: Rater::new(rater),
        choice,
        left: Side::A,
        seen: Seen::Full,
        ms: 2000,
        winner_hash: None,
        asked: Asked::default(),
        showing: Showing::default(),
    };
    log.append(&SessionRecord::Judged(verdict.into())).unwrap();
}

/// A session of that many pairs: prompts of a dozen words with two answers of forty, scores of one run, a tag on every tenth
/// prompt, and verdicts of two raters on the first 4,000. With `all_by` that rater has judged every pair after them.
pub fn pairs(home: &Home, name: &str, pairs: usize, all_by: Option<&str>) -> SessionDir {
    let dir = create(home, name);
    let lock = dir.lock().unwrap().unwrap();
    let mut log = dir.writer(&lock).unwrap();
    let run = RunId::new("reward-1");
    for i in 0..pairs {
        let seed = i as u64;
        let prompt = PromptId::new(format!("p{}", i + 1));
        let tags = if i % 10 == 0 { ["code".into()].into() } else { [].into() };
        let body = PromptBody::user(format!("{} {i}?", text(12, seed)));
        let asked = Prompt { id: prompt.clone(), body, source: "big".into(), tags };
        log.append(&SessionRecord::Prompted(asked.into())).unwrap();
        let ids = ["a", "b"].map(|side| CompletionId::new(format!("i{}.{side}", i + 1)));
        for (at, id) in ids.iter().enumerate() {
            let answer = Completion {
                turns: [].into(),
                id: id.clone(),
                prompt: prompt.clone(),
                model: "m".into(),
                text: text(40, mix64(seed) ^ at as u64).into(),
                tokens: 50,
                finish: Finish::Given,
                sampler: None,
                logprob: LogProb::UNKNOWN,
            };
            log.append(&SessionRecord::Completed(answer.into())).unwrap();
        }
        let [a, b] = ids.clone();
        let id = PairId::new(format!("i{}", i + 1));
        let pair = Pair { id, prompt, a, b, strategy: "random".into(), p_select: 1.0 };
        log.append(&SessionRecord::Paired(pair.into())).unwrap();
        for (at, completion) in ids.into_iter().enumerate() {
            let score = Num((mix64(seed ^ ((at as u64) << 50)) % 1000) as f64 / 500.0);
            log.append(&SessionRecord::Scored { completion, run: run.clone(), score }).unwrap();
        }
    }
    for pair in 0..JUDGED.min(pairs) {
        for (salt, rater) in ["ana", "bo"].into_iter().enumerate() {
            judge(&mut log, pair, rater, salt as u64);
        }
    }
    if let Some(rater) = all_by {
        (JUDGED.min(pairs)..pairs).for_each(|pair| judge(&mut log, pair, rater, 7));
    }
    log.sync().unwrap();
    dir
}

fn run(dir: &SessionDir, id: &str, steps: u64) {
    let sha256 = "0".repeat(64);
    let data = DataSnapshot { file: "data.jsonl".into(), sha256, rows: 100, session_seq: 0 };
    let model = ModelRef { name: "tiny".into(), path: "models/tiny".into() };
    let spec = RunSpec {
        id: RunId::new(id),
        task: Task::Train(TrainSpec::new("dpo", model, Params::default(), data)),
        device: "cpu".into(),
        created_ms: 1,
        app: "0".into(),
        inputs: tiebreak::protocol::Inputs::default(),
    };
    let folder = dir.create_run(&spec, b"").unwrap();
    let lock = folder.lock().unwrap().unwrap();
    let mut log = folder.writer(&lock).unwrap();
    log.append(&RunEvent::Started { attempt: 1, pid: 1, device: "CPU".into(), from_step: None }).unwrap();
    log.append(&RunEvent::Planned(Plan {
        total_steps: steps,
        steps_per_epoch: steps,
        train_rows: 100,
        eval_rows: 0,
        trainable: 1,
        parameters: 1,
        dropped: Vec::new(),
        objective: "L".into(),
        longest: 10,
    }))
    .unwrap();
    for step in 1..=steps {
        let mut metrics = Metrics::new();
        for (at, name) in METRICS.iter().enumerate() {
            metrics.set(name, (mix64(step ^ ((at as u64) << 40)) % 10_000) as f64 / 1e4 + 1.0 / step as f64);
        }
        log.append(&RunEvent::Stepped { step, epoch: step as f64 / steps as f64, metrics }).unwrap();
    }
    log.append(&RunEvent::Finished { step: steps, state: "00".into() }).unwrap();
    log.sync().unwrap();
}

/// A session with one run of that many steps, ten metrics each: `dpo-1`.
pub fn rows(home: &Home, name: &str, rows: u64) -> SessionDir {
    let dir = create(home, name);
    run(&dir, "dpo-1", rows);
    dir
}

/// A session of that many finished runs of twenty steps: `dpo-0001`, …
pub fn runs(home: &Home, name: &str, runs: usize) -> SessionDir {
    let dir = create(home, name);
    (1..=runs).for_each(|n| run(&dir, &format!("dpo-{n:04}"), SHORT_RUN));
    dir
}
