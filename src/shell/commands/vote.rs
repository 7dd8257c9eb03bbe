//! Verdicts of models: a run's, by the gap between its scores, and a judge's, by the probability that it gives.
//!
//! Owns what is said about them: the rule, ties, pairs judged before, and what was left out and why. A pair that the same rater
//! has judged is never judged again.

use super::super::cli::ScoreArgs;
use super::super::error::{Error, Result};
use super::super::journal::Journal;
use super::super::supervisor::ask;
use super::super::{models, out, servers};
use super::context::CommandContext;
use crate::domain::{
    Asked, Choice, CompletionId, DISTANCES, GAPS, PairId, Rater, RunId, Seen, Session, Side, TIE_GAP, TIE_PROBABILITY,
    Verdict, counted, hash64, model_name, vote_by_gap, vote_by_probability,
};
use crate::protocol::{JudgeModel, Judgement, ServerRef, SessionRecord};
use crate::storage::SessionDir;
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;

/// Below this probability of both letters together a judge does not answer the question.
const LITTLE_MASS: f64 = 0.5;

/// Verdicts as they are written.
struct Votes<'a> {
    context: &'a CommandContext,
    session: &'a Session,
    rater: Rater,
    given: usize,
    ties: usize,
    left_out: BTreeMap<String, usize>,
}

impl Votes<'_> {
    /// Writes one verdict; `how` is what it came from, for JSON.
    fn give(&mut self, journal: &mut Journal, id: &PairId, choice: Choice, how: &serde_json::Value) -> Result<()> {
        let sides = self.session.pair(id).and_then(|pair| self.session.sides(pair));
        let winner = match (choice, sides) {
            (Choice::Prefer(Side::A, _), Some((a, _))) => Some(&a.text),
            (Choice::Prefer(Side::B, _), Some((_, b))) => Some(&b.text),
            _ => None,
        };
        let verdict = Verdict {
            pair: id.clone(),
            rater: self.rater.clone(),
            choice,
            // A judge sees both orders, a run none; the pair's own order stands for that.
            left: Side::A,
            seen: Seen::Unknown,
            ms: 0,
            winner_hash: winner.map(|text| format!("{:016x}", hash64(text.as_bytes()))),
            asked: Asked::default(),
            showing: crate::domain::Showing::default(),
        };
        self.given += 1;
        self.ties += usize::from(choice == Choice::Tie);
        if self.context.json {
            out::json(&json!({ "pair": id, "rater": self.rater, "choice": choice, "from": how }))?;
        }
        journal.append(&SessionRecord::Judged(verdict))?;
        Ok(())
    }

    fn leave_out(&mut self, why: &str) {
        *self.left_out.entry(why.to_owned()).or_default() += 1;
    }

    /// The end of the command in one line.
    fn say(&self, before: usize, rule: &str, more: &str) -> Result<()> {
        if self.context.json {
            return Ok(());
        }
        let left: Vec<String> = self.left_out.iter().map(|(why, n)| format!("{n} × {why}")).collect();
        let left = if left.is_empty() { String::new() } else { format!("; left out: {}", left.join("; ")) };
        let before = if before > 0 { format!(", {before} judged before") } else { String::new() };
        out::line(&format!(
            "{} judged by {} ({}){before}{left}; {rule}{more}",
            counted(self.given, "pair"),
            self.rater,
            counted(self.ties, "tie"),
        ))
    }
}

/// The rule of the thresholds in words.
fn rule(tie: f64, [better, much]: [f64; 2], unit: &str) -> String {
    format!("tie up to {tie}, slight below {better}, better below {much}, else much, in {unit}")
}

