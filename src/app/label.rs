//! Judging pairs: one pair on the screen, one key a verdict, the next pair at once.
//!
//! Owns what is shown and what has been read. Sides are random and blind: a pure function of the pair and the rater.

mod card;
mod score;

pub use card::{Card, Pane, Places};
pub use score::{Stats, history, sampler, stats, words};

use super::edit::EditBuffer;
use super::effect::Effect;
use super::flow;
use super::keymap::Action;
use super::model::Model;
use super::palette::{Entry, Palette, Pick};
use super::popup::{Ask, Input, Popup};
use super::screen::Screen;
use super::wrap::{clip, presentable};
use crate::domain::{Choice, CompletionId, PairId, QueueOrder, Strength, Verdict, hash64};
use crate::protocol::SessionRecord;

/// Verdicts within this time after a pair appears are taken for a repeating key.
pub const GUARD_MS: u64 = 250;

/// What the screen knows.
#[derive(Debug, Clone, Default)]
pub struct Label {
    /// The pair on the screen.
    pub card: Option<Card>,
    /// Whether differing words are marked.
    pub diff: bool,
    /// Whether the focused answer stands alone.
    pub zoom: bool,
}

/// Looks again at what has changed below: takes the next pair when none is shown, lays the text out for a new size.
pub fn refresh(model: &mut Model) {
    let Some(open) = &model.open else { return };
    let Screen::Label(label) = &mut model.screen else { return };
    // Before all logs are read, a pair may seem open that was judged long ago.
    if label.card.is_none()
        && open.loaded
        && let Some(next) = open.queue.first()
    {
        label.card = Card::of(open, next, model.clock_ms);
    }
    if let Some(card) = &mut label.card {
        card.lay_out(model.size, label.zoom);
    }
}

/// Shows a pair, judged or not.
pub fn show_pair(model: &mut Model, pair: &PairId) {
    let Some(open) = &model.open else { return };
    let Screen::Label(label) = &mut model.screen else { return };
    if let Some(card) = Card::of(open, pair, model.clock_ms) {
        label.card = Some(card);
    }
    refresh(model);
}

fn show_next(model: &mut Model) {
    if let Screen::Label(label) = &mut model.screen {
        label.card = None;
    }
    refresh(model);
}

/// Does what a key asks for.
pub fn act(model: &mut Model, action: Action) -> Vec<Effect> {
    match action {
        Action::Prefer(pane, strength) => return judge(model, Said::Prefer(pane, strength)),
        Action::Tie => return judge(model, Said::Flat(Choice::Tie)),
        Action::BothBad => return judge(model, Said::Flat(Choice::BothBad)),
        Action::Skip => return judge(model, Said::Flat(Choice::Skip)),
        Action::Undo => return undo(model),
        Action::Redo => return redo(model),
        Action::Note => ask_note(model),
        Action::Edit => ask_correction(model),
        Action::TurnOrder => turn_order(model),
        Action::GoTo => ask_pair(model, |_| true),
        _ => {}
    }
    let size = model.size;
    let Screen::Label(label) = &mut model.screen else { return Vec::new() };
    let Some(card) = &mut label.card else { return Vec::new() };
    match action {
        Action::ScrollDown => card.scroll_by(1),
        Action::ScrollUp => card.scroll_by(-1),
        Action::PageDown => card.scroll_by(card.page()),
        Action::PageUp => card.scroll_by(-card.page()),
        Action::SwapPane => {
            card.focus = card.focus.other();
            card.lay_out(size, label.zoom);
        }
        Action::Zoom => {
            label.zoom = !label.zoom;
            card.lay_out(size, label.zoom);
        }
        Action::Diff => {
            label.diff = !label.diff;
            if label.diff {
                card.compare();
            }
        }
        Action::NextDifference => {
            label.diff = true;
            card.compare();
            if !card.to_next_difference() {
                model.say("no further difference");
            }
        }
        _ => {}
    }
    Vec::new()
}

/// A decision as it was pressed: in terms of the screen.
#[derive(Clone, Copy)]
enum Said {
    Prefer(Pane, Strength),
    Flat(Choice),
}

