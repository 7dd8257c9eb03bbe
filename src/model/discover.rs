//! Finds the models on this machine, and resolves names to them.
//!
//! Owns the search: the Hugging Face cache, plain folders, `.gguf` files. Reads configurations and headers, never weights.
//! A model that cannot be used is listed with the reason, not hidden.

use super::config::Config;
use super::error::Error;
use super::fields::json;
use super::gguf::Gguf;
use super::language_model::LanguageModel;
use super::weights::{check_length, files};
use crate::domain::model_name;
use crate::foreign;
use crate::protocol::{ModelCard, ModelRef, UnfinishedDownload};
use candle_core::{DType, Device};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// How deep a plain folder is searched.
const DEPTH: usize = 4;

/// The user's Hugging Face cache: `HF_HUB_CACHE`, `HUGGINGFACE_HUB_CACHE`, `HF_HOME/hub`, else
/// `~/.cache/huggingface/hub`. None if there is no such folder.
#[must_use]
pub fn hub_cache() -> Option<PathBuf> {
    let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let path = var("HF_HUB_CACHE")
        .or_else(|| var("HUGGINGFACE_HUB_CACHE"))
        .or_else(|| Some(var("HF_HOME")?.join("hub")))
        .or_else(|| Some(var("XDG_CACHE_HOME")?.join("huggingface/hub")))
        .or_else(|| Some(var("HOME")?.join(".cache/huggingface/hub")))?;
    path.is_dir().then_some(path)
}

/// Every model below the roots: a root is a Hugging Face cache, a folder of models, a model's folder or a `.gguf` file. The
/// user's Hugging Face cache is searched too. Sorted by name, without duplicate paths.
#[must_use]
pub fn discover(roots: &[PathBuf]) -> Vec<ModelCard> {
    let mut seen = BTreeSet::new();
    let mut cards = Vec::new();
    for root in roots.iter().cloned().chain(hub_cache()) {
        let mut found = Vec::new();
        search(&root, &root, 0, &mut found);
        for (name, path) in found {
            let real = path.canonicalize().unwrap_or_else(|_| path.clone());
            if seen.insert(real) {
                let mut card = card(name, &path);
                card.problem =
                    unfinished(&path).or_else(|| card.problem.map(|why| with_remedy(why, &card.name, &path)));
                cards.push(card);
            }
        }
    }
    cards.sort_by(|a: &ModelCard, b| a.name.cmp(&b.name).then(a.path.cmp(&b.path)));
    cards
}

/// The card of one folder or file; `problem` says what is wrong with it.
#[must_use]
pub fn inspect(path: &Path) -> ModelCard {
    card(model_name(&path.display().to_string()), path)
}

/// Checks everything about a model except the values of its weights: configuration, tokenizer, chat template, and the
/// names and shapes of its tensors.
///
/// # Errors
/// When it could not be loaded; the message says why.
pub fn check(path: &Path) -> Result<ModelCard, Error> {
    if path.is_dir() && !path.join("config.json").is_file() {
        let why = "is not a model's folder: it has no config.json; name a folder that has one, or a .gguf file";
        return Err(Error::file(path, why));
    }
    let model = LanguageModel::open(path)?;
    let mut weights = model.weights(&Device::Cpu, DType::F32)?.shapes_only();
    let mut layer = None;
    for (name, shape) in model.config.tensors() {
        // A configuration with a huge layer count and no weights stops at its first missing layer.
        let next = name.strip_prefix("model.layers.").and_then(|rest| rest.split('.').next()).map(str::to_owned);
        if next != layer {
            weights.finish()?;
            layer = next;
        }
        weights.take(&name, &shape)?;
    }
    weights.finish()?;
    Ok(inspect(path))
}

