//! Writes frames to the terminal: one write a frame, none if nothing changed.
//!
//! Owns the bytes between ratatui and the file descriptor. ratatui's own backend writes 20 bytes for an empty diff and
//! hides a hidden cursor again in every frame; this one writes nothing. Frames are wrapped in synchronised output (mode
//! 2026) if the terminal supports it.

use crate::domain::is_shown;
use ratatui::backend::{Backend, ClearType, CrosstermBackend, WindowSize};
use ratatui::buffer::Cell;
use ratatui::layout::{Position, Size};
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

const BEGIN: &[u8] = b"\x1b[?2026h";
const END: &[u8] = b"\x1b[?2026l";

/// Collects a frame's bytes.
#[derive(Debug, Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    /// Does nothing: [`FrameBackend::commit`] writes the frame as a whole.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where a frame goes: the terminal, or a buffer in tests.
pub trait Output {
    /// Writes all bytes, in as few system calls as possible.
    ///
    /// # Errors
    /// When the terminal is gone.
    fn put(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// Unbuffered standard output.
#[derive(Debug)]
pub struct Tty;

impl Output for Tty {
    fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match rustix::io::write(rustix::stdio::stdout(), bytes) {
                Ok(n) => bytes = &bytes[n..],
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }
}

/// A ratatui backend that writes whole frames.
#[derive(Debug)]
pub struct FrameBackend<O> {
    inner: CrosstermBackend<Buffer>,
    buffer: Buffer,
    out: O,
    synchronised: Arc<AtomicBool>,
    cursor_shown: bool,
}

impl FrameBackend<Tty> {
    /// Writes frames to standard output; `synchronised` may become true later.
    #[must_use]
    pub fn tty(synchronised: Arc<AtomicBool>) -> Self {
        Self::new(Tty, synchronised)
    }
}

impl<O: Output> FrameBackend<O> {
    /// Writes frames to `out`. Assumes a hidden cursor.
    pub fn new(out: O, synchronised: Arc<AtomicBool>) -> Self {
        let buffer = Buffer(Arc::new(Mutex::new(Vec::with_capacity(1 << 16))));
        Self { inner: CrosstermBackend::new(buffer.clone()), buffer, out, synchronised, cursor_shown: false }
    }

    /// Writes a control sequence between two frames.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.commit()?;
        self.out.put(bytes)
    }

    /// Writes the collected bytes as one frame, if there are any.
    fn commit(&mut self) -> io::Result<()> {
        let mut frame = self.buffer.0.lock().unwrap_or_else(PoisonError::into_inner);
        if frame.is_empty() {
            return Ok(());
        }
        if self.synchronised.load(Ordering::Relaxed) {
            frame.splice(0..0, BEGIN.iter().copied());
            frame.extend_from_slice(END);
        }
        let result = self.out.put(&frame);
        frame.clear();
        result
    }
}

impl<O: Output> Backend for FrameBackend<O> {
    type Error = io::Error;

    fn draw<'a, I: Iterator<Item = (u16, u16, &'a Cell)>>(&mut self, content: I) -> io::Result<()> {
        let mut content = content.peekable();
        if content.peek().is_none() {
            return Ok(());
        }
        // The last check before the terminal: nothing in a cell that must not be shown may reach it.
        let masked = Cell::new("\u{fffd}");
        self.inner
            .draw(content.map(|(x, y, cell)| (x, y, if cell.symbol().chars().all(is_shown) { cell } else { &masked })))
    }

    fn hide_cursor(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.cursor_shown) { self.inner.hide_cursor() } else { Ok(()) }
    }

    fn show_cursor(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.cursor_shown, true) { Ok(()) } else { self.inner.show_cursor() }
    }

    fn get_cursor_position(&mut self) -> io::Result<Position> {
        // A query would race with the input thread; nothing here needs the answer.
        Ok(Position::ORIGIN)
    }

    fn set_cursor_position<P: Into<Position>>(&mut self, position: P) -> io::Result<()> {
        self.inner.set_cursor_position(position)
    }

    fn clear(&mut self) -> io::Result<()> {
        self.inner.clear()
    }

    fn clear_region(&mut self, clear_type: ClearType) -> io::Result<()> {
        self.inner.clear_region(clear_type)
    }

    fn size(&self) -> io::Result<Size> {
        size()
    }

    fn window_size(&mut self) -> io::Result<WindowSize> {
        Ok(WindowSize { columns_rows: size()?, pixels: Size::default() })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.commit()
    }
}

/// The largest size that is drawn.
const MOST_COLUMNS: u16 = 1000;
const MOST_ROWS: u16 = 500;

/// The terminal's size in cells; 80 by 24 if unknown.
pub fn size() -> io::Result<Size> {
    let size = rustix::termios::tcgetwinsize(rustix::stdio::stdout())?;
    if size.ws_col == 0 || size.ws_row == 0 {
        return Ok(Size::new(80, 24));
    }
    let (columns, rows) = at_most(size.ws_col, size.ws_row);
    Ok(Size::new(columns, rows))
}

/// The part of a terminal that is drawn on: some claim 65535 by 65535 cells, for which no machine has memory.
pub fn at_most(columns: u16, rows: u16) -> (u16, u16) {
    (columns.min(MOST_COLUMNS), rows.min(MOST_ROWS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::layout::Rect;
    use ratatui::{Terminal, TerminalOptions, Viewport};

    #[derive(Debug, Clone, Default)]
    struct Writes(Arc<Mutex<Vec<Vec<u8>>>>);

    impl Output for Writes {
        fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
            self.0.lock().unwrap().push(bytes.to_vec());
            Ok(())
        }
    }

    fn terminal(sync: bool) -> (Terminal<FrameBackend<Writes>>, Writes) {
        let writes = Writes::default();
        let backend = FrameBackend::new(writes.clone(), Arc::new(AtomicBool::new(sync)));
        let viewport = Viewport::Fixed(Rect::new(0, 0, 20, 3));
        (Terminal::with_options(backend, TerminalOptions { viewport }).unwrap(), writes)
    }

    #[test]
    fn a_frame_is_one_write_and_the_same_frame_again_is_none() {
        let (mut terminal, writes) = terminal(false);
        for _ in 0..3 {
            terminal.draw(|f| f.render_widget("hello", f.area())).unwrap();
        }
        assert_eq!(writes.0.lock().unwrap().len(), 1);
        terminal.draw(|f| f.render_widget("hullo", f.area())).unwrap();
        assert_eq!(writes.0.lock().unwrap().len(), 2);
    }

    #[test]
    fn a_control_character_in_a_cell_does_not_reach_the_terminal() {
        let (mut terminal, writes) = terminal(false);
        terminal
            .draw(|f| {
                f.buffer_mut()[(0, 0)].set_symbol("\x1b]0;x\x07");
            })
            .unwrap();
        let bytes = writes.0.lock().unwrap().concat();
        assert!(!String::from_utf8_lossy(&bytes).contains("\x1b]0;"));
    }

    #[test]
    fn a_synchronised_frame_is_wrapped_whole() {
        let (mut terminal, writes) = terminal(true);
        terminal.draw(|f| f.render_widget("hello", f.area())).unwrap();
        let writes = writes.0.lock().unwrap();
        assert_eq!(writes.len(), 1);
        assert!(writes[0].starts_with(BEGIN) && writes[0].ends_with(END));
    }
}
