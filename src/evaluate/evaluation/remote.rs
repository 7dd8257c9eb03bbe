//! Answers of a contestant behind a server.
//!
//! Owns which answers are asked for, and the finding about those that could not be had: they are neither measured nor
//! compared, and a resumed run asks for them again. Refuses suites that need log-probs.

use super::super::player::Played;
use super::{Evaluation, Playing, seeded};
use crate::domain::{Contestant, Finding, Severity, counted, hash64, mix64};
use crate::generate::server::ServerAnswers;
use crate::model::error::Error;
use crate::model::sink::Sink;
use crate::protocol::RunEvent;

impl Evaluation {
    /// Asks a contestant's server for a while. False when everything that it gives is there.
    pub(super) fn ask_server(&mut self, playing: &mut Playing, sink: &mut dyn Sink) -> Result<bool, Error> {
        loop {
            if self.take_known(playing, sink)? {
                return Ok(true);
            }
            if playing.waiting.is_empty() {
                break;
            }
            let server = match &mut playing.server {
                Some(server) => server,
                none => {
                    let Some(server) = &self.spec.side(playing.side).server else { return Ok(false) };
                    none.insert(ServerAnswers::open(server, self.asking.as_ref())?)
                }
            };
            if !server.is_idle() {
                break;
            }
            let Some(turn) = playing.waiting.pop_front() else { break };
            let sampler = seeded(self.suites[turn.suite].sampler, turn.seed);
            let mut prompt = self.suites[turn.suite].items[turn.item].prompt.clone();
            prompt.add_variables(&self.rendering.variables);
            let seed = mix64(hash64(turn.source.as_bytes()) ^ mix64(sampler.seed));
            server.submit(playing.number, prompt, sampler, seed);
            playing.in_flight.insert(turn.source.clone());
            playing.open.insert(playing.number, turn);
            playing.number += 1;
        }
        let Some(server) = playing.server.as_mut().filter(|_| !playing.open.is_empty()) else {
            playing.waiting.extend(std::mem::take(&mut playing.deferred));
            let goes_on = !playing.waiting.is_empty();
            if !goes_on {
                self.say_missing(playing, sink)?;
            }
            return Ok(goes_on);
        };
        for (number, answer) in server.take()? {
            let Some(turn) = playing.open.remove(&number) else { continue };
            playing.in_flight.remove(&turn.source);
            match answer {
                Some(answer) => {
                    self.tokens += answer.tokens as u64;
                    let played = Played { text: answer.text, tokens: answer.tokens, finish: answer.finish };
                    self.answered(playing.side, &turn, &played, false, sink)?;
                    self.known.insert(turn.source.clone(), played);
                }
                // Other items with this prompt would be refused the same.
                None => playing.deferred.retain(|other| other.source != turn.source),
            }
        }
        Ok(true)
    }

    fn say_missing(&self, playing: &Playing, sink: &mut dyn Sink) -> Result<(), Error> {
        let Some(server) = &playing.server else { return Ok(()) };
        let name = &self.spec.side(playing.side).name;
        let finding = |rule: &str, severity, text: String, remedy: &str| {
            let (rule, remedy) = (rule.into(), remedy.into());
            RunEvent::Found(Finding { rule, step: self.done(), severity, text, remedy, pair: None })
        };
        let missing: usize = server.missing().values().sum();
        if missing > 0 {
            let reasons: Vec<String> = server.missing().iter().map(|(why, n)| format!("{n} × {why}")).collect();
            let text = format!(
                "{} of {name} could not be had, and {} compared: {}.",
                counted(missing, "answer"),
                if missing == 1 { "its item is not" } else { "their items are not" },
                reasons.join("; ")
            );
            sink.emit(finding("answers_missing", Severity::Warn, text, "Evaluate again to ask for them again."))?;
        }
        if server.kept() > 0 {
            let text = format!(
                "{} of {name} came after the last worker had ended and {} kept.",
                counted(server.kept(), "answer"),
                if server.kept() == 1 { "is" } else { "are" }
            );
            sink.emit(finding("answers_kept", Severity::Note, text, "Nothing needs to be done."))?;
        }
        if server.is_narrowed() {
            let text =
                format!("The server of {name} drops an answer when the next request arrives: it got one at a time.");
            sink.emit(finding("server_drops", Severity::Note, text, "--in-flight 1 avoids the dropped answers."))?;
        }
        Ok(())
    }

    /// Says why a contestant behind a server cannot do a suite; none where it can.
    pub(super) fn check_servers(&self) -> Result<(), Error> {
        for side in Contestant::BOTH.into_iter().filter(|side| self.spec.side(*side).server.is_some()) {
            for loaded in &self.suites {
                if loaded.items.iter().any(|item| item.ask != super::ItemRequest::Answer) {
                    return Err(Error::Invalid(format!(
                        "the suite {} reads log-probs or rewards, which the server of {} does not give: leave it out, or \
                         compare models on this machine",
                        loaded.suite.row.name,
                        self.spec.side(side).name
                    )));
                }
            }
        }
        Ok(())
    }
}
