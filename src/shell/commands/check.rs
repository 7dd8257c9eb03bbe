//! `replay --check`: folds every log of a session without a screen and verifies what can be verified.
//!
//! Checked are the lines' checksums and numbers, the hashes of the state that writers left in the session's log, the hash of
//! every preferred text, and of every run the frozen data and (sampling runs) the hash of the texts it ended with. The final
//! weights' hash of a training run needs the weights and is checked where they are: at resume and merge.

use super::super::error::{Error, Result};
use super::super::out;
use super::context::CommandContext;
use crate::domain::{Choice, SampledHash, Session, Side, counted, hash64};
use crate::protocol::{Envelope, RunEvent, SessionRecord, Task, apply_record, apply_run_event};
use crate::storage::{LogRecord, LogTail, RunDir, SessionDir, sha256};
use serde_json::json;

/// What was counted.
#[derive(Debug, Default)]
struct Tally {
    records: usize,
    unknown: usize,
    verdicts: usize,
    hashes: usize,
    winners: usize,
    runs: usize,
    steps: usize,
    /// One sentence for each thing that is wrong.
    wrong: Vec<String>,
}

/// Checks a session; anything wrong fails.
pub fn run(context: &CommandContext, session: &str) -> Result<()> {
    let dir = SessionDir::find(&context.home, session)?;
    let mut tally = Tally::default();
    let mut whole = Session::default();
    let mut judged = Vec::new();
    let mut own = Session::default();
    for envelope in read(&mut dir.tail(), "the session's log", &mut tally)? {
        let Some(record) = envelope.known() else { continue };
        if let SessionRecord::Hashed { state } = record {
            tally.hashes += 1;
            if *state != own.state_hash() {
                tally.wrong.push(format!(
                    "record {} says the state is {state}, but the records before it fold to {}",
                    envelope.n,
                    own.state_hash()
                ));
            }
        }
        if let SessionRecord::Judged(verdict) = record {
            judged.push((envelope.n, verdict.clone()));
        }
        apply_record(&mut own, envelope.n, record);
        apply_record(&mut whole, envelope.n, record);
    }
    for run in dir.runs()? {
        check_run(&run, &mut whole, &mut tally)?;
    }
    tally.verdicts = judged.len();
    for (n, verdict) in judged {
        let Some(pair) = whole.pair(&verdict.pair) else {
            tally.wrong.push(format!("record {n} judges pair {}, which no log holds", verdict.pair));
            continue;
        };
        let (Choice::Prefer(side, _), Some(said)) = (verdict.choice, &verdict.winner_hash) else { continue };
        let Some((a, b)) = whole.sides(pair) else { continue };
        let text = if side == Side::A { &a.text } else { &b.text };
        tally.winners += 1;
        if *said != format!("{:016x}", hash64(text.as_bytes())) {
            tally.wrong.push(format!("record {n} prefers a text that pair {} does not hold", verdict.pair));
        }
    }
    report(context, &dir, &whole, &tally)
}

/// Every record of a log; gaps and damaged lines are noted.
fn read<T: LogRecord>(tail: &mut LogTail<T>, what: &str, tally: &mut Tally) -> Result<Vec<Envelope<T>>> {
    let envelopes = tail.poll()?;
    let mut last = 0;
    for envelope in &envelopes {
        if envelope.n != last + 1 {
            tally.wrong.push(format!("{what} goes from record {last} to record {}", envelope.n));
        }
        last = envelope.n;
        tally.unknown += usize::from(envelope.data.is_err());
    }
    tally.records += envelopes.len();
    if tail.skipped() > 0 {
        tally.wrong.push(format!("{what} has {} damaged or repeated lines", tail.skipped()));
    }
    Ok(envelopes)
}

fn check_run(run: &RunDir, whole: &mut Session, tally: &mut Tally) -> Result<()> {
    tally.runs += 1;
    let id = run.id();
    let spec = run.spec()?;
    for data in spec.data() {
        let path = run.path().join(&data.file);
        // Data too large to keep may be left out where a file beside it says how to make it again.
        let recipe = run.path().join(format!("{}.recipe", data.file));
        match std::fs::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && recipe.is_file() => {
                out::note(&format!(
                    "{} of run {id} is not kept: {} says how to make it again",
                    data.file,
                    recipe.display()
                ));
            }
            Err(e) => return Err(Error::io("read", &path, e)),
            Ok(bytes) if sha256(&bytes) != data.sha256 => {
                tally.wrong.push(format!("{} of run {id} is not what it was launched on", data.file));
            }
            Ok(_) => {}
        }
    }
    let mut texts = SampledHash::default();
    for envelope in read(&mut run.tail(), &format!("the log of run {id}"), tally)? {
        let Some(event) = envelope.known() else { continue };
        if matches!(spec.task, Task::Sample(_)) {
            apply_run_event(whole, event);
        }
        match event {
            RunEvent::Stepped { .. } => tally.steps += 1,
            RunEvent::Completed(completion) => texts.add(completion),
            RunEvent::Finished { state, .. } if matches!(spec.task, Task::Sample(_)) => {
                tally.hashes += 1;
                if *state != texts.hex() {
                    tally
                        .wrong
                        .push(format!("run {id} ended with texts of hash {state}, but its log holds {}", texts.hex()));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn report(context: &CommandContext, dir: &SessionDir, whole: &Session, tally: &Tally) -> Result<()> {
    let (rows, left) = whole.rows();
    if context.json {
        out::json(&json!({
            "session": dir.name(), "ok": tally.wrong.is_empty(), "records": tally.records, "unknown": tally.unknown,
            "prompts": whole.prompts().len(), "completions": whole.completion_count(), "pairs": whole.pairs().len(),
            "verdicts": tally.verdicts, "rows": rows.len(), "left_out": left.total(), "runs": tally.runs, "steps": tally.steps,
            "hashes_verified": tally.hashes, "winners_verified": tally.winners, "state": whole.state_hash(), "wrong": tally.wrong,
        }))?;
    } else {
        out::line(&format!(
            "{}: {}, {}, {}, {}, {}, {}, {}; {} and {} verified; state {}",
            dir.name(),
            counted(tally.records, "record"),
            counted(whole.prompts().len(), "prompt"),
            counted(whole.completion_count(), "completion"),
            counted(whole.pairs().len(), "pair"),
            counted(tally.verdicts, "verdict"),
            counted(tally.runs, "run"),
            counted(tally.steps, "step"),
            counted(tally.hashes, "state"),
            counted(tally.winners, "preferred text"),
            whole.state_hash()
        ))?;
    }
    match tally.wrong.as_slice() {
        [] => Ok(()),
        [first, rest @ ..] => {
            for wrong in rest {
                out::note(wrong);
            }
            let n = tally.wrong.len();
            Err(Error::failed(format!(
                "session {} does not verify ({n} thing{} wrong): {first}",
                dir.name(),
                if n == 1 { "" } else { "s" }
            )))
        }
    }
}
