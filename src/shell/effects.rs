//! Runs the effects of the state machine. Nothing here blocks: slow work runs in threads, and answers come back as
//! messages.

use super::error::{Error, Result};
use super::eval_jobs::EvalQuestion;
use super::intake;
use super::jobs::{Job, LoopJob, run_in_background};
use super::journal::Journal;
use super::paths::{complete_model, home_path};
use super::reply::{Replies, Reply};
use super::writer::{WriterEnd, WriterHandle, WriterRequest};
use super::{models, plan, servers, system, tails};
use crate::app::{Effect, Msg, SessionCard, Unmade};
use crate::domain::{Rater, counted};
use crate::protocol::{SCHEMA_VERSION, SessionMeta};
use crate::storage::{Home, SessionDir, formats, list_sessions};
use std::path::Path;
use std::sync::mpsc::Sender;
use std::sync::{Arc, OnceLock};
use tokio::sync::mpsc;

/// Capacity of the channel to the screen.
const REPLIES: usize = 256;

/// What the event loop does for an effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoopAction {
    /// Continue.
    Nothing,
    /// Copy this text, named in the answer, through the terminal.
    Copy {
        /// What it is.
        what: String,
        /// The text.
        text: String,
    },
    /// Send [`Msg::Continue`] once no input waits.
    Continue,
    /// Redraw.
    Redraw,
    /// Suspend the process, as ctrl-z does.
    Suspend,
    /// Quit.
    Quit,
}

/// The threads behind the screen.
#[derive(Debug)]
pub struct Effects {
    home: Home,
    replies: Replies,
    writer: WriterHandle,
    tails: Sender<tails::TailRequest>,
    opening: u64,
}

