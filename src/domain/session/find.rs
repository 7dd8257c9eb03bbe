//! Looks a filter's terms up in a session.
//!
//! `rater:` and `criterion:` also say which verdicts `verdict:`, `seen:` and `ms:` look at: of that rater, by that criterion;
//! without them, every rater's verdict overall. A prompt matches if one of its pairs does, and by itself where it has
//! none. What has no pair and no verdicts fails the terms that ask for them.

use super::super::filter::{Filter, FilterTerm, FilterTest, VerdictWord};
use super::super::ids::{CompletionId, PairId, Rater};
use super::super::text::{Completion, Pair, Prompt, PromptBody, RatedRow, SftBody, SftRow};
use super::super::verdict::Verdict;
use super::Session;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

#[cfg(test)]
mod tests;

/// A filter and what it has to know of a session, for many pairs.
#[derive(Debug)]
pub struct FilterView<'a> {
    session: &'a Session,
    filter: &'a Filter,
    /// The criteria that positive terms name, or overall.
    criteria: Vec<Option<&'a str>>,
    contradictions: Arc<Contradictions>,
    corrected: HashSet<&'a CompletionId>,
    notes: HashMap<&'a PairId, Vec<&'a str>>,
    needs: FilterNeeds,
}

/// The pairs that a term may ask for and that depend on more than themselves; empty where none asks.
#[derive(Debug, Default)]
pub(super) struct Contradictions {
    disputed: HashSet<PairId>,
    contested: HashSet<PairId>,
}

/// What the terms look at: the rest of a pair is not looked up.
#[derive(Debug, Clone, Copy)]
struct FilterNeeds {
    prompt: bool,
    answers: bool,
    votes: bool,
}

impl FilterNeeds {
    fn of(filter: &Filter) -> Self {
        Self {
            prompt: filter.asks(|t| matches!(t, FilterTest::Tag(_) | FilterTest::Source(_) | FilterTest::Text(_))),
            answers: filter.asks(|t| matches!(t, FilterTest::Text(_) | FilterTest::Model(_) | FilterTest::Corrected)),
            votes: filter.asks(|t| {
                use FilterTest::{Ms, Partial, Rater, Seen, Verdict};
                matches!(t, Rater(_) | Verdict(_) | Seen(_) | Ms(..) | Partial)
            }),
        }
    }
}

/// What is looked at: a pair, a prompt, or a row without either.
#[derive(Default)]
struct FilterItem<'a> {
    prompt_id: &'a str,
    prompt: Option<&'a Prompt>,
    /// The prompt's text where the session does not have it.
    body: Option<&'a PromptBody>,
    answers: Vec<&'a Completion>,
    /// Answers that are no completions of the session.
    texts: Vec<&'a str>,
    pair: Option<&'a Pair>,
}

impl Session {
    /// A filter over this session.
    #[must_use]
    pub fn view<'a>(&'a self, filter: &'a Filter) -> FilterView<'a> {
        let criteria = self.criteria_of(filter);
        let mut known = Contradictions::default();
        if filter.asks(|test| *test == FilterTest::Disputed) {
            known.disputed.extend(criteria.iter().flat_map(|c| self.disputes_on(*c)).map(|d| d.pair));
        }
        if filter.asks(|test| *test == FilterTest::Contested) {
            known.contested.extend(criteria.iter().flat_map(|c| self.contested(*c)).map(|c| c.pair));
        }
        self.view_with(filter, Arc::new(known))
    }

    /// A filter over this session, with what an earlier view of it had computed.
    pub(super) fn view_with<'a>(&'a self, filter: &'a Filter, contradictions: Arc<Contradictions>) -> FilterView<'a> {
        let mut corrected = HashSet::new();
        if filter.asks(|test| *test == FilterTest::Corrected) {
            corrected.extend(self.corrected().map(|c| &c.completion));
        }
        let mut notes: HashMap<&PairId, Vec<&str>> = HashMap::new();
        if filter.asks(|test| matches!(test, FilterTest::Note(_))) {
            for ((pair, _), text) in &self.notes {
                notes.entry(pair).or_default().push(text);
            }
        }
        let (criteria, needs) = (self.criteria_of(filter), FilterNeeds::of(filter));
        FilterView { session: self, filter, criteria, contradictions, corrected, notes, needs }
    }

    /// The criteria that positive terms name, or overall.
    fn criteria_of<'a>(&'a self, filter: &'a Filter) -> Vec<Option<&'a str>> {
        let positive = filter.terms().iter().filter(|term| !term.negated).flat_map(|term| &term.any);
        let mut criteria: Vec<Option<&str>> = positive
            .filter_map(|test| match test {
                FilterTest::Criterion(name) => Some(Some(self.criterion_named(name))),
                _ => None,
            })
            .collect();
        if criteria.is_empty() {
            criteria.push(None);
        }
        criteria
    }

