//! The shown pair: its layout for the terminal's size, how much of it was on the screen, and where the answers differ.

use super::parts::{PairParts, Writing};
use super::prompt::PromptView;
use super::reading::{AnswerView, ShownText, TextLine};
use crate::app::blind::first_side;
use crate::app::diff::WordDiff;
use crate::app::open::OpenSession;
use crate::app::wrap::presentable;
use crate::domain::{Asked, CompletionId, PairId, PromptId, QueueOrder, Seen, Side, hash64};
use crate::domain::{Thought, giveaways, thoughts};

/// From this width on, the answers stand side by side.
const SIDE_BY_SIDE: u16 = 90;
/// Rows outside the body: header, status line, footer.
const FRAME: u16 = 3;
/// Margin left and right of a text, in total.
const MARGIN: u16 = 4;
/// Rows that an expanded prompt leaves to the answers, their rules included.
const BESIDE_PROMPT: u16 = 7;

/// One of the two panes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pane {
    /// Left or top.
    First,
    /// Right or bottom.
    Second,
}

impl Pane {
    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }

    /// 0 or 1.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::First => 0,
            Self::Second => 1,
        }
    }

    /// Its number on the screen and on the keyboard: 1 or 2.
    #[must_use]
    pub const fn number(self) -> usize {
        self.index() + 1
    }
}

/// The layout of the body, in rows and columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CardLayout {
    /// Rows of prompt text shown.
    pub prompt: u16,
    /// Whether the answers stand side by side.
    pub beside: bool,
    /// Columns of text in an answer.
    pub width: u16,
    /// Rows of text of each answer; 0 for one hidden by zoom.
    pub rows: [u16; 2],
}

/// The shown pair.
#[derive(Debug, Clone)]
pub struct Card {
    /// The pair.
    pub pair: PairId,
    /// Its prompt's id.
    pub prompt_id: PromptId,
    /// The prompt's tags.
    pub tags: Vec<String>,
    /// What is asked about it.
    pub asked: Asked,
    /// What the pair is called: `p31·2`.
    pub name: String,
    /// The prompt.
    pub prompt: PromptView,
    /// The completion in the first pane.
    pub left: Side,
    /// The answers, sanitised, first and second.
    pub text: [String; 2],
    /// The answers in the current view.
    pub shown: [ShownText; 2],
    /// Whether an answer ended at the limit of tokens.
    pub cut: [bool; 2],
    /// For a pair of an evaluation: the words in each answer that may tell who wrote it.
    pub giveaways: [Vec<&'static str>; 2],
    /// What there is of the answers while they are being written; none of a finished pair.
    pub writing: Option<Writing>,
    /// The answers' thoughts.
    pub thoughts: [Vec<Thought>; 2],
    /// Their lengths in tokens of the model; 0 if unknown.
    pub tokens: [usize; 2],
    /// When the pair appeared, on the model's monotonic clock.
    pub shown_ms: u64,
    /// The answer that `e` and `z` act on.
    pub focus: Pane,
    /// The answers' lines in the current view.
    pub lines: [Vec<TextLine>; 2],
    /// Lines scrolled off the top of each.
    pub scroll: [usize; 2],
    /// The layout.
    pub layout: CardLayout,
    /// The words that differ in the current view, once computed.
    pub diff: Option<WordDiff>,
    /// Whether corrected answers show as their model wrote them.
    pub originals: bool,
    /// Whether an answer shows as this rater corrected it.
    pub corrected: [bool; 2],
    /// Whether it is a dispute that is not decided yet: the rater's own earlier verdict would sway the decision.
    undecided: bool,
    pub(super) view: AnswerView,
    /// Bytes from the start of each answer that were on the screen.
    pub(super) read_to: [usize; 2],
    /// For each thought, up to which byte of the answer it was on the screen.
    pub(super) thought_read: [Vec<usize>; 2],
    completions: [CompletionId; 2],
    pub(super) hashes: [u64; 2],
}

/// Up to where a thought counts as read before it was on the screen: an empty one has nothing to read.
pub(super) fn unread(thought: &Thought) -> usize {
    if thought.words == 0 { thought.range.end } else { thought.range.start }
}

impl Card {
    /// The card of a pair, to judge it or to judge it anew; none if a part of it is missing.
    #[must_use]
    pub fn of(open: &OpenSession, pair: &PairId, clock_ms: u64) -> Option<Self> {
        Self::asking(open, pair, Asked::by(open.rubric.criterion()), clock_ms)
    }

