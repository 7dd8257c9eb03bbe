//! A run's steps on its policy's own answers: rounds sampled, scored and learned from, update by update, and their evaluation.
//!
//! Owns the order of updates within a round. Sampling, scoring and measuring are `online.rs`'s; losses are the recipe's.

use super::online::{Answers, Online, example};
use super::pass::{Bad, Grouping, How, forward_backward};
use super::state::{Trainer, Way, Work};
use crate::domain::Metrics;
use crate::model::error::Error;
use crate::model::sink::Sink;
use crate::nn::policy::Policy;
use crate::protocol::RunEvent;
use crate::train::data::Example;
use crate::train::loss::Tally;
use crate::train::recipe::{Answer, Apart, UpdateWindow};

/// Answers of a round that are shown.
const SHOWN: usize = 4;

/// Dropout's passes of answers are counted from here on.
const PASSES: u64 = 1 << 43;

/// TRL's `completions/*`.
fn lengths(answers: &[Answer], tally: &mut Tally) {
    let (min, max) = (f64::min as fn(f64, f64) -> f64, f64::max as fn(f64, f64) -> f64);
    let ended: Vec<f64> = answers.iter().filter(|a| a.ended).map(|a| a.tokens() as f64).collect();
    let all: Vec<f64> = answers.iter().map(|a| a.tokens() as f64).collect();
    tally.add("completions/clipped_ratio", 1.0 - ended.len() as f64 / (all.len() as f64).max(1.0), 1.0);
    for (names, values) in [
        (["completions/mean_length", "completions/min_length", "completions/max_length"], all),
        (
            [
                "completions/mean_terminated_length",
                "completions/min_terminated_length",
                "completions/max_terminated_length",
            ],
            // Where none ended TRL says 0.
            if ended.is_empty() { vec![0.0] } else { ended },
        ),
    ] {
        tally.add(names[0], values.iter().sum::<f64>() / (values.len() as f64).max(1.0), 1.0);
        tally.add(names[1], values.iter().copied().reduce(min).unwrap_or(0.0), 1.0);
        tally.add(names[2], values.iter().copied().reduce(max).unwrap_or(0.0), 1.0);
    }
}

impl Trainer {
    /// Gives the next round's answers instead of sampling them, in the order in which they are to be learned from: text,
    /// tokens and reward of each. For comparing with another trainer's run.
    pub fn give_round(&mut self, answers: Vec<Answer>) {
        if let Way::Answers(online) = &mut self.way {
            online.given.push_back(answers);
        }
    }

