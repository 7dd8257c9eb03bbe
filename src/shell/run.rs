//! The event loop of the workbench.
//!
//! Input comes first, then what threads answer, then time. Everything that waits is taken in before one frame is drawn, and
//! only if the model's version changed. Keys are drawn at once; what comes from logs at most ten times a second, four over
//! SSH. This thread waits for nothing but the terminal itself.

use super::effects::{Effects, LoopAction};
use super::error::{Error, Result};
use super::events;
use super::out;
use super::reply::Reply;
use super::terminal::{Alarm, FrameBackend, TerminalGuard, Tty, restore, watch};
use crate::app::{Goal, Model, Msg, Theme, begin, update};
use crate::domain::{QueueOrder, Rater};
use crate::storage::Home;
use crate::ui;
use ratatui::backend::Backend;
use ratatui::layout::Rect;
use ratatui::{Terminal, TerminalOptions, Viewport};
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, UnboundedReceiver, unbounded_channel};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

/// Least time between two frames that no key asked for.
const FRAME: Duration = Duration::from_millis(100);
/// The same over SSH.
const FRAME_SSH: Duration = Duration::from_millis(250);
/// How long sizes are collected while a window is being dragged.
const RESIZE: Duration = Duration::from_millis(30);
/// The model's clock; a replay plays by it, and nothing is painted unless something moved.
const TICK: Duration = Duration::from_millis(250);
/// Answers taken in before input is looked at again.
const BATCH: usize = 64;

/// How the workbench opens.
#[derive(Debug)]
pub struct Opening {
    /// The data folder.
    pub home: Home,
    /// The session and the screen.
    pub goal: Option<(String, Goal)>,
    /// Whose verdicts are given.
    pub rater: Rater,
    /// The order of the pairs to judge.
    pub order: QueueOrder,
    /// Whether synchronised output may be used where the terminal answers for it.
    pub synchronise: bool,
}

/// How the loop ended.
enum End {
    /// The user left.
    Quit,
    /// From outside, with an exit code.
    Alarm(u8),
    /// The terminal could not be written to any more.
    Gone(io::Error),
}

/// Opens the workbench and runs it until the user leaves.
///
/// # Errors
/// When there is no terminal, or it goes away.
pub fn workbench(opening: Opening) -> Result<()> {
    let Opening { home, goal, rater, order, synchronise } = opening;
    let guard = TerminalGuard::take(synchronise)?;
    let sync = Arc::new(AtomicBool::new(false));
    let backend = FrameBackend::tty(Arc::clone(&sync));
    let io = |source| Error::Io { doing: "prepare the terminal".into(), source };
    let size = backend.size().map_err(io)?;
    let viewport = Viewport::Fixed(Rect::new(0, 0, size.width, size.height));
    let terminal = Terminal::with_options(backend, TerminalOptions { viewport }).map_err(io)?;
    let (effects, replies) = Effects::start(home, rater)?;
    let (alarms, alarmed) = unbounded_channel();
    let writer = effects.writer();
    let tell = move |alarm| {
        let _ = alarms.send(alarm);
    };
    watch(tell, move || writer.end_after_loop()).map_err(io)?;
    let (keys, input) = unbounded_channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(io)?;
    let mut bench = Loop {
        model: Model::new(theme(), (size.width, size.height), super::plan::wall_ms()),
        terminal,
        guard,
        effects,
        drawn: 0,
        last_frame: None,
        due: None,
        started: Instant::now(),
        frame: if std::env::var_os("SSH_CONNECTION").is_some() { FRAME_SSH } else { FRAME },
    };
    bench.model.order = order;
    let first = begin(&mut bench.model, goal);
    bench.draw().map_err(io)?;
    // Input is read after the first frame is out: the probe's answers come first and may take a moment.
    events::spawn(keys, synchronise, sync).map_err(io)?;
    let end = runtime.block_on(bench.run(first, input, replies, alarmed));
    let Loop { model, terminal, guard, effects, .. } = bench;
    drop(terminal);
    drop(guard);
    if let Some(lost) = effects.end() {
        out::note(&lost);
    }
    match end {
        End::Quit => {
            farewell(&model);
            Ok(())
        }
        End::Alarm(code) => Err(Error::Ended(code)),
        End::Gone(source) => Err(Error::Io { doing: "write to the terminal".into(), source }),
    }
}

/// What the environment says about colours and characters.
fn theme() -> Theme {
    let set = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
    let locale = set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG")).unwrap_or_default().to_lowercase();
    let plain = matches!(locale.as_str(), "c" | "posix") || set("TERM").is_some_and(|t| t.starts_with("vt1"));
    Theme { colour: set("NO_COLOR").is_none(), ascii: plain }
}

/// Says which runs go on without the workbench.
fn farewell(model: &Model) {
    let Some(open) = &model.open else { return };
    for run in open.runs.iter().filter(|run| run.alive == Some(true)) {
        out::note(&format!("run {} goes on; `tiebreak watch {}` brings you back", run.id, open.name));
    }
}

struct Loop {
    model: Model,
    terminal: Terminal<FrameBackend<Tty>>,
    guard: TerminalGuard,
    effects: Effects,
    /// The version of the model on the screen.
    drawn: u64,
    last_frame: Option<Instant>,
    /// When the next frame is to be drawn, if one is due.
    due: Option<Instant>,
    /// Where the model's steady clock begins.
    started: Instant,
    frame: Duration,
}

