//! Carrying out what the state machine asks for. Nothing here waits: what takes time goes to a thread, and answers come
//! back as messages.

use super::desk::{Desk, Order};
use super::errands::{Errand, aside};
use super::error::{Error, Result};
use super::intake;
use super::journal::Journal;
use super::reply::{Replies, Reply};
use super::{models, plan, system, tails};
use crate::app::{Effect, Msg, SessionCard};
use crate::domain::{Rater, counted};
use crate::protocol::{SCHEMA_VERSION, SessionMeta};
use crate::storage::{Home, SessionDir, formats, list_sessions};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::sync::{Arc, OnceLock};
use tokio::sync::mpsc;

/// Answers that may wait for the screen.
const WAITING: usize = 256;

/// What an effect asks of the loop itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoopAction {
    /// Nothing.
    Nothing,
    /// Redraw.
    Redraw,
    /// Stop as ctrl-z does.
    Suspend,
    /// Leave.
    Quit,
}

/// The threads behind the screen.
#[derive(Debug)]
pub struct Effects {
    home: Home,
    replies: Replies,
    desk: Desk,
    tails: Sender<tails::Order>,
    opening: u64,
}

impl Effects {
    /// Starts the threads; their answers come out of the receiver.
    ///
    /// # Errors
    /// When a thread cannot be made.
    pub fn start(home: Home, rater: Rater) -> Result<(Self, mpsc::Receiver<Reply>)> {
        let (sender, receiver) = mpsc::channel(WAITING);
        let replies = Replies::new(sender);
        let io = |source| Error::Io { doing: "start the workbench's threads".into(), source };
        let found = Arc::new(OnceLock::<Desk>::new());
        let adopt = Arc::clone(&found);
        let tails = tails::spawn(replies.clone(), move |opening, specs| {
            if let Some(desk) = adopt.get() {
                desk.order(Order::Adopt { opening, specs });
            }
        })
        .map_err(io)?;
        let desk = Desk::spawn(home.clone(), rater, replies.clone(), tails.clone()).map_err(io)?;
        // Nothing is followed before the desk has opened a session.
        let _ = found.set(desk.clone());
        Ok((Self { home, replies, desk, tails, opening: 0 }, receiver))
    }

    /// The writer, for whoever must wait for it.
    #[must_use]
    pub fn desk(&self) -> Desk {
        self.desk.clone()
    }

    /// Whether an answer is to be dropped, since another session was opened after it was under way.
    #[must_use]
    pub fn is_stale(&self, reply: &Reply) -> bool {
        reply.opening.is_some_and(|opening| opening != self.opening)
    }

    /// Carries an effect out.
    pub fn run(&mut self, effect: Effect) -> LoopAction {
        let order = match effect {
            Effect::Redraw => return LoopAction::Redraw,
            Effect::Suspend => return LoopAction::Suspend,
            Effect::Quit => return LoopAction::Quit,
            Effect::ListSessions => return self.aside("sessions", sessions),
            Effect::ListModels => return self.list_models(),
            Effect::QueryDevice => return self.aside("device", |_| Ok(Msg::DeviceKnown(device()))),
            Effect::CreateSession { name, model, prompts } => {
                return self.aside("create", move |home| create(home, &name, &model, prompts.as_deref()));
            }
            Effect::ReadWorkerLog { run } => {
                let _ = self.tails.send(tails::Order::WorkerLog(run));
                return LoopAction::Nothing;
            }
            Effect::OpenSession { name } => {
                self.opening += 1;
                Order::Open { opening: self.opening, name }
            }
            Effect::CloseSession => {
                self.opening += 1;
                Order::Close
            }
            Effect::Append { ticket, record } => Order::Append { ticket, record: Box::new(record) },
            Effect::SaveNow => Order::SaveNow,
            Effect::Import { path } => Order::Send(Errand::Import(home_path(&path))),
            Effect::Sample(request) => Order::Send(Errand::Sample(request)),
            Effect::Launch(request) => Order::Send(Errand::Train(request)),
            Effect::ResumeRun { run } => Order::Send(Errand::Resume(run)),
            Effect::Command { run, command } => Order::Send(Errand::Command(run, command)),
            Effect::Estimate { ticket, request } => Order::Send(Errand::Estimate { ticket, ask: request }),
            Effect::Masks { ticket, request } => Order::Send(Errand::Masks { ticket, ask: request }),
        };
        self.desk.order(order);
        LoopAction::Nothing
    }

    /// Waits until everything is on disk and the session is closed. Gives back what is not saved, as one sentence.
    #[must_use]
    pub fn end(self) -> Option<String> {
        match self.desk.end() {
            Some(0) => None,
            Some(n) => Some(format!("{} could not be saved and are lost: the disk refused them", counted(n, "record"))),
            None => Some("the disk did not answer in time: the last records may not be saved".into()),
        }
    }

    /// Nobody waits for the list: that it cannot be made is said in passing.
    fn list_models(&self) -> LoopAction {
        let (home, replies) = (self.home.clone(), self.replies.clone());
        aside(&self.replies, "models", move || {
            let cards = models::list(&home).unwrap_or_else(|error| {
                replies.send(Msg::Note(format!("the models on this machine cannot be listed: {error}")));
                Vec::new()
            });
            replies.send(Msg::ModelsListed(cards));
        });
        LoopAction::Nothing
    }

    fn aside(&self, name: &str, work: impl FnOnce(&Home) -> Result<Msg> + Send + 'static) -> LoopAction {
        let (home, replies) = (self.home.clone(), self.replies.clone());
        aside(&self.replies, name, move || {
            let msg = work(&home).unwrap_or_else(|error| Msg::Failed(error.to_string()));
            replies.send(msg);
        });
        LoopAction::Nothing
    }
}

fn sessions(home: &Home) -> Result<Msg> {
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

fn create(home: &Home, name: &str, model: &str, prompts: Option<&str>) -> Result<Msg> {
    let prompts = prompts.filter(|path| !path.trim().is_empty()).map(home_path);
    prompts.as_deref().map_or(Ok(()), check_prompts)?;
    let dir = make_session(home, name, model)?;
    if let Some(path) = prompts {
        let mut journal = Journal::require(&dir)?;
        let intake = intake::bring_in(&mut journal, &path, Some(formats::import_named("prompts")?), None);
        journal.close()?;
        intake?;
    }
    Ok(Msg::Created { name: dir.name() })
}

/// Looks for a file of prompts before anything is made, so that a mistyped name leaves no half-made session behind.
///
/// # Errors
/// When there is no such file.
pub fn check_prompts(path: &Path) -> Result<()> {
    if path.is_file() {
        return Ok(());
    }
    Err(Error::failed(format!("{} is not a file: name a file of prompts, one a line or JSONL", path.display())))
}

/// Makes a session on a model that is on this machine. A model that is given as a path is kept as an absolute one.
///
/// # Errors
/// When the model cannot be found or could not be loaded, or the name is taken or cannot be one.
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

/// A path as typed on a screen, where no shell has replaced `~`.
fn home_path(text: &str) -> PathBuf {
    let text = text.trim();
    match (text.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest),
        _ => PathBuf::from(text),
    }
}

/// What computes here, in a few words.
fn device() -> String {
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
