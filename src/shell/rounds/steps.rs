//! The steps of a round that make runs and pairs: which run is launched, which pairs are chosen.
//!
//! Owns that a step which is begun again does the same: names, prompts and seeds follow from the plan alone.

use super::super::error::{Error, Result};
use super::super::evaluation::{self, EvalOrder, RoundEvaluation};
use super::super::pairing;
use super::super::plan::{self, RoundSampling, SampleOrder, TEMPLATE_KEY, TrainOrder};
use super::super::run_name::RunName;
use super::super::{models, supervisor};
use super::planning::{options, pairing_of};
use crate::domain::{
    Choice, Filter, JsonFields, LOOP_SUITE, LoopPrompts, LoopRows, LoopSpec, Pair, RowChoice, RunId, Sampler, Session,
    counted, template_variables,
};
use crate::protocol::ServerOptions;
use crate::storage::{Home, RunDir, SessionDir};
use std::path::PathBuf;
use std::sync::Arc;

/// The template variables of the loop's training: its sampling and its evaluations render with them too.
fn variables(spec: &LoopSpec) -> JsonFields {
    template_variables(spec.params.text(TEMPLATE_KEY)).unwrap_or_default()
}

/// Launches the sampling run of a round.
pub(super) fn sample(home: &Home, dir: &SessionDir, spec: &LoopSpec, round: u32, session: &Session) -> Result<RunDir> {
    let prompts = LoopPrompts::of(spec, session);
    let order = SampleOrder {
        models: Vec::new(),
        servers: ServerOptions::default(),
        adapters: spec.before(round).into_iter().collect(),
        per_prompt: spec.per_prompt,
        sampler: Sampler { seed: spec.seed(round), ..spec.sampler },
        count_seed: false,
        device: spec.device.clone(),
        upto: None,
    };
    let round = RoundSampling { id: spec.sampling(round), prompts: prompts.round(spec, round) };
    let variables = variables(spec);
    let (mut spec, data) = plan::sample_on(home, dir, order, Some(round))?;
    spec.inputs.chat_template_kwargs = variables;
    supervisor::launch(dir, None, &spec, &data, RunName::Given)
}

/// Chooses a round's pairs among its own answers. Returns them and what to say.
pub(super) fn pair(dir: &SessionDir, spec: &LoopSpec, round: u32, session: &Session) -> Result<(Vec<Pair>, String)> {
    let own = answers_of(session, &spec.sampling(round));
    let request = pairing_of(spec, round);
    let found = pairing::choose(&own, &dir.name(), &request)?;
    if found.pairs.is_empty() {
        let of = found.text(&spec.strategy);
        return Err(Error::failed(format!(
            "round {round} of {} has nothing to judge: {of}; plan a loop with a higher --temperature or --per-prompt",
            spec.name
        )));
    }
    let said = found.text(&spec.strategy);
    let named = |(n, pair): (usize, Pair)| Pair { id: spec.pair_id(round, &pair.prompt, n), ..pair };
    Ok((found.pairs.into_iter().enumerate().map(named).collect(), said))
}

/// The answers of one sampling run as a session of their own, with the scores that they have: what was answered, paired and judged
/// elsewhere cannot change which pairs are chosen.
fn answers_of(session: &Session, run: &RunId) -> Session {
    let mut own = Session::default();
    for prompt in session.prompts() {
        own.add_prompt(prompt.clone());
    }
    for completion in session.completions().into_iter().filter(|c| c.id.is_of(run)) {
        for scorer in session.scoring_runs() {
            if let Some(score) = session.score_by(&scorer, &completion.id) {
                own.score(completion.id.clone(), &scorer, score);
            }
        }
        own.add_completion(completion.clone());
    }
    own
}

/// Launches the training run of a round.
pub(super) fn train(home: &Home, dir: &SessionDir, spec: &LoopSpec, round: u32, session: &Session) -> Result<RunDir> {
    let first = if spec.rows == LoopRows::All { 1 } else { round };
    let meant = |pair: &&Arc<Pair>| spec.round_of(&pair.id).is_some_and(|n| (first..=round).contains(&n));
    let judged: Vec<Choice> = session
        .pairs()
        .iter()
        .filter(meant)
        .flat_map(|pair| session.counting(&pair.id))
        .map(|(_, verdict)| verdict.choice)
        .collect();
    if !judged.iter().any(|choice| matches!(choice, Choice::Prefer(..))) {
        return Err(Error::failed(format!(
            "{} ends at round {round}: none of its {} prefers an answer, and a tie trains nothing; plan a loop with another judge, a \
             smaller --tie-band, or more pairs",
            spec.name,
            counted(judged.len(), "verdict")
        )));
    }
    let filter = Filter::parse(&spec.filter(round)).map_err(|e| Error::failed(e.to_string()))?;
    let order = TrainOrder {
        method: spec.method.clone(),
        params: spec.params.clone(),
        choice: RowChoice { filter: Some(filter), ..RowChoice::default() },
        name: Some(spec.training(round).into_string()),
        init: spec.before(round),
        adapter: None,
        device: spec.device.clone(),
        allow_damaged: false,
        suites: spec.data.clone().map(PathBuf::from),
        upto: None,
    };
    let (spec, data) = plan::train(home, dir, order)?;
    if let crate::protocol::Task::Train(train) = &spec.task {
        models::check(&train.model)?;
    }
    supervisor::launch(dir, None, &spec, &data, RunName::Given)
}

/// Launches the evaluation of a round against the model before it. Returns it and what to say.
pub(super) fn evaluate(
    home: &Home,
    dir: &SessionDir,
    spec: &LoopSpec,
    round: u32,
    session: &Session,
    key_envs: &[String],
) -> Result<(RunDir, Vec<String>)> {
    let prompts = LoopPrompts::of(spec, session);
    let suites = std::iter::once(LOOP_SUITE.to_owned()).chain(spec.suites.iter().cloned());
    let mut names: Vec<String> = Vec::new();
    suites.for_each(|suite| {
        if !names.contains(&suite) {
            names.push(suite);
        }
    });
    let order = EvalOrder {
        a: spec.training(round).into_string(),
        b: spec.before(round).map(RunId::into_string),
        suites: names,
        judges: vec![spec.eval_judge.clone()],
        prompts: None,
        data: spec.data.clone().map(PathBuf::from),
        limit: spec.eval_limit,
        seeds: 1,
        // Greedy answers: the comparison has no luck in it but the prompts.
        sampler: Sampler {
            temperature: 0.0,
            top_p: 1.0,
            max_new_tokens: spec.sampler.max_new_tokens,
            seed: spec.sampler.seed,
            ..Sampler::default()
        },
        servers: options(key_envs),
        variables: variables(spec),
        device: spec.device.clone(),
        upto: None,
    };
    let own = RoundEvaluation { id: spec.evaluation(round), prompts: &prompts.held_out };
    let (run, files, notes) = evaluation::plan_on(home, dir, order, own)?;
    Ok((supervisor::launch(dir, None, &run, &files, RunName::Given)?, notes.0))
}

/// What became of a finished sampling run, in words.
pub(super) fn sampled(session: &Session, spec: &LoopSpec, round: u32) -> String {
    let run = spec.sampling(round);
    let answers = session.completions().iter().filter(|c| c.id.is_of(&run)).count();
    let model = spec.before(round).map_or_else(|| "the session's model".to_owned(), RunId::into_string);
    format!("{} by {model}", counted(answers, "answer"))
}
