//! A stack of record numbers, in ranges: a rater's hundred thousand verdicts most often follow one another.
//!
//! Owns the ranges, of which none continues the one before it: so two stacks of the same numbers are equal.

/// A stack of record numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SeqStack(Vec<(u64, u64)>);

impl SeqStack {
    /// Puts a number on top.
    pub(super) fn push(&mut self, seq: u64) {
        self.push_range(seq, seq);
    }

    fn push_range(&mut self, first: u64, last: u64) {
        match self.0.last_mut() {
            Some((_, end)) if end.checked_add(1) == Some(first) => *end = last,
            _ => self.0.push((first, last)),
        }
    }

    /// The number on top.
    pub(super) fn last(&self) -> Option<u64> {
        self.0.last().map(|(_, last)| *last)
    }

    /// Takes a number out, wherever it is.
    pub(super) fn remove(&mut self, seq: u64) {
        self.put_in_place_of(seq, None);
    }

    /// Puts a number in the place of another one.
    pub(super) fn replace(&mut self, old: u64, new: u64) {
        self.put_in_place_of(old, Some(new));
    }

    fn put_in_place_of(&mut self, old: u64, new: Option<u64>) {
        let holds = |(first, last): &(u64, u64)| (*first..=*last).contains(&old);
        let Some(from) = self.0.iter().position(holds) else { return };
        for (first, last) in self.0.split_off(from) {
            if !holds(&(first, last)) {
                self.push_range(first, last);
                continue;
            }
            if first < old {
                self.push_range(first, old - 1);
            }
            if let Some(new) = new {
                self.push(new);
            }
            if old < last {
                self.push_range(old + 1, last);
            }
        }
    }

    /// Takes all numbers out.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::hash::mix64;
    use super::*;

    #[test]
    fn a_stack_in_ranges_is_a_stack() {
        let (mut stack, mut plain) = (SeqStack::default(), Vec::new());
        for step in 0..5_000u64 {
            let draw = mix64(step);
            let (some, other) = (draw >> 8 & 31, draw >> 20 & 31);
            match draw % 8 {
                0 => {
                    stack.remove(some);
                    plain.retain(|seq| *seq != some);
                }
                1 => {
                    stack.replace(some, other);
                    plain.iter_mut().filter(|seq| **seq == some).for_each(|seq| *seq = other);
                }
                2 if step % 100 == 2 => {
                    stack.clear();
                    plain.clear();
                }
                // Most often the next one.
                kind => {
                    let next = plain.last().map_or(some, |last| last + 1);
                    let seq = if kind < 5 { next } else { some };
                    stack.push(seq);
                    plain.push(seq);
                }
            }
            let held: Vec<u64> = stack.0.iter().flat_map(|(first, last)| *first..=*last).collect();
            assert_eq!((&held, stack.last()), (&plain, plain.last().copied()), "{step}");
            let mut again = SeqStack::default();
            for seq in &plain {
                again.push(*seq);
            }
            assert_eq!(stack, again, "{step}");
        }
        stack.push(u64::MAX);
        stack.push(u64::MAX);
        stack.remove(u64::MAX);
        assert_eq!(stack.last(), plain.last().copied());
    }
}
