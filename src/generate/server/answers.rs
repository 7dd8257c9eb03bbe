//! Answers of one server's model to prompts that come one after another: for an evaluation.
//!
//! Owns the requests in flight and the count of what is missing. Refuses to go on once the server has stopped answering: the
//! run fails with the reason, and resumes with what it has.

use super::ask::Ask;
use super::client::Client;
use super::fault::{FaultKind, ServerFault};
use super::pool::{Arriving, AskResult, Requests};
use crate::domain::{CompletionId, Finish, PromptBody, Sampler};
use crate::model::error::Error;
use crate::protocol::ServerRef;
use std::collections::BTreeMap;
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
}

impl ServerAnswers {
    /// Starts the threads that ask.
    ///
    /// # Errors
    /// When the key is missing or a thread cannot be started.
    pub fn open(server: &ServerRef) -> Result<Self, Error> {
        let (done, results) = channel();
        let arriving = Arriving::default();
        let pool = Requests::start(0, Client::new(server)?, None, &done, &arriving)?;
        let url = server.url.clone();
        Ok(Self { url, pool, results, arriving, in_a_row: 0, missing: BTreeMap::new(), narrowed: false })
    }

    /// Whether another request can be sent at once.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.pool.pending < self.pool.width
    }

    /// Asks for an answer.
    pub fn submit(&mut self, number: usize, prompt: PromptBody, sampler: Sampler, seed: u64) {
        // Servers take seeds of 31 bits.
        let id = CompletionId::new(number.to_string());
        self.pool.ask(Ask { id, place: (number, 0), prompt, sampler, seed: seed & 0x7fff_ffff });
    }

    /// The answers that arrive within a moment, with their numbers; none for one that cannot be had.
    ///
    /// # Errors
    /// When every request fails: one sentence with the reason and the remedy.
    pub fn take(&mut self) -> Result<Vec<(usize, Option<RemoteAnswer>)>, Error> {
        let until = Instant::now() + SLICE;
        let mut out = Vec::new();
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
        let ended = asked.result.and_then(|reply| Ok((reply.finish(&self.url)?, reply)));
        match ended {
            Ok((finish, reply)) => {
                self.in_a_row = 0;
                Ok((asked.place.0, Some(RemoteAnswer { text: reply.whole(), tokens: reply.tokens, finish })))
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
                Ok((asked.place.0, None))
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
