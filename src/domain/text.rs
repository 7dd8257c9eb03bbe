//! Prompts, completions and pairs.

use super::common_text::CommonText;
use super::conversation::{Conversation, JsonFields, Message, PairTurns, ReplyRef};
use super::hash::{Fold64, hash64};
use super::ids::{CompletionId, PairId, PromptId, Rater};
use super::log_prob::LogProb;
use serde::{Deserialize, Deserializer, Serialize};
use std::cell::RefCell;
use std::sync::Arc;
use thin_vec::ThinVec;

/// What a model is asked to continue.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromptBody {
    /// A conversation, rendered by the model's chat template.
    Chat(Conversation),
    /// Plain text, continued without a template.
    Text(String),
}

impl PromptBody {
    /// Sets template variables that a conversation does not set itself; plain text has none.
    pub fn add_variables(&mut self, variables: &JsonFields) {
        if let Self::Chat(talk) = self {
            for (name, value) in variables {
                talk.default_variable(name, value);
            }
        }
    }

    /// A conversation of one user turn.
    pub fn user(content: impl Into<String>) -> Self {
        Self::Chat(vec![Message::new("user", content)].into())
    }

    /// The text a person recognises the prompt by: the last user turn, or the plain text.
    #[must_use]
    pub fn headline(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Chat(messages) => {
                messages.iter().rev().find(|m| m.role == "user").or(messages.last()).map_or("", |m| m.content.as_str())
            }
        }
    }

    /// An id derived from the content, for a prompt that no session has: equal prompts get equal ids.
    #[must_use]
    pub fn derived_id(&self) -> PromptId {
        let mut h = Fold64::default();
        self.fold(&mut h);
        PromptId::new(format!("h{}", h.hex()))
    }

    /// A hash of what was asked, blanks at its ends and system turns left out: the same for one question as plain text and as
    /// a conversation. It recognises a benchmark's prompts in training rows.
    #[must_use]
    pub fn asked_hash(&self) -> String {
        let mut h = Fold64::default();
        match self {
            Self::Text(text) => h.add(text.trim().as_bytes()),
            Self::Chat(turns) => {
                turns
                    .iter()
                    .filter(|turn| turn.role != "system")
                    .for_each(|turn| h.add(turn.content.trim().as_bytes()));
            }
        }
        h.hex()
    }

    pub(super) fn fold(&self, h: &mut Fold64) {
        match self {
            Self::Text(text) => h.add(text.as_bytes()),
            Self::Chat(turns) => turns.fold(h),
        }
    }
}

/// Whether a prompt is held out for evaluation: the same in every run with the same `fraction`.
#[must_use]
pub fn is_held_out(prompt: &PromptId, fraction: f64) -> bool {
    // 53 bits of the hash as a number in 0..1.
    ((hash64(prompt.as_str().as_bytes()) >> 11) as f64 / (1u64 << 53) as f64) < fraction
}

/// A number with its noun: `1 pair`, `2 pairs`.
#[must_use]
pub fn counted<N: Copy + std::fmt::Display + PartialEq + From<u8>>(n: N, noun: &str) -> String {
    let ending = if n == N::from(1) { "" } else { "s" };
    format!("{n} {noun}{ending}")
}

/// A prompt of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompt {
    /// Its id within the session.
    pub id: PromptId,
    /// The prompt's content.
    pub body: PromptBody,
    /// Where it came from: a file's name, or `typed`.
    pub source: CommonText,
    /// Free-form labels such as a task or a stratum.
    #[serde(default, skip_serializing_if = "ThinVec::is_empty")]
    pub tags: ThinVec<String>,
}

/// Sampling settings. `temperature` 0 is greedy.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sampler {
    /// Divides the logits; 0 takes the largest.
    pub temperature: f64,
    /// Keeps the smallest set of tokens whose probability reaches this; 1 keeps all.
    pub top_p: f64,
    /// Keeps this many tokens; 0 keeps all.
    pub top_k: usize,
    /// Keeps tokens at least this share as likely as the likeliest; 0 keeps all.
    pub min_p: f64,
    /// Seed of the run's random numbers.
    pub seed: u64,
    /// The most tokens a completion may have.
    pub max_new_tokens: usize,
}

