//! The judge `implicit`: the implicit reward of a run trained on preferences. The answer with the higher one is better.

use crate::domain::{JudgeOperand, JudgeRow};
use crate::evaluate::judge::JudgeKind;
use crate::evaluate::scored::ScoredReferee;
use crate::model::error::Error;
use crate::train::ImplicitScorer;

pub(crate) static JUDGE: JudgeKind = JudgeKind {
    row: JudgeRow {
        name: "implicit",
        takes: JudgeOperand::Run,
        help: "the implicit reward of a run trained on preferences decides",
    },
    check: None,
    open: Some(|spec, inputs, device| {
        let Some(run) = &inputs.implicit else {
            return Err(Error::Invalid(format!("the run of {} is missing: evaluate again", spec.name())));
        };
        let scorer = ImplicitScorer::open(&run.spec, &run.checkpoint, run.init.as_deref(), &run.rendering, device)?;
        Ok(Box::new(ScoredReferee::new(Box::new(move |prompt, answer| scorer.score(prompt, answer)))))
    }),
};