impl Effects {
    /// Starts the threads. The receiver yields their answers.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(home: Home, rater: Rater) -> Result<(Self, mpsc::Receiver<Reply>)> {
        let (sender, receiver) = mpsc::channel(REPLIES);
        let replies = Replies::new(sender);
        let io = |source| Error::Io { doing: "start the workbench's threads".into(), source };
        let started = Arc::new(OnceLock::<WriterHandle>::new());
        let later_writer = Arc::clone(&started);
        let tails = tails::spawn(replies.clone(), move |opening, found| {
            if let Some(writer) = later_writer.get() {
                writer.send(match found {
                    tails::ForWriter::Log(read) => WriterRequest::TakeFold { opening, read },
                    tails::ForWriter::Runs(specs) => WriterRequest::RecordLaunches { opening, specs },
                });
            }
        })
        .map_err(io)?;
        let writer = WriterHandle::spawn(home.clone(), rater, replies.clone(), tails.clone()).map_err(io)?;
        // No session is followed before the writer has opened one.
        let _ = started.set(writer.clone());
        Ok((Self { home, replies, writer, tails, opening: 0 }, receiver))
    }

    /// A handle to the writer.
    #[must_use]
    pub fn writer(&self) -> WriterHandle {
        self.writer.clone()
    }

    /// Whether an answer belongs to an earlier session and must be dropped.
    #[must_use]
    pub fn is_stale(&self, reply: &Reply) -> bool {
        reply.opening.is_some_and(|opening| opening != self.opening)
    }

    /// Runs an effect.
    pub fn run(&mut self, effect: Effect) -> LoopAction {
        let request = match effect {
            Effect::Copy { what, text } => return LoopAction::Copy { what, text },
            Effect::Continue => return LoopAction::Continue,
            Effect::Redraw => return LoopAction::Redraw,
            Effect::Suspend => return LoopAction::Suspend,
            Effect::Quit => return LoopAction::Quit,
            Effect::ListSessions => return self.run_with_home("sessions", sessions),
            Effect::ListModels => return self.list_models(),
            Effect::QueryDevice => return self.run_with_home("device", |_| Ok(Msg::DeviceKnown(device()))),
            Effect::CreateSession { name, model, prompts } => {
                return self.run_with_home("create", move |home| create(home, &name, &model, prompts.as_deref()));
            }
            Effect::ReadWorkerLog { run } => {
                let _ = self.tails.send(tails::TailRequest::WorkerLog(run));
                return LoopAction::Nothing;
            }
            Effect::OpenSession { name } => {
                self.opening += 1;
                WriterRequest::Open { opening: self.opening, name }
            }
            Effect::CloseSession => {
                self.opening += 1;
                WriterRequest::Close
            }
            Effect::Append { ticket, record } => WriterRequest::Append { ticket, record: Box::new(record) },
            Effect::SaveNow => WriterRequest::SaveNow,
            Effect::Import { path } => WriterRequest::Start(Job::Import(home_path(&path))),
            Effect::Sample(request) => WriterRequest::Start(Job::Sample(request)),
            Effect::PreviewPairs { ticket, request } => WriterRequest::Start(Job::Preview { ticket, ask: request }),
            Effect::Pair(request) => WriterRequest::Start(Job::Pair(request)),
            Effect::Score(request) => WriterRequest::Start(Job::Score(request)),
            Effect::StopScoring => WriterRequest::StopScoring,
            Effect::CompletePath { ticket, text } => {
                return self.run_with_home("completion", move |_| {
                    Ok(Msg::PathCompleted { ticket, options: complete_model(&text) })
                });
            }
            Effect::ListServer { ticket, url, servers } => {
                return self.run_with_home("server", move |_| {
                    let answer = servers::models(&url, &servers).map_err(|error| error.to_string());
                    Ok(Msg::ServerListed { ticket, answer })
                });
            }
            Effect::Launch(request) => WriterRequest::Start(Job::Train(request)),
            Effect::ResumeRun { run } => WriterRequest::Start(Job::Resume(run)),
            Effect::Command { run, command } => WriterRequest::Start(Job::Command(run, command)),
            Effect::Estimate { ticket, request } => WriterRequest::Start(Job::Estimate { ticket, ask: request }),
            Effect::Agreement { ticket, session } => WriterRequest::Start(Job::Agreement { ticket, session }),
            Effect::ReadTimeline { ticket, runs, known } => WriterRequest::Start(Job::Timeline { ticket, runs, known }),
            Effect::EvalReport { ticket, run, upto } => {
                WriterRequest::Start(Job::Evaluation(EvalQuestion::Report { ticket, run, upto }))
            }
            Effect::FindSuites { ticket, folder } => {
                let folder = folder.map(|text| home_path(&text));
                WriterRequest::Start(Job::Evaluation(EvalQuestion::Suites { ticket, folder }))
            }
            Effect::PlanEvaluation { ticket, request } => {
                WriterRequest::Start(Job::Evaluation(EvalQuestion::Plan { ticket, request: Box::new(request) }))
            }
            Effect::Evaluate(request) => WriterRequest::Start(Job::Evaluate(request)),
            Effect::PlanLoop { ticket, request } => WriterRequest::Start(Job::Loop(LoopJob::Plan { ticket, request })),
            Effect::StartLoop(request) => WriterRequest::Start(Job::Loop(LoopJob::Start(request))),
            Effect::ResumeLoop { name } => WriterRequest::Start(Job::Loop(LoopJob::Resume(name))),
            Effect::StopLoop { name } => WriterRequest::Start(Job::Loop(LoopJob::Stop(name))),
            Effect::Masks { ticket, request } => WriterRequest::Start(Job::Masks { ticket, ask: request }),
        };
        self.writer.send(request);
        LoopAction::Nothing
    }

    /// Waits until the session is saved and closed. Returns a sentence about unsaved records.
    #[must_use]
    pub fn end(self) -> Option<String> {
        match self.writer.end() {
            Some(WriterEnd { unsaved: 0, unclosed }) => {
                unclosed.map(|why| format!("every record is saved, but not the hash of the session's state: {why}"))
            }
            Some(WriterEnd { unsaved, .. }) => {
                Some(format!("{} could not be saved and are lost: the disk refused them", counted(unsaved, "record")))
            }
            None => Some("the disk did not answer in time: the last records may not be saved".into()),
        }
    }

    /// Lists models. A failure is only a note, since no screen waits for the list.
    fn list_models(&self) -> LoopAction {
        let (home, replies) = (self.home.clone(), self.replies.clone());
        run_in_background(&self.replies, "models", move || {
            let cards = models::list(&home).unwrap_or_else(|error| {
                replies.send(Msg::Note(format!("the models on this machine cannot be listed: {error}")));
                Vec::new()
            });
            replies.send(Msg::ModelsListed(cards));
        });
        LoopAction::Nothing
    }

    fn run_with_home(&self, name: &str, work: impl FnOnce(&Home) -> Result<Msg> + Send + 'static) -> LoopAction {
        let (home, replies) = (self.home.clone(), self.replies.clone());
        run_in_background(&self.replies, name, move || {
            let msg = work(&home).unwrap_or_else(|error| Msg::Failed(error.to_string()));
            replies.send(msg);
        });
        LoopAction::Nothing
    }
}

