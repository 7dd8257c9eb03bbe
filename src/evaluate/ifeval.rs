//! IFEval (Zhou et al. 2023): instructions whose following a program can check, on prompts that carry one to three of them.
//!
//! Owns reading an item, its score and the totals. Strict: every check on the answer as it is. Loose: a check holds on any
//! of eight variants: as it is, without asterisks, and without the first line, the last, or both, each also without
//! asterisks. An empty answer, or an empty variant, fails. Refuses items it cannot check whole.
//!
//! The outcomes equal those of the Python reference but for what it draws at random: a letter where the item asks for a
//! character that is none (here the character counts), and the seed of the language identifier.

mod checks;
mod kwargs;
mod language;
mod sentences;
mod text;
mod words;

pub use checks::{IfevalCheck, ifeval_checks};
pub use kwargs::{IfevalError, IfevalKind, IfevalProblem};

use kwargs::KwargValues;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// An instruction with its values.
#[derive(Debug, Clone)]
pub struct IfevalInstruction {
    check: &'static IfevalCheck,
    given: KwargValues,
}

impl IfevalInstruction {
    /// Its name, as `length_constraints:number_words`.
    #[must_use]
    pub fn id(&self) -> &'static str {
        self.check.id
    }

    /// Whether a text follows it. An empty text never does.
    #[must_use]
    pub fn holds(&self, text: &str) -> bool {
        !text::trim(text).is_empty() && (self.check.holds)(&self.given, text)
    }
}

/// A prompt with its instructions.
#[derive(Debug, Clone)]
pub struct IfevalItem {
    /// Its key in the set.
    pub key: String,
    /// The prompt.
    pub prompt: String,
    /// At least one.
    pub instructions: Vec<IfevalInstruction>,
}

impl IfevalItem {
    /// Reads `{key, prompt, instruction_id_list, kwargs}`. Values that are null count as not given, as some copies of the
    /// set fill in every key.
    ///
    /// # Errors
    /// The first problem, with the item's key and the instruction.
    pub fn parse(json: &Value) -> Result<Self, IfevalError> {
        let key = match json.get("key") {
            Some(Value::String(key)) => key.clone(),
            Some(Value::Number(key)) => key.to_string(),
            _ => return Err(IfevalError::new("(no key)", "", IfevalProblem::Missing("key"))),
        };
        let fail = |problem| Err(IfevalError::new(&key, "", problem));
        let Some(prompt) = json.get("prompt").and_then(Value::as_str) else {
            return fail(IfevalProblem::Missing("prompt"));
        };
        let Some(ids) = json.get("instruction_id_list").and_then(Value::as_array) else {
            return fail(IfevalProblem::Missing("instruction_id_list"));
        };
        let Some(kwargs) = json.get("kwargs").and_then(Value::as_array) else {
            return fail(IfevalProblem::Missing("kwargs"));
        };
        if ids.is_empty() {
            return fail(IfevalProblem::NoInstruction);
        }
        if ids.len() != kwargs.len() {
            return fail(IfevalProblem::Lengths { ids: ids.len(), kwargs: kwargs.len() });
        }
        let mut instructions = Vec::with_capacity(ids.len());
        for (id, kwargs) in ids.iter().zip(kwargs) {
            let Some(id) = id.as_str() else { return fail(IfevalProblem::Unknown(String::new())) };
            let none = Map::new();
            let kwargs = match kwargs {
                Value::Object(kwargs) => kwargs,
                Value::Null => &none,
                _ => return Err(IfevalError::new(&key, id, IfevalProblem::NoObject)),
            };
            let check = checks::find(id).map_err(|problem| IfevalError::new(&key, id, problem))?;
            let given = KwargValues::read(check.keys, kwargs).map_err(|problem| IfevalError::new(&key, id, problem))?;
            instructions.push(IfevalInstruction { check, given });
        }
        Ok(Self { key, prompt: prompt.to_owned(), instructions })
    }

    /// Scores an answer. Thoughts must have been removed before.
    #[must_use]
    pub fn score(&self, answer: &str) -> IfevalScore {
        let variants = variants(answer);
        let strict = self.instructions.iter().map(|i| i.holds(answer)).collect();
        let loose = self.instructions.iter().map(|i| variants.iter().any(|text| i.holds(text))).collect();
        IfevalScore { strict, loose }
    }
}

/// The eight variants of an answer, the answer itself first.
fn variants(answer: &str) -> [String; 8] {
    let lines: Vec<&str> = answer.split('\n').collect();
    let part = |from: usize, to: usize| {
        let part = lines.get(from..to.max(from)).unwrap_or_default();
        text::trim(&part.join("\n")).to_owned()
    };
    let n = lines.len();
    let cut = [part(1, n), part(0, n - 1), part(1, n - 1)];
    let plain = |text: &str| text.replace('*', "");
    let bare = [plain(&cut[0]), plain(&cut[1]), plain(&cut[2])];
    let [a, b, c] = cut;
    let [d, e, f] = bare;
    [answer.to_owned(), plain(answer), a, b, c, d, e, f]
}

/// Which of an item's instructions an answer follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IfevalScore {
    /// On the answer as it is.
    pub strict: Vec<bool>,
    /// On any variant.
    pub loose: Vec<bool>,
}

/// Counts of followed instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IfevalCount {
    /// All.
    pub all: usize,
    /// Followed, strictly.
    pub strict: usize,
    /// Followed, loosely.
    pub loose: usize,
}

impl IfevalCount {
    fn add(&mut self, strict: bool, loose: bool) {
        self.all += 1;
        self.strict += usize::from(strict);
        self.loose += usize::from(loose);
    }

    /// The shares, strict and loose; none without any.
    #[must_use]
    pub fn shares(&self) -> Option<(f64, f64)> {
        let share = |k: usize| k as f64 / self.all as f64;
        (self.all > 0).then(|| (share(self.strict), share(self.loose)))
    }
}

/// The totals of a set of answers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IfevalTotals {
    /// Prompts of which every instruction was followed.
    pub prompts: IfevalCount,
    /// Instructions, over all prompts (a micro average).
    pub instructions: IfevalCount,
    /// By instruction.
    pub by_instruction: BTreeMap<&'static str, IfevalCount>,
}

impl IfevalTotals {
    /// Adds one answer's score.
    pub fn add(&mut self, item: &IfevalItem, score: &IfevalScore) {
        self.prompts.add(score.strict.iter().all(|s| *s), score.loose.iter().all(|s| *s));
        for ((instruction, strict), loose) in item.instructions.iter().zip(&score.strict).zip(&score.loose) {
            self.instructions.add(*strict, *loose);
            self.by_instruction.entry(instruction.id()).or_default().add(*strict, *loose);
        }
    }
}

#[cfg(test)]
mod tests;