fn judge(model: &mut Model, said: Said) -> Vec<Effect> {
    if !flow::writable(model) {
        return Vec::new();
    }
    let Screen::Label(label) = &model.screen else { return Vec::new() };
    let Some(card) = &label.card else {
        model.warn("no pair to judge");
        return Vec::new();
    };
    let ms = model.clock_ms.saturating_sub(card.shown_ms);
    if ms < GUARD_MS {
        model.warn("that key came with the pair itself and was not taken: once more");
        return Vec::new();
    }
    let (choice, winner) = match said {
        Said::Prefer(pane, strength) => {
            let side = card.side(pane);
            (Choice::Prefer(side, strength), Some(card.raw_hash(pane)))
        }
        Said::Flat(choice) => (choice, None),
    };
    let (pair, left, seen) = (card.pair.clone(), card.left, card.seen());
    let Some(open) = &mut model.open else { return Vec::new() };
    let verdict = Verdict { pair, rater: open.rater.clone(), choice, left, seen, ms, winner_hash: winner };
    let effects = open.write(&SessionRecord::Judged(verdict));
    show_next(model);
    effects
}

fn undo(model: &mut Model) -> Vec<Effect> {
    take_back(model, true)
}

fn redo(model: &mut Model) -> Vec<Effect> {
    take_back(model, false)
}

fn take_back(model: &mut Model, back: bool) -> Vec<Effect> {
    if !flow::writable(model) {
        return Vec::new();
    }
    let Some(open) = &mut model.open else { return Vec::new() };
    let of = if back { open.session.undoable(&open.rater) } else { open.session.redoable(&open.rater) };
    let Some(of) = of else {
        model.say(if back { "Nothing to undo." } else { "Nothing to redo." });
        return Vec::new();
    };
    if let Some(pair) = open.session.correction_at(of).map(|c| c.pair.clone()) {
        let effects = open.write(&if back { SessionRecord::Withdrawn { of } } else { SessionRecord::Restored { of } });
        // The pair that is on the screen stays as it was scrolled and read.
        let shown = matches!(&model.screen, Screen::Label(l) if l.card.as_ref().is_some_and(|card| card.pair == pair));
        if !shown {
            show_pair(model, &pair);
        }
        model.say(if back { "correction undone" } else { "correction redone" });
        return effects;
    }
    let pair = open.session.judged_pair(of).cloned();
    let effects = open.write(&if back { SessionRecord::Undone { of } } else { SessionRecord::Redone { of } });
    match pair {
        Some(pair) if back => show_pair(model, &pair),
        _ => show_next(model),
    }
    effects
}

/// Takes the pairs in the other order, beginning with the next one.
fn turn_order(model: &mut Model) {
    let Some(open) = &mut model.open else { return };
    let said = match open.order {
        QueueOrder::Uncertain => "pairs come as they arrived".to_owned(),
        QueueOrder::Arrival => {
            let of_queue =
                |pair: &&PairId| open.session.pair(pair).is_some_and(|p| open.session.score_gap(p).is_some());
            match open.queue.iter().filter(of_queue).count() {
                0 => {
                    let name = open.meta.name.clone();
                    return model.warn(format!(
                        "no pair left to judge has scores: `tiebreak score {name} --with RUN` gives them"
                    ));
                }
                n => format!("the pairs whose scores differ least come first: {n} of {} have scores", open.queue.len()),
            }
        }
    };
    open.order = match open.order {
        QueueOrder::Arrival => QueueOrder::Uncertain,
        QueueOrder::Uncertain => QueueOrder::Arrival,
    };
    model.order = open.order;
    open.requeue();
    show_next(model);
    model.say(said);
}

fn ask_note(model: &mut Model) {
    if !flow::writable(model) {
        return;
    }
    let (Some(open), Screen::Label(label)) = (&model.open, &model.screen) else { return };
    let Some(card) = &label.card else { return };
    let old = open.session.note_of(&card.pair, &open.rater).unwrap_or_default().to_owned();
    let pair = card.pair.clone();
    flow::input(model, "a note on this pair", "empty removes it", Ask::Note { pair }, &old);
}

