//! Verdicts of models, as they are given: a run's by the gap between its scores.
//!
//! Owns what is said about them: the rule, ties, pairs judged before, and what was left out and why. A pair that the same rater
//! has judged is never judged again.

use super::super::error::Result;
use super::sink::ScoreSink;
use crate::domain::{
    Asked, Choice, CompletionId, GAPS, Pair, PairId, Rater, RunId, Seen, Session, Showing, Side, TIE_GAP, Verdict,
    WinnerHash, counted, vote_by_gap,
};
use crate::protocol::SessionRecord;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};

/// Verdicts as they are given.
pub(super) struct Votes<'a> {
    session: &'a Session,
    pub(super) rater: Rater,
    pub(super) sink: &'a mut dyn ScoreSink,
    pub(super) given: usize,
    ties: usize,
    left_out: BTreeMap<String, usize>,
}

impl<'a> Votes<'a> {
    pub(super) fn new(session: &'a Session, rater: Rater, sink: &'a mut dyn ScoreSink) -> Self {
        Self { session, rater, sink, given: 0, ties: 0, left_out: BTreeMap::new() }
    }

    /// Gives one verdict; `how` is what it came from.
    pub(super) fn give(&mut self, id: &PairId, choice: Choice, how: &Value) -> Result<()> {
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
            winner_hash: winner.map(|text| WinnerHash::of(text)),
            asked: Asked::default(),
            showing: Showing::default(),
        };
        self.given += 1;
        self.ties += usize::from(choice == Choice::Tie);
        let object = json!({ "pair": id, "rater": self.rater, "choice": choice, "from": how });
        self.sink.record(SessionRecord::Judged(verdict.into()), object)
    }

    pub(super) fn leave_out(&mut self, why: &str) {
        *self.left_out.entry(why.to_owned()).or_default() += 1;
    }

    /// What came of it, in one line.
    pub(super) fn text(&self, before: usize, rule: &str, more: &str) -> String {
        let left: Vec<String> = self.left_out.iter().map(|(why, n)| format!("{n} × {why}")).collect();
        let left = if left.is_empty() { String::new() } else { format!("; left out: {}", left.join("; ")) };
        let before = if before > 0 { format!(", {before} judged before") } else { String::new() };
        format!(
            "{} judged by {} ({}){before}{left}; {rule}{more}",
            counted(self.given, "pair"),
            self.rater,
            counted(self.ties, "tie"),
        )
    }

    /// Judges every pair of two scored answers, or those of the sampling run `of`, by the gap of their scores.
    pub(super) fn by_scores(
        &mut self,
        scores: &HashMap<CompletionId, f64>,
        tie_band: Option<f64>,
        of: Option<&RunId>,
    ) -> Result<String> {
        let finite: Vec<f64> = scores.values().copied().filter(|x| x.is_finite()).collect();
        let mean = finite.iter().sum::<f64>() / finite.len().max(1) as f64;
        let sd = (finite.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / finite.len().max(1) as f64).sqrt();
        let tie = tie_band.unwrap_or(TIE_GAP);
        let mut before = 0;
        for pair in self.session.pairs().iter().filter(|pair| is_of(pair, of)) {
            if self.session.verdict_of(&pair.id, &self.rater).is_some() {
                before += 1;
                continue;
            }
            match scores.get(&pair.a).zip(scores.get(&pair.b)).map(|(a, b)| a - b) {
                Some(gap) if gap.is_finite() => {
                    let size = if sd > 0.0 { gap / sd } else { 0.0 };
                    self.give(&pair.id, vote_by_gap(size, tie), &json!({ "gap": size }))?;
                }
                Some(_) => self.leave_out("a score is infinite or NaN"),
                None => self.leave_out("an answer has no score"),
            }
        }
        Ok(self.text(before, &rule(tie, GAPS, "standard deviations of its scores"), ""))
    }
}

/// Whether both answers are of that sampling run, where one is named.
pub(super) fn is_of(pair: &Pair, run: Option<&RunId>) -> bool {
    run.is_none_or(|run| pair.a.is_of(run) && pair.b.is_of(run))
}

/// The rule of the thresholds in words.
pub(super) fn rule(tie: f64, [better, much]: [f64; 2], unit: &str) -> String {
    format!("tie up to {tie}, slight below {better}, better below {much}, else much, in {unit}")
}
