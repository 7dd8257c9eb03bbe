//! Rollouts of online methods: sample answers to a round of prompts, score them, and train on them.
//!
//! Owns sampling, rewards and the order of updates, the same for every online method. A round's answers depend only on the
//! weights at its start and on (seed, round, prompt, number). They are part of a checkpoint, so that a run interrupted within a
//! round resumes with the same answers. Refuses top-k and top-p: they would bias the KL estimate.

use super::batches::{Batches, RoundShape};
use super::pass::{Grouping, NonFiniteScores, PACKED_TOKENS, PassOptions, StepTokens, forward_backward};
use super::self_check::non_finite_scores;
use crate::domain::{Checks, Metrics, PairId, PromptBody, PromptId, RolloutParams, Sampler, TrainerParams};
use crate::generate::decode::PromptRequest;
use crate::generate::sampling::generate_all;
use crate::model::error::Error;
use crate::model::language_model::LanguageModel;
use crate::model::sink::Sink;
use crate::nn::policy::{Batch, Policy, Row};
use crate::nn::random::stream;
use crate::protocol::RunEvent;
use crate::train::data::{Example, Rows};
use crate::train::loss::Tally;
use crate::train::recipe::{Recipe, RolloutNeeds, SampledAnswer, Separable, UpdateWindow};
use serde_json::{Value, json};
use std::collections::VecDeque;

/// Answers of a round emitted as samples.
const SHOWN: usize = 4;

/// First pass number of answers, for dropout.
const FIRST_PASS: u64 = 1 << 43;

/// A reward model's standardised score of an answer to a prompt.
pub(super) type AnswerScorer = Box<dyn Fn(&PromptBody, &str) -> Result<f64, Error>>;

/// The rollouts of an online method, and what they need beside the policy.
pub(super) struct Rollouts {
    needs: RolloutNeeds,
    /// Prompts by row.
    prompts: Vec<PromptBody>,
    shape: RoundShape,
    temperature: f64,
    longest: usize,
    scorer: Option<AnswerScorer>,
    checks: Option<Checks>,
    checks_weight: f64,
    missing_eos_penalty: f64,
    /// The reference, unless it is the policy without its adapter.
    reference: Option<Policy>,
    round: Option<AnswerRound>,
    /// Rounds injected from outside instead of sampled.
    injected: VecDeque<Vec<SampledAnswer>>,
}

/// What a step on rollouts needs from the trainer.
pub(super) struct RolloutContext<'a> {
    /// The policy.
    pub(super) policy: &'a mut Policy,
    /// Its tokenizer and template.
    pub(super) model: &'a LanguageModel,
    /// The prompts trained on.
    pub(super) examples: &'a [Example],
    /// The plan of rounds.
    pub(super) batches: &'a Batches,
    /// Steps done.
    pub(super) step: u64,
}

/// A round in progress.
struct AnswerRound {
    number: u64,
    all: Vec<SampledAnswer>,
    /// The training order of an injected round.
    injected_order: Option<Vec<usize>>,
}

impl Rollouts {
    /// Rollouts on `rows`; `scorer`: a reward model; `reference`: a separate reference model, if needed.
    ///
    /// # Errors
    /// When there is no reward, or a round's answers are not a multiple of the group size.
    pub(super) fn new(
        needs: RolloutNeeds,
        rows: &Rows,
        shared: &TrainerParams,
        params: &RolloutParams,
        scorer: Option<AnswerScorer>,
        reference: Option<Policy>,
    ) -> Result<Self, Error> {
        let checks = Some(params.reward_checks.clone()).filter(|c| !c.is_empty());
        if checks.is_none() && scorer.is_none() {
            return Err(Error::Invalid(
                "answers need a reward: set reward_model to a reward run, or set reward_checks".into(),
            ));
        }
        Ok(Self {
            needs,
            prompts: (0..rows.len()).filter_map(|i| rows.prompt(i)).collect(),
            shape: RoundShape::new(shared, params)?,
            temperature: params.temperature,
            longest: params.max_completion_length,
            scorer,
            checks,
            checks_weight: params.checks_weight,
            missing_eos_penalty: params.missing_eos_penalty,
            reference,
            round: None,
            injected: VecDeque::new(),
        })
    }

