//! `models make`: an untrained model, and the texts of the generator to train it on and to judge it by.

use super::super::bundle::write;
use super::super::cli::MakeArgs;
use super::super::error::{Error, Result};
use super::super::{out, supervisor};
use super::context::CommandContext;
use crate::demo::{Split, exchange, prompts};
use crate::protocol::{FreshSpec, RunEvent};
use serde_json::json;
use std::fs;
use std::path::Path;

/// Makes the folder: the model by a worker, the texts here.
pub fn run(context: &CommandContext, args: &MakeArgs) -> Result<()> {
    let to = std::path::absolute(&args.to).map_err(|e| Error::io("find", &args.to, e))?;
    if to.is_file() || fs::read_dir(&to).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Error::failed(format!("{} exists and is not an empty folder: name another place", to.display())));
    }
    let spec = FreshSpec {
        seed: args.seed,
        hidden: args.hidden as usize,
        layers: args.layers as usize,
        heads: args.heads as usize,
        kv_heads: args.kv_heads as usize,
        ff: args.ff as usize,
        ..FreshSpec::default()
    };
    let model = to.join("model");
    weights(&spec, &model)?;
    let corpus = to.join("corpus.jsonl");
    write(&corpus, &rows(args.seed, args.rows)?)?;
    let mut lists = Vec::new();
    for (name, count, split) in
        [("prompts.txt", args.prompts, Split::Train), ("held_out.txt", args.held_out, Split::HeldOut)]
    {
        let list = prompts(args.seed, count, split);
        let path = to.join(name);
        write(&path, list.iter().flat_map(|p| [p, "\n"]).collect::<String>().as_bytes())?;
        lists.push((path, list.len()));
    }
    let [(train, train_count), (held_out, held_count)] = lists.as_slice() else { return Ok(()) };
    if context.json {
        return out::json(&json!({
            "model": model, "corpus": corpus, "rows": args.rows, "prompts": train, "prompt_count": train_count,
            "held_out": held_out, "held_out_count": held_count, "seed": args.seed,
        }));
    }
    out::line(&format!("wrote an untrained model to {}", model.display()))?;
    out::line(&format!("wrote {} exchanges to {}", args.rows, corpus.display()))?;
    out::line(&format!("wrote {train_count} prompts of the same kind to {}", train.display()))?;
    out::line(&format!("wrote {held_count} prompts that are never in the corpus to {}", held_out.display()))
}

fn weights(spec: &FreshSpec, model: &Path) -> Result<()> {
    let spec = serde_json::to_string(spec).map_err(|e| Error::bug("write the model's sizes", e))?;
    let bar = out::bar(0, "steps");
    let made = supervisor::ask(&["make".as_ref(), model.as_os_str(), spec.as_ref()], |event: RunEvent| {
        if let RunEvent::Progressed { stage, done, total } = event {
            bar.set_length(total);
            bar.set_position(done);
            bar.set_message(stage);
        }
        Ok(())
    });
    bar.finish_and_clear();
    made
}

/// The corpus as lines of `{"messages": [user, assistant]}`.
fn rows(seed: u64, count: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for n in 0..count {
        let e = exchange(seed, n);
        let row = json!({"messages": [
            {"role": "user", "content": e.prompt}, {"role": "assistant", "content": e.answer},
        ]});
        serde_json::to_writer(&mut bytes, &row).map_err(|e| Error::bug("write a row as JSON", e))?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}
