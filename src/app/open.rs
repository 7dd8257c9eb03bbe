//! The open session: the fold of its logs, its runs, and the records not on disk yet.

use super::effect::Effect;
use super::growing::GrowingPairs;
use super::msg::Opened;
use super::names::PairNames;
use super::outbox::{Outbox, SaveState};
use crate::domain::{
    BuiltQueue, Filter, FilterTest, PairId, PairSet, QueueBuild, QueueOrder, QueueRequest, Rater, RubricPass, RunId,
    RunState, RunStatus, Session,
};
use crate::protocol::{
    Envelope, Integrity, LogFold, NumberSet, RunEvent, RunSpec, SessionMeta, SessionRecord, Task, apply_record,
    apply_run, apply_run_event,
};
use std::collections::BTreeMap;

/// A run of the open session.
#[derive(Debug, Clone)]
pub struct RunView {
    /// Its name.
    pub id: RunId,
    /// Its specification, once known.
    pub spec: Option<RunSpec>,
    /// The state folded from its log.
    pub state: RunState,
    /// How many records of its log were folded.
    pub records: usize,
    /// Whether a process holds its lock; none before that was checked.
    pub alive: Option<bool>,
    /// Whether that process is stopped by a signal.
    pub suspended: bool,
    /// What is wrong with its log.
    pub integrity: Integrity,
}

/// What holds a session that lies where nothing can be written, in place of a process.
pub const READ_ONLY_DISK: &str = "read-only disk";

/// Why nothing can be written to a session that `holder` holds, and what to do.
#[must_use]
pub fn read_only_sentence(holder: &str) -> String {
    if holder == READ_ONLY_DISK {
        return "read-only: this session's folder cannot be written to; copy it to another place to write there".into();
    }
    format!("read-only: {holder} holds this session; close it there to write here")
}

impl RunView {
    /// Its lifecycle status.
    #[must_use]
    pub fn status(&self) -> RunStatus {
        match self.state.status(self.alive) {
            status if status.is_live() && self.suspended => RunStatus::Suspended,
            status => status,
        }
    }

    /// Whether it trained and ended with a checkpoint.
    #[must_use]
    pub fn has_result(&self) -> bool {
        let trains = self.spec.as_ref().is_some_and(|spec| matches!(spec.task, Task::Train(_)));
        trains && matches!(self.status(), RunStatus::Finished | RunStatus::Stopped)
    }

    /// Whether it trained a reward model, which writes no answers.
    #[must_use]
    pub fn is_reward(&self) -> bool {
        self.spec.as_ref().is_some_and(|spec| spec.kind() == "reward")
    }

    /// Its checkpoints to go on from: the last one, and the best one if the run selected it.
    #[must_use]
    pub fn start_points(&self) -> Vec<RunId> {
        let selects_best = matches!(self.spec.as_ref().map(|spec| &spec.task), Some(Task::Train(train))
            if train.params.usize("eval_steps") > 0 && !train.params.text("metric_for_best_model").is_empty());
        let mut out = vec![self.id.clone()];
        out.extend(selects_best.then(|| self.id.at_best()));
        out
    }

    /// Whether it samples candidates (and does not train).
    #[must_use]
    pub fn is_sampling(&self) -> bool {
        match &self.spec {
            Some(spec) => matches!(spec.task, Task::Sample(_)),
            None => self.id.as_str().starts_with("sample"),
        }
    }

    /// Whether it compares two models.
    #[must_use]
    pub fn is_evaluation(&self) -> bool {
        match &self.spec {
            Some(spec) => matches!(spec.task, Task::Eval(_)),
            None => self.id.as_str().starts_with("eval"),
        }
    }
}

/// Pairs that the queue looks at before the next key has its turn: a few milliseconds.
const SLICE: usize = 4_000;

/// A queue that is being built, while the one before is still in use.
#[derive(Debug, Clone)]
struct Building {
    build: QueueBuild,
    /// Whether the rater asked for it: then its first pair takes the place of the shown one.
    asked: bool,
    /// Pairs that records changed since it began.
    changed: Vec<PairId>,
    /// Whether more changed than these pairs: then another one is built after it.
    again: bool,
}

