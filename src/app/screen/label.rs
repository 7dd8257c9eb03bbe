//! Labelling pairs: one pair on the screen, one key for a verdict, then the next pair.
//!
//! Owns what is shown and what was read. The sides are blind and pseudo-random: a pure function of pair and rater.

mod card;
mod prompt;
mod read;
mod reading;
mod score;
mod thought;

pub use crate::app::blind::first_side;
pub use card::{Card, CardLayout, Pane};
pub use prompt::{PromptView, ShownTurn};
pub use read::ReadAction;
pub use reading::{AnswerView, ShownText, TextLine};
pub use score::{Stats, history, sampler, stats, verdict_words};
pub use thought::{Thought, thoughts};

use crate::app::contract::Screen;
use crate::app::edit::EditBuffer;
use crate::app::effect::Effect;
use crate::app::flow;
use crate::app::goal::{Goal, Next, Show};
use crate::app::key::{Code, Key};
use crate::app::keymap::{Section, c, k, on};
use crate::app::open::OpenSession;
use crate::app::palette::Pick;
use crate::app::popup::{InputPurpose, Popup, PopupAnswer, TextInput};
use crate::app::shared::Shared;
use crate::domain::{Adjudication, Choice, CompletionId, PairId, QueueOrder, Strength, Verdict, counted};
use crate::protocol::SessionRecord;

/// A verdict sooner than this after a pair appears is ignored as key repeat.
pub const GUARD_MS: u64 = 250;

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

/// The actions of its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LabelAction {
    /// The answer in this pane is better.
    Prefer(Pane, Strength),
    /// Neither is better.
    Tie,
    /// Neither is acceptable.
    BothBad,
    /// Decide later.
    Skip,
    /// Undo the last verdict.
    Undo,
    /// Redo what was undone.
    Redo,
    /// Write a note on the pair.
    Note,
    /// Correct the focused answer.
    Edit,
    /// Show which words differ.
    Diff,
    /// Go to the next difference.
    NextDifference,
    /// Focus the other answer.
    SwapPane,
    /// Show the focused answer alone.
    Zoom,
    /// Read, find or copy.
    Read(ReadAction),
    /// Switch the order of the queue.
    ToggleOrder,
    /// Scroll both answers a line down.
    ScrollDown,
    /// Scroll both answers a line up.
    ScrollUp,
    /// Scroll both answers a page down.
    PageDown,
    /// Scroll both answers a page up.
    PageUp,
    /// Ask how to sample and start.
    Sample,
    /// Ask for a file and import it.
    Import,
    /// Go to another screen of the session.
    Go(&'static str),
    /// Go back to the sessions.
    Back,
}

const NO_PAIR_SECTION: usize = 1;