    /// The card of a pair of the queue.
    #[must_use]
    pub fn next(open: &OpenSession, pair: &PairId, clock_ms: u64) -> Option<Self> {
        let asked = open.session.asks(pair, &open.rater, open.order, &open.rubric);
        Self::asking(open, pair, asked, clock_ms)
    }

    /// The card of a pair with a question. A repeat has its sides swapped.
    #[must_use]
    pub fn asking(open: &OpenSession, pair: &PairId, asked: Asked, clock_ms: u64) -> Option<Self> {
        let parts = PairParts::of(open, pair)?;
        let pair = parts.pair;
        let prompt = open.session.prompt(&pair.prompt)?;
        let left = first_side(&pair.id, &open.rater);
        let left = if asked.pass.is_multiple_of(2) { left } else { left.other() };
        let completions = parts.completions(left);
        let parts = parts.shown_from(left);
        let text = parts.text.map(presentable);
        let thoughts = [thoughts(&text[0]), thoughts(&text[1])];
        let blind = open.session.is_held_out(&pair.id);
        let giveaways = [0, 1].map(|i| if blind { giveaways(&prompt.body, &text[i]) } else { Vec::new() });
        let view = AnswerView::default();
        let decided = || open.session.adjudication_on(&pair.id, asked.criterion.as_deref()).is_some();
        let undecided = open.order == QueueOrder::Disputed && !decided();
        Some(Self {
            undecided,
            pair: pair.id.clone(),
            name: open.pair_name(&pair.id),
            prompt_id: prompt.id.clone(),
            tags: prompt.tags.iter().map(|tag| presentable(tag)).collect(),
            prompt: PromptView::of(&prompt.body),
            left,
            asked,
            shown: [0, 1].map(|i| ShownText::of(&text[i], &thoughts[i], view)),
            thought_read: [0, 1].map(|i| thoughts[i].iter().map(unread).collect()),
            cut: parts.cut,
            writing: Writing::of(&parts),
            giveaways,
            thoughts,
            text,
            view,
            tokens: parts.tokens,
            shown_ms: clock_ms,
            focus: Pane::First,
            lines: [Vec::new(), Vec::new()],
            scroll: [0, 0],
            layout: CardLayout::default(),
            diff: None,
            originals: false,
            corrected: [false, false],
            read_to: [0, 0],
            completions,
            hashes: parts.text.map(|text| hash64(text.as_bytes())),
        })
    }

    /// The completion in a pane.
    #[must_use]
    pub fn completion(&self, pane: Pane) -> &CompletionId {
        &self.completions[pane.index()]
    }

    /// The side of the pair in a pane.
    #[must_use]
    pub fn side(&self, pane: Pane) -> Side {
        match pane {
            Pane::First => self.left,
            Pane::Second => self.left.other(),
        }
    }

    /// Whether the rater is to judge it as if for the first time: nothing that the rater said of it is shown.
    #[must_use]
    pub fn is_unmarked(&self) -> bool {
        self.asked.pass > 0 || self.asked.review || self.undecided
    }

    /// The same pair with the next question: what was read of it stays read.
    #[must_use]
    pub fn with(self, next: &Self) -> Self {
        Self { asked: next.asked.clone(), shown_ms: next.shown_ms, ..self }
    }

    /// The hash of the text before sanitising.
    #[must_use]
    pub fn raw_hash(&self, pane: Pane) -> u64 {
        self.hashes[pane.index()]
    }

