//! Answers of one server's model to prompts that come one after another: for an evaluation.
//!
//! Owns the requests in flight and the count of what is missing. Refuses to go on once the server has stopped answering: the
//! run fails with the reason, and resumes with what it has.

use super::ask::Ask;
use super::client::Client;
use super::fault::{FaultKind, ServerFault};
use super::pool::{Arriving, AskResult, Requests};
use super::relay::Asking;
use super::reply::ServerReply;
use crate::domain::{CompletionId, Finish, PromptBody, Sampler, hash64};
use crate::model::error::Error;
use crate::protocol::ServerRef;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// The longest wait for an answer before the run looks for commands.
const SLICE: Duration = Duration::from_millis(200);
/// So many answers in a row that the server does not give end the run: it is down.
const MOST_MISSING: usize = 5;

/// An answer of a server.
#[derive(Debug, Clone, PartialEq)]
pub struct RemoteAnswer {
    /// The text, a thought that was sent apart before it in `<think>…</think>`.
    pub text: String,
    /// Its tokens; 0 where the server does not say.
    pub tokens: usize,
    /// Why it ended.
    pub finish: Finish,
}

/// A server that answers prompts.
pub struct ServerAnswers {
    url: String,
    pool: Requests,
    results: Receiver<AskResult>,
    /// What the threads have of answers under way: nobody looks at it here.
    arriving: Arriving,
    /// Answers in a row that were not given.
    in_a_row: usize,
    /// Why answers are missing, and how many.
    missing: BTreeMap<String, usize>,
    narrowed: bool,
    server: ServerRef,
    asking: Option<Arc<Asking>>,
    /// Answers that came after an earlier worker had ended, with their numbers.
    ready: VecDeque<(usize, ServerReply)>,
    kept: usize,
}

impl ServerAnswers {
    /// Starts the threads that ask, by themselves or through the process `asking`.
    ///
    /// # Errors
    /// When the key is missing or a thread cannot be started.
    pub fn open(server: &ServerRef, asking: Option<&Arc<Asking>>) -> Result<Self, Error> {
        let (done, results) = channel();
        let arriving = Arriving::default();
        let pool = Requests::start(0, Client::new(server)?, asking, &done, &arriving)?;
        Ok(Self {
            url: server.url.clone(),
            pool,
            results,
            arriving,
            in_a_row: 0,
            missing: BTreeMap::new(),
            narrowed: false,
            server: server.clone(),
            asking: asking.cloned(),
            ready: VecDeque::new(),
            kept: 0,
        })
    }

    /// Whether another request can be sent at once.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.pool.pending < self.pool.width
    }

    /// Asks for an answer, unless it came after an earlier worker had ended.
    pub fn submit(&mut self, number: usize, prompt: PromptBody, sampler: Sampler, seed: u64) {
        // Servers take seeds of 31 bits.
        let seed = seed & 0x7fff_ffff;
        // The same in every attempt, whatever else is asked.
        let what = serde_json::to_string(&(&self.server.url, &self.server.model, &prompt, &sampler, seed));
        let id = CompletionId::new(format!("{:016x}", hash64(what.unwrap_or_default().as_bytes())));
        if let Some(reply) = self.asking.as_ref().and_then(|asking| asking.take(&id)) {
            self.kept += 1;
            self.ready.push_back((number, reply));
            return;
        }
        self.pool.ask(Ask { id, place: (number, 0), prompt, sampler, seed });
    }

    /// How many answers came after an earlier worker had ended.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.kept
    }

    /// The answers that arrive within a moment, with their numbers; none for one that cannot be had.
    ///
    /// # Errors
    /// When every request fails: one sentence with the reason and the remedy.
    pub fn take(&mut self) -> Result<Vec<(usize, Option<RemoteAnswer>)>, Error> {
        let until = Instant::now() + SLICE;
        let mut out = Vec::new();
        while let Some((number, reply)) = self.ready.pop_front() {
            out.push(self.ended((number, 0), Ok(reply))?);
        }
        while out.is_empty() && self.pool.pending > 0 {
            match self.results.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(asked) => out.push(self.result(asked)?),
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::Invalid("the threads that ask the server have ended: resume the run".into()));
                }
            }
        }
        Ok(out)
    }

    fn result(&mut self, asked: AskResult) -> Result<(usize, Option<RemoteAnswer>), Error> {
        self.pool.pending -= 1;
        self.arriving.forget(asked.place);
        self.narrowed |= self.pool.narrowed();
        self.ended(asked.place, asked.result)
    }

    fn ended(
        &mut self,
        place: (usize, usize),
        result: Result<ServerReply, ServerFault>,
    ) -> Result<(usize, Option<RemoteAnswer>), Error> {
        let ended = result.and_then(|reply| Ok((reply.finish(&self.url)?, reply)));
        match ended {
            Ok((finish, reply)) => {
                self.in_a_row = 0;
                Ok((place.0, Some(RemoteAnswer { text: reply.whole(), tokens: reply.tokens, finish })))
            }
            Err(ServerFault { kind: FaultKind::Every, text, .. }) => Err(Error::Invalid(text)),
            Err(ServerFault { kind, text, .. }) => {
                self.in_a_row += usize::from(kind == FaultKind::Passing);
                if self.in_a_row >= MOST_MISSING {
                    return Err(Error::Invalid(format!(
                        "{MOST_MISSING} requests in a row failed, the last one because {text}; then resume this run, which \
                         asks for no answer again that it has"
                    )));
                }
                *self.missing.entry(text).or_default() += 1;
                Ok((place.0, None))
            }
        }
    }

    /// Why answers are missing, and how many.
    #[must_use]
    pub fn missing(&self) -> &BTreeMap<String, usize> {
        &self.missing
    }

    /// Whether the server drops an answer when the next request arrives, so that it gets one at a time.
    #[must_use]
    pub fn is_narrowed(&self) -> bool {
        self.narrowed
    }
}
