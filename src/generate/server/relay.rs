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
use crate::protocol::ServerRef;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// The shortest time between two lines about a growing answer: shorter than that between two looks at them.
const LOOK: Duration = Duration::from_millis(30);

/// The input and output of a process that asks, as its owner sees them.
pub type Ends = (Box<dyn Write + Send>, Box<dyn BufRead + Send>);

/// How to have a process that asks.
pub struct AskProcess {
    /// The lines that an earlier one kept.
    pub kept: Box<dyn Fn() -> Result<Vec<String>, Error> + Send>,
    /// Starts one.
    pub start: Box<dyn Fn() -> io::Result<Ends> + Send>,
}

/// A request, as it is sent to the process.
#[derive(Debug, Serialize, Deserialize)]
struct RequestLine {
    id: CompletionId,
    server: usize,
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
pub(super) fn kept(lines: &[String]) -> (BTreeMap<CompletionId, ServerReply>, usize) {
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

/// The owner's side; shared by the threads that ask.
#[derive(Default)]
pub(super) struct Relay {
    input: OnceLock<Mutex<Box<dyn Write + Send>>>,
    waiting: Waiting,
}

impl Relay {
    /// Uses a process that was just started.
    ///
    /// # Errors
    /// When there is no thread to read its lines.
    pub(super) fn start(&self, (input, output): Ends) -> Result<(), Error> {
        let waiting = self.waiting.clone();
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
        let thread = std::thread::Builder::new().name("answers".into()).spawn(read);
        thread.map_err(|e| Error::thread("the servers' answers", 2 << 20, &e))?;
        let _ = self.input.set(Mutex::new(input));
        Ok(())
    }

    /// Asks and waits for the answer.
    pub(super) fn answer(
        &self,
        server: usize,
        ask: &Ask,
        grown: &mut dyn FnMut(&ServerReply),
    ) -> Result<ServerReply, ServerFault> {
        let gone = || {
            let text = "the process that asks the servers has ended: resume the run";
            ServerFault::new(FaultKind::Every, text)
        };
        let Ask { id, prompt, sampler, seed, .. } = ask;
        let (id, prompt) = (id.clone(), prompt.clone());
        let request = RequestLine { id: id.clone(), server, prompt, sampler: *sampler, seed: *seed };
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
        let input = self.input.get().ok_or_else(|| io::Error::other("not started"))?;
        let line = serde_json::to_string(request)? + "\n";
        let (send, receive) = channel();
        locked(&self.waiting).insert(id, send);
        let mut input = locked(input);
        input.write_all(line.as_bytes())?;
        input.flush()?;
        Ok(receive)
    }
}

/// The process' side: asks `servers` as `requests` say, until they end and every answer under way has come. `keep` is called with
/// each answer's line before `out` has it.
///
/// # Errors
/// When a server's key is missing, or a thread cannot be started.
pub fn ask_all(
    servers: &[ServerRef],
    requests: impl BufRead,
    out: impl Write + Send,
    keep: impl FnMut(&str) + Send,
) -> Result<(), Error> {
    let clients = servers.iter().map(Client::new).collect::<Result<Vec<_>, Error>>()?;
    let (out, keep) = (Mutex::new(out), Mutex::new(keep));
    // Where the owner is gone nobody reads them; the answers are kept.
    let say = |line: &str| drop(locked(&out).write_all(format!("{line}\n").as_bytes()));
    let text =
        |id: &CompletionId, said: Said| serde_json::to_string(&AnswerLine { id: id.clone(), said }).unwrap_or_default();
    let ask = |request: &RequestLine| {
        let Some(client) = clients.get(request.server) else { return };
        let mut looked: Option<Instant> = None;
        let mut grown = |reply: &ServerReply| {
            if looked.is_none_or(|at| at.elapsed() >= LOOK) {
                looked = Some(Instant::now());
                say(&text(&request.id, Said::Grown(reply.clone())));
            }
        };
        let line = match client.answer(&request.prompt, &request.sampler, request.seed, &mut grown) {
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
            asking.map_err(|e| Error::thread("a request", 2 << 20, &e))?;
        }
        Ok(())
    })
}
