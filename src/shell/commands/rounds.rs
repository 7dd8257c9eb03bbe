//! `loop`: plans rounds, does them, says where they stand; `stop` and `resume` of a loop.

use super::super::cli::LoopArgs;
use super::super::error::{Error, Result};
use super::super::rounds::{self, LoopEnd, LoopReporter};
use super::super::{out, supervisor};
use super::context::CommandContext;
use crate::app::LoopRequest;
use crate::domain::{LoopProgress, LoopRows, LoopSpec, LoopState, LoopStep, RoundProgress, RunId, Sampler};
use crate::protocol::RunCommand;
use crate::storage::{LoopFolder, SessionDir};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Plans a loop and does it, goes on with one, or says where one stands.
pub fn run(context: &CommandContext, args: LoopArgs) -> Result<()> {
    let dir = SessionDir::find(&context.home, &args.session)?;
    out::warn_of_damage(&dir.state()?.1);
    if let Some(name) = &args.show {
        return show(context, &dir, name);
    }
    let (detach, background, dry, key_envs) = (args.detach, args.background, args.dry_run, args.key_envs.clone());
    let name = if let Some(name) = args.resume.clone() {
        // The plan may still wait in the inbox.
        name
    } else {
        let request = request(args)?;
        if dry {
            let spec = rounds::plan(&context.home, &dir, &request)?;
            return print_plan(context, &dir, &spec);
        }
        let spec = rounds::enter(&context.home, &dir, &request)?;
        if !context.json {
            let session = dir.state()?.0;
            for line in rounds::plan_words(&dir.name(), &spec, &session) {
                out::note(&line);
            }
        }
        spec.name
    };
    if detach {
        supervisor::start_loop(&context.home, &dir, &name, &key_envs)?;
        return if context.json {
            out::json(&json!({ "session": dir.name(), "loop": name }))
        } else {
            out::line(&format!("{name} started; see it with `tiebreak loop {} --show {name}`", dir.name()))
        };
    }
    if background {
        leave_terminal();
    }
    let mut reporter = Terminal { json: context.json, name: name.clone() };
    let (spec, found, end) = rounds::drive(&context.home, &dir, &name, &key_envs, background, &mut reporter)?;
    let text = rounds::end_words(&dir.name(), &spec, &found, &end);
    if context.json {
        out::json(&json!({
            "loop": spec.name, "end": end_word(&end), "result": found.result(&spec), "rounds": rounds_json(&found), "text": text,
        }))?;
    } else {
        out::line(&text)?;
    }
    // An interrupt is no success, as with a run that is followed.
    if end == LoopEnd::Interrupted { Err(Error::Ended(130)) } else { Ok(()) }
}

/// The request that the arguments make.
fn request(args: LoopArgs) -> Result<LoopRequest> {
    let needs = |what: &str| Error::Usage(format!("a loop needs {what}; see `tiebreak loop --help`"));
    Ok(LoopRequest {
        name: args.name,
        rounds: args.rounds.ok_or_else(|| needs("--rounds N"))?,
        init: args.init,
        judge: args.judge.ok_or_else(|| needs("--judge NAME"))?,
        tie_band: args.tie_band,
        strategy: args.strategy,
        score: args.score,
        limit: args.limit.map(|n| n as usize),
        method: args.method,
        set: args.set,
        rows: LoopRows::named(&args.rows).unwrap_or_default(),
        suites: args.suites,
        eval_judge: args.eval_judge,
        eval_limit: args.eval_limit.map(|n| n as usize),
        data: args.data.map(|path| path.display().to_string()),
        held_out: args.held_out,
        prompts_per_round: args.prompts_per_round,
        per_prompt: args.per_prompt.into(),
        sampler: Sampler {
            temperature: args.temperature,
            top_p: args.top_p,
            max_new_tokens: args.max_new_tokens as usize,
            seed: args.seed,
            ..Sampler::default()
        },
        all_rounds: args.all_rounds,
        key_envs: args.key_envs,
        device: args.device,
    })
}

fn print_plan(context: &CommandContext, dir: &SessionDir, spec: &LoopSpec) -> Result<()> {
    if context.json {
        return out::json(spec);
    }
    let session = dir.state()?.0;
    rounds::plan_words(&dir.name(), spec, &session).iter().try_for_each(|line| out::line(line))
}

