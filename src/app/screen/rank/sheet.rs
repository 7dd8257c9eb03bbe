//! The answers on the rank screen: their order, their layout, what was read, and the records of a decision.

use crate::app::open::OpenSession;
use crate::app::wrap::{presentable, wrap};
use crate::domain::{
    Asked, BEST_OF, Choice, CommonText, Completion, CompletionId, Pair, PairId, PromptId, RANK, Seen, Showing, Side,
    Strength, Verdict, hash64,
};
use crate::protocol::SessionRecord;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

/// The least answers that are worth a ranking.
pub const MIN_ANSWERS: usize = 3;
/// The most answers on the screen: each has a digit.
pub const MAX_ANSWERS: usize = 9;
/// The widest line that is read with ease.
const MAX_WIDTH: usize = 120;
/// Rows outside the body, and margin of a text.
const FRAME: u16 = 3;
const MARGIN: u16 = 4;

/// How far a key scrolls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scroll {
    /// A line down.
    Down,
    /// A line up.
    Up,
    /// A page down.
    PageDown,
    /// A page up.
    PageUp,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct RankAnswer {
    /// The completion.
    pub completion: CompletionId,
    /// Its text as shown.
    pub text: String,
    /// Its length in tokens; 0 if unknown.
    pub tokens: usize,
    /// The hash of the text before sanitising.
    hash: u64,
    /// Bytes from its start that were on the screen.
    read_to: usize,
}

/// A row of the scrolled text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RankRow {
    /// The rule above an answer, by index.
    Head(usize),
    /// A line of an answer.
    Line(usize, Range<usize>),
}

/// The answers to a prompt, and what was decided so far.
#[derive(Debug, Clone)]
pub struct RankSheet {
    /// The prompt.
    pub prompt: PromptId,
    /// Its text as shown.
    pub question: String,
    /// Its lines.
    pub question_lines: Vec<Range<usize>>,
    /// Rows of it shown.
    pub question_rows: u16,
    /// The answers in the order shown.
    pub answers: Vec<RankAnswer>,
    /// Answers to the prompt that are not shown: empty ones, equal ones, those beyond nine.
    pub left_out: usize,
    /// Whether all answers are ranked; else one is picked.
    pub ranking: bool,
    /// The answers ranked so far, best first; equal ones together.
    pub order: Vec<Vec<usize>>,
    /// Whether the next answer ranks equal to the last one.
    pub equal: bool,
    /// The rows of all answers.
    pub rows: Vec<RankRow>,
    /// Rows scrolled off the top.
    pub top: usize,
    /// Rows shown.
    pub height: u16,
    /// When the answers appeared, on the model's monotonic clock.
    pub shown_ms: u64,
}

/// The answers to a prompt that can be ranked: with text, and different in their words.
#[must_use]
pub fn answers_to<'a>(open: &'a OpenSession, prompt: &PromptId) -> Vec<&'a Completion> {
    let mut seen = HashSet::new();
    let of_prompt = open.session.completions().into_iter().filter(|c| c.prompt == *prompt);
    let mut words = |c: &&Completion| {
        let text: Vec<&str> = c.text.split_whitespace().collect();
        !text.is_empty() && seen.insert(text.join(" "))
    };
    of_prompt.filter(|c| words(c)).collect()
}

impl RankSheet {
    /// The answers to a prompt in an order that depends on prompt and rater alone; none with fewer than three.
    #[must_use]
    pub fn of(open: &OpenSession, prompt: &PromptId, clock_ms: u64) -> Option<Self> {
        let mut answers = answers_to(open, prompt);
        let all = open.session.completions().into_iter().filter(|c| c.prompt == *prompt).count();
        if answers.len() < MIN_ANSWERS {
            return None;
        }
        answers.sort_by_key(|c| hash64(format!("{}\u{0}{}\u{0}{}", c.id, prompt, open.rater).as_bytes()));
        answers.truncate(MAX_ANSWERS);
        let question = presentable(open.session.prompt(prompt)?.body.headline());
        Some(Self {
            prompt: prompt.clone(),
            question,
            question_lines: Vec::new(),
            question_rows: 1,
            left_out: all - answers.len(),
            answers: answers
                .into_iter()
                .map(|c| RankAnswer {
                    completion: c.id.clone(),
                    text: presentable(&c.text),
                    tokens: c.tokens as usize,
                    hash: hash64(c.text.as_bytes()),
                    read_to: 0,
                })
                .collect(),
            ranking: false,
            order: Vec::new(),
            equal: false,
            rows: Vec::new(),
            top: 0,
            height: 1,
            shown_ms: clock_ms,
        })
    }

