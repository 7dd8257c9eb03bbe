//! Words as `word_tokenize` of NLTK splits them: sentences first, then the rules of the Penn Treebank.

use super::sentences::sentences;
use super::text;
use regex::Regex;
use std::sync::LazyLock;

/// Patterns and what they are replaced by, in order. `$` is the end of a sentence.
const RULES: &[(&str, &str)] = &[
    // Opening quotes.
    ("([«“‘„]|[`]+)", " ${1} "),
    ("^\"", "``"),
    ("(``)", " ${1} "),
    (r#"([ (\[{<])("|'{2})"#, "${1} `` "),
    (r"(?i)(')([\w--[mtsdn]])\b", "${1} ${2}"),
    // Punctuation.
    (r#"([^.])(\.)([\])}>"'»”’ ]*)\s*$"#, "${1} ${2} ${3} "),
    (r"([:,])([^\d])", " ${1} ${2}"),
    ("([:,])$", " ${1} "),
    (r"\.{2,}", " ${0} "),
    ("[;@#$%&]", " ${0} "),
    (r#"([^.])(\.)([\])}>"']*)\s*$"#, "${1} ${2}${3} "),
    ("[?!]", " ${0} "),
    ("([^'])' ", "${1} ' "),
    ("[*]", " ${0} "),
    (r"[\]\[(){}<>]", " ${0} "),
    ("--", " -- "),
    // A space at both ends, for what follows.
    (r"(?s)\A.*\z", " ${0} "),
    // Closing quotes and contractions.
    ("([»”’])", " ${1} "),
    ("''", " '' "),
    ("\"", " '' "),
    (r"\s+", " "),
    ("([^' ])('[sS]|'[mM]|'[dD]|') ", "${1} ${2} "),
    ("([^' ])('ll|'LL|'re|'RE|'ve|'VE|n't|N'T) ", "${1} ${2} "),
    (r"(?i)\b(can)(not)\b", " ${1} ${2} "),
    (r"(?i)\b(d)('ye)\b", " ${1} ${2} "),
    (r"(?i)\b(gim)(me)\b", " ${1} ${2} "),
    (r"(?i)\b(gon)(na)\b", " ${1} ${2} "),
    (r"(?i)\b(got)(ta)\b", " ${1} ${2} "),
    (r"(?i)\b(lem)(me)\b", " ${1} ${2} "),
    (r"(?i)\b(more)('n)\b", " ${1} ${2} "),
    (r"(?i)\b(wan)(na)(\s)", " ${1} ${2} ${3}"),
    (r"(?i) ('t)(is)\b", " ${1} ${2} "),
    (r"(?i) ('t)(was)\b", " ${1} ${2} "),
];

static COMPILED: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "literals that a test compiles")]
    RULES.iter().map(|(pattern, by)| (Regex::new(pattern).expect("the pattern is valid"), *by)).collect()
});

/// The words of a text.
pub(super) fn tokens(text: &str) -> Vec<String> {
    sentences(text).into_iter().flat_map(split).collect()
}

fn split(sentence: &str) -> Vec<String> {
    let mut out = sentence.to_owned();
    for (pattern, by) in COMPILED.iter() {
        if pattern.is_match(&out) {
            out = pattern.replace_all(&out, *by).into_owned();
        }
    }
    out.split(text::is_space).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_nltk() {
        let text = "Good muffins cost $3.88 (roughly 3,36 euros)\nin New York.  Please buy me\ntwo of them.\nThanks.";
        let want = "Good muffins cost $ 3.88 ( roughly 3,36 euros ) in New York . Please buy me two of them . Thanks .";
        assert_eq!(tokens(text).join(" "), want);
    }

    #[test]
    fn contractions_are_two_words() {
        assert_eq!(tokens("I CAN'T, I'M SURE; you cannot.").join(" "), "I CA N'T , I 'M SURE ; you can not .");
        assert_eq!(tokens("\"GO!\" he said -- IT'S ME").join(" "), "`` GO ! '' he said -- IT 'S ME");
        assert_eq!(tokens("WELL-KNOWN U.S. NASA").join(" "), "WELL-KNOWN U.S. NASA");
        assert!(tokens("").is_empty());
    }
}
