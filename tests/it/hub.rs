//! `models get` and `data get` of the real binary against a server in this one: whole, cut, wrong, refused, redirected, offline.

mod server;

use server::{COMMIT, Server, Trouble};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A home, a cache and a hub.
struct Place {
    dir: tempfile::TempDir,
    hub: Server,
}

impl Place {
    /// With the repository `acme/tiny`, a model of this program's fixtures.
    fn new() -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap(), hub: Server::new() };
        let tiny = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-llama");
        let read = |name: &str| fs::read(tiny.join(name)).unwrap();
        let names = ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"];
        let files: Vec<_> = names.map(|name| (name, read(name))).into();
        let mut files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
        files.extend([("pytorch_model.bin", &b"pickle"[..]), ("onnx/model.onnx", b"onnx")]);
        for name in ["models/acme/tiny", "models/HuggingFaceTB/SmolLM2-135M-Instruct"] {
            place.hub.with(name, &files);
        }
        place
    }

    fn cache(&self) -> PathBuf {
        self.dir.path().join("cache/hub")
    }

    fn snapshot(&self) -> PathBuf {
        self.cache().join("models--acme--tiny/snapshots").join(COMMIT)
    }

    fn run_with(&self, args: &[&str], env: &[(&str, &str)]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tiebreak"));
        for name in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE"] {
            command.env_remove(name);
        }
        command.args(args).env("TIEBREAK_HOME", self.dir.path().join("home")).env("HF_ENDPOINT", &self.hub.url);
        command.env("HF_HOME", self.dir.path().join("cache")).envs(env.iter().copied());
        command.output().unwrap()
    }

    fn run(&self, args: &[&str]) -> Output {
        self.run_with(args, &[])
    }

    /// The sentence of a command that fails.
    fn failure(&self, args: &[&str], env: &[(&str, &str)]) -> String {
        let done = self.run_with(args, env);
        let text = said(&done.stderr);
        assert_eq!(done.status.code(), Some(1), "{text}{}", said(&done.stdout));
        assert!(!text.contains("panicked"), "{text}");
        text
    }
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Every file below a folder, by its path there.
fn below(dir: &Path) -> Vec<String> {
    let mut out = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(at) = dirs.pop() {
        for entry in fs::read_dir(&at).into_iter().flatten().flatten() {
            if entry.file_type().unwrap().is_dir() {
                dirs.push(entry.path());
            } else {
                out.push(entry.path().strip_prefix(dir).unwrap().display().to_string());
            }
        }
    }
    out.sort();
    out
}

const GET: [&str; 3] = ["models", "get", "acme/tiny"];

#[test]
fn a_model_comes_with_the_needed_files_only_and_is_used_by_name() {
    let place = Place::new();
    let done = place.run(&GET);
    assert!(done.status.success(), "{}", said(&done.stderr));
    let text = said(&done.stdout);
    assert!(text.contains("4 files downloaded") && text.contains("new SESSION --model acme/tiny"), "{text}");
    assert_eq!(
        below(&place.snapshot()),
        ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    );
    assert_eq!(fs::read_to_string(place.cache().join("models--acme--tiny/refs/main")).unwrap(), COMMIT);
    assert!(!place.cache().join("models--acme--tiny/unfinished.json").exists());
    // As in Python's cache, a relative link to a blob that its checksum names.
    let link = fs::read_link(place.snapshot().join("config.json")).unwrap();
    assert!(link.starts_with("../../blobs"), "{}", link.display());
    let made = place.run(&["new", "first", "--model", "acme/tiny"]);
    assert!(made.status.success(), "{}", said(&made.stderr));
    place.hub.asked();
    let again = place.run(&GET);
    assert!(said(&again.stdout).contains("nothing to download"), "{}", said(&again.stdout));
    assert_eq!(place.hub.asked().len(), 1);
    let unknown = place.failure(&["new", "second", "--model", "acme/other"], &[]);
    assert!(unknown.contains("tiebreak models get acme/other"), "{unknown}");
}

