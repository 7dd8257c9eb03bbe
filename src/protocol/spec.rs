//! A run's specification, frozen at launch in the run folder's `spec.json`.

use super::evaluation::{EvalSpec, SuiteSpec};
use super::inputs::{CheckpointRole, Inputs};
use super::server::ServerRef;
use super::source::{AdapterRef, DataSnapshot, ModelRef};
use crate::domain::{HUMAN, Params, RunId, Sampler, is_name};
use serde::{Deserialize, Serialize};
use std::path::{Component, Path};

/// A training run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainSpec {
    /// Name in the method table.
    pub method: String,
    /// The model it starts from.
    pub model: ModelRef,
    /// A run of the same session whose adapter it starts from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<RunId>,
    /// An adapter made elsewhere that it starts from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<AdapterRef>,
    /// Every hyper-parameter, resolved.
    pub params: Params,
    /// Rows of the kind that the method needs: [`crate::domain::Needs`].
    pub data: DataSnapshot,
    /// [`crate::domain::SftRow`]s mixed into a preference run against forgetting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mix: Option<DataSnapshot>,
    /// [`crate::domain::SftRow`]s of general text on which forgetting is measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<DataSnapshot>,
    /// Suites that are measured while it trains.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suites: Vec<SuiteSpec>,
    /// The filter that the rows match; none for all of the session's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// The criteria by which the rows were judged, `helpful` or `helpful=0.7,harmless=0.3`; none for overall.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rubric: Option<String>,
    /// A reward-model run of the same session that scores the policy's answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward: Option<RunId>,
    /// Whether the prompts' texts decide which rows are held out, so that the order of import changes nothing. In runs of earlier
    /// versions the prompts' ids decide.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub split_by_text: bool,
}

impl TrainSpec {
    /// A run of `method` on `data` from the base model, without mixing, probe or reward run.
    #[must_use]
    pub fn new(method: &str, model: ModelRef, params: Params, data: DataSnapshot) -> Self {
        Self {
            method: method.into(),
            model,
            init: None,
            adapter: None,
            params,
            data,
            mix: None,
            probe: None,
            suites: Vec::new(),
            filter: None,
            rubric: None,
            reward: None,
            split_by_text: true,
        }
    }
}

/// A sampling run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SampleSpec {
    /// The models, used in turn for a prompt's candidates.
    pub models: Vec<ModelRef>,
    /// Models behind servers; they take their turns after those on this machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<ServerRef>,
    /// A training run whose adapter is applied to the only model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<RunId>,
    /// Of several models, the training run whose adapter each has; empty where none has one, or `adapter` says it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adapters: Vec<Option<RunId>>,
    /// Candidates per prompt.
    pub per_prompt: usize,
    /// Sampling settings.
    pub sampler: Sampler,
    /// Rows of [`crate::domain::Prompt`].
    pub data: DataSnapshot,
    /// Whether it leaves its answers unpaired: somebody chooses the pairs afterwards.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unpaired: bool,
}

impl SampleSpec {
    /// The training run whose adapter a model has, by the model's position.
    #[must_use]
    pub fn adapter_of(&self, model: usize) -> Option<(CheckpointRole, &RunId)> {
        let one = self.adapter.as_ref().map(|run| (CheckpointRole::Adapter, run));
        let several = self.adapters.get(model).and_then(Option::as_ref);
        one.or_else(|| several.map(|run| (CheckpointRole::Generator, run)))
    }

    /// Every adapter that it samples from, each once.
    fn adapters(&self) -> Vec<(CheckpointRole, &RunId)> {
        let mut out: Vec<(CheckpointRole, &RunId)> = Vec::new();
        for found in (0..self.models.len()).filter_map(|model| self.adapter_of(model)) {
            if !out.contains(&found) {
                out.push(found);
            }
        }
        out
    }
}

/// The kind of run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Train.
    Train(TrainSpec),
    /// Sample candidates.
    Sample(SampleSpec),
    /// Compare two models.
    Eval(EvalSpec),
}

/// Everything a worker needs to know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunSpec {
    /// The run's id and the name of its folder.
    pub id: RunId,
    /// What to do.
    pub task: Task,
    /// Requested device: `auto`, `cpu`, `cuda:0` …
    pub device: String,
    /// Wall clock at launch, milliseconds since 1970.
    pub created_ms: u64,
    /// Version of the program that made it.
    pub app: String,
    /// The inputs pinned at launch; empty in specifications of older versions.
    #[serde(default, skip_serializing_if = "Inputs::is_empty")]
    pub inputs: Inputs,
}