    /// The criterion as it is written in the session; upper and lower case are the same in a filter.
    fn criterion_named<'a>(&'a self, name: &'a str) -> &'a str {
        self.criteria.iter().map(|c| c.name.as_str()).find(|known| known.eq_ignore_ascii_case(name)).unwrap_or(name)
    }
}

impl<'a> FilterView<'a> {
    /// Whether a pair matches.
    #[must_use]
    pub fn pair(&self, pair: &Pair) -> bool {
        let sides = if self.needs.answers { self.session.sides(pair) } else { None };
        self.matches(&FilterItem {
            prompt_id: pair.prompt.as_str(),
            prompt: if self.needs.prompt { self.session.prompt(&pair.prompt) } else { None },
            answers: sides.map_or_else(Vec::new, |(a, b)| vec![a, b]),
            pair: Some(pair),
            ..FilterItem::default()
        })
    }

    /// What it has computed of all pairs, for the next view of the same filter.
    pub(super) fn contradictions(&self) -> Arc<Contradictions> {
        Arc::clone(&self.contradictions)
    }

    /// The pairs that match.
    #[must_use]
    pub fn pairs(&self) -> HashSet<PairId> {
        let all = self.session.pairs_for(Some(self.filter));
        all.filter(|pair| self.pair(pair)).map(|pair| pair.id.clone()).collect()
    }

    /// Whether two answers that nobody has paired match.
    #[must_use]
    pub fn unpaired(&self, a: &CompletionId, b: &CompletionId) -> bool {
        let answers: Vec<&Completion> = [a, b].into_iter().filter_map(|id| self.session.completion(id)).collect();
        let Some(prompt) = answers.first().and_then(|c| self.session.prompt(&c.prompt)) else { return false };
        self.matches(&FilterItem {
            prompt_id: prompt.id.as_str(),
            prompt: Some(prompt),
            answers,
            ..FilterItem::default()
        })
    }

