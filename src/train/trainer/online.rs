//! Learning from the policy's own answers: rounds of prompts answered, scored, and learned from.
//!
//! Owns sampling, scoring and the order of updates, the same for every such method. A round's answers depend on the weights
//! at its beginning and on (seed, round, prompt, number) alone; they are part of a checkpoint, so that a run that was
//! interrupted within a round goes on with the same answers. Refuses cut distributions: see [`crate::train::recipe`]'s
//! `online`.

use super::batches::Round;
use super::inputs::Places;
use super::options::{policy_of, tune_of};
use super::pass::PACKED;
use super::saved::start_from;
use crate::domain::{Checks, PairId, Params, PromptBody, PromptId, Sampler};
use crate::generate::decode::PromptRequest;
use crate::generate::sampling::generate_all;
use crate::model::error::Error;
use crate::model::language_model::LanguageModel;
use crate::nn::policy::{Batch, Policy, Row};
use crate::nn::random::stream;
use crate::train::data::{Example, Rows};
use crate::train::loss::Tally;
use crate::train::recipe::{Answer, OnlineRecipe};
use crate::train::scorer::Judge;
use candle_core::Device;
use serde_json::{Value, json};
use std::collections::VecDeque;

/// A method that learns from answers, and what it needs beside the policy.
pub(super) struct Online {
    pub(super) recipe: Box<dyn OnlineRecipe>,
    /// Prompts by row.
    pub(super) prompts: Vec<PromptBody>,
    pub(super) cut: Round,
    pub(super) temperature: f64,
    longest: usize,
    judge: Option<Judge>,
    checks: Option<Checks>,
    checks_weight: f64,
    missing_eos_penalty: f64,
    /// The reference, where it is not the policy without its adapter.
    reference: Option<Policy>,
    pub(super) round: Option<Answers>,
    /// Rounds given from outside instead of sampled.
    pub(super) given: VecDeque<Vec<Answer>>,
}

/// A round in progress.
pub(super) struct Answers {
    pub(super) number: u64,
    pub(super) all: Vec<Answer>,
    /// The order in which the answers are learned from, where it was given.
    pub(super) given: Option<Vec<usize>>,
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
            let reference = policy_of(model.decoder(device, &tune_of(params))?, params)?;
            if let Some(dir) = places.init {
                start_from(&reference, params, dir)?;
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
    pub(super) fn sample(
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
    pub(super) fn score(&self, answers: &mut [Answer], tally: &mut Tally) -> Result<(), Error> {
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
    pub(super) fn measure(&self, policy: &Policy, answers: &mut [Answer]) -> Result<(), Error> {
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

pub(super) fn example(answer: &Answer, values: bool) -> Example {
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