/// Resolves a name to a model: an existing path, else the only discovered model with that name, or with that last part of its
/// name.
///
/// # Errors
/// When there is none, or more than one; the message lists near names.
pub fn resolve(name: &str, roots: &[PathBuf]) -> Result<ModelRef, Error> {
    let path = Path::new(name);
    if path.is_dir() || path.is_file() {
        let full = path.canonicalize().map_err(|e| Error::file(path, e))?;
        return Ok(ModelRef { name: name.to_owned(), path: full.display().to_string() });
    }
    let cards = discover(roots);
    let last = |full: &str| full.rsplit('/').next().unwrap_or(full).to_lowercase();
    let mut hits: Vec<&ModelCard> = cards.iter().filter(|c| c.name == name).collect();
    if hits.is_empty() {
        hits = cards
            .iter()
            .filter(|c| c.name.to_lowercase() == name.to_lowercase() || last(&c.name) == name.to_lowercase())
            .collect();
    }
    match hits.as_slice() {
        [one] => Ok(ModelRef { name: one.name.clone(), path: one.path.clone() }),
        [] => Err(Error::NoModel { name: name.to_owned(), hint: hint(name, &cards) }),
        many => {
            let list: Vec<&str> = many.iter().map(|c| c.path.as_str()).collect();
            Err(Error::NoModel {
                name: name.to_owned(),
                hint: format!(" alone: it could be {}; give the path", list.join(" or ")),
            })
        }
    }
}

fn hint(name: &str, cards: &[ModelCard]) -> String {
    if cards.is_empty() {
        return "; there is none at all: `tiebreak models get smollm2` obtains a small one".into();
    }
    let lower = name.to_lowercase();
    let mut near: Vec<&str> =
        cards.iter().map(|c| c.name.as_str()).filter(|n| n.to_lowercase().contains(&lower)).collect();
    if near.is_empty() {
        near.extend(crate::domain::nearest(name, cards.iter().map(|c| c.name.as_str())));
    }
    if near.is_empty() {
        return "; `tiebreak models` lists all".into();
    }
    near.truncate(3);
    format!("; near it: {} (`tiebreak models` lists all)", near.join(", "))
}

fn search(root: &Path, at: &Path, depth: usize, found: &mut Vec<(String, PathBuf)>) {
    let is_gguf = |p: &Path| p.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf"));
    if at.is_file() {
        if is_gguf(at) {
            found.push((name_of(root, at), at.into()));
        }
        return;
    }
    if at.join("config.json").is_file() {
        found.push((name_of(root, at), at.into()));
        return;
    }
    let Ok(entries) = std::fs::read_dir(at) else { return };
    let mut paths: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    paths.sort();
    for path in paths {
        let file = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        if let Some(id) = file.strip_prefix("models--") {
            if let Some(snapshot) = snapshot(&path) {
                hub(&id.replace("--", "/"), &snapshot, found);
            }
        } else if depth < DEPTH && !file.starts_with('.') {
            search(root, &path, depth + 1, found);
        }
    }
}

/// A snapshot of the Hugging Face cache: a model's folder, or GGUF files.
fn hub(id: &str, snapshot: &Path, found: &mut Vec<(String, PathBuf)>) {
    // One that was not downloaded to its end is listed too, with what is missing.
    let is_model =
        ["config.json", "tokenizer.json", "tokenizer.model", "model.safetensors.index.json", "model.safetensors"]
            .into_iter()
            .any(|name| snapshot.join(name).symlink_metadata().is_ok());
    if is_model || unfinished(snapshot).is_some() {
        return found.push((id.to_owned(), snapshot.into()));
    }
    let mut below = Vec::new();
    search(snapshot, snapshot, DEPTH, &mut below);
    found.extend(below.into_iter().map(|(name, path)| (format!("{id}/{name}"), path)));
}

/// What a download that was not finished lacks, by the file that it left beside the snapshots.
fn unfinished(snapshot: &Path) -> Option<String> {
    const NAMED: usize = 3;
    let mark = snapshot.parent()?.parent()?.join(UnfinishedDownload::FILE);
    let mark: UnfinishedDownload = serde_json::from_slice(&foreign::read(&mark, foreign::CONFIG).ok()?).ok()?;
    if snapshot.file_name()?.to_str()? != mark.commit {
        return None;
    }
    let missing: Vec<&str> =
        mark.files.iter().filter(|name| !snapshot.join(name).is_file()).map(String::as_str).collect();
    if missing.is_empty() {
        return None;
    }
    let more = missing.len().saturating_sub(NAMED);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    let named = missing.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    let all = mark.files.len();
    Some(format!(
        "the download was not finished, {} of {all} files are missing ({named}{more}): `{}` gets them",
        missing.len(),
        mark.command
    ))
}

