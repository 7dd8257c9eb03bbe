//! Keys as the state machine sees them, free of any terminal library.

use crate::domain::nearest;
use std::fmt;

/// What was pressed, without modifiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// A character as typed, with shift applied.
    Char(char),
    /// Return.
    Enter,
    /// Escape.
    Esc,
    /// Tab.
    Tab,
    /// Shift-tab.
    BackTab,
    /// Deletes to the left.
    Backspace,
    /// Deletes to the right.
    Delete,
    /// Cursor up.
    Up,
    /// Cursor down.
    Down,
    /// Cursor left.
    Left,
    /// Cursor right.
    Right,
    /// To the beginning.
    Home,
    /// To the end.
    End,
    /// A page up.
    PageUp,
    /// A page down.
    PageDown,
}

/// A key press. Releases never arrive here; repeats arrive as presses, but for those that the terminal reports
/// ([`Msg::KeyRepeat`](super::msg::Msg::KeyRepeat)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// What was pressed.
    pub code: Code,
    /// Whether control was held.
    pub ctrl: bool,
    /// Whether alt was held.
    pub alt: bool,
}

impl Key {
    /// The key without modifiers.
    #[must_use]
    pub const fn plain(code: Code) -> Self {
        Self { code, ctrl: false, alt: false }
    }

    /// A character as typed.
    #[must_use]
    pub const fn char(c: char) -> Self {
        Self::plain(Code::Char(c))
    }

    /// A character with control.
    #[must_use]
    pub const fn ctrl(c: char) -> Self {
        Self { code: Code::Char(c), ctrl: true, alt: false }
    }

    /// The key that a name stands for: what [`fmt::Display`] writes, and `up`, `down`, `left`, `right` for the arrows.
    ///
    /// # Errors
    /// A sentence on what is wrong with the name, and what to write.
    pub fn parse(word: &str) -> Result<Self, String> {
        let (mut rest, mut key) = (word, Self::plain(Code::Esc));
        while let Some((modifier, after)) = rest.split_once('-').filter(|(_, after)| !after.is_empty()) {
            match modifier {
                "ctrl" if !key.ctrl => key.ctrl = true,
                "alt" if !key.alt => key.alt = true,
                _ => break,
            }
            rest = after;
        }
        let mut chars = rest.chars();
        key.code = match (chars.next(), chars.next()) {
            (Some(' '), None) => Code::Char(' '),
            (Some(c), None) if !c.is_control() && !c.is_whitespace() => arrow(c).unwrap_or(Code::Char(c)),
            _ => named(rest).ok_or_else(|| unknown(word, rest))?,
        };
        if key.ctrl
            && let Code::Char(c) = key.code
        {
            // What a terminal sends for these is the other key.
            let same = [('i', "tab"), ('m', "enter"), ('j', "enter"), ('[', "esc"), ('h', "backspace")];
            if let Some((_, is)) = same.iter().find(|(of, _)| of.eq_ignore_ascii_case(&c)) {
                return Err(format!("a terminal cannot tell `{word}` from {is}: choose another key"));
            }
            if c.is_uppercase() {
                return Err(format!("a terminal cannot tell `{word}` from `ctrl-{}`: write that", c.to_lowercase()));
            }
        }
        Ok(key)
    }

    /// The character this key types; none for a key that types none.
    #[must_use]
    pub fn typed(self) -> Option<char> {
        match self.code {
            Code::Char(c) if !self.ctrl && !self.alt => Some(c),
            _ => None,
        }
    }
}

/// Every named key.
const NAMED: &[(&str, Code)] = &[
    ("space", Code::Char(' ')),
    ("enter", Code::Enter),
    ("esc", Code::Esc),
    ("tab", Code::Tab),
    ("shift-tab", Code::BackTab),
    ("backspace", Code::Backspace),
    ("delete", Code::Delete),
    ("up", Code::Up),
    ("down", Code::Down),
    ("left", Code::Left),
    ("right", Code::Right),
    ("home", Code::Home),
    ("end", Code::End),
    ("pgup", Code::PageUp),
    ("pgdn", Code::PageDown),
];

fn named(word: &str) -> Option<Code> {
    NAMED.iter().find(|(name, _)| *name == word).map(|(_, code)| *code)
}

fn arrow(c: char) -> Option<Code> {
    let arrows = [('↑', Code::Up), ('↓', Code::Down), ('←', Code::Left), ('→', Code::Right)];
    arrows.iter().find(|(of, _)| *of == c).map(|(_, code)| *code)
}

fn unknown(word: &str, rest: &str) -> String {
    if let Some(letter) = rest.strip_prefix("shift-").filter(|letter| letter.chars().count() == 1) {
        return format!("`{word}`: write the character that shift gives, such as `{}`", letter.to_uppercase());
    }
    let names: Vec<&str> = NAMED.iter().map(|(name, _)| *name).collect();
    match nearest(&rest.to_lowercase(), names.iter().copied()) {
        Some(near) if !rest.is_empty() => format!("no key is called `{word}`: did you mean `{near}`?"),
        _ => format!("no key is called `{word}`: write one character, ctrl-x, alt-x, or one of {}", names.join(", ")),
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ctrl {
            f.write_str("ctrl-")?;
        }
        if self.alt {
            f.write_str("alt-")?;
        }
        f.write_str(match self.code {
            Code::Char(' ') => "space",
            Code::Char(c) => return write!(f, "{c}"),
            Code::Enter => "enter",
            Code::Esc => "esc",
            Code::Tab => "tab",
            Code::BackTab => "shift-tab",
            Code::Backspace => "backspace",
            Code::Delete => "delete",
            Code::Up => "↑",
            Code::Down => "↓",
            Code::Left => "←",
            Code::Right => "→",
            Code::Home => "home",
            Code::End => "end",
            Code::PageUp => "pgup",
            Code::PageDown => "pgdn",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_back_from_what_it_is_shown_as() {
        let shown =
            ["1", "é", "space", "enter", "shift-tab", "↑", "pgdn", "ctrl-r", "alt-x", "ctrl-alt-x", "-", "ctrl--"];
        for word in shown {
            assert_eq!(Key::parse(word).unwrap().to_string(), word);
        }
        assert_eq!(Key::parse("up"), Ok(Key::plain(Code::Up)));
        assert_eq!(Key::parse("A"), Ok(Key::char('A')));
    }

    #[test]
    fn a_wrong_name_is_refused_with_the_remedy() {
        let refused = |word: &str| Key::parse(word).unwrap_err();
        assert!(refused("spcae").contains("did you mean `space`?"));
        assert!(refused("shift-a").contains("such as `A`"));
        assert!(refused("ctrl-i").contains("from tab"));
        assert!(refused("ctrl-R").contains("`ctrl-r`"));
        assert!(refused("").contains("write one character"));
        assert!(refused("\u{7}").contains("no key"));
    }
}
