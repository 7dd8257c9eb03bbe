//! What a run depends on besides its own settings: the models' files, the checkpoints of other runs, the date.
//!
//! Owns the record of them and the comparison. Refuses to read files: the caller fills the record.

use super::server::ServerInput;
use crate::domain::{Finding, JsonFields, RunId, Severity, is_name};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The inputs of a run. `spec.json` holds what the launch pinned (date and checkpoints); the run's `inputs.json` holds
/// everything, as its first worker found it. Empty in specifications of older versions.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Inputs {
    /// Local date and time at launch, `2026-11-28T22:55:28`: for chat templates that print a date.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
    /// Variables of the chat templates, such as `enable_thinking`. Those of a row go first.
    #[serde(default, skip_serializing_if = "JsonFields::is_empty")]
    pub chat_template_kwargs: JsonFields,
    /// The models that the run reads: its own and its reward run's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<ModelInput>,
    /// The checkpoints of other runs, one per role; of generators one per run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checkpoints: Vec<CheckpointInput>,
    /// The adapter made elsewhere that the run started from: its files there, and the run's own copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<ModelInput>,
    /// The models behind servers that the run asks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<ServerInput>,
}

impl Inputs {
    /// Whether nothing is recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What chat templates render besides conversations.
    #[must_use]
    pub fn rendering(&self) -> Rendering {
        Rendering { date: self.date.clone(), variables: self.chat_template_kwargs.clone() }
    }

    /// The record of the model at `path`, spelled as in the specification.
    #[must_use]
    pub fn model(&self, path: &str) -> Option<&ModelInput> {
        self.models.iter().find(|model| model.path == path)
    }

    /// The record of a server's model.
    #[must_use]
    pub fn server(&self, url: &str, model: &str) -> Option<&ServerInput> {
        self.servers.iter().find(|server| server.url == url && server.model == model)
    }

    /// The record of the checkpoint in that role.
    #[must_use]
    pub fn checkpoint(&self, role: CheckpointRole) -> Option<&CheckpointInput> {
        self.checkpoints.iter().find(|checkpoint| checkpoint.role == role)
    }

    /// The record of that run's checkpoint in that role; a role that only one run can have is enough.
    #[must_use]
    pub fn checkpoint_of(&self, role: CheckpointRole, run: &RunId) -> Option<&CheckpointInput> {
        let mut all = self.checkpoints.iter();
        all.find(|c| c.role == role && (role != CheckpointRole::Generator || c.run == *run))
    }
}

/// What chat templates render besides conversations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rendering {
    /// The local date and time; none for that of opening the model.
    pub date: Option<String>,
    /// Variables of the template. Those of a conversation go first.
    pub variables: JsonFields,
}

impl From<&str> for Rendering {
    fn from(date: &str) -> Self {
        Self { date: Some(date.into()), ..Self::default() }
    }
}

/// A model as a run read it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ModelInput {
    /// Its folder or `.gguf` file, spelled as in the specification.
    pub path: String,
    /// Every file that affects its computation or tokenization, by name within the folder.
    pub files: BTreeMap<String, FileDigest>,
    /// SHA-256 of the chat template's source; none for a model without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
}

/// A file's bytes, all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDigest {
    /// Bytes.
    pub size: u64,
    /// SHA-256 in hex.
    pub sha256: String,
}

/// What a run uses another run's checkpoint for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckpointRole {
    /// A training run starts from it; it is also the reference model.
    Init,
    /// It scores a training run's answers.
    Reward,
    /// A sampling run samples from it.
    Adapter,
    /// A sampling run samples from it among others.
    Generator,
    /// An evaluation compares it.
    A,
    /// An evaluation compares with it.
    B,
    /// Its implicit reward judges in an evaluation.
    Implicit,
}

impl CheckpointRole {
    /// Its name in folders and records.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Reward => "reward",
            Self::Adapter => "adapter",
            Self::Generator => "generator",
            Self::A => "a",
            Self::B => "b",
            Self::Implicit => "implicit",
        }
    }

    /// The name under which a run keeps its checkpoint of `run` in this role. Of generators there may be several.
    #[must_use]
    pub fn slot(self, run: &RunId) -> String {
        match self {
            Self::Generator if is_name(run.name()) => format!("{}-{run}", self.word()),
            _ => self.word().to_owned(),
        }
    }
}