/// The problem of a snapshot that another program left unfinished, with the command that finishes it.
fn with_remedy(why: String, id: &str, snapshot: &Path) -> String {
    let of_hub = snapshot.parent().is_some_and(|all| all.ends_with("snapshots")) && snapshot.is_dir();
    let is_cut = || !snapshot.join("config.json").is_file() || files(snapshot).is_err();
    if !of_hub || snapshot.join("pytorch_model.bin").is_file() || !is_cut() {
        return why;
    }
    format!("{why} (`tiebreak models get {id}` gets what is missing)")
}

/// The snapshot that `refs/main` names, else the last by name.
fn snapshot(repo: &Path) -> Option<PathBuf> {
    let all = repo.join("snapshots");
    if let Ok(revision) = foreign::read_text(&repo.join("refs/main"), foreign::CONFIG) {
        let path = all.join(revision.trim());
        if path.is_dir() {
            return Some(path);
        }
    }
    let mut paths: Vec<PathBuf> = std::fs::read_dir(all).ok()?.filter_map(|e| Some(e.ok()?.path())).collect();
    paths.sort();
    paths.pop()
}

/// The path below its root; only the last part if the root is itself a model.
fn name_of(root: &Path, at: &Path) -> String {
    let at_stem = if at.is_file() { at.with_extension("") } else { at.to_path_buf() };
    match at_stem.strip_prefix(root) {
        Ok(below) if !below.as_os_str().is_empty() => below.to_string_lossy().replace('\\', "/"),
        _ => model_name(&at.display().to_string()),
    }
}

fn card(name: String, path: &Path) -> ModelCard {
    let format = if path.is_dir() { "safetensors" } else { "gguf" };
    let mut card = ModelCard {
        name,
        path: path.display().to_string(),
        format: format.into(),
        family: String::new(),
        parameters: 0,
        bytes: 0,
        context: 0,
        chat: false,
        problem: None,
    };
    let filled = if path.is_dir() { folder(path, &mut card) } else { file(path, &mut card) };
    card.problem = filled.err().map(|e| e.to_string());
    card
}

fn describe(config: &Config, card: &mut ModelCard) {
    card.family = config.family.name().into();
    card.parameters = config.parameters();
    card.context = config.context;
}

fn folder(path: &Path, card: &mut ModelCard) -> Result<(), Error> {
    card.chat = path.join("chat_template.jinja").is_file()
        || json(&path.join("tokenizer_config.json"))?
            .is_some_and(|c| c.get("chat_template").is_some_and(|t| !t.is_null()));
    describe(&Config::read(path)?, card);
    let size = |f: &PathBuf| std::fs::metadata(f).map_or(0, |m| m.len());
    let files = files(path)?;
    card.bytes = files.iter().map(size).sum();
    files.iter().try_for_each(|file| check_length(file))?;
    if !["tokenizer.json", "tokenizer.model"].iter().any(|name| path.join(name).is_file()) {
        return Err(Error::file(path, "has no tokenizer.json; copy it from where the weights came from"));
    }
    Ok(())
}

