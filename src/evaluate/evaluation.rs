//! An evaluation in progress: answers of both contestants, measurements, then the judges.
//!
//! Owns the order of the work, the reuse of answers and what is already logged. Refuses statistics and folders.

use super::alarm::alarms;
use super::asked::{check_asked, measured};
use super::given_text::same_tokens;
use super::item::{Answered, Given, Item, ItemRequest};
use super::judge::{GateSetInput, JudgeInputs, kind_named};
use super::judging::Judging;
use super::player::{Played, Player};
use super::scoring::{ItemScoring, ScoringScope};
use super::suite::{Suite, SuiteInput, suite_named};
use crate::domain::{
    Contestant, EvalAnswer, EvalState, Finding, Fold64, ItemKey, Measurement, Metrics, Plan, RunId, Sampler, Severity,
    answer_after_thoughts, hash64,
};
use crate::generate::server::{Asking, ServerAnswers};
use crate::model::error::Error;
use crate::model::language_model::LanguageModel;
use crate::model::sink::Sink;
use crate::protocol::{DroppedRows, EvalSpec, Rendering, RunEvent};
use candle_core::Device;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

mod judges;
mod remote;
mod scores;

/// The longest time between two polls for commands.
const SLICE: Duration = Duration::from_millis(250);

/// What an evaluation is made of.
pub struct EvalInputs<'a> {
    /// The run.
    pub run: RunId,
    /// Its specification, with the models' paths on this machine.
    pub spec: &'a EvalSpec,
    /// The text of each suite's file, in the order of the specification.
    pub texts: Vec<String>,
    /// The contestants' checkpoints.
    pub checkpoints: [Option<PathBuf>; 2],
    /// What identifies each contestant's weights.
    pub identities: [String; 2],
    /// What chat templates render besides conversations.
    pub rendering: Rendering,
    /// The same of contestants that are reward runs; none for the others.
    pub reward_renderings: [Option<Rendering>; 2],
    /// What contestants were trained on, as [`crate::domain::PromptBody::asked_hash`].
    pub trained: BTreeSet<String>,
    /// What its log has so far.
    pub past: EvalState,
    /// Answers of earlier evaluations that may be reused.
    pub known: Vec<EvalAnswer>,
    /// The runs that judge.
    pub judges: JudgeInputs,
    /// The pairs on which each judge is measured, in the order of the specification.
    pub gates: Vec<Vec<GateSetInput>>,
    /// What computes.
    pub device: Device,
    /// The process that asks for the contestants' answers, where one is behind a server.
    pub asking: Option<Arc<Asking>>,
}

/// A suite with its items.
struct LoadedSuite {
    suite: &'static Suite,
    items: Vec<Item>,
    sampler: Sampler,
}

/// An answer to be drawn.
#[derive(Debug, Clone)]
struct Turn {
    suite: usize,
    item: usize,
    seed: u32,
    ids: Vec<u32>,
    source: String,
}

/// A contestant answering.
struct Playing {
    side: Contestant,
    player: Option<Player>,
    server: Option<ServerAnswers>,
    waiting: VecDeque<Turn>,
    /// Turns whose prompt another turn is answering.
    deferred: Vec<Turn>,
    open: BTreeMap<usize, Turn>,
    in_flight: BTreeSet<String>,
    number: usize,
}

/// A stage of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Answers(Contestant),
    Scores(ScoringScope),
    Alarms,
    Judge(usize),
}

/// An evaluation in progress.
pub struct Evaluation {
    run: RunId,
    spec: EvalSpec,
    suites: Vec<LoadedSuite>,
    /// The contestants without weights: templates and tokenizers.
    readers: [Option<LanguageModel>; 2],
    checkpoints: [Option<PathBuf>; 2],
    identities: [String; 2],
    rendering: Rendering,
    reward_renderings: [Option<Rendering>; 2],
    trained: BTreeSet<String>,
    /// Whether the contestants are compared token by token.
    together: bool,
    judges: JudgeInputs,
    gates: Vec<Vec<GateSetInput>>,
    device: Device,
    asking: Option<Arc<Asking>>,
    state: EvalState,
    known: HashMap<String, Played>,
    phases: VecDeque<Phase>,
    playing: Option<Playing>,
    scoring: Option<ItemScoring>,
    /// The first item without numbers of the texts that are scored now, and why.
    unscored: Option<String>,
    judging: Option<Judging>,
    planned: bool,
    left_out: Vec<(String, usize)>,
    tokens: u64,
    seconds: f64,
}

