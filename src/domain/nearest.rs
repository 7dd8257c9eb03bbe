//! The name that was probably meant.

/// The candidate nearest to `word` for "did you mean": the fewest insertions, deletions, replacements and swaps of neighbours.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates.into_iter().min_by_key(|candidate| strsim::osa_distance(word, candidate))
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
}
