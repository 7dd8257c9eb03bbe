//! The event loop of the workbench.
//!
//! Priorities: input, then answers of threads, then the clock. All pending messages are handled before a frame is
//! drawn, and a frame is drawn only if the model's version changed. Keys are drawn at once, logs at most ten times a
//! second, four over SSH. Only the terminal can block this thread.

use super::clipboard::{Multiplexer, osc52, told};
use super::config::{Background, UserSettings};
use super::effects::{Effects, LoopAction};
use super::error::{Error, Result};
use super::events::{self, TerminalFeatures};
use super::out;
use super::reply::Reply;
use super::terminal::{Alarm, FrameBackend, TerminalGuard, Tty, report_repeats, restore, watch};
use crate::app::{CommandLine, Goal, ImportFormat, Model, Msg, Popup, Theme, begin, update};
use crate::domain::{Filter, QueueOrder, Rater, RubricPass, TextSet};
use crate::storage::Home;
use crate::storage::formats::{self, Reader, Reads};
use crate::ui;
use ratatui::backend::Backend;
use ratatui::layout::Rect;
use ratatui::{Terminal, TerminalOptions, Viewport};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, UnboundedReceiver, unbounded_channel};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

/// The least time between two frames without a key press.
const FRAME: Duration = Duration::from_millis(100);
/// The same over SSH.
const FRAME_SSH: Duration = Duration::from_millis(250);
/// How long resize events are collected while a window is dragged.
const RESIZE: Duration = Duration::from_millis(30);
/// The period of clock messages, which also drive a replay. A tick without a change draws nothing.
const TICK: Duration = Duration::from_millis(250);
/// Answers handled before input is checked again.
const BATCH: usize = 64;

/// The arguments of [`workbench`].
#[derive(Debug)]
pub struct Opening {
    /// The data folder.
    pub home: Home,
    /// The session and screen to open.
    pub goal: Option<(String, Goal)>,
    /// The rater of the verdicts.
    pub rater: Rater,
    /// The order of the pairs to label.
    pub order: QueueOrder,
    /// The filter of the pairs to label.
    pub filter: Option<Filter>,
    /// What the rater is asked of each.
    pub rubric: RubricPass,
    /// Whether to use synchronised output if the terminal supports it.
    pub synchronise: bool,
}

/// How the loop ended.
enum End {
    /// The user quit.
    Quit,
    /// A signal or a hang-up, with an exit code.
    Alarm(u8),
    /// Writing to the terminal failed.
    Gone(io::Error),
}

