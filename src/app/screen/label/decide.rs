//! Decisions on the shown pair: verdicts, skips and adjudications, undo and redo, and the order of the queue.
//!
//! Owns what a verdict's record says. Refuses to decide for the rater: nothing is recorded that no key asked for.

use super::card::Pane;
use super::score::verdict_words;
use super::state::{GUARD_MS, LabelScreen, refresh, show_next, show_pair};
use crate::app::effect::Effect;
use crate::app::flow;
use crate::app::shared::Shared;
use crate::domain::{Adjudication, Choice, PairId, QueueOrder, Strength, Verdict, counted};
use crate::protocol::SessionRecord;

/// A decision in terms of the screen: panes, not sides.
#[derive(Clone, Copy)]
pub(super) enum Decision {
    Prefer(Pane, Strength),
    Flat(Choice),
}

pub(super) fn judge(label: &mut LabelScreen, model: &mut Shared, decision: Decision) -> Vec<Effect> {
    if !flow::writable(model) {
        return Vec::new();
    }
    let Some(card) = &label.card else {
        model.warn("no pair to label");
        return Vec::new();
    };
    let ms = model.clock_ms.saturating_sub(card.shown_ms);
    if ms < GUARD_MS {
        model.warn("Ignored: pressed too soon. Press again.");
        return Vec::new();
    }
    let (choice, winner) = match decision {
        Decision::Prefer(pane, strength) => {
            let side = card.side(pane);
            (Choice::Prefer(side, strength), Some(card.raw_hash(pane)))
        }
        Decision::Flat(choice) => (choice, None),
    };
    let (pair, left, seen) = (card.pair.clone(), card.left, card.seen());
    let Some(open) = &mut model.open else { return Vec::new() };
    let (rater, record_pair) = (open.rater.clone(), pair.clone());
    let record = match (open.order, choice) {
        // A skip would replace this rater's own vote.
        (QueueOrder::Disputed, Choice::Skip) => {
            let key = model.keys.key("label", "order");
            model.warn(format!("A dispute cannot be skipped: decide it, or press {key} for the other pairs."));
            return Vec::new();
        }
        (QueueOrder::Disputed, _) => SessionRecord::Adjudicated(Adjudication { pair, rater: rater.clone(), choice }),
        _ => SessionRecord::Judged(Verdict { pair, rater: rater.clone(), choice, left, seen, ms, winner_hash: winner, showing: crate::domain::Showing::default() }),
    };
    // A skip takes the place of an earlier verdict: say so, since the pair comes back.
    let before = open.session.verdict_of(&record_pair, &rater).map(|(_, v)| v.clone());
    let replaced = before.filter(|v| choice == Choice::Skip && v.choice != Choice::Skip).map(|v| verdict_words(&v));
    let effects = open.write(&record);
    show_next(label, model);
    if let Some(words) = replaced {
        let undo = model.keys.key("label", "undo");
        model.say(format!("skipped instead of `{words}`: the pair comes back; {undo} undoes it"));
    }
    effects
}

pub(super) fn undo(label: &mut LabelScreen, model: &mut Shared) -> Vec<Effect> {
    undo_or_redo(label, model, true)
}

pub(super) fn redo(label: &mut LabelScreen, model: &mut Shared) -> Vec<Effect> {
    undo_or_redo(label, model, false)
}

fn undo_or_redo(label: &mut LabelScreen, model: &mut Shared, undo: bool) -> Vec<Effect> {
    if !flow::writable(model) {
        return Vec::new();
    }
    let Some(open) = &mut model.open else { return Vec::new() };
    let of = if undo { open.session.undoable(&open.rater) } else { open.session.redoable(&open.rater) };
    let Some(of) = of else {
        model.say(if undo { "Nothing to undo" } else { "Nothing to redo" });
        return Vec::new();
    };
    if let Some(pair) = open.session.correction_at(of).map(|c| c.pair.clone()) {
        let effects = open.write(&if undo { SessionRecord::Withdrawn { of } } else { SessionRecord::Restored { of } });
        // A pair that is already shown keeps its scroll position and read marks.
        let shown = label.card.as_ref().is_some_and(|card| card.pair == pair);
        if shown {
            refresh(label, model);
        } else {
            show_pair(label, model, &pair);
        }
        model.say(if undo { "correction undone" } else { "correction redone" });
        return effects;
    }
    let adjudicated = open.session.adjudication_at(of).map(|a| a.pair.clone());
    let pair = open.session.judged_pair(of).cloned().or(adjudicated);
    let effects = open.write(&if undo { SessionRecord::Undone { of } } else { SessionRecord::Redone { of } });
    match pair {
        Some(pair) if undo => show_pair(label, model, &pair),
        _ => show_next(label, model),
    }
    effects
}

/// Switches the order of the queue and shows its first pair.
pub(super) fn toggle_order(label: &mut LabelScreen, model: &mut Shared) {
    let Some(open) = &mut model.open else { return };
    let of_queue = |pair: &&PairId| open.session.pair(pair).is_some_and(|p| open.session.score_gap(p).is_some());
    let scored = open.queue.iter().filter(of_queue).count();
    let disputed = open.session.disputes().len();
    let (order, notice) = match open.order {
        QueueOrder::Arrival if scored > 0 => {
            let left = open.queue.len();
            (QueueOrder::Uncertain, format!("least certain scores first: {scored} of {left} pairs have scores"))
        }
        QueueOrder::Arrival | QueueOrder::Uncertain if disputed > 0 => (
            QueueOrder::Disputed,
            format!("{}, lowest agreement first: your decision settles each", counted(disputed, "dispute")),
        ),
        QueueOrder::Arrival => {
            let name = open.meta.name.clone();
            return model
                .warn(format!("no pair left to label has scores; `tiebreak score {name} --with RUN` adds them"));
        }
        QueueOrder::Uncertain | QueueOrder::Disputed => (QueueOrder::Arrival, "pairs in order of arrival".to_owned()),
    };
    open.order = order;
    model.order = open.order;
    open.requeue();
    show_next(label, model);
    model.say(notice);
}
