//! A dataset's card: the configurations that the head of README.md declares.

use super::super::error::{Error, Result};
use saphyr::{LoadableYamlNode, Yaml};

/// A configuration of a dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CardConfig {
    pub(super) name: String,
    /// Whether it is meant where none is named.
    pub(super) default: bool,
    /// The folder that its files are looked for in.
    pub(super) dir: Option<String>,
    /// Splits with their patterns of files; empty: they are found out from the names.
    pub(super) files: Vec<(String, Vec<String>)>,
}

/// The configurations of a card; none where it declares none.
///
/// # Errors
/// When its head is not YAML, with the line.
pub(super) fn configs(repo: &str, readme: &str) -> Result<Vec<CardConfig>> {
    let readme = readme.trim_start_matches('\u{feff}').replace("\r\n", "\n");
    let Some(head) = readme.strip_prefix("---\n").and_then(|rest| rest.split("\n---").next()) else {
        return Ok(Vec::new());
    };
    let wrong = |why: String| Error::failed(format!("the data card of {repo} {why}: name its files' folder by hand"));
    let pages = Yaml::load_from_str(head).map_err(|e| wrong(format!("is not YAML ({e})")))?;
    let Some(all) = pages.first().and_then(|page| page.as_mapping_get("configs")?.as_vec()) else {
        return Ok(Vec::new());
    };
    all.iter()
        .map(|config| {
            let name = text(config.as_mapping_get("config_name")).unwrap_or_else(|| "default".into());
            let files = match config.as_mapping_get("data_files") {
                None => Some(Vec::new()),
                Some(value) => splits(value),
            };
            Ok(CardConfig {
                default: config.as_mapping_get("default").and_then(Yaml::as_bool).unwrap_or(name == "default"),
                dir: text(config.as_mapping_get("data_dir")),
                files: files.ok_or_else(|| wrong(format!("has data_files of an unknown form in {name}")))?,
                name,
            })
        })
        .collect()
}

/// A scalar's text: names of splits and configurations may look like numbers.
fn text(value: Option<&Yaml<'_>>) -> Option<String> {
    let value = value?;
    let number = value.as_integer().map(|n| n.to_string());
    value.as_str().map(str::to_owned).or(number)
}

fn patterns(value: &Yaml<'_>) -> Option<Vec<String>> {
    match value.as_vec() {
        Some(all) => all.iter().map(|one| text(Some(one))).collect(),
        None => Some(vec![text(Some(value))?]),
    }
}

/// `data_files`: a pattern, a list of patterns, a map from splits to patterns, or a list of `split` with `path`.
fn splits(value: &Yaml<'_>) -> Option<Vec<(String, Vec<String>)>> {
    if let Some(all) = value.as_vec().filter(|all| all.first().is_some_and(|one| one.contains_mapping_key("path"))) {
        return all
            .iter()
            .map(|one| {
                let split = text(one.as_mapping_get("split")).unwrap_or_else(|| "train".into());
                Some((split, patterns(one.as_mapping_get("path")?)?))
            })
            .collect();
    }
    if let Some(map) = value.as_mapping() {
        return map.iter().map(|(split, files)| Some((text(Some(split))?, patterns(files)?))).collect();
    }
    Some(vec![("train".into(), patterns(value)?)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_data_files_are_read() {
        let card = "---\nlicense: mit\nconfigs:\n- config_name: en\n  default: true\n  data_files:\n  - split: train\n    path: en/train-*\n  - split: test\n    path:\n    - en/a.jsonl\n    - en/b.jsonl\n- config_name: 2024\n  data_dir: old\n- config_name: plain\n  data_files: x.csv\n- config_name: map\n  data_files:\n    dev: d/*.parquet\n---\n# Text\n";
        let found = configs("a/b", card).unwrap();
        assert_eq!(
            found[0].files,
            [
                ("train".to_owned(), vec!["en/train-*".to_owned()]),
                ("test".to_owned(), vec!["en/a.jsonl".to_owned(), "en/b.jsonl".to_owned()])
            ]
        );
        assert!(found[0].default && !found[1].default);
        assert_eq!((found[1].name.as_str(), found[1].dir.as_deref()), ("2024", Some("old")));
        assert_eq!(found[2].files, [("train".to_owned(), vec!["x.csv".to_owned()])]);
        assert_eq!(found[3].files, [("dev".to_owned(), vec!["d/*.parquet".to_owned()])]);
        assert!(configs("a/b", "# no head").unwrap().is_empty());
        assert!(configs("a/b", "---\na: [\n---\n").unwrap_err().to_string().contains("is not YAML"));
    }
}
