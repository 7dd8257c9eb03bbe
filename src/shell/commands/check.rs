//! `replay --check`: folds every log of a session without a screen and verifies it.
//!
//! Checks line checksums and sequence numbers, the state hashes in the session's log, the hash of every preferred text,
//! verdicts on answers that had not ended by what was shown of them, every run's frozen data, and the final hash of a sampling run's texts. The final hash of a training run needs the
//! weights: resume and merge check it.

use super::super::error::{Error, Result};
use super::super::out;
use super::context::CommandContext;
use crate::domain::{Choice, EvalState, SampledHash, Session, Side, WinnerHash, counted};
use crate::foreign::ROWS;
use crate::protocol::{Envelope, Integrity, RunEvent, SessionRecord, Task, apply_record, apply_run_event};
use crate::storage::{LogRecord, LogTail, RunDir, SessionDir, is_locked, read_file, sha256};
use serde_json::json;

/// Counts and problems of a check.
#[derive(Debug, Default)]
struct Tally {
    records: usize,
    integrity: Integrity,
    verdicts: usize,
    hashes: usize,
    winners: usize,
    runs: usize,
    steps: usize,
    /// One sentence per problem.
    wrong: Vec<String>,
}

/// Checks a session; fails if there is a problem.
pub fn run(context: &CommandContext, session: &str) -> Result<()> {
    let dir = SessionDir::find(&context.home, session)?;
    let mut tally = Tally::default();
    let mut whole = Session::default();
    let mut judged = Vec::new();
    let mut own = Session::default();
    let live = is_locked(&dir.path().join("lock"));
    // Before the log: what was counted is there.
    let end = dir.counted_end();
    let mut tail = dir.tail();
    for envelope in read(&mut tail, live, "the session's log", &mut tally)? {
        let Some(record) = envelope.known() else { continue };
        let hashed = match record {
            SessionRecord::Hashed { state } => Some((state, own.state_hash_2026_11())),
            SessionRecord::StateHashed { state } => Some((state, own.state_hash())),
            _ => None,
        };
        if let Some((said, is)) = hashed {
            tally.hashes += 1;
            if *said != is {
                let n = envelope.n;
                tally
                    .wrong
                    .push(format!("record {n} says the state is {said}, but the records before it fold to {is}"));
            }
        }
        if let SessionRecord::Judged(verdict) = record.act() {
            judged.push((envelope.n, verdict.clone()));
        }
        apply_record(&mut own, envelope.n, envelope.w, record);
        apply_record(&mut whole, envelope.n, envelope.w, record);
    }
    if tally.integrity.is_intact() {
        SessionDir::note_cut(&mut tally.integrity, tail.last_seq(), end);
        if !tally.integrity.is_intact() {
            tally.wrong.push(format!("the session's log has {}", tally.integrity.sentence()));
        }
    }
    for run in dir.runs()? {
        check_run(&run, tail.last_seq(), &mut whole, &mut tally)?;
    }
    tally.verdicts = judged.len();
    for (n, verdict) in judged {
        let Some(pair) = whole.pair(&verdict.pair) else {
            // Its run may have been killed before the answers ended: the counts say so.
            if verdict.showing.partial.is_some() {
                continue;
            }
            tally.wrong.push(format!("record {n} judges pair {}, which no log holds", verdict.pair));
            continue;
        };
        let (Choice::Prefer(side, _), Some(said)) = (verdict.choice, &verdict.winner_hash) else { continue };
        let Some((a, b)) = whole.sides(pair) else { continue };
        let text = if side == Side::A { &a.text } else { &b.text };
        tally.winners += 1;
        if *said != WinnerHash::of(text) {
            tally.wrong.push(format!("record {n} prefers a text that pair {} does not hold", verdict.pair));
        }
    }
    report(context, &dir, &whole, &tally)
}

