//! Short queries that score and judge: JSON lines on stdout, then exit. Owns the choice of what scores: a reward model, a
//! policy's implicit reward, or a judge model. Refuses to write the session's log: the parent does.

use super::adapters::held;
use super::error::Error;
use super::finite::explained;
use super::inputs::{self, check_models, dated, newest, recorded_checkpoint};
use super::out::say;
use crate::domain::{Completion, Num, Prompt, Rater, RunId};
use crate::generate::Judge;
use crate::generate::server::look_up;
use crate::model::{Fingerprints, Sink};
use crate::protocol::{CheckpointRole, Inputs, JudgeModel, Judgement, RunEvent, Scoring, Task};
use crate::storage::{RunDir, SessionDir};
use crate::train::{ImplicitScorer, RewardScorer};
use crate::{model, nn};
use std::path::{Path, PathBuf};

/// What scores answers.
enum Scorer {
    Reward(Box<RewardScorer>),
    Implicit(Box<ImplicitScorer>),
}

impl Scorer {
    fn score(&self, prompt: &Prompt, answer: &Completion) -> Result<Option<f64>, model::Error> {
        let score = match self {
            Self::Reward(scorer) => Some(scorer.standardise(scorer.score(&prompt.body, answer)?)),
            Self::Implicit(scorer) => scorer.score(&prompt.body, answer)?,
        };
        if let Some(score) = score.filter(|score| !score.is_finite()) {
            let id = &answer.id;
            return Err(model::Error::NotFinite(format!(
                "the score of answer {id} is {score}: score with another run"
            )));
        }
        Ok(score)
    }
}

/// `worker score RUN_DIR ID [OF]`: a [`Scoring`] for every completion of the session, or of the sampling run OF, that this run has
/// not scored yet. ID is the run, or its best checkpoint (`reward-1@best`).
pub(super) fn score(path: &Path, id: &RunId, of: Option<&RunId>) -> Result<(), Error> {
    let run = RunDir::open(path)?;
    let spec = dated(&run, run.resolved_spec()?)?;
    check_models(&run, &mut NoSink)?;
    let Task::Train(train) = &spec.task else { return Err(Error::NotTraining(spec.id.into_string())) };
    let checkpoint = newest(&run, id)?;
    let device = nn::device(&spec.device)?;
    let scorer = if train.method == "reward" {
        let (model, rendering) = inputs::scorer(&run)?;
        Scorer::Reward(Box::new(RewardScorer::open(&model, &checkpoint.path, &device)?.rendering(&rendering)?))
    } else {
        let recorded = run.recorded_inputs()?.unwrap_or_else(|| spec.inputs.clone());
        let init = match (recorded.checkpoint(CheckpointRole::Init), &train.init) {
            (Some(input), _) => Some(recorded_checkpoint(&run, input)?),
            // A run of an older version: the checkpoint that its parent has now.
            (None, Some(parent)) => Some(newest(&run, parent)?.path),
            (None, None) => held(&run, train),
        };
        let rendering = spec.inputs.rendering();
        Scorer::Implicit(Box::new(ImplicitScorer::open(train, &checkpoint.path, init.as_deref(), &rendering, &device)?))
    };
    let (session, _) = SessionDir::open(run.session_path())?.state()?;
    for completion in session.completions() {
        let known = session.score_by(id, &completion.id).is_some();
        let meant = of.is_none_or(|run| completion.id.is_of(run));
        let Some(prompt) = session.prompt(&completion.prompt).filter(|_| meant && !known) else { continue };
        let score = scorer.score(prompt, completion).map_err(|e| {
            let (models, mut checkpoints) = inputs::weights_of(&run, &spec);
            checkpoints.push(checkpoint.path.clone());
            explained(e, &models, &checkpoints)
        })?;
        let score = score.map(Num);
        say(&Scoring { completion: completion.id.clone(), score })?;
    }
    Ok(())
}

/// `worker judge SESSION_DIR MODEL RATER [OF]`: a [`Judgement`] for every pair, or those of the sampling run OF, without a verdict of
/// that rater. MODEL is a [`JudgeModel`] as JSON.
pub(super) fn judge(path: &Path, judge: &str, rater: &str, of: Option<&RunId>) -> Result<(), Error> {
    let judge: JudgeModel = serde_json::from_str(judge).map_err(|e| Error::Failed(format!("invalid judge: {e}")))?;
    let local = if let JudgeModel::Local(path) = &judge { vec![PathBuf::from(path)] } else { Vec::new() };
    let mut judge = Judge::open(&judge, &nn::device("auto")?)?;
    let rater = Rater::new(rater);
    let (session, _) = SessionDir::open(path)?.state()?;
    for pair in session.pairs() {
        let meant = of.is_none_or(|run| pair.a.is_of(run) && pair.b.is_of(run));
        if !meant || session.verdict_of(&pair.id, &rater).is_some() {
            continue;
        }
        let (Some((a, b)), Some(prompt)) = (session.sides(pair), session.prompt(&pair.prompt)) else {
            let problem = Some("an answer or the prompt is missing".into());
            say(&Judgement { pair: pair.id.clone(), a_first: None, b_first: None, mass: None, problem })?;
            continue;
        };
        let judged = judge.judge(&pair.id, &prompt.body, &a.text, &b.text);
        say(&judged.map_err(|e| explained(e, &local, &[]))?)?;
    }
    Ok(())
}

/// `worker judge-inputs SESSION_DIR MODEL`: the [`Inputs`] of a judge: the digests of a local model's files, or what the server
/// says of its model.
pub(super) fn judge_inputs(path: &Path, judge: &str) -> Result<(), Error> {
    let judge: JudgeModel = serde_json::from_str(judge).map_err(|e| Error::Failed(format!("invalid judge: {e}")))?;
    say(&match judge {
        JudgeModel::Local(model) => {
            let prints = Fingerprints::new(&SessionDir::open(path)?.fingerprints());
            let models = vec![prints.of(&model, Path::new(&model), |_, _| Ok(()))?];
            Inputs { models, ..Inputs::default() }
        }
        JudgeModel::Server(server) => Inputs { servers: vec![look_up(&server)?], ..Inputs::default() },
    })
}

/// Discards events.
struct NoSink;

impl Sink for NoSink {
    fn emit(&mut self, _: RunEvent) -> Result<(), model::Error> {
        Ok(())
    }
}
