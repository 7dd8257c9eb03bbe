//! Single-sequence rows: SFT texts, rated answers, prompts.
//!
//! Owns their loss masks. The assistant mask is derived by rendering the conversation turn by turn, so that templates need no
//! markers.

use super::encode::Encode;
use super::example::{Example, TokeniseOptions, Tokenised, common_prefix};
use super::unfinished::{said_of, unfinished_turn};
use crate::domain::{Conversation, Message, PairId, Prompt, PromptBody, RatedRow, ReplyRef, SftBody, SftRow};
use crate::model::error::Error;
use crate::nn::policy::Row;

/// The row's prompt, if an answer to it can be sampled.
pub(super) fn prompt_of(row: &SftRow) -> Option<PromptBody> {
    match &row.body {
        SftBody::Completion { prompt, .. } => Some(prompt.clone()),
        SftBody::Messages(messages) => {
            let last = messages.iter().rposition(|m| m.role == "assistant")?;
            Some(PromptBody::Chat(messages.first(last))).filter(|_| last > 0)
        }
        SftBody::Text(_) => None,
    }
}

/// An SFT text.
pub(super) fn example(
    encode: &dyn Encode,
    i: usize,
    row: &SftRow,
    options: &TokeniseOptions,
    out: &mut Tokenised,
    boundary_shifts: &mut Vec<PairId>,
) -> Result<(), Error> {
    match said_of_text(encode, row) {
        Ok(None) => {}
        Ok(Some(why)) => {
            out.unsaid(why, &row.id);
            return Ok(());
        }
        Err(e) => return out.refused("example", &row.id, &e),
    }
    let (ids, scored, prompt, shifted) = match read(encode, row, options) {
        Ok(read) => read,
        Err(e) => return out.refused("example", &row.id, &e),
    };
    if shifted {
        boundary_shifts.push(row.id.clone());
    }
    if scored.is_empty() {
        out.drop("no tokens in the loss mask");
        return Ok(());
    }
    let example = Example {
        id: row.id.clone(),
        prompt_id: options.split_id(&row.prompt_id, || row.body.prompt().derived_id()),
        row: i,
        prompt,
        rows: vec![Row::new(ids, scored)],
        kl_rows: Vec::new(),
        margin: None,
        agreed: None,
        desirable: true,
    };
    out.push(example, options, encode.context());
    Ok(())
}

/// Why a text holds no answer to learn; none where it does.
fn said_of_text(encode: &dyn Encode, row: &SftRow) -> Result<Option<&'static str>, Error> {
    match &row.body {
        SftBody::Completion { prompt, completion } => said_of(encode, prompt, &[completion.into()]),
        SftBody::Messages(talk) => Ok(unfinished_turn(talk)),
        // A text may hold a conversation in any form.
        SftBody::Text(_) => Ok(None),
    }
}

/// The tokens of a text, the scored ones, the prompt's length, and whether the prompt is not a prefix.
fn read(
    encode: &dyn Encode,
    row: &SftRow,
    options: &TokeniseOptions,
) -> Result<(Vec<u32>, Vec<usize>, usize, bool), Error> {
    Ok(match &row.body {
        SftBody::Text(text) => {
            let ids = encode.text(text)?;
            let scored = (1..ids.len()).collect();
            (ids, scored, 0, false)
        }
        SftBody::Messages(messages) => {
            let ids = encode.conversation(messages, false)?;
            // A row that says which of its turns train is asked for those turns alone.
            let flagged = messages.iter().any(|turn| turn.trains().is_some());
            let scored = if options.assistant_only || flagged {
                assistant(encode, messages, 0, &ids)?
            } else {
                (1..ids.len()).collect()
            };
            (ids, scored, 0, false)
        }
        SftBody::Completion { prompt, completion } => {
            let prompt_ids = encode.prompt(prompt)?;
            let ids = encode.answered(prompt, completion)?;
            let boundary = common_prefix(&prompt_ids, &ids);
            let from = if options.completion_only { boundary } else { 1 };
            let scored = (from.max(1)..ids.len()).collect();
            (ids, scored, boundary, boundary < prompt_ids.len())
        }
    })
}

/// The assistant mask: of each assistant turn from the turn `first` on that says something and does not say otherwise (`weight`,
/// `train`), the
/// tokens after the preceding conversation with its generation prompt, up to the end-of-turn token. Separators between turns
/// are excluded, as in templates with markers. A turn without an end-of-turn token counts whole.
fn assistant(encode: &dyn Encode, talk: &Conversation, first: usize, whole: &[u32]) -> Result<Vec<usize>, Error> {
    let mut out: Vec<usize> = Vec::new();
    let learned = |turn: &Message| turn.role == "assistant" && turn.trains() != Some(false) && !turn.is_blank();
    for (i, _) in talk.iter().enumerate().filter(|(i, turn)| *i >= first && learned(turn)) {
        let from = if i == 0 { 1 } else { common_prefix(&encode.conversation(&talk.first(i), true)?, whole) };
        let to = common_prefix(&encode.conversation(&talk.first(i + 1), false)?, whole);
        let turn = whole.get(from..to).unwrap_or_default();
        // A template may render two calls in a row as one turn: no token counts twice.
        let from = from.max(1).max(out.last().map_or(0, |last| last + 1));
        out.extend(from..to - encode.separator(turn));
    }
    Ok(out)
}

