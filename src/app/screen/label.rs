//! Labelling pairs: one pair on the screen, one key for a verdict, then the next pair.
//!
//! Owns what is shown and what was read. The sides are blind and pseudo-random: a pure function of pair and rater.

mod asking;
mod card;
mod correct;
mod decide;
mod growth;
mod parts;
mod prompt;
mod read;
mod reading;
mod score;
mod state;

pub use crate::app::blind::first_side;
pub use asking::Awaited;
pub use card::{Card, CardLayout, Pane};
pub use parts::Writing;
pub use prompt::{PromptView, ShownTurn};
pub use read::ReadAction;
pub use reading::{AnswerView, ShownText, TextLine};
pub use score::{Stats, history, sampler, stats, verdict_words};
pub use state::LabelScreen;

use crate::app::contract::Screen;
use crate::app::effect::Effect;
use crate::app::flow;
use crate::app::goal::{Goal, Next, Show};
use crate::app::key::{Code, Key};
use crate::app::keymap::{Section, c, k, on};
use crate::app::open::OpenSession;
use crate::app::palette::Pick;
use crate::app::popup::{InputPurpose, PopupAnswer};
use crate::app::shared::Shared;
use crate::domain::{Choice, QueueOrder, Strength};
use correct::{ask_correction, ask_note, save_correction, save_note, withdraw};
use decide::{PaneDecision, judge, redo, undo};
use state::{refresh, show_pair};

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
    /// Show the original of a corrected answer, or the correction.
    Original,
    /// Rank all answers to the prompt.
    Rank,
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
    /// Label the pairs that match a filter.
    Filter,
    /// Set or take off the prompt's tags.
    Tag,
    /// Choose the criterion to judge by.
    Criterion,
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
        on(c('H'), LabelAction::Prefer(Pane::First, Strength::Much), "much", "the first answer is much better").named("1 much better").verdict(),
        on(c('L'), LabelAction::Prefer(Pane::Second, Strength::Much), "much", "the second answer is much better").named("2 much better").verdict(),
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
        on(c('v'), LabelAction::Original, "", "the original of a corrected answer, or the correction").named("original"),
        on(c('B'), LabelAction::Rank, "", "pick the best of all answers to this prompt, or rank them").named("best of"),
        on(c('n'), LabelAction::Note, "", "write a note on this pair").named("note"),
        on(c('J'), LabelAction::Read(ReadAction::PromptDown), "", "scroll the prompt down").named("prompt down"),
        on(c('K'), LabelAction::Read(ReadAction::PromptUp), "", "scroll the prompt up").named("prompt up"),
        on(c('p'), LabelAction::Read(ReadAction::Expand), "", "give the prompt most of the screen, or take it back").named("expand prompt"),
        on(c('R'), LabelAction::Read(ReadAction::Raw), "", "show Markdown as written, or rendered").named("raw"),
        on(c('m'), LabelAction::Read(ReadAction::Thoughts), "", "unfold the answers' thoughts, or fold them").named("thoughts"),
        on(c('/'), LabelAction::Read(ReadAction::Find), "find", "search prompts, answers, corrections and notes"),
        on(c('y'), LabelAction::Read(ReadAction::CopyAnswer), "copy", "copy the focused answer as it was written"),
        on(c('Y'), LabelAction::Read(ReadAction::CopyPrompt), "", "copy the prompt").named("copy prompt"),
        on(c('g'), LabelAction::Read(ReadAction::GoTo), "", "go to any pair, labelled ones too").named("go to pair"),
        on(c('o'), LabelAction::ToggleOrder, "", "arrival, least certain first, contested labels, disputes").named("order"),
        on(c('f'), LabelAction::Filter, "", "label only the pairs that match a filter").named("filter"),
        on(c('T'), LabelAction::Tag, "", "set the prompt's tags").named("tags"),
        on(c('c'), LabelAction::Criterion, "", "choose or add a criterion to judge by").named("criterion"),
        on(c('s'), LabelAction::Go("sample"), "", "sample answers in the background").named("sample"),
        on(c('P'), LabelAction::Go("pair"), "", "choose pairs among the answers by a strategy").named("pair"),
        on(c('M'), LabelAction::Go("score"), "", "let a trained run or a judge model score or judge").named("score"),
        on(c('t'), LabelAction::Go("launch"), "", "launch a training run on the verdicts").named("launch"),
        on(c('w'), LabelAction::Go("watch"), "", "watch the session's runs").named("watch"),
        on(c('A'), LabelAction::Go("agreement"), "", "agreement between raters, and the disputes").named("agreement"),
        on(c('E'), LabelAction::Go("evaluate"), "", "compare two models: evaluations of the session").named("evaluate"),
        on(c('O'), LabelAction::Go("loop"), "", "rounds of sampling, judging, training, evaluation").named("loop"),
        on(c('r'), LabelAction::Go("replay"), "", "replay the session").named("replay"),
        on(c('i'), LabelAction::Import, "", "import prompts or pairs from a file").named("import"),
        on(k(Code::Esc), LabelAction::Back, "", "back to the sessions").named("home"),
    ] },
    Section { title: "label, no pair left", rows: &[
        on(c('s'), LabelAction::Go("sample"), "sample", "sample answers in the background"),
        on(c('P'), LabelAction::Go("pair"), "pair", "choose pairs among the answers by a strategy"),
        on(c('i'), LabelAction::Import, "import", "import prompts or pairs from a file"),
        on(c('t'), LabelAction::Go("launch"), "train", "launch a training run on the verdicts"),
        on(c('w'), LabelAction::Go("watch"), "watch", "watch the session's runs"),
        on(c('u'), LabelAction::Undo, "undo", "undo the last verdict or correction"),
        on(c('o'), LabelAction::ToggleOrder, "disputes", "settle the disputes, or label the other pairs"),
        on(c('f'), LabelAction::Filter, "", "change or clear the filter").named("filter"),
        on(c('c'), LabelAction::Criterion, "", "choose or add a criterion to judge by").named("criterion"),
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
            Show::Import => flow::ask_import(shared),
            Show::Pairs(pairs) => match pairs.as_slice() {
                [pair] => show_pair(&mut label, shared, pair),
                pairs => read::ask_pair(shared, |pair| pairs.contains(pair)),
            },
            Show::Said(text) => shared.say(text),
            Show::Default | Show::Run(_) | Show::Speed(_) | Show::Prompt(_) => {}
        }
        (label, Vec::new())
    }

    fn act(&mut self, shared: &mut Shared, action: LabelAction) -> Next {
        match action {
            LabelAction::Import => flow::ask_import(shared),
            LabelAction::Rank => return decide::to_ranking(self, shared),
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
        let open = shared.open.as_ref();
        // A skip would replace this rater's own vote.
        if action == LabelAction::Skip && open.is_some_and(|open| open.order == QueueOrder::Disputed) {
            return None;
        }
        if action == LabelAction::ToggleOrder && open.is_some_and(|open| open.order == QueueOrder::Disputed) {
            return Some("other pairs");
        }
        let matters = self.card.is_some() || open.is_some_and(|open| works_without_pair(open, action));
        matters.then_some(word)
    }

    fn is_decision(action: LabelAction) -> bool {
        use LabelAction::{BothBad, Prefer, Skip, Tie};
        matches!(action, Prefer(..) | Tie | BothBad | Skip)
    }

    fn refresh(&mut self, shared: &mut Shared) -> Vec<Effect> {
        state::follow_growth(self, shared);
        state::take_over(self, shared);
        refresh(self, shared);
        Vec::new()
    }

    fn on_answer(&mut self, shared: &mut Shared, answer: PopupAnswer) -> Next {
        let next = answered(self, shared, answer);
        refresh(self, shared);
        next
    }
}

