//! The keymap as a table: `(context, key) → action` with one line on what it does.
//!
//! Footer, `?` help, command palette and the README's key table derive from it. A screen adds its keys as rows here and
//! handles the actions in its own file.

use super::key::{Code, Key};
use super::label::Pane;
use crate::domain::Strength;

/// Where a key means something. A popup's context hides the screen below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Context {
    /// Every screen.
    Anywhere,
    /// The list of sessions.
    Home,
    /// Judging pairs.
    Label,
    /// The label screen while there is no pair to judge.
    Idle,
    /// The launch form.
    Launch,
    /// A run's charts.
    Watch,
    /// A session played back.
    Replay,
    /// The help popup.
    Help,
    /// The command palette and other lists to find something in.
    Palette,
    /// A line or a text to type.
    Input,
    /// A small form.
    Form,
    /// A question with yes and no.
    Confirm,
    /// What a run would read and learn.
    Masks,
    /// A message.
    Message,
}

impl Context {
    /// Its name in help and README.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Anywhere => "everywhere",
            Self::Home => "home",
            Self::Label => "label",
            Self::Idle => "label, nothing to judge",
            Self::Launch => "launch",
            Self::Watch => "watch",
            Self::Replay => "replay",
            Self::Help => "help",
            Self::Palette => "palette, lists",
            Self::Input => "typing",
            Self::Form => "form",
            Self::Confirm => "question",
            Self::Masks => "masks",
            Self::Message => "message",
        }
    }

    /// Every context, in the README's order.
    pub const ALL: &'static [Self] = &[
        Self::Anywhere,
        Self::Home,
        Self::Label,
        Self::Idle,
        Self::Launch,
        Self::Watch,
        Self::Replay,
        Self::Help,
        Self::Palette,
        Self::Input,
        Self::Form,
        Self::Confirm,
        Self::Masks,
        Self::Message,
    ];
}

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    // Everywhere.
    /// Open the help.
    Help,
    /// Open the command palette.
    Palette,
    /// Leave the program.
    Quit,
    /// Leave this screen.
    Back,
    /// Paint everything again.
    Redraw,
    /// Hand the terminal back to the shell that started us.
    Suspend,
    /// Try again to save what could not be saved.
    SaveAgain,
    // Going somewhere in a session.
    /// To the label screen.
    GoLabel,
    /// To the launch form.
    GoLaunch,
    /// To the charts.
    GoWatch,
    /// To the replay.
    GoReplay,
    /// Ask how to sample and start.
    Sample,
    /// Ask for a file and import it.
    Import,
    // Lists and popups.
    /// One up.
    Up,
    /// One down.
    Down,
    /// Take it.
    Accept,
    /// Leave it.
    Cancel,
    /// Withdraw the correction.
    Withdraw,
    // Home.
    /// Open the selected session.
    Open,
    /// Make a session.
    NewSession,
    /// Look for sessions and models again.
    Refresh,
    // Label.
    /// The answer in this pane is better.
    Prefer(Pane, Strength),
    /// Neither is better.
    Tie,
    /// Neither is acceptable.
    BothBad,
    /// Decide later.
    Skip,
    /// Undo the last verdict or correction.
    Undo,
    /// Redo it.
    Redo,
    /// Write a note on the pair.
    Note,
    /// Write a better version of the focused answer.
    Edit,
    /// Show which words differ.
    Diff,
    /// Go to the next difference.
    NextDifference,
    /// Give the other answer the focus.
    SwapPane,
    /// Show the focused answer alone.
    Zoom,
    /// Go to a pair.
    GoTo,
    /// The other order of the pairs to judge.
    TurnOrder,
    /// Scroll both answers a line down.
    ScrollDown,
    /// Scroll both answers a line up.
    ScrollUp,
    /// Scroll both answers a page down.
    PageDown,
    /// Scroll both answers a page up.
    PageUp,
    // Launch.
    /// To the next field.
    NextField,
    /// To the field before.
    PreviousField,
    /// The next of the field's choices.
    NextChoice,
    /// The one before.
    PreviousChoice,
    /// Everything back to the method's defaults.
    ResetForm,
    /// Show what the run would read and learn.
    ShowMasks,
    // Watch.
    /// The cursor to the left.
    CursorLeft,
    /// The cursor to the right.
    CursorRight,
    /// Half of the window.
    ZoomIn,
    /// Twice the window.
    ZoomOut,
    /// No cursor, no zoom.
    Follow,
    /// The next smoothing.
    Smooth,
    /// What the x-axis counts.
    XAxis,
    /// Logarithmic values.
    LogScale,
    /// The focus to the next pane.
    NextPane,
    /// The focus to the pane before.
    PreviousPane,
    /// One pane alone.
    Enlarge,
    /// The worker's own output.
    WorkerLog,
    /// The next run.
    NextRun,
    /// The run before.
    PreviousRun,
    /// Pause the run, or go on.
    PauseRun,
    /// Write a checkpoint.
    CheckpointRun,
    /// Stop the run.
    StopRun,
    /// Take a lost or stopped run up again.
    ResumeRun,
    /// Judge a pair again that a finding names.
    Relabel,
    // Replay.
    /// Play or pause.
    PlayPause,
    /// One entry on.
    NextEvent,
    /// One entry back.
    PreviousEvent,
    /// To the next mark.
    NextMark,
    /// To the mark before.
    PreviousMark,
    /// Twice as fast.
    Faster,
    /// Half as fast.
    Slower,
    /// To the beginning.
    ToStart,
    /// To the end.
    ToEnd,
    /// What was judged, the curves, or the one that last changed.
    ReplayView,
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Binding {
    /// Where it holds.
    pub context: Context,
    /// What is pressed.
    pub key: Key,
    /// What it asks for.
    pub action: Action,
    /// One line for the help.
    pub help: &'static str,
    /// The word in the footer; neighbours with the same word share it. Empty: not in the footer.
    pub foot: &'static str,
}

