//! What an evaluation run logs: answers, measurements of items, and comparisons by judges.
//!
//! Owns the records and their fold, which drops the repetitions of a resumed run. Refuses statistics.

use super::canonical::CanonicalHash;
use super::contest::{Contestant, ItemKey};
use super::metric::{Metrics, Num};
use super::posed::PosedPair;
use super::text::{Finish, PromptBody};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

/// An answer of a contestant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvalAnswer {
    /// The item; several items with one prompt share one answer, under the first item's key.
    #[serde(flatten)]
    pub key: ItemKey,
    /// Who answered.
    pub side: Contestant,
    /// What was asked.
    pub prompt: PromptBody,
    /// The text as the model wrote it, with its thoughts. Sanitise before showing.
    pub text: String,
    /// Its length in the model's tokens; 0 where unknown.
    pub tokens: usize,
    /// Why it ended.
    pub finish: Finish,
    /// What it depends on besides the prompt: weights, tokenizer, template, date and sampling, as a hash.
    pub source: String,
    /// Whether it was copied from an earlier evaluation with the same source.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reused: bool,
}

/// An item measured for one contestant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// The item.
    #[serde(flatten)]
    pub key: ItemKey,
    /// Whose answer or log-probs.
    pub side: Contestant,
    /// The prompt's hash, by which intervals are clustered.
    pub cluster: String,
    /// The values by the suite's measures; a measure that does not apply to the item is absent.
    pub values: Metrics,
}

/// Two answers compared by a judge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The item.
    #[serde(flatten)]
    pub key: ItemKey,
    /// The judge: `reward:reward-1`.
    pub judge: String,
    /// The prompt's hash, by which intervals are clustered.
    pub cluster: String,
    /// The probability that a is better, 0.5 for a tie; none where the judge gave nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p: Option<Num>,
    /// For a judge asked in both orders: the probability that a is better when a comes first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub a_first: Option<Num>,
    /// The probability that a is better when b comes first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub b_first: Option<Num>,
    /// The lengths of both answers in characters, without thoughts.
    pub chars: [usize; 2],
    /// Why there is no probability.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The known probability that a is better, 0.5 for a tie: of pairs on which the judge itself is measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Num>,
    /// For a judge that scores answers: the score of a less that of b, before calibration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference: Option<Num>,
}

/// Two answers of which one is known to be better: a judge is measured on them before it judges.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GatePair {
    /// Its name within its set.
    pub name: String,
    /// The prompt.
    pub prompt: PromptBody,
    /// The first answer.
    pub a: String,
    /// The second answer.
    pub b: String,
    /// 1 where the first is better, 0 where the second is, 0.5 for a tie.
    pub reference: f64,
}

/// Everything an evaluation has logged, by key. Copies share it: the states of a replay hold a text once.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EvalState {
    answers: BTreeMap<(ItemKey, Contestant), Arc<EvalAnswer>>,
    measurements: BTreeMap<(ItemKey, Contestant), Arc<Measurement>>,
    comparisons: BTreeMap<(String, ItemKey), Arc<Comparison>>,
    posed: BTreeMap<ItemKey, Arc<PosedPair>>,
}

impl EvalState {
    /// Adds an answer.
    pub fn answer(&mut self, answer: EvalAnswer) {
        self.answers.insert((answer.key.clone(), answer.side), Arc::new(answer));
    }

    /// Adds a measurement.
    pub fn measure(&mut self, measurement: Measurement) {
        self.measurements.insert((measurement.key.clone(), measurement.side), Arc::new(measurement));
    }

    /// Adds a comparison.
    pub fn compare(&mut self, comparison: Comparison) {
        self.comparisons.insert((comparison.judge.clone(), comparison.key.clone()), Arc::new(comparison));
    }

    /// Adds a pair that people judge.
    pub fn pose(&mut self, posed: PosedPair) {
        self.posed.insert(posed.key.clone(), Arc::new(posed));
    }

    /// The pair that people judge for an item.
    #[must_use]
    pub fn posed_of(&self, key: &ItemKey) -> Option<&PosedPair> {
        self.posed.get(key).map(|posed| &**posed)
    }

    /// The pairs that people judge, by item.
    pub fn posed(&self) -> impl Iterator<Item = &PosedPair> {
        self.posed.values().map(|found| &**found)
    }

    /// Removes a judge's comparisons.
    pub(super) fn forget_judge(&mut self, judge: &str) {
        self.comparisons.retain(|(name, _), _| name != judge);
    }

    /// The answer to an item.
    #[must_use]
    pub fn answer_of(&self, key: &ItemKey, side: Contestant) -> Option<&EvalAnswer> {
        self.answers.get(&(key.clone(), side)).map(|answer| &**answer)
    }

    /// The measurement of an item.
    #[must_use]
    pub fn measurement_of(&self, key: &ItemKey, side: Contestant) -> Option<&Measurement> {
        self.measurements.get(&(key.clone(), side)).map(|measurement| &**measurement)
    }

    /// A judge's comparison of an item.
    #[must_use]
    pub fn comparison_of(&self, judge: &str, key: &ItemKey) -> Option<&Comparison> {
        self.comparisons.get(&(judge.to_owned(), key.clone())).map(|comparison| &**comparison)
    }

    /// Every answer, by item.
    pub fn answers(&self) -> impl Iterator<Item = &EvalAnswer> {
        self.answers.values().map(|found| &**found)
    }

    /// Every measurement, by item.
    pub fn measurements(&self) -> impl Iterator<Item = &Measurement> {
        self.measurements.values().map(|found| &**found)
    }

    /// Every comparison, by judge and item.
    pub fn comparisons(&self) -> impl Iterator<Item = &Comparison> {
        self.comparisons.values().map(|found| &**found)
    }

    /// The judges that compared anything.
    #[must_use]
    pub fn judges(&self) -> Vec<&str> {
        let mut out: Vec<&str> = self.comparisons.keys().map(|(judge, _)| judge.as_str()).collect();
        out.dedup();
        out
    }

    /// A hash of the results: equal for equal answers, measurements and comparisons, however often the run was resumed.
    #[must_use]
    pub fn result_hash(&self) -> String {
        let mut h = CanonicalHash::default();
        for answer in self.answers() {
            h.add(&json!({ "answer": answer.key, "side": answer.side, "text": answer.text, "source": answer.source }));
        }
        self.measurements().for_each(|measurement| h.add(&json!(measurement)));
        self.comparisons().for_each(|comparison| h.add(&json!(comparison)));
        self.posed().for_each(|posed| h.add(&json!({ "posed": posed })));
        h.hex()
    }

    /// Whether nothing was logged.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.answers.is_empty() && self.measurements.is_empty() && self.comparisons.is_empty() && self.posed.is_empty()
    }
}