    /// The prompts that match, in order.
    #[must_use]
    pub fn prompts(&self) -> Vec<&'a Prompt> {
        let (mut paired, mut matched) = (HashSet::new(), HashSet::new());
        let session: &'a Session = self.session;
        for pair in session.pairs() {
            paired.insert(&pair.prompt);
            if !matched.contains(&pair.prompt) && self.pair(pair) {
                matched.insert(&pair.prompt);
            }
        }
        let alone = |prompt: &Prompt| {
            let item = FilterItem { prompt_id: prompt.id.as_str(), prompt: Some(prompt), ..FilterItem::default() };
            !paired.contains(&prompt.id) && self.matches(&item)
        };
        session.prompts().iter().map(|p| &**p).filter(|p| matched.contains(&p.id) || alone(p)).collect()
    }

    /// Whether an imported text matches.
    #[must_use]
    pub fn text_row(&self, row: &SftRow) -> bool {
        let (body, texts): (Option<PromptBody>, Vec<&str>) = match &row.body {
            SftBody::Completion { prompt, completion } => (Some(prompt.clone()), vec![completion]),
            SftBody::Messages(turns) => (None, turns.iter().map(|m| m.content.as_str()).collect()),
            SftBody::Text(text) => (None, vec![text]),
        };
        self.matches(&FilterItem {
            prompt_id: row.prompt_id.as_str(),
            prompt: self.session.prompt(&row.prompt_id),
            body: body.as_ref(),
            texts,
            ..FilterItem::default()
        })
    }

    /// Whether an imported rating matches.
    #[must_use]
    pub fn rating(&self, row: &RatedRow) -> bool {
        self.matches(&FilterItem {
            prompt_id: row.prompt_id.as_str(),
            prompt: self.session.prompt(&row.prompt_id),
            body: Some(&row.prompt),
            texts: vec![&row.completion],
            ..FilterItem::default()
        })
    }

    fn matches(&self, item: &FilterItem<'_>) -> bool {
        let votes = self.votes(item);
        let holds = |term: &FilterTerm| term.any.iter().any(|test| self.holds(test, item, &votes)) != term.negated;
        self.filter.terms().iter().all(holds)
    }

    /// The verdicts that terms look at.
    fn votes(&self, item: &FilterItem<'_>) -> Vec<&Verdict> {
        let judged = |pair: &&Pair| self.session.verdicts.is_judged(&pair.id);
        let Some(pair) = item.pair.filter(|_| self.needs.votes).filter(judged) else { return Vec::new() };
        let mut votes: Vec<&Verdict> =
            self.criteria.iter().flat_map(|c| self.session.counting_on(&pair.id, *c)).map(|(_, v)| v).collect();
        for term in self.filter.terms().iter().filter(|term| !term.negated) {
            let raters: Vec<&String> = term
                .any
                .iter()
                .filter_map(|t| if let FilterTest::Rater(name) = t { Some(name) } else { None })
                .collect();
            if !raters.is_empty() {
                votes.retain(|v| raters.iter().any(|name| is_rater(&v.rater, name)));
            }
        }
        votes
    }

    fn holds(&self, test: &FilterTest, item: &FilterItem<'_>, votes: &[&Verdict]) -> bool {
        let pair = item.pair;
        match test {
            FilterTest::Tag(name) => item.prompt.is_some_and(|p| p.tags.iter().any(|tag| same(tag, name))),
            FilterTest::Source(name) => item.prompt.is_some_and(|p| same(&p.source, name)),
            FilterTest::Prompt(id) => same(item.prompt_id, id),
            FilterTest::Text(text) => {
                let body = item.prompt.map(|p| &p.body).or(item.body);
                body.is_some_and(|body| body_contains(body, text))
                    || item.answers.iter().any(|c| contains(&c.text, text))
                    || item.texts.iter().any(|t| contains(t, text))
            }
            FilterTest::Note(text) => {
                pair.and_then(|p| self.notes.get(&p.id)).is_some_and(|notes| notes.iter().any(|n| contains(n, text)))
            }
            // A completion's id begins with the run that sampled it.
            FilterTest::Model(name) => item.answers.iter().any(|c| {
                contains(&c.model, name) || c.id.as_str().split('.').next().is_some_and(|run| same(run, name))
            }),
            FilterTest::Eval(run) => {
                pair.and_then(|p| self.session.evaluation_of(&p.id)).is_some_and(|id| same(id.as_str(), run))
            }
            FilterTest::Strategy(name) => pair.is_some_and(|p| same(&p.strategy, name)),
            FilterTest::Rater(name) => votes.iter().any(|v| is_rater(&v.rater, name)),
            FilterTest::Verdict(VerdictWord::None) => pair.is_some() && votes.is_empty(),
            FilterTest::Verdict(word) => votes.iter().any(|v| word.fits(v.choice)),
            FilterTest::Seen(seen) => votes.iter().any(|v| v.seen == *seen),
            // 0 stands for an unknown time: of an imported verdict, or of a model.
            FilterTest::Ms(bound, limit) => votes.iter().any(|v| v.ms > 0 && bound.holds(v.ms as f64, *limit)),
            FilterTest::Partial => votes.iter().any(|v| v.is_partial()),
            FilterTest::Criterion(name) => pair
                .is_some_and(|p| !self.session.counting_on(&p.id, Some(self.session.criterion_named(name))).is_empty()),
            FilterTest::Gap(bound, limit) => {
                pair.and_then(|p| self.session.score_gap(p)).is_some_and(|gap| bound.holds(gap, *limit))
            }
            FilterTest::Disputed => pair.is_some_and(|p| self.contradictions.disputed.contains(&p.id)),
            FilterTest::Contested => pair.is_some_and(|p| self.contradictions.contested.contains(&p.id)),
            FilterTest::Corrected => item.answers.iter().any(|c| self.corrected.contains(&c.id)),
        }
    }
}

/// Whether two names are the same but for case; `lower` is in lower case.
fn same(name: &str, lower: &str) -> bool {
    name.eq_ignore_ascii_case(lower) || name.to_lowercase() == lower
}

/// Whether a text contains another one, which is in lower case.
fn contains(text: &str, lower: &str) -> bool {
    if !text.is_ascii() {
        return text.to_lowercase().contains(lower);
    }
    // The usual text needs no copy in lower case.
    let Some(first) = lower.bytes().next() else { return true };
    let (bytes, lower) = (text.as_bytes(), lower.as_bytes());
    let mut begins = memchr::memchr2_iter(first, first.to_ascii_uppercase(), bytes);
    begins.any(|at| bytes.get(at..at + lower.len()).is_some_and(|found| found.eq_ignore_ascii_case(lower)))
}

fn body_contains(body: &PromptBody, lower: &str) -> bool {
    match body {
        PromptBody::Text(text) => contains(text, lower),
        PromptBody::Chat(turns) => turns.iter().any(|m| contains(&m.content, lower)),
    }
}

/// A rater by its name; an imported one also by its name without the file.
fn is_rater(rater: &Rater, lower: &str) -> bool {
    let short = rater.as_str().rsplit_once('#').filter(|_| rater.is_import()).map(|(_, name)| name);
    same(rater.as_str(), lower) || short.is_some_and(|name| same(name, lower))
}
