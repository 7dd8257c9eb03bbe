//! Terminal input as messages of the state machine.
//!
//! Owns the thread that reads keys, and notes when each came: a busy loop must not change how long a verdict took. It also reads the terminal's answers to the probe, so that startup never waits for
//! them.

use super::terminal::{at_most, read_probe, size};
use crate::app::{Code, Key, Msg};
use crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyEventState, KeyModifiers, poll, read};
use ratatui::layout::Size;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;

/// The longest paste, in bytes; the rest is cut off.
const PASTE: usize = 1 << 20;

/// What the terminal can do. The answers to the probe come after the first frame.
#[derive(Debug, Clone, Default)]
pub struct TerminalFeatures {
    /// It takes a frame as a whole.
    pub synchronised: Arc<AtomicBool>,
    /// It can report the repeats of a held key.
    pub repeats: Arc<AtomicBool>,
}

/// Starts the input thread. With `probe` it first reads the terminal's answers and sets `features`. It ends when the
/// terminal or the receiver is gone. `drawn` is the size that the first frame was drawn for.
///
/// # Errors
/// When the thread cannot be started.
pub fn spawn(
    tell: UnboundedSender<(Instant, Msg)>,
    probe: bool,
    features: TerminalFeatures,
    drawn: Size,
) -> io::Result<()> {
    std::thread::Builder::new().name("input".into()).spawn(move || {
        if probe {
            let probed = read_probe();
            features.synchronised.store(probed.synchronised, Ordering::Relaxed);
            features.repeats.store(probed.repeats, Ordering::Relaxed);
            for key in typed(&probed.typed) {
                if tell.send((Instant::now(), Msg::Key(key))).is_err() {
                    return;
                }
            }
        }
        // From the first poll on a resize is an event. One that came before is seen in the size.
        let _ = poll(Duration::ZERO);
        if let Ok(now) = size()
            && now != drawn
            && tell.send((Instant::now(), Msg::Resize(now.width, now.height))).is_err()
        {
            return;
        }
        while let Ok(event) = read() {
            if let Some(msg) = message(event)
                && tell.send((Instant::now(), msg)).is_err()
            {
                return;
            }
        }
    })?;
    Ok(())
}

fn message(event: Event) -> Option<Msg> {
    match event {
        Event::Key(event) if event.kind == KeyEventKind::Repeat => key(event).map(Msg::KeyRepeat),
        Event::Key(event) => key(event).map(Msg::Key),
        Event::Paste(mut text) => {
            if text.len() > PASTE {
                let end = (0..=PASTE).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
                text.truncate(end);
            }
            Some(Msg::Paste(text))
        }
        Event::Resize(columns, rows) => {
            let (columns, rows) = at_most(columns, rows);
            Some(Msg::Resize(columns, rows))
        }
        Event::FocusGained | Event::FocusLost | Event::Mouse(_) => None,
    }
}

/// A key of the state machine; none for releases and unknown keys.
fn key(event: KeyEvent) -> Option<Key> {
    if event.kind == KeyEventKind::Release {
        return None;
    }
    let ctrl = event.modifiers.contains(KeyModifiers::CONTROL);
    let code = match event.code {
        // Terminals differ in whether ctrl-Q comes as q or Q.
        KeyCode::Char(c) if ctrl => Code::Char(c.to_ascii_lowercase()),
        // A terminal that reports every key names the key without caps lock.
        KeyCode::Char(c) if event.state.contains(KeyEventState::CAPS_LOCK) => Code::Char(other_case(c)),
        KeyCode::Char(c) if event.modifiers.contains(KeyModifiers::SHIFT) && c.is_lowercase() => {
            Code::Char(other_case(c))
        }
        KeyCode::Char(c) => Code::Char(c),
        KeyCode::Enter => Code::Enter,
        KeyCode::Esc => Code::Esc,
        KeyCode::Tab if event.modifiers.contains(KeyModifiers::SHIFT) => Code::BackTab,
        KeyCode::Tab => Code::Tab,
        KeyCode::BackTab => Code::BackTab,
        KeyCode::Backspace => Code::Backspace,
        KeyCode::Delete => Code::Delete,
        KeyCode::Up => Code::Up,
        KeyCode::Down => Code::Down,
        KeyCode::Left => Code::Left,
        KeyCode::Right => Code::Right,
        KeyCode::Home => Code::Home,
        KeyCode::End => Code::End,
        KeyCode::PageUp => Code::PageUp,
        KeyCode::PageDown => Code::PageDown,
        _ => return None,
    };
    Some(Key { code, ctrl, alt: event.modifiers.contains(KeyModifiers::ALT) })
}

