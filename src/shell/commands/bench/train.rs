//! `bench train`: a few steps of real training on real pairs, or a table over pair lengths and batch sizes.
//!
//! The settings match those of the other trainers (`benches/peers`): LoRA of rank 16 on all linear modules, alpha 32,
//! no dropout, a constant learning rate of 1e-4, four pairs per step in the file's order, no evaluation, one step of
//! warm-up.

use super::super::super::cli::BenchTrainArgs;
use super::super::super::error::{Error, Result};
use super::super::super::{models, out, plan};
use super::super::context::CommandContext;
use super::figures::{Spread, ask, line, round};
use super::machine;
use crate::domain::{Params, method};
use crate::protocol::{BenchAnswer, BenchSpec, ModelRef, PairChoice, StepFigures, TrainBench, TrainFigures};
use serde_json::{Map, Value, json};

/// Settings of the benchmark, where the method has them; `--set` overrides them.
const DEFAULTS: &[(&str, &str)] = &[
    ("lora_r", "16"),
    ("lora_alpha", "32"),
    ("learning_rate", "1e-4"),
    ("lr_scheduler_type", "constant"),
    ("gradient_accumulation_steps", "1"),
];
/// Settings that `--set` cannot override, and the option that sets them instead.
const FIXED: &[(&str, &str, &str)] = &[
    ("shuffle", "false", ""),
    ("group_by_length", "false", ""),
    ("eval_fraction", "0", ""),
    ("num_train_epochs", "1", ""),
    ("sample_steps", "0", ""),
    ("max_steps", "", "--steps"),
    ("per_device_train_batch_size", "", "--batch"),
];
/// Tokens of a pair in the table over batch sizes.
const TOKENS: usize = 256;
/// Measured steps of a table's row.
const TABLE_STEPS: u32 = 1;
/// Measured steps otherwise.
const STEPS: u32 = 3;

/// Runs the benchmark and prints the results.
pub fn run(context: &CommandContext, args: &BenchTrainArgs) -> Result<()> {
    let given = plan::params(&args.method, &args.set)?;
    let own = args.set.iter().filter_map(|pair| pair.split_once('=')).map(|(key, _)| key.trim());
    for key in own {
        if let Some((_, _, option)) = FIXED.iter().find(|(name, ..)| *name == key) {
            let remedy = if option.is_empty() { "leave it out".to_owned() } else { format!("use {option}") };
            return Err(Error::Usage(format!("{key} is the benchmark's own: {remedy}")));
        }
    }
    if args.min > args.max {
        return Err(Error::Usage(format!("no pair has at least {} and at most {} tokens", args.min, args.max)));
    }
    let data = std::path::absolute(&args.data).map_err(|e| Error::io("find", &args.data, e))?;
    if !data.is_file() {
        return Err(Error::failed(format!("{} does not exist: name a file of labelled pairs", data.display())));
    }
    let start_to = match &args.start_to {
        Some(dir) => {
            let dir = std::path::absolute(dir).map_err(|e| Error::io("find", dir, e))?;
            std::fs::create_dir_all(&dir).map_err(|e| Error::io("create", &dir, e))?;
            Some(dir.display().to_string())
        }
        None => None,
    };
    let bench = Bench {
        start_to,
        args,
        given,
        model: models::find(&context.home, &args.model)?,
        data: data.display().to_string(),
    };
    if args.tokens.is_empty() && args.pairs.is_empty() {
        return bench.once(context);
    }
    bench.tables(context)
}

/// The settings shared by all rows of a table.
struct Bench<'a> {
    args: &'a BenchTrainArgs,
    given: Params,
    model: ModelRef,
    data: String,
    start_to: Option<String>,
}