/// What of the queue a record changes.
enum Touched {
    Nothing,
    Pair(PairId),
    All,
}

/// The open session.
#[derive(Debug, Clone)]
pub struct OpenSession {
    /// The name or path it was opened by.
    pub name: String,
    /// Its folder.
    pub path: String,
    /// Its description.
    pub meta: SessionMeta,
    /// Who else holds its lock; nothing can be written then.
    pub read_only: Option<String>,
    /// The rater who labels here.
    pub rater: Rater,
    /// Whether every record that the logs held at opening has arrived.
    pub loaded: bool,
    /// What is wrong with its logs.
    pub integrity: Integrity,
    /// The folded state, unsaved records included.
    pub session: Session,
    /// Its runs in order of launch.
    pub runs: Vec<RunView>,
    /// Whether a process carries out each loop, as far as that was said.
    pub live_loops: BTreeMap<String, bool>,
    /// What the runs are writing at this moment.
    pub growing: GrowingPairs,
    /// The records not on disk yet.
    pub outbox: Outbox,
    /// The pairs this rater has yet to label.
    pub queue: Vec<PairId>,
    /// How many verdicts this rater has given in this pass, on pairs that match the filter.
    pub done: usize,
    /// How many pairs of the queue have scores, where it is sorted by them.
    pub scored: usize,
    /// Their order.
    pub order: QueueOrder,
    /// What this rater is asked of each.
    pub rubric: RubricPass,
    /// The filter that they match, if one is set.
    filter: Option<Filter>,
    /// The pairs that match it, labelled ones too.
    matching: PairSet,
    building: Option<Building>,
    /// Whether a queue that the rater asked for is there, and no screen has taken it over yet.
    arrived: bool,
    /// What the pairs are called.
    pub names: PairNames,
    known: NumberSet,
    /// What runs added to the session before its own log was read; none after that.
    before_log: Option<Vec<RunEvent>>,
    /// Now, in milliseconds since 1970; 0 before the first tick.
    now_ms: u64,
}

impl OpenSession {
    /// The session before its records arrive.
    #[must_use]
    pub fn new(opened: Opened) -> Self {
        let mut outbox = Outbox::default();
        outbox.hold();
        Self {
            name: opened.name,
            path: opened.path,
            meta: opened.meta,
            read_only: opened.read_only,
            rater: opened.rater,
            loaded: false,
            integrity: Integrity::default(),
            session: Session::default(),
            runs: Vec::new(),
            live_loops: BTreeMap::new(),
            growing: GrowingPairs::default(),
            outbox,
            queue: Vec::new(),
            done: 0,
            scored: 0,
            order: QueueOrder::default(),
            rubric: RubricPass::default(),
            filter: None,
            matching: PairSet::default(),
            building: None,
            arrived: false,
            names: PairNames::default(),
            known: NumberSet::default(),
            before_log: Some(Vec::new()),
            now_ms: 0,
        }
    }

    /// The run with this id, added if it is new.
    pub fn run_mut(&mut self, id: &RunId) -> &mut RunView {
        let at = self.runs.iter().position(|run| run.id == *id).unwrap_or_else(|| {
            self.runs.push(RunView {
                id: id.clone(),
                spec: None,
                state: RunState::default(),
                records: 0,
                alive: None,
                suspended: false,
                integrity: Integrity::default(),
            });
            self.runs.len() - 1
        });
        &mut self.runs[at]
    }

    /// The run with this id.
    #[must_use]
    pub fn run(&self, id: &RunId) -> Option<&RunView> {
        self.runs.iter().find(|run| run.id == *id)
    }

    /// Takes over the log as it was at opening, folded beside the screen, and sends what was held until then.
    pub fn take_log(&mut self, log: LogFold) -> Vec<Effect> {
        for spec in log.launched {
            let id = spec.id.clone();
            self.run_mut(&id).spec = Some(spec);
        }
        (self.session, self.known) = (log.session, log.numbers);
        for event in self.before_log.take().into_iter().flatten() {
            apply_run_event(&mut self.session, &event);
        }
        for (seq, record) in self.outbox.unsaved() {
            apply_record(&mut self.session, seq, self.now_ms, record);
        }
        self.requeue();
        self.outbox.release();
        self.outbox.flush()
    }

