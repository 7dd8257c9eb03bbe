//! The estimate of a training run before its launch: steps, memory and disk space. Refuses a run that the disk cannot
//! hold.
//!
//! The launch screen and the command `train` both use it, so that both refuse the same.

use super::error::{Error, Result};
use super::supervisor::{self, Deadline};
use crate::protocol::{Estimate, RunSpec, Task};
use crate::storage::{DataFile, Home, free_bytes};
use std::path::Path;

/// Checkpoint bytes of a trainable parameter: its value and AdamW's two moments, all f32.
const CHECKPOINT_BYTES: u64 = 12;
/// Bytes reserved for the log and small files.
const SPARE: u64 = 16 << 20;

/// Asks a worker for the estimate.
///
/// # Errors
/// When the worker fails or misses the deadline, or the disk of the data folder has no room for the run's checkpoints.
pub fn estimate(home: &Home, deadline: Option<&Deadline>, spec: &RunSpec, data: &[DataFile]) -> Result<Estimate> {
    let plan = supervisor::ask_about::<Estimate>("estimate", home, deadline, spec, data)?;
    let needed = disk_bytes(spec, data, &plan);
    match free_bytes(home.root()) {
        Some(free) if free < needed => Err(Error::failed(no_room(home.root(), free, needed))),
        _ => Ok(plan),
    }
}

/// The most disk space that the run uses at a time: data, log, the kept checkpoints, the one that replaces the oldest,
/// and the best one.
fn disk_bytes(spec: &RunSpec, data: &[DataFile], plan: &Estimate) -> u64 {
    let Task::Train(train) = &spec.task else { return 0 };
    let kept = train.params.usize("save_total_limit") as u64;
    let best = u64::from(!train.params.text("metric_for_best_model").is_empty() && plan.eval_rows > 0);
    let files: u64 = data.iter().map(|file| file.bytes.len() as u64).sum();
    files + plan.trainable * CHECKPOINT_BYTES * (kept + 1 + best) + SPARE
}

fn no_room(root: &Path, free: u64, needed: u64) -> String {
    let gb = |bytes: u64| format!("{:.2} GB", bytes as f64 / 1e9);
    format!(
        "the disk of {} has {} free and this run's checkpoints and log take {}: free some space, lower save_total_limit, or \
         name another folder with --home",
        root.display(),
        gb(free),
        gb(needed)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Params, RunId, method};
    use crate::protocol::{DataSnapshot, Inputs, ModelRef, TrainSpec};

    #[test]
    fn what_a_run_writes_grows_with_what_it_trains_and_keeps() {
        let plan =
            |eval_rows| Estimate { steps: 3, train_rows: 9, eval_rows, trainable: 1_000_000, ..Estimate::default() };
        let spec = |set: &[&str]| {
            let rows = method("dpo").unwrap().rows();
            let mut params = Params::defaults(&rows);
            for pair in set {
                params.set_pair(&rows, "dpo", pair).unwrap();
            }
            let data = DataSnapshot { file: "data.jsonl".into(), sha256: String::new(), rows: 9, session_seq: 0 };
            let model = ModelRef { name: "m".into(), path: "m".into() };
            RunSpec {
                id: RunId::new("dpo-1"),
                task: Task::Train(TrainSpec::new("dpo", model, params, data)),
                device: "cpu".into(),
                created_ms: 0,
                app: "0".into(),
                inputs: Inputs::default(),
            }
        };
        let data = [DataFile { name: "data.jsonl".into(), bytes: vec![0; 700] }];
        let of = |set: &[&str], eval_rows| disk_bytes(&spec(set), &data, &plan(eval_rows)) - SPARE - 700;
        // Two kept, one being written, and the best one where there is an evaluation to tell it.
        assert_eq!((of(&[], 0), of(&[], 2)), (36_000_000, 48_000_000));
        assert_eq!(of(&["save_total_limit=5", "metric_for_best_model="], 2), 72_000_000);
        let said = no_room(Path::new("data"), 12_000_000, 3_400_000_000);
        assert!(said.contains("0.01 GB free") && said.contains("take 3.40 GB") && said.contains("--home"), "{said}");
    }
}
