//! From a request to a plan, checked against the session and this machine before anything runs.
//!
//! Owns the words of a request. Refuses to run anything.

use super::super::error::{Error, Result};
use super::super::plan::{self, trained};
use super::super::{evaluation, pairing, scoring, suites};
use crate::app::{LoopRequest, PairRequest};
use crate::domain::{
    Checks, LoopPrompts, LoopSpec, Needs, PEOPLE, Rater, RunId, Session, Strategy, counted, hint, method, methods,
};
use crate::protocol::{ServerOptions, SessionRecord};
use crate::storage::{Home, Inbox, LoopFolder, SessionDir};
use std::path::{Path, PathBuf};

/// Who can judge, with what follows the colon.
const JUDGES: [(&str, &str); 5] = [
    ("check", "\"contains=please;max_words=40\""),
    ("reward", "RUN"),
    ("implicit", "RUN"),
    ("llm", "MODEL"),
    (PEOPLE, ""),
];

/// The plan of a request, checked against the session and this machine.
///
/// # Errors
/// When something it names is missing or cannot be used, or there are too few prompts: one sentence.
pub fn plan(home: &Home, dir: &SessionDir, request: &LoopRequest) -> Result<LoopSpec> {
    let method = learns_from_pairs(&request.method)?;
    let mut set = request.set.clone();
    if !set.iter().any(|pair| pair.starts_with("eval_") || pair.starts_with("metric_for_best_model")) {
        // The loop holds prompts out already: none of a round's labels is kept from training.
        set.push("eval_fraction=0".into());
    }
    let params = plan::params(&request.method, &set)?;
    if let Some(why) = method.contradiction(&params) {
        return Err(Error::Usage(why));
    }
    if !(request.held_out > 0.0 && request.held_out < 1.0) {
        return Err(Error::Usage(format!(
            "--held-out {}: give a share above 0 and below 1; rounds are compared on prompts that none samples",
            request.held_out
        )));
    }
    let (rater, score) = judge(home, dir, request)?;
    let strategy = Strategy::named(&request.strategy).ok_or_else(|| {
        Error::Usage(format!("there is no strategy {}: see `tiebreak pair --help`", request.strategy))
    })?;
    let score = request.score.clone().or(score.filter(|_| strategy.scores));
    if strategy.scores && score.is_none() {
        return Err(Error::Usage(format!(
            "the strategy {} needs scores, and the judge {} gives none: name a source with --score, such as length or logprob",
            strategy.name, request.judge
        )));
    }
    let name = match &request.name {
        Some(name) => name.clone(),
        None => next_name(dir)?,
    };
    if let Some(why) = LoopSpec::name_problem(&name) {
        return Err(Error::Usage(why));
    }
    let init = request.init.as_ref().map(|name| RunId::new(name.as_str()));
    if let Some(init) = &init {
        let run = trained(dir, init)?;
        run.check_policy("sample")?;
        run.check_adapter(&params)?;
    }
    for suite in &request.suites {
        let (row, own) = suites::named(suite)?;
        if !row.takes_prompts() && own.is_none() {
            suites::suite_file(home, row, request.data.as_deref().map(Path::new))?;
        }
    }
    let eval_judge = request.eval_judge.clone().unwrap_or_else(|| request.judge.clone());
    evaluation::judge(home, dir, &eval_judge, &options(&request.key_envs))?;
    let session = dir.state()?.0;
    let mut spec = LoopSpec {
        name,
        rounds: request.rounds,
        init,
        judge: request.judge.clone(),
        rater,
        tie_band: request.tie_band,
        strategy: strategy.name.to_owned(),
        score,
        limit: request.limit,
        method: request.method.clone(),
        params,
        rows: request.rows,
        suites: request.suites.clone(),
        eval_judge,
        eval_limit: request.eval_limit,
        data: request.data.as_deref().map(absolute).transpose()?,
        held_out: request.held_out,
        prompts: session.prompts().len(),
        prompts_per_round: 0,
        per_prompt: request.per_prompt,
        sampler: request.sampler,
        all_rounds: request.all_rounds,
        device: request.device.clone(),
    };
    spec.prompts_per_round = per_round(dir, &session, &spec, request.prompts_per_round)?;
    pairing::read(&dir.name(), &pairing_of(&spec, 1))?;
    Ok(spec)
}

