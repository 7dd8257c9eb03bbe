//! Asking through another process, which outlives its owner: an answer that a server was writing when the owner was killed is kept,
//! so that no request is sent twice.
//!
//! Owns the lines between the two. The owner sends a request a line; the other process answers with what has come of it so far and
//! with its end, and keeps each answer before it hands it over. When its input ends it starts no further request, waits for those
//! under way and ends. Refuses to know how the process is started and where it keeps answers.

use super::ask::Ask;
use super::client::Client;
use super::fault::{FaultKind, ServerFault};
use super::reply::ServerReply;
use crate::domain::{CompletionId, PromptBody, Sampler};
use crate::model::error::Error;
use crate::model::threads;
use crate::protocol::ServerRef;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The shortest time between two lines about a growing answer: shorter than that between two looks at them.
const LOOK: Duration = Duration::from_millis(30);

/// The input and output of a process that asks, as its owner sees them.
pub type Ends = (Box<dyn Write + Send>, Box<dyn BufRead + Send>);

/// A process that asks, with the answers that an earlier one has kept. Shared by all servers of a run.
pub struct Asking {
    relay: Relay,
    kept: Mutex<BTreeMap<CompletionId, ServerReply>>,
    unread: usize,
}

impl Asking {
    /// Uses a process that was just started, and the lines that an earlier one kept.
    ///
    /// # Errors
    /// When there is no thread to read what it says.
    pub fn new(lines: &[String], ends: Ends) -> Result<Arc<Self>, Error> {
        let (kept, unread) = kept(lines);
        Ok(Arc::new(Self { relay: Relay::start(ends)?, kept: Mutex::new(kept), unread }))
    }

    /// Takes the answer that was kept of a request.
    pub(super) fn take(&self, id: &CompletionId) -> Option<ServerReply> {
        locked(&self.kept).remove(id)
    }

    /// How many lines were no answer.
    pub(super) fn unread(&self) -> usize {
        self.unread
    }

    /// Asks and waits for the answer.
    pub(super) fn answer(
        &self,
        server: &ServerRef,
        ask: &Ask,
        grown: &mut dyn FnMut(&ServerReply),
    ) -> Result<ServerReply, ServerFault> {
        self.relay.answer(server, ask, grown)
    }
}

/// A request, as it is sent to the process.
#[derive(Debug, Serialize, Deserialize)]
struct RequestLine {
    id: CompletionId,
    server: ServerRef,
    prompt: PromptBody,
    sampler: Sampler,
    seed: u64,
}

/// What the process says of a request.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Said {
    /// The answer so far.
    Grown(ServerReply),
    /// The answer.
    Reply(ServerReply),
    /// Why there is none.
    Fault(ServerFault),
}

/// A line of the process.
#[derive(Debug, Serialize, Deserialize)]
struct AnswerLine {
    id: CompletionId,
    said: Said,
}

/// Answers that an earlier process kept, by their candidates; and how many lines were not one.
fn kept(lines: &[String]) -> (BTreeMap<CompletionId, ServerReply>, usize) {
    let (mut replies, mut unread) = (BTreeMap::new(), 0);
    for line in lines.iter().filter(|line| !line.is_empty()) {
        match serde_json::from_str(line) {
            Ok(AnswerLine { id, said: Said::Reply(reply) }) => drop(replies.insert(id, reply)),
            _ => unread += 1,
        }
    }
    (replies, unread)
}

type Waiting = Arc<Mutex<BTreeMap<CompletionId, Sender<Said>>>>;

fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The owner's side.
struct Relay {
    input: Mutex<Box<dyn Write + Send>>,
    waiting: Waiting,
}

impl Relay {
    fn start((input, output): Ends) -> Result<Self, Error> {
        let relay = Self { input: Mutex::new(input), waiting: Waiting::default() };
        let waiting = relay.waiting.clone();
        let read = move || {
            for line in output.lines().map_while(Result::ok) {
                let Ok(AnswerLine { id, said }) = serde_json::from_str(&line) else { continue };
                let mut waiting = locked(&waiting);
                if let Some(asker) = waiting.get(&id) {
                    let last = !matches!(said, Said::Grown(_));
                    // A thread that is gone waits for nothing.
                    let _ = asker.send(said);
                    if last {
                        waiting.remove(&id);
                    }
                }
            }
            // Those who wait learn that nothing comes any more.
            locked(&waiting).clear();
        };
        let thread =
            threads::room(threads::STACK).and_then(|()| std::thread::Builder::new().name("answers".into()).spawn(read));
        thread.map_err(|e| threads::refused("the servers' answers", threads::STACK, &e))?;
        Ok(relay)
    }

