//! The judges' stage of an evaluation: each judge is measured on pairs with a known better answer, calibrated, and then
//! compares the contestants' answers. A person gets them as pairs for blind judging.
//!
//! Owns the order of that, and what is already logged. Refuses to judge.

use super::super::item::{Item, ItemRequest};
use super::super::judge::{GateSetInput, Referee, kind_named};
use super::super::judging::{Judging, compare, decided};
use super::Evaluation;
use crate::domain::{
    Comparison, Completion, CompletionId, Contestant, EVALUATION, EvalAnswer, FEWEST_LABELS, Finding, HUMAN, ItemKey,
    LogProb, Num, OWN_LABELS, Pair, PairId, PosedPair, Prompt, PromptId, Severity, gate_suite, hash64,
};
use crate::model::error::Error;
use crate::model::sink::Sink;
use crate::protocol::RunEvent;
use std::collections::VecDeque;

/// The key of a pair with a known better answer.
fn gate_key(set: &GateSetInput, pair: usize) -> ItemKey {
    ItemKey { suite: gate_suite(&set.set), item: set.pairs[pair].name.clone(), seed: 0 }
}

impl Evaluation {
    /// How many pairs with a known better answer there are for all judges.
    pub(super) fn gate_pairs(&self) -> usize {
        self.gates.iter().flatten().map(|set| set.pairs.len()).sum()
    }

    /// Compares the next answers with a judge. False when it has compared all.
    pub(super) fn judge(&mut self, which: usize, sink: &mut dyn Sink) -> Result<bool, Error> {
        let opened = match self.judging.take() {
            Some(judging) => Some(judging),
            None => self.open_judge(which, sink)?,
        };
        let Some(mut judging) = opened else { return Ok(false) };
        let goes_on = self.judge_next(which, &mut judging, sink);
        self.judging = Some(judging);
        goes_on
    }

    fn judge_next(&mut self, which: usize, judging: &mut Judging, sink: &mut dyn Sink) -> Result<bool, Error> {
        if let (Some((set, pair)), Some(referee)) = (judging.gate.pop_front(), &mut judging.referee) {
            let set = &self.gates[which][set];
            let known = &set.pairs[pair];
            let item = Item {
                name: known.name.clone(),
                prompt: known.prompt.clone(),
                ask: ItemRequest::Answer,
                data: serde_json::Value::Null,
            };
            let found = compare(referee.as_mut(), &judging.name, &gate_key(set, pair), &item, &known.a, &known.b)?;
            self.log_comparison(Comparison { reference: Some(Num(known.reference)), ..found }, sink)?;
            return Ok(true);
        }
        if !judging.calibrated {
            judging.calibrated = true;
            if let Some(referee) = &mut judging.referee {
                self.calibrate(which, &judging.name, referee.as_mut(), sink)?;
            }
        }
        let Some((at, item, seed)) = judging.waiting.pop_front() else { return Ok(false) };
        let key = self.key(at, item, seed);
        let answers = Contestant::BOTH.map(|side| self.state.answer_of(&key, side).cloned());
        let [Some(a), Some(b)] = answers else { return Ok(true) };
        let visible = [self.visible(&a)?, self.visible(&b)?];
        let item = &self.suites[at].items[item];
        if let Some(referee) = &mut judging.referee {
            let found = compare(referee.as_mut(), &judging.name, &key, item, &visible[0], &visible[1])?;
            self.log_comparison(found, sink)?;
        } else if let Some(p) = decided(&visible[0], &visible[1]) {
            let chars = [visible[0].chars().count(), visible[1].chars().count()];
            let comparison = Comparison {
                key,
                judge: HUMAN.to_owned(),
                cluster: item.cluster(),
                p: Some(Num(p)),
                a_first: None,
                b_first: None,
                chars,
                problem: None,
                reference: None,
                difference: None,
            };
            self.log_comparison(comparison, sink)?;
        } else {
            let posed = self.posed(key, item, [(&a, &visible[0]), (&b, &visible[1])]);
            sink.emit(RunEvent::Posed(Box::new(posed.clone())))?;
            self.state.pose(posed);
            self.step(sink)?;
        }
        Ok(true)
    }

    fn log_comparison(&mut self, comparison: Comparison, sink: &mut dyn Sink) -> Result<(), Error> {
        sink.emit(RunEvent::Compared(comparison.clone()))?;
        self.state.compare(comparison);
        self.step(sink)
    }

