//! The writer: the thread that owns the open session's log. It appends and brings to the disk, and does nothing else.
//!
//! A record is acknowledged only after fsync; records that wait together are brought to the disk together. Where the disk
//! fails, they stay here in their order and are tried again, until they are saved or the program ends. Whatever reads whole
//! logs, plans a run or asks a worker is an errand: it is passed on, with the number of the last record on disk.

use super::errands::{Errand, Errands, Place};
use super::error::{Error, Result};
use super::intake;
use super::journal::Journal;
use super::reply::Replies;
use super::tails;
use crate::app::{Msg, Opened, SeqMap};
use crate::domain::{Rater, counted};
use crate::protocol::{RunSpec, SessionRecord};
use crate::storage::import::Imported;
use crate::storage::{self, Home, SessionDir};
use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The first wait after the disk failed; each further failure doubles it.
const RETRY: Duration = Duration::from_secs(1);
/// The longest wait between two tries.
const RETRY_MOST: Duration = Duration::from_secs(30);
/// How long leaving waits for the disk, at most.
const LEAVE: Duration = Duration::from_secs(5);
/// Time between two tries while leaving.
const RETRY_LEAVING: Duration = Duration::from_millis(200);
/// How long the event loop has to hand over its last records before the writer is told to end without it.
const HAND_OVER: Duration = Duration::from_millis(500);

/// What the writer is told.
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
    /// Try now what the disk refused.
    SaveNow,
    /// Take in what was read from a file.
    Import {
        /// The opening it was read for.
        opening: u64,
        /// What was read.
        rows: Box<Imported>,
    },
    /// Runs were found: note the launches that are not noted.
    Adopt {
        /// The opening they belong to.
        opening: u64,
        /// What they were asked to do.
        specs: Vec<RunSpec>,
    },
    /// Let somebody else do something with what is on disk now.
    Send(Errand),
    /// Close what is open and end.
    End,
}

/// The writer as the rest of the shell sees it.
#[derive(Debug, Clone)]
pub struct Desk {
    orders: Sender<Order>,
    /// What could not be saved, once the writer has ended.
    ended: Arc<(Mutex<Option<usize>>, Condvar)>,
}

impl Desk {
    /// Starts the writer. `tails` follows the session it opens.
    ///
    /// # Errors
    /// When a thread cannot be made.
    pub fn spawn(home: Home, rater: Rater, replies: Replies, tails: Sender<tails::Order>) -> io::Result<Self> {
        let (orders, inbox) = channel();
        let desk = Self { orders, ended: Arc::default() };
        let errands = {
            let desk = desk.clone();
            Errands::start(home.clone(), replies.clone(), tails.clone(), move |opening, rows| {
                desk.order(Order::Import { opening, rows: Box::new(rows) });
            })?
        };
        // A stuck screen must not keep the writer from the disk: its answers wait in a queue without end.
        let (answers, queued) = channel::<Answer>();
        let follower = tails.clone();
        std::thread::Builder::new().name("answers".into()).spawn(move || {
            queued.iter().all(|answer| match answer {
                Answer::Of(opening, msg) => replies.of(opening, msg),
                Answer::Say(msg) => replies.send(msg),
                Answer::Tails(order) => follower.send(order).is_ok(),
            })
        })?;
        let ended = Arc::clone(&desk.ended);
        let writer = Writer {
            home,
            rater,
            answers,
            tails,
            errands,
            open: None,
            queue: Queue::default(),
            later: VecDeque::new(),
        };
        std::thread::Builder::new().name("desk".into()).spawn(move || {
            let unsaved = writer.work(&inbox);
            *ended.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(unsaved);
            ended.1.notify_all();
        })?;
        Ok(desk)
    }

    /// Gives the writer an order. It ends only when it is told to.
    pub fn order(&self, order: Order) {
        let _ = self.orders.send(order);
    }

    /// Lets the writer save what it has and end, and waits for that. Gives back how many records are not saved; none where
    /// the writer has not ended in time.
    #[must_use]
    pub fn end(&self) -> Option<usize> {
        self.order(Order::End);
        self.wait(LEAVE)
    }

    /// The same for a loop that was told to end, and may have records to hand over first or be stuck.
    pub fn end_after_loop(&self) {
        if self.wait(HAND_OVER).is_none() {
            self.order(Order::End);
            let _ = self.wait(LEAVE.saturating_sub(HAND_OVER));
        }
    }

