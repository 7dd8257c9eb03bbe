//! Benchmarks: a question that is answered by doing the work once, in this process and no other.

use super::answer::say;
use super::error::Error;
use super::gpu::Peak;
use crate::domain::{PairId, PairRow, PromptId};
use crate::protocol::{BenchAnswer, BenchSpec, TrainBench, TrainFigures};
use crate::storage::import;
use crate::{model, nn, train};
use std::path::Path;

/// `worker bench SPEC`: [`BenchAnswer`]s, the figures last. SPEC is a [`BenchSpec`] as JSON.
pub(crate) fn bench(spec: &str) -> Result<(), Error> {
    let spec: BenchSpec = serde_json::from_str(spec)
        .map_err(|e| Error::Failed(format!("what to measure is not said as `tiebreak bench` says it: {e}")))?;
    let mut tell = |answer: BenchAnswer| say(&answer).map_err(|e| model::Error::Sink(e.to_string()));
    match spec {
        BenchSpec::Train(ask) => {
            let pairs = pairs(&ask)?;
            // Of this process alone, and empty: the reference pass is part of what is measured.
            let cache =
                tempfile::tempdir().map_err(|e| Error::Failed(format!("no temporary folder can be made: {e}")))?;
            let device = nn::describe(&nn::device(&ask.device)?);
            let peak = Peak::watch(&device);
            let figures = train::bench::train(&ask, &pairs, cache.path(), &mut tell);
            let gpu_peak_mib = peak.map(Peak::mib);
            say(&BenchAnswer::Trained(Box::new(TrainFigures { gpu_peak_mib, ..figures? })))
        }
        BenchSpec::Sample(ask) => {
            let figures = train::bench::sample(&ask, &mut tell)?;
            say(&BenchAnswer::Sampled(Box::new(figures)))
        }
    }
}

/// The file's pairs as rows.
fn pairs(ask: &TrainBench) -> Result<Vec<PairRow>, Error> {
    let imported = import::pairs(Path::new(&ask.data), None)?;
    let rows = imported.rows.into_iter().enumerate();
    Ok(rows
        .map(|(i, pair)| PairRow {
            pair: PairId::new(format!("row{}", i + 1)),
            prompt_id: PromptId(format!("row{}", i + 1)),
            prompt: pair.prompt,
            chosen: pair.chosen,
            rejected: pair.rejected,
            margin: None,
            agreed: None,
        })
        .collect())
}