/// The method, if it learns from judged pairs and its result writes answers.
fn learns_from_pairs(name: &str) -> Result<&'static crate::domain::Method> {
    let suits = |m: &crate::domain::Method| matches!(m.needs, Needs::Pairs | Needs::Ratings) && m.name != "reward";
    let found = method(name);
    if let Some(method) = found.filter(|m| suits(m)) {
        return Ok(method);
    }
    let all: Vec<&str> = methods().iter().filter(|m| suits(m)).map(|m| m.name).collect();
    Err(Error::Usage(match found {
        Some(_) => format!(
            "a loop trains a model that writes answers on judged pairs, and {name} does not: give --method {}",
            all.join(", ")
        ),
        None => format!(
            "`{name}` is not a method{}; for a loop there are {}",
            hint(name, all.iter().copied()),
            all.join(", ")
        ),
    }))
}

/// The judge's name as a rater, and the source of scores that it is.
fn judge(home: &Home, dir: &SessionDir, request: &LoopRequest) -> Result<(Option<Rater>, Option<String>)> {
    let word = request.judge.as_str();
    let (kind, operand) = word.split_once(':').map_or((word, ""), |(kind, operand)| (kind, operand.trim()));
    let names = || JUDGES.iter().map(|(name, _)| *name);
    let Some((_, example)) = JUDGES.iter().find(|(name, _)| *name == kind) else {
        return Err(Error::Usage(format!(
            "`{kind}` is not a judge of a loop{}; the judges are {}",
            hint(kind, names()),
            names().collect::<Vec<_>>().join(", ")
        )));
    };
    match (operand.is_empty(), example.is_empty()) {
        (true, false) => {
            return Err(Error::Usage(format!("the judge {kind} needs an operand: write --judge {kind}:{example}")));
        }
        (false, true) => {
            return Err(Error::Usage(format!("the judge {kind} takes nothing after a colon: write --judge {kind}")));
        }
        _ => {}
    }
    Ok(match kind {
        "check" => {
            let checks = Checks::parse(operand).map_err(|e| Error::Usage(format!("--judge {kind}: {e}")))?;
            let named = checks.to_string();
            (Some(Rater::model(&format!("check:{named}"))), Some(format!("checks:{operand}")))
        }
        "reward" | "implicit" => {
            let run = trained(dir, &RunId::new(operand))?;
            let id = if kind == "reward" { run.check_reward()? } else { run.check_scores()? };
            (Some(Rater::model(id.as_str())), Some(id.into_string()))
        }
        "llm" => (Some(scoring::judge_rater(home, operand, &options(&request.key_envs))?), None),
        _ => (None, None),
    })
}

/// How many prompts a round gets.
fn per_round(dir: &SessionDir, session: &Session, spec: &LoopSpec, asked: Option<usize>) -> Result<usize> {
    let name = dir.name();
    if session.prompts().is_empty() {
        return Err(Error::failed(format!(
            "session {name} has no prompts: add some with `tiebreak import {name} FILE`"
        )));
    }
    let LoopPrompts { training, held_out } = LoopPrompts::of(spec, session);
    if held_out.is_empty() {
        return Err(Error::failed(format!(
            "none of the {} of session {name} is held out: import more prompts, or raise --held-out {}",
            counted(session.prompts().len(), "prompt"),
            spec.held_out
        )));
    }
    let rounds = spec.rounds as usize;
    let most = training.len() / rounds.max(1);
    match asked {
        _ if most == 0 => Err(Error::failed(format!(
            "session {name} has {} beside the {} that are held out, fewer than {} need: import more with `tiebreak import {name} \
             FILE`",
            counted(training.len(), "prompt"),
            held_out.len(),
            counted(rounds, "round")
        ))),
        Some(n) if n > most => Err(Error::failed(format!(
            "{} of {n} prompts need {}, and session {name} has {} beside the {} that are held out: give --prompts-per-round {most} \
             or fewer, or import more",
            counted(rounds, "round"),
            n * rounds,
            training.len(),
            held_out.len()
        ))),
        Some(n) => Ok(n),
        None => Ok(most),
    }
}

