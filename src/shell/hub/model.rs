//! `models get ORG/NAME`: a model's files in the cache.

use super::super::error::{Error, Result};
use super::super::out;
use super::choose::{INDEX, ModelChoice, WeightsKind, choose};
use super::client::{HubClient, HubListing, is_commit};
use super::fault::HubFault;
use super::files::{few, is_safe};
use super::name::HubName;
use super::place::HubPlace;
use super::repo::HubRepo;
use super::snapshot::{fetch, lacking, lacks};
use crate::domain::counted;
use hf_hub::RepoType;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What `models get` brought.
#[derive(Debug)]
pub struct ModelFiles {
    /// The model's folder, or its `.gguf` file.
    pub path: PathBuf,
    /// The commit.
    pub commit: String,
    /// How many files were downloaded now.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Whether it is an adapter.
    pub adapter: bool,
}

/// Downloads what is missing of a model.
///
/// # Errors
/// When it cannot be had whole, in one sentence with the remedy.
pub fn get(name: &HubName) -> Result<ModelFiles> {
    Ok(get_or_fault(name)?)
}

/// As [`get`]; the inner error says why the hub does not have it now, so that it may come from elsewhere.
///
/// # Errors
/// Any other.
pub fn get_if_there(name: &HubName) -> Result<Result<ModelFiles, String>> {
    match get_or_fault(name) {
        Ok(found) => Ok(Ok(found)),
        Err(HubFault::Unreachable(why) | HubFault::Passing(why) | HubFault::Missing(why)) => Ok(Err(why)),
        Err(HubFault::Failed(error)) => Err(error),
    }
}

/// A model that lies whole in the cache: its folder or file.
#[must_use]
pub fn in_cache(name: &HubName) -> Option<PathBuf> {
    let place = HubPlace::from_env().ok()?;
    Some(cached(&place, &name.at(RepoType::Model), name).ok()?.ok()?.path)
}

fn get_or_fault(name: &HubName) -> Result<ModelFiles, HubFault> {
    let place = HubPlace::from_env()?;
    let repo = name.at(RepoType::Model);
    if place.offline {
        let offline = |why| format!("{why}, and HF_HUB_OFFLINE is set: unset it and run `{}` again", command(name));
        return cached(&place, &repo, name)?.map_err(|why| Error::failed(offline(why)).into());
    }
    let client = HubClient::new(&place);
    let HubListing { commit, files } = match client.list(&repo) {
        Ok(listing) => listing,
        Err(HubFault::Unreachable(why)) => {
            let Ok(found) = cached(&place, &repo, name)? else { return Err(HubFault::Unreachable(why)) };
            out::note(&format!("{why}; taking commit {} from the cache", found.commit));
            return Ok(found);
        }
        Err(fault) => return Err(fault),
    };
    let files = safe(&name.repo, files);
    let ModelChoice { files, weights } = choose(&name.repo, &files, name.file.as_deref())?;
    let again = command(name);
    let mut done = fetch(&client, &repo, &commit, &files, &again)?;
    if weights == WeightsKind::Sharded {
        let mut all = files.clone();
        all.extend(shards(&done.folder.join(INDEX))?);
        let more = fetch(&client, &repo, &commit, &all, &again)?;
        done.files += more.files;
        done.bytes += more.bytes;
    }
    Ok(ModelFiles {
        path: place_of(&done.folder, weights, &files),
        commit,
        files: done.files,
        bytes: done.bytes,
        adapter: weights == WeightsKind::Adapter,
    })
}

fn command(name: &HubName) -> String {
    format!("tiebreak models get {}", name.spelled())
}

fn place_of(folder: &Path, weights: WeightsKind, files: &[String]) -> PathBuf {
    match files.last().filter(|_| weights == WeightsKind::Gguf) {
        Some(file) => folder.join(file),
        None => folder.to_owned(),
    }
}

/// The names that stay in their folder; the others are said.
pub(super) fn safe(repo: &str, files: Vec<String>) -> Vec<String> {
    let (good, bad): (Vec<_>, Vec<_>) = files.into_iter().partition(|name| is_safe(name));
    if !bad.is_empty() {
        let left = if bad.len() == 1 { "1 file whose name leaves" } else { "files whose names leave" };
        let bad: Vec<String> = bad.iter().map(|name| format!("{name:?}")).collect();
        out::note(&format!("{repo}: left out {left} the folder ({})", few(&bad)));
    }
    good
}

#[derive(Deserialize)]
struct WeightIndex {
    weight_map: BTreeMap<String, String>,
}

/// The shards that an index names.
fn shards(index: &Path) -> Result<Vec<String>> {
    let text = crate::foreign::read(index, crate::foreign::DOCUMENT).map_err(|e| Error::io("read", index, e))?;
    let parsed: WeightIndex = serde_json::from_slice(&text)
        .map_err(|e| Error::failed(format!("{} is not a weight index ({e}): get another revision", index.display())))?;
    let mut names: Vec<String> = parsed.weight_map.into_values().collect();
    names.sort();
    names.dedup();
    Ok(names)
}

/// The commit of a revision in the cache, and its folder.
pub(super) fn cached_commit(place: &HubPlace, repo: &HubRepo) -> Option<(String, PathBuf)> {
    let folder = repo.folder(place);
    let commit = if is_commit(&repo.revision) {
        repo.revision.clone()
    } else {
        crate::foreign::read_text(&folder.join("refs").join(&repo.revision), crate::foreign::CONFIG)
            .ok()?
            .trim()
            .to_owned()
    };
    let snapshot = repo.cached(place).pointer_path(&commit);
    (is_commit(&commit) && snapshot.is_dir()).then_some((commit, snapshot))
}

/// Names of the files of a snapshot.
pub(super) fn names_in(folder: &Path) -> Vec<String> {
    fn walk(dir: &Path, before: &str, out: &mut Vec<String>) {
        let Ok(entries) = std::fs::read_dir(dir) else { return };
        for entry in entries.flatten() {
            let name = format!("{before}{}", entry.file_name().to_string_lossy());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                walk(&entry.path(), &format!("{name}/"), out);
            } else if entry.path().is_file() {
                out.push(name);
            }
        }
    }
    let mut out = Vec::new();
    walk(folder, "", &mut out);
    out.sort();
    out
}

/// A complete model in the cache, or the reason why there is none.
fn cached(place: &HubPlace, repo: &HubRepo, name: &HubName) -> Result<Result<ModelFiles, String>> {
    let Some((commit, folder)) = cached_commit(place, repo) else {
        return Ok(Err(format!("the model {} is not in the cache", repo.id)));
    };
    let Ok(mut needed) = choose(&name.repo, &names_in(&folder), name.file.as_deref()) else {
        return Ok(Err(lacks(repo, &["its weights".to_owned()])));
    };
    let path = place_of(&folder, needed.weights, &needed.files);
    if needed.weights == WeightsKind::Sharded {
        needed.files.extend(shards(&folder.join(INDEX))?);
    }
    let missing = lacking(&folder, &needed.files);
    if !missing.is_empty() {
        return Ok(Err(format!("{} ({})", lacks(repo, &missing), counted(missing.len(), "file"))));
    }
    Ok(Ok(ModelFiles { path, commit, files: 0, bytes: 0, adapter: needed.weights == WeightsKind::Adapter }))
}
