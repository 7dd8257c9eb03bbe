//! The layout of a batch: rows packed without padding, shared prefixes stored once.
//!
//! Owns the map from (row, token) to a packed position. Consecutive rows that start with the same tokens become a prefix and
//! branches: the prefix goes through the decoder once and every branch attends to it. The results are the same, since a
//! token depends only on those before it. Refuses batches that name tokens or positions that do not exist.

use super::contract::{Batch, Row};
use super::decoder::Decoder;
use super::rotary::RowPosition;
use crate::model::error::Error;
use tiebreak_kernels::attention::AttentionSegment;

/// A shorter common prefix is not worth sharing.
const SHARED: usize = 8;

/// The tokens of a batch as they go through the decoder.
pub(crate) struct BatchLayout {
    /// The tokens.
    pub(crate) ids: Vec<u32>,
    /// Which tokens attend to which.
    pub(crate) segments: Vec<AttentionSegment>,
    /// Each token's position in its row or document.
    pub(crate) positions: Vec<usize>,
    /// Cosines and sines of each token's position, (tokens, rotary/2), from each RoPE table.
    pub(crate) rope: Vec<(Vec<f32>, Vec<f32>)>,
    /// The packed position that predicts each scored token.
    pub(crate) from: Vec<usize>,
    /// Each scored token.
    pub(crate) target: Vec<u32>,
    /// The packed position of each value.
    pub(crate) valued: Vec<usize>,
    /// The logits' factor / temperature.
    pub(crate) inv_temp: f64,
    /// For every row its range of packed positions (start, end) and its start in the padded batch, which seeds dropout masks.
    pub(crate) padded: Vec<(usize, usize, usize)>,
    /// Where each family (rows with a shared prefix, or one row) starts: it attends to nothing before.
    pub(crate) families: Vec<usize>,
    /// Scored tokens and valued positions of each row.
    counts: Vec<(usize, usize)>,
}

/// Where a row is stored: its first `prefix` tokens at `shared`, the rest at `own`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RowPlace {
    shared: usize,
    prefix: usize,
    own: usize,
}

impl RowPlace {
    fn at(&self, token: usize) -> usize {
        if token < self.prefix { self.shared + token } else { self.own + token - self.prefix }
    }
}

impl BatchLayout {
    /// Lays out a batch; with `share`, shared prefixes are stored once.
    ///
    /// # Errors
    /// When there is no token, or a row names one that the model or the row does not have.
    pub(crate) fn new(decoder: &Decoder, batch: &Batch, share: bool) -> Result<Self, Error> {
        let longest = batch.check(decoder.config().vocab)?;
        let mut out = Self {
            ids: Vec::new(),
            segments: Vec::new(),
            positions: Vec::new(),
            rope: Vec::new(),
            from: Vec::new(),
            target: Vec::new(),
            valued: Vec::new(),
            inv_temp: decoder.logits().factor() / batch.temperature,
            padded: Vec::new(),
            families: Vec::new(),
            counts: Vec::new(),
        };
        let rotary = decoder.rotary();
        let long = |len: usize| rotary.is_long(len);
        let mut positions = Vec::new();
        let mut places = Vec::with_capacity(batch.rows.len());
        let mut r = 0;
        for (rows, prefix) in if share { shared(batch, &long) } else { vec![(1, 0); batch.rows.len()] } {
            let shared = out.ids.len();
            out.families.push(shared);
            // Rows that share a prefix are all long or all short.
            let row = |row: &Row| RowPosition { at: 0, long: long(row.ids.len()) };
            out.lay(&batch.rows[r].ids[..prefix], row(&batch.rows[r]), 0..0, &mut positions);
            for row_ids in &batch.rows[r..r + rows] {
                let own = out.ids.len();
                places.push(RowPlace { shared, prefix, own });
                if row_ids.starts.len() > 1 {
                    let ends = row_ids.starts[1..].iter().copied().chain([row_ids.ids.len()]);
                    for (start, end) in row_ids.starts.iter().zip(ends) {
                        let first = RowPosition { at: 0, long: long(end - start) };
                        out.lay(&row_ids.ids[*start..end], first, 0..0, &mut positions);
                    }
                } else {
                    let first = RowPosition { at: prefix, ..row(row_ids) };
                    out.lay(&row_ids.ids[prefix..], first, shared..shared + prefix, &mut positions);
                }
            }
            r += rows;
        }
        for (r, (row, place)) in batch.rows.iter().zip(&places).enumerate() {
            out.from.extend(row.scored.iter().map(|at| place.at(at - 1)));
            out.target.extend(row.scored.iter().map(|at| row.ids[*at]));
            out.valued.extend(row.valued.iter().map(|at| place.at(*at)));
            out.counts.push((row.scored.len(), row.valued.len()));
            out.padded.push((place.own, place.own + row.ids.len() - place.prefix, r * longest));
        }
        let table = |i: usize| rotary.table(i, positions.iter().copied(), |x| x as f32);
        out.rope = (0..rotary.count()).map(table).collect();
        out.positions = positions.iter().map(|position| position.at).collect();
        decoder.check_position(out.positions.iter().max().copied().unwrap_or(0))?;
        Ok(out)
    }