/// The choice of a round's pairs, in the words of `pair`.
pub(super) fn pairing_of(spec: &LoopSpec, round: u32) -> PairRequest {
    PairRequest {
        strategy: spec.strategy.clone(),
        by: if spec.strategy == "stratified" { vec!["length_gap".into()] } else { Vec::new() },
        quota: Vec::new(),
        score: spec.score.clone(),
        against: "runner_up".into(),
        filter: None,
        limit: spec.limit,
        across: false,
        seed: spec.seed(round),
    }
}

/// How servers are asked.
pub(super) fn options(key_envs: &[String]) -> ServerOptions {
    ServerOptions { key_envs: key_envs.to_vec(), ..ServerOptions::default() }
}

/// The next free name of a loop.
fn next_name(dir: &SessionDir) -> Result<String> {
    let (session, _) = dir.state()?;
    let planned = session.loops().iter().map(|spec| spec.name.clone());
    let all = planned.chain(LoopFolder::all(dir)?);
    let last = all.filter_map(|name| name.strip_prefix("loop-")?.parse::<u64>().ok()).max().unwrap_or(0);
    Ok(format!("loop-{}", last + 1))
}

fn absolute(path: &str) -> Result<String> {
    let path = Path::new(path);
    let full: PathBuf = std::path::absolute(path).map_err(|e| Error::io("find", path, e))?;
    Ok(full.display().to_string())
}

/// Plans a loop, or finds the one that asks for the same and goes on with it. Records it in the session.
///
/// # Errors
/// As [`plan()`], when the name is taken by another loop, or the record cannot be written.
pub fn enter(home: &Home, dir: &SessionDir, request: &LoopRequest) -> Result<LoopSpec> {
    let spec = plan(home, dir, request)?;
    let (session, _) = dir.state()?;
    let same = |known: &&LoopSpec| known.asks_the_same(&spec) && request.name.as_ref().is_none_or(|n| *n == known.name);
    if let Some(known) = session.loops().iter().rev().find(same) {
        return Ok(known.clone());
    }
    if session.planned_loop(&spec.name).is_some() {
        return Err(Error::Usage(format!(
            "session {0} has another loop {1}: go on with it by `tiebreak loop {0} --resume {1}`, or give another --name",
            dir.name(),
            spec.name
        )));
    }
    Inbox::of(dir).put(&spec.name, &[SessionRecord::LoopPlanned(Box::new(spec.clone()))])?;
    Ok(spec)
}

/// The loop of that name.
///
/// # Errors
/// When there is none; a similar name is suggested.
pub fn find(dir: &SessionDir, name: &str) -> Result<LoopSpec> {
    let (session, _) = dir.state()?;
    // A name may come with a foreign session, and it becomes a folder.
    let found = session.planned_loop(name).filter(|spec| LoopSpec::name_problem(&spec.name).is_none());
    found.cloned().ok_or_else(|| {
        let known: Vec<&str> = session.loops().iter().map(|spec| spec.name.as_str()).collect();
        let there = if known.is_empty() {
            format!("it has none yet: plan one with `tiebreak loop {} --rounds N --judge NAME`", dir.name())
        } else {
            format!("there are {}", known.join(", "))
        };
        Error::failed(format!(
            "session {} has no loop {name}{}; {there}",
            dir.name(),
            hint(name, known.iter().copied())
        ))
    })
}
