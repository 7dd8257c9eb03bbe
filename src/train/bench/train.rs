//! The training benchmark: the real trainer on chosen pairs in the file's order, without a log or checkpoints.
//!
//! Owns the timing. A step's duration is the trainer's `step_seconds`: batch, forward, backward, update. The reference pass is
//! timed separately, since its result is cached. Refuses sample answers.

use super::pairs::choose;
use super::product::{ProductLimit, flops};
use crate::domain::{Metrics, Needs, PairRow, RunId, TrainerParams, method};
use crate::model::error::Error;
use crate::model::language_model::LanguageModel;
use crate::model::sink::Sink;
use crate::model::trained::Trained;
use crate::nn::describe;
use crate::protocol::{
    BenchAnswer, DataSnapshot, Flops, Inputs, RunEvent, RunSpec, StepFigures, Task, TrainBench, TrainFigures, TrainSpec,
};
use crate::train::data::{Example, Rows};
use crate::train::estimate;
use crate::train::recipe::read;
use crate::train::trainer::{RunPaths, StepOutcome, Trainer, peak_mib, tune};
use std::path::Path;
use std::time::Instant;

/// The trainer's stage of the reference pass.
const REFERENCE: &str = "reference log-probs";

/// Runs the benchmark `ask` on pairs chosen from `all`; `cache` is an empty folder for the reference, `tell` receives progress.
///
/// # Errors
/// When the method does not train on pairs, there are too few pairs, or the run fails.
pub fn train(
    ask: &TrainBench,
    all: &[PairRow],
    cache: &Path,
    tell: &mut dyn FnMut(BenchAnswer) -> Result<(), Error>,
) -> Result<TrainFigures, Error> {
    let began = Instant::now();
    let params: TrainerParams = read(&ask.params)?;
    if !method(&ask.method).is_some_and(|m| m.needs == Needs::Pairs) {
        return Err(Error::Invalid(format!("`{}` does not train on pairs: use dpo, orpo, cpo or simpo", ask.method)));
    }
    let pairs_per_step = params.per_device_train_batch_size.max(1) * params.gradient_accumulation_steps.max(1);
    let wanted = usize::try_from(params.max_steps).unwrap_or(0).max(2);
    let model = LanguageModel::open(Path::new(&ask.model.path))?;
    let rows = Rows::Pairs(choose(&model, all, ask.choice, pairs_per_step * wanted)?);
    let spec = spec(ask, rows.len());
    let estimated = estimate(&spec, &rows)?;

    let mut watch = BenchSink { tell, began, reference: None, ended: began, metrics: Vec::new() };
    let mut trainer = Trainer::open(&spec, &rows.into(), &RunPaths::new(cache), &mut watch)?;
    if trainer.examples().len() != pairs_per_step * wanted {
        return Err(Error::Invalid(format!(
            "{} of the {} pairs exceed the model's context or max_length={}: choose shorter ones",
            pairs_per_step * wanted - trainer.examples().len(),
            pairs_per_step * wanted,
            params.max_length
        )));
    }
    trainer.disable_samples();
    if let Some(dir) = &ask.start_to {
        Trained::write(Path::new(dir), &tune(&params), trainer.policy().trainables())?;
    }
    let reference_seconds = watch.reference.map_or(0.0, |began| (watch.ended - began).as_secs_f64());
    let load_seconds = began.elapsed().as_secs_f64() - reference_seconds;
    let mut done = 0;
    watch.say("steps", 0, wanted as u64)?;
    while trainer.step(&mut watch)? == StepOutcome::Stepped {
        done += 1;
        watch.say("steps", done, wanted as u64)?;
    }
    let peak = peak_mib();
    let metrics = std::mem::take(&mut watch.metrics);

    let config = &model.config;
    let tune = tune(&params);
    let work: Vec<(u64, Flops)> = trainer
        .examples()
        .chunks(pairs_per_step)
        .map(|chunk| {
            let chunk: Vec<&Example> = chunk.iter().collect();
            (chunk.iter().map(|e| e.tokens() as u64).sum(), flops(config, &tune, &chunk))
        })
        .collect();
    let longest = trainer.examples().iter().map(Example::longest).max().unwrap_or(0);
    let device = trainer.policy().decoder().device().clone();
    let dtype = trainer.policy().decoder().dtype();
    drop(trainer);
    let limit = if ask.product {
        watch.say("the matrix product alone", 0, 1)?;
        Some(ProductLimit::measure(config, &tune, &device, dtype)?)
    } else {
        None
    };
    let steps = metrics
        .into_iter()
        .zip(work)
        .map(|(metrics, (tokens, flops))| StepFigures {
            seconds: metrics.get("step_seconds").unwrap_or(f64::NAN),
            tokens,
            flops,
            product_seconds: limit.as_ref().map_or(0.0, |limit| limit.seconds(config, &flops)),
            metrics,
        })
        .collect();
    Ok(TrainFigures {
        device: describe(&device),
        parameters: config.parameters(),
        trainable: estimated.trainable,
        pairs: pairs_per_step * wanted,
        longest,
        load_seconds,
        reference_seconds,
        steps,
        peak_mib: peak,
        gpu_peak_mib: None,
        planned_mib: estimated.memory_bytes as f64 / f64::from(1 << 20),
        products: limit.map(|limit| limit.figures).unwrap_or_default(),
    })
}

