//! `doctor`: facts about this machine, its data folder and its terminal, and their problems.

mod cuda;

use super::super::error::Result;
use super::super::{models, out, supervisor, system};
use super::context::CommandContext;
use crate::protocol::GpuCard;
use crate::storage::{free_bytes, list_sessions};
use serde_json::{Map, Value, json};
use std::io::IsTerminal;

/// Prints the facts. A problem is printed, but the command succeeds.
pub fn run(context: &CommandContext) -> Result<()> {
    let root = context.home.root();
    let mut facts = Map::new();
    facts.insert("version".into(), env!("CARGO_PKG_VERSION").into());
    facts.insert("machine".into(), format!("{} {}", std::env::consts::OS, std::env::consts::ARCH).into());
    facts.insert("cores".into(), system::threads().into());
    let memory = system::memory();
    facts.insert("memory_bytes".into(), memory.0.into());
    facts.insert("memory_available_bytes".into(), memory.1.into());
    facts.insert("data_folder".into(), json!(root));
    facts.insert("data_folder_exists".into(), root.is_dir().into());
    if let Some(warning) = context.home.open_to_others() {
        facts.insert("data_folder_problem".into(), warning.into());
    }
    facts.insert("free_bytes".into(), free_bytes(root).unwrap_or(0).into());
    facts.insert("sessions".into(), list_sessions(&context.home)?.len().into());
    match models::list(&context.home) {
        Ok(cards) => {
            let usable = cards.iter().filter(|c| c.problem.is_none()).map(|c| Value::from(c.name.clone()));
            facts.insert("models".into(), usable.collect::<Vec<_>>().into());
        }
        Err(e) => {
            facts.insert("models".into(), json!([]));
            facts.insert("models_problem".into(), e.to_string().into());
        }
    }
    facts.insert("gpus".into(), gpus());
    for (name, value) in cuda::facts() {
        facts.insert(name.into(), value);
    }
    let term = std::env::var("TERM").unwrap_or_default();
    facts.insert("terminal".into(), term.into());
    facts.insert("terminal_size".into(), size().map_or(Value::Null, |(c, r)| json!([c, r])));
    facts.insert("interactive".into(), (std::io::stdin().is_terminal() && std::io::stdout().is_terminal()).into());
    facts.insert("ssh".into(), std::env::var_os("SSH_CONNECTION").is_some().into());
    facts.insert("no_color".into(), std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty()).into());
    if context.json {
        return out::json(&facts);
    }
    for (name, value) in &facts {
        if name == "cuda_libraries" {
            for (i, text) in cuda::words(value).iter().enumerate() {
                out::line(&format!("{:<18} {text}", if i == 0 { "cuda libraries" } else { "" }))?;
            }
            continue;
        }
        let text = match value {
            Value::String(s) => s.clone(),
            Value::Array(list) if list.is_empty() && name == "gpus" => "n/a (no NVIDIA driver answers)".into(),
            Value::Array(list) if list.is_empty() => "none".into(),
            Value::Array(list) if name == "gpus" => list.iter().map(gpu).collect::<Vec<_>>().join("; "),
            Value::Array(list) if name == "cuda_searched" => {
                list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
            }
            Value::Number(n) if name.ends_with("_bytes") => {
                format!("{:.1} GB", n.as_f64().unwrap_or_default() / 1e9)
            }
            other => other.to_string().replace('"', ""),
        };
        out::line(&format!("{:<18} {text}", name.trim_end_matches("_bytes").replace('_', " ")))?;
    }
    Ok(())
}

/// The machine's GPUs. A worker asks the driver, so that a crash of its library does not end this process.
fn gpus() -> Value {
    let mut cards: Vec<GpuCard> = Vec::new();
    let asked = supervisor::ask(&["gpus".as_ref()], |card| {
        cards.push(card);
        Ok(())
    });
    if asked.is_ok() { json!(cards) } else { json!([]) }
}

/// A GPU as text; unknown values are n/a.
fn gpu(card: &Value) -> String {
    let gb = |key: &str| card[key].as_f64().map_or_else(|| "n/a".to_owned(), |b| format!("{:.1}", b / 1e9));
    let number = |key: &str, unit: &str| card[key].as_u64().map_or_else(|| "n/a".to_owned(), |n| format!("{n} {unit}"));
    format!(
        "{} {}, {} of {} GB in use, {}, {}, driver {}, CUDA {}",
        card["index"],
        card["name"].as_str().unwrap_or_default(),
        gb("memory_used_bytes"),
        gb("memory_bytes"),
        number("utilisation", "%"),
        number("temperature", "°C"),
        card["driver"].as_str().unwrap_or_default(),
        card["cuda"].as_str().unwrap_or_default(),
    )
}

fn size() -> Option<(u16, u16)> {
    rustix::termios::tcgetwinsize(rustix::stdio::stdout()).ok().map(|s| (s.ws_col, s.ws_row)).filter(|s| s.0 > 0)
}