impl Evaluation {
    /// Reads the suites' items and opens both contestants' tokenizers. Loads no weights.
    ///
    /// # Errors
    /// When a suite's file has another schema, or a model cannot be read.
    pub fn open(inputs: EvalInputs) -> Result<Self, Error> {
        let EvalInputs {
            run, spec, texts, checkpoints, identities, rendering, past, known, judges, gates, device, ..
        } = inputs;
        let EvalInputs { reward_renderings, trained, asking, .. } = inputs;
        let mut suites = Vec::new();
        let mut left_out = Vec::new();
        for (suite_spec, text) in spec.suites.iter().zip(&texts) {
            let suite = suite_named(&suite_spec.name)?;
            let mut read = (suite.read)(&SuiteInput { text, file: &suite_spec.file })?;
            left_out.extend(read.left_out.into_iter().map(|(why, n)| (format!("{}: {why}", suite_spec.name), n)));
            if let Some(limit) = suite_spec.limit {
                read.items.sort_by_key(|item| hash64(item.name.as_bytes()));
                read.items.truncate(limit);
            }
            if read.items.is_empty() {
                return Err(Error::Invalid(format!(
                    "the suite {} has no items: {} contains none",
                    suite_spec.name, suite_spec.file
                )));
            }
            suites.push(LoadedSuite { suite, items: read.items, sampler: suite_spec.sampler });
        }
        let mut readers = [None, None];
        for side in Contestant::BOTH {
            if let Some(model) = &spec.side(side).model {
                readers[side.index()] = Some(LanguageModel::open(Path::new(&model.path))?.rendering(&rendering)?);
            }
        }
        let rewards = [reward_renderings[0].is_some(), reward_renderings[1].is_some()];
        check_asked(spec, rewards, suites.iter().map(|loaded| (loaded.suite.row.name, loaded.items.as_slice())))?;
        let items = suites.iter().flat_map(|loaded| &loaded.items);
        let texts = items.filter(|item| item.ask == ItemRequest::Text).map(|item| &item.prompt);
        let together = match &readers {
            [Some(a), Some(b)] => identities[0] == identities[1] || same_tokens(a, b, texts)?,
            _ => false,
        };
        let mut phases: VecDeque<Phase> = Contestant::BOTH.map(Phase::Answers).into();
        phases.extend(Contestant::BOTH.map(|side| Phase::Scores(ScoringScope::Alone(side))));
        phases.extend([Phase::Scores(ScoringScope::Together), Phase::Alarms]);
        phases.extend((0..spec.judges.len()).map(Phase::Judge));
        let known = known
            .into_iter()
            .chain(past.answers().cloned())
            .map(|answer| (answer.source, Played { text: answer.text, tokens: answer.tokens, finish: answer.finish }));
        for judge in &spec.judges {
            if let Some(check) = kind_named(&judge.kind)?.check {
                check(judge)?;
            }
        }
        let out = Self {
            run,
            spec: spec.clone(),
            suites,
            readers,
            checkpoints,
            identities,
            rendering,
            reward_renderings,
            trained,
            together,
            judges,
            gates,
            device,
            asking,
            known: known.collect(),
            state: past,
            phases,
            playing: None,
            scoring: None,
            unscored: None,
            judging: None,
            planned: false,
            left_out,
            tokens: 0,
            seconds: 0.0,
        };
        out.check_servers()?;
        Ok(out)
    }

