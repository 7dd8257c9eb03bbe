//! Templates with slots, and their random filling.
//!
//! Owns `{slot}` (drawn once, then the same throughout the exchange), `{a slot}` (with its article) and capitalisation. Refuses
//! nothing: an unknown slot stays as written, and a test catches it.

use super::text::SLOTS;
use crate::domain::mix64;

/// A deterministic random generator (`SplitMix64`).
#[derive(Debug)]
pub(super) struct Draw(u64);

impl Draw {
    /// A generator for `key`.
    pub(super) fn new(key: u64) -> Self {
        Self(mix64(key))
    }

    /// The next number below `n` (below 1 it is 0). `SplitMix64`; the bias of the remainder is of the order 2^-60 here.
    pub(super) fn below(&mut self, n: usize) -> usize {
        let drawn = mix64(self.0);
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        (drawn % (n.max(1) as u64)) as usize
    }

    /// One of a table's entries; nothing of an empty one.
    pub(super) fn one_of(&mut self, table: &[&'static str]) -> &'static str {
        let at = self.below(table.len());
        table.get(at).copied().unwrap_or_default()
    }
}

/// The slot values of one exchange.
#[derive(Debug, Default)]
pub(super) struct Bindings(Vec<(&'static str, String)>);

impl Bindings {
    /// The value of a slot, if drawn.
    pub(super) fn get(&self, slot: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| *name == slot).map(|(_, value)| value.as_str())
    }

    /// Sets the value of a slot.
    pub(super) fn set(&mut self, slot: &'static str, value: impl Into<String>) {
        self.0.retain(|(name, _)| *name != slot);
        self.0.push((slot, value.into()));
    }
}

/// Replaces every slot of the template by its value, drawn from its table if not set yet. Table entries may contain slots.
pub(super) fn fill(template: &str, bindings: &mut Bindings, draw: &mut Draw) -> String {
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, tail)) = rest.split_once('{') {
        out.push_str(before);
        let Some((inside, after)) = tail.split_once('}') else { break };
        let (article, slot) = match inside.strip_prefix("a ") {
            Some(slot) => (true, slot),
            None => (false, inside),
        };
        let value = match bindings.get(slot) {
            Some(value) => value.to_owned(),
            None => match SLOTS.iter().find(|(name, _)| *name == slot) {
                Some((name, table)) => {
                    let value = fill(draw.one_of(table), bindings, draw);
                    bindings.set(name, value.clone());
                    value
                }
                None => format!("{{{slot}}}"),
            },
        };
        if article {
            out.push_str(if value.starts_with(['a', 'e', 'i', 'o', 'u']) { "an " } else { "a " });
        }
        out.push_str(&value);
        rest = after;
    }
    out.push_str(rest);
    out
}

/// The text with capitalised sentences and single spaces.
pub(super) fn sentences(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut head = true;
    for word in text.split_whitespace() {
        // A slot may be empty, followed by punctuation only.
        if !out.is_empty() && !word.starts_with(['.', ',', '?']) {
            out.push(' ');
        }
        let mut chars = word.chars();
        match chars.next() {
            Some(first) if head => out.extend(first.to_uppercase().chain(chars)),
            _ => out.push_str(word),
        }
        head = word.ends_with(['.', '!', '?']);
    }
    out
}
