//! The judge `reward`: a reward run. The answer with the higher reward is better.

use crate::domain::{JudgeOperand, JudgeRow};
use crate::evaluate::judge::JudgeKind;
use crate::evaluate::scored::ScoredReferee;
use crate::model::error::Error;
use crate::train::RewardScorer;
use std::path::Path;

pub(crate) static JUDGE: JudgeKind = JudgeKind {
    row: JudgeRow {
        name: "reward",
        takes: JudgeOperand::Run,
        help: "the answer with the higher score of a reward run is better",
    },
    check: None,
    open: Some(|spec, inputs, device| {
        let Some(run) = &inputs.reward else {
            return Err(Error::Invalid(format!("the reward run of {} is missing: evaluate again", spec.name())));
        };
        let scorer = RewardScorer::open(Path::new(&run.spec.model.path), &run.checkpoint, device)?;
        let scorer = scorer.rendering(&run.rendering)?;
        Ok(Box::new(ScoredReferee::new(Box::new(move |prompt, answer| {
            Ok(if scorer.fits(prompt, answer)? { Some(scorer.score(prompt, answer)?) } else { None })
        }))))
    }),
};