    /// Lays the texts out, and marks what is on the screen as read.
    pub fn lay_out(&mut self, size: (u16, u16)) {
        let height = size.1.saturating_sub(FRAME);
        let width = usize::from(size.0.saturating_sub(MARGIN).max(1)).min(MAX_WIDTH);
        // The row at the top stays there.
        let at = self.rows.get(self.top).cloned();
        self.rows.clear();
        for (i, answer) in self.answers.iter().enumerate() {
            self.rows.push(RankRow::Head(i));
            self.rows.extend(wrap(&answer.text, width).into_iter().map(|line| RankRow::Line(i, line)));
        }
        self.question_lines = wrap(&self.question, width);
        self.question_rows = (self.question_lines.len() as u16).clamp(1, (height / 4).max(1));
        self.height = height.saturating_sub(self.question_rows + 1).max(1);
        let same = |row: &RankRow| match (&at, row) {
            (Some(RankRow::Head(i)), RankRow::Head(j)) => i == j,
            (Some(RankRow::Line(i, a)), RankRow::Line(j, b)) => i == j && b.contains(&a.start),
            _ => false,
        };
        self.top = self.rows.iter().position(same).unwrap_or(0);
        self.scrolled();
    }

    fn scrolled(&mut self) {
        self.top = self.top.min(self.rows.len().saturating_sub(usize::from(self.height)));
        for row in self.rows.iter().skip(self.top).take(usize::from(self.height)) {
            if let RankRow::Line(i, line) = row {
                self.answers[*i].read_to = self.answers[*i].read_to.max(line.end);
            }
        }
    }

    /// Scrolls by a line or a page.
    pub fn scroll(&mut self, how: Scroll) {
        let page = usize::from(self.height).saturating_sub(1).max(1);
        self.top = match how {
            Scroll::Down => self.top + 1,
            Scroll::Up => self.top.saturating_sub(1),
            Scroll::PageDown => self.top + page,
            Scroll::PageUp => self.top.saturating_sub(page),
        };
        self.scrolled();
    }

    /// Scrolls to the next answer, from the last to the first.
    pub fn next_answer(&mut self) {
        let heads = || self.rows.iter().enumerate().filter(|(_, row)| matches!(row, RankRow::Head(_))).map(|(i, _)| i);
        let last = self.rows.len().saturating_sub(usize::from(self.height));
        self.top = heads().find(|i| *i > self.top && self.top < last).unwrap_or(0);
        self.scrolled();
    }

    /// Whether an answer was on the screen to its end.
    #[must_use]
    pub fn is_read(&self, at: usize) -> bool {
        self.answers.get(at).is_some_and(|answer| answer.read_to >= answer.text.trim_end().len())
    }

    /// An answer's place from 1, if it is ranked.
    #[must_use]
    pub fn place(&self, at: usize) -> Option<usize> {
        let group = self.order.iter().position(|group| group.contains(&at))?;
        Some(self.order[..group].iter().map(Vec::len).sum::<usize>() + 1)
    }

    /// Forgets what was ranked.
    pub fn clear(&mut self) {
        self.order.clear();
        self.equal = false;
    }

    /// Puts an answer next in order.
    ///
    /// # Errors
    /// When there is no such answer, or it is ranked already.
    pub fn pick(&mut self, at: usize) -> Result<(), String> {
        if at >= self.answers.len() {
            return Err(format!("there is no answer {}: this prompt has {}", at + 1, self.answers.len()));
        }
        if self.place(at).is_some() {
            return Err(format!("answer {} is ranked already: take it back first", at + 1));
        }
        match self.order.last_mut().filter(|_| self.equal) {
            Some(group) => group.push(at),
            None => self.order.push(vec![at]),
        }
        self.equal = false;
        Ok(())
    }

