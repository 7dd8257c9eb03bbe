//! Preview of a run's rows with their loss masks, before launch.
//!
//! Owns the decoding of tokens to text with special tokens visible. Tokenises as the run will, row by row. Refuses to read
//! weights.

use super::data::{Example, OVERLOOKED, Rows, TokeniseOptions, pack, tokenise};
use super::recipe::prepare;
use super::trainer::{RunRows, mix_tokenise_options, train_spec};
use crate::domain::{MixOrder, PairId};
use crate::model::error::Error;
use crate::model::language_model::LanguageModel;
use crate::nn::policy::Row;
use crate::protocol::{MaskPiece, MaskedRow, Masks, RunSpec};
use std::collections::BTreeMap;
use std::path::Path;

/// Maximum rows scanned for examples of left-out and packed rows.
const MAX_SCANNED: usize = 1000;
/// Left-out rows shown, with the reason.
const MAX_LEFT_OUT: usize = 3;
/// Mixed SFT rows shown.
const MAX_MIXED: usize = 3;

/// The first `most` rows that the run would train on, with the first mixed SFT rows and the first few rows left out. Packed
/// rows are built from the first 1000 texts.
///
/// # Errors
/// When the model cannot be opened or a row cannot be tokenised.
pub fn masks(spec: &RunSpec, rows: &RunRows, most: usize) -> Result<Masks, Error> {
    let train = train_spec(spec)?;
    let prepared = prepare(&train.method, &train.params)?;
    let model = LanguageModel::open(Path::new(&train.model.path))?.rendering(&spec.inputs.rendering())?;
    let own = preview(&model, &rows.rows, &prepared.tokenise_options(train.split_by_text), most, false)?;
    let (mixed, all_mixed) = match mix_tokenise_options(&prepared.shared, &prepared.mix) {
        Some(options) => {
            (preview(&model, &Rows::Examples(rows.mix.clone()), &options, MAX_MIXED, true)?, rows.mix.len())
        }
        None => (Preview::default(), 0),
    };
    let mut taken = Vec::new();
    let mut mixed_in = mixed.taken.into_iter();
    for sequences in own.taken {
        taken.extend(sequences);
        // In the run's order: in every step, or after all others.
        if prepared.mix.mix_order != MixOrder::Sequential {
            taken.extend(mixed_in.next().unwrap_or_default());
        }
    }
    taken.extend(mixed_in.flatten());
    taken.extend(own.left_out);
    taken.extend(mixed.left_out);
    Ok(Masks { rows: taken, all: rows.rows.len(), mixed: all_mixed })
}

/// The first `most` rows as a model reads them, and those left out among them. Of conversations the assistant's turns are in the
/// mask.
///
/// # Errors
/// When a row cannot be tokenised.
pub fn as_read(model: &LanguageModel, rows: &Rows, most: usize) -> Result<Vec<MaskedRow>, Error> {
    let options = TokeniseOptions { assistant_only: true, ..TokeniseOptions::new(usize::MAX) };
    let found = preview(model, rows, &options, most, false)?;
    Ok(found.taken.into_iter().flatten().chain(found.left_out).collect())
}

/// The first rows used, each as its sequences, and the first left out.
#[derive(Default)]
struct Preview {
    taken: Vec<Vec<MaskedRow>>,
    left_out: Vec<MaskedRow>,
    /// What rows hold that the model does not read.
    said: BTreeMap<PairId, Vec<String>>,
}

fn preview(
    model: &LanguageModel,
    rows: &Rows,
    options: &TokeniseOptions,
    most: usize,
    mixed: bool,
) -> Result<Preview, Error> {
    // The evaluation split does not change a row's mask, only which texts are packed together.
    let eval_fraction = if options.packing { options.eval_fraction } else { 0.0 };
    let alone = TokeniseOptions { eval_fraction, packing: false, ..*options };
    let enough = if options.packing { MAX_SCANNED } else { most };
    let mut out = Preview::default();
    let mut examples: Vec<Example> = Vec::new();
    for i in 0..rows.len().min(MAX_SCANNED) {
        if examples.len() >= enough && out.left_out.len() == MAX_LEFT_OUT {
            break;
        }
        let (id, one) = one_row(rows, i);
        let made = tokenise(model, &one, &alone, |_| Ok(()))?;
        let said = made.findings.iter().filter(|finding| finding.rule == OVERLOOKED);
        let said: Vec<String> = said.map(|finding| finding.text.clone()).collect();
        if let Some(dropped) = made.dropped.first().filter(|_| out.left_out.len() < MAX_LEFT_OUT) {
            out.left_out.push(MaskedRow { mixed, ..MaskedRow::left_out(id, &dropped.reason) });
        }
        let room = enough - examples.len();
        examples.extend(made.train.into_iter().take(room));
        if !said.is_empty() {
            out.said.insert(one_row(rows, i).0, said);
        }
    }
    if options.packing {
        examples = pack(examples, options.max_length);
    }
    let judged = matches!(rows, Rows::Ratings(_));
    for example in examples.into_iter().take(most) {
        let mut sequences = Vec::new();
        for (side, row) in example.rows.iter().enumerate() {
            let part = match example.rows.len() {
                1 if judged && example.desirable => "good",
                1 if judged => "bad",
                1 => "",
                _ if side == 0 => "chosen",
                _ => "rejected",
            };
            sequences.push(MaskedRow {
                id: example.id.clone(),
                part: part.into(),
                mixed,
                tokens: row.ids.len(),
                learned: row.scored.len() + row.valued.len(),
                pieces: pieces(model, row)?,
                left_out: None,
                said: if side == 0 { out.said.get(&example.id).cloned().unwrap_or_default() } else { Vec::new() },
            });
        }
        out.taken.push(sequences);
    }
    Ok(out)
}