    /// A judge with what it has still to compare; none where that is nothing.
    fn open_judge(&self, which: usize, sink: &mut dyn Sink) -> Result<Option<Judging>, Error> {
        let spec = &self.spec.judges[which];
        let name = spec.name();
        let open = |key: &ItemKey| {
            let posed = spec.kind == HUMAN && self.state.posed_of(key).is_some();
            self.state.comparison_of(&name, key).is_none() && !posed
        };
        let waiting: VecDeque<(usize, usize, u32)> = (0..self.suites.len())
            .filter(|at| self.suites[*at].suite.row.judged)
            .flat_map(|at| self.rounds(at).map(move |(item, seed)| (at, item, seed)))
            .filter(|(at, item, seed)| open(&self.key(*at, *item, *seed)))
            .collect();
        let sets = self.gates.get(which).map(Vec::as_slice).unwrap_or_default();
        let gate: VecDeque<(usize, usize)> = sets
            .iter()
            .enumerate()
            .flat_map(|(at, set)| (0..set.pairs.len()).map(move |pair| (at, pair)))
            .filter(|(at, pair)| open(&gate_key(&sets[*at], *pair)))
            .collect();
        if waiting.is_empty() && gate.is_empty() {
            return Ok(None);
        }
        let referee = match kind_named(&spec.kind)?.open {
            None => None,
            Some(open) => {
                sink.emit(RunEvent::Progressed { stage: format!("loading {name}"), done: 0, total: 1 })?;
                let referee = open(spec, &self.judges, &self.device)?;
                sink.emit(RunEvent::Progressed { stage: format!("loading {name}"), done: 1, total: 1 })?;
                Some(referee)
            }
        };
        Ok(Some(Judging { name, referee, gate, calibrated: false, waiting }))
    }

    /// Calibrates a judge that scores answers to the session's labels, from what is logged, so that a resumed run does the
    /// same.
    fn calibrate(&self, which: usize, name: &str, referee: &mut dyn Referee, sink: &mut dyn Sink) -> Result<(), Error> {
        let sets = self.gates.get(which).map(Vec::as_slice).unwrap_or_default();
        let own = sets.iter().filter(|set| set.set == OWN_LABELS);
        let rows: Vec<(f64, f64)> = own
            .flat_map(|set| (0..set.pairs.len()).map(move |pair| gate_key(set, pair)))
            .filter_map(|key| self.state.comparison_of(name, &key))
            .filter_map(|c| Some((c.difference?.0, c.reference?.0)))
            .filter(|(difference, _)| difference.is_finite())
            .collect();
        let Some((said, remedy)) = referee.calibrate(&rows, FEWEST_LABELS) else { return Ok(()) };
        let begun = self.state.comparisons().any(|c| c.judge == name && !crate::domain::is_gate(&c.key.suite));
        if !begun {
            let text = format!("{name}: {said}.");
            let finding = Finding {
                rule: "calibration".into(),
                step: self.done(),
                severity: Severity::Note,
                text,
                remedy: remedy.into(),
                pair: None,
            };
            sink.emit(RunEvent::Found(finding))?;
        }
        Ok(())
    }

    /// Two answers as a pair for blind judging. Which comes first depends on the item alone, and on nothing that a person
    /// could know.
    fn posed(&self, key: ItemKey, item: &Item, answers: [(&EvalAnswer, &String); 2]) -> PosedPair {
        let run = &self.run;
        let suite = if key.suite == "winrate" { String::new() } else { format!("{}.", key.suite) };
        let seed = if key.seed == 0 { String::new() } else { format!("·{}", key.seed) };
        let prompt = PromptId::new(format!("{run}.{suite}{}", key.item));
        let name = format!("{prompt}{seed}");
        let first = if hash64(format!("{name}\u{0}first").as_bytes()) & 1 == 0 { Contestant::A } else { Contestant::B };
        let order = if first == Contestant::A { [0, 1] } else { [1, 0] };
        let number = std::cell::Cell::new(0);
        let answers = order.map(|i| {
            let (answer, text) = answers[i];
            number.set(number.get() + 1);
            Completion {
                turns: [].into(),
                id: CompletionId::new(format!("{name}.{}", number.get())),
                prompt: prompt.clone(),
                model: self.spec.side(answer.side).name.as_str().into(),
                text: text.as_str().into(),
                tokens: answer.tokens as u32,
                finish: answer.finish,
                sampler: None,
                logprob: LogProb::UNKNOWN,
            }
        });
        let pair = Pair {
            id: PairId::new(name),
            prompt: prompt.clone(),
            a: answers[0].id.clone(),
            b: answers[1].id.clone(),
            strategy: EVALUATION.into(),
            p_select: 1.0,
        };
        let prompt = Prompt { id: prompt, body: item.prompt.clone(), source: run.as_str().into(), tags: [].into() };
        PosedPair { key, cluster: item.cluster(), run: run.clone(), pair, first, prompt, answers }
    }
}
