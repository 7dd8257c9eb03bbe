//! A run's task: reads and checks the data snapshot, opens the trainer or the sampler, and implements [`Work`] for both. Owns
//! that glue; refuses the main loop.

use super::ask;
use super::drive::{Saving, Work, WorkOutcome};
use super::error::Error;
use super::evaluate;
use super::inputs::check_or_record;
use super::log::Log;
use super::prepared::Prepared;
use super::servers::{device_name, logged_answers};
use crate::domain::{Hyperparameters, Needs, Prompt, SampledHash, TrainerParams, method};
use crate::generate::Sampling;
use crate::protocol::{CheckpointRole, DataSnapshot, RunEvent, RunSpec, ServerLog, Task, TrainSpec};
use crate::storage::{self, RunDir, sha256};
use crate::train::{Rows, RunPaths, RunRows, StepOutcome, Trainer};
use crate::{model, nn};
use serde::de::DeserializeOwned;
use std::path::Path;

/// Names the device; opens the rest after the log has recorded the start.
pub(super) fn prepare<'a>(run: &'a RunDir, spec: &'a RunSpec) -> Prepared<'a> {
    let device = nn::device(&spec.device);
    let name = device.as_ref().map_or_else(|_| spec.device.clone(), nn::describe);
    match &spec.task {
        Task::Sample(sample) => Prepared {
            device: if sample.models.is_empty() { device_name(&sample.servers) } else { name },
            open: Box::new(move |past, _, log| {
                ask::wait(run, log)?;
                let prompts: Vec<Prompt> = rows(run, &sample.data.file, &sample.data.sha256)?;
                let bound = check_or_record(run, spec, past, log)?;
                let adapter = |model| {
                    let (role, run) = sample.adapter_of(model)?;
                    bound.checkpoint_of(role, run)
                };
                let adapters: Vec<Option<&Path>> = (0..sample.models.len()).map(adapter).collect();
                let done = past.steps as usize / sample.per_prompt.max(1);
                let sampling = Sampling::open(&run.id(), sample, prompts, done, &adapters, &device?, log)?
                    .rendering(&bound.spec.inputs.rendering())?;
                let asked = if sample.servers.is_empty() { ServerLog::default() } else { logged_answers(run)? };
                let sampling = sampling.asking(asked, ask::process(run, spec)?)?;
                Ok(Box::new(SampleWork { run: run.clone(), sampling }))
            }),
        },
        Task::Eval(eval) => evaluate::prepare(run, spec, eval),
        Task::Train(train) => Prepared {
            device: name,
            open: Box::new(move |past, from, log| {
                let data = run_rows(run, train)?;
                let bound = check_or_record(run, spec, past, log)?;
                let cache = run.cache()?;
                let scorer = bound.scorer.as_ref().zip(bound.checkpoint(CheckpointRole::Reward));
                let paths = RunPaths {
                    init: bound.checkpoint(CheckpointRole::Init),
                    resume: from.map(|c| c.path.as_path()),
                    reward: scorer.map(|((model, _), dir)| (model.as_path(), dir)),
                    reward_rendering: bound.scorer.as_ref().map(|(_, rendering)| rendering),
                    ..RunPaths::new(&cache)
                };
                let trainer = Trainer::open(&bound.spec, &data, &paths, log)?;
                let trainer = match evaluate::training_suites(run, train)? {
                    Some(suites) => trainer.with_suites(suites, train.params.f64("eval_every") as u64),
                    None => trainer,
                };
                let shared = TrainerParams::read(&train.params).map_err(|e| Error::Failed(e.to_string()))?;
                let saving = Saving { every: shared.save_steps, keep: shared.save_total_limit };
                Ok(Box::new(TrainWork { trainer, saving }))
            }),
        },
    }
}

/// The rows of a run's data snapshot, checked by hash.
pub(crate) fn rows<T: DeserializeOwned>(run: &RunDir, file: &str, expected: &str) -> Result<Vec<T>, Error> {
    let path = run.path().join(file);
    let wrong = |reason: String| Error::Data { path: path.clone(), reason };
    let bytes = storage::read_file(&path, crate::foreign::ROWS)?;
    if sha256(&bytes) != expected {
        return Err(wrong("was changed since the run was launched: launch a new run".into()));
    }
    let text = std::str::from_utf8(&bytes).map_err(|e| wrong(format!("is not UTF-8 text: {e}")))?;
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(i, line)| serde_json::from_str(line).map_err(|e| wrong(format!("line {} is invalid: {e}", i + 1))))
        .collect()
}

/// A training run's rows, of the kind that its method needs, with SFT rows to mix in and probe texts.
pub(super) fn run_rows(run: &RunDir, train: &TrainSpec) -> Result<RunRows, Error> {
    let found = method(&train.method)
        .ok_or_else(|| Error::Failed(format!("run {} uses the unknown method `{}`", run.id(), train.method)))?;
    let (file, sha) = (&train.data.file, &train.data.sha256);
    let main = match found.needs {
        Needs::Pairs => Rows::Pairs(rows(run, file, sha)?),
        Needs::Examples => Rows::Examples(rows(run, file, sha)?),
        Needs::Ratings => Rows::Ratings(rows(run, file, sha)?),
        Needs::Prompts => Rows::Prompts(rows(run, file, sha)?),
    };
    let more = |data: &Option<DataSnapshot>| match data {
        Some(data) => rows(run, &data.file, &data.sha256),
        None => Ok(Vec::new()),
    };
    Ok(RunRows { rows: main, mix: more(&train.mix)?, probe: more(&train.probe)? })
}

/// A training run.
struct TrainWork {
    trainer: Trainer,
    saving: Saving,
}

impl Work for TrainWork {
    fn step(&mut self, log: &mut Log) -> Result<WorkOutcome, model::Error> {
        Ok(match self.trainer.step(log)? {
            StepOutcome::Stepped => WorkOutcome::Stepped,
            StepOutcome::Done => WorkOutcome::Done,
        })
    }

    fn done(&self) -> u64 {
        self.trainer.step_count()
    }

    fn is_best_now(&self) -> bool {
        self.trainer.is_best_now()
    }

    fn save(&mut self, dir: &Path) -> Result<(), model::Error> {
        self.trainer.save(dir)
    }

    fn saving(&self) -> Option<Saving> {
        Some(self.saving)
    }

    fn state_hash(&mut self) -> Result<String, Error> {
        Ok(self.trainer.state_hash()?)
    }
}

/// A sampling run. It resumes from its log.
struct SampleWork {
    run: RunDir,
    sampling: Sampling,
}

impl Work for SampleWork {
    fn step(&mut self, log: &mut Log) -> Result<WorkOutcome, model::Error> {
        Ok(if self.sampling.next(log)? { WorkOutcome::Stepped } else { WorkOutcome::Done })
    }

    fn done(&self) -> u64 {
        self.sampling.step_count()
    }

    fn save(&mut self, _dir: &Path) -> Result<(), model::Error> {
        Ok(())
    }

    fn saving(&self) -> Option<Saving> {
        None
    }

    fn state_hash(&mut self) -> Result<String, Error> {
        let mut hash = SampledHash::default();
        for envelope in self.run.tail().poll()? {
            if let Ok(RunEvent::Completed(completion)) = &envelope.data {
                hash.add(completion);
            }
        }
        Ok(hash.hex())
    }
}
