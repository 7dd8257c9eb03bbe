//! Background jobs of the workbench: planning and launching runs, answering questions about them, reading files.
//!
//! Owns the threads and their time limits. Each job works on a snapshot: the session's log up to the last record that
//! was on disk when the job started. Refuses to write to the log. Only the newest question is answered; it cancels an
//! older one.

mod context;
mod rounds;
mod score;
mod timeline;

pub use context::{ForLog, run_in_background};
pub use rounds::LoopJob;
pub use timeline::read_timeline;

use super::adapters;
use super::error::{Error, Result};
use super::estimate::estimate;
use super::eval_jobs::{EvalJobs, EvalQuestion, order};
use super::evaluation;
use super::intake;
pub use super::job_context::JobContext;
use super::pairing::{self, ChosenPairs};
use super::paths::home_path;
use super::plan::{self, SampleOrder, TrainOrder};
use super::reply::Replies;
use super::run_name::RunName;
use super::supervisor::{self, Deadline};
use super::{servers, tails};
use crate::app::{EvalRequest, Msg, PairRequest, SampleRequest, ScoreRequest, TrainRequest};
use crate::domain::{RunId, Session, agreement_report};
use crate::protocol::{RunCommand, RunSpec, SessionRecord};
use crate::storage::{DataFile, Home};
use context::{ToWriter, spawn};
use score::ScoringJob;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// The longest time for planning a run: it reads whole logs and looks for models.
const PLAN_TIME: Duration = Duration::from_mins(2);
/// The longest time for a worker to answer a question about a run.
const ASK_TIME: Duration = Duration::from_mins(5);

/// A background job for the open session.
#[derive(Debug)]
pub enum Job {
    /// Launch a training run.
    Train(TrainRequest),
    /// Launch a sampling run.
    Sample(SampleRequest),
    /// Count the pairs that a request chooses.
    Preview {
        /// Identifies the question in the answer.
        ticket: u64,
        /// The request.
        ask: PairRequest,
    },
    /// Choose pairs and add them to the log.
    Pair(PairRequest),
    /// Score answers or judge pairs.
    Score(ScoreRequest),
    /// Launch an evaluation.
    Evaluate(EvalRequest),
    /// A question about an evaluation.
    Evaluation(EvalQuestion),
    /// Plan, start, resume or stop a loop.
    Loop(LoopJob),
    /// Resume a run that has no worker.
    Resume(RunId),
    /// Send a command to a run's worker.
    Command(RunId, RunCommand),
    /// Estimate the memory, steps and disk space of a run.
    Estimate {
        /// Identifies the question in the answer.
        ticket: u64,
        /// The run.
        ask: TrainRequest,
    },
    /// Compute how far the raters agree.
    Agreement {
        /// Identifies the question in the answer.
        ticket: u64,
        /// The session as the screen has it: a long one is not read and held once more.
        session: Box<Session>,
    },
    /// Read the logs for a replay.
    Timeline {
        /// Identifies the question in the answer.
        ticket: u64,
        /// The runs whose logs belong to it.
        runs: Vec<RunId>,
        /// What the screen holds of the session.
        known: Box<Session>,
    },
    /// Render the first rows of a run with their masks.
    Masks {
        /// Identifies the question in the answer.
        ticket: u64,
        /// The run.
        ask: TrainRequest,
    },
    /// Read a file to import.
    Import(PathBuf),
}

impl Job {
    /// Whether it freezes rows of the log for a run.
    #[must_use]
    pub fn freezes(&self) -> bool {
        matches!(self, Self::Train(_) | Self::Sample(_) | Self::Evaluate(_))
    }

    /// Whether it leads to records in the log.
    #[must_use]
    pub fn writes(&self) -> bool {
        matches!(self, Self::Import(_) | Self::Pair(_) | Self::Score(_))
    }
}

/// A run to plan.
enum LaunchRequest {
    Train(TrainRequest),
    Sample(SampleRequest),
    Evaluate(EvalRequest),
}

/// The job threads.
pub struct Jobs {
    home: Home,
    replies: Replies,
    tails: Sender<tails::TailRequest>,
    to_writer: Arc<ToWriter>,
    scoring: ScoringJob,
    launches: Sender<(JobContext, LaunchRequest)>,
    commands: Sender<(JobContext, RunId, RunCommand)>,
    estimates: Questions<TrainRequest>,
    masks: Questions<TrainRequest>,
    previews: Questions<PairRequest>,
    evaluations: EvalJobs,
}

impl fmt::Debug for Jobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jobs").finish_non_exhaustive()
    }
}

