//! All answers to one prompt: one key picks the best, or keys in order rank them.
//!
//! ```text
//!  week › rank                                              rater ana   ✓ saved
//! ── prompt p31 · 5 answers ──────────────────── a number picks the best ──
//!    What should I cook tonight?
//! ── 1 ─────────────────────────────────────────────────────── 60 tok ─
//!    Boil water …
//! ── 2 ───────────────────────────────────────────────────────────────
//!  ranked: 3 > 1 = 4 > …                         all read but 5
//! ```
//!
//! Owns the order in which answers are shown (a function of prompt and rater) and what was picked. The verdicts are on
//! pairs, as everywhere: best-of-K gives the best over each other answer, a ranking all pairs. They are undone together.

mod sheet;

pub use sheet::{MAX_ANSWERS, MIN_ANSWERS, RankAnswer, RankRow, RankSheet, Scroll, answers_to};

use crate::app::contract::Screen;
use crate::app::effect::Effect;
use crate::app::flow;
use crate::app::goal::{Goal, Next, Show};
use crate::app::key::Code;
use crate::app::keymap::{Section, c, k, on};
use crate::app::pace::{guarded_words, quick_words};
use crate::app::shared::Shared;
use crate::domain::counted;

/// The screen's state.
#[derive(Debug, Clone, Default)]
pub struct RankScreen {
    /// The answers; none without a prompt.
    pub sheet: Option<RankSheet>,
}

/// The actions of its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RankAction {
    /// This answer is the best, or the next in order.
    Pick(usize),
    /// The next answer ranks equal to the last one.
    Equal,
    /// Take the last ranked answer back.
    TakeBack,
    /// Rank all answers, or pick the best alone.
    Mode,
    /// Save the ranking.
    Save,
    /// Scroll to the next answer.
    NextAnswer,
    /// Scroll all answers.
    Scroll(Scroll),
    /// Back to labelling.
    Back,
}

#[rustfmt::skip]
const KEYS: &[Section<RankAction>] = &[Section { title: "rank", rows: &[
    on(c('1'), RankAction::Pick(0), "pick", "answer 1 is the best, or the next in order").named("pick 1").verdict(),
    on(c('2'), RankAction::Pick(1), "pick", "answer 2 is the best, or the next in order").named("pick 2").verdict(),
    on(c('3'), RankAction::Pick(2), "pick", "answer 3 is the best, or the next in order").named("pick 3").verdict(),
    on(c('4'), RankAction::Pick(3), "pick", "answer 4 is the best, or the next in order").named("pick 4").verdict(),
    on(c('5'), RankAction::Pick(4), "pick", "answer 5 is the best, or the next in order").named("pick 5").verdict(),
    on(c('6'), RankAction::Pick(5), "pick", "answer 6 is the best, or the next in order").named("pick 6").verdict(),
    on(c('7'), RankAction::Pick(6), "pick", "answer 7 is the best, or the next in order").named("pick 7").verdict(),
    on(c('8'), RankAction::Pick(7), "pick", "answer 8 is the best, or the next in order").named("pick 8").verdict(),
    on(c('9'), RankAction::Pick(8), "pick", "answer 9 is the best, or the next in order").named("pick 9").verdict(),
    on(k(Code::Enter), RankAction::Save, "save", "save the ranking").verdict(),
    on(c('r'), RankAction::Mode, "rank all", "rank all answers, or pick the best alone").named("mode"),
    on(c('='), RankAction::Equal, "equal", "the next answer ranks equal to the last one"),
    on(k(Code::Backspace), RankAction::TakeBack, "take back", "take the last ranked answer back"),
    on(k(Code::Tab), RankAction::NextAnswer, "next", "scroll to the next answer").named("next answer"),
    on(c('j'), RankAction::Scroll(Scroll::Down), "scroll", "scroll down").named("scroll down"),
    on(c('k'), RankAction::Scroll(Scroll::Up), "scroll", "scroll up").named("scroll up"),
    on(k(Code::Down), RankAction::Scroll(Scroll::Down), "", "scroll down"),
    on(k(Code::Up), RankAction::Scroll(Scroll::Up), "", "scroll up"),
    on(k(Code::PageDown), RankAction::Scroll(Scroll::PageDown), "", "a page down").named("page down"),
    on(k(Code::PageUp), RankAction::Scroll(Scroll::PageUp), "", "a page up").named("page up"),
    on(k(Code::Esc), RankAction::Back, "back", "back to labelling without a decision"),
] }];

