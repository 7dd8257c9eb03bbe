//! Several models rated together: Bradley–Terry over the evaluations of a session, by judge and suite.
//!
//! Owns which comparisons count and the table of ratings. Refuses to mix judges or suites: each has a table of its own.
//!
//! **Invariant.** A prompt counts once for two models: of several evaluations of the same two the newest with an opinion counts,
//! and the table says how many comparisons were left out.

use super::conclusion::{Conclusion, conclude};
use super::contest::ItemKey;
use super::evaluation::{Game, PairCounts, Ratings, Undefined, davidson, ratings, verdict_of};
use super::hash::hash64;
use super::measured::{Comparison, EvalState};
use super::suite::Better;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// The rating of the model that the others are measured by.
const ANCHOR_RATING: f64 = 1000.0;
/// Seed of the bootstrap.
const SEED: u64 = 1;

/// An evaluation that counts.
#[derive(Debug, Clone)]
pub struct RatedEvaluation<'a> {
    /// Its run.
    pub run: &'a str,
    /// The names of its contestants, a first.
    pub names: [&'a str; 2],
    /// What was logged.
    pub eval: &'a EvalState,
    /// The judges that count: judge, suite, and why the judge's number is no headline.
    pub judges: Vec<(&'a str, &'a str, &'a [String])>,
}

/// A model's rating.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Standing {
    /// Its name.
    pub name: String,
    /// On the Elo scale; the anchor has 1000.
    pub elo: f64,
    /// Its 95 % interval over prompts, as a difference from the anchor; none for the anchor.
    pub interval: Option<[f64; 2]>,
    /// Comparisons that it won.
    pub wins: usize,
    /// Comparisons that nobody won.
    pub ties: usize,
    /// Comparisons that it lost.
    pub losses: usize,
    /// What the interval lets one say of it against the anchor; none for the anchor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conclusion: Option<Conclusion>,
}

/// The ratings of several models by one judge on one suite.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Standings {
    /// The judge.
    pub judge: String,
    /// The suite whose answers it compared.
    pub suite: String,
    /// The model with 1000.
    pub anchor: String,
    /// The highest rating first; without figures the models in the order of their names.
    pub rows: Vec<Standing>,
    /// Comparisons that count.
    pub comparisons: usize,
    /// Prompts among them.
    pub prompts: usize,
    /// Comparisons of the same two models and item by an earlier evaluation, and ones without an opinion.
    pub left_out: [usize; 2],
    /// The evaluations that count.
    pub runs: Vec<String>,
    /// The probability that two equally strong models tie, by Davidson's model.
    pub tie_rate: Option<f64>,
    /// What the reader must know of the figures.
    pub remarks: Vec<String>,
    /// Why there are no ratings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undefined: Option<String>,
    /// Why the judge's numbers are no headline; empty where they are one.
    pub not_headline: Vec<String>,
}

impl Standings {
    /// Whether an evaluation is among those that count.
    #[must_use]
    pub fn counts(&self, run: &str) -> bool {
        self.runs.iter().any(|known| known == run)
    }
}

/// The ratings by every judge and suite that compared at least `least` models. The anchor is `anchor` where it takes part,
/// otherwise the model that most evaluations compare with.
#[must_use]
pub fn standings(evaluations: &[RatedEvaluation], anchor: Option<&str>, least: usize) -> Vec<Standings> {
    let mut tables: BTreeSet<(&str, &str)> = BTreeSet::new();
    for found in evaluations {
        tables.extend(found.judges.iter().map(|(judge, suite, _)| (*judge, *suite)));
    }
    tables.into_iter().filter_map(|(judge, suite)| table(evaluations, judge, suite, anchor, least)).collect()
}

/// One comparison with its contenders, from 0.
struct Met<'a> {
    run: &'a str,
    game: Game,
    key: &'a ItemKey,
}