    /// Uses these answers for the next round instead of sampling, in this training order.
    pub(super) fn inject(&mut self, answers: Vec<SampledAnswer>) {
        self.injected.push_back(answers);
    }

    /// The current round and the recipe's state, for a checkpoint.
    pub(super) fn state(&self, recipe: &dyn Recipe) -> Value {
        let round =
            self.round.as_ref().map(|r| json!({ "number": r.number, "answers": r.all, "given": r.injected_order }));
        json!({ "recipe": recipe.state(), "round": round })
    }

    /// Restores a saved [`Rollouts::state`].
    pub(super) fn restore(&mut self, recipe: &mut dyn Recipe, state: &Value) -> Result<(), Error> {
        recipe.restore(&state["recipe"]);
        let round = &state["round"];
        let Some(number) = round["number"].as_u64() else { return Ok(()) };
        let damaged =
            |e: serde_json::Error| Error::Invalid(format!("the checkpoint's round of answers is damaged: {e}"));
        let answers = serde_json::from_value(round["answers"].clone()).map_err(damaged)?;
        let injected_order = serde_json::from_value(round["given"].clone()).map_err(damaged)?;
        self.round = Some(AnswerRound { number, all: answers, injected_order });
        Ok(())
    }

    /// Samples `group` answers to each prompt, with the random streams of `round`.
    fn sample(
        &self,
        policy: &Policy,
        model: &LanguageModel,
        prompts: &[&Example],
        group: usize,
        seed: u64,
        round: u64,
    ) -> Result<Vec<SampledAnswer>, Error> {
        let sampler = Sampler {
            temperature: self.temperature,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            seed,
            max_new_tokens: self.longest,
        };
        // Streams from 2^41 on belong to rounds.
        let place =
            |row: usize, k: usize| (1 << 41) + ((round * self.prompts.len() as u64 + row as u64) << 8) + k as u64;
        let ask = |(number, example): (usize, &&Example)| PromptRequest {
            number,
            prompt: example.rows[0].ids.clone(),
            rngs: (0..group).map(|k| stream(seed, place(example.row, k))).collect(),
            sampler,
        };
        let asked = prompts.iter().enumerate().map(ask).collect();
        policy.release_memory();
        let made = generate_all(policy.decoder(), asked, model.tokenizer.stops(), true)?;
        policy.release_memory();
        let mut out = Vec::with_capacity(prompts.len() * group);
        for (example, made) in prompts.iter().zip(made) {
            let prompt = &example.rows[0].ids;
            for made in made {
                let text = model.tokenizer.decode_after(prompt.last().copied(), &made.ids)?;
                let ids = prompt.iter().chain(&made.ids).chain(&made.end).copied().collect();
                out.push(SampledAnswer {
                    row: example.row,
                    prompt: prompt.len(),
                    ids,
                    ended: made.end.is_some(),
                    text,
                    ..SampledAnswer::default()
                });
            }
        }
        Ok(out)
    }