    /// Adds the gradient of the next update on a round's answers, sampling the round first where it begins; gives the loss
    /// and the work it was.
    pub(super) fn learn_from_answers(&mut self, tally: &mut Tally, sink: &mut dyn Sink) -> Result<(f64, Work), Error> {
        let (rows, number, place) = self.batches.round(self.step);
        if rows.is_empty() {
            return Ok((0.0, Work::default()));
        }
        let Way::Answers(online) = &mut self.way else { return Ok((0.0, Work::default())) };
        let mut sampled = 0;
        if online.round.as_ref().is_none_or(|r| r.number != number) {
            let round = if let Some(given) = online.given.pop_front() {
                take_given(online, &self.policy, number, &given, tally)?
            } else {
                let prompts: Vec<&Example> = rows.iter().map(|i| &self.train.examples[*i]).collect();
                let (group, seed) = (online.cut.group, self.batches.seed);
                let mut answers = online.sample(&self.policy, &self.model, &prompts, group, seed, number)?;
                online.score(&mut answers, tally)?;
                online.measure(&self.policy, &mut answers)?;
                if let Some(bad) = answers.iter().find(|a| a.old.iter().chain(&a.values).any(|x| !x.is_finite())) {
                    let pair = example(bad, false).id;
                    let bad = Bad { pair, what: "The log-probs or values".into() };
                    return Err(self.bad_scores(bad, sink)?);
                }
                online.recipe.judge(&mut answers, group, tally);
                Answers { number, all: answers, given: None }
            };
            lengths(&round.all, tally);
            sampled = round.all.iter().map(|a| a.ids.len() as u64).sum();
            for answer in round.all.iter().step_by(online.cut.group).take(SHOWN) {
                let prompt = online.prompts.get(answer.row).map(|p| p.headline().to_owned()).unwrap_or_default();
                let score = Some(crate::domain::Num(answer.reward));
                sink.emit(RunEvent::Sampled { step: self.step, prompt, text: answer.text.clone(), score })?;
            }
            online.round = Some(round);
        }
        let Some(round) = &online.round else { return Ok((0.0, Work::default())) };
        let (pass, mini) = (place as usize / online.cut.minis, place as usize % online.cut.minis);
        let n = round.all.len();
        let order = match &round.given {
            Some(order) => order.clone(),
            None => online.cut.order(n, self.batches.seed, number, pass),
        };
        let per_update = online.cut.per_update(n);
        let part: Vec<usize> = order.into_iter().skip(mini * per_update).take(per_update).collect();
        let values = online.recipe.shape().values;
        let all: usize = round.all.iter().map(Answer::tokens).sum();
        let window = UpdateWindow {
            micro: part.len().div_ceil(online.cut.size).max(1),
            tokens: all as f64 / online.cut.minis as f64,
        };
        let (mut loss, mut seen) = (0.0, PASSES + self.step * n as u64);
        let mut tokens = 0;
        let grouping = Grouping::of(false, self.policy.packs());
        for micro in part.chunks(online.cut.size) {
            let answers: Vec<&Answer> = micro.iter().map(|i| &round.all[*i]).collect();
            let examples: Vec<Example> = answers.iter().map(|a| example(a, values)).collect();
            let examples: Vec<&Example> = examples.iter().collect();
            let nothing = vec![None; examples.len()];
            let recipe = &online.recipe;
            let how = How { number: seen, temperature: online.temperature, grouping, apart: Apart::No };
            let done = forward_backward(&mut self.policy, &examples, &nothing, how, &mut |batch| {
                let scored: Vec<_> = answers.iter().zip(batch).map(|(a, s)| (*a, &s.scores[0])).collect();
                Ok(recipe.loss(&scored, &window, tally))
            })?;
            match done {
                Ok(part) => loss += part,
                Err(bad) => return Err(self.bad_scores(bad, sink)?),
            }
            seen += micro.len() as u64;
            tokens += answers.iter().map(|a| a.ids.len() as u64).sum::<u64>();
        }
        Ok((loss, Work { seen: sampled, done: tokens }))
    }

    /// Answers the prompts kept for evaluation once each and measures what the answers are worth and how far they are from
    /// the reference.
    pub(super) fn evaluate_answers(&mut self) -> Result<Metrics, Error> {
        let Way::Answers(online) = &self.way else { return Ok(Metrics::new()) };
        let prompts: Vec<&Example> = self.eval.examples.iter().collect();
        // The same numbers at every evaluation, and no round's.
        let mut answers = online.sample(&self.policy, &self.model, &prompts, 1, self.batches.seed ^ 0x6576_616c, 0)?;
        let mut tally = Tally::default();
        online.score(&mut answers, &mut tally)?;
        online.measure(&self.policy, &mut answers)?;
        for answer in &answers {
            tally.add("reward", answer.reward, 1.0);
            let kl: f64 = answer.old.iter().zip(&answer.reference).map(|(o, r)| o - r).sum();
            if !answer.reference.is_empty() {
                tally.add("objective/kl", kl, 1.0);
            }
        }
        lengths(&answers, &mut tally);
        let mut metrics = Metrics::new();
        tally.write("eval_", &mut metrics);
        Ok(metrics)
    }
}

/// A round that was given: its answers group by group, and the order in which they are to be learned from.
fn take_given(
    online: &mut Online,
    policy: &Policy,
    number: u64,
    given: &[Answer],
    tally: &mut Tally,
) -> Result<Answers, Error> {
    let mut by_row: Vec<usize> = (0..given.len()).collect();
    by_row.sort_by_key(|i| given[*i].row);
    let mut order = vec![0; given.len()];
    for (at, i) in by_row.iter().enumerate() {
        order[*i] = at;
    }
    let mut answers: Vec<Answer> = by_row.iter().map(|i| given[*i].clone()).collect();
    online.measure(policy, &mut answers)?;
    let group = online.cut.group;
    online.recipe.judge(&mut answers, group, tally);
    Ok(Answers { number, all: answers, given: Some(order) })
}