fn spec(ask: &TrainBench, rows: usize) -> RunSpec {
    let data = DataSnapshot { file: String::new(), sha256: String::new(), rows, session_seq: 0 };
    RunSpec {
        id: RunId::new("bench"),
        task: Task::Train(TrainSpec::new(&ask.method, ask.model.clone(), ask.params.clone(), data)),
        device: ask.device.clone(),
        created_ms: 0,
        app: env!("CARGO_PKG_VERSION").into(),
        inputs: Inputs::default(),
    }
}

/// Forwards the trainer's progress; records the steps' metrics and the reference pass's time.
struct BenchSink<'a> {
    tell: &'a mut dyn FnMut(BenchAnswer) -> Result<(), Error>,
    /// The last event before the reference pass.
    began: Instant,
    /// The start of the reference pass.
    reference: Option<Instant>,
    /// The last event of the reference pass.
    ended: Instant,
    metrics: Vec<Metrics>,
}

impl BenchSink<'_> {
    fn say(&mut self, stage: &str, done: u64, total: u64) -> Result<(), Error> {
        (self.tell)(BenchAnswer::Progressed { stage: stage.into(), done, total })
    }
}

impl Sink for BenchSink<'_> {
    fn emit(&mut self, event: RunEvent) -> Result<(), Error> {
        match event {
            RunEvent::Progressed { stage, done, total } => {
                let now = Instant::now();
                if stage == REFERENCE {
                    // Its first event comes after the first work.
                    self.reference.get_or_insert(self.began);
                    self.ended = now;
                }
                self.began = now;
                self.say(&stage, done, total)
            }
            RunEvent::Stepped { metrics, .. } => {
                self.metrics.push(metrics);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{PairId, Params, PromptBody, PromptId};
    use crate::protocol::{ModelRef, PairChoice};

    #[test]
    fn a_benchmark_counts_what_it_trained_on() {
        let rows = method("dpo").unwrap().rows();
        let mut params = Params::defaults(&rows);
        let set = [
            ("max_steps", "3"),
            ("per_device_train_batch_size", "2"),
            ("gradient_accumulation_steps", "1"),
            ("shuffle", "false"),
            ("eval_fraction", "0"),
            ("lora_r", "4"),
        ];
        for (key, value) in set {
            params.set(&rows, "dpo", key, value).unwrap();
        }
        let model = format!("{}/tests/fixtures/tiny-llama", env!("CARGO_MANIFEST_DIR"));
        let ask = TrainBench {
            model: ModelRef { name: "tiny-llama".into(), path: model },
            method: "dpo".into(),
            params,
            device: "cpu".into(),
            data: String::new(),
            choice: PairChoice::Between { least: 1, most: 400 },
            product: true,
            start_to: None,
        };
        let pairs: Vec<PairRow> = (0..7)
            .map(|i| PairRow {
                turns: None,
                pair: PairId::new(format!("p{i}")),
                prompt_id: PromptId::new(format!("p{i}")),
                prompt: PromptBody::user(format!("What is {i}?")),
                chosen: "a number ".repeat(i + 1),
                rejected: "no".into(),
                margin: None,
                agreed: None,
                strategy: None,
                rater: None,
            })
            .collect();
        let cache = tempfile::tempdir().unwrap();
        let mut stages = Vec::new();
        let figures = train(&ask, &pairs, cache.path(), &mut |said| {
            if let BenchAnswer::Progressed { stage, .. } = said {
                stages.push(stage);
            }
            Ok(())
        })
        .unwrap();
        assert_eq!((figures.steps.len(), figures.pairs), (3, 6));
        let counted: u64 = figures.steps.iter().map(|s| s.tokens).sum();
        assert_eq!(figures.steps[2].metrics.get("num_tokens"), Some(counted as f64));
        assert!((figures.steps[0].metrics.get("loss").unwrap() - std::f64::consts::LN_2).abs() < 1e-6);
        assert!(figures.reference_seconds > 0.0 && figures.load_seconds > 0.0);
        assert!(figures.steps.iter().all(|s| s.seconds > 0.0 && s.product_seconds > 0.0 && s.flops.head > 0.0));
        assert!(stages.iter().any(|s| s == "steps") && figures.products.iter().any(|p| p.name == "head backward"));
        let few = train(&TrainBench { method: "sft".into(), ..ask }, &pairs, cache.path(), &mut |_| Ok(()));
        assert!(few.unwrap_err().to_string().contains("does not train on pairs"));
    }
}
