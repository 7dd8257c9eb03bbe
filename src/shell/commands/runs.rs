//! `runs`, `pause`, `resume`, `checkpoint`, `stop`, `merge`: listing runs, controlling them, exporting their result.

use super::super::cli::MergeArgs;
use super::super::error::{Error, Result};
use super::super::{inputs, out, plan, report, servers, supervisor};
use super::context::{CommandContext, run_named};
use super::rounds;
use crate::domain::{RunId, RunStatus, sanitise};
use crate::protocol::{RunCommand, RunEvent, Task};
use crate::storage::{RunDir, SessionDir};
use serde_json::json;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

/// Lists a session's runs in order of launch.
pub fn list(context: &CommandContext, session: &str) -> Result<()> {
    let dir = SessionDir::find(&context.home, session)?;
    let runs = dir.runs()?;
    if runs.is_empty() && !context.json {
        let name = dir.name();
        return out::line(&format!(
            "session {name} has no runs yet: `tiebreak sample {name}` or `tiebreak train {name} dpo`"
        ));
    }
    for run in &runs {
        let spec = run.spec()?;
        let (state, status) = supervisor::state_of(run)?;
        let total = state.plan.as_ref().map(|p| p.total_steps);
        let error = if let RunStatus::Failed(e) = &status { Some(e.as_str()) } else { None };
        let waits = status == RunStatus::Running && supervisor::waits_for_space(run)?;
        let rows = match &spec.task {
            Task::Train(train) => (train.filter.as_deref(), train.rubric.as_deref()),
            Task::Sample(_) | Task::Eval(_) => (None, None),
        };
        if context.json {
            out::json(&json!({
                "run": run.id(), "kind": spec.kind(), "status": status.word(), "step": state.step, "total_steps": total,
                "loss": state.latest("loss"), "device": state.device, "attempt": state.attempt, "created_ms": spec.created_ms,
                "state": state.final_state, "error": error, "path": run.path(),
                "waiting_for": waits.then_some("disk_space"), "filter": rows.0, "rubric": rows.1,
            }))?;
        } else {
            let of = total.map_or_else(String::new, |t| format!("/{t}"));
            let loss = state.latest("loss").map_or_else(String::new, |l| format!("  loss {l:.4}"));
            let why = error.or(waits.then_some("for space on the disk: free some, and the run goes on"));
            let why = why.map_or_else(String::new, |why| format!("  {why}"));
            let word = if waits { "waiting" } else { status.word() };
            let chosen: Vec<String> = [("rubric", rows.1), ("filter", rows.0)]
                .into_iter()
                .filter_map(|(what, text)| Some(format!("  {what} {}", sanitise(text?))))
                .collect();
            let chosen = chosen.concat();
            out::line(&format!("{:<16} {word:<9} {:>6}{of}{loss}{chosen}{why}", run.id().as_str(), state.step))?;
        }
    }
    Ok(())
}

/// Sends a command to an active run.
pub fn send(context: &CommandContext, name: &str, command: RunCommand) -> Result<()> {
    if rounds::control(context, name, command)?.is_some() {
        return Ok(());
    }
    let (_, run) = run_named(context, name)?;
    if !run.is_alive() {
        let (_, status) = supervisor::state_of(&run)?;
        let remedy = match status {
            RunStatus::Finished => String::new(),
            _ => format!("; `tiebreak resume {name}` resumes it"),
        };
        return Err(Error::failed(format!("run {name} is not active, it is {}{remedy}", status.word())));
    }
    run.post(command)?;
    let does = match command {
        RunCommand::Pause => "pauses before its next step",
        RunCommand::Resume => "resumes",
        RunCommand::Checkpoint => "writes a checkpoint after its step",
        RunCommand::Stop => "stops after a checkpoint",
    };
    answer(context, name, command, does)
}

/// Resumes a paused run, or starts a worker for a lost, stopped or failed one.
pub fn resume(context: &CommandContext, name: &str) -> Result<()> {
    if rounds::control(context, name, RunCommand::Resume)?.is_some() {
        return Ok(());
    }
    let (_, run) = run_named(context, name)?;
    if run.is_alive() {
        return send(context, name, RunCommand::Resume);
    }
    servers::check_keys(&context.home, &run)?;
    supervisor::resume(&run)?;
    answer(context, name, RunCommand::Resume, "resumed from its last checkpoint")
}

