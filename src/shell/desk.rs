//! The thread that owns the open session's log: everything that is written to it goes over this desk, in order.
//!
//! A record is acknowledged only after fsync; records that wait together are brought to the disk together. A launch goes
//! over the desk too, so that the verdicts given before it are in the data it freezes.

use super::error::Result;
use super::intake;
use super::journal::Journal;
use super::plan::{self, SampleOrder, TrainOrder};
use super::reply::Replies;
use super::supervisor;
use super::tails;
use crate::app::{Msg, Opened, SampleAsk, TrainAsk};
use crate::domain::{Rater, RunId};
use crate::protocol::{RunCommand, RunSpec, SessionRecord};
use crate::storage::{DataFile, Home, SessionDir};
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};

/// What the desk is told.
#[derive(Debug)]
pub enum Order {
    /// Close what is open and open this session.
    Open {
        /// The number of this opening.
        opening: u64,
        /// The session's name or path.
        name: String,
    },
    /// Close what is open.
    Close,
    /// Append a record.
    Append {
        /// Names it in the answer.
        ticket: u64,
        /// The record.
        record: Box<SessionRecord>,
    },
    /// Import a file.
    Import(PathBuf),
    /// A run was found: note its launch if it is not noted.
    Adopt,
    /// Launch a training run.
    Train(TrainAsk),
    /// Launch a sampling run.
    Sample(SampleAsk),
    /// Start a worker for a run that has none.
    Resume(RunId),
    /// Tell a run's worker something.
    Command(RunId, RunCommand),
    /// What would this run take?
    Estimate {
        /// Names it in the answer.
        ticket: u64,
        /// The run.
        ask: TrainAsk,
    },
    /// What would this run read and learn?
    Masks {
        /// Names it in the answer.
        ticket: u64,
        /// The run.
        ask: TrainAsk,
    },
    /// Close what is open and end.
    End,
}

/// A question about a run that is not launched: its number, and what it would be.
pub type Question = (u64, u64, Result<(RunSpec, Vec<DataFile>)>);

/// Starts the desk. `tails` follows the session it opens; `questions` gets the estimates to make. What comes back says when
/// it has ended: everything is on disk then.
///
/// # Errors
/// When the thread cannot be made.
pub fn spawn(
    home: Home,
    rater: Rater,
    replies: Replies,
    inbox: Receiver<Order>,
    tails: Sender<tails::Order>,
    questions: Sender<Question>,
) -> io::Result<Receiver<()>> {
    let (done, ended) = channel();
    let bench = Bench { home, rater, replies, tails, questions, open: None };
    std::thread::Builder::new().name("desk".into()).spawn(move || {
        bench.work(&inbox);
        let _ = done.send(());
    })?;
    Ok(ended)
}

struct Open {
    opening: u64,
    dir: SessionDir,
    journal: Option<Journal>,
}

struct Bench {
    home: Home,
    rater: Rater,
    replies: Replies,
    tails: Sender<tails::Order>,
    questions: Sender<Question>,
    open: Option<Open>,
}

impl Bench {
    fn work(mut self, inbox: &Receiver<Order>) {
        while let Ok(order) = inbox.recv() {
            let mut next = Some(order);
            let mut appends = Vec::new();
            while let Some(order) = next {
                match order {
                    Order::Append { ticket, record } => appends.push((ticket, *record)),
                    Order::End => {
                        self.append(&appends);
                        return self.close();
                    }
                    order => {
                        self.append(&std::mem::take(&mut appends));
                        self.take(order);
                    }
                }
                next = inbox.try_recv().ok();
            }
            self.append(&appends);
        }
        self.close();
    }

    fn take(&mut self, order: Order) {
        let done = match order {
            Order::Open { opening, name } => self.open(opening, name),
            Order::Close => {
                self.close();
                Ok(())
            }
            Order::Append { .. } | Order::End => Ok(()),
            Order::Import(path) => self.import(&path),
            Order::Adopt => self.adopt(),
            Order::Train(ask) => self.train(ask),
            Order::Sample(ask) => self.sample(&ask),
            Order::Resume(run) => self.resume(run),
            Order::Command(run, command) => self.command(&run, command),
            Order::Estimate { ticket, ask } => {
                self.estimate(ticket, ask);
                Ok(())
            }
            Order::Masks { ticket, ask } => {
                self.masks(ticket, ask);
                Ok(())
            }
        };
        if let Err(error) = done {
            self.replies.send(Msg::Failed(error.to_string()));
        }
    }