impl Loop {
    async fn run(
        &mut self,
        first: Vec<crate::app::Effect>,
        mut input: UnboundedReceiver<Msg>,
        mut replies: Receiver<Reply>,
        mut alarms: UnboundedReceiver<Alarm>,
    ) -> End {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        for effect in first {
            if let Some(end) = self.effect(effect) {
                return end;
            }
        }
        loop {
            let due = self.due;
            let mut ended = None;
            tokio::select! {
                biased;
                Some(alarm) = alarms.recv() => ended = self.alarm(alarm),
                // The input thread ends when the terminal is gone; the watchdog says so, and here nobody waits for it.
                Some(msg) = input.recv() => {
                    ended = self.time();
                    let mut next = Some(msg);
                    while let Some(msg) = next {
                        ended = ended.or_else(|| self.input(msg));
                        next = input.try_recv().ok();
                    }
                }
                Some(reply) = replies.recv() => {
                    let mut next = Some(reply);
                    for _ in 0..BATCH {
                        let Some(reply) = next else { break };
                        ended = ended.or_else(|| self.reply(reply));
                        next = replies.try_recv().ok();
                    }
                    if let Some(reply) = next {
                        ended = ended.or_else(|| self.reply(reply));
                    }
                }
                _ = tick.tick() => ended = self.time(),
                () = async { match due { Some(at) => sleep_until(at).await, None => std::future::pending().await } } => {}
            }
            if let Some(end) = ended {
                return end;
            }
            if self.model.version != self.drawn && self.due.is_none() {
                let earliest = self.last_frame.map_or_else(Instant::now, |at| at + self.frame);
                self.due = Some(earliest);
            }
            if self.due.is_some_and(|at| at <= Instant::now())
                && let Err(error) = self.draw()
            {
                return End::Gone(error);
            }
        }
    }

    /// A frame no later than after `delay`.
    fn within(&mut self, delay: Duration) {
        if self.model.version != self.drawn {
            let at = Instant::now() + delay;
            self.due = Some(self.due.map_or(at, |due| due.min(at)));
        }
    }

    fn time(&mut self) -> Option<End> {
        let clock_ms = self.started.elapsed().as_millis() as u64;
        self.take(Msg::Tick { now_ms: super::plan::wall_ms(), clock_ms })
    }

    fn input(&mut self, msg: Msg) -> Option<End> {
        let resize = matches!(msg, Msg::Resize(..));
        if let Msg::Resize(columns, rows) = msg
            && let Err(error) = self.terminal.resize(Rect::new(0, 0, columns, rows))
        {
            return Some(End::Gone(error));
        }
        let end = self.take(msg);
        if resize {
            self.model.touch();
        }
        self.within(if resize { RESIZE } else { Duration::ZERO });
        end
    }

    fn reply(&mut self, reply: Reply) -> Option<End> {
        if self.effects.is_stale(&reply) {
            return None;
        }
        // What a person waits for is drawn at once; what a log says, in its time.
        let telemetry = matches!(
            reply.msg,
            Msg::Records(_) | Msg::RunRecords { .. } | Msg::RunFound(_) | Msg::RunAlive { .. } | Msg::WorkerLog { .. }
        );
        let end = self.take(reply.msg);
        if !telemetry {
            self.within(Duration::ZERO);
        }
        end
    }

    fn alarm(&mut self, alarm: Alarm) -> Option<End> {
        match alarm {
            Alarm::End(code) => return Some(End::Alarm(code)),
            Alarm::Suspend => suspend(),
            Alarm::Resumed => return self.repaint(true).err().map(End::Gone),
        }
        None
    }

    /// Folds a message and carries out what it asks for.
    fn take(&mut self, msg: Msg) -> Option<End> {
        let effects = update(&mut self.model, msg);
        effects.into_iter().find_map(|effect| self.effect(effect))
    }

    fn effect(&mut self, effect: crate::app::Effect) -> Option<End> {
        match self.effects.run(effect) {
            LoopAction::Nothing => None,
            LoopAction::Redraw => self.repaint(false).err().map(End::Gone),
            LoopAction::Suspend => {
                suspend();
                None
            }
            LoopAction::Quit => Some(End::Quit),
        }
    }

    /// Paints everything again, after taking the terminal anew if somebody else had it.
    fn repaint(&mut self, take: bool) -> io::Result<()> {
        if take {
            self.guard.enter(false)?;
            let size = self.terminal.backend().size()?;
            self.terminal.resize(Rect::new(0, 0, size.width, size.height))?;
            update(&mut self.model, Msg::Resize(size.width, size.height));
        }
        self.terminal.clear()?;
        self.draw()
    }

    fn draw(&mut self) -> io::Result<()> {
        self.due = None;
        self.drawn = self.model.version;
        self.terminal.draw(|frame| ui::render(frame, &self.model))?;
        self.last_frame = Some(Instant::now());
        Ok(())
    }
}

/// Gives the terminal back and stops the process. It goes on here after SIGCONT, which also raises [`Alarm::Resumed`].
fn suspend() {
    restore();
    let _ = signal_hook::low_level::emulate_default_handler(signal_hook::consts::SIGTSTP);
}
