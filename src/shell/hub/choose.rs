//! Which files of a model's repository are needed.
//!
//! Owns the choice: configuration, tokenizer, template, and one set of weights. Refuses pickled weights by name.

use super::super::error::{Error, Result};
use super::files::few;

/// Small files that are read with a model, or go along when it is merged.
const SMALL: &[&str] = &[
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
    "additional_chat_templates/tool_use.jinja",
    "chat_template.json",
    "LICENSE",
];
const WEIGHTS: &str = "model.safetensors";
/// Names the shards.
pub(super) const INDEX: &str = "model.safetensors.index.json";
const ADAPTER: [&str; 2] = ["adapter_config.json", "adapter_model.safetensors"];

/// The needed files.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ModelChoice {
    /// Their names, weights last.
    pub(super) files: Vec<String>,
    pub(super) weights: WeightsKind,
}

/// What the weights are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WeightsKind {
    /// One file.
    Single,
    /// The shards that the index names, which is among the files.
    Sharded,
    /// A `.gguf` file, the last of the files.
    Gguf,
    /// An adapter.
    Adapter,
}

/// Chooses among a repository's files; `wanted` is a `.gguf` file that the user named.
///
/// # Errors
/// When there is nothing that can be used, or several GGUF files and none was named.
pub(super) fn choose(repo: &str, files: &[String], wanted: Option<&str>) -> Result<ModelChoice> {
    let has = |name: &str| files.iter().any(|file| file == name);
    let gguf: Vec<String> = files.iter().filter(|file| file.to_lowercase().ends_with(".gguf")).cloned().collect();
    if let Some(wanted) = wanted {
        if !has(wanted) {
            let others = if gguf.is_empty() { "no .gguf file".into() } else { few(&gguf) };
            return Err(Error::failed(format!("{repo} has no file {wanted}, but {others}: correct the name")));
        }
        if is_split(wanted) {
            return Err(Error::failed(format!(
                "{wanted} is one part of a split GGUF file, and those are not read: name a file in one part"
            )));
        }
        return Ok(ModelChoice { files: vec![wanted.to_owned()], weights: WeightsKind::Gguf });
    }
    let mut chosen: Vec<String> = SMALL.iter().filter(|name| has(name)).map(|name| (*name).to_owned()).collect();
    if has(WEIGHTS) && has("config.json") {
        chosen.push(WEIGHTS.into());
        return Ok(ModelChoice { files: chosen, weights: WeightsKind::Single });
    }
    if has(INDEX) && has("config.json") {
        chosen.push(INDEX.into());
        return Ok(ModelChoice { files: chosen, weights: WeightsKind::Sharded });
    }
    if ADAPTER.iter().all(|name| has(name)) {
        return Ok(ModelChoice { files: ADAPTER.map(str::to_owned).into(), weights: WeightsKind::Adapter });
    }
    let whole: Vec<String> = gguf.iter().filter(|file| !is_split(file)).cloned().collect();
    match whole.as_slice() {
        [one] => return Ok(ModelChoice { files: vec![one.clone()], weights: WeightsKind::Gguf }),
        [] if gguf.is_empty() => {}
        [] => {
            return Err(Error::failed(format!(
                "{repo} has GGUF files in several parts only ({}), and those are not read: choose another repository",
                few(&gguf)
            )));
        }
        [first, ..] => {
            return Err(Error::failed(format!(
                "{repo} has {} GGUF files: name one, such as `tiebreak models get {repo}/{first}` (there are {})",
                whole.len(),
                few(&whole)
            )));
        }
    }
    let pickled: Vec<String> = files
        .iter()
        .filter(|file| [".bin", ".pt", ".pth", ".ckpt"].iter().any(|end| file.ends_with(end)))
        .cloned()
        .collect();
    Err(Error::failed(if !pickled.is_empty() {
        format!(
            "{repo} has pickled weights only ({}), which are not read: choose a repository or revision with safetensors, or \
             convert them with transformers' save_pretrained",
            few(&pickled)
        )
    } else if files.is_empty() {
        format!("{repo} has no files: correct the name or the revision")
    } else {
        format!("{repo} has no model: expected config.json with {WEIGHTS}, or a .gguf file, but it has {}", few(files))
    }))
}

/// Whether a name is that of a part: `x-00001-of-00003.gguf`.
fn is_split(name: &str) -> bool {
    let stem = name.get(..name.len().saturating_sub(5)).unwrap_or_default();
    stem.rsplit_once("-of-").is_some_and(|(before, count)| {
        let digits = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
        digits(count) && count != "00001" && before.rsplit_once('-').is_some_and(|(_, n)| digits(n))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(files: &[&str], wanted: Option<&str>) -> Result<(Vec<String>, WeightsKind)> {
        let files: Vec<String> = files.iter().map(|file| (*file).to_owned()).collect();
        choose("a/b", &files, wanted).map(|choice| (choice.files, choice.weights))
    }

    #[test]
    fn only_the_needed_files_are_chosen() {
        let all = [
            "README.md",
            "config.json",
            "model.safetensors",
            "onnx/model.onnx",
            "pytorch_model.bin",
            "tokenizer.json",
            "x.gguf",
        ];
        let (files, kind) = of(&all, None).unwrap();
        assert_eq!(
            (files.as_slice(), kind),
            (&["config.json".to_owned(), "tokenizer.json".into(), "model.safetensors".into()][..], WeightsKind::Single)
        );
        assert_eq!(of(&all, Some("x.gguf")).unwrap(), (vec!["x.gguf".into()], WeightsKind::Gguf));
        let sharded = of(&["config.json", INDEX, "model-00001-of-00002.safetensors"], None).unwrap();
        assert_eq!(sharded, (vec!["config.json".into(), INDEX.into()], WeightsKind::Sharded));
        assert_eq!(
            of(&["adapter_config.json", "adapter_model.safetensors", "tokenizer.json"], None).unwrap().0.len(),
            2
        );
        assert_eq!(of(&["a-Q4.gguf"], None).unwrap().1, WeightsKind::Gguf);
    }

    #[test]
    fn what_cannot_be_used_is_refused_by_name() {
        let refusal = |files: &[&str], wanted| of(files, wanted).unwrap_err().to_string();
        assert!(
            refusal(&["config.json", "pytorch_model.bin"], None).contains("pickled weights only (pytorch_model.bin)")
        );
        assert!(refusal(&["a-Q4.gguf", "a-Q8.gguf"], None).contains("models get a/b/a-Q4.gguf"));
        assert!(refusal(&["a.gguf"], Some("b.gguf")).contains("has no file b.gguf, but a.gguf"));
        assert!(refusal(&["a-00001-of-00002.gguf", "a-00002-of-00002.gguf"], None).contains("several parts only"));
        assert!(refusal(&["README.md"], None).contains("has no model"));
    }
}
