//! The items of an evaluation, one at a time: both answers laid out, with what was said of them.
//!
//! Owns the filter, the place in the list and the layout of both texts. Refuses to decide who was better: judges and
//! measures did.

use crate::app::markup::Markup;
use crate::app::open::RunView;
use crate::app::screen::label::{AnswerView, ShownText, TextLine};
use crate::app::wrap::{presentable, wrap};
use crate::domain::{
    Contestant, EvalItem, EvalState, ItemFilter, ItemKey, RunId, Session, eval_items, thoughts, with_people,
};
use std::ops::Range;

/// From this width on, both answers stand side by side.
pub const BESIDE: u16 = 90;
/// The most rows of a prompt.
const PROMPT_ROWS: usize = 4;
/// Columns left of a text.
const MARGIN: u16 = 4;

/// The items and the shown one.
#[derive(Debug, Clone, Default)]
pub struct ItemsView {
    /// Every item that both contestants have.
    items: Vec<EvalItem>,
    /// Those that pass the filter, by their place in `items`.
    passing: Vec<usize>,
    /// The place in `passing`.
    at: usize,
    /// Which items show.
    pub filter: ItemFilter,
    /// Whose outcome the filter takes; none for the first judge with an opinion.
    pub judge: Option<String>,
    /// Every judge.
    judges: Vec<String>,
    /// How answers are shown.
    pub answers: AnswerView,
    /// Both answers as shown; none where there is no text, only measurements.
    pub shown: [Option<ShownText>; 2],
    /// Their rows.
    pub lines: [Vec<TextLine>; 2],
    /// The prompt.
    pub prompt: String,
    /// Its rows, without those that do not fit.
    pub prompt_lines: Vec<Range<usize>>,
    /// Rows of the prompt that do not fit.
    pub prompt_hidden: usize,
    /// Rows scrolled off the top of both answers.
    pub scroll: usize,
    /// Rows for each answer.
    pub rows: u16,
    /// What the judges said, people among them; none where the run asks no person, and its log says all.
    said: Option<EvalState>,
    /// Which run, how many of its records and which verdicts the list is from.
    known: Option<(RunId, usize, [usize; 2])>,
    /// What is laid out.
    laid_out: Option<(ItemKey, AnswerView, (u16, u16))>,
}

impl ItemsView {
    /// Lists the items again if something was logged since, by the run or by people who judge its pairs.
    pub fn follow(&mut self, run: &RunView, session: &Session) {
        let asks = run.state.eval.posed().next().is_some();
        let verdicts = if asks {
            let undone = session.verdicts().filter(|(_, judged)| judged.undone).count();
            [session.verdicts().count(), undone]
        } else {
            [0, 0]
        };
        let known = (run.id.clone(), run.records, verdicts);
        if self.known.as_ref() == Some(&known) {
            return;
        }
        self.known = Some(known);
        self.said = asks.then(|| with_people(&run.state.eval, session));
        let state = self.said.as_ref().unwrap_or(&run.state.eval);
        self.items = eval_items(state);
        self.judges = state.judges().into_iter().map(str::to_owned).collect();
        self.narrow();
    }

    /// What was measured and said of the items, by people too.
    #[must_use]
    pub fn state<'a>(&'a self, run: &'a RunView) -> &'a EvalState {
        self.said.as_ref().unwrap_or(&run.state.eval)
    }

    /// Applies the filter and stays at the shown item if it passes.
    fn narrow(&mut self) {
        let shown = self.current().map(|item| item.key.clone());
        let judge = self.judge.as_deref();
        let passing = self.items.iter().enumerate().filter(|(_, item)| self.filter.passes(item, judge));
        self.passing = passing.map(|(at, _)| at).collect();
        let place = shown.and_then(|key| self.passing.iter().position(|at| self.items[*at].key == key));
        self.at = place.unwrap_or(0);
    }

    /// The shown item.
    #[must_use]
    pub fn current(&self) -> Option<&EvalItem> {
        self.items.get(*self.passing.get(self.at)?)
    }

    /// The number of the shown item from 1, of those that pass, and of all.
    #[must_use]
    pub fn place(&self) -> (usize, usize, usize) {
        let number = if self.passing.is_empty() { 0 } else { self.at + 1 };
        (number, self.passing.len(), self.items.len())
    }

    /// Shows the item `by` places on.
    pub fn step(&mut self, by: isize) {
        self.at = self.at.saturating_add_signed(by).min(self.passing.len().saturating_sub(1));
        self.scroll = 0;
    }