    /// Folds records of the session's own log; skips those already folded.
    pub fn fold(&mut self, records: Vec<Envelope<SessionRecord>>) {
        self.outbox.release();
        let mut changed = false;
        for envelope in records {
            if self.known.contains(envelope.n) {
                continue;
            }
            if let Some(record) = envelope.known() {
                // An unsaved record is folded already; its acknowledgement brings the number.
                if self.outbox.expects(record) {
                    continue;
                }
                apply_record(&mut self.session, envelope.n, envelope.w, record);
                changed = true;
                if let SessionRecord::Launched(spec) = record {
                    self.run_mut(&spec.id).spec = Some((**spec).clone());
                }
            }
            self.known.insert(envelope.n);
        }
        if changed {
            self.requeue();
        }
    }

    /// Folds records of a run's log.
    pub fn fold_run(&mut self, id: &RunId, records: &[Envelope<RunEvent>]) {
        let mut grew = false;
        for envelope in records {
            if let Some(event) = envelope.known() {
                let adds = matches!(event, RunEvent::Completed(_) | RunEvent::Paired(_) | RunEvent::Posed(_));
                if let Some(before) = self.before_log.as_mut().filter(|_| adds) {
                    before.push(event.clone());
                }
                grew |= adds;
                apply_run_event(&mut self.session, event);
            }
        }
        let run = self.run_mut(id);
        for envelope in records {
            apply_run(&mut run.state, envelope);
        }
        run.records += records.len();
        if grew {
            self.requeue();
        }
    }

    /// Folds a new record at once and asks the shell to write it.
    pub fn write(&mut self, record: &SessionRecord) -> Vec<Effect> {
        let seq = self.outbox.push(record.clone());
        let touched = self.touched(record);
        let judged = |open: &Self, pair: &PairId| {
            if open.matches(pair) { open.session.judged_on(pair, &open.rater, &open.rubric) } else { 0 }
        };
        let before = match &touched {
            Touched::Pair(pair) => judged(self, pair),
            Touched::Nothing | Touched::All => 0,
        };
        apply_record(&mut self.session, seq, self.now_ms, record);
        let alone = self.match_after(record);
        match (touched, record) {
            (Touched::Pair(pair), _) if alone => {
                self.done = (self.done + judged(self, &pair)).saturating_sub(before);
                self.place_again(pair);
            }
            (Touched::Pair(pair), _) => self.wait_for_queue(&pair),
            (Touched::Nothing, _) if self.filter.is_none() => {}
            (Touched::Nothing, SessionRecord::Noted { pair, .. }) if alone => self.place_again(pair.clone()),
            _ => self.requeue(),
        }
        self.outbox.flush()
    }

    /// Folds several records at once and asks the shell to write them, in this order.
    pub fn write_all(&mut self, records: &[SessionRecord]) -> Vec<Effect> {
        for record in records {
            let seq = self.outbox.push(record.clone());
            let touched = self.touched(record);
            apply_record(&mut self.session, seq, self.now_ms, record);
            if let Touched::Pair(pair) = touched {
                // The queue must not show it before it is there again.
                self.queue.retain(|id| *id != pair);
            }
        }
        self.requeue();
        self.outbox.flush()
    }

    /// Moves a pair to its place after a record on it alone.
    fn place_again(&mut self, pair: PairId) {
        if !self.move_in_queue(&pair) {
            return self.wait_for_queue(&pair);
        }
        if let Some(building) = &mut self.building {
            building.changed.push(pair);
        }
    }

    /// Computes the queue again after a record on a pair, which is not shown before its place is known.
    fn wait_for_queue(&mut self, pair: &PairId) {
        self.queue.retain(|id| id != pair);
        self.requeue();
    }

