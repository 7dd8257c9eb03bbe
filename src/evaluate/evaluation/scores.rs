//! The phases of an evaluation that score given texts, and what is said before anything is measured.
//!
//! Owns the choice of what is scored and the logging of it. Refuses to compute: [`ItemScoring`] does.

use super::super::asked::{other_vocabulary, trained_on};
use super::super::item::ItemRequest;
use super::super::scoring::{AskedItem, ItemScoring, ScoredItem, ScoringScope, ScoringSide};
use super::{Evaluation, LoadedSuite};
use crate::domain::{Contestant, Finding, Measurement, Metrics, Severity, counted};
use crate::model::error::Error;
use crate::model::language_model::LanguageModel;
use crate::model::sink::Sink;
use crate::protocol::RunEvent;
use std::time::Instant;

impl Evaluation {
    /// What is said before anything is measured.
    pub(super) fn first_findings(&self) -> Vec<Finding> {
        let known = |loaded: &LoadedSuite| trained_on(loaded.suite.row.name, &loaded.items, &self.trained);
        let texts = self.suites.iter().flat_map(|l| &l.items).any(|item| item.ask == ItemRequest::Text);
        let apart = (texts && !self.together).then(|| other_vocabulary(&self.spec));
        self.suites.iter().filter_map(known).chain(apart).collect()
    }

    /// Scores given texts for a while. False when all are scored.
    pub(super) fn score(&mut self, scope: ScoringScope, sink: &mut dyn Sink) -> Result<bool, Error> {
        let mut scoring = match self.scoring.take() {
            Some(scoring) => scoring,
            None => match self.open_scoring(scope)? {
                Some(scoring) => scoring,
                None => return Ok(false),
            },
        };
        if scoring.must_load() {
            let stage = format!("loading {}", scoring.names());
            sink.emit(RunEvent::Progressed { stage: stage.clone(), done: 0, total: 1 })?;
            scoring.load()?;
            sink.emit(RunEvent::Progressed { stage, done: 1, total: 1 })?;
            self.scoring = Some(scoring);
            return Ok(true);
        }
        let began = Instant::now();
        let scored = scoring.next()?;
        self.seconds += began.elapsed().as_secs_f64();
        self.scoring = Some(scoring);
        let Some(scored) = scored else {
            self.say_unscored(scope, sink)?;
            return Ok(false);
        };
        self.scored(&scored, sink)?;
        Ok(true)
    }

    /// What is to be scored; none where that is nothing.
    fn open_scoring(&self, scope: ScoringScope) -> Result<Option<ItemScoring>, Error> {
        let mut asked = Vec::new();
        for (suite, loaded) in self.suites.iter().enumerate() {
            for (at, item) in loaded.items.iter().enumerate() {
                let wanted = match (&item.ask, scope) {
                    (ItemRequest::Answer, _) => false,
                    (ItemRequest::Text, ScoringScope::Together) => self.together,
                    (ItemRequest::Text, ScoringScope::Alone(_)) => !self.together,
                    (_, ScoringScope::Together) => false,
                    (ItemRequest::Rewards(_), ScoringScope::Alone(side)) => {
                        self.reward_renderings[side.index()].is_some()
                    }
                    (ItemRequest::Choices(_), ScoringScope::Alone(_)) => true,
                };
                let key = self.key(suite, at, 0);
                let logged = Contestant::BOTH.map(|side| self.state.measurement_of(&key, side).is_some());
                asked.extend(wanted.then_some(AskedItem { place: (suite, at), item, logged }));
            }
        }
        let whose: Vec<Contestant> = match scope {
            ScoringScope::Alone(side) => vec![side],
            ScoringScope::Together => Contestant::BOTH.to_vec(),
        };
        let reader = |side: &Contestant| self.readers[side.index()].as_ref();
        let readers: Vec<&LanguageModel> = whose.iter().filter_map(reader).collect();
        if asked.is_empty() || readers.len() < whose.len() {
            return Ok(None);
        }
        let side = |side: Contestant, reader: &LanguageModel| ScoringSide {
            name: self.spec.side(side).name.clone(),
            path: reader.path.clone(),
            checkpoint: self.checkpoints[side.index()].clone(),
            identity: self.identities[side.index()].clone(),
            reward_rendering: self.reward_renderings[side.index()].clone(),
        };
        let sides = whose.iter().zip(&readers).map(|(whose, reader)| side(*whose, reader)).collect();
        ItemScoring::open(scope, sides, &readers, &asked, &self.device).map(Some)
    }

    /// Logs the measurements of scores.
    fn scored(&mut self, scored: &[ScoredItem], sink: &mut dyn Sink) -> Result<(), Error> {
        for ScoredItem { place: (suite, at), side, scores } in scored {
            let key = self.key(*suite, *at, 0);
            let item = &self.suites[*suite].items[*at];
            self.tokens += scores.tokens() as u64;
            let values = match scores.given() {
                Ok(given) => (self.suites[*suite].suite.measure)(item, &given)?,
                Err(why) => {
                    let name = &self.spec.side(*side).name;
                    self.unscored.get_or_insert_with(|| format!("{}/{} of {name}: {why}", key.suite, key.item));
                    Metrics::new()
                }
            };
            self.log(Measurement { key, side: *side, cluster: item.cluster(), values }, sink)?;
        }
        Ok(())
    }

    /// Says once, when all are scored, which items have no numbers; those of an earlier attempt count.
    fn say_unscored(&mut self, scope: ScoringScope, sink: &mut dyn Sink) -> Result<(), Error> {
        let Some(first) = self.unscored.take() else { return Ok(()) };
        let within = |side: Contestant| match scope {
            ScoringScope::Alone(own) => own == side,
            ScoringScope::Together => true,
        };
        let empty = |m: &&Measurement| within(m.side) && m.values.iter().next().is_none();
        let without = self.state.measurements().filter(empty).count();
        sink.emit(RunEvent::Found(Finding {
            rule: "unscored".into(),
            step: self.done(),
            severity: Severity::Warn,
            text: format!("No numbers for {}, the first {first}.", counted(without, "item")),
            remedy: "Shorten the texts, or use a model with a longer context.".into(),
            pair: None,
        }))
    }
}