/// The tokens of an answer that are learned: everything behind the boundary, or of several turns the assistant's.
pub(crate) fn answer_mask(
    encode: &dyn Encode,
    prompt: &PromptBody,
    answer: ReplyRef<'_>,
    boundary: usize,
    ids: &[u32],
) -> Result<Vec<usize>, Error> {
    match prompt {
        PromptBody::Chat(talk) if answer.turns.len() > 1 => {
            assistant(encode, &talk.followed_by(answer.turns), talk.len(), ids)
        }
        // The model did not end a cut answer: the end is read and not learned.
        _ if answer.cut => Ok((boundary..ids.len() - encode.ending(&ids[boundary..])).collect()),
        _ => Ok((boundary..ids.len()).collect()),
    }
}

/// A rated answer.
pub(super) fn rating(
    encode: &dyn Encode,
    i: usize,
    row: &RatedRow,
    options: &TokeniseOptions,
    out: &mut Tokenised,
    boundary_shifts: &mut Vec<PairId>,
) -> Result<(), Error> {
    match said_of(encode, &row.prompt, &[row.reply()]) {
        Ok(None) => {}
        Ok(Some(why)) => {
            out.unsaid(why, &row.id);
            return Ok(());
        }
        Err(e) => return out.refused("rating", &row.id, &e),
    }
    let encoded = || Ok((encode.prompt(&row.prompt)?, encode.replied(&row.prompt, row.reply())?));
    let (prompt, ids) = match encoded() {
        Ok(encoded) => encoded,
        Err(e) => return out.refused("rating", &row.id, &e),
    };
    let boundary = common_prefix(&prompt, &ids);
    if boundary < prompt.len() {
        boundary_shifts.push(row.id.clone());
    }
    if boundary == 0 || boundary == ids.len() {
        out.drop("an empty answer");
        return Ok(());
    }
    let scored = match answer_mask(encode, &row.prompt, row.reply(), boundary, &ids) {
        Ok(scored) => scored,
        Err(e) => return out.refused("rating", &row.id, &e),
    };
    if scored.is_empty() {
        out.drop("no tokens in the loss mask");
        return Ok(());
    }
    out.cut += usize::from(row.cut);
    let example = Example {
        id: row.id.clone(),
        prompt_id: options.split_id(&row.prompt_id, || row.prompt.derived_id()),
        row: i,
        prompt: boundary,
        rows: vec![Row::new(ids, scored)],
        kl_rows: Vec::new(),
        margin: None,
        agreed: None,
        desirable: row.good,
    };
    out.push(example, options, encode.context());
    Ok(())
}

/// Adds a mismatched sequence to every example: its prompt with the previous answer in its block of `size` (the first gets
/// the last). A block of one gets none.
pub(super) fn add_mismatched_rows(examples: &mut [Example], size: usize) {
    if size == 0 {
        return;
    }
    for block in examples.chunks_mut(size) {
        let answers: Vec<Vec<u32>> = block.iter().map(|e| e.answer(0).to_vec()).collect();
        let n = block.len();
        for (i, example) in block.iter_mut().enumerate() {
            if n > 1 {
                let mut ids = example.rows[0].ids[..example.prompt].to_vec();
                ids.extend_from_slice(&answers[(i + n - 1) % n]);
                let scored = (example.prompt..ids.len()).collect();
                example.kl_rows = vec![Row::new(ids, scored)];
            }
        }
    }
}

/// A prompt for rollouts: one sequence without scored tokens.
pub(super) fn prompt(
    encode: &dyn Encode,
    i: usize,
    row: &Prompt,
    options: &TokeniseOptions,
    out: &mut Tokenised,
) -> Result<(), Error> {
    let ids = match encode.prompt(&row.body) {
        Ok(ids) => ids,
        Err(e) => return out.refused("prompt", &PairId::new(row.id.as_str()), &e),
    };
    if ids.is_empty() {
        out.drop("an empty prompt");
        return Ok(());
    }
    let example = Example {
        id: PairId::new(row.id.as_str()),
        prompt_id: options.split_id(&row.id, || row.body.derived_id()),
        row: i,
        prompt: ids.len(),
        rows: vec![Row::new(ids, Vec::new())],
        kl_rows: Vec::new(),
        margin: None,
        agreed: None,
        desirable: true,
    };
    out.push(example, options, encode.context());
    Ok(())
}