/// Takes a note.
pub fn take_note(model: &mut Model, pair: PairId, text: String) -> Vec<Effect> {
    let Some(open) = &mut model.open else { return Vec::new() };
    let rater = open.rater.clone();
    open.write(&SessionRecord::Noted { pair, rater, text })
}

fn ask_correction(model: &mut Model) {
    if !flow::writable(model) {
        return;
    }
    let (Some(open), Screen::Label(label)) = (&model.open, &model.screen) else { return };
    let Some(card) = &label.card else { return };
    let completion = card.completion(card.focus).clone();
    let corrected = open.session.correction_of(&completion, &open.rater);
    let original = open.session.completion(&completion).map(|c| c.text.as_str());
    let text = corrected.or(original).unwrap_or_default().to_owned();
    let title = match corrected {
        Some(_) => format!("your correction of answer {}", card.focus.number()),
        None => format!("a better version of answer {}", card.focus.number()),
    };
    let ask = Ask::Correct { pair: card.pair.clone(), completion };
    model.popups.push(Popup::Input(Input {
        title,
        hint: "ctrl-s saves, esc cancels, ctrl-x withdraws your correction".into(),
        buffer: EditBuffer::text_of(text),
        ask,
        error: None,
    }));
}

/// Saves a correction, exactly as it was typed. The answer's own text, or none, withdraws an earlier one.
pub fn take_correction(model: &mut Model, pair: PairId, completion: CompletionId, text: String) -> Vec<Effect> {
    let Some(open) = &mut model.open else { return Vec::new() };
    let original = open.session.completion(&completion).map(|c| c.text.as_str());
    if original == Some(text.as_str()) || text.trim().is_empty() {
        return withdraw(model, pair, completion);
    }
    if open.session.correction_of(&completion, &open.rater) == Some(text.as_str()) {
        model.say("nothing changed");
        return Vec::new();
    }
    let rater = open.rater.clone();
    let effects = open.write(&SessionRecord::Corrected { pair, completion, rater, text });
    model.say("correction saved; u undoes it");
    effects
}

/// Withdraws the corrections of an answer.
pub fn withdraw(model: &mut Model, pair: PairId, completion: CompletionId) -> Vec<Effect> {
    let Some(open) = &mut model.open else { return Vec::new() };
    if open.session.correction_of(&completion, &open.rater).is_none() {
        model.say("nothing changed: this answer has no correction of yours");
        return Vec::new();
    }
    let rater = open.rater.clone();
    let effects = open.write(&SessionRecord::Corrected { pair, completion, rater, text: String::new() });
    model.say("correction withdrawn; u brings it back");
    effects
}

/// Asks for one of the pairs that `among` takes, and shows it.
pub fn ask_pair(model: &mut Model, among: impl Fn(&PairId) -> bool) {
    let Some(open) = &model.open else { return };
    let entries = open.session.pairs().iter().filter(|pair| among(&pair.id)).filter_map(|pair| {
        let prompt = open.session.prompt(&pair.prompt)?;
        let said = open.session.verdict_of(&pair.id, &open.rater).map(|(_, verdict)| score::words(verdict));
        Some(Entry {
            title: format!("{}  {}", pair.prompt, clip(&presentable(prompt.body.headline()), 60)),
            detail: said.unwrap_or_default(),
            pick: Pick::Pair(pair.id.clone()),
        })
    });
    let palette = Palette::new("which pair", entries.collect());
    model.popups.push(Popup::Palette(palette));
}

/// Which completion stands first: the same for the same pair and rater, and as good as random over pairs.
#[must_use]
pub fn first_side(pair: &PairId, rater: &crate::domain::Rater) -> crate::domain::Side {
    let key = format!("{pair}\u{0}{rater}");
    if hash64(key.as_bytes()) & 1 == 0 { crate::domain::Side::A } else { crate::domain::Side::B }
}
