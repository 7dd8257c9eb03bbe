//! Why the system refused a file, in plain words with what to do.
//!
//! Owns the words for the errors of disks, file servers and rights. Refuses to know what was tried: the caller says that before.

use rustix::io::Errno;
use std::io;

/// Why, and what to do where a user can do something.
#[must_use]
pub fn reason(error: &io::Error) -> String {
    let Some(errno) = error.raw_os_error().map(Errno::from_raw_os_error) else { return error.to_string() };
    let words = match errno {
        Errno::NOENT => "it does not exist",
        Errno::ACCESS | Errno::PERM => "permission denied: `ls -l` shows whose it is, `chmod` and `chown` change that",
        Errno::ROFS => "its disk is mounted read-only: copy it to another place to write there",
        Errno::IO => "the disk reports an input/output error: copy what can be read to another disk",
        Errno::STALE => "it was replaced on its file server: try again",
        Errno::NOLCK | Errno::NOSYS | Errno::OPNOTSUPP => {
            "its file system does not support this: use a data folder on a local disk (--home DIR)"
        }
        Errno::NOTCONN | Errno::NODEV | Errno::NXIO => "its file system is no longer there: mount it again",
        Errno::TIMEDOUT | Errno::HOSTDOWN | Errno::HOSTUNREACH => "its file server does not answer: try again later",
        Errno::MFILE => "too many files are open in this process: raise the limit with `ulimit -n`",
        Errno::NFILE => "too many files are open on this machine: end another program",
        Errno::LOOP => "its links lead to each other: delete the link",
        Errno::NAMETOOLONG => "its name is too long: choose a shorter one",
        Errno::ISDIR => "it is a folder: name a file in it",
        Errno::NOTDIR => "a part of its path is not a folder",
        _ => return error.to_string(),
    };
    words.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_system_is_said_in_words_and_another_one_as_it_is() {
        let said = |errno: Errno| reason(&io::Error::from_raw_os_error(errno.raw_os_error()));
        for errno in [
            Errno::NOENT,
            Errno::ACCESS,
            Errno::PERM,
            Errno::ROFS,
            Errno::IO,
            Errno::STALE,
            Errno::NOLCK,
            Errno::OPNOTSUPP,
            Errno::MFILE,
            Errno::LOOP,
            Errno::NAMETOOLONG,
        ] {
            assert!(!said(errno).contains("os error"), "{}", said(errno));
        }
        assert!(said(Errno::NOLCK).contains("--home DIR") && said(Errno::STALE).contains("try again"));
        assert!(said(Errno::CHILD).contains("os error"));
        assert_eq!(reason(&io::Error::other("it is a pipe")), "it is a pipe");
    }
}
