//! The pairs of a benchmark: the first of a file with fitting lengths, or pairs of one length cut from its texts.

use crate::domain::{PairId, PairRow, PromptBody, PromptId};
use crate::model::error::Error;
use crate::model::language_model::LanguageModel;
use crate::protocol::PairChoice;
use crate::train::data::Encode;

/// The prompt is one in this many tokens of a cut pair's side.
const PROMPT: usize = 8;

/// Selects `count` pairs of `all` by `choice`.
///
/// # Errors
/// When there are not enough pairs, or the model cannot tokenise them.
pub(super) fn choose(
    model: &LanguageModel,
    all: &[PairRow],
    choice: PairChoice,
    count: usize,
) -> Result<Vec<PairRow>, Error> {
    match choice {
        PairChoice::Between { least, most } => between(model, all, least, most, count),
        PairChoice::Alike { tokens } => alike(model, all, tokens, count),
    }
}

fn between(
    model: &LanguageModel,
    all: &[PairRow],
    least: usize,
    most: usize,
    count: usize,
) -> Result<Vec<PairRow>, Error> {
    let mut taken = Vec::new();
    for row in all {
        if taken.len() == count {
            break;
        }
        let length =
            model.answered(&row.prompt, &row.chosen)?.len().max(model.answered(&row.prompt, &row.rejected)?.len());
        if (least..=most).contains(&length) {
            taken.push(row.clone());
        }
    }
    if taken.len() < count {
        return Err(Error::Invalid(format!(
            "{count} pairs are needed and {} of the file's {} have a longer side of {least} to {most} tokens: lower \
             --steps or --batch, or widen --min and --max",
            taken.len(),
            all.len()
        )));
    }
    Ok(taken)
}

/// Pairs cut from the concatenated texts, starting again at the end.
fn alike(model: &LanguageModel, all: &[PairRow], tokens: usize, count: usize) -> Result<Vec<PairRow>, Error> {
    let mut text = Vec::new();
    for row in all {
        text.extend(model.tokenizer.encode(&format!("{}\n{}\n", row.chosen, row.rejected), false)?);
        if text.len() > tokens * count * 2 {
            break;
        }
    }
    let side = tokens / 2;
    if text.len() < side.max(64) {
        return Err(Error::Invalid(format!(
            "the file's texts are too short to cut pairs of {tokens} tokens out of them"
        )));
    }
    let mut texts = TokenStream { model, ids: text, at: 0 };
    let body = |text: String| if model.template.is_some() { PromptBody::user(text) } else { PromptBody::Text(text) };
    let mut out = Vec::new();
    for i in 0..count {
        let prompt = body(texts.next((side / PROMPT).max(1))?);
        let around = model.answered(&prompt, "")?.len();
        let room = side.saturating_sub(around).max(1);
        let chosen = texts.answer(&prompt, side, room)?;
        let mut rejected = texts.answer(&prompt, side, room)?;
        if chosen == rejected {
            rejected.push('.');
        }
        out.push(PairRow {
            turns: None,
            pair: PairId::new(format!("cut{i}")),
            prompt_id: PromptId::new(format!("cut{i}")),
            prompt,
            chosen,
            rejected,
            margin: None,
            agreed: None,
            strategy: None,
            rater: None,
        });
    }
    Ok(out)
}

/// The texts' tokens, repeated without end.
struct TokenStream<'a> {
    model: &'a LanguageModel,
    ids: Vec<u32>,
    at: usize,
}

impl TokenStream<'_> {
    /// The text of the next `n` tokens.
    fn next(&mut self, n: usize) -> Result<String, Error> {
        let ids: Vec<u32> = self.ids.iter().cycle().skip(self.at).take(n).copied().collect();
        self.at = (self.at + n) % self.ids.len();
        self.model.tokenizer.decode(&ids)
    }

    /// A text that makes prompt + answer about `side` tokens long: text cut between tokens may tokenise differently.
    fn answer(&mut self, prompt: &PromptBody, side: usize, room: usize) -> Result<String, Error> {
        let from = self.at;
        let text = self.next(room)?;
        let off = self.model.answered(prompt, &text)?.len() as i64 - side as i64;
        if off == 0 {
            return Ok(text);
        }
        self.at = from;
        self.next((room as i64 - off).max(1) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn model() -> LanguageModel {
        LanguageModel::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-llama")).unwrap()
    }

    fn row(i: usize, words: usize) -> PairRow {
        PairRow {
            turns: None,
            pair: PairId::new(format!("p{i}")),
            prompt_id: PromptId::new(format!("p{i}")),
            prompt: PromptBody::user("Say it."),
            chosen: "and the sea was blue ".repeat(words),
            rejected: "no".into(),
            margin: None,
            agreed: None,
            strategy: None,
            rater: None,
        }
    }

    #[test]
    fn the_first_pairs_that_fit_are_taken_in_the_files_order() {
        let model = model();
        let all: Vec<PairRow> = [9, 1, 7, 30, 8].iter().enumerate().map(|(i, n)| row(i, *n)).collect();
        let length = |n: usize| model.answered(&all[0].prompt, &row(0, n).chosen).unwrap().len();
        let choice = PairChoice::Between { least: length(7), most: length(9) };
        let names = |rows: Vec<PairRow>| rows.into_iter().map(|r| r.pair.into_string()).collect::<Vec<_>>();
        assert_eq!(names(choose(&model, &all, choice, 2).unwrap()), ["p0", "p2"]);
        assert_eq!(names(choose(&model, &all, choice, 3).unwrap()), ["p0", "p2", "p4"]);
        let said = choose(&model, &all, choice, 4).unwrap_err().to_string();
        assert!(said.contains("4 pairs are needed and 3 of the file's 5"), "{said}");
    }

    #[test]
    fn cut_pairs_are_as_long_as_asked_within_a_few_tokens() {
        let model = model();
        let all = [row(0, 40), row(1, 3)];
        for tokens in [128, 512] {
            let rows = choose(&model, &all, PairChoice::Alike { tokens }, 3).unwrap();
            assert_eq!(rows.len(), 3);
            for r in rows {
                let of = |answer: &str| model.answered(&r.prompt, answer).unwrap().len();
                let got = of(&r.chosen) + of(&r.rejected);
                assert!(got.abs_diff(tokens) <= tokens / 16, "{got} tokens instead of {tokens}");
                assert_ne!(r.chosen, r.rejected);
            }
        }
    }
}
