//! `models` and `render`: lists, shows, downloads and creates models, and prints what they read.

use super::super::cli::{ModelsAction, RenderArgs};
use super::super::error::Result;
use super::super::{fetch, intake, models, out};
use super::context::CommandContext;
use crate::domain::{JsonFields, counted};
use crate::protocol::MaskedRow;
use serde_json::json;

/// Lists models, or downloads or creates one.
pub fn run(context: &CommandContext, action: Option<ModelsAction>) -> Result<()> {
    match action {
        Some(ModelsAction::Get { name }) => get(context, &name),
        Some(ModelsAction::Show { model, template }) => show(context, &model, &template.variables()),
        Some(ModelsAction::Make(args)) => super::make::run(context, &args),
        None => list(context),
    }
}

fn list(context: &CommandContext) -> Result<()> {
    let cards = models::list(&context.home)?;
    if context.json {
        return cards.iter().try_for_each(out::json);
    }
    if cards.is_empty() {
        out::line("no models on this machine yet: get one with `tiebreak models get smollm2`")?;
    }
    for card in cards {
        let size = card.bytes as f64 / f64::from(1 << 20);
        match &card.problem {
            None => out::line(&format!(
                "{:<40} {:<6} {:<11} {:>8.1} M parameters {size:>7.0} MiB  {}",
                card.name,
                card.family,
                card.format,
                card.parameters as f64 / 1e6,
                card.path
            ))?,
            Some(problem) => out::line(&format!("{:<40} cannot be used: {problem}", card.name))?,
        }
    }
    Ok(())
}

fn show(context: &CommandContext, name: &str, variables: &JsonFields) -> Result<()> {
    let model = models::find(&context.home, name)?;
    let found = models::describe(&model, variables)?;
    if context.json {
        return out::json(&found);
    }
    out::line(&format!("{} · {} · {}", model.name, found.card.family, found.card.format))?;
    let context_length = match found.card.context {
        0 => "unknown".into(),
        n => counted(n, "token"),
    };
    let facts = [
        ("parameters", format!("{:.1} M", found.card.parameters as f64 / 1e6)),
        ("on disk", format!("{:.0} MiB", found.card.bytes as f64 / f64::from(1 << 20))),
        ("context", context_length),
        ("answers end with", found.ends.join("  ")),
        ("template", if found.card.chat { "yes".into() } else { "none: prompts are plain texts".into() }),
        ("folder or file", found.card.path.clone()),
    ];
    let own = found.facts.iter().map(|(name, value)| (name.as_str(), value.clone()));
    for (name, value) in facts.into_iter().chain(own) {
        out::line(&format!("  {name:<17}{value}"))?;
    }
    for note in &found.notes {
        out::line(&format!("⚠ {note}"))?;
    }
    if !found.conversations.is_empty() {
        out::line("\nWhat the model reads; ▌ is learned, and the rest is only read.")?;
    }
    found.conversations.iter().try_for_each(row)
}

/// `render`: a file's rows as a model reads them.
pub fn render(context: &CommandContext, args: &RenderArgs) -> Result<()> {
    let model = models::find(&context.home, &args.model)?;
    let variables = args.template.clone().variables();
    if !variables.is_empty() {
        // What no template reads is among what there is to know of the model.
        models::describe(&model, &variables)?.notes.iter().for_each(|note| out::note(note));
    }
    // What of the file is not used is said as an import says it.
    let mut format = args.format.map_or("", |format| format.name);
    // A pipe can be read once.
    if args.file.is_file() {
        let imported = intake::read(&args.file, args.format, usize::try_from(args.limit).ok())?;
        imported.left_out().into_iter().chain(imported.notes()).for_each(|note| out::note(&note));
        format = imported.format;
    }
    let rows = models::render(&model, &args.file, format, args.limit, &variables)?;
    if context.json {
        return rows.iter().try_for_each(out::json);
    }
    rows.iter().try_for_each(row)
}

/// A row with its special tokens, a line for each span and each end of a line.
fn row(row: &MaskedRow) -> Result<()> {
    if let Some(why) = &row.left_out {
        return out::line(&format!("\n{}: left out: {why}", row.id));
    }
    let part = if row.part.is_empty() { String::new() } else { format!(", {}", row.part) };
    out::line(&format!("\n{}{part} · {}, {} learned", row.id, counted(row.tokens, "token"), row.learned))?;
    for piece in &row.pieces {
        let mark = if piece.learned { '▌' } else { ' ' };
        for line in piece.text.split_inclusive('\n') {
            let end = if line.ends_with('\n') { "⏎" } else { "" };
            out::line(&format!("  {mark} {}{end}", line.trim_end_matches('\n')))?;
        }
    }
    row.said.iter().try_for_each(|said| out::line(&format!("  ⚠ {said}")))
}

fn get(context: &CommandContext, name: &str) -> Result<()> {
    if name != fetch::SMOLLM2 {
        return super::hub::model(context, name);
    }
    let path = fetch::smollm2(&models::folder(&context.home))?;
    if context.json {
        out::json(&json!({ "model": name, "path": path }))
    } else {
        out::line(&format!("{name} is in {}", path.display()))
    }
}
