//! A session's answers as a pool to select pairs from, and where their scores come from.

use super::super::check::Checks;
use super::super::ids::{CompletionId, PairId, Rater, RunId};
use super::super::select::{Candidate, CandidatePair, Pool, PromptFacts, StratumKey};
use super::super::text::{Completion, PromptBody};
use super::super::verdict::{Choice, Side};
use super::super::votes::Outcome;
use super::Session;
use std::collections::{BTreeSet, HashMap, HashSet};

/// What an answer's score is.
#[derive(Debug, Clone)]
pub enum ScoreSource {
    /// There are no scores.
    None,
    /// What this run said of it: a reward run's score, or the implicit reward of another one.
    Run(RunId),
    /// A rater's mean preference for it: [`Session::vote_scores`].
    Votes(HashMap<CompletionId, f64>),
    /// Its mean log-prob per token under the model that wrote it.
    Logprob,
    /// Its length in characters: what a better source has to beat.
    Length,
    /// The share of these checks that it passes.
    Checks(Checks),
}

/// A pool, and what did not enter it.
#[derive(Debug, Clone, Default)]
pub struct SessionPool {
    /// What can be chosen from.
    pub pool: Pool,
    /// Pairs that exist already.
    pub paired: usize,
    /// Pairs of equal texts, white space aside.
    pub equal: usize,
    /// Answers without text.
    pub empty: usize,
    /// Answers without a score, where there is a source.
    pub unscored: usize,
}

impl Session {
    /// The answers that may be paired: those of one sampling run with each other or, `across`, all answers to a prompt.
    /// `by` says which strata the judged pairs are counted in.
    #[must_use]
    pub fn pool(&self, source: &ScoreSource, across: bool, by: &[StratumKey]) -> SessionPool {
        let mut out = SessionPool::default();
        let at: HashMap<_, usize> = self.prompts.iter().enumerate().map(|(i, p)| (&p.id, i)).collect();
        out.pool.prompts = self.prompts.iter().map(|p| facts(p.id.as_str(), &p.body, &p.source, &p.tags)).collect();
        let mut answers: Vec<(usize, &Completion)> =
            self.completions.iter().filter_map(|c| Some((*at.get(&c.prompt)?, &**c))).collect();
        answers.sort_by(|(p, x), (q, y)| p.cmp(q).then_with(|| x.id.cmp(&y.id)));
        answers.retain(|(_, c)| {
            let empty = c.text.trim().is_empty();
            out.empty += usize::from(empty);
            !empty
        });
        for (prompt, c) in &answers {
            let score = self.source_score(c, source);
            out.unscored += usize::from(score.is_none() && !matches!(source, ScoreSource::None));
            let (id, model) = (c.id.as_str().to_owned(), c.model.to_string());
            out.pool.answers.push(Candidate { id, prompt: *prompt, model, score, chars: c.text.chars().count() });
        }
        // Judged pairs are part of the pool until their strata are known.
        let mut existing: HashMap<(&str, &str), &PairId> = HashMap::new();
        for pair in &self.pairs {
            existing.insert((pair.a.as_str(), pair.b.as_str()), &pair.id);
        }
        let mut known: Vec<(CandidatePair, &PairId)> = Vec::new();
        let mut first = 0;
        while first < answers.len() {
            let prompt = answers[first].0;
            let end = first + answers[first..].iter().take_while(|(p, _)| *p == prompt).count();
            for a in first..end {
                for b in a + 1..end {
                    let (x, y) = (answers[a].1, answers[b].1);
                    let (i, j) = (x.id.as_str(), y.id.as_str());
                    if let Some(id) = existing.get(&(i, j)) {
                        known.push((CandidatePair { a, b }, id));
                    } else if let Some(id) = existing.get(&(j, i)) {
                        known.push((CandidatePair { a: b, b: a }, id));
                    } else if across || run_of(i) == run_of(j) {
                        if x.text.split_whitespace().eq(y.text.split_whitespace()) {
                            out.equal += 1;
                        } else {
                            out.pool.pairs.push(CandidatePair { a, b });
                        }
                    }
                }
            }
            first = end;
        }
        out.paired = known.len();
        self.count_judged(&mut out.pool, &known, by);
        out
    }

    /// Counts, by stratum, how often the first of two answers was preferred.
    fn count_judged(&self, pool: &mut Pool, known: &[(CandidatePair, &PairId)], by: &[StratumKey]) {
        let outcomes = self.outcomes();
        let fresh = pool.pairs.len();
        pool.pairs.extend(known.iter().map(|(pair, _)| *pair));
        let of: HashMap<CandidatePair, &PairId> = known.iter().map(|(pair, id)| (*pair, *id)).collect();
        let mut judged: HashMap<String, (f64, f64)> = HashMap::new();
        for (name, pairs) in pool.strata(by) {
            for pair in pairs {
                let Some(found) = of.get(&pair).and_then(|id| outcomes.get(id)) else { continue };
                let (first, all) = match found.outcome {
                    Outcome::Prefer(Side::A, _) => (1.0, 1.0),
                    Outcome::Prefer(Side::B, _) => (0.0, 1.0),
                    Outcome::Tie => (0.5, 1.0),
                    Outcome::Open | Outcome::BothBad | Outcome::Unresolved => continue,
                };
                let count = judged.entry(name.clone()).or_default();
                *count = (count.0 + first, count.1 + all);
            }
        }
        pool.pairs.truncate(fresh);
        pool.judged = judged;
    }

