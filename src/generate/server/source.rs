//! The part of a sampling run that servers answer: who is asked for which candidate, in which order, and what came of it.
//!
//! Owns the turns and the count of what is missing. Every request is logged before it is sent, and every answer as it arrives,
//! before anything is made of it. Another process sends the requests: where the run was killed, that one waits for the answers
//! under way and keeps them for the next worker. What was lost with that process too is counted and sent again. Refuses to go on once a server has stopped answering: the run fails with
//! the reason and resumes where it was.

use super::ask::Ask;
use super::client::Client;
use super::fault::{FaultKind, ServerFault};
use super::pool::{Arriving, AskResult, Requests};
use super::relay::Asking;
use super::reply::ServerReply;
use crate::domain::{
    Completion, CompletionId, Finding, Finish, LogProb, Prompt, RunId, Severity, counted, hash64, mix64,
};
use crate::generate::growing::{CandidateParts, SoFar};
use crate::model::error::Error;
use crate::model::sink::Sink;
use crate::protocol::{RunEvent, SampleSpec, ServerAnswer, ServerLog, ServerRef};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// The longest wait before the run looks for commands.
const SLICE: Duration = Duration::from_millis(200);
/// So many answers in a row that a server does not give end the run: it is down.
const MOST_MISSING: usize = 5;

/// The number of a prompt and of a candidate of it.
type Place = (usize, usize);

/// A server in a run.
struct Turn {
    pool: Requests,
    server: ServerRef,
    /// The next place to look at.
    next: Place,
    /// Answers that it did not give since the last one that it gave.
    missing: usize,
    fingerprint: Option<String>,
}

/// The servers of a sampling run.
pub(crate) struct Servers {
    run: RunId,
    spec: SampleSpec,
    turns: Vec<Turn>,
    results: Receiver<AskResult>,
    arriving: Arriving,
    answers: BTreeMap<Place, ServerAnswer>,
    missing: BTreeMap<Place, String>,
    /// Prompts before this one were done by an earlier worker.
    first: usize,
    got: usize,
    thoughts: usize,
    unknown_ends: usize,
    /// Requests that an earlier worker had under way when it ended; none once that was said.
    under_way: BTreeSet<Place>,
    /// The process that asks.
    asking: Option<Arc<Asking>>,
    /// Whether requests can be sent.
    is_open: bool,
}

impl Servers {
    /// Starts the threads; none without servers. Requests are sent by `asking`, or by the threads where there is none.
    ///
    /// # Errors
    /// When a key is missing or a thread cannot be started.
    pub(crate) fn open(
        run: &RunId,
        spec: &SampleSpec,
        first: usize,
        asking: Option<Arc<Asking>>,
    ) -> Result<Option<Self>, Error> {
        if spec.servers.is_empty() {
            return Ok(None);
        }
        let (done, results) = channel();
        let arriving = Arriving::default();
        let mut turns = Vec::new();
        for (i, server) in spec.servers.iter().enumerate() {
            let pool = Requests::start(i, Client::new(server)?, asking.as_ref(), &done, &arriving)?;
            turns.push(Turn { pool, server: server.clone(), next: (first, 0), missing: 0, fingerprint: None });
        }
        let (run, spec) = (run.clone(), spec.clone());
        let (answers, missing) = (BTreeMap::new(), BTreeMap::new());
        Ok(Some(Self {
            run,
            spec,
            turns,
            results,
            arriving,
            answers,
            missing,
            first,
            got: 0,
            thoughts: 0,
            unknown_ends: 0,
            under_way: BTreeSet::new(),
            asking,
            is_open: false,
        }))
    }

    /// How many servers there are.
    pub(crate) fn count(&self) -> usize {
        self.turns.len()
    }