/// Runs the workbench until the user quits.
///
/// # Errors
/// When there is no terminal, or it goes away.
pub fn workbench(opening: Opening) -> Result<()> {
    let Opening { home, goal, rater, order, filter, rubric, synchronise } = opening;
    let guard = TerminalGuard::take(synchronise)?;
    let features = TerminalFeatures::default();
    let backend = FrameBackend::tty(Arc::clone(&features.synchronised));
    let io = |source| Error::Io { doing: "prepare the terminal".into(), source };
    let size = backend.size().map_err(io)?;
    let viewport = Viewport::Fixed(Rect::new(0, 0, size.width, size.height));
    let terminal = Terminal::with_options(backend, TerminalOptions { viewport }).map_err(io)?;
    let open_to_others = home.open_to_others();
    let config = UserSettings::read(home.config_file());
    let (effects, replies) = Effects::start(home, rater.clone())?;
    let (alarms, alarmed) = unbounded_channel();
    let writer = effects.writer();
    let tell = move |alarm| {
        let _ = alarms.send(alarm);
    };
    watch(tell, move || writer.end_after_loop()).map_err(io)?;
    let (keys, input) = unbounded_channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(io)?;
    let mut bench = Loop {
        model: Model::new(theme(config.background), (size.width, size.height), super::plan::wall_ms()),
        terminal,
        guard,
        effects,
        drawn: 0,
        last_frame: None,
        due: None,
        started: Instant::now(),
        working: false,
        features: features.clone(),
        frame: if std::env::var_os("SSH_CONNECTION").is_some() { FRAME_SSH } else { FRAME },
    };
    bench.model.order = order;
    bench.model.rater = Some(rater);
    bench.model.keys = config.keys;
    bench.model.guard_ms = config.guard_ms;
    bench.model.filter = filter;
    bench.model.rubric = rubric;
    bench.model.import_formats = import_formats();
    bench.model.command_line = command_line();
    let first = begin(&mut bench.model, goal);
    if let Some(problem) = config.problem {
        let body = format!("{problem}\n\nThe default keys are in effect. `tiebreak config` shows them.");
        bench.model.popups.push(Popup::Message { title: "settings".into(), body });
    }
    if let Some(warning) = open_to_others {
        update(&mut bench.model, Msg::Note(warning));
    }
    bench.draw().map_err(io)?;
    // Input is read after the first frame: the answers to the probe come first and may take a moment.
    events::spawn(keys, synchronise, features, size).map_err(io)?;
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

/// Colour and character set from the environment.
fn theme(background: Background) -> Theme {
    let set = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
    let locale = set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG")).unwrap_or_default();
    let plain = is_plain(&locale) || set("TERM").is_some_and(|t| t.starts_with("vt1"));
    let light = background.is_light(set("COLORFGBG").as_deref());
    Theme { colour: set("NO_COLOR").is_none(), ascii: plain, light }
}

/// Whether a locale cannot show what the screens are drawn with: C, POSIX, and those that name another character set than UTF-8.
/// One that names none, as where no variable is set, leaves it to the terminal.
fn is_plain(locale: &str) -> bool {
    let locale = locale.to_lowercase();
    match locale.split_once('.') {
        Some((_, charset)) => !matches!(charset.split('@').next(), Some("utf-8" | "utf8")),
        None => matches!(locale.as_str(), "c" | "posix"),
    }
}

/// The formats that an import recognises by a file's content. Probe texts look like texts to imitate: only
/// `tiebreak import --as probe` takes them.
fn import_formats() -> Vec<ImportFormat> {
    let recognised = |reads: &Reads| !matches!(reads.row, Reader::Texts(TextSet::Probe, _));
    let rows = formats::imports().filter_map(|format| Some((format.name, format.reads.filter(recognised)?)));
    rows.map(|(name, reads)| ImportFormat { name: name.into(), plain_text: reads.plain_text }).collect()
}

/// The commands of the command line that no screen has, for the palette.
fn command_line() -> Vec<CommandLine> {
    let on_screens = ["label", "watch", "replay", "agreement", "train", "sample", "import", "new", "loop"];
    let command = super::cli::definition();
    let shown = command.get_subcommands().filter(|sub| !sub.is_hide_set() && !on_screens.contains(&sub.get_name()));
    shown
        .map(|sub| CommandLine {
            name: sub.get_name().to_owned(),
            about: sub.get_about().map_or_else(String::new, ToString::to_string),
            takes_session: sub.get_positionals().next().is_some_and(|first| first.get_id() == "session"),
        })
        .collect()
}

/// Lists the runs that continue in the background.
fn farewell(model: &Model) {
    let Some(open) = &model.open else { return };
    for run in open.runs.iter().filter(|run| run.alive == Some(true)) {
        out::note(&format!(
            "run {} continues in the background; follow it with `tiebreak watch {}`",
            run.id, open.name
        ));
    }
}

struct Loop {
    model: Model,
    terminal: Terminal<FrameBackend<Tty>>,
    guard: TerminalGuard,
    effects: Effects,
    /// The model's version in the last frame.
    drawn: u64,
    last_frame: Option<Instant>,
    /// When the next frame is due.
    due: Option<Instant>,
    /// The zero of the model's monotonic clock.
    started: Instant,
    /// Whether the state machine has slow work to go on with.
    working: bool,
    features: TerminalFeatures,
    frame: Duration,
}

impl Loop {
    async fn run(
        &mut self,
        first: Vec<crate::app::Effect>,
        mut input: UnboundedReceiver<(std::time::Instant, Msg)>,
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
                // When the terminal is gone the input thread ends; the watchdog raises the alarm.
                Some(msg) = input.recv() => {
                    let mut next = Some(msg);
                    while let Some((at, msg)) = next {
                        ended = ended.or_else(|| self.time(at.into())).or_else(|| self.input(msg));
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
                _ = tick.tick() => ended = self.time(Instant::now()),
                () = async { match due { Some(at) => sleep_until(at).await, None => std::future::pending().await } } => {}
                // Yields once, so that the clock goes on and a key comes before the next slice.
                () = tokio::task::yield_now(), if self.working => {
                    self.working = false;
                    ended = self.handle(Msg::Continue);
                }
            }
            if let Some(end) = ended {
                return end;
            }
            if let Err(error) = self.follow_keyboard() {
                return End::Gone(error);
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

    /// Schedules a frame after `delay` at the latest.
    fn draw_within(&mut self, delay: Duration) {
        if self.model.version != self.drawn {
            let at = Instant::now() + delay;
            self.due = Some(self.due.map_or(at, |due| due.min(at)));
        }
    }

    /// Lets the terminal report repeats exactly where the model needs them. Where text is typed it does not: the reports
    /// have no characters that need AltGr, and none from an input method.
    fn follow_keyboard(&mut self) -> io::Result<()> {
        self.model.reports_repeats = self.features.repeats.load(Ordering::Relaxed);
        match report_repeats(self.model.reports_repeats && self.model.wants_repeats()) {
            Some(bytes) => self.terminal.backend_mut().send(bytes),
            None => Ok(()),
        }
    }

    fn time(&mut self, at: Instant) -> Option<End> {
        // An input may be older than the last tick.
        let clock_ms = (at.saturating_duration_since(self.started).as_millis() as u64).max(self.model.clock_ms);
        self.handle(Msg::Tick { now_ms: super::plan::wall_ms(), clock_ms })
    }

    fn input(&mut self, msg: Msg) -> Option<End> {
        let resize = matches!(msg, Msg::Resize(..));
        if let Msg::Resize(columns, rows) = msg
            && let Err(error) = self.terminal.resize(Rect::new(0, 0, columns, rows))
        {
            return Some(End::Gone(error));
        }
        let end = self.handle(msg);
        if resize {
            self.model.touch();
        }
        self.draw_within(if resize { RESIZE } else { Duration::ZERO });
        end
    }

    fn reply(&mut self, reply: Reply) -> Option<End> {
        if self.effects.is_stale(&reply) {
            return None;
        }
        // Answers to the user are drawn at once, logs at the frame rate.
        let telemetry = matches!(
            reply.msg,
            Msg::LogRead(_)
                | Msg::Records(_)
                | Msg::RunRecords { .. }
                | Msg::RunReadAgain(_)
                | Msg::RunFound(_)
                | Msg::RunAlive { .. }
                | Msg::WorkerLog { .. }
        );
        let end = self.handle(reply.msg);
        if !telemetry {
            self.draw_within(Duration::ZERO);
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

    /// Updates the model with a message and runs its effects.
    fn handle(&mut self, msg: Msg) -> Option<End> {
        let effects = update(&mut self.model, msg);
        effects.into_iter().find_map(|effect| self.effect(effect))
    }

    fn effect(&mut self, effect: crate::app::Effect) -> Option<End> {
        match self.effects.run(effect) {
            LoopAction::Nothing => None,
            LoopAction::Copy { what, text } => self.copy(&what, &text).err().map(End::Gone),
            LoopAction::Continue => {
                self.working = true;
                None
            }
            LoopAction::Redraw => self.repaint(false).err().map(End::Gone),
            LoopAction::Suspend => {
                suspend();
                None
            }
            LoopAction::Quit => Some(End::Quit),
        }
    }

    /// Copies a text through the terminal, and says so.
    fn copy(&mut self, what: &str, text: &str) -> io::Result<()> {
        let through = Multiplexer::here();
        self.terminal.backend_mut().send(&osc52(text, through))?;
        update(&mut self.model, Msg::Note(told(what, text, through)));
        Ok(())
    }

    /// Redraws everything. With `reclaim` it first sets the terminal up again, after another program used it.
    fn repaint(&mut self, reclaim: bool) -> io::Result<()> {
        if reclaim {
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

/// Restores the terminal and suspends the process. Returns after SIGCONT, which also raises [`Alarm::Resumed`].
fn suspend() {
    restore();
    let _ = signal_hook::low_level::emulate_default_handler(signal_hook::consts::SIGTSTP);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_palette_has_the_commands_that_no_screen_has() {
        let found = command_line();
        let named = |name: &str| found.iter().find(|command| command.name == name);
        for name in ["export", "merge", "report", "score", "pack", "pair", "rule", "rubric"] {
            let command = named(name).unwrap_or_else(|| panic!("no {name}"));
            assert!(!command.about.is_empty());
        }
        assert!(named("export").is_some_and(|c| c.takes_session) && named("doctor").is_some_and(|c| !c.takes_session));
        assert!(named("label").is_none() && named("train").is_none());
    }

    #[test]
    fn the_workbench_offers_the_formats_it_recognises() {
        let offered = import_formats();
        let names: Vec<&str> = offered.iter().map(|format| format.name.as_str()).collect();
        let known: Vec<&str> = formats::imports().map(|format| format.name).filter(|name| *name != "probe").collect();
        assert_eq!(names, known);
        assert!(offered.iter().all(|format| format.plain_text == (format.name == "prompts")));
    }
}
