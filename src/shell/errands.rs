//! What the workbench does besides writing: planning and launching runs, answering questions about them, reading files.
//!
//! Owns the threads for it and their time limits. Each errand works on a snapshot: the session's log up to the record that
//! was the last one on disk when it was given. Refuses to write to the log. Of questions that wait only the newest is
//! answered; an older one that is under way is broken off.

use super::error::{Error, Result};
use super::foretell::foretell;
use super::intake;
use super::plan::{self, SampleOrder, TrainOrder};
use super::reply::Replies;
use super::supervisor::{self, Patience};
use super::tails;
use crate::app::{Msg, SampleRequest, TrainRequest};
use crate::domain::{RunId, Sampler};
use crate::protocol::{RunCommand, RunSpec};
use crate::storage::import::Imported;
use crate::storage::{DataFile, Home, SessionDir};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// How long planning a run may take: it reads whole logs and looks for models.
const PLAN_TIME: Duration = Duration::from_mins(2);
/// How long a worker may take to answer a question about a run.
const ASK_TIME: Duration = Duration::from_mins(5);

/// Something to do for the open session.
#[derive(Debug)]
pub enum Errand {
    /// Launch a training run.
    Train(TrainRequest),
    /// Launch a sampling run.
    Sample(SampleRequest),
    /// Start a worker for a run that has none.
    Resume(RunId),
    /// Tell a run's worker something.
    Command(RunId, RunCommand),
    /// What would this run take?
    Estimate {
        /// Names it in the answer.
        ticket: u64,
        /// The run.
        ask: TrainRequest,
    },
    /// What would this run read and learn?
    Masks {
        /// Names it in the answer.
        ticket: u64,
        /// The run.
        ask: TrainRequest,
    },
    /// Read a file to import.
    Import(PathBuf),
}

impl Errand {
    /// Whether it freezes what is in the log.
    #[must_use]
    pub fn freezes(&self) -> bool {
        matches!(self, Self::Train(_) | Self::Sample(_))
    }

    /// Whether it ends in writing to the log.
    #[must_use]
    pub fn writes(&self) -> bool {
        matches!(self, Self::Import(_))
    }
}

/// Where an errand is for.
#[derive(Debug, Clone)]
pub struct Place {
    /// The opening its answers belong to.
    pub opening: u64,
    /// The session.
    pub dir: SessionDir,
    /// The last record on disk; none where another process writes.
    pub upto: Option<u64>,
}

/// What a run is planned from.
enum Wish {
    Train(TrainRequest),
    Sample(SampleRequest),
}

/// Takes in what was read from a file for an opening.
type TakeIn = dyn Fn(u64, Imported) + Send + Sync;

/// The threads for errands.
pub struct Errands {
    replies: Replies,
    tails: Sender<tails::Order>,
    take_in: Arc<TakeIn>,
    launches: Sender<(Place, Wish)>,
    commands: Sender<(Place, RunId, RunCommand)>,
    estimates: Questions,
    masks: Questions,
}

impl fmt::Debug for Errands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Errands").finish_non_exhaustive()
    }
}

