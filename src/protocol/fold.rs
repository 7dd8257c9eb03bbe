//! The one fold from records to state that live view, re-attach, replay and tests share.

use super::event::RunEvent;
use super::line::Envelope;
use super::record::SessionRecord;
use crate::domain::{Correction, RunState, RunStatus, Session};

/// Folds a record of the session's own log; `seq` is its sequence number there, `wall_ms` its wall time.
pub fn apply_record(session: &mut Session, seq: u64, wall_ms: u64, record: &SessionRecord) {
    session.set_wall_time(wall_ms);
    fold(session, seq, record);
}

fn fold(session: &mut Session, seq: u64, record: &SessionRecord) {
    match record {
        SessionRecord::Collected { at, record } => {
            // Only what a person did; a foreign log cannot nest records or launch runs.
            if record.is_act() {
                session.copied(*at, |session| fold(session, seq, record));
            }
        }
        SessionRecord::Prompted(p) => session.add_prompt(p.clone()),
        SessionRecord::Completed(c) => session.add_completion(c.clone()),
        SessionRecord::Paired(p) => session.add_pair(p.clone()),
        SessionRecord::Judged(v) => session.judge(seq, v.clone()),
        SessionRecord::Undone { of } | SessionRecord::Withdrawn { of } => session.undo(*of),
        SessionRecord::Redone { of } | SessionRecord::Restored { of } => session.redo(*of),
        SessionRecord::Noted { pair, rater, text } => session.note(pair.clone(), rater.clone(), text.clone()),
        SessionRecord::Corrected { pair, completion, rater, text } => session.correct(
            seq,
            Correction { pair: pair.clone(), completion: completion.clone(), rater: rater.clone(), text: text.clone() },
        ),
        SessionRecord::Taught { set, row } => session.add_text(*set, row.clone()),
        SessionRecord::Configured(settings) => session.configure(*settings),
        SessionRecord::Adjudicated(adjudication) => session.adjudicate(seq, adjudication.clone()),
        SessionRecord::CriterionSet { name, sentence } => session.set_criterion(name, sentence.as_deref()),
        SessionRecord::RepeatsSet(repeats) => session.set_repeats(*repeats),
        SessionRecord::Tagged(change) => session.tag(seq, change.clone()),
        SessionRecord::Rated(row) => session.add_rating(row.clone()),
        SessionRecord::MarginStated { pair, margin } => session.state_margin(pair.clone(), margin.0),
        SessionRecord::Scored { completion, run, score } => session.score(completion.clone(), run, score.0),
        SessionRecord::LoopPlanned(spec) => session.plan_loop(spec.as_ref().clone()),
        SessionRecord::Launched(spec) => session.launch(spec.id.clone()),
        SessionRecord::JudgeRecorded { .. }
        | SessionRecord::Hashed { .. }
        | SessionRecord::StateHashed { .. }
        | SessionRecord::Repaired { .. } => {}
    }
}

/// Folds what a run's log adds to its session: the candidates and pairs of a sampling run.
pub fn apply_run_event(session: &mut Session, event: &RunEvent) {
    match event {
        RunEvent::Completed(c) => session.add_completion(c.clone()),
        RunEvent::Paired(p) => session.add_pair(p.clone()),
        RunEvent::Posed(posed) => session.pose(posed.as_ref().clone()),
        RunEvent::Started { .. }
        | RunEvent::Planned(_)
        | RunEvent::Progressed { .. }
        | RunEvent::Stepped { .. }
        | RunEvent::Evaluated { .. }
        | RunEvent::Sampled { .. }
        | RunEvent::Deduplicated { .. }
        | RunEvent::Requested { .. }
        | RunEvent::Answered(_)
        | RunEvent::Unanswered { .. }
        | RunEvent::EvalAnswered(_)
        | RunEvent::Measured(_)
        | RunEvent::Compared(_)
        | RunEvent::Checkpointed { .. }
        | RunEvent::Found(_)
        | RunEvent::Obeyed(_)
        | RunEvent::Finished { .. }
        | RunEvent::Stopped { .. }
        | RunEvent::Failed { .. }
        | RunEvent::Repaired { .. } => {}
    }
}

/// Folds an event of a run's log into the run's state. A record of an unknown kind changes nothing.
pub fn apply_run(run: &mut RunState, envelope: &Envelope<RunEvent>) {
    let Some(event) = envelope.known() else {
        return;
    };
    if !matches!(event, RunEvent::Started { .. }) {
        run.tick(envelope.m, envelope.w);
    }
    match event {
        RunEvent::Started { attempt, device, from_step, .. } => {
            run.start(*attempt, device, *from_step, envelope.m);
            run.tick(envelope.m, envelope.w);
        }
        RunEvent::Planned(plan) => run.set_plan(plan.clone()),
        RunEvent::Progressed { stage, done, total } => run.progress(stage, *done, *total),
        RunEvent::Stepped { step, epoch, metrics } => run.advance(*step, *epoch, metrics),
        RunEvent::Evaluated { step, metrics } => run.measure(*step, metrics),
        RunEvent::Sampled { step, prompt, text, score } => run.sample(*step, prompt, text, score.map(|s| s.0)),
        RunEvent::Completed(completion) => run.complete(completion),
        RunEvent::Paired(_) => run.paired += 1,
        RunEvent::Deduplicated { count, .. } => run.duplicates += *count as u64,
        // An answer counts when it becomes a candidate; the run's last finding counts the missing ones.
        RunEvent::Requested { .. } | RunEvent::Answered(_) | RunEvent::Unanswered { .. } => {}
        RunEvent::EvalAnswered(answer) => run.eval.answer(answer.as_ref().clone()),
        RunEvent::Measured(measurement) => run.eval.measure(measurement.clone()),
        RunEvent::Compared(comparison) => run.eval.compare(comparison.clone()),
        RunEvent::Posed(posed) => run.eval.pose(posed.as_ref().clone()),
        RunEvent::Checkpointed { step, bytes } => run.checkpoint(*step, *bytes),
        RunEvent::Found(finding) => run.findings.push(finding.clone()),
        RunEvent::Obeyed(command) => run.obey(command.word()),
        RunEvent::Finished { step, state } => {
            run.end(RunStatus::Finished, *step);
            run.final_state = Some(state.clone());
        }
        RunEvent::Stopped { step } => run.end(RunStatus::Stopped, *step),
        RunEvent::Failed { step, error } => run.end(RunStatus::Failed(error.clone()), *step),
        RunEvent::Repaired { .. } => run.repairs += 1,
    }
}