impl Default for Sampler {
    fn default() -> Self {
        Self { temperature: 0.8, top_p: 0.95, top_k: 0, min_p: 0.0, seed: 42, max_new_tokens: 256 }
    }
}

thread_local! {
    static SAMPLER_READ_LAST: RefCell<Option<Arc<Sampler>>> = const { RefCell::new(None) };
}

/// Reads sampling settings. Those of one run follow one another and are held once.
fn read_sampler<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Arc<Sampler>>, D::Error> {
    let Some(read) = Option::<Sampler>::deserialize(deserializer)? else { return Ok(None) };
    let known = SAMPLER_READ_LAST.try_with(|last| {
        let mut last = last.try_borrow_mut().ok()?;
        if last.as_deref() != Some(&read) {
            *last = Some(Arc::new(read));
        }
        last.clone()
    });
    Ok(known.ok().flatten().or_else(|| Some(Arc::new(read))))
}

/// Why a completion ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// The model ended its turn.
    Eos,
    /// `max_new_tokens` was reached.
    Length,
    /// Not sampled here: imported from a file.
    Given,
}

/// An answer to a prompt. A long session holds hundreds of thousands: what most of them lack takes little room.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    /// Its id within the session.
    pub id: CompletionId,
    /// The prompt it answers.
    pub prompt: PromptId,
    /// The model (and adapter) that wrote it, or the file it was imported from.
    pub model: CommonText,
    /// The text as the model wrote it, without the end-of-turn token. Sanitise before showing.
    pub text: Box<str>,
    /// Its length in the model's tokens; 0 where unknown.
    pub tokens: u32,
    /// Why it ended.
    pub finish: Finish,
    /// Its sampling settings; none for imported text.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "read_sampler")]
    pub sampler: Option<Arc<Sampler>>,
    /// Sum of the tokens' log-probs under the sampling policy; unknown for imported text.
    #[serde(default, skip_serializing_if = "LogProb::is_unknown")]
    pub logprob: LogProb,
    /// Its turns, where it is more than one assistant's text (reasoning, calls of tools, several turns); `text` is how a person
    /// reads them.
    #[serde(default, skip_serializing_if = "ThinVec::is_empty")]
    pub turns: ThinVec<Message>,
}

impl<'a> From<&'a Completion> for ReplyRef<'a> {
    fn from(completion: &'a Completion) -> Self {
        Self { text: &completion.text, turns: &completion.turns, cut: completion.finish == Finish::Length }
    }
}

/// Two completions of one prompt, to be judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// Its id within the session.
    pub id: PairId,
    /// The prompt both answer.
    pub prompt: PromptId,
    /// The first completion, in stored order (not the screen's).
    pub a: CompletionId,
    /// The second completion.
    pub b: CompletionId,
    /// The strategy that chose the two: `random`, `import`, …
    pub strategy: CommonText,
    /// The probability with which the strategy chose this pair among the candidates' pairs, in 0..=1.
    pub p_select: f64,
}

/// The strategy of a preference row that a correction made.
pub const CORRECTION: &str = "correction";

/// One row of preference data as a trainer reads it: frozen in the run's folder at launch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PairRow {
    /// The pair it came from, so that findings can name it.
    pub pair: PairId,
    /// The prompt's id.
    pub prompt_id: PromptId,
    /// The prompt's content.
    pub prompt: PromptBody,
    /// The preferred answer.
    pub chosen: String,
    /// The other answer.
    pub rejected: String,
    /// Strength of the preference in 0..=1 (1 = much better), for margins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
    /// Share of the votes for the preference, in 0.5..=1, where raters differed. For a single rater the estimated
    /// probability that the preference is not a slip, if the rater judged enough other pairs twice. None when all
    /// agree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreed: Option<f64>,
    /// `correction` for a corrected answer over its original; none for a judged pair.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<String>,
    /// Who wrote the correction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rater: Option<Rater>,
    /// The answers' turns, where one is more than an assistant's text, and which were cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turns: Option<Box<PairTurns>>,
}