    /// Does a piece of work. False when none is left.
    ///
    /// # Errors
    /// When a model cannot be loaded or computes no finite numbers.
    pub fn next(&mut self, sink: &mut dyn Sink) -> Result<bool, Error> {
        if !self.planned {
            self.planned = true;
            sink.emit(RunEvent::Planned(self.plan()))?;
            if self.done() == 0 {
                self.judges.warnings.iter().try_for_each(|finding| sink.emit(RunEvent::Found(finding.clone())))?;
                self.first_findings().into_iter().try_for_each(|finding| sink.emit(RunEvent::Found(finding)))?;
            }
        }
        let Some(phase) = self.phases.front().copied() else { return Ok(false) };
        let goes_on = match phase {
            Phase::Answers(side) => self.answer(side, sink)?,
            Phase::Scores(scope) => self.score(scope, sink)?,
            Phase::Alarms => {
                let found = alarms(&self.state, self.done());
                found.into_iter().try_for_each(|finding| sink.emit(RunEvent::Found(finding)))?;
                false
            }
            Phase::Judge(which) => self.judge(which, sink)?,
        };
        if !goes_on {
            self.phases.pop_front();
            (self.playing, self.scoring, self.judging) = (None, None, None);
        }
        Ok(true)
    }

    /// Measurements and comparisons so far.
    #[must_use]
    pub fn done(&self) -> u64 {
        let state = &self.state;
        (state.measurements().count() + state.comparisons().count() + state.posed().count()) as u64
    }

    /// What is logged.
    #[must_use]
    pub fn state(&self) -> &EvalState {
        &self.state
    }

    fn plan(&self) -> Plan {
        let seeds = self.spec.seeds.max(1) as usize;
        let all = || self.suites.iter().flat_map(|suite| &suite.items);
        let of = |side: &Option<Rendering>| all().map(|item| measured(item, side.is_some(), seeds)).sum::<usize>();
        let items = all().count();
        let judged: usize = self.suites.iter().filter(|s| s.suite.row.judged).map(|s| s.items.len()).sum();
        let parameters = self.readers.iter().flatten().map(|model| model.config.parameters()).max().unwrap_or(0);
        let dropped = self.left_out.iter().map(|(reason, count)| DroppedRows { reason: reason.clone(), count: *count });
        Plan {
            total_steps: (self.reward_renderings.iter().map(of).sum::<usize>()
                + self.spec.judges.len() * judged * seeds
                + self.gate_pairs()) as u64,
            train_rows: items,
            parameters,
            dropped: dropped.collect(),
            ..Plan::default()
        }
    }

    fn key(&self, suite: usize, item: usize, seed: u32) -> ItemKey {
        let loaded = &self.suites[suite];
        ItemKey { suite: loaded.suite.row.name.into(), item: loaded.items[item].name.clone(), seed }
    }

    /// Every item of a suite for every seed.
    fn rounds(&self, suite: usize) -> impl Iterator<Item = (usize, u32)> + use<> {
        let items = self.suites[suite].items.len();
        (0..self.spec.seeds.max(1)).flat_map(move |seed| (0..items).map(move |item| (item, seed)))
    }

    /// The answers still to be drawn.
    fn turns(&self, side: Contestant) -> Result<VecDeque<Turn>, Error> {
        let mut out = VecDeque::new();
        let reader = self.readers[side.index()].as_ref();
        if reader.is_none() && self.spec.side(side).server.is_none() {
            return Ok(out);
        }
        for (at, loaded) in self.suites.iter().enumerate() {
            for (item, seed) in self.rounds(at) {
                let key = self.key(at, item, seed);
                let asks = loaded.items[item].ask == ItemRequest::Answer;
                if !asks || self.state.measurement_of(&key, side).is_some() {
                    continue;
                }
                let prompt = &loaded.items[item].prompt;
                let ids = reader.map(|reader| reader.encode_prompt(prompt)).transpose()?.unwrap_or_default();
                let sampler = seeded(loaded.sampler, seed);
                // A server gets the prompt's words.
                let words = if reader.is_none() { loaded.items[item].cluster() } else { String::new() };
                let identity = format!("{}{words}", self.identities[side.index()]);
                let source = source(&identity, &sampler, &ids);
                out.push_back(Turn { suite: at, item, seed, ids, source });
            }
        }
        Ok(out)
    }

