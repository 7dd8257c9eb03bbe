//! Packed sessions: whole, torn and hostile.

use super::*;
use crate::domain::{PromptBody, PromptId};
use crate::protocol::SessionRecord;

fn meta(name: &str) -> SessionMeta {
    SessionMeta { format: 1, name: name.into(), model: "tiny".into(), created_ms: 1, app: "0".into() }
}

/// A home with a session `week` that has a prompt, a run with a checkpoint, a lock and a link.
fn home() -> (tempfile::TempDir, Home, SessionDir) {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::resolve(Some(folder.path())).unwrap();
    let dir = SessionDir::create(&home, "week", &meta("week")).unwrap();
    let lock = dir.lock().unwrap().unwrap();
    let mut log = dir.writer(&lock).unwrap();
    let body = PromptBody::user("why?");
    let prompt = crate::domain::Prompt { id: PromptId::new("p1"), body, source: "t".into(), tags: [].into() };
    log.append(&SessionRecord::Prompted(prompt.into())).unwrap();
    log.sync().unwrap();
    for (path, bytes) in [
        ("runs/dpo-1/spec.json", &b"{}"[..]),
        ("summary.json", b"{}"),
        ("runs/dpo-1/lock", b""),
        ("runs/dpo-1/metrics/000001.jsonl", b"{\"a\":1}\n{\"torn"),
        ("runs/dpo-1/ckpt/latest", b"step-00000001"),
        ("runs/dpo-1/ckpt/step-00000001/model.safetensors", &[7; 10_000]),
    ] {
        let path = dir.path().join(path);
        create_dir(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    std::os::unix::fs::symlink("/etc/passwd", dir.path().join("runs/dpo-1/data.jsonl")).unwrap();
    (folder, home, dir)
}

#[test]
fn a_session_comes_back_byte_for_byte_with_or_without_its_weights() {
    let (folder, home, dir) = home();
    let light = folder.path().join("light.tgz");
    let packed = pack(&dir, &light, false).unwrap();
    assert_eq!((packed.weights_left_out, packed.foreign_left_out), (2, 1), "two files of a checkpoint, a link");
    let heavy = folder.path().join("heavy.tgz");
    let all = pack(&dir, &heavy, true).unwrap();
    assert_eq!(all.files, packed.files + 2);
    assert!(matches!(pack(&dir, &heavy, true), Err(Error::Exists(_))));

    assert!(matches!(unpack(&home, &heavy, None), Err(Error::PackedNameTaken { .. })));
    let (copy, found) = unpack(&home, &heavy, Some("friday")).unwrap();
    assert_eq!((copy.name(), copy.meta().unwrap().name, found.files), ("friday".into(), "friday".into(), all.files));
    let same = |path: &str| {
        let read = |dir: &SessionDir| std::fs::read(dir.path().join(path)).unwrap();
        assert_eq!(read(&copy), read(&dir), "{path}");
    };
    same("events/000001.jsonl");
    same("runs/dpo-1/ckpt/step-00000001/model.safetensors");
    assert_eq!(copy.state().unwrap().0.prompts().len(), 1);
    // A log that was being written ends with its last whole line; a lock is of one machine.
    assert_eq!(std::fs::read(copy.path().join("runs/dpo-1/metrics/000001.jsonl")).unwrap(), b"{\"a\":1}\n");
    assert!(!copy.path().join("runs/dpo-1/lock").exists() && !copy.path().join("runs/dpo-1/data.jsonl").exists());
}

/// Whether unpacking leaves nothing behind.
fn clean(home: &Home) -> bool {
    names(&home.sessions()).unwrap() == ["week"]
}

#[test]
fn a_torn_or_changed_archive_is_refused_in_one_sentence() {
    let (folder, home, dir) = home();
    let file = folder.path().join("week.tgz");
    pack(&dir, &file, true).unwrap();
    let bytes = std::fs::read(&file).unwrap();
    let bad = folder.path().join("bad.tgz");
    // The checksum and length at the end belong to no file.
    for len in (0..bytes.len() - 8).step_by(7).chain([bytes.len() - 9]) {
        std::fs::write(&bad, &bytes[..len]).unwrap();
        let error = unpack(&home, &bad, Some("x")).err();
        let Some(error) = error else {
            // The archive's padding behind the list may be cut.
            assert!(len + 200 > bytes.len(), "cut at {len} of {}", bytes.len());
            std::fs::remove_dir_all(home.sessions().join("x")).unwrap();
            continue;
        };
        assert!(matches!(error, Error::Packed { .. }), "{len}: {error}");
        assert_eq!(error.to_string().lines().count(), 1);
        assert!(clean(&home), "{len}");
    }
    for at in (0..bytes.len() - 8).step_by(11) {
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        std::fs::write(&bad, &changed).unwrap();
        match unpack(&home, &bad, Some("x")) {
            Err(error) => assert_eq!(error.to_string().lines().count(), 1, "{error}"),
            // A bit of the archive's own headers that means nothing: every file is as listed.
            Ok((copy, _)) => {
                let log = "events/000001.jsonl";
                let read = |dir: &SessionDir| std::fs::read(dir.path().join(log)).unwrap();
                assert_eq!(read(&copy), read(&dir), "bit at {at}");
                std::fs::remove_dir_all(copy.path()).unwrap();
            }
        }
        assert!(clean(&home), "{at}");
    }
}

/// An entry's name as given, its kind and its bytes.
type RawEntry<'a> = (&'a [u8], tar::EntryType, &'a [u8]);

/// An archive of these entries, in the raw.
fn archive(entries: &[RawEntry<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, kind, bytes) in entries {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_entry_type(*kind);
        header.set_size(bytes.len() as u64);
        header.set_mode(0o777);
        if kind.is_symlink() || kind.is_hard_link() {
            header.as_old_mut().linkname[..11].copy_from_slice(b"/etc/passwd");
        }
        header.set_cksum();
        builder.append(&header, *bytes).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}

#[test]
fn what_no_session_has_is_refused_and_nothing_is_written_outside() {
    use tar::EntryType as Kind;
    let (folder, home, _dir) = home();
    let bad = folder.path().join("bad.tgz");
    let header = serde_json::to_vec(&meta("x")).unwrap();
    let list = |files: &[(&str, &[u8])]| {
        let digest = |bytes: &[u8]| FileDigest { size: bytes.len() as u64, sha256: hex::encode(Sha256::digest(bytes)) };
        let files = files.iter().map(|(name, bytes)| ((*name).to_owned(), digest(bytes))).collect();
        serde_json::to_vec(&List { format: 1, weights: false, files }).unwrap()
    };
    let good = list(&[("session.json", &header)]);
    let foreign = serde_json::to_vec(&meta("../../x")).unwrap();
    let foreign_list = list(&[("session.json", &foreign)]);
    let file = |name: &'static [u8]| (name, Kind::Regular, &b"#!/bin/sh"[..]);
    let cases: Vec<(Vec<RawEntry<'_>>, &str)> = vec![
        (vec![file(b"x/../../../etc/cron.d/x")], "not a path of a session"),
        (vec![file(b"/etc/cron.d/x")], "not a path of a session"),
        (vec![file(b"x/runs/../../x")], "not a path of a session"),
        (vec![file(b"x/.ssh/authorized_keys")], "not a path of a session"),
        (vec![file(b"x/runs/dpo-1/ctl/stop")], "not a path of a session"),
        (vec![file(b"x/lock")], "not a path of a session"),
        (vec![file(b"x/summary.json")], "not a path of a session"),
        (vec![file(b"../x/session.json")], "not a path of a session"),
        (vec![file(b"session.json")], "not a path of a session"),
        (vec![file(b"x/blobs/a"), file(b"y/blobs/b")], "not a path of a session"),
        (vec![file(b"x/blobs/\x1b]0;a\x07")], "not a path of a session"),
        (vec![file(b"x/blobs/\xff")], "not text"),
        (vec![(b"x/blobs/a", Kind::Symlink, b"")], "not a regular file"),
        (vec![(b"x/blobs/a", Kind::Link, b"")], "not a regular file"),
        (vec![(b"x/blobs", Kind::Directory, b"")], "not a regular file"),
        (vec![(b"x/blobs/a", Kind::Fifo, b"")], "not a regular file"),
        (vec![(b"x/blobs/a", Kind::Char, b"")], "not a regular file"),
        (vec![file(b"x/blobs/a"), file(b"x/blobs/a")], "twice"),
        (vec![(b"x/session.json", Kind::Regular, &header)], "torn"),
        (vec![(b"x/PACKED.json", Kind::Regular, &good)], "missing from it"),
        (vec![(b"x/PACKED.json", Kind::Regular, b"[]")], "list of files is invalid"),
        (vec![(b"x/session.json", Kind::Regular, b"{}"), (b"x/PACKED.json", Kind::Regular, &good)], "differ"),
        (
            vec![(b"x/session.json", Kind::Regular, &foreign), (b"x/PACKED.json", Kind::Regular, &foreign_list)],
            "not a valid name",
        ),
        (
            vec![
                (b"x/session.json", Kind::Regular, &header),
                (b"x/PACKED.json", Kind::Regular, &good),
                file(b"x/blobs/a"),
            ],
            "follows its list",
        ),
        (vec![], "torn"),
    ];
    for (entries, reason) in cases {
        std::fs::write(&bad, archive(&entries)).unwrap();
        let error = unpack(&home, &bad, None).unwrap_err().to_string();
        assert!(error.contains(reason), "{error} ({reason})");
        assert!(error.lines().count() == 1 && !error.contains('\u{1b}'), "{error}");
        assert!(clean(&home), "{error}");
    }
    for bytes in [&b""[..], b"\x1f", b"not an archive", b"\x1f\x8b\x08\x00"] {
        std::fs::write(&bad, bytes).unwrap();
        assert!(matches!(unpack(&home, &bad, None), Err(Error::Packed { .. })));
    }
    assert!(matches!(unpack(&home, folder.path(), None), Err(Error::Io { .. })));
    assert!(matches!(unpack(&home, &folder.path().join("none"), None), Err(Error::Io { .. })));
    // More than the disk holds, in an archive of a few bytes.
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..9].copy_from_slice(b"x/blobs/a");
    header.set_entry_type(Kind::Regular);
    header.set_size(1 << 60);
    header.set_cksum();
    let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
    gz.write_all(header.as_bytes()).unwrap();
    std::fs::write(&bad, gz.finish().unwrap()).unwrap();
    assert!(unpack(&home, &bad, None).unwrap_err().is_no_space() && clean(&home));
}
