//! Choosing pairs of a session's answers: for the command `pair`, the form of pairs and its preview.
//!
//! Owns how words become a selection, and what is said about what was left out. Refuses to write the log: the caller does.

use super::error::{Error, Result};
use crate::app::{PairPreview, PairRequest, StratumCount};
use crate::domain::{
    Against, Allocation, CandidatePair, Checks, CompletionId, Pair, PairId, QueueOrder, Rater, RunId, ScoreSource,
    SelectOptions, Session, SessionPool, Strategy, StratumKey, counted, hint,
};
use std::collections::{BTreeMap, HashMap, HashSet};

/// The pairs that a request chooses.
#[derive(Debug)]
pub struct ChosenPairs {
    /// The pairs, ready to be written.
    pub pairs: Vec<Pair>,
    /// How they were chosen.
    pub preview: PairPreview,
}

impl ChosenPairs {
    /// The result in one line.
    #[must_use]
    pub fn text(&self, strategy: &str) -> String {
        let PairPreview { chosen, of, parts, left_out, .. } = &self.preview;
        let split: Vec<String> = parts.iter().map(|(name, n)| format!("{n} {name}")).collect();
        let split = if parts.len() > 1 { format!(" ({})", split.join(", ")) } else { String::new() };
        let left_out = if left_out.is_empty() { String::new() } else { format!("; left out: {left_out}") };
        format!("{} of {of} chosen by {strategy}{split}{left_out}", counted(*chosen, "pair"))
    }
}

/// A request whose words were understood.
pub struct Selection {
    strategy: &'static Strategy,
    options: SelectOptions,
    source: ScoreSource,
}

/// Reads the words of a request. `session` is the session's name, for the remedies.
///
/// # Errors
/// When a word is none: one sentence.
pub fn read(session: &str, request: &PairRequest) -> Result<Selection> {
    if request.strategy == QueueOrder::Contested.name() {
        return Err(Error::Usage(format!(
            "contested pairs are those whose label and scores disagree, and answers that nobody has paired have no label: use \
             `tiebreak label {session} --order contested`, or --strategy close for pairs of which scores are unsure"
        )));
    }
    let strategy = Strategy::named(&request.strategy).ok_or_else(|| Error::Usage("no such strategy".into()))?;
    let allocation = Allocation::parse(&request.quota).map_err(|word| {
        Error::Usage(format!("`--quota {word}`: give proportional, equal, neyman, or STRATUM=N for each stratum"))
    })?;
    let against = Against::parse(&request.against).ok_or_else(|| {
        let word = &request.against;
        Error::Usage(format!("`--against {word}`: give runner_up, middle, or a band of score gaps such as 0.5..2"))
    })?;
    let by = request.by.iter().filter_map(|name| StratumKey::named(name)).collect();
    let options = SelectOptions { limit: request.limit, by, allocation, against, seed: request.seed };
    Ok(Selection { strategy, options, source: source(request.score.as_deref())? })
}

/// `length`, `logprob`, `checks:LIST`, `judge:NAME`, or the name of a run that scored the session.
fn source(word: Option<&str>) -> Result<ScoreSource> {
    Ok(match word {
        None => ScoreSource::None,
        // The session's verdicts give them.
        Some(word) if word.starts_with("judge:") => ScoreSource::None,
        Some("length") => ScoreSource::Length,
        Some("logprob") => ScoreSource::Logprob,
        Some(word) => match word.strip_prefix("checks:") {
            Some(list) => ScoreSource::Checks(Checks::parse(list).map_err(|e| Error::Usage(e.to_string()))?),
            None => ScoreSource::Run(RunId::new(word)),
        },
    })
}

