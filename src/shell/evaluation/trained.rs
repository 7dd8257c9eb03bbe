//! What contestants were trained on, by the rows of their runs; and what a plan leaves out because of it. Refuses models.

use super::super::error::Result;
use crate::domain::{PromptBody, PromptId, RunId, SftRow, is_held_out};
use crate::protocol::Task;
use crate::storage::{self, SessionDir};
use serde_json::Value;
use std::collections::BTreeSet;

/// What a plan leaves out, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EvalNotes(pub Vec<String>);

/// The prompts that contestants were trained on.
#[derive(Default)]
pub(super) struct TrainedPrompts {
    /// By their ids.
    pub(super) ids: BTreeSet<PromptId>,
    /// As [`PromptBody::asked_hash`], in whatever form they are asked.
    pub(super) asked: BTreeSet<String>,
}

/// The prompts that these runs were trained on, and the runs that these started from: their training rows
/// without those that a run held out.
pub(super) fn trained_prompts(dir: &SessionDir, mut next: Vec<RunId>) -> Result<TrainedPrompts> {
    let mut out = TrainedPrompts::default();
    let mut seen = BTreeSet::new();
    while let Some(id) = next.pop() {
        let id = id.parts().0;
        if !seen.insert(id.clone()) {
            continue;
        }
        let run = dir.run(&id)?;
        let Task::Train(train) = run.spec()?.task else { continue };
        for data in [Some(&train.data), train.mix.as_ref()].into_iter().flatten() {
            let path = run.path().join(&data.file);
            let text = storage::read_text_file(&path, crate::foreign::ROWS)?;
            let fraction = train.params.f64("eval_fraction");
            let rows: Vec<_> = text.lines().filter_map(trained_prompt).collect();
            let id_of = |(id, body): &(PromptId, PromptBody)| {
                if train.split_by_text { body.derived_id() } else { id.clone() }
            };
            // A run trains on something even where the split would hold out all: which of them is not told apart here.
            let some = rows.iter().any(|row| !is_held_out(&id_of(row), fraction));
            for (_, body) in rows.iter().filter(|row| !some || !is_held_out(&id_of(row), fraction)) {
                out.ids.insert(body.derived_id());
                out.asked.insert(body.asked_hash());
            }
        }
        next.extend(train.init);
    }
    Ok(out)
}

/// The prompt of a training row, and its id.
fn trained_prompt(line: &str) -> Option<(PromptId, PromptBody)> {
    let row: Value = serde_json::from_str(line).ok()?;
    let id = PromptId::new(row.get("prompt_id").or_else(|| row.get("id"))?.as_str()?);
    let body = row.get("prompt").or_else(|| row.get("body")).cloned()?;
    let prompt = match serde_json::from_value(body) {
        Ok(body) => body,
        Err(_) => serde_json::from_value::<SftRow>(row).ok()?.body.prompt(),
    };
    Some((id, prompt))
}