    /// Handles the acknowledgement of a record that is on disk with this sequence number.
    pub fn acknowledge(&mut self, ticket: u64, seq: u64) -> Vec<Effect> {
        let Some(sent) = self.outbox.acknowledge(ticket, seq) else { return Vec::new() };
        if sent.record.can_be_undone() {
            self.session.renumber(sent.provisional, seq);
        }
        self.known.insert(seq);
        self.outbox.flush()
    }

    /// Whether everything is on disk.
    #[must_use]
    pub fn saved(&self) -> SaveState {
        self.outbox.saved()
    }

    /// Takes the time. Once a minute, pairs whose repeat waits for its time may come back.
    pub fn set_now(&mut self, now_ms: u64) {
        let minute = self.now_ms / 60_000 != now_ms / 60_000;
        self.now_ms = now_ms;
        if minute && self.session.repeats().is_some_and(|repeats| repeats.after_ms > 0) {
            self.requeue();
        }
    }

    /// Computes the queue again, a slice at a time: until it is there, the one before stays in use.
    pub fn requeue(&mut self) {
        match &mut self.building {
            Some(building) => building.again = true,
            None => self.build(self.request(), false),
        }
    }

    /// The queue that is in use, or will be.
    fn request(&self) -> QueueRequest {
        match &self.building {
            Some(building) => building.build.request().clone(),
            None => QueueRequest {
                rater: self.rater.clone(),
                order: self.order,
                rubric: self.rubric.clone(),
                filter: self.filter.clone(),
            },
        }
    }

    /// Sets the order of the queue.
    pub fn set_order(&mut self, order: QueueOrder) {
        self.build(QueueRequest { order, ..self.request() }, true);
    }

    /// Sets what this rater is asked.
    pub fn set_rubric(&mut self, rubric: RubricPass) {
        self.build(QueueRequest { rubric, ..self.request() }, true);
    }

    /// Sets the filter of the queue.
    pub fn set_filter(&mut self, filter: Option<Filter>) {
        let mut request = QueueRequest { filter, ..self.request() };
        // Pairs of an evaluation have a queue of their own: nothing among them is a dispute or contested.
        if request.filter.as_ref().is_some_and(Filter::names_evaluation) {
            request.order = QueueOrder::Arrival;
        }
        self.build(request, true);
    }

    fn build(&mut self, request: QueueRequest, asked: bool) {
        // While the logs are read, nothing is labelled.
        if !self.loaded {
            QueueRequest { rater: _, order: self.order, rubric: self.rubric, filter: self.filter } = request;
            return;
        }
        if self.now_ms > 0 {
            self.session.set_wall_time(self.now_ms);
        }
        self.names.follow(&self.session);
        // One that was asked for and is there stays so when records change it.
        self.arrived &= !asked;
        self.building = Some(Building { build: QueueBuild::new(request), asked, changed: Vec::new(), again: false });
        self.go_on();
    }

    /// Whether a queue is being built: [`OpenSession::go_on`] looks at the next pairs.
    #[must_use]
    pub fn is_building(&self) -> bool {
        self.building.is_some()
    }

    /// How much of the session was looked at for a queue that the rater asked for, in 0..=1.
    #[must_use]
    pub fn progress(&self) -> Option<f64> {
        let building = self.building.as_ref().filter(|building| building.asked)?;
        Some(building.build.progress(&self.session))
    }

    /// Looks at the next pairs for the queue that is being built. True when it is there.
    pub fn go_on(&mut self) -> bool {
        let Some(mut building) = self.building.take() else { return false };
        if !building.build.advance(&self.session, SLICE) {
            self.building = Some(building);
            return false;
        }
        let Building { build, asked, changed, again } = building;
        let request = build.request().clone();
        let BuiltQueue { queue, matching, done, scored } = build.finish(&self.session);
        (self.queue, self.matching, self.done, self.scored) = (queue, matching, done, scored);
        QueueRequest { rater: _, order: self.order, rubric: self.rubric, filter: self.filter } = request;
        self.arrived |= asked;
        // What the pass had behind it when it changed.
        let again = again || changed.iter().any(|pair| !self.look_again(pair));
        if again {
            self.build(self.request(), false);
        } else if !changed.is_empty() {
            self.done = self.session.judged_by(&self.rater, &self.rubric, |pair| self.matches(pair));
        }
        true
    }