impl Jobs {
    /// Starts the threads. `to_writer` receives what they have for the log.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(
        home: Home,
        replies: Replies,
        tails: Sender<tails::TailRequest>,
        to_writer: impl Fn(ForLog) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let kept = home.clone();
        let evaluations = EvalJobs::start(home.clone(), replies.clone())?;
        let (launches, requests) = channel();
        let (launcher, looker, root) = (replies.clone(), tails.clone(), home.clone());
        spawn("launches", move || launch_all(&requests, &root, &launcher, &looker))?;
        let (commands, inbox) = channel::<(JobContext, RunId, RunCommand)>();
        let answers = replies.clone();
        spawn("commands", move || {
            for (context, run, command) in inbox {
                if let Err(error) = context.dir.run(&run).and_then(|run| run.post(command)) {
                    answers.of(context.opening, Msg::Failed(error.to_string()));
                }
            }
        })?;
        let (root, answers) = (home.clone(), replies.clone());
        let estimates = Questions::start("estimates", move |context, ticket, ask, deadline| {
            let answer = planned(&root, context, question(ask))
                .and_then(|(spec, data)| estimate(&root, Some(deadline), &spec, &data));
            if !matches!(answer, Err(Error::Superseded)) {
                answers.of(context.opening, Msg::EstimateReady { ticket, answer: answer.map_err(|e| e.to_string()) });
            }
        })?;
        let answers = replies.clone();
        let masks = Questions::start("masks", move |context, ticket, ask, deadline| {
            let answer = planned(&home, context, question(ask))
                .and_then(|(spec, data)| supervisor::ask_about("masks", &home, Some(deadline), &spec, &data));
            if !matches!(answer, Err(Error::Superseded)) {
                answers.of(context.opening, Msg::MasksReady { ticket, answer: answer.map_err(|e| e.to_string()) });
            }
        })?;
        let answers = replies.clone();
        let previews = Questions::start("pairs", move |context, ticket, ask, deadline| {
            let answer = chosen(context, ask).map(|chosen| Box::new(chosen.preview));
            if !deadline.is_superseded() {
                answers.of(context.opening, Msg::PairsPreviewed { ticket, answer: answer.map_err(|e| e.to_string()) });
            }
        })?;
        Ok(Self {
            home: kept,
            replies,
            tails,
            to_writer: Arc::new(to_writer),
            scoring: ScoringJob::default(),
            launches,
            commands,
            estimates,
            masks,
            previews,
            evaluations,
        })
    }

    /// Starts a job. Never blocks.
    pub fn start_job(&self, context: JobContext, job: Job) {
        // The threads outlive this value, so that sending cannot fail.
        let _ = match job {
            Job::Train(ask) => self.launches.send((context, LaunchRequest::Train(ask))).map_err(drop),
            Job::Sample(ask) => self.launches.send((context, LaunchRequest::Sample(ask))).map_err(drop),
            Job::Evaluate(ask) => self.launches.send((context, LaunchRequest::Evaluate(ask))).map_err(drop),
            Job::Evaluation(question) => {
                self.evaluations.ask(context, question);
                Ok(())
            }
            Job::Loop(job) => {
                rounds::start(&self.home, context, job, &self.replies, &self.tails);
                Ok(())
            }
            Job::Command(run, command) => self.commands.send((context, run, command)).map_err(drop),
            Job::Estimate { ticket, ask } => self.estimates.ask(context, ticket, ask),
            Job::Masks { ticket, ask } => self.masks.ask(context, ticket, ask),
            Job::Preview { ticket, ask } => self.previews.ask(context, ticket, ask),
            Job::Pair(ask) => {
                self.pair(context, ask);
                Ok(())
            }
            Job::Score(ask) => {
                self.scoring.start(&self.home, context, ask, &self.replies, &self.to_writer);
                Ok(())
            }
            Job::Resume(run) => {
                self.resume(&context, run);
                Ok(())
            }
            Job::Agreement { ticket, session } => {
                self.agreement(context.opening, ticket, session);
                Ok(())
            }
            Job::Timeline { ticket, runs, known } => {
                self.timeline(context, ticket, runs, known);
                Ok(())
            }
            Job::Import(path) => {
                self.import(context.opening, path);
                Ok(())
            }
        };
    }

    /// Ends scoring, if it is under way.
    pub fn stop_scoring(&self) {
        self.scoring.stop();
    }

    fn pair(&self, context: JobContext, ask: PairRequest) {
        let (replies, to_writer) = (self.replies.clone(), Arc::clone(&self.to_writer));
        run_in_background(&self.replies, "pairs", move || {
            let (opening, strategy) = (context.opening, ask.strategy.clone());
            match chosen(&context, ask) {
                Ok(found) => {
                    let said = Msg::PairsAdded(Ok(found.text(&strategy)));
                    let records = found.pairs.into_iter().map(|pair| SessionRecord::Paired(pair.into())).collect();
                    to_writer(ForLog::Records(opening, records, Some(said)));
                }
                Err(error) => drop(replies.of(opening, Msg::PairsAdded(Err(error.to_string())))),
            }
        });
    }

    fn resume(&self, context: &JobContext, id: RunId) {
        let (replies, tails, dir, opening) =
            (self.replies.clone(), self.tails.clone(), context.dir.clone(), context.opening);
        let home = self.home.clone();
        run_in_background(&self.replies, "resume", move || {
            let resumed = dir.run(&id).map_err(Error::from).and_then(|run| {
                servers::check_keys(&home, &run)?;
                supervisor::resume(&run)
            });
            let _ = tails.send(tails::TailRequest::Poll);
            match resumed {
                Ok(()) => replies.of(opening, Msg::Note(format!("{id} resumed"))),
                Err(error) => replies.of(opening, Msg::Failed(error.to_string())),
            };
        });
    }

    fn agreement(&self, opening: u64, ticket: u64, session: Box<Session>) {
        let replies = self.replies.clone();
        run_in_background(&self.replies, "agreement", move || {
            let report = Box::new(agreement_report(&session));
            // The screen changes what nobody else holds without copying it.
            drop(session);
            replies.of(opening, Msg::AgreementReady { ticket, answer: Ok(report) });
        });
    }

    fn timeline(&self, context: JobContext, ticket: u64, runs: Vec<RunId>, known: Box<Session>) {
        let replies = self.replies.clone();
        run_in_background(&self.replies, "replay", move || {
            let answer = read_timeline(&context.dir, &runs, *known).map(Box::new).map_err(|e| e.to_string());
            replies.of(context.opening, Msg::TimelineRead { ticket, answer });
        });
    }

    fn import(&self, opening: u64, path: PathBuf) {
        let (replies, to_writer) = (self.replies.clone(), Arc::clone(&self.to_writer));
        run_in_background(&self.replies, "import", move || match intake::read(&path, None, None) {
            Ok(rows) => to_writer(ForLog::Imported(opening, Box::new(rows))),
            Err(error) => drop(replies.of(opening, Msg::Failed(error.to_string()))),
        });
    }
}