    fn open(&mut self, opening: u64, name: String) -> Result<()> {
        self.close();
        let dir = SessionDir::find(&self.home, &name)?;
        let meta = dir.meta()?;
        let journal = Journal::open(&dir)?;
        let read_only = match &journal {
            Some(_) => None,
            None => Some(dir.holder().map_or_else(|| "another process".into(), |h| h.to_string())),
        };
        let path = dir.path().display().to_string();
        let opened = Opened { name, path, meta, read_only, rater: self.rater.clone() };
        self.replies.of(opening, Msg::SessionOpened(opened));
        let _ = self.tails.send(tails::Order::Follow { opening, dir: dir.clone() });
        self.open = Some(Open { opening, dir, journal });
        Ok(())
    }

    /// Closes the session with the hash of its state.
    fn close(&mut self) {
        let _ = self.tails.send(tails::Order::Leave);
        if let Some(Open { journal: Some(journal), .. }) = self.open.take()
            && let Err(error) = journal.close()
        {
            self.replies.send(Msg::Failed(error.to_string()));
        }
    }

    /// Appends records and brings them to the disk together; only then are they acknowledged.
    fn append(&mut self, records: &[(u64, SessionRecord)]) {
        if records.is_empty() {
            return;
        }
        let Some(open) = &mut self.open else {
            return self.refuse(None, records.iter().map(|r| r.0), "no session is open: open one and try again");
        };
        let opening = open.opening;
        let Some(journal) = &mut open.journal else {
            let text =
                "this session is open for reading only: close it where it is open for writing, then open it again";
            return self.refuse(Some(opening), records.iter().map(|r| r.0), text);
        };
        let mut written = Vec::new();
        let mut failed = None;
        for (i, (ticket, record)) in records.iter().enumerate() {
            match journal.append(record) {
                Ok(seq) => written.push((*ticket, seq)),
                Err(error) => {
                    failed = Some((i, error));
                    break;
                }
            }
        }
        match journal.sync() {
            Ok(()) => {
                for (ticket, seq) in written {
                    self.replies.of(opening, Msg::Acknowledged { ticket, seq });
                }
                if let Some((i, error)) = failed {
                    self.refuse(Some(opening), records[i..].iter().map(|r| r.0), &error.to_string());
                }
            }
            Err(error) => self.refuse(Some(opening), records.iter().map(|r| r.0), &error.to_string()),
        }
    }

    fn refuse(&self, opening: Option<u64>, tickets: impl Iterator<Item = u64>, error: &str) {
        for ticket in tickets {
            let msg = Msg::AppendFailed { ticket, error: error.to_owned() };
            match opening {
                Some(opening) => self.replies.of(opening, msg),
                None => self.replies.send(msg),
            };
        }
    }

    fn import(&mut self, path: &std::path::Path) -> Result<()> {
        let Some((opening, _, journal)) = self.writable()? else { return Ok(()) };
        let intake = intake::bring_in(journal, path, None, None)?;
        let _ = self.tails.send(tails::Order::Look);
        let text = match intake.left_out {
            Some(left) => format!("{}; {left}", intake.text),
            None => intake.text,
        };
        self.replies.of(opening, Msg::Imported(text));
        Ok(())
    }

    fn adopt(&mut self) -> Result<()> {
        if let Some(Open { journal: Some(journal), .. }) = &mut self.open {
            journal.adopt_runs()?;
        }
        Ok(())
    }

    fn train(&mut self, ask: TrainAsk) -> Result<()> {
        let Some((opening, dir)) = self.session() else { return Ok(()) };
        let (spec, data) = plan::train(&self.home, &dir, order(ask))?;
        self.launch(opening, dir, spec, data);
        Ok(())
    }

