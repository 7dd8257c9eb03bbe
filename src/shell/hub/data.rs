//! `data get ORG/NAME[:CONFIG][:SPLIT]`: a dataset's files of one configuration and one split.
//!
//! Owns the choice: by the data card, else by names as Python's `datasets` finds splits, else from the hub's own conversion to
//! Parquet. What is not named is chosen by rule, and said.

use super::super::error::{Error, Result};
use super::super::out;
use super::card::{CardConfig, configs};
use super::client::{HubClient, HubListing};
use super::fault::HubFault;
use super::files::{few, is_safe};
use super::model::{cached_commit, names_in, safe};
use super::name::{HubName, MAIN};
use super::place::HubPlace;
use super::repo::HubRepo;
use super::snapshot::fetch;
use globset::GlobBuilder;
use hf_hub::RepoType;
use std::path::PathBuf;

const README: &str = "README.md";
/// Where the hub keeps its own conversion of a dataset: `CONFIG/SPLIT/0000.parquet`.
const CONVERTED: &str = "refs/convert/parquet";
/// Endings of files that `import` reads.
const READ: &[&str] = &[".parquet", ".jsonl", ".json", ".csv", ".tsv", ".ndjson"];
/// What may stand behind such an ending.
const PACKED: &[&str] = &[".gz", ".zst", ""];
/// Files of a repository that hold no rows.
const NO_DATA: &[&str] = &["dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "config.json"];
/// The words that mark a split in a file's name or its folder's.
const SPLITS: &[(&str, &[&str])] = &[
    ("train", &["train", "training"]),
    ("validation", &["validation", "valid", "dev", "val"]),
    ("test", &["test", "testing", "eval", "evaluation"]),
];

/// What `data get` brought.
#[derive(Debug)]
pub struct DataFiles {
    /// The files, in their order.
    pub paths: Vec<PathBuf>,
    /// The configuration.
    pub config: String,
    /// The split.
    pub split: String,
    /// The commit.
    pub commit: String,
    /// How many files were downloaded now.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// The files of a configuration and a split.
#[derive(Debug, PartialEq, Eq)]
struct DataChoice {
    config: String,
    split: String,
    files: Vec<String>,
    /// What was chosen without being named.
    notes: Vec<String>,
}

/// Downloads what is missing of a dataset.
///
/// # Errors
/// When it cannot be had whole, in one sentence with the remedy.
pub fn get(name: &HubName) -> Result<DataFiles> {
    let place = HubPlace::from_env()?;
    let repo = name.at(RepoType::Dataset);
    let client = HubClient::new(&place);
    let again = format!("tiebreak data get {}", name.spelled());
    if place.offline {
        let why = "and HF_HUB_OFFLINE is set: unset it and run the same command again";
        return cached(&place, &repo, name)?
            .ok_or_else(|| Error::failed(format!("{} is not in the cache, {why}", name.spelled())));
    }
    let HubListing { commit, files } = match client.list(&repo) {
        Ok(listing) => listing,
        Err(HubFault::Unreachable(why)) => {
            let Some(found) = cached(&place, &repo, name)? else { return Err(Error::failed(why)) };
            out::note(&format!("{why}; taking commit {} from the cache", found.commit));
            return Ok(found);
        }
        Err(fault) => return Err(fault.into()),
    };
    let files = safe(&name.repo, files);
    let mut card = Vec::new();
    let (mut first, mut bytes) = (0, 0);
    if files.iter().any(|file| file == README) {
        let done = fetch(&client, &repo, &commit, &[README.to_owned()], &again)?;
        let path = done.folder.join(README);
        let text = crate::foreign::read(&path, crate::foreign::CONFIG).map_err(|e| Error::io("read", &path, e))?;
        card = configs(&name.repo, &String::from_utf8_lossy(&text))?;
        (first, bytes) = (done.files, done.bytes);
    }
    if !files.iter().any(|file| is_data(file)) && name.revision == MAIN {
        return converted(&client, &repo, name, &files, &again);
    }
    let choice = choose(name, &files, &card)?;
    choice.notes.iter().for_each(|note| out::note(note));
    let done = fetch(&client, &repo, &commit, &choice.files, &again)?;
    let paths = choice.files.iter().map(|file| done.folder.join(file)).collect();
    let DataChoice { config, split, .. } = choice;
    Ok(DataFiles { paths, config, split, commit, files: done.files + first, bytes: done.bytes + bytes })
}

/// The hub's own conversion of a dataset whose files `import` does not read.
fn converted(client: &HubClient<'_>, repo: &HubRepo, name: &HubName, own: &[String], again: &str) -> Result<DataFiles> {
    let nothing = || {
        let has = if own.is_empty() { "no files".into() } else { few(own) };
        Error::failed(format!(
            "{} has no Parquet, JSON or CSV files, and the hub has no conversion of it to Parquet: it has {has}",
            name.repo
        ))
    };
    let repo = HubRepo { revision: CONVERTED.into(), ..repo.clone() };
    let listing = match client.list(&repo) {
        Ok(listing) => listing,
        Err(HubFault::Missing(_)) => return Err(nothing()),
        Err(fault) => return Err(fault.into()),
    };
    let files: Vec<String> = safe(&name.repo, listing.files).into_iter().filter(|file| is_data(file)).collect();
    let mut card: Vec<CardConfig> = Vec::new();
    for file in &files {
        let parts: Vec<&str> = file.split('/').collect();
        let [config, split, _] = parts.as_slice() else { continue };
        let at = card.iter().position(|known| known.name == *config).unwrap_or_else(|| {
            let new = CardConfig { name: (*config).into(), default: false, dir: None, files: Vec::new() };
            card.push(new);
            card.len() - 1
        });
        if !card[at].files.iter().any(|(known, _)| known == split) {
            card[at].files.push(((*split).into(), vec![format!("{config}/{split}/*")]));
        }
    }
    if card.is_empty() {
        return Err(nothing());
    }
    let choice = choose(name, &files, &card)?;
    out::note(&format!("{} has no files that can be imported: taking the hub's conversion to Parquet", name.repo));
    choice.notes.iter().for_each(|note| out::note(note));
    let done = fetch(client, &repo, &listing.commit, &choice.files, again)?;
    let paths = choice.files.iter().map(|file| done.folder.join(file)).collect();
    let DataChoice { config, split, .. } = choice;
    Ok(DataFiles { paths, config, split, commit: listing.commit, files: done.files, bytes: done.bytes })
}

/// A dataset in the cache, if what was named is there.
fn cached(place: &HubPlace, repo: &HubRepo, name: &HubName) -> Result<Option<DataFiles>> {
    let converted = HubRepo { revision: CONVERTED.into(), ..repo.clone() };
    for repo in [repo, &converted] {
        let Some((commit, folder)) = cached_commit(place, repo) else { continue };
        let unfinished = repo.folder(place).join(crate::protocol::UnfinishedDownload::FILE);
        if unfinished.exists() {
            return Ok(None);
        }
        let files = names_in(&folder);
        let card = crate::foreign::read(&folder.join(README), crate::foreign::CONFIG).unwrap_or_default();
        let card = configs(&name.repo, &String::from_utf8_lossy(&card))?;
        if let Ok(choice) = choose(name, &files, &card) {
            choice.notes.iter().for_each(|note| out::note(note));
            let paths = choice.files.iter().map(|file| folder.join(file)).collect();
            let DataChoice { config, split, .. } = choice;
            return Ok(Some(DataFiles { paths, config, split, commit, files: 0, bytes: 0 }));
        }
    }
    Ok(None)
}

/// Whether `import` may read a file.
fn is_data(name: &str) -> bool {
    let lower = name.to_lowercase();
    let last = lower.rsplit('/').next().unwrap_or(&lower);
    let hidden = lower.split('/').any(|part| part.starts_with(['.', '_']));
    let read = PACKED
        .iter()
        .any(|packed| lower.strip_suffix(packed).is_some_and(|stem| READ.iter().any(|ending| stem.ends_with(ending))));
    read && !hidden && !NO_DATA.contains(&last)
}

/// The configurations and splits of a dataset, with their files.
fn choose(name: &HubName, files: &[String], card: &[CardConfig]) -> Result<DataChoice> {
    let implicit = [CardConfig { name: "default".into(), default: true, dir: None, files: Vec::new() }];
    let card = if card.is_empty() { &implicit[..] } else { card };
    let repo = &name.repo;
    let names: Vec<String> = card.iter().map(|config| config.name.clone()).collect();
    let mut notes = Vec::new();
    let by_name = |wanted: &str| card.iter().find(|config| config.name == wanted);
    let usual = || card.iter().find(|config| config.default).or(if let [one] = card { Some(one) } else { None });
    let several =
        || Error::failed(format!("{repo} has the configurations {}: name one, as in {repo}:{}", few(&names), names[0]));
    let (config, split) = match name.parts.as_slice() {
        [] => (usual().ok_or_else(several)?, None),
        [one] => match by_name(one) {
            Some(config) => (config, None),
            None => (usual().ok_or_else(several)?, Some(one)),
        },
        [config, split, ..] => {
            let found = by_name(config).ok_or_else(|| {
                Error::failed(format!("{repo} has no configuration {config}, but {}: correct the name", few(&names)))
            })?;
            (found, Some(split))
        }
    };
    if card.len() > 1 && !name.parts.contains(&config.name) {
        notes.push(format!("{repo}: took the configuration {} of {}", config.name, few(&names)));
    }
    let splits = splits_of(repo, config, files)?;
    let known: Vec<String> = splits.iter().map(|(split, _)| split.clone()).collect();
    if splits.is_empty() {
        return Err(Error::failed(format!(
            "{repo} has no files of the configuration {} that can be imported",
            config.name
        )));
    }
    let (split, files) = if let Some(wanted) = split {
        splits.into_iter().find(|(split, _)| split == wanted).ok_or_else(|| {
            let configs =
                if card.len() > 1 { format!(" and the configurations {}", few(&names)) } else { String::new() };
            Error::failed(format!(
                "{repo} has no split {wanted} in the configuration {}: it has the splits {}{configs}",
                config.name,
                few(&known)
            ))
        })?
    } else {
        let at = known.iter().position(|split| split == "train").unwrap_or(0);
        if known.len() > 1 {
            notes.push(format!("{repo}: took the split {} of {}", known[at], few(&known)));
        }
        splits.into_iter().nth(at).unwrap_or_default()
    };
    Ok(DataChoice { config: config.name.clone(), split, files, notes })
}

/// The splits of a configuration with their files, in order.
fn splits_of(repo: &str, config: &CardConfig, files: &[String]) -> Result<Vec<(String, Vec<String>)>> {
    let dir = config.dir.as_deref().map(|dir| format!("{}/", dir.trim_start_matches("./").trim_matches('/')));
    let below = |file: &&String| dir.as_ref().is_none_or(|dir| dir == "/" || file.starts_with(dir.as_str()));
    let data: Vec<&String> = files.iter().filter(|file| is_data(file) && is_safe(file)).filter(below).collect();
    if config.files.is_empty() {
        return Ok(guessed(&data, dir.as_deref().unwrap_or_default()));
    }
    let mut out = Vec::new();
    for (split, patterns) in &config.files {
        let mut found: Vec<String> = Vec::new();
        for pattern in patterns {
            let pattern = pattern.trim_start_matches("./");
            let pattern = match &dir {
                Some(dir) if dir != "/" && !pattern.starts_with(dir.as_str()) => format!("{dir}{pattern}"),
                _ => pattern.to_owned(),
            };
            let glob = GlobBuilder::new(&pattern)
                .literal_separator(true)
                .build()
                .map_err(|e| Error::failed(format!("the data card of {repo} has an invalid pattern of files ({e})")))?;
            let matcher = glob.compile_matcher();
            for file in data.iter().filter(|file| matcher.is_match(file.as_str())) {
                if !found.contains(file) {
                    found.push((*file).clone());
                }
            }
        }
        if !found.is_empty() {
            out.push((split.clone(), found));
        }
    }
    Ok(out)
}

/// The splits by names: `data/SPLIT-00000-of-00001.parquet`, else words in folders, else words in files' names, else all is train.
fn guessed(data: &[&String], dir: &str) -> Vec<(String, Vec<String>)> {
    let rest = |file: &str| file.strip_prefix(dir).unwrap_or(file).to_owned();
    let mut sharded: Vec<(String, Vec<String>)> = Vec::new();
    for file in data {
        let path = rest(file);
        let split = path.strip_prefix("data/").filter(|name| !name.contains('/')).and_then(|name| {
            let (before, of) = name.split_once("-of-")?;
            let (split, number) = before.rsplit_once('-')?;
            let digits = |text: &str| text.len() >= 5 && text.bytes().take(5).all(|b| b.is_ascii_digit());
            (digits(number) && digits(of)).then(|| split.to_owned())
        });
        if let Some(split) = split {
            match sharded.iter_mut().find(|(known, _)| *known == split) {
                Some((_, files)) => files.push((*file).clone()),
                None => sharded.push((split, vec![(*file).clone()])),
            }
        }
    }
    if !sharded.is_empty() {
        let order = |split: &str| SPLITS.iter().position(|(name, _)| *name == split).unwrap_or(SPLITS.len());
        sharded.sort_by(|(a, _), (b, _)| order(a).cmp(&order(b)).then(a.cmp(b)));
        return sharded;
    }
    let has_word = |text: &str, words: &[&str]| {
        text.to_lowercase().split(|c: char| !c.is_alphabetic()).any(|word| words.contains(&word))
    };
    for in_folder in [true, false] {
        let part = |file: &str| {
            let path = rest(file);
            let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
            if in_folder { folder.to_owned() } else { name.to_owned() }
        };
        let found: Vec<(String, Vec<String>)> = SPLITS
            .iter()
            .map(|(split, words)| {
                let files = data.iter().filter(|file| has_word(&part(file), words));
                ((*split).to_owned(), files.map(|file| (*file).clone()).collect::<Vec<_>>())
            })
            .filter(|(_, files)| !files.is_empty())
            .collect();
        if !found.is_empty() {
            return found;
        }
    }
    match data {
        [] => Vec::new(),
        all => vec![("train".into(), all.iter().map(|file| (*file).clone()).collect())],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, files: &[&str], card: &str) -> Result<DataChoice> {
        let files: Vec<String> = files.iter().map(|file| (*file).to_owned()).collect();
        choose(&HubName::data(name).unwrap(), &files, &configs("a/b", card).unwrap())
    }

    #[test]
    fn splits_are_found_by_names() {
        let sharded = [
            "README.md",
            "data/test-00000-of-00001.parquet",
            "data/train-00000-of-00002.parquet",
            "data/train-00001-of-00002.parquet",
            "data/extra.txt",
        ];
        let train = of("a/b", &sharded, "").unwrap();
        assert_eq!((train.split.as_str(), train.files.len()), ("train", 2));
        assert_eq!(train.notes, ["a/b: took the split train of train, test"]);
        assert_eq!(of("a/b:test", &sharded, "").unwrap().files, ["data/test-00000-of-00001.parquet"]);
        let words = ["dev.jsonl", "train.jsonl.gz", "dataset_infos.json", ".hidden.json"];
        assert_eq!(of("a/b:validation", &words, "").unwrap().files, ["dev.jsonl"]);
        assert_eq!(of("a/b:train", &words, "").unwrap().files, ["train.jsonl.gz"]);
        assert_eq!(of("a/b", &["test/x.csv"], "").unwrap().split, "test");
        let plain = of("a/b", &["prefs.json"], "").unwrap();
        assert_eq!((plain.split.as_str(), plain.notes.len()), ("train", 0));
        let none = of("a/b:dev", &sharded, "").unwrap_err().to_string();
        assert!(none.contains("has the splits train, test"), "{none}");
    }

    #[test]
    fn a_card_decides_about_configurations() {
        let card = "---\nconfigs:\n- config_name: en\n  data_files:\n  - split: train\n    path: en/*.parquet\n- config_name: de\n  data_dir: de\n---\n";
        let files = ["en/1.parquet", "en/sub/2.parquet", "de/train.csv", "de/test.csv"];
        let several = of("a/b", &files, card).unwrap_err().to_string();
        assert!(several.contains("configurations en, de: name one, as in a/b:en"), "{several}");
        assert_eq!(of("a/b:en", &files, card).unwrap().files, ["en/1.parquet"]);
        let test = of("a/b:de:test", &files, card).unwrap();
        assert_eq!((test.config.as_str(), test.files.as_slice()), ("de", &["de/test.csv".to_owned()][..]));
        assert!(of("a/b:fr:test", &files, card).unwrap_err().to_string().contains("no configuration fr, but en, de"));
    }
}
