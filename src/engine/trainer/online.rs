//! Learning from the policy's own answers: rounds of prompts answered, scored, and learned from.
//!
//! Owns sampling, scoring and the order of updates, the same for every such method. A round's answers depend on the weights
//! at its beginning and on (seed, round, prompt, number) alone; they are part of a checkpoint, so that a run that was
//! interrupted within a round goes on with the same answers. Refuses cut distributions: see [`crate::engine::recipe`]'s
//! `online`.

use super::batches::Round;
use super::pass::{Grouping, How, PACKED, forward_backward};
use super::{Places, Trainer, Way, Work, checkpoint, tune_of};
use crate::domain::{Checks, Metrics, PairId, Params, PromptBody, PromptId, Sampler};
use crate::engine::decode::Asked;
use crate::engine::error::Error;
use crate::engine::judge::Judge;
use crate::engine::language_model::LanguageModel;
use crate::engine::loss::Tally;
use crate::engine::policy::{Batch, Policy, Row};
use crate::engine::random::stream;
use crate::engine::recipe::{Answer, Apart, OnlineRecipe, UpdateWindow};
use crate::engine::rows::{Example, Rows};
use crate::engine::sampling::generate_all;
use crate::engine::sink::Sink;
use crate::protocol::RunEvent;
use candle_core::Device;
use serde_json::{Value, json};
use std::collections::VecDeque;

/// Answers of a round that are shown.
const SHOWN: usize = 4;

/// Dropout's passes of answers are counted from here on.
const PASSES: u64 = 1 << 43;

/// A method that learns from answers, and what it needs beside the policy.
pub(super) struct Online {
    recipe: Box<dyn OnlineRecipe>,
    /// Prompts by row.
    prompts: Vec<PromptBody>,
    cut: Round,
    temperature: f64,
    longest: usize,
    judge: Option<Judge>,
    checks: Option<Checks>,
    checks_weight: f64,
    missing_eos_penalty: f64,
    /// The reference, where it is not the policy without its adapter.
    reference: Option<Policy>,
    round: Option<Answers>,
    /// Rounds given from outside instead of sampled.
    given: VecDeque<Vec<Answer>>,
}

/// A round in progress.
struct Answers {
    number: u64,
    all: Vec<Answer>,
    /// The order in which the answers are learned from, where it was given.
    given: Option<Vec<usize>>,
}

impl Online {
    /// Loads what scores, and the reference where it has to be a model of its own.
    pub(super) fn open(
        recipe: Box<dyn OnlineRecipe>,
        model: &LanguageModel,
        rows: &Rows,
        params: &Params,
        places: &Places<'_>,
        device: &Device,
    ) -> Result<Self, Error> {
        let checks = Checks::parse(params.text("reward_checks")).map_err(|e| Error::Asked(e.to_string()))?;
        let checks = Some(checks).filter(|c| !c.is_empty());
        let scorer = |(path, dir)| Judge::open(path, dir, device)?.dated(places.reward_date);
        let judge = places.reward.map(scorer).transpose()?;
        if checks.is_none() && judge.is_none() {
            return Err(Error::Asked(
                "answers need something that scores them: set reward_model to a reward run, or reward_checks".into(),
            ));
        }
        let own = places.init.is_some() || params.text("tune") == "full";
        let reference = if recipe.shape().reference && own {
            let reference = super::policy_of(model.decoder(device, &tune_of(params))?, params)?;
            if let Some(dir) = places.init {
                checkpoint::start_from(&reference, params, dir)?;
            }
            Some(reference)
        } else {
            None
        };
        Ok(Self {
            recipe,
            prompts: (0..rows.len()).filter_map(|i| rows.prompt(i)).collect(),
            cut: Round::new(params)?,
            temperature: params.f64("temperature"),
            longest: params.usize("max_completion_length"),
            judge,
            checks,
            checks_weight: params.f64("checks_weight"),
            missing_eos_penalty: params.f64("missing_eos_penalty"),
            reference,
            round: None,
            given: VecDeque::new(),
        })
    }

    /// The round in progress and what the recipe carries on, for a checkpoint.
    pub(super) fn state(&self) -> Value {
        let round = self.round.as_ref().map(|r| json!({ "number": r.number, "answers": r.all, "given": r.given }));
        json!({ "recipe": self.recipe.state(), "round": round })
    }

    /// Takes back what [`Online::state`] gave.
    pub(super) fn restore(&mut self, state: &Value) -> Result<(), Error> {
        self.recipe.restore(&state["recipe"]);
        let round = &state["round"];
        let Some(number) = round["number"].as_u64() else { return Ok(()) };
        let damaged = |e: serde_json::Error| Error::Asked(format!("the checkpoint's round of answers is damaged: {e}"));
        let answers = serde_json::from_value(round["answers"].clone()).map_err(damaged)?;
        let given = serde_json::from_value(round["given"].clone()).map_err(damaged)?;
        self.round = Some(Answers { number, all: answers, given });
        Ok(())
    }

