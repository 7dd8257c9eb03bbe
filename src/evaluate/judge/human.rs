//! The judge `human`: people, blind, on the label screen. The evaluation only makes the pairs.

use crate::domain::{HUMAN, JudgeOperand, JudgeRow};
use crate::evaluate::judge::JudgeKind;

pub(crate) static JUDGE: JudgeKind = JudgeKind {
    row: JudgeRow {
        name: HUMAN,
        takes: JudgeOperand::None,
        help: "you, blind: label S --filter eval:RUN shows the pairs",
    },
    check: None,
    open: None,
};