impl Bench<'_> {
    /// The results of `runs` processes.
    fn figures(&self, choice: PairChoice, batch: u32, steps: u32, product: bool) -> Result<Vec<TrainFigures>> {
        let params = self.params(choice, batch, steps)?;
        let spec = BenchSpec::Train(TrainBench {
            model: self.model.clone(),
            method: self.args.method.clone(),
            params,
            device: self.args.device.clone(),
            data: self.data.clone(),
            choice,
            product,
            start_to: self.start_to.clone(),
        });
        (0..self.args.runs)
            .map(|_| match ask(&spec)? {
                BenchAnswer::Trained(figures) => Ok(*figures),
                _ => Err(Error::failed("the worker measured something else: try again")),
            })
            .collect()
    }

    fn params(&self, choice: PairChoice, batch: u32, steps: u32) -> Result<Params> {
        let name = &self.args.method;
        let rows = method(name).map(crate::domain::Method::rows).unwrap_or_default();
        let mut params = self.given.clone();
        let set_by_hand =
            |key: &str| self.args.set.iter().any(|pair| pair.split('=').next().map(str::trim) == Some(key));
        let mut set = |key: &str, value: &str| {
            if rows.iter().any(|row| row.key == key) {
                params.set(&rows, name, key, value).map_err(|e| Error::Usage(e.to_string()))?;
            }
            Ok::<(), Error>(())
        };
        for (key, value) in DEFAULTS.iter().filter(|(key, _)| !set_by_hand(key)) {
            set(key, value)?;
        }
        for (key, value, _) in FIXED.iter().filter(|(_, value, _)| !value.is_empty()) {
            set(key, value)?;
        }
        set("max_steps", &(steps + 1).to_string())?;
        set("per_device_train_batch_size", &batch.to_string())?;
        let longest = match choice {
            PairChoice::Between { most, .. } => most,
            // Cut text may have a few more tokens.
            PairChoice::Alike { tokens } => tokens,
        };
        if params.usize("max_length") < longest && !set_by_hand("max_length") {
            params.set(&rows, name, "max_length", &longest.to_string()).map_err(|e| Error::Usage(e.to_string()))?;
        }
        Ok(params)
    }

    /// Measures real pairs of the file.
    fn once(&self, context: &CommandContext) -> Result<()> {
        let args = self.args;
        let choice = PairChoice::Between { least: args.min, most: args.max };
        let figures = self.figures(choice, args.batch, args.steps.unwrap_or(STEPS), !args.no_product)?;
        let summary = Summary::of(&figures);
        let Some(first) = figures.first() else { return Ok(()) };
        if context.json {
            let mut answer = self.head();
            summary.put(&mut answer);
            answer.insert("device".into(), first.device.clone().into());
            answer.insert("parameters".into(), first.parameters.into());
            answer.insert("trainable".into(), first.trainable.into());
            answer.insert("pairs".into(), first.pairs.into());
            answer.insert("longest".into(), first.longest.into());
            answer.insert("real_tokens".into(), first.steps.iter().map(|s| s.tokens).sum::<u64>().into());
            answer.insert("steps".into(), steps(&figures));
            answer.insert("products".into(), json!(first.products));
            answer.insert("machine".into(), machine::facts());
            return out::json(&answer);
        }
        out::line(&format!(
            "{} on {} · {} steps of {} pairs of {} to {} tokens after one of warm-up · {}",
            args.method, self.model.name, summary.steps.count, args.batch, args.min, args.max, first.device
        ))?;
        summary.say()?;
        line("machine", &machine::words())
    }

    /// Measures pairs of equal length, over lengths and batch sizes.
    fn tables(&self, context: &CommandContext) -> Result<()> {
        let args = self.args;
        let mut answer = self.head();
        let by_tokens = args.tokens.iter().map(|n| (*n, *n as usize, args.batch));
        let by_pairs = args.pairs.iter().map(|n| (*n, TOKENS, *n));
        for (key, title, sizes) in [
            ("by_tokens", "tokens a pair", by_tokens.collect::<Vec<_>>()),
            ("by_pairs", "pairs a step", by_pairs.collect()),
        ] {
            if sizes.is_empty() {
                continue;
            }
            if !context.json {
                out::line(&format!("{title:>14}  tokens/s   step s   peak MiB  estimated   of the limit"))?;
            }
            let mut rows = Vec::new();
            for (size, tokens, batch) in sizes {
                let choice = PairChoice::Alike { tokens };
                let figures = self.figures(choice, batch, args.steps.unwrap_or(TABLE_STEPS), !args.no_product)?;
                let summary = Summary::of(&figures);
                if context.json {
                    let mut row = Map::new();
                    row.insert("tokens_a_pair".into(), tokens.into());
                    row.insert("pairs_a_step".into(), batch.into());
                    summary.put(&mut row);
                    rows.push(Value::Object(row));
                } else {
                    out::line(&format!(
                        "{size:>14}  {:>8.1} {:>8.2}   {:>8}   {:>8.0}   {}",
                        summary.rate,
                        summary.steps.median,
                        summary.peak.map_or_else(|| "n/a".into(), |mib| format!("{mib:.0}")),
                        summary.planned,
                        summary.share.map_or_else(|| "n/a".into(), |share| format!("{:.0} %", share * 100.0)),
                    ))?;
                }
            }
            answer.insert(key.into(), rows.into());
        }
        if context.json {
            answer.insert("machine".into(), machine::facts());
            return out::json(&answer);
        }
        line("machine", &machine::words())
    }

    fn head(&self) -> Map<String, Value> {
        let mut head = Map::new();
        head.insert("bench".into(), "train".into());
        head.insert("model".into(), self.model.name.clone().into());
        head.insert("method".into(), self.args.method.clone().into());
        head.insert("batch".into(), self.args.batch.into());
        head.insert("set".into(), json!(self.args.set));
        head
    }
}