    /// Sets the reward of each answer.
    fn compute_rewards(&self, answers: &mut [SampledAnswer], tally: &mut Tally) -> Result<(), Error> {
        let (mut scores, mut checked) = (Vec::new(), Vec::new());
        for answer in answers.iter_mut() {
            let Some(prompt) = self.prompts.get(answer.row) else { continue };
            answer.reward = 0.0;
            if let Some(scorer) = &self.scorer {
                let score = scorer(prompt, &answer.text)?;
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

    /// Sets the log-probs and values of each answer under the current policy and reference.
    fn compute_logps(&self, policy: &Policy, answers: &mut [SampledAnswer]) -> Result<(), Error> {
        let needs = self.needs;
        let mut left = answers;
        while !left.is_empty() {
            let mut tokens = 0;
            let fits = |a: &&SampledAnswer| {
                tokens += a.ids.len();
                tokens <= PACKED_TOKENS
            };
            let n = if policy.packs() { left.iter().take_while(fits).count().max(1) } else { 1 };
            let (group, rest) = left.split_at_mut(n);
            left = rest;
            let batch = |values| Batch {
                temperature: self.temperature,
                ..Batch::new(group.iter().map(|a| answer_row(a, values)).collect())
            };
            let own = policy.score(&batch(needs.values), true)?.rows;
            let reference = match (needs.reference, &self.reference) {
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

/// An answer's sequence with its tokens scored; with `values` the value head is read before each token.
fn answer_row(answer: &SampledAnswer, values: bool) -> Row {
    let scored: Vec<usize> = (answer.prompt..answer.ids.len()).collect();
    let valued = if values { scored.iter().map(|at| at - 1).collect() } else { Vec::new() };
    Row { ids: answer.ids.clone(), scored, valued, starts: Vec::new() }
}

/// An answer's id in findings.
fn answer_id(row: usize) -> PairId {
    PairId::new(format!("answer to row {row}"))
}

/// The row of the first answer with a non-finite value, and which value.
fn not_finite(answers: &[SampledAnswer]) -> Option<(usize, &'static str)> {
    let bad = |x: &[f64]| x.iter().any(|x| !x.is_finite());
    answers.iter().find_map(|a| {
        let what = match a {
            _ if bad(&a.old) => "The log-probs",
            _ if bad(&a.values) => "The values",
            _ if bad(&a.reference) => "The reference log-probs",
            _ if !a.reward.is_finite() => "The rewards",
            _ => return None,
        };
        Some((a.row, what))
    })
}

fn answer_example(answer: &SampledAnswer, values: bool) -> Example {
    let id = answer_id(answer.row);
    Example {
        prompt_id: PromptId::new(id.as_str()),
        id,
        row: answer.row,
        prompt: answer.prompt,
        rows: vec![answer_row(answer, values)],
        kl_rows: Vec::new(),
        margin: None,
        agreed: None,
        desirable: true,
    }
}

/// TRL's `completions/*`.
fn length_metrics(answers: &[SampledAnswer], tally: &mut Tally) {
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
            // TRL logs 0 where none ended.
            if ended.is_empty() { vec![0.0] } else { ended },
        ),
    ] {
        tally.add(names[0], values.iter().sum::<f64>() / (values.len() as f64).max(1.0), 1.0);
        tally.add(names[1], values.iter().copied().reduce(min).unwrap_or(0.0), 1.0);
        tally.add(names[2], values.iter().copied().reduce(max).unwrap_or(0.0), 1.0);
    }
}

impl Rollouts {
    /// Accumulates the gradient of the next update on a round's answers; samples the round first if it is new. Returns the loss
    /// and the token counts.
    pub(super) fn accumulate_gradients(
        &mut self,
        recipe: &mut dyn Recipe,
        from: RolloutContext<'_>,
        tally: &mut Tally,
        sink: &mut dyn Sink,
    ) -> Result<(f64, StepTokens), Error> {
        let RolloutContext { policy, model, examples, batches, step } = from;
        let (rows, number, place) = batches.round(step);
        if rows.is_empty() {
            return Ok((0.0, StepTokens::default()));
        }
        let mut sampled = 0;
        if self.round.as_ref().is_none_or(|r| r.number != number) {
            let round = if let Some(given) = self.injected.pop_front() {
                self.injected_round(recipe, policy, number, &given, tally)?
            } else {
                let prompts: Vec<&Example> = rows.iter().map(|i| &examples[*i]).collect();
                let (group, seed) = (self.shape.group, batches.seed);
                let mut answers = self.sample(policy, model, &prompts, group, seed, number)?;
                self.compute_rewards(&mut answers, tally)?;
                self.compute_logps(policy, &mut answers)?;
                if let Some((row, what)) = not_finite(&answers) {
                    let bad = NonFiniteScores { pair: answer_id(row), what: what.into() };
                    return Err(non_finite_scores(step, bad, sink)?);
                }
                recipe.compute_advantages(&mut answers, group, tally);
                AnswerRound { number, all: answers, injected_order: None }
            };
            length_metrics(&round.all, tally);
            sampled = round.all.iter().map(|a| a.ids.len() as u64).sum();
            for answer in round.all.iter().step_by(self.shape.group).take(SHOWN) {
                let prompt = self.prompts.get(answer.row).map(|p| p.headline().to_owned()).unwrap_or_default();
                let score = Some(crate::domain::Num(answer.reward));
                sink.emit(RunEvent::Sampled { step, prompt, text: answer.text.clone(), score })?;
            }
            self.round = Some(round);
        }
        let Some(round) = &self.round else { return Ok((0.0, StepTokens::default())) };
        let (pass, mini) = (place as usize / self.shape.minis, place as usize % self.shape.minis);
        let n = round.all.len();
        let order = match &round.injected_order {
            Some(order) => order.clone(),
            None => self.shape.order(n, batches.seed, number, pass),
        };
        let per_update = self.shape.per_update(n);
        let part: Vec<usize> = order.into_iter().skip(mini * per_update).take(per_update).collect();
        let values = self.needs.values;
        let all: usize = round.all.iter().map(SampledAnswer::tokens).sum();
        let window = UpdateWindow {
            share: 1.0 / part.len().div_ceil(self.shape.size).max(1) as f64,
            tokens: all as f64 / self.shape.minis as f64,
        };
        let (mut loss, mut first_pass) = (0.0, FIRST_PASS + step * n as u64);
        let mut tokens = 0;
        let grouping = Grouping::new(false, policy.packs());
        for micro in part.chunks(self.shape.size) {
            let answers: Vec<&SampledAnswer> = micro.iter().map(|i| &round.all[*i]).collect();
            let examples: Vec<Example> = answers.iter().map(|a| answer_example(a, values)).collect();
            let examples: Vec<&Example> = examples.iter().collect();
            let no_references = vec![None; examples.len()];
            let options = PassOptions { first_pass, temperature: self.temperature, grouping, separable: Separable::No };
            let done = forward_backward(policy, &examples, &no_references, options, &mut |batch| {
                let mut scored = batch.to_vec();
                for (scored, answer) in scored.iter_mut().zip(&answers) {
                    scored.answer = Some(answer);
                }
                recipe.loss(&scored, &window, tally)
            })?;
            match done {
                Ok(part) => loss += part,
                Err(bad) => return Err(non_finite_scores(step, bad, sink)?),
            }
            first_pass += micro.len() as u64;
            tokens += answers.iter().map(|a| a.ids.len() as u64).sum::<u64>();
        }
        Ok((loss, StepTokens { new: sampled, processed: tokens }))
    }

    /// Samples one answer per evaluation prompt and measures its reward and its KL to the reference.
    pub(super) fn evaluate(
        &self,
        policy: &Policy,
        model: &LanguageModel,
        examples: &[Example],
        seed: u64,
    ) -> Result<Metrics, Error> {
        let prompts: Vec<&Example> = examples.iter().collect();
        // The same random streams in every evaluation, different from any round's.
        let mut answers = self.sample(policy, model, &prompts, 1, seed ^ 0x6576_616c, 0)?;
        let mut tally = Tally::default();
        self.compute_rewards(&mut answers, &mut tally)?;
        self.compute_logps(policy, &mut answers)?;
        if let Some((row, what)) = not_finite(&answers) {
            return Err(Error::NotFinite(format!("{what} of the answer to the held-out row {row} are not finite.")));
        }
        for answer in &answers {
            tally.add("reward", answer.reward, 1.0);
            let kl: f64 = answer.old.iter().zip(&answer.reference).map(|(o, r)| o - r).sum();
            if !answer.reference.is_empty() {
                tally.add("objective/kl", kl, 1.0);
            }
        }
        length_metrics(&answers, &mut tally);
        let mut metrics = Metrics::new();
        tally.write("eval_", &mut metrics);
        Ok(metrics)
    }

    /// An injected round: its answers by group, with their training order.
    fn injected_round(
        &self,
        recipe: &mut dyn Recipe,
        policy: &Policy,
        number: u64,
        given: &[SampledAnswer],
        tally: &mut Tally,
    ) -> Result<AnswerRound, Error> {
        let mut by_row: Vec<usize> = (0..given.len()).collect();
        by_row.sort_by_key(|i| given[*i].row);
        let mut order = vec![0; given.len()];
        for (at, i) in by_row.iter().enumerate() {
            order[*i] = at;
        }
        let mut answers: Vec<SampledAnswer> = by_row.iter().map(|i| given[*i].clone()).collect();
        self.compute_logps(policy, &mut answers)?;
        let group = self.shape.group;
        recipe.compute_advantages(&mut answers, group, tally);
        Ok(AnswerRound { number, all: answers, injected_order: Some(order) })
    }
}