    /// Matches and places a pair again. False where the whole queue must be computed again.
    fn look_again(&mut self, pair: &PairId) -> bool {
        self.match_pair(pair) && self.move_in_queue(pair)
    }

    /// Whether a queue that the rater asked for has come since the last call.
    pub fn take_arrival(&mut self) -> bool {
        std::mem::take(&mut self.arrived)
    }

    /// Every record that the logs held at opening has arrived. The first pair is shown once the queue is whole.
    pub fn finish_loading(&mut self) {
        self.loaded = true;
        self.requeue();
        self.finish_queue();
    }

    /// Builds the queue to its end at once, where a screen opens on it.
    pub fn finish_queue(&mut self) {
        while self.is_building() {
            self.go_on();
        }
        self.arrived = false;
    }

    /// What of the queue a record changes.
    fn touched(&self, record: &SessionRecord) -> Touched {
        let session = &self.session;
        match record {
            SessionRecord::Judged(verdict) => Touched::Pair(verdict.pair.clone()),
            SessionRecord::Adjudicated(adjudication) => Touched::Pair(adjudication.pair.clone()),
            SessionRecord::Undone { of } | SessionRecord::Redone { of } => {
                let adjudicated = || session.adjudication_at(*of).map(|a| a.pair.clone());
                session.judged_pair(*of).cloned().or_else(adjudicated).map_or(Touched::All, Touched::Pair)
            }
            SessionRecord::Noted { .. }
            | SessionRecord::Corrected { .. }
            | SessionRecord::Withdrawn { .. }
            | SessionRecord::Restored { .. } => Touched::Nothing,
            _ => Touched::All,
        }
    }

    /// Moves one pair to its new place. False where the whole queue must be computed again.
    fn move_in_queue(&mut self, pair: &PairId) -> bool {
        let belongs = self.matches(pair);
        let (session, rater) = (&self.session, &self.rater);
        session.move_in_queue(&mut self.queue, pair, rater, self.order, &self.rubric, belongs)
    }

    /// The filter of the queue, if one is set.
    #[must_use]
    pub fn filter(&self) -> Option<&Filter> {
        self.filter.as_ref()
    }

    /// How many pairs match the filter, labelled ones too.
    #[must_use]
    pub fn matching(&self) -> usize {
        self.matching.len()
    }

    /// Whether a pair matches the filter.
    #[must_use]
    pub fn matches(&self, pair: &PairId) -> bool {
        self.filter.is_none() || self.matching.contains(&self.session, pair)
    }

    /// Whether it shows the pairs of an evaluation.
    #[must_use]
    pub fn is_blind(&self) -> bool {
        self.filter.as_ref().is_some_and(Filter::names_evaluation)
    }

    /// After a verdict or a note only its own pair has to be looked up again. False where all of them have to be.
    fn match_after(&mut self, record: &SessionRecord) -> bool {
        if self.filter.is_none() {
            return true;
        }
        let pair = match record {
            SessionRecord::Judged(verdict) => Some(verdict.pair.clone()),
            SessionRecord::Noted { pair, .. } => Some(pair.clone()),
            SessionRecord::Undone { of } | SessionRecord::Redone { of } => self.session.judged_pair(*of).cloned(),
            _ => None,
        };
        pair.is_some_and(|pair| self.match_pair(&pair))
    }

    /// Matches a pair again. False where that depends on more than one pair.
    fn match_pair(&mut self, pair: &PairId) -> bool {
        let Some(filter) = &self.filter else { return true };
        // Whether votes dispute or contradict scores.
        let alone = !filter.asks(|test| matches!(test, FilterTest::Disputed | FilterTest::Contested));
        let Some(pair) = self.session.pair(pair).filter(|_| alone) else { return false };
        if self.session.view(filter).pair(pair) {
            self.matching.insert(&self.session, &pair.id);
        } else {
            self.matching.remove(&self.session, &pair.id);
        }
        true
    }
}