fn table(
    evaluations: &[RatedEvaluation],
    judge: &str,
    suite: &str,
    anchor: Option<&str>,
    least: usize,
) -> Option<Standings> {
    let own = |c: &&Comparison| c.judge == judge && c.key.suite == suite;
    let has = |found: &&RatedEvaluation| found.eval.comparisons().any(|c| own(&c)) && found.names[0] != found.names[1];
    let taken: Vec<&RatedEvaluation> = evaluations.iter().filter(has).collect();
    let names: Vec<&str> = taken.iter().flat_map(|found| found.names).collect::<BTreeSet<_>>().into_iter().collect();
    if names.len() < least.max(2) {
        return None;
    }
    let place = |name: &str| names.iter().position(|known| *known == name).unwrap_or(0);
    let mut left_out = [0, 0];
    let mut met: BTreeMap<(usize, usize, &ItemKey), Met> = BTreeMap::new();
    for found in &taken {
        for comparison in found.eval.comparisons().filter(own) {
            let Some(score) = comparison.p.map(|p| p.0).filter(|p| (0.0..=1.0).contains(p)) else {
                left_out[1] += 1;
                continue;
            };
            let [first, second] = found.names.map(place);
            let game = Game { prompt: hash64(comparison.cluster.as_bytes()), first, second, score };
            let item = (first.min(second), first.max(second), &comparison.key);
            left_out[0] += usize::from(met.insert(item, Met { run: found.run, game, key: &comparison.key }).is_some());
        }
    }
    let games: Vec<Game> = met.values().map(|met| met.game).collect();
    let anchor = anchor.filter(|name| names.contains(name)).unwrap_or_else(|| {
        let compared = |name: &str| taken.iter().filter(|found| found.names[1] == name).count();
        // The first of several by name.
        names.iter().rev().copied().max_by_key(|name| compared(name)).unwrap_or_default()
    });
    let fit = ratings(names.len(), &games, Some(place(anchor)), SEED);
    let runs: BTreeSet<&str> = met.values().map(|met| met.run).collect();
    let prompts: BTreeSet<u64> = games.iter().map(|game| game.prompt).collect();
    let mut rows: Vec<Standing> = names.iter().enumerate().map(|(at, name)| standing(name, at, &games)).collect();
    let mut remarks = Vec::new();
    let undefined = match &fit {
        Ok(fit) => {
            for (at, row) in rows.iter_mut().enumerate() {
                rate(row, fit, at, place(anchor));
            }
            remarks = remarks_of(fit, &met, names.len());
            None
        }
        Err(Undefined::NeverMet(at)) => {
            let apart = names.get(at - 1).copied().unwrap_or_default();
            Some(format!(
                "{apart} has no comparison, direct or through others, with {}: evaluate them against each other",
                names[0]
            ))
        }
        Err(why) => Some(why.to_string()),
    };
    if undefined.is_none() {
        rows.sort_by(|a, b| b.elo.total_cmp(&a.elo).then_with(|| a.name.cmp(&b.name)));
    }
    let mut not_headline: Vec<String> = Vec::new();
    for found in taken.iter().filter(|found| runs.contains(found.run)) {
        let said = found.judges.iter().filter(|(of, on, _)| *of == judge && *on == suite);
        for why in said.flat_map(|(.., whys)| whys.iter()) {
            if !not_headline.contains(why) {
                not_headline.push(why.clone());
            }
        }
    }
    Some(Standings {
        judge: judge.into(),
        suite: suite.into(),
        anchor: anchor.into(),
        rows,
        comparisons: games.len(),
        prompts: prompts.len(),
        left_out,
        runs: runs.into_iter().map(str::to_owned).collect(),
        tie_rate: davidson(names.len(), &counts(&games)).ok().map(|model| model.tie / (2.0 + model.tie)),
        remarks,
        undefined,
        not_headline,
    })
}

/// A contender's wins, ties and losses.
fn standing(name: &str, at: usize, games: &[Game]) -> Standing {
    let mut row = Standing {
        name: name.into(),
        elo: ANCHOR_RATING,
        interval: None,
        wins: 0,
        ties: 0,
        losses: 0,
        conclusion: None,
    };
    for game in games.iter().filter(|game| game.first == at || game.second == at) {
        let score = if game.first == at { game.score } else { 1.0 - game.score };
        match score {
            s if s > 0.5 => row.wins += 1,
            s if s < 0.5 => row.losses += 1,
            _ => row.ties += 1,
        }
    }
    row
}

