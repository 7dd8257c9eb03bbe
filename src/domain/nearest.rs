//! The name that was probably meant.

/// The share of the longer name's characters that must be right in a suggestion.
const SIMILAR: f64 = 0.6;

/// The candidate to suggest for `word` in "did you mean": the fewest insertions, deletions, replacements and swaps of
/// neighbours. None where no candidate is similar or begins with `word`.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |candidate: &str| strsim::osa_distance(word, candidate);
    let near = |candidate: &str| {
        let length = word.chars().count().max(candidate.chars().count());
        candidate.starts_with(word) || distance(candidate) as f64 <= (1.0 - SIMILAR) * length as f64
    };
    candidates.into_iter().filter(|candidate| near(candidate)).min_by_key(|candidate| distance(candidate))
}

/// `; did you mean …?` for the end of a sentence; empty where no candidate is near.
#[must_use]
pub fn hint<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, candidates).map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_letters_swapped_are_one_mistake() {
        // By insertions, deletions and replacements alone both are two away, and the first would win.
        assert_eq!(nearest("smaple", ["simple", "sample"]), Some("sample"));
        assert_eq!(nearest("x", []), None);
    }

    #[test]
    fn only_a_similar_name_or_a_longer_one_is_suggested() {
        let commands = ["new", "sample", "train", "temperature"];
        for word in ["nope", "man", "meta-llama/Llama-3.2-1B"] {
            assert_eq!(nearest(word, commands), None, "{word}");
        }
        assert_eq!(nearest("temp", commands), Some("temperature"));
        assert_eq!(nearest("trian", commands), Some("train"));
    }
}
