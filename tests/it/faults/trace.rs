//! The trace of a process: every change that it and its children made to a folder, in order, and what they showed.
//!
//! Owns the form that `faults.c` writes. Refuses a trace that ends in the middle of a change by leaving that one out.

use std::fs;
use std::path::Path;

/// What a change is, as the letter in the trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Create,
    Write,
    Sync,
    Cut,
    Rename,
    Exchange,
    Unlink,
    RemoveFolder,
    CreateFolder,
    Link,
    Symlink,
    Shown,
    /// A fault was injected; the change may not have happened.
    Struck,
}

/// One change.
#[derive(Debug, Clone)]
pub struct Change {
    pub kind: Kind,
    /// Relative to the folder, without a leading slash; empty for the folder itself. Of what was shown, where: a terminal or a
    /// pipe.
    pub path: String,
    /// The second path of a rename, an exchange or a link; the target of a symbolic link.
    pub other: String,
    pub inode: u64,
    /// The place of a write, the length that a file was cut to, or the bytes of a frame that are still to come.
    pub offset: u64,
    pub data: Vec<u8>,
}

impl Change {
    /// Whether this ends a frame on the terminal. A frame that is still to come in part shows the numbers of two.
    pub fn ends_frame(&self) -> bool {
        self.is_frame() && self.offset == 0
    }

    /// Whether this was written to the terminal.
    pub fn is_frame(&self) -> bool {
        self.kind == Kind::Shown && self.path.starts_with("/dev/pts/")
    }
}

/// Whether a fault struck.
pub fn struck(changes: &[Change]) -> bool {
    changes.iter().any(|change| change.kind == Kind::Struck)
}

/// The changes below `root`.
pub fn read(trace: &Path, root: &Path) -> Vec<Change> {
    let bytes = fs::read(trace).unwrap();
    let root = format!("{}/", root.display());
    let relative = |path: &str| format!("{path}/").strip_prefix(&root).map(|p| p.trim_end_matches('/').to_owned());
    let mut changes = Vec::new();
    let mut at = 0;
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let wide = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    while at + 40 <= bytes.len() {
        let (op, path_len, other_len) = (number(at), number(at + 8), number(at + 12));
        let (inode, offset, data_len) = (wide(at + 16), wide(at + 24), wide(at + 32) as usize);
        let paths = at + 40;
        let data = paths + path_len + other_len;
        at = data + data_len;
        if at > bytes.len() {
            break;
        }
        let text = |from: usize, len: usize| String::from_utf8(bytes[from..from + len].to_vec()).unwrap();
        let (path, other) = (text(paths, path_len), text(paths + path_len, other_len));
        let kind = match op as u8 {
            b'o' => Kind::Create,
            b'w' => Kind::Write,
            b's' => Kind::Sync,
            b't' => Kind::Cut,
            b'r' => Kind::Rename,
            b'x' => Kind::Exchange,
            b'u' => Kind::Unlink,
            b'd' => Kind::RemoveFolder,
            b'm' => Kind::CreateFolder,
            b'l' => Kind::Link,
            b'y' => Kind::Symlink,
            b'p' => Kind::Shown,
            b'!' => Kind::Struck,
            other => panic!("the fault library recorded a call that the model does not know: {}", other as char),
        };
        let path = match (kind, relative(&path)) {
            (Kind::Shown, _) => path,
            (_, Some(path)) => path,
            (_, None) => panic!("{path} lies outside {root}"),
        };
        let other = if kind == Kind::Symlink { other } else { relative(&other).unwrap_or_default() };
        changes.push(Change { kind, path, other, inode, offset, data: bytes[data..at].to_vec() });
    }
    changes
}