fn rate(row: &mut Standing, fit: &Ratings, at: usize, anchor: usize) {
    let found = &fit.contenders[at];
    row.elo = found.elo;
    if at == anchor {
        return;
    }
    let Ok(interval) = &found.interval else {
        row.conclusion = Some(Conclusion { word: "cannot tell", detail: Some("there is no interval".into()) });
        return;
    };
    row.interval = Some([interval.low, interval.high]);
    row.conclusion =
        Some(conclude(&verdict_of(found.elo, interval, ANCHOR_RATING, fit.prompts), Better::Higher, "prompt"));
}

fn remarks_of(fit: &Ratings, met: &BTreeMap<(usize, usize, &ItemKey), Met>, contenders: usize) -> Vec<String> {
    let mut out = Vec::new();
    if let Some(weight) = fit.pseudo_win {
        out.push(format!(
            "some model won or lost everything: {weight} wins were added in both directions, so its rating is a lower bound of the \
             distance"
        ));
    } else if fit.held_samples > 0 {
        out.push(format!("{} samples of the intervals needed added wins", fit.held_samples));
    }
    if fit.apart_samples > 0 {
        out.push(format!("{} samples of the intervals lacked a comparison and were left out", fit.apart_samples));
    }
    let pairs: BTreeSet<(usize, usize)> = met.keys().map(|(a, b, _)| (*a, *b)).collect();
    let all = contenders * (contenders - 1) / 2;
    if pairs.len() < all {
        out.push(format!("{} of {all} pairs of models met; the others are compared through third ones", pairs.len()));
    }
    let items = |a: usize, b: usize| -> BTreeSet<&ItemKey> {
        met.iter().filter(|((x, y, _), _)| (*x, *y) == (a, b)).map(|(_, met)| met.key).collect()
    };
    let sets: Vec<BTreeSet<&ItemKey>> = pairs.iter().map(|(a, b)| items(*a, *b)).collect();
    if sets.windows(2).any(|two| two[0] != two[1]) {
        out.push("not every two models met on the same items".into());
    }
    out
}

