//! Verdicts of a judge model, by the probability that it gives in both orders of the answers.
//!
//! Owns the record of what the judge is: the files of a local model with their digests, the address and name of one behind a
//! server. Refuses to go on under the same rater's name with another model.

use super::super::error::{Error, Result};
use super::super::supervisor::{Deadline, ask_within};
use super::super::{models, servers};
use super::sink::ScoreSink;
use super::vote::{Votes, is_of, rule};
use crate::app::ScoreRequest;
use crate::domain::{DISTANCES, Rater, RunId, Session, TIE_PROBABILITY, model_name, vote_by_probability};
use crate::protocol::{Inputs, JudgeModel, Judgement, ServerRef, SessionRecord};
use crate::storage::{Home, SessionDir};
use serde_json::json;
use std::ffi::OsStr;

/// Below this probability of both letters together a judge does not answer the question.
const LITTLE_MASS: f64 = 0.5;
/// Differing files that a message names.
const NAMED: usize = 3;

/// The judge that a word names, and its name as a rater.
/// # Errors
/// When there is no such model or server.
pub(super) fn named(home: &Home, word: &str, request: &ScoreRequest) -> Result<(JudgeModel, String)> {
    if ServerRef::is_address(word) {
        let word = word.to_owned();
        let server = servers::find(&[&word], &request.servers)?.pop();
        let server = server.ok_or_else(|| Error::Usage("name a judge: judge:MODEL or judge:URL#NAME".into()))?;
        let name = server.name();
        return Ok((JudgeModel::Server(server), name));
    }
    let model = models::find(home, word)?;
    Ok((JudgeModel::Local(model.path), model_name(&model.name)))
}

/// Judges every pair, or those of the sampling run `of`, that the judge has not judged, asked in both orders.
#[expect(clippy::too_many_arguments, reason = "one caller, which has them all")]
pub(super) fn judge(
    home: &Home,
    dir: &SessionDir,
    session: &Session,
    word: &str,
    request: &ScoreRequest,
    of: Option<&RunId>,
    deadline: Option<&Deadline>,
    sink: &mut dyn ScoreSink,
) -> Result<String> {
    let (judge, name) = named(home, word, request)?;
    let rater = Rater::model(&format!("judge:{name}"));
    let json = serde_json::to_string(&judge).map_err(|e| Error::bug("write a judge as JSON", e))?;
    bind(dir, &rater, &json, deadline, sink)?;
    let meant = || session.pairs().iter().filter(|pair| is_of(pair, of));
    let before = meant().filter(|p| session.verdict_of(&p.id, &rater).is_some()).count();
    sink.begin("pairs", meant().count() - before, rater.as_str());
    let tie = request.tie_band.unwrap_or(TIE_PROBABILITY);
    let mut votes = Votes::new(session, rater.clone(), sink);
    let (mut flips, mut by_text, mut mass) = (0, 0, Vec::new());
    let mut question: Vec<&OsStr> =
        vec!["judge".as_ref(), dir.path().as_os_str(), json.as_ref(), rater.as_str().as_ref()];
    question.extend(of.map(|run| OsStr::new(run.as_str())));
    ask_within(deadline, &question, |judged: Judgement| {
        votes.sink.advance();
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
        votes.give(&judged.pair, vote_by_probability(probability, tie), &how)
    })?;
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
    Ok(votes.text(before, &rule(tie, DISTANCES, "distance of the probability from 0.5"), &more))
}

/// Compares the judge with its record in the session's log; the first time it records it.
fn bind(
    dir: &SessionDir,
    rater: &Rater,
    judge: &str,
    deadline: Option<&Deadline>,
    sink: &mut dyn ScoreSink,
) -> Result<()> {
    let mut now = None;
    let question: [&OsStr; 3] = ["judge-inputs".as_ref(), dir.path().as_os_str(), judge.as_ref()];
    ask_within(deadline, &question, |inputs: Inputs| {
        now = Some(inputs);
        Ok(())
    })?;
    let now = now.ok_or_else(|| Error::failed("the worker gave no answer about the judge: try again"))?;
    let of_rater = |record: &SessionRecord| match record {
        SessionRecord::JudgeRecorded { rater: r, inputs } if r == rater => Some((**inputs).clone()),
        _ => None,
    };
    let recorded = dir.tail().finish()?.iter().rev().find_map(|envelope| of_rater(envelope.known()?));
    let Some(then) = recorded else {
        let object = json!({ "rater": rater, "inputs": now });
        return sink.record(SessionRecord::JudgeRecorded { rater: rater.clone(), inputs: Box::new(now) }, object);
    };
    difference(&then, &now).map_or(Ok(()), |what| {
        Err(Error::failed(format!(
            "{rater} is another model than the one that judged here before: {what}; put that one back, or give this one another \
             name (a copy of its folder, another name at the server), so that it is another rater"
        )))
    })
}

/// What differs between two records of a judge, in words; none if nothing does. Where a model lies does not matter.
fn difference(then: &Inputs, now: &Inputs) -> Option<String> {
    let mut said: Vec<String> = Vec::new();
    match (then.models.first(), now.models.first()) {
        (Some(x), Some(y)) => {
            let all = x.differences(y);
            said.extend(all.iter().take(NAMED).map(|d| format!("{} ({}) {}", d.file, d.part, d.what)));
            if all.len() > NAMED {
                said.push(format!("{} more files differ", all.len() - NAMED));
            }
        }
        (None, None) => {}
        (Some(_), None) => said.push("it was a model on this machine".into()),
        (None, Some(_)) => said.push("it was a model behind a server".into()),
    }
    if let (Some(x), Some(y)) = (then.servers.first(), now.servers.first()) {
        if x.url != y.url {
            said.push(format!("its server was {}", x.url));
        }
        said.extend(
            x.differences(y).into_iter().map(|key| format!("its entry in the server's list has another {key}")),
        );
    }
    (!said.is_empty()).then(|| said.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{FileDigest, ModelInput, ServerInput};

    #[test]
    fn another_model_under_the_same_name_is_noticed() {
        let model = |sha: &str, path: &str| Inputs {
            models: vec![ModelInput {
                path: path.into(),
                files: [("model.safetensors".to_owned(), FileDigest { size: 1, sha256: sha.into() })].into(),
                template: None,
            }],
            ..Inputs::default()
        };
        assert_eq!(difference(&model("a", "/x"), &model("a", "/y")), None, "a moved model is the same");
        let changed = difference(&model("a", "/x"), &model("b", "/x"));
        assert_eq!(changed.as_deref(), Some("model.safetensors (weights) was changed"));
        let server = |url: &str, size: &str| Inputs {
            servers: vec![ServerInput {
                url: url.into(),
                model: "m".into(),
                entry: [("size".to_owned(), size.to_owned())].into(),
            }],
            ..Inputs::default()
        };
        assert_eq!(difference(&server("u", "1"), &server("u", "1")), None);
        assert!(difference(&server("u", "1"), &server("u", "2")).is_some_and(|what| what.contains("another size")));
        assert!(difference(&server("u", "1"), &server("v", "1")).is_some_and(|what| what.contains("server was u")));
        assert!(difference(&model("a", "/x"), &server("u", "1")).is_some());
    }
}
