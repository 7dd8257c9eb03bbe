//! The final number of an answer to a problem of GSM8K (Cobbe et al. 2021), as lm-evaluation-harness finds and compares it.
//!
//! Strict: the first `#### N`. Flexible: the last number in the text. Two numbers are the same when their texts are, without
//! commas, dollar signs and a full stop at the end: `18.00` is not `18`, as in the harness.

use regex::Regex;
use std::sync::LazyLock;

#[expect(clippy::expect_used, reason = "a literal that a test compiles")]
static STRICT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"#### (-?[0-9.,]+)").expect("the pattern is valid"));
#[expect(clippy::expect_used, reason = "a literal that a test compiles")]
static FLEXIBLE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"-?[$0-9.,]{2,}|-?[0-9]+").expect("the pattern is valid"));

/// The number that an answer ends in; none where there is none. `strict`: only after `####`.
#[must_use]
pub fn final_number(answer: &str, strict: bool) -> Option<String> {
    let found = if strict { STRICT.captures(answer).and_then(|c| c.get(1)) } else { FLEXIBLE.find_iter(answer).last() };
    found.map(|m| plain(m.as_str()))
}

/// Whether an answer's final number is that of the reference, which ends in `#### N`.
#[must_use]
pub fn same_number(answer: &str, reference: &str, strict: bool) -> bool {
    let wanted = final_number(reference, true);
    wanted.is_some() && final_number(answer, strict) == wanted
}

fn plain(number: &str) -> String {
    let number = number.replace([',', '$'], "");
    number.strip_suffix('.').unwrap_or(&number).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strict_takes_the_first_mark_and_flexible_the_last_number() {
        let answer = "She has 3 + 4 = 7 apples.\n#### 7\nSo 8.";
        assert_eq!(final_number(answer, true).as_deref(), Some("7"));
        assert_eq!(final_number(answer, false).as_deref(), Some("8"));
        assert_eq!(final_number("It costs $1,234.", false).as_deref(), Some("1234"));
        assert_eq!(final_number("#### -1,234.50", true).as_deref(), Some("-1234.50"));
        assert_eq!(final_number("####7", true), None);
        assert_eq!(final_number("no number", false), None);
        // A dash before a digit is a sign.
        assert_eq!(final_number("from 3-5", false).as_deref(), Some("-5"));
        // Dots alone are taken for a number, as in the harness.
        assert_eq!(final_number("7 apples...", false).as_deref(), Some(".."));
    }

    #[test]
    fn numbers_are_compared_as_texts() {
        let reference = "5 + 13 = <<5+13=18>>18\n#### 18";
        assert!(same_number("the answer is 18.", reference, false));
        assert!(same_number("#### $18", "#### 18", false) && !same_number("#### $18", "#### 18", true));
        assert!(same_number("#### 1,800", "x\n#### 1800", true));
        assert!(!same_number("18.00", reference, false) && !same_number("the answer is 18", reference, true));
        assert!(!same_number("", "no mark", true), "a reference without a number is never met");
    }
}