impl Screen for RankScreen {
    type Action = RankAction;

    const NAME: &'static str = "rank";
    const KEYS: &'static [Section<RankAction>] = KEYS;

    /// Shows the answers to a prompt.
    fn open(shared: &mut Shared, show: Show) -> (Self, Vec<Effect>) {
        let mut rank = Self::default();
        if let (Show::Prompt(prompt), Some(open)) = (show, &shared.open) {
            rank.sheet = RankSheet::of(open, &prompt, shared.clock_ms);
        }
        Screen::refresh(&mut rank, shared);
        (rank, Vec::new())
    }

    fn act(&mut self, shared: &mut Shared, action: RankAction) -> Next {
        shared.touch();
        if action == RankAction::Back {
            return Next::go(Goal::to("label"));
        }
        let Some(sheet) = &mut self.sheet else {
            let key = shared.keys.key("label", "best of");
            shared.warn(format!("no prompt is chosen: open a pair of it on the label screen and press {key}"));
            return Next::default();
        };
        match action {
            RankAction::Scroll(how) => sheet.scroll(how),
            RankAction::NextAnswer => sheet.next_answer(),
            RankAction::Mode => {
                sheet.ranking = !sheet.ranking;
                sheet.clear();
            }
            RankAction::Equal if !sheet.ranking => shared.warn("equal ranks belong to a ranking, not to best-of"),
            RankAction::Equal if sheet.order.is_empty() => shared.warn("nothing is ranked yet: press a number first"),
            RankAction::Equal => sheet.equal = !sheet.equal,
            RankAction::TakeBack => {
                if sheet.take_back().is_none() {
                    shared.warn("nothing is ranked yet");
                }
            }
            RankAction::Pick(at) => match sheet.pick(at) {
                Err(why) => shared.warn(why),
                Ok(()) if !sheet.ranking => return save(self, shared),
                Ok(()) => {}
            },
            RankAction::Save if !sheet.ranking => shared.warn("press the number of the best answer"),
            RankAction::Save => return save(self, shared),
            RankAction::Back => {}
        }
        Next::default()
    }

    fn footer_word(&self, _shared: &Shared, action: RankAction, word: &'static str) -> Option<&'static str> {
        let ranking = self.sheet.as_ref().is_some_and(|sheet| sheet.ranking);
        let answers = self.sheet.as_ref().map_or(0, |sheet| sheet.answers.len());
        match action {
            RankAction::Pick(at) => (at < answers).then_some(word),
            RankAction::Equal | RankAction::TakeBack | RankAction::Save => ranking.then_some(word),
            RankAction::Mode if ranking => Some("best of"),
            _ => Some(word),
        }
    }

    fn is_decision(action: RankAction) -> bool {
        matches!(action, RankAction::Pick(_) | RankAction::Save)
    }

    fn refresh(&mut self, shared: &mut Shared) -> Vec<Effect> {
        if let Some(sheet) = &mut self.sheet {
            sheet.lay_out(shared.size);
        }
        Vec::new()
    }
}

/// Writes the pairs and verdicts, and goes back to labelling.
fn save(rank: &mut RankScreen, shared: &mut Shared) -> Next {
    let (now_ms, clock_ms) = (shared.now_ms, shared.clock_ms);
    if !flow::writable(shared) {
        return Next::default();
    }
    let (Some(sheet), Some(open)) = (&mut rank.sheet, &mut shared.open) else { return Next::default() };
    let after = clock_ms.saturating_sub(sheet.shown_ms);
    if after < shared.guard_ms {
        sheet.clear();
        let words = guarded_words(after, shared.guard_ms);
        shared.warn(words);
        return Next::default();
    }
    let records = match sheet.records(open, now_ms, clock_ms) {
        Ok(records) => records,
        Err(why) => {
            shared.warn(why);
            return Next::default();
        }
    };
    let verdicts = records.iter().filter(|record| record.is_act()).count();
    let what = if sheet.ranking { "ranking" } else { "best answer" };
    let effects = open.write_all(&records);
    let undo = shared.keys.key("label", "undo");
    let mut said = format!("{what} saved: {}; {undo} undoes all of it", counted(verdicts, "verdict"));
    if let Some(words) = quick_words(after, &undo) {
        said.push_str(". ");
        said.push_str(&words);
    }
    Next { effects, ..Next::go(Goal::with("label", Show::Said(said))) }
}