    fn answer(
        &self,
        server: &ServerRef,
        ask: &Ask,
        grown: &mut dyn FnMut(&ServerReply),
    ) -> Result<ServerReply, ServerFault> {
        let gone = || {
            let text = "the process that asks the servers has ended: resume the run";
            ServerFault::new(FaultKind::Every, text)
        };
        let Ask { id, prompt, sampler, seed, .. } = ask;
        let (id, prompt) = (id.clone(), prompt.clone());
        let request = RequestLine { id: id.clone(), server: server.clone(), prompt, sampler: *sampler, seed: *seed };
        let said = self.send(id, &request).map_err(|_| gone())?;
        loop {
            match said.recv().map_err(|_| gone())? {
                Said::Grown(reply) => grown(&reply),
                Said::Reply(reply) => return Ok(reply),
                Said::Fault(fault) => return Err(fault),
            }
        }
    }

    fn send(&self, id: CompletionId, request: &RequestLine) -> io::Result<Receiver<Said>> {
        let line = serde_json::to_string(request)? + "\n";
        let (send, receive) = channel();
        locked(&self.waiting).insert(id, send);
        let mut input = locked(&self.input);
        input.write_all(line.as_bytes())?;
        input.flush()?;
        Ok(receive)
    }
}

/// The process' side: asks as `requests` say, until they end and every answer under way has come. `keep` is called with each
/// answer's line before `out` has it.
///
/// # Errors
/// When a thread cannot be started.
pub fn ask_all(requests: impl BufRead, out: impl Write + Send, keep: impl FnMut(&str) + Send) -> Result<(), Error> {
    let clients: Mutex<BTreeMap<String, Arc<Client>>> = Mutex::default();
    let client_of = |server: &ServerRef| {
        let name = serde_json::to_string(server).unwrap_or_default();
        let mut clients = locked(&clients);
        if let Some(known) = clients.get(&name) {
            return Ok(known.clone());
        }
        let client = Arc::new(Client::new(server)?);
        clients.insert(name, client.clone());
        Ok::<_, Error>(client)
    };
    let (out, keep) = (Mutex::new(out), Mutex::new(keep));
    // Where the owner is gone nobody reads them; the answers are kept.
    let say = |line: &str| {
        let mut out = locked(&out);
        drop(out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush()));
    };
    let text =
        |id: &CompletionId, said: Said| serde_json::to_string(&AnswerLine { id: id.clone(), said }).unwrap_or_default();
    let ask = |request: &RequestLine| {
        let mut looked: Option<Instant> = None;
        let mut grown = |reply: &ServerReply| {
            if looked.is_none_or(|at| at.elapsed() >= LOOK) {
                looked = Some(Instant::now());
                say(&text(&request.id, Said::Grown(reply.clone())));
            }
        };
        let client = client_of(&request.server).map_err(|e| ServerFault::new(FaultKind::Every, e.to_string()));
        let answer = |client: Arc<Client>| client.answer(&request.prompt, &request.sampler, request.seed, &mut grown);
        let line = match client.and_then(answer) {
            Ok(reply) => {
                let line = text(&request.id, Said::Reply(reply));
                (*locked(&keep))(&line);
                line
            }
            Err(fault) => text(&request.id, Said::Fault(fault)),
        };
        say(&line);
    };
    std::thread::scope(|scope| {
        for line in requests.lines().map_while(Result::ok) {
            let Ok(request) = serde_json::from_str::<RequestLine>(&line) else { continue };
            let ask = &ask;
            let asking = std::thread::Builder::new().name("request".into()).spawn_scoped(scope, move || ask(&request));
            asking.map_err(|e| threads::refused("a request", threads::STACK, &e))?;
        }
        Ok(())
    })
}