/// Asks a worker to write a run's result as a folder.
pub fn merge(context: &CommandContext, args: &MergeArgs) -> Result<()> {
    if args.written.is_some() && !args.format.starts_with("gguf") {
        let format = &args.format;
        return Err(Error::Usage(format!("--type is for GGUF files, not for --format {format}: add --format gguf")));
    }
    let (name, best) = RunId::new(&args.run).parts();
    let (dir, run) = run_named(context, name.as_str())?;
    let id = if best { run.id().at_best() } else { run.id() };
    let run = plan::trained_run(&dir, &id)?;
    for text in inputs::unchecked(&run).into_iter().chain(inputs::older_checkpoint(&run, &id)?) {
        out::note(&text);
    }
    supervisor::restore_models(&run)?;
    let to = std::path::absolute(&args.to).map_err(|e| Error::io("find", &args.to, e))?;
    let bar = out::bar(0, "steps");
    let part = if args.critic { "critic" } else { "result" };
    let mut words: Vec<&OsStr> = vec!["merge".as_ref(), run.path().as_os_str(), id.as_str().as_ref(), to.as_os_str()];
    words.extend([args.format.as_str(), part].map(OsStr::new));
    words.extend(args.written.as_ref().map(OsStr::new));
    let mut notes = Vec::new();
    let merged = supervisor::ask(&words, |event: RunEvent| {
        match event {
            RunEvent::Progressed { stage, done, total } => {
                bar.set_length(total);
                bar.set_position(done);
                bar.set_message(stage);
            }
            RunEvent::Found(finding) => notes.push(finding.text),
            _ => {}
        }
        Ok(())
    });
    bar.finish_and_clear();
    merged?;
    for text in &notes {
        out::note(text);
    }
    if args.format == "peft" {
        note_of_base(&to);
    }
    let card = write_card(&dir, run, &id, args, &to)?;
    if context.json {
        out::json(&json!({ "run": args.run, "format": args.format, "path": to, "card": card, "notes": notes }))
    } else {
        out::line(&format!("merged {} into {} ({})", args.run, to.display(), args.format))?;
        match card {
            Some(path) => out::line(&format!(
                "model card: {} (it shows prompts, answers and names of your session: read it before you publish it)",
                path.display()
            )),
            None => Ok(()),
        }
    }
}

/// Says so where an adapter names its base by a path.
fn note_of_base(folder: &Path) {
    let config = crate::foreign::read(&folder.join("adapter_config.json"), crate::foreign::CONFIG).ok();
    let config = config.and_then(|text| serde_json::from_slice::<serde_json::Value>(&text).ok()).unwrap_or_default();
    if config["revision"].is_null()
        && let Some(base) = config["base_model_name_or_path"].as_str()
    {
        out::note(&format!(
            "the adapter names its base by the path {base}, which only holds here: before you publish it, write the model's name \
             on the hub into adapter_config.json"
        ));
    }
}

/// Writes the model card beside the weights; none where the folder already has a README.md, which stays.
fn write_card(dir: &SessionDir, run: RunDir, id: &RunId, args: &MergeArgs, to: &Path) -> Result<Option<PathBuf>> {
    let path = to.join("README.md");
    let failed = |why: String| {
        Error::failed(format!("{} is merged, but its model card could not be written: {why}", to.display()))
    };
    let written = args.written.as_ref().map(|kind| format!(" --type {kind}")).unwrap_or_default();
    let critic = if args.critic { " --critic" } else { "" };
    let text = report::model_card(dir, run, id, &format!("{}{written}{critic}", args.format))
        .map_err(|e| failed(e.to_string()))?;
    match File::create_new(&path) {
        Ok(mut file) => {
            file.write_all(text.as_bytes())
                .and_then(|()| file.sync_all())
                .map_err(|e| failed(format!("{}: {e}", path.display())))?;
            Ok(Some(path))
        }
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            out::note(&format!("{} exists and stays as it is: no model card was written", path.display()));
            Ok(None)
        }
        Err(e) => Err(failed(format!("{}: {e}", path.display()))),
    }
}

fn answer(context: &CommandContext, name: &str, command: RunCommand, does: &str) -> Result<()> {
    if context.json {
        out::json(&json!({ "run": name, "command": command.word() }))
    } else {
        out::line(&format!("run {name} {does}"))
    }
}
