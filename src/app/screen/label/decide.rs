//! Decisions on the shown pair: verdicts, skips and adjudications, undo and redo, and the order of the queue.
//!
//! Owns what a verdict's record says. Refuses to decide for the rater: nothing is recorded that no key asked for.

use super::asking;
use super::card::{Card, Pane};
use super::score::verdict_words;
use super::state::{LabelScreen, refresh, show_next, show_pair};
use crate::app::effect::Effect;
use crate::app::flow;
use crate::app::goal::{Goal, Next, Show};
use crate::app::pace::{guarded_words, quick_words};
use crate::app::screen::rank;
use crate::app::shared::Shared;
use crate::domain::{Adjudication, Choice, PartialView, QueueOrder, Seen, Showing, Strength, Verdict, counted};
use crate::protocol::SessionRecord;

/// A decision in terms of the screen: panes, not sides.
#[derive(Clone, Copy)]
pub(super) enum PaneDecision {
    Prefer(Pane, Strength),
    Flat(Choice),
}

pub(super) fn judge(label: &mut LabelScreen, model: &mut Shared, decision: PaneDecision) -> Vec<Effect> {
    if !flow::writable(model) {
        return Vec::new();
    }
    let Some(card) = &label.card else {
        model.warn("no pair to label");
        return Vec::new();
    };
    let after = model.clock_ms.saturating_sub(card.shown_ms);
    if after < model.guard_ms {
        model.warn(guarded_words(after, model.guard_ms));
        return Vec::new();
    }
    // 0 means that the time is not known.
    let ms = after.max(1);
    let (choice, winner) = match decision {
        PaneDecision::Prefer(pane, strength) => {
            let side = card.side(pane);
            // An answer that is being written has no hash yet: what was shown of it binds the verdict.
            let winner = card.writing.is_none().then(|| card.raw_hash(pane));
            (Choice::Prefer(side, strength), winner)
        }
        PaneDecision::Flat(choice) => (choice, None),
    };
    let (pair, left, asked) = (card.pair.clone(), card.left, card.asked.clone());
    let partial = card.partial_view();
    let seen = if partial.as_ref().is_some_and(PartialView::is_partial) { Seen::Partial } else { card.seen() };
    let Some(open) = &mut model.open else { return Vec::new() };
    let (rater, record_pair) = (open.rater.clone(), pair.clone());
    // The pair of an evaluation is judged, whatever the order.
    let order = if open.session.is_held_out(&pair) { QueueOrder::Arrival } else { open.order };
    let record = match (order, choice) {
        // A skip would replace this rater's own vote.
        (QueueOrder::Disputed, Choice::Skip) => {
            let key = model.keys.key("label", "order");
            model.warn(format!("Disputes cannot be skipped: decide this one, or press {key} for the other pairs."));
            return Vec::new();
        }
        (QueueOrder::Disputed, _) => SessionRecord::Adjudicated(Adjudication {
            pair,
            rater: rater.clone(),
            choice,
            criterion: asked.criterion.as_ref().map(Into::into),
        }),
        _ => SessionRecord::Judged(
            Verdict {
                pair,
                rater: rater.clone(),
                choice,
                left,
                seen,
                ms,
                winner_hash: winner.map(Into::into),
                asked: asked.clone(),
                showing: Showing { partial: partial.map(Box::new), ..Showing::default() },
            }
            .into(),
        ),
    };
    // A skip takes the place of an earlier verdict: say so, since the pair comes back.
    let before = open.session.verdict_by(&record_pair, &rater, asked.criterion.as_deref()).map(|(_, v)| v.clone());
    // Of a repeat and of a review the earlier verdict stays, and is not shown.
    let replaces = choice == Choice::Skip && asked.pass == 0 && !asked.review;
    let replaced = before.filter(|v| replaces && v.choice != Choice::Skip).map(|v| verdict_words(&v));
    let effects = open.write(&record);
    // A decision on a dispute stands in nobody's line of labels.
    let settled = matches!(record, SessionRecord::Adjudicated(_)).then(|| open.pair_name(&record_pair));
    show_next(label, model);
    let undo = model.keys.key("label", "undo");
    if let Some(name) = settled {
        model.say(format!("settled {name}; {undo} undoes it"));
    }
    if let Some(words) = quick_words(after, &undo) {
        model.say(words);
    }
    if let Some(words) = replaced {
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
    if let Some((pair, withdrawal)) = open.session.correction_at(of).map(|c| (c.pair.clone(), c.text.is_empty())) {
        let effects = open.write(&if undo { SessionRecord::Withdrawn { of } } else { SessionRecord::Restored { of } });
        // A pair that is already shown keeps its scroll position and read marks.
        let shown = label.card.as_ref().is_some_and(|card| card.pair == pair);
        if shown {
            refresh(label, model);
        } else {
            show_pair(label, model, &pair);
        }
        model.say(match (undo, withdrawal) {
            (true, false) => "correction undone",
            (true, true) => "the withdrawn correction is back",
            (false, false) => "correction redone",
            (false, true) => "correction withdrawn again",
        });
        return effects;
    }
    if let Some(change) = open.session.tag_change_at(of).cloned() {
        let effects = open.write(&if undo { SessionRecord::Withdrawn { of } } else { SessionRecord::Restored { of } });
        asking::show_tags(label.card.as_mut(), model);
        asking::say_retagged(model, &change, undo);
        return effects;
    }
    let ranking = open.session.ranking_of(of, undo);
    if ranking.len() > 1 {
        let records: Vec<SessionRecord> = ranking
            .iter()
            .map(|of| if undo { SessionRecord::Undone { of: *of } } else { SessionRecord::Redone { of: *of } })
            .collect();
        let effects = open.write_all(&records);
        show_next(label, model);
        let done = if undo { "undone" } else { "redone" };
        model.say(format!("a decision on all answers of a prompt {done}: {}", counted(records.len(), "verdict")));
        return effects;
    }
    let asked = open.session.verdict_at(of).map(|verdict| verdict.asked.clone());
    let adjudicated = open.session.adjudication_at(of).map(|a| a.pair.clone());
    let pair = open.session.judged_pair(of).cloned().or(adjudicated);
    let effects = open.write(&if undo { SessionRecord::Undone { of } } else { SessionRecord::Redone { of } });
    match pair {
        Some(pair) if undo => {
            show_pair(label, model, &pair);
            let open = model.open.as_ref();
            // The same question as before, with the same sides.
            if let Some(card) =
                open.zip(asked).and_then(|(open, asked)| Card::asking(open, &pair, asked, model.clock_ms))
            {
                label.card = Some(card);
                refresh(label, model);
            }
        }
        _ => show_next(label, model),
    }
    effects
}

/// Goes to all answers of the shown pair's prompt, if there are enough to rank.
pub(super) fn to_ranking(label: &LabelScreen, model: &mut Shared) -> Next {
    let (Some(open), Some(card)) = (&model.open, &label.card) else {
        model.warn("no pair is shown: go to one first");
        return Next::default();
    };
    let answers = rank::answers_to(open, &card.prompt_id).len();
    if answers < rank::MIN_ANSWERS {
        let least = rank::MIN_ANSWERS;
        model.warn(format!(
            "this prompt has {}: best-of and ranking need {least}",
            counted(answers, "different answer")
        ));
        return Next::default();
    }
    Next::go(Goal::with("rank", Show::Prompt(card.prompt_id.clone())))
}