#[test]
fn a_download_that_is_cut_is_resumed_and_listed_once_until_then() {
    let place = Place::new();
    place.hub.trouble("model.safetensors", Trouble::CutAfter(0));
    let text = place.failure(&GET, &[]);
    assert!(
        text.contains("broke off") && text.contains("`tiebreak models get acme/tiny` goes on from there"),
        "{text}"
    );
    let models = said(&place.run(&["models"]).stdout);
    let lines: Vec<&str> = models.lines().filter(|line| line.contains("acme/tiny")).collect();
    assert_eq!(lines.len(), 1, "{models}");
    assert!(
        lines[0].contains("1 of 4 files are missing (model.safetensors): `tiebreak models get acme/tiny`"),
        "{}",
        lines[0]
    );
    let named = place.failure(&["new", "first", "--model", "acme/tiny"], &[]);
    assert!(named.contains("was not finished") && named.contains("models get acme/tiny"), "{named}");
    // Cut again and again, but with progress: one command gets it.
    place.hub.trouble("model.safetensors", Trouble::CutAfter(40_000));
    place.hub.asked();
    let done = place.run(&GET);
    assert!(done.status.success(), "{}", said(&done.stderr));
    let ranges: Vec<String> = place.hub.asked().into_iter().filter_map(|(_, range, _)| range).collect();
    assert!(ranges.first().is_some_and(|range| range == "bytes=40000-"), "{ranges:?}");
    let models = said(&place.run(&["models"]).stdout);
    assert!(models.lines().any(|line| line.contains("acme/tiny") && line.contains("safetensors")), "{models}");
}

#[test]
fn what_the_last_command_left_is_not_asked_for_again() {
    let place = Place::new();
    place.hub.trouble("model.safetensors", Trouble::CutAfter(40_000));
    // The first file's bytes are put where a killed download leaves them.
    let whole = {
        let state = place.hub.state.lock().unwrap();
        state.repos["models/acme/tiny"]["model.safetensors"].clone()
    };
    let blobs = place.cache().join("models--acme--tiny/blobs");
    fs::create_dir_all(&blobs).unwrap();
    let name = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&whole));
    fs::write(blobs.join(format!("{name}.incomplete")), &whole[..whole.len() - 100]).unwrap();
    assert!(place.run(&GET).status.success());
    let asked = place.hub.asked();
    let body: Vec<_> =
        asked.iter().filter(|(what, ..)| what.starts_with("GET") && what.contains("model.safe")).collect();
    assert_eq!(body.len(), 1, "{body:?}");
    assert_eq!(body[0].1.as_deref(), Some(format!("bytes={}-", whole.len() - 100).as_str()));
    assert_eq!(fs::read(place.snapshot().join("model.safetensors")).unwrap(), whole);
}

#[test]
fn wrong_lengths_and_checksums_are_refused_and_leave_nothing() {
    for (trouble, word) in [(Trouble::WrongLength, "a length of"), (Trouble::WrongSum, "the SHA-256")] {
        let place = Place::new();
        place.hub.trouble("model.safetensors", trouble);
        let text = place.failure(&GET, &[]);
        assert!(text.contains(word) && text.contains("it was deleted, try again"), "{text}");
        assert!(!place.snapshot().join("model.safetensors").exists());
        assert!(!below(&place.cache()).iter().any(|name| name.ends_with(".incomplete")));
        place.hub.trouble("model.safetensors", Trouble::None);
        assert!(place.run(&GET).status.success());
    }
}