    fn wait(&self, limit: Duration) -> Option<usize> {
        let ended = self.ended.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.ended.1.wait_timeout_while(ended, limit, |ended| ended.is_none());
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Records that are not acknowledged yet, in their order.
#[derive(Default)]
struct Queue {
    /// Not in the log.
    waiting: VecDeque<(u64, SessionRecord)>,
    /// In the log, under these numbers, but not on the disk for sure.
    written: Vec<(u64, u64)>,
    numbers: SeqMap,
    /// Failures in a row.
    failures: u32,
    /// When to try again, where the disk failed.
    again: Option<Instant>,
}

impl Queue {
    fn len(&self) -> usize {
        self.waiting.len() + self.written.len()
    }

    /// Appends what waits, as far as the disk takes it, and brings it to the disk. `refuse` is told of records that no
    /// other try would save, `saved` of those that are on disk.
    fn save(
        &mut self,
        journal: &mut Journal,
        mut refuse: impl FnMut(u64, String),
        mut saved: impl FnMut(u64, u64),
    ) -> Result<()> {
        let mut failed = None;
        while let Some((ticket, record)) = self.waiting.front_mut() {
            if !self.numbers.resolve(record) {
                refuse(*ticket, "it undoes a verdict that is not in the log".into());
                self.waiting.pop_front();
                continue;
            }
            match journal.append(record) {
                Ok(seq) => {
                    self.numbers.note(*ticket, record, seq);
                    self.written.push((*ticket, seq));
                }
                Err(error) if error.is_of_the_record() => refuse(*ticket, error.to_string()),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
            self.waiting.pop_front();
        }
        if !self.written.is_empty() {
            journal.sync()?;
            self.written.drain(..).for_each(|(ticket, seq)| saved(ticket, seq));
        }
        failed.map_or(Ok(()), Err)
    }

    /// How long until the next try, after another failure.
    fn back_off(&mut self) -> Duration {
        let now = Instant::now();
        match self.again {
            // A key in between tries too, but puts nothing off.
            Some(at) if at > now => at - now,
            _ => {
                let wait = RETRY.saturating_mul(1 << self.failures.min(10)).min(RETRY_MOST);
                self.failures += 1;
                self.again = Some(now + wait);
                wait
            }
        }
    }
}

/// What the writer has to say, in the order in which it is heard.
enum Answer {
    /// To the screen, about this opening.
    Of(u64, Msg),
    /// To the screen.
    Say(Msg),
    /// To the thread that follows logs: what it reads must not come before the session is open on the screen.
    Tails(tails::Order),
}

struct Open {
    opening: u64,
    dir: SessionDir,
    journal: Option<Journal>,
}

struct Writer {
    home: Home,
    rater: Rater,
    answers: Sender<Answer>,
    tails: Sender<tails::Order>,
    errands: Errands,
    open: Option<Open>,
    queue: Queue,
    /// Orders that came while a file was taken in.
    later: VecDeque<Order>,
}

impl Writer {
    /// Works until it is told to end. Gives back how many records are not saved.
    fn work(mut self, inbox: &Receiver<Order>) -> usize {
        loop {
            let first = match (self.later.pop_front(), self.queue.again) {
                (Some(order), _) => Ok(order),
                (None, Some(at)) => inbox.recv_timeout(at.saturating_duration_since(Instant::now())),
                (None, None) => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let mut next = match first {
                Ok(order) => Some(order),
                Err(RecvTimeoutError::Timeout) => Some(Order::SaveNow),
                Err(RecvTimeoutError::Disconnected) => return self.leave(inbox),
            };
            while let Some(order) = next {
                match order {
                    Order::Append { ticket, record } => self.queue.waiting.push_back((ticket, *record)),
                    Order::End => return self.leave(inbox),
                    order => {
                        self.save();
                        self.take(order, inbox);
                    }
                }
                next = self.later.pop_front().or_else(|| inbox.try_recv().ok());
            }
            self.save();
        }
    }

    fn take(&mut self, order: Order, inbox: &Receiver<Order>) {
        let done = match order {
            Order::Open { opening, name } => self.open(opening, name),
            Order::Close => {
                self.close();
                Ok(())
            }
            Order::Append { .. } | Order::SaveNow | Order::End => Ok(()),
            Order::Import { opening, rows } => self.import(opening, *rows, inbox),
            Order::Adopt { opening, specs } => self.adopt(opening, specs),
            Order::Send(errand) => {
                self.send(errand);
                Ok(())
            }
        };
        if let Err(error) = done {
            self.answer(Msg::Failed(error.to_string()));
        }
    }

    fn answer(&self, msg: Msg) {
        let _ = self.answers.send(Answer::Say(msg));
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
        let _ = self.answers.send(Answer::Of(opening, Msg::SessionOpened(opened)));
        let _ = self.answers.send(Answer::Tails(tails::Order::Follow { opening, dir: dir.clone() }));
        self.open = Some(Open { opening, dir, journal });
        Ok(())
    }

    /// Closes the session with the hash of its state.
    fn close(&mut self) {
        let _ = self.answers.send(Answer::Tails(tails::Order::Leave));
        let queue = std::mem::take(&mut self.queue);
        let Some(Open { dir, journal: Some(journal), .. }) = self.open.take() else { return };
        if queue.len() > 0 {
            let records = counted(queue.len(), "record");
            self.answer(Msg::Failed(format!("{records} of session {} could not be saved and are lost", dir.name())));
        }
        if let Err(error) = journal.close() {
            self.answer(Msg::Failed(error.to_string()));
        }
    }

    /// Saves what waits. Where the disk fails, says so and when it is tried again.
    fn save(&mut self) {
        if self.queue.len() == 0 {
            return;
        }
        let opening = self.open.as_ref().map(|open| open.opening);
        let answers = &self.answers;
        let say = |msg: Msg| {
            let _ = answers.send(match opening {
                Some(opening) => Answer::Of(opening, msg),
                None => Answer::Say(msg),
            });
        };
        let refuse = |ticket, error| say(Msg::AppendFailed { ticket, error });
        let Some(Open { journal: Some(journal), .. }) = &mut self.open else {
            let why = match opening {
                None => "no session is open: open one and try again",
                Some(_) => {
                    "this session is open for reading only: close it where it is open for writing, then reopen it"
                }
            };
            return self.queue.waiting.drain(..).for_each(|(ticket, _)| refuse(ticket, why.into()));
        };
        let saved = |ticket, seq| say(Msg::Acknowledged { ticket, seq });
        match self.queue.save(journal, refuse, saved) {
            Ok(()) => (self.queue.failures, self.queue.again) = (0, None),
            Err(error) => {
                let in_ms = self.queue.back_off().as_millis() as u64;
                say(Msg::SaveDelayed { error: error.to_string(), in_ms });
            }
        }
    }

    /// Saves everything, trying again for as long as leaving may take.
    fn leave(mut self, inbox: &Receiver<Order>) -> usize {
        let until = Instant::now() + LEAVE;
        loop {
            for order in self.later.drain(..).chain(inbox.try_iter()) {
                if let Order::Append { ticket, record } = order {
                    self.queue.waiting.push_back((ticket, *record));
                }
            }
            self.save();
            if self.queue.len() == 0 || Instant::now() + RETRY_LEAVING > until {
                break;
            }
            std::thread::sleep(RETRY_LEAVING);
        }
        let unsaved = self.queue.len();
        self.close();
        unsaved
    }

    /// Takes rows in by parts, and saves what the user decides meanwhile after each of them.
    fn import(&mut self, opening: u64, rows: Imported, inbox: &Receiver<Order>) -> Result<()> {
        let mut intake = None;
        for part in rows.parts() {
            let Some(Open { journal: Some(journal), opening: open, .. }) = &mut self.open else { break };
            if *open != opening {
                break;
            }
            let added = intake::add(&part, journal).map_err(|error| {
                Error::failed(format!("{error}; then import the file again: only what is missing is added"))
            })?;
            intake = Some(added.after(intake));
            for order in inbox.try_iter() {
                match order {
                    Order::Append { ticket, record } => self.queue.waiting.push_back((ticket, *record)),
                    order => self.later.push_back(order),
                }
            }
            self.save();
            if self.later.iter().any(|order| matches!(order, Order::End)) {
                break;
            }
        }
        let _ = self.tails.send(tails::Order::Look);
        if let Some(intake) = intake {
            let text = [Some(intake.text()), intake.left_out].into_iter().flatten().collect::<Vec<_>>().join("; ");
            let _ = self.answers.send(Answer::Of(opening, Msg::Imported(text)));
        }
        Ok(())
    }

    fn adopt(&mut self, opening: u64, specs: Vec<RunSpec>) -> Result<()> {
        let Some(Open { journal: Some(journal), opening: open, .. }) = &mut self.open else { return Ok(()) };
        if *open != opening {
            return Ok(());
        }
        let mut noted = false;
        for spec in specs.into_iter().filter(|spec| !journal.knows(&spec.id)).collect::<Vec<_>>() {
            journal.append(&SessionRecord::Launched(Box::new(spec)))?;
            noted = true;
        }
        if noted { journal.sync() } else { Ok(()) }
    }

    /// Passes an errand on. What it freezes must be on disk.
    fn send(&mut self, errand: Errand) {
        let Some(open) = &mut self.open else { return };
        if self.queue.len() > 0 && errand.freezes() {
            let records = counted(self.queue.len(), "record");
            return self.answer(Msg::Failed(format!(
                "{records} are not on disk yet, and the run would go without them: make room on the disk, wait for \
                 ✓ saved, then launch it"
            )));
        }
        if errand.writes() && open.journal.is_none() {
            // Says who holds the session.
            if let Err(error) = Journal::require(&open.dir) {
                self.answer(Msg::Failed(error.to_string()));
            }
            return;
        }
        let upto = open.journal.as_ref().map(Journal::last_seq);
        self.errands.take(Place { opening: open.opening, dir: open.dir.clone(), upto }, errand);
    }
}

impl Error {
    /// Whether the record itself is at fault, so that no other try would save it.
    fn is_of_the_record(&self) -> bool {
        matches!(self, Self::Storage(storage::Error::Record { .. }))
    }
}
