//! Packing: several short texts in one row, so that rows have similar lengths.
//!
//! Owns the assignment of texts to rows: best-fit decreasing, longest first, each into the fullest row with enough space (TRL's
//! `bfd`; at most 11/9 of the optimal number of rows, Johnson 1973). Refuses to split a text: longer ones were left out before.
//!
//! Texts in a row do not attend to each other and have their own positions, so loss and gradient equal those without packing.

use super::example::Example;
use std::collections::{BTreeMap, VecDeque};

/// Packs single-sequence examples into rows of at most `length` tokens. A row has the id of its first text and no common
/// prompt.
pub(crate) fn pack(examples: Vec<Example>, length: usize) -> Vec<Example> {
    let mut examples = examples;
    // Stable: equally long texts stay in the file's order.
    examples.sort_by_key(|e| std::cmp::Reverse(e.tokens()));
    let mut packed: Vec<Example> = Vec::new();
    // Rows by free tokens; among equals, first in first out.
    let mut room: BTreeMap<usize, VecDeque<usize>> = BTreeMap::new();
    for example in examples {
        let tokens = example.tokens();
        let fullest = room.range_mut(tokens..).find_map(|(left, rows)| Some((*left, rows.pop_front()?)));
        let (left, at) = if let Some((left, at)) = fullest {
            join(&mut packed[at], example);
            (left, at)
        } else {
            packed.push(example);
            (length.max(tokens), packed.len() - 1)
        };
        room.entry(left - tokens).or_default().push_back(at);
    }
    packed
}

/// Appends the text of `more` to `into`.
fn join(into: &mut Example, more: Example) {
    into.prompt = 0;
    for (row, next) in into.rows.iter_mut().zip(more.rows) {
        let at = row.ids.len();
        if row.starts.is_empty() {
            row.starts.push(0);
        }
        row.starts.push(at);
        row.scored.extend(next.scored.iter().map(|s| s + at));
        row.ids.extend(next.ids);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{PairId, PromptId};
    use crate::nn::policy::Row;

    fn text(n: u32, tokens: usize) -> Example {
        Example {
            id: PairId::new(format!("t{n}")),
            prompt_id: PromptId::new(format!("p{n}")),
            row: n as usize,
            prompt: 1,
            rows: vec![Row::new(vec![n; tokens], (1..tokens).collect())],
            kl_rows: Vec::new(),
            margin: None,
            agreed: None,
            desirable: true,
        }
    }

    fn packed(tokens: &[usize], length: usize) -> Vec<Example> {
        pack(tokens.iter().enumerate().map(|(n, t)| text(n as u32, *t)).collect(), length)
    }

    #[test]
    fn packing_is_best_fit_decreasing() {
        let out = packed(&[3, 7, 2, 6, 1], 10);
        let ids: Vec<&str> = out.iter().map(|e| e.id.as_str()).collect();
        assert_eq!(ids, ["t1", "t3"]);
        assert_eq!(out[0].rows[0].ids, [vec![1; 7], vec![0; 3]].concat());
        assert_eq!(out[1].rows[0].ids, [vec![3; 6], vec![2; 2], vec![4]].concat());
        assert_eq!(out[1].rows[0].starts, [0, 6, 8]);
        assert_eq!(out[1].rows[0].scored, [1, 2, 3, 4, 5, 7], "the first token of a text is never predicted");
        assert_eq!(out[1].prompt, 0);
    }

    #[test]
    fn a_single_text_in_a_row_is_unchanged() {
        assert_eq!(packed(&[9, 8], 10), [text(0, 9), text(1, 8)]);
    }

    #[test]
    fn every_token_is_packed_once_and_no_row_is_too_long() {
        let lengths: Vec<usize> = (0..500).map(|i| 1 + (i * 7919) % 97).collect();
        let out = packed(&lengths, 100);
        let mut counts = vec![0; lengths.len()];
        for example in &out {
            assert!(example.longest() <= 100);
            example.rows[0].ids.iter().for_each(|id| counts[*id as usize] += 1);
        }
        assert_eq!(counts, lengths);
        let fewest = lengths.iter().sum::<usize>().div_ceil(100);
        assert!(out.len() * 9 <= fewest * 11 + 9, "{} rows, at least {fewest} are needed", out.len());
    }
}
