//! The screen's state, and which pair it shows.

use super::asking::{self, Awaited};
use super::card::Card;
use super::reading::AnswerView;
use crate::app::open::OpenSession;
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
    /// What the rater asked of the queue, until it is there.
    pub awaited: Option<Awaited>,
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

/// Waits for the queue that the rater asked for, and takes it over at once if it is there.
pub fn await_queue(label: &mut LabelScreen, model: &mut Shared, awaited: Option<Awaited>) {
    label.awaited = awaited;
    if awaited.is_some() && model.open.as_ref().is_some_and(OpenSession::is_building) {
        model.say("looking through the pairs …");
    }
    take_over(label, model);
    refresh(label, model);
}

/// Shows the first pair of the queue that the rater asked for, once it is there.
pub fn take_over(label: &mut LabelScreen, model: &mut Shared) {
    if model.open.as_mut().is_some_and(OpenSession::take_arrival) {
        match label.awaited.take() {
            Some(awaited) => {
                show_next(label, model);
                asking::tell(model, awaited);
            }
            // Another criterion is another question: the card begins anew.
            None => label.card = None,
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
