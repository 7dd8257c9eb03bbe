//! A model card: what a merged model is, what it was trained on, how good it is, and how to make it again.
//!
//! The metadata is that of the Hugging Face hub (YAML between two lines of `---`, then Markdown): `base_model` and `license` as
//! hub identifiers, `model-index` with what evaluations measured. Owns what the card says. Refuses to guess: what no log or file records is left out of the metadata, and the
//! text says that it is not recorded.

use super::super::error::{Error, Result};
use super::super::{evaluation, supervisor};
use super::base_card::{BaseCard, hub_id};
use super::card_index::{model_index, side_of};
use super::content::{
    ReportedRun, eval_command, evaluated, labels, quoted, run_findings, samples, settings, train_command,
};
use super::document::Document;
use super::markdown::markdown;
use super::words::number;
use crate::app::short_model_name;
use crate::domain::{EvalReport, PromptId, RunId, RunStatus, counted, eval_report, sanitise, with_people};
use crate::protocol::{EvalSpec, Integrity, Task, TrainSpec};
use crate::storage::{RunDir, SessionDir, utc_time};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// What stands where nothing is recorded.
const NOT_RECORDED: &str = "not recorded";

/// The model card of a training run's checkpoint, exported as `format` (as the command line names it: `gguf --type q8_0`, `hf --critic`). `id` names the run, or its best checkpoint.
///
/// # Errors
/// When a log cannot be read.
pub fn model_card(dir: &SessionDir, run: RunDir, id: &RunId, format: &str) -> Result<String> {
    let spec = run.spec()?;
    let Task::Train(train) = run.resolved_spec()?.task else {
        return Err(Error::failed(format!("run {id} trained nothing: name a training run")));
    };
    let (state, status) = supervisor::state_of(&run)?;
    let reported = ReportedRun { dir: run, spec, state, status: status.word().to_owned() };
    let (session, found, _) = dir.snapshot(Some(train.data.session_seq))?;
    let base = BaseCard::of(Path::new(&train.model.path));
    let base_id = hub_id(Path::new(&train.model.path));
    let mut out = Document::default();
    what_it_is(&mut out, dir, &reported, &train, id, base_id.as_deref(), &base, format)?;
    out.heading(2, "Training data");
    data(&mut out, dir, &reported, &train, &found)?;
    if !session.pairs().is_empty() {
        labels(&mut out, &session, &dir.name());
        out.text("These are the labels at the launch of the run; the command shows those of today.");
    }
    settings(&mut out, &[(&reported, &train)]);
    results(&mut out, &reported);
    let compared = compared(dir, &id.parts().0)?;
    evaluations(&mut out, dir, id, &compared);
    samples(&mut out, &reported);
    again(&mut out, dir, &reported, &train, id, format)?;
    let step = checkpoint_step(&reported.dir, id)?;
    let measured = compared.iter().filter(|one| one.is_of(&id.parts().0, step));
    let found: Vec<(&EvalSpec, &EvalReport)> = measured.map(|one| (&one.spec, &one.report)).collect();
    let index = model_index(&format!("{id} of {}", dir.name()), &id.parts().0, &found);
    Ok(format!("{}{}", metadata(&train, base_id.as_deref(), &base, format, &index), markdown(&out)))
}

/// Whether the export has a scalar head in place of the language-model head.
fn is_scorer(train: &TrainSpec, format: &str) -> bool {
    train.method == "reward" || format.ends_with(" --critic")
}

/// The metadata in YAML. A string in JSON is a string in YAML.
fn metadata(train: &TrainSpec, base_id: Option<&str>, base: &BaseCard, format: &str, index: &[String]) -> String {
    let text = |text: &str| Value::from(sanitise(text)).to_string();
    let (adapter, gguf) =
        (format.starts_with("peft") || format.starts_with("gguf-adapter"), format.starts_with("gguf"));
    let mut lines = vec!["---".to_owned()];
    if let Some(id) = base_id {
        lines.push(format!("base_model: {}", text(id)));
        lines.push(format!("base_model_relation: {}", if adapter { "adapter" } else { "finetune" }));
    }
    for (key, value) in base.license() {
        lines.push(format!("{key}: {}", text(value)));
    }
    let library = match (adapter, gguf) {
        (_, true) => "gguf",
        (true, false) => "peft",
        (false, false) => "transformers",
    };
    lines.push(format!("library_name: {library}"));
    let task = if is_scorer(train, format) { "text-classification" } else { "text-generation" };
    lines.push(format!("pipeline_tag: {task}"));
    lines.push("tags:".into());
    let tune = if train.params.text("tune") == "full" { None } else { Some("lora") };
    lines.extend(
        [Some("tiebreak"), Some(train.method.as_str()), tune].into_iter().flatten().map(|t| format!("- {}", text(t))),
    );
    lines.extend_from_slice(index);
    lines.push("---\n\n".into());
    lines.join("\n")
}

