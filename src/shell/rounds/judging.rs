//! The verdicts of a round: by verifiable checks here, by a run or a judge model through the code of `score`.
//!
//! Owns the way of verdicts and scores into the log: in batches, so that an end at any time keeps what was judged, and no pair is
//! judged twice. Refuses people's verdicts: the label screen takes them.

use super::super::error::{Error, Result};
use super::super::out;
use super::super::scoring::{self, ScoreSink};
use super::delivery::deliver;
use super::follow::LoopControl;
use super::planning::options;
use crate::app::ScoreRequest;
use crate::domain::{
    Asked, Checks, Choice, LoopSpec, Pair, Rater, Seen, Session, Showing, Side, Strength, Verdict, WinnerHash, counted,
};
use crate::protocol::SessionRecord;
use crate::storage::{Home, SessionDir};
use indicatif::ProgressBar;
use serde_json::Value;
use std::time::{Duration, Instant};

/// The most records of a batch, and the longest time until one is delivered.
const BATCH: usize = 400;
const PAUSE: Duration = Duration::from_secs(4);

/// Judges what the round's judge has not judged. Returns what to say.
pub(super) fn judge(
    home: &Home,
    dir: &SessionDir,
    spec: &LoopSpec,
    round: u32,
    key_envs: &[String],
    control: &mut LoopControl,
) -> Result<String> {
    let (kind, operand) = spec.judge.split_once(':').unwrap_or((&spec.judge, ""));
    match (kind, &spec.rater) {
        ("check", Some(rater)) => by_checks(dir, spec, round, operand, rater, control),
        ("llm", _) => by_score(home, dir, spec, round, &format!("judge:{operand}"), true, key_envs, control),
        (_, Some(_)) => by_score(home, dir, spec, round, operand, true, key_envs, control),
        (_, None) => Err(Error::failed(format!("people judge the pairs of {}, and no process", spec.name))),
    }
}

/// Scores the round's answers with a run, for a strategy that compares scores. Returns what to say.
pub(super) fn score(
    home: &Home,
    dir: &SessionDir,
    spec: &LoopSpec,
    round: u32,
    run: &str,
    control: &mut LoopControl,
) -> Result<String> {
    by_score(home, dir, spec, round, run, false, &[], control)
}

#[expect(clippy::too_many_arguments, reason = "two callers, which have them all")]
fn by_score(
    home: &Home,
    dir: &SessionDir,
    spec: &LoopSpec,
    round: u32,
    with: &str,
    vote: bool,
    key_envs: &[String],
    control: &mut LoopControl,
) -> Result<String> {
    let request = ScoreRequest { with: with.to_owned(), vote, tie_band: spec.tie_band, servers: options(key_envs) };
    let (session, _) = dir.state()?;
    let mut sink = Batches {
        dir,
        name: &spec.name,
        control,
        batch: Vec::new(),
        delivered: Instant::now(),
        bar: ProgressBar::hidden(),
    };
    let done = scoring::run_on(home, dir, &session, &request, Some(&spec.sampling(round)), None, &mut sink);
    sink.bar.finish_and_clear();
    let kept = sink.flush();
    let said = done?;
    kept?;
    Ok(said.first().cloned().unwrap_or_default())
}

/// Collects records and hands them to the session's log.
struct Batches<'a> {
    dir: &'a SessionDir,
    name: &'a str,
    control: &'a mut LoopControl,
    batch: Vec<SessionRecord>,
    delivered: Instant,
    bar: ProgressBar,
}

impl Batches<'_> {
    fn flush(&mut self) -> Result<()> {
        self.delivered = Instant::now();
        deliver(self.dir, self.name, &std::mem::take(&mut self.batch), self.control)
    }
}

impl ScoreSink for Batches<'_> {
    fn begin(&mut self, what: &str, total: usize, by: &str) {
        self.bar = out::bar(total as u64, what);
        self.bar.set_message(format!("{} {by}", self.name));
    }

    fn advance(&mut self) {
        self.bar.inc(1);
    }

    fn record(&mut self, record: SessionRecord, _: Value) -> Result<()> {
        self.batch.push(record);
        if self.batch.len() >= BATCH || self.delivered.elapsed() >= PAUSE {
            self.flush()?;
        }
        self.control.check()
    }

    fn note(&mut self, text: &str) {
        out::note(text);
    }
}

/// The answer that meets more of the checks is better; as many are a tie.
fn by_checks(
    dir: &SessionDir,
    spec: &LoopSpec,
    round: u32,
    list: &str,
    rater: &Rater,
    control: &mut LoopControl,
) -> Result<String> {
    let checks = Checks::parse(list).map_err(|e| Error::failed(format!("the judge of {}: {e}", spec.name)))?;
    let (session, _) = dir.state()?;
    let own = session.pairs().iter().filter(|pair| spec.round_of(&pair.id) == Some(round));
    let open = own.filter(|pair| session.verdict_of(&pair.id, rater).is_none());
    let verdicts: Vec<Verdict> = open.filter_map(|pair| by_check(&checks, &session, pair, rater)).collect();
    let ties = verdicts.iter().filter(|v| v.choice == Choice::Tie).count();
    let said = format!("{} judged by {rater} ({})", counted(verdicts.len(), "pair"), counted(ties, "tie"));
    let records: Vec<SessionRecord> =
        verdicts.into_iter().map(|verdict| SessionRecord::Judged(verdict.into())).collect();
    deliver(dir, &spec.name, &records, control)?;
    Ok(said)
}

/// The verdict on one pair; none where an answer is missing.
fn by_check(checks: &Checks, session: &Session, pair: &Pair, rater: &Rater) -> Option<Verdict> {
    let (a, b) = session.sides(pair)?;
    let (choice, winner) = match checks.score(&a.text).total_cmp(&checks.score(&b.text)) {
        std::cmp::Ordering::Greater => (Choice::Prefer(Side::A, Strength::Better), Some(a)),
        std::cmp::Ordering::Less => (Choice::Prefer(Side::B, Strength::Better), Some(b)),
        std::cmp::Ordering::Equal => (Choice::Tie, None),
    };
    Some(Verdict {
        pair: pair.id.clone(),
        rater: rater.clone(),
        choice,
        // No side was shown to anybody; the pair's own order stands for that.
        left: Side::A,
        seen: Seen::Unknown,
        ms: 0,
        winner_hash: winner.map(|answer| WinnerHash::of(&answer.text)),
        asked: Asked::default(),
        showing: Showing::default(),
    })
}
