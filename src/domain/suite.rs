//! What an evaluation suite is: its name, its file, and the numbers it reports.
//!
//! Owns the type of a suite's row and the look-up by name. Refuses to read or score: a suite declares its row beside its
//! code, in `evaluate/suite/`; [`crate::suite_rows`] hands the table over.

/// Which direction of a number is an improvement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// A larger value is better.
    Higher,
    /// A smaller value is better.
    Lower,
    /// Neither: the number describes.
    Neither,
}

/// How items become one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The share of items: each item has 0 or 1.
    Share,
    /// The mean over items.
    Mean,
    /// The sum over items divided by the sum of that other measure: `instruct_strict` by `instructions`.
    Per(&'static str),
    /// The median over items.
    Median,
    /// The expected calibration error of σ(value) over ten bins, where a value is the reward of the better answer minus that
    /// of the other.
    Calibration,
}

/// The measure of a suite that ranks given answers by their rewards. A suite that has it accepts reward runs.
pub const REWARD_MARGIN: &str = "reward_margin";

/// A number that a suite reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measure {
    /// Its name in logs and JSON.
    pub key: &'static str,
    /// Its name on screens, in at most 22 characters.
    pub title: &'static str,
    /// Which direction is an improvement.
    pub better: Better,
    /// How items are pooled.
    pub pooling: Pooling,
}

impl Measure {
    /// A share of items, of which more is better.
    #[must_use]
    pub const fn share(key: &'static str, title: &'static str) -> Self {
        Self { key, title, better: Better::Higher, pooling: Pooling::Share }
    }

    /// A mean over items.
    #[must_use]
    pub const fn mean(key: &'static str, title: &'static str, better: Better) -> Self {
        Self { key, title, better, pooling: Pooling::Mean }
    }

    /// A sum over items divided by the sum of the measure `by`.
    #[must_use]
    pub const fn per(key: &'static str, title: &'static str, by: &'static str, better: Better) -> Self {
        Self { key, title, better, pooling: Pooling::Per(by) }
    }

    /// The same measure with another direction.
    #[must_use]
    pub const fn better(self, better: Better) -> Self {
        Self { better, ..self }
    }
}

/// A suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SuiteRow {
    /// Its name: `--suite NAME`.
    pub name: &'static str,
    /// What it tells, in at most 60 characters, without a full stop.
    pub help: &'static str,
    /// The file names by which it is found in the folder of `--data`, the first one preferred; empty for a suite on the
    /// session's prompts.
    pub files: &'static [&'static str],
    /// Where its file can be had, for the message when it is missing.
    pub source: &'static str,
    /// The most tokens of an answer; 0 for a suite without answers.
    pub max_new_tokens: usize,
    /// Whether judges compare its answers.
    pub judged: bool,
    /// Its numbers, the headline first.
    pub measures: &'static [Measure],
}

impl SuiteRow {
    /// Whether it asks prompts of the session, or of the file that the user names.
    #[must_use]
    pub fn takes_prompts(&self) -> bool {
        self.files.is_empty()
    }

    /// Whether it scores given texts and asks for no answers, so that a model behind a server cannot take it.
    #[must_use]
    pub fn scores_texts(&self) -> bool {
        self.max_new_tokens == 0
    }

    /// Whether a reward run can take it.
    #[must_use]
    pub fn takes_rewards(&self) -> bool {
        self.measures.iter().any(|measure| measure.key == REWARD_MARGIN)
    }
}

/// The suites, sorted by name.
#[must_use]
pub fn suites() -> Vec<&'static SuiteRow> {
    crate::suite_rows()
}

/// The suite of that name.
#[must_use]
pub fn suite(name: &str) -> Option<&'static SuiteRow> {
    suites().into_iter().find(|row| row.name == name)
}

/// A judge's kind: how it is named, and what it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JudgeRow {
    /// Its name: `--judge NAME`, or `--judge NAME:OPERAND`.
    pub name: &'static str,
    /// What it takes after the colon; none if it stands alone.
    pub takes: JudgeOperand,
    /// How it judges, in at most 60 characters, without a full stop.
    pub help: &'static str,
}

/// What a judge is named by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JudgeOperand {
    /// Nothing.
    None,
    /// A training run of the session.
    Run,
    /// A model on this machine or behind a server.
    Model,
    /// Verifiable checks.
    Checks,
}

/// The judges, sorted by name.
#[must_use]
pub fn judges() -> Vec<&'static JudgeRow> {
    crate::judge_rows()
}
