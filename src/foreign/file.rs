//! Opening and reading files with bounds.
//!
//! Owns the limits by kind and the sentence for each refusal. Refuses pipes, devices, sockets and folders: opening one may block,
//! reading it may never end.

use rustix::fs::OFlags;
use std::fs::{File, FileType, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// Most bytes of a header, a specification or a configuration.
pub const CONFIG: u64 = 16 << 20;

/// Most bytes of a document that is parsed as a whole: a tokenizer, an index, a report.
pub const DOCUMENT: u64 = 256 << 20;

/// Most bytes of rows that are read as a whole: a run's data, its derived numbers.
pub const ROWS: u64 = 4 << 30;

/// Opens a regular file for reading.
///
/// # Errors
/// When it is another kind of file or cannot be opened.
pub fn open(path: &Path) -> io::Result<File> {
    open_with(OpenOptions::new().read(true), path)
}

/// Opens a regular file with these options.
///
/// # Errors
/// As [`open`].
pub fn open_with(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    // Looked at first, since opening alone may act on a device.
    match std::fs::metadata(path) {
        Ok(meta) => regular(meta.file_type())?,
        // The options decide whether it is created.
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    // Without waiting for a writer, should the file have been replaced by a pipe meanwhile.
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits();
    let file = options.custom_flags(flags.cast_signed()).open(path)?;
    regular(file.metadata()?.file_type())?;
    Ok(file)
}

fn regular(kind: FileType) -> io::Result<()> {
    let what = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "a folder",
        () if kind.is_fifo() => "a named pipe",
        () if kind.is_socket() => "a socket",
        () => "a device",
    };
    Err(io::Error::other(format!("it is {what}, and a regular file is expected: put one in its place")))
}

/// The bytes of a regular file.
///
/// # Errors
/// When it cannot be opened as [`open`] does, or has more than `most` bytes.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    let claimed = file.metadata()?.len();
    let over = |len: u64| io::Error::other(format!("it has {}, more than the limit of {}", size(len), size(most)));
    if claimed > most {
        return Err(over(claimed));
    }
    let mut bytes = Vec::new();
    // It may grow meanwhile, and some file systems claim no length.
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most { Err(over(bytes.len() as u64)) } else { Ok(bytes) }
}

/// As [`read`], as text.
///
/// # Errors
/// As [`read`], or when it is not UTF-8.
pub fn read_text(path: &Path, most: u64) -> io::Result<String> {
    String::from_utf8(read(path, most)?)
        .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("it is not UTF-8 text: {}", e.utf8_error())))
}

/// The first bytes of a regular file, `most` at most.
///
/// # Errors
/// As [`open`].
pub fn beginning(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The bytes of a regular file from an offset on; of more than `most` the last ones.
///
/// # Errors
/// As [`open`].
pub fn tail_of(path: &Path, from: u64, most: u64) -> io::Result<Vec<u8>> {
    let mut file = open(path)?;
    let start = file.metadata()?.len().saturating_sub(most).max(from);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whether a path below `root` stays there when its links are followed. A path that does not exist stays.
///
/// # Errors
/// When a link in it leads out of `root`, or to nothing.
pub fn stays_below(root: &Path, path: &Path) -> io::Result<()> {
    let Ok(inner) = path.strip_prefix(root) else { return Ok(()) };
    let mut at = root.to_owned();
    let mut linked = false;
    for part in inner.components() {
        at.push(part);
        match std::fs::symlink_metadata(&at) {
            Ok(meta) => linked |= meta.file_type().is_symlink(),
            Err(_) => break,
        }
        if linked {
            break;
        }
    }
    if !linked {
        return Ok(());
    }
    let inside = at.canonicalize().and_then(|real| Ok(real.starts_with(root.canonicalize()?)));
    let why = match inside {
        Ok(true) => return Ok(()),
        Ok(false) => "that leads out of the session's folder: put there what it names",
        Err(_) => "that leads to nothing: delete it, or put there what it should name",
    };
    Err(io::Error::other(format!("{} is a link {why}", at.strip_prefix(root).unwrap_or(&at).display())))
}

/// A number of bytes for people.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let mut at = 0;
    let mut value = bytes as f64;
    while value >= 1024.0 && at + 1 < UNITS.len() {
        value /= 1024.0;
        at += 1;
    }
    if at == 0 { format!("{bytes} {}", UNITS[0]) } else { format!("{:.3} {}", value, UNITS[at]).replace(".000", "") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    #[test]
    fn only_regular_files_are_read_and_only_up_to_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
            .unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();
        std::fs::create_dir(at("folder")).unwrap();
        symlink("/dev/zero", at("zero")).unwrap();
        File::create(at("sparse")).unwrap().set_len(1 << 40).unwrap();
        std::fs::write(at("text"), "twelve bytes").unwrap();
        for (name, said) in [
            ("pipe", "a named pipe"),
            ("socket", "a socket"),
            ("folder", "a folder"),
            ("zero", "a device"),
            ("sparse", "it has 1 TiB, more than the limit of 16 MiB"),
        ] {
            let error = read(&at(name), CONFIG).unwrap_err().to_string();
            assert!(error.contains(said), "{name}: {error}");
        }
        assert_eq!(read_text(&at("text"), 12).unwrap(), "twelve bytes");
        assert!(read(&at("text"), 11).unwrap_err().to_string().contains("12 bytes, more than the limit of 11 bytes"));
        assert_eq!(beginning(&at("text"), 6).unwrap(), b"twelve");
        assert_eq!(tail_of(&at("text"), 0, 5).unwrap(), b"bytes");
        assert_eq!(tail_of(&at("text"), 7, 100).unwrap(), b"bytes");
        assert_eq!(tail_of(&at("sparse"), 0, 3).unwrap(), [0; 3]);
        let writes = open_with(OpenOptions::new().append(true), &at("pipe"));
        assert!(writes.unwrap_err().to_string().contains("a named pipe"));
    }

    #[test]
    fn a_link_may_lead_elsewhere_in_the_folder_but_not_out_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("s"), dir.path().join("other"));
        std::fs::create_dir_all(root.join("runs/a")).unwrap();
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("secret"), "x").unwrap();
        std::fs::write(root.join("runs/a/data"), "x").unwrap();
        symlink("a", root.join("runs/b")).unwrap();
        symlink(&outside, root.join("events")).unwrap();
        symlink("../other/secret", root.join("lock")).unwrap();
        symlink("nothing", root.join("dangling")).unwrap();
        for (inner, stays) in [
            ("runs/a/data", true),
            ("runs/b/data", true),
            ("runs/c/data", true),
            ("events/secret", false),
            ("events/new", false),
            ("lock", false),
            ("dangling", false),
        ] {
            assert_eq!(stays_below(&root, &root.join(inner)).is_ok(), stays, "{inner}");
        }
        symlink("round", root.join("round")).unwrap();
        for (inner, said) in [
            ("events/new", "events is a link that leads out of the session's folder: put there what it names"),
            ("lock", "lock is a link that leads out of the session's folder: put there what it names"),
            ("dangling", "dangling is a link that leads to nothing: delete it, or put there what it should name"),
            ("round", "round is a link that leads to nothing: delete it, or put there what it should name"),
        ] {
            assert_eq!(stays_below(&root, &root.join(inner)).unwrap_err().to_string(), said);
        }
    }
}