const fn on(context: Context, key: Key, action: Action, foot: &'static str, help: &'static str) -> Binding {
    Binding { context, key, action, help, foot }
}
const fn c(c: char) -> Key {
    Key::char(c)
}
const fn k(code: Code) -> Key {
    Key::plain(code)
}

use Context as C;

/// The table.
#[rustfmt::skip]
pub const TABLE: &[Binding] = &[
    // Label: the order of rows is the order of the footer.
    on(C::Label, c('1'), Action::Prefer(Pane::First, Strength::Better), "better", "the first answer is better"),
    on(C::Label, c('2'), Action::Prefer(Pane::Second, Strength::Better), "better", "the second answer is better"),
    on(C::Label, c('!'), Action::Prefer(Pane::First, Strength::Much), "much", "the first answer is much better"),
    on(C::Label, c('@'), Action::Prefer(Pane::Second, Strength::Much), "much", "the second answer is much better"),
    on(C::Label, c(','), Action::Prefer(Pane::First, Strength::Slight), "slight", "the first answer is slightly better"),
    on(C::Label, c('.'), Action::Prefer(Pane::Second, Strength::Slight), "slight", "the second answer is slightly better"),
    on(C::Label, c('0'), Action::Tie, "tie", "neither is better"),
    on(C::Label, c('b'), Action::BothBad, "bad", "neither is acceptable"),
    on(C::Label, c(' '), Action::Skip, "skip", "decide later: the pair comes back"),
    on(C::Label, c('u'), Action::Undo, "undo", "undo the last verdict or correction"),
    on(C::Label, c('d'), Action::Diff, "diff", "mark the words that differ"),
    on(C::Label, Key::ctrl('r'), Action::Redo, "", "redo what was undone"),
    on(C::Label, c(']'), Action::NextDifference, "", "scroll to the next difference"),
    on(C::Label, c('j'), Action::ScrollDown, "", "scroll both answers down"),
    on(C::Label, c('k'), Action::ScrollUp, "", "scroll both answers up"),
    on(C::Label, k(Code::Down), Action::ScrollDown, "", "scroll both answers down"),
    on(C::Label, k(Code::Up), Action::ScrollUp, "", "scroll both answers up"),
    on(C::Label, k(Code::PageDown), Action::PageDown, "", "scroll both answers a page down"),
    on(C::Label, k(Code::PageUp), Action::PageUp, "", "scroll both answers a page up"),
    on(C::Label, k(Code::Tab), Action::SwapPane, "", "give the other answer the focus"),
    on(C::Label, c('z'), Action::Zoom, "", "show the focused answer alone, or both"),
    on(C::Label, c('e'), Action::Edit, "", "write a better version of the answer"),
    on(C::Label, c('n'), Action::Note, "", "write a note on this pair"),
    on(C::Label, c('g'), Action::GoTo, "", "go to any pair, judged ones too"),
    on(C::Label, c('o'), Action::TurnOrder, "", "pairs in order of arrival, or least certain scores first"),
    // Home.
    on(C::Home, k(Code::Enter), Action::Open, "open", "open the session"),
    on(C::Home, c('n'), Action::NewSession, "new", "make a session: name, model, prompts"),
    on(C::Home, c('l'), Action::GoLabel, "label", "judge pairs of the session"),
    on(C::Home, c('t'), Action::GoLaunch, "train", "launch a training run"),
    on(C::Home, c('w'), Action::GoWatch, "watch", "watch its runs"),
    on(C::Home, c('s'), Action::Sample, "", "sample answers in the background"),
    on(C::Home, c('i'), Action::Import, "", "import prompts or pairs from a file"),
    on(C::Home, c('r'), Action::GoReplay, "", "replay the session"),
    on(C::Home, k(Code::Down), Action::Down, "", "next session"),
    on(C::Home, k(Code::Up), Action::Up, "", "previous session"),
    on(C::Home, c('j'), Action::Down, "", "next session"),
    on(C::Home, c('k'), Action::Up, "", "previous session"),
    on(C::Home, c('R'), Action::Refresh, "", "look for sessions and models again"),
    // In a session, from the label screen.
    on(C::Label, c('s'), Action::Sample, "", "sample answers in the background"),
    on(C::Label, c('t'), Action::GoLaunch, "", "launch a training run on the verdicts"),
    on(C::Label, c('w'), Action::GoWatch, "", "watch the session's runs"),
    on(C::Label, c('r'), Action::GoReplay, "", "replay the session"),
    on(C::Label, c('i'), Action::Import, "", "import prompts or pairs from a file"),
    on(C::Label, k(Code::Esc), Action::Back, "", "back to the sessions"),
    // Launch.
    on(C::Launch, k(Code::Enter), Action::Accept, "start", "start the run; on `…` show or hide the advanced options"),
    on(C::Launch, k(Code::Tab), Action::NextField, "next", "next field"),
    on(C::Launch, k(Code::Down), Action::NextField, "", "next field"),
    on(C::Launch, k(Code::BackTab), Action::PreviousField, "", "previous field"),
    on(C::Launch, k(Code::Up), Action::PreviousField, "", "previous field"),
    on(C::Launch, k(Code::Left), Action::PreviousChoice, "choose", "previous choice of a field that has choices"),
    on(C::Launch, k(Code::Right), Action::NextChoice, "choose", "next choice of a field that has choices"),
    on(C::Launch, c(' '), Action::NextChoice, "", "next choice of a field that has choices"),
    on(C::Launch, c('m'), Action::ShowMasks, "masks", "show what the model reads, and what of it is learned"),
    on(C::Launch, c('r'), Action::ResetForm, "reset", "everything back to the method's defaults"),
    on(C::Launch, k(Code::Esc), Action::Back, "back", "back to labelling"),
    // Watch.
    on(C::Watch, c('f'), Action::Relabel, "judge again", "judge a pair again that a finding names"),
    on(C::Watch, k(Code::Left), Action::CursorLeft, "cursor", "move the cursor left and read values there"),
    on(C::Watch, k(Code::Right), Action::CursorRight, "cursor", "move the cursor right and read values there"),
    on(C::Watch, c('+'), Action::ZoomIn, "zoom", "look closer, at the cursor or at the end"),
    on(C::Watch, c('-'), Action::ZoomOut, "zoom", "look from further away"),
    on(C::Watch, k(Code::Tab), Action::NextPane, "pane", "next pane"),
    on(C::Watch, c('p'), Action::PauseRun, "pause", "pause the run after its step, or let it go on"),
    on(C::Watch, c('s'), Action::Smooth, "smooth", "smooth the curves more, then not at all"),
    on(C::Watch, c('x'), Action::XAxis, "axis", "count steps, epochs or time below the curves"),
    on(C::Watch, c('c'), Action::CheckpointRun, "checkpoint", "write a checkpoint now"),
    on(C::Watch, c('S'), Action::StopRun, "stop", "stop the run with a checkpoint; asks first"),
    on(C::Watch, c('R'), Action::ResumeRun, "resume", "take a lost or stopped run up again from its checkpoint"),
    on(C::Watch, c('='), Action::ZoomIn, "", "look closer, at the cursor or at the end"),
    on(C::Watch, k(Code::End), Action::Follow, "", "no cursor and no zoom: follow the end"),
    on(C::Watch, c('y'), Action::LogScale, "", "logarithmic values"),
    on(C::Watch, k(Code::Enter), Action::Enlarge, "", "one pane alone, or all again"),
    on(C::Watch, k(Code::BackTab), Action::PreviousPane, "", "previous pane"),
    on(C::Watch, c(']'), Action::NextPane, "", "next pane"),
    on(C::Watch, c('['), Action::PreviousPane, "", "previous pane"),
    on(C::Watch, k(Code::Down), Action::NextRun, "", "next run of the session"),
    on(C::Watch, k(Code::Up), Action::PreviousRun, "", "previous run of the session"),
    on(C::Watch, c('o'), Action::WorkerLog, "", "the worker's own output instead of the samples"),
    on(C::Watch, c('t'), Action::GoLaunch, "train", "launch another training run"),
    on(C::Watch, c('l'), Action::GoLabel, "label", "judge pairs meanwhile"),
    // Replay.
    on(C::Replay, c(' '), Action::PlayPause, "play", "play or pause"),
    on(C::Replay, k(Code::Left), Action::PreviousEvent, "event", "one entry back"),
    on(C::Replay, k(Code::Right), Action::NextEvent, "event", "one entry on"),
    on(C::Replay, c('['), Action::PreviousMark, "mark", "back to the mark before: label, launch, checkpoint, finding"),
    on(C::Replay, c(']'), Action::NextMark, "mark", "on to the next mark"),
    on(C::Replay, c('-'), Action::Slower, "speed", "half as fast"),
    on(C::Replay, c('+'), Action::Faster, "speed", "twice as fast"),
    on(C::Replay, c('v'), Action::ReplayView, "view", "what was judged, the curves, or whichever changed last"),
    on(C::Replay, c('='), Action::Faster, "", "twice as fast"),
    on(C::Replay, k(Code::Home), Action::ToStart, "", "to the beginning"),
    on(C::Replay, k(Code::End), Action::ToEnd, "", "to the end"),
    on(C::Replay, k(Code::Tab), Action::NextPane, "", "next pane of the curves"),
    on(C::Replay, k(Code::BackTab), Action::PreviousPane, "", "previous pane of the curves"),
    on(C::Replay, k(Code::Enter), Action::Enlarge, "", "one pane alone, or all again"),
    on(C::Replay, c('s'), Action::Smooth, "", "smooth the curves more, then not at all"),
    on(C::Replay, c('x'), Action::XAxis, "", "count steps, epochs or time below the curves"),
    on(C::Replay, c('y'), Action::LogScale, "", "logarithmic values"),
    on(C::Watch, k(Code::Esc), Action::Back, "", "back to labelling"),
    on(C::Replay, k(Code::Esc), Action::Back, "", "back to labelling"),
    // The label screen while there is no pair.
    on(C::Idle, c('s'), Action::Sample, "sample", "sample answers in the background"),
    on(C::Idle, c('i'), Action::Import, "import", "import prompts or pairs from a file"),
    on(C::Idle, c('t'), Action::GoLaunch, "train", "launch a training run on the verdicts"),
    on(C::Idle, c('w'), Action::GoWatch, "watch", "watch the session's runs"),
    on(C::Idle, c('u'), Action::Undo, "undo", "undo the last verdict or correction"),
    on(C::Idle, k(Code::Esc), Action::Back, "sessions", "back to the sessions"),
    // Everywhere.
    on(C::Anywhere, c('?'), Action::Help, "help", "every key that works here"),
    on(C::Anywhere, c(':'), Action::Palette, "", "find any action or session by name"),
    on(C::Anywhere, c('q'), Action::Quit, "", "leave; runs go on"),
    on(C::Anywhere, Key::ctrl('c'), Action::Quit, "", "leave; runs go on"),
    on(C::Anywhere, Key::ctrl('s'), Action::SaveAgain, "", "save again what could not be saved"),
    on(C::Anywhere, Key::ctrl('l'), Action::Redraw, "", "paint everything again"),
    on(C::Anywhere, Key::ctrl('z'), Action::Suspend, "", "back to your shell; `fg` returns"),
    // Popups.
    on(C::Help, k(Code::Esc), Action::Cancel, "close", "close"),
    on(C::Help, c('?'), Action::Cancel, "", "close"),
    on(C::Help, c('q'), Action::Cancel, "", "close"),
    on(C::Help, c('j'), Action::Down, "scroll", "scroll down"),
    on(C::Help, c('k'), Action::Up, "scroll", "scroll up"),
    on(C::Help, k(Code::Down), Action::Down, "", "scroll down"),
    on(C::Help, k(Code::Up), Action::Up, "", "scroll up"),
    on(C::Palette, k(Code::Enter), Action::Accept, "take it", "take what is selected"),
    on(C::Palette, k(Code::Up), Action::Up, "select", "previous"),
    on(C::Palette, k(Code::Down), Action::Down, "select", "next"),
    on(C::Palette, k(Code::Esc), Action::Cancel, "close", "close"),
    on(C::Input, k(Code::Enter), Action::Accept, "take it", "take what was typed; in a text, a new line"),
    on(C::Input, Key::ctrl('s'), Action::Accept, "take it", "take a text of several lines"),
    on(C::Input, Key::ctrl('x'), Action::Withdraw, "withdraw", "withdraw the correction of this answer"),
    on(C::Input, k(Code::Esc), Action::Cancel, "leave it", "close without taking it; asks before a text is discarded"),
    on(C::Form, k(Code::Enter), Action::Accept, "start", "take the values"),
    on(C::Form, k(Code::Up), Action::Up, "field", "previous field"),
    on(C::Form, k(Code::Down), Action::Down, "field", "next field"),
    on(C::Form, k(Code::Tab), Action::Down, "", "next field"),
    on(C::Form, k(Code::BackTab), Action::Up, "", "previous field"),
    on(C::Form, k(Code::Esc), Action::Cancel, "leave it", "close without starting"),
    on(C::Confirm, c('y'), Action::Accept, "yes", "yes"),
    on(C::Confirm, c('n'), Action::Cancel, "no", "no"),
    on(C::Confirm, k(Code::Esc), Action::Cancel, "", "no"),
    on(C::Masks, k(Code::Esc), Action::Cancel, "close", "close"),
    on(C::Masks, c('m'), Action::Cancel, "", "close"),
    on(C::Masks, c('q'), Action::Cancel, "", "close"),
    on(C::Masks, k(Code::Down), Action::Down, "scroll", "scroll down"),
    on(C::Masks, k(Code::Up), Action::Up, "scroll", "scroll up"),
    on(C::Masks, c('j'), Action::Down, "", "scroll down"),
    on(C::Masks, c('k'), Action::Up, "", "scroll up"),
    on(C::Masks, k(Code::PageDown), Action::PageDown, "page", "a page down"),
    on(C::Masks, k(Code::PageUp), Action::PageUp, "page", "a page up"),
    on(C::Message, k(Code::Enter), Action::Cancel, "close", "close"),
    on(C::Message, k(Code::Esc), Action::Cancel, "", "close"),
    on(C::Message, c('q'), Action::Cancel, "", "close"),
];

