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
    if label.card.is_none() && open.loaded {
        // Finished pairs come first: how fast an answer is written may tell who writes it.
        label.card = match open.queue.first() {
            Some(next) => Card::next(open, next, model.clock_ms),
            None => open.next_growing().and_then(|pair| Card::of(open, pair, model.clock_ms)),
        };
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

/// Lets the shown pair grow if its answers are being written; takes it away if it is gone.
pub fn follow_growth(label: &mut LabelScreen, model: &mut Shared) {
    let (Some(open), Some(card)) = (&model.open, &mut label.card) else { return };
    if card.follow_growth(open) {
        return;
    }
    let name = card.name.clone();
    label.card = None;
    model.say(format!("{name} is gone: its answers ended alike or empty, or the run ended before them"));
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