    /// Shows this rater's corrections, or the originals, and forgets what was read of a text that changed.
    pub fn follow_corrections(&mut self, open: &OpenSession) {
        for i in 0..2 {
            let correction = open.session.correction_of(&self.completions[i], &open.rater);
            let correction = correction.filter(|_| !self.originals && !self.is_unmarked());
            self.corrected[i] = correction.is_some();
            let original = || open.session.completion(&self.completions[i]).map(|c| &*c.text);
            let Some(text) = correction.or_else(original).map(presentable) else { continue };
            if text != self.text[i] {
                self.thoughts[i] = thoughts(&text);
                self.thought_read[i] = self.thoughts[i].iter().map(unread).collect();
                self.shown[i] = ShownText::of(&text, &self.thoughts[i], self.view);
                self.text[i] = text;
                self.read_to[i] = 0;
                self.scroll[i] = 0;
                self.lines = [Vec::new(), Vec::new()];
                self.diff = None;
            }
        }
    }

    /// Changes how the answers are shown. The first visible line of each stays; [`Card::lay_out`] must follow.
    pub fn set_view(&mut self, view: AnswerView) {
        if self.view == view {
            return;
        }
        self.view = view;
        for i in 0..2 {
            let top = self.lines[i].get(self.scroll[i]).map_or(0, |line| self.shown[i].to_source(line.range.start));
            self.shown[i] = ShownText::of(&self.text[i], &self.thoughts[i], view);
            if self.layout.width == 0 {
                continue;
            }
            self.lines[i] = self.shown[i].lines(usize::from(self.layout.width));
            self.scroll[i] = self.line_at(i, self.shown[i].to_shown(top));
        }
        if self.diff.take().is_some() {
            self.compute_diff();
        }
    }

    /// The line of an answer at a byte of its shown text.
    fn line_at(&self, i: usize, at: usize) -> usize {
        self.lines[i].iter().rposition(|line| line.range.start <= at).unwrap_or(0)
    }

    /// Lays the texts out for a terminal of this size, and marks what is on the screen as read.
    pub fn lay_out(&mut self, size: (u16, u16), zoom: bool) {
        let (w, h) = (size.0, size.1.saturating_sub(FRAME));
        let beside = w >= SIDE_BY_SIDE && !zoom;
        let width = if beside { (w - 1) / 2 } else { w }.saturating_sub(MARGIN).max(1);
        if self.layout.width != width || self.lines[0].is_empty() {
            // Keep the first visible line.
            let top = [0, 1].map(|i| self.lines[i].get(self.scroll[i]).map_or(0, |line| line.range.start));
            self.lines = [0, 1].map(|i| self.shown[i].lines(usize::from(width)));
            self.scroll = [0, 1].map(|i| self.line_at(i, top[i]));
        }
        let prompt = self.prompt.lay_out(usize::from(w.saturating_sub(MARGIN).max(1)), h, BESIDE_PROMPT);
        // One rule above the prompt and one above each answer; side by side, the answers share one.
        let need = [0, 1].map(|i| self.lines[i].len() as u16);
        let rows = if zoom {
            let all = h.saturating_sub(prompt + 2);
            if self.focus == Pane::First { [all, 0] } else { [0, all] }
        } else if beside {
            [h.saturating_sub(prompt + 2); 2]
        } else {
            let all = h.saturating_sub(prompt + 3);
            // Each gets what it needs; if both do not fit, neither gets less than half.
            let first = need[0].max(1).min(all.saturating_sub(need[1].min(all / 2)));
            [first, all - first]
        };
        self.layout = CardLayout { prompt, beside, width, rows };
        for i in 0..2 {
            self.scroll[i] = self.scroll[i].min(self.max_scroll(i));
        }
        self.mark_read();
    }

    fn max_scroll(&self, i: usize) -> usize {
        self.lines[i].len().saturating_sub(usize::from(self.layout.rows[i]))
    }

    /// Rows that a page key scrolls.
    #[must_use]
    pub fn page(&self) -> isize {
        let rows = self.layout.rows.iter().filter(|rows| **rows > 0).min().copied().unwrap_or(1);
        (rows as isize - 1).max(1)
    }

