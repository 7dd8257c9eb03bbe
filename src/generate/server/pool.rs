//! The threads that ask one server: as many requests in flight as the run allows, each repeated where that helps.
//!
//! Refuses to decide what is asked: its owner hands over one request per free place. Threads end with their owner, at the latest
//! when the answer under way has arrived.

use super::ask::Ask;
use super::client::Client;
use super::fault::ServerFault;
use super::relay::Asking;
use super::reply::ServerReply;
use super::retry::with_retries;
use crate::domain::mix64;
use crate::model::error::Error;
use crate::protocol::ServerRef;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often a pausing thread looks whether its owner is gone.
const POLL: Duration = Duration::from_millis(50);
/// The shortest time between two looks at a growing answer.
const LOOK: Duration = Duration::from_millis(100);

/// What came of an [`Ask`].
pub(super) struct AskResult {
    /// The server's index.
    pub(super) server: usize,
    /// The prompt's number and the candidate's.
    pub(super) place: (usize, usize),
    /// The answer or why there is none.
    pub(super) result: Result<ServerReply, ServerFault>,
}

/// Answers that servers are writing, by the prompt's number and the candidate's. Shared with the threads.
#[derive(Debug, Clone, Default)]
pub(super) struct Arriving(Arc<Mutex<BTreeMap<(usize, usize), String>>>);

impl Arriving {
    /// The answers to a prompt so far.
    pub(super) fn of(&self, number: usize) -> Vec<(usize, String)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.range((number, 0)..(number + 1, 0)).map(|((_, k), text)| (*k, text.clone())).collect()
    }

    fn set(&self, place: (usize, usize), text: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(place, text);
    }

    /// Forgets an answer: it has arrived, or its request is repeated.
    pub(super) fn forget(&self, place: (usize, usize)) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&place);
    }
}

/// One request at a time, once the server has dropped an answer because another request arrived.
#[derive(Debug, Default)]
struct Narrow {
    on: AtomicBool,
    one: Mutex<()>,
}

/// Who sends the requests of a thread.
enum Asker {
    /// The thread.
    Client(Client),
    /// Another process.
    Process(Arc<Asking>, ServerRef),
}

impl Asker {
    fn retries(&self) -> u32 {
        match self {
            Self::Client(client) => client.server().retries,
            Self::Process(_, server) => server.retries,
        }
    }

    fn answer(&self, ask: &Ask, grown: &mut dyn FnMut(&ServerReply)) -> Result<ServerReply, ServerFault> {
        match self {
            Self::Client(client) => client.answer(&ask.prompt, &ask.sampler, ask.seed, grown),
            Self::Process(asking, server) => asking.answer(server, ask, grown),
        }
    }
}

/// The threads of one server.
pub(super) struct Requests {
    asks: Sender<Ask>,
    ended: Arc<AtomicBool>,
    narrow: Arc<Narrow>,
    /// Requests handed over and not answered.
    pub(super) pending: usize,
    /// The most requests in flight.
    pub(super) width: usize,
}

impl Requests {
    /// Starts the threads of server number `server`, which ask by themselves or through another process; results go to `done`.
    pub(super) fn start(
        server: usize,
        client: Client,
        asking: Option<&Arc<Asking>>,
        done: &Sender<AskResult>,
        arriving: &Arriving,
    ) -> Result<Self, Error> {
        let width = client.server().in_flight.max(1);
        let client = match asking {
            Some(asking) => Asker::Process(asking.clone(), client.server().clone()),
            None => Asker::Client(client),
        };
        let (asks, queue) = channel();
        let (client, queue) = (Arc::new(client), Arc::new(Mutex::new(queue)));
        let (ended, narrow) = (Arc::new(AtomicBool::new(false)), Arc::new(Narrow::default()));
        for n in 0..width {
            let (client, queue, ended, done) = (client.clone(), queue.clone(), ended.clone(), done.clone());
            let (narrow, arriving) = (narrow.clone(), arriving.clone());
            std::thread::Builder::new()
                .name(format!("server {server}.{n}"))
                .spawn(move || work(server, &client, &queue, &ended, &narrow, &done, &arriving))
                .map_err(|e| Error::Invalid(format!("cannot start a thread: {e}")))?;
        }
        Ok(Self { asks, ended, narrow, pending: 0, width })
    }

    /// Whether the server has dropped an answer since the last call: from then on it gets one request at a time.
    pub(super) fn narrowed(&mut self) -> bool {
        if self.width == 1 || !self.narrow.on.load(Ordering::Relaxed) {
            return false;
        }
        self.width = 1;
        true
    }

    /// Hands a request over.
    pub(super) fn ask(&mut self, ask: Ask) {
        // Threads end only with their owner, which is here.
        if self.asks.send(ask).is_ok() {
            self.pending += 1;
        }
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

fn work(
    server: usize,
    client: &Asker,
    queue: &Mutex<Receiver<Ask>>,
    ended: &AtomicBool,
    narrow: &Narrow,
    done: &Sender<AskResult>,
    arriving: &Arriving,
) {
    loop {
        // The lock is held while waiting: one thread waits in the queue, the others for the lock.
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(ask) = next else { return };
        let mut spread = ask.seed;
        let jitter = || {
            spread = mix64(spread);
            (spread >> 11) as f64 / (1u64 << 53) as f64
        };
        let wait = |pause: Duration| {
            let until = Instant::now() + pause;
            while Instant::now() < until && !ended.load(Ordering::Relaxed) {
                std::thread::sleep(POLL.min(until.saturating_duration_since(Instant::now())));
            }
            !ended.load(Ordering::Relaxed)
        };
        let request = || {
            let on = narrow.on.load(Ordering::Relaxed);
            let _one = on.then(|| narrow.one.lock().unwrap_or_else(PoisonError::into_inner));
            // An earlier try's text is not this one's.
            arriving.forget(ask.place);
            let mut looked: Option<Instant> = None;
            let mut grown = |reply: &ServerReply| {
                if looked.is_none_or(|at| at.elapsed() >= LOOK) {
                    looked = Some(Instant::now());
                    arriving.set(ask.place, reply.so_far());
                }
            };
            let result = client.answer(&ask, &mut grown);
            if matches!(&result, Err(fault) if fault.dropped) {
                narrow.on.store(true, Ordering::Relaxed);
            }
            result
        };
        let result = with_retries(client.retries(), jitter, wait, request);
        if done.send(AskResult { server, place: ask.place, result }).is_err() {
            return;
        }
    }
}