/// The list of sessions.
///
/// # Errors
/// When their folder cannot be read.
pub fn sessions(home: &Home) -> Result<Msg> {
    let cards = list_sessions(home)?.into_iter().map(|summary| SessionCard {
        running: match SessionDir::open(&summary.path) {
            Ok(dir) => summary.running.iter().map(|run| tails::running(&dir, run)).collect(),
            Err(_) => Vec::new(),
        },
        name: summary.name,
        model: summary.model,
        labels: summary.labels,
        integrity: summary.integrity,
        runs: summary.runs,
        changed_ms: summary.changed_ms,
        losses: summary.losses,
    });
    Ok(Msg::SessionsListed(cards.collect()))
}

/// Creates a session. A file of prompts without a usable row leaves no half-made session.
fn create(home: &Home, name: &str, model: &str, prompts: Option<&str>) -> Result<Msg> {
    let unmade = |error: Error, at_prompts| {
        let (name, model, prompts) = (name.to_owned(), model.to_owned(), prompts.map(str::to_owned));
        Msg::NotCreated(Unmade { name, model, prompts, error: error.to_string(), at_prompts })
    };
    let format = formats::import_named("prompts")?;
    let path = prompts.filter(|path| !path.trim().is_empty()).map(home_path);
    let rows = path.as_deref().map(|path| check_prompts(path).and_then(|()| intake::read(path, Some(format), None)));
    let rows = match rows.transpose() {
        Ok(rows) => rows,
        Err(error) => return Ok(unmade(error, true)),
    };
    let dir = match make_session(home, name, model) {
        Ok(dir) => dir,
        Err(error) => return Ok(unmade(error, false)),
    };
    if let Some(rows) = rows {
        let mut journal = Journal::require(&dir)?;
        let intake = intake::add(&rows, &mut journal);
        journal.close()?;
        intake?;
    }
    Ok(Msg::Created { name: dir.name() })
}

/// Checks for the file of prompts first, so that a mistyped name leaves no half-made session.
///
/// # Errors
/// When there is no such file.
pub fn check_prompts(path: &Path) -> Result<()> {
    if path.is_file() {
        return Ok(());
    }
    Err(Error::failed(format!("{} is not a file: name a file of prompts, one a line or JSONL", path.display())))
}

/// Creates a session on a local model. A model given as a path is stored as an absolute path.
///
/// # Errors
/// When the model cannot be found or loaded, or the name is taken or invalid.
pub fn make_session(home: &Home, name: &str, model: &str) -> Result<SessionDir> {
    let path = home_path(model);
    let found = models::find(home, &path.to_string_lossy())?;
    models::check(&found)?;
    let meta = SessionMeta {
        format: SCHEMA_VERSION,
        name: name.into(),
        model: if path.exists() { found.path } else { found.name },
        created_ms: plan::wall_ms(),
        app: env!("CARGO_PKG_VERSION").into(),
    };
    home.create()?;
    Ok(SessionDir::create(home, name, &meta)?)
}

/// The devices of this machine, in a few words.
#[must_use]
pub fn device() -> String {
    let cores = system::threads();
    let mut text = format!("CPU {cores} core{}", if cores == 1 { "" } else { "s" });
    let (_, available) = system::memory();
    if available > 0 {
        text.push_str(&format!(" · {:.0} GB free", available as f64 / 1e9));
    }
    if cfg!(feature = "cuda") && Path::new("/dev/nvidia0").exists() {
        text.insert_str(0, "CUDA · ");
    }
    if cfg!(feature = "metal") {
        text.insert_str(0, "Metal · ");
    }
    text
}
