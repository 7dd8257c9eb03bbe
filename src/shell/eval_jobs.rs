//! Questions of the evaluate screen: what an evaluation found, where the suites' files are, what an evaluation would take.
//!
//! Owns two threads and the folded logs of the open session's evaluations, so that a report costs only what is new. Only the
//! newest question of a kind is answered.

use super::error::{Error, Result};
use super::evaluation::{self, CONTEST, EvalOrder};
use super::job_context::JobContext;
use super::paths::home_path;
use super::reply::Replies;
use super::suite_folder::{suite_files, suite_folder};
use crate::app::{EvalEstimate, EvalRequest, Msg};
use crate::domain::{
    Contestant, EvalReport, EvalState, RatedEvaluation, RunId, RunState, Sampler, Session, Standings, eval_report,
    standings, suite, with_people,
};
use crate::protocol::{EvalSpec, RunEvent, ServerOptions, Task, apply_run};
use crate::storage::{Home, LogTail, RunDir, SessionDir};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};

/// A question.
#[derive(Debug)]
pub enum EvalQuestion {
    /// What an evaluation found, on its log up to a record.
    Report {
        /// Identifies the question in the answer.
        ticket: u64,
        /// The evaluation.
        run: RunId,
        /// The last record that counts; none takes all.
        upto: Option<u64>,
    },
    /// Where the suites' files are.
    Suites {
        /// Identifies the question in the answer.
        ticket: u64,
        /// The folder as typed.
        folder: Option<PathBuf>,
    },
    /// What an evaluation would take.
    Plan {
        /// Identifies the question in the answer.
        ticket: u64,
        /// The evaluation.
        request: Box<EvalRequest>,
    },
}

/// The threads.
#[derive(Debug)]
pub struct EvalJobs {
    reports: Sender<(JobContext, u64, RunId, Option<u64>)>,
    plans: Sender<(JobContext, EvalQuestion)>,
}

impl EvalJobs {
    /// Starts them.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(home: Home, replies: Replies) -> io::Result<Self> {
        let (reports, asked) = channel();
        let answers = replies.clone();
        std::thread::Builder::new().name("evaluations".into()).spawn(move || report_all(&asked, &answers))?;
        let (plans, questions) = channel();
        std::thread::Builder::new().name("plans".into()).spawn(move || plan_all(&questions, &home, &replies))?;
        Ok(Self { reports, plans })
    }

    /// Asks a question. Never blocks.
    pub fn ask(&self, context: JobContext, question: EvalQuestion) {
        // The threads outlive this value, so that sending cannot fail.
        let _ = match question {
            EvalQuestion::Report { ticket, run, upto } => self.reports.send((context, ticket, run, upto)).map_err(drop),
            other => self.plans.send((context, other)).map_err(drop),
        };
    }
}

/// The folded log of an evaluation.
struct Followed {
    tail: LogTail<RunEvent>,
    state: RunState,
    /// What it compares.
    names: [String; 2],
    /// What it found, and how many records that is of.
    report: Option<(usize, EvalReport)>,
    records: usize,
}

impl Followed {
    fn poll(&mut self) -> Result<()> {
        for envelope in self.tail.poll()? {
            self.records += 1;
            apply_run(&mut self.state, &envelope);
        }
        Ok(())
    }
}

/// The evaluations of a session.
#[derive(Default)]
struct FollowedRuns {
    session: Option<PathBuf>,
    runs: BTreeMap<RunId, Followed>,
    /// The ratings, and how many records of all evaluations they are of.
    standings: Option<(usize, Vec<Standings>)>,
}