    /// The next filter.
    pub fn next_filter(&mut self) {
        let all = ItemFilter::ALL;
        let now = all.iter().position(|filter| *filter == self.filter).unwrap_or(0);
        self.filter = all[(now + 1) % all.len()];
        self.scroll = 0;
        self.narrow();
    }

    /// The next judge of the filter.
    pub fn next_judge(&mut self) {
        let next = match &self.judge {
            None => 0,
            Some(now) => self.judges.iter().position(|judge| judge == now).map_or(0, |at| at + 1),
        };
        self.judge = self.judges.get(next).cloned();
        self.narrow();
    }

    /// Folds or unfolds thoughts.
    pub fn toggle_thoughts(&mut self) {
        self.answers.unfolded = !self.answers.unfolded;
    }

    /// Shows Markdown as written, or rendered.
    pub fn toggle_raw(&mut self) {
        self.answers.raw = !self.answers.raw;
    }

    /// Scrolls both answers.
    pub fn scroll_by(&mut self, rows: isize) {
        self.scroll = self.scroll.saturating_add_signed(rows).min(self.last_row());
    }

    /// Rows of a page.
    #[must_use]
    pub fn page(&self) -> isize {
        (isize::try_from(self.rows).unwrap_or(1) - 1).max(1)
    }

    fn last_row(&self) -> usize {
        let most = self.lines.iter().map(Vec::len).max().unwrap_or(0);
        most.saturating_sub(usize::from(self.rows))
    }

    /// Lays the shown item out for a terminal of this size. The remarks take as many rows as there are judges, and one.
    pub fn lay_out(&mut self, state: &EvalState, size: (u16, u16)) {
        let Some(key) = self.current().map(|item| item.key.clone()) else {
            (self.shown, self.lines, self.laid_out) = ([None, None], [Vec::new(), Vec::new()], None);
            return;
        };
        let wanted = (key, self.answers, size);
        if self.laid_out.as_ref() == Some(&wanted) {
            return;
        }
        let (width, body) = (size.0, size.1.saturating_sub(3));
        let answers = Contestant::BOTH.map(|side| state.answer_of(&wanted.0, side));
        let prompt = answers.iter().flatten().next().map(|answer| answer.prompt.headline());
        presentable(prompt.unwrap_or_default()).trim_end().clone_into(&mut self.prompt);
        let rows = wrap(&self.prompt, usize::from(width.saturating_sub(MARGIN)));
        let most = PROMPT_ROWS.min(usize::from(body / 4)).max(1);
        self.prompt_hidden = rows.len().saturating_sub(most);
        self.prompt_lines = rows.into_iter().take(most).collect();
        let beside = width >= BESIDE;
        let column = if beside { (width - 1) / 2 } else { width };
        // The rule and the prompt above; the rule, a row for each judge and one for the measures below.
        let taken = 1 + self.prompt_lines.len() as u16 + 2 + self.remarks();
        let left = body.saturating_sub(taken);
        self.rows = if beside { left.saturating_sub(1) } else { (left / 2).saturating_sub(1) }.max(1);
        for (i, answer) in answers.into_iter().enumerate() {
            self.shown[i] = answer.map(|answer| {
                let text = presentable(&answer.text);
                ShownText::of(&text, &thoughts(&text), self.answers)
            });
            let shown = self.shown[i].as_ref();
            self.lines[i] = shown.map(|s| s.lines(usize::from(column.saturating_sub(MARGIN)))).unwrap_or_default();
        }
        self.laid_out = Some(wanted);
        self.scroll = self.scroll.min(self.last_row());
    }

    /// Rows for what the judges said; a long list is cut.
    #[must_use]
    pub fn remarks(&self) -> u16 {
        (self.judges.len() as u16).clamp(1, 6)
    }

    /// Whether a text has Markdown, for its heading.
    #[must_use]
    pub fn has_markdown(&self, side: Contestant) -> bool {
        self.shown[side.index()].as_ref().is_some_and(|shown| !Markup::of(&shown.text).is_plain() || shown.markdown)
    }

    /// The items that the filter `losses` takes, by this view's judge.
    pub fn losses(&self) -> impl Iterator<Item = &EvalItem> {
        let judge = self.judge.as_deref();
        self.items.iter().filter(move |item| ItemFilter::Losses.passes(item, judge))
    }
}