/// Row `i` alone, and its id.
fn one_row(rows: &Rows, i: usize) -> (PairId, Rows) {
    match rows {
        Rows::Pairs(r) => (r[i].pair.clone(), Rows::Pairs(vec![r[i].clone()])),
        Rows::Examples(r) => (r[i].id.clone(), Rows::Examples(vec![r[i].clone()])),
        Rows::Ratings(r) => (r[i].id.clone(), Rows::Ratings(vec![r[i].clone()])),
        Rows::Prompts(r) => (PairId::new(r[i].id.as_str()), Rows::Prompts(vec![r[i].clone()])),
    }
}

/// A sequence as spans of text inside or outside the loss mask, split where a packed text begins. The token at which a scalar
/// head is read counts as inside.
fn pieces(model: &LanguageModel, row: &Row) -> Result<Vec<MaskPiece>, Error> {
    let mut learned = vec![false; row.ids.len()];
    for at in row.scored.iter().chain(&row.valued) {
        learned[*at] = true;
    }
    let mut out = Vec::new();
    let mut before = String::new();
    let mut from = 0;
    for to in 1..=learned.len() {
        let begins = |at: usize| at > 0 && row.starts.contains(&at);
        if to < learned.len() && learned[to] == learned[from] && !begins(to) {
            continue;
        }
        // Decoded as a suffix of the text so far: a span decoded alone may lose its leading space.
        let text = model.tokenizer.decode_all(&row.ids[..to])?;
        let own = match text.strip_prefix(&before) {
            Some(own) => own.to_owned(),
            None => model.tokenizer.decode_all(&row.ids[from..to])?,
        };
        out.push(MaskPiece { text: own, learned: learned[from], begins: begins(from) });
        (before, from) = (text, to);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Message, PairRow, Params, PromptBody, PromptId, RatedRow, RunId, SftBody, SftRow, method};
    use crate::protocol::{DataSnapshot, Inputs, ModelRef, Task, TrainSpec};

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
            inputs: Inputs::default(),
        }
    }

    fn pair(id: &str, chosen: &str, rejected: &str) -> PairRow {
        PairRow {
            turns: None,
            pair: PairId::new(id),
            prompt_id: PromptId::new("p1"),
            prompt: PromptBody::user("Why is the sky blue?"),
            chosen: chosen.into(),
            rejected: rejected.into(),
            margin: None,
            agreed: None,
            strategy: None,
            rater: None,
        }
    }

    fn text(row: &MaskedRow, learned: bool) -> String {
        row.pieces.iter().filter(|p| p.learned == learned).map(|p| p.text.as_str()).collect()
    }

    #[test]
    fn answers_are_in_the_mask_and_prompts_are_not() {
        let long = "because ".repeat(40);
        let rows: RunRows =
            Rows::Pairs(vec![pair("a", "Light scatters.", "No."), pair("b", &long, "No."), pair("c", "Air.", "It.")])
                .into();
        let found = masks(&spec("dpo", &["max_length=96"]), &rows, 1).unwrap();
        let heads: Vec<_> = found.rows.iter().map(|r| (r.id.as_str(), r.part.as_str())).collect();
        assert_eq!(heads, [("a", "chosen"), ("a", "rejected"), ("b", "")]);
        let chosen = &found.rows[0];
        assert!(text(chosen, true).starts_with("Light scatters."), "{chosen:?}");
        assert!(text(chosen, false).contains("Why is the sky blue?") && !text(chosen, true).contains("sky"));
        assert!(chosen.learned > 0 && chosen.learned < chosen.tokens);
        assert_eq!(found.rows[2].left_out.as_deref(), Some("longer than max_length"));
        // A reward model reads the score at the last token only.
        let found = masks(&spec("reward", &[]), &rows, 1).unwrap();
        assert_eq!(found.rows[0].learned, 1);
        assert!(text(&found.rows[0], false).contains("Light scatters."));
    }

    #[test]
    fn a_conversation_is_complete_and_only_assistant_turns_are_in_the_mask() {
        let say = |role: &str, content: &str| Message::new(role, content);
        let turns =
            vec![say("user", "Hi."), say("assistant", "Hello!"), say("user", "Bye."), say("assistant", "So long.")];
        let body = SftBody::Messages(turns.into());
        let rows = Rows::Examples(vec![SftRow { id: PairId::new("t1"), prompt_id: PromptId::new("p1"), body }]);
        let found = masks(&spec("sft", &["assistant_only_loss=true"]), &rows.into(), 5).unwrap();
        let row = &found.rows[0];
        let (learned, read) = (text(row, true), text(row, false));
        assert!(learned.contains("Hello!") && learned.contains("So long."), "{learned:?}");
        assert!(read.contains("Hi.") && read.contains("Bye.") && !learned.contains("Bye."), "{read:?}");
        assert!(row.pieces.len() >= 4, "{row:?}");
    }

    fn sft_row(id: &str, completion: &str) -> SftRow {
        let prompt = PromptBody::user("Why is the sky blue?");
        let body = SftBody::Completion { prompt, completion: completion.into() };
        SftRow { id: PairId::new(id), prompt_id: PromptId::new(format!("p{id}")), body }
    }

    #[test]
    fn mixed_rows_are_marked_and_shown_in_the_order_of_steps() {
        let long = "because ".repeat(40);
        let rows = RunRows {
            mix: vec![sft_row("m1", "Light."), sft_row("m2", &long), sft_row("m3", "Air.")],
            ..Rows::Pairs(vec![pair("a", "Light scatters.", "No."), pair("b", "Air.", "It.")]).into()
        };
        let heads = |set: &[&str]| {
            let found = masks(&spec("dpo", set), &rows, 5).unwrap();
            let heads: Vec<String> = found
                .rows
                .iter()
                .map(|r| {
                    format!("{}{}{}", r.id, if r.mixed { "+" } else { "" }, if r.left_out.is_some() { "!" } else { "" })
                })
                .collect();
            (heads.join(" "), found.mixed)
        };
        assert_eq!(heads(&["max_length=96", "mix_ratio=0.2"]), ("a a m1+ b b m3+ m2+!".into(), 3));
        let sequential = ["max_length=96", "mix_ratio=0.2", "mix_order=sequential"];
        assert_eq!(heads(&sequential), ("a a b b m1+ m3+ m2+!".into(), 3));
        assert_eq!(heads(&["max_length=96"]), ("a a b b".into(), 0));
        let found = masks(&spec("dpo", &["mix_ratio=0.2"]), &rows, 1).unwrap();
        let mixed = found.rows.iter().find(|r| r.mixed).unwrap();
        assert!(text(mixed, true).starts_with("Light.") && text(mixed, false).contains("sky"), "{mixed:?}");
    }

    #[test]
    fn packed_texts_share_a_row_with_marked_starts() {
        let rows =
            Rows::Examples(vec![sft_row("t1", "Light scatters."), sft_row("t2", "Air."), sft_row("t3", "Dust.")]);
        let set = ["packing=true", "eval_fraction=0"];
        let found = masks(&spec("sft", &set), &rows.clone().into(), 5).unwrap();
        let [row] = found.rows.as_slice() else { panic!("{:?}", found.rows) };
        assert_eq!((row.id.as_str(), row.texts()), ("t1", 3));
        let begins: Vec<&str> = row.pieces.iter().filter(|p| p.begins).map(|p| p.text.as_str()).collect();
        assert!(begins.len() == 2 && begins.iter().all(|text| text.contains("sky")), "{:?}", row.pieces);
        assert!(row.pieces.iter().filter(|p| p.begins).all(|p| !p.learned), "a prompt is outside the mask");
        // Unpacked: the same tokens, the same mask, no starts inside.
        let apart = masks(&spec("sft", &set[1..]), &rows.into(), 5).unwrap();
        let sum = |of: fn(&MaskedRow) -> usize| apart.rows.iter().map(of).sum::<usize>();
        assert_eq!((sum(|r| r.tokens), sum(|r| r.learned)), (row.tokens, row.learned));
        assert!(apart.rows.iter().all(|r| r.texts() == 1));
    }

    #[test]
    fn a_rating_is_shown_with_its_label() {
        let rating = |id: &str, good| RatedRow {
            cut: false,
            turns: [].into(),
            id: PairId::new(id),
            prompt_id: PromptId::new("p1"),
            prompt: PromptBody::user("Why?"),
            completion: "Light.".into(),
            good,
        };
        let rows = Rows::Ratings(vec![rating("a", true), rating("b", false)]);
        let found = masks(&spec("kto", &[]), &rows.into(), 5).unwrap();
        assert_eq!(found.rows.iter().map(|r| r.part.as_str()).collect::<Vec<_>>(), ["good", "bad"]);
    }
}