    /// Scrolls both answers; each stops at its own end.
    pub fn scroll_by(&mut self, lines: isize) {
        for i in 0..2 {
            if self.layout.rows[i] > 0 {
                self.scroll[i] = self.scroll[i].saturating_add_signed(lines).min(self.max_scroll(i));
            }
        }
        self.mark_read();
    }

    /// Marks what is on the screen as read.
    fn mark_read(&mut self) {
        for i in 0..2 {
            let bottom = (self.scroll[i] + usize::from(self.layout.rows[i])).min(self.lines[i].len());
            let (Some(top), Some(last)) =
                (self.lines[i].get(self.scroll[i]), self.lines[i].get(bottom.saturating_sub(1)))
            else {
                continue;
            };
            if self.layout.rows[i] == 0 {
                continue;
            }
            let (from, to) = (self.shown[i].to_source(top.range.start), self.shown[i].to_source(last.range.end));
            self.read_to[i] = self.read_to[i].max(to);
            if self.view.unfolded {
                for (thought, read) in self.thoughts[i].iter().zip(&mut self.thought_read[i]) {
                    if thought.range.start < to && from < thought.range.end {
                        *read = (*read).max(to.min(thought.range.end));
                    }
                }
            }
        }
    }

    /// Bytes of an answer that were passed while folded, or not unfolded long enough to be on the screen.
    fn unread_thoughts(&self, i: usize) -> usize {
        let thoughts = self.thoughts[i].iter().zip(&self.thought_read[i]);
        thoughts.map(|(thought, read)| thought.range.end.min(self.read_to[i]).saturating_sub(*read)).sum()
    }

    /// Whether an answer was on the screen to its end but for its folded thoughts.
    #[must_use]
    pub fn lacks_thought(&self, pane: Pane) -> bool {
        let i = pane.index();
        self.read_to[i] >= self.text[i].trim_end().len() && self.unread_thoughts(i) > 0
    }

    /// Scrolls an answer to a byte of its text as the model wrote it.
    pub fn reveal(&mut self, pane: Pane, raw: &str, at: usize) {
        let i = pane.index();
        let before = presentable(&raw[..raw.floor_char_boundary(at)]).len();
        let line = self.line_at(i, self.shown[i].to_shown(before));
        self.focus = pane;
        self.scroll[i] = line.saturating_sub(usize::from(self.layout.rows[i]) / 3).min(self.max_scroll(i));
        self.mark_read();
    }

    /// How much of an answer was on the screen, in percent.
    #[must_use]
    pub fn read_percent(&self, pane: Pane) -> usize {
        let i = pane.index();
        let end = self.text[i].trim_end().len();
        let read = self.read_to[i].min(end).saturating_sub(self.unread_thoughts(i));
        if read >= end { 100 } else { (read * 100 / end.max(1)).min(99) }
    }

    /// Whether both answers were on the screen to their end.
    #[must_use]
    pub fn seen(&self) -> Seen {
        if self.read_percent(Pane::First) == 100 && self.read_percent(Pane::Second) == 100 {
            Seen::Full
        } else {
            Seen::Partial
        }
    }

    /// Computes the differing words, once.
    pub fn compute_diff(&mut self) {
        if self.diff.is_none() {
            self.diff = Some(WordDiff::of(&self.shown[0].text, &self.shown[1].text));
        }
    }

    /// Scrolls to the next difference below the visible part of either answer; false if there is none.
    pub fn to_next_difference(&mut self) -> bool {
        let Some(diff) = &self.diff else { return false };
        let next = [0, 1].map(|i| {
            let below = self.scroll[i] + usize::from(self.layout.rows[i].max(1));
            let from = self.lines[i].get(below).map(|line| line.range.start)?;
            let at = diff.only[i].iter().find(|range| range.end > from)?.start.max(from);
            self.lines[i].iter().position(|line| at < line.range.end)
        });
        let step = [0, 1].into_iter().filter_map(|i| Some(next[i]? - self.scroll[i])).min();
        match step {
            Some(step) => self.scroll_by(step.min(self.page() as usize * 4) as isize),
            None => return false,
        }
        true
    }
}