impl Errands {
    /// Starts the threads. `take_in` gets the rows of imported files.
    ///
    /// # Errors
    /// When a thread cannot be made.
    pub fn start(
        home: Home,
        replies: Replies,
        tails: Sender<tails::Order>,
        take_in: impl Fn(u64, Imported) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let (launches, wishes) = channel();
        let (launcher, looker, root) = (replies.clone(), tails.clone(), home.clone());
        spawn("launches", move || launch_all(&wishes, &root, &launcher, &looker))?;
        let (commands, told) = channel::<(Place, RunId, RunCommand)>();
        let answers = replies.clone();
        spawn("commands", move || {
            for (place, run, command) in told {
                if let Err(error) = place.dir.run(&run).and_then(|run| run.post(command)) {
                    answers.of(place.opening, Msg::Failed(error.to_string()));
                }
            }
        })?;
        let (root, answers) = (home.clone(), replies.clone());
        let estimates = Questions::start("estimates", move |place, ticket, ask, patience| {
            let answer = planned(&root, place, question(ask))
                .and_then(|(spec, data)| foretell(&root, Some(patience), &spec, &data));
            if !matches!(answer, Err(Error::Superseded)) {
                answers.of(place.opening, Msg::EstimateReady { ticket, answer: answer.map_err(|e| e.to_string()) });
            }
        })?;
        let answers = replies.clone();
        let masks = Questions::start("masks", move |place, ticket, ask, patience| {
            let answer = planned(&home, place, question(ask))
                .and_then(|(spec, data)| supervisor::ask_about("masks", &home, Some(patience), &spec, &data));
            if !matches!(answer, Err(Error::Superseded)) {
                answers.of(place.opening, Msg::MasksReady { ticket, answer: answer.map_err(|e| e.to_string()) });
            }
        })?;
        Ok(Self { replies, tails, take_in: Arc::new(take_in), launches, commands, estimates, masks })
    }

    /// Takes an errand on. Never waits.
    pub fn take(&self, place: Place, errand: Errand) {
        // The threads end only after this value.
        let _ = match errand {
            Errand::Train(ask) => self.launches.send((place, Wish::Train(ask))).map_err(drop),
            Errand::Sample(ask) => self.launches.send((place, Wish::Sample(ask))).map_err(drop),
            Errand::Command(run, command) => self.commands.send((place, run, command)).map_err(drop),
            Errand::Estimate { ticket, ask } => self.estimates.ask(place, ticket, ask),
            Errand::Masks { ticket, ask } => self.masks.ask(place, ticket, ask),
            Errand::Resume(run) => {
                self.resume(&place, run);
                Ok(())
            }
            Errand::Import(path) => {
                self.import(place.opening, path);
                Ok(())
            }
        };
    }

    fn resume(&self, place: &Place, id: RunId) {
        let (replies, tails, dir, opening) =
            (self.replies.clone(), self.tails.clone(), place.dir.clone(), place.opening);
        aside(&self.replies, "resume", move || {
            let resumed = dir.run(&id).map_err(Error::from).and_then(|run| supervisor::resume(&run));
            let _ = tails.send(tails::Order::Look);
            match resumed {
                Ok(()) => replies.of(opening, Msg::Note(format!("{id} resumed"))),
                Err(error) => replies.of(opening, Msg::Failed(error.to_string())),
            };
        });
    }

    fn import(&self, opening: u64, path: PathBuf) {
        let (replies, take_in) = (self.replies.clone(), Arc::clone(&self.take_in));
        aside(&self.replies, "import", move || match intake::read(&path, None, None) {
            Ok(rows) => take_in(opening, rows),
            Err(error) => drop(replies.of(opening, Msg::Failed(error.to_string()))),
        });
    }
}

/// Questions of one kind: the newest is answered, older ones are broken off.
struct Questions {
    newest: Arc<AtomicU64>,
    asked: Sender<(Place, u64, TrainRequest)>,
}

impl Questions {
    fn start(name: &str, answer: impl Fn(&Place, u64, TrainRequest, &Patience) + Send + 'static) -> io::Result<Self> {
        let newest = Arc::new(AtomicU64::new(0));
        let (asked, inbox) = channel::<(Place, u64, TrainRequest)>();
        let latest = Arc::clone(&newest);
        spawn(name, move || {
            for (place, ticket, ask) in inbox {
                let latest = Arc::clone(&latest);
                let patience = Patience::new(ASK_TIME, move || latest.load(Ordering::Relaxed) != ticket);
                if !patience.is_superseded() {
                    answer(&place, ticket, ask, &patience);
                }
            }
        })?;
        Ok(Self { newest, asked })
    }