#[expect(clippy::too_many_arguments, reason = "each says one thing of the model")]
fn what_it_is(
    out: &mut Document,
    dir: &SessionDir,
    run: &ReportedRun,
    train: &TrainSpec,
    id: &RunId,
    base_id: Option<&str>,
    base: &BaseCard,
    format: &str,
) -> Result<()> {
    out.heading(1, &format!("{} of {}", id, dir.name()));
    let step = checkpoint_step(&run.dir, id)?.map_or_else(|| NOT_RECORDED.to_owned(), |step| step.to_string());
    let what = match format {
        peft if peft.starts_with("peft") => "LoRA adapter for",
        gguf if gguf.starts_with("gguf-adapter") => "LoRA adapter, as a GGUF file, for",
        _ if train.params.text("tune") == "full" => "full fine-tune of",
        _ => "fine-tune, with its adapter merged, of",
    };
    out.text(&format!(
        "A {what} {} by {}, trained with tiebreak {}.",
        short_model_name(&train.model.name),
        train.method,
        env!("CARGO_PKG_VERSION")
    ));
    if is_scorer(train, format) {
        let what = if train.method == "reward" {
            "The result is a reward model: its one logit is the score of an answer; higher is better, and only scores of answers to \
             the same prompt compare."
        } else {
            "This is the run's critic: its one logit is the value estimated after a text's last token."
        };
        out.text(what);
        out.text(
            "AutoModelForSequenceClassification loads it with num_labels=1. Give it whole conversations as \
             tokenizer.apply_chat_template(messages, tokenize=False) writes them, tokenised with add_special_tokens=False.",
        );
    }
    let mut starts = Vec::new();
    let mut init = train.init.clone();
    while let Some(parent) = init.take() {
        // A chain that bites its tail ends.
        if starts.contains(&parent) {
            break;
        }
        init = match dir.run(&parent.parts().0).ok().and_then(|run| run.spec().ok()).map(|spec| spec.task) {
            Some(Task::Train(train)) => train.init,
            _ => None,
        };
        starts.push(parent);
    }
    let starts: Vec<&str> = starts.iter().map(RunId::as_str).collect();
    let template = run.dir.recorded_inputs().ok().flatten();
    let digests = template.as_ref().and_then(|inputs| inputs.models.first());
    let weights: Vec<String> = digests
        .map(|model| model.files.iter())
        .into_iter()
        .flatten()
        .filter(|(name, _)| Path::new(name).extension().is_some_and(|end| end == "safetensors" || end == "gguf"))
        .map(|(name, digest)| format!("{name} {}", digest.sha256))
        .collect();
    let or_not = |text: Option<&str>| text.filter(|text| !text.is_empty()).unwrap_or(NOT_RECORDED).to_owned();
    let license: Vec<String> = base.license().into_iter().map(|(key, value)| format!("{key} {value}")).collect();
    let rows = [
        ("base model", short_model_name(&train.model.name)),
        ("base model on the hub", or_not(base_id)),
        ("weights of the base model (SHA-256)", or_not(Some(&weights.join(", ")))),
        ("licence of the base model", or_not(Some(&license.join(", ")))),
        ("method", train.method.clone()),
        ("starts from", if starts.is_empty() { "the base model".into() } else { starts.join(", which started from ") }),
        ("checkpoint", format!("step {step}{}", if id.parts().1 { ", the best one" } else { ", the newest one" })),
        ("run", format!("{} after {}", run.status, counted(run.state.step, "step"))),
        ("began (UTC)", or_not(run.state.began_wall.map(utc_time).as_deref())),
        ("device", or_not(Some(run.state.device.as_str()))),
    ];
    out.table(&["", ""], rows.into_iter().map(|(key, value)| vec![key.to_owned(), value]).collect());
    if let Some(plan) = run.state.plan.as_ref().filter(|plan| !plan.objective.is_empty()) {
        out.text(&format!("Objective: {}", plan.objective));
    }
    Ok(())
}