/// Reads a log, and notes its problems. Only a log in use (`live`) may end in an unfinished line.
fn read<T: LogRecord>(tail: &mut LogTail<T>, live: bool, what: &str, tally: &mut Tally) -> Result<Vec<Envelope<T>>> {
    let envelopes = if live { tail.poll()? } else { tail.finish()? };
    tally.records += envelopes.len();
    let found = tail.integrity();
    if !found.is_intact() {
        tally.wrong.push(format!("{what} has {}", found.sentence()));
    }
    if found.unfinished_bytes > 0 && !live {
        tally.wrong.push(format!(
            "{what} ends in {} bytes that are not a record: open the session once to move them to the quarantine",
            found.unfinished_bytes
        ));
    }
    tally.integrity.merge(&found);
    Ok(envelopes)
}

fn check_run(run: &RunDir, last_seq: u64, whole: &mut Session, tally: &mut Tally) -> Result<()> {
    tally.runs += 1;
    let id = run.id();
    let spec = run.spec()?;
    for data in spec.data() {
        let path = run.path().join(&data.file);
        // Large data may be missing if a recipe file says how to recreate it.
        let recipe = run.path().join(format!("{}.recipe", data.file));
        if !path.exists() && recipe.is_file() {
            out::note(&format!("{} of run {id} is not kept: {} says how to recreate it", data.file, recipe.display()));
        } else if sha256(&read_file(&path, ROWS)?) != data.sha256 {
            tally.wrong.push(format!("{} of run {id} was changed since its launch", data.file));
        }
    }
    // Before the log: the steps of a checkpoint are logged before it is written.
    let saved = run.checkpoints()?.last().map_or(0, |checkpoint| checkpoint.step);
    let mut reached = 0;
    let mut texts = SampledHash::default();
    let mut eval = EvalState::default();
    let behind = run.launch_seq(&spec);
    if behind > last_seq {
        tally.wrong.push(format!(
            "run {id} was launched after record {behind}, but the session's log ends at record {last_seq}"
        ));
    }
    for envelope in read(&mut run.tail(), run.is_alive(), &format!("the log of run {id}"), tally)? {
        let Some(event) = envelope.known() else { continue };
        if spec.adds_to_session() {
            apply_run_event(whole, event);
        }
        match event {
            RunEvent::Stepped { step, .. } => {
                tally.steps += 1;
                reached = reached.max(*step);
            }
            RunEvent::Completed(completion) => texts.add(completion),
            RunEvent::EvalAnswered(answer) => eval.answer(answer.as_ref().clone()),
            RunEvent::Measured(measurement) => eval.measure(measurement.clone()),
            RunEvent::Compared(comparison) => eval.compare(comparison.clone()),
            RunEvent::Posed(posed) => eval.pose(posed.as_ref().clone()),
            RunEvent::Finished { state, .. } if matches!(spec.task, Task::Eval(_)) => {
                tally.hashes += 1;
                let found = eval.result_hash();
                if *state != found {
                    tally.wrong.push(format!("run {id} ended with results of hash {state}, but its log holds {found}"));
                }
            }
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
    if saved > reached {
        tally.wrong.push(format!("run {id} has a checkpoint of step {saved}, but its log ends at step {reached}"));
    }
    Ok(())
}

fn report(context: &CommandContext, dir: &SessionDir, whole: &Session, tally: &Tally) -> Result<()> {
    let (rows, left) = whole.rows();
    if context.json {
        out::json(&json!({
            "session": dir.name(), "ok": tally.wrong.is_empty(), "records": tally.records, "unknown": tally.integrity.opaque,
            "integrity": tally.integrity,
            "prompts": whole.prompts().len(), "completions": whole.completion_count(), "pairs": whole.pairs().len(),
            "verdicts": tally.verdicts, "rows": rows.len(), "left_out": left.total(), "runs": tally.runs, "steps": tally.steps,
            "partial": whole.partial_counts(), "hashes_verified": tally.hashes, "winners_verified": tally.winners, "state": whole.state_hash(), "wrong": tally.wrong,
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
        if let Some(sentence) = whole.partial_counts().sentence() {
            out::line(&sentence)?;
        }
    }
    match tally.wrong.as_slice() {
        [] => Ok(()),
        [first, rest @ ..] => {
            for wrong in rest {
                out::note(wrong);
            }
            let n = tally.wrong.len();
            Err(Error::failed(format!(
                "session {} does not verify ({n} problem{}): {first}",
                dir.name(),
                if n == 1 { "" } else { "s" }
            )))
        }
    }
}
