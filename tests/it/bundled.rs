//! The sessions in `sessions/`: they verify, and they hold what the documentation shows.

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The bundled sessions copied into a fresh data folder: nothing writes into the repository.
fn copied() -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            if entry.path().is_dir() { copy(&entry.path(), &target) } else { drop(std::fs::copy(entry.path(), target)) }
        }
    }
    let home = tempfile::tempdir().unwrap();
    copy(&root().join("sessions"), &home.path().join("sessions"));
    home
}

fn tiebreak(home: &Path, args: &[&str]) -> String {
    let out = Command::new(env!("CARGO_BIN_EXE_tiebreak")).args(args).arg("--home").arg(home).output().unwrap();
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn every_bundled_session_verifies_and_holds_labels_a_run_and_its_samples() {
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
fn nothing_of_the_machine_they_were_made_on_is_in_them() {
    for entry in std::fs::read_dir(root().join("sessions")).unwrap().flatten().filter(|e| e.path().is_dir()) {
        for run in std::fs::read_dir(entry.path().join("runs")).unwrap().flatten() {
            let spec = std::fs::read_to_string(run.path().join("spec.json")).unwrap();
            assert!(!spec.contains("\"path\": \"/"), "{spec}");
        }
    }
}