    fn sample(&mut self, ask: &SampleAsk) -> Result<()> {
        let Some((opening, dir)) = self.session() else { return Ok(()) };
        let order = SampleOrder {
            models: Vec::new(),
            adapter: None,
            per_prompt: ask.per_prompt,
            // The form shows a seed; the default one counts up, as on the command line.
            count_seed: ask.sampler.seed == crate::domain::Sampler::default().seed,
            sampler: ask.sampler,
            device: "auto".into(),
        };
        let (spec, data) = plan::sample(&self.home, &dir, order)?;
        self.launch(opening, dir, spec, data);
        Ok(())
    }

    /// Launches in a thread: a worker may take seconds to come up, and verdicts must not wait for it.
    fn launch(&self, opening: u64, dir: SessionDir, spec: RunSpec, data: Vec<DataFile>) {
        let (replies, tails) = (self.replies.clone(), self.tails.clone());
        aside(&self.replies, "launch", move || {
            let launched = supervisor::launch(&dir, None, &spec, &data);
            let _ = tails.send(tails::Order::Look);
            match launched {
                Ok(run) => replies.of(opening, Msg::Launched { run: run.id() }),
                Err(error) => replies.of(opening, Msg::Failed(error.to_string())),
            };
        });
    }

    fn resume(&mut self, id: RunId) -> Result<()> {
        let Some((opening, dir)) = self.session() else { return Ok(()) };
        let run = dir.run(&id)?;
        let (replies, tails) = (self.replies.clone(), self.tails.clone());
        aside(&self.replies, "resume", move || {
            let resumed = supervisor::resume(&run);
            let _ = tails.send(tails::Order::Look);
            match resumed {
                Ok(()) => replies.of(opening, Msg::Note(format!("{id} resumed"))),
                Err(error) => replies.of(opening, Msg::Failed(error.to_string())),
            };
        });
        Ok(())
    }

    fn command(&mut self, run: &RunId, command: RunCommand) -> Result<()> {
        if let Some((_, dir)) = self.session() {
            dir.run(run)?.post(command)?;
        }
        Ok(())
    }

    fn estimate(&mut self, ticket: u64, ask: TrainAsk) {
        let Some((opening, dir)) = self.session() else { return };
        let planned = plan::train(&self.home, &dir, question(ask));
        let _ = self.questions.send((opening, ticket, planned));
    }

    fn masks(&self, ticket: u64, ask: TrainAsk) {
        let Some((opening, dir)) = self.session() else { return };
        let planned = plan::train(&self.home, &dir, question(ask));
        let replies = self.replies.clone();
        let place = self.home.cache();
        aside(&self.replies, "masks", move || {
            let answer = planned.and_then(|(spec, data)| supervisor::ask_about("masks", &place, &spec, &data));
            replies.of(opening, Msg::MasksReady { ticket, answer: answer.map_err(|e| e.to_string()) });
        });
    }

    fn session(&self) -> Option<(u64, SessionDir)> {
        self.open.as_ref().map(|open| (open.opening, open.dir.clone()))
    }

    fn writable(&mut self) -> Result<Option<(u64, &SessionDir, &mut Journal)>> {
        match &mut self.open {
            Some(Open { opening, dir, journal: Some(journal) }) => Ok(Some((*opening, dir, journal))),
            Some(Open { dir, .. }) => Journal::require(dir).map(|_| None),
            None => Ok(None),
        }
    }
}

fn order(ask: TrainAsk) -> TrainOrder {
    TrainOrder {
        method: ask.method,
        params: ask.params,
        name: None,
        init: ask.init,
        device: "auto".into(),
        allow_damaged: ask.allow_damaged,
    }
}

/// A run that is only asked about: damage stands in the header, and is asked about at the launch.
fn question(ask: TrainAsk) -> TrainOrder {
    TrainOrder { allow_damaged: true, ..order(ask) }
}

/// Runs something in a thread of its own.
pub fn aside(replies: &Replies, name: &str, work: impl FnOnce() + Send + 'static) {
    if let Err(error) = std::thread::Builder::new().name(name.into()).spawn(work) {
        replies.send(Msg::Failed(format!("no thread can be made ({error}): close other programs and try again")));
    }
}