    fn source_score(&self, c: &Completion, source: &ScoreSource) -> Option<f64> {
        match source {
            ScoreSource::None => None,
            ScoreSource::Run(run) => self.score_by(run, &c.id),
            ScoreSource::Votes(scores) => scores.get(&c.id).copied(),
            ScoreSource::Logprob => c.logprob.known().filter(|_| c.tokens > 0).map(|sum| sum / f64::from(c.tokens)),
            ScoreSource::Length => Some(c.text.chars().count() as f64),
            ScoreSource::Checks(checks) => Some(checks.score(&c.text)),
        }
        .filter(|x| x.is_finite())
    }

    /// A rater's mean preference for each answer over its pairs, from −1 (always much worse) to 1; a tie is 0. Both bad and skips
    /// say nothing.
    #[must_use]
    pub fn vote_scores(&self, rater: &Rater) -> HashMap<CompletionId, f64> {
        let mut sums: HashMap<CompletionId, (f64, f64)> = HashMap::new();
        for pair in &self.pairs {
            let margin = match self.verdict_of(&pair.id, rater).map(|(_, v)| v.choice) {
                Some(Choice::Prefer(Side::A, strength)) => strength.margin(),
                Some(Choice::Prefer(Side::B, strength)) => -strength.margin(),
                Some(Choice::Tie) => 0.0,
                Some(Choice::BothBad | Choice::Skip) | None => continue,
            };
            for (id, margin) in [(&pair.a, margin), (&pair.b, -margin)] {
                let sum = sums.entry(id.clone()).or_default();
                *sum = (sum.0 + margin, sum.1 + 1.0);
            }
        }
        sums.into_iter().map(|(id, (sum, n))| (id, sum / n)).collect()
    }

    /// The runs that scored answers, by name.
    #[must_use]
    pub fn scoring_runs(&self) -> Vec<RunId> {
        let mut runs: Vec<RunId> = self.scores.runs().cloned().collect();
        runs.sort();
        runs
    }

    /// How many answers there are, and how many of them a run has scored.
    #[must_use]
    pub fn scored_by(&self, run: &RunId) -> (usize, usize) {
        (self.completions.len(), self.scores.scored_by(run))
    }

    /// The judges that gave verdicts: NAME of each rater `model:judge:NAME`.
    #[must_use]
    pub fn judges(&self) -> BTreeSet<&str> {
        self.verdicts().filter_map(|(_, j)| j.verdict.rater.as_str().strip_prefix("model:judge:")).collect()
    }

    /// An id for a pair of two completions that no other pair has.
    #[must_use]
    pub fn new_pair_id(&self, a: &str, b: &str, taken: &HashSet<PairId>) -> PairId {
        let base = format!("{a}-{b}");
        let free = |id: &PairId| !self.pairs.contains(id) && !taken.contains(id);
        let plain = PairId::new(base.clone());
        if free(&plain) {
            return plain;
        }
        // One of so many names is free.
        (2..=self.pairs.len() + taken.len() + 2).map(|n| PairId::new(format!("{base}-{n}"))).find(free).unwrap_or(plain)
    }
}

/// The stratum of every pair of the session, in order; none where an answer or the prompt is missing.
pub(super) fn pair_strata(session: &Session, source: &ScoreSource, key: StratumKey) -> Vec<Option<String>> {
    let mut pool = Pool::default();
    let mut places = Vec::with_capacity(session.pairs.len());
    for pair in &session.pairs {
        let (Some((a, b)), Some(prompt)) = (session.sides(pair), session.prompt(&pair.prompt)) else {
            places.push(None);
            continue;
        };
        let at = pool.prompts.len();
        pool.prompts.push(facts(prompt.id.as_str(), &prompt.body, &prompt.source, &prompt.tags));
        let first = pool.answers.len();
        for c in [a, b] {
            let (id, model) = (c.id.as_str().to_owned(), c.model.to_string());
            let score = session.source_score(c, source);
            pool.answers.push(Candidate { id, prompt: at, model, score, chars: c.text.chars().count() });
        }
        pool.pairs.push(CandidatePair { a: first, b: first + 1 });
        places.push(Some(CandidatePair { a: first, b: first + 1 }));
    }
    let strata = pool.strata(&[key]);
    let of: HashMap<CandidatePair, &String> =
        strata.iter().flat_map(|(name, pairs)| pairs.iter().map(move |p| (*p, name))).collect();
    places.into_iter().map(|place| Some((*of.get(&place?)?).clone())).collect()
}

/// The sampling run of a completion, by its id; imported ones have the number of their row.
fn run_of(id: &str) -> &str {
    id.split('.').next().unwrap_or(id)
}

fn facts(id: &str, body: &PromptBody, source: &str, tags: &[String]) -> PromptFacts {
    let (text, turns) = match body {
        PromptBody::Text(text) => (text.clone(), 1),
        PromptBody::Chat(messages) => {
            let texts: Vec<&str> = messages.iter().map(|m| m.content.as_str()).collect();
            (texts.join("\n"), messages.iter().filter(|m| m.role == "user").count())
        }
    };
    PromptFacts {
        id: id.into(),
        words: text.split_whitespace().count(),
        text,
        tags: tags.to_vec(),
        source: source.into(),
        turns,
    }
}