#[test]
fn refusals_name_the_remedy() {
    let place = Place::new();
    let refused = |status, code, env: &[(&str, &str)]| {
        place.hub.state.lock().unwrap().refuse = Some((status, code));
        place.failure(&GET, env)
    };
    let token = [("HF_TOKEN", "hf_secret")];
    let text = refused(401, "RepoNotFound", &[]);
    assert!(text.contains("does not exist") && text.contains("is private") && text.contains("HF_TOKEN"), "{text}");
    let text = refused(401, "", &token);
    assert!(text.contains("refuses the token") && !text.contains("hf_secret"), "{text}");
    for status in [401, 403] {
        let text = refused(status, "GatedRepo", &[]);
        assert!(text.contains("is gated: accept its terms at") && text.contains("HF_TOKEN"), "{text}");
        let text = refused(status, "GatedRepo", &token);
        assert!(text.contains("your token has no access") && !text.contains("hf_secret"), "{text}");
    }
    assert!(refused(500, "", &[]).contains("failed, status 500"));
    assert!(refused(429, "", &[]).contains("limits the rate"));
    place.hub.state.lock().unwrap().refuse = None;
    assert!(place.failure(&["models", "get", "acme/none"], &[]).contains("there is no acme/none on"));
    let text = place.failure(&["models", "get", "acme/tiny@v9"], &[]);
    assert!(text.contains("has no such revision as revision v9") || text.contains("no revision v9"), "{text}");
    place.hub.trouble("tokenizer.json", Trouble::Gone);
    let text = place.failure(&GET, &[]);
    assert!(text.contains("acme/tiny has no tokenizer.json"), "{text}");
    let usage = place.run(&["models", "get", "../etc"]);
    assert_eq!(usage.status.code(), Some(2));
}

#[test]
fn redirects_are_followed_and_the_token_stays_with_the_hub() {
    let place = Place::new();
    let other = Server::new();
    let files = place.hub.state.lock().unwrap().repos.clone();
    other.state.lock().unwrap().repos = files;
    place.hub.state.lock().unwrap().elsewhere.clone_from(&other.url);
    place.hub.trouble("model.safetensors", Trouble::Elsewhere);
    place.hub.trouble("config.json", Trouble::Relative);
    let done = place.run_with(&GET, &[("HF_TOKEN", "hf_secret")]);
    assert!(done.status.success(), "{}", said(&done.stderr));
    let (here, there) = (place.hub.asked(), other.asked());
    assert!(here.iter().all(|(_, _, token)| token.as_deref() == Some("Bearer hf_secret")), "{here:?}");
    assert!(here.iter().any(|(what, ..)| what.starts_with("GET /moved/acme/tiny")), "{here:?}");
    assert!(!there.is_empty() && there.iter().all(|(_, _, token)| token.is_none()), "{there:?}");
}

#[test]
fn offline_nothing_is_asked_and_what_is_there_is_used() {
    let place = Place::new();
    let offline = [("HF_HUB_OFFLINE", "1")];
    let text = place.failure(&GET, &offline);
    assert!(text.contains("is not in the cache") && text.contains("HF_HUB_OFFLINE is set: unset it"), "{text}");
    assert!(place.run(&GET).status.success());
    place.hub.asked();
    let done = place.run_with(&GET, &offline);
    assert!(done.status.success() && said(&done.stdout).contains(COMMIT), "{}", said(&done.stderr));
    fs::remove_file(place.snapshot().join("model.safetensors")).unwrap();
    let text = place.failure(&GET, &offline);
    assert!(text.contains("not complete") && text.contains("HF_HUB_OFFLINE"), "{text}");
    assert!(place.hub.asked().is_empty());
    let nobody = [("HF_ENDPOINT", "http://127.0.0.1:9")];
    let text = place.failure(&GET, &nobody);
    assert!(text.contains("takes no connection"), "{text}");
}

