//! Scoring a session's answers with a trained run, and judging its pairs with a run or a judge model: for the command `score` and
//! the score screen.
//!
//! Owns what is asked and what is said at the end. Refuses to write the log: every record goes to a [`ScoreSink`] as soon as it
//! is known, so that an interruption keeps what was done.

mod judge;
mod sink;
mod vote;

pub use sink::ScoreSink;

use super::error::{Error, Result};
use super::supervisor::{Deadline, ask_within, restore_models};
use super::{inputs, plan};
use crate::app::ScoreRequest;
use crate::domain::{CompletionId, Rater, RunId, Session, counted};
use crate::protocol::{Scoring, ServerOptions, SessionRecord};
use crate::storage::{Home, SessionDir};
use serde_json::json;
use std::collections::HashMap;
use std::ffi::OsStr;
use vote::Votes;

/// The rater's name of a judge model.
///
/// # Errors
/// When there is no such model or server.
pub fn judge_rater(home: &Home, word: &str, servers: &ServerOptions) -> Result<Rater> {
    let servers = servers.clone();
    let request = ScoreRequest { with: format!("judge:{word}"), vote: true, tie_band: None, servers };
    let (_, name) = judge::named(home, word, &request)?;
    Ok(Rater::model(&format!("judge:{name}")))
}

/// Checks a request before anything is opened.
///
/// # Errors
/// When it cannot be done: one sentence.
pub fn check(request: &ScoreRequest) -> Result<()> {
    if request.with.starts_with("judge:") && !request.vote {
        return Err(Error::Usage(
            "a judge compares two answers and scores none alone: add --vote, then `tiebreak pair … --score judge:MODEL` can use \
             its verdicts"
                .into(),
        ));
    }
    Ok(())
}

/// Scores every answer that the run has not scored yet and, with [`ScoreRequest::vote`], judges every pair that it has not
/// judged; a judge model only judges. Returns what to say.
///
/// # Errors
/// When the run or the judge is unusable, or the sink refuses a record. What the sink took before counts.
pub fn run(
    home: &Home,
    dir: &SessionDir,
    session: &Session,
    request: &ScoreRequest,
    deadline: Option<&Deadline>,
    sink: &mut dyn ScoreSink,
) -> Result<Vec<String>> {
    run_on(home, dir, session, request, None, deadline, sink)
}

/// As [`run`], of the answers and pairs of the sampling run `of` alone.
///
/// # Errors
/// As [`run`].
pub fn run_on(
    home: &Home,
    dir: &SessionDir,
    session: &Session,
    request: &ScoreRequest,
    of: Option<&RunId>,
    deadline: Option<&Deadline>,
    sink: &mut dyn ScoreSink,
) -> Result<Vec<String>> {
    check(request)?;
    if let Some(judge) = request.with.strip_prefix("judge:") {
        return judge::judge(home, dir, session, judge, request, of, deadline, sink).map(|said| vec![said]);
    }
    let id = RunId::new(&request.with);
    let run = plan::scoring_run(dir, &id)?;
    for text in inputs::unchecked(&run).into_iter().chain(inputs::older_checkpoint(&run, &id)?) {
        sink.note(&text);
    }
    restore_models(&run)?;
    let mut answers = session.completions();
    answers.retain(|c| of.is_none_or(|run| c.id.is_of(run)));
    let mut scores: HashMap<CompletionId, f64> =
        answers.iter().filter_map(|c| Some((c.id.clone(), session.score_by(&id, &c.id)?))).collect();
    let known = scores.len();
    sink.begin("answers", answers.len() - known, id.as_str());
    let (mut scored, mut unfit) = (0, 0);
    let mut question = vec!["score".as_ref(), run.path().as_os_str(), id.as_str().as_ref()];
    question.extend(of.map(|run| OsStr::new(run.as_str())));
    ask_within(deadline, &question, |Scoring { completion, score }| {
        sink.advance();
        let Some(score) = score else {
            unfit += 1;
            return Ok(());
        };
        scored += 1;
        scores.insert(completion.clone(), score.0);
        let object = json!({ "completion": completion, "run": id, "score": score });
        sink.record(SessionRecord::Scored { completion, run: id.clone(), score }, object)
    })?;
    let mut said = Vec::new();
    if request.vote {
        let mut votes = Votes::new(session, Rater::model(id.as_str()), sink);
        said.push(votes.by_scores(&scores, request.tie_band, of)?);
    }
    let before = if known > 0 { format!(", {known} already scored") } else { String::new() };
    let unfit =
        if unfit > 0 { format!(", {unfit} left out: empty, or longer than the context") } else { String::new() };
    said.push(format!(
        "{} scored by {id}{before}{unfit}; `tiebreak label {} --order uncertain` shows its least certain pairs first",
        counted(scored, "answer"),
        dir.name()
    ));
    Ok(said)
}
