//! The screen's state, and which pair it shows.

use super::card::Card;
use super::reading::AnswerView;
use crate::app::shared::Shared;
use crate::domain::PairId;

/// The screen's state.
#[derive(Debug, Clone, Default)]
pub struct LabelScreen {
    /// The shown pair.
    pub card: Option<Card>,
    /// Whether the words that differ are marked.
    pub diff: bool,
    /// Whether only the focused answer shows.
    pub zoom: bool,
    /// How answers are shown.
    pub view: AnswerView,
}

/// Shows the next pair if none is shown, and lays it out for the current size.
pub fn refresh(label: &mut LabelScreen, model: &Shared) {
    let Some(open) = &model.open else { return };
    // Before all logs are read, a labelled pair may still be in the queue.
    if label.card.is_none()
        && open.loaded
        && let Some(next) = open.queue.first()
    {
        label.card = Card::next(open, next, model.clock_ms);
    }
    if let Some(card) = &mut label.card {
        card.follow_corrections(open);
        // Differences are marked in the text as written.
        card.set_view(AnswerView { raw: label.view.raw || label.diff, ..label.view });
        card.lay_out(model.size, label.zoom);
        if label.diff {
            card.compute_diff();
        }
    }
}

/// Shows a pair, labelled or not.
pub fn show_pair(label: &mut LabelScreen, model: &Shared, pair: &PairId) {
    let Some(open) = &model.open else { return };
    if let Some(card) = Card::of(open, pair, model.clock_ms) {
        label.card = Some(card);
    }
    refresh(label, model);
}

pub fn show_next(label: &mut LabelScreen, model: &Shared) {
    let before = label.card.take();
    refresh(label, model);
    // The next question about the same pair: it stays as it was scrolled and read.
    if let (Some(before), Some(next)) = (before, &label.card)
        && (&before.pair, before.left) == (&next.pair, next.left)
        && next.asked.criterion.is_some()
    {
        label.card = Some(before.with(next));
    }
}
