//! The open session: the fold of its logs, its runs, and the records not on disk yet.

use super::effect::Effect;
use super::msg::Opened;
use super::names::PairNames;
use super::outbox::{Outbox, SaveState};
use crate::domain::{PairId, QueueOrder, Rater, RunId, RunState, RunStatus, Session};
use crate::protocol::{
    Envelope, Integrity, RunEvent, RunSpec, SessionMeta, SessionRecord, Task, apply_record, apply_run, apply_run_event,
};
use std::collections::HashSet;

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

    /// Whether it samples candidates (and does not train).
    #[must_use]
    pub fn is_sampling(&self) -> bool {
        match &self.spec {
            Some(spec) => matches!(spec.task, Task::Sample(_)),
            None => self.id.as_str().starts_with("sample"),
        }
    }
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
    /// The records not on disk yet.
    pub outbox: Outbox,
    /// The pairs this rater has yet to label.
    pub queue: Vec<PairId>,
    /// Their order.
    pub order: QueueOrder,
    /// What the pairs are called.
    pub names: PairNames,
    known: HashSet<u64>,
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
            outbox: Outbox::default(),
            queue: Vec::new(),
            order: QueueOrder::default(),
            names: PairNames::default(),
            known: HashSet::new(),
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

    /// Folds records of the session's own log; skips those already folded.
    pub fn fold(&mut self, records: Vec<Envelope<SessionRecord>>) {
        for envelope in records {
            if self.known.contains(&envelope.n) {
                continue;
            }
            if let Some(record) = envelope.known() {
                // An unsaved record is folded already; its acknowledgement brings the number.
                if self.outbox.expects(record) {
                    continue;
                }
                apply_record(&mut self.session, envelope.n, record);
                if let SessionRecord::Launched(spec) = record {
                    self.run_mut(&spec.id).spec = Some((**spec).clone());
                }
            }
            self.known.insert(envelope.n);
            self.records.push(envelope);
        }
        self.requeue();
    }

    /// Folds records of a run's log.
    pub fn fold_run(&mut self, id: &RunId, records: Vec<Envelope<RunEvent>>) {
        let mut grew = false;
        for envelope in &records {
            if let Some(event) = envelope.known() {
                grew |= matches!(event, RunEvent::Completed(_) | RunEvent::Paired(_));
                apply_run_event(&mut self.session, event);
            }
        }
        let run = self.run_mut(id);
        for envelope in &records {
            apply_run(&mut run.state, envelope);
        }
        run.records.extend(records);
        if grew {
            self.requeue();
        }
    }

    /// Folds a new record at once and asks the shell to write it.
    pub fn write(&mut self, record: &SessionRecord) -> Vec<Effect> {
        let seq = self.outbox.push(record.clone());
        apply_record(&mut self.session, seq, record);
        self.requeue();
        self.outbox.flush()
    }

    /// Handles the acknowledgement of a record that is on disk with this sequence number.
    pub fn acknowledge(&mut self, ticket: u64, seq: u64, now_ms: u64) -> Vec<Effect> {
        let Some(sent) = self.outbox.acknowledge(ticket, seq) else { return Vec::new() };
        if matches!(
            sent.record,
            SessionRecord::Judged(_) | SessionRecord::Corrected { .. } | SessionRecord::Adjudicated(_)
        ) {
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

    /// Recomputes the queue.
    pub fn requeue(&mut self) {
        self.names.follow(&self.session);
        self.queue = self.session.queue_in(&self.rater, self.order);
    }
}