/// What a key asks for where these contexts hold; the first context wins.
#[must_use]
pub fn lookup(contexts: &[Context], key: Key) -> Option<Action> {
    contexts
        .iter()
        .find_map(|context| TABLE.iter().find(|row| row.context == *context && row.key == key).map(|row| row.action))
}

/// The rows of a context, in the table's order.
pub fn rows(context: Context) -> impl Iterator<Item = &'static Binding> {
    TABLE.iter().filter(move |row| row.context == context)
}

/// The footer's entries for these contexts and the rows that matter: keys that share a word, and the word.
pub fn footer(contexts: &[Context], matters: impl Fn(&Binding) -> bool) -> Vec<(String, &'static str)> {
    let mut out: Vec<(String, &'static str)> = Vec::new();
    for row in contexts.iter().flat_map(|context| rows(*context)).filter(|row| !row.foot.is_empty() && matters(row)) {
        match out.last_mut() {
            Some((keys, word)) if *word == row.foot => {
                keys.push(' ');
                keys.push_str(&row.key.to_string());
            }
            _ => out.push((row.key.to_string(), row.foot)),
        }
    }
    out
}

/// The help of these contexts: for each its title and rows of keys and what they do; keys of one action share a row.
#[must_use]
pub fn help(contexts: &[Context]) -> Vec<(&'static str, Vec<(String, &'static str)>)> {
    contexts
        .iter()
        .map(|context| {
            let mut out: Vec<(Action, String, &'static str)> = Vec::new();
            for row in rows(*context) {
                match out.iter_mut().find(|(action, ..)| *action == row.action) {
                    Some((_, keys, _)) => {
                        keys.push(' ');
                        keys.push_str(&row.key.to_string());
                    }
                    None => out.push((row.action, row.key.to_string(), row.help)),
                }
            }
            (context.title(), out.into_iter().map(|(_, keys, help)| (keys, help)).collect())
        })
        .filter(|(_, rows): &(_, Vec<_>)| !rows.is_empty())
        .collect()
}

/// The README's key table as Markdown.
#[must_use]
pub fn markdown() -> String {
    let mut out = String::from("| where | keys | what they do |\n|---|---|---|\n");
    for (title, rows) in help(Context::ALL) {
        for (keys, help) in rows {
            let keys: Vec<String> = keys.split(' ').map(|key| format!("`{}`", key.replace('|', "\\|"))).collect();
            out.push_str(&format!("| {title} | {} | {help} |\n", keys.join(" ")));
        }
    }
    out
}
