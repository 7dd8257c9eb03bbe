//! An evaluation run's specification.
//!
//! Owns what is compared, on which suites, by which judges. Refuses results: [`crate::domain::EvalState`] folds them.

use super::server::ServerRef;
use super::source::{DataSnapshot, ModelRef};
use crate::domain::{Contestant, RunId, Sampler};
use serde::{Deserialize, Serialize};

/// The file in an evaluation's folder with hashes of the prompts that its contestants were trained on, a line each.
pub const TRAINED_PROMPTS: &str = "trained.txt";

/// A compared model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvalSide {
    /// As the user named it: `dpo-3`, `SmolLM2`, an address.
    pub name: String,
    /// The model on this machine; none for one behind a server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelRef>,
    /// The training run whose checkpoint goes on the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<RunId>,
    /// The model behind a server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerRef>,
}

/// A suite of an evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SuiteSpec {
    /// Its name in the table of suites.
    pub name: String,
    /// A copy of its file; for a suite on prompts, rows of [`crate::domain::Prompt`].
    pub data: DataSnapshot,
    /// The file's name where the user has it, by which the format is known.
    pub file: String,
    /// How answers are drawn.
    pub sampler: Sampler,
    /// The first items of a fixed shuffle; none takes all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// Pairs with a known better answer, on which a judge is measured before it judges.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateSet {
    /// Its name: `llmbar`, or `own` for the session's labels.
    pub set: String,
    /// Its copy: rows of [`crate::domain::GatePair`].
    pub data: DataSnapshot,
    /// Where it comes from.
    pub file: String,
}

/// A judge of an evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JudgeSpec {
    /// Its kind in the table of judges.
    pub kind: String,
    /// The training run that judges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// The model that judges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelRef>,
    /// The server's model that judges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerRef>,
    /// The checks that judge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checks: Option<String>,
    /// What it is measured on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gate: Vec<GateSet>,
}

impl JudgeSpec {
    /// Its name in logs and on screens: `reward:reward-1`.
    #[must_use]
    pub fn name(&self) -> String {
        let model = self.model.as_ref().map(|m| m.name.clone());
        let server = self.server.as_ref().map(ServerRef::name);
        let run = self.run.as_ref().map(ToString::to_string);
        match run.or(model).or(server).or_else(|| self.checks.clone()) {
            Some(operand) => format!("{}:{operand}", self.kind),
            None => self.kind.clone(),
        }
    }
}

/// An evaluation run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvalSpec {
    /// The model in question.
    pub a: EvalSide,
    /// What it is compared with.
    pub b: EvalSide,
    /// The suites, in order.
    pub suites: Vec<SuiteSpec>,
    /// The judges, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub judges: Vec<JudgeSpec>,
    /// How often each prompt is answered, with another seed each time.
    pub seeds: u32,
}

impl EvalSpec {
    /// A compared model.
    #[must_use]
    pub fn side(&self, side: Contestant) -> &EvalSide {
        match side {
            Contestant::A => &self.a,
            Contestant::B => &self.b,
        }
    }

    /// The models on this machine: of the contestants, then of the judges.
    #[must_use]
    pub fn models(&self) -> Vec<&ModelRef> {
        let sides = [&self.a, &self.b].into_iter().filter_map(|side| side.model.as_ref());
        sides.chain(self.judges.iter().filter_map(|judge| judge.model.as_ref())).collect()
    }

    /// The models of [`EvalSpec::models`], to be changed.
    pub fn models_mut(&mut self) -> Vec<&mut ModelRef> {
        let sides = [&mut self.a, &mut self.b].into_iter().filter_map(|side| side.model.as_mut());
        sides.chain(self.judges.iter_mut().filter_map(|judge| judge.model.as_mut())).collect()
    }

    /// The models behind servers.
    #[must_use]
    pub fn servers(&self) -> Vec<&ServerRef> {
        let sides = [&self.a, &self.b].into_iter().filter_map(|side| side.server.as_ref());
        sides.chain(self.judges.iter().filter_map(|judge| judge.server.as_ref())).collect()
    }

    /// The judge of that kind that is a run.
    #[must_use]
    pub fn judging_run(&self, kind: &str) -> Option<&RunId> {
        self.judges.iter().find(|judge| judge.kind == kind).and_then(|judge| judge.run.as_ref())
    }
}