fn file(path: &Path, card: &mut ModelCard) -> Result<(), Error> {
    card.bytes = std::fs::metadata(path).map_or(0, |m| m.len());
    let gguf = Gguf::open(path)?;
    card.chat = gguf.template().is_some();
    let config = gguf.config()?;
    describe(&config, card);
    gguf.check_tokenizer()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-llama")
    }

    /// A root with a Hugging Face cache entry, a plain folder and a broken file.
    fn root() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let copy = |to: PathBuf| {
            std::fs::create_dir_all(&to).unwrap();
            for f in ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"] {
                std::fs::copy(tiny().join(f), to.join(f)).unwrap();
            }
        };
        let repo = dir.path().join("hub/models--acme--tiny");
        copy(repo.join("snapshots/abc"));
        std::fs::create_dir_all(repo.join("snapshots/zzz")).unwrap();
        std::fs::create_dir_all(repo.join("refs")).unwrap();
        std::fs::write(repo.join("refs/main"), "abc\n").unwrap();
        copy(dir.path().join("mine/small"));
        std::fs::remove_file(dir.path().join("mine/small/tokenizer.json")).unwrap();
        std::fs::write(dir.path().join("mine/bad.gguf"), b"GGUF\x03\0\0\0").unwrap();
        dir
    }

    #[test]
    fn models_are_found_with_what_is_wrong_with_them() {
        let dir = root();
        let cards = discover(&[dir.path().to_path_buf()]);
        let find = |n: &str| cards.iter().find(|c| c.name == n).unwrap_or_else(|| panic!("{n}: {cards:?}"));
        let hub = find("acme/tiny");
        assert!(hub.problem.is_none() && hub.chat && hub.family == "llama" && hub.context == 512);
        let weights =
            candle_core::safetensors::load(tiny().join("model.safetensors"), &candle_core::Device::Cpu).unwrap();
        assert_eq!(hub.parameters, weights.values().map(|t| t.elem_count() as u64).sum::<u64>());
        assert!(find("mine/small").problem.as_ref().unwrap().contains("tokenizer.json"));
        assert!(find("mine/bad").problem.as_ref().unwrap().contains("ends at byte"));
    }

    #[test]
    fn a_model_whose_download_was_not_finished_is_listed_once_with_what_is_missing() {
        let index = r#"{"metadata":{},"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}"#;
        let problem = |change: &dyn Fn(&Path)| {
            let dir = root();
            let snapshot = dir.path().join("hub/models--acme--tiny/snapshots/abc");
            change(&snapshot);
            let cards = discover(&[dir.path().to_path_buf()]);
            let found: Vec<_> = cards.into_iter().filter(|card| card.name.contains("acme")).collect();
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(found[0].name, "acme/tiny");
            found[0].problem.clone().unwrap_or_default()
        };
        let weights = |snapshot: &Path| snapshot.join("model.safetensors");
        let sharded = problem(&|snapshot| {
            std::fs::rename(weights(snapshot), snapshot.join("model-00002-of-00002.safetensors")).unwrap();
            std::fs::write(snapshot.join("model.safetensors.index.json"), index).unwrap();
        });
        assert!(
            sharded.contains("the shard model-00001-of-00002.safetensors is missing: the download was not finished"),
            "{sharded}"
        );
        let none = problem(&|snapshot| std::fs::remove_file(weights(snapshot)).unwrap());
        assert!(none.contains("the download was not finished"), "{none}");
        let cut = problem(&|snapshot| {
            let bytes = std::fs::read(weights(snapshot)).unwrap();
            std::fs::write(weights(snapshot), &bytes[..bytes.len() / 2]).unwrap();
        });
        assert!(cut.contains("is cut off"), "{cut}");
        let page = problem(&|snapshot| std::fs::write(weights(snapshot), "<!DOCTYPE html><html>").unwrap());
        assert!(page.contains("not safetensors"), "{page}");
        let link = problem(&|snapshot| {
            std::fs::remove_file(weights(snapshot)).unwrap();
            std::os::unix::fs::symlink("../../blobs/none", weights(snapshot)).unwrap();
        });
        assert!(link.contains("the download was not finished"), "{link}");
        let config = problem(&|snapshot| std::fs::remove_file(snapshot.join("config.json")).unwrap());
        assert!(config.contains("config.json"), "{config}");
        assert_eq!(problem(&|_| {}), "");
    }

    #[test]
    fn names_are_resolved_and_near_ones_offered() {
        let dir = root();
        let roots = [dir.path().to_path_buf()];
        assert!(resolve("acme/tiny", &roots).unwrap().path.ends_with("snapshots/abc"));
        assert_eq!(resolve("Tiny", &roots).unwrap().name, "acme/tiny");
        assert!(resolve(&tiny().display().to_string(), &roots).is_ok());
        let message = resolve("acme/tine", &roots).unwrap_err().to_string();
        assert!(message.contains("near it: acme/tiny"), "{message}");
    }
}