#[rustfmt::skip]
const KEYS: &[Section<LabelAction>] = &[
    Section { title: "label", rows: &[
        on(c('1'), LabelAction::Prefer(Pane::First, Strength::Better), "better", "the first answer is better").named("1 better").verdict(),
        on(c('2'), LabelAction::Prefer(Pane::Second, Strength::Better), "better", "the second answer is better").named("2 better").verdict(),
        on(c('!'), LabelAction::Prefer(Pane::First, Strength::Much), "much", "the first answer is much better").named("1 much better").verdict(),
        on(c('@'), LabelAction::Prefer(Pane::Second, Strength::Much), "much", "the second answer is much better").named("2 much better").verdict(),
        on(c('0'), LabelAction::Tie, "tie", "neither is better").verdict(),
        on(c('b'), LabelAction::BothBad, "both bad", "neither is acceptable").verdict(),
        on(c(' '), LabelAction::Skip, "skip", "decide later: the pair comes back"),
        on(c('u'), LabelAction::Undo, "undo", "undo the last verdict or correction"),
        on(c('d'), LabelAction::Diff, "diff", "mark the words that differ"),
        on(c(','), LabelAction::Prefer(Pane::First, Strength::Slight), "slightly", "the first answer is slightly better").named("1 slightly better").verdict(),
        on(c('.'), LabelAction::Prefer(Pane::Second, Strength::Slight), "slightly", "the second answer is slightly better").named("2 slightly better").verdict(),
        on(Key::ctrl('r'), LabelAction::Redo, "", "redo what was undone").named("redo"),
        on(c(']'), LabelAction::NextDifference, "", "scroll to the next difference").named("next difference"),
        on(c('j'), LabelAction::ScrollDown, "", "scroll both answers down").named("scroll down"),
        on(c('k'), LabelAction::ScrollUp, "", "scroll both answers up").named("scroll up"),
        on(k(Code::Down), LabelAction::ScrollDown, "", "scroll both answers down"),
        on(k(Code::Up), LabelAction::ScrollUp, "", "scroll both answers up"),
        on(k(Code::PageDown), LabelAction::PageDown, "", "scroll both answers a page down").named("page down"),
        on(k(Code::PageUp), LabelAction::PageUp, "", "scroll both answers a page up").named("page up"),
        on(k(Code::Tab), LabelAction::SwapPane, "", "focus the other answer").named("focus"),
        on(c('z'), LabelAction::Zoom, "", "show the focused answer alone, or both").named("zoom"),
        on(c('e'), LabelAction::Edit, "", "correct the focused answer").named("edit"),
        on(c('n'), LabelAction::Note, "", "write a note on this pair").named("note"),
        on(c('J'), LabelAction::Read(ReadAction::PromptDown), "", "scroll the prompt down").named("prompt down"),
        on(c('K'), LabelAction::Read(ReadAction::PromptUp), "", "scroll the prompt up").named("prompt up"),
        on(c('p'), LabelAction::Read(ReadAction::Expand), "", "give the prompt most of the screen, or take it back").named("expand prompt"),
        on(c('R'), LabelAction::Read(ReadAction::Raw), "", "show Markdown as written, or rendered").named("raw"),
        on(c('h'), LabelAction::Read(ReadAction::Thoughts), "", "unfold the answers' thoughts, or fold them").named("thoughts"),
        on(c('/'), LabelAction::Read(ReadAction::Find), "find", "find in prompts, answers, corrections and notes"),
        on(c('y'), LabelAction::Read(ReadAction::CopyAnswer), "copy", "copy the focused answer as the model wrote it"),
        on(c('Y'), LabelAction::Read(ReadAction::CopyPrompt), "", "copy the prompt").named("copy prompt"),
        on(c('g'), LabelAction::Read(ReadAction::GoTo), "", "go to any pair, labelled ones too").named("go to pair"),
        on(c('o'), LabelAction::ToggleOrder, "", "order of arrival, or least certain scores first").named("order"),
        on(c('s'), LabelAction::Sample, "", "sample answers in the background").named("sample"),
        on(c('t'), LabelAction::Go("launch"), "", "launch a training run on the verdicts").named("launch"),
        on(c('w'), LabelAction::Go("watch"), "", "watch the session's runs").named("watch"),
        on(c('r'), LabelAction::Go("replay"), "", "replay the session").named("replay"),
        on(c('i'), LabelAction::Import, "", "import prompts or pairs from a file").named("import"),
        on(k(Code::Esc), LabelAction::Back, "", "back to the sessions").named("home"),
    ] },
    Section { title: "label, no pair left", rows: &[
        on(c('s'), LabelAction::Sample, "sample", "sample answers in the background"),
        on(c('i'), LabelAction::Import, "import", "import prompts or pairs from a file"),
        on(c('t'), LabelAction::Go("launch"), "train", "launch a training run on the verdicts"),
        on(c('w'), LabelAction::Go("watch"), "watch", "watch the session's runs"),
        on(c('u'), LabelAction::Undo, "undo", "undo the last verdict or correction"),
        on(k(Code::Esc), LabelAction::Back, "sessions", "back to the sessions"),
    ] },
];

impl Screen for LabelScreen {
    type Action = LabelAction;

    const NAME: &'static str = "label";
    const KEYS: &'static [Section<LabelAction>] = KEYS;

    /// Shows the next pair, and a popup over it if `show` asks for one.
    fn open(shared: &mut Shared, show: Show) -> (Self, Vec<Effect>) {
        let mut label = Self::default();
        refresh(&mut label, shared);
        match show {
            Show::Sample => flow::ask_sample(shared),
            Show::Import => flow::ask_import(shared),
            Show::Pairs(pairs) => match pairs.as_slice() {
                [pair] => show_pair(&mut label, shared, pair),
                pairs => read::ask_pair(shared, |pair| pairs.contains(pair)),
            },
            Show::Default | Show::Run(_) | Show::Speed(_) => {}
        }
        (label, Vec::new())
    }

