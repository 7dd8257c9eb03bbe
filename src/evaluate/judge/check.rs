//! The judge `check`: verifiable checks. The answer that meets more of them is better.

use crate::domain::{Checks, JudgeOperand, JudgeRow};
use crate::evaluate::judge::{Bout, JudgeKind, Referee, Ruling};
use crate::model::error::Error;

pub(crate) static JUDGE: JudgeKind = JudgeKind {
    row: JudgeRow {
        name: "check",
        takes: JudgeOperand::Checks,
        help: "the answer that meets more of the checks is better",
    },
    check: None,
    open: Some(|spec, _, _| {
        let checks = spec.checks.as_deref().unwrap_or_default();
        Ok(Box::new(CheckReferee(Checks::parse(checks).map_err(|e| Error::Invalid(e.to_string()))?)))
    }),
};

struct CheckReferee(Checks);

impl Referee for CheckReferee {
    fn rule(&mut self, bout: &Bout) -> Result<Ruling, Error> {
        let (a, b) = (self.0.score(bout.a), self.0.score(bout.b));
        Ok(Ruling::sure(match a.total_cmp(&b) {
            std::cmp::Ordering::Greater => 1.0,
            std::cmp::Ordering::Equal => 0.5,
            std::cmp::Ordering::Less => 0.0,
        }))
    }
}