impl PairRow {
    /// The preferred answer.
    #[must_use]
    pub fn chosen_reply(&self) -> ReplyRef<'_> {
        let turns = self.turns.as_ref();
        let cut = turns.is_some_and(|turns| turns.chosen_cut);
        ReplyRef { text: &self.chosen, turns: turns.map_or(&[], |turns| &turns.chosen), cut }
    }

    /// The other answer.
    #[must_use]
    pub fn rejected_reply(&self) -> ReplyRef<'_> {
        let turns = self.turns.as_ref();
        let cut = turns.is_some_and(|turns| turns.rejected_cut);
        ReplyRef { text: &self.rejected, turns: turns.map_or(&[], |turns| &turns.rejected), cut }
    }

    /// Whether it is a correction over its original, and not a judged pair.
    #[must_use]
    pub fn is_correction(&self) -> bool {
        self.strategy.as_deref() == Some(CORRECTION)
    }
}

/// An example for supervised fine-tuning: frozen in the run's folder at launch.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SftRow {
    /// Its id within the session, so that findings can name it.
    pub id: PairId,
    /// What decides the split into training and evaluation.
    pub prompt_id: PromptId,
    /// The text.
    pub body: SftBody,
}

/// The three shapes of supervised data.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SftBody {
    /// A conversation; the method's option `assistant_only_loss` selects the tokens in the loss.
    Messages(Conversation),
    /// A prompt and its answer; only the answer is in the loss unless `completion_only_loss` is false.
    Completion {
        /// The prompt's content.
        prompt: PromptBody,
        /// The answer.
        completion: String,
    },
    /// Plain text, all of it in the loss.
    Text(String),
}

impl SftBody {
    /// Its prompt: a conversation up to its last user turn, or plain text as a whole.
    #[must_use]
    pub fn prompt(&self) -> PromptBody {
        match self {
            Self::Messages(turns) => {
                let end = turns.iter().rposition(|m| m.role == "user").map_or(turns.len(), |last| last + 1);
                PromptBody::Chat(turns.first(end))
            }
            Self::Completion { prompt, .. } => prompt.clone(),
            Self::Text(text) => PromptBody::Text(text.clone()),
        }
    }

    pub(super) fn fold(&self, h: &mut Fold64) {
        match self {
            Self::Messages(turns) => turns.fold(h),
            Self::Completion { prompt, completion } => {
                prompt.fold(h);
                h.add(completion.as_bytes());
            }
            Self::Text(text) => h.add(text.as_bytes()),
        }
    }
}

/// What imported texts are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextSet {
    /// Examples for supervised fine-tuning.
    Sft,
    /// General text on which forgetting is measured; nothing trains on it.
    Probe,
}

impl TextSet {
    /// Its name on the command line.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Sft => "sft",
            Self::Probe => "probe",
        }
    }
}

/// One answer and whether it is good, as KTO reads it: frozen in the run's folder at launch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RatedRow {
    /// The pair or the imported row it came from, so that findings can name it.
    pub id: PairId,
    /// What decides the split into training and evaluation.
    pub prompt_id: PromptId,
    /// The prompt's content.
    pub prompt: PromptBody,
    /// The answer.
    pub completion: String,
    /// Desirable (true) or undesirable.
    pub good: bool,
    /// The answer's turns, where it is more than an assistant's text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub turns: Vec<Message>,
    /// Whether the answer was cut at the limit of tokens.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
}

impl RatedRow {
    /// The answer.
    #[must_use]
    pub fn reply(&self) -> ReplyRef<'_> {
        ReplyRef { text: &self.completion, turns: &self.turns, cut: self.cut }
    }
}

/// A model's name from its path: the last component without `.gguf`, or its folder's name where that is generic (`hf`,
/// `gguf`, `model`, a revision of the Hugging Face cache).
#[must_use]
pub fn model_name(path: &str) -> String {
    let mut parts = path.rsplit(['/', '\\']).filter(|part| !part.is_empty());
    let Some(last) = parts.next() else { return path.to_owned() };
    let last = last.strip_suffix(".gguf").unwrap_or(last);
    let revision = last.len() == 40 && last.bytes().all(|b| b.is_ascii_hexdigit());
    let better = match parts.next() {
        Some("snapshots") if revision => {
            parts.next().map(|repo| repo.strip_prefix("models--").map_or(repo.to_owned(), |id| id.replace("--", "/")))
        }
        Some(above) if revision || matches!(last, "hf" | "gguf" | "model") => Some(above.to_owned()),
        _ => None,
    };
    better.unwrap_or_else(|| last.to_owned())
}
