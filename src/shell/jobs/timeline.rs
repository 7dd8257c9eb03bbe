//! Reading the logs for a replay.
//!
//! Owns that texts which the screen holds already are not held again. Refuses to fold: see [`Timeline`].

use crate::app::screen::replay::Timeline;
use crate::domain::{RunId, Session};
use crate::protocol::{Envelope, RunEvent, SessionRecord};
use crate::shell::error::Result;
use crate::storage::SessionDir;

/// Bytes of the session's log that are parsed before their texts are replaced by those that are known.
const PART: u64 = 1 << 20;

/// The session's log and those of these runs in one sequence. `known` is a state of the session, whose texts are shared.
///
/// # Errors
/// When a log cannot be read.
pub fn read_timeline(dir: &SessionDir, runs: &[RunId], known: Session) -> Result<Timeline> {
    let events = |id: &RunId| {
        let mut events = dir.run(id)?.tail().finish()?;
        for envelope in &mut events {
            share_event(envelope, &known);
        }
        Ok((id.clone(), events))
    };
    let runs = runs.iter().map(events).collect::<Result<Vec<_>>>()?;
    let (mut tail, mut parts) = (dir.tail(), Vec::new());
    loop {
        let part = tail.poll_part(PART)?;
        if !part.in_order {
            // Sorted as a whole.
            let mut records = dir.tail().finish()?;
            share_records(&mut records, &known);
            parts = vec![records];
            break;
        }
        // The last record may lack its end.
        let mut records = part.records;
        if !part.more {
            records.extend(tail.finish()?);
        }
        share_records(&mut records, &known);
        records.shrink_to_fit();
        parts.push(records);
        if !part.more {
            break;
        }
    }
    drop(known);
    Ok(Timeline::merge_parts(parts, runs))
}

fn share_records(records: &mut [Envelope<SessionRecord>], known: &Session) {
    for envelope in records {
        match &mut envelope.data {
            Ok(SessionRecord::Prompted(prompt)) => *prompt = known.shared_prompt(prompt.clone()),
            Ok(SessionRecord::Completed(completion)) => *completion = known.shared_completion(completion.clone()),
            Ok(SessionRecord::Paired(pair)) => *pair = known.shared_pair(pair.clone()),
            Ok(SessionRecord::Judged(verdict)) => *verdict = known.shared_verdict(envelope.n, verdict.clone()),
            _ => {}
        }
    }
}

fn share_event(envelope: &mut Envelope<RunEvent>, known: &Session) {
    match &mut envelope.data {
        Ok(RunEvent::Completed(completion)) => *completion = known.shared_completion(completion.clone()),
        Ok(RunEvent::Paired(pair)) => *pair = known.shared_pair(pair.clone()),
        _ => {}
    }
}
