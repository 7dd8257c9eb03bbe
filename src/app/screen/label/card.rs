//! The pair on the screen: its texts laid out for the terminal's size, how far they were read, where they differ.

use crate::app::diff::WordDiff;
use crate::app::open::OpenSession;
use crate::app::wrap::{presentable, wrap};
use crate::domain::{CompletionId, PairId, PromptBody, PromptId, Rater, Seen, Side, hash64};
use std::ops::Range;

/// From this many columns on the answers stand side by side.
const SIDE_BY_SIDE: u16 = 90;
/// Rows of the frame that are not the body: header, status line, footer.
const FRAME: u16 = 3;
/// Blanks left and right of a text.
const MARGIN: u16 = 4;

/// One of the two layout for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pane {
    /// Left, or above.
    First,
    /// Right, or below.
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

    /// The number on the screen and on the key: 1 or 2.
    #[must_use]
    pub const fn number(self) -> usize {
        self.index() + 1
    }
}

/// Where the parts of the screen are, in rows and columns of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CardLayout {
    /// Rows of prompt text shown.
    pub prompt: u16,
    /// Whether the answers stand side by side.
    pub beside: bool,
    /// Columns of text in an answer.
    pub width: u16,
    /// Rows of text shown of each answer; 0 for one hidden by zoom.
    pub rows: [u16; 2],
}

/// The pair on the screen.
#[derive(Debug, Clone)]
pub struct Card {
    /// The pair.
    pub pair: PairId,
    /// Its prompt's id.
    pub prompt_id: PromptId,
    /// The prompt's tags.
    pub tags: Vec<String>,
    /// The prompt as shown.
    pub prompt: String,
    /// Which completion stands first.
    pub left: Side,
    /// The answers as shown, first and second.
    pub text: [String; 2],
    /// Their lengths in the model's tokens, 0 where unknown.
    pub tokens: [usize; 2],
    /// When the pair appeared, by the model's steady clock.
    pub shown_ms: u64,
    /// Which answer `e`, `z` and the keys of one pane mean.
    pub focus: Pane,
    /// The prompt's lines.
    pub prompt_lines: Vec<Range<usize>>,
    /// The answers' lines.
    pub lines: [Vec<Range<usize>>; 2],
    /// Lines scrolled off the top of each.
    pub scroll: [usize; 2],
    /// Where the parts are.
    pub layout: CardLayout,
    /// The words that differ, once asked for.
    pub diff: Option<WordDiff>,
    /// Bytes of each answer that have been on the screen, from the start.
    read_to: [usize; 2],
    completions: [CompletionId; 2],
    hashes: [u64; 2],
}

impl Card {
    /// The card of a pair; none while a part of it is missing.
    #[must_use]
    pub fn of(open: &OpenSession, pair: &PairId, clock_ms: u64) -> Option<Self> {
        let pair = open.session.pair(pair)?;
        let prompt = open.session.prompt(&pair.prompt)?;
        let (a, b) = open.session.sides(pair)?;
        let left = first_side(&pair.id, &open.rater);
        let (first, second) = match left {
            Side::A => (a, b),
            Side::B => (b, a),
        };
        Some(Self {
            pair: pair.id.clone(),
            prompt_id: prompt.id.clone(),
            tags: prompt.tags.iter().map(|tag| presentable(tag)).collect(),
            prompt: conversation(&prompt.body),
            left,
            text: [presentable(&first.text), presentable(&second.text)],
            tokens: [first.tokens, second.tokens],
            shown_ms: clock_ms,
            focus: Pane::First,
            prompt_lines: Vec::new(),
            lines: [Vec::new(), Vec::new()],
            scroll: [0, 0],
            layout: CardLayout::default(),
            diff: None,
            read_to: [0, 0],
            completions: [first.id.clone(), second.id.clone()],
            hashes: [hash64(first.text.as_bytes()), hash64(second.text.as_bytes())],
        })
    }

    /// The completion in a pane.
    #[must_use]
    pub fn completion(&self, pane: Pane) -> &CompletionId {
        &self.completions[pane.index()]
    }

    /// The pair's own side that stands in a pane.
    #[must_use]
    pub fn side(&self, pane: Pane) -> Side {
        match pane {
            Pane::First => self.left,
            Pane::Second => self.left.other(),
        }
    }

    /// The hash of the text as the model wrote it.
    #[must_use]
    pub fn raw_hash(&self, pane: Pane) -> String {
        format!("{:016x}", self.hashes[pane.index()])
    }

