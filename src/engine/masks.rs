//! What a run would read and learn of its rows, to be looked at before it is launched.
//!
//! Owns how tokens become text again with nothing hidden: special tokens stand where the model reads them. Tokenises as the
//! run will, row by row; reads no weights.

use super::error::Error;
use super::language_model::LanguageModel;
use super::policy::Row;
use super::recipe::{online, recipe};
use super::rows::{Making, Rows, tokenise};
use super::trainer::{making, train_spec};
use crate::domain::PairId;
use crate::protocol::{MaskPiece, MaskedRow, Masks, RunSpec};
use std::path::Path;

/// Rows looked through for some that are left out.
const LOOKED_THROUGH: usize = 1000;
/// Rows left out that are shown, with the reason.
const LEFT_OUT: usize = 3;

/// The first `most` rows that the run would take, and the first few that it would leave out.
///
/// # Errors
/// When the model cannot be opened or a row cannot be tokenised.
pub fn masks(spec: &RunSpec, rows: &Rows, most: usize) -> Result<Masks, Error> {
    let train = train_spec(spec)?;
    let params = &train.params;
    let model = LanguageModel::open(Path::new(&train.model.path))?;
    let offline = match online(&train.method, params)? {
        Some(_) => None,
        None => Some(recipe(&train.method, params)?),
    };
    // Neither which rows are kept for evaluation nor what is packed together changes what is read of a row.
    let making = Making { eval_fraction: 0.0, packing: false, ..making(offline.as_deref(), params) };
    let (mut taken, mut left_out) = (Vec::new(), Vec::new());
    let mut shown = 0;
    for i in 0..rows.len().min(LOOKED_THROUGH) {
        if shown == most && left_out.len() == LEFT_OUT {
            break;
        }
        let (id, one) = single(rows, i);
        let made = tokenise(&model, &one, &making, |_| Ok(()))?;
        if let Some(dropped) = made.dropped.first().filter(|_| left_out.len() < LEFT_OUT) {
            left_out.push(MaskedRow::left_out(id, &dropped.reason));
        }
        let room = most - shown;
        for example in made.train.iter().take(room) {
            shown += 1;
            for (side, row) in example.rows.iter().enumerate() {
                let part = match example.rows.len() {
                    1 => "",
                    _ if side == 0 => "chosen",
                    _ => "rejected",
                };
                let (tokens, learned) = (row.ids.len(), row.scored.len() + row.valued.len());
                let pieces = pieces(&model, row)?;
                let id = example.id.clone();
                taken.push(MaskedRow { id, part: part.into(), tokens, learned, pieces, left_out: None });
            }
        }
    }
    taken.extend(left_out);
    Ok(Masks { rows: taken, all: rows.len() })
}

/// The row of that index alone, and its id.
fn single(rows: &Rows, i: usize) -> (PairId, Rows) {
    match rows {
        Rows::Pairs(r) => (r[i].pair.clone(), Rows::Pairs(vec![r[i].clone()])),
        Rows::Examples(r) => (r[i].id.clone(), Rows::Examples(vec![r[i].clone()])),
        Rows::Ratings(r) => (r[i].id.clone(), Rows::Ratings(vec![r[i].clone()])),
        Rows::Prompts(r) => (PairId::new(r[i].id.as_str()), Rows::Prompts(vec![r[i].clone()])),
    }
}

