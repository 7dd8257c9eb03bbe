//! What the evaluate screen and the shell say to each other about an evaluation that is set up.

use crate::domain::JsonFields;

/// An evaluation to launch in the open session, in the words of the command `eval`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EvalRequest {
    /// The model in question.
    pub a: String,
    /// What it is compared with; none for the model that `a` was trained on.
    pub b: Option<String>,
    /// Suites by name, or files of a user's own suite.
    pub suites: Vec<String>,
    /// Judges by name and operand.
    pub judges: Vec<String>,
    /// A file of prompts in place of the session's.
    pub prompts: Option<String>,
    /// The folder of the suites' files; none for the default one.
    pub folder: Option<String>,
    /// The most items of each suite.
    pub limit: Option<usize>,
    /// How often each prompt is answered.
    pub seeds: u32,
    /// 0 is greedy.
    pub temperature: f64,
    /// The most tokens of an answer; none for each suite's own.
    pub max_new_tokens: Option<usize>,
    /// The variables of the chat template.
    pub variables: JsonFields,
}

/// The suites' files in a folder.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SuiteFiles {
    /// The folder.
    pub folder: String,
    /// Whether it exists.
    pub exists: bool,
    /// The suites whose file it has, each with the file's name.
    pub found: Vec<(String, String)>,
}

impl SuiteFiles {
    /// The file of a suite.
    #[must_use]
    pub fn of(&self, suite: &str) -> Option<&str> {
        self.found.iter().find(|(name, _)| name == suite).map(|(_, file)| file.as_str())
    }
}

/// The work that an evaluation would be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EvalEstimate {
    /// The names of the contestants, a first.
    pub names: [String; 2],
    /// The suites with their rows, limited.
    pub suites: Vec<(String, usize)>,
    /// Answers of both contestants, over all seeds.
    pub answers: usize,
    /// At most so many of them that earlier evaluations hold.
    pub known: usize,
    /// What is left out, for people.
    pub notes: Vec<String>,
}