impl FollowedRuns {
    /// What an evaluation found, corrected for what the session's others found so far.
    fn report(&mut self, context: &JobContext, id: &RunId, upto: Option<u64>) -> Result<EvalReport> {
        let dir = &context.dir;
        let mut people = People { context, session: None };
        if self.session.as_deref() != Some(dir.path()) {
            *self = Self { session: Some(dir.path().to_owned()), ..Self::default() };
        }
        let mut others = Vec::new();
        for run in dir.runs()? {
            let other = run.id();
            if !self.runs.contains_key(&other) {
                let Ok(Task::Eval(spec)) = run.spec().map(|spec| spec.task) else { continue };
                let names = [spec.a.name, spec.b.name];
                let (tail, state) = (run.tail(), RunState::default());
                let followed = Followed { tail, state, names, report: None, records: 0 };
                self.runs.insert(other.clone(), followed);
            }
            let Some(followed) = self.runs.get_mut(&other) else { continue };
            followed.poll()?;
            let records = followed.records;
            // People go on judging after the run's last record.
            let judged = followed.state.eval.posed().next().is_some();
            if judged || followed.report.as_ref().is_none_or(|(of, _)| *of != records) {
                followed.report = Some((records, people.report(&followed.state.eval, &[])?));
            }
            if other != *id {
                others.extend(followed.report.iter().flat_map(|(_, report)| report.p_values()));
            }
        }
        match upto {
            None => {
                let followed = self.runs.get(id);
                let none = EvalState::default();
                let mut report = people.report(followed.map_or(&none, |followed| &followed.state.eval), &others)?;
                report.standings = self.standings(context, &mut people)?;
                report.standings.retain(|table| table.counts(id.as_str()));
                Ok(report)
            }
            Some(last) => {
                let mut state = RunState::default();
                for envelope in dir.run(id)?.tail().poll()?.iter().filter(|envelope| envelope.n <= last) {
                    apply_run(&mut state, envelope);
                }
                people.report(&state.eval, &others)
            }
        }
    }
}

impl FollowedRuns {
    /// The ratings where a judge compared three models or more.
    fn standings(&mut self, context: &JobContext, people: &mut People) -> Result<Vec<Standings>> {
        let records = self.runs.values().map(|followed| followed.records).sum();
        let asks = self.runs.values().any(|followed| followed.state.eval.posed().next().is_some());
        if let Some((of, known)) = &self.standings
            && *of == records
            && !asks
        {
            return Ok(known.clone());
        }
        let mut judged = BTreeMap::new();
        for (id, followed) in &self.runs {
            if followed.state.eval.posed().next().is_some() {
                judged.insert(id, people.judged(&followed.state.eval)?);
            }
        }
        // In order of launch.
        let ids: Vec<RunId> = context.dir.runs()?.iter().map(RunDir::id).collect();
        let rated: Vec<RatedEvaluation> = ids
            .iter()
            .filter_map(|id| {
                let followed = self.runs.get(id)?;
                let (_, report) = followed.report.as_ref()?;
                let eval = judged.get(id).unwrap_or(&followed.state.eval);
                let [a, b] = &followed.names;
                Some(RatedEvaluation { run: id.as_str(), names: [a, b], eval, judges: report.headlines() })
            })
            .collect();
        let anchor = context.dir.meta().ok().map(|meta| meta.model);
        let found = standings(&rated, anchor.as_deref(), CONTEST);
        self.standings = Some((records, found.clone()));
        Ok(found)
    }
}

/// The verdicts of people, read where an evaluation asked for them.
struct People<'a> {
    context: &'a JobContext,
    session: Option<Session>,
}

impl People<'_> {
    fn report(&mut self, eval: &EvalState, others: &[f64]) -> Result<EvalReport> {
        if eval.posed().next().is_none() {
            return Ok(eval_report(eval, others));
        }
        Ok(eval_report(&self.judged(eval)?, others))
    }

    /// What was logged, with what people said.
    fn judged(&mut self, eval: &EvalState) -> Result<EvalState> {
        let session = match self.session.take() {
            Some(session) => session,
            None => self.context.dir.snapshot(self.context.upto)?.0,
        };
        let judged = with_people(eval, &session);
        self.session = Some(session);
        Ok(judged)
    }
}

fn report_all(asked: &Receiver<(JobContext, u64, RunId, Option<u64>)>, replies: &Replies) {
    let mut runs = FollowedRuns::default();
    while let Ok(first) = asked.recv() {
        let (context, ticket, run, upto) = asked.try_iter().last().unwrap_or(first);
        let answer = runs.report(&context, &run, upto).map(Box::new).map_err(|e| e.to_string());
        replies.of(context.opening, Msg::EvalReportReady { ticket, answer });
    }
}

fn plan_all(asked: &Receiver<(JobContext, EvalQuestion)>, home: &Home, replies: &Replies) {
    while let Ok(first) = asked.recv() {
        let (mut plan, mut suites) = (None, None);
        for (context, question) in std::iter::once(first).chain(asked.try_iter()) {
            match question {
                EvalQuestion::Plan { ticket, request } => plan = Some((context, ticket, *request)),
                EvalQuestion::Suites { ticket, folder } => suites = Some((context, ticket, folder)),
                EvalQuestion::Report { .. } => {}
            }
        }
        if let Some((context, ticket, folder)) = suites {
            let files = suite_files(&suite_folder(home, folder));
            replies.of(context.opening, Msg::SuitesFound { ticket, files });
        }
        if let Some((context, ticket, request)) = plan {
            let answer = plan_estimate(home, &context, request).map_err(|e| e.to_string());
            replies.of(context.opening, Msg::EvaluationPlanned { ticket, answer });
        }
    }
}