    /// Samples `group` answers to each of these prompts, with the stream of `round`.
    fn sample(
        &self,
        policy: &Policy,
        model: &LanguageModel,
        prompts: &[&Example],
        group: usize,
        seed: u64,
        round: u64,
    ) -> Result<Vec<Answer>, Error> {
        let sampler = Sampler {
            temperature: self.temperature,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            seed,
            max_new_tokens: self.longest,
        };
        // Streams from 2^41 on are the rounds'.
        let place =
            |row: usize, k: usize| (1 << 41) + ((round * self.prompts.len() as u64 + row as u64) << 8) + k as u64;
        let ask = |(number, example): (usize, &&Example)| Asked {
            number,
            prompt: example.rows[0].ids.clone(),
            rngs: (0..group).map(|k| stream(seed, place(example.row, k))).collect(),
            sampler,
        };
        let asked = prompts.iter().enumerate().map(ask).collect();
        policy.rest();
        let made = generate_all(policy.decoder(), asked, model.tokenizer.stops(), true)?;
        policy.rest();
        let mut out = Vec::with_capacity(prompts.len() * group);
        for (example, made) in prompts.iter().zip(made) {
            let prompt = &example.rows[0].ids;
            for made in made {
                let text = model.tokenizer.decode(&made.ids)?;
                let ids = prompt.iter().chain(&made.ids).chain(&made.end).copied().collect();
                out.push(Answer {
                    row: example.row,
                    prompt: prompt.len(),
                    ids,
                    ended: made.end.is_some(),
                    text,
                    ..Answer::default()
                });
            }
        }
        Ok(out)
    }

    /// Says what each answer is worth.
    fn score(&self, answers: &mut [Answer], tally: &mut Tally) -> Result<(), Error> {
        let (mut scores, mut checked) = (Vec::new(), Vec::new());
        for answer in answers.iter_mut() {
            let Some(prompt) = self.prompts.get(answer.row) else { continue };
            answer.reward = 0.0;
            if let Some(judge) = &self.judge {
                let score = judge.standard(judge.score(prompt, &answer.text)?);
                answer.score = Some(score);
                answer.reward += score;
                scores.push(score);
            }
            if let Some(checks) = &self.checks {
                let share = checks.score(&answer.text);
                answer.checks = Some(share);
                answer.reward += self.checks_weight * share;
                checked.push(share);
            }
            if !answer.ended {
                answer.reward -= self.missing_eos_penalty;
            }
        }
        for (mean, std, values) in [
            ("rewards/model/mean", "rewards/model/std", scores),
            ("rewards/checks/mean", "rewards/checks/std", checked),
        ] {
            let n = values.len() as f64;
            if n > 0.0 {
                let centre = values.iter().sum::<f64>() / n;
                let square: f64 = values.iter().map(|x| (x - centre).powi(2)).sum();
                tally.add(mean, centre, 1.0);
                tally.add(std, (square / (n - 1.0).max(1.0)).sqrt(), 1.0);
            }
        }
        Ok(())
    }

    /// Measures each answer under the policy and the reference as they are.
    fn measure(&self, policy: &Policy, answers: &mut [Answer]) -> Result<(), Error> {
        let shape = self.recipe.shape();
        let mut left = answers;
        while !left.is_empty() {
            let mut tokens = 0;
            let fits = |a: &&Answer| {
                tokens += a.ids.len();
                tokens <= PACKED
            };
            let n = if policy.packs() { left.iter().take_while(fits).count().max(1) } else { 1 };
            let (group, rest) = left.split_at_mut(n);
            left = rest;
            let batch = |values| Batch {
                temperature: self.temperature,
                ..Batch::new(group.iter().map(|a| row(a, values)).collect())
            };
            let own = policy.score(&batch(shape.values), true)?.rows;
            let reference = match (shape.reference, &self.reference) {
                (false, _) => Vec::new(),
                (true, Some(reference)) => reference.score(&batch(false), true)?.rows,
                (true, None) => policy.score(&batch(false), false)?.rows,
            };
            for (answer, own) in group.iter_mut().zip(own) {
                (answer.old, answer.values) = (own.logp, own.value);
            }
            for (answer, reference) in group.iter_mut().zip(reference) {
                answer.reference = reference.logp;
            }
        }
        Ok(())
    }
}

/// An answer's sequence: its tokens scored, and with `values` the head read before each of them.
fn row(answer: &Answer, values: bool) -> Row {
    let scored: Vec<usize> = (answer.prompt..answer.ids.len()).collect();
    let valued = if values { scored.iter().map(|at| at - 1).collect() } else { Vec::new() };
    Row { ids: answer.ids.clone(), scored, valued, starts: Vec::new() }
}

fn example(answer: &Answer, values: bool) -> Example {
    let id = PairId::new(format!("answer to row {}", answer.row));
    Example {
        prompt_id: PromptId::new(id.as_str()),
        id,
        row: answer.row,
        prompt: answer.prompt,
        rows: vec![row(answer, values)],
        aside: Vec::new(),
        margin: None,
        agreed: None,
        good: true,
    }
}

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
                    let bad = example(bad, false).id;
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
