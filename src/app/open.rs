//! The open session: the fold of its logs, its runs, and the records not on disk yet.

use super::effect::Effect;
use super::growing::GrowingPairs;
use super::msg::Opened;
use super::names::PairNames;
use super::outbox::{Outbox, SaveState};
use crate::domain::{Filter, FilterTest, PairId, QueueOrder, Rater, RubricPass, RunId, RunState, RunStatus, Session};
use crate::protocol::{
    Envelope, Integrity, LogFold, NumberSet, RunEvent, RunSpec, SessionMeta, SessionRecord, Task, apply_record,
    apply_run, apply_run_event,
};
use std::collections::{BTreeMap, HashSet};

/// A run of the open session.
#[derive(Debug, Clone)]
pub struct RunView {
    /// Its name.
    pub id: RunId,
    /// Its specification, once known.
    pub spec: Option<RunSpec>,
    /// The state folded from its log.
    pub state: RunState,
    /// Its records in order, for replay.
    pub records: Vec<Envelope<RunEvent>>,
    /// Whether a process holds its lock; none before that was checked.
    pub alive: Option<bool>,
    /// What is wrong with its log.
    pub integrity: Integrity,
}

impl RunView {
    /// Its lifecycle status.
    #[must_use]
    pub fn status(&self) -> RunStatus {
        self.state.status(self.alive)
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
    /// The records of the session's own log, for replay.
    pub records: Vec<Envelope<SessionRecord>>,
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
    /// Their order.
    pub order: QueueOrder,
    /// What this rater is asked of each.
    pub rubric: RubricPass,
    /// The filter that they match, if one is set.
    filter: Option<Filter>,
    /// The pairs that match it, labelled ones too.
    matching: HashSet<PairId>,
    /// What the pairs are called.
    pub names: PairNames,
    known: NumberSet,
    /// Now, in milliseconds since 1970; 0 before the first tick.
    now_ms: u64,
}

impl OpenSession {
    /// The session before its records arrive.
    #[must_use]
    pub fn new(opened: Opened) -> Self {
        Self {
            name: opened.name,
            path: opened.path,
            meta: opened.meta,
            read_only: opened.read_only,
            rater: opened.rater,
            loaded: false,
            integrity: Integrity::default(),
            session: Session::default(),
            records: Vec::new(),
            runs: Vec::new(),
            live_loops: BTreeMap::new(),
            growing: GrowingPairs::default(),
            outbox: Outbox::default(),
            queue: Vec::new(),
            done: 0,
            order: QueueOrder::default(),
            rubric: RubricPass::default(),
            filter: None,
            matching: HashSet::new(),
            names: PairNames::default(),
            known: NumberSet::default(),
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
                records: Vec::new(),
                alive: None,
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

    /// Takes over the log as it was at opening, folded beside the screen.
    pub fn take_log(&mut self, log: LogFold) {
        if !self.records.is_empty() || self.session != Session::default() {
            return self.fold(log.records);
        }
        for spec in log.launched {
            let id = spec.id.clone();
            self.run_mut(&id).spec = Some(spec);
        }
        (self.session, self.records, self.known) = (log.session, log.records, log.numbers);
        self.match_all();
        self.requeue();
    }

    /// Folds records of the session's own log; skips those already folded.
    pub fn fold(&mut self, records: Vec<Envelope<SessionRecord>>) {
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
            self.records.push(envelope);
        }
        if changed {
            self.match_all();
            self.requeue();
        }
    }

    /// Folds records of a run's log.
    pub fn fold_run(&mut self, id: &RunId, records: Vec<Envelope<RunEvent>>) {
        let mut grew = false;
        for envelope in &records {
            if let Some(event) = envelope.known() {
                grew |= matches!(event, RunEvent::Completed(_) | RunEvent::Paired(_) | RunEvent::Posed(_));
                apply_run_event(&mut self.session, event);
            }
        }
        let run = self.run_mut(id);
        for envelope in &records {
            apply_run(&mut run.state, envelope);
        }
        run.records.extend(records);
        if grew {
            self.match_all();
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
        self.match_after(record);
        match touched {
            Touched::Nothing if self.filter.is_none() => {}
            Touched::Pair(pair) if self.move_in_queue(&pair) => {
                self.done = (self.done + judged(self, &pair)).saturating_sub(before);
            }
            _ => self.requeue(),
        }
        self.outbox.flush()
    }

    /// Folds several records at once and asks the shell to write them, in this order.
    pub fn write_all(&mut self, records: &[SessionRecord]) -> Vec<Effect> {
        for record in records {
            let seq = self.outbox.push(record.clone());
            apply_record(&mut self.session, seq, self.now_ms, record);
        }
        self.match_all();
        self.requeue();
        self.outbox.flush()
    }

    /// Handles the acknowledgement of a record that is on disk with this sequence number.
    pub fn acknowledge(&mut self, ticket: u64, seq: u64, now_ms: u64) -> Vec<Effect> {
        let Some(sent) = self.outbox.acknowledge(ticket, seq) else { return Vec::new() };
        if sent.record.can_be_undone() {
            self.session.renumber(sent.provisional, seq);
        }
        if self.known.insert(seq) {
            self.records.push(Envelope { n: seq, m: 0, w: now_ms, data: Ok(sent.record) });
        }
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

    /// Recomputes the queue.
    pub fn requeue(&mut self) {
        // While the logs are read, nothing is labelled.
        if !self.loaded {
            return;
        }
        if self.now_ms > 0 {
            self.session.set_wall_time(self.now_ms);
        }
        self.names.follow(&self.session);
        if self.is_blind() {
            // Pairs of an evaluation have a queue of their own.
            self.queue = self.session.blind_queue(&self.rater);
            self.queue.retain(|pair| self.matching.contains(pair));
            self.done = self.matching.len() - self.queue.len();
            return;
        }
        self.done = self.session.judged_by(&self.rater, &self.rubric, |pair| self.matches(pair));
        self.queue = self.session.queue_by(&self.rater, self.order, &self.rubric);
        if self.filter.is_some() {
            self.queue.retain(|pair| self.matching.contains(pair));
        }
    }

    /// Every record that the logs held at opening has arrived.
    pub fn finish_loading(&mut self) {
        self.loaded = true;
        self.match_all();
        self.requeue();
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
        self.filter.is_none() || self.matching.contains(pair)
    }

    /// Sets the filter of the queue.
    pub fn set_filter(&mut self, filter: Option<Filter>) {
        // Pairs of an evaluation have a queue of their own: nothing among them is a dispute or contested.
        if filter.as_ref().is_some_and(Filter::names_evaluation) {
            self.order = QueueOrder::Arrival;
        }
        self.filter = filter;
        self.match_all();
        self.requeue();
    }

    /// Whether it shows the pairs of an evaluation.
    #[must_use]
    pub fn is_blind(&self) -> bool {
        self.filter.as_ref().is_some_and(Filter::names_evaluation)
    }

    fn match_all(&mut self) {
        // While the logs are read, nothing is labelled.
        if !self.loaded {
            return;
        }
        self.matching = self.filter.as_ref().map_or_else(HashSet::new, |filter| self.session.view(filter).pairs());
    }

    /// After a verdict or a note only its own pair has to be looked up again.
    fn match_after(&mut self, record: &SessionRecord) {
        let Some(filter) = &self.filter else { return };
        let pair = match record {
            SessionRecord::Judged(verdict) => Some(verdict.pair.clone()),
            SessionRecord::Noted { pair, .. } => Some(pair.clone()),
            SessionRecord::Undone { of } | SessionRecord::Redone { of } => self.session.judged_pair(*of).cloned(),
            _ => None,
        };
        // Whether votes dispute or contradict scores depends on more than one pair.
        let alone = !filter.asks(|test| matches!(test, FilterTest::Disputed | FilterTest::Contested));
        match pair.filter(|_| alone).and_then(|id| self.session.pair(&id)) {
            Some(pair) => {
                if self.session.view(filter).pair(pair) {
                    self.matching.insert(pair.id.clone());
                } else {
                    self.matching.remove(&pair.id);
                }
            }
            None => self.match_all(),
        }
    }
}
