//! `models`: lists, downloads and creates models.

use super::super::cli::ModelsAction;
use super::super::error::{Error, Result};
use super::super::{fetch, models, out};
use super::context::CommandContext;
use serde_json::json;

/// Lists models, or downloads or creates one.
pub fn run(context: &CommandContext, action: Option<ModelsAction>) -> Result<()> {
    match action {
        Some(ModelsAction::Get { name }) => get(context, &name),
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

fn get(context: &CommandContext, name: &str) -> Result<()> {
    if name != fetch::SMOLLM2 {
        return Err(Error::Usage(format!(
            "`{name}` cannot be downloaded, only `{}` can: for another model give its folder or .gguf file",
            fetch::SMOLLM2
        )));
    }
    let path = fetch::smollm2(&models::folder(&context.home))?;
    if context.json {
        out::json(&json!({ "model": name, "path": path }))
    } else {
        out::line(&format!("{name} is in {}", path.display()))
    }
}