/// Where loops stand.
fn show(context: &CommandContext, dir: &SessionDir, name: &str) -> Result<()> {
    let session = dir.state()?.0;
    let specs: Vec<LoopSpec> = if name == "all" { session.loops().to_vec() } else { vec![rounds::find(dir, name)?] };
    if specs.is_empty() && !context.json {
        let name = dir.name();
        return out::line(&format!(
            "session {name} has no loop yet: plan one with `tiebreak loop {name} --rounds N --judge NAME`"
        ));
    }
    for spec in &specs {
        let found = rounds::progress(dir, spec, &session, &BTreeSet::new())?;
        let running = LoopFolder::of(dir, &spec.name).is_running();
        let text = rounds::standing(&dir.name(), spec, &found, running);
        if context.json {
            out::json(&json!({
                "loop": spec.name, "running": running, "ended": found.has_ended(), "state": state_word(&found.state),
                "result": found.result(spec), "rounds": rounds_json(&found), "text": text, "spec": spec,
            }))?;
            continue;
        }
        found.rounds.iter().try_for_each(|round| out::line(&rounds::round_words(round)))?;
        out::line(&text)?;
    }
    Ok(())
}

fn rounds_json(found: &LoopProgress) -> Vec<Value> {
    found.rounds.iter().map(round_json).collect()
}

fn round_json(round: &RoundProgress) -> Value {
    let word = |status: &Option<crate::domain::RunStatus>| status.as_ref().map(crate::domain::RunStatus::word);
    json!({
        "round": round.round, "pairs": round.pairs, "judged": round.judged, "ties": round.ties,
        "sample": word(&round.runs.sampling), "train": word(&round.runs.training), "evaluate": word(&round.runs.evaluation),
        "win": round.runs.win,
    })
}

fn state_word(state: &LoopState) -> &'static str {
    match state {
        LoopState::Next { step, .. } => step.word(),
        LoopState::Waits { .. } => "waits",
        LoopState::Done => "done",
        LoopState::NoGain { .. } => "no_gain",
    }
}

fn end_word(end: &LoopEnd) -> &'static str {
    match end {
        LoopEnd::Done => "done",
        LoopEnd::NoGain(_) => "no_gain",
        LoopEnd::Waits(..) => "waits",
        LoopEnd::Stopped => "stopped",
        LoopEnd::Interrupted => "interrupted",
    }
}

/// Says what a loop does.
struct Terminal {
    json: bool,
    name: String,
}

impl LoopReporter for Terminal {
    fn step(&mut self, round: u32, step: LoopStep, run: Option<&RunId>, said: &str) -> Result<()> {
        if self.json {
            return out::json(
                &json!({ "loop": self.name, "round": round, "step": step.word(), "run": run, "text": said }),
            );
        }
        out::line(&format!("round {round}, {:<9} {said}", step.word()))
    }

    fn round(&mut self, round: &RoundProgress) -> Result<()> {
        if self.json {
            let mut object = round_json(round);
            object["loop"] = json!(self.name);
            return out::json(&object);
        }
        Ok(())
    }
}

/// Leaves the session of the process that started this one, so that closing its terminal does not end it.
fn leave_terminal() {
    // A process-group leader (started by hand from a shell) cannot leave.
    let _ = rustix::process::setsid();
}

/// Stops or resumes the loop that `SESSION/LOOP` names; none where it names no loop.
pub(super) fn control(context: &CommandContext, name: &str, command: RunCommand) -> Result<Option<()>> {
    let Some((session, loop_name)) = name.trim_end_matches('/').rsplit_once('/') else { return Ok(None) };
    let dir = SessionDir::find(&context.home, session)?;
    if dir.state()?.0.planned_loop(loop_name).is_none() {
        return Ok(None);
    }
    let spec = rounds::find(&dir, loop_name)?;
    let folder = LoopFolder::of(&dir, &spec.name);
    let done = match (command, folder.is_running()) {
        (RunCommand::Stop, true) => {
            folder.post(RunCommand::Stop)?;
            "stops after a checkpoint of its run"
        }
        (RunCommand::Stop, false) => {
            return Err(Error::failed(format!(
                "loop {name} is not running; see `tiebreak loop {session} --show {loop_name}`"
            )));
        }
        (RunCommand::Resume, true) => return Err(Error::failed(format!("loop {name} is running already"))),
        (RunCommand::Resume, false) => {
            supervisor::start_loop(&context.home, &dir, loop_name, &[])?;
            "goes on in the background"
        }
        (RunCommand::Pause | RunCommand::Checkpoint, _) => {
            return Err(Error::failed(format!(
                "a loop can be stopped and resumed; {} is for its runs: see `tiebreak runs {session}`",
                command.word()
            )));
        }
    };
    if context.json {
        out::json(&json!({ "loop": name, "command": command.word() }))?;
    } else {
        out::line(&format!("loop {name} {done}"))?;
    }
    Ok(Some(()))
}