    /// Adds tokens, whose positions start at `first`, as a segment that attends to `prefix`.
    fn lay(
        &mut self,
        ids: &[u32],
        first: RowPosition,
        prefix: std::ops::Range<usize>,
        positions: &mut Vec<RowPosition>,
    ) {
        if ids.is_empty() {
            return;
        }
        let start = self.ids.len();
        self.ids.extend_from_slice(ids);
        positions.extend((first.at..first.at + ids.len()).map(|at| RowPosition { at, ..first }));
        self.segments.push(AttentionSegment { prefix, own: start..self.ids.len() });
    }

    /// Tokens.
    pub(crate) fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// Scored tokens and valued positions of each row.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (usize, usize)> {
        self.counts.iter().copied()
    }
}

/// Tokens of these rows with shared prefixes counted once.
pub(crate) fn packed_tokens(rows: &[Row]) -> usize {
    let all: usize = rows.iter().map(|r| r.ids.len()).sum();
    all - runs(rows, &|_| false).iter().map(|(n, prefix)| (n - 1) * prefix).sum::<usize>()
}

/// Cuts the rows into runs (rows, prefix length) that save the most tokens; (1, 0) is a single row.
/// Rows share a prefix only if `long` says the same of their lengths.
fn shared(batch: &Batch, long: &dyn Fn(usize) -> bool) -> Vec<(usize, usize)> {
    let whole = [batch.rows.len()];
    let families = if batch.families.is_empty() { &whole[..] } else { &batch.families };
    let mut rows = batch.rows.as_slice();
    let mut out = Vec::with_capacity(rows.len());
    for n in families {
        let (family, rest) = rows.split_at((*n).min(rows.len()));
        out.extend(runs(family, long));
        rows = rest;
    }
    out.extend(runs(rows, long));
    out
}

/// As [`shared`] within a family.
fn runs(rows: &[Row], long: &dyn Fn(usize) -> bool) -> Vec<(usize, usize)> {
    let common = |pair: &[Row]| {
        let whole = pair.iter().all(|r| r.starts.len() < 2) && long(pair[0].ids.len()) == long(pair[1].ids.len());
        let same = pair[0].ids.iter().zip(&pair[1].ids).take_while(|(a, b)| a == b).count();
        if whole && same >= SHARED { same } else { 0 }
    };
    let common: Vec<usize> = rows.windows(2).map(common).collect();
    // For the first `end` rows: the most tokens saved, and the last run with its prefix.
    let mut best = vec![(0, 1, 0); rows.len() + 1];
    for end in 1..=rows.len() {
        best[end] = (best[end - 1].0, 1, 0);
        let mut prefix = usize::MAX;
        for start in (0..end - 1).rev() {
            prefix = prefix.min(common[start]);
            if prefix == 0 {
                break;
            }
            let saved = best[start].0 + (end - start - 1) * prefix;
            if saved > best[end].0 {
                best[end] = (saved, end - start, prefix);
            }
        }
    }
    let mut out = Vec::new();
    let mut end = rows.len();
    while end > 0 {
        let (_, n, prefix) = best[end];
        out.push((n, prefix));
        end -= n;
    }
    out.reverse();
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(prompt: &[u32], answer: &[u32]) -> Row {
        Row { ids: [prompt, answer].concat(), ..Row::default() }
    }

    #[test]
    fn runs_save_the_most_tokens() {
        let system: Vec<u32> = (0..20).collect();
        let prompt = |n: u32, len: u32| -> Vec<u32> { system.iter().copied().chain((0..len).map(|i| n + i)).collect() };
        let (a, b) = (prompt(100, 30), prompt(200, 30));
        let pairs = [row(&a, &[1, 2]), row(&a, &[3]), row(&b, &[4]), row(&b, &[5, 6])];
        assert_eq!(runs(&pairs, &|_| false), [(2, 50), (2, 50)], "two prompts of 50 are worth more than thrice 20");
        let (a, b) = (prompt(100, 2), prompt(200, 2));
        let short = [row(&a, &[1, 2]), row(&a, &[3]), row(&b, &[4]), row(&b, &[5, 6])];
        assert_eq!(runs(&short, &|_| false), [(4, 20)]);
        let group: Vec<Row> = (0..8).map(|i| row(&a, &[7, 8 + i / 2, i])).collect();
        assert_eq!(runs(&group, &|_| false), [(8, 23)], "answers that begin alike by chance split no group");
        assert_eq!(
            runs(&[row(&[1, 2, 3], &[4]), row(&[1, 2, 3], &[5])], &|_| false),
            [(1, 0), (1, 0)],
            "too short to share"
        );
        let mut packed = row(&a, &[1]);
        packed.starts = vec![0, 5];
        assert_eq!(runs(&[packed, row(&a, &[1])], &|_| false), [(1, 0), (1, 0)]);
        assert!(runs(&[], &|_| false).is_empty());
        assert_eq!((packed_tokens(&group), packed_tokens(&pairs)), (8 * 25 - 7 * 23, 2 * 50 + 2 + 1 + 1 + 2));
    }

    #[test]
    fn no_run_crosses_a_family() {
        let a: Vec<u32> = (0..20).collect();
        let rows: Vec<Row> = (0..4).map(|i| row(&a, &[i])).collect();
        assert_eq!(shared(&Batch::new(rows.clone()), &|_| false), [(4, 20)]);
        assert_eq!(shared(&Batch { families: vec![2, 2], ..Batch::new(rows) }, &|_| false), [(2, 20), (2, 20)]);
    }
}