impl RunSpec {
    /// Whether its log adds answers or pairs to the session.
    #[must_use]
    pub fn adds_to_session(&self) -> bool {
        match &self.task {
            Task::Train(_) => false,
            Task::Sample(_) => true,
            Task::Eval(eval) => eval.judges.iter().any(|judge| judge.kind == HUMAN),
        }
    }

    /// The models behind servers that it uses.
    #[must_use]
    pub fn servers(&self) -> Vec<&ServerRef> {
        match &self.task {
            Task::Train(_) => Vec::new(),
            Task::Sample(s) => s.servers.iter().collect(),
            Task::Eval(e) => e.servers(),
        }
    }

    /// The models on this machine that it uses.
    #[must_use]
    pub fn models(&self) -> Vec<&ModelRef> {
        match &self.task {
            Task::Train(t) => vec![&t.model],
            Task::Sample(s) => s.models.iter().collect(),
            Task::Eval(e) => e.models(),
        }
    }

    /// The runs whose checkpoints it needs, with their roles.
    #[must_use]
    pub fn parents(&self) -> Vec<(CheckpointRole, &RunId)> {
        let roles = match &self.task {
            Task::Train(t) => {
                vec![(CheckpointRole::Init, t.init.as_ref()), (CheckpointRole::Reward, t.reward.as_ref())]
            }
            Task::Sample(s) => return s.adapters(),
            Task::Eval(e) => vec![
                (CheckpointRole::A, e.a.adapter.as_ref()),
                (CheckpointRole::B, e.b.adapter.as_ref()),
                (CheckpointRole::Reward, e.judging_run("reward")),
                (CheckpointRole::Implicit, e.judging_run("implicit")),
            ],
        };
        roles.into_iter().filter_map(|(role, run)| Some((role, run?))).collect()
    }

    /// The models it uses.
    pub fn models_mut(&mut self) -> Vec<&mut ModelRef> {
        match &mut self.task {
            Task::Train(t) => vec![&mut t.model],
            Task::Sample(s) => s.models.iter_mut().collect(),
            Task::Eval(e) => e.models_mut(),
        }
    }

    /// Its frozen data files, the main one first.
    #[must_use]
    pub fn data(&self) -> Vec<&DataSnapshot> {
        match &self.task {
            Task::Train(t) => {
                let own = [Some(&t.data), t.mix.as_ref(), t.probe.as_ref()].into_iter().flatten();
                own.chain(t.suites.iter().map(|suite| &suite.data)).collect()
            }
            Task::Sample(s) => vec![&s.data],
            Task::Eval(e) => {
                let gates = e.judges.iter().flat_map(|judge| judge.gate.iter().map(|set| &set.data));
                e.suites.iter().map(|suite| &suite.data).chain(gates).collect()
            }
        }
    }

    /// The first name that could escape the folder it is joined to, and what it names. A specification may come from an
    /// untrusted session.
    #[must_use]
    pub fn unsafe_name(&self) -> Option<(&'static str, &str)> {
        let mut names: Vec<(&'static str, &str)> = vec![("the run's id", self.id.as_str())];
        names.extend(self.data().into_iter().map(|data| ("a data file", data.file.as_str())));
        names.extend(self.parents().into_iter().map(|(role, id)| (role.word(), id.name())));
        if let Task::Eval(e) = &self.task {
            names.extend(e.judges.iter().filter_map(|judge| Some(("a judge", judge.run.as_ref()?.name()))));
        }
        let models = self.models();
        let leaves = |path: &str| Path::new(path).components().any(|part| part == Component::ParentDir);
        let model =
            models.into_iter().find(|model| leaves(&model.path)).map(|model| ("a model's path", model.path.as_str()));
        names.into_iter().find(|(_, name)| !is_name(name)).or(model)
    }

    /// `sample`, `eval`, or the training method's name.
    #[must_use]
    pub fn kind(&self) -> &str {
        match &self.task {
            Task::Train(t) => &t.method,
            Task::Sample(_) => "sample",
            Task::Eval(_) => "eval",
        }
    }
}