    fn act(&mut self, shared: &mut Shared, action: LabelAction) -> Next {
        match action {
            LabelAction::Sample => flow::ask_sample(shared),
            LabelAction::Import => flow::ask_import(shared),
            LabelAction::Go(screen) => return Next::go(Goal::to(screen)),
            LabelAction::Back => return Next::go(Goal::to("home")),
            _ => return act(self, shared, action).into(),
        }
        Next::default()
    }

    /// Without a pair, the keys that lead to one matter.
    fn section(&self, _shared: &Shared) -> usize {
        if self.card.is_none() { NO_PAIR_SECTION } else { 0 }
    }

    fn footer_word(&self, shared: &Shared, action: LabelAction, word: &'static str) -> Option<&'static str> {
        let matters = self.card.is_some() || shared.open.as_ref().is_some_and(|open| works_without_pair(open, action));
        matters.then_some(word)
    }

    fn refresh(&mut self, shared: &mut Shared) -> Vec<Effect> {
        refresh(self, shared);
        Vec::new()
    }

    fn on_answer(&mut self, shared: &mut Shared, answer: PopupAnswer) -> Next {
        match answer {
            PopupAnswer::Picked(Pick::Pair(pair)) => show_pair(self, shared, &pair),
            PopupAnswer::Found(found) => {
                show_pair(self, shared, &found.pair);
                if let Some(card) = &self.card {
                    self.view.unfolded |= read::is_in_thought(card, shared, &found);
                }
                refresh(self, shared);
                if let Some(card) = &mut self.card {
                    read::reveal(card, shared, &found);
                }
            }
            PopupAnswer::Typed(input) => match input.purpose.clone() {
                InputPurpose::Note { pair } => {
                    return save_note(shared, pair, input.buffer.text().trim().to_owned()).into();
                }
                InputPurpose::Correct { pair, completion } => {
                    return save_correction(shared, pair, completion, input.buffer.text().to_owned()).into();
                }
                _ => {}
            },
            PopupAnswer::Withdrawn(input) => {
                if let InputPurpose::Correct { pair, completion } = input.purpose {
                    return withdraw(shared, pair, completion).into();
                }
            }
            _ => {}
        }
        Next::default()
    }
}

/// Whether an action has an effect without a pair to label.
fn works_without_pair(open: &OpenSession, action: LabelAction) -> bool {
    match action {
        LabelAction::Sample => !open.session.prompts().is_empty(),
        LabelAction::Go("launch") => {
            let session = &open.session;
            !session.imported_texts().is_empty()
                || !session.imported_ratings().is_empty()
                || session.verdicts().any(|(_, judged)| !judged.undone)
        }
        LabelAction::Undo => open.session.undoable(&open.rater).is_some(),
        LabelAction::Go("watch") => !open.runs.is_empty(),
        _ => true,
    }
}

/// Shows the next pair if none is shown, and lays it out for the current size.
fn refresh(label: &mut LabelScreen, model: &Shared) {
    let Some(open) = &model.open else { return };
    // Before all logs are read, a labelled pair may still be in the queue.
    if label.card.is_none()
        && open.loaded
        && let Some(next) = open.queue.first()
    {
        label.card = Card::of(open, next, model.clock_ms);
    }
    if let Some(card) = &mut label.card {
        // Differences are marked in the text as written.
        card.set_view(AnswerView { raw: label.view.raw || label.diff, ..label.view });
        card.lay_out(model.size, label.zoom);
        if label.diff {
            card.compute_diff();
        }
    }
}

/// Shows a pair, labelled or not.
fn show_pair(label: &mut LabelScreen, model: &Shared, pair: &PairId) {
    let Some(open) = &model.open else { return };
    if let Some(card) = Card::of(open, pair, model.clock_ms) {
        label.card = Some(card);
    }
    refresh(label, model);
}

fn show_next(label: &mut LabelScreen, model: &Shared) {
    label.card = None;
    refresh(label, model);
}

/// Runs an action that needs no other screen.
fn act(label: &mut LabelScreen, model: &mut Shared, action: LabelAction) -> Vec<Effect> {
    match action {
        LabelAction::Prefer(pane, strength) => return judge(label, model, Decision::Prefer(pane, strength)),
        LabelAction::Tie => return judge(label, model, Decision::Flat(Choice::Tie)),
        LabelAction::BothBad => return judge(label, model, Decision::Flat(Choice::BothBad)),
        LabelAction::Skip => return judge(label, model, Decision::Flat(Choice::Skip)),
        LabelAction::Undo => return undo(label, model),
        LabelAction::Redo => return redo(label, model),
        LabelAction::Note => ask_note(label, model),
        LabelAction::Edit => ask_correction(label, model),
        LabelAction::ToggleOrder => toggle_order(label, model),
        LabelAction::Read(action) => {
            let effects = read::act(label.card.as_mut(), &mut label.view, label.diff, model, action);
            refresh(label, model);
            return effects;
        }
        _ => {}
    }
    let size = model.size;
    let Some(card) = &mut label.card else { return Vec::new() };
    match action {
        LabelAction::ScrollDown => card.scroll_by(1),
        LabelAction::ScrollUp => card.scroll_by(-1),
        LabelAction::PageDown => card.scroll_by(card.page()),
        LabelAction::PageUp => card.scroll_by(-card.page()),
        LabelAction::SwapPane => {
            card.focus = card.focus.other();
            card.lay_out(size, label.zoom);
        }
        LabelAction::Zoom => {
            label.zoom = !label.zoom;
            card.lay_out(size, label.zoom);
        }
        LabelAction::Diff => {
            label.diff = !label.diff;
            refresh(label, model);
        }
        LabelAction::NextDifference => {
            label.diff = true;
            refresh(label, model);
            if !label.card.as_mut().is_some_and(Card::to_next_difference) {
                model.say("no further difference");
            }
        }
        _ => {}
    }
    Vec::new()
}

/// A decision in terms of the screen: panes, not sides.
#[derive(Clone, Copy)]
enum Decision {
    Prefer(Pane, Strength),
    Flat(Choice),
}

fn judge(label: &mut LabelScreen, model: &mut Shared, decision: Decision) -> Vec<Effect> {
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
    let rater = open.rater.clone();
    let record = match (open.order, choice) {
        // A skip would replace this rater's own vote.
        (QueueOrder::Disputed, Choice::Skip) => {
            model.warn("A dispute cannot be skipped: decide it, or press o for the other pairs.");
            return Vec::new();
        }
        (QueueOrder::Disputed, _) => SessionRecord::Adjudicated(Adjudication { pair, rater, choice }),
        _ => SessionRecord::Judged(Verdict { pair, rater, choice, left, seen, ms, winner_hash: winner }),
    };
    let effects = open.write(&record);
    show_next(label, model);
    effects
}

fn undo(label: &mut LabelScreen, model: &mut Shared) -> Vec<Effect> {
    undo_or_redo(label, model, true)
}

fn redo(label: &mut LabelScreen, model: &mut Shared) -> Vec<Effect> {
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
        if !shown {
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
fn toggle_order(label: &mut LabelScreen, model: &mut Shared) {
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

fn ask_note(label: &LabelScreen, model: &mut Shared) {
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
fn save_note(model: &mut Shared, pair: PairId, text: String) -> Vec<Effect> {
    let Some(open) = &mut model.open else { return Vec::new() };
    let rater = open.rater.clone();
    open.write(&SessionRecord::Noted { pair, rater, text })
}

fn ask_correction(label: &LabelScreen, model: &mut Shared) {
    if !flow::writable(model) {
        return;
    }
    let (Some(open), Some(card)) = (&model.open, &label.card) else { return };
    let completion = card.completion(card.focus).clone();
    let corrected = open.session.correction_of(&completion, &open.rater);
    let original = open.session.completion(&completion).map(|c| c.text.as_str());
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
fn save_correction(model: &mut Shared, pair: PairId, completion: CompletionId, text: String) -> Vec<Effect> {
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

/// Withdraws the correction of an answer.
fn withdraw(model: &mut Shared, pair: PairId, completion: CompletionId) -> Vec<Effect> {
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
