//! People as judges of an evaluation: the path from their verdicts on posed pairs to comparisons. Refuses statistics.

use super::ids::Rater;
use super::measured::{Comparison, EvalState};
use super::metric::Num;
use super::posed::{HUMAN, PosedPair};
use super::session::Session;
use super::verdict::Choice;
use std::collections::BTreeSet;

/// A verdict on a posed pair as a comparison.
pub(super) fn comparison(posed: &PosedPair, judge: &str, p: Option<f64>, problem: Option<&str>) -> Comparison {
    Comparison {
        key: posed.key.clone(),
        judge: judge.to_owned(),
        cluster: posed.cluster.clone(),
        p: p.map(Num),
        a_first: None,
        b_first: None,
        chars: posed.chars(),
        problem: problem.map(str::to_owned),
        reference: None,
        difference: None,
    }
}

/// What an evaluation logged, with the comparisons by people: under `human:NAME` for everybody who judged one of its pairs,
/// an open pair without an opinion. What was decided without asking (an empty answer, two equal ones) counts for everybody.
#[must_use]
pub fn with_people(eval: &EvalState, session: &Session) -> EvalState {
    let posed: Vec<&PosedPair> = eval.posed().collect();
    let votes: Vec<(&PosedPair, Vec<(&Rater, Choice)>)> = posed
        .into_iter()
        .map(|posed| {
            let counting = session.counting(&posed.pair.id).into_iter();
            (posed, counting.filter(|(_, v)| v.rater.is_person()).map(|(_, v)| (&v.rater, v.choice)).collect())
        })
        .collect();
    let raters: BTreeSet<&Rater> = votes.iter().flat_map(|(_, given)| given.iter().map(|(rater, _)| *rater)).collect();
    let mut out = eval.clone();
    let decided: Vec<Comparison> = out.comparisons().filter(|c| c.judge == HUMAN).cloned().collect();
    if raters.is_empty() {
        for (posed, _) in &votes {
            out.compare(comparison(posed, HUMAN, None, Some("not judged yet")));
        }
        return out;
    }
    out.forget_judge(HUMAN);
    for rater in raters {
        let judge = format!("{HUMAN}:{rater}");
        for comparison in &decided {
            out.compare(Comparison { judge: judge.clone(), ..comparison.clone() });
        }
        for (posed, given) in &votes {
            let score = given.iter().find(|(by, _)| *by == rater).and_then(|(_, choice)| posed.score(*choice));
            let problem = if score.is_none() { Some("not judged yet") } else { None };
            out.compare(comparison(posed, &judge, score, problem));
        }
    }
    out
}