/// Questions of one kind: the newest is answered, older ones are cancelled.
struct Questions<T> {
    newest: Arc<AtomicU64>,
    inbox: Sender<(JobContext, u64, T)>,
}

impl<T: Send + 'static> Questions<T> {
    fn start(name: &str, answer: impl Fn(&JobContext, u64, T, &Deadline) + Send + 'static) -> io::Result<Self> {
        let newest = Arc::new(AtomicU64::new(0));
        let (questions, inbox) = channel::<(JobContext, u64, T)>();
        let latest = Arc::clone(&newest);
        spawn(name, move || {
            for (context, ticket, ask) in inbox {
                let latest = Arc::clone(&latest);
                let deadline = Deadline::new(ASK_TIME, move || latest.load(Ordering::Relaxed) != ticket);
                if !deadline.is_superseded() {
                    answer(&context, ticket, ask, &deadline);
                }
            }
        })?;
        Ok(Self { newest, inbox: questions })
    }

    fn ask(&self, context: JobContext, ticket: u64, ask: T) -> Result<(), ()> {
        self.newest.store(ticket, Ordering::Relaxed);
        self.inbox.send((context, ticket, ask)).map_err(drop)
    }
}

/// Launches runs one by one: each takes the next free name.
fn launch_all(
    requests: &Receiver<(JobContext, LaunchRequest)>,
    home: &Home,
    replies: &Replies,
    tails: &Sender<tails::TailRequest>,
) {
    for (context, request) in requests {
        let name = match &request {
            LaunchRequest::Sample(ask) => RunName::of_sampling(ask.count_seed),
            LaunchRequest::Train(_) | LaunchRequest::Evaluate(_) => RunName::Next,
        };
        let launched = planned(home, &context, request)
            .and_then(|(spec, data)| supervisor::launch(&context.dir, None, &spec, &data, name));
        let _ = tails.send(tails::TailRequest::Poll);
        match launched {
            Ok(run) => replies.of(context.opening, Msg::Launched { run: run.id() }),
            Err(error) => replies.of(context.opening, Msg::Failed(error.to_string())),
        };
    }
}

/// The pairs of a request, chosen on the snapshot.
fn chosen(context: &JobContext, ask: PairRequest) -> Result<ChosenPairs> {
    let JobContext { dir, upto, .. } = context.clone();
    within(PLAN_TIME, "choosing pairs", move || {
        pairing::read(&dir.name(), &ask)?;
        let (session, ..) = dir.snapshot(upto)?;
        pairing::choose(&session, &dir.name(), &ask)
    })
}

