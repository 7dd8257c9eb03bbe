//! Notes and corrections of the shown pair.
//!
//! Owns their dialogs and records. A correction stands beside the original and never replaces it.

use super::card::Pane;
use super::state::LabelScreen;
use crate::app::edit::EditBuffer;
use crate::app::effect::Effect;
use crate::app::flow;
use crate::app::popup::{InputPurpose, Popup, TextInput};
use crate::app::shared::Shared;
use crate::domain::{CompletionId, PairId};
use crate::protocol::SessionRecord;

pub(super) fn ask_note(label: &LabelScreen, model: &mut Shared) {
    if !flow::writable(model) {
        return;
    }
    let Some(open) = &model.open else { return };
    let Some(card) = &label.card else { return };
    let old = open.session.note_of(&card.pair, &open.rater).unwrap_or_default().to_owned();
    let pair = card.pair.clone();
    flow::input(model, "a note on this pair", "empty removes it", InputPurpose::Note { pair }, &old);
}

/// Saves a note.
pub(super) fn save_note(model: &mut Shared, pair: PairId, text: String) -> Vec<Effect> {
    let Some(open) = &mut model.open else { return Vec::new() };
    let rater = open.rater.clone();
    open.write(&SessionRecord::Noted { pair, rater, text })
}

pub(super) fn ask_correction(label: &LabelScreen, model: &mut Shared) {
    if !flow::writable(model) {
        return;
    }
    let (Some(open), Some(card)) = (&model.open, &label.card) else { return };
    if card.writing.is_some() {
        return model.warn("the answers are being written: correct them once both have ended");
    }
    let completion = card.completion(card.focus).clone();
    let corrected = open.session.correction_of(&completion, &open.rater);
    let original = open.session.completion(&completion).map(|c| &*c.text);
    let text = corrected.or(original).unwrap_or_default().to_owned();
    let title = match corrected {
        Some(_) => format!("your correction of answer {}", card.focus.number()),
        None => format!("correction of answer {}", card.focus.number()),
    };
    let purpose = InputPurpose::Correct { pair: card.pair.clone(), completion };
    model.popups.push(Popup::Input(TextInput {
        title,
        hint: "ctrl-s saves, esc cancels, ctrl-x withdraws your correction".into(),
        buffer: EditBuffer::multiline(text),
        purpose,
        error: None,
    }));
}

/// Saves a correction exactly as typed. The original text, or an empty one, withdraws an earlier correction.
pub(super) fn save_correction(model: &mut Shared, pair: PairId, completion: CompletionId, text: String) -> Vec<Effect> {
    let Some(open) = &mut model.open else { return Vec::new() };
    let original = open.session.completion(&completion).map(|c| &*c.text);
    if original == Some(text.as_str()) || text.trim().is_empty() {
        return withdraw(model, pair, completion);
    }
    if open.session.correction_of(&completion, &open.rater) == Some(text.as_str()) {
        model.say("nothing changed");
        return Vec::new();
    }
    let rater = open.rater.clone();
    let effects = open.write(&SessionRecord::Corrected { pair, completion, rater, text });
    let undo = model.keys.key("label", "undo");
    model.say(format!("correction saved: it trains as an example and over the original; {undo} undoes it"));
    effects
}

/// Withdraws the correction of an answer.
pub(super) fn withdraw(model: &mut Shared, pair: PairId, completion: CompletionId) -> Vec<Effect> {
    let Some(open) = &mut model.open else { return Vec::new() };
    if open.session.correction_of(&completion, &open.rater).is_none() {
        model.say("nothing changed: this answer has no correction of yours");
        return Vec::new();
    }
    let rater = open.rater.clone();
    let effects = open.write(&SessionRecord::Corrected { pair, completion, rater, text: String::new() });
    let undo = model.keys.key("label", "undo");
    model.say(format!("correction withdrawn; {undo} brings it back"));
    effects
}

/// Shows the originals of corrected answers, or the corrections again.
pub(super) fn toggle_original(label: &mut LabelScreen, model: &mut Shared) {
    let (Some(open), Some(card)) = (&model.open, &mut label.card) else { return };
    let is_corrected = |pane| open.session.correction_of(card.completion(pane), &open.rater).is_some();
    if ![Pane::First, Pane::Second].into_iter().any(is_corrected) {
        let edit = model.keys.key("label", "edit");
        return model.say(format!("no correction of yours here: {edit} writes one"));
    }
    card.originals = !card.originals;
    card.follow_corrections(open);
    card.lay_out(model.size, label.zoom);
    if label.diff {
        card.compute_diff();
    }
}