    /// Answers with a contestant for a while. False when it has answered everything.
    fn answer(&mut self, side: Contestant, sink: &mut dyn Sink) -> Result<bool, Error> {
        let mut playing = match self.playing.take() {
            Some(playing) => playing,
            None => Playing {
                side,
                player: None,
                server: None,
                waiting: self.turns(side)?,
                deferred: Vec::new(),
                open: BTreeMap::new(),
                in_flight: BTreeSet::new(),
                number: 0,
            },
        };
        let began = Instant::now();
        let remote = self.spec.side(side).server.is_some();
        let goes_on = if remote { self.ask_server(&mut playing, sink) } else { self.play(&mut playing, sink) };
        self.seconds += began.elapsed().as_secs_f64();
        self.playing = Some(playing);
        goes_on
    }

    /// Takes what needs no drawing off the front of the queue: logs a known answer, defers a prompt that is being answered. True
    /// when an answer was logged.
    fn take_known(&mut self, playing: &mut Playing, sink: &mut dyn Sink) -> Result<bool, Error> {
        while let Some(turn) = playing.waiting.front() {
            if let Some(known) = self.known.get(&turn.source).cloned() {
                let Some(turn) = playing.waiting.pop_front() else { break };
                self.answered(playing.side, &turn, &known, true, sink)?;
                return Ok(true);
            }
            if !playing.in_flight.contains(&turn.source) {
                break;
            }
            playing.deferred.extend(playing.waiting.pop_front());
        }
        Ok(false)
    }

    fn play(&mut self, playing: &mut Playing, sink: &mut dyn Sink) -> Result<bool, Error> {
        let began = Instant::now();
        while began.elapsed() < SLICE {
            loop {
                if self.take_known(playing, sink)? {
                    return Ok(true);
                }
                let Some(turn) = playing.waiting.front() else { break };
                let sampler = seeded(self.suites[turn.suite].sampler, turn.seed);
                let context = self.readers[playing.side.index()].as_ref().map_or(0, |model| model.config.context);
                let room = if context == 0 { usize::MAX } else { context.saturating_sub(turn.ids.len()) };
                if room == 0 {
                    let Some(turn) = playing.waiting.pop_front() else { break };
                    let none = Played { text: String::new(), tokens: 0, finish: crate::domain::Finish::Length };
                    self.answered(playing.side, &turn, &none, false, sink)?;
                    sink.emit(RunEvent::Found(self.too_long(playing.side, &turn, context)))?;
                    return Ok(true);
                }
                let player = match &mut playing.player {
                    Some(player) => player,
                    none => none.insert(self.load(playing.side, sink)?),
                };
                if !player.is_idle() {
                    break;
                }
                let Some(turn) = playing.waiting.pop_front() else { break };
                let sampler = Sampler { max_new_tokens: sampler.max_new_tokens.min(room), ..sampler };
                player.submit(playing.number, turn.ids.clone(), sampler, hash64(turn.source.as_bytes()))?;
                playing.in_flight.insert(turn.source.clone());
                playing.open.insert(playing.number, turn);
                playing.number += 1;
            }
            let Some(player) = playing.player.as_mut().filter(|_| !playing.open.is_empty()) else {
                playing.waiting.extend(std::mem::take(&mut playing.deferred));
                return Ok(!playing.waiting.is_empty());
            };
            let done = player.take()?;
            if done.is_empty() {
                self.tokens += player.step()? as u64;
                continue;
            }
            for (number, played) in done {
                let Some(turn) = playing.open.remove(&number) else { continue };
                playing.in_flight.remove(&turn.source);
                self.answered(playing.side, &turn, &played, false, sink)?;
                self.known.insert(turn.source.clone(), played);
            }
            return Ok(true);
        }
        Ok(true)
    }