/// The step of the exported checkpoint.
fn checkpoint_step(run: &RunDir, id: &RunId) -> Result<Option<u64>> {
    let found = if id.parts().1 { run.best_checkpoint() } else { run.latest_checkpoint()? };
    Ok(found.checkpoint.map(|checkpoint| checkpoint.step))
}

fn data(out: &mut Document, dir: &SessionDir, run: &ReportedRun, train: &TrainSpec, found: &Integrity) -> Result<()> {
    out.text(&format!("Session {}: the datasets' identifiers on the hub are {NOT_RECORDED}.", dir.name()));
    if !found.is_intact() {
        out.warning(&format!("The session's log is damaged: {}.", found.words()));
    }
    let plan = run.state.plan.as_ref();
    let counts =
        |of: fn(&crate::domain::Plan) -> usize| plan.map_or_else(|| NOT_RECORDED.into(), |p| of(p).to_string());
    let or_all = |text: &Option<String>, all: &str| text.clone().unwrap_or_else(|| all.to_owned());
    out.table(
        &["rows frozen", "trained on", "held out", "filter", "judged by"],
        vec![vec![
            train.data.rows.to_string(),
            counts(|plan| plan.train_rows),
            counts(|plan| plan.eval_rows),
            or_all(&train.filter, "none"),
            or_all(&train.rubric, "overall"),
        ]],
    );
    out.list(
        plan.into_iter().flat_map(|plan| &plan.dropped).map(|row| format!("left out: {} {}", row.count, row.reason)),
    );
    let session = dir.snapshot(Some(train.data.session_seq))?.0;
    let mut sources: BTreeMap<String, usize> = BTreeMap::new();
    for data in [Some(&train.data), train.mix.as_ref()].into_iter().flatten() {
        let path = run.dir.path().join(&data.file);
        let text = crate::storage::read_text_file(&path, crate::foreign::ROWS)?;
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let row: Value = serde_json::from_str(line).unwrap_or_default();
            let id = row.get("prompt_id").or_else(|| row.get("id")).and_then(Value::as_str);
            let known = id.and_then(|id| session.prompt(&PromptId::new(id))).map(|prompt| prompt.source.to_string());
            let named = known.or_else(|| row.get("source").and_then(Value::as_str).map(str::to_owned));
            let source = named.filter(|source| !source.is_empty()).unwrap_or_else(|| NOT_RECORDED.into());
            *sources.entry(source).or_default() += 1;
        }
    }
    let rows = sources.into_iter().map(|(source, rows)| vec![source, rows.to_string()]);
    out.table(&["source of the prompts", "rows"], rows.collect());
    Ok(())
}

fn results(out: &mut Document, run: &ReportedRun) {
    let state = &run.state;
    let rows: Vec<Vec<String>> = state
        .metrics()
        .filter_map(|metric| {
            let (first, last) = (state.series(metric)?.live().point(0)?.1, state.latest(metric)?);
            Some(vec![metric.to_owned(), number(first), number(last)])
        })
        .collect();
    if rows.is_empty() {
        return;
    }
    out.heading(2, "Metrics of the training");
    out.table(&["metric", "first", "last"], rows);
    run_findings(out, run);
}

/// An evaluation that compares a run, with what it found.
struct Compared {
    run: ReportedRun,
    spec: EvalSpec,
    report: EvalReport,
    /// Whether it has ended.
    finished: bool,
}

impl Compared {
    /// Whether it has measured all of this step of the run, and no other of its checkpoints.
    fn is_of(&self, own: &RunId, step: Option<u64>) -> bool {
        let checkpoints = self.run.spec.inputs.checkpoints.iter();
        let mut steps =
            checkpoints.filter(|checkpoint| checkpoint.run.parts().0 == *own).map(|checkpoint| checkpoint.step);
        self.finished && steps.clone().count() > 0 && steps.all(|at| Some(at) == step)
    }
}

