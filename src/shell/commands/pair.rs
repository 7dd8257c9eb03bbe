//! `pair`: chooses pairs of answers by a strategy and puts them up for labelling.

use super::super::cli::PairArgs;
use super::super::error::{Error, Result};
use super::super::journal::Journal;
use super::super::out;
use super::context::CommandContext;
use crate::domain::{
    Against, Allocation, Checks, CompletionId, Pair, PairId, QueueOrder, Rater, RunId, ScoreSource, SelectOptions,
    Session, SessionPool, Strategy, StratumKey, counted, hint,
};
use crate::protocol::SessionRecord;
use crate::storage::SessionDir;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Chooses pairs and writes them to the session's log.
pub fn pair(context: &CommandContext, args: &PairArgs) -> Result<()> {
    if args.strategy == QueueOrder::Contested.name() {
        return Err(Error::Usage(format!(
            "contested pairs are those whose label and scores disagree, and answers that nobody has paired have no label: use \
             `tiebreak label {} --order contested`, or --strategy close for pairs of which scores are unsure",
            args.session
        )));
    }
    let strategy = Strategy::named(&args.strategy).ok_or_else(|| Error::Usage("no such strategy".into()))?;
    let options = options(args)?;
    let source = source(args.score.as_deref())?;
    let judge = args.score.as_deref().and_then(|word| word.strip_prefix("judge:"));
    let dir = SessionDir::find(&context.home, &args.session)?;
    let mut journal = Journal::require(&dir)?;
    let (session, found) = dir.state()?;
    out::warn_of_damage(&found);
    let source = match judge {
        Some(name) => judged(&session, &dir.name(), name)?,
        None => source,
    };
    let mut made = session.pool(&source, args.across, &options.by);
    let all = made.pool.pairs.len();
    if let Some(filter) = &args.filter {
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
            "no answer has a score by {run}: run `tiebreak score {} --with {run}` first, or name another source",
            dir.name()
        )));
    }
    let chosen = strategy.choose(&made.pool, &options).map_err(|e| Error::failed(e.to_string()))?;
    let mut ids: HashSet<PairId> = HashSet::new();
    let mut parts: BTreeMap<&str, usize> = BTreeMap::new();
    for one in &chosen {
        let (a, b) = (&made.pool.answers[one.pair.a], &made.pool.answers[one.pair.b]);
        let pair = Pair {
            id: session.new_pair_id(&a.id, &b.id, &ids),
            prompt: session.prompts()[a.prompt].id.clone(),
            a: CompletionId::new(&a.id),
            b: CompletionId::new(&b.id),
            strategy: one.strategy.into(),
            p_select: one.p_select,
        };
        ids.insert(pair.id.clone());
        *parts.entry(one.strategy).or_default() += 1;
        if context.json {
            out::json(&pair)?;
        }
        journal.append(&SessionRecord::Paired(pair.into()))?;
    }
    journal.close()?;
    if context.json {
        return Ok(());
    }
    let of = made.pool.pairs.len();
    let split: Vec<String> = parts.iter().map(|(name, n)| format!("{n} {name}")).collect();
    let split = if parts.len() > 1 { format!(" ({})", split.join(", ")) } else { String::new() };
    out::line(&format!(
        "{} of {of} chosen by {}{split}{}",
        counted(chosen.len(), "pair"),
        strategy.name,
        left_out(&made, all - of)
    ))
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
    if parts.is_empty() { String::new() } else { format!("; left out: {}", parts.join(", ")) }
}

/// The strategy's options, from their words.
fn options(args: &PairArgs) -> Result<SelectOptions> {
    let by = args.by.iter().filter_map(|name| StratumKey::named(name)).collect();
    Ok(SelectOptions {
        limit: args.limit,
        by,
        allocation: allocation(&args.quota)?,
        against: against(&args.against)?,
        seed: args.seed,
    })
}

/// `proportional`, `equal`, `neyman`, or NAME=N for each stratum.
fn allocation(words: &[String]) -> Result<Allocation> {
    match words {
        [] => Ok(Allocation::Proportional),
        [one] if one == "proportional" => Ok(Allocation::Proportional),
        [one] if one == "equal" => Ok(Allocation::Equal),
        [one] if one == "neyman" => Ok(Allocation::Neyman),
        quotas => {
            let one = |word: &String| {
                let (name, n) = word.rsplit_once('=')?;
                Some((name.trim().to_owned(), n.trim().parse().ok()?))
            };
            let bad = |word: &String| {
                Error::Usage(format!(
                    "`--quota {word}`: give proportional, equal, neyman, or STRATUM=N for each stratum"
                ))
            };
            let all: Result<Vec<(String, usize)>> = quotas.iter().map(|w| one(w).ok_or_else(|| bad(w))).collect();
            Ok(Allocation::Fixed(all?))
        }
    }
}

/// `runner_up`, `middle`, or LOW..HIGH.
fn against(word: &str) -> Result<Against> {
    let band = || {
        let (low, high) = word.split_once("..")?;
        let (low, high) = (low.trim().parse::<f64>().ok()?, high.trim().parse::<f64>().ok()?);
        (low >= 0.0 && low <= high).then_some(Against::Band(low, high))
    };
    match word {
        "runner_up" => Ok(Against::RunnerUp),
        "middle" => Ok(Against::Middle),
        _ => band().ok_or_else(|| {
            Error::Usage(format!("`--against {word}`: give runner_up, middle, or a band of score gaps such as 0.5..2"))
        }),
    }
}

/// The scores that a judge's verdicts give.
fn judged(session: &Session, name: &str, judge: &str) -> Result<ScoreSource> {
    let rater = Rater::model(&format!("judge:{judge}"));
    let scores = session.vote_scores(&rater);
    if !scores.is_empty() {
        return Ok(ScoreSource::Votes(scores));
    }
    let judges: BTreeSet<&str> =
        session.verdicts().filter_map(|(_, j)| j.verdict.rater.as_str().strip_prefix("model:judge:")).collect();
    let hint = hint(judge, judges);
    Err(Error::failed(format!(
        "no pair has a verdict of the judge {judge}{hint}: run `tiebreak score {name} --with judge:MODEL --vote` first"
    )))
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
