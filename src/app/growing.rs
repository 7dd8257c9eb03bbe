//! Pairs whose answers are still being written: what a rater may read of them, and which one is next.
//!
//! Owns the lock-step: while both answers grow, both show the same number of characters, so that a faster model or server does
//! not give itself away; once one has ended, it and all of the other show. Refuses to be part of the session's state: nothing
//! here is in a log, and a finished pair always takes the place of a growing one.

use crate::domain::{CompletionId, Pair, PairId, RunId};
use crate::protocol::{Growing, GrowingAnswer};
use std::collections::BTreeMap;

/// What runs are writing.
#[derive(Debug, Clone, Default)]
pub struct GrowingPairs {
    runs: BTreeMap<RunId, Growing>,
}

/// A pair whose answers are being written, with what may be shown of them as the model wrote it: `a`, then `b`.
#[derive(Debug, Clone, PartialEq)]
pub struct GrowingPair<'a> {
    /// The pair under the identity that it will have.
    pub pair: &'a Pair,
    /// The shown texts.
    pub text: [&'a str; 2],
    /// Tokens of each so far; 0 where they are not known.
    pub tokens: [usize; 2],
    /// Whether each has ended and shows as a whole.
    pub ended: [bool; 2],
}

impl GrowingPairs {
    /// Takes what a run is writing now.
    pub fn set(&mut self, run: RunId, growing: Growing) {
        if growing.is_empty() {
            self.runs.remove(&run);
        } else {
            self.runs.insert(run, growing);
        }
    }

    /// Forgets a run: its worker is gone.
    pub fn forget(&mut self, run: &RunId) {
        self.runs.remove(run);
    }

    /// The pairs, in the order in which they will be ready.
    pub fn pairs(&self) -> impl Iterator<Item = &Pair> {
        self.runs.values().flat_map(|growing| &growing.pairs)
    }

    /// The pair of that id; none if it is not being written, or an answer of it is missing.
    #[must_use]
    pub fn get(&self, id: &PairId) -> Option<GrowingPair<'_>> {
        self.runs.values().find_map(|growing| {
            let pair = growing.pairs.iter().find(|pair| pair.id == *id)?;
            let answer = |id: &CompletionId| growing.answers.iter().find(|answer| answer.completion == *id);
            Some(in_step(pair, answer(&pair.a)?, answer(&pair.b)?))
        })
    }
}

/// What may be shown of two answers.
fn in_step<'a>(pair: &'a Pair, a: &'a GrowingAnswer, b: &'a GrowingAnswer) -> GrowingPair<'a> {
    let whole = GrowingPair { pair, text: [&a.text, &b.text], tokens: [a.tokens, b.tokens], ended: [a.ended, b.ended] };
    if a.ended || b.ended {
        return whole;
    }
    let counts = whole.text.map(|text| text.chars().count());
    let shown = counts[0].min(counts[1]);
    let cut = |text: &'a str| text.char_indices().nth(shown).map_or(text, |(end, _)| &text[..end]);
    // Of a cut answer the tokens are counted by its share, and both lag alike.
    let tokens = [0, 1].map(|i| if counts[i] > shown { whole.tokens[i] * shown / counts[i] } else { whole.tokens[i] });
    GrowingPair { text: whole.text.map(cut), tokens, ..whole }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{CompletionId, PromptId};

    fn growing(a: (&str, usize, bool), b: (&str, usize, bool)) -> Growing {
        let answer = |id: &str, (text, tokens, ended): (&str, usize, bool)| GrowingAnswer {
            completion: CompletionId::new(id),
            text: text.into(),
            tokens,
            ended,
        };
        let (first, second) = (CompletionId::new("a"), CompletionId::new("b"));
        let pair = Pair {
            id: PairId::new("p1:s.0-1"),
            prompt: PromptId::new("p1"),
            a: first,
            b: second,
            strategy: "random".into(),
            p_select: 1.0,
        };
        Growing { pairs: vec![pair], answers: vec![answer("b", b), answer("a", a)] }
    }

    fn shown(a: (&str, usize, bool), b: (&str, usize, bool)) -> ([String; 2], [usize; 2], [bool; 2]) {
        let mut all = GrowingPairs::default();
        all.set(RunId::new("s"), growing(a, b));
        let found = all.get(&PairId::new("p1:s.0-1")).unwrap();
        (found.text.map(str::to_owned), found.tokens, found.ended)
    }

    #[test]
    fn growing_answers_advance_in_step_until_one_has_ended() {
        let (text, tokens, ended) = shown(("äöü and more", 6, false), ("abc", 2, false));
        assert_eq!((text, tokens, ended), (["äöü".into(), "abc".into()], [1, 2], [false, false]));
        let (text, tokens, ended) = shown(("äöü and more", 6, false), ("abc", 2, true));
        assert_eq!((text, tokens, ended), (["äöü and more".into(), "abc".into()], [6, 2], [false, true]));
    }

    #[test]
    fn a_run_that_writes_nothing_or_is_gone_has_no_pairs() {
        let mut all = GrowingPairs::default();
        all.set(RunId::new("s"), growing(("x", 1, false), ("y", 1, false)));
        assert_eq!(all.pairs().count(), 1);
        all.set(RunId::new("s"), Growing::default());
        assert_eq!(all.pairs().count(), 0);
        all.set(RunId::new("s"), growing(("x", 1, false), ("y", 1, false)));
        all.forget(&RunId::new("s"));
        assert!(all.get(&PairId::new("p1:s.0-1")).is_none());
        // A pair without one of its answers is no pair to show.
        let mut torn = growing(("x", 1, false), ("y", 1, false));
        torn.answers.pop();
        all.set(RunId::new("s"), torn);
        assert!(all.get(&PairId::new("p1:s.0-1")).is_none());
    }
}
