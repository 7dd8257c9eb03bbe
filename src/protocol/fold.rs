//! The one fold from records to state that live view, re-attach, replay and tests share.

use super::event::RunEvent;
use super::record::SessionRecord;
use crate::domain::{Correction, Session};

/// Folds a record of the session's own log; `seq` is its sequence number there.
pub fn apply_record(session: &mut Session, seq: u64, record: &SessionRecord) {
    match record {
        SessionRecord::Prompted(p) => session.add_prompt(p.clone()),
        SessionRecord::Completed(c) => session.add_completion(c.clone()),
        SessionRecord::Paired(p) => session.add_pair(p.clone()),
        SessionRecord::Judged(v) => session.judge(seq, v.clone()),
        SessionRecord::Undone { of } => session.undo(*of),
        SessionRecord::Redone { of } => session.redo(*of),
        SessionRecord::Noted { pair, rater, text } => session.note(pair.clone(), rater.clone(), text.clone()),
        SessionRecord::Corrected { pair, completion, rater, text } => session.correct(Correction {
            pair: pair.clone(),
            completion: completion.clone(),
            rater: rater.clone(),
            text: text.clone(),
        }),
        SessionRecord::Launched(spec) => session.launch(spec.id.clone()),
        SessionRecord::Hashed { .. } | SessionRecord::Repaired { .. } => {}
    }
}

/// Folds what a run's log adds to its session: the candidates and pairs of a sampling run.
pub fn apply_run_event(session: &mut Session, event: &RunEvent) {
    match event {
        RunEvent::Completed(c) => session.add_completion(c.clone()),
        RunEvent::Paired(p) => session.add_pair(p.clone()),
        RunEvent::Started { .. }
        | RunEvent::Planned(_)
        | RunEvent::Progressed { .. }
        | RunEvent::Stepped { .. }
        | RunEvent::Evaluated { .. }
        | RunEvent::Sampled { .. }
        | RunEvent::Deduplicated { .. }
        | RunEvent::Checkpointed { .. }
        | RunEvent::Found(_)
        | RunEvent::Obeyed(_)
        | RunEvent::Finished { .. }
        | RunEvent::Stopped { .. }
        | RunEvent::Failed { .. }
        | RunEvent::Repaired { .. } => {}
    }
}