    /// Takes the last ranked answer back.
    pub fn take_back(&mut self) -> Option<usize> {
        self.equal = false;
        let at = self.order.last_mut()?.pop();
        self.order.retain(|group| !group.is_empty());
        at
    }

    /// The missing pairs and the verdicts of the decision.
    ///
    /// # Errors
    /// When more than one answer has no rank.
    pub fn records(&mut self, open: &OpenSession, now_ms: u64, clock_ms: u64) -> Result<Vec<SessionRecord>, String> {
        let missing: Vec<usize> = (0..self.answers.len()).filter(|at| self.place(*at).is_none()).collect();
        if self.ranking {
            match missing.as_slice() {
                [] => {}
                // The one that is left comes last.
                [last] if !self.equal => self.order.push(vec![*last]),
                more => {
                    let names: Vec<String> = more.iter().map(|at| (at + 1).to_string()).collect();
                    return Err(format!("not ranked yet: {}", names.join(", ")));
                }
            }
        }
        let best = self.order.first().and_then(|group| group.first()).copied().unwrap_or(0);
        let count = self.answers.len();
        let wanted: Vec<(usize, usize)> = (0..count)
            .flat_map(|x| (x + 1..count).map(move |y| (x, y)))
            .filter(|(x, y)| self.ranking || *x == best || *y == best)
            .collect();
        let strategy = if self.ranking { RANK } else { BEST_OF };
        let ids = |pair: &Pair| [pair.a.clone(), pair.b.clone()];
        let of_prompt = open.session.pairs().iter().filter(|pair| pair.prompt == self.prompt);
        let known: HashMap<[CompletionId; 2], &Pair> = of_prompt.map(|pair| (ids(pair), &**pair)).collect();
        let ms = (clock_ms.saturating_sub(self.shown_ms) / (wanted.len() as u64).max(1)).max(1);
        let ranking = CommonText::from(format!("{}@{now_ms}", self.prompt));
        let (mut pairs, mut verdicts, mut taken) = (Vec::new(), Vec::new(), HashSet::<PairId>::new());
        for (x, y) in wanted {
            let (first, second) = (&self.answers[x], &self.answers[y]);
            let [a, b] = [first.completion.clone(), second.completion.clone()];
            let found = known.get(&[a.clone(), b.clone()]).or_else(|| known.get(&[b.clone(), a.clone()]));
            let pair = found.copied().cloned().unwrap_or_else(|| {
                let id = open.session.new_pair_id(a.as_str(), b.as_str(), &taken);
                taken.insert(id.clone());
                let pair = Pair { id, prompt: self.prompt.clone(), a, b, strategy: strategy.into(), p_select: 1.0 };
                pairs.push(SessionRecord::Paired(pair.clone().into()));
                pair
            });
            let side = |answer: &RankAnswer| if pair.a == answer.completion { Side::A } else { Side::B };
            let place = |at: usize| self.place(at).unwrap_or(usize::MAX);
            let winner = match place(x).cmp(&place(y)) {
                std::cmp::Ordering::Less => Some(first),
                std::cmp::Ordering::Greater => Some(second),
                std::cmp::Ordering::Equal => None,
            };
            verdicts.push(SessionRecord::Judged(
                Verdict {
                    pair: pair.id.clone(),
                    rater: open.rater.clone(),
                    choice: winner.map_or(Choice::Tie, |w| Choice::Prefer(side(w), Strength::Better)),
                    left: side(first),
                    seen: if self.is_read(x) && self.is_read(y) { Seen::Full } else { Seen::Partial },
                    ms,
                    winner_hash: winner.map(|w| w.hash.into()),
                    asked: Asked::by(open.rubric.criterion()),
                    showing: Showing { ranking: Some(ranking.clone()), ..Showing::default() },
                }
                .into(),
            ));
        }
        Ok(pairs.into_iter().chain(verdicts).collect())
    }
}
