//! Thoughts in an answer: `<think>…</think>`, closed or not.
//!
//! A template may open the thought itself: then an answer begins inside it and only its end is written. A tag counts
//! only at the edge of a line, so that a sentence about tags is no thought.

use std::ops::Range;

/// The names of the tags.
const TAGS: &[&str] = &["think", "thinking", "thought", "reasoning"];

/// A thought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thought {
    /// Its bytes, tags included.
    pub range: Range<usize>,
    /// Its words.
    pub words: usize,
    /// Whether it ends.
    pub closed: bool,
}

/// The thoughts of a text, in order.
#[must_use]
pub fn thoughts(text: &str) -> Vec<Thought> {
    let mut out = Vec::new();
    let mut at = 0;
    if let Some((close, name)) = first(text, 0, false)
        && first(text, 0, true).is_none_or(|(open, _)| open > close)
    {
        at = close + name.len() + 3;
        out.push(Thought { range: 0..at, words: words(&text[..close]), closed: true });
    }
    while let Some((open, name)) = first(text, at, true) {
        let inner = open + name.len() + 2;
        let tag = format!("</{name}>");
        let (end, closed) = text[inner..].find(&tag).map_or((text.len(), false), |close| (inner + close, true));
        at = if closed { end + tag.len() } else { end };
        out.push(Thought { range: open..at, words: words(&text[inner..end]), closed });
    }
    out
}

/// The thought that a text begins with, without tags and one newline on each side, and the answer behind it. None where the text does
/// not begin with a whole thought that is tagged on both sides.
#[must_use]
pub fn leading_thought(text: &str) -> Option<(&str, &str)> {
    let first = thoughts(text).into_iter().next().filter(|t| t.closed && text[..t.range.start].trim().is_empty())?;
    let whole = &text[first.range.clone()];
    let within = |name: &&str| whole.strip_prefix(&*format!("<{name}>"))?.strip_suffix(&*format!("</{name}>"));
    let inner = TAGS.iter().find_map(within)?;
    let inner = inner.strip_prefix('\n').unwrap_or(inner);
    let rest = &text[first.range.end..];
    Some((inner.strip_suffix('\n').unwrap_or(inner), rest.strip_prefix("\n\n").unwrap_or_else(|| rest.trim_start())))
}

/// Whether an answer ends inside a thought, so that it never began. `opened`: the template opened a thought itself.
#[must_use]
pub fn ends_inside_thought(text: &str, opened: bool) -> bool {
    let found = thoughts(text);
    let begins_inside = found.first().is_some_and(|t| t.range.start == 0 && t.closed);
    found.iter().any(|t| !t.closed) || (opened && !begins_inside)
}

/// The answer without its thoughts: the text outside of them, trimmed. An unclosed thought makes it empty, since the answer
/// never began. `opened`: the template opened a thought itself, so that an answer without its end is one thought.
#[must_use]
pub fn answer_after_thoughts(text: &str, opened: bool) -> String {
    if ends_inside_thought(text, opened) {
        return String::new();
    }
    let found = thoughts(text);
    if found.is_empty() {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut at = 0;
    for thought in found {
        out.push_str(&text[at..thought.range.start]);
        at = thought.range.end;
    }
    out.push_str(&text[at..]);
    out.trim().to_owned()
}

fn words(text: &str) -> usize {
    text.split_whitespace().count()
}

/// The first opening or closing tag from `from` on, and its name. An opening tag begins a line, a closing one begins or
/// ends one.
fn first(text: &str, from: usize, opening: bool) -> Option<(usize, &'static str)> {
    let find = |name: &'static str| {
        let tag = if opening { format!("<{name}>") } else { format!("</{name}>") };
        let at_edge = |at: &usize| {
            let begins = text[..*at].rsplit('\n').next().is_none_or(|before| before.trim().is_empty());
            let ends = text[at + tag.len()..].split('\n').next().is_none_or(|after| after.trim().is_empty());
            begins || (!opening && ends)
        };
        text[from..].match_indices(&tag).map(|(at, _)| from + at).find(at_edge).map(|at| (at, name))
    };
    TAGS.iter().filter_map(|name| find(name)).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(&str, usize, bool)> {
        thoughts(text).into_iter().map(|t| (&text[t.range.clone()], t.words, t.closed)).collect()
    }

    #[test]
    fn thoughts_are_found_closed_open_and_begun_by_the_template() {
        assert_eq!(found("<think>\none two\n</think>\n\nYes."), [("<think>\none two\n</think>", 2, true)]);
        assert_eq!(found("<think>\nso it"), [("<think>\nso it", 2, false)]);
        assert_eq!(found("one two three\n</think>\nYes."), [("one two three\n</think>", 3, true)]);
        assert_eq!(found("<think>a</think> b\n<think>\nc"), [("<think>a</think>", 1, true), ("<think>\nc", 1, false)]);
        assert_eq!(found("<think>\n\n</think>\n\nNo."), [("<think>\n\n</think>", 0, true)]);
    }

    #[test]
    fn an_answer_is_what_follows_its_thoughts() {
        assert_eq!(answer_after_thoughts("<think>\none\n</think>\n\nYes.", false), "Yes.");
        assert_eq!(answer_after_thoughts("one\n</think>\nYes.", true), "Yes.");
        assert_eq!(answer_after_thoughts("<think>\nso it", false), "");
        assert_eq!(answer_after_thoughts("so it goes", true), "");
        assert_eq!(answer_after_thoughts(" Plain. \n", false), " Plain. \n");
        let unfinished = |text, opened| ends_inside_thought(text, opened);
        assert!(unfinished("<think>\nso it", false) && unfinished("so it goes", true) && unfinished("", true));
        assert!(!unfinished("so it goes", false) && !unfinished("one\n</think>\nYes.", true));
    }

    #[test]
    fn a_leading_thought_is_whole_and_tagged() {
        for (text, expected) in [
            ("<think>\none\n</think>\n\nYes.", Some(("one", "Yes."))),
            ("\n<thinking>one</thinking> Yes.", Some(("one", "Yes."))),
            ("<think>\n\n</think>\nYes.", Some(("", "Yes."))),
            ("<b>one\n</think>\nYes.", None),
            ("one\n</think>\nYes.", None),
            ("<think>\none", None),
            ("Yes.\n<think>\none\n</think>", None),
            ("Yes.", None),
        ] {
            assert_eq!(leading_thought(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_sentence_about_tags_is_no_thought() {
        assert!(found("Write <think> and </think> around it.").is_empty());
        assert!(found("plain").is_empty());
    }
}