    /// Lays the texts out for a terminal of this size and notes what is on the screen now.
    pub fn lay_out(&mut self, size: (u16, u16), zoom: bool) {
        let (w, h) = (size.0, size.1.saturating_sub(FRAME));
        let beside = w >= SIDE_BY_SIDE && !zoom;
        let width = if beside { (w - 1) / 2 } else { w }.saturating_sub(MARGIN).max(1);
        if self.layout.width != width || self.lines[0].is_empty() {
            // Keep the place in the text where it was.
            let top = [0, 1].map(|i| self.lines[i].get(self.scroll[i]).map_or(0, |line| line.start));
            self.lines = [0, 1].map(|i| wrap(&self.text[i], usize::from(width)));
            self.scroll = [0, 1].map(|i| self.lines[i].iter().rposition(|line| line.start <= top[i]).unwrap_or(0));
        }
        self.prompt_lines = wrap(&self.prompt, usize::from(w.saturating_sub(MARGIN).max(1)));
        let prompt = (self.prompt_lines.len() as u16).min((h / 4).max(1));
        // One rule above the prompt, one above each answer, one below side by side.
        let need = [0, 1].map(|i| self.lines[i].len() as u16);
        let rows = if zoom {
            let all = h.saturating_sub(prompt + 2);
            if self.focus == Pane::First { [all, 0] } else { [0, all] }
        } else if beside {
            [h.saturating_sub(prompt + 2); 2]
        } else {
            let all = h.saturating_sub(prompt + 3);
            // Each takes what it needs; where both do not fit, neither gets less than half.
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

    /// Rows that a page key moves.
    #[must_use]
    pub fn page(&self) -> isize {
        let rows = self.layout.rows.iter().filter(|rows| **rows > 0).min().copied().unwrap_or(1);
        (rows as isize - 1).max(1)
    }

    /// Moves both answers; each stops at its own end.
    pub fn scroll_by(&mut self, lines: isize) {
        for i in 0..2 {
            if self.layout.rows[i] > 0 {
                self.scroll[i] = self.scroll[i].saturating_add_signed(lines).min(self.max_scroll(i));
            }
        }
        self.mark_read();
    }

    /// Notes what is on the screen.
    fn mark_read(&mut self) {
        for i in 0..2 {
            let rows = usize::from(self.layout.rows[i]);
            if rows > 0
                && let Some(line) =
                    self.lines[i].get((self.scroll[i] + rows).min(self.lines[i].len()).saturating_sub(1))
            {
                self.read_to[i] = self.read_to[i].max(line.end);
            }
        }
    }

    /// How much of an answer has been on the screen, in percent.
    #[must_use]
    pub fn read_percent(&self, pane: Pane) -> usize {
        let i = pane.index();
        let end = self.text[i].trim_end().len();
        if self.read_to[i] >= end { 100 } else { (self.read_to[i] * 100 / end.max(1)).min(99) }
    }

    /// Whether both answers have been on the screen to their end.
    #[must_use]
    pub fn seen(&self) -> Seen {
        if self.read_percent(Pane::First) == 100 && self.read_percent(Pane::Second) == 100 {
            Seen::Full
        } else {
            Seen::Partial
        }
    }

    /// Works out the words that differ, once.
    pub fn compute_diff(&mut self) {
        if self.diff.is_none() {
            self.diff = Some(WordDiff::of(&self.text[0], &self.text[1]));
        }
    }

    /// Scrolls to the first difference below what is on the screen of either answer; false when there is none.
    pub fn to_next_difference(&mut self) -> bool {
        let Some(diff) = &self.diff else { return false };
        let next = [0, 1].map(|i| {
            let below = self.scroll[i] + usize::from(self.layout.rows[i].max(1));
            let from = self.lines[i].get(below).map(|line| line.start)?;
            let at = diff.only[i].iter().find(|range| range.end > from)?.start.max(from);
            self.lines[i].iter().position(|line| at < line.end)
        });
        let step = [0, 1].into_iter().filter_map(|i| Some(next[i]? - self.scroll[i])).min();
        match step {
            Some(step) => self.scroll_by(step.min(self.page() as usize * 4) as isize),
            None => return false,
        }
        true
    }
}

/// Which completion stands first: the same for the same pair and rater, and as good as random over pairs.
#[must_use]
pub fn first_side(pair: &PairId, rater: &Rater) -> Side {
    let key = format!("{pair}\u{0}{rater}");
    if hash64(key.as_bytes()) & 1 == 0 { Side::A } else { Side::B }
}

/// The prompt as shown: one user turn alone as it stands, several turns with their roles.
fn conversation(body: &PromptBody) -> String {
    match body {
        PromptBody::Text(text) => presentable(text),
        PromptBody::Chat(messages) => match messages.as_slice() {
            [one] if one.role == "user" => presentable(&one.content),
            turns => {
                let turns: Vec<String> =
                    turns.iter().map(|m| format!("{}: {}", presentable(&m.role), presentable(&m.content))).collect();
                turns.join("\n")
            }
        },
    }
}
