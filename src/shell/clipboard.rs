//! Copying through the terminal: OSC 52, which works over SSH too.
//!
//! Owns the bytes. tmux swallows OSC 52 unless it may set the clipboard or pass sequences through, so it gets both
//! forms; GNU screen gets the sequence in pieces. Refuses to believe: no terminal says whether it copied.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The longest device control string that GNU screen takes, with room for its own bytes.
const SCREEN_PIECE: usize = 240;

/// What stands between the program and the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Multiplexer {
    /// Nothing.
    None,
    /// tmux.
    Tmux,
    /// GNU screen.
    Screen,
}

impl Multiplexer {
    /// The one that this process runs in.
    #[must_use]
    pub fn here() -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        match () {
            () if set("TMUX") => Self::Tmux,
            () if set("STY") => Self::Screen,
            () => Self::None,
        }
    }
}

/// The bytes that copy a text.
#[must_use]
pub fn osc52(text: &str, through: Multiplexer) -> Vec<u8> {
    let plain = format!("\x1b]52;c;{}\x07", STANDARD.encode(text));
    match through {
        Multiplexer::None => plain,
        // With `set-clipboard on` tmux copies the first, with `allow-passthrough on` the terminal copies the second.
        Multiplexer::Tmux => format!("{plain}\x1bPtmux;{}\x1b\\", plain.replace('\x1b', "\x1b\x1b")),
        Multiplexer::Screen => {
            // Base64 and the rest of the sequence are ASCII: every byte is a boundary.
            let pieces = plain.as_bytes().chunks(SCREEN_PIECE).map(String::from_utf8_lossy);
            format!("\x1bP{}\x1b\\", pieces.collect::<Vec<_>>().join("\x1b\\\x1bP"))
        }
    }
    .into_bytes()
}

/// What to tell the user: `answer 1 copied (OSC 52): 12 lines, 804 bytes`.
#[must_use]
pub fn told(what: &str, text: &str, through: Multiplexer) -> String {
    let lines = crate::domain::counted(text.lines().count(), "line");
    let by = match through {
        Multiplexer::None => "",
        Multiplexer::Tmux => "; tmux needs set-clipboard on",
        Multiplexer::Screen => "; in pieces for GNU screen",
    };
    format!("{what} copied (OSC 52): {lines}, {} bytes{by}", text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_copied_byte_for_byte() {
        let text = "\u{1b}[31mé\n\u{0}";
        let bytes = osc52(text, Multiplexer::None);
        let body = bytes.strip_prefix(b"\x1b]52;c;").unwrap().strip_suffix(b"\x07").unwrap();
        assert_eq!(STANDARD.decode(body).unwrap(), text.as_bytes());
    }

    #[test]
    fn tmux_and_screen_get_their_own_forms() {
        assert_eq!(osc52("hi", Multiplexer::Tmux), b"\x1b]52;c;aGk=\x07\x1bPtmux;\x1b\x1b]52;c;aGk=\x07\x1b\\");
        let long = "x".repeat(5_000);
        let wrapped = String::from_utf8(osc52(&long, Multiplexer::Screen)).unwrap();
        let pieces: Vec<&str> = wrapped.split("\x1b\\").filter(|piece| !piece.is_empty()).collect();
        assert!(pieces.len() > 20 && pieces.iter().all(|piece| piece.starts_with("\x1bP") && piece.len() <= 250));
        let joined: String = pieces.iter().map(|piece| &piece[2..]).collect();
        assert_eq!(joined.as_bytes(), osc52(&long, Multiplexer::None));
    }
}