/// A sequence as stretches of text that are learned or only read. What a scalar head is read at is learned too.
fn pieces(model: &LanguageModel, row: &Row) -> Result<Vec<MaskPiece>, Error> {
    let mut learned = vec![false; row.ids.len()];
    for at in row.scored.iter().chain(&row.valued) {
        learned[*at] = true;
    }
    let mut out = Vec::new();
    let mut before = String::new();
    let mut from = 0;
    for to in 1..=learned.len() {
        if to < learned.len() && learned[to] == learned[from] {
            continue;
        }
        // The text so far less the text before: a stretch decoded by itself may lose its leading space.
        let text = model.tokenizer.decode_all(&row.ids[..to])?;
        let own = match text.strip_prefix(&before) {
            Some(own) => own.to_owned(),
            None => model.tokenizer.decode_all(&row.ids[from..to])?,
        };
        out.push(MaskPiece { text: own, learned: learned[from] });
        (before, from) = (text, to);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Message, PairRow, Params, PromptBody, PromptId, RunId, SftBody, SftRow, method};
    use crate::protocol::{DataSnapshot, ModelRef, Task, TrainSpec};

    fn spec(name: &str, set: &[&str]) -> RunSpec {
        let rows = method(name).unwrap().rows();
        let mut params = Params::defaults(&rows);
        for pair in set {
            params.set_pair(&rows, name, pair).unwrap();
        }
        let path = format!("{}/tests/fixtures/tiny-llama", env!("CARGO_MANIFEST_DIR"));
        let model = ModelRef { name: "tiny-llama".into(), path };
        let data = DataSnapshot { file: "data.jsonl".into(), sha256: String::new(), rows: 1, session_seq: 1 };
        RunSpec {
            id: RunId::new(format!("{name}-1")),
            task: Task::Train(TrainSpec::new(name, model, params, data)),
            device: "cpu".into(),
            created_ms: 0,
            app: "test".into(),
        }
    }

    fn pair(id: &str, chosen: &str, rejected: &str) -> PairRow {
        PairRow {
            pair: PairId::new(id),
            prompt_id: PromptId::new("p1"),
            prompt: PromptBody::user("Why is the sky blue?"),
            chosen: chosen.into(),
            rejected: rejected.into(),
            margin: None,
            agreed: None,
        }
    }

    fn text(row: &MaskedRow, learned: bool) -> String {
        row.pieces.iter().filter(|p| p.learned == learned).map(|p| p.text.as_str()).collect()
    }

    #[test]
    fn the_answers_are_learned_and_the_prompt_is_read() {
        let long = "because ".repeat(200);
        let rows =
            Rows::Pairs(vec![pair("a", "Light scatters.", "No."), pair("b", &long, "No."), pair("c", "Air.", "It.")]);
        let found = masks(&spec("dpo", &["max_length=96"]), &rows, 1).unwrap();
        let heads: Vec<_> = found.rows.iter().map(|r| (r.id.as_str(), r.part.as_str())).collect();
        assert_eq!(heads, [("a", "chosen"), ("a", "rejected"), ("b", "")]);
        let chosen = &found.rows[0];
        assert!(text(chosen, true).starts_with("Light scatters."), "{chosen:?}");
        assert!(text(chosen, false).contains("Why is the sky blue?") && !text(chosen, true).contains("sky"));
        assert!(chosen.learned > 0 && chosen.learned < chosen.tokens);
        assert_eq!(found.rows[2].left_out.as_deref(), Some("longer than max_length"));
        // A reward model reads the score at the end alone.
        let found = masks(&spec("reward", &[]), &rows, 1).unwrap();
        assert_eq!(found.rows[0].learned, 1);
        assert!(text(&found.rows[0], false).contains("Light scatters."));
    }

    #[test]
    fn every_byte_of_a_conversation_is_there_and_only_the_assistant_is_learned() {
        let say = |role: &str, content: &str| Message { role: role.into(), content: content.into() };
        let turns =
            vec![say("user", "Hi."), say("assistant", "Hello!"), say("user", "Bye."), say("assistant", "So long.")];
        let body = SftBody::Messages(turns);
        let rows = Rows::Examples(vec![SftRow { id: PairId::new("t1"), prompt_id: PromptId::new("p1"), body }]);
        let found = masks(&spec("sft", &["assistant_only_loss=true"]), &rows, 5).unwrap();
        let row = &found.rows[0];
        let (learned, read) = (text(row, true), text(row, false));
        assert!(learned.contains("Hello!") && learned.contains("So long."), "{learned:?}");
        assert!(read.contains("Hi.") && read.contains("Bye.") && !learned.contains("Bye."), "{read:?}");
        assert!(row.pieces.len() >= 4, "{row:?}");
    }
}