/// Chooses the pairs of a request.
///
/// # Errors
/// When scores are missing, nothing matches, or a quota cannot be met.
pub fn choose(session: &Session, name: &str, request: &PairRequest) -> Result<ChosenPairs> {
    let Selection { strategy, options, source } = read(name, request)?;
    let source = match request.score.as_deref().and_then(|word| word.strip_prefix("judge:")) {
        Some(judge) => judged(session, name, judge)?,
        None => source,
    };
    let mut made = session.pool(&source, request.across, &options.by);
    let all = made.pool.pairs.len();
    if let Some(filter) = &request.filter {
        let (view, pool) = (session.view(filter), &mut made.pool);
        let id = |at: usize| CompletionId::new(&pool.answers[at].id);
        pool.pairs.retain(|pair| view.unpaired(&id(pair.a), &id(pair.b)));
        if all > 0 && pool.pairs.is_empty() {
            return Err(Error::failed(format!(
                "none of {all} possible pairs matches the filter `{filter}`: loosen it"
            )));
        }
    }
    if let ScoreSource::Run(run) = &source
        && made.pool.answers.iter().all(|a| a.score.is_none())
    {
        return Err(Error::failed(format!(
            "no answer has a score by {run}: run `tiebreak score {name} --with {run}` first, or name another source"
        )));
    }
    let chosen = strategy.choose(&made.pool, &options).map_err(|e| Error::failed(e.to_string()))?;
    let mut ids: HashSet<PairId> = HashSet::new();
    let mut parts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut pairs = Vec::with_capacity(chosen.len());
    for one in &chosen {
        let (a, b) = (&made.pool.answers[one.pair.a], &made.pool.answers[one.pair.b]);
        let id = session.new_pair_id(&a.id, &b.id, &ids);
        ids.insert(id.clone());
        *parts.entry(one.strategy).or_default() += 1;
        pairs.push(Pair {
            id,
            prompt: session.prompts()[a.prompt].id.clone(),
            a: CompletionId::new(&a.id),
            b: CompletionId::new(&b.id),
            strategy: one.strategy.into(),
            p_select: one.p_select,
        });
    }
    let taken: HashSet<CandidatePair> = chosen.iter().map(|c| c.pair).collect();
    let preview = PairPreview {
        chosen: pairs.len(),
        of: made.pool.pairs.len(),
        parts: parts.into_iter().map(|(name, n)| (name.to_owned(), n)).collect(),
        strata: strata(&made, &options.by, &taken),
        left_out: left_out(&made, all - made.pool.pairs.len()),
    };
    Ok(ChosenPairs { pairs, preview })
}

/// The strata in order of their names; none without a key.
fn strata(made: &SessionPool, by: &[StratumKey], taken: &HashSet<CandidatePair>) -> Vec<StratumCount> {
    if by.is_empty() {
        return Vec::new();
    }
    let count = |(name, pairs): (String, Vec<CandidatePair>)| {
        let chosen = pairs.iter().filter(|pair| taken.contains(pair)).count();
        StratumCount { name, chosen, size: pairs.len() }
    };
    made.pool.strata(by).into_iter().map(count).collect()
}

/// What did not enter the pool, in words.
fn left_out(made: &SessionPool, filtered: usize) -> String {
    let parts: Vec<String> = [
        (filtered, "that do not match"),
        (made.paired, "already paired"),
        (made.equal, "of equal texts"),
        (made.empty, "empty answers"),
        (made.unscored, "answers without a score"),
    ]
    .into_iter()
    .filter(|(n, _)| *n > 0)
    .map(|(n, what)| format!("{n} {what}"))
    .collect();
    parts.join(", ")
}

/// The scores that a judge's verdicts give.
fn judged(session: &Session, name: &str, judge: &str) -> Result<ScoreSource> {
    let scores: HashMap<CompletionId, f64> = session.vote_scores(&Rater::model(&format!("judge:{judge}")));
    if !scores.is_empty() {
        return Ok(ScoreSource::Votes(scores));
    }
    let hint = hint(judge, session.judges());
    Err(Error::failed(format!(
        "no pair has a verdict of the judge {judge}{hint}: run `tiebreak score {name} --with judge:MODEL --vote` first"
    )))
}
