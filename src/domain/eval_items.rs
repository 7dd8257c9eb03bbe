//! The items of an evaluation as a person reads them: on which one the model in question lost, and who said so.
//!
//! Owns the outcome of an item by each judge and by its suite's own measure, and the filters over them. Refuses numbers over
//! several items: [`super::scorecard`] has those.

use super::contest::{Contestant, ItemKey};
use super::measured::{EvalState, Measurement};
use super::suite::{Better, suite};
use std::collections::BTreeMap;

/// How an item went for the model in question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemOutcome {
    /// It was better.
    Win,
    /// Neither was better.
    Tie,
    /// It was worse.
    Loss,
}

impl ItemOutcome {
    /// The outcome of a difference that is better when larger.
    fn of(difference: f64) -> Option<Self> {
        match difference {
            d if d > 0.0 => Some(Self::Win),
            d if d < 0.0 => Some(Self::Loss),
            0.0 => Some(Self::Tie),
            _ => None,
        }
    }
}

/// An item with what was said of it.
#[derive(Debug, Clone, PartialEq)]
pub struct EvalItem {
    /// Which one.
    pub key: ItemKey,
    /// The outcome by each judge that had an opinion.
    pub judged: Vec<(String, ItemOutcome)>,
    /// The outcome by the first measure of its suite that applies to it; none if that measure has no better direction.
    pub measured: Option<ItemOutcome>,
    /// Whether the two contestants' answers, or the values measured, differ.
    pub changed: bool,
}

impl EvalItem {
    /// The outcome by this judge; without one, by the first judge with an opinion, and by the suite where no judge has one.
    #[must_use]
    pub fn outcome(&self, judge: Option<&str>) -> Option<ItemOutcome> {
        match judge {
            Some(name) => self.judged.iter().find(|(judge, _)| judge == name).map(|(_, outcome)| *outcome),
            None => self.judged.first().map(|(_, outcome)| *outcome).or(self.measured),
        }
    }

    /// Whether one judge prefers one answer and another judge the other.
    #[must_use]
    pub fn is_disputed(&self) -> bool {
        let says = |outcome| self.judged.iter().any(|(_, said)| *said == outcome);
        says(ItemOutcome::Win) && says(ItemOutcome::Loss)
    }
}

/// Which items are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ItemFilter {
    /// Every item.
    #[default]
    All,
    /// Those that the model in question lost.
    Losses,
    /// Those that it won.
    Wins,
    /// Those that nobody won.
    Ties,
    /// Those on which judges disagree.
    Disputed,
    /// Those on which the two contestants differ.
    Changed,
}

impl ItemFilter {
    /// Every filter, in the order of the key.
    pub const ALL: [Self; 6] = [Self::All, Self::Losses, Self::Wins, Self::Ties, Self::Disputed, Self::Changed];

    /// Its name on the screen.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::All => "all items",
            Self::Losses => "losses",
            Self::Wins => "wins",
            Self::Ties => "ties",
            Self::Disputed => "judges disagree",
            Self::Changed => "changed by training",
        }
    }

    /// Whether an item passes, by this judge.
    #[must_use]
    pub fn passes(self, item: &EvalItem, judge: Option<&str>) -> bool {
        match self {
            Self::All => true,
            Self::Losses => item.outcome(judge) == Some(ItemOutcome::Loss),
            Self::Wins => item.outcome(judge) == Some(ItemOutcome::Win),
            Self::Ties => item.outcome(judge) == Some(ItemOutcome::Tie),
            Self::Disputed => item.is_disputed(),
            Self::Changed => item.changed,
        }
    }
}

