//! `bench sample`: tokens/s of decoding, with and without the prefill.

use super::super::super::cli::BenchSampleArgs;
use super::super::super::error::{Error, Result};
use super::super::super::{models, out};
use super::super::context::CommandContext;
use super::figures::{Spread, ask, line, round};
use super::machine;
use crate::protocol::{BenchAnswer, BenchSpec, RowsFigures, SampleBench};
use serde_json::{Value, json};

/// Runs the benchmark and prints the results.
pub fn run(context: &CommandContext, args: &BenchSampleArgs) -> Result<()> {
    let model = models::find(&context.home, &args.model)?;
    let spec = BenchSpec::Sample(SampleBench {
        model: model.clone(),
        device: args.device.clone(),
        prompt: args.prompt.clone(),
        rows: args.rows.iter().map(|n| *n as usize).collect(),
        tokens: args.tokens as usize,
        runs: args.runs as usize,
    });
    let BenchAnswer::Sampled(figures) = ask(&spec)? else {
        return Err(Error::failed("the worker measured something else: try again"));
    };
    let rows: Vec<Speeds> = figures.rows.iter().map(|rows| Speeds::of(rows, figures.prompt_tokens)).collect();
    if context.json {
        return out::json(&json!({
            "bench": "sample",
            "model": model.name,
            "device": figures.device,
            "parameters": figures.parameters,
            "prompt_tokens": figures.prompt_tokens,
            "tokens": args.tokens,
            "rows": rows.iter().map(Speeds::json).collect::<Vec<_>>(),
            "load_s": round(figures.load_seconds, 3),
            "peak_mib": figures.peak_mib.map(f64::round),
            "machine": machine::facts(),
        }));
    }
    out::line(&format!(
        "{} · {} tokens after a prompt of {} · {}",
        model.name, args.tokens, figures.prompt_tokens, figures.device
    ))?;
    for speeds in &rows {
        let name = if speeds.rows == 1 { "one answer".into() } else { format!("{} answers", speeds.rows) };
        line(
            &name,
            &format!(
                "{} tokens/s, with the prefill {:.1}; prefill {:.0} tokens/s",
                speeds.decode.words(1),
                speeds.whole.median,
                speeds.prefill.median
            ),
        )?;
    }
    line("peak memory", &figures.peak_mib.map_or_else(|| "n/a".into(), |mib| format!("{mib:.0} MiB")))?;
    line("loading", &format!("{:.1} s", figures.load_seconds))?;
    line("machine", &machine::words())
}

/// Tokens/s of the phases.
struct Speeds {
    rows: usize,
    /// All candidates' tokens after the first, per second of decoding.
    decode: Spread,
    /// All sampled tokens per second of prefill and decoding.
    whole: Spread,
    /// Prompt tokens per second of the prefill.
    prefill: Spread,
}

impl Speeds {
    fn of(figures: &RowsFigures, prompt: usize) -> Self {
        let (rows, behind) = (figures.rows as f64, figures.tokens as f64);
        let each = |of: &dyn Fn(f64, f64) -> f64| {
            let values: Vec<f64> = figures.runs.iter().map(|run| of(run.prefill_seconds, run.decode_seconds)).collect();
            Spread::of(&values)
        };
        Self {
            rows: figures.rows,
            decode: each(&|_, decode| rows * behind / decode),
            whole: each(&|prefill, decode| rows * (behind + 1.0) / (prefill + decode)),
            prefill: each(&|prefill, _| prompt as f64 / prefill),
        }
    }

    fn json(&self) -> Value {
        json!({
            "rows": self.rows,
            "tokens_per_s": round(self.decode.median, 2),
            "tokens_per_s_spread": self.decode.json(2),
            "with_prefill_tokens_per_s": round(self.whole.median, 2),
            "prefill_tokens_per_s": round(self.prefill.median, 2),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::SampleRun;

    #[test]
    fn prefill_and_decoding_have_separate_speeds() {
        let run = SampleRun { prefill_seconds: 1.0, decode_seconds: 4.0 };
        let speeds = Speeds::of(&RowsFigures { rows: 8, tokens: 9, runs: vec![run] }, 50);
        assert_eq!((speeds.decode.median, speeds.whole.median, speeds.prefill.median), (18.0, 16.0, 50.0));
        assert_eq!(speeds.json()["tokens_per_s"], 18.0);
    }
}