/// A checkpoint of another run that a run uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointInput {
    /// What it is used for.
    pub role: CheckpointRole,
    /// The run that wrote it, of the same session.
    pub run: RunId,
    /// Its step.
    pub step: u64,
    /// SHA-256 over names, sizes and digests of its files.
    pub digest: String,
    /// The steps of newer checkpoints of that run that were damaged when this one was chosen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<u64>,
}

impl CheckpointInput {
    /// That newer checkpoints were passed over, where any were.
    #[must_use]
    pub fn passed_over(&self) -> Option<Finding> {
        let steps: Vec<String> = self.damaged.iter().map(u64::to_string).collect();
        let of = self.run.name();
        (!steps.is_empty()).then(|| Finding {
            rule: "checkpoint_damaged".into(),
            step: 0,
            severity: Severity::Warn,
            text: format!(
                "Newer checkpoints of {of} are damaged (step {}): that of step {} is used.",
                steps.join(", "),
                self.step
            ),
            remedy: format!(
                "Put their files back from a copy of {of} and start again, unless step {} is what you want.",
                self.step
            ),
            pair: None,
        })
    }
}

/// A model file that differs from the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Its name within the model's folder.
    pub file: String,
    /// What the file holds: `weights`, `tokenizer` …
    pub part: &'static str,
    /// What happened: `was changed`, `is missing`, `was added`.
    pub what: &'static str,
}

impl ModelInput {
    /// The files that differ from the record, sorted by name.
    #[must_use]
    pub fn differences(&self, now: &Self) -> Vec<Difference> {
        let template = self.template != now.template;
        let names: std::collections::BTreeSet<&String> = self.files.keys().chain(now.files.keys()).collect();
        names
            .into_iter()
            .filter_map(|file| {
                let what = match (self.files.get(file), now.files.get(file)) {
                    (Some(then), Some(now)) if then == now => return None,
                    (Some(_), Some(_)) => "was changed",
                    (Some(_), None) => "is missing",
                    (None, _) => "was added",
                };
                Some(Difference { file: file.clone(), part: part(file, template), what })
            })
            .collect()
    }
}

/// What a model's file holds; `template`: whether the chat template changed.
fn part(file: &str, template: bool) -> &'static str {
    match file {
        "config.json" | "generation_config.json" => "configuration",
        "chat_template.jinja" => "chat template",
        "tokenizer_config.json" if template => "chat template",
        "tokenizer.json"
        | "tokenizer.model"
        | "tokenizer_config.json"
        | "special_tokens_map.json"
        | "added_tokens.json" => "tokenizer",
        "model.safetensors.index.json" => "index of the weights",
        _ => "weights",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_name_the_file_and_its_part() {
        let digest = |sha: &str| FileDigest { size: 1, sha256: sha.into() };
        let model = |files: &[(&str, &str)], template: &str| ModelInput {
            path: "m".into(),
            files: files.iter().map(|(name, sha)| ((*name).to_owned(), digest(sha))).collect(),
            template: Some(template.into()),
        };
        let then = model(&[("model.safetensors", "a"), ("tokenizer.json", "b"), ("tokenizer_config.json", "c")], "t");
        assert_eq!(then.differences(&then), []);
        let now =
            model(&[("chat_template.jinja", "x"), ("model.safetensors", "z"), ("tokenizer_config.json", "y")], "u");
        let differences: Vec<String> =
            then.differences(&now).iter().map(|d| format!("{} ({}) {}", d.file, d.part, d.what)).collect();
        assert_eq!(
            differences,
            [
                "chat_template.jinja (chat template) was added",
                "model.safetensors (weights) was changed",
                "tokenizer.json (tokenizer) is missing",
                "tokenizer_config.json (chat template) was changed",
            ]
        );
        let spaced = ModelInput { template: then.template.clone(), ..now };
        assert_eq!(then.differences(&spaced)[3].part, "tokenizer");
    }

    #[test]
    fn a_specification_without_inputs_is_an_older_one() {
        assert!(serde_json::from_str::<Inputs>("{}").unwrap().is_empty());
    }
}
