//! The sessions in `sessions/` verify and contain what the documentation shows.

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The bundled sessions, copied into a new data folder, so that no test writes into the repository.
fn copied() -> tempfile::TempDir {
    copied_from("sessions")
}

/// The sessions of a folder of the repository, copied.
pub fn copied_from(folder: &str) -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            if entry.path().is_dir() { copy(&entry.path(), &target) } else { drop(std::fs::copy(entry.path(), target)) }
        }
    }
    let home = tempfile::tempdir().unwrap();
    copy(&root().join(folder), &home.path().join("sessions"));
    home
}

fn tiebreak(home: &Path, args: &[&str]) -> String {
    let out = Command::new(env!("CARGO_BIN_EXE_tiebreak")).args(args).arg("--home").arg(home).output().unwrap();
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn every_bundled_session_verifies_and_has_labels_a_run_and_its_samples() {
    let home = copied();
    let mut methods = Vec::new();
    let mut labels = 0;
    for entry in std::fs::read_dir(home.path().join("sessions")).unwrap().flatten().filter(|e| e.path().is_dir()) {
        let name = entry.file_name().into_string().unwrap();
        let checked: serde_json::Value =
            serde_json::from_str(&tiebreak(home.path(), &["replay", &name, "--check", "--json"])).unwrap();
        assert_eq!(checked["ok"], true, "{checked}");
        labels += checked["verdicts"].as_u64().unwrap();
        for line in tiebreak(home.path(), &["runs", &name, "--json"]).lines() {
            let run: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(run["status"], "finished", "{run}");
            methods.push(run["kind"].as_str().unwrap().to_owned());
            if run["kind"] != "sample" {
                let log =
                    std::fs::read_to_string(Path::new(run["path"].as_str().unwrap()).join("metrics/000001.jsonl"))
                        .unwrap();
                assert!(log.matches(r#""k":"sampled""#).count() >= 2, "samples before and after");
            }
        }
    }
    assert!(
        labels >= 20 && ["dpo", "orpo", "sample"].iter().all(|m| methods.iter().any(|k| k == m)),
        "{labels} {methods:?}"
    );
}

#[test]
fn they_have_no_paths_of_the_machine_they_were_made_on() {
    for entry in std::fs::read_dir(root().join("sessions")).unwrap().flatten().filter(|e| e.path().is_dir()) {
        for run in std::fs::read_dir(entry.path().join("runs")).unwrap().flatten() {
            let spec = std::fs::read_to_string(run.path().join("spec.json")).unwrap();
            assert!(!spec.contains("\"path\": \"/"), "{spec}");
        }
    }
}

/// Sessions written by the release of 2026-11-26, unchanged.
#[test]
fn sessions_of_the_release_of_2026_11_26_verify_before_and_after_this_version_wrote_to_them() {
    let home = copied_from("tests/fixtures/sessions-2026-11-26");
    let pairs = home.path().join("pairs.jsonl");
    std::fs::write(&pairs, "{\"prompt\":\"q\",\"chosen\":\"good\",\"rejected\":\"bad\"}\n").unwrap();
    for (name, hashes) in [("everyday", 4), ("odds", 2), ("tiny", 1)] {
        let check = || -> serde_json::Value {
            serde_json::from_str(&tiebreak(home.path(), &["replay", name, "--check", "--json"])).unwrap()
        };
        let before = check();
        assert_eq!(
            (before["ok"].as_bool(), before["hashes_verified"].as_u64()),
            (Some(true), Some(hashes)),
            "{before}"
        );
        assert_eq!(before["unknown"], 0, "{before}");
        tiebreak(home.path(), &["import", name, pairs.to_str().unwrap()]);
        let after = check();
        assert_eq!(
            (after["ok"].as_bool(), after["hashes_verified"].as_u64()),
            (Some(true), Some(hashes + 1)),
            "{after}"
        );
        let log = home.path().join("sessions").join(name).join("events/000001.jsonl");
        let text = std::fs::read_to_string(&log).unwrap();
        assert!(text.lines().last().unwrap().contains("\"k\":\"state_hashed\""), "{text}");
        // Either hash detects a verdict that was changed together with its checksum.
        let changed: Vec<String> = text.lines().map(|line| turned(line).unwrap_or_else(|| line.into())).collect();
        assert_ne!(changed.join("\n"), text.trim_end());
        std::fs::write(&log, changed.join("\n") + "\n").unwrap();
        let out = Command::new(env!("CARGO_BIN_EXE_tiebreak"))
            .args(["replay", name, "--check", "--json", "--home"])
            .arg(home.path())
            .output()
            .unwrap();
        assert_eq!(out.status.code(), Some(1));
        let wrong = String::from_utf8_lossy(&out.stdout).matches("but the records before it fold to").count();
        // The old hash of `tiny` was made before there was a verdict.
        assert!(wrong >= if name == "tiny" { 1 } else { 2 }, "{}", String::from_utf8_lossy(&out.stdout));
    }
}

/// A verdict's line with the other side preferred and a correct checksum.
fn turned(line: &str) -> Option<String> {
    let body = line.get(..line.len().checked_sub(16)?)?;
    let (from, to) = if body.contains("\"prefer\":[\"a\"") { ("[\"a\"", "[\"b\"") } else { ("[\"b\"", "[\"a\"") };
    let body = body.contains("\"prefer\":").then(|| body.replacen(from, to, 1))?;
    Some(format!("{body},\"c\":\"{:08x}\"}}", crc32fast::hash(body.as_bytes())))
}