    fn ask(&self, place: Place, ticket: u64, ask: TrainRequest) -> Result<(), ()> {
        self.newest.store(ticket, Ordering::Relaxed);
        self.asked.send((place, ticket, ask)).map_err(drop)
    }
}

/// Launches one run after the other: each takes the next free name.
fn launch_all(wishes: &Receiver<(Place, Wish)>, home: &Home, replies: &Replies, tails: &Sender<tails::Order>) {
    for (place, wish) in wishes {
        let launched =
            planned(home, &place, wish).and_then(|(spec, data)| supervisor::launch(&place.dir, None, &spec, &data));
        let _ = tails.send(tails::Order::Look);
        match launched {
            Ok(run) => replies.of(place.opening, Msg::Launched { run: run.id() }),
            Err(error) => replies.of(place.opening, Msg::Failed(error.to_string())),
        };
    }
}

/// A run that is only asked about: damage is said in the header, and asked about at the launch.
fn question(ask: TrainRequest) -> Wish {
    Wish::Train(TrainRequest { allow_damaged: true, ..ask })
}

/// Plans a run on the snapshot, within the time limit.
fn planned(home: &Home, place: &Place, wish: Wish) -> Result<(RunSpec, Vec<DataFile>)> {
    let (home, Place { dir, upto, .. }) = (home.clone(), place.clone());
    within(PLAN_TIME, "planning the run", move || match wish {
        Wish::Train(TrainRequest { method, params, init, allow_damaged }) => {
            let device = "auto".into();
            plan::train(&home, &dir, TrainOrder { method, params, name: None, init, device, allow_damaged, upto })
        }
        Wish::Sample(ask) => {
            let order = SampleOrder {
                models: Vec::new(),
                adapter: None,
                per_prompt: ask.per_prompt,
                // The form shows a seed; the default one counts up, as on the command line.
                count_seed: ask.sampler.seed == Sampler::default().seed,
                sampler: ask.sampler,
                device: "auto".into(),
                upto,
            };
            plan::sample(&home, &dir, order)
        }
    })
}

/// Waits for something that may never come back, such as a read from a dead network disk, for so long. Its thread is left to
/// itself then.
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
            "{what} took longer than {} s and was given up: check that the disks of the session and its models answer, then \
             try again",
            limit.as_secs_f64()
        ))),
        Err(RecvTimeoutError::Disconnected) => Err(Error::failed(format!("{what} broke off: try again"))),
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name(name.into()).spawn(work).map(drop)
}

/// Runs something in a thread of its own.
pub fn aside(replies: &Replies, name: &str, work: impl FnOnce() + Send + 'static) {
    if let Err(error) = spawn(name, work) {
        replies.send(Msg::Failed(format!("no thread can be made ({error}): close other programs and try again")));
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
        let place = Place { opening: 1, dir: SessionDir::open(home.path()).unwrap(), upto: None };
        let ask = TrainRequest {
            method: "dpo".into(),
            params: Params::defaults(&method("dpo").unwrap().rows()),
            init: None,
            allow_damaged: false,
        };
        let (said, heard) = channel();
        let questions = Questions::start("estimates", move |_, ticket, _, patience| {
            said.send((ticket, "begun")).unwrap();
            let until = Instant::now() + Duration::from_secs(20);
            while ticket == 1 && !patience.is_superseded() {
                assert!(Instant::now() < until, "nobody broke the question off");
                std::thread::sleep(Duration::from_millis(2));
            }
            said.send((ticket, "ended")).unwrap();
        })
        .unwrap();
        questions.ask(place.clone(), 1, ask.clone()).unwrap();
        assert_eq!(heard.recv().unwrap(), (1, "begun"));
        for ticket in 2..=5 {
            questions.ask(place.clone(), ticket, ask.clone()).unwrap();
        }
        let rest: Vec<_> = heard.iter().take(3).collect();
        assert_eq!(rest, [(1, "ended"), (5, "begun"), (5, "ended")]);
    }
}