/// The letter in the other case; other characters stay.
fn other_case(c: char) -> char {
    let other = if c.is_uppercase() { c.to_lowercase().next() } else { c.to_uppercase().next() };
    other.unwrap_or(c)
}

/// The keys typed while the probe was read. None if there are escape sequences.
fn typed(bytes: &[u8]) -> Vec<Key> {
    if bytes.contains(&0x1b) {
        return Vec::new();
    }
    String::from_utf8_lossy(bytes)
        .chars()
        .filter_map(|c| match c {
            '\r' | '\n' => Some(Key::plain(Code::Enter)),
            '\t' => Some(Key::plain(Code::Tab)),
            '\u{7f}' | '\u{8}' => Some(Key::plain(Code::Backspace)),
            '\u{1}'..='\u{1a}' => Some(Key::ctrl(char::from(c as u8 - 1 + b'a'))),
            c if c.is_control() => None,
            c => Some(Key::char(c)),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crossterm_keys_become_keys_of_the_state_machine() {
        let event = |code, modifiers| key(KeyEvent::new(code, modifiers));
        assert_eq!(event(KeyCode::Char('Q'), KeyModifiers::CONTROL), Some(Key::ctrl('q')));
        assert_eq!(event(KeyCode::Char('Q'), KeyModifiers::SHIFT), Some(Key::char('Q')));
        assert_eq!(event(KeyCode::Tab, KeyModifiers::SHIFT), Some(Key::plain(Code::BackTab)));
        assert_eq!(event(KeyCode::F(5), KeyModifiers::NONE), None);
        let release = KeyEvent::new_with_kind(KeyCode::Enter, KeyModifiers::NONE, KeyEventKind::Release);
        assert_eq!(key(release), None);
        let repeat = KeyEvent::new_with_kind(KeyCode::Char('1'), KeyModifiers::NONE, KeyEventKind::Repeat);
        assert_eq!(message(Event::Key(repeat)), Some(Msg::KeyRepeat(Key::char('1'))));
        let caps = |c, modifiers| {
            key(KeyEvent::new_with_kind_and_state(
                KeyCode::Char(c),
                modifiers,
                KeyEventKind::Press,
                KeyEventState::CAPS_LOCK,
            ))
        };
        assert_eq!(caps('h', KeyModifiers::NONE), Some(Key::char('H')));
        assert_eq!(caps('H', KeyModifiers::NONE), Some(Key::char('h')));
        assert_eq!(event(KeyCode::Char('h'), KeyModifiers::SHIFT), Some(Key::char('H')));
        assert_eq!(caps('1', KeyModifiers::NONE), Some(Key::char('1')));
    }

    #[test]
    fn keys_typed_during_the_probe_are_kept() {
        assert_eq!(typed(b"1\r\x03"), vec![Key::char('1'), Key::plain(Code::Enter), Key::ctrl('c')]);
    }

    #[test]
    fn a_huge_paste_is_cut_between_characters() {
        let Some(Msg::Paste(text)) = message(Event::Paste("é".repeat(PASTE))) else { panic!("no paste") };
        assert!(text.len() <= PASTE && text.chars().all(|c| c == 'é'));
    }
}
