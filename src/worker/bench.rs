//! The benchmark query, run in this process alone. Owns the choice of file and the GPU peak; refuses the timing itself.

use super::error::Error;
use super::gpu::Peak;
use super::out::say;
use crate::domain::{PairId, PairRow, PairTurns, PromptId};
use crate::protocol::{BenchAnswer, BenchSpec, TrainBench, TrainFigures};
use crate::storage::formats::import_named;
use crate::storage::import::{self, ImportedRows};
use crate::{model, nn, storage, train};
use std::path::Path;

/// `worker bench SPEC`: [`BenchAnswer`]s, the figures last. SPEC is a [`BenchSpec`] as JSON.
pub(crate) fn bench(spec: &str) -> Result<(), Error> {
    let spec: BenchSpec =
        serde_json::from_str(spec).map_err(|e| Error::Failed(format!("invalid benchmark spec: {e}")))?;
    let mut tell = |answer: BenchAnswer| say(&answer).map_err(|e| model::Error::Sink(e.to_string()));
    match spec {
        BenchSpec::Train(ask) => {
            let pairs = pairs(&ask)?;
            // Private and empty: the benchmark includes the reference pass.
            let cache = tempfile::Builder::new()
                .prefix("tiebreak-bench-")
                .tempdir()
                .map_err(|e| storage::Error::io("create a folder in", &std::env::temp_dir(), e))?;
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
    let path = Path::new(&ask.data);
    let ImportedRows::Pairs(pairs) = import::read(path, import_named("pairs")?, None)?.rows else {
        return Err(Error::Data {
            path: path.to_owned(),
            reason: "contains no pairs: name a file of labelled pairs".into(),
        });
    };
    Ok(pairs
        .into_iter()
        .enumerate()
        .map(|(i, pair)| PairRow {
            turns: PairTurns::of(&pair.chosen.turns, &pair.rejected.turns),
            pair: PairId::new(format!("row{}", i + 1)),
            prompt_id: PromptId::new(format!("row{}", i + 1)),
            prompt: pair.prompt,
            chosen: pair.chosen.text,
            rejected: pair.rejected.text,
            margin: None,
            agreed: None,
            strategy: None,
            rater: None,
        })
        .collect())
}