/// Every step of every run: seconds, tokens, and its metrics by TRL's names.
fn steps(figures: &[TrainFigures]) -> Value {
    let mut out = Vec::new();
    for (run, figures) in figures.iter().enumerate() {
        for (i, step) in figures.steps.iter().enumerate() {
            out.push(json!({
                "run": run + 1,
                "step": i + 1,
                "warm_up": i == 0,
                "seconds": round(step.seconds, 4),
                "real_tokens": step.tokens,
                "metrics": step.metrics,
            }));
        }
    }
    out.into()
}

/// The results of the measured steps.
struct Summary {
    /// Real tokens/s: all tokens by all seconds.
    rate: f64,
    /// The same per step.
    rates: Spread,
    /// Seconds per step.
    steps: Spread,
    /// The highest peak of the runs, MiB.
    peak: Option<f64>,
    /// The same for GPU memory.
    gpu_peak: Option<f64>,
    planned: f64,
    reference: Spread,
    load: Spread,
    /// GFLOP/s of the model's linear modules and head.
    gflops: f64,
    /// The same for their matrix products alone.
    limit: Option<f64>,
    /// The matrix products' share of a step's time.
    share: Option<f64>,
}

impl Summary {
    fn of(runs: &[TrainFigures]) -> Self {
        let counted: Vec<&StepFigures> = runs.iter().flat_map(|run| run.steps.iter().skip(1)).collect();
        let sum = |of: &dyn Fn(&StepFigures) -> f64| counted.iter().map(|step| of(step)).sum::<f64>();
        let seconds = sum(&|s| s.seconds);
        let products = sum(&|s| s.product_seconds);
        let work = sum(&|s| s.flops.linear + s.flops.head);
        let rates: Vec<f64> = counted.iter().map(|s| s.tokens as f64 / s.seconds).collect();
        let all = |of: &dyn Fn(&TrainFigures) -> f64| Spread::of(&runs.iter().map(of).collect::<Vec<_>>());
        Self {
            rate: sum(&|s| s.tokens as f64) / seconds,
            rates: Spread::of(&rates),
            steps: Spread::of(&counted.iter().map(|s| s.seconds).collect::<Vec<_>>()),
            peak: runs.iter().filter_map(|run| run.peak_mib).reduce(f64::max),
            gpu_peak: runs.iter().filter_map(|run| run.gpu_peak_mib).reduce(f64::max),
            planned: all(&|run| run.planned_mib).most,
            reference: all(&|run| run.reference_seconds),
            load: all(&|run| run.load_seconds),
            gflops: work / seconds / 1e9,
            limit: (products > 0.0).then(|| work / products / 1e9),
            share: (products > 0.0).then(|| products / seconds),
        }
    }

