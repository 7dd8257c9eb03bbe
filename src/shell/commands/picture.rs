//! The picture of a screen: any screen of the workbench, with a session in it, as SVG.
//!
//! It is drawn by the screens' own code from the same logs, without a terminal. Owns the answers to what a screen asks the shell:
//! lists, figures, counts. Refuses what would change anything: saving, launching, commands to a run are dropped, and so is what
//! only a worker with the weights can answer (memory, masks).

use super::super::cli::ReportArgs;
use super::super::effects;
use super::super::error::Result;
use super::super::eval_jobs::plan_estimate;
use super::super::evaluation::{CONTEST, others, standings_of};
use super::super::job_context::JobContext;
use super::super::jobs::read_timeline;
use super::super::suite_folder::{suite_files, suite_folder};
use super::super::{models, pairing, paths, supervisor};
use crate::app::{Code, Effect, Goal, Key, Model, Msg, Opened, ROUTES, Show, Theme, update};
use crate::domain::{PromptId, Rater, Session, agreement_report, eval_report, with_people};
use crate::protocol::Task;
use crate::storage::{Home, RunDir, SessionDir};
use crate::ui;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use std::collections::{BTreeMap, VecDeque};

/// A screen of the workbench with the session in it, as SVG.
///
/// # Errors
/// When the session or a run cannot be read.
pub(super) fn picture(home: &Home, dir: &SessionDir, run: Option<&RunDir>, args: &ReportArgs) -> Result<String> {
    let (width, height) = args.size;
    let screen = match (args.screen.as_deref(), run) {
        (Some(name), _) => name,
        (None, Some(run)) if matches!(run.spec()?.task, Task::Eval(_)) => "evaluate",
        (None, Some(_)) => "watch",
        (None, None) => "label",
    };
    let (session, _) = dir.state()?;
    let show = match (screen, run) {
        ("watch" | "evaluate", Some(run)) => Show::Run(run.id()),
        ("rank", _) => most_answered(&session).map_or(Show::Default, Show::Prompt),
        _ => Show::Default,
    };
    let route = ROUTES.iter().find(|route| route.name == screen);
    let goal = Goal::with(route.map_or("label", |route| route.name), show);
    let mut tail = dir.tail();
    let records = tail.finish()?;
    let mut integrity = tail.integrity();
    let mut now = records.last().map_or(0, |e| e.w);
    let mut messages = Vec::new();
    for run in dir.runs()? {
        let mut tail = run.tail();
        let (id, events) = (run.id(), tail.finish()?);
        let found = tail.integrity();
        integrity.merge(&found);
        now = now.max(events.last().map_or(0, |e| e.w));
        let has_records = !events.is_empty();
        messages.push(Msg::RunFound(Box::new(run.spec()?)));
        messages.push(Msg::RunRecords { run: id.clone(), records: events });
        messages.push(Msg::RunIntegrity { run: id.clone(), integrity: found });
        if let Some(alive) = supervisor::liveness(&run, has_records) {
            messages.push(Msg::RunAlive { run: id, alive });
        }
    }
    let name = dir.name();
    let mut model = Model::new(Theme::default(), (width, height), now);
    model.goal = Some((name.clone(), goal));
    let opened = Opened {
        name: name.clone(),
        path: dir.path().display().to_string(),
        meta: dir.meta()?,
        read_only: None,
        rater: rater_of(&session),
    };
    let opening = [Msg::Tick { now_ms: now, clock_ms: 0 }, Msg::SessionOpened(opened), Msg::Records(records)];
    let mut asked = VecDeque::from([Effect::QueryDevice, Effect::ListModels]);
    for msg in opening.into_iter().chain(messages).chain([Msg::Integrity(integrity), Msg::SessionLoaded]) {
        asked.extend(update(&mut model, msg));
    }
    settle(home, dir, &mut model, &mut asked)?;
    for key in args.keys.chars() {
        let code = if key == '\n' { Code::Enter } else { Code::Char(key) };
        asked.extend(update(&mut model, Msg::Key(Key::plain(code))));
        settle(home, dir, &mut model, &mut asked)?;
    }
    let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
    let area = buffer.area;
    ui::paint(&mut buffer, area, &model);
    Ok(ui::svg(&buffer, &format!("tiebreak: the {screen} screen of session {name}")))
}

