//! The variables that a chat template reads from its caller.
//!
//! Owns what the engine's own answer misses: a name that a template sets from itself (`set x = x if x is defined else 1`) is read,
//! one that it sets in every branch is its own. Refuses to run anything: it looks at the source alone.

use regex::Regex;
use std::collections::{BTreeMap, BTreeSet};

/// The names, sorted; `undeclared` are those that the engine finds.
pub(super) fn variables(source: &str, undeclared: impl IntoIterator<Item = String>) -> BTreeSet<String> {
    let found = |pattern: &str| -> Vec<Vec<String>> {
        let Ok(regex) = Regex::new(pattern) else { return Vec::new() };
        let groups = regex.captures_iter(source);
        groups.map(|found| found.iter().skip(1).flatten().map(|part| part.as_str().to_owned()).collect()).collect()
    };
    // Neither quoted text nor a part of a value is a name.
    let parts = Regex::new(r#"'[^']*'|"[^"]*"|\.\s*\w+"#);
    let words = |text: &str| {
        let text = parts.as_ref().map_or_else(|_| text.into(), |parts| parts.replace_all(text, " "));
        text.split(|c: char| !(c.is_alphanumeric() || c == '_')).map(str::to_owned).collect::<Vec<_>>()
    };
    let asked: BTreeSet<String> =
        found(r"(?:^|[^.\w])([A-Za-z_]\w*)\s+is\s+(?:not\s+)?(?:un)?defined\b").concat().into_iter().collect();
    let sets = found(r"\bset\s+([A-Za-z_]\w*)\s*=([^%]*)");
    // The names of loops, of macros and their arguments are the template's own too.
    let loops = found(r"\bfor\s+([\w\s,()]+?)\s+in\b").concat();
    let macros = found(r"\bmacro\s+(\w+)\s*\(([^)]*)\)").concat();
    let blocks = found(r"\bset\s+([A-Za-z_]\w*)\s*-?%\}").concat();
    let bound: BTreeSet<String> = loops.iter().chain(&macros).chain(&blocks).flat_map(|text| words(text)).collect();
    // A name whose first value is made of itself is the caller's.
    let mut of_itself: BTreeMap<&String, bool> = BTreeMap::new();
    for set in &sets {
        let [name, value] = set.as_slice() else { continue };
        of_itself.entry(name).or_insert_with(|| words(value).contains(name));
    }
    let read =
        |name: &String| !bound.contains(name) && (asked.contains(name) || of_itself.get(name).copied().unwrap_or(true));
    let from_itself: Vec<String> =
        of_itself.iter().filter(|(_, from)| **from).map(|(name, _)| (*name).clone()).collect();
    undeclared.into_iter().chain(from_itself).chain(asked.iter().cloned()).filter(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_caller_may_set_is_told_from_what_a_template_sets() {
        for (source, undeclared, read) in [
            ("{{ enable_thinking }}", &["enable_thinking"][..], &["enable_thinking"][..]),
            (
                "{%- set enable_thinking = enable_thinking if enable_thinking is defined else True %}",
                &[],
                &["enable_thinking"],
            ),
            ("{% set keep = keep | default(false) %}{{ keep }}", &[], &["keep"]),
            (
                "{% if not thinking is defined %}{% set thinking = false %}{% endif %}{{ thinking }}",
                &["thinking"],
                &["thinking"],
            ),
            ("{% if a %}{% set body = 1 %}{% else %}{% set body = 2 %}{% endif %}{{ body }}", &["body", "a"], &["a"]),
            ("{% set text = '' %}{% for m in messages %}{% set text = text ~ m.content %}{% endfor %}", &["text"], &[]),
            (
                "{% for tool in tools %}{% if tool is defined and tool.name is defined %}{% endif %}{% endfor %}",
                &[],
                &[],
            ),
            ("{% macro show(value, depth) %}{% if value is defined %}{{ value }}{% endif %}{% endmacro %}", &[], &[]),
            (
                "{% set content = m['content'] + m.content %}{% if x %}{{ content }}{% endif %}",
                &["content", "x"],
                &["x"],
            ),
            ("{% set block %}x{% endset %}{% if block is defined %}{% endif %}", &[], &[]),
        ] {
            let found = variables(source, undeclared.iter().map(|name| (*name).to_owned()));
            assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), read, "{source}");
        }
    }
}