    fn put(&self, into: &mut Map<String, Value>) {
        let known = |x: Option<f64>, digits| x.map_or(Value::Null, |x| round(x, digits).into());
        for (key, value) in [
            ("real_tokens_per_s", round(self.rate, 1).into()),
            ("real_tokens_per_s_spread", self.rates.json(1)),
            ("step_s", round(self.steps.median, 4).into()),
            ("step_s_spread", self.steps.json(4)),
            ("peak_mib", known(self.peak, 0)),
            ("gpu_peak_mib", known(self.gpu_peak, 0)),
            ("planned_mib", round(self.planned, 0).into()),
            ("reference_s", round(self.reference.median, 3).into()),
            ("load_s", round(self.load.median, 3).into()),
            ("gflops", round(self.gflops, 2).into()),
            ("product_gflops", known(self.limit, 2)),
            ("share_of_product", known(self.share, 4)),
        ] {
            into.insert(key.into(), value);
        }
    }

    fn say(&self) -> Result<()> {
        line("real tokens/s", &format!("{:.1}; by step {}", self.rate, self.rates.words(1)))?;
        line("step", &format!("{} s", self.steps.words(2)))?;
        let estimated = format!("{:.0} MiB estimated", self.planned);
        match self.peak {
            Some(peak) => line("peak memory", &format!("{peak:.0} MiB, {estimated}"))?,
            None => line("peak memory", &format!("n/a, {estimated}"))?,
        }
        if let Some(peak) = self.gpu_peak {
            line("peak on the GPU", &format!("{peak:.0} MiB"))?;
        }
        if let (Some(limit), Some(share)) = (self.limit, self.share) {
            let text =
                format!("{limit:.0} GFLOP/s alone; {:.0} in a step, {:.0} % of the limit", self.gflops, share * 100.0);
            line("matrix products", &text)?;
        }
        line("reference pass", &format!("{:.1} s, once for all steps", self.reference.median))?;
        line("loading", &format!("{:.1} s", self.load.median))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Metrics;
    use crate::protocol::Flops;

    fn step(seconds: f64, tokens: u64) -> StepFigures {
        let flops = Flops { linear: 4e9, head: 1e9, attention: 7.0 };
        StepFigures { seconds, tokens, flops, product_seconds: 0.5, metrics: Metrics::new() }
    }

    fn figures(steps: Vec<StepFigures>, peak: f64) -> TrainFigures {
        TrainFigures {
            device: "CPU · 2 threads".into(),
            parameters: 1,
            trainable: 1,
            pairs: 1,
            longest: 1,
            load_seconds: 1.0,
            reference_seconds: 2.0,
            steps,
            peak_mib: Some(peak),
            gpu_peak_mib: None,
            planned_mib: 90.0,
            products: Vec::new(),
        }
    }

    #[test]
    fn the_warm_up_is_excluded_and_tokens_are_divided_by_all_seconds() {
        let runs = [
            figures(vec![step(100.0, 1), step(1.0, 100), step(3.0, 100)], 80.0),
            figures(vec![step(50.0, 1), step(1.0, 100), step(5.0, 100)], 85.0),
        ];
        let summary = Summary::of(&runs);
        assert_eq!(summary.rate, 40.0);
        assert_eq!(
            (summary.steps.median, summary.steps.least, summary.steps.most, summary.steps.count),
            (2.0, 1.0, 5.0, 4)
        );
        assert_eq!((summary.rates.least, summary.rates.most), (20.0, 100.0));
        assert_eq!((summary.peak, summary.gflops), (Some(85.0), 2.0));
        assert_eq!((summary.limit, summary.share), (Some(10.0), Some(0.2)));
        let mut json = Map::new();
        summary.put(&mut json);
        for key in ["real_tokens_per_s", "peak_mib", "step_s"] {
            assert!(json[key].is_number(), "{key}");
        }
    }
}