/// Handles a popup's answer.
fn answered(label: &mut LabelScreen, shared: &mut Shared, answer: PopupAnswer) -> Next {
    match answer {
        PopupAnswer::Picked(Pick::Pair(pair)) => show_pair(label, shared, &pair),
        PopupAnswer::Found(found) => {
            show_pair(label, shared, &found.pair);
            if let Some(card) = &label.card {
                label.view.unfolded |= read::is_in_thought(card, shared, &found);
            }
            refresh(label, shared);
            if let Some(card) = &mut label.card {
                read::reveal(card, shared, &found);
            }
        }
        PopupAnswer::Picked(Pick::Rubric(rubric)) => {
            asking::set_rubric(shared, rubric);
            state::await_queue(label, shared, None);
        }
        PopupAnswer::Picked(Pick::NewCriterion) => asking::ask_criterion(shared),
        PopupAnswer::Typed(input) => match input.purpose.clone() {
            InputPurpose::Criterion => {
                let effects = asking::save_criterion(shared, input);
                label.card = effects.is_empty().then(|| label.card.take()).flatten();
                return effects.into();
            }
            InputPurpose::Note { pair } => {
                return save_note(shared, pair, input.buffer.text().trim().to_owned()).into();
            }
            InputPurpose::Correct { pair, completion } => {
                return save_correction(shared, pair, completion, input.buffer.text().to_owned()).into();
            }
            InputPurpose::Filter if asking::set_filter(shared, input.clone()) => {
                state::await_queue(label, shared, Some(Awaited::Filter));
            }
            InputPurpose::Tags { prompt, .. } => {
                let effects = asking::save_tags(shared, &prompt, input);
                asking::show_tags(label.card.as_mut(), shared);
                return effects.into();
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

/// Whether an action has an effect without a pair to label.
fn works_without_pair(open: &OpenSession, action: LabelAction) -> bool {
    match action {
        LabelAction::Go("sample") => !open.session.prompts().is_empty(),
        LabelAction::Go("launch") => {
            let session = &open.session;
            !session.imported_texts().is_empty()
                || !session.imported_ratings().is_empty()
                || session.verdicts().any(|(_, judged)| !judged.undone)
        }
        LabelAction::Undo => open.session.undoable(&open.rater).is_some(),
        LabelAction::Go("watch") => !open.runs.is_empty(),
        LabelAction::ToggleOrder => open.order == QueueOrder::Disputed || !open.session.disputes().is_empty(),
        _ => true,
    }
}

/// Runs an action that needs no other screen.
fn act(label: &mut LabelScreen, model: &mut Shared, action: LabelAction) -> Vec<Effect> {
    match action {
        LabelAction::Prefer(pane, strength) => return judge(label, model, PaneDecision::Prefer(pane, strength)),
        LabelAction::Tie => return judge(label, model, PaneDecision::Flat(Choice::Tie)),
        LabelAction::BothBad => return judge(label, model, PaneDecision::Flat(Choice::BothBad)),
        LabelAction::Skip => return judge(label, model, PaneDecision::Flat(Choice::Skip)),
        LabelAction::Undo => return undo(label, model),
        LabelAction::Redo => return redo(label, model),
        LabelAction::Note => ask_note(label, model),
        LabelAction::Edit => ask_correction(label, model),
        LabelAction::Original => correct::toggle_original(label, model),
        LabelAction::ToggleOrder => {
            if let Some(awaited) = asking::toggle_order(model) {
                state::await_queue(label, model, Some(awaited));
            }
        }
        LabelAction::Filter => asking::ask_filter(model),
        LabelAction::Tag => asking::ask_tags(label.card.as_ref(), model),
        LabelAction::Criterion => asking::ask_rubric(model),
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