/// Judges every pair of two scored answers by the gap of their scores.
pub(super) fn by_scores(
    context: &CommandContext,
    session: &Session,
    journal: &mut Journal,
    run: &RunId,
    scores: &HashMap<CompletionId, f64>,
    tie_band: Option<f64>,
) -> Result<()> {
    let finite: Vec<f64> = scores.values().copied().filter(|x| x.is_finite()).collect();
    let mean = finite.iter().sum::<f64>() / finite.len().max(1) as f64;
    let sd = (finite.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / finite.len().max(1) as f64).sqrt();
    let tie = tie_band.unwrap_or(TIE_GAP);
    let rater = Rater::model(run.as_str());
    let mut votes = Votes { context, session, rater, given: 0, ties: 0, left_out: BTreeMap::new() };
    let mut before = 0;
    for pair in session.pairs() {
        if session.verdict_of(&pair.id, &votes.rater).is_some() {
            before += 1;
            continue;
        }
        match scores.get(&pair.a).zip(scores.get(&pair.b)).map(|(a, b)| a - b) {
            Some(gap) if gap.is_finite() => {
                let size = if sd > 0.0 { gap / sd } else { 0.0 };
                votes.give(journal, &pair.id, vote_by_gap(size, tie), &json!({ "gap": size }))?;
            }
            Some(_) => votes.leave_out("a score is infinite or NaN"),
            None => votes.leave_out("an answer has no score"),
        }
    }
    votes.say(before, &rule(tie, GAPS, "standard deviations of its scores"), "")
}

/// Judges every pair with a judge model, asked in both orders.
pub(super) fn by_judge(context: &CommandContext, dir: &SessionDir, word: &str, args: &ScoreArgs) -> Result<()> {
    if !args.vote {
        return Err(Error::Usage(
            "a judge compares two answers and scores none alone: add --vote, then `tiebreak pair … --score judge:MODEL` can use \
             its verdicts"
                .into(),
        ));
    }
    let (judge, name) = if ServerRef::is_address(word) {
        let word = word.to_owned();
        let server = servers::find(&[&word], &args.server.options())?.pop();
        let server = server.ok_or_else(|| Error::Usage("name a judge: judge:MODEL or judge:URL#NAME".into()))?;
        let name = server.name();
        (JudgeModel::Server(server), name)
    } else {
        let model = models::find(&context.home, word)?;
        (JudgeModel::Local(model.path), model_name(&model.name))
    };
    // The lock comes first: judging takes a while and must not be wasted.
    let mut journal = Journal::require(dir)?;
    let (session, found) = dir.state()?;
    out::warn_of_damage(&found);
    let rater = Rater::model(&format!("judge:{name}"));
    let before = session.pairs().iter().filter(|p| session.verdict_of(&p.id, &rater).is_some()).count();
    let bar = out::bar((session.pairs().len() - before) as u64, "pairs");
    bar.set_message(format!("{}/{rater}", dir.name()));
    let tie = args.tie_band.unwrap_or(TIE_PROBABILITY);
    let mut votes =
        Votes { context, session: &session, rater: rater.clone(), given: 0, ties: 0, left_out: BTreeMap::new() };
    let (mut flips, mut by_text, mut mass) = (0, 0, Vec::new());
    let json = serde_json::to_string(&judge).map_err(|e| Error::bug("write a judge as JSON", e))?;
    let question: [&OsStr; 4] = ["judge".as_ref(), dir.path().as_os_str(), json.as_ref(), rater.as_str().as_ref()];
    let done = ask(&question, |judged: Judgement| {
        bar.inc(1);
        let Some(probability) = judged.probability() else {
            votes.leave_out(judged.problem.as_deref().unwrap_or("the judge gave no answer"));
            return Ok(());
        };
        flips += usize::from(judged.flips());
        match judged.mass {
            Some(share) => mass.push(share),
            None => by_text += 1,
        }
        let how = json!({ "a_first": judged.a_first, "b_first": judged.b_first, "mass": judged.mass });
        votes.give(&mut journal, &judged.pair, vote_by_probability(probability, tie), &how)
    });
    bar.finish_and_clear();
    journal.close()?;
    done?;
    let mut more = String::new();
    if votes.given > 0 {
        let share = 100.0 * flips as f64 / votes.given as f64;
        more = format!("; the order of the answers decided {flips} ({share:.0} %), both orders are averaged");
    }
    if by_text > 0 {
        more.push_str(&format!("; {by_text} by the judge's text, as the server sent no log-probs"));
    }
    let mean = mass.iter().sum::<f64>() / mass.len().max(1) as f64;
    if !mass.is_empty() && mean < LITTLE_MASS {
        more.push_str(&format!(
            "; the letters A and B had only {:.0} % of the judge's probability: it hardly understands the question",
            100.0 * mean
        ));
    }
    votes.say(before, &rule(tie, DISTANCES, "distance of the probability from 0.5"), &more)
}