/// The items that both contestants have, by suite and name.
#[must_use]
pub fn eval_items(state: &EvalState) -> Vec<EvalItem> {
    let mut judged: BTreeMap<&ItemKey, Vec<(String, ItemOutcome)>> = BTreeMap::new();
    for comparison in state.comparisons() {
        if let Some(outcome) = comparison.p.and_then(|p| ItemOutcome::of(p.0 - 0.5)) {
            judged.entry(&comparison.key).or_default().push((comparison.judge.clone(), outcome));
        }
    }
    let mut out = Vec::new();
    for a in state.measurements().filter(|measurement| measurement.side == Contestant::A) {
        let Some(b) = state.measurement_of(&a.key, Contestant::B) else { continue };
        let texts = Contestant::BOTH.map(|side| state.answer_of(&a.key, side).map(|answer| answer.text.as_str()));
        out.push(EvalItem {
            key: a.key.clone(),
            judged: judged.remove(&a.key).unwrap_or_default(),
            measured: measured(a, b),
            changed: texts[0] != texts[1] || a.values != b.values,
        });
    }
    out
}

/// The outcome by the first measure of the suite that both have.
fn measured(a: &Measurement, b: &Measurement) -> Option<ItemOutcome> {
    let row = suite(&a.key.suite)?;
    let (measure, values) = row.measures.iter().find_map(|measure| {
        let both = (a.values.get(measure.key)?, b.values.get(measure.key)?);
        Some((measure, both))
    })?;
    match measure.better {
        Better::Higher => ItemOutcome::of(values.0 - values.1),
        Better::Lower => ItemOutcome::of(values.1 - values.0),
        Better::Neither => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Comparison, EvalAnswer, Finish, Metrics, Num, PromptBody};

    fn key(item: &str) -> ItemKey {
        ItemKey { suite: "winrate".into(), item: item.into(), seed: 0 }
    }

    fn answered(state: &mut EvalState, item: &str, texts: [&str; 2]) {
        for side in Contestant::BOTH {
            let mut values = Metrics::new();
            values.set("words", 3.0);
            let text = texts[side.index()].to_owned();
            let prompt = PromptBody::user(item);
            let (source, tokens, finish) = (String::new(), 3, Finish::Eos);
            state.answer(EvalAnswer { key: key(item), side, prompt, text, tokens, finish, source, reused: false });
            state.measure(Measurement { key: key(item), side, cluster: item.into(), values });
        }
    }

    fn judged(state: &mut EvalState, judge: &str, item: &str, p: Option<f64>) {
        let (judge, cluster, key) = (judge.to_owned(), item.to_owned(), key(item));
        let p = p.map(Num);
        state.compare(Comparison {
            key,
            judge,
            cluster,
            p,
            a_first: None,
            b_first: None,
            chars: [3, 3],
            problem: None,
            reference: None,
            difference: None,
        });
    }

    #[test]
    fn items_are_sorted_by_what_judges_said() {
        let mut state = EvalState::default();
        answered(&mut state, "p1", ["one", "two"]);
        answered(&mut state, "p2", ["same", "same"]);
        answered(&mut state, "p3", ["a", "b"]);
        judged(&mut state, "check", "p1", Some(0.0));
        judged(&mut state, "reward", "p1", Some(0.8));
        judged(&mut state, "check", "p2", Some(0.5));
        judged(&mut state, "check", "p3", None);
        let items = eval_items(&state);
        let found = |filter: ItemFilter, judge| {
            let passing = items.iter().filter(|item| filter.passes(item, judge));
            passing.map(|item| item.key.item.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(found(ItemFilter::All, None), ["p1", "p2", "p3"]);
        assert_eq!(found(ItemFilter::Losses, None), ["p1"]);
        assert_eq!(found(ItemFilter::Losses, Some("reward")), [""; 0]);
        assert_eq!(found(ItemFilter::Wins, Some("reward")), ["p1"]);
        assert_eq!(found(ItemFilter::Ties, None), ["p2"]);
        assert_eq!(found(ItemFilter::Disputed, None), ["p1"]);
        assert_eq!(found(ItemFilter::Changed, None), ["p1", "p3"]);
        assert_eq!(items[2].outcome(None), None, "neither a judge without an opinion nor a length decides");
    }
}