/// Wins, losses and ties of every two that met.
fn counts(games: &[Game]) -> Vec<PairCounts> {
    let mut all: BTreeMap<(usize, usize), PairCounts> = BTreeMap::new();
    for game in games {
        let (first, second) = (game.first.min(game.second), game.first.max(game.second));
        let score = if game.first == first { game.score } else { 1.0 - game.score };
        let counts =
            all.entry((first, second)).or_insert(PairCounts { first, second, wins: 0.0, losses: 0.0, ties: 0.0 });
        match score {
            s if s > 0.5 => counts.wins += 1.0,
            s if s < 0.5 => counts.losses += 1.0,
            _ => counts.ties += 1.0,
        }
    }
    all.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{EvalReport, Num, eval_report};

    /// Comparisons of `a` with `b`: 1 a win of a, 0 a loss, 0.5 a tie, none without an opinion.
    fn compared(scores: &[Option<f64>]) -> EvalState {
        let mut eval = EvalState::default();
        for (i, p) in scores.iter().enumerate() {
            eval.compare(Comparison {
                key: ItemKey { suite: "winrate".into(), item: format!("p{i}"), seed: 0 },
                judge: "check:x".into(),
                cluster: format!("p{i}"),
                p: p.map(Num),
                a_first: None,
                b_first: None,
                chars: [1, 1],
                problem: None,
                reference: None,
                difference: None,
            });
        }
        eval
    }

    fn won(wins: usize, ties: usize, losses: usize) -> EvalState {
        let scores = [(1.0, wins), (0.5, ties), (0.0, losses)];
        compared(&scores.iter().flat_map(|(p, n)| vec![Some(*p); *n]).collect::<Vec<_>>())
    }

    fn rated(evaluations: &[(&str, [&str; 2], EvalState)], anchor: Option<&str>, least: usize) -> Vec<Standings> {
        let reports: Vec<EvalReport> = evaluations.iter().map(|(.., eval)| eval_report(eval, &[])).collect();
        let all: Vec<RatedEvaluation> = evaluations
            .iter()
            .zip(&reports)
            .map(|((run, names, eval), report)| RatedEvaluation {
                run,
                names: *names,
                eval,
                judges: report.headlines(),
            })
            .collect();
        standings(&all, anchor, least)
    }

    #[test]
    fn three_models_are_rated_by_all_that_met() {
        let found = rated(
            &[
                ("eval-1", ["sft", "base"], won(24, 6, 10)),
                ("eval-2", ["dpo", "base"], won(30, 6, 4)),
                ("eval-3", ["dpo", "sft"], won(20, 10, 10)),
            ],
            Some("base"),
            3,
        );
        let [table] = found.as_slice() else { panic!("{found:?}") };
        let names: Vec<&str> = table.rows.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names, ["dpo", "sft", "base"]);
        assert_eq!((table.rows[2].elo, table.rows[2].interval, &table.rows[2].conclusion), (1000.0, None, &None));
        assert_eq!((table.rows[0].wins, table.rows[0].ties, table.rows[0].losses), (50, 16, 14));
        assert!(table.rows[0].conclusion.as_ref().is_some_and(|c| c.word == "better"), "{table:?}");
        let [low, high] = table.rows[1].interval.unwrap();
        assert!(low < table.rows[1].elo && table.rows[1].elo < high && low > 1000.0);
        assert_eq!((table.comparisons, table.prompts, table.left_out), (120, 40, [0, 0]));
        assert!(table.tie_rate.unwrap() > 0.1 && table.remarks.is_empty(), "{table:?}");
    }

    #[test]
    fn the_order_of_contestants_and_runs_changes_nothing() {
        let one = rated(&[("e1", ["x", "y"], won(9, 2, 5)), ("e2", ["y", "z"], won(8, 0, 8))], Some("y"), 2);
        let two = rated(&[("e1", ["z", "y"], won(8, 0, 8)), ("e2", ["y", "x"], won(5, 2, 9))], Some("y"), 2);
        for (a, b) in one[0].rows.iter().zip(&two[0].rows) {
            assert!(a.name == b.name && (a.elo - b.elo).abs() < 1e-6, "{a:?} {b:?}");
        }
        assert_eq!(one[0].remarks[0], "2 of 3 pairs of models met; the others are compared through third ones");
    }

    #[test]
    fn the_same_two_on_the_same_item_count_once_and_silence_is_counted() {
        let found = rated(
            &[("e1", ["a", "b"], won(0, 0, 12)), ("e2", ["b", "a"], compared(&[Some(0.0), Some(0.0), None]))],
            None,
            2,
        );
        assert_eq!((found[0].comparisons, found[0].left_out), (12, [2, 1]));
        // The newest evaluation says that b lost two of twelve.
        let b = found[0].rows.iter().find(|row| row.name == "b").unwrap();
        assert_eq!((b.wins, b.losses), (10, 2));
    }

    #[test]
    fn models_that_never_met_and_too_few_have_no_ratings() {
        let apart = rated(&[("e1", ["a", "b"], won(3, 0, 2)), ("e2", ["c", "d"], won(3, 0, 2))], None, 2);
        assert!(apart[0].undefined.as_ref().unwrap().starts_with("c has no comparison"), "{apart:?}");
        assert!(rated(&[("e1", ["a", "b"], won(3, 0, 2))], None, 3).is_empty());
        let tied = rated(&[("e1", ["a", "b"], won(0, 20, 0))], Some("b"), 2);
        assert_eq!((tied[0].rows[0].elo, tied[0].rows[1].elo), (1000.0, 1000.0));
        let word = tied[0].rows.iter().find_map(|row| row.conclusion.as_ref()).unwrap();
        assert_eq!((word.word, tied[0].tie_rate), ("cannot tell", None));
        let all = rated(&[("e1", ["a", "b"], won(20, 0, 0))], Some("b"), 2);
        assert!(all[0].remarks[0].starts_with("some model won or lost everything"), "{all:?}");
    }
}