/// The evaluations that compare this run, whichever of its checkpoints.
fn compared(dir: &SessionDir, own: &RunId) -> Result<Vec<Compared>> {
    let session = dir.state()?.0;
    let mut out = Vec::new();
    for run in dir.runs()? {
        let spec = run.spec()?;
        let Task::Eval(eval_spec) = &spec.task else { continue };
        if side_of(eval_spec, own).is_none() {
            continue;
        }
        let eval_spec = eval_spec.clone();
        let (state, status) = supervisor::state_of(&run)?;
        let eval = with_people(&state.eval, &session);
        let report = eval_report(&eval, &evaluation::others(dir, &run.id())?);
        let finished = status == RunStatus::Finished;
        let run = ReportedRun { dir: run, spec, state, status: status.word().to_owned() };
        out.push(Compared { run, spec: eval_spec, report, finished });
    }
    Ok(out)
}

/// Says what they found.
fn evaluations(out: &mut Document, dir: &SessionDir, id: &RunId, all: &[Compared]) {
    let (name, own) = (dir.name(), id.parts().0);
    for Compared { run, spec, report, .. } in all {
        let steps: Vec<String> = run
            .spec
            .inputs
            .checkpoints
            .iter()
            .filter(|checkpoint| checkpoint.run.parts().0 == own)
            .map(|checkpoint| format!("{} at step {}", checkpoint.run, checkpoint.step))
            .collect();
        evaluated(out, run, spec, report, &name);
        out.text(&format!("Evaluated: {}.", if steps.is_empty() { NOT_RECORDED.into() } else { steps.join(", ") }));
    }
    if all.is_empty() {
        out.heading(2, "Evaluation");
        out.text("This run was not evaluated before it was exported.");
        out.command(&format!("tiebreak eval {} --a {}", quoted(&name), quoted(id.as_str())));
    }
}

fn again(
    out: &mut Document,
    dir: &SessionDir,
    run: &ReportedRun,
    train: &TrainSpec,
    id: &RunId,
    format: &str,
) -> Result<()> {
    out.heading(2, "How to make it again");
    out.text("With the session's folder in the data folder (tiebreak pack and unpack move it):");
    let name = dir.name();
    if let Some(parent) = &train.init
        && let Task::Train(first) = dir.run(&parent.parts().0)?.spec()?.task
    {
        out.command(&train_command(&name, parent.parts().0.as_str(), &first));
    }
    let own = run.dir.id();
    out.command(&train_command(&name, own.as_str(), train));
    let best = if id.parts().1 { "@best" } else { "" };
    let again = quoted(&format!("{name}/{own}-again{best}"));
    out.command(&format!("tiebreak merge {again} --to DIR --format {format}"));
    for eval in dir.runs()? {
        if let Task::Eval(spec) = eval.spec()?.task
            && spec.a.adapter.as_ref().is_some_and(|id| id.parts().0 == own)
        {
            out.command(&eval_command(&name, &spec));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Params;
    use crate::protocol::{DataSnapshot, ModelRef};

    #[test]
    fn the_metadata_names_what_is_known_and_no_text_becomes_yaml() {
        let data = DataSnapshot { file: "data.jsonl".into(), sha256: String::new(), rows: 1, session_seq: 1 };
        let model = ModelRef { name: "m".into(), path: "m".into() };
        let train = TrainSpec::new("dpo", model, Params::default(), data);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("README.md"), "---\nlicense: other\nlicense_name: 'a\": x'\n---\n").unwrap();
        let base = BaseCard::of(folder.path());
        let text = metadata(&train, Some("acme/tiny"), &base, "peft", &[]);
        assert_eq!(
            text,
            "---\nbase_model: \"acme/tiny\"\nbase_model_relation: adapter\nlicense: \"other\"\nlicense_name: \"a\\\": x\"\n\
             library_name: peft\npipeline_tag: text-generation\ntags:\n- \"tiebreak\"\n- \"dpo\"\n- \"lora\"\n---\n\n"
        );
        let text = |format: &str| metadata(&train, Some("acme/tiny"), &base, format, &[]);
        assert!(
            text("gguf --type q8_0").contains("relation: finetune") && text("gguf").contains("library_name: gguf\n")
        );
        assert!(
            text("gguf-adapter").contains("relation: adapter") && text("gguf-adapter").contains("library_name: gguf\n")
        );
        let text = metadata(&train, None, &BaseCard::default(), "hf", &[]);
        assert!(
            !text.contains("base_model") && !text.contains("license") && text.contains("library_name: transformers")
        );
    }
}