/// A run that is only asked about: the header reports damage, and the launch asks whether to accept it.
fn question(ask: TrainRequest) -> LaunchRequest {
    LaunchRequest::Train(TrainRequest { allow_damaged: true, ..ask })
}

/// A name or a path that was typed on a screen, where no shell expands `~`.
fn typed_path(text: String) -> String {
    match text.strip_prefix("~/") {
        Some(_) => home_path(&text).to_string_lossy().into_owned(),
        None => text,
    }
}

/// Plans a run on the snapshot within the time limit.
fn planned(home: &Home, context: &JobContext, request: LaunchRequest) -> Result<(RunSpec, Vec<DataFile>)> {
    let (home, JobContext { dir, upto, .. }) = (home.clone(), context.clone());
    within(PLAN_TIME, "planning the run", move || match request {
        LaunchRequest::Train(TrainRequest { method, params, choice, init, allow_damaged }) => {
            let (init, adapter) = match init {
                Some(text) => adapters::start(&dir, &typed_path(text))?,
                None => (None, None),
            };
            let order = TrainOrder {
                method,
                params,
                choice,
                name: None,
                init,
                adapter,
                device: "auto".into(),
                allow_damaged,
                suites: None,
                upto,
            };
            plan::train(&home, &dir, order)
        }
        LaunchRequest::Sample(ask) => {
            let order = SampleOrder {
                models: ask.models.into_iter().map(typed_path).collect(),
                servers: ask.servers,
                adapters: ask.adapters,
                per_prompt: ask.per_prompt,
                count_seed: ask.count_seed,
                sampler: ask.sampler,
                device: "auto".into(),
                upto,
            };
            plan::sample(&home, &dir, order).map(|(mut spec, files)| {
                spec.inputs.chat_template_kwargs = ask.variables;
                (spec, files)
            })
        }
        // The form showed what is left out before the start.
        LaunchRequest::Evaluate(ask) => {
            evaluation::plan(&home, &dir, order(&home, ask, upto)).map(|(spec, files, _)| (spec, files))
        }
    })
}

/// Runs work that may never return, such as a read from a dead network disk. Its thread is abandoned after the time
/// limit.
fn within<T: Send + 'static>(
    limit: Duration,
    what: &str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (done, result) = channel();
    spawn(what, move || drop(done.send(work())))
        .map_err(|source| Error::Io { doing: format!("start a thread for {what}"), source })?;
    match result.recv_timeout(limit) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout) => Err(Error::failed(format!(
            "{what} took longer than {} s and was cancelled: check the disks of the session and its models, then try again",
            limit.as_secs_f64()
        ))),
        Err(RecvTimeoutError::Disconnected) => Err(Error::failed(format!("{what} failed unexpectedly: try again"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Params, method};
    use std::time::Instant;

    #[test]
    fn what_never_comes_back_is_given_up_in_time() {
        let start = Instant::now();
        let given_up = within(Duration::from_millis(50), "planning the run", || {
            std::thread::sleep(Duration::from_secs(5));
            Ok(1)
        });
        assert!(start.elapsed() < Duration::from_secs(4));
        let said = given_up.unwrap_err().to_string();
        assert!(said.starts_with("planning the run took longer than 0.05 s"), "{said}");
        assert_eq!(within(Duration::from_secs(9), "counting", || Ok(2)).unwrap(), 2);
    }

    #[test]
    fn of_waiting_questions_only_the_newest_is_answered_and_the_one_under_way_is_broken_off() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("session.json"), "{}").unwrap();
        let context =
            JobContext { opening: 1, dir: crate::storage::SessionDir::open(home.path()).unwrap(), upto: None };
        let ask = TrainRequest {
            choice: crate::domain::RowChoice::default(),
            method: "dpo".into(),
            params: Params::defaults(&method("dpo").unwrap().rows()),
            init: None,
            allow_damaged: false,
        };
        let (said, heard) = channel();
        let questions = Questions::start("estimates", move |_, ticket, _, deadline| {
            said.send((ticket, "begun")).unwrap();
            let until = Instant::now() + Duration::from_secs(20);
            while ticket == 1 && !deadline.is_superseded() {
                assert!(Instant::now() < until, "nobody broke the question off");
                std::thread::sleep(Duration::from_millis(2));
            }
            said.send((ticket, "ended")).unwrap();
        })
        .unwrap();
        questions.ask(context.clone(), 1, ask.clone()).unwrap();
        assert_eq!(heard.recv().unwrap(), (1, "begun"));
        for ticket in 2..=5 {
            questions.ask(context.clone(), ticket, ask.clone()).unwrap();
        }
        let rest: Vec<_> = heard.iter().take(3).collect();
        assert_eq!(rest, [(1, "ended"), (5, "begun"), (5, "ended")]);
    }
}