    /// Takes over what an earlier worker logged. What it could not have of prompts that are not done is asked for again.
    pub(crate) fn remember(&mut self, log: ServerLog, prompts: &[Prompt]) {
        let numbers: BTreeMap<&str, usize> = prompts.iter().enumerate().map(|(i, p)| (p.id.as_str(), i)).collect();
        let place = |id: &CompletionId| {
            let (rest, k) = id.as_str().rsplit_once('.')?;
            let prompt = rest.strip_prefix(self.run.as_str())?.strip_prefix('.')?;
            Some((*numbers.get(prompt)?, k.parse().ok()?))
        };
        let missing: Vec<(Place, String)> =
            log.unanswered.into_iter().filter_map(|(id, why)| Some((place(&id)?, why))).collect();
        let answers: Vec<(Place, ServerAnswer)> =
            log.answers.into_iter().filter_map(|a| Some((place(&a.completion.id)?, a))).collect();
        let first = self.first;
        self.missing.extend(missing.into_iter().filter(|((number, _), _)| *number < first));
        self.under_way = log.under_way.iter().filter_map(place).filter(|(number, _)| *number >= first).collect();
        for (place, answer) in answers {
            self.missing.remove(&place);
            self.keep(place, answer);
        }
    }

    /// Asks for what is next and takes what has arrived, for a moment. True once the prompt has all of its answers, or the reason
    /// why one is missing.
    ///
    /// # Errors
    /// When every request of a server fails, or the log cannot be written.
    pub(crate) fn wait_for(&mut self, number: usize, prompts: &[Prompt], sink: &mut dyn Sink) -> Result<bool, Error> {
        if !self.is_open {
            self.take_over(number, prompts, sink)?;
            self.is_open = true;
        }
        let until = Instant::now() + SLICE;
        loop {
            self.hand_over(prompts, sink)?;
            if self.is_complete(number) {
                return Ok(true);
            }
            let left = until.saturating_duration_since(Instant::now());
            match self.results.recv_timeout(left) {
                Ok(asked) => self.take_result(asked, prompts, sink)?,
                Err(RecvTimeoutError::Timeout) => return Ok(false),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::Invalid("the threads that ask the servers have ended: resume the run".into()));
                }
            }
        }
    }

    /// The prompt's answers with their candidates' numbers.
    pub(crate) fn take(&mut self, number: usize) -> Vec<Completion> {
        let places: Vec<Place> = self.answers.range((number, 0)..(number + 1, 0)).map(|(place, _)| *place).collect();
        places.iter().filter_map(|place| self.answers.remove(place)).map(|answer| answer.completion).collect()
    }

    /// A prompt's answers so far: those that arrived, and those that are arriving.
    pub(crate) fn parts(&self, number: usize) -> CandidateParts {
        // The server says at the end how many tokens an answer has.
        let arriving =
            self.arriving.of(number).into_iter().map(|(k, text)| (k, SoFar { text, tokens: 0, ended: false }));
        let mut parts: CandidateParts = arriving.collect();
        for ((_, k), answer) in self.answers.range((number, 0)..(number + 1, 0)) {
            let Completion { text, tokens, .. } = &answer.completion;
            parts.insert(*k, SoFar { text: text.to_string(), tokens: *tokens as usize, ended: true });
        }
        parts
    }

    /// What the run should say at its end, at step `step`.
    pub(crate) fn findings(&self, prompts: usize, step: u64) -> Vec<Finding> {
        let total = (0..self.spec.per_prompt).filter(|k| self.turn_of(*k).is_some()).count() * prompts;
        let finding = |rule: &str, severity, text: String, remedy: &str| Finding {
            rule: rule.into(),
            step,
            severity,
            text,
            remedy: remedy.into(),
            pair: None,
        };
        let mut out = Vec::new();
        if !self.missing.is_empty() {
            let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
            self.missing.values().for_each(|why| *reasons.entry(why).or_default() += 1);
            let reasons: Vec<String> = reasons.into_iter().map(|(why, n)| format!("{n} × {why}")).collect();
            let text =
                format!("{} of {total} answers; {} left out: {}.", self.got, self.missing.len(), reasons.join("; "));
            out.push(finding("answers_missing", Severity::Warn, text, "Sample again to have more answers."));
        }
        if self.thoughts > 0 {
            let text = format!(
                "{} came with a thought of its own: it stands before the text in <think>…</think>.",
                counted(self.thoughts, "answer")
            );
            out.push(finding("thoughts_kept", Severity::Note, text, "Nothing needs to be done."));
        }
        if self.unknown_ends > 0 {
            let text = format!(
                "The servers did not say why {} ended: it may have been cut off.",
                counted(self.unknown_ends, "answer")
            );
            out.push(finding("unknown_end", Severity::Note, text, "Look at the ends of these answers."));
        }
        out
    }

    /// The server whose turn a candidate is; none where a model on this machine has it.
    fn turn_of(&self, k: usize) -> Option<usize> {
        let local = self.spec.models.len();
        (k % (local + self.spec.servers.len())).checked_sub(local)
    }

    fn is_complete(&self, number: usize) -> bool {
        let has = |k: usize| self.answers.contains_key(&(number, k)) || self.missing.contains_key(&(number, k));
        (0..self.spec.per_prompt).all(|k| self.turn_of(k).is_none() || has(k))
    }

    /// Takes what an earlier worker's process has kept and says what came of the requests under way.
    fn take_over(&mut self, number: usize, prompts: &[Prompt], sink: &mut dyn Sink) -> Result<(), Error> {
        let step = (number * self.spec.per_prompt) as u64;
        let note = |rule: &str, severity, text: String, remedy: &str| {
            RunEvent::Found(Finding { rule: rule.into(), step, severity, text, remedy: remedy.into(), pair: None })
        };
        let were = |n: usize| format!("{} {}", counted(n, "request"), if n == 1 { "was" } else { "were" });
        let mut arrived = 0;
        if let Some(asking) = self.asking.clone() {
            let unread = asking.unread();
            if unread > 0 {
                let text = format!("{} in asked.jsonl cannot be read: each was an answer.", counted(unread, "line"));
                let remedy = "Nothing needs to be done: these answers are asked for again.";
                sink.emit(note("answers_damaged", Severity::Warn, text, remedy))?;
            }
            for (number, prompt) in prompts.iter().enumerate().skip(self.first) {
                for k in 0..self.spec.per_prompt {
                    let place = (number, k);
                    let known = self.answers.contains_key(&place) || self.missing.contains_key(&place);
                    let Some(server) = self.turn_of(k).filter(|_| !known) else { continue };
                    if let Some(reply) = asking.take(&self.id(place, prompt)) {
                        self.settle(server, place, Ok(reply), prompts, sink)?;
                        arrived += usize::from(self.under_way.remove(&place));
                    }
                }
            }
        }
        if arrived > 0 {
            let answers = if arrived == 1 { "its answer came and is" } else { "their answers came and are" };
            let text = format!("{} under way when the last worker ended: {answers} kept.", were(arrived));
            sink.emit(note("answers_kept", Severity::Note, text, "Nothing needs to be done."))?;
        }
        let again = std::mem::take(&mut self.under_way).len();
        if again > 0 {
            let text = format!(
                "{} in the log when the last worker ended, without an answer that was kept: sent now, for the second time if \
                 the server had it before.",
                were(again)
            );
            let remedy = "Nothing needs to be done; a server that bills may bill them twice.";
            sink.emit(note("asked_again", Severity::Note, text, remedy))?;
        }
        Ok(())
    }

    /// Fills the free places of every server. A request is in the log before it is sent.
    fn hand_over(&mut self, prompts: &[Prompt], sink: &mut dyn Sink) -> Result<(), Error> {
        for i in 0..self.turns.len() {
            while self.turns[i].pool.pending < self.turns[i].pool.width {
                let Some((number, k)) = self.next_place(i, prompts.len()) else { break };
                let prompt = &prompts[number];
                // Servers take seeds of 31 bits.
                let own = hash64(format!("{} {k}", prompt.id).as_bytes());
                let seed = mix64(own ^ mix64(self.spec.sampler.seed)) & 0x7fff_ffff;
                sink.emit(RunEvent::Requested { completion: self.id((number, k), prompt) })?;
                let (id, prompt, sampler) = (self.id((number, k), prompt), prompt.body.clone(), self.spec.sampler);
                self.turns[i].pool.ask(Ask { id, place: (number, k), prompt, sampler, seed });
            }
        }
        Ok(())
    }

    /// The next candidate that this server has to write.
    fn next_place(&mut self, turn: usize, prompts: usize) -> Option<Place> {
        loop {
            let (number, k) = self.turns[turn].next;
            if number >= prompts {
                return None;
            }
            self.turns[turn].next = if k + 1 < self.spec.per_prompt { (number, k + 1) } else { (number + 1, 0) };
            let known = self.answers.contains_key(&(number, k)) || self.missing.contains_key(&(number, k));
            if self.turn_of(k) == Some(turn) && !known {
                return Some((number, k));
            }
        }
    }

    /// Logs what came of a request.
    fn take_result(&mut self, asked: AskResult, prompts: &[Prompt], sink: &mut dyn Sink) -> Result<(), Error> {
        let AskResult { server, place, result } = asked;
        self.turns[server].pool.pending -= 1;
        self.arriving.forget(place);
        if self.turns[server].pool.narrowed() {
            sink.emit(RunEvent::Found(Finding {
                rule: "server_drops".into(),
                step: (place.0 * self.spec.per_prompt) as u64,
                severity: Severity::Note,
                text: format!(
                    "The server of {} drops an answer when the next request arrives: from now on it gets one at a time.",
                    self.turns[server].server.name()
                ),
                remedy: "Nothing needs to be done; --in-flight 1 avoids the dropped answers.".into(),
                pair: None,
            }))?;
        }
        self.settle(server, place, result, prompts, sink)
    }

    /// Logs an answer, or why there is none.
    fn settle(
        &mut self,
        server: usize,
        place: Place,
        result: Result<ServerReply, ServerFault>,
        prompts: &[Prompt],
        sink: &mut dyn Sink,
    ) -> Result<(), Error> {
        let url = self.turns[server].server.url.clone();
        let ended = result.and_then(|reply| Ok((reply.finish(&url)?, reply)));
        match ended {
            Ok((finish, reply)) => {
                self.turns[server].missing = 0;
                self.note_fingerprint(server, &reply, place, sink)?;
                let answer = self.answer(server, place, &prompts[place.0], finish, reply);
                sink.emit(RunEvent::Answered(answer.clone()))?;
                self.keep(place, answer);
            }
            Err(ServerFault { kind: FaultKind::Every, text, .. }) => return Err(Error::Invalid(text)),
            Err(ServerFault { kind, text, .. }) => {
                let completion = self.id(place, &prompts[place.0]);
                sink.emit(RunEvent::Unanswered { completion, reason: text.clone() })?;
                self.missing.insert(place, text.clone());
                if kind == FaultKind::Passing {
                    self.turns[server].missing += 1;
                }
                if self.turns[server].missing >= MOST_MISSING {
                    return Err(Error::Invalid(format!(
                        "{MOST_MISSING} requests in a row failed, the last one because {text}; then resume this run, which asks \
                         for no answer again that it has"
                    )));
                }
            }
        }
        Ok(())
    }

    fn keep(&mut self, place: Place, answer: ServerAnswer) {
        self.got += 1;
        self.thoughts += usize::from(answer.thought);
        self.unknown_ends += usize::from(answer.completion.finish == Finish::Given);
        if place.0 >= self.first {
            self.answers.insert(place, answer);
        }
    }

    fn id(&self, (_, k): Place, prompt: &Prompt) -> CompletionId {
        CompletionId::new(format!("{}.{}.{k}", self.run, prompt.id))
    }

    fn answer(&self, server: usize, place: Place, prompt: &Prompt, finish: Finish, reply: ServerReply) -> ServerAnswer {
        ServerAnswer {
            completion: Completion {
                turns: [].into(),
                id: self.id(place, prompt),
                prompt: prompt.id.clone(),
                model: self.turns[server].server.name().into(),
                text: reply.whole().into(),
                tokens: reply.tokens as u32,
                finish,
                sampler: Some(self.spec.sampler.into()),
                logprob: LogProb::UNKNOWN,
            },
            thought: !reply.thought.trim().is_empty(),
            system_fingerprint: reply.fingerprint,
        }
    }

    /// Says when a server's setup changes within a run.
    fn note_fingerprint(
        &mut self,
        server: usize,
        reply: &ServerReply,
        place: Place,
        sink: &mut dyn Sink,
    ) -> Result<(), Error> {
        let Some(now) = &reply.fingerprint else { return Ok(()) };
        let turn = &mut self.turns[server];
        if let Some(before) = turn.fingerprint.replace(now.clone()).filter(|before| before != now) {
            let name = turn.server.name();
            sink.emit(RunEvent::Found(Finding {
                rule: "server_changed".into(),
                step: (place.0 * self.spec.per_prompt) as u64,
                severity: Severity::Warn,
                text: format!("The setup behind {name} changed from {before} to {now}: this run has answers of both."),
                remedy: "Sample again if the answers must come from one setup.".into(),
                pair: None,
            }))?;
        }
        Ok(())
    }
}