/// The order of a request, with the defaults of the command.
pub fn order(home: &Home, request: EvalRequest, upto: Option<u64>) -> EvalOrder {
    let EvalRequest { a, b, suites, judges, prompts, folder, limit, seeds, temperature, max_new_tokens, variables } =
        request;
    let path = |text: String| home_path(&text);
    // Without a folder the plan says where the files belong.
    let named = folder.is_some();
    let data = Some(suite_folder(home, folder.map(path))).filter(|folder| named || folder.is_dir());
    EvalOrder {
        a,
        b,
        suites: suites.into_iter().map(|name| if suite(&name).is_some() { name } else { typed_file(&name) }).collect(),
        judges,
        prompts: prompts.map(path),
        data,
        limit,
        seeds,
        sampler: Sampler { temperature, top_p: 1.0, max_new_tokens: max_new_tokens.unwrap_or(0), ..Sampler::default() },
        servers: ServerOptions::default(),
        variables,
        device: "auto".into(),
        upto,
    }
}

/// A file typed on a screen, where no shell expands `~`.
fn typed_file(name: &str) -> String {
    home_path(name).display().to_string()
}

/// What an evaluation would take: the plan that a launch makes, without the launch.
///
/// # Errors
/// When it cannot start: one sentence.
pub fn plan_estimate(home: &Home, context: &JobContext, request: EvalRequest) -> Result<EvalEstimate> {
    let (spec, _, notes) = evaluation::plan(home, &context.dir, order(home, request, context.upto))?;
    let Task::Eval(eval) = spec.task else {
        return Err(Error::failed("the plan is not an evaluation"));
    };
    let seeds = eval.seeds.max(1) as usize;
    let suites: Vec<(String, usize)> = eval
        .suites
        .iter()
        .map(|suite| (suite.name.clone(), suite.limit.map_or(suite.data.rows, |n| n.min(suite.data.rows))))
        .collect();
    let answered = |name: &str| suite(name).is_some_and(|row| row.max_new_tokens > 0);
    let items: usize = suites.iter().filter(|(name, _)| answered(name)).map(|(_, rows)| rows).sum();
    let answers = 2 * seeds * items;
    let known = known(&context.dir, &eval)?.min(answers);
    Ok(EvalEstimate { names: [eval.a.name, eval.b.name], suites, answers, known, notes: notes.0 })
}

/// The answers of earlier evaluations to the same suites, by the same contestants, drawn the same way. The worker compares
/// weights as well, so that these are the most that it takes over.
fn known(dir: &SessionDir, eval: &EvalSpec) -> Result<usize> {
    let mut found = BTreeSet::new();
    for run in dir.runs()? {
        let Ok(Task::Eval(earlier)) = run.spec().map(|spec| spec.task) else { continue };
        let same = |side: Contestant, of: Contestant| {
            let (new, old) = (eval.side(side), earlier.side(of));
            (&new.model, &new.adapter, &new.server) == (&old.model, &old.adapter, &old.server)
        };
        // Which contestant of the new one an earlier one's answers are of.
        let sides: Vec<(Contestant, Contestant)> = Contestant::BOTH
            .into_iter()
            .flat_map(|side| Contestant::BOTH.map(|of| (side, of)))
            .filter(|(side, of)| same(*side, *of))
            .collect();
        let suites: Vec<&str> = eval
            .suites
            .iter()
            .filter(|new| earlier.suites.iter().any(|old| (&old.name, old.sampler) == (&new.name, new.sampler)))
            .map(|new| new.name.as_str())
            .collect();
        if sides.is_empty() || suites.is_empty() {
            continue;
        }
        let Ok(records) = run.tail().poll() else { continue };
        for envelope in records {
            let Some(RunEvent::EvalAnswered(answer)) = envelope.known() else { continue };
            if !suites.contains(&answer.key.suite.as_str()) || answer.key.seed >= eval.seeds.max(1) {
                continue;
            }
            let to = sides.iter().filter(|(_, of)| *of == answer.side).map(|(side, _)| *side);
            found.extend(to.map(|side| (answer.key.clone(), side)));
        }
    }
    Ok(found.len())
}
