//! Text as Python sees it: white space and case.

/// White space of Python's `str`, which counts the information separators too.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// `str.strip()`.
pub(super) fn trim(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// `str.isupper()`: a cased character, and none in lower case.
pub(super) fn is_upper(text: &str) -> bool {
    text.chars().any(char::is_uppercase) && !text.chars().any(|c| c.is_lowercase() || is_title(c))
}

/// `str.islower()`: a cased character, and none in upper case.
pub(super) fn is_lower(text: &str) -> bool {
    text.chars().any(char::is_lowercase) && !text.chars().any(|c| c.is_uppercase() || is_title(c))
}

/// Whether a character is in title case: neither upper nor lower, but with another lower case.
fn is_title(c: char) -> bool {
    !c.is_uppercase() && !c.is_lowercase() && c.to_lowercase().next() != Some(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_needs_a_cased_character() {
        assert!(is_upper("ABC 12!") && !is_upper("12!") && !is_upper("ABc") && !is_upper(""));
        assert!(is_lower("straße 3") && !is_lower("नमस्ते") && !is_lower("A"));
        assert!(!is_upper("ǅ") && !is_lower("ǆǅ"));
        assert_eq!(trim("\u{1f} a\u{a0}\n"), "a");
    }
}