#[test]
fn hostile_names_never_leave_the_cache() {
    let place = Place::new();
    let index = br#"{"weight_map":{"a":"../../../../evil.safetensors"}}"#;
    place.hub.with(
        "models/acme/evil",
        &[
            ("config.json", b"{}"),
            ("model.safetensors.index.json", index),
            ("../evil", b"x"),
            ("/tmp/evil-tiebreak", b"x"),
        ],
    );
    let text = place.failure(&["models", "get", "acme/evil"], &[]);
    assert!(text.contains("left out files whose names leave the folder"), "{text}");
    assert!(text.contains("would lie outside its folder"), "{text}");
    place.hub.with(
        "datasets/acme/evil",
        &[
            ("README.md", b"---\nconfigs:\n- config_name: default\n  data_files: ../x.jsonl\n---\n"),
            ("../x.jsonl", b"{}"),
        ],
    );
    let text = place.failure(&["data", "get", "acme/evil"], &[]);
    assert!(text.contains("left out 1 file"), "{text}");
    let all = below(place.dir.path());
    assert!(all.iter().all(|name| !name.contains("evil") || name.starts_with("cache/hub/")), "{all:?}");
    assert!(!Path::new("/tmp/evil-tiebreak").exists());
}

#[test]
fn a_dataset_comes_by_configuration_and_split_with_the_command_that_imports_it() {
    let place = Place::new();
    let row = br#"{"prompt":"a","chosen":"b","rejected":"c"}"#;
    let card = b"---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: d/train.jsonl\n  - split: test\n    path: d/test.jsonl\n---\n";
    place.hub.with(
        "datasets/acme/prefs",
        &[("README.md", card), ("d/train.jsonl", row), ("d/test.jsonl", row), ("d/big.bin", b"no")],
    );
    let done = place.run(&["data", "get", "acme/prefs:test"]);
    assert!(done.status.success(), "{}", said(&done.stderr));
    let text = said(&done.stdout);
    let path = place.cache().join("datasets--acme--prefs/snapshots").join(COMMIT).join("d/test.jsonl");
    let command = format!("tiebreak import SESSION {}", path.display());
    assert!(text.lines().any(|line| line.trim() == command), "{text}");
    assert!(!path.with_file_name("train.jsonl").exists());
    assert!(place.run(&["new", "s", "--model", "tiny"]).status.success());
    let imported = place.run(&["import", "s", path.to_str().unwrap()]);
    assert!(imported.status.success() && said(&imported.stdout).contains("1 new pair"), "{}", said(&imported.stdout));
    let train = place.run(&["data", "get", "acme/prefs", "--to", place.dir.path().join("t.jsonl").to_str().unwrap()]);
    assert!(said(&train.stderr).contains("took the split train of train, test"), "{}", said(&train.stderr));
    assert_eq!(fs::read(place.dir.path().join("t.jsonl")).unwrap(), row);
    let none = place.failure(&["data", "get", "acme/prefs:dev"], &[]);
    assert!(none.contains("it has the splits train, test"), "{none}");
    let offline = place.run_with(&["data", "get", "acme/prefs:train"], &[("HF_HUB_OFFLINE", "1")]);
    assert!(offline.status.success(), "{}", said(&offline.stderr));
}

#[test]
fn the_model_of_the_tour_comes_from_the_hub_as_any_other_and_has_its_short_name() {
    let place = Place::new();
    let done = place.run(&["models", "get", "smollm2"]);
    assert!(done.status.success(), "{}", said(&done.stderr));
    let folder = place.cache().join("models--HuggingFaceTB--SmolLM2-135M-Instruct/snapshots").join(COMMIT);
    assert!(said(&done.stdout).contains(&folder.display().to_string()), "{}", said(&done.stdout));
    // The name finds it, without the hub.
    let offline = [("HF_HUB_OFFLINE", "1")];
    let shown = place.run_with(&["models", "show", "smollm2"], &offline);
    assert!(shown.status.success() && said(&shown.stdout).contains("LlamaForCausalLM"), "{}", said(&shown.stderr));
    let again = place.run_with(&["models", "get", "smollm2"], &offline);
    assert!(again.status.success(), "{}", said(&again.stderr));
}
