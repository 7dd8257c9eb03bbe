//! The estimate before a training run: steps, rows left out, trainable parameters, peak memory.
//!
//! Uses the memory formula of `nn::memory` and tokenises every row as the run will, so that the counts are exact. Reads no
//! weights and computes nothing on a device. Refuses to estimate seconds: there is no measurement to base them on.

use super::data::{Example, Rows, tokenise};
use super::recipe::{Separable, prepare};
use super::trainer::{Batches, Grouping, train_spec, tune};
use crate::domain::EngineKind;
use crate::model::error::Error;
use crate::model::language_model::LanguageModel;
use crate::model::tune::Tune;
use crate::nn::device::{activation_budget, device, weights_dtype};
use crate::nn::layout::packed_tokens;
use crate::nn::memory::{BYTES, PassSize, memory, trainable, trained, weights, work_cpu, work_cuda, work_reference};
use crate::nn::policy::Row;
use crate::protocol::{Estimate, RunSpec};
use std::path::Path;

/// Maximum rows whose batches are examined for the largest; more would hardly change it.
const MAX_ROWS: usize = 100_000;
/// Maximum prompts, each of which has several answers.
const MAX_PROMPTS: usize = 10_000;

/// Estimates the run of `spec` on `rows`.
///
/// # Errors
/// When the model cannot be opened, a row cannot be tokenised, or there is no such device.
pub fn estimate(spec: &RunSpec, rows: &Rows) -> Result<Estimate, Error> {
    let train = train_spec(spec)?;
    let prepared = prepare(&train.method, &train.params)?;
    let (recipe, params) = (&prepared.recipe, &prepared.shared);
    let model = LanguageModel::open(Path::new(&train.model.path))?.rendering(&spec.inputs.rendering())?;
    let made = tokenise(&model, rows, &prepared.tokenise_options(train.split_by_text), |_| Ok(()))?;
    let batches = match &prepared.rollout {
        Some(rollout) => Batches::rounds(made.train.len(), params, rollout)?,
        None => Batches::from_examples(&made.train, params)?,
    };
    let tune = tune(params);
    if let Tune::Lora(lora) = &tune {
        lora.check_modules(&model.config.linears())?;
    }
    let trainable = trainable(&model.config, &tune);
    let longest = made.longest();
    let device = device(&spec.device)?;
    let (cpu, narrow) = (device.is_cpu(), weights_dtype(&device).size_in_bytes() as u64);
    let reference = params.engine == EngineKind::Reference || (!cpu && model.config.needs_reference());
    let packs = cpu && !reference && params.lora_dropout == 0.0;
    let micro: Vec<Vec<PassSize>> = if let Some(rollout) = &prepared.rollout {
        // Answers are not sampled yet: assume the maximum length.
        let answered = |i: usize| {
            let prompt = made.train[i].rows.first().map_or(0, |r| r.ids.len());
            let ids = vec![0; prompt + rollout.max_completion_length];
            let row = Row { scored: (prompt.max(1)..ids.len()).collect(), ids, ..Row::default() };
            Example { rows: vec![row], kl_rows: Vec::new(), ..made.train[i].clone() }
        };
        let all = batches.planned_answer_batches(MAX_PROMPTS, params, rollout)?.into_iter().map(|micro| {
            let examples: Vec<Example> = micro.into_iter().map(answered).collect();
            pass_sizes(&examples.iter().collect::<Vec<_>>(), Grouping::new(false, packs), cpu, packs)
        });
        all.collect()
    } else {
        let groups = |rows: Vec<usize>| {
            let examples: Vec<&Example> = rows.iter().map(|i| &made.train[*i]).collect();
            pass_sizes(&examples, Grouping::new(recipe.needs_reference(), packs), cpu, packs)
        };
        let all = batches.planned_batches(MAX_ROWS).into_iter().map(groups);
        // Separable losses free activations between groups.
        let apart = recipe.separable() != Separable::No;
        all.flat_map(|all| if apart { all.into_iter().map(|g| vec![g]).collect() } else { vec![all] }).collect()
    };
    let room = activation_budget(&device) as u64;
    let of = |groups: &Vec<PassSize>| match (reference, cpu) {
        (true, _) => (work_reference(&model.config, &tune, groups), 0),
        (_, true) => work_cpu(&model.config, &tune, groups, room),
        (_, false) => work_cuda(&model.config, &tune, groups, narrow, room),
    };
    let works: Vec<(u64, u64)> = micro.iter().map(of).collect();
    let work = works.iter().map(|w| w.0).max().unwrap_or(0);
    let kept_layers = works.iter().map(|w| w.1).min().unwrap_or(0);
    // Sampling uses a packed copy of the weights, but not at the same time as a step.
    let halves = tune != Tune::Full && Path::new(&train.model.path).extension().is_none_or(|e| e != "gguf");
    let packed = if cpu { model.config.parameters() * if halves { BYTES / 2 } else { BYTES } } else { 0 };
    let work = work.max(packed);
    // A reward model is a second model, and so is the reference of full fine-tuning.
    let scored = prepared.rollout.as_ref().is_some_and(|rollout| !rollout.reward_model.is_empty());
    let others = u64::from(scored) + u64::from(prepared.rollout.is_some() && tune == Tune::Full);
    let decided: Vec<bool> = made
        .train
        .iter()
        .chain(&made.eval)
        .filter(|e| e.rows.len() == 2 && e.answer(0).len() != e.answer(1).len())
        .map(|e| e.answer(0).len() > e.answer(1).len())
        .collect();
    Ok(Estimate {
        steps: batches.total,
        train_rows: made.train.len(),
        eval_rows: made.eval.len(),
        tokens: made.train.iter().map(|p| Example::tokens(p) as u64).sum(),
        longest,
        trainable,
        memory_bytes: memory(&model.config, &tune, trainable, work, others, narrow),
        weights_bytes: (1 + others) * weights(&model.config, &tune, narrow),
        trained_bytes: trained(&tune, trainable) * BYTES,
        layers: model.config.layers as u64,
        kept_layers,
        seconds: None,
        longer_wins: decided.iter().filter(|won| **won).count() as f64 / decided.len().max(1) as f64,
        dropped: made.dropped,
    })
}

/// The decoder passes of a micro-batch; `shared`: an example's common prefix counts once.
fn pass_sizes(examples: &[&Example], grouping: Grouping, cpu: bool, shared: bool) -> Vec<PassSize> {
    let mut out = Vec::new();
    let mut left = examples;
    while !left.is_empty() {
        let (group, rest) = left.split_at(grouping.group_len(left, cpu).clamp(1, left.len()));
        left = rest;
        out.push(PassSize {
            rows: group.iter().map(|e| e.rows.len() as u64).sum(),
            length: group.iter().map(|e| e.longest() as u64).max().unwrap_or(0),
            scored: group.iter().map(|e| e.scored() as u64).sum(),
            tokens: group.iter().map(|e| if shared { packed_tokens(&e.rows) } else { e.tokens() } as u64).sum(),
        });
    }
    out
}