    fn load(&self, side: Contestant, sink: &mut dyn Sink) -> Result<Player, Error> {
        let named = self.spec.side(side);
        sink.emit(RunEvent::Progressed { stage: format!("loading {}", named.name), done: 0, total: 1 })?;
        let Some(model) = &named.model else {
            return Err(Error::Invalid(format!("{} is not a model on this machine", named.name)));
        };
        let model = LanguageModel::open(Path::new(&model.path))?.rendering(&self.rendering)?;
        let player = Player::open(model, self.checkpoints[side.index()].as_deref(), &self.device)?;
        sink.emit(RunEvent::Progressed { stage: format!("loading {}", named.name), done: 1, total: 1 })?;
        Ok(player)
    }

    /// Logs an answer and its measurement.
    fn answered(
        &mut self,
        side: Contestant,
        turn: &Turn,
        played: &Played,
        reused: bool,
        sink: &mut dyn Sink,
    ) -> Result<(), Error> {
        let key = self.key(turn.suite, turn.item, turn.seed);
        let item = &self.suites[turn.suite].items[turn.item];
        let Played { text, tokens, finish } = played.clone();
        let answer = EvalAnswer {
            key,
            side,
            prompt: item.prompt.clone(),
            text,
            tokens,
            finish,
            source: turn.source.clone(),
            reused,
        };
        let visible = self.visible(&answer)?;
        let given = Answered { text: &visible, raw: &answer.text, tokens, finish };
        let values = (self.suites[turn.suite].suite.measure)(item, &Given::Answer(given))?;
        let measurement = Measurement { key: answer.key.clone(), side, cluster: item.cluster(), values };
        if self.state.answer_of(&answer.key, side).is_none() {
            sink.emit(RunEvent::EvalAnswered(Box::new(answer.clone())))?;
            self.state.answer(answer);
        }
        self.log(measurement, sink)
    }

    fn log(&mut self, measurement: Measurement, sink: &mut dyn Sink) -> Result<(), Error> {
        sink.emit(RunEvent::Measured(measurement.clone()))?;
        self.state.measure(measurement);
        self.step(sink)
    }

    fn step(&self, sink: &mut dyn Sink) -> Result<(), Error> {
        let mut metrics = Metrics::new();
        if self.tokens > 0 && self.seconds > 0.0 {
            metrics.set("tokens_per_second", self.tokens as f64 / self.seconds);
            metrics.set("num_tokens", self.tokens as f64);
        }
        sink.emit(RunEvent::Stepped { step: self.done(), epoch: 0.0, metrics })
    }

    /// An answer without its thoughts.
    fn visible(&self, answer: &EvalAnswer) -> Result<String, Error> {
        let opened = match &self.readers[answer.side.index()] {
            Some(reader) => reader.opens_thought(&answer.prompt)?,
            None => false,
        };
        Ok(answer_after_thoughts(&answer.text, opened))
    }

    fn too_long(&self, side: Contestant, turn: &Turn, context: usize) -> Finding {
        Finding {
            rule: "prompt_too_long".into(),
            step: self.done(),
            severity: Severity::Warn,
            text: format!(
                "The prompt of {}/{} has {} tokens, the context of {} is {context}: its answer counts as empty.",
                self.suites[turn.suite].suite.row.name,
                self.suites[turn.suite].items[turn.item].name,
                turn.ids.len(),
                self.spec.side(side).name
            ),
            remedy: "Shorten the prompt, or use a model with a longer context.".into(),
            pair: None,
        }
    }
}

/// The sampler for the seed of that number.
fn seeded(sampler: Sampler, seed: u32) -> Sampler {
    Sampler { seed: sampler.seed + u64::from(seed), ..sampler }
}

/// What an answer depends on, as a hash.
fn source(identity: &str, sampler: &Sampler, ids: &[u32]) -> String {
    let mut h = Fold64::default();
    h.add(identity.as_bytes());
    // A greedy answer depends on no seed.
    let seed = if sampler.temperature == 0.0 { 0 } else { sampler.seed };
    for x in [sampler.temperature, sampler.top_p, sampler.min_p] {
        h.add(&x.to_bits().to_le_bytes());
    }
    for n in [sampler.top_k as u64, seed, sampler.max_new_tokens as u64] {
        h.add(&n.to_le_bytes());
    }
    for id in ids {
        h.add(&id.to_le_bytes());
    }
    h.hex()
}