/// Questions that a screen may go on asking, at most: an answer can lead to the next.
const MOST_ANSWERS: usize = 100;

/// Answers what the screen asks, until it asks nothing more.
fn settle(home: &Home, dir: &SessionDir, model: &mut Model, asked: &mut VecDeque<Effect>) -> Result<()> {
    for _ in 0..MOST_ANSWERS {
        let Some(effect) = asked.pop_front() else { return Ok(()) };
        if let Some(msg) = answer(home, dir, effect)? {
            asked.extend(update(model, msg));
        }
    }
    asked.clear();
    Ok(())
}

/// The answer to a question of a screen; none for what would change something.
fn answer(home: &Home, dir: &SessionDir, effect: Effect) -> Result<Option<Msg>> {
    let context = |dir: SessionDir| JobContext { opening: 0, dir, upto: None };
    Ok(Some(match effect {
        Effect::ListSessions => effects::sessions(home)?,
        Effect::ListModels => Msg::ModelsListed(models::list(home)?),
        Effect::QueryDevice => Msg::DeviceKnown(effects::device()),
        Effect::Agreement { ticket, session } => {
            Msg::AgreementReady { ticket, answer: Ok(Box::new(agreement_report(&session))) }
        }
        Effect::ReadTimeline { ticket, runs, known } => {
            Msg::TimelineRead { ticket, answer: Ok(Box::new(read_timeline(dir, &runs, *known)?)) }
        }
        Effect::EvalReport { ticket, run, upto: None } => {
            let run = dir.run(&run)?;
            let (session, anchor) = (dir.state()?.0, dir.meta()?.model);
            let eval = with_people(&supervisor::state_of(&run)?.0.eval, &session);
            let mut report = eval_report(&eval, &others(dir, &run.id())?);
            report.standings = standings_of(dir, &session, Some(&anchor), CONTEST, None)?;
            report.standings.retain(|table| table.counts(run.id().as_str()));
            Msg::EvalReportReady { ticket, answer: Ok(Box::new(report)) }
        }
        Effect::FindSuites { ticket, folder } => {
            let folder = folder.map(|text| paths::home_path(&text));
            Msg::SuitesFound { ticket, files: suite_files(&suite_folder(home, folder)) }
        }
        Effect::PlanEvaluation { ticket, request } => {
            let answer = plan_estimate(home, &context(SessionDir::open(dir.path())?), request);
            Msg::EvaluationPlanned { ticket, answer: answer.map_err(|e| e.to_string()) }
        }
        Effect::PreviewPairs { ticket, request } => {
            let answer = pairing::choose(&dir.state()?.0, &dir.name(), &request);
            Msg::PairsPreviewed {
                ticket,
                answer: answer.map(|found| Box::new(found.preview)).map_err(|e| e.to_string()),
            }
        }
        _ => return Ok(None),
    }))
}

/// A prompt with the most answers.
fn most_answered(session: &Session) -> Option<PromptId> {
    let mut counts: BTreeMap<&PromptId, usize> = BTreeMap::new();
    session.completions().into_iter().for_each(|c| *counts.entry(&c.prompt).or_default() += 1);
    counts.into_iter().max_by_key(|(_, n)| *n).map(|(prompt, _)| prompt.clone())
}

/// The rater with the most labels in the session.
fn rater_of(session: &Session) -> Rater {
    let mut counts: Vec<(usize, Rater)> = Vec::new();
    for (_, judged) in session.verdicts().filter(|(_, j)| !j.verdict.rater.is_import()) {
        match counts.iter_mut().find(|(_, r)| *r == judged.verdict.rater) {
            Some((n, _)) => *n += 1,
            None => counts.push((1, judged.verdict.rater.clone())),
        }
    }
    counts.into_iter().max_by_key(|(n, _)| *n).map_or_else(|| Rater::new("me"), |(_, r)| r)
}
